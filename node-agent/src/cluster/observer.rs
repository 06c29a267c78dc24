//! Whoever watches how the agent does.

use kube_tcpstates_client::Answer;

use super::knowledge::Knowledge;
use crate::pipeline::Account;

/// Told of what happens, for metrics and probes. It must not wait: the loop does not turn meanwhile.
pub trait Observer: Send + Sync + 'static {
    /// The API server answered, or did not.
    fn answered(&self, answer: Answer);
    /// A view went to the pipeline.
    fn view_changed(&self);
    /// The loop around what is known has turned, and made a plan or not.
    fn turned(&self, knowledge: &Knowledge, planned: bool);
    /// The pipeline told its counts.
    fn counted(&self, account: &Account);
    /// The report was written, or not.
    fn reported(&self, written: bool);
}
