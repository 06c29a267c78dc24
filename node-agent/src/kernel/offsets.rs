//! Which members of which structures the program reads, and what goes without one that is missing.

use kube_tcpstates_common::offsets::{ABSENT, FigureOffsets, Offsets};

use super::btf::Btf;

/// A member that this kernel lacks and without which something cannot work.
#[derive(Debug, thiserror::Error)]
#[error("this kernel's type information has no `{structure}.{member}`")]
pub struct Missing {
    pub(super) structure: &'static str,
    pub(super) member: &'static str,
}

/// Resolves every offset. The tuple and the protocol must be there; what is missing of the rest is marked
/// [`ABSENT`] and costs what `kube-tcpstates check` says.
///
/// `controller` is the one by whose hierarchy of cgroup v1 containers are told apart, where there is one.
pub fn resolve(btf: &Btf, controller: Option<&str>) -> Result<Offsets, Missing> {
    let must = |structure, member| required(btf, structure, member);
    let may = |structure, member| optional(btf, structure, member);
    // A queued error lies in the bytes that a `sk_buff` has for whoever holds it (`SKB_EXT_ERR`, `include/linux/errqueue.h`).
    let queued = |member: &str| {
        let offsets = btf.offset("sk_buff", "cb").zip(btf.offset("sock_exterr_skb", member));
        offsets.and_then(|(holder, error)| holder.checked_add(error)).unwrap_or(ABSENT)
    };
    let repair = btf.bit("tcp_sock", "repair");
    Ok(Offsets {
        family: must("sock", "__sk_common.skc_family")?,
        state: must("sock", "__sk_common.skc_state")?,
        local_port: must("sock", "__sk_common.skc_num")?,
        peer_port: must("sock", "__sk_common.skc_dport")?,
        local_v4: must("sock", "__sk_common.skc_rcv_saddr")?,
        peer_v4: must("sock", "__sk_common.skc_daddr")?,
        local_v6: may("sock", "__sk_common.skc_v6_rcv_saddr"),
        peer_v6: may("sock", "__sk_common.skc_v6_daddr"),
        cookie: may("sock", "__sk_common.skc_cookie"),
        bound_interface: may("sock", "__sk_common.skc_bound_dev_if"),
        net: may("sock", "__sk_common.skc_net.net"),
        protocol: must("sock", "sk_protocol")?,
        error: may("sock", "sk_err"),
        soft_error: may("sock", "sk_err_soft"),
        errors_queued: may("sock", "sk_error_queue.qlen"),
        newest_error: may("sock", "sk_error_queue.prev"),
        queued_errno: queued("ee.ee_errno"),
        queued_origin: queued("ee.ee_origin"),
        shutdown: may("sock", "sk_shutdown"),
        segments_out: may("tcp_sock", "segs_out"),
        write_seq: may("tcp_sock", "write_seq"),
        inet_sport: must("inet_sock", "inet_sport")?,
        is_mptcp: may("tcp_sock", "is_mptcp"),
        repair: repair.map_or(ABSENT, |bit| bit / 8),
        repair_bit: repair.map_or(0, |bit| bit % 8),
        sent_queue: may("tcp_sock", "tsorted_sent_queue"),
        cgroup: may("sock", "sk_cgrp_data.cgroup"),
        cgroup_val: may("sock", "sk_cgrp_data.val"),
        cgroup_kn: may("cgroup", "kn"),
        kernfs_id: may("kernfs_node", "id"),
        net_inum: may("net", "ns.inum"),
        net_cookie: may("net", "net_cookie"),
        port_range: may("net", "ipv4.ip_local_ports.range"),
        port_range_is_two: btf.offset("local_ports", "lock").is_some().into(),
        cgroup_root: may("cgroup", "root"),
        hierarchy_id: may("cgroup_root", "hierarchy_id"),
        cgroup_parent: may("cgroup", "self.parent"),
        task_flags: may("task_struct", "flags"),
        task_cgroups: may("task_struct", "cgroups"),
        task_state: controller.and_then(|controller| state_of(btf, controller)).unwrap_or(ABSENT),
        state_cgroup: may("cgroup_subsys_state", "cgroup"),
        socket_sk: may("socket", "sk"),
        task_tgid: may("task_struct", "tgid"),
        task_comm: may("task_struct", "comm"),
    })
}

/// Resolves what is read when a connection ends. [`FigureOffsets::NONE`] where something of it is missing.
pub(super) fn resolve_figures(btf: &Btf, offsets: &Offsets) -> FigureOffsets {
    let found = || {
        let connection = |member| btf.offset("inet_connection_sock", member);
        let tcp = |member| btf.offset("tcp_sock", member);
        let chrono_type = btf.bit("tcp_sock", "chrono_type")?;
        Some(FigureOffsets {
            flags: btf.offset("sock", "__sk_common.skc_flags")?,
            linger_time: btf.offset("sock", "sk_lingertime")?,
            holder: btf.offset("sock", "sk_socket")?,
            retransmits_in_row: connection("icsk_retransmits")?,
            probes: connection("icsk_probes_out")?,
            user_timeout: connection("icsk_user_timeout")?,
            last_received: connection("icsk_ack.lrcvtime")?,
            last_sent: tcp("lsndtime")?,
            bytes_acked: tcp("bytes_acked")?,
            bytes_received: tcp("bytes_received")?,
            segments_sent: tcp("data_segs_out")?,
            segments_received: tcp("data_segs_in")?,
            drops: btf.offset("sock", "sk_drops")?,
            window_from: tcp("snd_wl1")?,
            retransmits: tcp("total_retrans")?,
            out_of_order: tcp("rcv_ooopack").unwrap_or(ABSENT),
            srtt: tcp("srtt_us")?,
            // The first of `struct minmax_sample`: when, then what.
            min_rtt: tcp("rtt_min.s")?.checked_add(4)?,
            receive_next: tcp("rcv_nxt")?,
            copied: tcp("copied_seq")?,
            unacknowledged: tcp("snd_una")?,
            chrono_start: tcp("chrono_start")?,
            chrono: tcp("chrono_stat")?,
            chrono_type: chrono_type / 8,
            chrono_type_bit: chrono_type % 8,
            complete: 1,
        })
    };
    let others = [offsets.shutdown, offsets.segments_out, offsets.write_seq];
    found().filter(|_| !others.contains(&ABSENT)).unwrap_or(FigureOffsets::NONE)
}

/// Where a member is without which something cannot work.
pub(super) fn required(btf: &Btf, structure: &'static str, member: &'static str) -> Result<u32, Missing> {
    btf.offset(structure, member).ok_or(Missing { structure, member })
}

/// Where a member is that a kernel may lack.
pub(super) fn optional(btf: &Btf, structure: &str, member: &str) -> u32 {
    btf.offset(structure, member).unwrap_or(ABSENT)
}

/// Where a `css_set` points to a task's state under a controller (`SUBSYS`, `include/linux/cgroup_subsys.h`).
fn state_of(btf: &Btf, controller: &str) -> Option<u32> {
    let index = btf.constant("cgroup_subsys_id", &format!("{controller}_cgrp_id"))?;
    btf.offset("css_set", "subsys")?.checked_add(index.checked_mul(8)?)
}
