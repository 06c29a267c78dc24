//! Who has a network namespace for himself, as far as the sockets in it tell: a pod, or a container that is in none.

use std::collections::HashMap;

use kube_tcpstates_common::rule::TraceSet;

use super::owner::Resolved;
use crate::names::Owner;

/// Whoever has a namespace for himself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alone {
    /// What all its sockets' owners have in common.
    pub(super) owner: Owner,
    /// The traces that select each of them.
    pub(super) matched: TraceSet,
}

/// By namespace; `None` where several share one, or the host is in it. Sockets whose owner is not known say nothing.
pub(super) fn alone<'a>(
    sockets: impl IntoIterator<Item = (Option<u32>, &'a Resolved)>,
) -> HashMap<u32, Option<Alone>> {
    let mut namespaces = HashMap::new();
    for (netns, resolved) in sockets {
        let (Some(netns), Some(owner)) = (netns, &resolved.owner) else { continue };
        let matched = resolved.sets.matched;
        let new = || Some(Alone { owner: Owner::clone(owner), matched });
        let known: &mut Option<Alone> = namespaces.entry(netns).or_insert_with(new);
        *known = known.take().and_then(|known| known.and(owner, matched));
    }
    namespaces
}

impl Alone {
    fn and(mut self, owner: &Owner, matched: TraceSet) -> Option<Self> {
        let is_same = match (&self.owner.pod_uid, &owner.pod_uid) {
            (Some(one), Some(other)) => one == other,
            (None, None) => {
                self.owner.container_id.is_some() && self.owner.container_id == owner.container_id
            }
            _ => false,
        };
        if self.owner.container_id != owner.container_id {
            self.owner.container_id = None;
            self.owner.container_name = None;
        }
        self.matched &= matched;
        is_same.then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_tcpstates_events::{Attribution, AttributionSource, AttributionStatus};

    use super::alone;
    use crate::{
        names::{Numbered, Owner},
        pipeline::{owner::Resolved, standing::Standing},
        plan::Sets,
    };

    fn mk(pod: &str, container: &str, matched: u64) -> Resolved {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let owner = Owner { pod_uid: some(pod), container_id: some(container), ..Owner::default() };
        Resolved {
            attribution: Attribution {
                source: AttributionSource::SocketCgroup,
                status: AttributionStatus::Resolved,
            },
            standing: Standing::NoPod,
            owner: Some(Arc::new(Numbered::new(owner))),
            sets: Sets { matched, maybe: 0 },
        }
    }

    /// Pod and container of the one who has the namespace, and the traces that select him.
    fn of(sockets: &[Resolved]) -> Option<(Option<String>, Option<String>, u64)> {
        let alone = alone(sockets.iter().map(|resolved| (Some(7), resolved))).remove(&7)??;
        Some((alone.owner.pod_uid, alone.owner.container_id, alone.matched))
    }

    #[test]
    fn a_pod_has_its_namespace_and_its_containers_share_it() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(&[mk("p", "a", 3), mk("p", "a", 3)]), Some((some("p"), some("a"), 3)));
        assert_eq!(of(&[mk("p", "a", 3), mk("p", "b", 2)]), Some((some("p"), None, 2)));
        assert_eq!(of(&[mk("", "a", 1), mk("", "a", 1)]), Some((None, some("a"), 1)));
    }

    #[test]
    fn a_namespace_of_several_is_nobodys() {
        assert_eq!(of(&[mk("p", "a", 1), mk("q", "b", 1), mk("p", "a", 1)]), None);
        assert_eq!(of(&[mk("p", "a", 1), mk("", "", 1)]), None);
        assert_eq!(of(&[mk("", "", 1)]), None);
        assert_eq!(of(&[mk("", "a", 1), mk("", "b", 1)]), None);
    }
}
