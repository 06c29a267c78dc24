//! `check`: says what this kernel and this process can do, and tries it.

use std::io::Write as _;

use super::args::CheckArguments;
use crate::{
    cgroupfs::Mount,
    kernel::{self, Hook, Options},
    pipeline::task_hierarchy,
    preflight::{self, Finding},
};

/// A ring as small as the kernel allows on every page size.
const RING_BYTES: u32 = 64 << 10;

/// Prints what was found. True when tracing would work.
pub(super) fn run(raw: &CheckArguments) -> anyhow::Result<bool> {
    let hook = raw.hook.as_deref().map(str::parse::<Hook>).transpose().map_err(anyhow::Error::msg)?;
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
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        let mark = match (finding.ok, finding.required) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "without",
        };
        // A closed pipe ends the reading, not the checking.
        let _ = writeln!(out, "{mark:<8}{:<22}{}", finding.name, finding.detail);
    }
    let verdict = if works { "tracing would work" } else { "tracing would not work" };
    let _ = writeln!(out, "{verdict}");
    Ok(works)
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
