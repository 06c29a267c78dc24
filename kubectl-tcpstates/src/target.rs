//! Whose sockets: `deploy/checkout` or labels become a selector of pods. Pure.

use kube_tcpstates_crds::{LabelSelector, Operator, Requirement};
use serde_json::Value;

/// What a workload may be called, its path in the API, and how it is shown.
const KINDS: &[(&[&str], &str, &str, Kind)] = &[
    (&["pod", "pods", "po"], "/api/v1", "pods", Kind::Pod),
    (
        &["deploy", "deployment", "deployments", "deployments.apps"],
        "/apis/apps/v1",
        "deployments",
        Kind::Owner,
    ),
    (
        &["sts", "statefulset", "statefulsets", "statefulsets.apps"],
        "/apis/apps/v1",
        "statefulsets",
        Kind::Owner,
    ),
    (&["ds", "daemonset", "daemonsets", "daemonsets.apps"], "/apis/apps/v1", "daemonsets", Kind::Owner),
    (&["rs", "replicaset", "replicasets", "replicasets.apps"], "/apis/apps/v1", "replicasets", Kind::Owner),
    (&["job", "jobs", "jobs.batch"], "/apis/batch/v1", "jobs", Kind::Owner),
    (&["svc", "service", "services"], "/api/v1", "services", Kind::Service),
];

/// Where a kind of object has its selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its labels are the selector.
    Pod,
    /// `spec.selector`, a selector.
    Owner,
    /// `spec.selector`, labels.
    Service,
}

/// What was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An object, to be asked for its selector.
    Object(Object),
    /// Labels.
    Labels(LabelSelector),
}

/// An object that has a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    kind: Kind,
    prefix: &'static str,
    plural: &'static str,
    name: String,
    /// As it was named.
    pub(crate) shown: String,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    /// None while it waits for a node.
    pub(crate) node: Option<String>,
}

/// Which pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Their labels.
    pub(crate) selector: LabelSelector,
    /// Only this one of them: labels cannot name one pod.
    pub(crate) only_pod: Option<String>,
}

impl Target {
    /// From what stands on the command line; `None` if nothing does.
    pub(crate) fn parse(name: Option<&str>, labels: Option<&str>) -> Result<Option<Self>, String> {
        match (name, labels) {
            (_, Some(labels)) => Ok(Some(Self::Labels(selector(labels)?))),
            (Some(name), None) => Object::parse(name).map(|object| Some(Self::Object(object))),
            (None, None) => Ok(None),
        }
    }
}

impl Object {
    fn parse(text: &str) -> Result<Self, String> {
        let known = "deploy, sts, ds, rs, job, svc or pod";
        let Some((word, name)) = text.split_once('/') else {
            return Err(format!("{text}: say of what kind it is, such as deploy/{text} ({known})"));
        };
        let word = word.to_ascii_lowercase();
        if word.starts_with("cronjob") || word == "cj" {
            return Err(format!("{text}: a CronJob selects no pods; name one of its jobs, job/NAME"));
        }
        let kind = KINDS.iter().find(|(words, ..)| words.contains(&word.as_str()));
        let Some((_, prefix, plural, kind)) = kind else {
            return Err(format!("{text}: {word} is no kind of object that selects pods; there are {known}"));
        };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("{text}: no object can be called {name:?}"));
        }
        Ok(Self { kind: *kind, prefix, plural, name: name.to_owned(), shown: text.to_owned() })
    }

    /// Where it is in the API.
    pub(crate) fn path(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}/{}", self.prefix, self.plural, self.name)
    }

    /// What its name is made of, for the name of a trace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The pods that it selects, as the API server has it.
    pub(crate) fn wanted(&self, object: &Value) -> Result<Wanted, String> {
        let place = if self.kind == Kind::Pod { "/metadata/labels" } else { "/spec/selector" };
        let found = object.pointer(place).filter(|value| !value.is_null());
        let selector = match (self.kind, found) {
            (Kind::Owner, Some(found)) => serde_json::from_value(found.clone()).ok(),
            (Kind::Pod | Kind::Service, Some(found)) => serde_json::from_value(found.clone())
                .ok()
                .map(|match_labels| LabelSelector { match_labels, ..LabelSelector::default() }),
            (Kind::Pod, None) => Some(LabelSelector::default()),
            (_, None) => None,
        };
        let selector = selector.ok_or_else(|| format!("{} selects no pods by labels", self.shown))?;
        let only_pod = (self.kind == Kind::Pod).then(|| self.name.clone());
        Ok(Wanted { selector, only_pod })
    }
}

