//! What is known of a connection as a whole: some of it when it is established and when it is closed, the rest when it
//! ends. At -> CLOSE everything is still there; right after, `tcp_disconnect` clears it (`net/ipv4/tcp.c`).

use aya_ebpf::helpers::generated::bpf_jiffies64;
use kube_tcpstates_common::{
    offsets::ABSENT,
    record::{Figures, known},
    verifier::{any_bit_everywhere, select},
};

use crate::{
    globals::{figure_offset, offset},
    hook::Hook,
    memory::{Memory, Probed},
    socket::{HANDSHAKE, RESET_RECEIVED, SEGMENTS_AT_FIN, SocketRecord},
    step::Step,
};

/// `SHUTDOWN_MASK`, `include/net/sock.h`: nothing is received any more, and nothing sent.
const SHUT_BOTH: u64 = 3;

/// Keeps what the connection tells on entering the new state.
#[inline(always)]
pub(crate) fn keep<M: Memory>(record: &mut SocketRecord, socket: *const u8, step: Step) {
    if figure_offset!(complete) == 0 || offset!(shutdown) == ABSENT || !step.tells() {
        return;
    }
    let tcp = M::tcp(socket);
    if tcp.is_null() {
        return;
    }
    let opens = step.opens();
    let round_trip: u32 = M::field(tcp, figure_offset!(srtt));
    let retransmits: u32 = M::field(tcp, figure_offset!(retransmits));
    let segments: u32 = M::field(tcp, figure_offset!(segments_received));
    let drops: u32 = M::field(tcp, figure_offset!(drops));
    let shutdown: u8 = M::field(socket, offset!(shutdown));
    record.handshake_us8 = select(opens, round_trip.into(), record.handshake_us8.into()) as u32;
    record.syn_retransmits = select(opens, retransmits.into(), record.syn_retransmits.into()) as u16;
    record.segments_at_fin =
        select(opens, record.segments_at_fin.into(), segments.wrapping_sub(drops).into()) as u32;
    // After a `shutdown` that leaves the socket open for reading, segments may well come.
    let closed = !opens & !any_bit_everywhere(u64::from(shutdown) ^ SHUT_BOTH);
    let taken = u64::from(HANDSHAKE) & opens | u64::from(SEGMENTS_AT_FIN) & closed;
    record.flags |= taken as u8;
}

/// Fills what the ring carries of a connection that ends.
#[inline(always)]
pub(crate) fn fill<H: Hook>(out: &mut Figures, record: Option<&SocketRecord>, socket: *const u8) {
    from_record(out, record);
    read::<H::Memory>(out, socket, !H::INFERS);
}

/// Reads the socket, if it still says what it was.
#[inline(always)]
fn read<M: Memory>(out: &mut Figures, socket: *const u8, reads: bool) {
    let tcp = if reads && figure_offset!(complete) != 0 { M::tcp(socket) } else { core::ptr::null() };
    if tcp.is_null() {
        from_nothing(out);
        return;
    }
    out.known |= known::SOCKET;
    if figure_offset!(out_of_order) != ABSENT {
        out.known |= known::OUT_OF_ORDER;
    }
    // SAFETY: the helper has no preconditions.
    out.jiffies = unsafe { bpf_jiffies64() } as u32;
    M::copy(&mut out.socket_flags, tcp, figure_offset!(flags));
    M::copy(&mut out.linger_time, tcp, figure_offset!(linger_time));
    M::copy(&mut out.shutdown, tcp, offset!(shutdown));
    M::copy(&mut out.retransmits_in_row, tcp, figure_offset!(retransmits_in_row));
    M::copy(&mut out.probes, tcp, figure_offset!(probes));
    M::copy(&mut out.user_timeout, tcp, figure_offset!(user_timeout));
    M::copy(&mut out.last_received, tcp, figure_offset!(last_received));
    M::copy(&mut out.last_sent, tcp, figure_offset!(last_sent));
    M::copy(&mut out.bytes_acked, tcp, figure_offset!(bytes_acked));
    M::copy(&mut out.bytes_received, tcp, figure_offset!(bytes_received));
    M::copy(&mut out.segments_sent, tcp, figure_offset!(segments_sent));
    M::copy(&mut out.segments_received, tcp, figure_offset!(segments_received));
    M::copy(&mut out.drops, tcp, figure_offset!(drops));
    M::copy(&mut out.window_from, tcp, figure_offset!(window_from));
    M::copy(&mut out.all_segments_sent, tcp, offset!(segments_out));
    M::copy(&mut out.retransmits, tcp, figure_offset!(retransmits));
    M::copy(&mut out.out_of_order, tcp, figure_offset!(out_of_order));
    M::copy(&mut out.srtt_us8, tcp, figure_offset!(srtt));
    M::copy(&mut out.min_rtt_us, tcp, figure_offset!(min_rtt));
    M::copy(&mut out.receive_next, tcp, figure_offset!(receive_next));
    M::copy(&mut out.copied, tcp, figure_offset!(copied));
    M::copy(&mut out.write_next, tcp, offset!(write_seq));
    M::copy(&mut out.unacknowledged, tcp, figure_offset!(unacknowledged));
    M::copy(&mut out.chrono_start, tcp, figure_offset!(chrono_start));
    M::copy(&mut out.chrono[0], tcp, figure_offset!(chrono));
    M::copy(&mut out.chrono[1], tcp, figure_offset!(chrono) + 4);
    M::copy(&mut out.chrono[2], tcp, figure_offset!(chrono) + 8);
    let kind: u8 = M::field(tcp, figure_offset!(chrono_type));
    out.chrono_type = kind >> (figure_offset!(chrono_type_bit) & 7) & 3;
    // As a number: the verifier lets nobody calculate with the pointer.
    let holder: u64 = Probed::field(socket, figure_offset!(holder));
    out.has_descriptor = (any_bit_everywhere(holder) & 1) as u8;
}

