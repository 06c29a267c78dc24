//! Why tracing cannot start, in words that name kernel, hook, program and what to do.

use std::error::Error;

use kube_tcpstates_events::Hook;

use super::release::kernel_release;

/// Any error of aya's or the system's.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's types could not be read, and the hook needs them.
    #[error("hook {hook}: {reason}; without type information only `--hook tracepoint` can work")]
    NoTypes {
        /// The hook asked for.
        hook: Hook,
        /// Why.
        reason: BoxError,
    },
    /// The object or its maps were refused.
    #[error("{}loading the eBPF maps: {}{}", needs(reason), told(reason), advice(reason))]
    Maps {
        /// What the kernel said.
        reason: BoxError,
    },
    /// A program was refused.
    #[error(
        "{}{hint}, kernel {}: eBPF program {program}: {}{}",
        needs(reason),
        kernel_release(),
        told(reason),
        advice(reason)
    )]
    Program {
        /// Its name in the object.
        program: &'static str,
        /// What it is for.
        hint: String,
        /// What the kernel said.
        reason: BoxError,
    },
    /// What is open cannot be looked at.
    #[error(
        "{}looking at what is open, kernel {}: {}{}",
        needs(reason),
        kernel_release(),
        told(reason),
        advice(reason)
    )]
    Walk {
        /// What is missing, or what the kernel said.
        reason: BoxError,
    },
    /// What another process has left cannot be taken over.
    #[error("{}taking over what is pinned: {}{}", needs(reason), told(reason), advice(reason))]
    Pinned {
        /// What the kernel said.
        reason: BoxError,
    },
    /// Something else of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// An error and its causes on one line. aya's errors repeat their causes' text; each is told once.
pub(super) fn told(reason: &BoxError) -> String {
    let mut text = reason.to_string();
    let mut cause = reason.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(more.trim_end()) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    without_log(&text)
}

/// A verifier's log can have thousands of lines: what it says last is why. The whole goes to the debug level.
fn without_log(text: &str) -> String {
    let Some((before, log)) = text.split_once("Verifier output:") else { return text.trim_end().to_owned() };
    let statistics = ["processed ", "verification time", "stack depth", "mark_precise"];
    let why = log
        .lines()
        .map(str::trim)
        .rfind(|line| line.len() > 1 && !statistics.iter().any(|start| line.starts_with(start)));
    tracing::debug!("{text}");
    let before = before.trim_end().trim_end_matches('.');
    match why {
        Some(why) => format!("{before}: the verifier says: {why}"),
        None => before.to_owned(),
    }
}

/// What the system said, if that is at the bottom of a refusal.
fn said_by_system(reason: &BoxError) -> Option<&std::io::Error> {
    let mut error: Option<&(dyn Error + 'static)> = Some(&**reason);
    while let Some(inner) = error {
        if let Some(system) = inner.downcast_ref() {
            return Some(system);
        }
        error = inner.source();
    }
    None
}

/// Whether it is one that capabilities keep away.
fn is_refusal(system: &std::io::Error) -> bool {
    matches!(system.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// What this process needs first, where it lacks capabilities and was refused.
fn needs(reason: &BoxError) -> String {
    let is_refused = said_by_system(reason).is_some_and(is_refusal);
    if is_refused { in_need_of(&super::capability::missing_capabilities()) } else { String::new() }
}

/// Names what is missing, if anything is.
fn in_need_of(missing: &[String]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    format!("needs root, or the capabilities that are missing ({}): ", missing.join("; "))
}

/// What to do about a refusal, as far as its text tells.
fn advice(reason: &BoxError) -> String {
    match said_by_system(reason) {
        None => String::new(),
        Some(system) if is_refusal(system) => {
            let is_allowed = super::capability::missing_capabilities().is_empty();
            let else_by = " (refused although the capabilities are there: by the verifier, lockdown, seccomp or an LSM?)";
            if is_allowed { else_by.to_owned() } else { String::new() }
        }
        Some(system) if system.raw_os_error() == Some(libc::ENOMEM) => {
            " (out of locked memory? before 5.11 RLIMIT_MEMLOCK bounds eBPF maps)".to_owned()
        }
        Some(system) => format!(" ({system})"),
    }
}

#[cfg(test)]
mod tests {
    use super::{BoxError, in_need_of, said_by_system, without_log};

    #[test]
    fn what_is_missing_is_said_before_what_was_tried() {
        let missing = ["CAP_BPF, to load".to_owned(), "CAP_PERFMON, to attach".to_owned()];
        assert_eq!(
            in_need_of(&missing),
            "needs root, or the capabilities that are missing (CAP_BPF, to load; CAP_PERFMON, to attach): "
        );
        assert_eq!(in_need_of(&[]), "");
    }

    #[test]
    fn what_the_system_said_is_found_below_other_errors() {
        let refused = std::io::Error::from_raw_os_error(libc::EPERM);
        let wrapped: BoxError = anyhow::Error::from(refused).context("making a map").into();
        assert_eq!(said_by_system(&wrapped).unwrap().raw_os_error(), Some(libc::EPERM));
        assert!(said_by_system(&"no types".into()).is_none());
    }

    #[test]
    fn of_a_verifiers_log_the_last_word_is_told() {
        let text = "the BPF_PROG_LOAD syscall returned Permission denied (os error 13). Verifier output: 0: R1=ctx()\n\
            226: (0f) r2 += r1\nR2 pointer arithmetic prohibited\nverification time 323 usec\nprocessed 59 insns\n";
        assert_eq!(
            without_log(text),
            "the BPF_PROG_LOAD syscall returned Permission denied (os error 13): \
             the verifier says: R2 pointer arithmetic prohibited"
        );
        assert_eq!(without_log("refused. Verifier output: "), "refused");
        assert_eq!(without_log("no log\n"), "no log");
    }
}
