//! Entries for the systemd journal (`-Y`), beside stdout. One datagram is one entry; how an entry is encoded is the
//! business of `render/journal.rs`.
//!
//! journald reads from a socket that holds few datagrams (`net.unix.max_dgram_qlen`, 10 unless systemd raised it), so a
//! burst must wait somewhere: in a queue of bounded length, from which a thread of its own sends. Whoever hands an
//! entry in never waits; an entry that finds no room is counted as lost.
//!
//! Only transitions become entries: what the tracer says of itself stands on stdout and stderr.
//!
//! The socket is left unconnected and addressed by its path each time, so a journal that starts late or is started
//! again is found without further ado.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use kube_tcpstates_events::Line;
use rustix::io::Errno;

use super::writer::End;
use super::{Asked, Finished, Offer, OnEnd, Outlet, Totals};
use crate::render::{Event, JournalEntries, MAX_LINE, ended::Ended};

/// Where systemd-journald listens.
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Entries that wait at most: some 6 MB.
const WAITING: usize = 8_192;
/// A journal that takes nothing for so long has lost the entry.
const SEND_WITHIN: Duration = Duration::from_millis(500);

/// Makes entries of transitions.
struct Journald {
    entries: JournalEntries,
    socket: JournalSocket,
    scratch: Vec<u8>,
}

/// Asked for with `-Y`.
pub(super) fn open(asked: &Asked, _: OnEnd) -> anyhow::Result<Option<Box<dyn Outlet>>> {
    if !asked.journal {
        return Ok(None);
    }
    let socket = JournalSocket::open(JOURNAL_SOCKET.as_ref()).context("making a socket for the journal")?;
    let root = rustix::process::geteuid().is_root();
    let scratch = Vec::with_capacity(MAX_LINE);
    Ok(Some(Box::new(Journald { entries: JournalEntries::new(root), socket, scratch })))
}

impl Outlet for Journald {
    fn name(&self) -> &'static str {
        "journal"
    }

    fn transition(&mut self, event: &Event<'_>) -> Offer {
        self.scratch.clear();
        self.entries.datagram(&mut self.scratch, event);
        self.socket.send(&self.scratch)
    }

    fn connection(&mut self, event: &Event<'_>, ended: &Ended<'_>) -> Offer {
        self.scratch.clear();
        self.entries.ended(&mut self.scratch, event, ended);
        self.socket.send(&self.scratch)
    }

    fn line(&mut self, _: &Line) -> Offer {
        Offer::Accepted
    }

    fn flush(&mut self) {}

    fn totals(&self) -> Totals {
        self.socket.totals().into()
    }

    fn is_over(&self) -> bool {
        // A journal that is away may come back.
        false
    }

    fn finish(self: Box<Self>, within: Duration) -> Finished {
        Finished { totals: self.socket.finish(within).into(), end: End::Drained }
    }
}

impl From<JournalTotals> for Totals {
    fn from(journal: JournalTotals) -> Self {
        Self {
            event_lines_accepted: journal.sent + journal.lost() - journal.lost_full,
            event_lines_written: journal.sent,
            lost_queue: journal.lost_full,
            lost_write: journal.lost() - journal.lost_full,
            ..Self::default()
        }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// The journal's socket has taken it.
    Taken,
    /// Nobody listens on the path.
    Absent,
    /// The journal does not keep up.
    Full,
    /// Larger than a datagram may be (about 200 KiB unless `net.core.wmem_default` says otherwise).
    TooLarge,
    /// Refused for another reason, such as permission.
    Refused,
}

/// Entries since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalTotals {
    /// Entries the socket has taken.
    pub sent: u64,
    /// Entries lost because nobody listened.
    pub lost_absent: u64,
    /// Entries lost because the journal did not keep up.
    pub lost_full: u64,
    /// Entries lost because they were too large.
    pub lost_too_large: u64,
    /// Entries lost for another reason.
    pub lost_refused: u64,
}

impl JournalTotals {
    /// All entries lost.
    pub fn lost(&self) -> u64 {
        self.lost_absent + self.lost_full + self.lost_too_large + self.lost_refused
    }
}

/// Takes entries for the journal.
#[derive(Debug)]
pub struct JournalSocket {
    waiting: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
    /// Hangs up when the sending thread ends.
    ended: Receiver<()>,
}

/// What the sending thread shares.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// By [`Sent`], in its order.
    counts: [AtomicU64; 5],
    /// What still waits is given up.
    abandoned: AtomicBool,
}

impl JournalSocket {
    /// Makes the socket and starts the thread. The journal itself need not be there yet.
    ///
    /// # Errors
    /// The process cannot have a socket or a thread.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_room(path, WAITING)
    }

    fn with_room(path: &Path, room: usize) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_WITHIN))?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            counts: Default::default(),
            abandoned: AtomicBool::new(false),
        });
        let (waiting, entries) = sync_channel::<Vec<u8>>(room);
        let (hangs_up, ended) = sync_channel(0);
        let sending = Arc::clone(&shared);
        thread::Builder::new().name("journal".to_owned()).spawn(move || {
            for entry in entries {
                sending.send(&socket, &entry);
            }
            drop(hangs_up);
        })?;
        Ok(Self { waiting, shared, ended })
    }

    /// Hands in one entry without waiting. The first loss is told as a warning, all are counted.
    pub fn send(&self, entry: &[u8]) -> Offer {
        if self.waiting.try_send(entry.to_owned()).is_ok() {
            return Offer::Accepted;
        }
        self.shared.count(Sent::Full, &"it does not keep up");
        Offer::Full
    }

    /// What became of the entries so far.
    pub fn totals(&self) -> JournalTotals {
        self.shared.totals()
    }

    /// Lets what waits go out, for so long; then gives it up. The totals are final.
    pub fn finish(self, within: Duration) -> JournalTotals {
        let Self { waiting, shared, ended } = self;
        drop(waiting);
        if ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            shared.abandoned.store(true, Ordering::Relaxed);
            // Nothing takes longer now than the one entry that is under way.
            let _ = ended.recv();
        }
        shared.totals()
    }
}

