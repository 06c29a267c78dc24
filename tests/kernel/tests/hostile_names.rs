//! Whoever may name a thread may not break a line, a table or a terminal.

use std::net::SocketAddr;
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::{Line, Row};
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup};
use kube_tcpstates_kernel_tests::workload::Ending;

/// At most 15 bytes each, as the kernel keeps them.
const NAMES: &[&[u8]] = &[
    b"\"}],\"seq\":\"0",
    b"line\nbreak\r\n",
    b"\x1b[31mred\x1b[2J",
    b"\x1b]0;title\x07",
    b"\xff\xfe\x80bad\xc3",
    b"\xc2\x9b31mC1",
    b"\x7f\x08\x08\x01\x1f",
    b"comma,\"quote\",",
    b"back\\slash\\\"\\",
    b"\xf0\x9f\x92\xa5\xe2\x80\xae\xe2\x80\xa8",
    b"   ",
    b"=cmd|'/c'!A1",
];

#[test]
fn every_json_line_parses_and_is_one_line() {
    for format in ["json", "ecs"] {
        let finished = trace_names(&["-o", format]);
        let events = finished.events();
        println!("{format}: {} lines", events.len());
        let transitions = finished.lines.iter().filter(|line| contains(&line.text, b"SYN_SENT")).count();
        assert!(transitions >= 2 * NAMES.len(), "{transitions} lines for {} connections", NAMES.len());
        assert_no_control_byte(&finished.lines);
    }
}

/// The name is data: it comes out of the parser as it went in, as far as text can hold it.
#[test]
fn a_name_survives_as_far_as_it_is_text() {
    let finished = trace_names(&["-o", "json"]);
    let seen: Vec<String> = finished
        .transitions()
        .iter()
        .filter_map(|event| event.text("thread.name").map(str::to_owned))
        .collect();
    println!("{seen:?}");
    for plain in ["back\\slash\\\"\\", "comma,\"quote\","] {
        assert!(seen.iter().any(|name| name == plain), "{plain:?} is not among {seen:?}");
    }
}

#[test]
fn the_tables_show_no_raw_control_byte() {
    for options in [&["-o", "table"][..], &["-w"], &["-w", "-T"], &["-t"]] {
        let finished = trace_names(options);
        println!("{options:?}: {} lines", finished.lines.len());
        assert!(finished.lines.len() > 10 * NAMES.len(), "{} lines", finished.lines.len());
        assert_no_control_byte(&finished.lines);
    }
}

#[test]
fn a_csv_row_keeps_its_columns() {
    let finished = trace_names(&["-s"]);
    assert_no_control_byte(&finished.lines);
    let rows = finished.lines.iter().filter_map(|line| Row::parse(line.text())).count();
    assert!(rows >= 10 * NAMES.len(), "{rows} rows");
}

/// One connection by a thread of each name.
fn trace_names(options: &[&str]) -> Finished {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let mut arguments: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    arguments.extend(scene.only_this());
    let tracer = Setup::trace(arguments).start_ready();
    let mut client = Puppet::start(&scene.client_place());
    let to: SocketAddr = scene.address();
    for name in NAMES {
        client.rename(name);
        client.connect("socket", to).expect("the server listens");
        client.close("socket");
    }
    scene.server.wait_for(u64::try_from(NAMES.len()).expect("it fits"));
    tracer.settle(Duration::from_millis(300));
    let finished = tracer.stop();
    finished.assert_clean();
    finished
}

/// C0 (with the line feed taken off), DEL, and C1 as UTF-8 encodes it.
fn assert_no_control_byte(lines: &[Line]) {
    for line in lines {
        let raw = line.text().chars().find(|letter| letter.is_control());
        assert_eq!(raw, None, "a control character in {:?}", line.text());
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
