//! Whose an open socket is, by who holds its descriptor.

use std::collections::HashMap;

use kube_tcpstates_common::{
    record::owner,
    walk::{OpenSocket, Task},
};

use super::roles::{Open, Roles};

/// Which process holds which socket.
pub(crate) struct Holders<'a, 'b> {
    by_socket: &'a HashMap<u64, Task>,
    roles: &'a Roles<'b>,
}

impl<'a, 'b> Holders<'a, 'b> {
    /// By the sockets' kernel addresses.
    pub(crate) const fn new(by_socket: &'a HashMap<u64, Task>, roles: &'a Roles<'b>) -> Self {
        Self { by_socket, roles }
    }

    /// How it is known, and the process. What waits to be accepted has no descriptor: it is its listener's.
    pub(crate) fn of(&self, open: &Open) -> (u8, Option<&'a Task>) {
        if let Some(task) = self.holder(&open.socket) {
            return (owner::DESCRIPTOR, Some(task));
        }
        match self.roles.listener(open).and_then(|listener| self.holder(&listener.socket)) {
            Some(task) => (owner::LISTEN, Some(task)),
            None => (owner::NONE, None),
        }
    }

    /// A subflow has no descriptor of its own, but its MPTCP socket has.
    fn holder(&self, socket: &OpenSocket) -> Option<&'a Task> {
        self.by_socket.get(&socket.socket).or_else(|| self.by_socket.get(&socket.mptcp))
    }
}
