//! The board in the `OpenMetrics` format. Labels have bounded values: never a pod, an address, a port or a trace's name.

use std::fmt::Error;
use std::sync::Arc;

use kube_tcpstates_common::counter::Counter;
use kube_tcpstates_events::ByPlace;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Board, Facts, Telemetry, workloads::by_workload};
use crate::pipeline::Account;

/// Everything there is to tell, as text.
pub(super) fn render(telemetry: &Arc<Telemetry>) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("kube_tcpstates");
    registry.register_collector(Box::new(Reader(Arc::clone(telemetry))));
    let mut body = String::new();
    text::encode(&mut body, &registry)?;
    Ok(body)
}

#[derive(Debug)]
struct Reader(Arc<Telemetry>);

impl Collector for Reader {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let board = self.0.board();
        let mut page = Page(encoder);
        facts(&mut page, &board)?;
        cluster(&mut page, &board)?;
        board.account.as_ref().map_or(Ok(()), |account| {
            transitions(&mut page, account)?;
            output(&mut page, account)?;
            kernel(&mut page, account)?;
            account.workloads.as_ref().map_or(Ok(()), |workloads| by_workload(&mut page, workloads))
        })
    }
}

/// Labels of one sample, and its value.
pub(super) type Sample<'a> = (Vec<(&'static str, &'a str)>, u64);

fn sample<'a>(labels: &[(&'static str, &'a str)], value: u64) -> Sample<'a> {
    (labels.to_vec(), value)
}

/// One metric after the other.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&'static str, &str)]) -> Result<(), Error> {
        let labels: Vec<(String, String)> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Info::new(labels).encode(self.0.encode_descriptor(name, help, None, MetricType::Info)?)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'l>>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: u64,
    ) -> Result<(), Error> {
        gauge(value).encode(self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }

    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = Sample<'l>>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            gauge(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn facts(page: &mut Page<'_>, board: &Board) -> Result<(), Error> {
    let Facts { version, kernel, hook, cgroup_mode, started_s } = &board.facts;
    page.info("build", "Version of the agent", &[("version", version)])?;
    let hook = hook.as_deref().unwrap_or("none");
    let labels = [("hook", hook), ("cgroup_mode", cgroup_mode), ("kernel", kernel)];
    page.info("hook", "Where in the kernel transitions are taken from", &labels)?;
    let started = u64::try_from(*started_s).unwrap_or(0);
    page.gauge("start_timestamp", "When the agent started, Unix time", Some(&Unit::Seconds), started)
}

fn cluster(page: &mut Page<'_>, board: &Board) -> Result<(), Error> {
    page.gauge("pods", "Pods that exist on the node", None, u64_of(board.pods))?;
    let traces = board.traces.iter().map(|(state, number)| sample(&[("state", state)], u64_of(*number)));
    page.gauges("traces", "Traces that concern the node, by what became of them", None, traces)?;
    page.counter("plans", "Times that it was worked out which traces are active", board.plans)?;
    page.counter("view_changes", "Times that pods or traces changed for the pipeline", board.view_changes)?;
    let requests = board
        .requests
        .iter()
        .map(|((resource, code), number)| sample(&[("resource", resource), ("code", code)], *number));
    page.counters("api_requests", "Requests to the API server, by how they ended", requests)?;
    let synced = board
        .syncs
        .iter()
        .map(|(resource, (sync, _))| sample(&[("resource", resource.plural())], u64::from(sync.in_sync())));
    page.gauges("api_in_sync", "1 while the list has come and the watch works", None, synced)?;
    let last = board.syncs.iter().filter_map(|(resource, (_, at))| {
        Some(sample(&[("resource", resource.plural())], u64::try_from((*at)?).unwrap_or(0)))
    });
    page.gauges(
        "api_last_sync_timestamp",
        "When a watch last brought something or was started anew, Unix time",
        Some(&Unit::Seconds),
        last,
    )?;
    let reports = board.reports.iter().map(|(outcome, number)| sample(&[("outcome", outcome)], *number));
    page.counters("report_writes", "Writes of the node's TcpStateNode", reports)
}

fn transitions(page: &mut Page<'_>, account: &Account) -> Result<(), Error> {
    let tally = &account.tally;
    let totals = tally.totals();
    page.counter("transitions_seen", "Transitions that the program in the kernel saw", totals.seen)?;
    let outcomes = [
        ("written", totals.written),
        ("filtered", totals.filtered),
        ("filtered_user", totals.filtered_user),
        ("summarised", totals.summarised),
        ("other_protocol", totals.other_protocol),
    ];
    page.counters(
        "transitions",
        "Transitions by what became of them; those lost are in transitions_lost",
        outcomes.map(|(outcome, number)| sample(&[("outcome", outcome)], number)),
    )?;
    let ByPlace { ring, recursion, queue, rate, write, identity, restart } = tally.lost();
    let places = [
        ("ring", ring),
        ("recursion", recursion),
        ("queue", queue),
        ("rate", rate),
        ("write", write),
        ("identity", identity),
        ("restart", restart),
    ];
    page.counters(
        "transitions_lost",
        "Transitions lost, by place",
        places.map(|(place, number)| sample(&[("place", place)], number)),
    )?;
    page.counters(
        "outlet_lost",
        "Transitions lost on the way to an outlet beside stdout",
        tally.lost_beside.iter().map(|(outlet, number)| sample(&[("outlet", outlet)], *number)),
    )?;
    let limited = account.traces.values().map(|counts| counts.limited).sum();
    page.counter(
        "transitions_limited",
        "Transitions that a trace's rate limit left out, once for each such trace",
        limited,
    )?;
    page.gauge(
        "transitions_held",
        "Transitions that wait for their owner's name, or for who else wants them",
        None,
        account.held,
    )?;
    page.gauge(
        "transitions_pending",
        "Transitions kept in the kernel until the socket's next one decides",
        None,
        totals.pending,
    )
}

