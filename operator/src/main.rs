//! `kube-tcpstates-operator`: arguments to a run to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kube_tcpstates_operator::command::run(std::env::args_os())
}
