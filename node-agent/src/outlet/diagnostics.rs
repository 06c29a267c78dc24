//! Diagnostics as lines of the stream: `kubectl logs` mixes stdout and stderr, so what the agent has to say of itself
//! is JSON too. While a pipeline runs they go through its queue, between whole lines; before and after straight to
//! stdout.

use std::{
    fmt::Write as _,
    io,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use kube_tcpstates_events::{Level, Line, Log, LogAttributes, SchemaId};
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::Context};

use crate::render::{Format, time::rfc3339};

/// Diagnostics that may wait for the pipeline. What finds no room is dropped: events matter more.
const WAITING: usize = 1_024;

/// Where diagnostics go, shared by everybody who has some.
#[derive(Clone)]
pub struct Diagnostics {
    run: String,
    format: Arc<dyn Format>,
    route: Arc<Mutex<Route>>,
}

type Wake = Box<dyn Fn() + Send>;

enum Route {
    /// Nobody else writes to stdout.
    Straight,
    /// To the pipeline, which gives them to the outlets.
    Pipeline(SyncSender<Log>, Option<Wake>),
}

impl Diagnostics {
    /// In the format of the lines.
    pub fn new(run: String, format: Arc<dyn Format>) -> Self {
        Self { run, format, route: Arc::new(Mutex::new(Route::Straight)) }
    }

    /// From here on they wait for a pipeline, which takes them from the receiver.
    pub fn through_pipeline(&self) -> Receiver<Log> {
        let (sender, receiver) = sync_channel(WAITING);
        *self.lock() = Route::Pipeline(sender, None);
        receiver
    }

    /// How to tell the pipeline that something waits.
    pub fn wake_by(&self, wake: impl Fn() + Send + 'static) {
        if let Route::Pipeline(_, waker) = &mut *self.lock() {
            *waker = Some(Box::new(wake));
        }
    }

    /// The pipeline writes no more; what it left is in the receiver it dropped.
    pub fn straight(&self) {
        *self.lock() = Route::Straight;
    }

    /// Says something.
    pub fn say(&self, level: Level, text: String) {
        let log = self.log(level, text);
        match &*self.lock() {
            Route::Straight => self.write_straight(log),
            Route::Pipeline(sender, wake) => {
                if sender.try_send(log).is_ok()
                    && let Some(wake) = wake
                {
                    wake();
                }
            }
        }
    }

    /// Says it at once, whoever else may be writing: for a panic, after which nobody may come to write it.
    pub fn say_at_once(&self, level: Level, text: String) {
        self.write_straight(self.log(level, text));
    }

    fn log(&self, level: Level, text: String) -> Log {
        let tcpstates = LogAttributes { schema: SchemaId::V1, run: self.run.clone(), level, text };
        Log { time: now(), tcpstates }
    }

    /// A line is at most as long as a pipe takes whole.
    fn write_straight(&self, log: Log) {
        let mut line = Vec::new();
        self.format.line(&mut line, &Line::Log(log));
        let stdout = io::stdout();
        // Nobody to tell if it fails.
        let _ = rustix::io::write(stdout.as_fd(), &line);
    }

    /// A thread that panicked with the lock left the route whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0)))
}

impl<S: tracing::Subscriber> Layer<S> for Diagnostics {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        self.say(level, text.message + &text.fields);
    }
}

/// The message and, behind it, the fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_tcpstates_events::Level;
    use tracing_subscriber::prelude::*;

    use super::Diagnostics;
    use crate::render::{FormatOptions, format};

    fn diagnostics() -> Diagnostics {
        let json = format("json").unwrap();
        Diagnostics::new("5f0c2a91".to_owned(), Arc::from((json.make)(&FormatOptions::default())))
    }

    #[test]
    fn what_is_said_is_a_line_of_the_stream_with_its_fields() {
        let diagnostics = diagnostics();
        let waiting = diagnostics.through_pipeline();
        let subscriber = tracing_subscriber::registry().with(diagnostics);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(code = 403, "the watch is \"broken\"");
        });
        let log = waiting.try_recv().unwrap().tcpstates;
        assert_eq!((log.level, log.text.as_str()), (Level::Warn, "the watch is \"broken\" code=403"));
        assert_eq!(log.run, "5f0c2a91");
    }

    #[test]
    fn whoever_waits_for_it_is_woken_and_nobody_waits_for_room() {
        let diagnostics = diagnostics();
        let waiting = diagnostics.through_pipeline();
        let (sender, woken) = std::sync::mpsc::channel();
        diagnostics.wake_by(move || {
            let _ = sender.send(());
        });
        for n in 0..super::WAITING + 10 {
            diagnostics.say(Level::Info, n.to_string());
        }
        assert_eq!(waiting.try_iter().count(), super::WAITING);
        assert_eq!(woken.try_iter().count(), super::WAITING);
    }
}
