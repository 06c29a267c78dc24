//! The kernel side's hashes by a socket's address, as far as user space has to do with them.

use std::io::ErrorKind;

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use kube_tcpstates_common::{socket::SocketRecord, walk::Found};

use super::{error::BoxError, pod::Plain};

/// Records of listeners.
pub(super) const LISTENERS: Hash<SocketRecord> = Hash::named("LISTENERS");
/// Records of connections, where there is no socket storage.
pub(super) const CONNECTIONS: Hash<SocketRecord> = Hash::named("SOCKET_HASH");
/// Connections that a walk found, until their first transition.
pub(super) const FOUND: Hash<Found> = Hash::named("FOUND");

/// A hash of the object, with what stands in it.
#[derive(Clone, Copy)]
pub(super) struct Hash<V> {
    name: &'static str,
    value: std::marker::PhantomData<V>,
}

impl<V: bytemuck::Pod> Hash<V> {
    const fn named(name: &'static str) -> Self {
        Self { name, value: std::marker::PhantomData }
    }

    /// The hash in the kernel.
    pub(super) fn of(self, ebpf: &mut Ebpf) -> Result<HashMap<&mut MapData, u64, Plain<V>>, BoxError> {
        Ok(ebpf.map_mut(self.name).ok_or_else(|| format!("the object has no {}", self.name))?.try_into()?)
    }

    /// Forgets what is of an earlier attachment: a socket may have closed since, and another stand at its address. The
    /// walk over open sockets finds those that are still there. Returns how many there were.
    pub(super) fn clear(self, ebpf: &mut Ebpf) -> Result<u64, BoxError> {
        let mut hash = self.of(ebpf)?;
        let known: Vec<u64> = hash.keys().filter_map(Result::ok).collect();
        for socket in &known {
            match hash.remove(socket) {
                // The program may just have taken it over.
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(known.len() as u64)
    }

    /// How many stand in it.
    pub(super) fn count(self, ebpf: &mut Ebpf) -> Result<u64, BoxError> {
        Ok(self.of(ebpf)?.keys().flatten().count() as u64)
    }
}
