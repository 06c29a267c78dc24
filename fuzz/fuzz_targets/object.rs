//! See `object` in the library.
#![no_main]

use kube_tcpstates_fuzz::{object, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(object::seeds), |bytes: &[u8]| { object::read(bytes); });
