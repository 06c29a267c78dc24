//! What an expression asks for, and what there is: the names of metrics in expressions and in the documents.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use crate::root;

/// What our metrics begin with.
pub const PREFIX: &str = "kube_tcpstates_";

/// The metrics of ours that an expression names.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// The samples that the documents tell of, by the rows of their tables.
pub fn documented() -> Result<BTreeSet<String>> {
    let mut samples = BTreeSet::new();
    for document in ["docs/metrics.md", "docs/operator.md"] {
        let text = fs::read_to_string(root().join(document)).with_context(|| format!("read {document}"))?;
        for row in text.lines() {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let (Some(name), Some(kind)) = (cells.next(), cells.next()) else { continue };
            let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else { continue };
            if name.starts_with(PREFIX) {
                samples.extend(suffixes(kind).iter().map(|suffix| format!("{name}{suffix}")));
            }
        }
    }
    Ok(samples)
}

/// What stands behind a metric's name at its samples.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "gauge" => &[""],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_labels_and_functions() {
        let found = metrics(r#"sum by (a) (rate(kube_tcpstates_a_total{b="c"}[5m])) / kube_tcpstates_b"#);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["kube_tcpstates_a_total", "kube_tcpstates_b"]);
    }

    #[test]
    fn the_documents_tell_of_samples_by_their_kind() {
        let samples = documented().unwrap();
        for name in [
            "kube_tcpstates_hook_info",
            "kube_tcpstates_transitions_lost_total",
            "kube_tcpstates_queue_bytes",
            "kube_tcpstates_workload_handshake_seconds_bucket",
            "kube_tcpstates_operator_leading",
        ] {
            assert!(samples.contains(name), "{name} is not among {samples:?}");
        }
        assert!(!samples.contains("kube_tcpstates_transitions_lost"));
    }
}
