//! The lines of one trace for one reader, from its first to its last.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube_tcpstates_client::AbortOnDrop;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::access::{Access, Found};
use super::agents::Agents;
use super::answer::Refusal;
use super::filter::Filter;
use super::identity::Caller;
use super::merge::Next;
use super::notice::{End, Notice};
use super::outlet::{Outlet, Said};
use super::query::{Query, Subresource, Trace};
use super::readers::Reader;
use super::source::{Reading, Wanted, shown};

/// Bytes that go out together, at most; and pieces of them that wait for the reader.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 4;
/// A reader that takes nothing for so long is given up.
const STALLED_AFTER: Duration = Duration::from_mins(1);
/// How often it is asked whether the reader may still read and whether the trace still exists.
const ASKED_EVERY: Duration = Duration::from_secs(15);
/// kube-apiserver cuts off what is not called `log` after its --request-timeout, a minute unless it was told otherwise.
const SHORT: Duration = Duration::from_secs(45);
/// What agents still write of a trace that is gone comes within this: sums of what was under way.
const LAST_LINES: Duration = Duration::from_secs(3);
/// The first agent to answer must do so within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);

/// What is needed to serve.
pub(crate) struct Sources {
    /// To the API server.
    pub(crate) client: Client,
    /// Which agents there are.
    pub(crate) agents: watch::Receiver<Agents>,
    /// Who may read what.
    pub(crate) access: Access,
}

/// One reader's request.
#[derive(Clone)]
pub(crate) struct Request {
    /// Whose lines.
    pub(crate) trace: Trace,
    /// By which name.
    pub(crate) subresource: Subresource,
    /// Which of them.
    pub(crate) query: Query,
    /// For whom.
    pub(crate) caller: Caller,
}

/// The lines as they go to the reader.
pub(crate) struct Lines(mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.get_mut().0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Opens the agents' logs, and answers once the first one can be read.
pub(crate) async fn open(
    sources: &Arc<Sources>,
    request: Request,
    found: Found,
    reader: Reader,
) -> Result<Lines, Refusal> {
    let age = request.query.since.map(|since| SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX));
    let wanted = age.and_then(|age| Timestamp::now().checked_sub(age).ok());
    let (opened, mut answers) = mpsc::unbounded_channel();
    let wanted = Wanted {
        client: sources.client.clone(),
        filter: Filter::new(&request.trace),
        from: wanted.map_or(found.created, |wanted| wanted.max(found.created)),
        follow: request.query.follow,
        agents: sources.agents.clone(),
        opened,
    };
    let mut session = Session {
        sources: Arc::clone(sources),
        request,
        found,
        wanted,
        outlet: Arc::default(),
        readings: JoinSet::new(),
        known: BTreeSet::new(),
        _reader: reader,
    };
    session.meet_agents();
    let agents = session.known.len();
    if agents == 0 {
        return Err(Refusal::Unavailable("no agent runs".to_owned()));
    }
    let first = async {
        let mut why = String::new();
        for _ in 0..agents {
            match answers.recv().await {
                Some(Ok(())) => return Ok(()),
                Some(Err(reason)) => why = reason,
                None => break,
            }
        }
        Err(why)
    };
    let first = tokio::time::timeout(ANSWER_WITHIN, first).await;
    match first.unwrap_or_else(|_| Err(format!("within {} s", ANSWER_WITHIN.as_secs()))) {
        Ok(()) => {}
        Err(why) => return Err(Refusal::Unavailable(format!("no agent's log can be read: {why}"))),
    }
    let (pieces, lines) = mpsc::channel(PIECES);
    tokio::spawn(session.run(pieces));
    Ok(Lines(lines))
}

struct Session {
    sources: Arc<Sources>,
    request: Request,
    found: Found,
    wanted: Wanted,
    outlet: Arc<Outlet>,
    readings: JoinSet<()>,
    /// Pods that are read or were.
    known: BTreeSet<String>,
    _reader: Reader,
}

impl Session {
    /// Starts to read those agents that are new.
    fn meet_agents(&mut self) {
        let agents = self.wanted.agents.borrow_and_update().clone();
        for (uid, pod) in agents.iter().flat_map(|agents| agents.iter()) {
            if pod.has_log() && self.known.insert(uid.clone()) {
                let inlet = self.outlet.open(self.known.len() as u64);
                self.readings.spawn(Reading::new(self.wanted.clone(), pod.clone(), inlet).run());
            }
        }
    }

