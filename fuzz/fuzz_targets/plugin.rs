//! See `plugin` in the library.
#![no_main]

use kube_tcpstates_fuzz::{plugin, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(plugin::seeds), |bytes: &[u8]| { plugin::read(bytes); });
