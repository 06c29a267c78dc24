//! Station 3: which connection a transition belongs to, and what the connection was when it ends.

mod community;
#[cfg(test)]
pub(crate) mod fixtures;
mod outcome;
mod story;
mod ticks;
#[cfg(test)]
mod told_apart_tests;

pub use community::CommunityId;
pub use outcome::Ending;
pub use story::{OfKernel, SocketFigures, Story};
pub use ticks::elapsed_ns;

use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

use crate::decode::Transition;

/// Names connections.
///
/// The id is a keyed hash of the socket's address and the time of its birth: the same for all lines of a
/// connection, different for the next connection on a reused socket, and telling nothing of the kernel's addresses
/// to those who do not have the key.
#[derive(Clone, Debug)]
pub struct ConnectionIds {
    hasher: SipHasher13,
}

impl ConnectionIds {
    /// `boot_id` is the kernel's (`/proc/sys/kernel/random/boot_id`), `secret` is new in every run.
    pub fn new(boot_id: &str, secret: [u8; 16]) -> Self {
        let mut hasher = SipHasher13::new_with_key(&secret);
        hasher.write(boot_id.trim().as_bytes());
        Self { hasher }
    }

    /// The id of a transition's connection; printed as 16 hex digits.
    pub fn id(&self, transition: &Transition) -> u64 {
        self.of(transition.socket, transition.birth_ns)
    }

    /// The id of the connection that a socket had since its birth.
    pub fn of(&self, socket: u64, birth_ns: u64) -> u64 {
        let mut hasher = self.hasher;
        hasher.write_u64(socket);
        hasher.write_u64(birth_ns);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::record::TransitionRecord;

    use super::ConnectionIds;
    use crate::decode::{Transition, transitions};

    fn born(socket: u64, birth_ns: u64) -> Transition {
        let record = TransitionRecord { socket, birth_ns, traces: 1, ..TransitionRecord::zeroed() };
        transitions(&record)[0]
    }

    #[test]
    fn a_connection_keeps_its_id_and_a_reused_socket_gets_another() {
        let ids = ConnectionIds::new("boot", [1; 16]);
        let later = Transition { boot_ns: 99, ..born(10, 20) };
        assert_eq!(ids.id(&born(10, 20)), ids.id(&later));
        assert_ne!(ids.id(&born(10, 20)), ids.id(&born(10, 21)));
        assert_ne!(ids.id(&born(10, 20)), ids.id(&born(11, 20)));
    }

    #[test]
    fn the_id_changes_with_boot_and_run() {
        let ids = [("a", [1; 16]), ("b", [1; 16]), ("a", [2; 16])]
            .map(|(boot, secret)| ConnectionIds::new(boot, secret).id(&born(10, 20)));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    }
}
