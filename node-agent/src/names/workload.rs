//! What owns a pod, by the names that OpenTelemetry has for it.

use serde::{Deserialize, Serialize};

/// The workload that owns a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Which kind of resource.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// Kinds of workload that OpenTelemetry has a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `Deployment`
    Deployment,
    /// `ReplicaSet` of no Deployment.
    ReplicaSet,
    /// `StatefulSet`
    StatefulSet,
    /// `DaemonSet`
    DaemonSet,
    /// `Job` of no `CronJob`.
    Job,
    /// `CronJob`
    CronJob,
}

impl WorkloadKind {
    /// Of one thing for each kind, the one of this: of a Deployment, `ReplicaSet`, `StatefulSet`, `DaemonSet`, Job, `CronJob`.
    pub fn among<T>(self, [deployment, replicaset, statefulset, daemonset, job, cronjob]: [T; 6]) -> T {
        match self {
            Self::Deployment => deployment,
            Self::ReplicaSet => replicaset,
            Self::StatefulSet => statefulset,
            Self::DaemonSet => daemonset,
            Self::Job => job,
            Self::CronJob => cronjob,
        }
    }

    /// OpenTelemetry's word: `k8s.<word>.name`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::ReplicaSet => "replicaset",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
            Self::CronJob => "cronjob",
        }
    }
}
