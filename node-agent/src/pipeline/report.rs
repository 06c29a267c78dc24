//! The lines that are not transitions: what was lost, and that all is well.

use std::collections::BTreeMap;

use kube_tcpstates_events::{
    Heartbeat, HeartbeatAttributes, K8s, Line, Loss, Lost, LostAttributes, SchemaId,
};

use super::{ledger::Ledger, tally::Tally};
use crate::{
    kernel::{Clock, boot_ns},
    outlet::{OWN, Offer, Outlets},
    render::time::rfc3339,
};

const SECOND_NS: u64 = 1_000_000_000;

/// What a heartbeat says of the cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct InCluster {
    pub(super) traces_loaded: u32,
    pub(super) traces_refused: u32,
    pub(super) api_in_sync: bool,
}

/// Writes those lines.
pub(super) struct Reporter {
    run: String,
    k8s: Option<Box<K8s>>,
    started_ns: u64,
    /// By the place of the outlet: one that has no room is told later, and the others are not told again.
    told: Vec<Reported>,
    told_ns: u64,
    is_ending: bool,
}

/// What an outlet has been told.
#[derive(Clone, Default)]
struct Reported {
    losses: u64,
    beside: BTreeMap<&'static str, u64>,
    /// How far the clock has stepped since it was last told, ns.
    untold_step_ns: i64,
    stage: Stage,
}

/// How far the end of the run has come for an outlet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It may get any line.
    #[default]
    Running,
    /// The last losses come next.
    Ending,
    /// The last heartbeat comes next.
    LossesTold,
    /// Nothing comes.
    Ended,
}

impl Reported {
    fn is_untold(&self, tally: &Tally) -> bool {
        tally.lost().total() > self.losses || tally.lost_beside != self.beside
    }
}

impl Reporter {
    /// `told`: losses that runs before this one have told.
    pub(super) fn new(run: String, k8s: Option<K8s>, told: u64, outlets: usize) -> Self {
        Self {
            run,
            k8s: k8s.map(Box::new),
            started_ns: boot_ns(),
            told: vec![Reported { losses: told, ..Reported::default() }; outlets],
            told_ns: 0,
            is_ending: false,
        }
    }

    /// Names the run, for whoever makes other lines.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Cluster and node, for the same.
    pub(super) fn k8s(&self) -> Option<K8s> {
        self.k8s.as_deref().cloned()
    }

    /// Runs before this one have told so many.
    pub(super) fn told_before(&mut self, told: u64) {
        self.told.iter_mut().for_each(|outlet| outlet.losses += told);
    }

    /// Losses that the run's own outlet was told so far.
    pub(super) fn told(&self) -> u64 {
        self.told[OWN].losses
    }

