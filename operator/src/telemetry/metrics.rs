//! The board in the `OpenMetrics` format. Labels have bounded values: never a trace, a namespace or a node.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Board;

/// Everything there is to tell, as text.
pub(super) fn render(board: &Board) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("kube_tcpstates_operator");
    registry.register_collector(Box::new(Reader(board.clone())));
    let mut body = String::new();
    text::encode(&mut body, &registry)?;
    Ok(body)
}

#[derive(Debug)]
struct Reader(Board);

impl Collector for Reader {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let state = self.0.state();
        let mut page = Page(encoder);
        page.info("build", "Version of the operator", &[("version", crate::VERSION)])?;
        page.gauge("leading", "1 while this operator writes", u64::from(state.leads))?;
        page.gauge("traces", "Traces of both kinds", u64_of(state.traces))?;
        page.gauge("nodes", "Nodes of the cluster", u64_of(state.nodes))?;
        page.gauge("agents_reporting", "Agents that have reported lately", u64_of(state.reporting))?;
        page.gauge("queue", "Traces whose status waits to be written", u64_of(state.queue))?;
        let outcome = |(outcome, number): (&&'static str, &u64)| (vec![("outcome", *outcome)], *number);
        page.counters("status_writes", "Writes of a trace's status", state.writes.iter().map(outcome))?;
        page.counters("event_writes", "Writes of Kubernetes Events", state.events.iter().map(outcome))?;
        let requests = state.requests.iter();
        let requests = requests
            .map(|((resource, code), number)| (vec![("resource", *resource), ("code", *code)], *number));
        page.counters("api_requests", "Requests to the API server, by how they ended", requests)?;
        let syncs = state.syncs.iter();
        let syncs =
            syncs.map(|(resource, sync)| (vec![("resource", resource.plural())], u64::from(sync.in_sync())));
        page.gauges("api_in_sync", "1 while the list has come and the watch works", syncs)
    }
}

/// Labels of one sample, and its value.
type Sample = (Vec<(&'static str, &'static str)>, u64);

/// One metric after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let labels: Vec<(String, String)> = labels.collect();
        Info::new(labels).encode(self.0.encode_descriptor(name, help, None, MetricType::Info)?)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = Sample>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        gauge(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn gauges(&mut self, name: &str, help: &str, samples: impl Iterator<Item = Sample>) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            gauge(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn u64_of(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube_tcpstates_client::{Answer, RequestEnd};
    use tokio::time::Instant;

    use super::{Board, render};
    use crate::cluster::resources::{NODES, REPORTS};

    #[test]
    fn what_stands_on_the_board_is_served() {
        let board = Board::default();
        board.turned(true, 3, (4, 5, 6), Instant::now());
        board.wrote("ok");
        board.announced("failed");
        board.works(NODES, true);
        board.answered(Answer { resource: Some(REPORTS), watch: false, ending: RequestEnd::Timeout });
        let page = render(&board).unwrap();
        for line in [
            "leading 1",
            "queue 3",
            "traces 4",
            "nodes 5",
            "agents_reporting 6",
            r#"status_writes_total{outcome="ok"} 1"#,
            r#"event_writes_total{outcome="failed"} 1"#,
            r#"api_requests_total{resource="tcpstatenodes",code="timeout"} 1"#,
            r#"api_in_sync{resource="nodes"} 1"#,
            r#"api_in_sync{resource="tcpstatetraces"} 0"#,
        ] {
            let line = format!("kube_tcpstates_operator_{line}");
            assert!(page.lines().any(|served| served == line), "no {line} in\n{page}");
        }
    }

    #[test]
    fn the_documentation_lists_the_metrics_that_there_are() {
        let page = render(&Board::default()).unwrap();
        let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let served: BTreeSet<&str> = names.collect();
        let documentation = include_str!("../../../docs/operator.md");
        let rows = documentation.lines().filter_map(|line| line.strip_prefix("| `kube_tcpstates_operator_"));
        let documented: BTreeSet<String> = rows
            .filter_map(|row| Some(format!("kube_tcpstates_operator_{}", row.split('`').next()?)))
            .collect();
        assert_eq!(served, documented.iter().map(String::as_str).collect());
    }
}
