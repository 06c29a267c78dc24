//! The board and the probes as pages. They are of what was told last, a few seconds ago at most: nobody who scrapes takes the
//! time of the thread that traces.

use std::sync::Arc;

use kube_tcpstates_probes::Pages;

use super::{Telemetry, metrics};
use crate::kernel::boot_ns;

impl Pages for Telemetry {
    fn metrics(self: &Arc<Self>) -> Result<String, std::fmt::Error> {
        metrics::render(self)
    }

    fn live(&self) -> Result<(), String> {
        self.health.live(boot_ns())
    }

    fn ready(&self) -> Result<(), String> {
        self.health.ready()
    }
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_probes::Pages as _;

    use crate::telemetry::{Facts, Telemetry};

    #[test]
    fn an_agent_that_has_just_started_is_live_and_not_ready() {
        let telemetry = Telemetry::new(Facts::default(), None);
        assert_eq!(telemetry.live(), Ok(()));
        let waits_for = telemetry.ready().unwrap_err();
        assert!(waits_for.contains("not listed yet"), "{waits_for}");
        assert!(telemetry.metrics().unwrap().ends_with("# EOF\n"));
    }
}
