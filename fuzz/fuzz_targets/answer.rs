//! See `answer` in the library.
#![no_main]

use kube_tcpstates_fuzz::{answer, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(answer::seeds), |bytes: &[u8]| { answer::read(bytes); });
