//! Colours, where somebody looks: on a terminal, unless `NO_COLOR` or `TERM=dumb` says otherwise.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Whether colours are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paint(bool);

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Not at all.
    None,
    /// A head.
    Bold,
    /// What went wrong.
    Red,
    /// What is missing.
    Yellow,
}

impl Paint {
    /// For a stream of this process.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let variable = |name| std::env::var_os(name);
        Self::new(stream.is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    fn new(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        // https://no-color.org: when it is there and not empty.
        Self(is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb"))
    }

    /// The text in a colour.
    pub(crate) fn colour(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            _ if !self.0 => return text.to_owned(),
            Colour::None => return text.to_owned(),
            Colour::Bold => "1",
            Colour::Red => "31",
            Colour::Yellow => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let of = |terminal, no_color: Option<&str>, term: Option<&str>| {
            Paint::new(terminal, no_color.map(OsStr::new), term.map(OsStr::new)).colour(Colour::Red, "a")
        };
        assert_eq!(of(true, None, Some("xterm")), "\x1b[31ma\x1b[0m");
        assert_eq!(of(true, Some(""), None), "\x1b[31ma\x1b[0m");
        for (terminal, no_color, term) in
            [(false, None, Some("xterm")), (true, Some("1"), Some("xterm")), (true, None, Some("dumb"))]
        {
            assert_eq!(of(terminal, no_color, term), "a");
        }
        assert_eq!(Paint(true).colour(Colour::None, "a"), "a");
    }
}
