//! Who talks to whom now.

use kube_tcpstates_events::terminal::{fine_time, short_count};

use super::{Column, Cut, head, number, row};
use crate::live::{About, Figures, Now};
use crate::paint::{Colour, Paint};

type Row = (About, Figures);
type Of = Column<Row>;

/// 120 columns.
const TABLE: &[Of] = &[
    Of::new("POD", 27, Cut::Start, |(about, _)| about.pod.clone()),
    Of::new("SIDE", 6, Cut::Never, |(about, _)| about.side.unwrap_or_default().to_owned()),
    Of::new("PEER", 26, Cut::Start, |(about, _)| about.peer.clone()),
    Of::new("PORT", 5, Cut::Number, |(about, _)| number(about.port)),
    Of::new("OPEN", 5, Cut::Number, |(_, figures)| short_count(figures.established)),
    Of::new("SYN", 4, Cut::Number, |(_, figures)| short_count(figures.opening)),
    Of::new("CLOSW", 5, Cut::Number, |(_, figures)| short_count(figures.close_wait)),
    Of::new("CONN/S", 6, Cut::Number, |(_, figures)| rate(figures.connections)),
    Of::new("FAIL/S", 6, Cut::Number, |(_, figures)| rate(figures.failed)).coloured(colour),
    Of::new("BYTES/S", 7, Cut::Number, |(_, figures)| bytes(figures.bytes)),
    Of::new("RETR/S", 6, Cut::Number, |(_, figures)| rate(figures.retransmits)),
    Of::new("HS-P99", 6, Cut::Number, |(_, figures)| figures.handshake_us.map(fine_time).unwrap_or_default()),
];

fn colour((_, figures): &Row) -> Colour {
    if figures.failed > 0.0 { Colour::Red } else { Colour::None }
}

/// What there is now: a line of all together, then at most so many rows.
pub(crate) fn live(now: &Now, at_most: usize, lost: u64, paint: Paint) -> Vec<u8> {
    let sum = now.sum();
    let plural = if now.nodes == 1 { "" } else { "s" };
    let mut out = format!(
        "{} node{plural}: {} open, {} connections/s, {} failed/s, {} bytes/s; {lost} transitions lost",
        now.nodes,
        sum.open() + now.left_out,
        rate(sum.connections),
        rate(sum.failed),
        bytes(sum.bytes),
    )
    .into_bytes();
    if now.left_out > 0 {
        out.extend_from_slice(format!("; {} open are in no row", now.left_out).as_bytes());
    }
    out.push(b'\n');
    head(&mut out, TABLE, paint);
    for shown in now.rows.iter().take(at_most) {
        row(&mut out, TABLE, shown, false, paint);
    }
    let more = now.rows.len().saturating_sub(at_most);
    if more > 0 {
        out.extend_from_slice(
            format!("and {more} more: --rows shows more, --sort others first\n").as_bytes(),
        );
    }
    out
}

/// Small ones with a tenth. At most six characters.
fn rate(a_second: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is none of both")]
    if a_second < 100.0 { format!("{a_second:.1}") } else { short_count(a_second.round() as u64) }
}

/// Whole ones.
fn bytes(a_second: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is none of both")]
    short_count(a_second.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::{bytes, fine_time, rate, short_count};

    #[test]
    fn numbers_keep_to_their_columns() {
        for (count, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10k"),
            (999_999, "999k"),
            (1_250_000, "1.2M"),
            (2_500_000_000, "2.5G"),
            (12_000_000_000_000, "12T"),
        ] {
            assert_eq!(short_count(count), text);
        }
        assert_eq!([0.0, 3.44, 99.96, 100.4, 15_000.0].map(rate), ["0.0", "3.4", "100.0", "100", "15k"]);
        assert_eq!([0.4, 85.5, 1_250_000.0].map(bytes), ["0", "86", "1.2M"]);
        assert_eq!([85, 1_250, 48_000].map(fine_time), ["85us", "1.2ms", "48ms"]);
    }
}
