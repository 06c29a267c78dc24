//! What the table and CSV have in common: BCC's columns, and the two that can stand before them.

use jiff::tz::TimeZone;

use super::append::{decimal, fraction, pad};
use super::escape::terminal;
use super::event::Event;
use super::time::LocalClock;
use crate::filter::Mode;
use crate::names::Owner;

/// Width of the table's CONTAINER column.
pub(super) const CONTAINER_COLUMN: usize = 12;
/// Characters of the table's POD column at most.
const POD_COLUMN: usize = 80;

/// Options of the table and of CSV.
#[derive(Clone, Debug, Default)]
pub struct TextOptions {
    /// `-w`: IP version, room for IPv6, container and pod. For CSV, which always has the first two: container and
    /// pod.
    pub wide: bool,
    /// What is shown: transitions, connections that have ended, or summaries.
    pub mode: Mode,
    /// `-T`: a column with the time of day in this zone.
    pub time_of_day: Option<TimeZone>,
    /// `-t`: a column with the seconds since the first line.
    pub since_first: bool,
    /// `--kernel-addresses`: SKADDR is the socket's address instead of the connection id.
    pub kernel_addresses: bool,
}

/// The columns before BCC's.
#[derive(Debug)]
pub(super) struct Prefix {
    time_of_day: Option<LocalClock>,
    since_first: bool,
    /// `CLOCK_BOOTTIME` of the first line, ns.
    first_ns: Option<u64>,
}

impl Prefix {
    pub(super) fn new(options: &TextOptions) -> Self {
        let time_of_day = options.time_of_day.clone().map(LocalClock::new);
        Self { time_of_day, since_first: options.since_first, first_ns: None }
    }

    /// The columns' names: in the table padded as their values are, in CSV with a comma behind.
    pub(super) fn header(&self, out: &mut Vec<u8>, csv: bool) {
        for (wanted, in_csv, in_table) in
            [(self.time_of_day.is_some(), "TIME,", "TIME     "), (self.since_first, "TIME(s),", "TIME(s)   ")]
        {
            if wanted {
                out.extend_from_slice(if csv { in_csv } else { in_table }.as_bytes());
            }
        }
    }

    /// The columns' values. Each is followed by `separator`; a `width` for the seconds pads them.
    pub(super) fn values(&mut self, out: &mut Vec<u8>, event: &Event<'_>, separator: u8, width: usize) {
        if let Some(clock) = &mut self.time_of_day {
            clock.append(out, event.unix_ns);
            out.push(separator);
        }
        if self.since_first {
            let now_ns = event.transition.boot_ns;
            let first_ns = *self.first_ns.get_or_insert(now_ns);
            let start = out.len();
            // A CPU can be a little behind the one that had the first event.
            if now_ns < first_ns {
                out.push(b'-');
            }
            let us = (now_ns.abs_diff(first_ns) + 500) / 1000;
            decimal(out, us / 1_000_000);
            out.push(b'.');
            fraction(out, us % 1_000_000, 6);
            pad(out, start, width);
            out.push(separator);
        }
    }
}

/// A left-aligned column and the space behind it.
pub(super) fn cell(out: &mut Vec<u8>, width: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    pad(out, start, width);
    out.push(b' ');
}

/// Takes off the spaces behind the last column.
pub(super) fn trim(out: &mut Vec<u8>) {
    while out.last() == Some(&b' ') {
        out.pop();
    }
}

/// The two columns as text for a terminal, `-` where there is nothing to show.
pub(super) fn owner_columns(owner: &Owner) -> [Vec<u8>; 2] {
    let container = owner.container_id.clone().unwrap_or_default();
    [(container, CONTAINER_COLUMN), (pod_column(owner), POD_COLUMN)].map(|(text, max)| {
        let mut out = Vec::new();
        if terminal(&mut out, text.as_bytes(), max) == 0 {
            out.push(b'-');
        }
        out
    })
}

/// The POD column: `namespace/name`, else the UID; for a process of the host its unit, else its slice.
fn pod_column(owner: &Owner) -> String {
    match (&owner.namespace, &owner.pod_name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name.clone(),
        _ => {
            let known = [&owner.pod_uid, &owner.host_unit, &owner.host_slice];
            known.into_iter().find_map(Clone::clone).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::names::Owner;
    use crate::render::{csv, table};

    #[test]
    fn columns_show_the_best_name_there_is() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (Owner::default(), "-            -", ",,"),
            (
                Owner { container_id: some("0123456789abcdef"), pod_uid: some("uid"), ..Owner::default() },
                "0123456789ab uid",
                ",0123456789ab,uid",
            ),
            (
                Owner {
                    pod_uid: some("uid"),
                    namespace: some("shop"),
                    pod_name: some("cart-0"),
                    ..Owner::default()
                },
                "-            shop/cart-0",
                ",,shop/cart-0",
            ),
            (
                Owner { host_slice: some("system.slice"), ..Owner::default() },
                "-            system.slice",
                ",,system.slice",
            ),
            (
                Owner { host_unit: some("a\x1b[31m,b"), ..Owner::default() },
                r"-            a\x1b[31m,b",
                r#",,"a\x1b[31m,b""#,
            ),
        ];
        for (owner, in_table, in_csv) in cases {
            assert_eq!(String::from_utf8(table::owner(&owner)).unwrap(), in_table);
            assert_eq!(String::from_utf8(csv::owner(&owner)).unwrap(), in_csv);
        }
    }
}
