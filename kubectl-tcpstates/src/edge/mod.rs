//! All that reads or writes: the API server, signals, stdout and stderr.

pub(crate) mod api;
pub(crate) mod logs;
pub(crate) mod screen;
pub(crate) mod signals;
pub(crate) mod source;
