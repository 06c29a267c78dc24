//! etcd, the API server, the controller manager and the scheduler, all on the first node.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::daemon::Daemon;
use super::network::API_SERVICE;
use super::node::Node;
use super::pki::{FRONT_PROXY, Pki, Use};
use crate::kubectl::Kubectl;
use crate::wait;

/// Those that the tests need. None of them makes anything outside of the cluster.
const CONTROLLERS: &str = "serviceaccount,serviceaccount-token,root-ca-cert-publisher,clusterrole-aggregation,namespace,\
garbagecollector,podgc,nodelifecycle,daemonset,deployment,replicaset,statefulset,job,cronjob,endpoint,endpointslice";
const SERVICES: &str = "10.96.0.0/16";

/// The programs that make a cluster of the nodes.
#[derive(Debug)]
pub(super) struct ControlPlane {
    etcd: Daemon,
    api_server: Daemon,
    others: Vec<Daemon>,
}

impl ControlPlane {
    /// Starts etcd and the API server, without waiting for either.
    pub(super) fn start(node: &Node, pki: &Pki) -> Result<Self> {
        let etcd = start_etcd(node)?;
        let names = format!(
            "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:{API_SERVICE},IP:{}",
            node.identity().address
        );
        pki.issue("api-server", "/CN=kube-apiserver", Use::Server(&names))?;
        pki.issue("api-server-to-kubelet", "/O=system:masters/CN=kube-apiserver", Use::Client)?;
        pki.issue_by(FRONT_PROXY, "front-proxy", "/CN=front-proxy-client", Use::Client)?;
        let api_server = node.start("apiserver", &api_server(node, pki))?;
        Ok(Self { etcd, api_server, others: Vec::new() })
    }

    /// Starts those who work through the API server, which must be ready.
    pub(super) fn start_controllers(&mut self, node: &Node, pki: &Pki) -> Result<()> {
        let kubeconfig = pki.user("controller-manager", "/CN=system:kube-controller-manager")?;
        let mut manager = node.command("kube-controller-manager");
        manager.arg(format!("--kubeconfig={}", kubeconfig.display()));
        manager.arg(format!("--service-account-private-key-file={}", pki.file("tokens.key").display()));
        manager.arg(format!("--root-ca-file={}", pki.file("ca.crt").display()));
        manager.args([
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--controllers",
            CONTROLLERS,
        ]);
        manager.args(["--kube-api-qps=200", "--kube-api-burst=400"]);
        self.others.push(node.start("controller-manager", &manager)?);

        let kubeconfig = pki.user("scheduler", "/CN=system:kube-scheduler")?;
        let mut scheduler = node.command("kube-scheduler");
        scheduler.arg(format!("--kubeconfig={}", kubeconfig.display()));
        scheduler.args(["--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400"]);
        self.others.push(node.start("scheduler", &scheduler)?);
        Ok(())
    }

    /// Waits until the API server answers.
    pub(super) fn await_api(&mut self, kubectl: &Kubectl) -> Result<()> {
        wait::until("the API server is ready", Duration::from_mins(1), || {
            self.check()?;
            Ok(kubectl.api().text("/readyz").map(drop).map_err(|error| format!("{error:#}")))
        })
    }

    /// Kills the API server; etcd keeps what it knew.
    pub(super) fn kill_api_server(&mut self) -> Result<()> {
        self.api_server.kill()
    }

    /// Stops the API server where it is, its connections with it, or has it go on.
    pub(super) fn freeze_api_server(&self, is_frozen: bool) -> Result<()> {
        self.api_server.signal(if is_frozen { Signal::STOP } else { Signal::CONT })
    }

    /// Starts it again.
    pub(super) fn start_api_server(&mut self, node: &Node, pki: &Pki) -> Result<()> {
        self.api_server = node.start("apiserver", &api_server(node, pki))?;
        Ok(())
    }

    /// Kills etcd; what it knew stays in its directory.
    pub(super) fn kill_etcd(&mut self) -> Result<()> {
        self.etcd.kill()
    }

    /// Starts it again.
    pub(super) fn start_etcd(&mut self, node: &Node) -> Result<()> {
        self.etcd = start_etcd(node)?;
        Ok(())
    }

    /// An error if one of them has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        self.api_server.check().context("the API server")?;
        self.others.iter_mut().try_for_each(Daemon::check)
    }
}

fn start_etcd(node: &Node) -> Result<Daemon> {
    let mut etcd = node.command("etcd");
    // In memory: nothing outlives the cluster, and nothing waits for a disk.
    etcd.args(["--name=e2e", "--data-dir=/run/etcd", "--logger=zap"]);
    node.start("etcd", &etcd)
}

fn api_server(node: &Node, pki: &Pki) -> Command {
    let file = |name: &str| pki.file(name).display().to_string();
    let mut server = node.command("kube-apiserver");
    server.args(["--etcd-servers=http://127.0.0.1:2379", "--secure-port=443", "--bind-address=0.0.0.0"]);
    server.arg(format!("--advertise-address={}", node.identity().address));
    server.args([
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
    ]);
    server.arg(format!("--service-cluster-ip-range={SERVICES}"));
    server.args([
        "--service-account-issuer=https://kubernetes.default.svc",
        "--kubelet-preferred-address-types=InternalIP",
    ]);
    // Aggregated APIs are reached at their pods: there is no kube-proxy.
    server.args([
        "--enable-aggregator-routing",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ]);
    for (flag, name) in [
        ("requestheader-client-ca-file", "front-proxy-ca.crt"),
        ("proxy-client-cert-file", "front-proxy.crt"),
        ("proxy-client-key-file", "front-proxy.key"),
        ("tls-cert-file", "api-server.crt"),
        ("tls-private-key-file", "api-server.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "tokens.crt"),
        ("service-account-signing-key-file", "tokens.key"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("kubelet-client-certificate", "api-server-to-kubelet.crt"),
        ("kubelet-client-key", "api-server-to-kubelet.key"),
    ] {
        server.arg(format!("--{flag}={}", file(name)));
    }
    server
}
