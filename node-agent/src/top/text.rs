//! Columns, units and the plain table.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use kube_tcpstates_events::terminal::{fine_time, short_count};

use super::{
    model::Model,
    rows::{About, Row},
};

/// Columns of a plain table.
const WIDTH: usize = 120;
/// Width of everything but owner and other end, with what stands between.
const FIXED: usize = WIDTH - 18 - 22;
/// Least that is left for each of them.
const LEAST: usize = 8;

/// Of one row: name, width, value. The first and the third share what is left of the width.
struct Column(&'static str, usize, fn(&About, &Row, &Model) -> String);

const COLUMNS: [Column; 14] = [
    Column("OWNER", 0, |about, _, _| owner(about).to_owned()),
    Column("SIDE", 6, |(.., side), _, _| side.as_str().to_owned()),
    Column("PEER", 0, |about, _, _| address(about)),
    Column("PORT", 5, |(_, _, port, _), _, _| if *port == 0 { "-".to_owned() } else { port.to_string() }),
    Column("OPEN", 5, |_, row, model| known(model, row.states.established)),
    Column("SYN", 5, |_, row, model| known(model, row.states.opening)),
    Column("CLOSW", 5, |_, row, model| known(model, row.states.close_wait)),
    Column("FIN", 5, |_, row, model| known(model, row.states.closing)),
    Column("TIMEW", 5, |_, row, model| known(model, row.states.time_wait)),
    Column("CONN/S", 6, |_, row, model| rate(row.sums.connections, model.span_ns())),
    Column("FAIL/S", 6, |_, row, model| rate(row.sums.failed(), model.span_ns())),
    Column("BYTES/S", 7, |_, row, model| bytes(per_second(bytes_of(row), model.span_ns()))),
    Column("HS-P50", 6, |_, row, _| time(row.sums.handshake_quantile(50))),
    Column("HS-P99", 6, |_, row, _| time(row.sums.handshake_quantile(99))),
];

/// The owner's name; of those that were not kept apart, what stands for it.
pub(super) fn owner((owner, ..): &About) -> &str {
    owner
}

/// The other end's address.
pub(super) fn address((_, peer, ..): &About) -> String {
    peer.as_ref().map_or_else(|| "-".to_owned(), IpAddr::to_string)
}

/// Everything as plain text: a line of what it is, a line of names, a line for each row.
pub fn plain(model: &Model) -> String {
    let mut text = String::new();
    for line in head(model).into_iter().chain([names(WIDTH)]) {
        text += line.trim_end();
        text.push('\n');
    }
    for (about, row) in model.shown() {
        text += line(model, about, row, WIDTH).trim_end();
        text.push('\n');
    }
    text
}

/// What the whole look was.
pub(super) fn head(model: &Model) -> [String; 2] {
    let (lost, seen) = model.losses();
    let mut sum = Row::default();
    let mut count = 0;
    for (_, row) in model.shown() {
        sum.sums.join(&row.sums);
        sum.states.join(&row.states);
        count += 1;
    }
    let span = Duration::from_nanos(model.span_ns()).as_secs_f64();
    let first = format!(
        "{count} rows in {span:.1} s: {} open, {} connections/s, {} failed/s, {} bytes/s",
        known(model, sum.states.open()),
        rate(sum.sums.connections, model.span_ns()),
        rate(sum.sums.failed(), model.span_ns()),
        bytes(per_second(bytes_of(&sum), model.span_ns())),
    );
    [first, format!("lost: {lost} of {seen} transitions")]
}

/// The names of the columns.
pub(super) fn names(width: usize) -> String {
    join(COLUMNS.iter().map(|Column(name, ..)| (*name).to_owned()), width)
}

/// A row.
pub(super) fn line(model: &Model, about: &About, row: &Row, width: usize) -> String {
    join(COLUMNS.iter().map(|Column(_, _, value)| value(about, row, model)), width)
}

/// Values side by side: texts to the left, numbers to the right.
fn join(values: impl Iterator<Item = String>, width: usize) -> String {
    let free = width.saturating_sub(FIXED).max(2 * LEAST);
    let owner = (free * 18 / 40).max(LEAST);
    let mut text = String::new();
    for (place, (value, Column(_, fixed, _))) in values.zip(&COLUMNS).enumerate() {
        let (width, left) = match place {
            0 => (owner, true),
            2 => (free - owner, true),
            1 => (*fixed, true),
            _ => (*fixed, false),
        };
        let value = cut(&value, width);
        let before = if place == 0 { "" } else { " " };
        // A string takes every write.
        let _ = if left {
            write!(text, "{before}{value:<width$}")
        } else {
            write!(text, "{before}{value:>width$}")
        };
    }
    text
}

/// As much of a text as there is room for.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn known(model: &Model, count: u64) -> String {
    if model.knows_open() { short_count(count) } else { "-".to_owned() }
}

fn bytes_of(row: &Row) -> u64 {
    row.sums.sent.saturating_add(row.sums.received)
}

/// In tenths.
fn per_second(count: u64, span_ns: u64) -> u64 {
    let tenths = u128::from(count) * 10_000_000_000 / u128::from(span_ns.max(1));
    if span_ns == 0 { 0 } else { u64::try_from(tenths).unwrap_or(u64::MAX) }
}

/// So many a second: small numbers with a tenth.
fn rate(count: u64, span_ns: u64) -> String {
    let tenths = per_second(count, span_ns);
    if tenths < 1_000 { format!("{}.{}", tenths / 10, tenths % 10) } else { short_count(tenths / 10) }
}

fn bytes(tenths: u64) -> String {
    short_count(tenths / 10)
}

/// At most six characters.
fn time(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us @ 100_000_000..) => format!("{}s", us / 1_000_000),
        Some(us) => fine_time(us),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, cut, rate, short_count, time};

    #[test]
    fn numbers_keep_to_their_columns() {
        for (count, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (12_345_678, "12M"),
            (2_500_000_000, "2.5G"),
            (1_200_000_000_000, "1T"),
        ] {
            assert_eq!(short_count(count), text);
        }
        assert_eq!(rate(7, 2_000_000_000), "3.5");
        assert_eq!(rate(300, 2_000_000_000), "150");
        assert_eq!(rate(1, 0), "0.0", "the first look knows no rates");
        assert_eq!(bytes(15_000_000), "1.5M");
        let times = [None, Some(85), Some(1_250), Some(48_000), Some(1_040_000), Some(127_000_000)];
        assert_eq!(times.map(time), ["-", "85us", "1.2ms", "48ms", "1.0s", "127s"]);
        assert_eq!(cut("checkout", 5), "chec…");
    }
}
