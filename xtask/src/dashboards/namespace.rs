//! What the connections of a namespace's workloads do, by the agents' counts; who talks to whom, by lines of summaries.

use super::model::{Dashboard, Kind, Panel, Row, Source, Variable};

pub(super) const DASHBOARD: Dashboard = Dashboard {
    uid: "tcpstates-namespace",
    title: "kube-tcpstates: connections of a namespace",
    description: "Needs agents with --workload-metrics, and a trace with mode Connections or Summary that selects the pods. What no trace selects is not here.",
    variables: &[
        Variable::Source(Source::Prometheus),
        Variable::Source(Source::Loki),
        Variable::Label {
            name: "namespace",
            title: "namespace",
            query: "label_values(kube_tcpstates_workload_connections_total, k8s_namespace_name)",
        },
        Variable::Label {
            name: "workload",
            title: "workload",
            query: r#"label_values(kube_tcpstates_workload_connections_total{k8s_namespace_name=~"$namespace"}, k8s_workload_name)"#,
        },
        Variable::Text { name: "agents", title: "the agents' namespace", at_first: "kube-tcpstates" },
    ],
    rows: &[
        Row { title: "Opened and failed", panels: FAILED },
        Row { title: "How well", panels: QUALITY },
        Row { title: "Open now", panels: OPEN },
        Row { title: "Listeners", panels: LISTENERS },
        Row { title: "Who talks to whom", panels: PAIRS },
    ],
};

/// A metric of the workloads that are chosen, with more labels.
macro_rules! of {
    ($metric:literal) => {
        concat!(
            "kube_tcpstates_workload_",
            $metric,
            r#"{k8s_namespace_name=~"$namespace", k8s_workload_name=~"$workload"}"#
        )
    };
    ($metric:literal, $labels:literal) => {
        concat!(
            "kube_tcpstates_workload_",
            $metric,
            r#"{k8s_namespace_name=~"$namespace", k8s_workload_name=~"$workload", "#,
            $labels,
            "}"
        )
    };
}

/// A rate, added up by labels.
macro_rules! rate {
    ($by:literal, $of:expr) => {
        concat!("sum by (", $by, ") (rate(", $of, "[$__rate_interval]))")
    };
}

