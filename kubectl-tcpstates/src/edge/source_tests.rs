use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;

use super::*;

/// What a stand-in for the API server answers to a path and a body: a status and a body.
type Answer = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

fn cluster(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Cluster {
    let answer: Arc<Answer> = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let path = request.uri().path_and_query().unwrap().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let (code, body) = answer(&path, std::str::from_utf8(&body).unwrap());
            let response = Response::builder().status(code).body(Body::from(body.into_bytes()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    });
    Cluster::with(Client::new(service, "shop"))
}

fn refusal(code: u16, message: &str) -> (u16, String) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": message}).to_string())
}

/// What there is, and what one may.
#[derive(Clone, Copy)]
struct World {
    /// The status of the lines API, and whether one may read there.
    api: (u16, bool),
    /// The status of the list of agents, how many there are, and whether one may read their logs.
    agents: (u16, usize, bool),
}

impl World {
    fn answer(self, path: &str, body: &str) -> (u16, String) {
        if path == API {
            return if self.api.0 == 200 { (200, "{}".to_owned()) } else { refusal(self.api.0, "it is so") };
        }
        if path.contains("selfsubjectaccessreviews") {
            let allowed = if body.contains("lines.tcpstates.dev") { self.api.1 } else { self.agents.2 };
            return (201, json!({"status": {"allowed": allowed}}).to_string());
        }
        assert!(
            path.starts_with("/api/v1/namespaces/kube-tcpstates/pods?labelSelector=app.kubernetes.io%2F"),
            "{path}"
        );
        let pod = json!({"metadata": {"name": "agent-x"}, "spec": {"nodeName": "node-a"}, "status": {"phase": "Running"}});
        match self.agents.0 {
            200 => (200, json!({"items": vec![pod; self.agents.1]}).to_string()),
            code => refusal(code, "it is so"),
        }
    }
}

