//! The hashes of socket records, as far as user space has to do with them.

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use kube_tcpstates_common::socket::SocketRecord;

use super::{error::BoxError, pod::Plain};

/// Listeners.
pub(super) const LISTENERS: &str = "LISTENERS";
/// Connections, where there is no socket storage.
pub(super) const CONNECTIONS: &str = "SOCKET_HASH";

/// By the socket's address.
type Records<T> = HashMap<T, u64, Plain<SocketRecord>>;

/// Forgets those of an earlier attachment: they may have closed since, and another socket may stand at the address.
/// The walk over open sockets finds those that are still there. Returns how many there were.
pub(super) fn clear(ebpf: &mut Ebpf, name: &str) -> Result<u64, BoxError> {
    let mut records: Records<&mut MapData> =
        ebpf.map_mut(name).ok_or_else(|| format!("the object has no {name}"))?.try_into()?;
    let known: Vec<u64> = records.keys().filter_map(Result::ok).collect();
    for socket in &known {
        records.remove(socket)?;
    }
    Ok(known.len() as u64)
}

/// How many listeners there are.
pub(super) fn count_listeners(ebpf: &Ebpf) -> Result<u64, BoxError> {
    let listeners: Records<&MapData> =
        ebpf.map(LISTENERS).ok_or("the object has no LISTENERS")?.try_into()?;
    Ok(listeners.keys().flatten().count() as u64)
}
