//! `./x check` and `./x audit`: everything that can be said about the source without running it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::tool::Tool;
use crate::workspace::{self, Workspace};
use crate::{bpf, dashboards, layers, lint, manifests, rules, step};

/// One check: what is said before it, and what does it.
type Check = (&'static str, fn(&Workspace) -> Result<()>);

const CHECKS: &[Check] = &[
    ("formatting", formatting),
    ("length of files", |workspace| lint::file_lengths(&workspace.root)),
    ("order of the agent's folders", |workspace| layers::check(&workspace.root)),
    ("shell scripts", |workspace| lint::shell_scripts(&workspace.root)),
    ("manifests", manifests::check),
    ("alert rules", rules::check),
    ("dashboards", dashboards::check),
    // The agent's crate does not compile without the kernel side.
    ("the kernel side builds", |workspace| bpf::build(workspace).map(drop)),
    ("clippy for the kernel side", bpf::clippy),
    ("clippy for user space", clippy),
    ("documentation", documentation),
    ("dependencies: bans, licences, sources", |workspace| {
        deny(workspace, &["check", "bans", "licenses", "sources"])
    }),
];

/// Runs every check, also after one has failed, and names those that did.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        step::say(&format!("checking {name}"));
        if let Err(error) = check(workspace) {
            step::say(&format!("{name}: {error:#}"));
            failed.push(*name);
        }
    }
    ensure!(failed.is_empty(), "{} of {} checks failed: {}", failed.len(), CHECKS.len(), failed.join("; "));
    step::say(&format!("all {} checks hold", CHECKS.len()));
    Ok(())
}

/// Looks the dependencies up in `RustSec`'s database, a git repository on the Internet.
pub(crate) fn audit(workspace: &Workspace) -> Result<()> {
    step::say("fetching the advisory database");
    deny(workspace, &["fetch", "db"]).context(
        "NOT AUDITED: the advisory database could not be fetched; run this where https://github.com is reached",
    )?;
    deny(workspace, &["check", "advisories"])
}

fn formatting(workspace: &Workspace) -> Result<()> {
    // The names of the files are enough: `cargo fmt` mends them.
    step::run(workspace.cargo("fmt").args(["--all", "--check", "--", "-l"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo("clippy");
    cargo.args(workspace::user_space_but(&[])).arg("--all-targets");
    step::run(step::quiet_unless_terminal(&mut cargo).args(["--", "-D", "warnings"]))
}

/// Private items too: the documentation is for those who change the code, and links break in private ones first.
fn documentation(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo("doc");
    cargo.args(workspace::user_space_but(&[])).args(["--no-deps", "--document-private-items"]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    step::run(step::quiet_unless_terminal(&mut cargo))
}

fn deny(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let mut deny = Command::new(cargo_deny().path(workspace)?);
    deny.current_dir(&workspace.root).args(["--log-level", "warn", "--all-features"]).args(arguments);
    step::run(&mut deny)
}

fn cargo_deny() -> Tool {
    Tool {
        name: "cargo-deny",
        version: "0.20.2",
        variant: String::new(),
        arguments: Vec::new(),
        environment: Vec::new(),
        expect: "two or three minutes",
    }
}
