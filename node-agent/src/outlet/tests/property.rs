//! Any order of offers, flushes and reads.

use std::io::{PipeReader, Read};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Events { lines: u32, length: usize, times: usize },
    Control { length: usize },
    Flush,
    Read { bytes: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u32..=4, 1_usize..=MAX_LINE, 1_usize..60)
            .prop_map(|(lines, length, times)| Step::Events { lines, length, times }),
        1 => (2_usize..MAX_LINE).prop_map(|length| Step::Control { length }),
        2 => Just(Step::Flush),
        3 => (1_usize..100_000).prop_map(|bytes| Step::Read { bytes }),
    ];
    prop::collection::vec(step, 1..80)
}

/// Plays the steps against a pipe. Whatever is accepted goes into `expected` too.
struct Play {
    queue: Queue,
    reader: PipeReader,
    expected: Vec<u8>,
    read: Vec<u8>,
    offered: u64,
}

impl Play {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Events { lines, length, times } => {
                for _ in 0..times {
                    let expected = &mut self.expected;
                    let _ = self.queue.line(lines, |buffer, seq| {
                        let start = buffer.len();
                        (seq..seq + u64::from(lines)).for_each(|seq| append(buffer, seq, length));
                        expected.extend_from_slice(&buffer[start..]);
                    });
                    self.offered += u64::from(lines);
                }
            }
            Step::Control { length } => {
                let expected = &mut self.expected;
                let _ = self.queue.control(|buffer, seq| {
                    let start = buffer.len();
                    buffer.push(b'c');
                    append(buffer, seq, length);
                    expected.extend_from_slice(&buffer[start..]);
                });
            }
            Step::Flush => self.queue.flush(),
            Step::Read { bytes } => {
                let available = rustix::io::ioctl_fionread(&self.reader).unwrap();
                let mut piece = vec![0; bytes.min(usize::try_from(available).unwrap())];
                self.reader.read_exact(&mut piece).unwrap();
                self.read.extend_from_slice(&piece);
            }
        }
        assert!(self.queue.totals().high_water <= MIN_BOUND as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_accepted_lines_come_out_in_order_and_every_line_is_counted(
        steps in steps(),
        read_to_the_end: bool,
    ) {
        let (reader, queue) = piped(MIN_BOUND);
        let mut play = Play { queue, reader, expected: Vec::new(), read: Vec::new(), offered: 0 };
        for step in &steps {
            play.step(step);
        }
        let Play { queue, mut reader, expected, mut read, offered } = play;
        let finished = if read_to_the_end {
            let rest = read_all(reader);
            let finished = queue.finish(LONG);
            read.extend(rest.join().unwrap());
            prop_assert_eq!(finished.end, End::Drained);
            prop_assert_eq!(read.len(), expected.len());
            finished
        } else {
            let finished = queue.finish(Duration::from_millis(1));
            reader.read_to_end(&mut read).unwrap();
            finished
        };
        prop_assert!(expected.starts_with(&read), "the bytes out are not the accepted lines in order");
        assert_conserved(&finished.totals, offered, MIN_BOUND);
        let lines = finished.totals.event_lines_written + finished.totals.control_lines_written;
        let seen: Vec<u64> = str::from_utf8(&read)
            .unwrap()
            .lines()
            .filter_map(|line| line.trim_start_matches('c').split_once(' ')?.0.parse().ok())
            .collect();
        prop_assert_eq!(seen, (1..=lines).collect::<Vec<_>>());
        let control = read.split_inclusive(|&byte| byte == b'\n').filter(|line| line[0] == b'c').count();
        prop_assert_eq!(control as u64, finished.totals.control_lines_written);
    }
}
