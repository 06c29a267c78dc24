use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use kube_tcpstates_client::{Delta, Trouble};
use kube_tcpstates_crds::{TraceKind, TraceStatus};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Driver, Failure, Message, Right};
use crate::fold::{Change, NodeObject, Report, Trace};
use crate::lease::Term;
use crate::telemetry::Board;

/// A request as the server got it, and when.
#[derive(Clone, Debug)]
struct Asked {
    at: Instant,
    path: String,
    body: Value,
}

/// A driver with its server, which answers with a code.
struct Scene {
    driver: Driver,
    messages: UnboundedSender<Message>,
    term: watch::Sender<Option<Instant>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    start: Instant,
}

impl Scene {
    /// `answer`: what the server says to the n-th request.
    fn new(answer: impl Fn(usize) -> StatusCode + Send + Sync + 'static) -> Self {
        Self::answering(move |number, _| answer(number))
    }

    /// `answer`: what the server says to the n-th request, by its path.
    fn answering(answer: impl Fn(usize, &str) -> StatusCode + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
            async move {
                let path = request.uri().path().to_owned();
                let bytes = request.into_body().collect_bytes().await?;
                let body: Value = serde_json::from_slice(&bytes)?;
                let code = {
                    let mut noted = noted.lock().unwrap();
                    let code = answer(noted.len(), &path);
                    noted.push(Asked { at: Instant::now(), path, body: body.clone() });
                    code
                };
                let said = if code.is_success() {
                    body
                } else {
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no",
                        "reason": "No", "code": code.as_u16(), "details": {"retryAfterSeconds": 5}})
                };
                let response =
                    Response::builder().status(code).body(Body::from(said.to_string().into_bytes()));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response?)
            }
        });
        let client = Client::new(service, "default");
        let ((messages, receiver), (term, held)) = (unbounded_channel(), watch::channel(None));
        let driver = Driver::new(client, receiver, Term::of(held), "me", Board::default());
        Self { driver, messages, term, asked, start: Instant::now() }
    }

    fn tell(&self, change: Change) {
        self.messages.send(Message::Change(Box::new(change))).unwrap();
    }

    /// One node, no report, these traces.
    fn list(&self, traces: Vec<Trace>) {
        let node = NodeObject { name: "n1".to_owned(), ..NodeObject::default() };
        self.tell(Change::Nodes(Delta::Listed(vec![node])));
        self.tell(Change::Reports(Delta::Listed(Vec::new())));
        self.tell(Change::Traces(TraceKind::Cluster, Delta::Listed(Vec::new())));
        self.tell(Change::Traces(TraceKind::Namespaced, Delta::Listed(traces)));
    }

    fn lead(&self, seconds: u64) {
        self.term.send_replace(Some(Instant::now() + Duration::from_secs(seconds)));
    }

    /// What was asked of the server within so many seconds.
    async fn run(&mut self, seconds: u64) -> Vec<Asked> {
        let before = self.asked.lock().unwrap().len();
        let _ = tokio::time::timeout(Duration::from_secs(seconds), self.driver.run()).await;
        self.asked.lock().unwrap()[before..].to_vec()
    }
}

fn trace(namespace: &str, name: &str, spec: &Value) -> Trace {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-11-22T15:00:00Z"},
        "spec": spec,
    });
    Trace::from_api(TraceKind::Namespaced, &object).unwrap()
}

fn all() -> Value {
    json!({"podSelector": {}})
}

