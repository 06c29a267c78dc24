//! How a run ended, of `trace` and `agent` alike.

use anyhow::Context as _;

use crate::{
    outlet::End,
    pipeline::{RunResult, Tally},
};

/// Says the counts and how it went; `None` is a pipeline that panicked. A closed pipe is success.
pub(super) fn ending(outcome: Option<RunResult>, say: impl FnOnce(&Tally)) -> anyhow::Result<bool> {
    let RunResult { tally, end, failure } = outcome.context("the pipeline panicked")?;
    say(&tally);
    if let Some(error) = failure {
        return Err(error).context("waiting for the ring buffer");
    }
    match end {
        End::Drained | End::ReaderGone => Ok(true),
        End::Failed(error) => Err(error.into()),
        End::Deadline => {
            anyhow::bail!("stdout stayed blocked: {} lines were not written", tally.lost().write)
        }
    }
}
