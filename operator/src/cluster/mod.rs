//! What the operator asks of the Kubernetes API, and what it writes.
//!
//! ```text
//!  API server ─► objects, watched ─ Message ─► drive ◄─► fold
//!      ▲                                         │
//!      └─── write: status, Events (announce) ◄── queue, while the term lasts
//! ```

mod announce;
mod drive;
mod objects;
mod queue;
pub mod resources;
mod write;

use std::path::Path;

use kube::Client;
use kube_tcpstates_client::{AbortOnDrop, ClientConfig, ClientError};
use kube_tcpstates_crds::TraceKind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::drive::Driver;
use self::objects::Message;
use crate::lease::Term;
use crate::telemetry::Board;

/// A connection to the cluster, not used yet.
pub struct Cluster {
    client: Client,
    messages: (UnboundedSender<Message>, UnboundedReceiver<Message>),
    board: Board,
}

impl Cluster {
    /// Reads the configuration. The server may be away.
    pub async fn connect(kubeconfig: Option<&Path>, board: &Board) -> Result<Self, ClientError> {
        let messages = unbounded_channel();
        let (sender, counted) = (messages.0.clone(), board.clone());
        let config = ClientConfig {
            user_agent: concat!("kube-tcpstates-operator/", env!("CARGO_PKG_VERSION")),
            kubeconfig,
            resources: &resources::ALL,
            on_answer: std::sync::Arc::new(move |answer| {
                counted.answered(answer);
                if let Some(resource) = answer.started_watch() {
                    // Nobody listens any more when the operator is about to end.
                    let _ = sender.send(Message::Works(resource));
                }
            }),
        };
        Ok(Self { client: config.client().await?, messages, board: board.clone() })
    }

    /// For others who ask the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Begins to watch. The status of traces is written as long as the term lasts.
    pub fn follow(self, term: Term, identity: &str) -> Status {
        let Self { client, messages: (sender, receiver), board } = self;
        let watches = vec![
            AbortOnDrop::spawn(objects::traces(&client, TraceKind::Namespaced).follow(sender.clone())),
            AbortOnDrop::spawn(objects::traces(&client, TraceKind::Cluster).follow(sender.clone())),
            AbortOnDrop::spawn(objects::nodes(&client).follow(sender.clone())),
            AbortOnDrop::spawn(objects::reports(&client).follow(sender)),
        ];
        Status { driver: Driver::new(client, receiver, term, identity, board), _watches: watches }
    }
}

/// Whoever keeps the status of traces.
pub struct Status {
    driver: Driver,
    _watches: Vec<AbortOnDrop>,
}

impl Status {
    /// For ever.
    pub async fn run(&mut self) {
        self.driver.run().await;
    }

    /// Waits for the writes under way; none begins any more.
    pub async fn end(self) {
        self.driver.end().await;
    }
}
