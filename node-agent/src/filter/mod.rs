//!
mod explain;
pub mod ports;
pub mod states;
pub mod trace;


pub use cidr::Cidr;
pub use error::{FilterError, Reason};
pub use ports::PortRange;
pub use states::{StateSet, TransitionFilter};
pub use trace::{CgroupChoice, TraceFilter};
