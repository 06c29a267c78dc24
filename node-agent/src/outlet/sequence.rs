//! The run's id and the numbers of its lines: (node, run, seq) names one line.

use std::fmt;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// A number of this process, told in every line as 8 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(u32);

impl RunId {
    /// A new id from the kernel's random numbers. Waits for them only in the first moments of a boot.
    ///
    /// # Errors
    /// The kernel refuses random numbers (a seccomp profile without `getrandom`).
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0_u8; 4];
        // Up to 256 bytes come whole, but a signal may interrupt the wait (getrandom(2)).
        while let Err(errno) = getrandom(&mut bytes, GetRandomFlags::empty()) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        Ok(Self(u32::from_ne_bytes(bytes)))
    }
}

impl RunId {
    /// The number itself.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl From<u32> for RunId {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Numbers lines from 1, so that the highest number seen is the count of the lines accepted.
#[derive(Debug)]
pub(super) struct Sequence {
    next: u64,
}

impl Sequence {
    pub(super) fn new() -> Self {
        Self { next: 1 }
    }

    /// The number of the next accepted line. Asking does not consume it.
    pub(super) fn peek(&self) -> u64 {
        self.next
    }

    /// `lines` lines were accepted.
    pub(super) fn consume(&mut self, lines: u32) {
        self.next += u64::from(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_eight_hexadecimal_digits() {
        assert_eq!(RunId::from(0x5f_0c2a).to_string(), "005f0c2a");
        assert_eq!(RunId::from(u32::MAX).to_string(), "ffffffff");
    }

    #[test]
    fn run_ids_differ() {
        let ids: std::collections::HashSet<_> = (0..64).map(|_| RunId::random().unwrap()).collect();
        // 64 draws of 32 bits share one with a chance of 5 in 10 million; a constant would leave one id.
        assert!(ids.len() >= 63, "{ids:?}");
    }
}
