//! Where the running kernel keeps what the program reads, found in its BTF at start and handed over as a
//! read-only global. [`ABSENT`] marks a field this kernel does not have: the verifier then removes the code that
//! would read it.

use bytemuck::{Pod, Zeroable};

/// Offset of a field that the running kernel lacks.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets in kernel structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Offsets {
    /// `sock.__sk_common.skc_family`, u16.
    pub family: u32,
    /// `sock.__sk_common.skc_state`, u8.
    pub state: u32,
    /// `sock.__sk_common.skc_num`, u16, host order; 0 at -> CLOSE.
    pub local_port: u32,
    /// `sock.__sk_common.skc_dport`, u16, network order.
    pub peer_port: u32,
    /// `sock.__sk_common.skc_rcv_saddr`, 4 bytes.
    pub local_v4: u32,
    /// `sock.__sk_common.skc_daddr`, 4 bytes.
    pub peer_v4: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`, 16 bytes.
    pub local_v6: u32,
    /// `sock.__sk_common.skc_v6_daddr`, 16 bytes.
    pub peer_v6: u32,
    /// `sock.__sk_common.skc_cookie`, u64.
    pub cookie: u32,
    /// `sock.__sk_common.skc_bound_dev_if`, int.
    pub bound_interface: u32,
    /// `sock.__sk_common.skc_net`, pointer to `net`.
    pub net: u32,
    /// `sock.sk_protocol`, u16 (since 5.6).
    pub protocol: u32,
    /// `sock.sk_err`, int.
    pub error: u32,
    /// `sock.sk_err_soft`, int.
    pub soft_error: u32,
    /// `sock.sk_error_queue.qlen`, u32.
    pub errors_queued: u32,
    /// `sock.sk_error_queue.prev`, pointer to the newest `sk_buff`, or to the queue where that is empty.
    pub newest_error: u32,
    /// `sock_exterr_skb.ee.ee_errno` within `sk_buff`, u32.
    pub queued_errno: u32,
    /// `sock_exterr_skb.ee.ee_origin` within `sk_buff`, u8.
    pub queued_origin: u32,
    /// `sock.sk_shutdown`, u8.
    pub shutdown: u32,
    /// `tcp_sock.segs_out`, u32.
    pub segments_out: u32,
    /// `tcp_sock.write_seq`, u32.
    pub write_seq: u32,
    /// `inet_sock.inet_sport`, u16, network order; kept at -> CLOSE.
    pub inet_sport: u32,
    /// `tcp_sock.is_mptcp`, bool.
    pub is_mptcp: u32,
    /// Byte that holds the bit `tcp_sock.repair`.
    pub repair: u32,
    /// Which bit of that byte.
    pub repair_bit: u32,
    /// `tcp_sock.tsorted_sent_queue`, a list head (since 4.15).
    pub sent_queue: u32,
    /// `sock.sk_cgrp_data.cgroup`, pointer (since 5.15).
    pub cgroup: u32,
    /// `sock.sk_cgrp_data.val`, u64 (before 5.15): a pointer unless its two low bits are set.
    pub cgroup_val: u32,
    /// `cgroup.kn`, pointer to `kernfs_node`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id`, u64 (since 5.5).
    pub kernfs_id: u32,
    /// `net.ns.inum`, u32.
    pub net_inum: u32,
    /// `net.net_cookie`, u64 (since 5.12).
    pub net_cookie: u32,
    /// `net.ipv4.ip_local_ports.range`, from which the kernel chooses ports, for IPv6 too.
    pub port_range: u32,
    /// 1 where that is two ints, the lower end first (before 6.8), 0 where it is a u32 with the upper end in its upper half
    /// (`inet_get_local_port_range`, `net/ipv4/inet_connection_sock.c`).
    pub port_range_is_two: u32,
    /// `cgroup.root`, pointer to `cgroup_root`.
    pub cgroup_root: u32,
    /// `cgroup_root.hierarchy_id`, int; 0 is the unified hierarchy.
    pub hierarchy_id: u32,
    /// `cgroup.self.parent`, pointer to the parent's `self`, its first member.
    pub cgroup_parent: u32,
    /// `task_struct.flags`, u32, for `PF_KTHREAD`.
    pub task_flags: u32,
    /// `task_struct.cgroups`, pointer to `css_set`.
    pub task_cgroups: u32,
    /// `css_set.subsys[]`, pointer: the element of the controller by whose hierarchy of cgroup v1 containers are told
    /// apart. [`ABSENT`] where there is none: nothing of a task's cgroup is read then.
    pub task_state: u32,
    /// `cgroup_subsys_state.cgroup`, pointer.
    pub state_cgroup: u32,
    /// `socket.sk`, pointer (for the walk over descriptors).
    pub socket_sk: u32,
    /// `task_struct.tgid`, int.
    pub task_tgid: u32,
    /// `task_struct.comm`, 16 bytes.
    pub task_comm: u32,
}

