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
    #[error("loading the eBPF maps: {}{}", told(reason), advice(reason))]
    Maps {
        /// What the kernel said.
        reason: BoxError,
    },
    /// A program was refused.
    #[error(
        "{hint}, kernel {}: eBPF program {program}: {}{}",
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
    #[error("looking at what is open, kernel {}: {}{}", kernel_release(), told(reason), advice(reason))]
    Walk {
        /// What is missing, or what the kernel said.
        reason: BoxError,
    },
    /// What another process has left cannot be taken over.
    #[error("taking over what is pinned: {}{}", told(reason), advice(reason))]
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

/// What to do about a refusal, as far as its text tells.
fn advice(reason: &BoxError) -> String {
    let mut error: Option<&(dyn Error + 'static)> = Some(&**reason);
    while let Some(inner) = error {
        if let Some(system) = inner.downcast_ref::<std::io::Error>() {
            return match system.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => missing_capabilities(),
                Some(libc::ENOMEM) => {
                    " (out of locked memory? before 5.11 RLIMIT_MEMLOCK bounds eBPF maps)".into()
                }
                _ => format!(" ({system})"),
            };
        }
        error = inner.source();
    }
    String::new()
}

/// Names the capabilities this process lacks.
fn missing_capabilities() -> String {
    let missing = super::capability::missing_capabilities();
    if missing.is_empty() {
        return " (refused although the capabilities are there: by the verifier, lockdown, seccomp or an LSM?)".to_owned();
    }
    format!(" (missing: {})", missing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::without_log;

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
