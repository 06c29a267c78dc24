//! `report`: a page of HTML from lines that were kept.

use std::{
    fs::File,
    io::{BufReader, IsTerminal as _, stdin, stdout},
    path::Path,
};

use anyhow::Context as _;
use kube_tcpstates_report::{Options, Report};

use super::args::ReportArguments;

/// What is read of a file at once.
const BUFFER: usize = 256 << 10;

/// What is wrong with the options.
pub(super) fn check(raw: &ReportArguments) -> Result<(), String> {
    if raw.file.is_none() && stdout().is_terminal() {
        return Err("the page is HTML: give a file for it with --file, or redirect stdout".to_owned());
    }
    Ok(())
}

/// Reads all and writes the page. True: whatever goes wrong is an error.
pub(super) fn run(raw: &ReportArguments) -> anyhow::Result<bool> {
    let mut report = Report::new(Options { title: raw.title.clone(), trace: raw.trace.clone() });
    let standard = [Path::new("-").to_owned()];
    let inputs = if raw.inputs.is_empty() { &standard[..] } else { &raw.inputs };
    for path in inputs {
        let read = if path == Path::new("-") {
            report.read(BufReader::with_capacity(BUFFER, stdin().lock()))
        } else {
            File::open(path).and_then(|file| report.read(BufReader::with_capacity(BUFFER, file)))
        };
        read.with_context(|| format!("reading {}", path.display()))?;
    }
    let page = report.page();
    if let Some(path) = &raw.file {
        std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))?;
        return Ok(true);
    }
    super::print(page.as_bytes())?;
    Ok(true)
}
