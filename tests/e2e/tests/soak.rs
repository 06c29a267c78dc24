//! An agent on a real API server under everything at once, for hours: `./x soak`, see docs/soak.md. On request.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match kube_tcpstates_e2e_tests::soak::run(Path::new(env!("CARGO_BIN_EXE_e2e-guard"))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
