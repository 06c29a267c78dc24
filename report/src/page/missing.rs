//! What is missing, said before anything else: figures that leave something out must say so first.

use maud::{Markup, html};

use super::words::{count, counted};
use crate::figures::sum;
use crate::from_api::FromApi;
use crate::losses::Loss;
use crate::runs::{End, Run};
use crate::take::Report;

/// Runs that are listed; the others are added up.
const RUNS_SHOWN: usize = 40;

pub(super) fn section(report: &Report) -> Markup {
    let input = &report.input;
    let runs = report.runs.sorted();
    let losses: Vec<Loss> = runs.iter().map(|(_, run)| report.runs.loss(run)).collect();
    let lost = sum(losses.iter().map(|loss| loss.total));
    let told = &report.told;
    let (handed_out, logs): (Vec<_>, Vec<_>) =
        runs.iter().map(|(_, run)| *run).partition(|run| told.is_of_one_trace(run));
    let missing = sum(logs.iter().map(|run| run.missing()));
    let before = sum(logs.iter().map(|run| run.before_the_first()));
    let inexact = runs.iter().any(|(_, run)| run.inexact);
    let is_whole =
        lost == 0 && missing == 0 && input.cut == 0 && input.unnamed == 0 && report.runs.uncounted == 0;
    let api = api(told, &handed_out);
    html! {
        section {
            h2 { "What is missing" }
            @if input.ours == 0 {
                p.warn { "No line of kube-tcpstates was among the " (counted(input.lines, "line")) " read." }
            } @else if is_whole && told.is_heard {
                @if api.is_empty() { p { "The lines API says that nothing is missing." } }
            } @else if is_whole {
                p { "Nothing that is known of: no event was lost, and no line between the first and the last of each run is absent." }
            }
            @if lost > 0 {
                p.warn {
                    (counted(lost, "event")) " lost before they were written" @if inexact { ", or more" } ". "
                    (places(&losses)) " Every figure below is that much too low."
                }
            }
            @if missing > 0 {
                p.warn {
                    (counted(missing, "line")) " of these runs did not come"
                    @if before > 0 { ", " (count(before)) " of them from before the first that did" }
                    ": filtered out on the way here, not asked for, or rotated away before they were read."
                }
            }
            @for said in api { p.warn { (said) } }
            @if input.cut > 0 {
                p.warn { (counted(input.cut, "file")) " cut in the middle of the last line, which is left out." }
            }
            @if report.runs.uncounted > 0 {
                p.warn { (counted(report.runs.uncounted, "line")) " of further runs, of which gaps were not looked for." }
            }
            @for said in input.other_formats() { p.warn { (said) "." } }
            @if input.foreign > 0 { p { (counted(input.foreign, "line")) " not of kube-tcpstates, passed over." } }
            @if input.twice > 0 { p { (counted(input.twice, "line")) " came twice, counted once." } }
            @if input.unnamed > 0 {
                p.warn { (counted(input.unnamed, "line")) " had no room for the names of all their traces and may have been this trace’s: left out." }
            }
            @if input.other_traces > 0 { p { (counted(input.other_traces, "line")) " of other traces, left out as asked." } }
            @if !runs.is_empty() { (table(&runs, &losses, told)) }
        }
    }
}

/// What the lines API says of its answer, a sentence each.
fn api(told: &FromApi, runs: &[&Run]) -> Vec<String> {
    let gaps = sum(runs.iter().map(|run| run.gaps));
    let unfinished = runs.iter().filter(|run| run.end == End::Unfinished).count() as u64;
    let mut said = Vec::new();
    if gaps > 0 {
        said.push(format!(
            "{} did not come to the lines API: rotated away before they were read, or read too slowly. They may have been \
             other traces’.",
            counted(gaps, "line")
        ));
    }
    if unfinished > 0 {
        said.push(format!(
            "{} ended without a last line: what was not written then is unknown.",
            counted(unfinished, "run")
        ));
    }
    let begins = told
        .begins
        .iter()
        .map(|(node, from)| format!("{node}: its log begins at {from}; what came before is gone."));
    let unreadable =
        told.unreadable.iter().map(|(node, why)| format!("{node}: its log cannot be read: {why}"));
    said.extend(begins.chain(unreadable));
    said.extend(told.unnamed.keys().map(|node| {
        format!("{node}: some lines had no room for the names of all their traces; they may have been this trace’s.")
    }));
    said.extend(told.unknown.iter().map(|(node, what)| format!("{node}: something is missing: {what}.")));
    if told.is_heard && !told.has_ended {
        said.push("The answer of the lines API has no end: it was cut off on the way.".to_owned());
    }
    said
}

/// Where events were lost, over all runs.
fn places(losses: &[Loss]) -> String {
    let mut by_place = std::collections::BTreeMap::<&str, u64>::new();
    for (place, count) in losses.iter().flat_map(|loss| &loss.by_place) {
        let lost = by_place.entry(place).or_default();
        *lost = lost.saturating_add(*count);
    }
    if by_place.is_empty() {
        return String::new();
    }
    let parts: Vec<String> =
        by_place.iter().map(|(place, number)| format!("{place} {}", count(*number))).collect();
    format!("By place: {}.", parts.join(", "))
}

fn table(runs: &[(&str, &Run)], losses: &[Loss], told: &FromApi) -> Markup {
    html! {
        table.stack {
            thead { tr { th { "Node" } th { "Run" } th.n { "Lines" } th.n { "Did not come" } th.n { "Events lost" } th { "End" } } }
            @for ((id, run), loss) in runs.iter().zip(losses).take(RUNS_SHOWN) {
                tr {
                    td data-is="Node" { (run.node.as_deref().unwrap_or("this machine")) }
                    td data-is="Run" { (id) }
                    td.n data-is="Lines" { (count(run.lines())) }
                    td.n data-is="Did not come" { (count(told.missing(run))) }
                    td.n data-is="Events lost" { (count(loss.total)) @if run.inexact { " at least" } }
                    td data-is="End" { (end(run, told)) }
                }
            }
        }
        @if runs.len() > RUNS_SHOWN {
            p.soft { "and " (counted((runs.len() - RUNS_SHOWN) as u64, "further run")) }
        }
    }
}

/// Whether the last line of a run came.
fn end(run: &Run, told: &FromApi) -> &'static str {
    match run.end {
        End::Came => "came",
        End::Unfinished => "without a last line",
        End::NotHere if told.is_of_one_trace(run) => "not told",
        End::NotHere => "not here",
    }
}
