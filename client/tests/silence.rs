//! A connection whose packets are dropped, and one on which nothing is said though all is well. Both on real sockets and in
//! real time: what notices is the kernel.
#![expect(clippy::unwrap_used, reason = "a scene that cannot be set up is a failure of the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::{ApiResource, DynamicObject};
use kube_tcpstates_client::{AbortOnDrop, Broken, ClientConfig, Delta, Resource, Trouble, Watch};
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const PODS: Resource = Resource::new("", "v1", "pods");

#[derive(Debug)]
enum Message {
    Pods(Delta<String>),
    Broken(Broken),
}

impl From<Broken> for Message {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// What becomes of a watch once its first event is out.
#[derive(Clone, Copy)]
enum Then {
    /// Nothing is sent, and the kernel confirms what comes.
    Quiet,
    /// Whatever comes is dropped as a broken network would: not even confirmed.
    Dropped,
}

/// A server with no pod, whose watches tell of one and then are silent.
async fn serve(listener: TcpListener, then: Then) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, then));
    }
}

async fn answer(mut stream: TcpStream, then: Then) {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        if !String::from_utf8(request).unwrap().contains("watch=true") {
            let list = r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", list.len());
            stream.write_all((head + list).as_bytes()).await.unwrap();
            continue;
        }
        let event = r#"{"type":"ADDED","object":{"metadata":{"name":"a","uid":"u","resourceVersion":"8"}}}"#;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("{head}{:x}\r\n{event}\n\r\n", event.len() + 1);
        stream.write_all(chunk.as_bytes()).await.unwrap();
        if matches!(then, Then::Dropped) {
            // Let the client confirm the event, then be deaf: `ret 0` takes no packet.
            tokio::time::sleep(Duration::from_millis(200)).await;
            SockRef::from(&stream).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
        }
        std::future::pending::<()>().await;
    }
}

/// Follows pods on such a server, from the moment they are in step.
async fn in_step(then: Then) -> (AbortOnDrop, UnboundedReceiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, then));
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n"
    );
    std::fs::write(kubeconfig.path(), text).unwrap();
    let config = ClientConfig {
        user_agent: "test",
        kubeconfig: Some(kubeconfig.path()),
        resources: &[PODS],
        on_answer: Arc::new(|_| ()),
    };
    let client = config.client().await.unwrap();
    let kind = ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
    };
    let watch = Watch::<DynamicObject, String, Message> {
        resource: PODS,
        api: kube::Api::all_with(client, &kind),
        older: None,
        fields: None,
        keep: |object| object.metadata.uid,
        message: Message::Pods,
        seen: None,
        thin: None,
        lists_again: false,
    };
    let (sender, mut messages) = unbounded_channel();
    let task = AbortOnDrop::spawn(watch.follow(sender));
    assert!(matches!(messages.recv().await, Some(Message::Pods(Delta::Listed(_)))));
    assert!(matches!(messages.recv().await, Some(Message::Pods(Delta::Applied(_)))));
    (task, messages)
}

#[tokio::test]
async fn a_connection_whose_packets_are_dropped_is_given_up_within_fifteen_seconds() {
    let (_task, mut messages) = in_step(Then::Dropped).await;
    let start = Instant::now();
    let broken = tokio::time::timeout(Duration::from_secs(20), messages.recv()).await;
    eprintln!("{broken:?} after {:.1} s", start.elapsed().as_secs_f64());
    assert!(matches!(broken, Ok(Some(Message::Broken(Broken { trouble: Trouble::Cut, .. })))), "{broken:?}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_has_nothing_to_say_is_not_given_up() {
    let (_task, mut messages) = in_step(Then::Quiet).await;
    let told = tokio::time::timeout(Duration::from_secs(20), messages.recv()).await;
    assert!(told.is_err(), "{told:?}");
}
