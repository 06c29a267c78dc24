//! Entries for the systemd journal (`-Y`), beside stdout. One datagram is one entry; how an entry is encoded is the
//! business of `serialise/journal.rs`.
//!
//! The socket is left unconnected and addressed by its path each time, so a journal that starts late or is started
//! again is found without further ado. Nothing here ever waits: an entry that cannot go at once is counted as lost.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// Where systemd-journald listens.
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Entry {
    /// The journal's socket has taken it.
    Sent,
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

/// Sends entries to the journal. Can be shared: any thread may send or read the totals.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    /// By [`Entry`], in its order.
    counts: [AtomicU64; 5],
}

impl Journal {
    /// Makes the socket. The journal itself need not be there yet.
    ///
    /// # Errors
    /// The process cannot have a socket.
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), counts: Default::default() })
    }

    /// Sends one entry without waiting. The first loss is told as a warning, all are counted.
    pub fn send(&self, entry: &[u8]) -> Entry {
        let result = loop {
            match self.socket.send_to(entry, &self.path) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let outcome = match &result {
            // A datagram goes whole or not at all.
            Ok(_) => Entry::Sent,
            Err(error) => loss(error),
        };
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if let Err(error) = result
            && self.totals().lost() == 1
        {
            let path = self.path.display();
            tracing::warn!(
                "cannot send an entry to the journal at {path}: {error}; further losses are only counted"
            );
        }
        outcome
    }

    /// A snapshot of the totals.
    pub fn totals(&self) -> JournalTotals {
        let count = |outcome: Entry| self.counts[outcome as usize].load(Ordering::Relaxed);
        JournalTotals {
            sent: count(Entry::Sent),
            lost_absent: count(Entry::Absent),
            lost_full: count(Entry::Full),
            lost_too_large: count(Entry::TooLarge),
            lost_refused: count(Entry::Refused),
        }
    }
}

fn loss(error: &io::Error) -> Entry {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::CONNREFUSED) => Entry::Absent,
        Some(Errno::AGAIN | Errno::NOBUFS) => Entry::Full,
        Some(Errno::MSGSIZE) => Entry::TooLarge,
        _ => Entry::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        (directory, listener, Journal::open(&path).unwrap())
    }

    #[test]
    fn one_datagram_is_one_entry() {
        let (_directory, listener, journal) = journal();
        assert_eq!(journal.send(b"MESSAGE=a\n"), Entry::Sent);
        assert_eq!(journal.send(b"MESSAGE=bb\n"), Entry::Sent);

        let mut buffer = [0; 64];
        assert_eq!(listener.recv(&mut buffer).unwrap(), 10);
        assert_eq!(listener.recv(&mut buffer).unwrap(), 11);
        assert_eq!(&buffer[..11], b"MESSAGE=bb\n");
        assert_eq!(journal.totals(), JournalTotals { sent: 2, ..JournalTotals::default() });
    }

    #[test]
    fn a_journal_that_does_not_read_is_not_waited_for() {
        let (_directory, listener, journal) = journal();
        let sent = (0..100_000).take_while(|_| journal.send(b"MESSAGE=x\n") == Entry::Sent).count() as u64;
        assert!(sent < 100_000, "the socket never filled");
        assert_eq!(journal.send(b"MESSAGE=x\n"), Entry::Full);
        assert_eq!(journal.totals(), JournalTotals { sent, lost_full: 2, ..JournalTotals::default() });

        let mut buffer = [0; 64];
        listener.recv(&mut buffer).unwrap();
        assert_eq!(journal.send(b"MESSAGE=x\n"), Entry::Sent, "goes on once there is room");
    }

    #[test]
    fn a_journal_that_comes_late_or_again_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.send(b"MESSAGE=early\n"), Entry::Absent);

        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(journal.send(b"MESSAGE=a\n"), Entry::Sent);
        drop(listener);
        assert_eq!(journal.send(b"MESSAGE=stopped\n"), Entry::Absent);
        std::fs::remove_file(&path).unwrap();
        let _again = UnixDatagram::bind(&path).unwrap();
        assert_eq!(journal.send(b"MESSAGE=b\n"), Entry::Sent);
        assert_eq!(journal.totals(), JournalTotals { sent: 2, lost_absent: 2, ..JournalTotals::default() });
    }

    #[test]
    fn an_entry_above_the_datagram_limit_is_counted() {
        let (_directory, _listener, journal) = journal();
        assert_eq!(journal.send(&vec![b'x'; 16 << 20]), Entry::TooLarge);
        assert_eq!(journal.totals().lost(), 1);
    }
}
