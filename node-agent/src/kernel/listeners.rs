//! The map of listeners, as far as user space has to do with it.

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use kube_tcpstates_common::record::SOCKET_RECORD_LEN;

use super::error::BoxError;

/// By the socket's address.
type Listeners<T> = HashMap<T, u64, [u8; SOCKET_RECORD_LEN]>;

/// Forgets those of an earlier attachment: they may have closed since, and another socket may stand at the address.
/// The walk over open sockets finds those that still listen.
pub(super) fn clear(ebpf: &mut Ebpf) -> Result<(), BoxError> {
    let mut listeners: Listeners<&mut MapData> =
        ebpf.map_mut("LISTENERS").ok_or("the object has no LISTENERS")?.try_into()?;
    let known: Vec<u64> = listeners.keys().filter_map(Result::ok).collect();
    for socket in known {
        listeners.remove(&socket)?;
    }
    let mut ports: HashMap<&mut MapData, [u32; 2], u32> =
        ebpf.map_mut("SERVED_PORTS").ok_or("the object has no SERVED_PORTS")?.try_into()?;
    let known: Vec<[u32; 2]> = ports.keys().filter_map(Result::ok).collect();
    for port in known {
        ports.remove(&port)?;
    }
    Ok(())
}

/// How many there are.
pub(super) fn count(ebpf: &Ebpf) -> Result<u64, BoxError> {
    let listeners: Listeners<&MapData> =
        ebpf.map("LISTENERS").ok_or("the object has no LISTENERS")?.try_into()?;
    Ok(listeners.keys().flatten().count() as u64)
}
