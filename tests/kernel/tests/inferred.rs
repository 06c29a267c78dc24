//! A transition that no program got is told by those around it. The socket's record is set back, which is how it looks
//! when the kernel has skipped the program.

use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use aya::maps::{Map, MapData, SkStorage};
use kube_tcpstates_common::{socket::SocketRecord, state::State};
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::programs;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use rustix::net::sockopt;

/// `old -> new`, and what is marked.
fn shown(line: &Event) -> String {
    let has = |name: &str| line.get(&format!("tcpstates.{name}")).is_some();
    let marks = ["inferred", "gap", "state_duration_us"].into_iter().filter(|name| has(name));
    let [old, new] = ["tcpstates.old_state", "tcpstates.new_state"].map(|path| line.must(path));
    marks.fold(format!("{old} -> {new}"), |text, mark| format!("{text} {mark}"))
}

/// Makes the tracer believe that the socket is in that state.
fn set_back(tracer: &Tracer, socket: &TcpStream, state: State) {
    let id = programs::maps_of_process(tracer.pid())["SOCKET_STORAGE"];
    let map = Map::SkStorage(MapData::from_id(id).expect("the map is there"));
    let mut records: SkStorage<_, [u8; size_of::<SocketRecord>()]> = map.try_into().expect("its kind");
    let mut record = records.get(socket, 0).expect("the socket has a record");
    record[offset_of!(SocketRecord, state)] = state.0;
    records.insert(socket, record, 0).expect("put back");
}

#[test]
fn what_no_program_got_is_told_by_what_comes_before_and_after() {
    require(&[]);
    let listener = TcpListener::bind((Ipv4Addr::new(127, 77, 5, 1), 0)).expect("bind");
    let to = listener.local_addr().expect("an address");
    let tracer = Setup::json(["-D", &to.port().to_string()]).start_ready();
    let connect = || {
        let client = TcpStream::connect(to).expect("it listens");
        (client, listener.accept().expect("a connection").0)
    };

    let (client, server) = connect();
    set_back(&tracer, &client, State::SYN_SENT);
    client.shutdown(Shutdown::Write).expect("shut down");
    drop((server, client));
    let (client, server) = connect();
    sockopt::set_socket_linger(&server, Some(Duration::ZERO)).expect("set");
    drop(server);
    tracer.settle(Duration::from_millis(100));
    set_back(&tracer, &client, State::ESTABLISHED);
    drop(client);
    tracer.settle(Duration::from_millis(300));
    let finished = tracer.stop();
    let counts = finished.assert_clean();

    let lines: Vec<String> = finished.transitions().iter().map(shown).collect();
    let expected = [
        "CLOSE -> SYN_SENT",
        "SYN_SENT -> ESTABLISHED state_duration_us",
        "SYN_SENT -> ESTABLISHED inferred",
        "ESTABLISHED -> FIN_WAIT1 gap",
        "FIN_WAIT1 -> FIN_WAIT2 state_duration_us",
        "FIN_WAIT2 -> CLOSE state_duration_us",
        "CLOSE -> SYN_SENT",
        "SYN_SENT -> ESTABLISHED state_duration_us",
        "ESTABLISHED -> CLOSE state_duration_us",
        "ESTABLISHED -> CLOSE inferred state_duration_us",
    ];
    assert_eq!(lines, expected);
    let found = ["gaps", "inferred", "recursion", "exact"].map(|name| counts.get(name));
    assert_eq!(found, [2, 2, 0, 1], "{counts:?}");
}