#[inline(always)]
fn from_record(out: &mut Figures, record: Option<&SocketRecord>) {
    clear_bytes(&mut out.padding);
    if let Some(record) = record {
        copy_times(&mut out.state_ns, &record.state_ns);
        out.listener = record.listener;
        out.listener_birth_ns = record.listener_birth_ns;
        out.handshake_us8 = record.handshake_us8;
        out.segments_at_fin = record.segments_at_fin;
        out.visited = record.visited;
        out.syn_retransmits = record.syn_retransmits;
        let flags = record.flags;
        let taken = |bit: u8, known: u8| (flags / bit % 2) * known;
        out.known = known::RECORD
            | taken(RESET_RECEIVED, known::RESET_RECEIVED)
            | taken(SEGMENTS_AT_FIN, known::SEGMENTS_AT_FIN)
            | taken(HANDSHAKE, known::HANDSHAKE);
    } else {
        clear_times(&mut out.state_ns);
        out.listener = 0;
        out.listener_birth_ns = 0;
        out.handshake_us8 = 0;
        out.segments_at_fin = 0;
        out.visited = 0;
        out.syn_retransmits = 0;
        out.known = 0;
    }
}

/// Of the socket nothing can be said.
#[inline(always)]
fn from_nothing(out: &mut Figures) {
    out.socket_flags = 0;
    out.bytes_acked = 0;
    out.bytes_received = 0;
    out.jiffies = 0;
    out.last_sent = 0;
    out.last_received = 0;
    out.chrono_start = 0;
    out.chrono[0] = 0;
    out.chrono[1] = 0;
    out.chrono[2] = 0;
    out.receive_next = 0;
    out.copied = 0;
    out.write_next = 0;
    out.unacknowledged = 0;
    out.segments_sent = 0;
    out.segments_received = 0;
    out.drops = 0;
    out.window_from = 0;
    out.all_segments_sent = 0;
    out.retransmits = 0;
    out.out_of_order = 0;
    out.srtt_us8 = 0;
    out.min_rtt_us = 0;
    out.user_timeout = 0;
    out.linger_time = 0;
    out.chrono_type = 0;
    out.shutdown = 0;
    out.retransmits_in_row = 0;
    out.probes = 0;
    out.has_descriptor = 0;
}

/// Word by word: see `memory::copy_comm`.
#[inline(always)]
fn copy_times(to: &mut [u64; 8], from: &[u64; 8]) {
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: plain fields. Volatile, or the compiler makes a call of it.
        unsafe { (&raw mut *to).write_volatile((&raw const *from).read_volatile()) };
    }
}

/// Zeros, word by word.
#[inline(always)]
pub(crate) fn clear_times(times: &mut [u64; 8]) {
    for time in times {
        // SAFETY: as above.
        unsafe { (&raw mut *time).write_volatile(0) };
    }
}

#[inline(always)]
fn clear_bytes(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: as above.
        unsafe { (&raw mut *byte).write_volatile(0) };
    }
}
