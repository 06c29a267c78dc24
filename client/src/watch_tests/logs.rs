//! What pods' logs say about the server: nothing, where a node may be to blame.

use super::*;

/// Asks ten times in a row for a log, and then for a node; how long that one waited.
async fn waited_behind_logs(of_log: fn() -> Reply) -> Duration {
    let server = Server::new(move |asked| match asked.resource {
        PODS => of_log(),
        _ => Reply::List(vec![]),
    });
    let get = async |path: &str| {
        let request = Request::get(path).body(Vec::new()).unwrap();
        server.client.request_text(request).await
    };
    for _ in 0..10 {
        get("/api/v1/namespaces/shop/pods/agent-1/log").await.unwrap_err();
    }
    let start = Instant::now();
    get("/api/v1/nodes/node-a").await.unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_for_its_logs_holds_nobody_up() {
    let failures: [fn() -> Reply; 4] =
        [|| Reply::Status(500), || Reply::Status(502), || Reply::Hang, || Reply::Later(503, 40)];
    for (case, failure) in failures.into_iter().enumerate() {
        let waited = waited_behind_logs(failure).await;
        assert_eq!(waited, Duration::ZERO, "case {case}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_server_itself_says_counts_of_logs_too() {
    let failures: [fn() -> Reply; 4] =
        [|| Reply::Status(401), || Reply::Status(429), || Reply::Unreachable, || Reply::Later(429, 40)];
    for (case, failure) in failures.into_iter().enumerate() {
        let waited = waited_behind_logs(failure).await;
        assert!(waited > Duration::ZERO, "case {case}");
    }
}
