//! `kube-tcpstates`: arguments to a command to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kube_tcpstates::command::run(std::env::args_os())
}
