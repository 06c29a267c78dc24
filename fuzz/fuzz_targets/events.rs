//! See `events` in the library.
#![no_main]

use kube_tcpstates_fuzz::{events, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(events::seeds), |bytes: &[u8]| { events::read(bytes); });
