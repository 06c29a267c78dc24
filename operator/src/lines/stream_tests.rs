//! A reader before an API server that knows two agents.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body as RequestBody;
use serde_json::{Value, json};

use super::super::agents::AgentPod;
use super::super::readers::{Bounds, Readers};
use super::super::source::CAUGHT_UP_AT_LATEST;
use super::*;

const BEGIN: &str = "2026-11-27T07:00:00.000000000Z";

/// What a request for a log is answered with.
enum Log {
    /// A whole log.
    Whole(Vec<String>),
    /// One that goes on.
    Open(mpsc::Receiver<Bytes>),
    Refused(StatusCode),
}

/// What the API server has; each log is given out once, in order.
#[derive(Default)]
struct Server {
    logs: BTreeMap<String, VecDeque<Log>>,
    queries: Vec<String>,
    trace_uid: Option<String>,
    is_forbidden: bool,
    /// Answers for nothing but logs.
    is_stuck: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

impl Fake {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: http::Request<RequestBody>| {
            let is_stuck = fake.server().is_stuck && !request.uri().path().ends_with("/log");
            let answer = fake.answer(request.uri());
            async move {
                if is_stuck {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(answer)
            }
        });
        Client::new(service, "kube-tcpstates")
    }

    fn answer(&self, uri: &http::Uri) -> Response<Lines> {
        let whole = |status: StatusCode, text: String| {
            let (sender, receiver) = mpsc::channel(1);
            sender.try_send(Bytes::from(text)).unwrap();
            Response::builder().status(status).body(Lines(receiver)).unwrap()
        };
        let mut server = self.server();
        let Some(rest) = uri.path().strip_prefix("/api/v1/namespaces/kube-tcpstates/pods/") else {
            let object = if uri.path().contains("subjectaccessreviews") {
                json!({"spec": {}, "status": {"allowed": !server.is_forbidden}})
            } else {
                let uid = server.trace_uid.iter();
                let items = uid.map(|uid| json!({"metadata": {"name": "mine", "uid": uid}}));
                json!({"metadata": {}, "items": items.collect::<Vec<_>>()})
            };
            return whole(StatusCode::OK, object.to_string());
        };
        let query = uri.query().unwrap_or_default();
        let pod = rest.trim_end_matches("/log");
        // The beginning of the file is looked at, and a container's start before this one.
        let key = match query {
            _ if query.contains("limitBytes") => format!("{pod} first"),
            _ if query.contains("previous=true") => format!("{pod} previous"),
            _ => pod.to_owned(),
        };
        server.queries.push(format!("{key}: {query}"));
        match server.logs.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(Log::Whole(lines)) => whole(StatusCode::OK, lines.concat()),
            Some(Log::Open(receiver)) => Response::new(Lines(receiver)),
            Some(Log::Refused(status)) => whole(status, status_object(status).to_string()),
            None => whole(StatusCode::BAD_REQUEST, status_object(StatusCode::BAD_REQUEST).to_string()),
        }
    }

    fn log(&self, key: &str, log: Log) {
        self.server().logs.entry(key.to_owned()).or_default().push_back(log);
    }
}

fn status_object(status: StatusCode) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no such log", "reason": "BadRequest",
           "code": status.as_u16()})
}

/// As the container's runtime has it: `second` is the time, also of its writing.
fn line(run: &str, seq: u64, second: u64, trace: &str) -> String {
    let time = format!("2026-11-27T08:00:{second:02}.000000000Z");
    format!(
        "{time} {{\"time\":\"{time}\",\"tcpstates\":{{\"type\":\"transition\",\"schema\":\"tcpstates.dev/events/v1\",\
         \"run\":\"{run}\",\"seq\":{seq},\"traces\":[\"{trace}\"]}}}}\n"
    )
}

fn agent(number: u64) -> AgentPod {
    AgentPod {
        uid: format!("uid-{number}"),
        name: format!("agent-{number}"),
        node: format!("node-{number}"),
        restarts: 0,
        started: Some(BEGIN.parse().unwrap()),
    }
}

struct Stage {
    fake: Fake,
    agents: watch::Sender<Agents>,
    sources: Arc<Sources>,
}

impl Stage {
    fn new(agents: impl IntoIterator<Item = u64>) -> Self {
        let fake = Fake::default();
        fake.server().trace_uid = Some("u".to_owned());
        let (sender, receiver) = watch::channel(None);
        let client = fake.client();
        let access = Access::new(client.clone());
        let stage =
            Self { fake, agents: sender, sources: Arc::new(Sources { client, agents: receiver, access }) };
        stage.have(agents);
        stage
    }

