//! Lines as rows. Of the table at most 120 columns, what is too long is cut where it says least; the wide one has all there
//! is. Pure.

mod connection;
mod fleet;
mod live;
mod open;
mod summary;
mod transition;

use kube_tcpstates_events::terminal::{short_time, terminal};
use kube_tcpstates_events::{Endpoint, K8s, Line, Peer, Shown, Snapshot};

use crate::paint::{Colour, Paint};

pub(crate) use fleet::{nodes, standings, traces};
pub(crate) use live::live;
pub(crate) use summary::{failed, owner};

/// What is not known.
const DASH: &str = "-";

/// A column: its name, its width in the table, how it is cut, and what stands in it.
struct Column<T> {
    name: &'static str,
    width: usize,
    cut: Cut,
    text: fn(&T) -> String,
    colour: fn(&T) -> Colour,
}

/// What of a text that is too long is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Nothing: the row is longer then.
    Never,
    /// Nothing, and it stands at the right.
    Number,
    /// Its beginning: a pod's name differs at its end.
    Start,
    /// Its end.
    End,
}

impl<T> Column<T> {
    const fn new(name: &'static str, width: usize, cut: Cut, text: fn(&T) -> String) -> Self {
        Self { name, width, cut, text, colour: |_| Colour::None }
    }

    const fn coloured(self, colour: fn(&T) -> Colour) -> Self {
        Self { colour, ..self }
    }
}

/// Writes lines as rows, under the head of their kind.
#[derive(Debug)]
pub(crate) struct Rows {
    wide: bool,
    paint: Paint,
    head: &'static str,
}

impl Rows {
    /// A table, or the wide one.
    pub(crate) const fn new(wide: bool, paint: Paint) -> Self {
        Self { wide, paint, head: "" }
    }

    /// Appends what a line shows; true if that is anything.
    pub(crate) fn line(&mut self, out: &mut Vec<u8>, line: &Line) -> bool {
        let wide = self.wide;
        match line {
            Line::Transition(line) => {
                self.row(out, "transition", columns(wide, transition::TABLE, transition::WIDE), line);
            }
            Line::Connection(line) => {
                self.row(out, "connection", columns(wide, connection::TABLE, connection::WIDE), line);
            }
            Line::Summary(line) => {
                self.row(out, "summary", columns(wide, summary::TABLE, summary::WIDE), line);
            }
            Line::Socket(line) => {
                self.row(out, "socket", columns(wide, open::SOCKETS, open::SOCKETS_WIDE), line);
            }
            Line::Listener(line) => {
                self.row(out, "listener", columns(wide, open::LISTENERS, open::LISTENERS_WIDE), line);
            }
            Line::TimeWait(line) => self.row(out, "time_wait", open::TIME_WAIT, line),
            _ => return false,
        }
        true
    }

    fn row<T>(&mut self, out: &mut Vec<u8>, kind: &'static str, columns: &[Column<T>], line: &T) {
        if self.head != kind {
            if !self.head.is_empty() {
                out.push(b'\n');
            }
            self.head = kind;
            head(out, columns, self.paint);
        }
        row(out, columns, line, self.wide, self.paint);
    }
}

fn columns<T>(wide: bool, table: &'static [Column<T>], all: &'static [Column<T>]) -> &'static [Column<T>] {
    if wide { all } else { table }
}

fn head<T>(out: &mut Vec<u8>, columns: &[Column<T>], paint: Paint) {
    let cells = columns.iter().map(|column| (column.name.to_owned(), column.width, column.cut, Colour::Bold));
    cells_of(out, cells, paint);
}

fn row<T>(out: &mut Vec<u8>, columns: &[Column<T>], line: &T, wide: bool, paint: Paint) {
    let cells = columns.iter().map(|column| {
        let text = safe(&(column.text)(line));
        let text = if text.is_empty() { DASH.to_owned() } else { text };
        let text = if wide { text } else { cut(text, column.width, column.cut) };
        (text, column.width, column.cut, (column.colour)(line))
    });
    cells_of(out, cells, paint);
}

fn cells_of(out: &mut Vec<u8>, cells: impl Iterator<Item = (String, usize, Cut, Colour)>, paint: Paint) {
    // Spaces are written before what follows them, so none stand at the end.
    let mut spaces = 0;
    for (text, width, cut, colour) in cells {
        let padding = width.saturating_sub(text.chars().count());
        let (before, behind) = if cut == Cut::Number { (padding, 0) } else { (0, padding) };
        out.resize(out.len() + spaces + before, b' ');
        out.extend_from_slice(paint.colour(colour, &text).as_bytes());
        spaces = behind + 1;
    }
    out.push(b'\n');
}

