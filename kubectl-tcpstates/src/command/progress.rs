//! How far the agents are with a trace, told as it changes.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_tcpstates_client::AbortOnDrop;
use kube_tcpstates_crds::TcpStateTrace;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::edge::api::Cluster;
use crate::name::TraceName;
use crate::standing::{Attachment, of_nodes, of_status};
use crate::trouble::Failure;

/// Between two looks; longer where a look takes long.
const EVERY: Duration = Duration::from_millis(800);
const EVERY_AT_MOST: Duration = Duration::from_secs(5);
/// At most a fifth of the time somebody looks: of thousands of nodes a list is heavy.
const PER_LOOK: u32 = 4;
/// An agent reports ten seconds after the report before at the earliest.
const SLOW_AFTER: Duration = Duration::from_secs(30);

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Step(Attachment),
    /// It goes on, and not as it should.
    Slow(String),
    /// The trace is refused.
    Refused(String),
}

/// Looks until the trace is attached wherever it should be.
pub(super) fn watch(
    cluster: &Cluster,
    name: &TraceName,
    uid: &str,
    expected: Option<&BTreeSet<String>>,
) -> (mpsc::Receiver<Progress>, AbortOnDrop) {
    let (sender, steps) = mpsc::channel(16);
    let (cluster, name, uid, expected) = (cluster.clone(), name.clone(), uid.to_owned(), expected.cloned());
    let task = AbortOnDrop::spawn(async move {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < SLOW_AFTER {
            let looked = Instant::now();
            let attachment = look(&cluster, &name, &uid, expected.as_ref()).await;
            if let Some(attachment) = &attachment {
                if let Some(why) = &attachment.refused {
                    let _ = sender.send(Progress::Refused(why.clone())).await;
                    return;
                }
                if last.as_ref() != Some(attachment) {
                    let _ = sender.send(Progress::Step(attachment.clone())).await;
                }
                if attachment.is_complete() {
                    return;
                }
            }
            last = attachment;
            tokio::time::sleep(rest(looked.elapsed())).await;
        }
        let _ = sender.send(Progress::Slow(slow(last.as_ref(), &name))).await;
    });
    (steps, task)
}

/// Until the next look, after one that took so long.
fn rest(took: Duration) -> Duration {
    (took * PER_LOOK).clamp(EVERY, EVERY_AT_MOST)
}

fn slow(last: Option<&Attachment>, name: &TraceName) -> String {
    let Some(attachment) = last else {
        return "whether the agents trace cannot be seen: the trace has no status, and you may not list tcpstatenodes"
            .to_owned();
    };
    let troubles = match attachment.troubles.as_slice() {
        [] => String::new(),
        troubles => format!(" ({})", troubles.join("; ")),
    };
    format!("still {}{troubles}; kubectl tcpstates explain {} tells more", attachment.sentence(0), name.name)
}

/// By the reports of the nodes, else by the trace's own status; None where neither can be seen.
async fn look(
    cluster: &Cluster,
    name: &TraceName,
    uid: &str,
    expected: Option<&BTreeSet<String>>,
) -> Option<Attachment> {
    if let Some(expected) = expected {
        match cluster.nodes_named(expected).await {
            Ok(nodes) => return Some(of_nodes(uid, expected, &nodes)),
            Err(Failure::Forbidden(_)) => {}
            Err(_) => return None,
        }
    }
    let trace: TcpStateTrace = cluster.get(&name.path()).await.ok()?;
    of_status(&trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_within_a_second_unless_looking_takes_long() {
        let [soon, later, at_last] = [0, 500, 60_000].map(|ms| rest(Duration::from_millis(ms)));
        assert!(soon < Duration::from_secs(1), "{soon:?}");
        assert_eq!((later, at_last), (Duration::from_secs(2), EVERY_AT_MOST));
    }

    #[test]
    fn what_takes_long_is_told_with_its_reasons() {
        let name: TraceName = "a".parse().unwrap();
        let attachment = Attachment {
            tracing: 1,
            of: 2,
            troubles: vec!["b: no agent reports from there".to_owned()],
            refused: None,
        };
        assert_eq!(
            slow(Some(&attachment), &name),
            "still attached on 1 of 2 nodes (b: no agent reports from there); kubectl tcpstates explain a tells more"
        );
        assert!(slow(None, &name).contains("cannot be seen"));
    }
}