impl Offsets {
    /// Nothing is known: a kernel without BTF.
    pub const NONE: Self = Self {
        family: ABSENT,
        state: ABSENT,
        local_port: ABSENT,
        peer_port: ABSENT,
        local_v4: ABSENT,
        peer_v4: ABSENT,
        local_v6: ABSENT,
        peer_v6: ABSENT,
        cookie: ABSENT,
        bound_interface: ABSENT,
        net: ABSENT,
        protocol: ABSENT,
        error: ABSENT,
        soft_error: ABSENT,
        errors_queued: ABSENT,
        newest_error: ABSENT,
        queued_errno: ABSENT,
        queued_origin: ABSENT,
        shutdown: ABSENT,
        segments_out: ABSENT,
        write_seq: ABSENT,
        inet_sport: ABSENT,
        is_mptcp: ABSENT,
        repair: ABSENT,
        repair_bit: 0,
        sent_queue: ABSENT,
        cgroup: ABSENT,
        cgroup_val: ABSENT,
        cgroup_kn: ABSENT,
        kernfs_id: ABSENT,
        net_inum: ABSENT,
        net_cookie: ABSENT,
        port_range: ABSENT,
        port_range_is_two: 0,
        cgroup_root: ABSENT,
        hierarchy_id: ABSENT,
        cgroup_parent: ABSENT,
        task_flags: ABSENT,
        task_cgroups: ABSENT,
        task_state: ABSENT,
        state_cgroup: ABSENT,
        socket_sk: ABSENT,
        task_tgid: ABSENT,
        task_comm: ABSENT,
    };
}

