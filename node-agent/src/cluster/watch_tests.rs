//! Watches against a server of our own making, in this process and on paused time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use kube_tcpstates_crds::TraceKind;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;
use tower::{BoxError, Layer as _};

use crate::cluster::change::{Change, NodeObject, Told};
use crate::cluster::layer::GuardLayer;
use crate::cluster::{Resource, Task, Trouble, objects};

/// A request that reached the server.
#[derive(Clone, Debug)]
struct Asked {
    resource: Resource,
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
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let resource = Resource::of_path(request.uri().path()).unwrap();
            let watch = request.uri().query().unwrap_or_default().contains("watch=true");
            let mut log = log.lock().unwrap();
            let same = |asked: &&Asked| (asked.resource, asked.watch) == (resource, watch);
            let now = Asked { resource, watch, at: Instant::now(), before: log.iter().filter(same).count() };
            log.push(now.clone());
            let reply = answer(&now);
            async move { respond(reply).await }
        });
        let guarded = GuardLayer::new(Arc::new(|_| ())).layer(service);
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

fn object(uid: &str) -> NodeObject {
    NodeObject { uid: uid.to_owned(), labels: BTreeMap::new() }
}

fn follow_node(server: &Server) -> (Task, UnboundedReceiver<Change>) {
    let (sender, changes) = unbounded_channel();
    (Task::spawn(objects::node(&server.client, "node-a").follow(sender)), changes)
}

/// Every resource that has to be watched.
fn follow_all(server: &Server) -> (Vec<Task>, UnboundedReceiver<Change>) {
    let (sender, changes) = unbounded_channel();
    let client = &server.client;
    let tasks = vec![
        Task::spawn(objects::pods(client, "node-a").follow(sender.clone())),
        Task::spawn(objects::node(client, "node-a").follow(sender.clone())),
        Task::spawn(objects::traces(client, TraceKind::Namespaced).follow(sender.clone())),
        Task::spawn(objects::traces(client, TraceKind::Cluster).follow(sender)),
    ];
    (tasks, changes)
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
    let (_task, mut changes) = follow_node(&server);
    assert_eq!(changes.recv().await.unwrap(), Change::Nodes(Told::All(vec![object("n1")])));
    assert_eq!(changes.recv().await.unwrap(), Change::Nodes(Told::Applied(object("n2"))));
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
    let (_task, mut changes) = follow_node(&server);
    for uid in ["n0", "n1", "n2"] {
        let told = match changes.recv().await.unwrap() {
            Change::Broken(Resource::Nodes, Trouble::Gone, _) => changes.recv().await.unwrap(),
            told => told,
        };
        assert_eq!(told, Change::Nodes(Told::All(vec![object(uid)])));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_is_given_up_after_ten_seconds() {
    let server =
        Server::new(
            |asked| if asked.before == 0 && !asked.watch { Reply::Hang } else { Reply::List(vec![]) },
        );
    let start = Instant::now();
    let (_task, mut changes) = follow_node(&server);
    let Change::Broken(Resource::Nodes, Trouble::Failing, reason) = changes.recv().await.unwrap() else {
        panic!("the list is not given up");
    };
    assert!(reason.contains("no answer within 10 s"), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(changes.recv().await.unwrap(), Change::Nodes(Told::All(vec![])));
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
        let (_tasks, _changes) = follow_all(&server);
        tokio::time::sleep(outage.end + Duration::from_secs(within_s)).await;
        let asked = server.asked();
        let inside: Vec<_> =
            asked.iter().filter(|asked| outage.contains(&(asked.at - start))).cloned().collect();
        assert!(inside.len() > 60, "case {case}: {} requests", inside.len());
        assert_eq!(most_in_a_second(&inside), 1, "case {case}");
        for resource in Resource::REQUIRED {
            let back =
                |asked: &&Asked| asked.resource == resource && asked.watch && asked.at >= start + outage.end;
            assert!(asked.iter().any(|asked| back(&asked)), "case {case}: {resource:?} is not watched again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_refused_alone_is_asked_for_rarely_and_disturbs_no_other() {
    let server = Server::new(|asked| match (asked.resource, asked.watch) {
        (Resource::Nodes, _) => Reply::Status(403),
        (_, true) => Reply::Watch(vec![]),
        (_, false) => Reply::List(vec![]),
    });
    let start = Instant::now();
    let (_tasks, _changes) = follow_all(&server);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let others = server.asked().into_iter().filter(|asked| asked.resource != Resource::Nodes);
    for asked in others {
        assert!(asked.at - start < Duration::from_millis(10), "{asked:?} was made to wait");
    }
    tokio::time::sleep(Duration::from_secs(597)).await;
    let refused = server.asked_of(Resource::Nodes);
    assert!((20..=40).contains(&refused), "{refused} requests in ten minutes");
    // One list and one watch, which kube begins anew every five minutes.
    assert!(server.asked_of(Resource::Pods) <= 4, "{} requests", server.asked_of(Resource::Pods));
}

#[tokio::test(start_paused = true)]
async fn a_resource_definition_that_is_installed_later_is_found_within_ten_seconds() {
    let start = Instant::now();
    let installed = Duration::from_secs(100);
    let server = Server::new(move |asked| match (asked.resource, asked.watch) {
        (Resource::Traces, _) if asked.at - start < installed => Reply::Status(404),
        (_, true) => Reply::Watch(vec![]),
        (_, false) => Reply::List(vec![]),
    });
    let (_tasks, mut changes) = follow_all(&server);
    loop {
        match changes.recv().await.unwrap() {
            Change::Traces(TraceKind::Namespaced, told) if matches!(*told, Told::All(_)) => break,
            Change::Broken(resource, trouble, _) => {
                assert_eq!((resource, trouble), (Resource::Traces, Trouble::NotInstalled));
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
    let (_task, mut changes) = follow_node(&server);
    assert_eq!(changes.recv().await.unwrap(), Change::Nodes(Told::All(vec![object("n1")])));
    let cut = changes.recv().await.unwrap();
    assert!(matches!(cut, Change::Broken(Resource::Nodes, Trouble::Cut, _)), "{cut:?}");
    assert_eq!(changes.recv().await.unwrap(), Change::Nodes(Told::Applied(object("n2"))));
    assert_eq!(server.asked_of(Resource::Nodes), 3, "one list and two watches");
}
