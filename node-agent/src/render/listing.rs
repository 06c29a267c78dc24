//! What is open, for `list`: the lines of one snapshot as documents, as a table of at most 120 columns, or as CSV.

use kube_tcpstates_events::{
    Container, Endpoint, K8s, Line, Listener, Network, NetworkType, OpenAttributes, Process, Shown, Snapshot,
    Socket, Thread, TimeWait,
};

use kube_tcpstates_events::terminal::short_time;

use super::{FormatEntry, FormatOptions, csv, escape::terminal};

/// Appends the lines of a snapshot in a format.
pub fn render(out: &mut Vec<u8>, format: &FormatEntry, lines: &[Line]) {
    match format.name {
        "table" => table(out, lines),
        "csv" => comma_separated(out, lines),
        _ => {
            let format = (format.make)(&FormatOptions::default());
            for line in lines {
                format.line(out, line);
            }
        }
    }
}

/// A column of a table.
struct Column {
    name: &'static str,
    width: usize,
    /// Numbers stand at its right.
    right: bool,
}

const fn left(name: &'static str, width: usize) -> Column {
    Column { name, width, right: false }
}

const fn right(name: &'static str, width: usize) -> Column {
    Column { name, width, right: true }
}

/// Width of an address with its port.
const END: usize = 24;

const CONNECTIONS: [Column; 9] = [
    left("STATE", 11),
    left("LOCAL", END),
    left("PEER", END),
    right("IDLE", 6),
    right("UNREAD", 7),
    right("UNSENT", 7),
    right("RT", 2),
    left("OWNER", 12),
    left("PROCESS", 18),
];

const LISTENERS: [Column; 9] = [
    left("STATE", 11),
    left("LOCAL", END),
    right("QUEUE", 6),
    right("LIMIT", 6),
    right("DROPS", 8),
    right("OPENING", 7),
    right("ACKED", 6),
    left("OWNER", 12),
    left("PROCESS", 18),
];

const PASSED: [Column; 5] =
    [left("STATE", 11), right("COUNT", 8), right("FIN_WAIT2", 9), left("NETNS", 12), left("OWNER", 36)];

/// Each kind of line has a table of its own, if there is any of it, and the end says how many there were.
fn table(out: &mut Vec<u8>, lines: &[Line]) {
    let rows = |row: fn(&Line) -> Option<Vec<String>>| lines.iter().filter_map(row).collect::<Vec<_>>();
    part(
        out,
        &CONNECTIONS,
        &rows(|line| if let Line::Socket(line) = line { Some(connection(line)) } else { None }),
    );
    part(
        out,
        &LISTENERS,
        &rows(|line| if let Line::Listener(line) = line { Some(listener(line)) } else { None }),
    );
    part(out, &PASSED, &rows(|line| if let Line::TimeWait(line) = line { Some(passed(line)) } else { None }));
    for line in lines {
        if let Line::Snapshot(line) = line {
            out.extend_from_slice(end(line).as_bytes());
        }
    }
}

fn part(out: &mut Vec<u8>, columns: &[Column], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    row(out, columns, columns.iter().map(|column| column.name));
    for cells in rows {
        row(out, columns, cells.iter().map(String::as_str));
    }
    out.push(b'\n');
}

/// Cells under their columns; what does not fit is cut.
fn row<'a>(out: &mut Vec<u8>, columns: &[Column], cells: impl Iterator<Item = &'a str>) {
    let start = out.len();
    for (column, cell) in columns.iter().zip(cells) {
        if out.len() > start {
            out.push(b' ');
        }
        let mut text = Vec::new();
        let width = terminal(&mut text, cell.as_bytes(), column.width);
        let padding = vec![b' '; column.width - width];
        let parts = if column.right { [padding, text] } else { [text, padding] };
        out.extend(parts.into_iter().flatten());
    }
    let end = out.trim_ascii_end().len();
    out.truncate(end.max(start));
    out.push(b'\n');
}

