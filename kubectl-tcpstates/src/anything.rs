//! A way in from outside, for those who feed the plugin with anything.

use crate::heard::{Ear, From, Said};
use crate::name::TraceName;
use crate::paint::Paint;
use crate::table::{Rows, safe};

/// What `trace` and `lines` show of a stream to the reader of the trace `shop/checkout`: rows, and what is missing.
pub fn show(stream: &str, is_log: bool, wide: bool) -> (Vec<u8>, Vec<String>) {
    let trace = TraceName { namespace: Some("shop".to_owned()), name: "checkout".to_owned() };
    let mut ear = Ear::new(trace, if is_log { From::Logs } else { From::Api });
    let (mut rows, mut out, mut missing) = (Rows::new(wide, Paint::default()), Vec::new(), Vec::new());
    for said in stream.lines().flat_map(|line| ear.hear("node", line)) {
        match said {
            Said::Event(line) => _ = rows.line(&mut out, &line),
            Said::Missing(text) => missing.push(safe(&text)),
            Said::End(_) => {}
        }
    }
    (out, missing)
}
