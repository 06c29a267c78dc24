//! What the watches tell the state.

use std::collections::BTreeMap;

use kube_tcpstates_crds::TraceKind;

use super::patience::Trouble;
use super::resource::Resource;
use crate::plan::TraceObject;
use crate::roster::PodInfo;

/// What became of the objects of one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Told<T> {
    /// These are all. What is not among them does not exist any more.
    All(Vec<T>),
    /// It was added or changed.
    Applied(T),
    /// It was deleted.
    Deleted(T),
}

/// The node's object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceObject {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

/// One thing told.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Of pods.
    Pods(Told<PodInfo>),
    /// Of the node.
    Nodes(Told<NodeObject>),
    /// Of namespaces.
    Namespaces(Told<NamespaceObject>),
    /// Of traces of a kind.
    Traces(TraceKind, Box<Told<TraceObject>>),
    /// A list or watch does not work, and why.
    Broken(Resource, Trouble, String),
    /// It works (again).
    Works(Resource),
}
