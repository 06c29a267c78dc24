//! Wall-clock time as text. The date and the second are worked out once a second, not once a line.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::append::fraction;

const NS_PER_S: u64 = 1_000_000_000;

/// RFC 3339 in UTC with nine decimals: `2026-11-22T15:25:01.123456789Z`.
#[derive(Debug, Default)]
pub struct UtcClock {
    /// Second that `text` shows, since the Unix epoch; `None` before the first use.
    second: Option<u64>,
    /// Up to and with the point.
    text: Vec<u8>,
}

impl UtcClock {
    /// Appends a time, nanoseconds since the Unix epoch.
    pub fn append(&mut self, out: &mut Vec<u8>, unix_ns: u64) {
        let second = unix_ns / NS_PER_S;
        if self.second != Some(second) {
            let date = Offset::UTC.to_datetime(timestamp(second));
            self.text.clear();
            for (number, digits, behind) in [
                (date.year(), 4, b'-'),
                (date.month().into(), 2, b'-'),
                (date.day().into(), 2, b'T'),
                (date.hour().into(), 2, b':'),
                (date.minute().into(), 2, b':'),
                (date.second().into(), 2, b'.'),
            ] {
                fraction(&mut self.text, u64::from(number.unsigned_abs()), digits);
                self.text.push(behind);
            }
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        fraction(out, unix_ns % NS_PER_S, 9);
        out.push(b'Z');
    }
}

/// A time, nanoseconds since the Unix epoch, in RFC 3339.
pub fn rfc3339(unix_ns: u64) -> String {
    let mut out = Vec::with_capacity(30);
    UtcClock::default().append(&mut out, unix_ns);
    String::from_utf8(out).unwrap_or_default()
}

/// `HH:MM:SS` in a time zone, for the table's `-T`.
#[derive(Debug)]
pub struct LocalClock {
    zone: TimeZone,
    second: Option<u64>,
    text: Vec<u8>,
}

impl LocalClock {
    /// A clock of this zone. The edge reads the machine's (`TimeZone::system()`); this module reads no files.
    pub const fn new(zone: TimeZone) -> Self {
        Self { zone, second: None, text: Vec::new() }
    }

    /// Appends a time, nanoseconds since the Unix epoch.
    pub fn append(&mut self, out: &mut Vec<u8>, unix_ns: u64) {
        let second = unix_ns / NS_PER_S;
        if self.second != Some(second) {
            let time = self.zone.to_datetime(timestamp(second));
            self.text.clear();
            for (index, number) in [time.hour(), time.minute(), time.second()].into_iter().enumerate() {
                if index > 0 {
                    self.text.push(b':');
                }
                fraction(&mut self.text, u64::from(number.unsigned_abs()), 2);
            }
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
    }
}

/// Any u64 of nanoseconds is a second before the year 2555, which jiff can show.
fn timestamp(second: u64) -> Timestamp {
    i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::tz::{TimeZone, offset};

    use super::{LocalClock, UtcClock, rfc3339};

    #[test]
    fn a_time_is_utc_with_nine_decimals() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_795_361_101_123_456_789, "2026-11-22T15:25:01.123456789Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ];
        for (unix_ns, text) in table {
            assert_eq!(rfc3339(unix_ns), text);
        }
    }

    #[test]
    fn the_kept_second_is_left_when_time_goes_on_or_back() {
        let mut clock = UtcClock::default();
        for unix_ns in [1_999_999_999, 2_000_000_000, 2_000_000_001, 1_000_000_000, 86_400_000_000_000] {
            let mut out = Vec::new();
            clock.append(&mut out, unix_ns);
            assert_eq!(String::from_utf8(out).unwrap(), rfc3339(unix_ns));
        }
    }

    #[test]
    fn the_local_clock_is_that_of_its_zone() {
        let mut clock = LocalClock::new(TimeZone::fixed(offset(5)));
        let mut out = Vec::new();
        clock.append(&mut out, 1_795_361_101_123_456_789);
        assert_eq!(out, b"20:25:01");
    }
}
