//! The map of listeners, as far as user space has to do with it.

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use kube_tcpstates_common::socket::SocketRecord;

use super::{error::BoxError, pod::Plain};

/// By the socket's address.
type Listeners<T> = HashMap<T, u64, Plain<SocketRecord>>;

/// Forgets those of an earlier attachment: they may have closed since, and another socket may stand at the address.
/// The walk over open sockets finds those that still listen.
pub(super) fn clear(ebpf: &mut Ebpf) -> Result<(), BoxError> {
    let mut listeners: Listeners<&mut MapData> =
        ebpf.map_mut("LISTENERS").ok_or("the object has no LISTENERS")?.try_into()?;
    let known: Vec<u64> = listeners.keys().filter_map(Result::ok).collect();
    for socket in known {
        listeners.remove(&socket)?;
    }
    Ok(())
}

/// How many there are.
pub(super) fn count(ebpf: &Ebpf) -> Result<u64, BoxError> {
    let listeners: Listeners<&MapData> =
        ebpf.map("LISTENERS").ok_or("the object has no LISTENERS")?.try_into()?;
    Ok(listeners.keys().flatten().count() as u64)
}
