//! The lines of stdout, as a container's log files have them, by shippers into a real store.

use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_stores_tests::gate::{Gate, Manner};
use kube_tcpstates_stores_tests::incident::{REFUSED, recorded};
use kube_tcpstates_stores_tests::pods::Pods;
use kube_tcpstates_stores_tests::questions::query;
use kube_tcpstates_stores_tests::rsyslog::Rsyslog;
use kube_tcpstates_stores_tests::store::{Row, Store, assert_each_once, flattened, time};
use serde_json::{Value, json};

/// Tells the store what Elasticsearch's index template says: which member is the time.
const TIME_FIELD: &str = "_time_field=@timestamp&_msg_field=tcpstates.schema";

/// One run for all tests here.
fn lines() -> &'static [Vec<u8>] {
    static LINES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    LINES.get_or_init(|| {
        require(&[]);
        recorded()
    })
}

fn parsed(line: &[u8]) -> Value {
    serde_json::from_slice(line).expect("a line is JSON")
}

fn run() -> String {
    parsed(&lines()[0])["tcpstates"]["run"].as_str().expect("a run").to_owned()
}

/// Each line is a row with the same members.
#[track_caller]
fn assert_as_they_are(rows: &[Row]) {
    for line in lines() {
        let line = parsed(line);
        let mut wanted = flattened(&line);
        let row = rows.iter().find(|row| row.get("tcpstates.seq") == wanted.get("tcpstates.seq"));
        let row = row.unwrap_or_else(|| panic!("no row of {line}"));
        // Fields that the store makes the time and the message of.
        assert_eq!(time(wanted.remove("time").as_ref()), time(row.get("_time")), "of {line}");
        assert_eq!(wanted.remove("tcpstates.schema"), row.get("_msg").cloned(), "of {line}");
        for (name, value) in wanted {
            // Of a list the text may be another: the order of members, a slash as `\/`.
            let same = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            let have = row.get(&name).map(|have| same(have));
            assert_eq!(have, Some(same(&value)), "{name} of {line}");
        }
    }
}

/// Rotation, pieces, words on stderr, and a store that has no room and is away for a while.
#[test]
fn rsyslog_brings_every_line_once_by_elasticsearchs_bulk_api() {
    let lines = lines();
    let store = Store::start();
    let gate = Gate::with_query(store.address(), TIME_FIELD);
    let mut pods = Pods::new();
    // Some were there before rsyslog was.
    let (before, after) = lines.split_at(lines.len() / 4);
    for line in before {
        pods.write(line);
    }
    let rsyslog = Rsyslog::start(pods.folder(), gate.address());
    store.rows_of(&run(), before.len());
    for (number, line) in after.iter().enumerate() {
        match number % 7 {
            1 => pods.write_in_pieces(line),
            2 => {
                pods.complain("counts: and so on");
                pods.write(line);
            }
            _ => pods.write(line),
        }
        match number {
            3 => gate.be(Manner::RefuseEach(429)),
            6 => pods.rotate(),
            8 => gate.be(Manner::Away),
            12 => gate.be(Manner::Pass),
            _ => {}
        }
        sleep(Duration::from_millis(150));
    }
    gate.be(Manner::Pass);
    let rows = store.rows_of(&run(), lines.len());
    assert!(gate.refused() > 0, "the gate refused nothing: {}", rsyslog.log());
    assert_each_once(&rows, 1..=lines.len() as u64);
    assert_as_they_are(&rows);
    let refused = store.ask(&query("Who is refused, by whom?"));
    let refused: Vec<_> = refused.iter().map(|row| row["refused"].clone()).collect();
    assert_eq!(refused, [REFUSED.to_string()]);
    rsyslog.stop();
    // The document's number keeps what is sent again from being there twice; this store takes no notice of it.
    assert!(gate.passed().iter().any(|request| request.contains("_bulk")), "{:?}", gate.passed());
}

