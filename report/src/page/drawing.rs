//! Who talks to whom, drawn: clients on the left, servers on the right, a band for each pair.

use maud::{Markup, html};

use super::words::{count, counted, fitted, share};
use crate::pairs::Pair;

/// Pairs that are drawn: more than this nobody can follow.
const DRAWN: usize = 24;

/// One drawing; there is one for wide pages and one for narrow ones.
#[derive(Clone, Copy)]
struct Size {
    width: f64,
    /// Room for the names, on each side.
    names: f64,
    /// Characters that fit there.
    characters: usize,
}

const WIDE: Size = Size { width: 1100.0, names: 330.0, characters: 52 };
const NARROW: Size = Size { width: 340.0, names: 125.0, characters: 20 };
/// From one name to the next.
const ROW: f64 = 24.0;

/// Names of one side, by their place from the top.
struct Column(Vec<String>);

impl Column {
    fn of(names: impl Iterator<Item = String>) -> Self {
        let mut column = Self(Vec::new());
        for name in names {
            if !column.0.contains(&name) {
                column.0.push(name);
            }
        }
        column
    }

    #[expect(clippy::cast_precision_loss, reason = "places on a drawing")]
    fn y(&self, name: &str) -> f64 {
        let place = self.0.iter().position(|known| known == name).unwrap_or(0);
        14.0 + ROW * place as f64
    }
}

pub(super) fn section(pairs: &[Pair]) -> Markup {
    let drawn: Vec<&Pair> = pairs.iter().filter(|pair| pair.figures.connections() > 0).take(DRAWN).collect();
    html! {
        @if !drawn.is_empty() {
            section {
                h2 { "Who talks to whom" }
                p.soft {
                    "Clients on the left, servers on the right; thicker is more connections, red is the share that failed."
                    @if pairs.len() > drawn.len() { " The " (drawn.len()) " pairs with the most of " (count(pairs.len() as u64)) "." }
                }
                div.wide { (picture(&drawn, WIDE)) }
                div.narrow { (picture(&drawn, NARROW)) }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "places on a drawing")]
fn picture(pairs: &[&Pair], size: Size) -> Markup {
    let clients = Column::of(pairs.iter().map(|pair| pair.ends.client.clone()));
    let servers = Column::of(pairs.iter().map(|pair| server(pair)));
    let rows = clients.0.len().max(servers.0.len());
    let most = pairs.iter().map(|pair| pair.figures.connections()).max().unwrap_or(1).max(1) as f64;
    let (from, to) = (size.names + 6.0, size.width - size.names - 6.0);
    html! {
        svg viewBox=(format!("0 0 {} {}", size.width, ROW * rows as f64 + 8.0)) role="img" aria-label="who talks to whom" {
            @for pair in pairs {
                @let (y1, y2) = (clients.y(&pair.ends.client), servers.y(&server(pair)));
                @let path = curve(from, y1, to, y2);
                @let width = 1.5 + 11.0 * (pair.figures.connections() as f64 / most).sqrt();
                @let failed = pair.figures.failed() as f64 / pair.figures.connections().max(1) as f64;
                g {
                    title { (said(pair)) }
                    path d=(path) fill="none" style="stroke:var(--good)" stroke-opacity="0.6" stroke-width=(format!("{width:.1}")) {}
                    @if failed > 0.0 {
                        path d=(path) fill="none" style="stroke:var(--refused)" stroke-opacity="0.9" stroke-width=(format!("{:.1}", (width * failed).max(1.2))) {}
                    }
                }
            }
            @for name in &clients.0 {
                text x=(size.names) y=(clients.y(name) + 4.0) text-anchor="end" { title { (name) } (fitted(name, size.characters)) }
            }
            @for name in &servers.0 {
                text x=(size.width - size.names) y=(servers.y(name) + 4.0) { title { (name) } (fitted(name, size.characters)) }
            }
        }
    }
}

fn curve(x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    let middle = f64::midpoint(x1, x2);
    format!("M{x1:.0} {y1:.1} C{middle:.0} {y1:.1} {middle:.0} {y2:.1} {x2:.0} {y2:.1}")
}

/// The server and its port, the port first: names are cut at their end.
pub(super) fn server(pair: &Pair) -> String {
    if pair.ends.port == 0 {
        pair.ends.server.clone()
    } else {
        format!(":{} {}", pair.ends.port, pair.ends.server)
    }
}

fn said(pair: &Pair) -> String {
    let figures = &pair.figures;
    format!(
        "{} to {}: {}, {} failed ({})",
        pair.ends.client,
        server(pair),
        counted(figures.connections(), "connection"),
        count(figures.failed()),
        share(figures.failed(), figures.connections())
    )
}
