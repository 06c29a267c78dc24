//! A BPF file system of the test's own.

use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use kube_tcpstates_common::pinned::{Pinned, Word};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

type Bytes = [u8; size_of::<Pinned>()];

/// Mounted until it is dropped; what is pinned there goes with it.
#[derive(Debug)]
pub struct BpfFs(tempfile::TempDir);

impl BpfFs {
    /// Mounts it.
    pub fn mount() -> Self {
        let folder = tempfile::tempdir().expect("make a temporary directory");
        mount("bpf", folder.path(), "bpf", MountFlags::empty(), None).expect("mount a BPF file system");
        Self(folder)
    }

    /// Where a tracer may pin.
    pub fn place(&self) -> PathBuf {
        self.0.path().join("kube-tcpstates")
    }

    /// What is there.
    pub fn sets(&self) -> usize {
        std::fs::read_dir(self.place()).map_or(0, Iterator::count)
    }

    /// Writes a word of what was left.
    pub fn set_word(&self, word: Word, value: u64) {
        for set in std::fs::read_dir(self.place()).expect("something is pinned").flatten() {
            let map = MapData::from_pin(set.path().join("PINNED")).expect("open the pinned map");
            let mut array: Array<_, Bytes> = Map::Array(map).try_into().expect("an array");
            let mut bytes = array.get(&0, 0).expect("read it");
            let place = word as usize * size_of::<u64>();
            bytes[place..place + size_of::<u64>()].copy_from_slice(&value.to_ne_bytes());
            array.set(0, bytes, 0).expect("write it");
        }
    }

    /// Whether links keep a program attached.
    pub fn has_links(&self) -> bool {
        let sets = std::fs::read_dir(self.place()).into_iter().flatten().flatten();
        sets.into_iter().any(|set| Path::new(&set.path()).join("link_0").exists())
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // What it holds goes when nobody holds it open any more.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}
