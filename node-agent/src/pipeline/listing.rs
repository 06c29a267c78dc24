//! What is open, once, without tracing: for `list`.

use std::{path::PathBuf, sync::Arc};

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Line;

use super::{cgroups::Cgroups, describe::Whereabouts, owner::Owners, snapshot::Maker};
use crate::{
    cgroupfs::{Layout, Mount},
    kernel::{Clock, LoadError, Looker, TaskHierarchy},
    names::Numbered,
    open::Wish,
    plan::{Plan, View},
    render::Of,
};

/// What `list` asks.
#[derive(Debug)]
pub struct Listing {
    /// Names the run in lines, 8 hex digits.
    pub run: String,
    /// One trace, of which the filter and whose sockets count.
    pub plan: Plan,
    /// What it wishes, under bit 0.
    pub wish: Wish,
    /// The cgroup file system, where there is one.
    pub mount: Option<Mount>,
    /// Where tasks are told apart beside cgroup2.
    pub tasks: Option<TaskHierarchy>,
    /// Where the host's processes are to be seen, if they are.
    pub proc_root: PathBuf,
}

/// The lines of one snapshot, numbered.
pub fn list(listing: Listing) -> Result<Vec<Line>, LoadError> {
    let Listing { run, plan, wish, mount, tasks, proc_root } = listing;
    let mut looker = Looker::load(tasks)?;
    let sight = looker.look(|socket| wish.states.look_at(State(socket.state)))?;
    drop(looker);
    let mut cgroups = Cgroups::new(None, mount.as_ref());
    if let Some(mount) = &mount
        && let Err(error) = cgroups.walk(mount)
    {
        tracing::warn!("{error}");
    }
    let unified = mount.as_ref().is_some_and(|mount| mount.layout == Layout::Unified);
    let mut owners = Owners::new(cgroups, proc_root, (unified, tasks.is_some()), Whereabouts::default());
    owners.look_through(View { plan: Arc::new(plan), roster: None, refused: 0 });
    let of = Of { run, unix_ns: Clock::new().unix_ns(sight.boot_ns) };
    let names = Numbered::new(Vec::new());
    let mut maker =
        Maker { owners: &mut owners, names: &mut |_| names.clone(), peers: None, ids: None, of, k8s: None };
    let (found, passing) = sight.found();
    let lines = maker.lines((found, &passing), sight.given_up > 0, &[wish]).into_iter();
    let numbered = lines.zip(1..).map(|((mut line, _), seq)| {
        line.set_seq(seq);
        line
    });
    Ok(numbered.collect())
}
