//! The program: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_tcpstates::main(std::env::args_os())
}
