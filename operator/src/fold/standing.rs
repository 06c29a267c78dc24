//! How a trace does on all nodes together.

use std::collections::BTreeSet;

use kube_tcpstates_crds::status::{FailingNode, NodeCounts};

use super::objects::{Entry, NodeState};

/// So many nodes are named, of each sort.
const NAMED: usize = 10;
/// The schema's limits.
const MESSAGE: usize = 512;
const WORD: usize = 63;

/// What a node is to a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word<'a> {
    /// Its agent lists the trace, and has reported lately.
    Told(&'a Entry),
    /// It does not, and it knows the trace: no pod there is selected.
    Idle,
    /// It may not know the trace yet.
    Pending,
    /// Its agent has not reported for too long. What it last said of the trace, if that mattered.
    Silent(Option<&'a Entry>),
    /// No agent has reported since the node is known.
    Uncovered,
}

/// Of one trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// Nodes that its `nodeSelector` selects.
    pub(super) matching: u32,
    /// Nodes that trace.
    pub(super) tracing: u32,
    /// Nodes where it fails; the first of them by name.
    pub(super) failing: u32,
    pub(super) failing_nodes: Vec<FailingNode>,
    /// Why it fails, on whichever node.
    pub(super) reasons: BTreeSet<String>,
    /// Nodes that are silent, and of these those that had a selected pod; the first by name.
    pub(super) silent: u32,
    pub(super) unknown: u32,
    pub(super) silent_nodes: Vec<String>,
    /// Nodes without a report; the first by name.
    pub(super) uncovered: u32,
    pub(super) uncovered_nodes: Vec<String>,
    /// Nodes that have not told yet.
    pub(super) pending: u32,
    /// Pods selected on nodes that reported lately.
    pub(super) pods: u32,
}

impl Standing {
    /// One node more; they come in the order of their names.
    pub(super) fn add(&mut self, node: &str, word: Word<'_>) {
        self.matching += 1;
        match word {
            Word::Told(entry) => self.add_told(node, entry),
            Word::Idle => {}
            Word::Pending => self.pending += 1,
            Word::Silent(entry) => {
                self.silent += 1;
                let mattered = entry.is_some_and(|entry| !is_idle(entry.state));
                self.unknown += u32::from(mattered);
                note(&mut self.silent_nodes, node);
            }
            Word::Uncovered => {
                self.uncovered += 1;
                note(&mut self.uncovered_nodes, node);
            }
        }
    }

    fn add_told(&mut self, node: &str, entry: &Entry) {
        self.pods = self.pods.saturating_add(entry.pods);
        match entry.state {
            NodeState::Idle | NodeState::Expired => {}
            NodeState::Tracing => self.tracing += 1,
            NodeState::Waiting | NodeState::Refused | NodeState::Failed | NodeState::Unknown => {
                self.failing += 1;
                let reason = if entry.reason.is_empty() { "Failed" } else { &entry.reason };
                self.reasons.insert(reason.to_owned());
                if self.failing_nodes.len() < NAMED {
                    self.failing_nodes.push(FailingNode {
                        node: node.to_owned(),
                        reason: cut(reason, WORD),
                        message: cut(&entry.message, MESSAGE),
                    });
                }
            }
        }
    }

    /// As the status has it.
    pub(super) fn nodes(&self) -> NodeCounts {
        let selected = self.tracing + self.failing + self.unknown;
        NodeCounts {
            summary: format!("{}/{selected}", self.tracing),
            selected,
            tracing: self.tracing,
            failing: self.failing,
            unknown: self.unknown,
            uncovered: self.uncovered,
        }
    }
}

fn note(names: &mut Vec<String>, node: &str) {
    if names.len() < NAMED {
        names.push(node.to_owned());
    }
}

const fn is_idle(state: NodeState) -> bool {
    matches!(state, NodeState::Idle | NodeState::Expired)
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
