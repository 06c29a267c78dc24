//! `check`: says what this kernel and this process can do, and tries it.

use std::fmt::Write as _;

use super::args::CheckArguments;
use crate::{
    cgroupfs::Mount,
    kernel::{self, Hook, Options},
    pipeline::task_hierarchy,
    preflight::{self, Finding},
};

/// A ring as small as the kernel allows on every page size.
const RING_BYTES: u32 = 64 << 10;

/// Checks the arguments: the hook asked for.
pub(super) fn hook(raw: &CheckArguments) -> Result<Option<Hook>, String> {
    raw.hook.as_deref().map(str::parse).transpose()
}

/// Prints what was found. True when tracing would work, also when nobody reads that any more.
pub(super) fn run(hook: Option<Hook>) -> anyhow::Result<bool> {
    let mut findings = preflight::findings(hook);
    let trial = try_to_trace(hook);
    let works = trial.is_ok();
    match trial {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding {
            name: "hook",
            ok: false,
            required: true,
            detail: error.to_string().lines().next().unwrap_or_default().to_owned(),
        }),
    }
    super::print(text(&findings, works).as_bytes())?;
    Ok(works)
}

/// A line for each finding, and the verdict.
fn text(findings: &[Finding], works: bool) -> String {
    let mut text = String::new();
    for Finding { name, ok, required, detail } in findings {
        let mark = match (ok, required) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "without",
        };
        let _ = writeln!(text, "{mark:<8}{name:<22}{detail}");
    }
    text += if works { "tracing would work\n" } else { "tracing would not work\n" };
    text
}

/// Loads and attaches for a moment, with rules that want nothing.
fn try_to_trace(hook: Option<Hook>) -> anyhow::Result<Vec<Finding>> {
    let options = Options {
        hook,
        ring_bytes: RING_BYTES,
        want_on_cpu: false,
        tasks: Mount::find(None).ok().as_ref().and_then(task_hierarchy),
    };
    let mut kernel = kernel::load(options, None)?;
    kernel.attach_cgroups();
    kernel.attach()?;
    Ok(preflight::attached(&kernel))
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::preflight::Finding;

    #[test]
    fn what_is_missing_stands_out_and_the_verdict_comes_last() {
        let finding = |name, ok, required| Finding { name, ok, required, detail: format!("to have {name}") };
        let findings = [finding("a", true, true), finding("b", false, true), finding("c", false, false)];
        assert_eq!(
            text(&findings, false),
            "ok      a                     to have a\n\
             MISSING b                     to have b\n\
             without c                     to have c\n\
             tracing would not work\n"
        );
        assert_eq!(text(&[], true), "tracing would work\n");
    }
}