fn output(page: &mut Page<'_>, account: &Account) -> Result<(), Error> {
    let output = &account.tally.output;
    let kinds = [("event", output.event_lines_written), ("control", output.control_lines_written)];
    page.counters(
        "lines_written",
        "Lines that stdout took",
        kinds.map(|(kind, number)| sample(&[("kind", kind)], number)),
    )?;
    page.gauge("queue", "Bytes that wait for stdout", Some(&Unit::Bytes), output.bytes_queued)?;
    page.gauge(
        "queue_high_water",
        "The most that ever waited for stdout",
        Some(&Unit::Bytes),
        output.high_water,
    )
}

fn kernel(page: &mut Page<'_>, account: &Account) -> Result<(), Error> {
    let count = |counter| account.tally.kernel.get(counter);
    page.gauge("attached", "1 while the programs are attached", None, u64::from(account.attached))?;
    page.gauge("cgroups", "Cgroups known", None, u64_of(account.cgroups))?;
    page.counter("ring_wakeups", "Times that the kernel woke the reader", count(Counter::Wakeup))?;
    page.counter("gaps", "Transitions at which the one before was missing", count(Counter::Gap))?;
    page.counter(
        "inferred",
        "Transitions that no program got and that those around them tell",
        count(Counter::Inferred),
    )?;
    page.counter("rescued", "Hits that the second program took", count(Counter::Rescued))?;
    page.counter(
        "socket_records_failed",
        "Sockets whose record could not be made: durations and owner unknown",
        count(Counter::StorageFailed),
    )?;
    page.counter(
        "cgroup_records_lost",
        "Cgroup events without room: such a cgroup is looked up by id",
        count(Counter::CgroupRingFull),
    )
}

pub(super) fn u64_of(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use http::StatusCode;
    use kube_tcpstates_client::{Answer, RequestEnd};

    use super::render;
    use crate::cluster::{Knowledge, Observer as _, resources};
    use crate::pipeline::Account;
    use crate::telemetry::{Facts, Telemetry};

    /// Names as they stand behind `# TYPE`.
    fn names(page: &str) -> BTreeSet<&str> {
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    #[test]
    fn the_documentation_lists_the_metrics_that_there_are() {
        let telemetry = Telemetry::new(Facts::default(), None);
        let workloads = Some(Arc::default());
        telemetry.board().account = Some(Account { workloads, ..Account::default() });
        let page = render(&telemetry).unwrap();
        let documentation = include_str!("../../../docs/metrics.md");
        let documented: BTreeSet<&str> = documentation
            .lines()
            .filter_map(|line| line.strip_prefix("| `kube_")?.split('`').next())
            .collect();
        let served: BTreeSet<&str> =
            names(&page).into_iter().filter_map(|name| name.strip_prefix("kube_")).collect();
        assert_eq!(served, documented);
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn what_happens_in_the_cluster_shows_in_the_metrics() {
        let telemetry = Telemetry::new(Facts::default(), None);
        for (resource, ending) in [
            (Some(resources::PODS), RequestEnd::Status(StatusCode::OK)),
            (Some(resources::PODS), RequestEnd::Status(StatusCode::OK)),
            (None, RequestEnd::Timeout),
        ] {
            telemetry.answered(Answer { resource, watch: false, ending });
        }
        telemetry.view_changed();
        telemetry.turned(&Knowledge::new(0), true);
        telemetry.reported(true);
        telemetry.reported(false);
        telemetry.counted(&Account { held: 7, ..Account::default() });
        let page = render(&telemetry).unwrap();
        for line in [
            r#"kube_tcpstates_api_requests_total{resource="pods",code="2xx"} 2"#,
            r#"kube_tcpstates_api_requests_total{resource="other",code="timeout"} 1"#,
            "kube_tcpstates_view_changes_total 1",
            "kube_tcpstates_plans_total 1",
            r#"kube_tcpstates_api_in_sync{resource="tcpstatetraces"} 0"#,
            r#"kube_tcpstates_report_writes_total{outcome="ok"} 1"#,
            r#"kube_tcpstates_report_writes_total{outcome="failed"} 1"#,
            "kube_tcpstates_transitions_held 7",
        ] {
            assert!(page.lines().any(|served| served == line), "no {line} in\n{page}");
        }
        assert!(!page.contains(r#"resource="namespaces""#), "what is not watched is not out of sync");
    }

    #[test]
    fn workloads_are_in_the_metrics_only_where_they_are_counted() {
        let telemetry = Telemetry::new(Facts::default(), None);
        telemetry.board().account = Some(Account::default());
        assert!(!render(&telemetry).unwrap().contains("workload"));
    }

    #[test]
    fn facts_are_told_with_their_labels_escaped() {
        let facts = Facts { kernel: "6.1 \"x\"\n".to_owned(), started_s: 7, ..Facts::default() };
        let page = render(&Telemetry::new(facts, None)).unwrap();
        assert!(page.lines().any(|line| line == "kube_tcpstates_start_timestamp_seconds 7"), "{page}");
        assert!(page.contains(r#"kernel="6.1 \"x\"\n""#), "{page}");
    }
}
