//! Names that several stations pass on and none of them owns: of a socket's owner, of its other end, of workloads, of
//! traces. A leaf: it knows no other folder. Also the maps by what the kernel numbers, or we do ourselves.

mod numbered;
mod owner;
mod peer;
mod quick_hash;
mod trace;
mod trace_bit;
mod workload;

pub use numbered::Numbered;
pub use owner::Owner;
pub use peer::{Peer, PodName, ServiceName};
pub(crate) use quick_hash::{QuickMap, QuickSet};
pub use trace::{TraceName, TraceNames, TraceTable};
pub use trace_bit::TraceBit;
pub use workload::{Workload, WorkloadKind};
