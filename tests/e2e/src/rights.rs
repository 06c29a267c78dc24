//! Rights of the programs in the API: what the installer gives, the same without one of them, and what the server lets an
//! account do.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, place};
use crate::kubectl::Kubectl;

/// The rules of a role as the installer has them: a test may be taking one away. `kind` is `ClusterRole` or `Role`.
pub fn installed_rules(cluster: &Cluster, kind: &str, name: &str) -> Result<Value> {
    let installer = place::given("KUBE_TCPSTATES_MANIFESTS")?.join("tcptrace.yaml");
    let file = format!("--filename={}", installer.display());
    let text =
        cluster.kubectl().run(&["create", "--dry-run=client", "--output=json", "--validate=false", &file])?;
    let objects: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>()?;
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let role = objects.iter().find(is_it).with_context(|| format!("the installer has a {kind} {name}"))?;
    Ok(role["rules"].clone())
}

/// Every verb on every resource, as `list pods`.
pub fn rights(rules: &Value) -> Vec<String> {
    let mut rights = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for resource in texts(&rule["resources"]) {
            rights.extend(texts(&rule["verbs"]).iter().map(|verb| format!("{verb} {resource}")));
        }
    }
    rights
}

/// The rules without one of these rights.
pub fn without(rules: &Value, taken: &str) -> Value {
    let mut left = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for resource in texts(&rule["resources"]) {
            let mut verbs = texts(&rule["verbs"]);
            verbs.retain(|verb| format!("{verb} {resource}") != taken);
            let mut narrowed = rule.clone();
            narrowed["resources"] = json!([resource]);
            narrowed["verbs"] = json!(verbs);
            left.push(narrowed);
        }
    }
    left.retain(|rule| rule["verbs"] != json!([]));
    json!(left)
}

/// The texts of a list.
pub fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A service account of the installation.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    kubectl: &'a Kubectl,
    flag: String,
}

impl<'a> Account<'a> {
    /// By its name in the installation's namespace.
    pub fn new(cluster: &'a Cluster, name: &str) -> Self {
        let flag = format!("--as=system:serviceaccount:{}:{name}", crate::agent::NAMESPACE);
        Self { kubectl: cluster.kubectl(), flag }
    }

    /// What the server says that it may do there, but for what everybody may: ask what one may.
    pub fn rights(&self, namespace: &str) -> Result<BTreeSet<String>> {
        let list = ["auth", "can-i", "--list", "--no-headers", &self.flag, "--namespace", namespace];
        let mut rights = BTreeSet::new();
        for line in self.kubectl.run(&list)?.lines().filter(|line| !line.starts_with(' ')) {
            let resource = line.split_whitespace().next().context("a resource")?;
            let verbs =
                line.rsplit_once('[').and_then(|(_, verbs)| verbs.strip_suffix(']')).context("verbs")?;
            rights.extend(verbs.split(' ').map(|verb| format!("{verb} {resource}")));
        }
        let is_everybodys = |right: &str| {
            right.ends_with(" selfsubjectaccessreviews.authorization.k8s.io")
                || right.ends_with(" selfsubjectrulesreviews.authorization.k8s.io")
        };
        rights.retain(|right| !is_everybodys(right));
        Ok(rights)
    }

    /// An error unless the server refuses it this request.
    pub fn require_refused(&self, request: &[&str]) -> Result<()> {
        self.judge(request, self.kubectl.run(&[request, &[&self.flag]].concat()))
    }

    /// An error unless the server refuses it to make this object.
    pub fn require_refused_to_make(&self, object: &Value) -> Result<()> {
        let create = ["create", "--filename=-", "--validate=false", &self.flag];
        self.judge(&create, self.kubectl.run_with(&create, &object.to_string()))
    }

    fn judge(&self, request: &[&str], outcome: Result<String>) -> Result<()> {
        let error = outcome.err().with_context(|| format!("{} may {request:?}", self.flag))?;
        let text = format!("{error:#}").to_lowercase();
        ensure!(text.contains("forbidden"), "{request:?}: {error:#}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_right_is_taken_and_all_others_stay() {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list", "watch"]},
            {"apiGroups": ["g"], "resources": ["leases"], "resourceNames": ["one"], "verbs": ["get"]},
        ]);
        assert_eq!(rights(&rules), ["list pods", "watch pods", "list nodes", "watch nodes", "get leases"]);
        for taken in rights(&rules) {
            let mut expected = rights(&rules);
            expected.retain(|right| *right != taken);
            assert_eq!(rights(&without(&rules, &taken)), expected);
        }
        assert_eq!(without(&rules, "watch pods")[2]["resourceNames"], json!(["one"]));
    }
}
