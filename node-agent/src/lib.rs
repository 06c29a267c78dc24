//! stub
pub mod cgroupfs;
pub mod decode;
pub mod filter;
pub mod identity;
pub mod kernel;
pub mod output;
pub mod preflight;
pub mod serialise;
