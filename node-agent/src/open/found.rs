//! A socket that was found, from the kernel's numbers to what they mean.

use std::collections::HashMap;

use bytemuck::Zeroable as _;
use kube_tcpstates_common::{
    classify::{Connection, normalise},
    offsets::{ABSENT, WalkOffsets},
    record::{TransitionRecord, UNKNOWN_NS, flag, owner, role},
    state::State,
    walk::{CloseLook, OpenSocket, Task},
};

use super::{
    holders::Holders,
    roles::{Open, Roles},
};
use crate::connection::elapsed_ns;
use crate::decode::{self, Transition};

/// What a walk has seen at one moment.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Every socket of TCP, whole ones and those in passing (`TIME_WAIT`, requests).
    pub sockets: Vec<OpenSocket>,
    /// Those that were looked at closely.
    pub looks: Vec<Look>,
    /// The process that holds each, by its kernel address.
    pub holders: HashMap<u64, Task>,
    /// What this kernel has.
    pub offsets: WalkOffsets,
    /// Length of the kernel's tick, ns.
    pub jiffy_ns: u64,
    /// When it began, boot time ns.
    pub boot_ns: u64,
    /// Chains that changed too fast to be walked to their end.
    pub given_up: u32,
}

/// A close look at a socket.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What was seen.
    pub seen: CloseLook,
    /// The kernel's jiffies then.
    pub jiffies: u64,
}

/// An open socket.
#[derive(Clone, Debug)]
pub struct Found {
    /// As a transition into the state that it is in: what tells owners, names and ends asks no more.
    pub seen: Transition,
    /// What traces judge it by.
    pub connection: Connection,
    /// What it is.
    pub what: What,
}

/// What an open socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A connection.
    Connection(Figures),
    /// A listener.
    Listener(Queue),
}

/// The figures of a connection; absent where this kernel does not have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Since data was last sent or received, or it was opened, ns.
    pub idle_ns: Option<u64>,
    /// Bytes that have come and were not read.
    pub unread_bytes: Option<u32>,
    /// Bytes that were written and not acknowledged.
    pub unsent_bytes: Option<u32>,
    /// Retransmissions by timeout that nothing has answered yet.
    pub retransmits: Option<u32>,
}

/// The queues of a listener; absent where this kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub length: Option<u32>,
    /// How many may.
    pub limit: Option<u32>,
    /// What was dropped since it began to listen.
    pub drops: Option<u32>,
    /// Connections that are being opened.
    pub half_open: Option<u32>,
    /// Of them, those whose last ACK has come.
    pub acknowledged: Option<u32>,
}

/// A connection that its program has closed and the kernel keeps for a while, without its owner.
#[derive(Clone, Debug)]
pub struct Passing {
    /// As a transition into the state that it stands for.
    pub seen: Transition,
    /// What traces judge it by.
    pub connection: Connection,
}

impl Sight {
    /// The sockets that were looked at, and those that are passing.
    pub fn found(&self) -> (Vec<Found>, Vec<Passing>) {
        let (whole, passing): (Vec<_>, Vec<_>) = self.sockets.iter().copied().partition(is_whole);
        let open: Vec<Open> = whole.into_iter().map(Open::of).collect();
        let roles = Roles::of(&open);
        let holders = Holders::new(&self.holders, &roles);
        let requests = requests(&passing);
        let found = self.looks.iter().filter_map(|look| {
            let mut socket = look.seen.socket;
            let open = Open::of(socket);
            let (owner, role) = (holders.of(&open), roles.role(&open));
            let (connection, mapped) = judged(&mut socket, role);
            let record = TransitionRecord {
                flags: mapped | if socket.mptcp == 0 { 0 } else { flag::MPTCP },
                interface: look.seen.interface,
                ..self.record(&socket, &connection, owner)
            };
            let what = if connection.listener == 0 {
                What::Connection(self.figures(look))
            } else {
                What::Listener(self.queue(&look.seen, requests.get(&socket.socket)))
            };
            Some(Found { seen: transition(&record)?, connection, what })
        });
        let passed =
            passing.iter().filter(|socket| socket.state == State::TIME_WAIT.0).filter_map(|socket| {
                let mut socket = *socket;
                if socket.substate == State::FIN_WAIT2.0 {
                    socket.state = socket.substate;
                }
                let (connection, flags) = judged(&mut socket, role::UNKNOWN);
                let record =
                    TransitionRecord { flags, ..self.record(&socket, &connection, (owner::NONE, None)) };
                Some(Passing { seen: transition(&record)?, connection })
            });
        (found.collect(), passed.collect())
    }

