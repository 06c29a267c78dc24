//! Metrics of workloads. Labels name no pod, and no more workloads than [`crate::workloads`] has room for.

use std::fmt::Error;

use prometheus_client::encoding::{EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::metrics::{Page, u64_of};
use crate::names::Workload;
use crate::workloads::{DURATIONS, Figures, HANDSHAKES, Histogram, ListenerFigures, Name, OfRole, Workloads};

/// What stands for the kind of a workload that is not kept apart: no kind is called so.
const OTHER: &str = "other";

/// Labels of one series.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Name, meaning and value of a metric of which each series has one number.
type Summed<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Everything of all workloads.
pub(super) fn by_workload(page: &mut Page<'_>, workloads: &Workloads) -> Result<(), Error> {
    ended(page, workloads)?;
    open(page, workloads)?;
    page.gauge("workloads", "Workloads that have series of their own", None, u64_of(workloads.len()))?;
    page.counter(
        "workload_connections_other",
        "Connections that ended and are in the series of the others",
        workloads.passed_over(),
    )
}

fn ended(page: &mut Page<'_>, workloads: &Workloads) -> Result<(), Error> {
    let outcomes = roles(workloads).flat_map(|(labels, of_role)| {
        of_role.outcomes().map(move |(outcome, count)| (with(&labels, "outcome", outcome.as_str()), count))
    });
    page.counters("workload_connections", "Connections that have ended, by how", outcomes)?;
    let sums: [Summed<OfRole>; 4] = [
        ("workload_sent_bytes", "Payload sent and acknowledged, of connections that have ended", |of| {
            of.sent
        }),
        ("workload_received_bytes", "Payload received, of connections that have ended", |of| of.received),
        ("workload_retransmits", "Segments of data sent again, likewise", |of| of.retransmits),
        ("workload_syn_retransmits", "SYNs, or answers to one, sent again, likewise", |of| {
            of.syn_retransmits
        }),
    ];
    for (name, help, sum) in sums {
        page.counters(name, help, roles(workloads).map(|(labels, of_role)| (labels, sum(of_role))))?;
    }
    let handshakes = roles(workloads).map(|(labels, of_role)| (labels, &of_role.handshakes));
    histograms(page, "workload_handshake", "Time that opening a connection took", &HANDSHAKES, handshakes)?;
    let durations = roles(workloads).map(|(labels, of_role)| (labels, &of_role.durations));
    let help = "Time from a connection's beginning to its end";
    histograms(page, "workload_connection_duration", help, &DURATIONS, durations)
}

fn open(page: &mut Page<'_>, workloads: &Workloads) -> Result<(), Error> {
    let states = all(workloads).flat_map(|(labels, figures)| {
        figures.states().map(move |(state, count)| (with(&labels, "state", state), count))
    });
    page.gauges("workload_open_connections", "Connections that were open at the last look", None, states)?;
    let listeners = || all(workloads).filter_map(|(labels, figures)| Some((labels, figures.listening?)));
    let sums: [Summed<ListenerFigures>; 2] = [
        ("workload_listeners", "Listeners at the last look", |all| all.listeners),
        ("workload_accept_queue", "Connections that waited to be accepted then", |all| all.waiting),
    ];
    for (name, help, sum) in sums {
        page.gauges(name, help, None, listeners().map(|(labels, all)| (labels, sum(&all))))?;
    }
    let help = "The fullest accept queue then, by its limit";
    let name = "workload_accept_queue_fullest_ratio";
    let mut family = page.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, all) in listeners() {
        ConstGauge::new(float(all.fullest_permille, 1e3)).encode(family.encode_family(&labels)?)?;
    }
    let drops = all(workloads).filter(|(_, figures)| figures.listening.is_some() || figures.drops > 0);
    page.counters(
        "workload_listener_drops",
        "What listeners have dropped: a SYN counts one, a last ACK two",
        drops.map(|(labels, figures)| (labels, figures.drops)),
    )
}

fn histograms<'l, const N: usize>(
    page: &mut Page<'_>,
    name: &str,
    help: &str,
    bounds: &[u64; N],
    samples: impl IntoIterator<Item = (Labels<'l>, &'l Histogram<N>)>,
) -> Result<(), Error> {
    let mut family = page.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (labels, histogram) in samples {
        let within = bounds.iter().zip(histogram.within);
        let mut buckets: Vec<(f64, u64)> = within.map(|(bound, count)| (float(*bound, 1e6), count)).collect();
        buckets.push((f64::INFINITY, histogram.above));
        let sum = float(histogram.sum_us, 1e6);
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            sum,
            histogram.count(),
            &buckets,
            None,
        )?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a metric's value is a float, and 53 bits are enough of one")]
fn float(value: u64, by: f64) -> f64 {
    value as f64 / by
}

/// Each workload with its labels. One that has no kind or no namespace goes without them: an empty label is none.
fn all(workloads: &Workloads) -> impl Iterator<Item = (Labels<'_>, &Figures)> {
    workloads.all().map(|(name, figures)| (labels(name), figures))
}

fn roles(workloads: &Workloads) -> impl Iterator<Item = (Labels<'_>, &OfRole)> {
    all(workloads).flat_map(|(labels, figures)| {
        figures.roles().map(move |(role, of_role)| (with(&labels, "role", role), of_role))
    })
}

fn labels(name: Option<&Name>) -> Labels<'_> {
    let Some(Name { namespace, workload }) = name else { return series("", OTHER, "") };
    let (kind, workload) =
        workload.as_ref().map_or(("", ""), |Workload { kind, name }| (kind.as_str(), name));
    series(namespace.as_deref().unwrap_or(""), kind, workload)
}

