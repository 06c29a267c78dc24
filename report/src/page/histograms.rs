//! Handshakes and idle times as bars.

use maud::{Markup, html};

use super::words::{count, duration};
use crate::figures::Figures;
use crate::histogram::Histogram;

pub(super) fn section(all: &Figures) -> Markup {
    let Figures { handshakes, idle, idle_failed, .. } = all;
    html! {
        div.two {
            @if handshakes.count() > 0 {
                section {
                    h2 { "Handshakes" }
                    p.soft { "How long they took." }
                    (bars(handshakes, &Histogram::default()))
                }
            }
            @if idle.count() > 0 {
                section {
                    h2 { "Idle at the end" }
                    p.soft { "Time without data before a connection ended. Red: those that failed. Many at one time are a timeout in between." }
                    (bars(idle, idle_failed))
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