    /// Losses are told at most once a second.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.told_ns) >= SECOND_NS
    }

    /// When losses may be told next, boot time ns.
    pub(super) const fn due_ns(&self) -> u64 {
        self.told_ns + SECOND_NS
    }

    /// Whether there is any to tell. What counts for a trace alone is no loss of the run: another trace has the line.
    pub(super) fn is_untold(&self, tally: &Tally, ledger: &mut Ledger) -> bool {
        let mut outlets = self.told.iter().enumerate();
        outlets.any(|(place, told)| told.is_untold(tally) || ledger.is_untold(place))
    }

    /// The run ends. The next look at losses is due at once, and is the last of the outlets that are ready for it.
    pub(super) fn end(&mut self, is_ready: impl Fn(usize) -> bool) {
        self.is_ending = true;
        self.told_ns = 0;
        let running = self.told.iter_mut().enumerate().filter(|(_, told)| told.stage == Stage::Running);
        for (_, told) in running.filter(|(place, _)| is_ready(*place)) {
            told.stage = Stage::Ending;
        }
    }

    /// Tells each outlet what has been lost since it was last told. False when one had no room for it.
    pub(super) fn losses(
        &mut self,
        tally: &Tally,
        ledger: &mut Ledger,
        clock: &Clock,
        outlets: &mut Outlets,
    ) -> bool {
        self.told_ns = boot_ns();
        let concerned = if self.is_ending { Stage::Ending } else { Stage::Running };
        let mut all = true;
        for place in 0..self.told.len() {
            if self.told[place].stage != concerned {
                continue;
            }
            let by_trace = ledger.losses(place);
            let is_news = self.told[place].is_untold(tally) || !by_trace.is_empty();
            let offer = if is_news {
                let lost = self.lost(place, tally, by_trace, clock);
                outlets.line_to(place, &Line::Lost(Box::new(lost)))
            } else {
                Offer::Accepted
            };
            let told = &mut self.told[place];
            // Else it is told again as a whole: a count by trace is the one in the latest line.
            if offer == Offer::Accepted && is_news {
                told.losses = tally.lost().total().max(told.losses);
                told.beside.clone_from(&tally.lost_beside);
                ledger.losses_told(place);
            }
            let is_over = matches!(offer, Offer::Accepted | Offer::Closed);
            if is_over && self.is_ending {
                told.stage = Stage::LossesTold;
            }
            all &= is_over;
        }
        outlets.flush();
        all
    }

    /// What an outlet is to be told of losses.
    fn lost(&self, place: usize, tally: &Tally, by_trace: BTreeMap<String, u64>, clock: &Clock) -> Lost {
        let told = &self.told[place];
        let by_place = tally.lost();
        let total = by_place.total();
        let tcpstates = LostAttributes {
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            lost: Loss {
                // Less than before: what the kernel skipped cannot be read just now.
                since_last: total.saturating_sub(told.losses),
                total: total.max(told.losses),
                by_place,
                by_outlet: by_name(&tally.lost_beside),
                by_trace,
            },
            exact: tally.exact(),
        };
        Lost { time: rfc3339(clock.unix_ns(boot_ns())), tcpstates, k8s: self.k8s.clone() }
    }

    /// Tells each outlet that all is well, with the totals; the last time those that know the last losses, once. False when
    /// one was not told.
    pub(super) fn heartbeat(
        &mut self,
        tally: &Tally,
        cluster: Option<InCluster>,
        clock: &mut Clock,
        outlets: &mut Outlets,
        last: bool,
    ) -> bool {
        let now_ns = boot_ns();
        clock.refresh(now_ns);
        let step_ns = clock.take_step().unwrap_or(0);
        let mut heartbeat = self.alive(tally, cluster, rfc3339(clock.unix_ns(now_ns)), now_ns);
        heartbeat.tcpstates.last = last;
        let mut all = true;
        for (place, told) in self.told.iter_mut().enumerate() {
            told.untold_step_ns = told.untold_step_ns.saturating_add(step_ns);
            if last && told.stage != Stage::LossesTold {
                all &= told.stage == Stage::Ended;
                continue;
            }
            heartbeat.tcpstates.clock_step_ns = Some(told.untold_step_ns).filter(|step| *step != 0);
            let offer = outlets.line_to(place, &Line::Heartbeat(Box::new(heartbeat.clone())));
            if offer == Offer::Accepted {
                told.untold_step_ns = 0;
            }
            let is_over = matches!(offer, Offer::Accepted | Offer::Closed);
            if is_over && last {
                told.stage = Stage::Ended;
            }
            all &= is_over;
        }
        outlets.flush();
        all
    }

    fn alive(&self, tally: &Tally, cluster: Option<InCluster>, time: String, now_ns: u64) -> Heartbeat {
        let tcpstates = HeartbeatAttributes {
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            uptime_s: now_ns.saturating_sub(self.started_ns) / SECOND_NS,
            totals: tally.totals(),
            lost_by_outlet: by_name(&tally.lost_beside),
            clock_step_ns: None,
            traces_loaded: cluster.map(|cluster| cluster.traces_loaded),
            traces_refused: cluster.map(|cluster| cluster.traces_refused),
            api_in_sync: cluster.map(|cluster| cluster.api_in_sync),
            last: false,
        };
        Heartbeat { time, tcpstates, k8s: self.k8s.clone() }
    }
}

