//! The transition line of `-o ecs`: Elastic Common Schema 9.4 names, and under `tcpstates` what it has no names for.
//!
//! `source` and `destination` are the side that opened the connection and the side that answered; where the role is
//! not known, `source` is this machine's end, and `client` and `server` are absent.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{EndCause, Line, Outcome};

use super::MAX_LINE;
use super::append::{decimal, literal};
use super::cache::Cache;
use super::ended::{self, Ended};
use super::escape::json_bytes;
use super::event::{Event, comm, otel_state};
use super::format::{Format, FormatEntry};
use super::json::{endpoint, error, family, is_known};
use super::line;
use super::own::{Extra, Own, members};
use super::owner::InDocuments;
use super::peer::where_it_fits;
use super::time::UtcClock;
use crate::connection::{CommunityId, Story};
use crate::decode::{Role, Transition};

/// Version of the Elastic Common Schema.
pub(super) const ECS_VERSION: &str = "9.4.0";

/// `-o ecs`
pub(super) const FORMAT: FormatEntry = FormatEntry {
    name: "ecs",
    about: "One JSON document a line, Elastic Common Schema names",
    columns: false,
    longest: MAX_LINE,
    make: |options| Box::new(Ecs::new(options.run)),
};

/// Writes ECS documents.
#[derive(Debug)]
pub struct Ecs {
    clock: UtcClock,
    own: Own,
    owners: Cache<InDocuments>,
}

impl Ecs {
    /// A writer for one run, which lines name by 8 hex digits.
    pub fn new(run: u32) -> Self {
        Self { clock: UtcClock::default(), own: Own::new(OBSERVER, run), owners: Cache::default() }
    }