/// Byte offsets that the walk over the kernel's own tables needs beside [`Offsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WalkOffsets {
    /// `task_struct.nsproxy`, pointer.
    pub task_nsproxy: u32,
    /// `nsproxy.net_ns`, pointer to `net`.
    pub nsproxy_net: u32,
    /// `net.list`, `list_head`.
    pub net_list: u32,
    /// `net.ns.ops`, pointer: the same in all namespaces of a kind.
    pub net_ops: u32,
    /// `net.ipv4.tcp_death_row`, where that is a pointer (5.17 to 6.0).
    pub net_death_row: u32,
    /// `net.ipv4.tcp_death_row.hashinfo`, pointer; within `inet_timewait_death_row` where `net_death_row` is there.
    pub net_tables: u32,
    /// `sock.__sk_common.skc_nulls_node`, whose first word is the next node.
    pub socket_node: u32,
    /// `sock.__sk_common.skc_hash`, u32.
    pub socket_hash: u32,
    /// `sock.__sk_common.skc_refcnt`, u32.
    pub socket_references: u32,
    /// Byte that holds the bit `sock.__sk_common.skc_ipv6only`.
    pub v6_only: u32,
    /// Which bit of that byte.
    pub v6_only_bit: u32,
    /// `inet_connection_sock.icsk_ulp_data`, pointer; in a subflow its `mptcp_subflow_context`.
    pub socket_ulp: u32,
    /// `mptcp_subflow_context.conn`, pointer to the MPTCP socket.
    pub subflow_socket: u32,
    /// `task_struct.group_leader`, pointer.
    pub task_leader: u32,
    /// `task_struct.tasks`, `list_head` of all leaders.
    pub task_list: u32,
    /// `task_struct.start_time`, u64.
    pub task_started: u32,
    /// `task_struct.files`, pointer to `files_struct`.
    pub task_files: u32,
    /// `files_struct.fdt`, pointer to `fdtable`.
    pub files_table: u32,
    /// `fdtable.max_fds`, unsigned.
    pub table_len: u32,
    /// `fdtable.fd`, pointer to an array of pointers to `file`.
    pub table_files: u32,
    /// `fdtable.open_fds`, pointer to a bitmap.
    pub table_open: u32,
    /// `file.private_data`, pointer; of a socket's file to its `socket`.
    pub file_private: u32,
    /// `socket.file`, pointer back.
    pub socket_file: u32,
    /// `sock.__sk_common.skc_listener`, pointer, of a request.
    pub request_listener: u32,
    /// Byte that holds the bit `inet_request_sock.acked`.
    pub request_acked: u32,
    /// Which bit of that byte.
    pub request_acked_bit: u32,
    /// `inet_timewait_sock.tw_substate`, u8.
    pub timewait_substate: u32,
    /// `tcp_sock.rcv_nxt`, u32.
    pub received: u32,
    /// `tcp_sock.copied_seq`, u32.
    pub read: u32,
    /// `tcp_sock.write_seq`, u32.
    pub written: u32,
    /// `tcp_sock.snd_una`, u32.
    pub unacknowledged: u32,
    /// `tcp_sock.lsndtime`, u32, jiffies.
    pub last_sent: u32,
    /// `inet_connection_sock.icsk_ack.lrcvtime`, u32, jiffies.
    pub last_received: u32,
    /// `inet_connection_sock.icsk_retransmits`, u8.
    pub retransmits: u32,
    /// `sock.sk_ack_backlog`, u32.
    pub queued: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub queue_limit: u32,
    /// `sock.sk_drops`, int.
    pub drops: u32,
}

impl WalkOffsets {
    /// Nothing is known.
    pub const NONE: Self = Self {
        task_nsproxy: ABSENT,
        nsproxy_net: ABSENT,
        net_list: ABSENT,
        net_ops: ABSENT,
        net_death_row: ABSENT,
        net_tables: ABSENT,
        socket_node: ABSENT,
        socket_hash: ABSENT,
        socket_references: ABSENT,
        v6_only: ABSENT,
        v6_only_bit: 0,
        socket_ulp: ABSENT,
        subflow_socket: ABSENT,
        task_leader: ABSENT,
        task_list: ABSENT,
        task_started: ABSENT,
        task_files: ABSENT,
        files_table: ABSENT,
        table_len: ABSENT,
        table_files: ABSENT,
        table_open: ABSENT,
        file_private: ABSENT,
        socket_file: ABSENT,
        request_listener: ABSENT,
        request_acked: ABSENT,
        request_acked_bit: 0,
        timewait_substate: ABSENT,
        received: ABSENT,
        read: ABSENT,
        written: ABSENT,
        unacknowledged: ABSENT,
        last_sent: ABSENT,
        last_received: ABSENT,
        retransmits: ABSENT,
        queued: ABSENT,
        queue_limit: ABSENT,
        drops: ABSENT,
    };
}

