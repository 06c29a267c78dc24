//! Station 2: bytes from the ring buffer become [`Transition`]s. The only reader of the layout in
//! `kube-tcpstates-common`.

mod record;
mod transition;

pub use kube_tcpstates_events::{NetworkType, OwnerSource, Role};
pub use record::{decided, decides, for_each_transition, is_undecided, transitions, weight};
pub use transition::{Endpoint, OnCpu, Process, Transition};
