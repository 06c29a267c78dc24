//! Sockets that were open before the start: an iterator over every task's descriptors (`iter/task_file`, 5.8;
//! `bpf_sock_from_file`, 5.11) makes a record for each that a trace may want, with the task that holds it as owner. It
//! crosses all network namespaces. Listeners come in a first pass, so that the second can tell servers from clients.
//!
//! A second iterator counts socket records (`iter/bpf_sk_storage_map`, 5.9).

use core::cell::Cell;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_kernel, bpf_sock_from_file},
};
use kube_tcpstates_common::{
    classify::judge_identity,
    counter::Counter,
    record::{COMM_LEN, owner, role},
    state::State,
};

use crate::{
    counters::Counters,
    globals::offset,
    hook::{family, tuple_of_socket},
    maps::{LISTENERS, RECORD_COUNT, RULES, SERVED_PORTS, in_force},
    memory::{Memory, Typed},
    place,
    socket::{BIRTH_UNKNOWN, InStorage, Records, SINCE_ATTACH, SocketRecord},
    tables::MapTables,
};

/// `struct bpf_iter__task_file`: pointers 64 bits apart, `kernel/bpf/task_iter.c`.
#[repr(C)]
struct TaskFile {
    meta: u64,
    task: *const u8,
    fd: u64,
    file: *mut u8,
}

/// `struct bpf_iter__bpf_sk_storage_map`, `net/core/bpf_sk_storage.c`.
#[repr(C)]
struct StorageElement {
    meta: u64,
    map: u64,
    socket: *const u8,
    record: *const SocketRecord,
}

