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
        Reply::Hang => std::future::pending().await,
        Reply::Unreachable => Err("connection refused".into()),
    }
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
        message,
        lists_again: false,
        from_cache: false,
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

/// The most requests within any second.
fn most_in_a_second(asked: &[Asked]) -> usize {
    let within = |from: Instant| {
        asked.iter().filter(|asked| asked.at >= from && asked.at < from + Duration::from_secs(1)).count()
    };
    asked.iter().map(|asked| within(asked.at)).max().unwrap_or(0)
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
async fn at_most_one_request_a_second_leaves_during_an_outage_and_all_are_back_within_five_seconds() {
    let outage = Duration::from_secs(10)..Duration::from_secs(190);
    // What hangs when the server comes back is given up only then.
    let failures: [(fn() -> Reply, u64); 5] = [
        (|| Reply::Unreachable, 5),
        (|| Reply::Status(503), 5),
        (|| Reply::Status(429), 5),
        (|| Reply::Status(401), 5),
        (|| Reply::Hang, 13),
    ];
    for (case, (failure, within_s)) in failures.into_iter().enumerate() {
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
        tokio::time::sleep(outage.end + Duration::from_secs(within_s)).await;
        let asked = server.asked();
        let inside: Vec<_> =
            asked.iter().filter(|asked| outage.contains(&(asked.at - start))).cloned().collect();
        assert!(inside.len() > 60, "case {case}: {} requests", inside.len());
        assert_eq!(most_in_a_second(&inside), 1, "case {case}");
        for resource in ALL {
            let back =
                |asked: &&Asked| asked.resource == resource && asked.watch && asked.at >= start + outage.end;
            assert!(asked.iter().any(|asked| back(&asked)), "case {case}: {resource:?} is not watched again");
        }
    }
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
async fn only_what_is_to_be_listed_again_is_about_every_five_minutes() {
    for (lists_again, lists) in [(true, 10..=15), (false, 1..=1)] {
        let server =
            Server::new(|asked| if asked.watch { Reply::Watch(vec![]) } else { Reply::List(vec![]) });
        let (sender, _messages) = unbounded_channel();
        let watch = Watch { lists_again, ..watch(&server, TRACES, Message::Traces) };
        let _task = AbortOnDrop::spawn(watch.follow(sender));
        tokio::time::sleep(Duration::from_hours(1)).await;
        let listed = server.asked().iter().filter(|asked| !asked.watch).count();
        assert!(lists.contains(&listed), "{listed} lists in an hour");
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
    let answer = |resource| Answer { resource, watch: true, ending: crate::Ending::Broken };
    assert_eq!(answer(Some(PODS)).resource_label(), "pods");
    assert_eq!(answer(None).resource_label(), "other");
    assert_eq!(answer(Some(PODS)).started_watch(), None, "it did not begin");
}

/// Slices, in a new version and an older one.
fn slices(server: &Server) -> Watch<DynamicObject, String, Message> {
    let older = ApiResource {
        group: "discovery.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "discovery.k8s.io/v1beta1".to_owned(),
        kind: "Kind".to_owned(),
        plural: SLICES.plural().to_owned(),
    };
    let older = Some(Api::all_with(server.client.clone(), &older));
    Watch { older, ..watch(server, SLICES, Message::Leases) }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_the_version_is_asked_for_the_older_one_and_nothing_is_said_of_that() {
    let server = Server::new(|asked| match (asked.version.as_str(), asked.watch) {
        ("v1", _) => Reply::Status(404),
        (_, false) => Reply::List(vec![node("n1")]),
        (_, true) => Reply::Watch(vec![]),
    });
    let (sender, mut messages) = unbounded_channel();
    let _task = AbortOnDrop::spawn(slices(&server).follow(sender));
    assert_eq!(messages.recv().await.unwrap(), Message::Leases(Delta::Listed(vec![uid("n1")])));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let asked: Vec<_> = server.asked().into_iter().map(|asked| (asked.version, asked.watch)).collect();
    let expected = [("v1", false), ("v1beta1", false), ("v1beta1", true)];
    assert_eq!(asked, expected.map(|(version, watch)| (version.to_owned(), watch)));
    assert!(messages.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_neither_version_is_said_to_and_asked_ever_more_rarely_until_it_has_one() {
    let server = Server::new(|asked| match (asked.version.as_str(), asked.before) {
        ("v1", 10..) => Reply::List(vec![node("n1")]),
        _ => Reply::Status(404),
    });
    let (sender, mut messages) = unbounded_channel();
    let _task = AbortOnDrop::spawn(slices(&server).follow(sender));
    let first = messages.recv().await.unwrap();
    assert!(
        matches!(first, Message::Broken(Broken { resource: SLICES, trouble: Trouble::NotInstalled, .. })),
        "{first:?}"
    );
    while messages.recv().await.unwrap() != Message::Leases(Delta::Listed(vec![uid("n1")])) {}
    let asked: Vec<_> = server.asked().iter().map(|asked| asked.at).collect();
    assert!(asked[9] - asked[0] > Duration::from_secs(8), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_every_node_reads_is_listed_from_the_servers_cache_in_one_page() {
    for (from_cache, expected) in [(true, "resourceVersion=0"), (false, "limit=250")] {
        let server =
            Server::new(|asked| if asked.watch { Reply::Watch(vec![]) } else { Reply::List(vec![]) });
        let (sender, mut messages) = unbounded_channel();
        let watch = Watch { from_cache, ..watch(&server, NODES, Message::Nodes) };
        let _task = AbortOnDrop::spawn(watch.follow(sender));
        messages.recv().await.unwrap();
        let query = &server.asked()[0].query;
        assert!(query.contains(expected), "{query}");
        assert_eq!(query.contains("limit="), !from_cache, "{query}");
    }
}
