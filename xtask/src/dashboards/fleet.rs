//! The agents and operators themselves: who is there, what is lost, what limits leave out.

use super::model::{Dashboard, Kind, Panel, Row, Source, Variable};

pub(super) const DASHBOARD: Dashboard = Dashboard {
    uid: "tcpstates-fleet",
    title: "kube-tcpstates: the fleet",
    description: "Agents and operators: who is there, what is lost, what limits leave out.",
    variables: &[
        Variable::Source(Source::Prometheus),
        Variable::Label {
            name: "node",
            title: "node",
            query: r#"label_values(kube_tcpstates_build_info{job="kube-tcpstates"}, node)"#,
        },
    ],
    rows: &[
        Row { title: "Is all well?", panels: GLANCE },
        Row { title: "Transitions", panels: TRANSITIONS },
        Row { title: "Limits and traces", panels: LIMITS },
        Row { title: "Output", panels: OUTPUT },
        Row { title: "Nodes", panels: NODES },
        Row { title: "The API server", panels: API },
        Row { title: "Operators", panels: OPERATORS },
    ],
};

const GLANCE: &[Panel] = &[
    Panel::prometheus(
        "Agents",
        Kind::Stat("green"),
        "none",
        &[(r#"sum(up{job="kube-tcpstates", component="agent", node=~"$node"})"#, "")],
        "Agents that answer Prometheus.",
    ),
    Panel::prometheus(
        "Nodes without an agent",
        Kind::Stat("red"),
        "none",
        &[("max(kube_tcpstates_operator_nodes) - max(kube_tcpstates_operator_agents_reporting)", "")],
        "Nodes of the cluster less agents that have reported lately, as the operators count. Nodes that are meant to have none count too.",
    ),
    Panel::prometheus(
        "Not traceable",
        Kind::Stat("red"),
        "none",
        &[(r#"count(kube_tcpstates_hook_info{node=~"$node", hook="none"}) or vector(0)"#, "")],
        "Nodes whose kernel cannot be traced. Their TcpStateNode says why.",
    ),
    Panel::prometheus(
        "Lines lost",
        Kind::Stat("red"),
        "short",
        &[(
            r#"sum(increase(kube_tcpstates_transitions_lost_total{node=~"$node", place!="rate"}[$__range]))"#,
            "",
        )],
        "In the time shown, at any place but a limit: lines that should be there.",
    ),
    Panel::prometheus(
        "Left out by limits",
        Kind::Stat("blue"),
        "short",
        &[(
            r#"sum(increase(kube_tcpstates_transitions_limited_total{node=~"$node"}[$__range])) + sum(increase(kube_tcpstates_transitions_lost_total{node=~"$node", place="rate"}[$__range]))"#,
            "",
        )],
        "In the time shown: what rate limits of traces and of agents left out, as they were asked to. No loss.",
    ),
    Panel::prometheus(
        "Traces",
        Kind::Stat("text"),
        "none",
        &[("max(kube_tcpstates_operator_traces)", "")],
        "Of both kinds, in the cluster.",
    ),
];

const TRANSITIONS: &[Panel] = &[
    Panel::prometheus(
        "Seen by the kernel",
        Kind::Lines,
        "cps",
        &[(
            r#"sum by (node) (rate(kube_tcpstates_transitions_seen_total{node=~"$node"}[$__rate_interval]))"#,
            "{{node}}",
        )],
        "Transitions of all sockets of the node, traced or not, while programs are attached.",
    ),
    Panel::prometheus(
        "What became of them",
        Kind::Stack,
        "cps",
        &[(
            r#"sum by (outcome) (rate(kube_tcpstates_transitions_total{node=~"$node"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
        "written: a line. filtered: no trace wants it. filtered_user: after all not. summarised: added to a summary.",
    ),
    Panel::prometheus(
        "Lost, by place",
        Kind::Stack,
        "cps",
        &[(
            r#"sum by (place) (rate(kube_tcpstates_transitions_lost_total{node=~"$node", place!="rate"}[$__rate_interval]))"#,
            "{{place}}",
        )],
        "Lines that should be there. docs/operations.md says for each place why, and what to do.",
    ),
];

const LIMITS: &[Panel] = &[
    Panel::prometheus(
        "Left out by limits",
        Kind::Stack,
        "cps",
        &[
            (
                r#"sum by (node) (rate(kube_tcpstates_transitions_limited_total{node=~"$node"}[$__rate_interval]))"#,
                "{{node}}: of traces",
            ),
            (
                r#"sum by (node) (rate(kube_tcpstates_transitions_lost_total{node=~"$node", place="rate"}[$__rate_interval]))"#,
                "{{node}}: of the agent",
            ),
        ],
        "By rateLimit of traces, once for each; by --max-lines-per-second of the agent.",
    ),
    Panel::prometheus(
        "Traces by state",
        Kind::Lines,
        "none",
        &[(r#"sum by (state) (kube_tcpstates_traces{node=~"$node"})"#, "{{state}}")],
        "Summed over nodes: a trace counts at each that it concerns. idle selects no pod there; waiting has no slot.",
    ),
    Panel::prometheus(
        "Waiting",
        Kind::Lines,
        "none",
        &[
            (r#"sum by (node) (kube_tcpstates_transitions_held{node=~"$node"})"#, "{{node}}: for a name"),
            (
                r#"sum by (node) (kube_tcpstates_transitions_pending{node=~"$node"})"#,
                "{{node}}: for the next transition",
            ),
        ],
        "Transitions that wait for the name of their pod, or in the kernel until the socket's next one decides.",
    ),
];

const OUTPUT: &[Panel] = &[
    Panel::prometheus(
        "Lines",
        Kind::Stack,
        "cps",
        &[(
            r#"sum by (kind) (rate(kube_tcpstates_lines_written_total{node=~"$node"}[$__rate_interval]))"#,
            "{{kind}}",
        )],
        "Lines that stdout took. control: start, lost, heartbeat, log.",
    ),
    Panel::prometheus(
        "Waiting for stdout",
        Kind::Lines,
        "bytes",
        &[
            (r#"sum by (node) (kube_tcpstates_queue_bytes{node=~"$node"})"#, "{{node}}"),
            (
                r#"max by (node) (kube_tcpstates_queue_high_water_bytes{node=~"$node"})"#,
                "{{node}}: the most ever",
            ),
        ],
        "Near --queue-size, 8 MiB by default, lines are about to be lost: whoever reads the log is too slow.",
    ),
    Panel::prometheus(
        "Lost on the way to other outlets",
        Kind::Stack,
        "cps",
        &[(
            r#"sum by (outlet) (rate(kube_tcpstates_outlet_lost_total{node=~"$node"}[$__rate_interval]))"#,
            "{{outlet}}",
        )],
        "Records that an OpenTelemetry endpoint did not take. Nothing is shown without --otlp-endpoint.",
    ),
];

const NODES: &[Panel] = &[
    Panel::prometheus(
        "Kernels",
        Kind::Table,
        "none",
        &[(r#"max by (node, hook, kernel, cgroup_mode) (kube_tcpstates_hook_info{node=~"$node"})"#, "")],
        "Where transitions are taken from on each node; none: it cannot be traced.",
    ),
    Panel::prometheus(
        "Agents",
        Kind::Table,
        "none",
        &[(r#"max by (node, pod, version) (kube_tcpstates_build_info{node=~"$node"})"#, "")],
        "The version of each. Two versions at a time are an upgrade under way.",
    ),
    Panel::prometheus(
        "Pods and cgroups",
        Kind::Lines,
        "none",
        &[
            (r#"sum by (node) (kube_tcpstates_pods{node=~"$node"})"#, "{{node}}: pods"),
            (r#"sum by (node) (kube_tcpstates_cgroups{node=~"$node"})"#, "{{node}}: cgroups"),
            (r#"sum by (node) (kube_tcpstates_attached{node=~"$node"})"#, "{{node}}: attached"),
        ],
        "What the agent knows of its node. attached is 1 while some trace selects a pod there.",
    ),
    Panel::prometheus(
        "What the kernel skipped",
        Kind::Lines,
        "cps",
        &[
            (r#"sum(rate(kube_tcpstates_gaps_total{node=~"$node"}[$__rate_interval]))"#, "gaps"),
            (r#"sum(rate(kube_tcpstates_inferred_total{node=~"$node"}[$__rate_interval]))"#, "inferred"),
            (r#"sum(rate(kube_tcpstates_rescued_total{node=~"$node"}[$__rate_interval]))"#, "rescued"),
            (
                r#"sum(rate(kube_tcpstates_socket_records_failed_total{node=~"$node"}[$__rate_interval]))"#,
                "no record",
            ),
            (
                r#"sum(rate(kube_tcpstates_cgroup_records_lost_total{node=~"$node"}[$__rate_interval]))"#,
                "cgroups",
            ),
        ],
        "rescued and inferred are told all the same. At gaps a transition is missing; without a record its duration and owner.",
    ),
    Panel::prometheus(
        "The work of agents",
        Kind::Lines,
        "cps",
        &[
            (r#"sum(rate(kube_tcpstates_ring_wakeups_total{node=~"$node"}[$__rate_interval]))"#, "wakeups"),
            (r#"sum(rate(kube_tcpstates_plans_total{node=~"$node"}[$__rate_interval]))"#, "plans"),
            (
                r#"sum(rate(kube_tcpstates_view_changes_total{node=~"$node"}[$__rate_interval]))"#,
                "changes of pods or traces",
            ),
        ],
        "How often the kernel wakes agents, and how often what they trace changes.",
    ),
];

const API: &[Panel] = &[
    Panel::prometheus(
        "Requests, by how they ended",
        Kind::Stack,
        "reqps",
        &[(
            r#"sum by (code) (rate(kube_tcpstates_api_requests_total{node=~"$node"}[$__rate_interval]))"#,
            "{{code}}",
        )],
        "Of agents. A watch counts when it starts. 403 is a right that is missing, broken no connection.",
    ),
    Panel::prometheus(
        "In step",
        Kind::Lines,
        "none",
        &[(r#"min by (resource) (kube_tcpstates_api_in_sync{node=~"$node"})"#, "{{resource}}")],
        "0 where an agent's watch does not work: pods and traces are to it what they were then.",
    ),
    Panel::prometheus(
        "Since a watch last brought something",
        Kind::Lines,
        "s",
        &[(
            r#"max by (resource) (time() - kube_tcpstates_api_last_sync_timestamp_seconds{node=~"$node"})"#,
            "{{resource}}",
        )],
        "The longest of all agents. Watches are started anew every four minutes.",
    ),
    Panel::prometheus(
        "Reports",
        Kind::Stack,
        "cps",
        &[(
            r#"sum by (outcome) (rate(kube_tcpstates_report_writes_total{node=~"$node"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
        "Writes of TcpStateNodes. Where they fail, the operator takes the node for unknown.",
    ),
];

const OPERATORS: &[Panel] = &[
    Panel::prometheus(
        "Who leads",
        Kind::Lines,
        "none",
        &[("sum by (pod) (kube_tcpstates_operator_leading)", "{{pod}}")],
        "One has 1. None: the status of traces stays as it was.",
    ),
    Panel::prometheus(
        "Writes of status, by how they ended",
        Kind::Stack,
        "cps",
        &[(
            "sum by (outcome) (rate(kube_tcpstates_operator_status_writes_total[$__rate_interval]))",
            "{{outcome}}",
        )],
        "gone: the trace was deleted meanwhile.",
    ),
    Panel::prometheus(
        "Traces whose status waits",
        Kind::Lines,
        "none",
        &[("max by (pod) (kube_tcpstates_operator_queue)", "{{pod}}")],
        "Of the operator that does not lead: all that it would write.",
    ),
    Panel::prometheus(
        "Requests of operators",
        Kind::Stack,
        "reqps",
        &[("sum by (code) (rate(kube_tcpstates_operator_api_requests_total[$__rate_interval]))", "{{code}}")],
        "To the API server, by how they ended.",
    ),
    Panel::prometheus(
        "Operators in step",
        Kind::Lines,
        "none",
        &[("min by (resource) (kube_tcpstates_operator_api_in_sync)", "{{resource}}")],
        "0 where a watch does not work.",
    ),
];
