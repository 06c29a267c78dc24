//! The lines of one trace, from Loki: what failed, for whom, to whom, and whether any line is missing.

use super::model::{Dashboard, Kind, Panel, Row, Source, Variable};

pub(super) const DASHBOARD: Dashboard = Dashboard {
    uid: "tcpstates-incident",
    title: "kube-tcpstates: an incident",
    description: "The lines of one trace, NAMESPACE/NAME or the name of a cluster trace, from the agents' log in Loki: streams labelled namespace and container.",
    variables: &[
        Variable::Source(Source::Loki),
        Variable::Text { name: "agents", title: "the agents' namespace", at_first: "kube-tcpstates" },
        Variable::Text { name: "trace", title: "trace", at_first: "shop/refused-connects" },
        Variable::Text { name: "pod", title: "pod (a regular expression)", at_first: ".*" },
    ],
    rows: &[
        Row { title: "Is anything missing?", panels: MISSING },
        Row { title: "What failed", panels: FAILED },
        Row { title: "Lines", panels: LINES },
    ],
};

/// Lines of the trace, of the pods.
macro_rules! lines {
    ($fields:literal) => {
        concat!(
            r#"{namespace="$agents", container="agent"} |= `"$trace"` | json type="tcpstates.type", pod="k8s.pod.name""#,
            $fields,
            " | pod=~`$pod`"
        )
    };
}

const MISSING: &[Panel] = &[
    Panel::loki(
        "Lines",
        Kind::Stat("text"),
        "short",
        &[(concat!("sum(count_over_time(", lines!(""), " [$__range]))"), "")],
        "Of this trace, in the time shown.",
    ),
    Panel::loki(
        "Lines lost",
        Kind::Stat("red"),
        "short",
        &[(
            r#"sum(sum_over_time({namespace="$agents", container="agent"} |= `"$trace"` |= `"lost"` | json type="tcpstates.type", lost="tcpstates.lost.since_last" | type=`lost` | unwrap lost [$__range]))"#,
            "",
        )],
        "By agents that lost lines of this trace, those of other traces included: lines that should be above. Losses at rate are what a limit left out, and in this number.",
    ),
];

const FAILED: &[Panel] = &[
    Panel::loki(
        "Connections, by outcome",
        Kind::Stack,
        "short",
        &[(
            concat!(
                "sum by (outcome) (count_over_time(",
                lines!(r#", outcome="tcpstates.outcome""#),
                " | type=`connection` [$__interval]))"
            ),
            "{{outcome}}",
        )],
        "When they ended. For traces with mode Connections.",
    ),
    Panel::loki(
        "Transitions, by new state",
        Kind::Stack,
        "short",
        &[(
            concat!(
                "sum by (state) (count_over_time(",
                lines!(r#", state="tcpstates.new_state""#),
                " | type=`transition` [$__interval]))"
            ),
            "{{state}}",
        )],
        "For traces with mode Transitions, the default.",
    ),
    Panel::loki(
        "Slowest handshakes",
        Kind::Lines,
        "µs",
        &[(
            concat!(
                "max by (pod) (max_over_time(",
                lines!(r#", handshake="tcpstates.handshake_us""#),
                " | type=`connection` | handshake!=`` | unwrap handshake [$__interval]))"
            ),
            "{{pod}}",
        )],
        "The longest of each pod. Of clients from the SYN to the answer.",
    ),
    Panel::loki(
        "Who failed to whom",
        Kind::Table,
        "short",
        &[(
            concat!(
                "topk(50, sum by (pod, address, port, service, outcome, error) (count_over_time(",
                lines!(
                    r#", outcome="tcpstates.outcome", error="error.type", address="network.peer.address", port="network.peer.port", service="tcpstates.peer.k8s.service.name""#
                ),
                " | type=`connection` | outcome!=`closed` [$__range])))"
            ),
            "",
        )],
        "Connections that did not end in good order, by pod and other end. service is there where the trace has peerNames.",
    ),
    Panel::loki(
        "Who lost lines",
        Kind::Table,
        "short",
        &[(
            r#"sum by (node) (sum_over_time({namespace="$agents", container="agent"} |= `"$trace"` |= `"lost"` | json type="tcpstates.type", node="k8s.node.name", lost="tcpstates.lost.since_last" | type=`lost` | unwrap lost [$__range]))"#,
            "",
        )],
        "Nodes whose agent lost lines of this trace. Empty is well.",
    ),
];

const LINES: &[Panel] = &[Panel::loki(
    "Lines, the newest first",
    Kind::Logs,
    "none",
    &[(
        concat!(
            lines!(
                r#", node="k8s.node.name", peer="network.peer.address", port="network.peer.port", outcome="tcpstates.outcome", cause="tcpstates.cause", from="tcpstates.old_state", to="tcpstates.new_state""#
            ),
            " | line_format `{{.type}} {{.pod}} -> {{.peer}}:{{.port}} {{.outcome}} {{.cause}} {{.from}} {{.to}}`"
        ),
        "",
    )],
    "Open one to see all of it.",
)];