fn connection(line: &Socket) -> Vec<String> {
    let own = &line.tcpstates;
    let peer = line.network.peer.as_ref();
    vec![
        own.state.clone(),
        address(&line.network.local),
        peer.map_or_else(dash, address),
        or_dash(own.idle_us.map(short_time)),
        or_dash(own.unread_bytes.map(bytes)),
        or_dash(own.unsent_bytes.map(bytes)),
        number(own.retransmits_pending),
        owner(line.container.as_ref(), &own.open, line.k8s.as_deref()),
        process(line.process.as_ref(), line.thread.as_ref()),
    ]
}

fn listener(line: &Listener) -> Vec<String> {
    let own = &line.tcpstates;
    vec![
        "LISTEN".to_owned(),
        address(&line.network.local),
        number(own.accept_queue.length),
        number(own.accept_queue.limit),
        number(own.accept_queue.drops),
        number(own.half_open.count),
        number(own.half_open.acknowledged),
        owner(line.container.as_ref(), &own.open, line.k8s.as_deref()),
        process(line.process.as_ref(), line.thread.as_ref()),
    ]
}

fn passed(line: &TimeWait) -> Vec<String> {
    let own = &line.tcpstates;
    let pod = line.k8s.as_ref().and_then(|k8s| k8s.pod.as_ref()?.uid.clone());
    let container = line.container.as_ref().map(|container| container.id.clone());
    vec![
        "TIME_WAIT".to_owned(),
        own.count.to_string(),
        own.fin_wait2.to_string(),
        number(own.netns.as_ref().and_then(|netns| netns.inode)),
        or_dash(container.or(pod)),
    ]
}

fn end(line: &Snapshot) -> String {
    let own = &line.tcpstates;
    let Shown { open: connections, left_out: connections_left_out, .. } = own.sockets;
    let Shown { open: listeners, left_out: listeners_left_out, .. } = own.listeners;
    let time_wait = own.time_wait;
    let left_out = if connections_left_out + listeners_left_out > 0 {
        format!("; left out by the limit: {connections_left_out} connections, {listeners_left_out} listeners")
    } else {
        String::new()
    };
    let incomplete =
        if own.incomplete { "; incomplete: some tables changed too fast to be read" } else { "" };
    format!(
        "connections: {connections}, listeners: {listeners}, in TIME_WAIT: {time_wait}{left_out}{incomplete}\n"
    )
}

/// `10.1.2.3:80`, `[fd00::1]:80`; of an address that is too long its beginning.
fn address(end: &Endpoint) -> String {
    let port = end.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
    let address = end.address.as_deref().unwrap_or("*");
    let is_v6 = address.contains(':');
    let text = if is_v6 { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let too_long = text.len().saturating_sub(END);
    if too_long == 0 || !is_v6 {
        return text;
    }
    // Hex digits and colons: each is a byte.
    let kept = address.len().saturating_sub(too_long + 1);
    format!("[{}…]:{port}", address.get(..kept).unwrap_or_default())
}

fn owner(container: Option<&Container>, own: &OpenAttributes, k8s: Option<&K8s>) -> String {
    let host = own.host.as_ref();
    let known = [
        container.map(|container| &container.id),
        k8s.and_then(|k8s| k8s.pod.as_ref()?.uid.as_ref()),
        host.and_then(|host| host.unit.as_ref()),
        host.and_then(|host| host.slice.as_ref()),
    ];
    or_dash(known.into_iter().flatten().next().cloned())
}

/// `4242/nginx`
fn process(process: Option<&Process>, thread: Option<&Thread>) -> String {
    let Some(process) = process else { return dash() };
    match thread {
        Some(thread) => format!("{}/{}", process.pid, thread.name),
        None => process.pid.to_string(),
    }
}

/// A number of bytes in at most seven characters.
fn bytes(count: u32) -> String {
    if count < 10_000_000 { count.to_string() } else { format!("{}M", count >> 20) }
}

fn number(number: Option<u32>) -> String {
    or_dash(number.map(|number| number.to_string()))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(dash)
}

fn dash() -> String {
    "-".to_owned()
}

const CSV: &str = "TYPE,STATE,IP,LADDR,LPORT,RADDR,RPORT,IDLE_MS,UNREAD,UNSENT,RETRANSMITS,QUEUE,LIMIT,DROPS,OPENING,\
ACKED,COUNT,NETNS,CONTAINER,POD,PID,COMM\n";

/// One header for all kinds of lines; what a kind does not have is empty.
fn comma_separated(out: &mut Vec<u8>, lines: &[Line]) {
    out.extend_from_slice(CSV.as_bytes());
    for line in lines {
        let Some(cells) = cells(line) else { continue };
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let mut text = Vec::new();
            terminal(&mut text, cell.as_bytes(), usize::MAX);
            csv::field(out, &text);
        }
        out.push(b'\n');
    }
}

