//! The operators as users install them, and what they make of traces.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::agent::{Agents, NAMESPACE, PATIENCE, trace_path};
use crate::cluster::Cluster;
use crate::kubectl::Kubectl;
use crate::wait;

/// In the API.
pub const PODS: &str =
    "/api/v1/namespaces/kube-tcpstates/pods?labelSelector=app.kubernetes.io/component=operator";
pub(crate) const DEPLOYMENT: &str =
    "/apis/apps/v1/namespaces/kube-tcpstates/deployments/kube-tcpstates-operator";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-tcpstates/leases/kube-tcpstates-operator";

/// The operators of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Operators<'a> {
    kubectl: &'a Kubectl,
}

impl<'a> Operators<'a> {
    /// Waits until both are Ready and one leads.
    pub fn installed(cluster: &'a Cluster) -> Result<Self> {
        Agents::install(cluster)?;
        let operators = Self { kubectl: cluster.kubectl() };
        operators.await_ready(2)?;
        operators.await_leader("an operator leads", |_| true)?;
        Ok(operators)
    }

    /// Waits until so many are Ready and there are no others.
    pub fn await_ready(&self, count: u64) -> Result<()> {
        wait::until(&format!("{count} operators are Ready"), PATIENCE, || {
            let status = self.kubectl.get(DEPLOYMENT)?["status"].take();
            let number = |name: &str| status[name].as_u64().unwrap_or_default();
            let is_done = (number("readyReplicas"), number("replicas")) == (count, count);
            Ok(if is_done { Ok(()) } else { Err(status.to_string()) })
        })
    }

    /// Who holds the Lease: the name of its pod and its start, empty when nobody does.
    pub fn holder(&self) -> Result<String> {
        let lease = self.kubectl.api().find(LEASE)?.unwrap_or_default();
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the one that leads is as it should be; the name of its pod.
    pub fn await_leader(&self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<String> {
        wait::until(what, PATIENCE, || {
            let holder = self.holder()?;
            let pod = holder.rsplit_once('_').map(|(pod, _)| pod.to_owned());
            Ok(pod.filter(|pod| is_it(pod)).ok_or(format!("the holder is {holder:?}")))
        })
    }

    /// Scales them, and waits until it is so.
    pub fn scale(&self, count: u64) -> Result<()> {
        let replicas = format!("--replicas={count}");
        let flags = ["--namespace", NAMESPACE, &replicas];
        self.kubectl.run(&[&["scale", "deployment", "kube-tcpstates-operator"], &flags[..]].concat())?;
        self.await_ready(count)?;
        // Those that end are not counted there, and write until they have.
        wait::until(&format!("{count} operators run"), PATIENCE, || {
            let pods = self.kubectl.get(PODS)?;
            let running = pods["items"].as_array().map_or(0, Vec::len) as u64;
            Ok(if running == count { Ok(()) } else { Err(format!("{running} do")) })
        })
    }

    /// Waits until a trace's condition has a reason. The status, and how long it took.
    pub fn await_reason(
        &self,
        (namespace, name): (&str, &str),
        condition: &str,
        reason: &str,
        patience: Duration,
    ) -> Result<(Value, Duration)> {
        let start = Instant::now();
        let what = format!("{condition} of {namespace}/{name} has the reason {reason}");
        let status = wait::until(&what, patience, || {
            let trace = self.kubectl.get(&trace_path(namespace, name))?;
            let is_so = condition_of(&trace, condition)["reason"] == reason;
            Ok(if is_so { Ok(trace["status"].clone()) } else { Err(trace.to_string()) })
        })
        .with_context(|| self.last_words())?;
        Ok((status, start.elapsed()))
    }

    fn last_words(self) -> String {
        let selector = "--selector=app.kubernetes.io/component=operator";
        let said = self.kubectl.run(&["logs", "--namespace", NAMESPACE, selector, "--tail=20", "--prefix"]);
        format!("the operators said: {}", said.unwrap_or_else(|error| format!("{error:#}")))
    }

    /// The Events about a trace that have a reason.
    pub fn events(&self, namespace: &str, name: &str, reason: &str) -> Result<Vec<Value>> {
        let events = self.kubectl.get(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"))?;
        let events = events["items"].as_array().context("a list of Events")?;
        let is_about = |event: &&Value| event["regarding"]["name"] == name && event["reason"] == reason;
        Ok(events.iter().filter(is_about).cloned().collect())
    }
}

/// A condition of a trace; null when it has none of that type.
pub fn condition_of<'a>(trace: &'a Value, type_: &str) -> &'a Value {
    let conditions = trace["status"]["conditions"].as_array().into_iter().flatten();
    conditions.clone().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}
