//! The page: HTML without a script, that fetches nothing. Every name on it comes from a pod that may be hostile; maud
//! escapes all of them.

mod drawing;
mod histograms;
mod missing;
mod open;
mod tables;
mod times;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) use self::words::counted;
use self::words::{bytes, count, duration, share};
use crate::accounts::Source;
use crate::figures::{Figures, sum};
use crate::pairs::Pair;
use crate::take::Report;

const STYLE: &str = include_str!("style.css");

/// All that was taken in, ready to be shown.
struct Shown {
    pairs: Vec<Pair>,
    others: Option<Figures>,
    all: Figures,
}

impl Report {
    /// The page. Nothing can be taken in afterwards.
    pub fn page(mut self) -> String {
        let look = std::mem::take(&mut self.looks).finish(|run| self.runs.node_of(run));
        times::align(&mut self.timelines);
        let merged = self.pairs.merged;
        let (pairs, others) = std::mem::take(&mut self.pairs).finish(&self.addresses, &self.sets);
        let mut all = Figures::default();
        pairs.iter().map(|pair| &pair.figures).chain(&others).for_each(|figures| all.merge(figures));
        let shown = Shown { pairs, others, all };
        let title = self.options.title.clone().or_else(|| self.options.trace.clone());
        let title = title.unwrap_or_else(|| "TCP connections".to_owned());
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                    link rel="icon" href="data:,";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        (head(&title, &self, &shown))
                        (missing::section(&self))
                        (times::section(&self))
                        (drawing::section(&shown.pairs))
                        (tables::worst(&shown.pairs))
                        (histograms::section(&shown.all))
                        @if let Some(look) = &look { (open::section(look)) }
                        (about(&self, &shown, merged))
                    }
                }
            }
        }
        .into_string()
    }
}

fn head(title: &str, report: &Report, shown: &Shown) -> Markup {
    let all = &shown.all;
    html! {
        header {
            h1 { (title) }
            @if let Some((first, last)) = report.input.span {
                p.soft {
                    (first.strftime("%Y-%m-%d %H:%M:%S")) " to " (last.strftime("%Y-%m-%d %H:%M:%S")) " UTC, "
                    (duration(u64::try_from(last.duration_since(first).as_micros()).unwrap_or(0)))
                }
            }
            div.tiles {
                div { b { (count(all.connections())) } "connections ended" }
                div { b { (count(all.failed())) } "failed, " (share(all.failed(), all.connections())) }
                div { b { (count(shown.pairs.len() as u64)) } "pairs that talk" }
                @if let Some(us) = all.handshakes.quantile(0.99) {
                    div { b { (duration(us)) } "handshake, 99 of 100 within" }
                }
                @let exchanged = sum([all.to_server, all.to_client]);
                @if exchanged > 0 {
                    div { b { (bytes(exchanged)) } "of data" }
                }
            }
        }
    }
}

/// What the figures are made of, and what they do not tell.
fn about(report: &Report, shown: &Shown, merged: u64) -> Markup {
    let of = |source| shown.pairs.iter().filter(|pair| pair.source == source).count() as u64;
    let transitions = of(Source::Transitions);
    html! {
        section {
            h2 { "How to read this" }
            p { "A connection counts when it ends; what is still open is not among the connections. Where both of its ends were traced, or several traces asked for it, it counts once: of each pair the account of one side, one trace and one kind of lines counts, that which tells of the most connections." }
            @if report.sets.are_more {
                p { "Lines were of more sets of traces than are kept apart; those of the further ones are taken for lines of one trace." }
            }
            p { "A handshake of a client is the time from its SYN to the answer, of a server the round trip of its answer. Times are put into powers of two: “within 2 ms” can be anything from 1 ms up." }
            @if of(Source::Summaries) > 0 {
                p { "Of " (counted(of(Source::Summaries), "pair")) " only summaries tell: all handshakes of an interval but the longest stand at their mean." }
            }
            @if transitions > 0 {
                p { "Of " (counted(transitions, "pair")) " only transitions tell. They know neither bytes nor idle times, and a reset by this side looks like an orderly end; a trace with mode: Connections knows." }
            }
            @if merged > 0 {
                p {
                    "There were more pairs than are kept apart. " (counted(merged, "light pair")) " became others: "
                    (counted(shown.others.as_ref().map_or(0, Figures::connections), "connection")) "."
                }
            }
            p.soft { "Made by kube-tcpstates " (env!("CARGO_PKG_VERSION")) " from " (counted(report.input.lines, "line")) "." }
        }
    }
}
