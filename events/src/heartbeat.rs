//! `tcpstates.type` `heartbeat`: no lines because nothing happened, or because nothing works? This line tells.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{K8s, SchemaId, is_false};

/// The tracer is alive; totals of the run so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Wall-clock time the line was made, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: HeartbeatAttributes,
    /// The cluster and the node that are traced; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
}

/// The attributes of a heartbeat that are our own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "heartbeat")]
#[schemars(rename = "HeartbeatAttributes", transform = Kind("heartbeat"))]
pub struct HeartbeatAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// Time since the run started, seconds.
    pub uptime_s: u64,
    /// What became of the transitions so far.
    pub totals: Totals,
    /// Lost on the way to an outlet beside stdout, by its name. Only outlets that lost something.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_by_outlet: BTreeMap<String, u64>,
    /// How far the wall clock was stepped since the last heartbeat, nanoseconds, negative when it went back; absent
    /// for steps of 1 ms and less. `time` of later lines follows the new clock, durations are not affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_step_ns: Option<i64>,
    /// Traces this node follows; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_loaded: Option<u32>,
    /// Traces this node could not take; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_refused: Option<u32>,
    /// The watch of the node's pods works, or has been broken for less than 5 s; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_in_sync: Option<bool>,
    /// This is the last line of the run: the totals are final and add up exactly.
    #[serde(rename = "final", default, skip_serializing_if = "is_false")]
    pub last: bool,
}

/// What became of the transitions of this run so far, in transitions. Once the run has ended (`final`),
/// `seen = other_protocol + filtered + pending + ring_full + emitted` and
/// `emitted + told_twice = written + filtered_user + summarised + held + (lost outside the kernel)`; before, what is on its way is
/// missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// The kernel program ran.
    pub seen: u64,
    /// Not TCP (MPTCP's own socket, SCTP, DCCP).
    pub other_protocol: u64,
    /// Wanted by no trace, decided in the kernel.
    pub filtered: u64,
    /// Kept with the socket until its next transition decides. Goes up and down.
    pub pending: u64,
    /// Wanted, but the ring buffer had no room: lost.
    pub ring_full: u64,
    /// Went into the ring buffer.
    pub emitted: u64,
    /// Became a line.
    pub written: u64,
    /// Wanted by no trace, decided in user space.
    pub filtered_user: u64,
    /// Counted once more: a transition becomes up to three things, a line of its own, one of the connection that it ends,
    /// and part of a summary.
    pub told_twice: u64,
    /// Added to a summary.
    #[serde(default)]
    pub summarised: u64,
    /// Waiting for an owner's name. Goes up and down.
    pub held: u64,
    /// Lost in all places, kernel and user space.
    pub lost: u64,
}
