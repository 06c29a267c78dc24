//! Label selectors as Kubernetes has them, with bounds: an unbounded list makes CEL rules too dear for the server.

#![expect(unreachable_pub, reason = "KubeSchema repeats each type inside of a function")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// Selects objects by their labels. All parts must hold; an empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels that an object must have, each with exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, text::LabelValue>", extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(key, size(key) <= 317)")
        .message("the key of a label has at most 317 characters"))]
    pub match_labels: BTreeMap<String, String>,

    /// Conditions on labels, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 \
         : !has(self.values) || size(self.values) == 0")
    .message("operators In and NotIn need values, Exists and DoesNotExist take none")
    .field_path(".values"))]
pub struct Requirement {
    /// Key of the label.
    #[schemars(with = "text::LabelKey")]
    pub key: String,

    /// How the label relates to the values: In (is one of them), `NotIn` (is none of them, or absent), Exists (is there,
    /// whatever its value) or `DoesNotExist` (is absent).
    pub operator: Operator,

    /// Values to compare with. Needed for In and `NotIn`, not allowed with Exists and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::LabelValue>", length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// How a label relates to the values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// Has one of the values.
    In,
    /// Has none of the values, or is absent.
    NotIn,
    /// Is there.
    Exists,
    /// Is absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = || value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => is_listed(),
            Operator::NotIn => !is_listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_means_what_it_means_to_kubernetes() {
        let labels = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
        let with = |key: &str, operator, values: &[&str]| LabelSelector {
            match_expressions: vec![Requirement {
                key: key.into(),
                operator,
                values: values.iter().copied().map(str::to_owned).collect(),
            }],
            ..LabelSelector::default()
        };
        for (selector, expected) in [
            (LabelSelector::default(), true),
            (LabelSelector { match_labels: labels.clone(), ..LabelSelector::default() }, true),
            (with("app", Operator::In, &["shop", "till"]), true),
            (with("app", Operator::In, &["till"]), false),
            (with("tier", Operator::In, &["shop"]), false),
            (with("app", Operator::NotIn, &["shop"]), false),
            (with("tier", Operator::NotIn, &["shop"]), true),
            (with("app", Operator::Exists, &[]), true),
            (with("tier", Operator::Exists, &[]), false),
            (with("app", Operator::DoesNotExist, &[]), false),
            (with("tier", Operator::DoesNotExist, &[]), true),
        ] {
            assert_eq!(selector.matches(&labels), expected, "{selector:?}");
        }
        let both = LabelSelector { match_labels: labels.clone(), ..with("tier", Operator::Exists, &[]) };
        assert!(!both.matches(&labels));
    }
}
