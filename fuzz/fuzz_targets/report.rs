//! See `report` in the library.
#![no_main]

use kube_tcpstates_fuzz::{report, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(report::seeds), |bytes: &[u8]| { report::read(bytes); });
