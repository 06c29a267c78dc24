//! The terminal while a live view is on it: raw, on its other screen, and given back however the run ends.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::top::{Key, Model, draw};

/// How long the keyboard's thread waits before it looks whether it is to end.
const KEYS_WITHIN: Duration = Duration::from_millis(100);
/// Messages that are kept until the screen is gone.
const MESSAGES: usize = 20;

/// The terminal. Dropping it gives it back; a panic does, too.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// What was pressed; `None` is another size.
    pub(super) keys: UnboundedReceiver<Option<Key>>,
    is_over: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (to, keys) = unbounded_channel();
        let screen = Self { terminal, keys, is_over: Arc::clone(&is_over) };
        thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&to, &is_over))?;
        Ok(screen)
    }

    /// Shows what there is now.
    pub(super) fn show(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, model)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        ratatui::restore();
    }
}

/// Ends with the screen, or with the terminal.
fn read_keys(to: &UnboundedSender<Option<Key>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let event = match event::poll(KEYS_WITHIN) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let told = match event {
            Ok(Event::Key(pressed)) => key(pressed).map(Some),
            Ok(Event::Resize(..)) => Some(None),
            Ok(_) => None,
            // The terminal is gone.
            Err(_) => return,
        };
        if told.is_some_and(|told| to.send(told).is_err()) {
            return;
        }
    }
}

/// What a key means, if it means anything.
fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    Some(match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(_) if pressed.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
            return None;
        }
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}

/// Diagnostics while the screen is taken: the last one is shown there, and the last few are said when it is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Messages(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<String>,
    /// What has no end yet.
    rest: String,
}

impl Messages {
    /// The last one.
    pub(super) fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.last().cloned()
    }

    /// Says them, now that stderr is to be seen.
    pub(super) fn say(&self) {
        for message in self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.drain(..) {
            crate::outlet::say(&message);
        }
    }
}

impl io::Write for Messages {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { lines, rest } = &mut *kept;
        *rest += &String::from_utf8_lossy(text);
        while let Some(end) = rest.find('\n') {
            let line: String = rest.drain(..=end).collect();
            lines.push(line.trim_end().to_owned());
        }
        lines.drain(..lines.len().saturating_sub(MESSAGES));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

    use super::{Key, MESSAGES, Messages, key};

    #[test]
    fn a_key_with_ctrl_is_no_character_and_c_with_it_ends() {
        let pressed = |code, modifiers| key(KeyEvent::new(code, modifiers));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(pressed(KeyCode::Char('q'), KeyModifiers::CONTROL), None);
        assert_eq!(pressed(KeyCode::Char('Q'), KeyModifiers::SHIFT), Some(Key::Char('Q')));
        assert_eq!(pressed(KeyCode::F(1), KeyModifiers::NONE), None);
        let released =
            KeyEvent { kind: KeyEventKind::Release, ..KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE) };
        assert_eq!(key(released), None);
    }

    #[test]
    fn the_last_messages_are_kept() {
        let mut messages = Messages::default();
        for number in 0..MESSAGES + 5 {
            writeln!(messages, "message {number}").unwrap();
        }
        assert_eq!(messages.last().as_deref(), Some("message 24"));
        assert_eq!(messages.0.lock().unwrap().lines.len(), MESSAGES);
    }
}
