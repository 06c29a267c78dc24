//! Every TCP socket, once.

use std::collections::HashMap;

use kube_tcpstates_common::walk::{OpenSocket, WORDS, end};

use super::{Walker, tables::Table};
use crate::kernel::{clock::boot_ns, error::BoxError};

/// A socket, and when it was looked at.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Seen {
    pub(in super::super) socket: OpenSocket,
    /// Boot time, ns; never before it was looked at.
    pub(in super::super) boot_ns: u64,
}

/// What a walk over all tables has found.
#[derive(Debug, Default)]
pub(in super::super) struct Sockets {
    /// By kernel address.
    pub(in super::super) by_address: HashMap<u64, Seen>,
    /// Chains that changed too fast to be walked to their end: sockets in them may be missing.
    pub(in super::super) given_up: u32,
}

impl Walker<'_> {
    /// Finds all sockets of all network namespaces that are in a state of their own: `TIME_WAIT` and requests are left
    /// out. What stays open while this goes on is there, and once.
    pub(in super::super) fn sockets(&mut self) -> Result<Sockets, BoxError> {
        self.find(false)
    }

    /// The same with `TIME_WAIT` and requests.
    pub(in super::super) fn sockets_and_passing(&mut self) -> Result<Sockets, BoxError> {
        self.find(true)
    }

    fn find(&mut self, passing: bool) -> Result<Sockets, BoxError> {
        let mut found = Sockets::default();
        for table in self.tables()? {
            let occupied = self.occupied(&table)?;
            for buckets in occupied.chunks(WORDS) {
                self.chains((&table, passing), buckets, &mut found)?;
            }
        }
        Ok(found)
    }

    fn chains(
        &mut self,
        (table, passing): (&Table, bool),
        buckets: &[u32],
        found: &mut Sockets,
    ) -> Result<(), BoxError> {
        self.begin(|walk| {
            walk.cursor.passing = passing.into();
            (walk.cursor.base, walk.cursor.stride, walk.cursor.mark, walk.cursor.mask) =
                (table.base, table.stride, table.mark, table.mask);
            for (word, bucket) in walk.words.iter_mut().zip(buckets) {
                *word = (*bucket).into();
                walk.cursor.asked += 1;
            }
        });
        loop {
            let ended = self.slice("walk_chains")?;
            let boot_ns = boot_ns();
            // A chain that was walked again is told again: the last look counts.
            let told = self.shared.take_told::<OpenSocket>();
            found.by_address.extend(told.into_iter().map(|socket| (socket.socket, Seen { socket, boot_ns })));
            match ended {
                end::STEPS | end::FULL => {}
                end::DONE => break,
                _ => return Err("the walk's memory is gone".into()),
            }
        }
        found.given_up += self.shared.get().cursor.given_up;
        Ok(())
    }
}
