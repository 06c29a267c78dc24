//! Reads the log of one agent for one reader: what there is, and with `follow` what comes, over restarts of the container
//! and rotations of its file.

use std::pin::pin;
use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use kube_tcpstates_client::reason_of;
use kube_tcpstates_events::other_format;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::account::{Account, Seen};
use super::agents::{AgentPod, Agents, CONTAINER};
use super::filter::{self, Filter, Head};
use super::notice::{Missing, Notice};
use super::outlet::{Inlet, Said};

/// An agent that does not answer holds up those who follow no longer.
const OPENED_WITHIN: Duration = Duration::from_secs(2);
/// A log that has nothing for so long has shown all that there was.
const CAUGHT_UP_AFTER: Duration = Duration::from_secs(1);
/// One in which lines come all the time has, when it comes to what was written since it was opened. Clocks differ, so at the
/// latest after this.
pub(super) const CAUGHT_UP_AT_LATEST: Duration = Duration::from_secs(5);
/// Before a log is opened again, the first time; and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Kubelets before 1.28 go on to follow a file that was rotated away, and nothing comes any more. So a log that is silent
/// for so long is opened again, and where that brings nothing new ever more rarely, up to the time between two heartbeats.
const SILENT_AFTER: (Duration, Duration) = (Duration::from_secs(4), Duration::from_mins(1));
const LESS_OFTEN: u32 = 4;
/// A container that has just ended is not known to run again yet, so only what fails so often is told.
const TOLD_AFTER: u32 = 4;
/// More than a line has.
const FIRST_LINE_BYTES: i64 = 8192;

/// What is read, and for whom.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// To the API server.
    pub(crate) client: Client,
    /// Whose lines.
    pub(crate) filter: Filter,
    /// None that are older.
    pub(crate) from: Timestamp,
    /// Those to come as well.
    pub(crate) follow: bool,
    /// Which agents there are.
    pub(crate) agents: watch::Receiver<Agents>,
    /// Told once of each agent, whether its log can be read.
    pub(crate) opened: mpsc::UnboundedSender<Result<(), String>>,
}

/// One agent's log.
pub(crate) struct Reading {
    wanted: Wanted,
    pods: Api<Pod>,
    pod: AgentPod,
    inlet: Inlet,
    account: Account,
    /// Where to go on, by the clock of the container's runtime.
    last: Timestamp,
    /// How long to wait for a line that is to come.
    silence: Duration,
    has_told: bool,
    /// That the agent writes another format.
    has_told_format: bool,
}

/// Why a log was read no further.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There was no more.
    Closed,
    /// There may be more elsewhere.
    Silent,
}

/// Which start of the container, and for how long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Previous,
    Current,
}

impl Reading {
    /// Nothing is read yet.
    pub(crate) fn new(wanted: Wanted, pod: AgentPod, inlet: Inlet) -> Self {
        let pods = Api::default_namespaced(wanted.client.clone());
        let last = wanted.from;
        let silence = SILENT_AFTER.0;
        Self {
            wanted,
            pods,
            pod,
            inlet,
            account: Account::default(),
            last,
            silence,
            has_told: false,
            has_told_format: false,
        }
    }

