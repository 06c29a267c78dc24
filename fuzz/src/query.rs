//! The lines API: what is asked of it, whose lines it passes on, certificates.

use kube_tcpstates_operator::lines::{Certificate, Filter, Head, Place, Query, Trace, is_final, renewed};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What of a line names traces. Numbers are not looked at: JSON has larger ones than a program can hold.
#[derive(Deserialize)]
struct Passed {
    tcpstates: Own,
}

#[derive(Deserialize)]
struct Own {
    traces: Option<Vec<String>>,
    cluster_traces: Option<Vec<String>>,
    traces_omitted: Option<IgnoredAny>,
}

/// A path with its query, or a line of an agent, or a certificate. True: it was one of them.
pub fn read(bytes: &[u8]) -> bool {
    let mut found = Certificate::read(bytes).is_some();
    let Ok(text) = str::from_utf8(bytes) else { return found };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Some(place) = Place::of(path) {
        found = true;
        if let Place::Lines(trace, _) = place {
            let name = trace.to_string();
            assert!(
                name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'),
                "{name:?}"
            );
        }
    }
    match Query::parse(query) {
        Ok(query) => assert!(query.limit != Some(0)),
        Err(error) => assert!(error.len() < 2000 && !error.contains('\n'), "{error:?}"),
    }
    found |= line(text);
    let bundle = renewed(text, &[], jiff::Timestamp::UNIX_EPOCH);
    if let Some(bundle) = bundle {
        assert!(bundle.lines().filter(|line| line.starts_with("-----BEGIN")).count() <= 32);
    }
    found
}

/// A reader of a trace gets lines of that trace, and sees no other's name in the lists.
fn line(text: &str) -> bool {
    let _ = is_final(text);
    let head = Head::of(text);
    for trace in [
        Trace { namespace: Some("shop".to_owned()), name: "checkout".to_owned() },
        Trace { namespace: None, name: "all".to_owned() },
    ] {
        let filter = Filter::new(&trace);
        let _ = filter.lost(text);
        let Some(passed) = filter.pass(text) else { continue };
        assert!(!passed.contains('\n') || text.contains('\n'));
        let Passed { tcpstates: own } =
            serde_json::from_str(&passed).unwrap_or_else(|error| panic!("{error}: {passed}"));
        let (named, other) = if trace.namespace.is_some() {
            (own.traces, own.cluster_traces)
        } else {
            (own.cluster_traces, own.traces)
        };
        assert_eq!(named, Some(vec![trace.to_string()]));
        assert!(other.is_none() && own.traces_omitted.is_none(), "{passed}");
    }
    head.is_some()
}

/// What is looked at in a certificate of `front-proxy`, to the end of its fields.
pub fn seeds() -> Vec<Vec<u8>> {
    let element = |tag: u8, inside: &[&[u8]]| {
        let inside = inside.concat();
        [&[tag, u8::try_from(inside.len()).unwrap_or(0)][..], &inside].concat()
    };
    let name = element(0x30, &[&element(0x06, &[&[0x55, 0x04, 0x03]]), &element(0x0c, &[b"front-proxy"])]);
    let subject = element(0x30, &[&element(0x31, &[&name])]);
    let times = [element(0x17, &[b"261127000000Z"]), element(0x18, &[b"20510304000000Z"])];
    let validity = element(0x30, &[&times[0], &times[1]]);
    let number = element(0x02, &[&[1]]);
    let version = element(0xa0, &[&number]);
    let algorithm = element(0x30, &[]);
    let fields = element(0x30, &[&version, &number, &algorithm, &subject, &validity, &subject]);
    vec![element(0x30, &[&fields])]
}
