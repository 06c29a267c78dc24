//! Handshakes and idle times as bars.

use maud::{Markup, html};

use super::words::{count, duration};
use crate::histogram::Histogram;
use crate::pairs::Pair;
use crate::take::all_of;

pub(super) fn section(pairs: &[Pair]) -> Markup {
    let figures = || pairs.iter().map(|pair| &pair.figures);
    let handshakes = all_of(figures(), |figures| &figures.handshakes);
    let idle = all_of(figures(), |figures| &figures.idle);
    let idle_failed = all_of(figures(), |figures| &figures.idle_failed);
    html! {
        div.two {
            @if handshakes.count() > 0 {
                section {
                    h2 { "Handshakes" }
                    p.soft { "How long they took." }
                    (bars(&handshakes, &Histogram::default()))
                }
            }
            @if idle.count() > 0 {
                section {
                    h2 { "Idle at the end" }
                    p.soft { "Time without data before a connection ended. Red: those that failed. Many at one time are a timeout in between." }
                    (bars(&idle, &idle_failed))
                }
            }
        }
    }
}

fn bars(all: &Histogram, bad: &Histogram) -> Markup {
    let most = all.rows().map(|(_, _, number)| number).max().unwrap_or(1).max(1);
    html! {
        div.bars {
            @for (from, to, number) in all.rows() {
                @let failed = bad.count_below(to).min(number);
                span.n { (duration(from)) " – " (duration(to)) }
                div {
                    b.bad style=(width(failed, most)) {}
                    b style=(width(number - failed, most)) {}
                }
                span.n { (count(number)) }
            }
        }
    }
}

fn width(part: u64, most: u64) -> String {
    let permille = u128::from(part) * 1000 / u128::from(most);
    format!("width:{}.{}%", permille / 10, permille % 10)
}