/// What rsyslog has not brought when it ends, it brings when it runs again.
#[test]
fn rsyslog_goes_on_where_it_was() {
    let lines = lines();
    let store = Store::start();
    let gate = Gate::with_query(store.address(), TIME_FIELD);
    let mut pods = Pods::new();
    let rsyslog = Rsyslog::start(pods.folder(), gate.address());
    let half = lines.len() / 2;
    lines[..half].iter().for_each(|line| pods.write(line));
    store.rows_of(&run(), half);
    let folder = rsyslog.stop();
    lines[half..].iter().for_each(|line| pods.write(line));
    let rsyslog = Rsyslog::start_in(folder, pods.folder(), gate.address());
    assert_each_once(&store.rows_of(&run(), lines.len()), 1..=lines.len() as u64);
    rsyslog.stop();
}

/// Labels that deploy/alloy/ makes.
const LABELS: [&str; 4] = ["cluster", "namespace", "container", "service_name"];
/// What it adds to each line.
const METADATA: [&str; 2] = ["pod", "node"];

/// Alloy itself is not here: what its configuration makes of the lines is pushed as it does.
#[test]
fn a_push_as_alloys_keeps_lines_whole_and_the_questions_read_them() {
    let lines = lines();
    let store = Store::start();
    let values: Vec<Value> = lines
        .iter()
        .map(|line| {
            let text = String::from_utf8(line.clone()).expect("a line is text");
            let time = nanoseconds(&text);
            json!([time, text, {"pod": "kube-tcpstates-agent-x7k2p", "node": "node-a"}])
        })
        .collect();
    let stream = json!({"cluster": "test", "namespace": "kube-tcpstates", "container": "agent",
        "service_name": "kube-tcpstates"});
    let push = json!({"streams": [{"stream": stream, "values": values}]});
    let url = format!("http://{}/insert/loki/api/v1/push", store.address());
    let answer = ureq::post(&url).content_type("application/json").send(push.to_string().as_bytes());
    assert!(answer.is_ok_and(|answer| answer.status().is_success()), "{}", store.log());
    let labels: Vec<_> = LABELS.iter().map(|label| format!("{label}:*")).collect();
    let all = format!("{} | limit 10000", labels.join(" "));
    let rows = store.until(&all, lines.len());
    let mut texts: Vec<_> = rows.iter().map(|row| row["_msg"].as_bytes().to_vec()).collect();
    texts.sort();
    let mut wanted = lines.to_vec();
    wanted.sort();
    assert_eq!(texts, wanted);
    for row in &rows {
        assert!(METADATA.iter().all(|name| row.contains_key(*name)), "{row:?}");
    }
    let (_, question) = query_parts("Who is refused, by whom?");
    let unpacked = format!(
        "service_name:=kube-tcpstates | unpack_json | filter tcpstates.type:=connection tcpstates.outcome:=refused {question}"
    );
    let refused = store.ask(&unpacked);
    let refused: Vec<_> = refused.iter().map(|row| row["refused"].clone()).collect();
    assert_eq!(refused, [REFUSED.to_string()]);
}

/// What stands before the first `|`, and the rest.
fn query_parts(title: &str) -> (String, String) {
    let query = query(title);
    let at = query.find('|').expect("a query has pipes");
    (query[..at].to_owned(), query[at..].to_owned())
}

/// A line's time as Loki wants it.
fn nanoseconds(line: &str) -> String {
    let time = parsed(line.as_bytes())["time"].as_str().expect("a time").to_owned();
    let time: jiff::Timestamp = time.parse().expect("a time");
    time.as_nanosecond().to_string()
}

/// The labels above are those of the file that users get.
#[test]
fn the_labels_are_those_of_alloys_configuration() {
    let configuration = include_str!("../../../deploy/alloy/kube-tcpstates.yaml");
    let quoted = LABELS.map(|label| format!("\"{label}\"")).join(", ");
    let metadata = METADATA.map(|name| format!("{name} = \"\"")).join(", ");
    assert!(configuration.contains(&format!("values = [{quoted}]")), "{quoted}");
    assert!(configuration.contains(&format!("values = {{ {metadata} }}")), "{metadata}");
}