const FAILED: &[Panel] = &[
    Panel::prometheus(
        "Opened",
        Kind::Lines,
        "cps",
        &[(
            concat!(
                "clamp_min(",
                rate!("k8s_workload_name, role", of!("connections_total")),
                " + on (k8s_workload_name) group_left () sum by (k8s_workload_name) (deriv(",
                of!("open_connections", r#"state="ESTABLISHED""#),
                "[$__rate_interval])) or ",
                rate!("k8s_workload_name, role", of!("connections_total")),
                ", 0)"
            ),
            "{{k8s_workload_name}} {{role}}",
        )],
        "Connections that ended, and by how much the open ones grew: a connection counts when it ends. Of a workload that is client and server the growth counts at both.",
    ),
    Panel::prometheus(
        "Failed, by outcome",
        Kind::Stack,
        "cps",
        &[(
            rate!("outcome, role", of!("connections_total", r#"outcome!="closed""#)),
            "{{outcome}} ({{role}})",
        )],
        "docs/connections.md says what each outcome means, and what looks like it and is another.",
    ),
    Panel::prometheus(
        "Share that failed",
        Kind::Lines,
        "percentunit",
        &[(
            concat!(
                "(",
                rate!("k8s_workload_name", of!("connections_total", r#"role="client", outcome!="closed""#)),
                " or 0 * ",
                rate!("k8s_workload_name", of!("connections_total", r#"role="client""#)),
                ") / ",
                rate!("k8s_workload_name", of!("connections_total", r#"role="client""#))
            ),
            "{{k8s_workload_name}}",
        )],
        "Of the connections that the workload opened and that have ended. Right whatever outcomes and rate limits a trace has.",
    ),
    Panel::prometheus(
        "What failed most",
        Kind::Table,
        "short",
        &[(
            concat!(
                "topk(20, sum by (k8s_namespace_name, k8s_workload_name, role, outcome) (increase(",
                of!("connections_total", r#"outcome!="closed""#),
                "[$__range])) > 0)"
            ),
            "",
        )],
        "Connections in the time shown, by workload, side and outcome.",
    ),
    Panel::prometheus(
        "Ended, by workload",
        Kind::Stack,
        "cps",
        &[(
            rate!("k8s_namespace_name, k8s_workload_name", of!("connections_total")),
            "{{k8s_namespace_name}}/{{k8s_workload_name}}",
        )],
        "Of both sides, whatever the outcome.",
    ),
];

const QUALITY: &[Panel] = &[
    Panel::prometheus(
        "Handshakes of clients",
        Kind::Lines,
        "s",
        &[
            (
                concat!(
                    "histogram_quantile(0.5, ",
                    rate!("le", of!("handshake_seconds_bucket", r#"role="client""#)),
                    ")"
                ),
                "half are quicker",
            ),
            (
                concat!(
                    "histogram_quantile(0.95, ",
                    rate!("le", of!("handshake_seconds_bucket", r#"role="client""#)),
                    ")"
                ),
                "95 % are quicker",
            ),
            (
                concat!(
                    "histogram_quantile(0.99, ",
                    rate!("le", of!("handshake_seconds_bucket", r#"role="client""#)),
                    ")"
                ),
                "99 % are quicker",
            ),
        ],
        "From the SYN to the answer. Just above 1 s, 2 s, 3 s are SYNs that were lost and sent again.",
    ),
    Panel::prometheus(
        "Handshakes of the slowest workloads",
        Kind::Lines,
        "s",
        &[(
            concat!(
                "topk(10, histogram_quantile(0.95, ",
                rate!("le, k8s_workload_name", of!("handshake_seconds_bucket", r#"role="client""#)),
                "))"
            ),
            "{{k8s_workload_name}}",
        )],
        "95 % of the workload's handshakes are quicker.",
    ),
    Panel::prometheus(
        "SYNs sent again",
        Kind::Lines,
        "cps",
        &[(rate!("k8s_workload_name, role", of!("syn_retransmits_total")), "{{k8s_workload_name}} {{role}}")],
        "Clients that were not answered at once, and servers whose answer was not.",
    ),
    Panel::prometheus(
        "Segments sent again",
        Kind::Lines,
        "cps",
        &[(rate!("k8s_workload_name, role", of!("retransmits_total")), "{{k8s_workload_name}} {{role}}")],
        "Data that was lost on the way, or late, of connections that have ended.",
    ),
    Panel::prometheus(
        "How long connections last",
        Kind::Lines,
        "s",
        &[
            (
                concat!(
                    "histogram_quantile(0.5, ",
                    rate!("le, role", of!("connection_duration_seconds_bucket")),
                    ")"
                ),
                "half are shorter ({{role}})",
            ),
            (
                concat!(
                    "histogram_quantile(0.95, ",
                    rate!("le, role", of!("connection_duration_seconds_bucket")),
                    ")"
                ),
                "95 % are shorter ({{role}})",
            ),
        ],
        "Of connections that have ended.",
    ),
    Panel::prometheus(
        "Bytes",
        Kind::Lines,
        "Bps",
        &[
            (rate!("k8s_workload_name", of!("sent_bytes_total")), "{{k8s_workload_name}} sent"),
            (rate!("k8s_workload_name", of!("received_bytes_total")), "{{k8s_workload_name}} received"),
        ],
        "Payload of connections that have ended, counted when they end: a long one is a peak.",
    ),
];

const OPEN: &[Panel] = &[
    Panel::prometheus(
        "Open, by state",
        Kind::Stack,
        "none",
        &[(concat!("sum by (state) (", of!("open_connections"), ")"), "{{state}}")],
        "At the agents' last look, every 15 s unless they were told otherwise.",
    ),
    Panel::prometheus(
        "Open, by workload",
        Kind::Stack,
        "none",
        &[(
            concat!("sum by (k8s_workload_name) (", of!("open_connections", r#"state="ESTABLISHED""#), ")"),
            "{{k8s_workload_name}}",
        )],
        "ESTABLISHED.",
    ),
    Panel::prometheus(
        "Not closed by their programs",
        Kind::Lines,
        "none",
        &[(
            concat!("sum by (k8s_workload_name) (", of!("open_connections", r#"state="CLOSE_WAIT""#), ")"),
            "{{k8s_workload_name}}",
        )],
        "CLOSE_WAIT: the peer has closed and the program has not. Where it only grows, the program leaks.",
    ),
];

const LISTENERS: &[Panel] = &[
    Panel::prometheus(
        "Accept queues",
        Kind::Lines,
        "percentunit",
        &[(
            concat!("max by (k8s_workload_name) (", of!("accept_queue_fullest_ratio"), ")"),
            "{{k8s_workload_name}}",
        )],
        "The fullest queue of the workload by its limit. Above 100 % the kernel drops clients.",
    ),
    Panel::prometheus(
        "Waiting to be accepted",
        Kind::Lines,
        "none",
        &[
            (concat!("sum by (k8s_workload_name) (", of!("accept_queue"), ")"), "{{k8s_workload_name}}"),
            (
                concat!("sum by (k8s_workload_name) (", of!("listeners"), ")"),
                "{{k8s_workload_name}}: listeners",
            ),
        ],
        "Connections that the kernel has made and the program has not taken, and listeners.",
    ),
    Panel::prometheus(
        "Dropped by listeners",
        Kind::Lines,
        "cps",
        &[(rate!("k8s_workload_name", of!("listener_drops_total")), "{{k8s_workload_name}}")],
        "A SYN counts one, a last ACK that found the queue full two.",
    ),
    Panel::prometheus(
        "Workloads kept apart",
        Kind::Lines,
        "none",
        &[
            ("max by (node) (kube_tcpstates_workloads)", "{{node}}"),
            (
                "sum by (node) (rate(kube_tcpstates_workload_connections_other_total[$__rate_interval]))",
                "{{node}}: connections of others",
            ),
        ],
        "Of every namespace. An agent keeps 256 apart; connections of more are those of one that has no name.",
    ),
];

const PAIRS: &[Panel] = &[
    Panel {
        title: "Connections, by pair",
        description: "From lines of type summary in Loki: needs a trace with mode Summary, and peerNames for the name of the other end. From the agents' log, whose streams are labelled namespace and container.",
        kind: Kind::Table,
        unit: "short",
        source: Source::Loki,
        queries: &[(
            r#"topk(50, sum by (from, role, to, address, port) (sum_over_time({namespace="$agents", container="agent"} |= `"summary"` | json type="tcpstates.type", ns="k8s.namespace.name", from="k8s.pod.name", role="tcpstates.role", to="tcpstates.peer.k8s.service.name", address="network.peer.address", port="network.peer.port", connections="tcpstates.summary.connections" | type=`summary` | ns=~`$namespace` | unwrap connections [$__range])))"#,
            "",
        )],
    },
    Panel {
        title: "Bytes, by pair",
        description: "As beside it, of what was sent: who moves most.",
        kind: Kind::Table,
        unit: "bytes",
        source: Source::Loki,
        queries: &[(
            r#"topk(50, sum by (from, role, to, address, port) (sum_over_time({namespace="$agents", container="agent"} |= `"summary"` | json type="tcpstates.type", ns="k8s.namespace.name", from="k8s.pod.name", role="tcpstates.role", to="tcpstates.peer.k8s.service.name", address="network.peer.address", port="network.peer.port", sent="tcpstates.summary.sent.bytes" | type=`summary` | ns=~`$namespace` | unwrap sent [$__range])))"#,
            "",
        )],
    },
];
