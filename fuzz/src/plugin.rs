//! Streams of lines, as `kubectl tcpstates` shows them.

use kubectl_tcpstates::show;

pub use crate::seed::none as seeds;

/// A stream. True: something of it was shown.
pub fn read(bytes: &[u8]) -> bool {
    let stream = String::from_utf8_lossy(bytes);
    let mut shown = false;
    for (is_log, wide) in [(true, false), (false, true)] {
        let (rows, missing) = show(&stream, is_log, wide);
        let rows = String::from_utf8(rows).expect("rows are text");
        shown |= !rows.is_empty() || !missing.is_empty();
        for line in rows.lines().chain(missing.iter().map(String::as_str)) {
            assert!(!line.chars().any(char::is_control), "{line:?} acts on a terminal");
        }
    }
    shown
}