/// A whole table of things that are all there, as wide as they are.
fn whole<T>(out: &mut Vec<u8>, columns: &[Column<T>], things: &[T], paint: Paint) {
    let width = |column: &Column<T>| {
        let texts = things.iter().map(|thing| safe(&(column.text)(thing)).chars().count());
        texts.chain([column.name.len()]).max().unwrap_or(0)
    };
    let columns: Vec<Column<T>> = columns
        .iter()
        .map(|column| Column {
            width: width(column),
            name: column.name,
            cut: column.cut,
            text: column.text,
            colour: column.colour,
        })
        .collect();
    head(out, &columns, paint);
    for thing in things {
        row(out, &columns, thing, true, paint);
    }
}

/// Text that others chose, so that it does nothing to the terminal.
pub(crate) fn safe(text: &str) -> String {
    let mut out = Vec::new();
    terminal(&mut out, text.as_bytes(), usize::MAX);
    String::from_utf8(out).unwrap_or_default()
}

fn cut(text: String, width: usize, cut: Cut) -> String {
    let length = text.chars().count();
    if length <= width {
        return text;
    }
    match cut {
        Cut::Never | Cut::Number => text,
        Cut::Start => format!("…{}", text.chars().skip(length - width + 1).collect::<String>()),
        Cut::End => format!("{}…", text.chars().take(width - 1).collect::<String>()),
    }
}

/// What a snapshot says at its end.
pub(crate) fn snapshot_end(snapshot: &Snapshot) -> String {
    let own = &snapshot.tcpstates;
    let node = node(snapshot.k8s.as_deref());
    let Shown { open: connections, left_out: of_connections, .. } = own.sockets;
    let Shown { open: listeners, left_out: of_listeners, .. } = own.listeners;
    let left_out = if of_connections > 0 || of_listeners > 0 {
        format!("; {of_connections} connections and {of_listeners} listeners are not shown (--limit)")
    } else {
        String::new()
    };
    let incomplete = if own.incomplete {
        "; incomplete: the kernel's tables changed too fast to be read to their end"
    } else {
        ""
    };
    let time_wait = own.time_wait;
    format!(
        "{node}: {connections} connections, {listeners} listeners, {time_wait} in TIME_WAIT{left_out}{incomplete}"
    )
}

/// The time of day in UTC, with milliseconds.
fn time(rfc3339: &str) -> String {
    rfc3339.get(11..23).unwrap_or(rfc3339).to_owned()
}

fn node(k8s: Option<&K8s>) -> String {
    k8s.and_then(|k8s| k8s.node.as_ref()).map_or_else(|| DASH.to_owned(), |node| node.name.clone())
}

/// The pod by its name, or what else is known.
pub(crate) fn pod(k8s: Option<&K8s>) -> String {
    let Some(pod) = k8s.and_then(|k8s| k8s.pod.as_ref()) else { return String::new() };
    pod.name.as_ref().or(pod.uid.as_ref()).cloned().unwrap_or_default()
}

fn container(k8s: Option<&K8s>) -> String {
    k8s.and_then(|k8s| k8s.container.as_ref()).map(|container| container.name.clone()).unwrap_or_default()
}

/// The same with its namespace: a trace of the cluster has lines of many.
fn full_pod(k8s: Option<&K8s>) -> String {
    match k8s.and_then(|k8s| k8s.namespace.as_ref()) {
        Some(namespace) => format!("{}/{}", namespace.name, pod(k8s)),
        None => pod(k8s),
    }
}

/// `10.1.2.3:80`, `[fd00::1]:80`, `*:80`
fn end(end: &Endpoint) -> String {
    let port = end.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
    match end.address.as_deref() {
        Some(address) if address.contains(':') => format!("[{address}]:{port}"),
        address => format!("{}:{port}", address.unwrap_or("*")),
    }
}

fn end_or_dash(peer: Option<&Endpoint>) -> String {
    peer.map(end).unwrap_or_default()
}

/// The Service or pod at the other end, with its namespace.
pub(crate) fn peer_name(peer: Option<&Peer>) -> Option<String> {
    let k8s = &peer?.k8s;
    let name = k8s.service.as_ref().map(|service| &service.name);
    let name = name.or(k8s.pod.as_ref().map(|pod| &pod.name))?;
    Some(match &k8s.namespace {
        Some(namespace) => format!("{}/{name}", namespace.name),
        None => name.clone(),
    })
}

/// The other end by its name if there is one, with its port.
fn named_peer(peer: Option<&Peer>, address: Option<&Endpoint>) -> String {
    match (peer_name(peer), address.and_then(|end| end.port)) {
        (Some(name), Some(port)) => format!("{name}:{port}"),
        (Some(name), None) => name,
        (None, _) => end_or_dash(address),
    }
}

/// Milliseconds with three decimals.
fn milliseconds(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

fn number<N: ToString>(number: Option<N>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
