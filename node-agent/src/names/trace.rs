//! What a trace is called on a line.

/// A trace as a line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceName {
    /// Of one namespace: `namespace/name`.
    Namespaced(String),
    /// Of the cluster: its name.
    Cluster(String),
}
