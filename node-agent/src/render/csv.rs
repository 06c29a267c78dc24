//! BCC's CSV, with the quotes of RFC 4180 where a value needs them.

use kube_tcpstates_events::Line;

use super::MAX_LINE;
use super::append::{decimal, hex16, milliseconds, state, zoned_address};
use super::cache::Cache;
use super::columns;
use super::ended::Ended;
use super::escape::terminal;
use super::event::{Event, comm};
use super::format::{Format, FormatEntry};
use super::summary_columns;
use super::table::{peer, version};
use super::text::{Prefix, TextOptions, owner_columns};
use crate::filter::Mode;
use crate::names::Owner;

/// `-o csv`
pub(super) const FORMAT: FormatEntry = FormatEntry {
    name: "csv",
    about: "Comma-separated values",
    columns: true,
    longest: MAX_LINE,
    make: |options| Box::new(Csv::new(&options.text)),
};

/// Writes transitions as CSV records that end in a newline.
#[derive(Debug)]
pub struct Csv {
    owners: Cache<Vec<u8>>,
    prefix: Prefix,
    wide: bool,
    kernel_addresses: bool,
    mode: Mode,
    /// A field before it is quoted.
    scratch: Vec<u8>,
}

impl Csv {
    /// CSV with these columns.
    pub fn new(options: &TextOptions) -> Self {
        Self {
            owners: Cache::default(),
            prefix: Prefix::new(options),
            wide: options.wide,
            kernel_addresses: options.kernel_addresses,
            mode: options.mode,
            scratch: Vec::new(),
        }
    }
}

impl Csv {
    /// Container and pod, if they are shown, and the end of the line.
    fn end(&mut self, out: &mut Vec<u8>, event: &Event<'_>) {
        if self.wide {
            match event.owner {
                Some(known) => out.extend_from_slice(self.owners.of(known, owner)),
                None => out.extend_from_slice(b",,"),
            }
        }
        out.push(b'\n');
    }
}

impl Format for Csv {
    fn header(&self, out: &mut Vec<u8>) {
        if self.mode == Mode::Summary {
            return summary_columns::csv_header(out);
        }
        self.prefix.header(out, true);
        if self.mode == Mode::Connections {
            columns::csv_header(out, columns::CSV);
        } else {
            out.extend_from_slice(b"SKADDR,C-PID,C-COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS");
        }
        if self.wide {
            out.extend_from_slice(b",CONTAINER,POD");
        }
        out.push(b'\n');
    }

    fn transition(&mut self, out: &mut Vec<u8>, _: u64, event: &Event<'_>) {
        let transition = event.transition;
        self.prefix.values(out, event, b',', 0);
        hex16(out, if self.kernel_addresses { transition.socket } else { event.connection_id });
        out.push(b',');
        decimal(out, transition.on_cpu.pid);
        out.push(b',');
        self.scratch.clear();
        terminal(&mut self.scratch, comm(&transition.on_cpu.comm), usize::MAX);
        field(out, &self.scratch);
        out.extend_from_slice(&[b',', version(transition.family), b',']);
        for end in [transition.local, peer(event)] {
            zoned_address(out, end.address, transition.interface);
            out.push(b',');
            decimal(out, end.port);
            out.push(b',');
        }
        state(out, transition.old_state);
        out.push(b',');
        state(out, transition.new_state);
        out.push(b',');
        milliseconds(out, transition.duration_ns.unwrap_or(0));
        self.end(out, event);
    }

    fn connection(&mut self, out: &mut Vec<u8>, _: u64, event: &Event<'_>, ended: &Ended<'_>) {
        self.prefix.values(out, event, b',', 0);
        columns::csv_row(out, columns::CSV, event, ended, &mut self.scratch);
        self.end(out, event);
    }

    fn line(&self, out: &mut Vec<u8>, line: &Line) {
        if let Line::Summary(summary) = line {
            summary_columns::csv_row(out, summary);
        }
    }
}

