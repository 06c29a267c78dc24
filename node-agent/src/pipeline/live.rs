//! A live view's samples: what has come together since the last one, and what is open.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    Pipeline,
    alone::alone,
    open::counted,
    owner::Resolved,
    snapshot::{wanted, wanted_passing},
};
use crate::{
    decode::Transition,
    names::Owner,
    open::{Found, Passing, What},
    render::escape,
    summary::{Common, Kept, Whose},
    top::{Ended, NOBODY, Open, Sample},
};

/// Longest name of an owner, columns of a terminal.
const OWNER_MAX: usize = 64;

/// Who looks.
pub(super) struct Live {
    to: UnboundedSender<Sample>,
    /// When the last sample was taken, boot time ns; 0 before the first.
    last_ns: u64,
}

impl Live {
    pub(super) const fn new(to: UnboundedSender<Sample>) -> Self {
        Self { to, last_ns: 0 }
    }
}

impl Pipeline {
    /// Gives whoever looks a sample. `seen` is what a walk has found, where it could.
    pub(super) fn show_live(&mut self, seen: Option<(&[Found], &[Passing])>, now_ns: u64) {
        if self.live.is_none() {
            return;
        }
        let tally = self.tally(false);
        let mut ended = Vec::new();
        self.flow.summaries.take_all(now_ns, |common, kept| ended.push(of_ended(common, kept)));
        let sample = Sample {
            span_ns: 0,
            ended,
            open: seen.map(|(found, passing)| self.open_now(found, passing)),
            seen: tally.totals().seen,
            lost: tally.lost().total(),
        };
        let Some(live) = &mut self.live else { return };
        let last_ns = std::mem::replace(&mut live.last_ns, now_ns);
        let span_ns = if last_ns == 0 { 0 } else { now_ns.saturating_sub(last_ns) };
        // Whoever looked may have gone; the run ends then.
        let _ = live.to.send(Sample { span_ns, ..sample });
    }

    fn open_now(&mut self, found: &[Found], passing: &[Passing]) -> Vec<Open> {
        let owners = &mut self.flow.owners;
        let plan = Arc::clone(&owners.standings.view().plan);
        let asking = counted(&plan);
        let owned: Vec<(&Found, Arc<Resolved>)> =
            found.iter().map(|found| (found, owners.resolve(&found.seen))).collect();
        let mut names: HashMap<u64, Arc<str>> = HashMap::new();
        let mut open = Vec::new();
        for (found, resolved) in &owned {
            let is_connection = matches!(found.what, What::Connection(_));
            if !is_connection || wanted(&plan, asking, found, resolved) == 0 {
                continue;
            }
            let name = match &resolved.owner {
                Some(known) => {
                    Arc::clone(names.entry(known.number()).or_insert_with(|| name(Some(known), None)))
                }
                None => name(None, found.seen.cgroup_id),
            };
            open.push(of_open(&found.seen, name));
        }
        let alone = alone(owned.iter().map(|(found, resolved)| (found.seen.netns, &**resolved)));
        for one in passing {
            let whose = one.seen.netns.and_then(|netns| alone.get(&netns)?.as_ref());
            if wanted_passing(&plan, asking, one, whose) != 0 {
                open.push(of_open(&one.seen, name(whose.map(|alone| &alone.owner), None)));
            }
        }
        open
    }
}

fn of_ended(common: Option<&Common>, kept: &Kept) -> Ended {
    let cgroup = common.and_then(|common| match common.whose {
        Whose::Cgroup(cgroup) => cgroup,
        Whose::Owner(_) => None,
    });
    Ended {
        owner: match common {
            Some(_) => name(kept.owner.as_ref().map(|owner| &***owner), cgroup),
            None => "(others)".into(),
        },
        peer: common.and_then(|common| common.peer),
        port: common.map_or(0, |common| common.port),
        role: common.and_then(|common| common.role),
        sums: kept.sums.clone(),
    }
}

fn of_open(seen: &Transition, owner: Arc<str>) -> Open {
    Open {
        owner,
        peer: seen.peer.map(|peer| peer.address).filter(|address| !address.is_unspecified()),
        ports: (seen.local.port, seen.peer.map_or(0, |peer| peer.port)),
        role: seen.role,
        state: seen.new_state,
    }
}

/// What an owner is called; nothing of it acts on a terminal.
fn name(owner: Option<&Owner>, cgroup: Option<u64>) -> Arc<str> {
    let label = owner.and_then(Owner::label).or_else(|| cgroup.map(|id| format!("cgroup {id}")));
    let mut text = Vec::new();
    escape::terminal(&mut text, label.as_deref().unwrap_or(NOBODY).as_bytes(), OWNER_MAX);
    String::from_utf8_lossy(&text).into()
}
