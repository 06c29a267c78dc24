//! How long a socket has been in its state: from what the tracer remembers of it, else since a snapshot first showed it
//! there.

use std::collections::HashMap;

use kube_tcpstates_common::state::State;

use super::Found;

/// What the kernel side of a tracer remembers of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// State that it is known to be in.
    pub state: State,
    /// Since when, boot time ns; `None` where that is not known.
    pub since_ns: Option<u64>,
    /// `since_ns` is when it was found, not when it entered the state.
    pub since_attach: bool,
    /// When the connection was born or first seen, boot time ns.
    pub birth_ns: u64,
}

/// A socket in a state: its kernel address, namespace and ports tell it from a later one.
type Key = (u64, Option<u32>, u16, Option<u16>, State);

/// When each socket of the last snapshot was first seen in its state.
#[derive(Debug, Default)]
pub struct Ages(HashMap<Key, u64>);

impl Ages {
    /// Gives every socket of a snapshot its age, and the birth by which its connection is named. The snapshot was taken at
    /// `now_ns`, boot time.
    pub fn give(&mut self, found: &mut [Found], remembered: &HashMap<u64, Remembered>, now_ns: u64) {
        let mut next = HashMap::with_capacity(found.len());
        for Found { seen, .. } in found {
            let key =
                (seen.socket, seen.netns, seen.local.port, seen.peer.map(|peer| peer.port), seen.new_state);
            let first_ns = self.0.get(&key).copied().unwrap_or(now_ns);
            next.insert(key, first_ns);
            let known = remembered.get(&seen.socket);
            let since = known.filter(|known| known.state == seen.new_state).and_then(|known| {
                let since_ns = known.since_ns?;
                Some((since_ns, known.since_attach))
            });
            let (since_ns, since_attach) = since.unwrap_or((first_ns, true));
            seen.duration_ns = Some(now_ns.saturating_sub(since_ns));
            seen.since_attach = since_attach;
            seen.birth_ns = known.map_or(0, |known| known.birth_ns);
        }
        self.0 = next;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::{classify::Connection, record::TransitionRecord, state::State};

    use super::{Ages, Remembered};
    use crate::{
        decode::transitions,
        open::{Figures, Found, What},
    };

    fn found(socket: u64, state: State) -> Found {
        let record = TransitionRecord { socket, new_state: state.0, traces: 1, ..TransitionRecord::zeroed() };
        let connection = Connection {
            cgroup_id: 0,
            netns: 0,
            family: 4,
            role: 0,
            local_port: 0,
            peer_port: 0,
            peer: [0; 4],
            listener: 0,
        };
        Found { seen: transitions(&record)[0], connection, what: What::Connection(Figures::default()) }
    }

    /// Age, whether it is a lower bound, and birth of one socket in a snapshot.
    fn age(
        ages: &mut Ages,
        state: State,
        remembered: Option<Remembered>,
        now_ns: u64,
    ) -> (Option<u64>, bool, u64) {
        let mut found = [found(1, state)];
        ages.give(
            &mut found,
            &remembered.map(|known| (1, known)).into_iter().collect::<HashMap<_, _>>(),
            now_ns,
        );
        let seen = &found[0].seen;
        (seen.duration_ns, seen.since_attach, seen.birth_ns)
    }

    #[test]
    fn the_age_is_what_the_tracer_remembers_of_that_state() {
        let known =
            |state, since_ns, since_attach| Some(Remembered { state, since_ns, since_attach, birth_ns: 5 });
        let mut ages = Ages::default();
        let close_wait = State::CLOSE_WAIT;
        assert_eq!(age(&mut ages, close_wait, known(close_wait, Some(40), false), 100), (Some(60), false, 5));
        assert_eq!(age(&mut ages, close_wait, known(close_wait, Some(40), true), 110), (Some(70), true, 5));
        // It has moved on without the tracer: only the snapshots tell.
        assert_eq!(
            age(&mut ages, close_wait, known(State::ESTABLISHED, Some(40), false), 120),
            (Some(20), true, 5)
        );
    }

    #[test]
    fn of_what_no_tracer_remembers_the_snapshots_tell() {
        let mut ages = Ages::default();
        assert_eq!(age(&mut ages, State::ESTABLISHED, None, 100), (Some(0), true, 0));
        assert_eq!(age(&mut ages, State::ESTABLISHED, None, 130), (Some(30), true, 0));
        // Another state is another age.
        assert_eq!(age(&mut ages, State::CLOSE_WAIT, None, 140), (Some(0), true, 0));
        assert_eq!(age(&mut ages, State::ESTABLISHED, None, 150), (Some(0), true, 0));
    }
}
