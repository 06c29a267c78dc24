//! Traces: one of everything, which stays and is accounted for, and a few that are made, changed and deleted.

use anyhow::Result;
use serde_json::{Value, json};

use super::pods::{APP, NAMESPACE};
use super::schedule::{Numbers, Schedule};
use super::stage::Stage;
use crate::agent::trace_path;

/// The one that stays.
pub(super) const ALL: &str = "all";
/// As many at a time as others than it.
const SLOTS: usize = 4;

/// Makes the one that stays: its limits are higher than anything here.
pub(super) fn make(stage: &Stage<'_>) -> Result<()> {
    let spec = json!({
        "podSelector": {"matchLabels": {"app": APP}},
        "rateLimit": {"linesPerSecondPerNode": 100_000, "burst": 200_000},
    });
    stage.cluster.kubectl().api().create(&object(ALL, &spec))
}

/// Makes, changes and deletes the others.
pub(super) fn changes(stage: &Stage<'_>, seed: u64, schedule: &Schedule) -> Result<()> {
    let mut numbers = Numbers::new(seed, 5);
    let mut there = [false; SLOTS];
    let api = stage.cluster.kubectl().api();
    for at in &schedule.changes {
        if !stage.sleep_until(*at) {
            break;
        }
        let slot = usize::try_from(numbers.between(0, u64::try_from(SLOTS)? - 1))?;
        let name = format!("changing-{slot}");
        let (what, spec) = specification(&mut numbers);
        let is_deleted = there[slot] && numbers.between(0, 1) == 0;
        let asking = stage.api();
        let done = if is_deleted {
            api.delete(&object(&name, &Value::Null))?;
            "deleted".to_owned()
        } else if there[slot] {
            // A merge patch leaves what it does not name: all that another may have had is taken away.
            api.merge(&trace_path(NAMESPACE, &name), &json!({"spec": cleared(&spec)}))?;
            format!("changed to {what}")
        } else {
            api.create(&object(&name, &spec))?;
            format!("made: {what}")
        };
        drop(asking);
        there[slot] = !is_deleted;
        stage.say(&format!("trace {name} {done}"));
    }
    Ok(())
}

/// Deletes those that are left.
pub(super) fn delete_changing(stage: &Stage<'_>) -> Result<()> {
    let api = stage.cluster.kubectl().api();
    (0..SLOTS).try_for_each(|slot| api.delete(&object(&format!("changing-{slot}"), &Value::Null)))
}

fn object(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// One of every kind that the agent treats in another way.
fn specification(numbers: &mut Numbers) -> (&'static str, Value) {
    let all = json!({"matchLabels": {"app": APP}});
    let of = |role: &str| json!({"matchLabels": {"role": role}});
    match numbers.between(0, 6) {
        0 => (
            "clients that come to be connected",
            json!({"podSelector": of("client"), "role": "Client", "transitions": [{"to": ["ESTABLISHED"]}]}),
        ),
        1 => ("connections", json!({"podSelector": all, "mode": "Connections"})),
        2 => (
            "a summary of servers",
            json!({"podSelector": of("server"), "mode": "Summary", "interval": "10s"}),
        ),
        3 => (
            "listeners, and snapshots of what is open",
            json!({
                "podSelector": all, "transitions": [{"to": ["LISTEN"]}], "openSockets": {"every": "10s"},
            }),
        ),
        4 => (
            "what is slow, at a few lines a second",
            json!({
                "podSelector": all, "minStateDuration": "1ms", "podLabels": ["role"],
                "rateLimit": {"linesPerSecondPerNode": 10, "burst": 20},
            }),
        ),
        5 => (
            "an address, with names",
            json!({"podSelector": all, "peerCIDRs": ["127.77.0.0/16"], "peerNames": true}),
        ),
        _ => (
            "a container that does not come",
            json!({"podSelector": of("client"), "containers": ["sidecar"]}),
        ),
    }
}

/// With nothing in every place that another specification may have filled.
fn cleared(spec: &Value) -> Value {
    let mut cleared = json!({
        "role": null, "transitions": null, "mode": null, "interval": null, "openSockets": null,
        "minStateDuration": null, "podLabels": null, "rateLimit": null, "peerCIDRs": null, "peerNames": null,
        "containers": null,
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        cleared[name.as_str()] = value.clone();
    }
    // Labels of a selector are merged as well.
    let mut labels = json!({"app": null, "role": null});
    for (name, value) in spec["podSelector"]["matchLabels"].as_object().into_iter().flatten() {
        labels[name.as_str()] = value.clone();
    }
    cleared["podSelector"] = json!({"matchLabels": labels});
    cleared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_nothing_of_the_specification_before() {
        let changed =
            cleared(&json!({"podSelector": {"matchLabels": {"role": "client"}}, "mode": "Summary"}));
        assert_eq!(changed["podSelector"]["matchLabels"], json!({"app": null, "role": "client"}));
        assert_eq!((&changed["mode"], &changed["openSockets"]), (&json!("Summary"), &Value::Null));
    }
}
