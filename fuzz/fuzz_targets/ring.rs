//! See `ring` in the library.
#![no_main]

use kube_tcpstates_fuzz::{ring, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(ring::seeds), |bytes: &[u8]| { ring::read(bytes); });