    /// Reads until there is no more, or the pod is gone.
    pub(crate) async fn run(mut self) {
        let runs_since = self.pod.started.unwrap_or(Timestamp::MAX);
        if self.pod.restarts > 0 && runs_since > self.wanted.from {
            if !self.tell_of_rotation(Pass::Previous).await {
                // Nothing is left of it, which shows at the beginning of the current one.
                self.tell_of_rotation(Pass::Current).await;
            }
            // What cannot be read of it shows as a run without an end.
            let _ = self.pass(Pass::Previous).await;
        } else {
            self.tell_of_rotation(Pass::Current).await;
        }
        let mut failures = 0;
        loop {
            let passed = self.pass(Pass::Current).await;
            match &passed {
                Ok(_) => failures = 0,
                Err(why) => {
                    failures += 1;
                    let is_told = if self.wanted.follow { failures == TOLD_AFTER } else { true };
                    if is_told {
                        self.answer(Err(why.clone()));
                        self.tell(now(), Missing::Unreadable { text: why.clone() }).await;
                    }
                    if self.wanted.follow {
                        self.inlet.catch_up();
                    }
                }
            }
            if !self.wanted.follow {
                return;
            }
            let pause = AGAIN_AFTER.0 * 2_u32.pow(failures.min(6));
            if self.is_gone_within(pause.min(AGAIN_AFTER.1)).await {
                break;
            }
            if passed != Ok(Ended::Silent) && self.account.close().is_some() {
                // The container may have ended before all of its log was read.
                let _ = self.pass(Pass::Previous).await;
            }
        }
        if let Some(missing) = self.account.close() {
            self.tell(now(), missing).await;
        }
    }

    /// Whether the pod does not exist any more.
    async fn is_gone_within(&mut self, pause: Duration) -> bool {
        let uid = self.pod.uid.clone();
        let gone = self
            .wanted
            .agents
            .wait_for(move |agents| agents.as_ref().is_some_and(|agents| !agents.contains_key(&uid)));
        tokio::time::timeout(pause, gone).await.is_ok()
    }

    /// Says so when the file begins later than what is asked for. False where it has no line that tells.
    async fn tell_of_rotation(&mut self, pass: Pass) -> bool {
        let parameters = LogParams { limit_bytes: Some(FIRST_LINE_BYTES), ..self.parameters(pass) };
        let first = LogParams { since_time: None, follow: false, ..parameters };
        let Ok(stream) = self.pods.log_stream(&self.pod.name, &first).await else { return false };
        let mut stream = pin!(stream);
        let mut line = Vec::new();
        // The first lines may be diagnostics, which have no number.
        while let Some((_, text)) = next_line(&mut stream, &mut line).await.ok().flatten() {
            let Some(head) = Head::of(text) else { continue };
            let Some(seq) = head.seq else { continue };
            let earlier_starts = self.pod.restarts > i32::from(pass == Pass::Previous);
            let is_late = head.time.parse::<Timestamp>().is_ok_and(|time| time > self.wanted.from);
            if is_late && (seq > 1 || earlier_starts) {
                let from = head.time.into_owned();
                self.tell(self.wanted.from, Missing::Rotated { from }).await;
            }
            return true;
        }
        false
    }

