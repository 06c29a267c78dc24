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

use anyhow::{Result, bail};

use crate::step;
use crate::test::libtest::Counts;
use crate::workspace::Workspace;

/// A kernel, and the Debian release whose newest cloud kernel it is.
pub(crate) struct Kernel {
    /// As it is asked for: the series, or `newest`.
    pub(crate) name: &'static str,
    release: &'static str,
}

/// The oldest that is supported, two in between, and the newest there is.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", release: "bullseye" },
    Kernel { name: "6.1", release: "bookworm" },
    Kernel { name: "6.12", release: "trixie" },
    Kernel { name: "newest", release: "sid" },
];

/// The programs of tests/kernel that run in there: those that say most of a kernel, and take seconds even emulated.
const TESTS: &[&str] =
    &["portable", "same_transitions", "reconnect", "preexisting", "short_lived", "verifier_cost"];

/// Boots every kernel, or the one of that name, and runs all tests, or those whose name contains `name`. Goes on
/// after a failure.
pub(crate) fn run(workspace: &Workspace, name: Option<&str>, counts: &mut Counts) -> Result<()> {
    let (kernels, filter) = select(name);
    let guest = guest::Guest::build(workspace, TESTS, filter)?;
    let mut failures = Vec::new();
    for kernel in kernels {
        step::say(&format!("testing on kernel {}", kernel.name));
        let outcome = store::fetch(workspace, kernel)
            .and_then(|stored| guest.with_kernel(&stored))
            .and_then(|machine| machine.run(TESTS.len(), counts));
        if let Err(error) = outcome {
            step::say(&format!("kernel {}: {error:#}", kernel.name));
            failures.push(kernel.name);
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("on kernel {}", failures.join(", ")) }
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
