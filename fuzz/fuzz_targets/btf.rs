//! See `btf` in the library.
#![no_main]

use kube_tcpstates_fuzz::{btf, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(btf::seeds), |bytes: &[u8]| { btf::read(bytes); });
