//! What the kernel holds for the agent: what is pinned, and which programs are loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, Map, MapData};
use kube_tcpstates_common::pinned::{LeftKey, LeftPart};
use kube_tcpstates_common::rule::{CgroupEntry, PrefixSet, TraceSet};
use kube_tcpstates_common::share::{Share, Sharer};
use kube_tcpstates_common::socket::SocketRecord;
use kube_tcpstates_common::walk::Found;
use kube_tcpstates_kernel_tests::programs;

use super::verdict::Entries;

/// Programs that have ended are gone a moment later.
const PATIENCE: Duration = Duration::from_secs(15);

/// The sets that are pinned there.
pub(super) fn sets(directory: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("list {}", directory.display())),
    }
}

/// How many entries each map of the one set has that is pinned there.
pub(super) fn entries(directory: &Path) -> Result<Entries> {
    let sets = sets(directory)?;
    ensure!(sets.len() == 1, "one set is pinned by one agent, and there are {sets:?}");
    let set = &sets[0];
    let mut entries = Entries::new();
    let mut count = |name: &str, entries_of: fn(MapData) -> Result<usize>| -> Result<()> {
        let map = MapData::from_pin(set.join(name)).with_context(|| format!("open {name}"))?;
        let number = entries_of(map).with_context(|| format!("read {name}"))?;
        entries.insert(name.to_owned(), u64::try_from(number)?);
        Ok(())
    };
    count("CGROUP_SETS", hash::<u64, [u8; size_of::<CgroupEntry>()]>)?;
    count("LEFT", hash::<[u8; size_of::<LeftKey>()], [u8; size_of::<LeftPart>()]>)?;
    count("NETNS_SETS", hash::<[u32; 2], [u8; size_of::<TraceSet>()]>)?;
    count("RING_FULL_BY_TRACES", hash::<TraceSet, u64>)?;
    count("SOCKET_HASH", hash::<u64, [u8; size_of::<SocketRecord>()]>)?;
    count("LISTENERS", hash::<u64, [u8; size_of::<SocketRecord>()]>)?;
    count("FOUND", hash::<u64, [u8; size_of::<Found>()]>)?;
    count("RING_SHARES", least_recently_used)?;
    count("PREFIXES_V4_A", prefixes::<4>)?;
    count("PREFIXES_V4_B", prefixes::<4>)?;
    count("PREFIXES_V6_A", prefixes::<16>)?;
    count("PREFIXES_V6_B", prefixes::<16>)?;
    Ok(entries)
}

fn hash<K: aya::Pod, V: aya::Pod>(map: MapData) -> Result<usize> {
    Ok(HashMap::<_, K, V>::try_from(Map::HashMap(map))?.keys().filter_map(Result::ok).count())
}

fn least_recently_used(map: MapData) -> Result<usize> {
    let map = HashMap::<_, Sharer, [u8; size_of::<Share>()]>::try_from(Map::LruHashMap(map))?;
    Ok(map.keys().filter_map(Result::ok).count())
}

fn prefixes<const N: usize>(map: MapData) -> Result<usize> {
    let map = LpmTrie::<_, [u8; N], [u8; size_of::<PrefixSet>()]>::try_from(Map::LpmTrie(map))?;
    let keys: Vec<Key<[u8; N]>> = map.keys().filter_map(Result::ok).collect();
    Ok(keys.len())
}

/// The programs of a process, and those of the machine before it: to be told apart at the end.
#[derive(Debug)]
pub(super) struct Programs {
    before: BTreeSet<u32>,
    names: BTreeSet<String>,
}

impl Programs {
    /// Before the first agent starts.
    pub(super) fn before() -> Self {
        Self { before: programs::loaded().into_keys().collect(), names: BTreeSet::new() }
    }

    /// An agent that traces holds its programs open.
    pub(super) fn learn(&mut self, pid: u32) {
        self.names.extend(programs::of_process(pid).into_values().map(|program| program.name));
    }

    /// Those that are still loaded when no agent is to be there any more.
    pub(super) fn left(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let loaded = programs::loaded().into_iter();
            let left: Vec<String> = loaded
                .filter(|(id, program)| !self.before.contains(id) && self.names.contains(&program.name))
                .map(|(id, program)| format!("{} ({id})", program.name))
                .collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// How many an agent has.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }
}
