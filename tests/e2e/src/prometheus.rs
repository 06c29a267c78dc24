//! A Prometheus on the first node, from where every pod is reached.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::agent::PODS;
use crate::cluster::daemon::Daemon;
use crate::cluster::node::Node;
use crate::cluster::{Cluster, place};
use crate::wait;

const ADDRESS: &str = "127.0.0.1:9090";

/// Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus<'a> {
    node: &'a Node,
    daemon: Daemon,
}

impl<'a> Prometheus<'a> {
    /// Starts it with a configuration of deploy/, as often as a test wants, on the pods that there are now.
    pub fn start(cluster: &'a Cluster, configuration: &Value, rules: &Path) -> Result<Self> {
        let node = &cluster.nodes()[0];
        let home = Path::new(place::STATE).join("prometheus");
        drop(fs::remove_dir_all(&home));
        fs::create_dir_all(&home).context("create Prometheus' directory")?;
        let mut configuration = configuration.clone();
        configuration["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
        configuration["rule_files"] = json!([rules]);
        let job = configuration["scrape_configs"][0].as_object_mut().context("a job")?;
        // Debian's Prometheus knows no Kubernetes: what it would find is said instead.
        job.remove("kubernetes_sd_configs").context("the job discovers pods")?;
        job.insert("static_configs".to_owned(), discovered(cluster)?);
        let file = home.join("prometheus.yml");
        fs::write(&file, configuration.to_string()).context("write Prometheus' configuration")?;
        let program = place::given("KUBE_TCPSTATES_TOOLS")?.join("bin/prometheus");
        let mut command = node.command(program.to_str().context("the path of Prometheus is not UTF-8")?);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", home.join("data").display()));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        let mut prometheus = Self { node, daemon: Daemon::start("prometheus", &command)? };
        wait::until("Prometheus answers", Duration::from_secs(30), || {
            prometheus.daemon.check()?;
            Ok(prometheus.ask("/-/ready", None).map(drop).map_err(|error| format!("{error:#}")))
        })?;
        Ok(prometheus)
    }

    /// The values that an expression has now; what is no number is none.
    pub fn values(&self, expression: &str) -> Result<Vec<f64>> {
        let answer = self.get("/api/v1/query", Some(expression)).with_context(|| expression.to_owned())?;
        let samples = answer["data"]["result"].as_array().context("a vector")?;
        let texts = samples.iter().filter_map(|sample| sample["value"][1].as_str());
        Ok(texts.filter_map(|text| text.parse().ok()).filter(|value: &f64| !value.is_nan()).collect())
    }

    /// The rules, with their states.
    pub fn rules(&self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/rules", None)?;
        let groups = answer["data"]["groups"].as_array().context("groups of rules")?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    fn get(&self, path: &str, query: Option<&str>) -> Result<Value> {
        let answer: Value = serde_json::from_str(&self.ask(path, query)?).context("Prometheus' answer")?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer)
    }

    fn ask(&self, path: &str, query: Option<&str>) -> Result<String> {
        let mut curl = self.node.command("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--get"]);
        if let Some(query) = query {
            curl.arg("--data-urlencode").arg(format!("query={query}"));
        }
        let output = curl.arg(format!("http://{ADDRESS}{path}")).output().context("start curl")?;
        let answer = String::from_utf8(output.stdout).context("Prometheus' answer is not UTF-8")?;
        ensure!(output.status.success(), "{}{answer}", String::from_utf8_lossy(&output.stderr));
        Ok(answer)
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// The agents' and the operators' ports with the labels that Prometheus' discovery gives to them.
fn discovered(cluster: &Cluster) -> Result<Value> {
    let pods = cluster.kubectl().get(PODS)?;
    let mut targets = Vec::new();
    for pod in pods["items"].as_array().context("a list of pods")? {
        let address = pod["status"]["podIP"].as_str().context("a pod has an address")?;
        for port in pod["spec"]["containers"][0]["ports"].as_array().into_iter().flatten() {
            let labels = &pod["metadata"]["labels"];
            targets.push(json!({
                "targets": [format!("{address}:{}", port["containerPort"])],
                "labels": {
                    "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
                    "__meta_kubernetes_pod_name": pod["metadata"]["name"],
                    "__meta_kubernetes_pod_node_name": pod["spec"]["nodeName"],
                    "__meta_kubernetes_pod_container_port_name": port["name"],
                    "__meta_kubernetes_pod_label_app_kubernetes_io_name": labels["app.kubernetes.io/name"],
                    "__meta_kubernetes_pod_label_app_kubernetes_io_component": labels["app.kubernetes.io/component"],
                },
            }));
        }
    }
    Ok(json!(targets))
}
