//! Names that several stations pass on and none of them owns: of workloads and of traces. A leaf: it knows no other
//! folder.

mod trace;
mod workload;

pub use trace::TraceName;
pub use workload::{Workload, WorkloadKind};
