//! Where the walk finds what it looks at on this kernel.

use kube_tcpstates_common::offsets::{ABSENT, WalkOffsets};

use super::super::{
    btf::Btf,
    offsets::{Missing, optional, required},
};

/// Everything that the walk must know of the kernel's structures.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Layout {
    pub(in super::super) offsets: WalkOffsets,
    pub(super) tables: TablesLayout,
}

/// `struct inet_hashinfo`, `include/net/inet_hashtables.h`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TablesLayout {
    pub(super) size: u32,
    pub(super) connections: u32,
    pub(super) connections_mask: u32,
    pub(super) listeners: Listeners,
    /// `struct inet_listen_hashbucket`: its size, and where in it a chain's head is.
    pub(super) bucket_size: u32,
    pub(super) bucket_head: u32,
}

/// Where listeners are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listeners {
    /// `listening_hash`, an array of 32 buckets in the structure itself; before 5.19.
    Inside { at: u32 },
    /// `lhash2`, a table of its own, and its mask.
    Table { at: u32, mask: u32 },
}

impl Layout {
    /// Looks everything up. Names the first member that is missing and that nothing replaces.
    pub(in super::super) fn resolve(btf: &Btf) -> Result<Self, Missing> {
        let must = |structure, member| required(btf, structure, member);
        let may = |structure, member| optional(btf, structure, member);
        let size = |structure| btf.size(structure).ok_or(Missing { structure, member: "size" });
        let (net_death_row, net_tables) = match btf.offset("net", "ipv4.tcp_death_row.hashinfo") {
            Some(tables) => (ABSENT, tables),
            None => (must("net", "ipv4.tcp_death_row")?, must("inet_timewait_death_row", "hashinfo")?),
        };
        let v6_only = btf.bit("sock", "__sk_common.skc_ipv6only");
        let acked = btf.bit("inet_request_sock", "acked");
        let offsets = WalkOffsets {
            task_nsproxy: must("task_struct", "nsproxy")?,
            nsproxy_net: must("nsproxy", "net_ns")?,
            net_list: must("net", "list")?,
            net_ops: must("net", "ns.ops")?,
            net_death_row,
            net_tables,
            socket_node: must("sock", "__sk_common.skc_nulls_node")?,
            socket_hash: must("sock", "__sk_common.skc_hash")?,
            socket_references: must("sock", "__sk_common.skc_refcnt")?,
            v6_only: v6_only.map_or(ABSENT, |bit| bit / 8),
            v6_only_bit: v6_only.map_or(0, |bit| bit % 8),
            socket_ulp: may("inet_connection_sock", "icsk_ulp_data"),
            subflow_socket: may("mptcp_subflow_context", "conn"),
            task_leader: must("task_struct", "group_leader")?,
            task_list: must("task_struct", "tasks")?,
            task_started: must("task_struct", "start_time")?,
            task_files: must("task_struct", "files")?,
            files_table: must("files_struct", "fdt")?,
            table_len: must("fdtable", "max_fds")?,
            table_files: must("fdtable", "fd")?,
            table_open: must("fdtable", "open_fds")?,
            file_private: must("file", "private_data")?,
            socket_file: must("socket", "file")?,
            request_listener: may("sock", "__sk_common.skc_listener"),
            request_acked: acked.map_or(ABSENT, |bit| bit / 8),
            request_acked_bit: acked.map_or(0, |bit| bit % 8),
            timewait_substate: may("inet_timewait_sock", "tw_substate"),
            received: may("tcp_sock", "rcv_nxt"),
            read: may("tcp_sock", "copied_seq"),
            written: may("tcp_sock", "write_seq"),
            unacknowledged: may("tcp_sock", "snd_una"),
            last_sent: may("tcp_sock", "lsndtime"),
            last_received: may("inet_connection_sock", "icsk_ack.lrcvtime"),
            retransmits: may("inet_connection_sock", "icsk_retransmits"),
            queued: may("sock", "sk_ack_backlog"),
            queue_limit: may("sock", "sk_max_ack_backlog"),
            drops: may("sock", "sk_drops"),
        };
        let listeners = match btf.offset("inet_hashinfo", "listening_hash") {
            Some(at) => Listeners::Inside { at },
            None => Listeners::Table {
                at: must("inet_hashinfo", "lhash2")?,
                mask: must("inet_hashinfo", "lhash2_mask")?,
            },
        };
        let tables = TablesLayout {
            size: size("inet_hashinfo")?,
            connections: must("inet_hashinfo", "ehash")?,
            connections_mask: must("inet_hashinfo", "ehash_mask")?,
            listeners,
            bucket_size: size("inet_listen_hashbucket")?,
            bucket_head: must("inet_listen_hashbucket", "nulls_head")?,
        };
        Ok(Self { offsets, tables })
    }
}
