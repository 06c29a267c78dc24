//! The thread that sends.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::post::{Post, Verdict};
use super::queue::{Queue, Shared, Waiting};
use super::target::OtlpTarget;
use crate::render::otlp::Batch;

/// Records of one request: about half a megabyte before it is compressed.
const RECORDS: usize = 512;
/// A record waits no longer for others to go with it.
const LINGER: Duration = Duration::from_secs(1);
/// The pause before a request is made again; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_AT_MOST: Duration = Duration::from_secs(30);

/// Starts it.
pub(super) fn start(target: OtlpTarget) -> anyhow::Result<Queue> {
    let shared = Arc::new(Shared::new(target.queue_bytes));
    let post = Post::new(target)?;
    let sending = Arc::clone(&shared);
    let thread = thread::Builder::new().name("otlp".to_owned()).spawn(move || run(&sending, &post))?;
    Ok(Queue { shared, thread })
}

fn run(shared: &Shared, post: &Post) {
    let mut troubles = Troubles::default();
    while let Some(lines) = shared.take(RECORDS, LINGER) {
        let mut batch = Batch::default();
        let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
        for waiting in &lines {
            batch.add(&waiting.line, now);
        }
        let unsaid = lines.len() as u64 - batch.records();
        if !deliver(shared, post, &batch, &lines, unsaid, &mut troubles) {
            // What waits counts as lost: the run has ended.
            return;
        }
    }
}

/// Sends until it has arrived or is refused for good. False: the run ends first.
fn deliver(
    shared: &Shared,
    post: &Post,
    batch: &Batch,
    lines: &[Waiting],
    unsaid: u64,
    troubles: &mut Troubles,
) -> bool {
    let mut pause = PAUSE;
    loop {
        match post.send(batch.request()) {
            Verdict::Arrived { refused } => {
                troubles.arrived(post.url(), refused);
                shared.settle(lines, refused + unsaid);
                return true;
            }
            Verdict::Refused { why } => {
                troubles.refused(post.url(), &why);
                shared.settle(lines, lines.len() as u64);
                return true;
            }
            Verdict::Again { after, why } => {
                troubles.failing(post.url(), &why);
                // Agents of a cluster must not come back all at once.
                let jittered = pause.mul_f64(0.5 + 0.5 * fraction());
                if !shared.pause(after.map(|after| after.min(10 * PAUSE_AT_MOST)), jittered) {
                    return false;
                }
                pause = (pause * 2).min(PAUSE_AT_MOST);
            }
        }
    }
}

/// From 0 to 1, another at each time.
fn fraction() -> f64 {
    let nanoseconds = jiff::Timestamp::now().subsec_nanosecond();
    f64::from(nanoseconds % 1_000_000) / 1_000_000.0
}

/// Says each trouble once, and its end.
#[derive(Default)]
struct Troubles {
    is_failing: bool,
    has_refused: bool,
}

impl Troubles {
    fn failing(&mut self, url: &str, why: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!("{url} takes no OpenTelemetry logs, trying again: {why}");
        }
    }

    fn refused(&mut self, url: &str, why: &str) {
        self.is_failing = false;
        if !std::mem::replace(&mut self.has_refused, true) {
            tracing::warn!("{url} refuses OpenTelemetry logs, further ones are only counted: {why}");
        }
    }

    fn arrived(&mut self, url: &str, refused: u64) {
        if refused > 0 && !std::mem::replace(&mut self.has_refused, true) {
            tracing::warn!("{url} refuses {refused} OpenTelemetry logs, further ones are only counted");
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("{url} takes OpenTelemetry logs again");
        }
    }
}
