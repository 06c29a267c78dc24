//! Whose a line is. Pure.

use kube_tcpstates_events::{K8s, Line};

/// Whether a line is of the one pod that is asked for, if one is.
pub(super) fn is_of(line: &Line, only: Option<&str>) -> bool {
    let (Some(only), Some(k8s)) = (only, k8s_of(line)) else { return true };
    let pod = k8s.as_ref().and_then(|k8s| k8s.pod.as_ref()?.name.as_deref());
    pod == Some(only)
}

/// The node that has seen what a line tells.
pub(super) fn node_of(line: &Line) -> Option<&str> {
    Some(&k8s_of(line)?.as_ref()?.node.as_ref()?.name)
}

/// None of lines that have no owner.
fn k8s_of(line: &Line) -> Option<&Option<Box<K8s>>> {
    match line {
        Line::Transition(line) => Some(&line.k8s),
        Line::Connection(line) => Some(&line.k8s),
        Line::Summary(line) => Some(&line.k8s),
        Line::Socket(line) => Some(&line.k8s),
        Line::Listener(line) => Some(&line.k8s),
        Line::TimeWait(line) => Some(&line.k8s),
        _ => None,
    }
}