fn report(number: u32) -> Change {
    let object = json!({
        "metadata": {"name": "n1"},
        "status": {"lastReportTime": format!("2026-11-22T15:00:{number:02}Z"), "tracesLoaded": 1,
            "traces": [{"uid": "uid-a", "generation": 1, "state": "Tracing", "pods": number}]},
    });
    Change::Reports(Delta::Applied(Report::from_api(&object).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn only_the_one_that_leads_writes_and_only_as_long_as_it_does() {
    let mut scene = Scene::new(|_| StatusCode::OK);
    scene.list(vec![trace("shop", "a", &all())]);
    assert_eq!(scene.run(30).await.len(), 0, "it does not lead");
    scene.lead(6);
    let written = scene.run(1).await;
    let [status] = &written[..] else { panic!("{written:?}") };
    assert_eq!(status.path, "/apis/tcpstates.dev/v1alpha1/namespaces/shop/tcpstatetraces/a/status");
    assert_eq!(status.body["status"]["conditions"][0]["reason"], "Valid");
    assert_eq!(status.body["metadata"]["uid"], "uid-a");
    assert!(status.body.get("spec").is_none());
    assert_eq!(scene.run(4).await.len(), 0, "nothing has changed");
    scene.tell(report(1));
    let written = scene.run(1).await;
    assert_eq!(written.len(), 2, "the status and an Event: {written:?}");
    assert_eq!(written[1].path, "/apis/events.k8s.io/v1/namespaces/shop/events");
    scene.run(1).await;
    scene.tell(Change::Nodes(Delta::Listed(Vec::new())));
    assert_eq!(scene.run(20).await.len(), 0, "its term is over");
}

#[tokio::test(start_paused = true)]
async fn a_mistake_is_told_within_a_second() {
    let mut scene = Scene::new(|_| StatusCode::OK);
    scene.list(Vec::new());
    scene.lead(100);
    scene.run(10).await;
    let made = Instant::now();
    let wrong = trace("shop", "a", &json!({"podSelector": {}, "mode": "Nothing"}));
    scene.tell(Change::Traces(TraceKind::Namespaced, Delta::Applied(wrong)));
    let written = scene.run(5).await;
    assert_eq!(written.len(), 2, "{written:?}");
    assert!(written[1].at < made + Duration::from_secs(1), "{written:?}");
    assert_eq!(written[1].body["type"], "Warning");
}

#[tokio::test(start_paused = true)]
async fn each_edit_is_told_and_a_mistake_made_again_is_the_same_event() {
    let mut scene = Scene::new(|_| StatusCode::OK);
    scene.list(Vec::new());
    scene.lead(1_000);
    scene.run(10).await;
    let (mut events, mut status) = (Vec::new(), TraceStatus::default());
    for (generation, mode) in [(1, "Nothing"), (2, "Transitions"), (3, "Nothing")] {
        let mut edited = trace("shop", "a", &json!({"podSelector": {}, "mode": mode}));
        (edited.generation, edited.status) = (generation, status);
        scene.tell(Change::Traces(TraceKind::Namespaced, Delta::Applied(edited)));
        let written = scene.run(1).await;
        assert_eq!(written[0].body["status"]["observedGeneration"], generation, "{written:?}");
        status = serde_json::from_value(written[0].body["status"].clone()).unwrap();
        events.extend(written[1..].iter().cloned());
    }
    let [made, mended, again] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&made.body["type"], &mended.body["type"]), (&json!("Warning"), &json!("Normal")));
    let name = made.body["metadata"]["name"].as_str().unwrap();
    assert!(again.path.ends_with(&format!("/events/{name}")), "{again:?}");
    assert_eq!(again.body["series"]["count"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_gets_it_from_all_writes() {
    let mut scene =
        Scene::new(|number| if number == 0 { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK });
    scene.lead(100);
    scene.list((0..20).map(|number| trace("shop", &format!("t{number}"), &all())).collect());
    let written = scene.run(30).await;
    let held = written.iter().filter(|asked| asked.at < scene.start + Duration::from_secs(5)).count();
    // Those that were under way.
    assert!(held <= super::AT_ONCE, "{held}");
    assert_eq!(written.len(), 21, "each was written, one of them at the second try");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_tried_again_and_what_is_gone_is_not_told() {
    let mut scene =
        Scene::new(|number| if number < 3 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK });
    scene.lead(100);
    scene.list(vec![trace("shop", "a", &all())]);
    let times: Vec<_> = scene.run(30).await.iter().map(|asked| asked.at).collect();
    assert_eq!(times.len(), 4, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(600)), "{times:?}");

    let mut scene = Scene::new(|_| StatusCode::NOT_FOUND);
    scene.lead(100);
    scene.list(vec![trace("shop", "a", &json!({"podSelector": {}, "mode": "Nothing"}))]);
    assert!(scene.run(1).await.iter().all(|asked| asked.path.ends_with("/status")), "no Event");
    scene.tell(Change::Traces(TraceKind::Namespaced, Delta::Listed(Vec::new())));
    scene.run(1).await;
    assert_eq!(scene.run(60).await.len(), 0, "nobody writes what is gone");
}

fn cluster_trace(name: &str, spec: &Value) -> Trace {
    let object = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-11-22T15:00:00Z"},
        "spec": spec,
    });
    Trace::from_api(TraceKind::Cluster, &object).unwrap()
}

/// Paths of the requests about Events when a cluster trace is wrong, mended and wrong again, and another is wrong.
async fn cluster_events(answer: impl Fn(&str) -> StatusCode + Send + Sync + 'static) -> Vec<String> {
    let mut scene = Scene::answering(move |_, path| answer(path));
    scene.list(Vec::new());
    scene.lead(1_000);
    scene.run(10).await;
    let (mut paths, mut status) = (Vec::new(), TraceStatus::default());
    for (name, generation, mode) in
        [("a", 1, "Nothing"), ("a", 2, "Transitions"), ("a", 3, "Nothing"), ("b", 1, "Nothing")]
    {
        let spec = json!({"podSelector": {}, "namespaceSelector": {}, "mode": mode});
        let mut edited = cluster_trace(name, &spec);
        edited.generation = generation;
        if name == "a" {
            edited.status = std::mem::take(&mut status);
        }
        scene.tell(Change::Traces(TraceKind::Cluster, Delta::Applied(edited)));
        let written = scene.run(1).await;
        status = serde_json::from_value(written[0].body["status"].clone()).unwrap();
        for asked in &written[1..] {
            let namespace = asked.path.trim_start_matches("/apis/events.k8s.io/v1/namespaces/");
            if asked.path.ends_with("/events") {
                assert!(namespace.starts_with(asked.body["metadata"]["namespace"].as_str().unwrap()));
            }
            paths.push(namespace.split('.').next().unwrap().to_owned());
        }
    }
    paths
}

#[tokio::test(start_paused = true)]
async fn events_about_cluster_traces_are_where_the_server_takes_them() {
    assert_eq!(
        cluster_events(|_| StatusCode::OK).await,
        ["default/events", "default/events", "default/events/a", "default/events"]
    );
    let old = |path: &str| {
        let is_refused = path.ends_with("/namespaces/default/events");
        if is_refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
    };
    let home = "kube-system/events";
    assert_eq!(
        cluster_events(old).await,
        ["default/events", home, home, "kube-system/events/a", home],
        "it is tried once"
    );
    let never = |path: &str| {
        let is_event = path.contains("/events");
        if is_event { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
    };
    let both = ["default/events", home];
    assert_eq!(cluster_events(never).await, [both, both, both, both].concat(), "and left out");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_written_is_told_though_all_else_is_written_meanwhile() {
    let refused = Failure::Failed(Trouble::Forbidden, "no".to_owned());
    for right in [Right::Status(TraceKind::Namespaced), Right::Status(TraceKind::Cluster), Right::Again] {
        let mut scene = Scene::new(|_| StatusCode::OK);
        let mut said = Vec::new();
        for second in 0..5 {
            let now = scene.start + Duration::from_secs(second);
            said.extend(scene.driver.news(right, Some(&refused), now));
            scene.driver.news(Right::Make, None, now);
        }
        assert_eq!(said, ["no"], "{right:?}");
    }
}
