//! The object `tcpstates` of a transition or a connection: the same in every format that is JSON, so written in one place.

use kube_tcpstates_events::SCHEMA_ID;

use super::append::{decimal, hex16, literal, state};
use super::cache::Cache;
use super::ended::{self, Ended};
use super::event::Event;
use super::names::{first, next};
use super::peer::PeerNames;
use super::time::UtcClock;
use super::traces::traces;
use crate::connection::CommunityId;
use crate::decode::{Role, Transition};

/// Writes the object for one run.
#[derive(Debug)]
pub(super) struct Own {
    /// Up to the value of `seq`, of a transition and of a connection.
    heads: [Vec<u8>; 2],
    /// Of the time at which connections began: another than that of the line.
    start_clock: UtcClock,
    peers: PeerNames,
    traces: Cache<Vec<u8>>,
}

/// Members that differ by format, or are the same on many lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra<'a> {
    /// `connection.state`
    pub(super) state: Option<&'static str>,
    /// `connection.community_id`
    pub(super) community: Option<&'a CommunityId>,
    /// Members about the owner.
    pub(super) owner: [&'a [u8]; 2],
}

impl Own {
    /// A writer for one run, which lines name by 8 hex digits. `before` stands in front of the object on each line.
    pub(super) fn new(before: &str, run: u32) -> Self {
        let head = |kind| {
            let parts = [
                before,
                concat!(next!(own), "{", first!(kind), "\""),
                kind,
                concat!("\"", next!(schema), "\""),
                SCHEMA_ID,
                concat!("\"", next!(run), "\""),
                &format!("{run:08x}"),
                concat!("\"", next!(seq)),
            ];
            parts.concat().into()
        };
        let heads = ["transition", "connection"].map(head);
        Self {
            heads,
            start_clock: UtcClock::default(),
            peers: PeerNames::default(),
            traces: Cache::default(),
        }
    }

    /// `,"tcpstates":{...}`
    pub(super) fn append(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, extra: Extra<'_>) {
        let transition = event.transition;
        out.extend_from_slice(&self.heads[0]);
        decimal(out, seq);
        step(out, transition);
        connection(out, transition, event.connection_id, extra);
        self.owned(out, event, extra);
    }

    /// The same of a connection that has ended.
    pub(super) fn append_ended(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        event: &Event<'_>,
        ended: &Ended<'_>,
        extra: Extra<'_>,
    ) {
        let transition = event.transition;
        out.extend_from_slice(&self.heads[1]);
        decimal(out, seq);
        ended::ending(out, ended, role(transition), &mut self.start_clock);
        ended::figures(out, ended.story);
        marks(out, transition, false);
        connection(out, transition, event.connection_id, extra);
        ended::listener(out, ended.listener);
        self.owned(out, event, extra);
    }

    /// Whose it is, to the end of the object.
    fn owned(&mut self, out: &mut Vec<u8>, event: &Event<'_>, extra: Extra<'_>) {
        let transition = event.transition;
        if let Some(process) = &transition.process {
            literal(out, concat!(next!(owner), "{", first!(source), "\""));
            literal(out, process.source.as_str());
            literal(out, "\"}");
        }
        extra.owner.into_iter().for_each(|owner| members(out, owner));
        self.peers.append(out, event.peer);
        places(out, transition);
        attribution(out, event);
        members(out, self.traces.of(event.traces, |names| traces(names)));
        out.push(b'}');
    }
}

/// Members that were rendered before, with a comma in front, if there are any.
pub(super) fn members(out: &mut Vec<u8>, rendered: &[u8]) {
    if !rendered.is_empty() {
        out.push(b',');
        out.extend_from_slice(rendered);
    }
}

/// What happened to the state.
fn step(out: &mut Vec<u8>, transition: &Transition) {
    literal(out, concat!(next!(old_state), "\""));
    state(out, transition.old_state);
    literal(out, concat!("\"", next!(new_state), "\""));
    state(out, transition.new_state);
    out.push(b'"');
    if let Some(ns) = transition.duration_ns {
        literal(out, next!(state_duration_us));
        decimal(out, ns / 1000);
        if transition.since_attach {
            literal(out, concat!(next!(state_duration_since_attach), "true"));
        }
    }
    literal(out, role(transition));
    if transition.gap {
        literal(out, concat!(next!(gap), "true"));
    }
    marks(out, transition, transition.failed_for_unknown_cause());
}

const fn role(transition: &Transition) -> &'static str {
    match transition.role {
        Some(Role::Client) => concat!(next!(role), r#""client""#),
        Some(Role::Server) => concat!(next!(role), r#""server""#),
        None => "",
    }
}

fn marks(out: &mut Vec<u8>, transition: &Transition, failed_for_unknown_cause: bool) {
    for (set, member) in [
        (transition.inferred, concat!(next!(inferred), "true")),
        (failed_for_unknown_cause, concat!(next!(cause), r#""unknown""#)),
        (transition.mptcp, concat!(next!(mptcp), "true")),
        (transition.v4_mapped, concat!(next!(dual_stack), "true")),
    ] {
        if set {
            literal(out, member);
        }
    }
}

fn connection(out: &mut Vec<u8>, transition: &Transition, id: u64, extra: Extra<'_>) {
    literal(out, concat!(next!(connection), "{", first!(id), "\""));
    hex16(out, id);
    if let Some(community) = extra.community {
        literal(out, concat!("\"", next!(community_id), "\""));
        out.extend_from_slice(community.as_bytes());
    }
    if let Some(state) = extra.state {
        literal(out, concat!("\"", next!(state), "\""));
        literal(out, state);
    }
    if let Some(cookie) = transition.cookie {
        literal(out, concat!("\"", next!(cookie), "\""));
        decimal(out, cookie);
    }
    out.push(b'"');
    literal(out, if transition.birth_known { "}" } else { concat!(next!(partial), "true}") });
}

/// `,"cgroup":{"id":"7421"},"interface":{"index":2},"netns":{"inode":4026532281,"cookie":"12"}`, what is known of it.
fn places(out: &mut Vec<u8>, transition: &Transition) {
    if let Some(id) = transition.cgroup_id {
        literal(out, concat!(next!(cgroup), "{", first!(id), "\""));
        decimal(out, id);
        literal(out, "\"}");
    }
    if let Some(index) = transition.interface {
        literal(out, concat!(next!(interface), "{", first!(index)));
        decimal(out, index);
        out.push(b'}');
    }
    let (inode, cookie) = (transition.netns, transition.netns_cookie);
    if inode.is_none() && cookie.is_none() {
        return;
    }
    literal(out, concat!(next!(netns), "{"));
    if let Some(inode) = inode {
        literal(out, first!(inode));
        decimal(out, inode);
    }
    if let Some(cookie) = cookie {
        let known = inode.is_some();
        literal(out, if known { concat!(next!(cookie), "\"") } else { concat!(first!(cookie), "\"") });
        decimal(out, cookie);
        out.push(b'"');
    }
    out.push(b'}');
}

/// `,"attribution":{"source":"socket_cgroup","status":"resolved"}`
fn attribution(out: &mut Vec<u8>, event: &Event<'_>) {
    literal(out, concat!(next!(attribution), "{", first!(source), "\""));
    literal(out, event.attribution.source.as_str());
    literal(out, concat!("\"", next!(status), "\""));
    literal(out, event.attribution.status.as_str());
    literal(out, "\"}");
}
