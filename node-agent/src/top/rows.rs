//! Rows: what has ended and what is open, by owner, other end, port and side.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Role;

use super::sample::{NOBODY, Open, Sample};
use crate::summary::Sums;

/// The side of the owner. In the order in which rows of one other end stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// It connects.
    Client,
    /// It listens.
    Server,
    /// Nobody knows.
    Unknown,
}

impl Side {
    fn of(role: Option<Role>) -> Self {
        match role {
            Some(Role::Client) => Self::Client,
            Some(Role::Server) => Self::Server,
            None => Self::Unknown,
        }
    }

    /// As the table shows it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Unknown => "-",
        }
    }
}

/// What is open of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct States {
    /// `SYN_SENT`, `SYN_RECV`.
    pub(super) opening: u64,
    /// `ESTABLISHED`.
    pub(super) established: u64,
    /// `CLOSE_WAIT`: the peer has closed and the program has not.
    pub(super) close_wait: u64,
    /// `FIN_WAIT1`, `FIN_WAIT2`, `CLOSING`, `LAST_ACK`.
    pub(super) closing: u64,
    /// `TIME_WAIT`.
    pub(super) time_wait: u64,
}

impl States {
    fn add(&mut self, state: State) {
        *match state {
            State::SYN_SENT | State::SYN_RECV => &mut self.opening,
            State::ESTABLISHED => &mut self.established,
            State::CLOSE_WAIT => &mut self.close_wait,
            State::TIME_WAIT => &mut self.time_wait,
            _ => &mut self.closing,
        } += 1;
    }

    /// With all of another.
    pub(super) fn join(&mut self, other: &Self) {
        let Self { opening, established, close_wait, closing, time_wait } = other;
        self.opening += opening;
        self.established += established;
        self.close_wait += close_wait;
        self.closing += closing;
        self.time_wait += time_wait;
    }

    /// All of them but what is over but for the kernel's wait.
    pub(super) const fn open(&self) -> u64 {
        self.opening + self.established + self.close_wait + self.closing
    }
}

/// A row of the view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// What is open.
    pub(super) states: States,
    /// What has ended since the last look.
    pub(super) sums: Sums,
}

/// What a row is about.
pub(super) type About = (Arc<str>, Option<IpAddr>, u16, Side);

/// The rows of a look.
pub(super) fn rows(sample: &Sample) -> BTreeMap<About, Row> {
    let mut rows: BTreeMap<About, Row> = BTreeMap::new();
    for ended in &sample.ended {
        let about = (Arc::clone(&ended.owner), ended.peer, ended.port, Side::of(ended.role));
        rows.entry(about).or_default().sums.join(&ended.sums);
    }
    let open = || sample.open.iter().flatten();
    for open in open().filter(|open| open.role.is_some()) {
        let side = Side::of(open.role);
        rows.entry(about(open, side)).or_default().states.add(open.state);
    }
    let owners = only_owners(&rows);
    for open in open().filter(|open| open.role.is_none()) {
        let about = of_passing(open, &rows, &owners);
        rows.entry(about).or_default().states.add(open.state);
    }
    rows
}

/// Whose the rows of an other end, port and side are; `None` where they are several owners'.
type Owners = BTreeMap<(Option<IpAddr>, u16, Side), Option<Arc<str>>>;

fn only_owners(rows: &BTreeMap<About, Row>) -> Owners {
    let mut owners = Owners::new();
    for (owner, peer, port, side) in rows.keys() {
        let known = owners.entry((*peer, *port, *side));
        known.and_modify(|other| *other = None).or_insert_with(|| Some(Arc::clone(owner)));
    }
    owners
}

/// The row of what its program has closed. Of the two ports one is the server's: where there is a row of it, it belongs
/// there; if its owner is not known any more, where there is only one.
fn of_passing(open: &Open, rows: &BTreeMap<About, Row>, owners: &Owners) -> About {
    let sides = [Side::Client, Side::Server].map(|side| about(open, side));
    let known = sides.into_iter().find_map(|(owner, peer, port, side)| {
        if &*owner != NOBODY {
            let about = (owner, peer, port, side);
            return rows.contains_key(&about).then_some(about);
        }
        let only = owners.get(&(peer, port, side))?.clone()?;
        Some((only, peer, port, side))
    });
    known.unwrap_or_else(|| about(open, Side::Unknown))
}

fn about(open: &Open, side: Side) -> About {
    let port = match side {
        Side::Client => open.ports.1,
        Side::Server => open.ports.0,
        Side::Unknown => 0,
    };
    (Arc::clone(&open.owner), open.peer, port, side)
}

#[cfg(test)]
mod tests {
    use super::{Side, States, rows};
    use crate::top::{
        NOBODY, Open, Sample,
        model::support::{ended, open},
    };
    use kube_tcpstates_common::state::State;
    use kube_tcpstates_events::Role;

    #[test]
    fn what_has_ended_and_what_is_open_meet_in_one_row() {
        let sample = Sample {
            ended: vec![ended("web", Some(Role::Client), 443, 3, 1)],
            open: Some(vec![
                open("web", Some(Role::Client), (40_000, 443), State::ESTABLISHED),
                open("web", Some(Role::Client), (40_001, 443), State::SYN_SENT),
                open("web", Some(Role::Server), (8_080, 50_000), State::CLOSE_WAIT),
                open("web", Some(Role::Server), (8_080, 50_001), State::LAST_ACK),
            ]),
            ..Sample::default()
        };
        let rows = rows(&sample);
        let all: Vec<_> = rows.iter().map(|((_, _, port, side), row)| (*port, *side, row)).collect();
        let [(443, Side::Client, client), (8_080, Side::Server, server)] = all[..] else { panic!("{all:?}") };
        assert_eq!((client.sums.connections, client.sums.failed()), (3, 1));
        assert_eq!(client.states, States { established: 1, opening: 1, ..States::default() });
        assert_eq!(server.states, States { close_wait: 1, closing: 1, ..States::default() });
        assert_eq!((client.states.open(), server.sums.connections), (2, 0));
    }

    #[test]
    fn what_has_no_side_any_more_belongs_to_the_row_that_it_was_of() {
        let passing = |owner, ports| Open { ..open(owner, None, ports, State::TIME_WAIT) };
        let sample = Sample {
            ended: vec![
                ended("web", Some(Role::Client), 443, 3, 0),
                ended("db", Some(Role::Server), 5432, 1, 0),
            ],
            open: Some(vec![
                passing("web", (40_000, 443)),
                passing("db", (5432, 40_000)),
                passing("other", (40_000, 443)),
                passing(NOBODY, (40_002, 443)),
                passing(NOBODY, (40_002, 80)),
            ]),
            ..Sample::default()
        };
        let waiting: Vec<_> = rows(&sample)
            .into_iter()
            .map(|((owner, _, port, side), row)| (owner.to_string(), port, side, row.states.time_wait))
            .collect();
        assert_eq!(
            waiting,
            [
                (NOBODY.to_owned(), 0, Side::Unknown, 1),
                ("db".to_owned(), 5432, Side::Server, 1),
                ("other".to_owned(), 0, Side::Unknown, 1),
                ("web".to_owned(), 443, Side::Client, 2),
            ]
        );
    }
}
