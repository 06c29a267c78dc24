//! For whoever looks at what comes together, and reads no lines.

use std::time::Duration;

use kube_tcpstates_events::Line;

use super::{End, Finished, Offer, Outlet, Totals};
use crate::render::{Event, ended::Ended};

/// Takes everything, and nothing comes of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Outlet for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn transition(&mut self, _: &Event<'_>) -> Offer {
        Offer::Accepted
    }

    fn connection(&mut self, _: &Event<'_>, _: &Ended<'_>) -> Offer {
        Offer::Accepted
    }

    fn line(&mut self, _: &Line) -> Offer {
        Offer::Accepted
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
