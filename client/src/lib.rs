//! The Kubernetes API as the programs of kube-tcpstates use it. Thousands of agents ask one server, so nobody asks more
//! than it can answer; while it is away everything goes on with what is known.
//!
//! ```text
//!               ┌── layer: every request ──┐      watch: list, then watch
//!  API server ─►│ gate ─► time limits ─────│──┬─► keep, patience ─ Delta, Broken ─► the program's loop
//!               └────────────┬─────────────┘  │                                      │
//!                         Answer              └─► Api<K>: single requests            └─► teller: each trouble
//!                            ▼                                                           once, and its end
//!                     on_answer: metrics,
//!                     a watch that works again
//! ```
//!
//! `gate`'s pace, `items`, `patience`, `resource` and `teller` are core: no I/O, time is an argument. What a program reads and
//! what it makes of that are its own: it declares its resources as constants and gives each [`Watch`] the functions
//! that turn objects into messages of its own type.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kube::core::{ApiResource, DynamicObject};
//! use kube_tcpstates_client::{Broken, ClientConfig, Delta, Resource, Watch};
//!
//! const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
//!
//! enum Message {
//!     Leases(Delta<String>),
//!     Broken(Broken),
//! }
//!
//! impl From<Broken> for Message {
//!     fn from(broken: Broken) -> Self {
//!         Self::Broken(broken)
//!     }
//! }
//!
//! # async fn follow(leases: &ApiResource) -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig {
//!     user_agent: concat!("kube-tcpstates-operator/", env!("CARGO_PKG_VERSION")),
//!     kubeconfig: None,
//!     resources: &[LEASES],
//!     on_answer: Arc::new(|answer| println!("{}: {}", answer.resource_label(), answer.ending.code())),
//! };
//! let client = config.client().await?;
//! let watch = Watch::<DynamicObject, String, Message> {
//!     resource: LEASES,
//!     api: kube::Api::all_with(client, leases),
//!     older: None,
//!     fields: None,
//!     keep: |lease| lease.metadata.name,
//!     thin: None,
//!     message: Message::Leases,
//!     seen: None,
//!     lists_again: false,
//! };
//! let (messages, _receiver) = tokio::sync::mpsc::unbounded_channel();
//! watch.follow(messages).await;
//! # Ok(())
//! # }
//! ```
//!
//! kube logs of its own accord: keep `kube_client` at `off`.

mod abort;
mod connection;
mod flagged;
mod gate;
mod items;
mod jitter;
mod kubectl;
mod layer;
mod list;
mod patience;
mod reason;
mod resource;
mod status;
mod teller;
mod token;
mod watch;

pub use abort::AbortOnDrop;
pub use connection::{ClientConfig, ClientError};
pub use flagged::{Direct, Token};
pub use items::{Items, Malformed};
pub use jitter::jitter;
pub use kubectl::{KubectlFlags, Person};
pub use layer::{Answer, OnAnswer, RequestEnd};
pub use patience::Trouble;
pub use reason::reason_of;
pub use resource::Resource;
pub use status::write_status;
pub use teller::{Case, Teller};
pub use token::TokenError;
pub use watch::{Broken, Delta, Watch};