#[tokio::test]
async fn lines_are_read_where_they_may_be_and_else_it_is_said_what_to_ask_for() {
    let trace = "t".parse::<TraceName>().unwrap().within("shop");
    for (api, agents, expected) in [
        ((200, true), (403, 0, false), Ok(Source::Api)),
        ((404, false), (200, 1, true), Ok(Source::Logs)),
        ((200, false), (200, 1, true), Ok(Source::Logs)),
        ((503, true), (200, 1, true), Ok(Source::Logs)),
        ((404, false), (200, 0, true), Err("no agent runs in the namespace kube-tcpstates: name theirs")),
        (
            (404, false),
            (403, 0, false),
            Err(
                "the lines cannot be read: this cluster has no lines API, and you may not read the agents' logs",
            ),
        ),
        (
            (200, false),
            (200, 1, false),
            Err(
                "you may not read tcpstatetraces/log of lines.tcpstates.dev in the namespace shop, and you may not",
            ),
        ),
        ((401, false), (200, 1, true), Err("the API server does not know you")),
    ] {
        let world = World { api, agents };
        let found = Source::find(&cluster(move |path, body| world.answer(path, body)), &trace).await;
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(trouble), Err(part)) => assert!(trouble.to_string().contains(part), "{trouble}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn agents_are_looked_for_in_the_namespace_that_is_named() {
    let trace = "t".parse::<TraceName>().unwrap().within("shop");
    let world = World { api: (404, false), agents: (200, 0, true) };
    let mut cluster = cluster(move |path, body| {
        assert!(!path.contains("/namespaces/kube-tcpstates/"), "{path}");
        world.answer(&path.replace("/namespaces/observability/", "/namespaces/kube-tcpstates/"), body)
    });
    cluster.agents_namespace = "observability".to_owned();
    let trouble = Source::find(&cluster, &trace).await.unwrap_err().to_string();
    assert!(
        trouble.contains("in the namespace observability: name theirs with --agents-namespace"),
        "{trouble}"
    );
}

/// All pieces of a stream that ends.
async fn pieces(cluster: &Cluster, source: Source, follow: bool) -> Vec<String> {
    let trace = "t".parse::<TraceName>().unwrap().within("shop");
    let made = "2026-11-27T12:00:00Z".parse().unwrap();
    let mut stream = source.open(cluster, Wanted { trace, follow, since: None, exists_since: Some(made) });
    let mut pieces = Vec::new();
    while let Some(piece) = stream.pieces.recv().await {
        pieces.push(match piece {
            Piece::Line { node, text } => format!("{node}:{text}"),
            Piece::Trouble(text) => text,
        });
    }
    pieces
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_the_lines_api_has_not_heard_of_yet_is_asked_for_again() {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let late = cluster(move |path, _| {
        assert!(path.ends_with("/namespaces/shop/tcpstatetraces/t/log?follow=false"), "{path}");
        *count.lock().unwrap() += 1;
        let not_found = || refusal(404, "tcpstatetraces.tcpstates.dev \"t\" not found");
        if *count.lock().unwrap() < 3 { not_found() } else { (200, "one\ntwo\n".to_owned()) }
    });
    assert_eq!(pieces(&late, Source::Api, false).await, [":one", ":two"]);
    assert_eq!(*asked.lock().unwrap(), 3);
    let never = cluster(|_, _| refusal(404, "tcpstatetraces.tcpstates.dev \"t\" not found"));
    let said = pieces(&never, Source::Api, true).await;
    assert!(said.len() == 1 && said[0].contains("\"t\" not found"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_may_not_any_more_is_told_and_not_kept_waiting() {
    let forbidden = cluster(|_, _| refusal(403, "User \"a\" cannot get it"));
    let said = pieces(&forbidden, Source::Api, true).await;
    assert!(said.len() == 1 && said[0].starts_with("you may not read the lines"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_logs_tells_of_the_agent_whose_log_cannot_be_read() {
    let agents = cluster(|path, _| {
        if path.contains("/pods?") {
            let pod =
                |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node}});
            return (200, json!({"items": [pod("a", "node-a"), pod("b", "node-b")]}).to_string());
        }
        if path.ends_with("previous=true") {
            return refusal(400, "there is no container before");
        }
        if path.contains("/pods/a/log?container=agent&follow=false") {
            return (200, "{\"time\":\"2\"}\n{\"time\":\"3\"}\n".to_owned());
        }
        refusal(500, "the kubelet is away")
    });
    let said = pieces(&agents, Source::Logs, false).await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("node-b's agent") && said[0].contains("the kubelet is away"), "{said:?}");
    assert_eq!(said[1..], ["node-a:{\"time\":\"2\"}", "node-a:{\"time\":\"3\"}"]);
}

/// A log of one agent, by its parameters.
async fn told_of(log: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Vec<String> {
    let agents = cluster(move |path, _| {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "node-a"}});
        match path.split_once("/log?container=agent") {
            None => (200, json!({"items": [pod]}).to_string()),
            Some((_, parameters)) => {
                log(parameters).map_or_else(|| refusal(400, "no such log"), |text| (200, text))
            }
        }
    });
    pieces(&agents, Source::Logs, false).await
}

fn line(run: &str, seq: u64, second: u64) -> String {
    format!(r#"{{"time":"2026-11-27T12:00:{second:02}Z","tcpstates":{{"run":"{run}","seq":{seq}}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_log_that_begins_later_than_its_trace_is_told() {
    let late = "node-a: its log begins at 2026-11-27T12:00:05Z; what came before is gone";
    // A trace that was made at 12:00:00.
    for (seq, second, said) in [(7, 5, Some(late)), (1, 5, None)] {
        let text = format!("{}\n", line("a", seq, second));
        let told = told_of(move |log| (!log.contains("previous")).then(|| text.clone())).await;
        let expected: Vec<_> = said.map(str::to_owned).into_iter().collect();
        assert_eq!(told, [&expected[..], &[format!("node-a:{}", line("a", seq, second))]].concat());
    }
    let before = line("a", 7, 0).replace("12:00", "11:59");
    let told = told_of(move |log| (!log.contains("previous")).then(|| format!("{before}\n"))).await;
    assert!(told.len() == 1 && told[0].contains("11:59"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_wrote_before_it_was_started_again_is_read_first() {
    let told = told_of(|log| {
        let before = log.contains("previous");
        Some(format!("{}\n", if before { line("a", 1, 1) } else { line("b", 1, 9) }))
    })
    .await;
    assert_eq!(told, [("a", 1), ("b", 9)].map(|(run, second)| format!("node-a:{}", line(run, 1, second))));
}

#[test]
fn the_api_is_asked_for_no_more_than_is_wanted() {
    let path = |follow, since| {
        let trace = "t".parse::<TraceName>().unwrap().within("shop");
        api_path(&Wanted { trace, follow, since, exists_since: None }, Duration::from_secs(2))
    };
    let base = "/apis/lines.tcpstates.dev/v1alpha1/namespaces/shop/tcpstatetraces/t/log?follow=";
    assert_eq!(path(true, None), format!("{base}true"));
    assert_eq!(path(false, Some(Duration::from_mins(5))), format!("{base}false&sinceSeconds=302"));
    assert_eq!(path(false, Some(Duration::MAX / 2)), format!("{base}false&sinceSeconds=2592000"));
}
