//! Lines of a stream, none of which can take more memory than a line of ours would.

use std::io::{BufRead, ErrorKind, Result};

use crate::take::Report;

/// A line of ours is far shorter (16 KiB at most). What is longer is none.
const LINE_AT_MOST: usize = 1 << 20;

impl Report {
    /// Takes in all lines of a stream, to its end.
    pub fn read(&mut self, mut stream: impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        let mut is_too_long = false;
        loop {
            let (taken, is_end) = match stream.fill_buf() {
                Ok([]) => break,
                Ok(bytes) => {
                    let end = memchr(bytes);
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    // Most lines are whole in the buffer, and need not be copied.
                    if end.is_some() && line.is_empty() && !is_too_long {
                        self.line(part);
                    } else if is_too_long || line.len() + part.len() > LINE_AT_MOST {
                        line.clear();
                        is_too_long = true;
                    } else {
                        line.extend_from_slice(part);
                    }
                    (part.len() + usize::from(end.is_some()), end.is_some())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            stream.consume(taken);
            if is_end && (is_too_long || !line.is_empty()) {
                self.whole(&mut line, &mut is_too_long);
            }
        }
        let in_a_line = is_too_long || !line.is_empty();
        if in_a_line {
            self.whole(&mut line, &mut is_too_long);
        }
        self.end_of_file(in_a_line);
        Ok(())
    }

    fn whole(&mut self, line: &mut Vec<u8>, is_too_long: &mut bool) {
        // Not even the beginning of a line that long is kept: it is none of ours.
        self.line(if std::mem::take(is_too_long) { b"-" } else { line });
        line.clear();
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::LINE_AT_MOST;
    use crate::{Options, Report};

    fn line(seq: u64) -> String {
        format!(
            r#"{{"time":"2026-11-27T11:56:05Z","tcpstates":{{"type":"connection","schema":"tcpstates.dev/events/v1","run":"a","seq":{seq},"outcome":"closed","role":"client"}},"network":{{"peer":{{"address":"10.0.0.1","port":80}}}}}}"#
        )
    }

    fn read(text: &[u8], buffer: usize) -> Report {
        let mut report = Report::new(Options::default());
        report.read(BufReader::with_capacity(buffer, text)).unwrap();
        report
    }

    proptest! {
        #[test]
        fn lines_are_the_same_whatever_the_buffer(buffer in 1_usize..2000) {
            let text = format!("{}\nnot ours\n\n[pod/a/agent] {}\n", line(1), line(2));
            let input = read(text.as_bytes(), buffer).input;
            prop_assert_eq!((input.lines, input.ours, input.foreign, input.cut), (3, 2, 1, 0));
        }
    }

    #[test]
    fn a_file_that_is_cut_is_told_and_one_that_only_lacks_its_last_line_end_is_not() {
        let whole = format!("{}\n{}", line(1), line(2));
        let input = read(whole.as_bytes(), 100).input;
        assert_eq!((input.ours, input.foreign, input.cut), (2, 0, 0));
        let input = read(&whole.as_bytes()[..whole.len() - 20], 100).input;
        assert_eq!((input.ours, input.foreign, input.cut), (1, 0, 1));
    }

    #[test]
    fn figures_too_large_to_add_up_are_the_largest_there_is() {
        let most = u64::MAX;
        let connection = |seq: u64| {
            format!(
                r#"{{"time":"2026-11-27T11:56:05Z","tcpstates":{{"type":"connection","schema":"tcpstates.dev/events/v1","run":"a","seq":{seq},"outcome":"refused","role":"client","sent":{{"bytes":{most}}},"received":{{"bytes":{most}}},"retransmits":{most}}},"network":{{"peer":{{"address":"10.0.0.1","port":80}}}}}}"#
            )
        };
        let summary = |seq: u64| {
            format!(
                r#"{{"time":"2026-11-27T11:56:05Z","tcpstates":{{"type":"summary","schema":"tcpstates.dev/events/v1","run":"a","seq":{seq},"role":"client","summary":{{"connections":{most},"by_outcome":{{"closed":{most},"refused":{most}}},"handshake":{{"count":{most},"mean_us":{most},"max_us":{most}}}}}}},"network":{{"peer":{{"address":"10.0.0.1","port":80}}}}}}"#
            )
        };
        let lines = [connection(0), connection(most), summary(most - 1), summary(3)].join("\n");
        let report = read(lines.as_bytes(), 8192);
        assert_eq!((report.input.ours, report.input.twice), (4, 0));
        assert!(report.page().contains("18,446,744,073,709,551,615"));
        // Without a connection the drawing is of what summaries tell.
        assert!(read(summary(1).as_bytes(), 8192).page().contains("18,446,744,073,709,551,615"));
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_is_passed_over() {
        let mut text = vec![b'{'; 3 * LINE_AT_MOST];
        text.extend_from_slice(format!("\n{}\n", line(1)).as_bytes());
        let input = read(&text, 8192).input;
        assert_eq!((input.lines, input.ours, input.foreign), (2, 1, 1));
    }
}
