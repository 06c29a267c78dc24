//! Whether `./x` installs what each command runs: its lists of packages beside the programs that are looked for here.

use std::collections::{BTreeMap, BTreeSet};

use crate::programs::Program;
use crate::test::layer::LAYERS;
use crate::{arch, bench, deploy};

const X: &str = include_str!("../../x");
/// No Debian is without them.
const ALWAYS_THERE: [&str; 3] = ["coreutils", "dash", "tar"];

/// The words of each `packages_NAME="..."`.
fn lists() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let lines = X.lines().filter_map(|line| line.strip_prefix("packages_")?.split_once("=\""));
    lines.map(|(name, words)| (name, words.trim_end_matches('"').split(' ').collect())).collect()
}

/// The names of the lists in a line that says `prepare $packages_NAME...`.
fn named(line: &'static str) -> Option<Vec<&'static str>> {
    let (_, rest) = line.split_once("prepare")?;
    Some(rest.split_whitespace().filter_map(|word| word.strip_prefix("$packages_")).collect())
}

/// What a command prepares.
fn of_command(command: &str) -> Vec<&'static str> {
    let (_, branch) =
        X.split_once(&format!("\n{command})\n")).unwrap_or_else(|| panic!("no branch {command}"));
    branch.lines().find_map(named).unwrap_or_else(|| panic!("{command} prepares nothing"))
}

/// What each layer prepares; `*` stands for all that run by default.
fn of_layers() -> BTreeMap<&'static str, Vec<&'static str>> {
    let (_, branch) = X.split_once("\ntest)\n").expect("a branch of the tests");
    let lines = branch.split("esac").next().into_iter().flat_map(str::lines);
    let cases = lines.filter_map(|line| Some((line.split_once(") ")?.0, named(line)?)));
    cases.flat_map(|(names, lists)| names.split('|').map(move |name| (name.trim(), lists.clone()))).collect()
}

#[track_caller]
fn assert_brought(what: &str, programs: &[Program], names: &[&str]) {
    let lists = lists();
    for (places, package) in programs {
        let is_there =
            ALWAYS_THERE.contains(package) || names.iter().any(|name| lists[name].contains(package));
        assert!(is_there, "{what} runs {}, and of {names:?} none has {package}", places[0]);
    }
}

#[test]
fn every_command_installs_what_it_runs() {
    let commands = [
        ("bench", bench::PROGRAMS),
        ("release", deploy::PROGRAMS),
        ("release", arch::PROGRAMS),
        ("image", arch::PROGRAMS),
    ];
    for (command, programs) in commands {
        assert_brought(command, programs, &of_command(command));
    }
    let of_layers = of_layers();
    for layer in LAYERS {
        let own = of_layers.get(layer.name).unwrap_or_else(|| panic!("{} has no case in ./x", layer.name));
        for programs in layer.programs {
            assert_brought(layer.name, programs, own);
            if layer.by_default {
                assert_brought("all layers", programs, &of_layers["*"]);
            }
        }
    }
}

#[test]
fn install_brings_what_check_and_every_layer_need_and_no_more() {
    let of_layers = of_layers().into_values().flatten();
    let needed: BTreeSet<_> = of_layers.chain(of_command("check")).collect();
    assert_eq!(of_command("install").into_iter().collect::<BTreeSet<_>>(), needed);
}
