use std::sync::Arc;

use kube_tcpstates_events::{Attribution, AttributionSource, AttributionStatus};

use super::*;
use crate::{
    connection::{ConnectionIds, OfKernel},
    filter::TraceFilter,
    limit::RateLimiter,
    outlet::{Outlets, test_support::Recorder},
    pipeline::{
        cgroups::Cgroups,
        describe::Whereabouts,
        flow::Parts,
        owner::{Owners, Resolved},
        standing::Standing,
    },
    plan::{IdScope, Outcomes, Sets},
    render::fixtures::Fixture,
};

const HOUR: u64 = 3_600_000_000_000;

struct Scene {
    flow: Flow,
}

impl Scene {
    fn new(own: &Recorder, beside: &Recorder, count: Option<u64>) -> Self {
        let parts = Parts {
            owners: Owners::new(
                Cgroups::new(None, None),
                "/nowhere".into(),
                (true, false),
                Whereabouts::default(),
            ),
            ids: ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]),
            outlets: Outlets::new(own.boxed()).and(beside.boxed()),
            count,
            limiter: RateLimiter::new(0),
            summaries: Summaries::new("00000001".to_owned(), None),
            counted: None,
            wait_ns: 0,
            begins_ns: 0,
        };
        let filter = TraceFilter { mode: Mode::Summary, ..TraceFilter::default() };
        let plan = Arc::new(Plan::of_command_line(filter, (Outcomes::ANY, HOUR), IdScope::default(), None));
        let mut flow = Flow::new(parts);
        flow.follow_summaries(&plan);
        flow.ledger.turn_over(&plan, 1);
        Self { flow }
    }

    /// Connections to as many servers, one each.
    fn connect(&mut self, servers: u16) {
        let fixture = Fixture::client();
        let resolved = Resolved {
            attribution: Attribution {
                source: AttributionSource::SocketCgroup,
                status: AttributionStatus::Resolved,
            },
            standing: Standing::NoPod,
            owner: None,
            sets: Sets { matched: 1, maybe: 0 },
        };
        for port in 1..=servers {
            let figures = bytemuck::Zeroable::zeroed();
            let mut transition = Transition { figures: Some(figures), ..fixture.transition };
            transition.peer = transition.peer.map(|peer| crate::decode::Endpoint { port, ..peer });
            let of_kernel = OfKernel { jiffy_ns: 1, resets_watched: true };
            let story = Story::of(&transition, of_kernel).unwrap();
            self.flow.summarise(&transition, &story, &resolved, 1);
        }
    }

    /// What the trace has: lines, and losses.
    fn counts(&mut self) -> (u64, u64) {
        let counts = self.flow.ledger.counts();
        counts.values().fold((0, 0), |(events, lost), counts| (events + counts.events, lost + counts.lost))
    }
}

/// Connections of every summary.
fn told(recorder: &Recorder) -> Vec<u64> {
    let lines = recorder.lines();
    let of_line = |line: &Line| match line {
        Line::Summary(line) => line.tcpstates.summary.connections,
        other => panic!("{other:?}"),
    };
    lines.iter().map(of_line).collect()
}

#[test]
fn a_stuck_outlet_has_those_beside_it_told_once() {
    let [one, other] = [(); 2].map(|()| Recorder::default());
    for (own, beside) in [(&one, &other), (&other, &one)] {
        one.set_full(true);
        let mut scene = Scene::new(own, beside, None);
        scene.connect(600);
        for _ in 0..50 {
            scene.flow.tell_last_summaries();
        }
        assert_eq!((told(&one), told(&other)), (vec![], vec![1; 600]));
        scene.connect(2);
        one.set_full(false);
        scene.flow.tell_last_summaries();
        assert_eq!((told(&one).len(), told(&one).iter().sum::<u64>()), (600, 602));
        assert_eq!(told(&other), vec![1; 602]);
        let own_lines = told(own).len() as u64;
        assert_eq!((scene.counts(), scene.flow.offered), ((own_lines, 0), own_lines));
        one.forget();
        other.forget();
    }
}

#[test]
fn what_an_outlet_has_no_room_for_to_the_end_is_its_own_loss() {
    let [own, beside] = [(); 2].map(|()| Recorder::default());
    let mut scene = Scene::new(&own, &beside, None);
    scene.connect(5);
    own.refuses.store(1, std::sync::atomic::Ordering::Relaxed);
    beside.set_full(true);
    scene.flow.tell_last_summaries();
    assert_eq!([0, 1].map(|place| scene.flow.has_summaries(place)), [false; 2]);
    scene.flow.give_summaries_up(1);
    assert_eq!(scene.counts(), (0, 0), "the trace's losses are those of the run's own");
    assert_eq!([0, 1].map(|place| scene.flow.has_summaries(place)), [false, true]);
    scene.flow.give_summaries_up(OWN);
    assert_eq!(scene.counts(), (0, 5));
}

#[test]
fn of_a_trace_that_goes_each_outlet_is_told_what_it_has_room_for() {
    let [own, beside] = [(); 2].map(|()| Recorder::default());
    own.set_full(true);
    let mut scene = Scene::new(&own, &beside, None);
    scene.connect(3);
    scene.flow.follow_summaries(&Plan::default());
    assert_eq!((told(&own), told(&beside), scene.counts()), (vec![], vec![1; 3], (0, 3)));
}

#[test]
fn no_outlet_gets_more_than_were_asked_for() {
    let [own, beside] = [(); 2].map(|()| Recorder::default());
    let mut scene = Scene::new(&own, &beside, Some(2));
    scene.connect(5);
    scene.flow.tell_last_summaries();
    assert_eq!((told(&own), told(&beside)), (vec![1; 2], vec![1; 2]));
    assert!(scene.flow.is_done() && scene.flow.has_summaries(OWN) && scene.flow.has_summaries(1));
    scene.flow.give_summaries_up(OWN);
    assert_eq!(scene.counts(), (2, 0));
}