    fn have(&self, agents: impl IntoIterator<Item = u64>) {
        let agents = agents.into_iter().map(agent).map(|agent| (agent.uid.clone(), agent));
        self.agents.send_replace(Some(Arc::new(agents.collect())));
    }

    async fn open(&self, query: &str) -> Result<Lines, Refusal> {
        let trace = Trace { namespace: Some("shop".to_owned()), name: "mine".to_owned() };
        let caller = Caller { user: "tenant".to_owned(), ..Caller::default() };
        let query = Query::parse(query).unwrap();
        let request = Request { trace, subresource: Subresource::Log, query, caller };
        let found = Found { uid: "u".to_owned(), created: BEGIN.parse().unwrap() };
        let reader = Readers::new(Bounds { per_user: 1, per_namespace: 1, in_all: 1 });
        let reader = reader.enter("tenant", Some("shop"));
        open(&self.sources, request, found, reader.unwrap()).await
    }
}

/// The next piece's lines, each as what tells it from others.
async fn piece(lines: &mut Lines) -> Vec<String> {
    let Some(piece) = lines.frame().await else { return Vec::new() };
    let piece = piece.unwrap().into_data().unwrap();
    let told = str::from_utf8(&piece).unwrap().lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let own = &line["tcpstates"];
        let text = |key: &str| own[key].as_str().unwrap_or_default().to_owned();
        match own["type"].as_str().unwrap() {
            "transition" => format!("{} {}", text("run"), own["seq"]),
            "missing" => format!(
                "{}: {} {}{}",
                line["k8s"]["node"]["name"].as_str().unwrap(),
                text("reason"),
                text("run"),
                text("text")
            ),
            _ => format!("end: {}", text("reason")),
        }
    });
    told.collect()
}

async fn all(mut lines: Lines) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let piece = piece(&mut lines).await;
        if piece.is_empty() {
            return told;
        }
        told.extend(piece);
    }
}

#[tokio::test]
async fn the_logs_of_all_agents_become_one_and_foreign_lines_stay_out() {
    let stage = Stage::new([1, 2]);
    let mine = |run, seq, second| line(run, seq, second, "shop/mine");
    stage
        .fake
        .log("agent-1", Log::Whole(vec![mine("a", 1, 1), mine("a", 2, 4), line("a", 3, 5, "bank/mine")]));
    stage
        .fake
        .log("agent-2", Log::Whole(vec![mine("b", 1, 2), line("b", 2, 3, "shop/min"), mine("b", 3, 3)]));
    assert_eq!(all(stage.open("").await.unwrap()).await, ["a 1", "b 1", "b 3", "a 2", "end: complete"]);
}

/// The namespace may have been somebody else's then.
#[tokio::test]
async fn what_is_older_than_the_trace_is_of_another_one() {
    let stage = Stage::new([1]);
    let older = line("a", 1, 1, "shop/mine").replace("T08:", "T06:");
    stage.fake.log("agent-1", Log::Whole(vec![older, line("a", 2, 1, "shop/mine")]));
    assert_eq!(all(stage.open("").await.unwrap()).await, ["a 2", "end: complete"]);
}

#[tokio::test]
async fn as_many_lines_come_as_were_asked_for() {
    let stage = Stage::new([1]);
    let log = (1..9).map(|seq| line("a", seq, seq, "shop/mine"));
    stage.fake.log("agent-1", Log::Whole(log.collect()));
    assert_eq!(all(stage.open("limit=2").await.unwrap()).await, ["a 1", "a 2", "end: limit"]);
}

#[tokio::test]
async fn what_does_not_come_is_told() {
    let stage = Stage::new([1, 2]);
    let mine = |seq, second| line("a", seq, second, "shop/mine");
    // What was rotated away before, and what went between.
    stage.fake.log("agent-1 first", Log::Whole(vec![mine(5, 1)]));
    stage.fake.log("agent-1", Log::Whole(vec![mine(5, 1), mine(9, 2)]));
    stage.fake.log("agent-2", Log::Refused(StatusCode::BAD_GATEWAY));
    let mut told = all(stage.open("").await.unwrap()).await;
    told.sort();
    assert_eq!(
        told,
        [
            "a 5",
            "a 9",
            "end: complete",
            "node-1: gap a",
            "node-1: rotated ",
            "node-2: unreadable no such log"
        ]
    );
}

