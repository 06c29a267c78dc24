//! Stdout redirected to a file on a disk that fills up. Needs root, to mount a disk of 64 KiB.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use kube_tcpstates::outlet::{End, MIN_BOUND, Offer, Queue};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const DISK: u64 = 64 << 10;
const LONG: Duration = Duration::from_secs(30);

/// A file system of 64 KiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), c"size=64k")
            .expect("mounting a tmpfs of 64 KiB (this test needs root or CAP_SYS_ADMIN)");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.path(), UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.path().display());
        }
    }
}

/// Writes lines of 700 bytes into `file` until the disk is full; returns how many were offered and the end.
fn write_until_full(file: File) -> (u64, kube_tcpstates::outlet::Finished) {
    let (told, end) = mpsc::channel();
    let mut queue = Queue::start(file.into(), MIN_BOUND, move |end| told.send(*end).unwrap()).unwrap();
    let mut offered = 0;
    while end.try_recv().is_err() {
        offered += 1;
        assert!(offered < 100_000_000, "the disk never filled");
        let offer = queue.line(1, |buffer, seq| writeln!(buffer, "{seq:0>699}").unwrap());
        if offer != Offer::Accepted {
            std::thread::yield_now();
        }
    }
    (offered, queue.finish(LONG))
}

fn assert_whole_and_counted(path: &Path, before: &str) {
    let append = File::options().append(true).create(true).open(path).unwrap();
    let (offered, finished) = write_until_full(append);
    let totals = finished.totals;
    let End::Failed(error) = finished.end else { panic!("{:?}", finished.end) };
    assert!(error.to_string().contains("No space left on device"), "{error}");

    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "the last line is torn");
    let written: Vec<_> = text.strip_prefix(before).unwrap().lines().collect();
    assert!(written.iter().all(|line| line.len() == 699), "a torn line");
    let numbers: Vec<u64> = written.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=totals.event_lines_written).collect::<Vec<_>>());
    assert!(text.len() as u64 > DISK - 1400, "gave up with {} bytes written", text.len());

    assert_eq!(totals.event_lines_accepted + totals.lost_queue, offered);
    assert_eq!(totals.event_lines_accepted, totals.event_lines_written + totals.lost_write);
    assert!(totals.lost_write > 0);
}

#[test]
fn a_full_disk_ends_with_an_error_a_whole_last_line_and_the_rest_counted() {
    let disk = SmallDisk::mount();
    assert_whole_and_counted(&disk.path().join("fresh"), "");
}

#[test]
fn what_stood_in_the_file_before_is_left_alone() {
    let disk = SmallDisk::mount();
    let path = disk.path().join("appended");
    fs::write(&path, "not ours\n").unwrap();
    assert_whole_and_counted(&path, "not ours\n");
}

#[test]
fn a_file_not_opened_for_appending_ends_at_its_last_whole_line_too() {
    let disk = SmallDisk::mount();
    let path = disk.path().join("created");
    let file = File::create(&path).unwrap();
    let mut shell = file.try_clone().unwrap();
    let (_, finished) = write_until_full(file);
    let written = finished.totals.event_lines_written * 700;
    assert_eq!(fs::metadata(&path).unwrap().len(), written);
    // The shell that redirected us shares the offset: what it writes next follows at once, with no hole between.
    shell.write_all(b"next\n").unwrap();
    assert!(fs::read(&path).unwrap().ends_with(b"\nnext\n"));
    assert_eq!(fs::metadata(&path).unwrap().len(), written + 5);
}
