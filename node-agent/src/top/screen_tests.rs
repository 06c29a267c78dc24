use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Role;
use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::draw;
use crate::top::{
    Key, Model, Sample, Sort,
    model::support::{ended, open},
    plain,
};

fn model(lost: u64) -> Model {
    let mut model = Model::new(Sort::Connections);
    let client = |port, state| open("4f1e0c9a7b21", Some(Role::Client), (port, 443), state);
    model.look(&Sample {
        span_ns: 2_000_000_000,
        ended: vec![
            ended("4f1e0c9a7b21", Some(Role::Client), 443, 200, 20),
            ended("nginx.service", Some(Role::Server), 8_080, 7, 0),
        ],
        open: Some(vec![
            client(1, State::ESTABLISHED),
            client(2, State::ESTABLISHED),
            client(3, State::SYN_SENT),
            open("4f1e0c9a7b21", None, (4, 443), State::TIME_WAIT),
        ]),
        seen: 2_070,
        lost,
    });
    model
}

/// The screen, line by line, without what is empty at the ends of lines.
fn screen(model: &Model, (width, height): (u16, u16)) -> (Vec<String>, Vec<Color>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines = (0..height).map(|y| line(y).trim_end().to_owned()).collect();
    (lines, (0..height).map(|y| buffer[(0, y)].fg).collect())
}

#[test]
fn a_screen_has_sums_losses_rows_and_keys() {
    let (lines, colors) = screen(&model(0), (120, 8));
    assert_eq!(
        lines,
        [
            "2 rows in 2.0 s: 3 open, 103 connections/s, 10.0 failed/s, 196k bytes/s",
            "lost: 0 of 2070 transitions; sorted by connections",
            "OWNER              SIDE   PEER                    PORT  OPEN   SYN CLOSW   FIN TIMEW CONN/S FAIL/S BYTES/S HS-P50 HS-P99",
            "4f1e0c9a7b21       client 10.0.0.9                 443     2     1     0     0     1    100   10.0    189k  800us  800us",
            "nginx.service      server 10.0.0.9                8080     0     0     0     0     0    3.5    0.0    7350  800us  800us",
            "",
            "",
            "q quit  s sort  / filter  p pause  arrows scroll",
        ]
    );
    assert_eq!((colors[1], colors[3], colors[4]), (Color::Reset, Color::Yellow, Color::Reset));
}

#[test]
fn losses_and_messages_are_seen() {
    let mut model = model(12);
    model.say(Some("what is open cannot be looked at".to_owned()));
    model.press(Key::Char('p'));
    let (lines, colors) = screen(&model, (120, 8));
    assert_eq!(lines[1], "lost: 12 of 2070 transitions; sorted by connections, PAUSED");
    assert_eq!((colors[1], &*lines[7]), (Color::Red, "what is open cannot be looked at"));
    model.press(Key::Char('/'));
    model.press(Key::Char('g'));
    let (lines, _) = screen(&model, (120, 8));
    assert_eq!(
        (&*lines[0], &*lines[7]),
        ("1 rows in 2.0 s: 0 open, 3.5 connections/s, 0.0 failed/s, 7350 bytes/s", "filter: g_")
    );
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    for size in [(1, 1), (3, 2), (40, 5), (80, 24), (400, 100)] {
        let (lines, _) = screen(&model(0), size);
        assert_eq!(lines.len(), usize::from(size.1));
    }
    let (wide, _) = screen(&model(0), (160, 8));
    assert!(wide[3].ends_with("800us") && wide[3].chars().count() == 160, "{wide:?}");
}

#[test]
fn scrolled_rows_are_above_the_screen() {
    let mut model = model(0);
    model.press(Key::Down);
    let (lines, _) = screen(&model, (120, 8));
    assert!(lines[3].starts_with("nginx.service"), "{lines:?}");
}

#[test]
fn a_plain_table_has_no_colors_and_no_keys() {
    let text = plain(&model(0));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[1], "lost: 0 of 2070 transitions");
    assert!(lines[3].starts_with("4f1e0c9a7b21       client 10.0.0.9"), "{text}");
}

#[test]
fn where_it_cannot_be_told_what_is_open_nothing_is_said_of_it() {
    let mut model = Model::new(Sort::Open);
    model.look(&Sample { ended: vec![ended("web", None, 0, 1, 0)], ..Sample::default() });
    let text = plain(&model);
    assert!(text.starts_with("1 rows in 0.0 s: - open, 0.0 connections/s"), "{text}");
    assert!(text.lines().last().unwrap().contains(" -     -     -     -     -     -"), "{text}");
}