fn by_name(lost: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    lost.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outlet::test_support::Recorder;
    use crate::plan::tests_support::plan_of;

    struct Scene {
        reporter: Reporter,
        ledger: Ledger,
        clock: Clock,
        outlets: Outlets,
        tally: Tally,
    }

    impl Scene {
        fn new(own: &Recorder, beside: &Recorder) -> Self {
            let mut ledger = Ledger::new();
            ledger.turn_over(&Arc::new(plan_of(&["a"])), 1);
            Self {
                reporter: Reporter::new("00000001".to_owned(), None, 0, 2),
                ledger,
                clock: Clock::new(),
                outlets: Outlets::new(own.boxed()).and(beside.boxed()),
                tally: Tally::default(),
            }
        }

        fn lose(&mut self, lost: u64) {
            self.tally.output.lost_queue += lost;
            self.ledger.lost_many(1, lost);
        }

        fn is_untold(&mut self) -> bool {
            self.reporter.is_untold(&self.tally, &mut self.ledger)
        }

        fn tell(&mut self) -> bool {
            let Self { reporter, ledger, clock, outlets, tally } = self;
            reporter.losses(tally, ledger, clock, outlets)
        }

        /// As it is tried again and again. `late`: an outlet that is not ready for the last lines.
        fn end(&mut self, late: Option<usize>) -> bool {
            self.reporter.end(|place| Some(place) != late);
            self.tell();
            let Self { reporter, clock, outlets, tally, .. } = self;
            reporter.heartbeat(tally, None, clock, outlets, true)
        }
    }

    /// Since the line before, in all, and of the one trace.
    fn told(recorder: &Recorder) -> Vec<(u64, u64, u64)> {
        let lines = recorder.lines();
        let lost = lines.iter().filter_map(|line| match line {
            Line::Lost(lost) => Some(&lost.tcpstates.lost),
            _ => None,
        });
        lost.map(|lost| (lost.since_last, lost.total, lost.by_trace["ns/a"])).collect()
    }

    #[test]
    fn each_outlet_is_told_each_loss_once_whoever_else_has_no_room() {
        let [own, beside] = [(); 2].map(|()| Recorder::default());
        let mut scene = Scene::new(&own, &beside);
        own.set_full(true);
        scene.lose(5);
        assert!(!scene.tell() && !scene.tell());
        assert_eq!((scene.reporter.told(), scene.is_untold()), (0, true));
        scene.lose(2);
        assert!(!scene.tell());
        assert_eq!((told(&own), told(&beside)), (vec![], vec![(5, 5, 5), (2, 7, 7)]));
        own.set_full(false);
        beside.set_full(true);
        assert!(scene.tell() && scene.tell());
        scene.lose(1);
        assert!(!scene.tell() && !scene.tell());
        beside.set_full(false);
        assert!(scene.tell());
        assert_eq!(told(&own), [(7, 7, 7), (1, 8, 8)]);
        assert_eq!(told(&beside), [(5, 5, 5), (2, 7, 7), (1, 8, 8)]);
        assert_eq!((scene.reporter.told(), scene.is_untold()), (8, false));
    }

    #[test]
    fn what_a_trace_alone_has_lost_is_told_though_the_run_has_lost_nothing() {
        let [own, beside] = [(); 2].map(|()| Recorder::default());
        let mut scene = Scene::new(&own, &beside);
        assert!(!scene.is_untold());
        scene.ledger.lost_many(1, 4);
        own.set_full(true);
        assert!(scene.is_untold() && !scene.tell());
        own.set_full(false);
        assert!(scene.tell() && scene.tell() && !scene.is_untold());
        assert_eq!((told(&own), told(&beside)), (vec![(0, 0, 4)], vec![(0, 0, 4)]));
        scene.ledger.lost_many(1, 1);
        assert!(scene.end(None));
        assert_eq!(kinds(&own), ["lost", "lost", "end"]);
    }

    fn kinds(recorder: &Recorder) -> Vec<&'static str> {
        let kind = |line: &Line| match line {
            Line::Lost(_) => "lost",
            Line::Heartbeat(line) if line.tcpstates.last => "end",
            _ => "other",
        };
        recorder.lines().iter().map(kind).collect()
    }

    #[test]
    fn each_outlet_gets_the_last_loss_and_then_the_end_once_and_waits_for_no_other() {
        let [one, other] = [(); 2].map(|()| Recorder::default());
        for (own, beside) in [(&one, &other), (&other, &one)] {
            let mut scene = Scene::new(own, beside);
            one.set_full(true);
            scene.lose(3);
            assert!(!scene.end(None) && !scene.end(None));
            assert_eq!((kinds(&one), kinds(&other)), (vec![], vec!["lost", "end"]));
            // It has room for one of two lines, then for none.
            scene.lose(1);
            one.set_full(false);
            scene.reporter.end(|_| true);
            assert!(scene.tell());
            one.set_full(true);
            assert!(!scene.end(None));
            one.set_full(false);
            assert!(scene.end(None) && scene.end(None));
            assert_eq!((kinds(&one), kinds(&other)), (vec!["lost", "end"], vec!["lost", "end"]));
            one.forget();
            other.forget();
        }
    }

    #[test]
    fn an_outlet_that_lacks_other_lines_gets_the_last_ones_behind_them() {
        let [own, beside] = [(); 2].map(|()| Recorder::default());
        let mut scene = Scene::new(&own, &beside);
        scene.lose(3);
        assert!(!scene.end(Some(1)));
        assert_eq!((kinds(&own), kinds(&beside)), (vec!["lost", "end"], vec![]));
        assert!(scene.end(None));
        assert_eq!(kinds(&beside), ["lost", "end"]);
    }
}