fn series<'a>(namespace: &'a str, kind: &'a str, workload: &'a str) -> Labels<'a> {
    vec![("k8s_namespace_name", namespace), ("k8s_workload_kind", kind), ("k8s_workload_name", workload)]
}

fn with<'a>(labels: &Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    labels.iter().copied().chain([(name, value)]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use kube_tcpstates_common::state::State;

    use crate::names::{Workload, WorkloadKind};
    use crate::open::Queue;
    use crate::pipeline::Account;
    use crate::telemetry::metrics::render;
    use crate::telemetry::{Facts, Telemetry};
    use crate::workloads::{Listening, MAX_WORKLOADS, Name, Workloads};

    fn name(workload: &str) -> Name {
        let workload = Workload { kind: WorkloadKind::StatefulSet, name: workload.to_owned() };
        Name { namespace: Some("shop".to_owned()), workload: Some(workload) }
    }

    fn page(workloads: Workloads) -> String {
        let telemetry = Telemetry::new(Facts::default(), None);
        let account = Account { workloads: Some(Arc::new(workloads)), ..Account::default() };
        telemetry.board().account = Some(account);
        render(&telemetry).unwrap()
    }

    #[test]
    fn a_series_is_named_after_its_workload_and_nothing_smaller() {
        let mut workloads = Workloads::default();
        let queue = Queue { length: Some(3), limit: Some(2), ..Queue::default() };
        workloads.open(&name("db"), State::ESTABLISHED, 7, 1);
        workloads.listens(&name("db"), Listening { queue, dropped: 5 }, 1);
        workloads.open(&Name::default(), State::CLOSE_WAIT, 1, 1);
        let db = r#"{k8s_namespace_name="shop",k8s_workload_kind="statefulset",k8s_workload_name="db""#;
        let nobody = r#"{k8s_namespace_name="",k8s_workload_kind="",k8s_workload_name="""#;
        let page = page(workloads);
        for line in [
            format!(r#"kube_tcpstates_workload_open_connections{db},state="ESTABLISHED"}} 7"#),
            format!(r#"kube_tcpstates_workload_open_connections{nobody},state="CLOSE_WAIT"}} 1"#),
            format!("kube_tcpstates_workload_listeners{db}}} 1"),
            format!("kube_tcpstates_workload_accept_queue{db}}} 3"),
            format!("kube_tcpstates_workload_accept_queue_fullest_ratio{db}}} 1.5"),
            format!("kube_tcpstates_workload_listener_drops_total{db}}} 5"),
            "kube_tcpstates_workloads 2".to_owned(),
            "kube_tcpstates_workload_connections_other_total 0".to_owned(),
        ] {
            assert!(page.lines().any(|served| served == line), "no {line} in\n{page}");
        }
    }

    #[test]
    fn the_others_are_one_series() {
        let mut workloads = Workloads::default();
        for number in 0..MAX_WORKLOADS + 9 {
            workloads.open(&name(&number.to_string()), State::ESTABLISHED, 1, 1);
        }
        let page = page(workloads);
        let series = "kube_tcpstates_workload_open_connections{";
        let all: Vec<&str> = page.lines().filter(|line| line.starts_with(series)).collect();
        assert_eq!(all.len(), MAX_WORKLOADS + 1);
        let other =
            r#"k8s_namespace_name="",k8s_workload_kind="other",k8s_workload_name="",state="ESTABLISHED"} 9"#;
        assert_eq!(all.last(), Some(&&*format!("{series}{other}")));
    }

    /// The value of a series' label, and what is behind its quote.
    fn label<'a>(series: &'a str, name: &str) -> (String, &'a str) {
        let (_, rest) = series.split_once(&format!("{name}=\"")).unwrap();
        let (mut value, mut characters) = (String::new(), rest.chars());
        loop {
            match characters.next().unwrap() {
                '"' => return (value, characters.as_str()),
                '\\' => value.push(match characters.next().unwrap() {
                    'n' => '\n',
                    other => other,
                }),
                character => value.push(character),
            }
        }
    }

    proptest! {
        #[test]
        fn a_workload_of_any_name_is_one_series_of_that_name(text in "([\"\\\\\n]|.){1,20}") {
            let mut workloads = Workloads::default();
            workloads.open(&name(&text), State::ESTABLISHED, 7, 1);
            let page = page(workloads);
            let series = "kube_tcpstates_workload_open_connections{";
            let all: Vec<&str> = page.split('\n').filter(|line| line.starts_with(series)).collect();
            prop_assert_eq!(all.len(), 1);
            let (value, behind) = label(all[0], "k8s_workload_name");
            prop_assert_eq!((value.as_str(), behind), (text.as_str(), r#",state="ESTABLISHED"} 7"#));
        }
    }
}
