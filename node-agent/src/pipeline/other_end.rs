//! Who the other end of a connection is, for lines of traces that ask. While none does, nothing of it is kept.

use kube_tcpstates_common::rule::TraceSet;

use crate::{
    decode::Transition,
    kernel::{Clock, boot_ns},
    names::{Numbered, Peer},
    peers::{Directory, Moment, News},
    plan::View,
};

/// Names other ends.
#[derive(Default)]
pub(super) struct OtherEnds {
    /// Traces whose lines name the other end.
    asking: TraceSet,
    directory: Directory,
}

impl OtherEnds {
    /// Another view is in force.
    pub(super) fn look_through(&mut self, view: &View, clock: &Clock) {
        self.asking = view.plan.asks_peers();
        match &view.roster {
            Some(roster) if self.asking != 0 => self.directory.look_at(roster, now(clock)),
            _ => self.directory = Directory::default(),
        }
    }

    /// The cluster tells of Services or slices. What comes when nobody asks any more is not kept.
    pub(super) fn hear(&mut self, news: News, clock: &Clock) {
        if self.asking == 0 {
            return;
        }
        let was_full = self.directory.is_full();
        self.directory.take(news, now(clock));
        if self.directory.is_full() && !was_full {
            tracing::warn!("the cluster has more addresses than are kept; some other ends have no names");
        }
    }

    /// The other end of a transition's connection, if one of these traces asks for it.
    pub(super) fn of(&mut self, traces: TraceSet, transition: &Transition) -> Option<&Numbered<Peer>> {
        if traces & self.asking == 0 {
            return None;
        }
        let peer = transition.peer?;
        self.directory.name(peer.address, peer.port, transition.birth_ns)
    }
}

fn now(clock: &Clock) -> Moment {
    let boot_ns = boot_ns();
    let unix_s = clock.unix_ns(boot_ns) / 1_000_000_000;
    Moment { boot_ns, unix_s: i64::try_from(unix_s).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_tcpstates_common::state::State;

    use super::OtherEnds;
    use crate::{
        decode::{Endpoint, Transition},
        kernel::{Clock, boot_ns},
        peers::{News, ServiceInfo, Told},
        plan::{Plan, View, tests_support::plan_of},
        render::fixtures::Fixture,
        roster::Roster,
    };

    fn view(asking: bool) -> View {
        let plan = plan_of(&["asks", "does-not"]);
        let slots = plan.active().map(|(bit, trace)| {
            let mut trace = (**trace).clone();
            trace.peer_names = asking && bit == 0;
            Some(Arc::new(trace))
        });
        let plan = Plan::new(slots.collect(), 2);
        View { plan: Arc::new(plan), roster: Some(Arc::new(Roster::default())), refused: 0 }
    }

    fn services() -> News {
        let own = vec!["10.9.8.7".parse().unwrap()];
        News::Services(Told::All(vec![ServiceInfo {
            name: "cart".to_owned(),
            own,
            ..ServiceInfo::default()
        }]))
    }

    fn transition() -> Transition {
        let birth_ns = boot_ns();
        let transition = Fixture::client().transition;
        assert_eq!(transition.new_state, State::ESTABLISHED);
        Transition { birth_ns, ..transition }
    }

    fn name(ends: &mut OtherEnds, traces: u64) -> Option<String> {
        let peer = ends.of(traces, &transition())?;
        peer.service.as_ref().map(|service| service.name.to_string())
    }

    #[test]
    fn only_lines_of_a_trace_that_asks_have_names() {
        let (mut ends, clock) = (OtherEnds::default(), Clock::new());
        ends.look_through(&view(true), &clock);
        ends.hear(services(), &clock);
        assert_eq!(name(&mut ends, 0b01).as_deref(), Some("cart"));
        assert_eq!(name(&mut ends, 0b11).as_deref(), Some("cart"));
        assert_eq!(name(&mut ends, 0b10), None);
        let nowhere = Transition { peer: None, ..transition() };
        assert!(ends.of(0b01, &nowhere).is_none());
        let elsewhere = Endpoint { address: "10.9.8.8".parse().unwrap(), port: 443 };
        assert!(ends.of(0b01, &Transition { peer: Some(elsewhere), ..transition() }).is_none());
    }

    #[test]
    fn while_nobody_asks_nothing_is_kept() {
        let (mut ends, clock) = (OtherEnds::default(), Clock::new());
        ends.look_through(&view(false), &clock);
        ends.hear(services(), &clock);
        ends.look_through(&view(true), &clock);
        assert_eq!(name(&mut ends, 0b01), None, "heard when nobody asked");
        ends.hear(services(), &clock);
        ends.look_through(&view(false), &clock);
        ends.look_through(&view(true), &clock);
        assert_eq!(name(&mut ends, 0b01), None, "kept when nobody asked any more");
    }
}