    async fn run(mut self, pieces: mpsc::Sender<Bytes>) {
        let mut piece = Vec::new();
        let (told, ends) = watch::channel(None);
        let (sources, request, found) = (Arc::clone(&self.sources), self.request.clone(), self.found.clone());
        let _asking = request.query.follow.then(|| AbortOnDrop::spawn(ask(sources, request, found, told)));
        let end = tokio::select! {
            // Nobody is there to be told.
            () = pieces.closed() => return,
            end = self.pass_on(&pieces, &mut piece, ends) => end,
        };
        let end = Notice::end(&shown(Timestamp::now()), end).line();
        add(&mut piece, &end);
        let _ = tokio::time::timeout(STALLED_AFTER, pieces.send(piece.into())).await;
    }

    /// Until nothing more is to come, or `ends` says why nothing may.
    async fn pass_on(
        &mut self,
        pieces: &mpsc::Sender<Bytes>,
        piece: &mut Vec<u8>,
        mut ends: watch::Receiver<Option<End>>,
    ) -> End {
        let mut left = self.request.query.limit;
        let follow = self.request.query.follow;
        let is_short = self.request.subresource == Subresource::Lines;
        let mut last = is_short.then(|| (Instant::now() + SHORT, End::Time));
        loop {
            let next = self.outlet.next(std::time::Instant::now());
            if let Next::Line(_, said) = &next {
                match said {
                    Said::Line(line) => {
                        add(piece, line);
                        left = left.map(|left| left.saturating_sub(1));
                    }
                    Said::Notice(line) => add(piece, line),
                }
                if left == Some(0) {
                    return End::Limit;
                }
                if piece.len() < PIECE {
                    continue;
                }
            }
            if !piece.is_empty() && !send(pieces, piece).await {
                return End::Slow;
            }
            if let Some((when, end)) = last
                && when <= Instant::now()
            {
                return end;
            }
            let ended = *ends.borrow_and_update();
            match ended {
                Some(End::Deleted) if !matches!(last, Some((_, End::Deleted))) => {
                    last = Some((Instant::now() + LAST_LINES, End::Deleted));
                }
                None | Some(End::Deleted) => {}
                Some(end) => return end,
            }
            let wake = match next {
                Next::Line(..) => continue,
                Next::End if !follow => return End::Complete,
                Next::NotBefore(when) => Some(Instant::from_std(when)),
                Next::Nothing | Next::End => None,
            };
            let wake = [wake, last.map(|(when, _)| when)].into_iter().flatten().min();
            let news = async {
                if self.wanted.agents.changed().await.is_err() || !follow {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = self.outlet.changed() => {}
                () = until(wake) => {}
                () = news => self.meet_agents(),
                Ok(()) = ends.changed() => {}
            }
        }
    }
}

/// Tells why a reader gets no more, for as long as somebody listens. Lines go on meanwhile: the API server may take its time.
async fn ask(sources: Arc<Sources>, request: Request, found: Found, told: watch::Sender<Option<End>>) {
    loop {
        tokio::time::sleep(ASKED_EVERY).await;
        if let Some(end) = ended(&sources.access, &request, &found).await {
            told.send_replace(Some(end));
        }
    }
}

/// Why the reader gets no more, if that is so. While the API server does not answer, it goes on.
async fn ended(access: &Access, request: &Request, found: &Found) -> Option<End> {
    let Request { caller, trace, subresource, .. } = request;
    if let Err(Refusal::Forbidden(_)) = access.may_read(caller, trace, *subresource).await {
        return Some(End::Forbidden);
    }
    match access.find(trace).await {
        Ok(now) if now.uid != found.uid => Some(End::Deleted),
        Err(Refusal::NoTrace(_)) => Some(End::Deleted),
        _ => None,
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Whether the reader has taken it.
async fn send(pieces: &mpsc::Sender<Bytes>, piece: &mut Vec<u8>) -> bool {
    let piece = Bytes::from(std::mem::take(piece));
    matches!(tokio::time::timeout(STALLED_AFTER, pieces.send(piece)).await, Ok(Ok(())))
}

fn add(piece: &mut Vec<u8>, line: &str) {
    piece.extend_from_slice(line.as_bytes());
    piece.push(b'\n');
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
