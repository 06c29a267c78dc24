//! See `cgroup` in the library.
#![no_main]

use kube_tcpstates_fuzz::{cgroup, seed};

libfuzzer_sys::fuzz_target!(init: seed::write(cgroup::seeds), |bytes: &[u8]| { cgroup::read(bytes); });
