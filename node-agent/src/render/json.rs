//! The transition line of `-o json`, exactly what `kube_tcpstates_events::Transition` serialises to.

use kube_tcpstates_events::Line;

use super::MAX_LINE;
use super::append::{address, decimal, literal};
use super::cache::Cache;
use super::ended::{self, Ended};
use super::errno;
use super::escape::json_bytes;
use super::event::{Event, comm, otel_state};
use super::format::{Format, FormatEntry};
use super::line;
use super::own::{Extra, Own, members};
use super::owner::{InDocuments, JsonOwner};
use super::peer::where_it_fits;
use super::time::UtcClock;
use crate::connection::CommunityId;
use crate::decode::{Endpoint, NetworkType, Transition};

/// `-o json`
pub(super) const FORMAT: FormatEntry = FormatEntry {
    name: "json",
    about: "One JSON document a line, OpenTelemetry names",
    columns: false,
    longest: MAX_LINE,
    make: |options| Box::new(Json::new(options.run)),
};

/// Writes JSON lines.
#[derive(Debug)]
pub struct Json {
    clock: UtcClock,
    own: Own,
    owners: Cache<JsonOwner>,
}

impl Json {
    /// A writer for one run, which lines name by 8 hex digits.
    pub fn new(run: u32) -> Self {
        Self { clock: UtcClock::default(), own: Own::new("\"", run), owners: Cache::default() }
    }

