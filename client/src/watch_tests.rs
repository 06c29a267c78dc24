//! Watches against a server of our own making, in this process and on paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;
use tower::{BoxError, Layer as _};

use super::*;
use crate::AbortOnDrop;
use crate::layer::{Answer, GuardLayer, OnAnswer};

#[path = "watch_tests/logs.rs"]
mod logs;
#[path = "watch_tests/reading.rs"]
mod reading;
#[path = "watch_tests/versions.rs"]
mod versions;

const PODS: Resource = Resource::new("", "v1", "pods");
const NODES: Resource = Resource::new("", "v1", "nodes");
const TRACES: Resource = Resource::new("example.org", "v1", "traces");
const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices").or("v1beta1");
const ALL: [Resource; 4] = [PODS, NODES, TRACES, LEASES];
const DECLARED: [Resource; 5] = [PODS, NODES, TRACES, LEASES, SLICES];

/// A program's own message. Of an object its UID is kept.
#[derive(Clone, Debug, PartialEq)]
enum Message {
    Pods(Delta<String>),
    Nodes(Delta<String>),
    Traces(Delta<String>),
    Leases(Delta<String>),
    Broken(Broken),
}

impl From<Broken> for Message {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// A request that reached the server.
#[derive(Clone, Debug)]
struct Asked {
    resource: Resource,
    /// In this version.
    version: String,
    query: String,
    watch: bool,
    at: Instant,
    /// How many of this resource came before, lists and watches apart.
    before: usize,
}

enum Reply {
    /// A list of these objects.
    List(Vec<Value>),
    /// A watch with these events, which then stays open.
    Watch(Vec<Value>),
    /// A watch that ends at once.
    Ended,
    /// A watch whose connection breaks at once.
    CutOff,
    /// Refused with this status.
    Status(u16),
    /// Refused with this status, and when to come back.
    Later(u16, u64),
    /// A list of so many objects, each with an annotation of so many bytes, made as they are read.
    Huge(usize, usize),
    /// No answer, ever.
    Hang,
    /// No connection.
    Unreachable,
}

/// A server and a client that talks to it through the gate.
struct Server {
    client: Client,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::observed(Arc::new(|_| ()), answer)
    }

    fn observed(on_answer: OnAnswer, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let resource = Resource::of_path(request.uri().path(), &DECLARED).unwrap();
            let version = request.uri().path().split('/').rev().nth(1).unwrap_or_default().to_owned();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let watch = query.contains("watch=true");
            let mut log = log.lock().unwrap();
            let same = |asked: &&Asked| (asked.resource, asked.watch) == (resource, watch);
            let before = log.iter().filter(same).count();
            let now = Asked { resource, version, query, watch, at: Instant::now(), before };
            log.push(now.clone());
            let reply = answer(&now);
            async move { respond(reply).await }
        });
        let guarded = GuardLayer::new(&DECLARED, on_answer).layer(service);
        Self { client: Client::new(guarded, "default"), asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn asked_of(&self, resource: Resource) -> usize {
        self.asked().iter().filter(|asked| asked.resource == resource).count()
    }
}

async fn respond(reply: Reply) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
    let whole = |status: StatusCode, body: &Value| {
        let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::builder().status(status).body(body).unwrap())
    };
    match reply {
        Reply::List(items) => whole(
            StatusCode::OK,
            &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "7"}, "items": items}),
        ),
        Reply::Ended => whole(StatusCode::OK, &json!({})).map(|mut response| {
            *response.body_mut() = Full::default().map_err(|never| match never {}).boxed_unsync();
            response
        }),
        Reply::CutOff => {
            let reset = stream::iter([Err::<Frame<Bytes>, BoxError>("connection reset".into())]);
            Ok(Response::new(StreamBody::new(reset).boxed_unsync()))
        }
        Reply::Watch(events) => {
            let lines = events.into_iter().map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
            let open = stream::StreamExt::chain(stream::iter(lines.collect::<Vec<_>>()), stream::pending());
            Ok(Response::new(StreamBody::new(open).boxed_unsync()))
        }
        Reply::Status(code) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "message": format!("status {code}"), "reason": "Test"});
            whole(StatusCode::from_u16(code).unwrap(), &status)
        }
        Reply::Later(code, seconds) => {
            whole(StatusCode::from_u16(code).unwrap(), &json!({})).map(|mut response| {
                response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
                response
            })
        }
        Reply::Huge(objects, bytes) => {
            Ok(Response::new(StreamBody::new(huge(objects, bytes)).boxed_unsync()))
        }
        Reply::Hang => std::future::pending().await,
        Reply::Unreachable => Err("connection refused".into()),
    }
}

