//! Completion scripts and manual pages: what clap makes of the options.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::edge::screen;
use crate::trouble::Trouble;

/// The script for a shell. Shells complete the program's own name, kubectl asks the program `kubectl_complete-tcpstates`.
pub(super) fn completion(shell: Shell) -> Result<(), Trouble> {
    let mut script = Vec::new();
    let mut command = Arguments::command().bin_name("kubectl-tcpstates");
    clap_complete::generate(shell, &mut command, "kubectl-tcpstates", &mut script);
    screen::write(&script).map(drop)
}

/// A page for the program and one for each command.
pub(super) fn manual(directory: &Path) -> Result<(), Trouble> {
    let wrong =
        |error| Trouble::new(format!("cannot write manual pages into {}: {error}", directory.display()));
    clap_mangen::generate_to(Arguments::command(), directory).map_err(wrong)
}
