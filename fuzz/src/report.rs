//! Files given to `report`: from bytes to a page.

use kube_tcpstates_report::{Options, Report};

pub use crate::seed::none as seeds;

/// A file of anything. True: a line of it was taken in.
pub fn read(bytes: &[u8]) -> bool {
    let empty = Report::new(Options::default()).page();
    let mut report = Report::new(Options::default());
    report.read(bytes).expect("memory can be read");
    let page = report.page();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    // Whatever text stands in a file, the page has no element that acts.
    for forbidden in ["<script", "<iframe", "<object", "<embed", "javascript:"] {
        assert!(!page.contains(forbidden), "{forbidden} in the page");
    }
    page != empty
}
