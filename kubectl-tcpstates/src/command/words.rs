//! Completion scripts and manual pages: what clap makes of the options.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::{Arguments, PROGRAM};
use crate::edge::screen;
use crate::trouble::Trouble;

/// The script for a shell, which completes the program's own name.
pub(super) fn completion(shell: Shell) -> Result<(), Trouble> {
    screen::write(&script(shell)).map(drop)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    if shell != Shell::Bash {
        clap_complete::generate(shell, &mut Arguments::command(), PROGRAM, &mut script);
        return script;
    }
    // In bash clap_complete 4.6 finds no command of a program that has a hyphen in its name.
    let name = PROGRAM.replace('-', "_");
    clap_complete::generate(shell, &mut Arguments::command(), &name, &mut script);
    let script = String::from_utf8_lossy(&script);
    script.replace(&format!(" default {name}\n"), &format!(" default {PROGRAM}\n")).into_bytes()
}

/// A page for the program and one for each command.
pub(super) fn manual(directory: &Path) -> Result<(), Trouble> {
    let wrong =
        |error| Trouble::new(format!("cannot write manual pages into {}: {error}", directory.display()));
    clap_mangen::generate_to(Arguments::command(), directory).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::Parser as _;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_options_are_sound_and_each_has_a_manual_page() {
        Arguments::command().debug_assert();
        let directory = std::env::temp_dir().join(format!("kubectl-tcpstates-man-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        manual(&directory).unwrap();
        let page = fs::read_to_string(directory.join("kubectl-tcpstates-trace.1")).unwrap();
        let pages = fs::read_dir(&directory).unwrap().count();
        fs::remove_dir_all(&directory).unwrap();
        assert!(page.contains("peer\\-port") && pages >= 7, "{pages}: {page}");
    }

    #[test]
    fn every_command_that_the_script_knows_has_its_words() {
        let script = String::from_utf8(script(Shell::Bash)).unwrap();
        let commands: Vec<_> = script.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")).collect();
        assert!(commands.len() > 8, "{script}");
        for command in commands.into_iter().filter(|command| *command != "\"") {
            let case = format!("{})\n", command.trim_end_matches('"'));
            assert!(script.contains(&case), "{case}");
        }
        assert!(script.contains(" -o default kubectl-tcpstates\n"), "{script}");
    }

    #[test]
    fn the_flags_of_kubectl_may_stand_anywhere() {
        for line in ["-n shop trace deploy/a --as editor", "trace deploy/a -nshop --as=editor --kubeconfig f"]
        {
            let arguments = Arguments::try_parse_from(["x"].into_iter().chain(line.split(' '))).unwrap();
            let flags = kube_tcpstates_client::KubectlFlags::from(arguments.kubectl);
            assert_eq!(
                (flags.namespace.as_deref(), flags.as_user.as_deref()),
                (Some("shop"), Some("editor"))
            );
        }
        for line in [
            "trace deploy/a --as-group g",
            "trace deploy/a -l a=b",
            "trace deploy/a --failures --mode summary",
        ] {
            assert!(Arguments::try_parse_from(["x"].into_iter().chain(line.split(' '))).is_err(), "{line}");
        }
    }

    #[test]
    fn krew_is_told_of_this_version() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("krew/tcpstates.yaml");
        let manifest: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest["spec"]["version"], version);
        for platform in manifest["spec"]["platforms"].as_array().unwrap() {
            assert_eq!(platform["bin"], "kubectl-tcpstates");
            assert!(platform["uri"].as_str().unwrap().contains(version), "{platform}");
        }
    }
}
