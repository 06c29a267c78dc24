//! Station 2: bytes from the ring buffer become [`Transition`]s. The only reader of the layout in
//! `kube-tcpstates-common`.

mod record;
mod transition;

pub use record::{for_each_transition, is_unsettled, settled, settles, transitions};
pub use transition::{Endpoint, Family, OnCpu, Owner, OwnerSource, Role, Transition};
