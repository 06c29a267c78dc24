//! All outlets of a run, as one.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use kube_tcpstates_events::Line;

use super::{Finished, Offer, Outlet, Totals, writer::End};
use crate::render::{Event, ended::Ended};

/// The run's own outlet, and those beside it. What the run's own takes counts as written, and its end is the run's end;
/// what those beside it lose is counted by their names.
pub struct Outlets {
    own: Box<dyn Outlet>,
    beside: Vec<Box<dyn Outlet>>,
}

/// Place of the run's own among all outlets; those beside it follow.
pub const OWN: usize = 0;

impl Outlets {
    /// With none beside it.
    pub fn new(own: Box<dyn Outlet>) -> Self {
        Self { own, beside: Vec::new() }
    }

    /// Another one beside it.
    #[must_use]
    pub fn and(mut self, outlet: Box<dyn Outlet>) -> Self {
        self.beside.push(outlet);
        self
    }

    /// Gives everybody a transition. Returns what the run's own made of it.
    pub fn transition(&mut self, event: &Event<'_>) -> Offer {
        for outlet in &mut self.beside {
            // It counts what it does not take.
            let _ = outlet.transition(event);
        }
        self.own.transition(event)
    }

    /// The same of a connection that has ended.
    pub fn connection(&mut self, event: &Event<'_>, ended: &Ended<'_>) -> Offer {
        for outlet in &mut self.beside {
            let _ = outlet.connection(event, ended);
        }
        self.own.connection(event, ended)
    }

    /// The same for any other line.
    pub fn line(&mut self, line: &Line) -> Offer {
        for outlet in &mut self.beside {
            let _ = outlet.line(line);
        }
        self.own.line(line)
    }

    /// How many there are: the places of all.
    pub fn count(&self) -> usize {
        1 + self.beside.len()
    }

    fn at(&mut self, place: usize) -> Option<&mut Box<dyn Outlet>> {
        match place.checked_sub(1) {
            None => Some(&mut self.own),
            Some(beside) => self.beside.get_mut(beside),
        }
    }

    /// Gives a line to the outlet of one place: one that waits for room comes to it alone. What one beside the run's own
    /// will never take is as good as taken, as there is no use in coming again.
    pub fn line_to(&mut self, place: usize, line: &Line) -> Offer {
        match self.at(place).map_or(Offer::Closed, |outlet| outlet.line(line)) {
            Offer::Closed | Offer::Malformed if place != OWN => Offer::Accepted,
            offer => offer,
        }
    }

