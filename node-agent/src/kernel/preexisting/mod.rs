//! Sockets that were open before the programs were attached: found by one walk, told to the transition program. It
//! takes each connection over at its first transition; a listener has its record at once. Roles come from listeners, owners from descriptors.

mod wanted;

use std::io::ErrorKind;

use aya::{
    Ebpf,
    maps::{HashMap as KernelMap, MapData, MapError},
};
use kube_tcpstates_common::{
    record::{COMM_LEN, role},
    socket::{BIRTH_UNKNOWN, SINCE_ATTACH, SocketRecord},
    state::State,
    walk::{Found, OpenSocket, Task},
};

use self::wanted::Wanted;
use super::{
    error::BoxError,
    hashes,
    pod::Plain,
    rules::Rules,
    walk::{Layout, Seen, Walker},
};
use crate::open::{Holders, Open, Roles};

/// `BPF_NOEXIST`, `include/uapi/linux/bpf.h`.
const NO_EXIST: u64 = 1;

/// Tells the program what is open. Returns how many connections it was told of.
pub(super) fn find(ebpf: &mut Ebpf, layout: Layout, rules: &Rules) -> Result<u64, BoxError> {
    // What was found before the last detach and never taken over.
    hashes::FOUND.clear(ebpf)?;
    let mut walker = Walker::load(ebpf, layout)?;
    let sockets = walker.sockets()?;
    let holders = walker.holders()?;
    drop(walker);
    let (seen, given_up) = (sockets.by_address, sockets.given_up);
    let open: Vec<Open> = seen.values().map(|seen| Open::of(seen.socket)).collect();
    let sides = Roles::of(&open);
    let mut wanted = Wanted::of(rules)?;
    let owners = Holders::new(&holders, &sides);
    let (listeners, connections): (Vec<&Open>, Vec<&Open>) =
        open.iter().filter(|open| wanted.may_be(&open.socket)).partition(|open| open.listens());
    let mut told = hashes::LISTENERS.of(ebpf)?;
    for open in listeners {
        let Some(Seen { boot_ns, .. }) = seen.get(&open.socket.socket) else { continue };
        tell_listener(&mut told, open, listener(*boot_ns, owners.of(open)))?;
    }
    let mut told = hashes::FOUND.of(ebpf)?;
    let mut count = 0;
    for open in connections {
        let socket = open.socket.socket;
        let Some(Seen { boot_ns, .. }) = seen.get(&socket) else { continue };
        let found = found(open, *boot_ns, sides.role(open), owners.of(open));
        told.insert(socket, Plain(found), 0)
            .map_err(|error| format!("{count} of those open are told, then: {error}"))?;
        count += 1;
    }
    if given_up > 0 {
        return Err(format!("{given_up} chains of sockets changed too fast to be walked to their end").into());
    }
    Ok(count)
}

fn found(open: &Open, since_ns: u64, role: u8, (owner_source, task): (u8, Option<&Task>)) -> Found {
    let OpenSocket { peer, netns, local_port, peer_port, state, .. } = open.socket;
    Found {
        since_ns,
        peer,
        netns,
        local_port,
        peer_port,
        owner_pid: task.map_or(0, |task| task.pid),
        owner_comm: task.map_or([0; COMM_LEN], |task| task.comm),
        owner_source,
        task_cgroup: task.map_or(0, |task| task.cgroup),
        role,
        state,
        padding: 0,
    }
}

/// The record of a listener, from which its children have their owner.
fn listener(since_ns: u64, (owner_source, task): (u8, Option<&Task>)) -> SocketRecord {
    SocketRecord {
        since_ns,
        birth_ns: since_ns,
        owner_pid: task.map_or(0, |task| task.pid),
        owner_comm: task.map_or([0; COMM_LEN], |task| task.comm),
        owner_source,
        owner_ns: since_ns,
        task_cgroup: task.map_or(0, |task| task.cgroup),
        role: role::SERVER,
        state: State::LISTEN.0,
        flags: SINCE_ATTACH | BIRTH_UNKNOWN,
        ..SocketRecord::default()
    }
}

/// One that has closed since it was seen leaves its record behind until the next attach: whoever listens at that
/// address then makes it anew.
fn tell_listener(
    listeners: &mut KernelMap<&mut MapData, u64, Plain<SocketRecord>>,
    open: &Open,
    record: SocketRecord,
) -> Result<(), BoxError> {
    match listeners.insert(open.socket.socket, Plain(record), NO_EXIST) {
        // It has begun to listen since the attach.
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::AlreadyExists => Ok(()),
        told => Ok(told?),
    }
}
