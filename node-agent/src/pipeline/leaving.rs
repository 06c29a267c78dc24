//! Whose cgroups are, and which pods there are, left to the next run while this one goes: of those that end in between,
//! nobody can be asked any more.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{Pipeline, cgroups::Change};
use crate::{
    kernel::{Left, LeftKind, LeftName, LeftText},
    roster::{PodInfo, Roster},
};

/// Leaves it.
pub(super) struct Leaving {
    left: Left,
    /// By UID, as they were left.
    pods: HashMap<String, Arc<PodInfo>>,
}

impl Leaving {
    pub(super) fn new(left: Left) -> Self {
        Self { left, pods: HashMap::new() }
    }

    fn take(&mut self, change: &Change) {
        match change {
            // A cgroup's path never changes, and its id is never used again.
            Change::Known(name, identity) if !self.left.has(*name) => self.left.leave(*name, &identity.path),
            Change::Known(..) => {}
            Change::Removed(name, removed_ns) => self.left.gone(*name, *removed_ns),
        }
    }

    fn take_pods(&mut self, roster: &Roster) {
        for (pod, deleted_ns) in roster.with_deletions() {
            let name = name_of(&pod.uid);
            let is_left = self.pods.get(&pod.uid).is_some_and(|left| Arc::ptr_eq(left, pod));
            if !is_left && let Ok(text) = serde_json::to_string(&**pod) {
                self.left.leave(name, &text);
                self.pods.insert(pod.uid.clone(), Arc::clone(pod));
            }
            if let Some(deleted_ns) = deleted_ns {
                self.left.gone(name, deleted_ns);
            }
        }
        self.pods.retain(|uid, _| roster.pod(uid).is_some());
    }
}

fn name_of(uid: &str) -> LeftName {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    LeftName { kind: LeftKind::Pod, id: hasher.finish() }
}

/// The pods among what a run before this one has left, and when each was deleted. What another build wrote is read as
/// far as it says the same.
pub fn pods_of(texts: &[LeftText]) -> Vec<(PodInfo, Option<u64>)> {
    let pods = texts.iter().filter(|text| text.name.kind == LeftKind::Pod);
    pods.filter_map(|text| {
        let pod: PodInfo = serde_json::from_str(&text.text).ok()?;
        (!pod.uid.is_empty()).then_some((pod, text.gone_ns))
    })
    .collect()
}

impl Pipeline {
    /// Leaves what is new of cgroups.
    pub(super) fn leave_cgroups(&mut self, now_ns: u64) {
        if let Some(leaving) = &mut self.leaving {
            for change in self.flow.owners.cgroups.take_changes() {
                leaving.take(&change);
            }
            leaving.left.expire(now_ns);
        }
    }

    /// Leaves what is new of pods.
    pub(super) fn leave_pods(&mut self) {
        if let Some(leaving) = &mut self.leaving
            && let Some(roster) = &self.flow.owners.standings.view().roster
        {
            leaving.take_pods(roster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LeftText, name_of, pods_of};
    use crate::{
        names::{Workload, WorkloadKind},
        roster::{ContainerInfo, PodInfo, PodNetwork},
    };

    fn left(pod: &PodInfo, gone_ns: Option<u64>) -> LeftText {
        LeftText { name: name_of(&pod.uid), gone_ns, text: serde_json::to_string(pod).unwrap() }
    }

    #[test]
    fn a_pod_comes_back_as_it_was() {
        let pod = PodInfo {
            uid: "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab".to_owned(),
            config_hash: Some("4aa2".to_owned()),
            namespace: "shop".to_owned(),
            name: "cart-7d4f-x".to_owned(),
            labels: [("app".to_owned(), "cart".to_owned())].into(),
            workload: Some(Workload { kind: WorkloadKind::CronJob, name: "cart".to_owned() }),
            containers: vec![ContainerInfo { name: "app".to_owned(), ids: vec!["aa".to_owned()] }],
            ended: true,
            network: PodNetwork {
                addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
                is_the_nodes: true,
                started_s: Some(1_795_361_100),
            },
        };
        assert_eq!(pods_of(&[left(&pod, Some(7))]), [(pod, Some(7))]);
    }

    #[test]
    fn what_another_build_wrote_is_read_as_far_as_it_is_known() {
        let text = |text: &str| LeftText { text: text.to_owned(), ..left(&PodInfo::default(), None) };
        let known = PodInfo { uid: "u".to_owned(), name: "n".to_owned(), ..PodInfo::default() };
        let texts = [r#"{"uid":"u","name":"n","later":{"a":1}}"#, r#"{"name":"n"}"#, "{", "[]"].map(text);
        assert_eq!(pods_of(&texts), [(known, None)]);
    }
}
