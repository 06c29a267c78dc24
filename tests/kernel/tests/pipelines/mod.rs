//! A pipeline in the test's own process, by views that the test makes.

use std::path::Path;
use std::time::Duration;

use kube_tcpstates::cgroupfs::Mount;
use kube_tcpstates::connection::ConnectionIds;
use kube_tcpstates::kernel::{Directory, Options, Pinning, load};
use kube_tcpstates::outlet::{End, Finished, Offer, Outlet, Outlets, Totals};
use kube_tcpstates::pipeline::{self, Counting, Running, Setup, Whereabouts, task_hierarchy};
use kube_tcpstates::plan::View;
use kube_tcpstates::render::{Event, ended::Ended};
use kube_tcpstates_events::{Hook, Line, Start};

/// What a test looks at of all that goes out. What it says nothing of is accepted.
#[allow(dead_code, reason = "not every test looks at lines")]
pub(crate) trait Looks: Send {
    /// A transition.
    fn transition(&mut self) -> Offer {
        Offer::Accepted
    }

    /// A connection that has ended.
    fn connection(&mut self) -> Offer {
        Offer::Accepted
    }

    /// Any other line.
    fn line(&mut self, _: &Line) -> Offer {
        Offer::Accepted
    }
}

/// An outlet of whoever looks.
#[allow(dead_code, reason = "not every test looks at lines")]
pub(crate) struct Looked<L>(pub(crate) L);

impl<L: Looks> Outlet for Looked<L> {
    fn name(&self) -> &'static str {
        "looked"
    }

    fn transition(&mut self, _: &Event<'_>) -> Offer {
        self.0.transition()
    }

    fn connection(&mut self, _: &Event<'_>, _: &Ended<'_>) -> Offer {
        self.0.connection()
    }

    fn line(&mut self, line: &Line) -> Offer {
        self.0.line(line)
    }

    fn flush(&mut self) {}

    fn totals(&self) -> Totals {
        Totals::default()
    }

    fn is_over(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: Duration) -> Finished {
        Finished { totals: Totals::default(), end: End::Drained }
    }
}

/// Starts it. Containers are named where their cgroups are given.
#[allow(dead_code, reason = "some tests pin")]
pub(crate) fn start(
    outlet: impl Outlet + 'static,
    mount: Option<Mount>,
    view: View,
    counting: Counting,
) -> Running {
    run(outlet, mount, view, counting, (None, None))
}

/// The same by a certain hook, pinned in that directory, as every agent on a node is.
#[allow(dead_code, reason = "not every test pins")]
pub(crate) fn start_pinned(outlet: impl Outlet + 'static, view: View, hook: Hook, place: &Path) -> Running {
    let directory = Directory::try_lock(place).expect("a directory").expect("nobody has it");
    let lease = Duration::from_mins(1);
    let pinning = Pinning { directory, lease, purpose: "agent".to_owned() };
    run(outlet, Mount::find(None).ok(), view, Counting::Nothing, (Some(hook), Some(pinning)))
}

fn run(
    outlet: impl Outlet + 'static,
    mount: Option<Mount>,
    view: View,
    counting: Counting,
    (hook, pinning): (Option<Hook>, Option<Pinning>),
) -> Running {
    let tasks = mount.as_ref().and_then(task_hierarchy);
    let options = Options { hook, ring_bytes: 8 << 20, want_on_cpu: false, tasks };
    let mut kernel = load(options, pinning).expect("loading the programs");
    let inherited = kernel.inherited().expect("taking over what is pinned");
    let left = kernel.left().expect("reading what is left");
    kernel.leave_run("00000001".to_owned(), String::new(), None);
    let setup = Setup {
        kernel,
        identity_wait: if mount.is_some() { Duration::from_secs(2) } else { Duration::ZERO },
        mount,
        proc_root: "/proc".into(),
        whereabouts: Whereabouts::default(),
        outlets: Outlets::new(Box::new(outlet)),
        start_line: Box::new(|_| Line::Start(Box::<Start>::default())),
        diagnostics: None,
        summary: |_| {},
        ids: ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]),
        run: "00000001".to_owned(),
        lines_per_second: 0,
        count: None,
        counting,
        inherited,
        left,
    };
    pipeline::start(setup, Some(view), || {}).expect("starting the pipeline")
}
