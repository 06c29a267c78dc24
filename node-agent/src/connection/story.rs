//! What a connection was, told when it ends. Pure; the length of a jiffy is an argument.

use kube_tcpstates_common::{
    record::{Figures, TIMED_STATES, known},
    state::State,
};
use kube_tcpstates_events::{Direction, Role};

use super::outcome::{Ending, Facts, ending};
use super::ticks::elapsed_ns;
use crate::decode::Transition;

/// What the figures of all connections mean on this kernel.
#[derive(Clone, Copy, Debug)]
pub struct OfKernel {
    /// Length of a tick, ns.
    pub jiffy_ns: u64,
    /// Had a reset been taken from the peer, the figures would say so.
    pub resets_watched: bool,
}

/// A connection from its beginning to its end. Times are ns unless named otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Story {
    /// How it ended.
    pub ending: Ending,
    /// When it began, or was first seen; `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// From then to its end.
    pub duration_ns: u64,
    /// It is older than the tracer.
    pub since_attach: bool,
    /// Time in each state of [`State::TIMED`]; `None` where it was not in it, or nobody knows how long.
    pub states: [Option<u64>; TIMED_STATES],
    /// Time of the handshake, us.
    pub handshake_us: Option<u64>,
    /// SYNs, or answers to one, that were sent again.
    pub syn_retransmits: Option<u32>,
    /// What the socket said.
    pub socket: Option<SocketFigures>,
    /// The listener it was accepted from: kernel address and birth.
    pub listener: Option<(u64, u64)>,
}

/// What the socket said of its connection at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFigures {
    /// Payload that this side sent, as far as the peer acknowledged it.
    pub sent: Direction,
    /// Payload that came.
    pub received: Direction,
    /// Segments of data that were sent again.
    pub retransmits: u32,
    /// Segments that came out of order, where the kernel counts them.
    pub out_of_order: Option<u32>,
    /// Bytes that came and that nobody can read any more.
    pub unread_bytes: Option<u64>,
    /// Bytes that were written and never acknowledged.
    pub unsent_bytes: u64,
    /// Smoothed round-trip time, us.
    pub srtt_us: Option<u32>,
    /// Least round-trip time, us.
    pub min_rtt_us: Option<u32>,
    /// Time for which the peer's window held up what was to be sent, us.
    pub peer_window_us: u64,
    /// The same of the send buffer.
    pub send_buffer_us: u64,
}

impl SocketFigures {
    /// Time since data was last sent or received, us.
    pub fn idle_us(&self) -> Option<u64> {
        [self.sent.idle_us, self.received.idle_us].into_iter().flatten().min()
    }
}

impl Story {
    /// The story of a connection that a transition ends. `None` where the transition is no end, or nobody asked for it.
    pub fn of(transition: &Transition, of_kernel: OfKernel) -> Option<Self> {
        let figures = transition.figures.as_ref()?;
        let facts = Facts::new(transition, figures, of_kernel.resets_watched);
        let has = |bit: u8| figures.known & bit != 0;
        let spent = |place: usize| {
            let time = figures.state_ns[place];
            (time != 0 || figures.visited >> State::TIMED[place].0 & 1 == 1 && has(known::RECORD))
                .then_some(time)
        };
        let syn_sent = spent(0).filter(|_| transition.birth_known && transition.role == Some(Role::Client));
        // Where both sides connect at once a client passes through SYN_RECV.
        let connecting = syn_sent.map(|ns| ns.saturating_add(spent(1).unwrap_or(0)));
        let round_trip = Some(u64::from(figures.handshake_us8 / 8))
            .filter(|us| *us != 0 && has(known::HANDSHAKE) && transition.role == Some(Role::Server));
        let opened = facts.visited(State::ESTABLISHED);
        Some(Self {
            ending: ending(&facts),
            start_ns: transition.birth_ns,
            duration_ns: transition.boot_ns.saturating_sub(transition.birth_ns),
            since_attach: !transition.birth_known,
            states: std::array::from_fn(spent),
            handshake_us: connecting.filter(|_| opened).map(|ns| ns / 1000).or(round_trip),
            syn_retransmits: facts.syn_retransmits(),
            socket: has(known::SOCKET).then(|| socket(transition, figures, &facts, of_kernel.jiffy_ns)),
            listener: (figures.listener != 0).then_some((figures.listener, figures.listener_birth_ns)),
        })
    }
}

fn socket(transition: &Transition, figures: &Figures, facts: &Facts<'_>, jiffy_ns: u64) -> SocketFigures {
    let us = |jiffies: u32| u64::from(jiffies) * jiffy_ns / 1000;
    let since = |at: u32| elapsed_ns(at, figures.jiffies.into(), jiffy_ns) / 1000;
    let limited = |kind: usize| {
        let running = usize::from(figures.chrono_type) == kind + 1;
        us(figures.chrono[kind]) + if running { since(figures.chrono_start) } else { 0 }
    };
    let direction = |bytes: u64, segments: u32, last: u32| Direction {
        bytes,
        segments,
        idle_us: (segments > 0).then(|| since(last)),
    };
    let sent = payload_acknowledged(transition, figures, facts);
    let received = figures.bytes_received.saturating_sub(facts.fin_came().into());
    let syn_retransmits = facts.syn_retransmits().unwrap_or(0);
    let known_rtt = |us: u32| Some(us).filter(|us| *us != 0 && *us != u32::MAX);
    SocketFigures {
        sent: direction(sent, figures.segments_sent, figures.last_sent),
        received: direction(received, figures.segments_received, figures.last_received),
        retransmits: figures.retransmits.saturating_sub(syn_retransmits),
        out_of_order: (figures.known & known::OUT_OF_ORDER != 0).then_some(figures.out_of_order),
        unread_bytes: (facts.unread() == 0 || facts.is_given_up()).then(|| facts.unread().into()),
        unsent_bytes: facts.unsent().into(),
        srtt_us: known_rtt(figures.srtt_us8 / 8),
        min_rtt_us: known_rtt(figures.min_rtt_us),
        peer_window_us: limited(1),
        send_buffer_us: limited(2),
    }
}

/// What the peer acknowledged, without a client's SYN and the own FIN.
fn payload_acknowledged(transition: &Transition, figures: &Figures, facts: &Facts<'_>) -> u64 {
    let without_fin = figures.bytes_acked.saturating_sub(facts.fin_acknowledged().into());
    let syn = match transition.role {
        Some(Role::Client) => facts.was_open(),
        Some(Role::Server) => false,
        // Whether this is a client can be told only where it sent nothing else.
        None => figures.segments_sent == 0 && without_fin == 1,
    };
    without_fin.saturating_sub(syn.into())
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
