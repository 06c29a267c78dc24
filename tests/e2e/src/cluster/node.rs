//! One node: its namespaces, its network, containerd and the kubelet.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::daemon::Daemon;
use super::pki::{Pki, Use, write};
use super::place;
use crate::wait;

const NODE_SCRIPT: &str = include_str!("node.sh");
/// The image of every pod's first container, which holds the pod's namespaces.
const PAUSE_IMAGE: &str = "docker.io/library/pause:3.2";

/// `kubectl logs` shows the newest file alone: none of a test's lines may be in an older one.
const WHOLE_LOGS: &str = "1Gi";

/// What tells a node from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As `kubectl get nodes` shows it.
    pub name: &'static str,
    /// On the network of the nodes.
    pub address: Ipv4Addr,
    /// The third byte of its pods' network, 10.244.x.0/24.
    pub pods: u8,
}

/// A node's namespaces and the programs in them.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    kubernetes: PathBuf,
    state: PathBuf,
    namespaces: Daemon,
    containerd: Option<Daemon>,
    kubelet: Mutex<Option<Daemon>>,
}

impl Node {
    /// The namespaces alone. `kubernetes` is the directory with the programs.
    pub fn new(identity: Identity, kubernetes: &Path) -> Result<Self> {
        let state = Path::new(place::STATE).join(identity.name);
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--net",
            "--uts",
            "--propagation=private",
            "sh",
            "-c",
            NODE_SCRIPT,
            "node.sh",
        ]);
        let mut namespaces = Daemon::start_talking(
            &format!("{}-namespaces", identity.name),
            unshare.arg(&state).arg(identity.name),
        )?;
        let mut line = String::new();
        BufReader::new(namespaces.stdout()?).read_line(&mut line).context("wait for a node's namespaces")?;
        if line != "ready\n" {
            // Its pipe is closed, so it has ended or is about to.
            wait::until("the script of the namespaces has ended", Duration::from_secs(5), || {
                namespaces.check()?;
                Ok(Err::<(), _>(line.clone()))
            })?;
        }
        let kubernetes = kubernetes.to_path_buf();
        Ok(Self { identity, kubernetes, state, namespaces, containerd: None, kubelet: Mutex::default() })
    }

    /// Which node it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A program to be run in the node's namespaces.
    pub fn command(&self, program: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--target={}", self.namespaces.pid()));
        nsenter.args(["--mount", "--net", "--uts", "--wdns=/", "--", program]);
        nsenter
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.kubernetes.join("bin").display()));
        nsenter
    }

    /// What the node keeps, as seen from the machine: its `lib/` is the node's `/var/lib`, its `log/` the node's
    /// `/var/log`. A static pod is a file in `lib/kubelet/static-pods/`.
    pub fn directory(&self) -> &Path {
        &self.state
    }

    /// Starts a long-running program in the node.
    pub(super) fn start(&self, name: &str, command: &Command) -> Result<Daemon> {
        Daemon::start(&format!("{}-{name}", self.identity.name), command)
    }

    /// Runs commands of `ip`, one a line, in the node's network namespace.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut ip =
            self.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("start ip")?;
        ip.stdin.take().context("ip's stdin")?.write_all(commands.as_bytes()).context("write to ip")?;
        let status = ip.wait().context("wait for ip")?;
        ensure!(status.success(), "ip on {}: {status}, of these commands:\n{commands}", self.identity.name);
        Ok(())
    }

    /// Namespaces have no names: a process id stands for them.
    pub fn pid(&self) -> u32 {
        self.namespaces.pid()
    }

    /// Starts containerd and gives it the images.
    pub fn start_containerd(&mut self, images: &[PathBuf]) -> Result<()> {
        let network = self.state.join("lib/cni/net.d");
        fs::create_dir_all(&network).context("create the directory of CNI's configuration")?;
        write(&network.join("pods.conflist"), &self.pod_network())?;
        let config = self.state.join("containerd.toml");
        write(&config, &self.containerd_config(&network))?;
        self.containerd =
            Some(self.start("containerd", self.command("containerd").arg("--config").arg(&config))?);
        wait::until("containerd answers", Duration::from_secs(20), || {
            self.containerd.as_mut().context("containerd was started")?.check()?;
            let answer = self
                .command("ctr")
                .args(["--connect-timeout=1s", "version"])
                .output()
                .context("start ctr")?;
            Ok(if answer.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&answer.stderr).into_owned())
            })
        })?;
        images.iter().try_for_each(|image| self.import(image))
    }

    /// Gives containerd an image from an archive.
    pub fn import(&self, image: &Path) -> Result<()> {
        let mut ctr = self.command("ctr");
        let output =
            ctr.args(["--namespace=k8s.io", "images", "import"]).arg(image).output().context("start ctr")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "import {} on {}: {errors}", image.display(), self.identity.name);
        Ok(())
    }

    /// Starts the kubelet, which registers the node.
    pub fn start_kubelet(&self, pki: &Pki) -> Result<()> {
        let Identity { name, address, .. } = self.identity;
        let serving = serving(name);
        pki.issue(&serving, &format!("/CN={name}"), Use::Server(&format!("DNS:{name},IP:{address}")))?;
        pki.user(name, &format!("/O=system:nodes/CN=system:node:{name}"))?;
        self.run_kubelet(pki, WHOLE_LOGS)
    }

    /// Starts the kubelet anew, as one that begins a new file for a container's log at this size. It looks every ten
    /// seconds. `None`: as it was at first. Containers go on.
    pub fn restart_kubelet(&self, pki: &Pki, log_max: Option<&str>) -> Result<()> {
        if let Some(mut kubelet) = self.kubelet().take() {
            kubelet.kill()?;
        }
        self.run_kubelet(pki, log_max.unwrap_or(WHOLE_LOGS))
    }

    fn run_kubelet(&self, pki: &Pki, log_max: &str) -> Result<()> {
        let Identity { name, address, .. } = self.identity;
        let config = self.state.join("kubelet.json");
        write(&config, &self.kubelet_config(pki, log_max))?;
        let mut kubelet = self.command("kubelet");
        kubelet.arg(format!("--config={}", config.display()));
        kubelet.arg(format!("--kubeconfig={}", pki.file(&format!("{name}.kubeconfig")).display()));
        kubelet.args([&format!("--hostname-override={name}"), &format!("--node-ip={address}")]);
        kubelet.args([
            "--container-runtime=remote",
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
            &format!("--pod-infra-container-image={PAUSE_IMAGE}"),
            "--volume-plugin-dir=/var/lib/kubelet/volume-plugins",
        ]);
        *self.kubelet() = Some(self.start("kubelet", &kubelet)?);
        Ok(())
    }

    fn kubelet(&self) -> std::sync::MutexGuard<'_, Option<Daemon>> {
        // A test that failed while it held the lock has left a kubelet or none.
        self.kubelet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error if one of the node's programs has ended.
    pub fn check(&mut self) -> Result<()> {
        self.namespaces.check()?;
        self.containerd.as_mut().map_or(Ok(()), Daemon::check)?;
        self.kubelet().as_mut().map_or(Ok(()), Daemon::check)
    }

    fn pod_network(&self) -> String {
        let bridge = json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": format!("10.244.{}.0/24", self.identity.pods)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}).to_string()
    }

    fn containerd_config(&self, network: &Path) -> String {
        let kubernetes = self.kubernetes.display();
        let network = network.display();
        // Without CAP_SYS_RESOURCE a process cannot be given a better OOM score than its parent's.
        format!(
            r#"version = 2
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{kubernetes}/bin/runc"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{kubernetes}/cni"
conf_dir = "{network}"
"#
        )
    }

    fn kubelet_config(&self, pki: &Pki, log_max: &str) -> String {
        let serving = serving(self.identity.name);
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}/{}", place::NAME, self.identity.name),
            "failSwapOn": false,
            "oomScoreAdj": 0,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki.file("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": pki.file(&format!("{serving}.crt")),
            "tlsPrivateKeyFile": pki.file(&format!("{serving}.key")),
            "staticPodPath": "/var/lib/kubelet/static-pods",
            // A full disk or little memory is the machine's affair: nothing is evicted or collected.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "containerLogMaxSize": log_max,
            // A test that has logs rotated compares with all of them.
            "containerLogMaxFiles": 100,
            "nodeStatusUpdateFrequency": "2s",
            "syncFrequency": "5s",
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        })
        .to_string()
    }
}

/// Of the certificate that the kubelet of a node shows.
fn serving(node: &str) -> String {
    format!("{node}-serving")
}
