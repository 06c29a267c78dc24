//! Names that several stations pass on and none of them owns: of a socket's owner, of workloads, of traces. A leaf: it
//! knows no other folder.

mod numbered;
mod owner;
mod trace;
mod workload;

pub use numbered::Numbered;
pub use owner::Owner;
pub use trace::{TraceName, TraceNames, TraceTable};
pub use workload::{Workload, WorkloadKind};