fn cells(line: &Line) -> Option<Vec<String>> {
    let shown = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let small = |number: Option<u32>| shown(number.map(u64::from));
    let nothing = |count| vec![String::new(); count];
    Some(match line {
        Line::Socket(line) => {
            let own = &line.tcpstates;
            let figures = [small(own.unread_bytes), small(own.unsent_bytes), small(own.retransmits_pending)];
            let mut cells = vec!["socket".to_owned(), own.state.clone()];
            cells.extend(ends(&line.network));
            cells.push(shown(own.idle_us.map(|us| us / 1000)));
            cells.extend(figures);
            cells.extend(nothing(6));
            cells.extend(whose(&own.open, line.container.as_ref(), line.k8s.as_deref()));
            cells.extend(who(line.process.as_ref(), line.thread.as_ref()));
            cells
        }
        Line::Listener(line) => {
            let own = &line.tcpstates;
            let (queue, half_open) = (&own.accept_queue, &own.half_open);
            let mut cells = vec!["listener".to_owned(), "LISTEN".to_owned()];
            cells.extend(ends(&line.network));
            cells.extend(nothing(4));
            cells.extend([queue.length, queue.limit, queue.drops].map(small));
            cells.extend([half_open.count, half_open.acknowledged].map(small));
            cells.push(String::new());
            cells.extend(whose(&own.open, line.container.as_ref(), line.k8s.as_deref()));
            cells.extend(who(line.process.as_ref(), line.thread.as_ref()));
            cells
        }
        Line::TimeWait(line) => {
            let own = &line.tcpstates;
            let mut cells = vec!["time_wait".to_owned(), "TIME_WAIT".to_owned()];
            cells.extend(nothing(14));
            cells.push(own.count.to_string());
            cells.push(small(own.netns.as_ref().and_then(|netns| netns.inode)));
            cells.extend(containers(line.container.as_ref(), line.k8s.as_deref()));
            cells.extend(nothing(2));
            cells
        }
        _ => return None,
    })
}

fn ends(network: &Network) -> [String; 5] {
    let version = match network.kind {
        NetworkType::Ipv4 => "4",
        NetworkType::Ipv6 => "6",
    };
    let of = |end: Option<&Endpoint>| {
        let port = end.and_then(|end| end.port).map_or_else(String::new, |port| port.to_string());
        [end.and_then(|end| end.address.clone()).unwrap_or_default(), port]
    };
    let ([local, local_port], [peer, peer_port]) = (of(Some(&network.local)), of(network.peer.as_ref()));
    [version.to_owned(), local, local_port, peer, peer_port]
}

fn whose(own: &OpenAttributes, container: Option<&Container>, k8s: Option<&K8s>) -> [String; 3] {
    let netns = own.netns.as_ref().and_then(|netns| netns.inode);
    let [container, pod] = containers(container, k8s);
    [netns.map_or_else(String::new, |inode| inode.to_string()), container, pod]
}

fn containers(container: Option<&Container>, k8s: Option<&K8s>) -> [String; 2] {
    let pod = k8s.and_then(|k8s| k8s.pod.as_ref()?.uid.clone());
    [container.map(|container| container.id.clone()).unwrap_or_default(), pod.unwrap_or_default()]
}

