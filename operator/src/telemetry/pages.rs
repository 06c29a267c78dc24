//! The board as pages.

use std::sync::Arc;

use kube_tcpstates_probes::Pages;
use tokio::time::Instant;

use super::{Board, metrics};

impl Pages for Board {
    fn metrics(self: &Arc<Self>) -> Result<String, std::fmt::Error> {
        metrics::render(self)
    }

    fn live(&self) -> Result<(), String> {
        self.live_at(Instant::now())
    }

    fn ready(&self) -> Result<(), String> {
        self.ready_at(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_tcpstates_probes::Pages as _;

    use crate::telemetry::Board;

    #[test]
    fn an_operator_that_has_just_started_is_live_and_not_ready() {
        let board = Arc::new(Board::default());
        assert_eq!(board.live(), Ok(()));
        let waits_for = board.ready().unwrap_err();
        assert!(waits_for.contains("not serving lines yet"), "{waits_for}");
        assert!(board.metrics().unwrap().contains("kube_tcpstates_operator_leading 0"));
    }
}
