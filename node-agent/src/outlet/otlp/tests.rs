//! An endpoint of ours answers as it is told, over real connections on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use kube_tcpstates_events::{Heartbeat, Line};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::any_value::Value,
};
use prost::Message as _;

use super::*;
use crate::outlet::RunId;
use crate::render::{TextOptions, fixtures::Fixture};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the endpoint was sent, and in which requests.
#[derive(Clone, Default)]
struct Taken {
    well: Arc<Mutex<Vec<(String, ExportLogsServiceRequest)>>>,
    /// Requests of any answer.
    asked: Arc<AtomicUsize>,
}

impl Taken {
    fn requests(&self) -> usize {
        self.well.lock().unwrap().len()
    }

    /// Numbers of the lines, in the order they came in requests that were answered well.
    fn seqs(&self) -> Vec<i64> {
        let all = self.well.lock().unwrap();
        let records = all
            .iter()
            .flat_map(|(_, request)| &request.resource_logs)
            .flat_map(|logs| &logs.scope_logs[0].log_records);
        let seq = |record: &opentelemetry_proto::tonic::logs::v1::LogRecord| {
            let attribute = record.attributes.iter().find(|attribute| attribute.key == "tcpstates.seq")?;
            match attribute.value.as_ref()?.value.as_ref()? {
                Value::IntValue(number) => Some(*number),
                _ => None,
            }
        };
        records.filter_map(seq).collect()
    }
}

/// Answers requests one after the other, the last answer for ever.
fn endpoint(answers: Vec<(u16, &'static str, Vec<u8>)>) -> (String, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let taken = Taken::default();
    let kept = taken.clone();
    thread::spawn(move || {
        let mut answers = answers.into_iter().peekable();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(asked) = read(&mut stream) {
                kept.asked.fetch_add(1, Ordering::Relaxed);
                let answer = answers.next().unwrap();
                if answers.peek().is_none() {
                    answers = vec![answer.clone()].into_iter().peekable();
                }
                if answer.0 == 200 {
                    kept.well.lock().unwrap().push(asked);
                }
                let (status, headers, body) = answer;
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                stream.get_mut().write_all(head.as_bytes()).unwrap();
                stream.get_mut().write_all(&body).unwrap();
            }
        }
    });
    (url, taken)
}

/// Head and message of a request. `None`: the connection has ended.
fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, ExportLogsServiceRequest)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    let mut message = Vec::new();
    if head.to_lowercase().contains("content-encoding: gzip") {
        GzDecoder::new(&body[..]).read_to_end(&mut message).unwrap();
    } else {
        message = body;
    }
    Some((head, ExportLogsServiceRequest::decode(&message[..]).unwrap()))
}

fn outlet(url: &str, queue_bytes: usize) -> Box<dyn Outlet> {
    let target = OtlpTarget {
        url: url.to_owned(),
        headers: vec![("x-tenant".to_owned(), "shop".to_owned())],
        gzip: true,
        timeout: Duration::from_secs(5),
        certificate: None,
        client: None,
        queue_bytes,
    };
    let asked = Asked {
        run: RunId::from(0xa),
        format: format("json").unwrap(),
        text: TextOptions::default(),
        queue_bytes: 1 << 20,
        journal: false,
        otlp: Some(target),
        witness: None,
    };
    open(&asked, Arc::new(|| ())).unwrap().unwrap()
}

fn offer(outlet: &mut Box<dyn Outlet>, events: usize) -> Vec<Offer> {
    let fixture = Fixture::client();
    (0..events).map(|_| outlet.transition(&fixture.event())).collect()
}

const OK: (u16, &str, Vec<u8>) = (200, "", Vec::new());

#[test]
fn every_line_arrives_once_numbered_without_a_gap() {
    let (url, taken) = endpoint(vec![OK]);
    let mut outlet = outlet(&url, 8 << 20);
    assert_eq!(outlet.line(&Line::Start(Box::default())), Offer::Accepted);
    assert!(offer(&mut outlet, 2_000).iter().all(|offer| *offer == Offer::Accepted));
    assert_eq!(outlet.line(&Line::Heartbeat(Box::<Heartbeat>::default())), Offer::Accepted);
    let totals = outlet.finish(PATIENCE).totals;
    assert_eq!((totals.event_lines_written, totals.control_lines_written, totals.lost()), (2_000, 2, 0));
    let mut seqs = taken.seqs();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=2_002).collect::<Vec<_>>());
    assert!(taken.requests() < 20, "{} requests", taken.requests());
    let head = taken.well.lock().unwrap()[0].0.to_lowercase();
    assert!(
        head.contains("x-tenant: shop") && head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
}

