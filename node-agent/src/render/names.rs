//! The names of our own attributes, once for every format that is written by hand: `tcpstates.connection.id` is
//! `own`, `connection`, `id`. To rename one is done here, and in the types of `kube-tcpstates-events`, to which property
//! tests hold the lines.
//!
//! They are macros because only a literal can be joined with what stands around it before the program runs.

macro_rules! names {
    ($($key:ident = $name:literal;)+) => {
        /// The name of an attribute, as a literal.
        macro_rules! name {
            $(($key) => { $name };)+
        }

        /// `"name":`
        macro_rules! first {
            $(($key) => { concat!("\"", $name, "\":") };)+
        }

        /// `,"name":`
        macro_rules! next {
            $(($key) => { concat!(",\"", $name, "\":") };)+
        }
    };
}

names! {
    own = "tcpstates";
    kind = "type";
    schema = "schema";
    run = "run";
    seq = "seq";
    old_state = "old_state";
    new_state = "new_state";
    state_duration_us = "state_duration_us";
    state_duration_since_attach = "state_duration_since_attach";
    role = "role";
    gap = "gap";
    inferred = "inferred";
    cause = "cause";
    mptcp = "mptcp";
    outcome = "outcome";
    closed_by = "closed_by";
    start = "start";
    duration_us = "duration_us";
    since_attach = "since_attach";
    handshake_us = "handshake_us";
    syn_retransmits = "syn_retransmits";
    idle_us = "idle_us";
    sent = "sent";
    received = "received";
    bytes = "bytes";
    segments = "segments";
    retransmits = "retransmits";
    out_of_order = "out_of_order";
    unread_bytes = "unread_bytes";
    unsent_bytes = "unsent_bytes";
    srtt_us = "srtt_us";
    min_rtt_us = "min_rtt_us";
    limited = "limited";
    peer_window_us = "peer_window_us";
    send_buffer_us = "send_buffer_us";
    states = "states";
    listener = "listener";
    community_id = "community_id";
    dual_stack = "dual_stack";
    connection = "connection";
    id = "id";
    cookie = "cookie";
    partial = "partial";
    owner = "owner";
    source = "source";
    qos = "qos";
    labels_omitted = "labels_omitted";
    container = "container";
    runtime = "runtime";
    host = "host";
    slice = "slice";
    unit = "unit";
    cgroup = "cgroup";
    netns = "netns";
    peer = "peer";
    k8s = "k8s";
    interface = "interface";
    index = "index";
    inode = "inode";
    attribution = "attribution";
    status = "status";
    traces = "traces";
    cluster_traces = "cluster_traces";
    traces_omitted = "traces_omitted";
    // Only in ECS, which has no fields for them.
    state = "state";
    pod = "pod";
    label = "label";
    workload = "workload";
    workload_kind = "kind";
    workload_name = "name";
}

pub(super) use {first, name, next};