/// Its two columns, with a comma in front of each.
pub(super) fn owner(owner: &Owner) -> Vec<u8> {
    let [container, pod] = owner_columns(owner);
    let mut out = Vec::new();
    for column in [&container, &pod] {
        out.push(b',');
        // Nothing known is an empty field, as CSV readers expect it.
        if column.as_slice() != b"-" {
            field(&mut out, column);
        }
    }
    out
}

/// One field; quoted if it holds what would end it. Line breaks are spelled out before they come here.
pub(super) fn field(out: &mut Vec<u8>, text: &[u8]) {
    if !text.iter().any(|byte| matches!(byte, b',' | b'"')) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use proptest::prelude::*;

    use super::{Csv, Format as _, TextOptions, field};
    use crate::render::fixtures::{Fixture, comm};

    fn render(options: &TextOptions, fixtures: &[Fixture]) -> String {
        let mut csv = Csv::new(options);
        let mut out = Vec::new();
        csv.header(&mut out);
        for fixture in fixtures {
            csv.transition(&mut out, 0, &fixture.event());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_is_bccs() {
        let text =
            render(&TextOptions::default(), &[Fixture::client(), Fixture::listener(), Fixture::refused()]);
        assert_eq!(
            text,
            "\
SKADDR,C-PID,C-COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS
9f2c41d07be6a835,0,swapper/1,4,10.1.2.3,43512,10.9.8.7,443,SYN_SENT,ESTABLISHED,0.433
00000000000000a1,812,nginx: master p,4,0.0.0.0,8080,0.0.0.0,0,CLOSE,LISTEN,0.000
00000000000000b2,4242,curl,6,fd00:1::3,51000,fd00:1::7,81,SYN_SENT,CLOSE,1.204
"
        );
    }

    #[test]
    fn wide_adds_container_and_pod_and_the_times_stand_first() {
        let options = TextOptions {
            wide: true,
            time_of_day: Some(TimeZone::UTC),
            since_first: true,
            ..TextOptions::default()
        };
        assert_eq!(
            render(&options, &[Fixture::client(), Fixture::refused()]),
            "\
TIME,TIME(s),SKADDR,C-PID,C-COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS,CONTAINER,POD
15:25:01,0.000000,9f2c41d07be6a835,0,swapper/1,4,10.1.2.3,43512,10.9.8.7,443,SYN_SENT,ESTABLISHED,0.433,\
4f1e0c9a7b21,shop/checkout-7d4f
15:25:01,0.000000,00000000000000b2,4242,curl,6,fd00:1::3,51000,fd00:1::7,81,SYN_SENT,CLOSE,1.204,,
"
        );
    }

    #[test]
    fn a_comm_with_commas_quotes_and_line_breaks_stays_one_field() {
        for (name, shown) in [
            (b"a,b".as_slice(), r#","a,b","#),
            (b"say \"hi\"", r#","say ""hi""","#),
            (b"a\r\nb", r",a\x0d\x0ab,"),
            (b"\x1b[2J", r",\x1b[2J,"),
        ] {
            let mut fixture = Fixture::client();
            fixture.transition.on_cpu.comm = comm(name);
            let text = render(&TextOptions::default(), &[fixture]);
            assert!(text.lines().nth(1).unwrap().contains(shown), "{text}");
        }
    }

    /// The fields of a line, as RFC 4180 reads them.
    fn fields(line: &str) -> Vec<String> {
        let (mut fields, mut is_quoted) = (vec![String::new()], false);
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if is_quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    fields.last_mut().unwrap().push('"');
                }
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => fields.push(String::new()),
                _ => fields.last_mut().unwrap().push(character),
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn fields_of_any_text_are_read_back_as_they_were(
            texts in prop::collection::vec("([,\"]|\\PC){0,9}", 1..5),
        ) {
            let mut out = Vec::new();
            for (place, text) in texts.iter().enumerate() {
                out.extend_from_slice(if place > 0 { b"," } else { b"" });
                field(&mut out, text.as_bytes());
            }
            prop_assert_eq!(fields(str::from_utf8(&out).unwrap()), texts);
        }
    }
}