    fn parameters(&self, pass: Pass) -> LogParams {
        LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: self.wanted.follow && pass == Pass::Current,
            previous: pass == Pass::Previous,
            since_time: Some(self.last),
            timestamps: true,
            ..LogParams::default()
        }
    }

    async fn open(&self, pass: Pass) -> Result<impl AsyncBufRead + use<>, String> {
        let parameters = self.parameters(pass);
        let mut opening = pin!(self.pods.log_stream(&self.pod.name, &parameters));
        let soon = tokio::time::timeout(OPENED_WITHIN, opening.as_mut()).await;
        if soon.is_err() && self.wanted.follow {
            self.inlet.catch_up();
        }
        let opened = if let Ok(opened) = soon { opened } else { opening.await };
        opened.map_err(|error| reason_of(&error))
    }

    /// Reads one start's log to its end. What it has shown before is dropped.
    async fn pass(&mut self, pass: Pass) -> Result<Ended, String> {
        let mut stream = pin!(self.open(pass).await?);
        self.answer(Ok(()));
        let (opened, begun) = (now(), Instant::now());
        let follows = self.wanted.follow && pass == Pass::Current;
        let mut line = Vec::new();
        let mut has_caught_up = false;
        loop {
            let mut read = pin!(next_line(&mut stream, &mut line));
            let soon = if has_caught_up || pass == Pass::Previous {
                None
            } else {
                tokio::time::timeout(CAUGHT_UP_AFTER, read.as_mut()).await.ok()
            };
            let read = if let Some(read) = soon {
                read
            } else if follows {
                has_caught_up = true;
                self.inlet.catch_up();
                let Ok(read) = tokio::time::timeout(self.silence, read).await else {
                    self.silence = SILENT_AFTER.1.min(self.silence * LESS_OFTEN);
                    return Ok(Ended::Silent);
                };
                read
            } else {
                read.await
            };
            let Some((stamp, text)) = read.map_err(|error| error.to_string())? else { break };
            let is_news = stamp.is_some_and(|stamp| stamp >= opened);
            if follows && !has_caught_up && (is_news || begun.elapsed() >= CAUGHT_UP_AT_LATEST) {
                has_caught_up = true;
                self.inlet.catch_up();
            }
            self.take(stamp, text).await;
        }
        if follows {
            self.inlet.catch_up();
        }
        Ok(Ended::Closed)
    }

    /// A line of the log: what of it the reader gets.
    async fn take(&mut self, stamp: Option<Timestamp>, line: &str) {
        if let Some(stamp) = stamp.filter(|stamp| *stamp > self.last) {
            self.last = stamp;
            self.silence = SILENT_AFTER.0;
        }
        let Some(head) = Head::of(line) else { return self.tell_of_format(stamp, line).await };
        let Ok(time) = head.time.parse::<Timestamp>() else { return };
        let Seen::New(missing) = self.account.see(&head) else { return };
        for missing in missing {
            self.tell(time, missing).await;
        }
        match &*head.kind {
            "lost" => {
                let total = self.wanted.filter.lost(line);
                if let Some(missing) = total.and_then(|total| self.account.lost(&head, total)) {
                    self.tell(time, missing).await;
                }
            }
            "heartbeat" if filter::is_final(line) => self.account.finish(&head),
            _ if time >= self.wanted.from => {
                if let Some(line) = self.wanted.filter.pass(line) {
                    self.inlet.put(time, Said::Line(line)).await;
                } else if let Some(missing) =
                    self.account.unnamed(&head, || self.wanted.filter.may_leave_it_out(line))
                {
                    self.tell(time, missing).await;
                }
            }
            _ => {}
        }
    }

    /// Tells once that the agent writes what nobody reads here.
    async fn tell_of_format(&mut self, stamp: Option<Timestamp>, line: &str) {
        let Some(format) = other_format(line).filter(|_| !self.has_told_format) else { return };
        self.has_told_format = true;
        let text = format!("the agent writes {format} (--output); only json can be read here");
        self.tell(stamp.unwrap_or_else(now), Missing::Unreadable { text }).await;
    }

    async fn tell(&self, time: Timestamp, missing: Missing) {
        let notice = Notice::missing(&shown(time), &self.pod.node, missing);
        self.inlet.put(time, Said::Notice(notice.line())).await;
    }

    /// Tells once how the first attempt went.
    fn answer(&mut self, how: Result<(), String>) {
        if !std::mem::replace(&mut self.has_told, true) {
            // Nobody waits for it once another agent has answered.
            let _ = self.wanted.opened.send(how.map_err(|why| format!("{}: {why}", self.pod.node)));
        }
    }
}

/// The next line, with the time at which the runtime got it. What is not UTF-8 is no line of an agent.
async fn next_line<'a>(
    stream: &mut (impl AsyncBufRead + Unpin),
    buffer: &'a mut Vec<u8>,
) -> std::io::Result<Option<(Option<Timestamp>, &'a str)>> {
    buffer.clear();
    if stream.read_until(b'\n', buffer).await? == 0 {
        return Ok(None);
    }
    let text = str::from_utf8(buffer).unwrap_or_default().trim_end_matches('\n');
    let (stamp, line) = text.split_once(' ').unwrap_or(("", text));
    Ok(Some((stamp.parse().ok(), line)))
}

/// As lines have it.
pub(crate) fn shown(time: Timestamp) -> String {
    format!("{time:.9}")
}

fn now() -> Timestamp {
    Timestamp::now()
}
