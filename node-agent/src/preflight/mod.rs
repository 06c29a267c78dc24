//! stub for now
mod capability;
pub use capability::{Capability, effective_capabilities, missing_capabilities};
