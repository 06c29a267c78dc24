//! The worst pairs: those that failed most, then those that were slow.

use maud::{Markup, html};

use super::words::{bytes, count, counted, duration, share};
use crate::outcome::OUTCOMES;
use crate::pairs::Pair;

/// Pairs in the table.
const SHOWN: usize = 25;

pub(super) fn worst(pairs: &[Pair]) -> Markup {
    let mut worst: Vec<&Pair> = pairs.iter().collect();
    worst.sort_by_key(|pair| {
        let slowest = pair.figures.handshakes.quantile(0.99);
        std::cmp::Reverse((pair.figures.failed(), slowest, pair.figures.connections()))
    });
    html! {
        @if !worst.is_empty() {
            section {
                h2 { "The worst pairs" }
                p.soft { "Most failures first, then the slowest handshakes." }
                table.stack {
                    thead {
                        tr {
                            th { "Client" } th { "Server" } th.n { "Connections" } th.n { "Failed" } th { "How" }
                            th.n { "Handshake, half" } th.n { "99 of 100" } th.n { "To server" } th.n { "To client" } th.n { "Sent again" }
                        }
                    }
                    @for pair in worst.iter().take(SHOWN) { (row(pair)) }
                }
                @if worst.len() > SHOWN { p.soft { "and " (counted((worst.len() - SHOWN) as u64, "further pair")) } }
            }
        }
    }
}

fn row(pair: &Pair) -> Markup {
    let figures = &pair.figures;
    let time = |share| figures.handshakes.quantile(share).map_or_else(|| "—".to_owned(), duration);
    html! {
        tr {
            td data-is="Client" { (pair.ends.client) }
            td data-is="Server" { (pair.ends.server) @if pair.ends.port > 0 { " :" (pair.ends.port) } }
            td.n data-is="Connections" { (count(figures.connections())) }
            td.n data-is="Failed" {
                (count(figures.failed()))
                @if figures.failed() > 0 { " (" (share(figures.failed(), figures.connections())) ")" }
            }
            td data-is="How" {
                @if figures.failed() > 0 {
                    div {
                        @for (place, name) in OUTCOMES.iter().enumerate().skip(1).filter(|(place, _)| figures.by_outcome[*place] > 0) {
                            span { i style=(format!("background:var(--{name})")) {} (name) " " (count(figures.by_outcome[place])) " " }
                        }
                    }
                }
            }
            td.n data-is="Half within" { (time(0.5)) }
            td.n data-is="99 of 100" { (time(0.99)) }
            td.n data-is="To server" { (bytes(figures.to_server)) }
            td.n data-is="To client" { (bytes(figures.to_client)) }
            td.n data-is="Sent again" { (count(figures.retransmits)) }
        }
    }
}
