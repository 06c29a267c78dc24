//! `./x fuzz`: every parser of what others wrote, fed with anything by libFuzzer for a bounded time.
//!
//! libFuzzer finds its way by counters that the compiler puts into each branch. Every rustc can put them there, so this
//! needs no nightly; sanitizers would, and have little to find where there is hardly any `unsafe`.
//!
//! ```text
//! fuzz/corpus/NAME ─┐                                   ┌─► target/fuzz/NAME/corpus    goes on from there next time
//! seeds made        ├─► target/.../debug/fuzz-NAME ─────┼─► target/fuzz/NAME/findings  tried first next time
//! target/fuzz/NAME ─┘                                   └─► target/fuzz/NAME/log
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::bpf;
use crate::step;
use crate::workspace::Workspace;

const PACKAGE: &str = "kube-tcpstates-fuzz";
/// For each target, unless told otherwise.
const SECONDS: u32 = 10;
/// What everything is compiled with that ends up in a target.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Built as for tests, overflow checks included, but quick enough to try much. Of the types of the API, which take long, not
/// much is run.
const PROFILE: [&str; 2] = ["profile.dev.opt-level=1", "profile.dev.package.k8s-openapi.opt-level=0"];

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    target: Option<String>,
    seconds: u32,
}

/// Fuzzes one target or all, also after one has found something, and names those that did.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let asked = asked(arguments)?;
    let all = targets(&workspace.root)?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| asked.target.as_ref().is_none_or(|asked| *name == asked)).collect();
    ensure!(!chosen.is_empty(), "no such target; there are {}", all.join(", "));
    // The agent's crate does not compile without the kernel side.
    bpf::build(workspace)?;
    let programs = build(workspace, &chosen)?;
    let mut found = Vec::new();
    for name in chosen {
        step::say(&format!("fuzzing {name} for {} s", asked.seconds));
        let place = workspace.target.join("fuzz").join(name);
        match fuzz(workspace, &programs.join(format!("fuzz-{name}")), name, &place, asked.seconds) {
            Ok(outcome) => step::say(&format!("{name}: {outcome}")),
            Err(error) => {
                step::say(&format!("{name}: {error:#}"));
                found.push(name.as_str());
            }
        }
    }
    ensure!(found.is_empty(), "found something: {}", found.join(", "));
    Ok(())
}

fn asked(arguments: &[&str]) -> Result<Asked> {
    let (mut target, mut seconds, mut rest) = (None, SECONDS, arguments.iter());
    while let Some(argument) = rest.next() {
        match *argument {
            "--seconds" => {
                let number = rest.next().context("--seconds takes a number")?;
                seconds = number.parse().with_context(|| format!("--seconds {number}"))?;
                // To libFuzzer 0 is for ever.
                ensure!(seconds > 0, "--seconds 0: at least 1");
            }
            name if target.is_none() && !name.starts_with('-') => target = Some(name.to_owned()),
            _ => bail!("usage: ./x fuzz [TARGET] [--seconds N]"),
        }
    }
    Ok(Asked { target, seconds })
}

/// The names of all, in order.
fn targets(root: &Path) -> Result<Vec<String>> {
    let directory = root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Returns the directory in which the programs are.
fn build(workspace: &Workspace, names: &[&String]) -> Result<PathBuf> {
    step::say("building what is fuzzed (the first time ten minutes or more)");
    // With a target named, the flags leave build scripts and macros alone.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = workspace.cargo("build");
    cargo.env("RUSTFLAGS", FLAGS).args([
        "--package",
        PACKAGE,
        "--features",
        "libfuzzer",
        "--target",
        &triple,
    ]);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    for name in names {
        cargo.arg("--bin").arg(format!("fuzz-{name}"));
    }
    step::run(step::quiet_unless_terminal(&mut cargo))?;
    Ok(workspace.target.join(triple).join("debug"))
}

/// Runs one. What it says is in a file; returned is what it comes to.
fn fuzz(workspace: &Workspace, program: &Path, name: &str, place: &Path, seconds: u32) -> Result<String> {
    let [corpus, made, findings] = ["corpus", "made", "findings"].map(|directory| place.join(directory));
    for directory in [&corpus, &made, &findings] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let log = place.join("log");
    let said = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let mut command = Command::new(program);
    command.env("KUBE_TCPSTATES_FUZZ_SEEDS", &made).stdin(std::process::Stdio::null());
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    // The longest line of ours has 4096 bytes. Of a seed nothing may be cut off, or it is no JSON any more. What takes seconds
    // hangs.
    command.args([
        "-max_len=8192",
        "-len_control=0",
        "-timeout=5",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]);
    // New inputs go to the first.
    command.args([&corpus, &made, &findings]);
    let kept = workspace.root.join("fuzz/corpus").join(name);
    if kept.is_dir() {
        command.arg(kept);
    }
    command.stdout(said.try_clone()?).stderr(said);
    let status = command.status().with_context(|| format!("start {}", program.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    ensure!(status.success(), "{}\nsee {}", finding(&text), log.display());
    Ok(format!(
        "{} runs, {} counters reached",
        last(&text, "stat::number_of_executed_units:"),
        last(&text, "cov:")
    ))
}

/// The word behind the last of these.
fn last<'a>(text: &'a str, name: &str) -> &'a str {
    text.rsplit_once(name).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?")
}

/// What a log tells of a finding: the panic, if it is one, and the file that has the input.
fn finding(text: &str) -> String {
    let panic = text.find("panicked at").map(|at| text[at..].lines().take(6));
    let told = text
        .lines()
        .filter(|line| line.contains("ERROR: libFuzzer") || line.contains("Test unit written to"));
    panic.into_iter().flatten().chain(told).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_and_a_time_can_be_asked_for() {
        let of = |target: Option<&str>, seconds| Asked { target: target.map(str::to_owned), seconds };
        assert_eq!(asked(&[]).unwrap(), of(None, 10));
        assert_eq!(asked(&["ring"]).unwrap(), of(Some("ring"), 10));
        assert_eq!(asked(&["--seconds", "3", "ring"]).unwrap(), of(Some("ring"), 3));
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "x"], &["a", "b"], &["--all"]] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_log_says_is_found_in_it() {
        let log = "#2 INITED cov: 5 ft: 6\n#9 DONE cov: 77 ft: 80\nstat::number_of_executed_units: 1234\n";
        assert_eq!(
            (last(log, "cov:"), last(log, "stat::number_of_executed_units:"), last(log, "no")),
            ("77", "1234", "?")
        );
        let log = "thread '<unnamed>' panicked at src/a.rs:1:2:\nboom\n==1== ERROR: libFuzzer: deadly signal\n    #0\nTest unit written to x/crash-1\n";
        let told = finding(log);
        assert!(told.contains("boom") && told.ends_with("Test unit written to x/crash-1"), "{told}");
    }
}
