//! What listeners have dropped between two looks at them.

use std::collections::HashMap;

use super::{Found, What};

/// A listener: its kernel address, namespace, cookie and port tell it from a later one.
type Key = (u64, Option<u32>, Option<u64>, u16);

/// What each listener of the last look had dropped by then.
#[derive(Clone, Debug, Default)]
pub struct Drops(HashMap<Key, u32>);

impl Drops {
    /// What each listener has dropped since the last look, by its kernel address; one that is seen for the first time is
    /// not among them, as nobody knows when that was.
    pub fn since_last(&mut self, found: &[Found]) -> HashMap<u64, u32> {
        let mut since = HashMap::new();
        let mut next = HashMap::new();
        for Found { seen, what, .. } in found {
            let What::Listener(queue) = what else { continue };
            let Some(drops) = queue.drops else { continue };
            let key = (seen.socket, seen.netns, seen.cookie, seen.local.port);
            if let Some(before) = self.0.get(&key) {
                since.insert(seen.socket, drops.wrapping_sub(*before));
            }
            next.insert(key, drops);
        }
        self.0 = next;
        since
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::{classify::Connection, record::TransitionRecord, state::State};

    use super::Drops;
    use crate::{
        decode::transitions,
        open::{Found, Queue, What},
    };

    fn listener(socket: u64, cookie: u64, drops: Option<u32>) -> Found {
        let record = TransitionRecord {
            socket,
            cookie,
            new_state: State::LISTEN.0,
            traces: 1,
            ..TransitionRecord::zeroed()
        };
        let connection = Connection {
            cgroup_id: 0,
            netns: 0,
            family: 4,
            role: 0,
            local_port: 0,
            peer_port: 0,
            peer: [0; 4],
            listener: 1,
        };
        let queue = Queue { drops, ..Queue::default() };
        Found { seen: transitions(&record)[0], connection, what: What::Listener(queue) }
    }

    #[test]
    fn drops_count_from_the_first_look_on() {
        let mut drops = Drops::default();
        assert!(drops.since_last(&[listener(1, 7, Some(40)), listener(2, 8, None)]).is_empty());
        let looks = [listener(1, 7, Some(43)), listener(2, 8, None), listener(3, 9, Some(5))];
        assert_eq!(drops.since_last(&looks), HashMap::from([(1, 3)]));
        // Another listener in the same memory, and one whose count has begun anew.
        assert!(drops.since_last(&[listener(1, 70, Some(99))]).is_empty());
        drops.since_last(&[listener(1, 70, Some(u32::MAX))]);
        assert_eq!(drops.since_last(&[listener(1, 70, Some(1))]), HashMap::from([(1, 2)]));
    }
}
