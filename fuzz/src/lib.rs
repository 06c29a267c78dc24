//! Whatever parses what others wrote, fed with anything: a module each. None may panic, and what it makes must hold.
//!
//! ```text
//!  corpus/NAME/*, seeds made ─► fuzz_targets/NAME (libFuzzer) ─► NAME::read ─► the product's parser
//!                            └► the test below, without libFuzzer
//! ```
#![expect(clippy::missing_panics_doc, reason = "a panic is how a target says that it found something")]

pub mod answer;
pub mod btf;
pub mod cgroup;
pub mod events;
pub mod list;
pub mod object;
pub mod plugin;
pub mod proc;
pub mod query;
pub mod report;
pub mod resource;
pub mod ring;
pub mod seed;

/// A parser, by name.
#[derive(Debug)]
pub struct Target {
    /// Of its directory in `corpus/` and its file in `fuzz_targets/`.
    pub name: &'static str,
    /// Parses. True: it was something.
    pub read: fn(&[u8]) -> bool,
    /// Seeds that are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),*) => {
        /// All of them.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), read: $name::read, seeds: $name::seeds }),*];
    };
}

targets!(answer, btf, cgroup, events, list, object, plugin, proc, query, report, resource, ring);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::TARGETS;

    fn files(directory: &str) -> Vec<PathBuf> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn stems(directory: &str) -> BTreeSet<String> {
        files(directory).iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_seed_is_one_that_its_parser_takes() {
        for target in TARGETS {
            let kept = files(&format!("corpus/{}", target.name));
            let kept = kept.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap()));
            let made = (target.seeds)().into_iter().map(|seed| (format!("{}: made", target.name), seed));
            let seeds: Vec<_> = kept.chain(made).collect();
            assert!(!seeds.is_empty(), "{} starts from nothing", target.name);
            for (name, seed) in seeds {
                assert!((target.read)(&seed), "{name}");
            }
        }
    }

    #[test]
    fn every_target_is_fuzzed_and_no_corpus_is_left_over() {
        let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(stems("fuzz_targets"), names);
        assert!(stems("corpus").is_subset(&names));
    }
}
