//! The page of `kube-tcpstates report`, in a browser.

use std::fs;
use std::path::{Path, PathBuf};

use kube_tcpstates_pages_tests::{Scheme, Seen, look, picture, size_of_picture};
use kube_tcpstates_report::{Options, Report};
use serde_json::json;

/// Connections of many pairs with long names, some of them hostile, with losses and a gap.
fn page() -> String {
    let mut lines = String::new();
    let outcomes = ["closed", "closed", "closed", "refused", "timed_out", "reset_by_peer", "unanswered"];
    for seq in 1..=3000_u64 {
        let client = match seq % 13 {
            0 => "<script>throw 1</script>".to_owned(),
            number => format!("a-workload-with-quite-a-long-name-{number}"),
        };
        let outcome = outcomes[usize::try_from(seq % 7).unwrap_or(0)];
        let (minute, second) = (seq % 3600 / 60, seq % 60);
        lines.push_str(
            &json!({
                "time": format!("2026-11-27T11:{minute:02}:{second:02}.5Z"),
                "tcpstates": {
                    "type": "connection", "schema": "tcpstates.dev/events/v1", "run": "a", "seq": seq + 5,
                    "role": "client", "outcome": outcome,
                    "handshake_us": seq * 7 % 9000, "idle_us": seq * 31 % 400_000,
                    "sent": {"bytes": 100}, "received": {"bytes": 20000},
                },
                "network": {"peer": {"address": format!("2001:db8:1234:5678:9abc:def0:1234:{}", seq % 11), "port": 8443}},
                "k8s": {"namespace": {"name": "shop"}, "node": {"name": "node-a"}, "deployment": {"name": client}},
            })
            .to_string(),
        );
        lines.push('\n');
    }
    lines.push_str(r#"{"time":"2026-11-27T11:59:01Z","tcpstates":{"type":"lost","schema":"tcpstates.dev/events/v1","run":"a","seq":4001,"exact":true,"lost":{"since_last":4,"total":4,"by_place":{"ring":4}}}}"#);
    lines.push('\n');
    let mut report = Report::new(Options { title: Some("Checkout on Friday".to_owned()), trace: None });
    assert!(report.read(lines.as_bytes()).is_ok());
    report.page()
}

/// The page of the incidents of docs/incidents.md: half a minute of both agents' logs, less what the report does not read.
fn page_of_incidents() -> String {
    let mut report = Report::new(Options { title: None, trace: Some("incidents/everything".to_owned()) });
    assert!(report.read(include_bytes!("incident.jsonl").as_slice()).is_ok());
    report.page()
}

/// Widths that the pictures in docs/images/ have, and how much of the page they show.
const PICTURES: [(u32, u32); 2] = [(1280, 1330), (390, 1700)];
const SCHEMES: [(Scheme, &str); 2] = [(Scheme::Light, "light"), (Scheme::Dark, "dark")];
/// A repository keeps every version of each.
const BYTES_AT_MOST: usize = 120_000;

fn pictures() -> impl Iterator<Item = ((u32, u32), Scheme, String)> {
    PICTURES.into_iter().flat_map(|size| {
        SCHEMES.map(|(scheme, name)| (size, scheme, format!("report-{}-{name}.png", size.0)))
    })
}

#[test]
fn the_page_of_an_incident_is_readable_and_its_pictures_are_left_for_the_docs() {
    let page = page_of_incidents();
    for (size, scheme, name) in pictures() {
        let seen = look(&page, size.0, scheme).unwrap();
        assert_readable(&seen, size.0, &name);
        for said in ["incidents/pod/orders", "no_local_port", "reset_by_peer", "CLOSE_WAIT"] {
            assert!(seen.text.contains(said), "{name}: {said} is not shown in {}", seen.text);
        }
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        picture(&page, size, scheme, &place).unwrap();
        eprintln!("{}", place.display());
    }
}

#[test]
fn the_docs_show_each_picture_and_none_is_large() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = fs::read_to_string(docs.join("report.md")).unwrap();
    for (size, _, name) in pictures() {
        assert!(text.contains(&format!("](images/{name})")), "{name} is not in docs/report.md");
        let bytes = fs::read(docs.join("images").join(&name)).unwrap();
        assert_eq!(size_of_picture(&bytes), Some(size), "{name}");
        assert!(bytes.len() <= BYTES_AT_MOST, "{name}: {} bytes", bytes.len());
    }
}

fn assert_readable(seen: &Seen, width: u32, here: &str) {
    assert_eq!(seen.complaints, [""; 0], "{here}");
    assert_eq!(seen.requests, 0, "{here}");
    assert!(seen.content_width <= f64::from(width), "{here}: {} px of content", seen.content_width);
    assert!(seen.lowest_text >= 9.5, "{here}: {} px: {}", seen.lowest_text, seen.lowest_text_is);
    assert!(seen.contrast >= 7.0, "{here}: contrast {}", seen.contrast);
}

#[test]
fn it_is_readable_wide_and_narrow_in_light_and_dark_and_asks_nobody_for_anything() {
    let page = page();
    for width in [1280, 390] {
        for scheme in [Scheme::Light, Scheme::Dark] {
            let seen = look(&page, width, scheme).unwrap();
            let here = format!("{width} px, {scheme:?}");
            assert_readable(&seen, width, &here);
            for said in
                ["Checkout on Friday", "4 events lost before they were written", "<script>throw 1</script>"]
            {
                assert!(seen.text.contains(said), "{here}: {said} is not shown in {}", seen.text);
            }
        }
    }
}

#[test]
fn dark_is_dark() {
    // The browser must tell the two apart, or the test above looks at one of them twice.
    let page = "<style>:root{color-scheme:light dark}p{display:none}\
                @media(prefers-color-scheme:dark){p{display:block}}</style><body>\
                <b>always</b><p>dark</p>";
    assert!(!look(page, 800, Scheme::Light).unwrap().text.contains("dark"));
    assert!(look(page, 800, Scheme::Dark).unwrap().text.contains("dark"));
}
