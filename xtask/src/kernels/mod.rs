//! `./x test kernels`: tests of the kernel layer on kernels other than this machine's, in QEMU, under emulation.
//!
//! ```text
//! Debian's kernel packages ──► store ──► vmlinuz, modules ──┐
//! agent, test programs, what they run, their libraries ─────┴► guest (initramfs) ──► machine (QEMU) ──► counts
//! ```
//! Owns which kernels and which tests. What the first process in there does is `guest-init`'s affair, in tests/kernel.

mod guest;
mod initramfs;
mod machine;
mod store;

use std::iter;
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail, ensure};

use crate::step;
use crate::test::libtest::Counts;
use crate::workspace::Workspace;
pub(crate) use guest::{PROGRAMS, TOOLS};

/// A kernel, and the Debian release whose newest cloud kernel it is.
pub(crate) struct Kernel {
    /// As it is asked for: the series, or `newest`.
    pub(crate) name: &'static str,
    release: &'static str,
    processor: &'static str,
    /// Tests of what it cannot do.
    without: &'static [&'static str],
}

/// The second level of x86-64.
const USUAL: &str = "Nehalem";
/// The same without `cmpxchg16b`: with that, QEMU 7.2 now and then leaves nonsense in the flags, and kernels that
/// allocate by it (6.12) crash. 7.2 makes no socket storage without it.
const SIMPLER: &str = "Nehalem,-cx16";

/// The oldest that is supported, two in between, and the newest there is.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", release: "bullseye", processor: SIMPLER, without: &["inferred"] },
    Kernel { name: "6.1", release: "bookworm", processor: SIMPLER, without: &[] },
    Kernel { name: "6.12", release: "trixie", processor: SIMPLER, without: &[] },
    Kernel { name: "newest", release: "sid", processor: USUAL, without: &[] },
];

/// The programs of tests/kernel that run in there: those that say most of a kernel, and take seconds even emulated.
const TESTS: &[&str] = &[
    "portable",
    "environments",
    "same_transitions",
    "reconnect",
    "restored",
    "rejected",
    "inferred",
    "listeners",
    "preexisting",
    "open_sockets",
    "listing",
    "outcomes",
    "crossings",
    "preempted",
    "handed_over",
    "taken_over",
    "verifier_cost",
];

/// Boots every kernel, or the one of that name, and runs all tests, or those whose name contains `name`: as many
/// machines at once as this one has processors. Goes on after a failure.
pub(crate) fn run(workspace: &Workspace, name: Option<&str>, counts: &mut Counts) -> Result<()> {
    let (kernels, filter) = select(name);
    let guest = guest::Guest::build(workspace, TESTS)?;
    let mut machines = Vec::new();
    for kernel in &kernels {
        let tests: Vec<_> = TESTS.iter().filter(|test| !kernel.without.contains(test)).copied().collect();
        machines.push(guest.with_kernel(kernel, &store::fetch(workspace, kernel)?, &tests, filter)?);
    }
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    step::say(&format!("testing on kernels {}, {at_once} at once", names(&kernels)));
    let queue = Mutex::new(machines.iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || iter::from_fn(next).map(|machine| (machine.name, machine.run())).collect::<Vec<_>>();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    let came_back = outcomes.len();
    let mut failures = Vec::new();
    for (name, (counted, outcome)) in outcomes {
        *counts = *counts + counted;
        if let Err(error) = outcome {
            step::say(&format!("kernel {name}: {error:#}"));
            failures.push(name);
        }
    }
    ensure!(came_back == kernels.len(), "{came_back} of {} machines came back", kernels.len());
    if failures.is_empty() { Ok(()) } else { bail!("on kernel {}", failures.join(", ")) }
}

fn names(kernels: &[&Kernel]) -> String {
    kernels.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ")
}

fn select(name: Option<&str>) -> (Vec<&'static Kernel>, Option<&str>) {
    match KERNELS.iter().find(|kernel| Some(kernel.name) == name) {
        Some(kernel) => (vec![kernel], None),
        None => (KERNELS.iter().collect(), name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_kernel_or_else_a_test() {
        assert_eq!(select(None).0.len(), KERNELS.len());
        let (kernels, filter) = select(Some("6.1"));
        assert_eq!((kernels.len(), kernels[0].name, filter), (1, "6.1", None));
        let (kernels, filter) = select(Some("verifier"));
        assert_eq!((kernels.len(), filter), (KERNELS.len(), Some("verifier")));
    }
}
