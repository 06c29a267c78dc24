//! Saying what is done, in one line each, and running the programs that do it.

use std::io::IsTerminal as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// One line on stderr: stdout belongs to what was asked for.
pub(crate) fn say(line: &str) {
    eprintln!("x: {line}");
}

/// Runs a program to its end; its failure is an error that names the program.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = shown(command);
    let status = command.status().with_context(|| format!("start `{name}`"))?;
    ensure!(status.success(), "`{name}` failed: {status}");
    Ok(())
}

/// What a program prints on stdout, or an error that carries what it printed on stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let output = command.output().with_context(|| format!("start `{name}`"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{name}` failed: {}: {}", output.status, errors.trim_end());
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` printed what is not UTF-8"))
}

/// Cargo's own progress is for a terminal; elsewhere the line said before is enough.
pub(crate) fn quiet_unless_terminal(cargo: &mut Command) -> &mut Command {
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo
}

/// A command as a person would type it, without its environment.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo so it is >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("so it is") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("start `no-such-program-here`"));
    }
}
