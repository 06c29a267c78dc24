//! What an API server of today says to what we have made for it.

#![expect(clippy::unwrap_used, reason = "a test panics, so that the backtrace survives")]

mod definitions;
mod document;
mod examples;
mod manifests;
mod objects;
mod policy;
// The same tables that the judges of `crds/` read.
#[path = "../../../../crds/tests/resources/table.rs"]
mod table;
