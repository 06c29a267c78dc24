//! The timeline: how many connections ended when, and how.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use maud::{Markup, html};

use super::words::{count, counted, duration};
use crate::accounts::Key;
use crate::figures::sum;
use crate::outcome::{ByOutcome, OUTCOMES, failed};
use crate::take::Report;
use crate::timeline::{Slice, Timeline};
use crate::who::Side;

/// One drawing of a timeline; there is one for wide pages and one for narrow ones.
#[derive(Clone, Copy)]
struct Size {
    width: f64,
    height: f64,
    ticks: usize,
}

const WIDE: Size = Size { width: 1100.0, height: 150.0, ticks: 8 };
const NARROW: Size = Size { width: 340.0, height: 120.0, ticks: 3 };
/// Room for the number at the axis, and for times below it.
const LEFT: f64 = 44.0;
const BELOW: f64 = 18.0;

/// Gives all of them one axis: what clients and servers tell of a moment stands one below the other.
pub(super) fn align(timelines: &mut BTreeMap<Key, Timeline>) {
    let ends: Vec<_> = timelines.values().filter_map(Timeline::ends).flatten().collect();
    let Some((first, last)) = ends.iter().min().zip(ends.iter().max()) else { return };
    for timeline in timelines.values_mut() {
        timeline.reach([*first, *last]);
    }
}

pub(super) fn section(report: &Report) -> Markup {
    let sides = [
        (Side::Client, "as clients tell it"),
        (Side::Server, "as servers tell it"),
        (Side::Unknown, "of sides that are not known"),
    ];
    let told: Vec<_> = sides.into_iter().filter_map(|(side, name)| best(report, side, name)).collect();
    let mut all = ByOutcome::default();
    for slice in told.iter().flat_map(|(_, timeline)| timeline.slices()) {
        all.iter_mut().zip(slice.by_outcome).for_each(|(all, one)| *all = all.saturating_add(one));
    }
    html! {
        section {
            h2 { "Connections and failures over time" }
            @if told.is_empty() {
                p.soft { "No connection ended." }
            }
            @for (name, timeline) in &told {
                (panel(name, timeline))
            }
            ul.legend {
                @for (place, name) in OUTCOMES.iter().enumerate().filter(|(place, _)| all[*place] > 0) {
                    li { i style=(format!("background:var(--{name})")) {} (name) " " (count(all[place])) }
                }
            }
        }
    }
}

/// What the account of this side that tells of the most connections tells, and whose it is.
fn best(report: &Report, side: Side, name: &str) -> Option<(String, Timeline)> {
    let of_side = || report.timelines.iter().filter(|(key, _)| key.side == side);
    let account = report.sets.best(of_side().map(|(key, timeline)| (*key, timeline.ended())))?;
    let mut best = Timeline::default();
    for (_, timeline) in of_side().filter(|(key, _)| report.sets.are_of(**key, account)) {
        best.merge(timeline);
    }
    let trace = report.sets.name(account);
    let name = trace.map_or_else(|| name.to_owned(), |trace| format!("{name} in lines of {trace}"));
    Some((name, best))
}

fn panel(name: &str, timeline: &Timeline) -> Markup {
    let slices = timeline.slices();
    let width = duration(timeline.width_s() * 1_000_000);
    let ended = sum(slices.iter().flat_map(|slice| slice.by_outcome));
    let failures = sum(slices.iter().map(|slice| failed(&slice.by_outcome)));
    html! {
        p.soft { "Ended, " (name) ", by " (width) "." }
        div.wide { (drawn(&slices, timeline.width_s(), WIDE, false)) }
        div.narrow { (drawn(&slices, timeline.width_s(), NARROW, false)) }
        // Where most fail the first drawing shows them well enough.
        @if failures > 0 && failures < ended / 2 {
            p.soft { "The failures alone:" }
            div.wide { (drawn(&slices, timeline.width_s(), WIDE, true)) }
            div.narrow { (drawn(&slices, timeline.width_s(), NARROW, true)) }
        }
    }
}

/// Bars by time, failures at the bottom, where they are seen.
#[expect(clippy::cast_precision_loss, reason = "places on a drawing")]
fn drawn(slices: &[Slice], width_s: u64, size: Size, only_failures: bool) -> Markup {
    let first = usize::from(only_failures);
    let height_of = |slice: &Slice| sum(slice.by_outcome[first..].iter().copied());
    let most = slices.iter().map(height_of).max().unwrap_or(0).max(1);
    let (across, up) = (size.width - LEFT, size.height - BELOW - 10.0);
    let step = across / slices.len().max(1) as f64;
    let y_of = |number: u64| 10.0 + up * (1.0 - number as f64 / most as f64);
    let tick_every = slices.len().div_ceil(size.ticks).max(1);
    html! {
        svg viewBox=(format!("0 0 {} {}", size.width, size.height)) role="img" aria-label="connections over time" {
            line.axis x1=(LEFT) y1=(y_of(0)) x2=(size.width) y2=(y_of(0)) {}
            line.axis x1=(LEFT) y1=(y_of(most)) x2=(size.width) y2=(y_of(most)) {}
            text.soft x=(LEFT - 6.0) y=(y_of(most) + 4.0) text-anchor="end" { (count(most)) }
            text.soft x=(LEFT - 6.0) y=(y_of(0)) text-anchor="end" { "0" }
            @for (place, slice) in slices.iter().enumerate() {
                @let x = LEFT + step * place as f64;
                @if height_of(slice) > 0 {
                    g { title { (said(slice)) } (bar(slice, x, (step * 0.86).min(40.0), first, &y_of)) }
                }
                @if place % tick_every == 0 {
                    text.soft x=(format!("{x:.1}")) y=(size.height - 4.0) { (clock(slice.start_s, width_s)) }
                }
            }
        }
    }
}

fn bar(slice: &Slice, x: f64, width: f64, first: usize, y_of: &dyn Fn(u64) -> f64) -> Markup {
    let mut below = 0_u64;
    let mut parts = Vec::new();
    // From the failures up; the orderly ends are the first of the outcomes and go on top.
    for place in (first.max(1)..OUTCOMES.len()).chain((first == 0).then_some(0)) {
        let number = slice.by_outcome[place];
        if number == 0 {
            continue;
        }
        let (top, bottom) = (y_of(below.saturating_add(number)), y_of(below));
        // One failure among thousands must still be seen.
        parts.push((place, top.min(bottom - 1.5), bottom));
        below = below.saturating_add(number);
    }
    html! {
        @for (place, top, bottom) in parts {
            rect x=(format!("{x:.1}")) y=(format!("{top:.1}")) width=(format!("{:.1}", width.max(0.8)))
                height=(format!("{:.1}", bottom - top)) style=(format!("fill:var(--{})", OUTCOMES[place])) {}
        }
    }
}

fn said(slice: &Slice) -> String {
    let ended = sum(slice.by_outcome);
    let mut text = format!("{}: {}", clock(slice.start_s, 1), counted(ended, "connection"));
    for (name, number) in OUTCOMES.iter().zip(slice.by_outcome).filter(|(_, number)| *number > 0) {
        let _ = write!(text, ", {name} {}", count(number));
    }
    text
}

/// Time of day; the day, where slices are days.
fn clock(second: u64, width_s: u64) -> String {
    let time = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
    let format = match width_s {
        0..60 => "%H:%M:%S",
        60..21_600 => "%H:%M",
        _ => "%m-%d %H:%M",
    };
    time.map_or_else(String::new, |time| time.strftime(format).to_string())
}