    fn write(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>) {
        let transition = event.transition;
        let owner = event.owner.map(|owner| self.owners.of(owner, InDocuments::new));
        out.extend_from_slice(br#"{"@timestamp":""#);
        self.clock.append(out, event.unix_ns);
        out.extend_from_slice(br#"","ecs":{"version":""#);
        out.extend_from_slice(ECS_VERSION.as_bytes());
        out.extend_from_slice(br#""}"#);
        about(out, seq, transition);
        network(out, transition, None);
        error(out, transition);
        members(out, owner.map_or(&[], |owner| &owner.ecs));
        process(out, transition);
        let owner = owner.map_or([&[][..]; 2], |owner| [&owner.json.own, &owner.ecs_own]);
        let state = otel_state(transition.new_state);
        self.own.append(out, seq, event, Extra { state, owner, ..Extra::default() });
        literal(out, "}\n");
    }

    fn write_ended(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, ended: &Ended<'_>) {
        let transition = event.transition;
        let owner = event.owner.map(|owner| self.owners.of(owner, InDocuments::new));
        let community = if ended.brief { None } else { CommunityId::of(transition) };
        literal(out, r#"{"@timestamp":""#);
        self.clock.append(out, event.unix_ns);
        literal(out, r#"","ecs":{"version":""#);
        literal(out, ECS_VERSION);
        literal(out, r#""}"#);
        about_ended(out, seq, ended.story);
        network(out, transition, Some((ended.story, community.as_ref())));
        error(out, transition);
        members(out, owner.map_or(&[], |owner| &owner.ecs));
        process(out, transition);
        let owner = owner.map_or([&[][..]; 2], |owner| [&owner.json.own, &owner.ecs_own]);
        let extra = Extra { state: None, community: community.as_ref(), owner };
        self.own.append_ended(out, seq, event, ended, extra);
        literal(out, "}\n");
    }
}

impl Format for Ecs {
    fn transition(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>) {
        where_it_fits(out, event, |out, event| self.write(out, seq, event));
    }

    fn connection(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, ended: &Ended<'_>) {
        ended::where_it_fits(out, event, ended, |out, event, ended| self.write_ended(out, seq, event, ended));
    }

    fn line(&self, out: &mut Vec<u8>, line: &Line) {
        line::ecs(out, line);
    }
}

/// `observer` is what saw the event; `agent` would be the shipper's.
const OBSERVER: &str = concat!(
    r#","observer":{"product":"kube-tcpstates","type":"tcpstates","version":""#,
    crate::version!(),
    r#""}"#
);

/// `,"event":{...}`
fn about(out: &mut Vec<u8>, seq: u64, transition: &Transition) {
    let kind = match transition.new_state {
        State::ESTABLISHED => "start",
        State::CLOSE => "end",
        _ => "info",
    };
    out.extend_from_slice(
        br#","event":{"kind":"event","category":["network"],"module":"tcpstates","dataset":"tcpstates.transition","#,
    );
    out.extend_from_slice(br#""action":"tcp-state-transition","type":["connection",""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#""],"sequence":"#);
    decimal(out, seq);
    if let Some(ns) = transition.duration_ns {
        out.extend_from_slice(br#","duration":"#);
        decimal(out, ns);
    }
    if transition.error.is_some_and(|number| number != 0) {
        out.extend_from_slice(br#","outcome":"failure""#);
    } else if transition.new_state == State::ESTABLISHED {
        out.extend_from_slice(br#","outcome":"success""#);
    }
    out.push(b'}');
}

/// `,"event":{...}` of a connection that has ended.
fn about_ended(out: &mut Vec<u8>, seq: u64, story: &Story) {
    literal(
        out,
        r#","event":{"kind":"event","category":["network"],"module":"tcpstates","dataset":"tcpstates.connection","#,
    );
    literal(out, r#""action":"tcp-connection","type":["connection","end"],"sequence":"#);
    decimal(out, seq);
    literal(out, r#","duration":"#);
    decimal(out, story.duration_ns);
    let ending = story.ending;
    literal(
        out,
        match ending.outcome {
            Outcome::Closed => r#","outcome":"success","reason":""#,
            Outcome::Unknown => r#","outcome":"unknown","reason":""#,
            _ => r#","outcome":"failure","reason":""#,
        },
    );
    literal(out, ending.cause.map_or(ending.outcome.as_str(), EndCause::as_str));
    literal(out, "\"}");
}

/// Both ends; of a connection that has ended with what went each way.
fn network(out: &mut Vec<u8>, transition: &Transition, ended: Option<(&Story, Option<&CommunityId>)>) {
    literal(out, r#","network":{"transport":"tcp","iana_number":"6","type":"#);
    out.extend_from_slice(family(transition.family));
    if let Some(community) = ended.and_then(|(_, community)| community) {
        literal(out, r#","community_id":""#);
        out.extend_from_slice(community.as_bytes());
        out.push(b'"');
    }
    let socket = ended.and_then(|(story, _)| story.socket);
    if let Some(socket) = socket {
        literal(out, r#","bytes":"#);
        decimal(out, socket.sent.bytes.saturating_add(socket.received.bytes));
    }
    out.extend_from_slice(match transition.role {
        Some(Role::Client) => br#","direction":"egress"}"#,
        Some(Role::Server) => br#","direction":"ingress"}"#,
        None => b"}",
    });
    let (near, far): (&[&str], &[&str]) = match transition.role {
        Some(Role::Client) => (&["source", "client"], &["destination", "server"]),
        Some(Role::Server) => (&["destination", "server"], &["source", "client"]),
        None => (&["source"], &["destination"]),
    };
    let listener = transition.of_listener();
    let [sent, received] = [socket.map(|it| it.sent.bytes), socket.map(|it| it.received.bytes)];
    let ends =
        [(near, Some(&transition.local), listener, sent), (far, transition.peer.as_ref(), false, received)];
    for (keys, end, any_address, bytes) in ends {
        let Some(end) = end.filter(|end| any_address || is_known(end)) else {
            continue;
        };
        for key in keys {
            out.extend_from_slice(br#",""#);
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(br#"":{"#);
            endpoint(out, end, any_address, true);
            if let Some(bytes) = bytes {
                literal(out, r#","bytes":"#);
                decimal(out, bytes);
            }
            out.push(b'}');
        }
    }
}

/// `,"process":{"pid":4242,"thread":{"name":"checkout"}}`, if the owner is known. The comm is a thread's name, so it
/// is not `process.name`.
fn process(out: &mut Vec<u8>, transition: &Transition) {
    let Some(process) = &transition.process else { return };
    out.extend_from_slice(br#","process":{"pid":"#);
    decimal(out, process.pid);
    let name = comm(&process.comm);
    if !name.is_empty() {
        out.extend_from_slice(br#","thread":{"name":""#);
        json_bytes(out, name);
        out.extend_from_slice(br#""}"#);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::{Ecs, Format as _};
    use crate::render::fixtures::{Fixture, snapshot};

    fn render(fixture: &Fixture) -> String {
        let mut out = Vec::new();
        Ecs::new(0x5f0c_2a91).transition(&mut out, 123, &fixture.event());
        snapshot(&String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_client_is_the_source_and_its_connection_goes_out() {
        assert_eq!(
            render(&Fixture::client()).trim_end(),
            r#"{"@timestamp":"2026-11-22T15:25:01.123456789Z","ecs":{"version":"9.4.0"},"event":{"kind":"event","category":["network"],"module":"tcpstates","dataset":"tcpstates.transition","action":"tcp-state-transition","type":["connection","start"],"sequence":123,"duration":433871,"outcome":"success"},"network":{"transport":"tcp","iana_number":"6","type":"ipv4","direction":"egress"},"source":{"address":"10.1.2.3","ip":"10.1.2.3","port":43512},"client":{"address":"10.1.2.3","ip":"10.1.2.3","port":43512},"destination":{"address":"10.9.8.7","ip":"10.9.8.7","port":443},"server":{"address":"10.9.8.7","ip":"10.9.8.7","port":443},"container":{"id":"4f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d653","name":"app","runtime":"containerd"},"host":{"name":"n1"},"orchestrator":{"type":"kubernetes","cluster":{"name":"prod"},"namespace":"shop","resource":{"type":"pod","name":"checkout-7d4f","id":"0b8e7c52-9f3e-4d1a-8c55-1f0e2d3c4b5a"}},"process":{"pid":4242,"thread":{"name":"checkout"}},"observer":{"product":"kube-tcpstates","type":"tcpstates","version":"0.1.0"},"tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":123,"old_state":"SYN_SENT","new_state":"ESTABLISHED","state_duration_us":433,"role":"client","connection":{"id":"9f2c41d07be6a835","state":"established","cookie":"16386"},"owner":{"source":"connect"},"qos":"burstable","container":{"runtime":"containerd"},"pod":{"label":{"app":"checkout","app_kubernetes_io/part-of":"shop"}},"workload":{"kind":"deployment","name":"checkout"},"cgroup":{"id":"7421"},"netns":{"inode":4026532281},"attribution":{"source":"socket_cgroup","status":"resolved"},"traces":["shop/checkout-egress"],"cluster_traces":["all-https"]}}"#
        );
    }

    #[test]
    fn a_listener_is_the_destination_and_has_no_source() {
        assert_eq!(
            render(&Fixture::listener()).trim_end(),
            r#"{"@timestamp":"2026-11-22T15:25:01.123456789Z","ecs":{"version":"9.4.0"},"event":{"kind":"event","category":["network"],"module":"tcpstates","dataset":"tcpstates.transition","action":"tcp-state-transition","type":["connection","info"],"sequence":123},"network":{"transport":"tcp","iana_number":"6","type":"ipv4","direction":"ingress"},"destination":{"address":"0.0.0.0","ip":"0.0.0.0","port":8080},"server":{"address":"0.0.0.0","ip":"0.0.0.0","port":8080},"process":{"pid":812,"thread":{"name":"nginx: master p"}},"observer":{"product":"kube-tcpstates","type":"tcpstates","version":"0.1.0"},"tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":123,"old_state":"CLOSE","new_state":"LISTEN","role":"server","connection":{"id":"00000000000000a1","state":"listen"},"owner":{"source":"listen"},"host":{"slice":"system.slice","unit":"nginx.service"},"cgroup":{"id":"2210"},"attribution":{"source":"socket_cgroup","status":"host"}}}"#
        );
    }

    #[test]
    fn a_refused_connection_is_an_end_and_a_failure() {
        assert_eq!(
            render(&Fixture::refused()).trim_end(),
            r#"{"@timestamp":"2026-11-22T15:25:01.123456789Z","ecs":{"version":"9.4.0"},"event":{"kind":"event","category":["network"],"module":"tcpstates","dataset":"tcpstates.transition","action":"tcp-state-transition","type":["connection","end"],"sequence":123,"duration":1204567,"outcome":"failure"},"network":{"transport":"tcp","iana_number":"6","type":"ipv6","direction":"egress"},"source":{"address":"fd00:1::3","ip":"fd00:1::3","port":51000},"client":{"address":"fd00:1::3","ip":"fd00:1::3","port":51000},"destination":{"address":"fd00:1::7","ip":"fd00:1::7","port":81},"server":{"address":"fd00:1::7","ip":"fd00:1::7","port":81},"error":{"type":"ECONNREFUSED"},"observer":{"product":"kube-tcpstates","type":"tcpstates","version":"0.1.0"},"tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":123,"old_state":"SYN_SENT","new_state":"CLOSE","state_duration_us":1204,"role":"client","connection":{"id":"00000000000000b2","state":"closed","partial":true},"attribution":{"source":"none","status":"unknown"}}}"#
        );
    }
}