#[test]
fn an_endpoint_that_is_busy_is_asked_again_when_it_says() {
    let busy = (429, "retry-after: 1\r\n", Vec::new());
    let (url, taken) = endpoint(vec![busy, (503, "", Vec::new()), OK]);
    let mut outlet = outlet(&url, 8 << 20);
    let begun = Instant::now();
    let _ = offer(&mut outlet, 10);
    while taken.seqs().len() < 10 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", outlet.totals());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "it did not wait");
    assert_eq!(outlet.finish(PATIENCE).totals.lost(), 0);
}

#[test]
fn what_an_endpoint_refuses_is_counted_as_lost() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: String::new() };
    let some = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    for (answer, lost) in [((400, "", Vec::new()), 10), ((200, "", some), 3)] {
        let (url, _) = endpoint(vec![answer]);
        let mut outlet = outlet(&url, 8 << 20);
        let _ = offer(&mut outlet, 10);
        let totals = outlet.finish(PATIENCE).totals;
        assert_eq!((totals.lost_write, totals.event_lines_written), (lost, 10 - lost));
    }
}

#[test]
fn an_absent_endpoint_loses_what_does_not_fit_and_holds_up_nobody() {
    // Bound and dropped: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut outlet = outlet(&format!("http://{free}/v1/logs"), 64 << 10);
    let begun = Instant::now();
    let offers = offer(&mut outlet, 1_000);
    let full = offers.iter().filter(|offer| **offer == Offer::Full).count() as u64;
    assert!(full > 0 && begun.elapsed() < PATIENCE);
    // What the tracer says of itself still finds room.
    assert_eq!(outlet.line(&Line::Lost(Box::default())), Offer::Accepted);
    let totals = outlet.finish(Duration::from_millis(300)).totals;
    assert_eq!(totals.lost_queue, full);
    assert_eq!(totals.lost(), 1_000, "{totals:?}");
    // Liveness: the request under way may take its own time, but is not waited for.
    assert!(begun.elapsed() < PATIENCE);
}

/// Lets lines wait until the endpoint has been asked so often, then for a moment more: the sender pauses.
fn let_it_pause(asked: &AtomicUsize, times: usize) {
    let begun = Instant::now();
    while asked.load(Ordering::Relaxed) < times {
        assert!(begun.elapsed() < PATIENCE, "nobody asked");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn the_end_of_the_run_cuts_a_pause_short_that_the_endpoint_did_not_ask_for() {
    // The third pause is 2 s at least, and the fourth 4 s.
    let away = || (503, "", Vec::new());
    let (url, taken) = endpoint(vec![away(), away(), away(), away(), OK]);
    let mut outlet = outlet(&url, 8 << 20);
    let _ = offer(&mut outlet, 10);
    let_it_pause(&taken.asked, 3);
    let begun = Instant::now();
    outlet.ends_by(Instant::now() + Duration::from_mins(1));
    // Lines may still come, and a later pause is short.
    let _ = offer(&mut outlet, 1);
    let totals = outlet.finish(PATIENCE).totals;
    assert_eq!((totals.event_lines_written, totals.lost()), (11, 0));
    assert!(begun.elapsed() < Duration::from_millis(1_800), "{:?}", begun.elapsed());
}

#[test]
fn what_waits_at_the_end_is_tried_until_the_time_is_over() {
    let (url, taken) = endpoint(vec![(503, "", Vec::new())]);
    let mut outlet = outlet(&url, 8 << 20);
    let _ = offer(&mut outlet, 10);
    let_it_pause(&taken.asked, 3);
    let totals = outlet.finish(Duration::from_millis(1_600)).totals;
    assert_eq!(totals.lost_write, 10);
    let asked = taken.asked.load(Ordering::Relaxed);
    assert!(asked >= 6, "only {} times at the end", asked - 3);
}

#[test]
fn a_pause_that_the_endpoint_asked_for_is_kept_at_the_end() {
    let (url, taken) = endpoint(vec![(429, "retry-after: 60\r\n", Vec::new())]);
    let mut outlet = outlet(&url, 8 << 20);
    let _ = offer(&mut outlet, 10);
    let_it_pause(&taken.asked, 1);
    assert_eq!(outlet.finish(Duration::from_millis(700)).totals.lost_write, 10);
    assert_eq!(taken.asked.load(Ordering::Relaxed), 1);
}
