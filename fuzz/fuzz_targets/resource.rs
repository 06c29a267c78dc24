//! See `resource` in the library.
#![no_main]

use kube_tcpstates_fuzz::{resource, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(resource::seeds), |bytes: &[u8]| { resource::read(bytes); });
