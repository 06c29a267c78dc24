//! The figures of single sockets.

use kube_tcpstates_common::walk::{CloseLook, OpenSocket, WORDS, end};

use super::Walker;
use crate::{kernel::error::BoxError, open::Look};

/// What a close look at some sockets has shown.
#[derive(Debug, Default)]
pub(in super::super) struct Figures {
    /// Of those that are still there.
    pub(in super::super) looks: Vec<Look>,
}

impl Walker<'_> {
    /// Looks closely at sockets. Those that are gone are left out, and those that are other ones by now.
    pub(in super::super) fn closely(&mut self, sockets: &[OpenSocket]) -> Result<Figures, BoxError> {
        let mut figures = Figures::default();
        for sockets in sockets.chunks(WORDS) {
            self.begin(|walk| {
                for (word, socket) in walk.words.iter_mut().zip(sockets) {
                    *word = socket.socket;
                    walk.cursor.asked += 1;
                }
            });
            loop {
                let ended = self.slice("walk_closely")?;
                let cursor = self.shared.get().cursor;
                let told = self.shared.take_told::<CloseLook>().into_iter();
                let is_same = |seen: &CloseLook| {
                    sockets.get(seen.asked as usize).is_some_and(|asked| is_same(asked, &seen.socket))
                };
                figures.looks.extend(told.filter(is_same).map(|seen| Look { seen, jiffies: cursor.jiffies }));
                match ended {
                    end::STEPS | end::FULL => {}
                    end::DONE => break,
                    _ => return Err("the walk's memory is gone".into()),
                }
            }
        }
        Ok(figures)
    }
}

/// Whether what stands at a socket's address is still that socket: its state may be another.
fn is_same(one: &OpenSocket, other: &OpenSocket) -> bool {
    let place = |socket: &OpenSocket| (socket.netns, socket.cgroup_id, socket.family);
    let ends = |socket: &OpenSocket| (socket.local, socket.local_port, socket.peer, socket.peer_port);
    place(one) == place(other) && ends(one) == ends(other)
}
