use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Role;

use super::{
    support::{ended, open},
    *,
};

fn sample() -> Sample {
    Sample {
        span_ns: 2_000_000_000,
        ended: vec![
            ended("web", Some(Role::Client), 443, 40, 0),
            ended("cron", Some(Role::Client), 80, 9, 9),
            ended("db", Some(Role::Server), 5432, 4, 1),
        ],
        open: Some((0..7).map(|n| open("db", Some(Role::Server), (5432, n), State::ESTABLISHED)).collect()),
        seen: 500,
        lost: 0,
    }
}

fn owners(model: &Model) -> Vec<&str> {
    model.shown().map(|(about, _)| owner(about)).collect()
}

fn model() -> Model {
    let mut model = Model::new(Sort::Open);
    model.look(&sample());
    model
}

fn press(model: &mut Model, keys: &str) {
    for character in keys.chars() {
        assert_eq!(model.press(Key::Char(character)), Act::Draw);
    }
}

#[test]
fn a_key_goes_through_the_orders() {
    let mut model = model();
    let mut seen = Vec::new();
    for _ in Sort::ALL {
        seen.push((model.sort().as_str(), owners(&model).join(" ")));
        press(&mut model, "s");
    }
    let expected = [
        ("open", "db web cron"),
        ("connections", "web cron db"),
        ("failed", "cron db web"),
        ("bytes", "web db cron"),
        ("handshake", "web db cron"),
    ];
    assert_eq!(seen, expected.map(|(sort, owners)| (sort, owners.to_owned())));
    assert_eq!(model.sort(), Sort::Open, "and begins again");
}

#[test]
fn a_text_narrows_by_owner_side_and_port_until_it_is_taken_back() {
    let mut model = model();
    press(&mut model, "/DB");
    assert_eq!((owners(&model), model.filter()), (vec!["db"], ("DB", true)));
    model.press(Key::Backspace);
    model.press(Key::Backspace);
    press(&mut model, "443");
    model.press(Key::Enter);
    assert_eq!((owners(&model), model.filter()), (vec!["web"], ("443", false)));
    // Keys mean what they meant before.
    press(&mut model, "s");
    assert_eq!(model.sort(), Sort::Connections);
    model.press(Key::Escape);
    assert_eq!(owners(&model).len(), 3);
    press(&mut model, "/server");
    assert_eq!(owners(&model), ["db"]);
}

#[test]
fn while_it_is_paused_rows_stand_still_and_losses_are_told() {
    let mut model = model();
    press(&mut model, "p");
    model.look(&Sample { lost: 3, seen: 900, ..Sample::default() });
    assert_eq!((owners(&model).len(), model.losses()), (3, (3, 900)));
    press(&mut model, "p");
    model.look(&Sample::default());
    assert!(owners(&model).is_empty());
}

#[test]
fn q_and_ctrl_c_end_it_and_a_q_that_is_written_does_not() {
    assert_eq!(model().press(Key::Char('q')), Act::Quit);
    let mut model = model();
    press(&mut model, "/q");
    assert_eq!(model.filter(), ("q", true));
    assert_eq!(model.press(Key::Interrupt), Act::Quit);
}

#[test]
fn scrolling_ends_at_the_last_row() {
    let mut model = model();
    model.press(Key::PageDown);
    assert_eq!(model.above(), 2);
    model.press(Key::Up);
    assert_eq!(model.above(), 1);
    model.press(Key::PageUp);
    assert_eq!(model.above(), 0);
}