/// Byte offsets of what is read when a connection ends, in `struct tcp_sock`, which begins with all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FigureOffsets {
    /// `sock.__sk_common.skc_flags`, unsigned long.
    pub flags: u32,
    /// `sock.sk_lingertime`, unsigned long, later int.
    pub linger_time: u32,
    /// `sock.sk_socket`, pointer.
    pub holder: u32,
    /// `inet_connection_sock.icsk_retransmits`, u8.
    pub retransmits_in_row: u32,
    /// `inet_connection_sock.icsk_probes_out`, u8.
    pub probes: u32,
    /// `inet_connection_sock.icsk_user_timeout`, u32.
    pub user_timeout: u32,
    /// `inet_connection_sock.icsk_ack.lrcvtime`, u32.
    pub last_received: u32,
    /// `tcp_sock.lsndtime`, u32.
    pub last_sent: u32,
    /// `tcp_sock.bytes_acked`, u64.
    pub bytes_acked: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub bytes_received: u32,
    /// `tcp_sock.data_segs_out`, u32.
    pub segments_sent: u32,
    /// `tcp_sock.data_segs_in`, u32.
    pub segments_received: u32,
    /// `sock.sk_drops`, int.
    pub drops: u32,
    /// `tcp_sock.snd_wl1`, u32.
    pub window_from: u32,
    /// `tcp_sock.total_retrans`, u32.
    pub retransmits: u32,
    /// `tcp_sock.rcv_ooopack`, u32 (since 5.4).
    pub out_of_order: u32,
    /// `tcp_sock.srtt_us`, u32.
    pub srtt: u32,
    /// `tcp_sock.rtt_min.s[0].v`, u32.
    pub min_rtt: u32,
    /// `tcp_sock.rcv_nxt`, u32.
    pub receive_next: u32,
    /// `tcp_sock.copied_seq`, u32.
    pub copied: u32,
    /// `tcp_sock.snd_una`, u32.
    pub unacknowledged: u32,
    /// `tcp_sock.chrono_start`, u32.
    pub chrono_start: u32,
    /// `tcp_sock.chrono_stat`, three u32.
    pub chrono: u32,
    /// Byte that holds `tcp_sock.chrono_type`, two bits.
    pub chrono_type: u32,
    /// The lower of the two in that byte.
    pub chrono_type_bit: u32,
    /// Not 0: each of them is there, but perhaps `out_of_order`.
    pub complete: u32,
}

impl FigureOffsets {
    /// Nothing is known.
    pub const NONE: Self = Self {
        flags: ABSENT,
        linger_time: ABSENT,
        holder: ABSENT,
        retransmits_in_row: ABSENT,
        probes: ABSENT,
        user_timeout: ABSENT,
        last_received: ABSENT,
        last_sent: ABSENT,
        bytes_acked: ABSENT,
        bytes_received: ABSENT,
        segments_sent: ABSENT,
        segments_received: ABSENT,
        drops: ABSENT,
        window_from: ABSENT,
        retransmits: ABSENT,
        out_of_order: ABSENT,
        srtt: ABSENT,
        min_rtt: ABSENT,
        receive_next: ABSENT,
        copied: ABSENT,
        unacknowledged: ABSENT,
        chrono_start: ABSENT,
        chrono: ABSENT,
        chrono_type: ABSENT,
        chrono_type_bit: 0,
        complete: 0,
    };
}

/// Byte offsets in the record of the classic tracepoint `sock:inet_sock_set_state`, read from its `format` file:
/// the layout differs between kernels and distributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ClassicOffsets {
    /// `skaddr`, pointer.
    pub socket: u32,
    /// `oldstate`, int.
    pub old_state: u32,
    /// `newstate`, int.
    pub new_state: u32,
    /// `sport`, u16, host order.
    pub local_port: u32,
    /// `dport`, u16, host order.
    pub peer_port: u32,
    /// `family`, u16.
    pub family: u32,
    /// `protocol`, u8 before 5.6, u16 after.
    pub protocol: u32,
    /// Size of `protocol`, 1 or 2.
    pub protocol_size: u32,
    /// `saddr`, 4 bytes.
    pub local_v4: u32,
    /// `daddr`, 4 bytes.
    pub peer_v4: u32,
    /// `saddr_v6`, 16 bytes; IPv4 as mapped.
    pub local_v6: u32,
    /// `daddr_v6`, 16 bytes; IPv4 as mapped.
    pub peer_v6: u32,
}

/// What user space wants of the program, fixed at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// Not 0: also record the task on the CPU, for the BCC table.
    pub want_on_cpu: u32,
    /// Size of the main ring buffer in bytes.
    pub ring_bytes: u32,
    /// Number of the hierarchy of cgroup v1 by which containers are told apart, 0 where there is none.
    pub task_hierarchy: u32,
    /// Jiffies that the programs trace on without a reader, 0 for ever.
    pub lease_jiffies: u32,
}
