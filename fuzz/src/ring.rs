//! Records of the rings: from bytes to a line of each format.

use std::sync::LazyLock;

use bytemuck::Zeroable as _;
use kube_tcpstates::connection::{ConnectionIds, OfKernel, Story};
use kube_tcpstates::decode::{decided, for_each_transition};
use kube_tcpstates::kernel::{cgroup_change, record_of};
use kube_tcpstates::names::{TraceName, TraceNames};
use kube_tcpstates::render::ended::Ended;
use kube_tcpstates::render::{
    Attribution, AttributionSource, AttributionStatus, Event, FORMATS, FormatOptions, MAX_LINE,
};
use kube_tcpstates_common::classify::address_words;
use kube_tcpstates_common::record::{
    CgroupRecord, ConnectionRecord, Figures, TransitionRecord, UNKNOWN_NS, flag, known, owner, role,
};
use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Line;
use serde_json::Value;

/// What the kernel side of any version may put into a ring. True: it was a record.
pub fn read(bytes: &[u8]) -> bool {
    // A ring hands out what is aligned to eight bytes.
    let mut aligned = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut::<u64, u8>(&mut aligned)[..bytes.len()].copy_from_slice(bytes);
    let item = &bytemuck::cast_slice::<u64, u8>(&aligned)[..bytes.len()];
    if let Some((record, figures)) = record_of(item) {
        for_each_transition(record, figures, |transition| told(transition));
        if let Some(transition) = decided(record) {
            told(&transition);
        }
        return true;
    }
    cgroup_change(item).is_some()
}

/// Every format has one line for it, and the documents are what their type says.
fn told(transition: &kube_tcpstates::decode::Transition) {
    static TRACES: LazyLock<TraceNames> =
        LazyLock::new(|| TraceNames::new(vec![TraceName::Namespaced("shop/a".to_owned())]));
    let ids = ConnectionIds::new("boot", [0; 16]);
    let event = Event {
        transition,
        unix_ns: transition.boot_ns,
        connection_id: ids.id(transition),
        attribution: Attribution { source: AttributionSource::None, status: AttributionStatus::Unknown },
        owner: None,
        peer: None,
        traces: &TRACES,
    };
    let story = Story::of(transition, OfKernel { jiffy_ns: 4_000_000, resets_watched: true });
    for entry in FORMATS {
        let mut format = (entry.make)(&FormatOptions::default());
        let mut out = Vec::new();
        format.transition(&mut out, 1, &event);
        check(&out, entry.name);
        let Some(story) = &story else { continue };
        out.clear();
        let listener = story.listener.map(|(socket, birth_ns)| ids.of(socket, birth_ns));
        let ended = Ended { story, start_ns: story.start_ns, listener, brief: false };
        format.connection(&mut out, 2, &event, &ended);
        check(&out, entry.name);
    }
}

fn check(out: &[u8], format: &str) {
    let text = str::from_utf8(out).expect("a line is UTF-8");
    // A format of columns shows either transitions or connections.
    let Some(line) = text.strip_suffix('\n') else {
        assert!(out.is_empty(), "{format}: no end of the line: {text:?}");
        return;
    };
    assert!(out.len() < MAX_LINE, "{format}: {} bytes", out.len());
    assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
    if format == "json" {
        let read: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let again = serde_json::to_value(&read).expect("a line serialises");
        assert_eq!(serde_json::from_str::<Value>(line).ok(), Some(again));
    }
}

/// Records as the kernel side makes them: a connection's beginning, its end, a cgroup.
pub fn seeds() -> Vec<Vec<u8>> {
    let begun = TransitionRecord {
        boot_ns: 2_000_000,
        duration_ns: UNKNOWN_NS,
        birth_ns: 1_000_000,
        socket: 0xffff_8880_1234_5678,
        cookie: 7,
        family: 4,
        local: address_words([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        local_port: 40_000,
        peer_port: 80,
        old_state: State::SYN_SENT.0,
        new_state: State::ESTABLISHED.0,
        role: role::CLIENT,
        owner_source: owner::CONNECT,
        owner_pid: 7,
        owner_comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
        flags: flag::PENDING,
        pending_traces: 1,
        pending_old_state: State::CLOSE.0,
        pending_new_state: State::SYN_SENT.0,
        traces: 1,
        ..TransitionRecord::zeroed()
    };
    let link_local = address_words([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let last = TransitionRecord {
        family: 6,
        interface: 2,
        local: link_local,
        peer: link_local,
        old_state: State::LAST_ACK.0,
        new_state: State::CLOSE.0,
        socket_error: 104,
        flags: flag::GAP,
        ..begun
    };
    let figures = Figures {
        bytes_acked: 10,
        segments_sent: 2,
        visited: 0b10,
        known: known::SOCKET | known::RECORD,
        ..Figures::zeroed()
    };
    let mut path = [0; 512];
    path[..9].copy_from_slice(b"/kubepods");
    let cgroup = CgroupRecord { id: 9, hierarchy: 0, padding: 0, removed: 0, path_len: 10, path };
    vec![
        bytemuck::bytes_of(&begun).to_vec(),
        bytemuck::bytes_of(&ConnectionRecord { transition: last, figures }).to_vec(),
        bytemuck::bytes_of(&cgroup).to_vec(),
    ]
}