    fn write(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>) {
        let transition = event.transition;
        let owner = event.owner.map(|owner| self.owners.of(owner, |owner| InDocuments::new(owner).json));
        let (outside, own) = owner.map_or((&[][..], &[][..]), |owner| (&owner.outside, &owner.own));
        literal(out, r#"{"time":""#);
        self.clock.append(out, event.unix_ns);
        self.own.append(out, seq, event, Extra { owner: [own, &[]], ..Extra::default() });
        network(out, transition, otel_state(transition.new_state));
        error(out, transition);
        members(out, outside);
        process(out, transition);
        literal(out, "}\n");
    }

    fn write_ended(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, ended: &Ended<'_>) {
        let transition = event.transition;
        let owner = event.owner.map(|owner| self.owners.of(owner, |owner| InDocuments::new(owner).json));
        let (outside, own) = owner.map_or((&[][..], &[][..]), |owner| (&owner.outside, &owner.own));
        let community = if ended.brief { None } else { CommunityId::of(transition) };
        literal(out, r#"{"time":""#);
        self.clock.append(out, event.unix_ns);
        let extra = Extra { state: None, community: community.as_ref(), owner: [own, &[]] };
        self.own.append_ended(out, seq, event, ended, extra);
        network(out, transition, None);
        error(out, transition);
        members(out, outside);
        process(out, transition);
        literal(out, "}\n");
    }
}

impl Format for Json {
    fn transition(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>) {
        where_it_fits(out, event, |out, event| self.write(out, seq, event));
    }

    fn connection(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, ended: &Ended<'_>) {
        ended::where_it_fits(out, event, ended, |out, event, ended| self.write_ended(out, seq, event, ended));
    }

    fn line(&self, out: &mut Vec<u8>, line: &Line) {
        line::json(out, line);
    }
}

/// Both ends, and the state if one is to be said.
fn network(out: &mut Vec<u8>, transition: &Transition, state: Option<&str>) {
    out.extend_from_slice(br#","network":{"transport":"tcp","type":"#);
    out.extend_from_slice(family(transition.family));
    out.extend_from_slice(br#","local":{"#);
    endpoint(out, &transition.local, transition.of_listener(), false);
    out.push(b'}');
    if let Some(peer) = transition.peer.as_ref().filter(|peer| is_known(peer)) {
        out.extend_from_slice(br#","peer":{"#);
        endpoint(out, peer, false, false);
        out.push(b'}');
    }
    if let Some(state) = state {
        literal(out, r#","connection":{"state":""#);
        literal(out, state);
        literal(out, "\"}");
    }
    out.push(b'}');
}

/// `"ipv4"` or `"ipv6"`, quoted.
pub(super) const fn family(family: NetworkType) -> &'static [u8] {
    match family {
        NetworkType::Ipv4 => br#""ipv4""#,
        NetworkType::Ipv6 => br#""ipv6""#,
    }
}

/// Something of this end is known.
pub(super) fn is_known(endpoint: &Endpoint) -> bool {
    !endpoint.address.is_unspecified() || endpoint.port != 0
}

/// `"address":"10.1.2.3","port":80`, each only if known; `ip` says the address a second time by that name.
pub(super) fn endpoint(out: &mut Vec<u8>, endpoint: &Endpoint, any_address: bool, ip: bool) {
    let shown = any_address || !endpoint.address.is_unspecified();
    if shown {
        out.extend_from_slice(br#""address":""#);
        let start = out.len();
        address(out, endpoint.address);
        if ip {
            let end = out.len();
            out.extend_from_slice(br#"","ip":""#);
            out.extend_from_within(start..end);
        }
        out.push(b'"');
    }
    if endpoint.port != 0 {
        out.extend_from_slice(if shown { br#","port":"#.as_slice() } else { br#""port":"#.as_slice() });
        decimal(out, endpoint.port);
    }
}

/// `,"error":{"type":"ECONNREFUSED"}`, if there was one.
pub(super) fn error(out: &mut Vec<u8>, transition: &Transition) {
    if let Some(number) = transition.error.filter(|&number| number != 0) {
        out.extend_from_slice(br#","error":{"type":""#);
        match errno::name(number) {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => decimal(out, number),
        }
        out.extend_from_slice(br#""}"#);
    }
}

/// `,"process":{...},"thread":{...}`, if the owner is known.
fn process(out: &mut Vec<u8>, transition: &Transition) {
    let Some(process) = &transition.process else { return };
    out.extend_from_slice(br#","process":{"pid":"#);
    decimal(out, process.pid);
    out.push(b'}');
    let name = comm(&process.comm);
    if !name.is_empty() {
        out.extend_from_slice(br#","thread":{"name":""#);
        json_bytes(out, name);
        out.extend_from_slice(br#""}"#);
    }
}

#[cfg(test)]
mod tests {
    use super::{Format as _, Json};
    use crate::render::fixtures::Fixture;

    fn render(fixture: &Fixture) -> String {
        let mut out = Vec::new();
        Json::new(0x5f0c_2a91).transition(&mut out, 123, &fixture.event());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_of_which_everything_is_known() {
        assert_eq!(
            render(&Fixture::client()).trim_end(),
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":123,"old_state":"SYN_SENT","new_state":"ESTABLISHED","state_duration_us":433,"role":"client","connection":{"id":"9f2c41d07be6a835","cookie":"16386"},"owner":{"source":"connect"},"qos":"burstable","container":{"runtime":"containerd"},"cgroup":{"id":"7421"},"netns":{"inode":4026532281},"attribution":{"source":"socket_cgroup","status":"resolved"},"traces":["shop/checkout-egress"],"cluster_traces":["all-https"]},"network":{"transport":"tcp","type":"ipv4","local":{"address":"10.1.2.3","port":43512},"peer":{"address":"10.9.8.7","port":443},"connection":{"state":"established"}},"k8s":{"cluster":{"name":"prod"},"node":{"name":"n1"},"namespace":{"name":"shop"},"pod":{"name":"checkout-7d4f","uid":"0b8e7c52-9f3e-4d1a-8c55-1f0e2d3c4b5a","label":{"app":"checkout","app_kubernetes_io/part-of":"shop"}},"container":{"name":"app"},"deployment":{"name":"checkout"}},"container":{"id":"4f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d653"},"process":{"pid":4242},"thread":{"name":"checkout"}}"#
        );
    }

    #[test]
    fn a_listener_of_the_host_shows_its_unspecified_address() {
        assert_eq!(
            render(&Fixture::listener()).trim_end(),
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":123,"old_state":"CLOSE","new_state":"LISTEN","role":"server","connection":{"id":"00000000000000a1"},"owner":{"source":"listen"},"host":{"slice":"system.slice","unit":"nginx.service"},"cgroup":{"id":"2210"},"attribution":{"source":"socket_cgroup","status":"host"}},"network":{"transport":"tcp","type":"ipv4","local":{"address":"0.0.0.0","port":8080},"connection":{"state":"listen"}},"process":{"pid":812},"thread":{"name":"nginx: master p"}}"#
        );
    }

    #[test]
    fn a_line_of_which_little_is_known_is_short() {
        assert_eq!(
            render(&Fixture::refused()).trim_end(),
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":123,"old_state":"SYN_SENT","new_state":"CLOSE","state_duration_us":1204,"role":"client","connection":{"id":"00000000000000b2","partial":true},"attribution":{"source":"none","status":"unknown"}},"network":{"transport":"tcp","type":"ipv6","local":{"address":"fd00:1::3","port":51000},"peer":{"address":"fd00:1::7","port":81},"connection":{"state":"closed"}},"error":{"type":"ECONNREFUSED"}}"#
        );
    }

    #[test]
    fn a_child_whose_address_is_not_there_yet_does_not_claim_every_address() {
        let mut fixture = Fixture::listener();
        fixture.transition.old_state = kube_tcpstates_common::state::State::LISTEN;
        fixture.transition.new_state = kube_tcpstates_common::state::State::SYN_RECV;
        assert!(render(&fixture).contains(r#""local":{"port":8080},"connection""#));
    }

    #[test]
    fn every_line_is_valid_by_the_published_schema() {
        let schema = serde_json::to_value(kube_tcpstates_events::schema::json_schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for fixture in [Fixture::client(), Fixture::listener(), Fixture::refused()] {
            let line = serde_json::from_str(&render(&fixture)).unwrap();
            assert_eq!(validator.iter_errors(&line).map(|error| error.to_string()).next(), None);
        }
        // The schema can say no.
        for (right, wrong) in
            [(r#""run":"5f0c2a91""#, r#""run":null"#), (r#""type":"transition""#, r#""type":"lost""#)]
        {
            let line = render(&Fixture::client()).replace(right, wrong);
            assert!(!validator.is_valid(&serde_json::from_str(&line).unwrap()), "{wrong}");
        }
    }
}
