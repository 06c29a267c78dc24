//! What the kernel side remembers of open sockets, for those who ask how long they have been as they are.

use std::collections::{HashMap, HashSet};

use aya::Ebpf;
use kube_tcpstates_common::{
    socket::{SINCE_ATTACH, SINCE_UNKNOWN, SocketRecord},
    state::State,
};
use kube_tcpstates_events::Storage;

use super::{error::BoxError, hashes, load::Loaded, records};
use crate::open::Remembered;

impl Loaded {
    /// What is remembered of those sockets, by their kernel addresses. What cannot be read is not remembered.
    pub fn remembered(&mut self, sockets: &HashSet<u64>) -> HashMap<u64, Remembered> {
        let mut known = HashMap::new();
        if let Err(error) = self.fill(sockets, &mut known) {
            tracing::debug!("ages of open sockets: {error}");
        }
        known
    }

    fn fill(&mut self, sockets: &HashSet<u64>, known: &mut HashMap<u64, Remembered>) -> Result<(), BoxError> {
        let found = hashes::FOUND.of(&mut self.ebpf)?;
        for socket in sockets {
            if let Ok(found) = found.get(socket, 0) {
                let found = found.0;
                let remembered = Remembered {
                    state: State(found.state),
                    since_ns: Some(found.since_ns),
                    since_attach: true,
                    birth_ns: found.since_ns,
                };
                known.insert(*socket, remembered);
            }
        }
        known.extend(in_hash(hashes::LISTENERS, &mut self.ebpf, sockets)?);
        match self.storage {
            Storage::Hash => {
                known.extend(in_hash(hashes::CONNECTIONS, &mut self.ebpf, sockets)?);
                Ok(())
            }
            Storage::SocketStorage => {
                let records = records::tell_records(&mut self.ebpf)?.into_iter();
                let asked = records.filter(|told| sockets.contains(&told.socket));
                known.extend(
                    asked.map(|told| (told.socket, of(told.state, told.flags, told.since_ns, told.birth_ns))),
                );
                Ok(())
            }
        }
    }
}

fn in_hash(
    hash: hashes::Hash<SocketRecord>,
    ebpf: &mut Ebpf,
    sockets: &HashSet<u64>,
) -> Result<Vec<(u64, Remembered)>, BoxError> {
    let hash = hash.of(ebpf)?;
    Ok(sockets.iter().filter_map(|socket| Some((*socket, of_record(&hash.get(socket, 0).ok()?.0)))).collect())
}

fn of_record(record: &SocketRecord) -> Remembered {
    of(record.state.into(), record.flags.into(), record.since_ns, record.birth_ns)
}

fn of(state: u32, flags: u32, since_ns: u64, birth_ns: u64) -> Remembered {
    let has = |flag: u8| flags & u32::from(flag) != 0;
    Remembered {
        state: State(u8::try_from(state).unwrap_or(0)),
        since_ns: (!has(SINCE_UNKNOWN)).then_some(since_ns),
        since_attach: has(SINCE_ATTACH),
        birth_ns,
    }
}
