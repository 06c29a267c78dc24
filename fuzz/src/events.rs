//! Lines as a consumer's program reads them.

use kube_tcpstates_events::Line;

pub use crate::seed::none as seeds;

/// One line. True: it is of a kind that there is.
pub fn read(bytes: &[u8]) -> bool {
    let Ok(line) = serde_json::from_slice::<Line>(bytes) else { return false };
    // What was read is what is written; a figure may lose its last digit on its way.
    let text = serde_json::to_string(&line).expect("a line serialises");
    let again: Line = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(serde_json::to_string(&again).expect("a line serialises"), text);
    true
}
