//! The table of BCC's `tcpstates`, plain and wide, with the same columns at the same places. Behind the wide one
//! stand container and pod.

use kube_tcpstates_events::Line;

use super::MAX_LINE;
use super::append::{decimal, hex16, milliseconds, pad, state, zoned_address};
use super::cache::Cache;
use super::columns;
use super::ended::Ended;
use super::escape::terminal;
use super::event::{Event, comm};
use super::format::{Format, FormatEntry};
use super::summary_columns;
use super::text::{CONTAINER_COLUMN, Prefix, TextOptions, cell, owner_columns};
use crate::decode::{Endpoint, NetworkType};
use crate::filter::Mode;
use crate::names::Owner;

/// Width of MS before the two columns of our own; BCC's last column has none.
const MS_COLUMN: usize = 12;

/// `-o table`, also wide
pub(super) const FORMAT: FormatEntry = FormatEntry {
    name: "table",
    about: "Columns for people; of `trace` those of BCC",
    columns: true,
    longest: MAX_LINE,
    make: |options| Box::new(Table::new(&options.text)),
};

/// Writes transitions as lines of a table.
#[derive(Debug)]
pub struct Table {
    owners: Cache<Vec<u8>>,
    prefix: Prefix,
    wide: bool,
    kernel_addresses: bool,
    mode: Mode,
}

/// Widths that differ between the plain and the wide table.
const fn widths(wide: bool) -> (usize, usize) {
    if wide { (16, 39) } else { (10, 15) }
}

impl Table {
    /// A table with these columns.
    pub fn new(options: &TextOptions) -> Self {
        Self {
            owners: Cache::default(),
            prefix: Prefix::new(options),
            wide: options.wide,
            kernel_addresses: options.kernel_addresses,
            mode: options.mode,
        }
    }
}

impl Table {
    const fn summary_columns(&self) -> &'static [summary_columns::Column] {
        if self.wide { summary_columns::WIDE } else { summary_columns::TABLE }
    }

    fn owner(&mut self, out: &mut Vec<u8>, event: &Event<'_>) {
        match event.owner {
            Some(known) => out.extend_from_slice(self.owners.of(known, owner)),
            None => out.extend_from_slice(b"-            -"),
        }
    }
}

impl Format for Table {
    fn header(&self, out: &mut Vec<u8>) {
        let (comm, address) = widths(self.wide);
        if self.mode == Mode::Summary {
            return summary_columns::table_header(out, self.summary_columns());
        }
        self.prefix.header(out, false);
        if self.mode == Mode::Connections {
            columns::table_header(out, if self.wide { columns::WIDE } else { columns::TABLE });
            out.extend_from_slice(if self.wide { b" CONTAINER    POD\n" } else { b"\n" });
            return;
        }
        cell(out, 16, |out| out.extend_from_slice(b"SKADDR"));
        cell(out, 5, |out| out.extend_from_slice(b"C-PID"));
        cell(out, comm, |out| out.extend_from_slice(b"C-COMM"));
        if self.wide {
            cell(out, 2, |out| out.extend_from_slice(b"IP"));
        }
        for (name, port) in [(b"LADDR", b"LPORT"), (b"RADDR", b"RPORT")] {
            cell(out, address, |out| out.extend_from_slice(name));
            cell(out, 5, |out| out.extend_from_slice(port));
        }
        cell(out, 11, |out| out.extend_from_slice(b"OLDSTATE"));
        out.extend_from_slice(b"-> ");
        cell(out, 11, |out| out.extend_from_slice(b"NEWSTATE"));
        if self.wide {
            cell(out, MS_COLUMN, |out| out.extend_from_slice(b"MS"));
            cell(out, CONTAINER_COLUMN, |out| out.extend_from_slice(b"CONTAINER"));
            out.extend_from_slice(b"POD\n");
        } else {
            out.extend_from_slice(b"MS\n");
        }
    }

    fn transition(&mut self, out: &mut Vec<u8>, _: u64, event: &Event<'_>) {
        let (comm_width, address_width) = widths(self.wide);
        let transition = event.transition;
        self.prefix.values(out, event, b' ', 9);
        hex16(out, if self.kernel_addresses { transition.socket } else { event.connection_id });
        out.push(b' ');
        cell(out, 5, |out| decimal(out, transition.on_cpu.pid));
        cell(out, comm_width, |out| {
            terminal(out, comm(&transition.on_cpu.comm), comm_width);
        });
        if self.wide {
            cell(out, 2, |out| out.push(version(transition.family)));
        }
        for end in [transition.local, peer(event)] {
            cell(out, address_width, |out| zoned_address(out, end.address, transition.interface));
            cell(out, 5, |out| decimal(out, end.port));
        }
        cell(out, 11, |out| state(out, transition.old_state));
        out.extend_from_slice(b"-> ");
        cell(out, 11, |out| state(out, transition.new_state));
        let ns = transition.duration_ns.unwrap_or(0);
        if self.wide {
            cell(out, MS_COLUMN, |out| milliseconds(out, ns));
            self.owner(out, event);
        } else {
            milliseconds(out, ns);
        }
        out.push(b'\n');
    }

    fn connection(&mut self, out: &mut Vec<u8>, _: u64, event: &Event<'_>, ended: &Ended<'_>) {
        self.prefix.values(out, event, b' ', 9);
        columns::table_row(out, if self.wide { columns::WIDE } else { columns::TABLE }, event, ended);
        if self.wide {
            out.push(b' ');
            self.owner(out, event);
        }
        out.push(b'\n');
    }

