//! stub
pub mod cgroupfs;
pub mod decode;
pub mod filter;
pub mod identity;
pub mod output;
pub mod serialise;
