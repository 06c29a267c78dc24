//! Talking to a running pipeline from other threads.

use std::sync::mpsc::Sender;

use super::Account;
use crate::{kernel::Waker, peers::News, plan::View};

/// Asked of the pipeline from outside.
#[derive(Debug)]
pub(super) enum Request {
    /// Finish.
    Stop(Stop),
    /// Say the counts on stderr.
    Summary,
    /// Write a heartbeat line.
    Heartbeat,
    /// Trace by this from now on.
    View(Box<View>),
    /// Who has which address.
    News(Box<News>),
    /// Tell everything.
    Account(tokio::sync::oneshot::Sender<Account>),
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing stays attached.
    ForGood,
    /// What is pinned stays, for the next run.
    AnotherGoesOn,
}

/// Talks to a running pipeline.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: Sender<Request>,
    pub(super) waker: Waker,
}

impl Handle {
    fn ask(&self, request: Request) {
        // A pipeline that is gone has said its last word already.
        let _ = self.requests.send(request);
        self.waker.wake();
    }

    /// Has it look at what waits for it.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Ends it: everything captured is written or counted.
    pub fn stop(&self, stop: Stop) {
        self.ask(Request::Stop(stop));
    }

    /// Has it say the counts on stderr.
    pub fn summary(&self) {
        self.ask(Request::Summary);
    }

    /// Has it write a heartbeat line.
    pub fn heartbeat(&self) {
        self.ask(Request::Heartbeat);
    }

    /// Has it trace by another view.
    pub fn view(&self, view: View) {
        self.ask(Request::View(Box::new(view)));
    }

    /// Tells it who has which address.
    pub fn news(&self, news: News) {
        self.ask(Request::News(Box::new(news)));
    }

    /// Asks for its counts. The answer never comes from a pipeline that has ended.
    pub fn account(&self) -> tokio::sync::oneshot::Receiver<Account> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.ask(Request::Account(sender));
        receiver
    }
}
