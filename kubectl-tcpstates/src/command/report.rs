//! `report`: a page of HTML from the lines of a trace.

use std::io::{IsTerminal as _, stdout};

use kube_tcpstates_report::{Options, Report};

use super::lines::existing;
use crate::args::{Output, ReportArguments};
use crate::edge::api::Cluster;
use crate::edge::screen::{self, Screen};
use crate::edge::source::{Source, Wanted};
use crate::heard::{Ear, End, Said};
use crate::spec::time;
use crate::trouble::Trouble;

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &ReportArguments) -> Result<(), Trouble> {
    if arguments.file.is_none() && stdout().is_terminal() {
        return Err(Trouble::new("the page is HTML: give a file for it with --file, or redirect stdout"));
    }
    let since = arguments.since.as_deref().map(|text| time("--since", text)).transpose()?;
    let (name, made) = existing(cluster, &arguments.trace).await?;
    let source = Source::find(cluster, &name).await?;
    let screen = Screen::new(Output::Table);
    screen.say(source.sentence());
    let mut ear = Ear::new(name.clone(), source.from());
    let mut report = Report::new(Options { title: Some(name.to_string()), trace: Some(name.to_string()) });
    let wanted = Wanted { trace: name, follow: false, since, exists_since: Some(made) };
    let mut stream = source.open(cluster, wanted);
    let mut lines = 0_u64;
    while let Some((node, text)) = stream.line(&screen).await {
        for said in ear.hear(&node, &text) {
            match said {
                Said::Event(_) => lines += 1,
                Said::Missing(text) | Said::End(End::Broken(text)) => screen.warn(&text),
                Said::End(_) => {}
            }
        }
        // It counts what is missing from lines of all kinds.
        let wrong = |error| Trouble::new(format!("cannot take a line into the page: {error}"));
        report.read(format!("{text}\n").as_bytes()).map_err(wrong)?;
    }
    if lines == 0 {
        return Err(Trouble::new(format!(
            "the trace has no lines; kubectl tcpstates explain {} says why",
            arguments.trace
        )));
    }
    let page = report.page();
    let Some(path) = &arguments.file else { return screen::write(page.as_bytes()).map(drop) };
    std::fs::write(path, page)
        .map_err(|error| Trouble::new(format!("cannot write {}: {error}", path.display())))?;
    screen.say(&format!("{} is made of {lines} lines", path.display()));
    Ok(())
}