    fn record(
        &self,
        socket: &OpenSocket,
        connection: &Connection,
        (owner_source, task): (u8, Option<&Task>),
    ) -> TransitionRecord {
        TransitionRecord {
            boot_ns: self.boot_ns,
            duration_ns: UNKNOWN_NS,
            socket: socket.socket,
            cookie: socket.cookie,
            cgroup_id: socket.cgroup_id,
            task_cgroup: task.map_or(0, |task| task.cgroup),
            netns: socket.netns,
            netns_cookie: socket.netns_cookie,
            family: socket.family,
            local: socket.local,
            peer: socket.peer,
            local_port: socket.local_port,
            peer_port: socket.peer_port,
            role: connection.role,
            old_state: socket.state,
            new_state: socket.state,
            owner_source,
            owner_pid: task.map_or(0, |task| task.pid),
            owner_comm: task.map_or_else(Default::default, |task| task.comm),
            owner_ns: self.boot_ns,
            traces: 1,
            ..TransitionRecord::zeroed()
        }
    }

    fn figures(&self, look: &Look) -> Figures {
        let Look { seen, jiffies } = look;
        let has = &self.offsets;
        let state = State(seen.socket.state);
        let since = |offset, ticks: u32| {
            known(offset, ticks)
                .filter(|ticks| *ticks != 0)
                .map(|ticks| elapsed_ns(ticks, *jiffies, self.jiffy_ns))
        };
        // Nothing is sent or received before the handshake has ended, and the times may be those of an earlier connection.
        let is_opening = matches!(state, State::SYN_SENT | State::SYN_RECV);
        let times = [since(has.last_sent, seen.last_sent), since(has.last_received, seen.last_received)];
        let unread = known(has.received, seen.received).zip(known(has.read, seen.read));
        let unsent = known(has.written, seen.written).zip(known(has.unacknowledged, seen.unacknowledged));
        Figures {
            idle_ns: times.into_iter().flatten().min().filter(|_| !is_opening),
            unread_bytes: unread
                .filter(|_| !is_opening)
                .map(|(received, read)| between(read, received, peer_has_closed(state))),
            unsent_bytes: unsent
                .map(|(written, acknowledged)| between(acknowledged, written, is_opening || closes(state))),
            retransmits: known(has.retransmits, seen.retransmits.into()),
        }
    }

    fn queue(&self, seen: &CloseLook, requests: Option<&(u32, u32)>) -> Queue {
        let has = &self.offsets;
        let (count, acknowledged) = requests.copied().unwrap_or_default();
        let half_open = known(has.request_listener, count);
        Queue {
            length: known(has.queued, seen.queued),
            limit: known(has.queue_limit, seen.queue_limit),
            drops: known(has.drops, seen.drops),
            half_open,
            acknowledged: half_open.and(known(has.request_acked, acknowledged)),
        }
    }
}

/// How many requests each listener has, and how many of them have their last ACK.
fn requests(passing: &[OpenSocket]) -> HashMap<u64, (u32, u32)> {
    let mut requests: HashMap<u64, (u32, u32)> = HashMap::new();
    for request in passing.iter().filter(|socket| socket.state == State::NEW_SYN_RECV.0) {
        let (count, acknowledged) = requests.entry(request.listener).or_default();
        *count += 1;
        *acknowledged += u32::from(request.acked);
    }
    requests
}

/// What traces judge a socket by, its addresses as lines have them, and the flag that tells how they were.
fn judged(socket: &mut OpenSocket, role: u8) -> (Connection, u16) {
    let mapped = normalise(&mut socket.family, &mut socket.local, &mut socket.peer);
    let connection = Connection {
        cgroup_id: socket.cgroup_id,
        netns: socket.netns,
        family: socket.family,
        role,
        local_port: socket.local_port,
        peer_port: socket.peer_port,
        peer: socket.peer,
        listener: if socket.state == State::LISTEN.0 { u64::MAX } else { 0 },
    };
    (connection, mapped)
}

fn transition(record: &TransitionRecord) -> Option<Transition> {
    let mut only = None;
    decode::for_each_transition(record, None, |transition| only = Some(*transition));
    only
}

const fn is_whole(socket: &OpenSocket) -> bool {
    !matches!(State(socket.state), State::TIME_WAIT | State::NEW_SYN_RECV)
}

fn known(offset: u32, value: u32) -> Option<u32> {
    (offset != ABSENT).then_some(value)
}

/// Bytes from one number of the sequence to a later one, less a SYN or FIN that is the last of them.
const fn between(from: u32, to: u32, has_flag: bool) -> u32 {
    let count = to.wrapping_sub(from);
    // Read one after the other, they may be of two moments.
    if count > u32::MAX / 2 { 0 } else { count.saturating_sub(has_flag as u32) }
}

/// The peer's FIN has come: it is the last that is read.
const fn peer_has_closed(state: State) -> bool {
    matches!(state, State::CLOSE_WAIT | State::LAST_ACK | State::CLOSING)
}

/// Our FIN is not acknowledged: it is the last that is written.
const fn closes(state: State) -> bool {
    matches!(state, State::FIN_WAIT1 | State::CLOSING | State::LAST_ACK)
}
