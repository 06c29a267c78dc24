//! The eBPF programs and maps of a process, as the kernel describes them.

use std::collections::BTreeMap;
use std::fs;

/// What the kernel tells of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedProgram {
    /// No more than 15 bytes of it: the kernel keeps no more.
    pub name: String,
    /// Instructions that the verifier walked (since 5.16).
    pub verified: Option<u32>,
}

/// The programs that a process holds open, by their id.
#[track_caller]
pub fn of_process(pid: u32) -> BTreeMap<u32, LoadedProgram> {
    let held = held_by(pid, "prog_id:");
    let mut all = loaded();
    all.retain(|id, _| held.contains(id));
    all
}

/// Every program of the machine, by its id.
#[track_caller]
pub fn loaded() -> BTreeMap<u32, LoadedProgram> {
    let mut programs = BTreeMap::new();
    // A program that goes away while this looks is no longer loaded.
    for info in aya::programs::loaded_programs().flatten() {
        let name = info.name_as_str().unwrap_or_default().to_owned();
        programs.insert(info.id(), LoadedProgram { name, verified: info.verified_instruction_count() });
    }
    programs
}

/// The maps that a process holds open: their ids by name, of which the kernel keeps no more than 15 bytes.
#[track_caller]
pub fn maps_of_process(pid: u32) -> BTreeMap<String, u32> {
    let held = held_by(pid, "map_id:");
    let all = aya::maps::loaded_maps().flatten().filter(|map| held.contains(&map.id()));
    all.map(|map| (map.name_as_str().unwrap_or_default().to_owned(), map.id())).collect()
}

/// The ids in what the kernel tells of a process' descriptors.
fn held_by(pid: u32, key: &str) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process runs");
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()))
        .collect()
}
