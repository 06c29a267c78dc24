//! What owns a pod, from its controlling owner reference alone: the owners themselves are never fetched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::names::{Workload, WorkloadKind};

/// Label that a Deployment gives to its pods and appends to the name of their `ReplicaSet`.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// How far a Job's suffix may lie from the creation of its pod, s. A `CronJob` may start late, and a Job may retry.
const CRON_WINDOW_S: u64 = 24 * 3600;

/// The workload of a pod; none for owners that OpenTelemetry has no name for.
pub(super) fn workload(pod: &ObjectMeta) -> Option<Workload> {
    let owner = pod.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    // Other projects have resources of the same kinds in their own groups, such as apps.kruise.io.
    let (group, _) = owner.api_version.split_once('/')?;
    let plain = |kind| Workload { kind, name: owner.name.clone() };
    match (group, owner.kind.as_str()) {
        ("apps", "ReplicaSet") => {
            Some(deployment(pod, owner).unwrap_or_else(|| plain(WorkloadKind::ReplicaSet)))
        }
        ("apps", "StatefulSet") => Some(plain(WorkloadKind::StatefulSet)),
        ("apps", "DaemonSet") => Some(plain(WorkloadKind::DaemonSet)),
        ("batch", "Job") => Some(cron_job(pod, owner).unwrap_or_else(|| plain(WorkloadKind::Job))),
        _ => None,
    }
}

fn deployment(pod: &ObjectMeta, replica_set: &OwnerReference) -> Option<Workload> {
    let hash = pod.labels.as_ref()?.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty())?;
    let name = replica_set.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    named(WorkloadKind::Deployment, name)
}

/// A `CronJob`'s Jobs end in the time they were due: in minutes, before Kubernetes 1.21 in seconds.
fn cron_job(pod: &ObjectMeta, job: &OwnerReference) -> Option<Workload> {
    let created_s = u64::try_from(pod.creation_timestamp.as_ref()?.0.as_second()).ok()?;
    let (name, suffix) = job.name.rsplit_once('-')?;
    if !suffix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let suffix: u64 = suffix.parse().ok()?;
    let is_near = |due_s: u64| due_s.abs_diff(created_s) <= CRON_WINDOW_S;
    if !is_near(suffix) && !suffix.checked_mul(60).is_some_and(is_near) {
        return None;
    }
    named(WorkloadKind::CronJob, name)
}

fn named(kind: WorkloadKind, name: &str) -> Option<Workload> {
    (!name.is_empty()).then(|| Workload { kind, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_owner_names_the_workload_by_the_documented_rules() {
        // 2026-11-22T15:25:00Z, in minutes and in seconds since the epoch.
        let (minute, second, day) = (29_922_685_u64, 1_795_361_100_u64, 24 * 60);
        for (api, kind, owner, hash, expected) in [
            ("apps/v1", "ReplicaSet", "cart-7d4f".to_owned(), "7d4f", Some("deployment/cart")),
            ("apps/v1", "ReplicaSet", "cart-7d4f".to_owned(), "", Some("replicaset/cart-7d4f")),
            ("apps/v1", "ReplicaSet", "cart-7d4f".to_owned(), "d4f", Some("replicaset/cart-7d4f")),
            ("apps/v1", "ReplicaSet", "cart-7d4f".to_owned(), "9999", Some("replicaset/cart-7d4f")),
            ("apps/v1", "ReplicaSet", "-7d4f".to_owned(), "7d4f", Some("replicaset/-7d4f")),
            ("apps/v1", "StatefulSet", "db".to_owned(), "", Some("statefulset/db")),
            ("apps/v1", "DaemonSet", "proxy".to_owned(), "", Some("daemonset/proxy")),
            ("apps.kruise.io/v1beta1", "StatefulSet", "db".to_owned(), "", None),
            ("argoproj.io/v1alpha1", "Workflow", "w".to_owned(), "", None),
            ("v1", "Node", "n1".to_owned(), "", None),
            ("v1", "ReplicationController", "rc".to_owned(), "", None),
            ("batch/v1", "Job", format!("backup-{minute}"), "", Some("cronjob/backup")),
            ("batch/v1", "Job", format!("backup-{second}"), "", Some("cronjob/backup")),
            ("batch/v1", "Job", format!("backup-{}", minute - day), "", Some("cronjob/backup")),
            ("batch/v1", "Job", format!("backup-{}", minute + day), "", Some("cronjob/backup")),
            ("batch/v1", "Job", format!("run-{}", minute - day - 1), "", Some("job/run-29921244")),
            ("batch/v1", "Job", "backup-1".to_owned(), "", Some("job/backup-1")),
            ("batch/v1", "Job", "backup".to_owned(), "", Some("job/backup")),
            ("batch/v1", "Job", "backup-".to_owned(), "", Some("job/backup-")),
            (
                "batch/v1",
                "Job",
                "backup-99999999999999999999".to_owned(),
                "",
                Some("job/backup-99999999999999999999"),
            ),
        ] {
            let pod: ObjectMeta = serde_json::from_value(json!({
                "creationTimestamp": "2026-11-22T15:25:00Z",
                "labels": {"pod-template-hash": hash},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "not-controlling", "uid": "o"},
                    {"apiVersion": api, "kind": kind, "name": owner, "uid": "u", "controller": true},
                ],
            }))
            .unwrap();
            let found =
                workload(&pod).map(|workload| format!("{}/{}", workload.kind.as_str(), workload.name));
            assert_eq!(found.as_deref(), expected, "{api} {kind} {owner}");
        }
    }
}
