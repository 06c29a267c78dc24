//! Events the tests of this station share.

use std::net::IpAddr;

use kube_tcpstates_common::state::State;

use crate::names::{Numbered, Owner, Peer, TraceName, TraceNames, Workload, WorkloadKind};

use super::{Attribution, AttributionSource, AttributionStatus, Event};
use crate::decode::{Endpoint, NetworkType, OnCpu, OwnerSource, Process, Role, Transition};

/// What an [`Event`] borrows.
pub(crate) struct Fixture {
    pub(crate) transition: Transition,
    pub(crate) unix_ns: u64,
    pub(crate) connection_id: u64,
    pub(crate) attribution: Attribution,
    pub(crate) owner: Option<Numbered<Owner>>,
    pub(crate) peer: Option<Numbered<Peer>>,
    pub(crate) traces: TraceNames,
}

/// A line as the expected ones have it: they keep a version of their own when the product's is raised.
pub(super) fn snapshot(line: &str) -> String {
    let version = |version: &str| format!(r#""type":"tcpstates","version":"{version}""#);
    line.replace(&version(crate::VERSION), &version("0.1.0"))
}

/// A comm as the kernel holds it; at most 16 bytes count.
pub(crate) fn comm(name: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, &given) in bytes.iter_mut().zip(name) {
        *byte = given;
    }
    bytes
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), port }
}

/// A transition of which as little as possible is known.
pub(crate) fn bare(old_state: State, new_state: State, local: Endpoint) -> Transition {
    Transition {
        boot_ns: 1_000_000_000_000,
        duration_ns: None,
        since_attach: false,
        old_state,
        new_state,
        family: if matches!(local.address, IpAddr::V4(_)) { NetworkType::Ipv4 } else { NetworkType::Ipv6 },
        v4_mapped: false,
        mptcp: false,
        local,
        peer: None,
        role: None,
        error: None,
        socket: 0xffff_8881_042a_c000,
        birth_ns: 1_000_000_000_000,
        birth_known: true,
        gap: false,
        inferred: false,
        figures: None,
        cookie: None,
        cgroup_id: None,
        task_cgroup: None,
        interface: None,
        netns: None,
        netns_cookie: None,
        process: None,
        on_cpu: OnCpu { pid: 0, comm: comm(b"swapper/1") },
        traces: 0,
        maybe: 0,
        generation: 0,
    }
}

impl Fixture {
    pub(crate) fn event(&self) -> Event<'_> {
        Event {
            transition: &self.transition,
            unix_ns: self.unix_ns,
            connection_id: self.connection_id,
            attribution: self.attribution,
            owner: self.owner.as_ref(),
            peer: self.peer.as_ref(),
            traces: &self.traces,
        }
    }

    fn unowned(transition: &Transition, connection_id: u64) -> Self {
        Self {
            transition: *transition,
            unix_ns: 1_795_361_101_123_456_789,
            connection_id,
            attribution: Attribution { source: AttributionSource::None, status: AttributionStatus::Unknown },
            owner: None,
            peer: None,
            traces: Numbered::new(Vec::new()),
        }
    }

    /// A pod's client whose SYN was answered; everything is known.
    pub(crate) fn client() -> Self {
        let transition = Transition {
            duration_ns: Some(433_871),
            peer: Some(endpoint("10.9.8.7", 443)),
            role: Some(Role::Client),
            cookie: Some(16_386),
            cgroup_id: Some(7421),
            netns: Some(4_026_532_281),
            process: Some(Process {
                pid: 4242,
                comm: comm(b"checkout"),
                source: OwnerSource::Connect,
                noted_ns: 0,
            }),
            ..bare(State::SYN_SENT, State::ESTABLISHED, endpoint("10.1.2.3", 43_512))
        };
        Self {
            attribution: Attribution {
                source: AttributionSource::SocketCgroup,
                status: AttributionStatus::Resolved,
            },
            owner: Some(Numbered::new(pod())),
            traces: Numbered::new(vec![
                TraceName::Namespaced("shop/checkout-egress".to_owned()),
                TraceName::Cluster("all-https".to_owned()),
            ]),
            ..Self::unowned(&transition, 0x9f2c_41d0_7be6_a835)
        }
    }

    /// A unit of the host begins to listen on every address.
    pub(crate) fn listener() -> Self {
        let transition = Transition {
            role: Some(Role::Server),
            cgroup_id: Some(2210),
            process: Some(Process {
                pid: 812,
                comm: comm(b"nginx: master p"),
                source: OwnerSource::Listen,
                noted_ns: 0,
            }),
            on_cpu: OnCpu { pid: 812, comm: comm(b"nginx: master p") },
            ..bare(State::CLOSE, State::LISTEN, endpoint("0.0.0.0", 8080))
        };
        let owner = Owner {
            host_slice: Some("system.slice".to_owned()),
            host_unit: Some("nginx.service".to_owned()),
            ..Owner::default()
        };
        Self {
            attribution: Attribution {
                source: AttributionSource::SocketCgroup,
                status: AttributionStatus::Host,
            },
            owner: Some(Numbered::new(owner)),
            ..Self::unowned(&transition, 0xa1)
        }
    }

    /// A refused connection of which the classic hook told all it could.
    pub(crate) fn refused() -> Self {
        let transition = Transition {
            duration_ns: Some(1_204_567),
            peer: Some(endpoint("fd00:1::7", 81)),
            role: Some(Role::Client),
            error: Some(111),
            birth_known: false,
            on_cpu: OnCpu { pid: 4242, comm: comm(b"curl") },
            ..bare(State::SYN_SENT, State::CLOSE, endpoint("fd00:1::3", 51_000))
        };
        Self::unowned(&transition, 0xb2)
    }
}

/// A pod's container with every name known.
pub(crate) fn pod() -> Owner {
    let some = |text: &str| Some(text.to_owned());
    Owner {
        container_id: Some("4f1e0c9a7b21d653".repeat(4)),
        runtime: Some("containerd"),
        pod_uid: some("0b8e7c52-9f3e-4d1a-8c55-1f0e2d3c4b5a"),
        qos: Some("burstable"),
        pod_name: some("checkout-7d4f"),
        namespace: some("shop"),
        container_name: some("app"),
        node: some("n1"),
        cluster: some("prod"),
        workload: Some(Workload { kind: WorkloadKind::Deployment, name: "checkout".to_owned() }),
        pod_labels: vec![
            ("app".to_owned(), "checkout".to_owned()),
            ("app.kubernetes.io/part-of".to_owned(), "shop".to_owned()),
        ],
        host_slice: None,
        host_unit: None,
    }
}
