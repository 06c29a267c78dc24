//! A file system for a kernel that starts: the `newc` form of cpio (`Documentation/driver-api/early-userspace/
//! buffer-format.rst` of the kernel).
//!
//! Owns the format alone: what is in it is its caller's affair.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// What the archive is made of, by path without the leading slash.
#[derive(Clone, Default)]
pub(super) struct Initramfs {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Initramfs {
    /// A file that may be executed.
    pub(super) fn file(&mut self, place: &str, content: impl Into<Vec<u8>>) {
        self.entries.insert(place.trim_start_matches('/').to_owned(), (PROGRAM, content.into()));
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, place: &str, to: &str) {
        self.entries.insert(place.trim_start_matches('/').to_owned(), (LINK, to.into()));
    }

    /// Whether something is there already.
    pub(super) fn has(&self, place: &str) -> bool {
        self.entries.contains_key(place.trim_start_matches('/'))
    }

    /// Writes the archive: each directory stands before what is in it.
    pub(super) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut directories = BTreeSet::new();
        let mut number = 0;
        for (place, (mode, content)) in &self.entries {
            for (slash, _) in place.match_indices('/') {
                if directories.insert(&place[..slash]) {
                    number += 1;
                    entry(&mut to, number, &place[..slash], DIRECTORY, &[])?;
                }
            }
            number += 1;
            entry(&mut to, number, place, *mode, content)?;
        }
        entry(&mut to, 0, "TRAILER!!!", 0, &[])?;
        to.flush()
    }
}

/// Magic, thirteen numbers of eight hex digits, the name and a zero byte, the content; each of the last two filled up
/// to four bytes.
fn entry(to: &mut impl Write, number: u32, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let too_large = |_| io::Error::other(format!("{name} is too large for the archive"));
    let size = u32::try_from(content.len()).map_err(too_large)?;
    let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
    // Inode, mode, owner, group, links, time, size, device (2), device of a device file (2), size of name, checksum.
    let numbers = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut header = String::from("070701");
    for number in numbers {
        // Writing to a string does not fail.
        let _ = write!(header, "{number:08x}");
    }
    to.write_all(header.as_bytes())?;
    to.write_all(name.as_bytes())?;
    to.write_all(&[0])?;
    fill(to, header.len() + name.len() + 1)?;
    to.write_all(content)?;
    fill(to, content.len())
}

fn fill(to: &mut impl Write, written: usize) -> io::Result<()> {
    to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_stand_before_their_files_and_everything_at_a_multiple_of_four() {
        let mut archive = Initramfs::default();
        archive.file("/usr/bin/one", "12345");
        archive.file("/usr/bin/two", "");
        archive.link("bin", "usr/bin");
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let heads: Vec<usize> =
            bytes.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at).collect();
        let names: Vec<&str> = heads
            .iter()
            .map(|at| str::from_utf8(&bytes[at + 110..]).unwrap().split('\0').next().unwrap())
            .collect();
        assert_eq!(names, ["bin", "usr", "usr/bin", "usr/bin/one", "usr/bin/two", "TRAILER!!!"]);
        assert!(heads.iter().all(|at| at % 4 == 0) && bytes.len() % 4 == 0, "{heads:?}");
    }
}