/// A task and the TCP socket behind one of its descriptors.
///
/// Both pointers are read once: the verifier would take a second load for another, unchecked pointer.
#[inline(always)]
fn tcp_socket(context: *const TaskFile) -> Option<(*const u8, *const u8)> {
    // SAFETY: the context of this iterator.
    let (task, file) = unsafe {
        ((&raw const (*context).task).read_volatile(), (&raw const (*context).file).read_volatile())
    };
    if task.is_null() || file.is_null() {
        return None;
    }
    // SAFETY: the verifier knows `file` for what it is; the helper gives null for what is no socket.
    let socket = unsafe { bpf_sock_from_file(file.cast()) }.cast::<u8>().cast_const();
    if socket.is_null() {
        return None;
    }
    let socket = Typed::pointer(socket, offset!(socket_sk));
    if socket.is_null()
        || family(Typed::field(socket, offset!(family))) == 0
        || Typed::field::<u16>(socket, offset!(protocol)) != 6
    {
        return None;
    }
    Some((task, socket))
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn dump_listeners(context: *const TaskFile) -> i32 {
    if let Some((task, socket)) = tcp_socket(context)
        && Typed::field::<u8>(socket, offset!(state)) == State::LISTEN.0
    {
        let port: u16 = Typed::field(socket, offset!(local_port));
        // Without room the role of a server's old connections stays unknown.
        let _ = SERVED_PORTS.insert([place::netns::<Typed>(socket), port.into()], 1, 0);
        dump_listener(task, socket);
    }
    0
}

#[inline(always)]
fn dump_listener(task: *const u8, socket: *const u8) {
    let Some((generation, _)) = in_force() else { return };
    if !may_be_wanted(socket, generation & 1) {
        return;
    }
    let record = found(task, socket, State::LISTEN.0);
    // One that has begun to listen since the attach has its record already.
    if LISTENERS.insert(socket as u64, record, BPF_NOEXIST.into()).is_ok()
        && Typed::field::<u8>(socket, offset!(state)) != State::LISTEN.0
    {
        // It closed meanwhile, perhaps before the record was there.
        let _ = LISTENERS.remove(socket as u64);
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn dump_sockets(context: *const TaskFile) -> i32 {
    let Some((task, socket)) = tcp_socket(context) else { return 0 };
    let state: u8 = Typed::field(socket, offset!(state));
    let Some((generation, attached_ns)) = in_force() else { return 0 };
    if never_in_storage(state) || !may_be_wanted(socket, generation & 1) {
        return 0;
    }
    let mut record = found(task, socket, state);
    if let Some(known) = InStorage::get(socket) {
        // From before the programs were last detached: the connection's birth and owner may be another's by now.
        if known.since_ns < attached_ns {
            *known = record;
        }
        return 0;
    }
    let made = InStorage::create_with(socket, &mut record).is_some();
    if made && never_in_storage(Typed::field(socket, offset!(state))) {
        // It closed meanwhile, and may listen by now.
        InStorage::forget(socket);
    } else if let Some(counters) = Counters::get() {
        counters.add(if made { Counter::StorageCreated } else { Counter::StorageFailed }, 1);
    }
    0
}

/// A closed socket has nothing to remember, and a listener must have nothing in its storage: see `docs/security.md`.
#[inline(always)]
fn never_in_storage(state: u8) -> bool {
    state == State::CLOSE.0 || state == State::LISTEN.0
}

/// The record of a socket that was found open.
#[inline(always)]
fn found(task: *const u8, socket: *const u8, state: u8) -> SocketRecord {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    SocketRecord {
        since_ns: now,
        birth_ns: now,
        state,
        role: role_of(socket, state),
        flags: SINCE_ATTACH | BIRTH_UNKNOWN,
        owner_source: owner::DESCRIPTOR,
        owner_pid: Typed::field(task, offset!(task_tgid)),
        owner_comm: comm_of(task),
        ..SocketRecord::default()
    }
}

/// Whether some trace wants this socket, or may once its cgroup is known.
#[inline(always)]
fn may_be_wanted(socket: *const u8, half: u32) -> bool {
    let Some(rules) = RULES.get(half) else { return false };
    let cgroup_id = place::cgroup_id::<Typed>(socket, rules.none);
    let netns = || place::netns::<Typed>(socket);
    judge_identity(&MapTables { half, epoch: Cell::new(0) }, rules, cgroup_id, netns).0 != 0
}

#[inline(always)]
fn role_of(socket: *const u8, state: u8) -> u8 {
    if state == State::LISTEN.0 {
        return role::SERVER;
    }
    if state == State::SYN_SENT.0 {
        return role::CLIENT;
    }
    let port = tuple_of_socket::<Typed>(socket, false).local_port;
    // SAFETY: the value is never looked at.
    let served = unsafe { SERVED_PORTS.get([place::netns::<Typed>(socket), port.into()]) }.is_some();
    if served { role::SERVER } else { role::UNKNOWN }
}

#[inline(always)]
fn comm_of(task: *const u8) -> [u8; COMM_LEN] {
    let mut comm = [0_u8; COMM_LEN];
    let offset = offset!(task_comm);
    if offset != kube_tcpstates_common::offsets::ABSENT {
        // SAFETY: the helper reads any kernel address safely into `comm`.
        unsafe {
            bpf_probe_read_kernel(
                comm.as_mut_ptr().cast(),
                COMM_LEN as u32,
                task.wrapping_add(offset as usize).cast(),
            );
        }
    }
    comm
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn count_records(context: *const StorageElement) -> i32 {
    // SAFETY: the context of this iterator.
    let (socket, record) = unsafe {
        ((&raw const (*context).socket).read_volatile(), (&raw const (*context).record).read_volatile())
    };
    if socket.is_null() || record.is_null() {
        return 0;
    }
    count(0);
    if Typed::field::<u8>(socket, offset!(state)) == State::CLOSE.0 {
        count(1);
    }
    0
}

#[inline(always)]
fn count(slot: u32) {
    if let Some(cell) = RECORD_COUNT.get_ptr_mut(slot) {
        // SAFETY: one iterator runs at a time.
        unsafe { *cell += 1 };
    }
}
