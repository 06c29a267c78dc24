//! See `proc` in the library.
#![no_main]

use kube_tcpstates_fuzz::{proc, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(proc::seeds), |bytes: &[u8]| { proc::read(bytes); });