    fn line(&self, out: &mut Vec<u8>, line: &Line) {
        if let Line::Summary(summary) = line {
            summary_columns::table_row(out, self.summary_columns(), summary);
        }
    }
}

/// The CONTAINER column, padded, one space, and the POD column.
pub(super) fn owner(owner: &Owner) -> Vec<u8> {
    let [mut out, pod] = owner_columns(owner);
    pad(&mut out, 0, CONTAINER_COLUMN);
    out.push(b' ');
    out.extend_from_slice(&pod);
    out
}

/// The IP column.
pub(super) const fn version(family: NetworkType) -> u8 {
    match family {
        NetworkType::Ipv4 => b'4',
        NetworkType::Ipv6 => b'6',
    }
}

/// BCC prints zeros for a peer that is not there.
pub(super) fn peer(event: &Event<'_>) -> Endpoint {
    event.transition.peer.unwrap_or(Endpoint {
        address: match event.transition.family {
            NetworkType::Ipv4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            NetworkType::Ipv6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        },
        port: 0,
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::{TimeZone, offset};

    use super::{Format as _, Table, TextOptions};
    use crate::render::fixtures::{Fixture, comm};

    fn render(options: &TextOptions, fixtures: &[Fixture]) -> String {
        let mut table = Table::new(options);
        let mut out = Vec::new();
        table.header(&mut out);
        for fixture in fixtures {
            table.transition(&mut out, 0, &fixture.event());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_plain_table_is_bccs() {
        let text =
            render(&TextOptions::default(), &[Fixture::client(), Fixture::listener(), Fixture::refused()]);
        assert_eq!(
            text,
            "\
SKADDR           C-PID C-COMM     LADDR           LPORT RADDR           RPORT OLDSTATE    -> NEWSTATE    MS
9f2c41d07be6a835 0     swapper/1  10.1.2.3        43512 10.9.8.7        443   SYN_SENT    -> ESTABLISHED 0.433
00000000000000a1 812   nginx: mas 0.0.0.0         8080  0.0.0.0         0     CLOSE       -> LISTEN      0.000
00000000000000b2 4242  curl       fd00:1::3       51000 fd00:1::7       81    SYN_SENT    -> CLOSE       1.204
"
        );
    }

    #[test]
    fn the_wide_table_is_bccs_with_container_and_pod_behind_it() {
        let options = TextOptions { wide: true, ..TextOptions::default() };
        let text = render(&options, &[Fixture::client(), Fixture::listener(), Fixture::refused()]);
        let expected = [
            "SKADDR           C-PID C-COMM           IP LADDR                                   LPORT \
             RADDR                                   RPORT OLDSTATE    -> NEWSTATE    MS           CONTAINER    POD",
            "9f2c41d07be6a835 0     swapper/1        4  10.1.2.3                                43512 \
             10.9.8.7                                443   SYN_SENT    -> ESTABLISHED 0.433        \
             4f1e0c9a7b21 shop/checkout-7d4f",
            "00000000000000a1 812   nginx: master p  4  0.0.0.0                                 8080  \
             0.0.0.0                                 0     CLOSE       -> LISTEN      0.000        \
             -            nginx.service",
            "00000000000000b2 4242  curl             6  fd00:1::3                               51000 \
             fd00:1::7                               81    SYN_SENT    -> CLOSE       1.204        \
             -            -",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_time_columns_stand_before_all_others() {
        let mut later = Fixture::client();
        later.transition.boot_ns += 12_345_678_499;
        let mut earlier = Fixture::client();
        earlier.transition.boot_ns -= 2_000;
        let options = TextOptions {
            time_of_day: Some(TimeZone::fixed(offset(1))),
            since_first: true,
            ..TextOptions::default()
        };
        let text = render(&options, &[Fixture::client(), later, earlier]);
        let starts: Vec<_> = text.lines().map(|line| &line[..26]).collect();
        assert_eq!(
            starts,
            [
                "TIME     TIME(s)   SKADDR ",
                "16:25:01 0.000000  9f2c41d",
                "16:25:01 12.345678 9f2c41d",
                "16:25:01 -0.000002 9f2c41d"
            ]
        );
    }

    #[test]
    fn the_sockets_address_shows_only_when_asked_for() {
        let options = TextOptions { kernel_addresses: true, ..TextOptions::default() };
        let text = render(&options, &[Fixture::client()]);
        assert!(text.contains("\nffff8881042ac000 0 "), "{text}");
        assert!(!render(&TextOptions::default(), &[Fixture::client()]).contains("ffff8881042ac000"));
    }

    #[test]
    fn a_hostile_comm_keeps_the_columns_and_sends_nothing_to_the_terminal() {
        for (name, shown) in [
            (b"\x1b]0;x\x07".as_slice(), r"\x1b]0;x   "),
            (b"a\nb\xffcdefghi", r"a\x0ab\xff "),
            ("żółw".as_bytes(), "żółw       "),
        ] {
            let mut fixture = Fixture::client();
            fixture.transition.on_cpu.comm = comm(name);
            let text = render(&TextOptions::default(), &[fixture]);
            let line = text.lines().nth(1).unwrap();
            assert_eq!(line.chars().skip(23).take(11).collect::<String>(), shown);
            assert!(line.contains(" 10.1.2.3 "));
        }
    }

    #[test]
    fn a_state_without_a_name_shows_its_number() {
        let mut fixture = Fixture::client();
        fixture.transition.new_state = kube_tcpstates_common::state::State(13);
        assert!(render(&TextOptions::default(), &[fixture]).contains("SYN_SENT    -> 13          0.433\n"));
    }
}
