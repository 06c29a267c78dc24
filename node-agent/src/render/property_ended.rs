//! Lines of connections against their type, over random figures; and how long they can become.

use kube_tcpstates_common::record::Figures;
use kube_tcpstates_events::Line;
use proptest::prelude::*;
use serde_json::Value;

use super::property::{Sample, assert_sound, assert_sound_below, sample, worst, written_by_hand};
use super::{
    Ecs, FORMATS, Format as _, FormatOptions, Json, MAX_LINE, TextOptions, ended::Ended, fixtures::Fixture,
};
use crate::connection::{OfKernel, Story};
use crate::decode::Transition;

fn figures() -> impl Strategy<Value = Figures> {
    prop::collection::vec(any::<u8>(), size_of::<Figures>())
        .prop_map(|bytes| bytemuck::pod_read_unaligned(&bytes))
}

/// The story of a fixture's transition, with these figures.
fn story(fixture: &mut Fixture, figures: Figures) -> Story {
    fixture.transition = Transition { figures: Some(figures), ..fixture.transition };
    Story::of(&fixture.transition, OfKernel { jiffy_ns: 4_000_000, resets_watched: true })
        .expect("there are figures")
}

fn ended(story: &Story, unix_ns: u64) -> Ended<'_> {
    let listener = story.listener.map(|(socket, birth_ns)| socket ^ birth_ns);
    Ended { story, start_ns: unix_ns, listener, brief: false }
}

proptest! {
    #[test]
    fn a_line_is_what_its_type_reads_and_writes(sample in sample(), figures in figures(), seq in any::<u64>()) {
        let mut fixture = Sample::fixture(&sample);
        let story = story(&mut fixture, figures);
        let mut out = Vec::new();
        Json::new(1).connection(&mut out, seq, &fixture.event(), &ended(&story, fixture.unix_ns));
        let text = assert_sound(&out);
        let line: Line = serde_json::from_str(&text).unwrap();
        let Line::Connection(connection) = &line else { panic!("{text}") };
        prop_assert_eq!(connection.tcpstates.outcome, story.ending.outcome);
        prop_assert_eq!(connection.tcpstates.duration_us, story.duration_ns / 1000);
        let sent = connection.tcpstates.sent.map(|sent| sent.bytes);
        prop_assert_eq!(sent, story.socket.map(|socket| socket.sent.bytes));
        // Nothing stands on the line that the types do not know.
        prop_assert_eq!(serde_json::to_value(&line).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
    }

    #[test]
    fn an_ecs_line_has_the_same_under_tcpstates(sample in sample(), figures in figures()) {
        let mut fixture = Sample::fixture(&sample);
        let story = story(&mut fixture, figures);
        let (mut json, mut ecs) = (Vec::new(), Vec::new());
        let ended = ended(&story, fixture.unix_ns);
        Json::new(1).connection(&mut json, 7, &fixture.event(), &ended);
        Ecs::new(1).connection(&mut ecs, 7, &fixture.event(), &ended);
        assert_sound(&ecs);
        let [json, ecs]: [Value; 2] = [json, ecs].map(|line| serde_json::from_slice(&line).unwrap());
        let names = ["outcome", "cause", "closed_by", "sent", "received", "states", "start", "listener", "idle_us"];
        for name in names {
            prop_assert_eq!(&json["tcpstates"][name], &ecs["tcpstates"][name]);
        }
        prop_assert_eq!(&ecs["event"]["duration"], &story.duration_ns);
        prop_assert_eq!(&ecs["network"]["community_id"], &json["tcpstates"]["connection"]["community_id"]);
    }

    #[test]
    fn columns_have_one_line_each_with_nothing_in_it_that_acts(sample in sample(), figures in figures()) {
        let mut fixture = Sample::fixture(&sample);
        let story = story(&mut fixture, figures);
        for wide in [false, true] {
            let text = TextOptions { wide, mode: crate::filter::Mode::Connections, ..TextOptions::default() };
            for format in FORMATS.iter().filter(|format| format.columns) {
                let mut out = Vec::new();
                let mut format = (format.make)(&FormatOptions { text: text.clone(), run: 0 });
                format.connection(&mut out, 1, &fixture.event(), &ended(&story, fixture.unix_ns));
                assert_sound(&out);
            }
        }
    }
}

#[test]
fn the_longest_line_there_can_be_is_under_the_bound_in_every_format() {
    let bytes = [u8::MAX; size_of::<Figures>()];
    for peer in [true, false] {
        let mut fixture = worst();
        fixture.peer = fixture.peer.filter(|_| peer);
        let story = story(&mut fixture, bytemuck::pod_read_unaligned(&bytes));
        let text = TextOptions {
            wide: true,
            since_first: true,
            mode: crate::filter::Mode::Connections,
            ..TextOptions::default()
        };
        for entry in FORMATS {
            let mut out = Vec::new();
            let mut format = (entry.make)(&FormatOptions { text: text.clone(), run: u32::MAX });
            format.connection(&mut out, u64::MAX, &fixture.event(), &ended(&story, u64::MAX));
            assert_sound_below(entry.longest, &out);
        }
    }
}

#[test]
fn in_steady_state_a_document_takes_no_allocation() {
    let mut fixture = Fixture::client();
    let bytes = [1; size_of::<Figures>()];
    let story = story(&mut fixture, bytemuck::pod_read_unaligned(&bytes));
    for format in FORMATS.iter().filter(|format| written_by_hand(format)) {
        let mut format = (format.make)(&FormatOptions::default());
        let mut out = Vec::with_capacity(2 * MAX_LINE);
        let mut line = || {
            out.clear();
            format.connection(&mut out, 1, &fixture.event(), &ended(&story, fixture.unix_ns));
        };
        line();
        assert_eq!(allocation_counter::measure(line).count_total, 0);
    }
}
