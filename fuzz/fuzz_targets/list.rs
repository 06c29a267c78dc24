//! See `list` in the library.
#![no_main]

use kube_tcpstates_fuzz::{list, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(list::seeds), |bytes: &[u8]| { list::read(bytes); });
