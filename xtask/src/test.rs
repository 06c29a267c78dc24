//! `./x test`: the layers in order, and how many tests each of them ran.
//!
//! A layer that cannot run has failed, as has one that ran nothing: silence is no success.

mod e2e;
pub(crate) mod layer;
pub(crate) mod libtest;
pub(crate) mod soak;

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::step;
use crate::workspace::Workspace;
use layer::{LAYERS, Layer};
use libtest::Counts;

/// What the arguments of `./x test` ask for.
struct Selection<'a> {
    layers: Vec<&'static Layer>,
    name: Option<&'a str>,
}

/// How a layer ended.
struct LayerResult {
    layer: &'static Layer,
    counts: Counts,
    seconds: f64,
    failure: Option<String>,
}

/// Runs what was asked for. The last line on stdout is `N passed, N failed`, alone.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let selection = select(arguments)?;
    let outcomes: Vec<_> =
        selection.layers.iter().map(|layer| run_layer(workspace, layer, selection.name)).collect();
    if let Some(name) = selection.name
        && outcomes.iter().all(|outcome| outcome.counts.ran() == 0 && outcome.failure.is_none())
    {
        bail!("no test of {} has a name that contains `{name}`", names(&selection.layers));
    }
    println!();
    for outcome in &outcomes {
        println!("{}", describe(outcome));
    }
    let total = outcomes.iter().fold(Counts::default(), |total, outcome| total + outcome.counts);
    println!("{total}");
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.failed()).map(|outcome| outcome.layer.name).collect();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn select<'a>(arguments: &[&'a str]) -> Result<Selection<'a>> {
    let all = || LAYERS.iter().filter(|layer| layer.by_default).collect();
    let by_name = |name: &str| LAYERS.iter().find(|layer| layer.name == name);
    match arguments {
        [] => Ok(Selection { layers: all(), name: None }),
        [first, rest @ ..] if rest.len() <= 1 => match by_name(first) {
            Some(layer) => Ok(Selection { layers: vec![layer], name: rest.first().copied() }),
            None if rest.is_empty() => Ok(Selection { layers: all(), name: Some(first) }),
            None => bail!("`{first}` is no layer: there are {}", names(&LAYERS.iter().collect::<Vec<_>>())),
        },
        _ => bail!("usage: ./x test [LAYER] [NAME]"),
    }
}

fn run_layer(workspace: &Workspace, layer: &'static Layer, name: Option<&str>) -> LayerResult {
    step::say(&format!("testing layer {}: {}", layer.name, layer.what));
    let start = Instant::now();
    let mut counts = Counts::default();
    let outcome = layer.run(workspace, name, &mut counts);
    let failure = match outcome {
        Err(error) => Some(format!("{error:#}")),
        Ok(()) if counts.ran() == 0 && name.is_none() => Some("it ran no test".to_owned()),
        Ok(()) => None,
    };
    if failure.is_some() && counts.failed == 0 {
        // A layer that could not run must not disappear from the sum.
        counts.failed = 1;
    }
    LayerResult { layer, counts, seconds: start.elapsed().as_secs_f64(), failure }
}

impl LayerResult {
    fn failed(&self) -> bool {
        self.failure.is_some() || self.counts.failed > 0
    }
}

/// One closing line. Worded so that no reader takes it for the sum of all layers.
fn describe(outcome: &LayerResult) -> String {
    let LayerResult { layer, counts, seconds, failure } = outcome;
    let reason = failure.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let Counts { passed, failed, skipped } = counts;
    let skipped = if *skipped > 0 { format!(", {skipped} ignored") } else { String::new() };
    format!(
        "layer {} ran {passed} tests well and {failed} badly{skipped} in {seconds:.1} s{reason}",
        layer.name
    )
}

fn names(layers: &[&Layer]) -> String {
    layers.iter().map(|layer| layer.name).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(arguments: &[&'static str]) -> (Vec<&'static str>, Option<&'static str>) {
        let selection = select(arguments).unwrap();
        (selection.layers.iter().map(|layer| layer.name).collect(), selection.name)
    }

    #[test]
    fn no_argument_is_every_usual_layer_in_order() {
        assert_eq!(selected(&[]), (vec!["unit", "kernel", "e2e"], None));
    }

    #[test]
    fn a_layer_or_a_test_can_be_asked_for() {
        assert_eq!(selected(&["kernel"]), (vec!["kernel"], None));
        assert_eq!(selected(&["kernels", "6.1"]), (vec!["kernels"], Some("6.1")));
        assert_eq!(selected(&["kernel", "owner"]), (vec!["kernel"], Some("owner")));
        assert_eq!(selected(&["owner"]), (vec!["unit", "kernel", "e2e"], Some("owner")));
    }

    #[test]
    fn a_layer_that_does_not_exist_is_an_error() {
        assert!(select(&["kernle", "owner"]).is_err());
        assert!(select(&["kernel", "owner", "more"]).is_err());
    }

    #[test]
    fn a_closing_line_says_why_a_layer_failed() {
        let counts = Counts { passed: 0, failed: 1, skipped: 0 };
        let outcome =
            LayerResult { layer: &LAYERS[1], counts, seconds: 0.04, failure: Some("not root".to_owned()) };
        assert_eq!(describe(&outcome), "layer kernel ran 0 tests well and 1 badly in 0.0 s: not root");
    }
}