fn who(process: Option<&Process>, thread: Option<&Thread>) -> [String; 2] {
    let pid = process.map_or_else(String::new, |process| process.pid.to_string());
    [pid, thread.map_or_else(String::new, |thread| thread.name.clone())]
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_common::state::State;
    use kube_tcpstates_events::{Endpoint, Line};

    use super::{address, bytes, render, short_time};
    use crate::{
        names::Numbered,
        open::{Counts, Figures, Queue, What},
        render::{Of, fixtures::Fixture, format, snapshot_line, socket_line, time_wait_line},
    };

    fn lines() -> Vec<Line> {
        let of = Of { run: "5f0c2a91".to_owned(), unix_ns: 0 };
        let (mut leaked, mut stuck, listener) = (Fixture::client(), Fixture::refused(), Fixture::listener());
        leaked.transition.new_state = State::CLOSE_WAIT;
        stuck.transition.new_state = State::FIN_WAIT1;
        let idle = |ns| Figures {
            idle_ns: Some(ns),
            unread_bytes: Some(417),
            unsent_bytes: Some(4_000_000_000),
            retransmits: Some(15),
        };
        let queue = Queue {
            length: Some(129),
            limit: Some(128),
            drops: Some(7),
            half_open: Some(2),
            acknowledged: None,
        };
        let counts = Counts { sockets: (9, 2), listeners: (1, 1) };
        let nobody = Numbered::new(Vec::new());
        vec![
            socket_line(&of, &leaked.event(), &What::Connection(idle(33_400_000_000)), None),
            socket_line(&of, &stuck.event(), &What::Connection(Figures::default()), None),
            socket_line(&of, &listener.event(), &What::Listener(queue), None),
            time_wait_line(&of, &leaked.transition, (5, 2), None, &nobody),
            snapshot_line(&of, &counts, (5, false), None, &nobody),
        ]
    }

    fn rendered(name: &str) -> String {
        let mut out = Vec::new();
        render(&mut out, format(name).unwrap(), &lines());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_has_a_table_of_its_own() {
        assert_eq!(
            rendered("table"),
            "\
STATE       LOCAL                    PEER                       IDLE  UNREAD  UNSENT RT OWNER        PROCESS
CLOSE_WAIT  10.1.2.3:43512           10.9.8.7:443              33.4s     417   3814M 15 4f1e0c9a7b21 4242/checkout
FIN_WAIT1   [fd00:1::3]:51000        [fd00:1::7]:81                -       -       -  - -            -

STATE       LOCAL                     QUEUE  LIMIT    DROPS OPENING  ACKED OWNER        PROCESS
LISTEN      0.0.0.0:8080                129    128        7       2      - nginx.servic 812/nginx: master

STATE          COUNT FIN_WAIT2 NETNS        OWNER
TIME_WAIT          5         2 4026532281   -

connections: 9, listeners: 1, in TIME_WAIT: 5; left out by the limit: 7 connections, 0 listeners
"
        );
    }

    #[test]
    fn csv_has_one_header_for_all_and_as_many_fields_in_each_line() {
        let text = rendered("csv");
        let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [22; 5], "{text}");
        let second = text.lines().nth(1).unwrap();
        assert!(
            second.starts_with("socket,CLOSE_WAIT,4,10.1.2.3,43512,10.9.8.7,443,33400,417,4000000000,15,"),
            "{second}"
        );
        assert!(text.lines().nth(3).unwrap().contains(",129,128,7,2,,,"), "{text}");
    }

    #[test]
    fn no_cell_is_wider_than_its_column() {
        let long = Endpoint {
            address: Some("2001:db8:1111:2222:3333:4444:5555:6666".to_owned()),
            port: Some(65_535),
        };
        assert_eq!(address(&long), "[2001:db8:1111:2…]:65535");
        for us in [999_999, 99_999_999, 5_999_000_000, 359_999_000_000, 86_399_999_999_999] {
            assert!(short_time(us).len() <= 6, "{}", short_time(us));
        }
        assert_eq!(
            [short_time(999_999), short_time(61_500_000), short_time(90_061_000_000)],
            ["999ms", "61.5s", "25h01m"]
        );
        assert_eq!([bytes(9_999_999), bytes(u32::MAX)], ["9999999", "4095M"]);
        assert!(super::CONNECTIONS.iter().map(|column| column.width + 1).sum::<usize>() <= 121);
    }
}