    /// Its name.
    pub fn name(&mut self, place: usize) -> &'static str {
        self.at(place).map_or("", |outlet| outlet.name())
    }

    /// See [`Outlet::ends_by`].
    pub fn ends_by(&mut self, deadline: Instant) {
        self.own.ends_by(deadline);
        self.beside.iter_mut().for_each(|outlet| outlet.ends_by(deadline));
    }

    /// See [`Outlet::flush`].
    pub fn flush(&mut self) {
        self.own.flush();
        self.beside.iter_mut().for_each(|outlet| outlet.flush());
    }

    /// Whether the run's own is behind, and nobody else takes lines.
    pub fn all_are_behind(&self) -> bool {
        self.own.is_behind() && self.beside.is_empty()
    }

    /// Nobody reads the run's own any more.
    pub fn is_over(&self) -> bool {
        self.own.is_over()
    }

    /// Totals of the run's own.
    pub fn totals(&self) -> Totals {
        self.own.totals()
    }

    /// What those beside it lost, by name; only those that lost something.
    pub fn lost_beside(&self) -> BTreeMap<&'static str, u64> {
        let lost = self.beside.iter().map(|outlet| (outlet.name(), outlet.totals().lost()));
        lost.filter(|(_, lost)| *lost > 0).collect()
    }

    /// Ends them all, side by side, so that none takes another's time. Returns how the run's own ended.
    pub fn finish(self, within: Duration) -> Finished {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let Self { own, beside } = self;
        let totals = own.totals();
        thread::scope(|scope| {
            let others: Vec<_> = beside
                .into_iter()
                .map(|outlet| (outlet.name(), scope.spawn(move || outlet.finish(left()))))
                .collect();
            let finished = scope.spawn(move || own.finish(left())).join();
            for (name, other) in others {
                let lost = other.join().map_or(0, |finished| finished.totals.lost());
                if lost > 0 {
                    tracing::warn!("{lost} events did not reach the {name}");
                }
            }
            // A panic there is a defect of the outlet; what it had written by then is all that is known.
            finished.unwrap_or(Finished { totals, end: End::Deadline })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube_tcpstates_events::{Heartbeat, Log, Lost, Start};

    use super::*;
    use crate::render::fixtures::Fixture;

    /// What an outlet was told.
    #[derive(Clone, Default)]
    struct Calls(Arc<Mutex<Vec<&'static str>>>);

    impl Calls {
        fn note(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }

        fn all(&self) -> Vec<&'static str> {
            self.0.lock().unwrap().clone()
        }
    }

    /// Takes so many events, then its reader is gone.
    struct Recorder {
        told: Calls,
        room: u64,
        totals: Totals,
        finish_in: Duration,
    }

    impl Recorder {
        fn boxed(told: &Calls, room: u64) -> Box<Self> {
            let totals = Totals::default();
            Box::new(Self { told: told.clone(), room, totals, finish_in: Duration::ZERO })
        }
    }

    impl Outlet for Recorder {
        fn name(&self) -> &'static str {
            "recorder"
        }

        fn transition(&mut self, _: &Event<'_>) -> Offer {
            if self.is_over() {
                self.totals.lost_write += 1;
                return Offer::Closed;
            }
            self.told.note("transition");
            self.totals.event_lines_accepted += 1;
            Offer::Accepted
        }

        fn connection(&mut self, _: &Event<'_>, _: &Ended<'_>) -> Offer {
            self.told.note("connection");
            Offer::Accepted
        }

        fn line(&mut self, line: &Line) -> Offer {
            self.told.note(match line {
                Line::Start(_) => "start",
                Line::Transition(_) => "transition",
                Line::Connection(_) => "connection",
                Line::Lost(_) => "lost",
                Line::Heartbeat(_) => "heartbeat",
                Line::Log(_) => "log",
                _ => "open",
            });
            Offer::Accepted
        }

        fn flush(&mut self) {
            self.told.note("flush");
        }

        fn totals(&self) -> Totals {
            self.totals
        }

        fn is_behind(&self) -> bool {
            true
        }

        fn is_over(&self) -> bool {
            self.totals.event_lines_accepted >= self.room
        }

        fn finish(self: Box<Self>, within: Duration) -> Finished {
            thread::sleep(self.finish_in.min(within));
            self.told.note("finish");
            Finished { totals: self.totals, end: End::Drained }
        }
    }

    #[test]
    fn every_outlet_gets_every_kind_of_line_and_the_end_of_the_run() {
        let (own, beside) = (Calls::default(), Calls::default());
        let mut outlets = Outlets::new(Recorder::boxed(&own, 9)).and(Recorder::boxed(&beside, 9));
        let lines = [
            Line::Start(Box::default()),
            Line::Lost(Box::default()),
            Line::Heartbeat(Box::default()),
            Line::Log(Log::default()),
        ];
        let _: (Start, Lost, Heartbeat);
        for line in &lines {
            assert_eq!(outlets.line(line), Offer::Accepted);
        }
        assert_eq!(outlets.transition(&Fixture::client().event()), Offer::Accepted);
        outlets.flush();
        outlets.finish(Duration::from_secs(1));
        let all = ["start", "lost", "heartbeat", "log", "transition", "flush", "finish"];
        assert_eq!((own.all(), beside.all()), (all.into(), all.into()));
    }

    #[test]
    fn an_outlet_whose_reader_is_gone_counts_for_itself_and_the_others_do_not_notice() {
        let (own, beside) = (Calls::default(), Calls::default());
        let mut outlets = Outlets::new(Recorder::boxed(&own, 9)).and(Recorder::boxed(&beside, 2));
        let fixture = Fixture::client();
        for _ in 0..5 {
            assert_eq!(outlets.transition(&fixture.event()), Offer::Accepted);
        }
        assert_eq!((own.all().len(), beside.all().len()), (5, 2));
        assert!(!outlets.is_over());
        assert_eq!(outlets.lost_beside(), [("recorder", 3)].into());
        assert_eq!(outlets.totals().lost(), 0);
    }

    #[test]
    fn where_others_take_lines_they_do_not_wait_for_the_runs_own() {
        let outlets = Outlets::new(Recorder::boxed(&Calls::default(), 9));
        assert!(outlets.all_are_behind());
        assert!(!outlets.and(Recorder::boxed(&Calls::default(), 9)).all_are_behind());
    }

    #[test]
    fn a_line_for_one_place_comes_to_no_other() {
        let told = [(); 3].map(|()| Calls::default());
        let [own, one, other] = told.clone().map(|told| Recorder::boxed(&told, 9));
        let mut outlets = Outlets::new(own).and(one).and(other);
        assert_eq!(outlets.count(), 3);
        for (place, times) in [(OWN, 1), (2, 2)] {
            for _ in 0..times {
                assert_eq!(outlets.line_to(place, &Line::Lost(Box::default())), Offer::Accepted);
            }
        }
        assert_eq!(told.map(|told| told.all().len()), [1, 0, 2]);
        assert_eq!(outlets.line_to(3, &Line::Lost(Box::default())), Offer::Accepted, "nobody waits there");
    }

    #[test]
    fn the_end_of_the_runs_own_reader_is_the_end_of_the_run() {
        let (own, beside) = (Calls::default(), Calls::default());
        let mut outlets = Outlets::new(Recorder::boxed(&own, 1)).and(Recorder::boxed(&beside, 9));
        let fixture = Fixture::client();
        assert_eq!(outlets.transition(&fixture.event()), Offer::Accepted);
        assert_eq!(outlets.transition(&fixture.event()), Offer::Closed);
        assert!(outlets.is_over());
    }

    #[test]
    fn one_that_takes_long_to_end_takes_nobody_elses_time() {
        let told = Calls::default();
        let slow = || {
            let mut slow = Recorder::boxed(&told, 9);
            slow.finish_in = Duration::from_mins(1);
            slow
        };
        let begun = Instant::now();
        Outlets::new(slow()).and(slow()).and(slow()).finish(Duration::from_millis(200));
        assert_eq!(told.all(), ["finish"; 3]);
        // One after the other it would be three times as long; the bound is about liveness, not about speed.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
