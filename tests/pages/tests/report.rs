//! The page of `kube-tcpstates report`, in a browser.

use kube_tcpstates_pages_tests::{Scheme, look};
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

#[test]
fn it_is_readable_wide_and_narrow_in_light_and_dark_and_asks_nobody_for_anything() {
    let page = page();
    for width in [1280, 390] {
        for scheme in [Scheme::Light, Scheme::Dark] {
            let seen = look(&page, width, scheme).unwrap();
            let here = format!("{width} px, {scheme:?}");
            assert_eq!(seen.complaints, [""; 0], "{here}");
            assert_eq!(seen.requests, 0, "{here}");
            assert!(seen.content_width <= f64::from(width), "{here}: {} px of content", seen.content_width);
            assert!(seen.lowest_text >= 9.5, "{here}: {} px: {}", seen.lowest_text, seen.lowest_text_is);
            assert!(seen.contrast >= 7.0, "{here}: contrast {}", seen.contrast);
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
