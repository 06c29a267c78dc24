//! Sockets that were open before the programs were attached: found by one walk, told to the transition program, which
//! takes each over at its first transition. Roles come from listeners, owners from descriptors.

mod roles;
mod wanted;

use aya::{
    Ebpf,
    maps::{HashMap as KernelMap, MapData},
};
use kube_tcpstates_common::{
    record::{COMM_LEN, owner},
    state::State,
    walk::{Found, Listener, OpenSocket, Task},
};

use self::{
    roles::{Open, Roles},
    wanted::Wanted,
};
use super::{
    error::BoxError,
    pod::Plain,
    rules::Rules,
    walk::{Layout, Seen, Walker},
};

/// Tells the program what is open. Returns how many sockets it was told of.
pub(super) fn find(ebpf: &mut Ebpf, layout: Layout, rules: &Rules) -> Result<u64, BoxError> {
    // What was found before the last detach and never taken over.
    clear(&mut map::<u64, Found>(ebpf, "FOUND")?);
    let mut walker = Walker::load(ebpf, layout)?;
    let sockets = walker.sockets()?;
    let holders = walker.holders()?;
    drop(walker);
    let (seen, given_up) = (sockets.by_address, sockets.given_up);
    let open: Vec<Open> = seen.values().map(|seen| Open::of(seen.socket)).collect();
    let sides = Roles::of(&open);
    let mut wanted = Wanted::of(rules)?;
    let owners = Owners { holders, roles: &sides };
    tell_listeners(ebpf, &open, &owners)?;
    let mut told = map::<u64, Found>(ebpf, "FOUND")?;
    let mut count = 0;
    for open in open.iter().filter(|open| wanted.may_be(&open.socket)) {
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
        role,
        state,
        padding: 0,
    }
}

/// Children that are accepted from now on have their listener's owner.
fn tell_listeners(ebpf: &mut Ebpf, open: &[Open], owners: &Owners<'_, '_>) -> Result<(), BoxError> {
    let mut listeners = map::<[u32; 2], Listener>(ebpf, "LISTENERS")?;
    for open in open.iter().filter(|open| open.socket.state == State::LISTEN.0) {
        if let (_, Some(task)) = owners.of(open) {
            let key = [open.socket.netns, open.socket.local_port.into()];
            listeners.insert(key, Plain(Listener { owner_pid: task.pid, owner_comm: task.comm }), 0)?;
        }
    }
    Ok(())
}

/// Whose sockets they are.
struct Owners<'a, 'b> {
    holders: std::collections::HashMap<u64, Task>,
    roles: &'b Roles<'a>,
}

impl Owners<'_, '_> {
    /// How it is known, and the process. What waits to be accepted has no descriptor: it is its listener's.
    fn of(&self, open: &Open) -> (u8, Option<&Task>) {
        if let Some(task) = self.holder(&open.socket) {
            return (owner::DESCRIPTOR, Some(task));
        }
        match self.roles.listener(open).and_then(|listener| self.holder(&listener.socket)) {
            Some(task) => (owner::LISTEN, Some(task)),
            None => (owner::NONE, None),
        }
    }

    /// A subflow has no descriptor of its own, but its MPTCP socket has.
    fn holder(&self, socket: &OpenSocket) -> Option<&Task> {
        self.holders.get(&socket.socket).or_else(|| self.holders.get(&socket.mptcp))
    }
}

fn map<'a, K: aya::Pod, V: bytemuck::Pod>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<KernelMap<&'a mut MapData, K, Plain<V>>, BoxError> {
    Ok(KernelMap::try_from(ebpf.map_mut(name).ok_or_else(|| format!("the object has no map {name}"))?)?)
}

fn clear<K: aya::Pod, V: bytemuck::Pod>(map: &mut KernelMap<&mut MapData, K, Plain<V>>) {
    let known: Vec<K> = map.keys().filter_map(Result::ok).collect();
    for key in known {
        // The program may just have taken it over.
        let _ = map.remove(&key);
    }
}
