//! Operators beside the installed ones: the same image and the same pod, but for the rights that a test gives them and the
//! namespace of their Lease. Each leads by itself, and only when it is let.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::agent::{NAMESPACE, PODS};
use crate::agent_pod::Metrics;
use crate::cluster::Cluster;
use crate::front_proxy;
use crate::operator::DEPLOYMENT;
use crate::rights::{installed_rules, rights, without};
use crate::stand_in::{Objects, object};
use crate::wait;

/// What the installer names everything of the operator.
pub const INSTALLED: &str = "kube-tcpstates-operator";
/// By a Role that Kubernetes keeps.
const CONFIG_MAP: &str = "get configmaps";
const RIGHTS: &str = "rbac.authorization.k8s.io/v1";

/// What the installer lets an operator do, and where.
#[derive(Clone, Debug)]
pub struct Rights {
    everywhere: Value,
    leases: Value,
    logs: Value,
    /// Whether it reads how kube-apiserver shows itself.
    has_config_map: bool,
}

impl Rights {
    /// All of them.
    pub fn installed(cluster: &Cluster) -> Result<Self> {
        let own = installed_rules(cluster, "ClusterRole", INSTALLED)?;
        let lines = installed_rules(cluster, "ClusterRole", "kube-tcpstates-operator-lines")?;
        let both = [own, lines].iter().filter_map(|rules| rules.as_array().cloned()).flatten().collect();
        let at_home = installed_rules(cluster, "Role", INSTALLED)?;
        let at_home = at_home.as_array().cloned().context("a Role has rules")?;
        let is_lease = |rule: &Value| rule["apiGroups"] == json!(["coordination.k8s.io"]);
        let (leases, logs): (Vec<_>, Vec<_>) = at_home.into_iter().partition(is_lease);
        Ok(Self {
            everywhere: Value::Array(both),
            leases: json!(leases),
            logs: json!(logs),
            has_config_map: true,
        })
    }

    /// As `list pods`.
    pub fn names(&self) -> Vec<String> {
        let rules = [&self.everywhere, &self.leases, &self.logs].into_iter();
        rules.flat_map(rights).chain(self.has_config_map.then(|| CONFIG_MAP.to_owned())).collect()
    }

    /// All but this.
    #[must_use]
    pub fn without(&self, taken: &str) -> Self {
        Self {
            everywhere: without(&self.everywhere, taken),
            leases: without(&self.leases, taken),
            logs: without(&self.logs, taken),
            has_config_map: self.has_config_map && taken != CONFIG_MAP,
        }
    }
}

/// An operator of its own. Dropping it deletes what was made for it.
#[derive(Debug)]
pub struct StandInOperator<'a> {
    name: String,
    objects: Objects<'a>,
}

impl<'a> StandInOperator<'a> {
    /// Describes it; nothing is made yet.
    pub fn new(cluster: &'a Cluster, name: &str, given: &Rights) -> Result<Self> {
        let mut spec = cluster.kubectl().get(DEPLOYMENT)?["spec"]["template"]["spec"].take();
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
        spec["terminationGracePeriodSeconds"] = json!(0);
        spec["affinity"].take();
        let env = |key: &str, value: &str| json!({"name": key, "value": value});
        spec["containers"][0]["env"] = json!([env("POD_NAME", name), env("POD_NAMESPACE", name)]);
        let object = |version: &str, kind: &str, namespace: Option<&str>, rest: &Value| {
            object(name, version, kind, namespace, rest)
        };
        let bound = |namespace: Option<&str>, rules: &Value| {
            let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
            let role = object(RIGHTS, kind, namespace, &json!({"rules": rules}));
            [role, object(RIGHTS, &format!("{kind}Binding"), namespace, &binding(name, kind, name))]
        };
        let mut objects = vec![
            object("v1", "Namespace", None, &json!({})),
            object("v1", "ServiceAccount", Some(NAMESPACE), &json!({})),
        ];
        objects.extend(bound(None, &given.everywhere));
        objects.extend(bound(Some(name), &given.leases));
        objects.extend(bound(Some(NAMESPACE), &given.logs));
        if given.has_config_map {
            let theirs = binding(name, "Role", "extension-apiserver-authentication-reader");
            objects.push(object(RIGHTS, "RoleBinding", Some("kube-system"), &theirs));
        }
        objects.push(object("v1", "Pod", Some(NAMESPACE), &json!({"spec": spec})));
        Ok(Self { name: name.to_owned(), objects: Objects { cluster, list: objects } })
    }

    /// Its name, which is its Lease's namespace as well.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts several at a time, without waiting for them.
    pub fn start(stand_ins: &[Self]) -> Result<()> {
        Objects::make(&stand_ins.iter().map(|stand_in| &stand_in.objects).collect::<Vec<_>>())
    }

    /// Gives its Lease to somebody who never was, or takes it away for it to make anew.
    pub fn let_lead(&self, may_lead: bool) -> Result<()> {
        let api = self.objects.cluster.kubectl().api();
        // 1.20 knows no time in Leases with fewer digits.
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": INSTALLED, "namespace": self.name},
            "spec": {"holderIdentity": "nobody", "leaseDurationSeconds": 3600, "renewTime": now},
        });
        api.delete(&lease)?;
        if may_lead { Ok(()) } else { api.create(&lease) }
    }

    /// The same, for one that runs: waits until it has followed.
    pub fn make_lead(&self, leads: bool) -> Result<()> {
        self.let_lead(leads)?;
        let wanted = f64::from(u8::from(leads));
        wait::until(&format!("{} leads: {leads}", self.name), crate::agent::PATIENCE, || {
            let is = self.metrics().sum("kube_tcpstates_operator_leading", &[""]);
            Ok(if is.total_cmp(&wanted).is_eq() { Ok(()) } else { Err(is.to_string()) })
        })
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        self.objects.cluster.kubectl().logs(NAMESPACE, &self.name, "operator")
    }

    fn served(&self, path: &str) -> String {
        let path = format!("{PODS}/{}:9465/proxy/{path}", self.name);
        self.objects.cluster.kubectl().api().text(&path).unwrap_or_else(|error| format!("{error:#}"))
    }

    /// What it serves at `/metrics`.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.served("metrics"))
    }

    /// What `/readyz` says.
    pub fn readiness(&self) -> String {
        self.served("readyz")
    }

    /// What it answers to kube-apiserver.
    pub fn answer(&self, path: &str) -> Result<String> {
        let pod = self.objects.cluster.kubectl().get(&format!("{PODS}/{}", self.name))?;
        let address = pod["status"]["podIP"].as_str().context("the pod has an address")?;
        front_proxy::ask(self.objects.cluster, address, path, Some(front_proxy::API_SERVER))
    }

    /// Waits until its loop turns.
    pub fn await_start(&self) -> Result<()> {
        wait::until(&format!("{} runs", self.name), crate::agent::PATIENCE, || {
            let metrics = self.served("metrics");
            Ok(if metrics.contains("kube_tcpstates_operator_leading ") { Ok(()) } else { Err(metrics) })
        })
    }
}

fn binding(account: &str, kind: &str, role: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    })
}
