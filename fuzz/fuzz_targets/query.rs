//! See `query` in the library.
#![no_main]

use kube_tcpstates_fuzz::{query, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(query::seeds), |bytes: &[u8]| { query::read(bytes); });
