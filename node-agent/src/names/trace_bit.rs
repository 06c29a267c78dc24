//! A trace as one run names it to the next.

use serde::{Deserialize, Serialize};

/// A trace under its bit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceBit {
    /// The bit's number.
    pub bit: usize,
    /// `metadata.uid`.
    pub uid: String,
    /// Its namespace, where it has one.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}