impl Shared {
    fn send(&self, socket: &UnixDatagram, entry: &[u8]) {
        if self.abandoned.load(Ordering::Relaxed) {
            return self.count(Sent::Full, &"it does not keep up");
        }
        let result = loop {
            match socket.send_to(entry, &self.path) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            // A datagram goes whole or not at all.
            Ok(_) => self.count(Sent::Taken, &""),
            Err(error) => self.count(loss(&error), &error),
        }
    }

    fn count(&self, sent: Sent, why: &dyn std::fmt::Display) {
        self.counts[sent as usize].fetch_add(1, Ordering::Relaxed);
        if sent != Sent::Taken && self.totals().lost() == 1 {
            let path = self.path.display();
            tracing::warn!(
                "cannot send an entry to the journal at {path}: {why}; further losses are only counted"
            );
        }
    }

    fn totals(&self) -> JournalTotals {
        let count = |sent: Sent| self.counts[sent as usize].load(Ordering::Relaxed);
        JournalTotals {
            sent: count(Sent::Taken),
            lost_absent: count(Sent::Absent),
            lost_full: count(Sent::Full),
            lost_too_large: count(Sent::TooLarge),
            lost_refused: count(Sent::Refused),
        }
    }
}

fn loss(error: &io::Error) -> Sent {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::CONNREFUSED) => Sent::Absent,
        Some(Errno::AGAIN | Errno::NOBUFS) => Sent::Full,
        Some(Errno::MSGSIZE) => Sent::TooLarge,
        _ => Sent::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn listener(directory: &tempfile::TempDir) -> UnixDatagram {
        let path = directory.path().join("socket");
        // Another one may have been there before.
        drop(std::fs::remove_file(&path));
        let listener = UnixDatagram::bind(path).unwrap();
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        listener
    }

    fn journal(room: usize) -> (tempfile::TempDir, UnixDatagram, JournalSocket) {
        let directory = tempfile::tempdir().unwrap();
        let listener = listener(&directory);
        let journal = JournalSocket::with_room(&directory.path().join("socket"), room).unwrap();
        (directory, listener, journal)
    }

    /// Waits until the sending thread is done with so many entries.
    fn wait_for(journal: &JournalSocket, entries: u64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while journal.shared.totals().sent + journal.shared.totals().lost() < entries {
            assert!(std::time::Instant::now() < deadline, "{:?}", journal.shared.totals());
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_datagram_is_one_entry() {
        let (_directory, listener, journal) = journal(8);
        let _ = journal.send(b"MESSAGE=a\n");
        let _ = journal.send(b"MESSAGE=bb\n");

        let mut buffer = [0; 64];
        assert_eq!(listener.recv(&mut buffer).unwrap(), 10);
        assert_eq!(listener.recv(&mut buffer).unwrap(), 11);
        assert_eq!(&buffer[..11], b"MESSAGE=bb\n");
        assert_eq!(journal.finish(PATIENCE), JournalTotals { sent: 2, ..JournalTotals::default() });
    }

    /// The socket holds ten datagrams or some hundred; the rest waits here.
    #[test]
    fn a_burst_waits_for_a_journal_that_reads_slowly() {
        let (_directory, listener, journal) = journal(2_000);
        for _ in 0..2_000 {
            let _ = journal.send(b"MESSAGE=x\n");
        }
        let reader = thread::spawn(move || {
            for _ in 0..2_000 {
                listener.recv(&mut [0; 64]).unwrap();
            }
        });
        assert_eq!(journal.finish(PATIENCE), JournalTotals { sent: 2_000, ..JournalTotals::default() });
        reader.join().unwrap();
    }

    #[test]
    fn a_journal_that_does_not_read_is_not_waited_for() {
        let (_directory, _listener, journal) = journal(10);
        let begun = std::time::Instant::now();
        for _ in 0..100_000 {
            let _ = journal.send(b"MESSAGE=x\n");
        }
        assert!(begun.elapsed() < SEND_WITHIN * 10, "{:?}", begun.elapsed());
        let totals = journal.finish(Duration::ZERO);
        assert!(totals.sent < 100_000, "{totals:?}");
        assert_eq!(totals, JournalTotals { lost_full: 100_000 - totals.sent, sent: totals.sent, ..totals });
    }

    #[test]
    fn a_journal_that_comes_late_or_again_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let journal = JournalSocket::open(&directory.path().join("socket")).unwrap();
        let _ = journal.send(b"MESSAGE=early\n");
        wait_for(&journal, 1);

        let first = listener(&directory);
        let _ = journal.send(b"MESSAGE=a\n");
        wait_for(&journal, 2);
        drop(first);
        let _ = journal.send(b"MESSAGE=stopped\n");
        wait_for(&journal, 3);
        let _again = listener(&directory);
        let _ = journal.send(b"MESSAGE=b\n");
        let totals = journal.finish(PATIENCE);
        assert_eq!(totals, JournalTotals { sent: 2, lost_absent: 2, ..JournalTotals::default() });
    }

    #[test]
    fn an_entry_above_the_datagram_limit_is_counted() {
        let (_directory, _listener, journal) = journal(1);
        let _ = journal.send(&vec![b'x'; 16 << 20]);
        assert_eq!(journal.finish(PATIENCE), JournalTotals { lost_too_large: 1, ..JournalTotals::default() });
    }
}