/// The text of a list in pieces, none of them longer than 4 KiB.
fn huge(
    objects: usize,
    bytes: usize,
) -> impl stream::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + 'static {
    const FILLING: &[u8] = &[b'x'; 4096];
    let of_one = move |number: usize| {
        let comma = if number == 0 { "" } else { "," };
        let head = format!("{comma}{{\"metadata\":{{\"uid\":\"u{number}\",\"annotations\":{{\"a\":\"");
        let filling = (0..bytes / FILLING.len()).map(|_| Bytes::from_static(FILLING));
        std::iter::once(Bytes::from(head)).chain(filling).chain([Bytes::from_static(b"\"}}}")])
    };
    let head = Bytes::from_static(b"{\"kind\":\"List\",\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[");
    let pieces =
        std::iter::once(head).chain((0..objects).flat_map(of_one)).chain([Bytes::from_static(b"]}")]);
    stream::iter(pieces.map(|piece| Ok(Frame::data(piece))))
}

fn node(uid: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "node-a", "uid": uid, "resourceVersion": "7"}})
}

fn uid(uid: &str) -> String {
    uid.to_owned()
}

fn watch(
    server: &Server,
    resource: Resource,
    message: fn(Delta<String>) -> Message,
) -> Watch<DynamicObject, String, Message> {
    let (group, version) = match resource {
        TRACES => ("example.org", "v1"),
        LEASES => ("coordination.k8s.io", "v1"),
        SLICES => ("discovery.k8s.io", "v1"),
        _ => ("", "v1"),
    };
    let kind = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}").trim_start_matches('/').to_owned(),
        kind: "Kind".to_owned(),
        plural: resource.plural().to_owned(),
    };
    let api = if resource == LEASES {
        Api::namespaced_with(server.client.clone(), "shop", &kind)
    } else {
        Api::all_with(server.client.clone(), &kind)
    };
    Watch {
        resource,
        api,
        older: None,
        fields: None,
        keep: |object| object.metadata.uid,
        thin: None,
        message,
        seen: None,
        lists_again: false,
    }
}

fn follow_node(server: &Server) -> (AbortOnDrop, UnboundedReceiver<Message>) {
    let (sender, messages) = unbounded_channel();
    (AbortOnDrop::spawn(watch(server, NODES, Message::Nodes).follow(sender)), messages)
}

/// Several resources, one of them in one namespace.
fn follow_all(server: &Server) -> (Vec<AbortOnDrop>, UnboundedReceiver<Message>) {
    let (sender, messages) = unbounded_channel();
    let watches = [
        watch(server, PODS, Message::Pods),
        watch(server, NODES, Message::Nodes),
        watch(server, TRACES, Message::Traces),
        watch(server, LEASES, Message::Leases),
    ];
    (watches.map(|watch| AbortOnDrop::spawn(watch.follow(sender.clone()))).into(), messages)
}

#[tokio::test(start_paused = true)]
async fn a_list_is_told_at_its_end_and_then_each_change() {
    let server = Server::new(|asked| {
        if asked.watch {
            Reply::Watch(vec![json!({"type": "MODIFIED", "object": node("n2")})])
        } else {
            Reply::List(vec![node("n1")])
        }
    });
    let (_task, mut messages) = follow_node(&server);
    assert_eq!(messages.recv().await.unwrap(), Message::Nodes(Delta::Listed(vec![uid("n1")])));
    assert_eq!(messages.recv().await.unwrap(), Message::Nodes(Delta::Applied(uid("n2"))));
}

