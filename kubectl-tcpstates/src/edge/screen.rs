//! stdout and stderr. Lines go to the first, all that is said about them to the second.

use std::io::{ErrorKind, Write as _, stderr, stdout};

use kube_tcpstates_events::Line;

use crate::args::Output;
use crate::paint::{Colour, Paint};
use crate::table::{Rows, safe};
use crate::trouble::Trouble;

/// What a command shows.
pub(crate) struct Screen {
    output: Output,
    rows: Rows,
    errors: Paint,
    /// Lines shown.
    pub(crate) shown: u64,
}

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reader {
    /// Yes.
    There,
    /// No: `head` has had enough.
    Gone,
}

impl Screen {
    /// In this form.
    pub(crate) fn new(output: Output) -> Self {
        let rows = Rows::new(output == Output::Wide, Paint::of(&stdout()));
        Self { output, rows, errors: Paint::of(&stderr()), shown: 0 }
    }

    /// Colours of tables.
    pub(crate) fn paint() -> Paint {
        Paint::of(&stdout())
    }

    /// A line of a trace, as the agent wrote it and as it was understood.
    pub(crate) fn line(&mut self, text: &str, line: &Line) -> Result<Reader, Trouble> {
        let mut out = Vec::new();
        if self.output == Output::Json {
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        } else if !self.rows.line(&mut out, line) {
            return Ok(Reader::There);
        }
        self.shown += 1;
        write(&out)
    }

    /// Something about the lines that is no trouble.
    #[expect(clippy::unused_self, reason = "where it is said belongs to the screen")]
    pub(crate) fn say(&self, text: &str) {
        // Whoever closed stderr does not want to know.
        let _ = writeln!(stderr(), "{}", safe(text));
    }

    /// Something is missing or does not work.
    pub(crate) fn warn(&self, text: &str) {
        let _ = writeln!(stderr(), "{}", self.errors.colour(Colour::Yellow, &safe(text)));
    }
}

/// Writes to stdout.
pub(crate) fn write(bytes: &[u8]) -> Result<Reader, Trouble> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Trouble::new(format!("cannot write to stdout: {error}"))),
    }
}
