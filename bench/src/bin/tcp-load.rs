//! Makes TCP connections for the benchmarks, as many as each line of stdin asks for.

use std::process::ExitCode;

use clap::Parser as _;
use kube_tcpstates_bench::load::{self, Options};

fn main() -> ExitCode {
    match load::serve(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
