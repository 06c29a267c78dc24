//! Lines of a trace for whoever may read that trace, with kubectl alone: an aggregated API.
//!
//! ```text
//!  kubectl ─► kube-apiserver ──TLS──► server ─► identity ─► access (SubjectAccessReview) ─► query ─► stream
//!             who, and may they?        ▲                                                              │
//!                                    keeper: certificate, caBundle,                                    │
//!                                    whom to believe                                                   │
//!                                                                                                      │
//!  agents' logs ─► source: account, filter ─► outlet: merge, by time ──────────────────────────────────┘
//!  (pods/log)      one for each agent         bounded
//! ```
//! `query`, `filter`, `account`, `merge`, `notice`, `identity`, `answer`, `der` and `bundle` are core: no I/O, time is an
//! argument. Nothing of an agent's line reaches a reader that the line does not name the trace of.

mod access;
mod account;
mod agents;
mod answer;
mod bundle;
mod certificate;
mod der;
mod filter;
mod identity;
mod keeper;
mod merge;
mod notice;
mod outlet;
mod query;
mod readers;
mod server;
mod source;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kube::Client;
use tokio::sync::watch;

// What others wrote is read by these: pure, and seen from outside so that they can be fed with anything.
pub use bundle::renewed;
pub use der::Certificate;
pub use filter::{Filter, Head, is_final};
pub use query::{Place, Query, Subresource, Trace};

use access::Access;
use certificate::Files;
use keeper::Keeper;
use readers::{Bounds, Readers};
use server::Server;
use stream::Sources;

/// How the lines API is served.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Lines API")]
pub struct Options {
    /// Where kube-apiserver reaches the lines API, by HTTPS.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9443")]
    pub lines_addr: SocketAddr,

    /// Service of the lines API, in the operator's namespace: the name that its certificate is for.
    #[arg(long, value_name = "NAME", default_value = "kube-tcpstates-lines")]
    pub lines_service: String,

    /// Serving certificate, PEM, made and renewed by somebody else, who also tells kube-apiserver to believe it;
    /// without it, one of the operator's own making.
    #[arg(long, value_name = "FILE", requires = "lines_key")]
    pub lines_cert: Option<PathBuf>,

    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "lines_cert")]
    pub lines_key: Option<PathBuf>,

    /// Readers at once, of all users. Each reads the logs of all agents.
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    pub lines_readers: usize,

    /// Readers at once, of one user.
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub lines_readers_per_user: usize,

    /// Readers at once, of one namespace's traces; and of cluster traces.
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    pub lines_readers_per_namespace: usize,
}

impl Options {
    fn bounds(&self) -> Bounds {
        Bounds {
            per_user: self.lines_readers_per_user,
            per_namespace: self.lines_readers_per_namespace,
            in_all: self.lines_readers,
        }
    }
}

/// Serves for ever. What is missing for it is waited for: the rest of the operator works without. `listens` is told when
/// kube-apiserver can reach it.
pub async fn serve(client: Client, options: &Options, listens: impl FnOnce()) -> anyhow::Result<()> {
    let namespace = client.default_namespace().to_owned();
    let names = vec![format!("{}.{namespace}.svc", options.lines_service)];
    let files = options.lines_cert.clone().zip(options.lines_key.clone());
    let files = files.map(|(certificate, key)| Files { certificate, key });
    let (current_sender, current) = watch::channel(None);
    let (agents_sender, agents) = watch::channel(None);
    let server = Server {
        sources: Arc::new(Sources { client: client.clone(), agents, access: Access::new(client.clone()) }),
        readers: Readers::new(options.bounds()),
        current,
    };
    let keeper = Keeper::new(client.clone(), files, names, current_sender);
    tokio::select! {
        outcome = server.serve(options.lines_addr, listens) => outcome,
        () = keeper.run() => Ok(()),
        () = agents::follow(client, agents_sender) => Ok(()),
    }
}