/// Reads labels as kubectl's `-l` has them: `a=b,c!=d,e in (f,g),h,!i`.
pub(crate) fn selector(text: &str) -> Result<LabelSelector, String> {
    let mut selector = LabelSelector::default();
    for part in parts(text) {
        let part = part.trim();
        if part.is_empty() {
            return Err(format!("-l {text:?}: a label is missing between two commas"));
        }
        let requirement = requirement(part).ok_or_else(|| {
            format!("-l {text:?}: {part:?} is none of a=b, a!=b, a in (b,c), a notin (b,c), a, !a")
        })?;
        match requirement {
            Requirement { key, operator: Operator::In, values } if values.len() == 1 => {
                let value = values.into_iter().next().unwrap_or_default();
                if let Some(other) = selector.match_labels.insert(key.clone(), value.clone())
                    && other != value
                {
                    return Err(format!("-l {text:?}: {key} cannot be {other} and {value}"));
                }
            }
            other => selector.match_expressions.push(other),
        }
    }
    Ok(selector)
}

/// What stands between commas that are in no parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let of = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        let is_key = !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "()!=,".contains(c));
        is_key.then(|| Requirement { key: key.to_owned(), operator, values })
    };
    if let Some(key) = part.strip_prefix('!') {
        return of(key, Operator::DoesNotExist, Vec::new());
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, Operator::NotIn, vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(key, Operator::In, vec![value.trim().to_owned()]);
    }
    let Some((before, list)) = part.split_once('(') else { return of(part, Operator::Exists, Vec::new()) };
    let list = list.trim_end().strip_suffix(')')?;
    let values = list.split(',').map(|value| value.trim().to_owned()).collect();
    let (key, word) = before.trim_end().rsplit_once(char::is_whitespace)?;
    match word {
        "in" => of(key, Operator::In, values),
        "notin" => of(key, Operator::NotIn, values),
        _ => None,
    }
}

/// The same as kubectl and the API server write it.
pub(crate) fn shown(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
    let conditions = selector.match_expressions.iter().map(|Requirement { key, operator, values }| {
        let values = values.join(",");
        match operator {
            Operator::In => format!("{key} in ({values})"),
            Operator::NotIn => format!("{key} notin ({values})"),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
        }
    });
    labels.chain(conditions).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(text: &str) -> Result<Object, String> {
        match Target::parse(Some(text), None)? {
            Some(Target::Object(object)) => Ok(object),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_leads_to_its_object() {
        for (text, path) in [
            ("deploy/checkout", "/apis/apps/v1/namespaces/shop/deployments/checkout"),
            ("Deployment/checkout", "/apis/apps/v1/namespaces/shop/deployments/checkout"),
            ("sts/db", "/apis/apps/v1/namespaces/shop/statefulsets/db"),
            ("ds/log", "/apis/apps/v1/namespaces/shop/daemonsets/log"),
            ("rs/a", "/apis/apps/v1/namespaces/shop/replicasets/a"),
            ("job/a", "/apis/batch/v1/namespaces/shop/jobs/a"),
            ("svc/a", "/api/v1/namespaces/shop/services/a"),
            ("pod/a.b-c", "/api/v1/namespaces/shop/pods/a.b-c"),
        ] {
            assert_eq!(object(text).unwrap().path("shop"), path);
        }
    }

    #[test]
    fn what_names_no_workload_is_told_what_would() {
        for (text, part) in [
            ("checkout", "such as deploy/checkout"),
            ("node/a", "node is no kind of object that selects pods"),
            ("cronjob/a", "name one of its jobs"),
            ("pod/", "no object can be called \"\""),
            ("pod/../secrets", "no object can be called"),
        ] {
            let error = object(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_object_tells_its_pods() {
        let labels = json!({"app": "a"});
        let wanted = |text: &str, value: Value| object(text).unwrap().wanted(&value);
        let shown_of = |wanted: &Wanted| shown(&wanted.selector);
        let owner = json!({"spec": {"selector": {"matchLabels": labels, "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["test", "old"]}]}}});
        assert_eq!(shown_of(&wanted("deploy/a", owner).unwrap()), "app=a,tier notin (test,old)");
        assert_eq!(shown_of(&wanted("svc/a", json!({"spec": {"selector": labels}})).unwrap()), "app=a");
        let pod = wanted("pod/a-0", json!({"metadata": {"labels": labels}})).unwrap();
        assert_eq!((shown_of(&pod).as_str(), pod.only_pod.as_deref()), ("app=a", Some("a-0")));
        assert!(wanted("pod/a-0", json!({"metadata": {}})).unwrap().selector.is_empty());
        assert_eq!(wanted("svc/a", json!({"spec": {}})).unwrap_err(), "svc/a selects no pods by labels");
    }

    #[test]
    fn labels_are_read_as_kubectl_reads_them() {
        for (text, again) in [
            ("app=a", "app=a"),
            ("app==a,tier!=b", "app=a,tier notin (b)"),
            (" a in (b, c) , d notin (e),f,!g", "a in (b,c),d notin (e),f,!g"),
            ("a in (b)", "a=b"),
            ("example.com/a=", "example.com/a="),
        ] {
            assert_eq!(shown(&selector(text).unwrap()), again, "{text}");
        }
        for text in ["", "a=b,", "a b", "a is (b)", "=b", "a in (b", "a=b,a=c", "a in b"] {
            assert!(selector(text).is_err(), "{text}");
        }
    }
}