#[tokio::test]
async fn without_any_agent_that_answers_there_is_no_stream() {
    let unavailable = |refusal: Option<Refusal>| match refusal {
        Some(Refusal::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    };
    let stage = Stage::new([1, 2]);
    let why = unavailable(stage.open("").await.err());
    assert!(why.starts_with("no agent's log can be read: node-"), "{why}");
    assert_eq!(unavailable(Stage::new([]).open("").await.err()), "no agent runs");
    // Nor one whose container has not run yet.
    let stage = Stage::new([]);
    let starting = AgentPod { started: None, ..agent(1) };
    stage.agents.send_replace(Some(Arc::new(BTreeMap::from([("uid-1".to_owned(), starting)]))));
    assert_eq!(unavailable(stage.open("").await.err()), "no agent runs");
}

#[tokio::test]
async fn who_follows_gets_what_comes_once_over_rotations_and_new_agents() {
    let stage = Stage::new([1]);
    let mine = |run, seq, second| line(run, seq, second, "shop/mine");
    // The kubelet ends the stream as it changes the file; what comes then begins a little earlier.
    stage.fake.log("agent-1", Log::Whole(vec![mine("a", 1, 1), mine("a", 2, 2)]));
    let (sender, receiver) = mpsc::channel(4);
    sender.send(Bytes::from(mine("a", 2, 2) + &mine("a", 3, 3))).await.unwrap();
    stage.fake.log("agent-1", Log::Open(receiver));
    let mut lines = stage.open("follow=true").await.unwrap();
    assert_eq!([piece(&mut lines).await, piece(&mut lines).await].concat(), ["a 1", "a 2", "a 3"]);

    stage.fake.log("agent-2", Log::Whole(vec![mine("b", 1, 4)]));
    stage.have([1, 2]);
    assert_eq!(piece(&mut lines).await, ["b 1"]);
    // The pod is deleted, and nothing says that its run had come to an end.
    drop(sender);
    stage.have([2]);
    assert_eq!(piece(&mut lines).await, ["node-1: unfinished a"]);
    let queries = stage.fake.server().queries.join("\n");
    assert!(
        queries.contains("agent-1: &container=agent&follow=true&sinceTime=2026-11-27T08%3A00%3A02Z"),
        "{queries}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_that_falls_silent_is_opened_again_and_ever_more_rarely_where_nothing_is_new() {
    let stage = Stage::new([1]);
    let mine = |seq, second| line("a", seq, second, "shop/mine");
    let mut senders = Vec::new();
    let mut open = |lines: String| {
        let (sender, receiver) = mpsc::channel(4);
        sender.try_send(Bytes::from(lines)).unwrap();
        senders.push(sender);
        stage.fake.log("agent-1", Log::Open(receiver));
    };
    // The kubelet goes on with the file that was rotated away.
    open(mine(1, 1) + &mine(2, 2));
    open(mine(2, 2) + &mine(3, 3));
    // From then on there is nothing new.
    (0..20).for_each(|_| open(mine(3, 3)));
    let start = Instant::now();
    let mut lines = stage.open("follow=true").await.unwrap();
    let mut got = Vec::new();
    while got.len() < 3 {
        let piece = tokio::time::timeout(Duration::from_mins(1), piece(&mut lines)).await;
        got.extend(piece.expect("what is in the new file"));
    }
    assert_eq!(got, ["a 1", "a 2", "a 3"]);
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    let asked = || stage.fake.server().queries.iter().filter(|query| query.starts_with("agent-1:")).count();
    assert_eq!(asked(), 2);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!((8..=13).contains(&asked()), "{} requests in ten minutes", asked());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_busy_with_others_lines_holds_nobody_up() {
    // Written before it was opened, by a clock that is behind; and since.
    for (year, within) in [("2026", CAUGHT_UP_AT_LATEST * 2), ("2126", Duration::from_secs(2))] {
        let stage = Stage::new([1, 2]);
        let (busy, receiver) = mpsc::channel(4);
        stage.fake.log("agent-1", Log::Open(receiver));
        let (sender, receiver) = mpsc::channel(4);
        sender.send(line("b", 1, 1, "shop/mine").into()).await.unwrap();
        stage.fake.log("agent-2", Log::Open(receiver));
        let writing = tokio::spawn(async move {
            for seq in 1.. {
                let line = line("a", seq, 1, "bank/mine").replace("2026-", &format!("{year}-"));
                if busy.send(line.into()).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        let mut lines = stage.open("follow=true").await.unwrap();
        let piece = tokio::time::timeout(within, piece(&mut lines)).await;
        assert_eq!(piece.expect("it comes"), ["b 1"], "{year}");
        writing.abort();
    }
}

#[tokio::test]
async fn a_container_that_was_started_again_is_read_from_its_start_before() {
    let stage = Stage::new([]);
    let restarted =
        AgentPod { restarts: 1, started: Some("2026-11-27T08:00:03Z".parse().unwrap()), ..agent(1) };
    stage.agents.send_replace(Some(Arc::new(BTreeMap::from([("uid-1".to_owned(), restarted)]))));
    let mine = |run, seq, second| line(run, seq, second, "shop/mine");
    stage.fake.log("agent-1 previous", Log::Whole(vec![mine("a", 1, 1), mine("a", 2, 2)]));
    stage.fake.log("agent-1", Log::Whole(vec![mine("b", 1, 4)]));
    let told = all(stage.open("").await.unwrap()).await;
    assert_eq!(told, ["a 1", "a 2", "node-1: unfinished a", "b 1", "end: complete"]);
}

#[tokio::test]
async fn a_start_before_of_which_nothing_is_left_is_told() {
    let stage = Stage::new([]);
    let restarted =
        AgentPod { restarts: 1, started: Some("2026-11-27T08:00:03Z".parse().unwrap()), ..agent(1) };
    stage.agents.send_replace(Some(Arc::new(BTreeMap::from([("uid-1".to_owned(), restarted)]))));
    let mine = |run, seq, second| line(run, seq, second, "shop/mine");
    stage.fake.log("agent-1 first", Log::Refused(StatusCode::BAD_REQUEST));
    stage.fake.log("agent-1 first", Log::Whole(vec![mine("b", 1, 4)]));
    stage.fake.log("agent-1", Log::Whole(vec![mine("b", 1, 4)]));
    let told = all(stage.open("").await.unwrap()).await;
    assert_eq!(told, ["node-1: rotated ", "b 1", "end: complete"]);
}

/// An agent's log that says nothing until somebody writes to it. It is opened a second time meanwhile.
fn silent_log(stage: &Stage) -> [mpsc::Sender<Bytes>; 2] {
    [(); 2].map(|()| {
        let (sender, receiver) = mpsc::channel(1);
        stage.fake.log("agent-1", Log::Open(receiver));
        sender
    })
}

#[tokio::test(start_paused = true)]
async fn who_may_read_no_longer_and_who_reads_a_trace_that_is_gone_is_told_so() {
    for (uid, is_forbidden, end) in [
        (Some("u"), true, "end: forbidden"),
        (None, false, "end: deleted"),
        (Some("another"), false, "end: deleted"),
    ] {
        let stage = Stage::new([1]);
        let _senders = silent_log(&stage);
        let mut lines = stage.open("follow=true").await.unwrap();
        stage.fake.server().is_forbidden = is_forbidden;
        stage.fake.server().trace_uid = uid.map(str::to_owned);
        assert_eq!(piece(&mut lines).await, [end]);
        assert_eq!(piece(&mut lines).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn lines_go_on_while_the_api_server_does_not_say_whether_they_may() {
    let stage = Stage::new([1]);
    let [_first, sender] = silent_log(&stage);
    let mut lines = stage.open("follow=true").await.unwrap();
    stage.fake.server().is_stuck = true;
    tokio::time::sleep(ASKED_EVERY + Duration::from_secs(1)).await;
    for seq in [1, 2] {
        sender.send(line("a", seq, seq, "shop/mine").into()).await.unwrap();
        let piece = tokio::time::timeout(Duration::from_secs(2), piece(&mut lines)).await;
        assert_eq!(piece.expect("it comes"), [format!("a {seq}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_agents_write_when_they_hear_that_a_trace_is_gone_is_passed_on() {
    let stage = Stage::new([1]);
    let [_first, sender] = silent_log(&stage);
    let mut lines = stage.open("follow=true").await.unwrap();
    stage.fake.server().trace_uid = None;
    tokio::time::sleep(ASKED_EVERY + Duration::from_millis(500)).await;
    sender.send(line("a", 1, 1, "shop/mine").into()).await.unwrap();
    assert_eq!(piece(&mut lines).await, ["a 1"]);
    assert_eq!(piece(&mut lines).await, ["end: deleted"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_given_up_and_nothing_is_kept_for_it() {
    let stage = Stage::new([1]);
    let log = (1..5000).map(|seq| line("a", seq, 1, "shop/mine"));
    stage.fake.log("agent-1", Log::Whole(log.collect()));
    let lines = stage.open("").await.unwrap();
    tokio::time::sleep(STALLED_AFTER + Duration::from_secs(5)).await;
    let told = all(lines).await;
    assert_eq!(told.last().map(String::as_str), Some("end: slow"));
    assert!(told.len() < 1000, "{} lines were kept", told.len());
}
