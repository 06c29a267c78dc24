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
    assert_text_is_text(&page);
    page != empty
}

/// Whatever text stands in a file, it opens no element and ends no attribute.
fn assert_text_is_text(page: &str) {
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("a bracket in text: <{piece}"));
        assert!(tag.matches('"').count() % 2 == 0, "a quote in an attribute: <{tag}>");
        assert!(tag == "style" || !text.contains(['"', '>']), "a bracket or a quote in text: {text}");
    }
}
