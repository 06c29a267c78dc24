//! `kubectl tcpstates`: traces the TCP connections of pods for whoever asks, and shows them as a table.
//!
//! ```text
//!  words ─► args ─► target, spec ──────► command ─► edge/api ─────────► API server
//!                   (a checked trace)       ▲
//!       trace, reports ─► standing, explain ┴─► sentences      lines API, else agents' logs
//!                                                                        │
//!                  stdout ◄── table ◄── heard ◄──────────────────── edge/source
//!                  stderr ◄── what is missing ┘
//! ```
//! Between `heard` and `table`, `top` keeps in `live` what each node has told last.
//! `command` and `edge` do all that reads or writes; everything else is pure. What goes wrong is one sentence
//! ([`trouble`](crate)), and whatever was made in the cluster is removed before it is said.
#![forbid(unsafe_code)]

mod anything;
mod args;
mod command;
mod edge;
mod explain;
mod heard;
mod live;
mod name;
mod paint;
mod spec;
mod standing;
mod table;
mod target;
mod trouble;

pub use anything::show;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::Arguments;

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::read(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match command::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("error: {}", table::safe(&trouble.to_string()));
            ExitCode::FAILURE
        }
    }
}
