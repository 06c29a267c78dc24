//! Who talks to whom, drawn: clients on the left, servers on the right, a band for each pair.

use std::borrow::Cow;

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
    let home = home(&drawn);
    html! {
        @if !drawn.is_empty() {
            section {
                h2 { "Who talks to whom" }
                p.soft {
                    "Clients on the left, servers on the right; thicker is more connections, red is the share that failed."
                    @if pairs.len() > drawn.len() { " The " (drawn.len()) " pairs with the most of " (count(pairs.len() as u64)) "." }
                    @if let Some(home) = home { " Names are of the namespace " (home) "." }
                }
                div.wide { (picture(&drawn, home, WIDE)) }
                div.narrow { (picture(&drawn, home, NARROW)) }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "places on a drawing")]
fn picture(pairs: &[&Pair], home: Option<&str>, size: Size) -> Markup {
    let clients = Column::of(pairs.iter().map(|pair| pair.ends.client.clone()));
    let servers = Column::of(pairs.iter().map(|pair| server(pair)));
    let rows = clients.0.len().max(servers.0.len());
    let most = pairs.iter().map(|pair| pair.figures.connections()).max().unwrap_or(1).max(1) as f64;
    let (from, to) = (size.names + 6.0, size.width - size.names - 6.0);
    let short = |name: &str| fitted(&at_home(name, home), size.characters);
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
                text x=(size.names) y=(clients.y(name) + 4.0) text-anchor="end" { title { (name) } (short(name)) }
            }
            @for name in &servers.0 {
                text x=(size.width - size.names) y=(servers.y(name) + 4.0) { title { (name) } (short(name)) }
            }
        }
    }
}

/// The namespace that all have who are of one.
fn home<'a>(pairs: &[&'a Pair]) -> Option<&'a str> {
    let names = pairs.iter().flat_map(|pair| [&pair.ends.client, &pair.ends.server]);
    let mut namespaces = names.filter_map(|name| Some(name.split_once('/')?.0));
    let first = namespaces.next()?;
    namespaces.all(|namespace| namespace == first).then_some(first)
}

/// A name, a server's behind its port, without that namespace: there is room for little.
fn at_home<'a>(name: &'a str, home: Option<&str>) -> Cow<'a, str> {
    let (port, rest) = match name.split_once(' ') {
        Some((port, rest)) if port.starts_with(':') => (port, rest),
        _ => ("", name),
    };
    let short = home.and_then(|home| rest.strip_prefix(home)?.strip_prefix('/'));
    match short {
        Some(short) if port.is_empty() => Cow::Borrowed(short),
        Some(short) => Cow::Owned(format!("{port} {short}")),
        None => Cow::Borrowed(name),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_the_namespace_that_all_have() {
        let short = |name| at_home(name, Some("shop")).into_owned();
        assert_eq!([short("shop/pod/cart"), short(":80 shop/pod/cart")], ["pod/cart", ":80 pod/cart"]);
        assert_eq!([short("10.0.0.1"), short(":80 shopping/pod/x")], ["10.0.0.1", ":80 shopping/pod/x"]);
        assert_eq!(at_home("shop/pod/cart", None), "shop/pod/cart");
    }
}