#[tokio::test(start_paused = true)]
async fn gone_lists_anew_whether_the_watch_or_its_start_says_so() {
    let server = Server::new(|asked| match (asked.watch, asked.before) {
        (true, 0) => Reply::Status(410),
        (true, 1) => Reply::Watch(vec![json!({"type": "ERROR", "object": {"kind": "Status", "code": 410,
            "message": "too old", "reason": "Expired", "status": "Failure"}})]),
        (true, _) => Reply::Watch(vec![]),
        (false, lists) => Reply::List(vec![node(&format!("n{lists}"))]),
    });
    let (_task, mut messages) = follow_node(&server);
    for uid in ["n0", "n1", "n2"] {
        let delta = match messages.recv().await.unwrap() {
            Message::Broken(Broken { resource: NODES, trouble: Trouble::Gone, .. }) => {
                messages.recv().await.unwrap()
            }
            delta => delta,
        };
        assert_eq!(delta, Message::Nodes(Delta::Listed(vec![uid.to_owned()])));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_is_given_up_after_ten_seconds() {
    let server =
        Server::new(
            |asked| if asked.before == 0 && !asked.watch { Reply::Hang } else { Reply::List(vec![]) },
        );
    let start = Instant::now();
    let (_task, mut messages) = follow_node(&server);
    let Message::Broken(Broken { resource: NODES, trouble: Trouble::Failing, reason }) =
        messages.recv().await.unwrap()
    else {
        panic!("the list is not given up");
    };
    assert!(reason.contains("no answer within 10 s"), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(messages.recv().await.unwrap(), Message::Nodes(Delta::Listed(vec![])));
}

#[tokio::test(start_paused = true)]
async fn why_a_list_or_a_watch_is_refused_is_told_in_the_servers_words_alone() {
    for refuses_watch in [false, true] {
        let server = Server::new(move |asked| match asked.watch {
            watch if watch == refuses_watch => Reply::Status(403),
            _ => Reply::List(vec![]),
        });
        let (_task, mut messages) = follow_node(&server);
        let broken = loop {
            if let Message::Broken(broken) = messages.recv().await.unwrap() {
                break broken;
            }
        };
        assert_eq!((broken.trouble, &*broken.reason), (Trouble::Forbidden, "status 403"));
    }
}

#[tokio::test(start_paused = true)]
async fn ever_fewer_requests_leave_during_an_outage_and_once_one_is_answered_all_are_back() {
    let outage = Duration::from_secs(10)..Duration::from_secs(310);
    let failures: [fn() -> Reply; 5] = [
        || Reply::Unreachable,
        || Reply::Status(503),
        || Reply::Status(429),
        || Reply::Status(401),
        || Reply::Hang,
    ];
    for (case, failure) in failures.into_iter().enumerate() {
        let start = Instant::now();
        let during = outage.clone();
        let server = Server::new(move |asked| match (during.contains(&(asked.at - start)), asked.watch) {
            (true, _) => failure(),
            // Before the outage every watch ends by itself, again and again; after it they stay open.
            (false, true) if asked.at - start < during.start => Reply::Ended,
            (false, true) => Reply::Watch(vec![]),
            (false, false) => Reply::List(vec![]),
        });
        let (_tasks, _messages) = follow_all(&server);
        // What is under way then, or waits for its turn, takes up to half a minute.
        tokio::time::sleep(outage.end + Duration::from_secs(42)).await;
        let asked = server.asked();
        let within = |from: u64, to: u64| {
            let span = outage.start + Duration::from_secs(from)..outage.start + Duration::from_secs(to);
            asked.iter().filter(|asked| span.contains(&(asked.at - start))).count()
        };
        // Nine agents of ten and more would have to draw less than a quarter of each pause.
        assert!(within(60, 300) <= 60, "case {case}: {} requests", within(60, 300));
        assert!(within(0, 300) >= 8, "case {case}: {} requests", within(0, 300));
        let after: Vec<_> = asked.iter().filter(|asked| asked.at >= start + outage.end).collect();
        let first = after.first().unwrap().at;
        for resource in ALL {
            let back = after.iter().find(|asked| asked.resource == resource && asked.watch);
            let late =
                back.unwrap_or_else(|| panic!("case {case}: {resource:?} is not watched again")).at - first;
            // One that hung when the server came back is given up first.
            assert!(late <= Duration::from_secs(13), "case {case}: {resource:?} {late:?} after the first");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_when_to_come_back_is_left_alone_until_then() {
    let server = Server::new(|asked| match (asked.resource, asked.before, asked.watch) {
        (NODES, 0, false) => Reply::Later(429, 40),
        (_, _, true) => Reply::Watch(vec![]),
        (_, _, false) => Reply::List(vec![]),
    });
    let start = Instant::now();
    let (_node, _messages) = follow_node(&server);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_all, _messages) = follow_all(&server);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let asked = server.asked();
    assert_eq!(asked[0].at, start);
    assert!(asked[1].at - start >= Duration::from_secs(40), "{:?}", asked[1].at - start);
    assert!(asked.len() > 8, "all went on then: {}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_resource_refused_alone_is_asked_for_rarely_and_disturbs_no_other() {
    let server = Server::new(|asked| match (asked.resource, asked.watch) {
        (NODES, _) => Reply::Status(403),
        (_, true) => Reply::Watch(vec![]),
        (_, false) => Reply::List(vec![]),
    });
    let start = Instant::now();
    let (_tasks, _messages) = follow_all(&server);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let others = server.asked().into_iter().filter(|asked| asked.resource != NODES);
    for asked in others {
        assert!(asked.at - start < Duration::from_millis(10), "{asked:?} was made to wait");
    }
    tokio::time::sleep(Duration::from_secs(597)).await;
    let refused = server.asked_of(NODES);
    assert!((20..=40).contains(&refused), "{refused} requests in ten minutes");
    // One list and one watch, which kube begins anew every five minutes.
    assert!(server.asked_of(PODS) <= 4, "{} requests", server.asked_of(PODS));
}

#[tokio::test(start_paused = true)]
async fn a_resource_definition_that_is_installed_later_is_found_within_ten_seconds() {
    let start = Instant::now();
    let installed = Duration::from_secs(100);
    let server = Server::new(move |asked| match (asked.resource, asked.watch) {
        (TRACES, _) if asked.at - start < installed => Reply::Status(404),
        (_, true) => Reply::Watch(vec![]),
        (_, false) => Reply::List(vec![]),
    });
    let (_tasks, mut messages) = follow_all(&server);
    loop {
        match messages.recv().await.unwrap() {
            Message::Traces(Delta::Listed(_)) => break,
            Message::Broken(Broken { resource, trouble, .. }) => {
                assert_eq!((resource, trouble), (TRACES, Trouble::NotInstalled));
            }
            _ => assert!(start.elapsed() < Duration::from_secs(1), "the others wait"),
        }
    }
    assert!(start.elapsed() < installed + Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_off_goes_on_where_it_was() {
    let server = Server::new(|asked| match (asked.watch, asked.before) {
        (true, 0) => Reply::CutOff,
        (true, _) => Reply::Watch(vec![json!({"type": "MODIFIED", "object": node("n2")})]),
        (false, _) => Reply::List(vec![node("n1")]),
    });
    let (_task, mut messages) = follow_node(&server);
    assert_eq!(messages.recv().await.unwrap(), Message::Nodes(Delta::Listed(vec![uid("n1")])));
    let cut = messages.recv().await.unwrap();
    assert!(matches!(cut, Message::Broken(Broken { resource: NODES, trouble: Trouble::Cut, .. })), "{cut:?}");
    assert_eq!(messages.recv().await.unwrap(), Message::Nodes(Delta::Applied(uid("n2"))));
    assert_eq!(server.asked_of(NODES), 3, "one list and two watches");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_to_be_listed_again_is_about_every_hour() {
    for (lists_again, lists) in [(true, 21..=31), (false, 1..=1)] {
        let server =
            Server::new(|asked| if asked.watch { Reply::Watch(vec![]) } else { Reply::List(vec![]) });
        let (sender, _messages) = unbounded_channel();
        let watch = Watch { lists_again, ..watch(&server, TRACES, Message::Traces) };
        let _task = AbortOnDrop::spawn(watch.follow(sender));
        tokio::time::sleep(Duration::from_hours(24)).await;
        let listed = server.asked().iter().filter(|asked| !asked.watch).count();
        assert!(lists.contains(&listed), "{listed} lists in a day");
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_told_with_what_it_was_about_and_how_it_ended() {
    let told: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let log = Arc::clone(&told);
    let server = Server::observed(Arc::new(move |answer| log.lock().unwrap().push(answer)), |asked| {
        match (asked.watch, asked.before) {
            (false, 0) => Reply::Status(403),
            (false, 1) => Reply::Hang,
            (false, 2) => Reply::Unreachable,
            (false, _) => Reply::List(vec![]),
            (true, _) => Reply::Watch(vec![]),
        }
    });
    let (sender, _messages) = unbounded_channel();
    let _task = AbortOnDrop::spawn(watch(&server, LEASES, Message::Leases).follow(sender));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let told = told.lock().unwrap().clone();
    let codes: Vec<_> = told.iter().map(|answer| (answer.watch, answer.ending.code())).collect();
    let expected = [(false, "403"), (false, "timeout"), (false, "broken"), (false, "2xx"), (true, "2xx")];
    assert_eq!(codes, expected);
    assert!(told.iter().all(|answer| answer.resource_label() == "leases"), "{told:?}");
    let started: Vec<_> = told.iter().map(|answer| answer.started_watch()).collect();
    assert_eq!(started, [None, None, None, None, Some(LEASES)], "a list starts no watch");
}

#[test]
fn what_a_program_has_not_declared_shares_one_label() {
    let answer = |resource| Answer { resource, watch: true, ending: crate::RequestEnd::Broken };
    assert_eq!(answer(Some(PODS)).resource_label(), "pods");
    assert_eq!(answer(None).resource_label(), "other");
    assert_eq!(answer(Some(PODS)).started_watch(), None, "it did not begin");
}
