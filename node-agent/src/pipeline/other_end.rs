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

    /// What the cluster knows is known here.
    pub(super) const fn are_told(&self) -> bool {
        self.directory.is_told()
    }

    /// The other end of a transition's connection, if one of these traces asks for it.
    pub(super) fn of(&mut self, traces: TraceSet, transition: &Transition) -> Option<&Numbered<Peer>> {
        self.at(traces, transition, transition.birth_ns)
    }

    /// The same of a connection that is open. Whose beginning nobody saw is as old as it is known to be.
    pub(super) fn of_open(&mut self, traces: TraceSet, seen: &Transition) -> Option<&Numbered<Peer>> {
        let since_ns = seen.boot_ns.saturating_sub(seen.duration_ns.unwrap_or(0));
        self.at(traces, seen, if seen.birth_ns == 0 { since_ns } else { seen.birth_ns })
    }

    fn at(&mut self, traces: TraceSet, transition: &Transition, begun_ns: u64) -> Option<&Numbered<Peer>> {
        if traces & self.asking == 0 {
            return None;
        }
        let peer = transition.peer?;
        self.directory.name(peer.address, peer.port, begun_ns)
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
        peers::{News, ServiceInfo, Update},
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
        News::Services(Update::All(vec![ServiceInfo {
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
    fn what_is_open_is_named_by_when_it_began_or_by_how_old_it_is_known_to_be() {
        let (mut ends, clock) = (OtherEnds::default(), Clock::new());
        ends.look_through(&view(true), &clock);
        ends.hear(services(), &clock);
        let now_ns = boot_ns();
        let hour_ns = 3_600 * 1_000_000_000;
        let seen =
            |birth_ns, duration_ns| Transition { boot_ns: now_ns, birth_ns, duration_ns, ..transition() };
        // Nothing says that the Service was there before it was told of.
        for (seen, is_named) in [
            (seen(now_ns, Some(hour_ns)), true),
            (seen(now_ns - hour_ns, None), false),
            (seen(0, None), true),
            (seen(0, Some(0)), true),
            (seen(0, Some(hour_ns)), false),
        ] {
            assert_eq!(ends.of_open(0b01, &seen).is_some(), is_named, "{seen:?}");
        }
        assert!(ends.of_open(0b10, &seen(0, None)).is_none(), "nobody asks");
    }

    #[test]
    fn names_are_told_when_all_services_and_all_slices_are() {
        let (mut ends, clock) = (OtherEnds::default(), Clock::new());
        ends.look_through(&view(true), &clock);
        assert!(!ends.are_told());
        ends.hear(services(), &clock);
        assert!(!ends.are_told());
        ends.hear(News::Slices(Update::All(Vec::new())), &clock);
        assert!(ends.are_told());
        ends.look_through(&view(false), &clock);
        assert!(!ends.are_told());
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
