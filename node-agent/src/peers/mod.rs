//! Who has which address in the cluster, and who had it lately: Services, the pods behind them by their
//! `EndpointSlice`s, and the pods of this node. Pure, time is an argument; `cluster` reads the objects, and only while a
//! trace asks for names of the other end.
//!
//! ```text
//!  cluster ─ News (Services, slices) ─► Directory ─ Peer ─► pipeline/flow ─► lines
//!  pipeline ─ Roster ─────────────────────┘
//! ```

mod directory;
mod holding;
mod news;

pub use directory::Directory;
pub use news::{Endpoint, Moment, News, ServiceInfo, SliceInfo, Update};
