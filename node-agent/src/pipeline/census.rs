//! What is counted beside the lines: connections of workloads as they end, and what is open at an interval. Only what some
//! trace selects that asks for connections; its outcomes and limits of rate narrow lines, and no counts.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    alone::alone,
    flow::Flow,
    live::Live,
    open::counted,
    owner::Resolved,
    snapshot::{wanted, wanted_passing},
};
use crate::{
    connection::Story,
    decode::Transition,
    kernel::boot_ns,
    open::{Drops, Found, Passing, What},
    top::Sample,
    workloads::{Listening, Name, Workloads},
};

/// What is counted beside the lines.
#[derive(Debug, Default)]
pub enum Counting {
    /// Nothing.
    #[default]
    Nothing,
    /// What the connections of each workload add up to, for [`super::Account`]; what is open, so often.
    Workloads {
        /// Time between two walks.
        every: Duration,
    },
    /// Everything, for somebody who looks. The traces, in mode Summary, tell no lines: what has come together is told here.
    Live {
        /// Time between two samples.
        every: Duration,
        /// Gets them.
        to: UnboundedSender<Sample>,
    },
}

impl Counting {
    /// Time between two walks, ns; 0 for none.
    pub(super) fn every_ns(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Workloads { every } | Self::Live { every, .. } => {
                u64::try_from(every.as_nanos()).unwrap_or(u64::MAX)
            }
        }
    }

    /// For somebody who looks: the samples come so often.
    pub fn live(every: Duration) -> (Self, UnboundedReceiver<Sample>) {
        let (to, samples) = unbounded_channel();
        (Self::Live { every, to }, samples)
    }

    /// Who looks, if anybody does.
    pub(super) fn looker(self) -> Option<Live> {
        match self {
            Self::Live { to, .. } => Some(Live::new(to)),
            _ => None,
        }
    }
}

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) workloads: Workloads,
    drops: Drops,
}

impl Counted {
    pub(super) fn new(counting: &Counting) -> Option<Self> {
        matches!(counting, Counting::Workloads { .. }).then(Self::default)
    }
}

impl Flow {
    /// A connection has ended that some trace wants to be told of as a whole.
    pub(super) fn count_ended(&mut self, transition: &Transition, story: &Story, resolved: &Resolved) {
        if let Some(counted) = &mut self.counted {
            counted.workloads.ended(resolved.owner.as_deref(), transition.role, story, boot_ns());
        }
    }

    /// Counts what a walk has found.
    pub(super) fn count_open(&mut self, found: &[Found], passing: &[Passing], now_ns: u64) {
        let Some(Counted { workloads, drops }) = &mut self.counted else { return };
        let plan = self.owners.standings.view().plan.clone();
        let asking = counted(&plan);
        let owned: Vec<(&Found, Arc<Resolved>)> =
            found.iter().map(|found| (found, self.owners.resolve(&found.seen))).collect();
        workloads.walked();
        let dropped = drops.since_last(found);
        for (found, resolved) in &owned {
            if wanted(&plan, asking, found, resolved) == 0 {
                continue;
            }
            let name = Name::of(resolved.owner.as_ref().map(|owner| &***owner));
            match found.what {
                What::Connection(_) => workloads.open(&name, found.seen.new_state, 1, now_ns),
                What::Listener(queue) => {
                    let dropped = dropped.get(&found.seen.socket).copied().unwrap_or(0);
                    workloads.listens(&name, Listening { queue, dropped }, now_ns);
                }
            }
        }
        let alone = alone(owned.iter().map(|(found, resolved)| (found.seen.netns, &**resolved)));
        for one in passing {
            let whose = one.seen.netns.and_then(|netns| alone.get(&netns)?.as_ref());
            if wanted_passing(&plan, asking, one, whose) != 0 {
                let name = Name::of(whose.map(|alone| &alone.owner));
                workloads.open(&name, one.seen.new_state, 1, now_ns);
            }
        }
        let view = self.owners.standings.view();
        let pods = view.roster.iter().flat_map(|roster| roster.live());
        let names: HashSet<Name> = pods
            .map(|pod| Name { namespace: Some(pod.namespace.clone()), workload: pod.workload.clone() })
            .collect();
        workloads.forget(|name| names.contains(name), now_ns);
    }

    /// Nobody asks for connections any more: what was open at the last walk is not what is open now.
    pub(super) fn count_nothing(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.workloads.walked();
            counted.drops = Drops::default();
        }
    }
}
