//! What the cluster knows of whoever owns a socket: the node's pods by the [`View`] in force, and what was waited for in
//! vain. Knows no kernel. Where no cluster is asked, nobody is a pod and nothing is waited for.

use std::{collections::HashSet, sync::Arc};

use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_events::AttributionStatus;

use crate::{
    decode::Transition,
    identity::{self, Identity},
    plan::{Container, Plan, Sets, Subject, View},
    roster::{PodInfo, Roster},
};

/// What was given up on and is remembered. Above this all is forgotten: it is waited for once more.
const GIVEN_UP: usize = 16_384;

/// What must become known before an owner can be named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Awaited {
    /// A pod, by the UID in its cgroup's path.
    Pod(String),
    /// The name of a container, by its id.
    Container(String),
    /// Whoever is in a place of which nothing says who that is.
    Place(Place),
}

/// Where a socket belongs, as the kernel tells it. No owner: two sockets of one place may be two pods'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// cgroup2 id; 0 where it is not known.
    cgroup: u64,
    /// The network namespace's cookie, where it has none its inode number; 0 where the cgroup says more.
    netns: u64,
}

impl Place {
    /// Of a transition's socket.
    pub(super) fn of(transition: &Transition) -> Self {
        match transition.cgroup_id {
            Some(cgroup) if cgroup != identity::ROOT_CGROUP_ID => Self { cgroup, netns: 0 },
            other => Self {
                cgroup: other.unwrap_or(0),
                netns: transition.netns_cookie.or(transition.netns.map(u64::from)).unwrap_or(0),
            },
        }
    }
}

/// What the cluster knows of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No pod: a process of the host, or a container that Kubernetes does not run.
    NoPod,
    /// Something that is not known yet.
    Awaited(Awaited),
    /// In a pod that was waited for in vain, by its UID. It may exist all the same: that the API server is silent does not
    /// show at once.
    Doubted(String),
    /// Somebody who was waited for in vain.
    GivenUp,
    /// A pod.
    Pod {
        /// The pod.
        pod: Arc<PodInfo>,
        /// The id of the container that the API knows.
        container_id: Option<String>,
        /// Its name.
        container: Option<String>,
        /// The name may still come.
        awaited: bool,
    },
}

impl Standing {
    /// What may still become known of it.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        match self {
            Self::Awaited(awaited) => Some(awaited.clone()),
            Self::Pod { container_id: Some(id), awaited: true, .. } => Some(Awaited::Container(id.clone())),
            _ => None,
        }
    }

    /// Nobody can say which pod it is, if any.
    pub(super) const fn is_nobody(&self) -> bool {
        matches!(self, Self::Awaited(_) | Self::Doubted(_) | Self::GivenUp)
    }

    /// The pod that may exist after all.
    pub(super) fn doubted(&self) -> Option<&str> {
        match self {
            Self::Doubted(uid) => Some(uid),
            _ => None,
        }
    }

    /// The namespace of its pod.
    pub(super) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Pod { pod, .. } => Some(&pod.namespace),
            _ => None,
        }
    }

    /// The traces of a plan that select it.
    pub(super) fn sets(&self, plan: &Plan, identity: Option<&Identity>) -> Sets {
        let subject = match self {
            Self::NoPod | Self::GivenUp => Subject::NoPod,
            Self::Awaited(_) | Self::Doubted(_) => Subject::Unknown,
            Self::Pod { pod, container: Some(name), .. } => Subject::Pod(pod, Container::Named(name)),
            // It has a name, even if nobody has told it in time.
            Self::Pod { pod, container_id: Some(_), .. } => Subject::Pod(pod, Container::Pending),
            Self::Pod { pod, .. } => Subject::Pod(pod, Container::Nameless),
        };
        plan.sets(identity, subject)
    }
}

/// Tells how owners stand.
#[derive(Default)]
pub(super) struct Standings {
    view: View,
    given_up: HashSet<Awaited>,
    doubted: HashSet<String>,
}

impl Standings {
    /// What is in force.
    pub(super) const fn view(&self) -> &View {
        &self.view
    }

    /// The traces in force.
    pub(super) fn plan(&self) -> &Plan {
        &self.view.plan
    }

    /// The same, to be kept.
    pub(super) const fn plan_arc(&self) -> &Arc<Plan> {
        &self.view.plan
    }

    /// Traces that take what nobody can name.
    pub(super) fn everything(&self) -> TraceSet {
        self.view.plan.everything()
    }

    /// Another view is in force. A namespace's number may be another's by now, so what was given up on there is not
    /// held against it.
    pub(super) fn look_through(&mut self, view: View) {
        if let Some(roster) = &view.roster {
            self.doubted.retain(|uid| roster.pod(uid).is_none());
        }
        self.given_up.retain(|awaited| !matches!(awaited, Awaited::Place(place) if place.netns != 0));
        self.view = view;
    }

    /// What is known of an identity.
    ///
    /// Outside in: a container may make cgroups below itself and name them after another's pod or container, so what
    /// lies further in counts only once it is certain that what lies around it is none of this cluster's.
    pub(super) fn of(&self, identity: &Identity) -> Standing {
        let Some(roster) = &self.view.roster else { return Standing::NoPod };
        for outer in identity.pods.iter().rev() {
            if let Some(pod) = roster.pod(&outer.uid) {
                return self.in_pod(identity, &outer.uid, pod);
            }
            if self.doubted.contains(&outer.uid) {
                return Standing::Doubted(outer.uid.clone());
            }
            let awaited = Awaited::Pod(outer.uid.clone());
            if !self.given_up.contains(&awaited) {
                return Standing::Awaited(awaited);
            }
        }
        if identity.pods.is_empty() { Standing::NoPod } else { Standing::GivenUp }
    }

    /// What is known where no evidence names anybody. A cgroup that could not be read or was gone too soon may be any
    /// pod's: it is waited for as a pod is.
    pub(super) fn of_nobody(&self, status: AttributionStatus, place: Place) -> Standing {
        if self.view.roster.is_none() || status == AttributionStatus::Host {
            return Standing::NoPod;
        }
        let awaited = Awaited::Place(place);
        if self.given_up.contains(&awaited) { Standing::GivenUp } else { Standing::Awaited(awaited) }
    }

    fn in_pod(&self, identity: &Identity, path_uid: &str, pod: &Arc<PodInfo>) -> Standing {
        let of_pod = |container: &&identity::Container| container.pod_uid.as_deref() == Some(path_uid);
        let id = identity.containers.iter().rev().find(of_pod).map(|container| container.id.clone());
        let name = id.as_deref().and_then(|id| pod.container_name(id));
        let may_come = |id: &String| !self.given_up.contains(&Awaited::Container(id.clone()));
        Standing::Pod {
            container: name.map(str::to_owned),
            awaited: name.is_none() && id.as_ref().is_some_and(may_come),
            pod: Arc::clone(pod),
            container_id: id,
        }
    }

    /// A wait of somebody who stands so is over. Whether it is given up for that: who waits for something else by now
    /// goes on waiting.
    pub(super) fn end_wait(&mut self, awaited: &Awaited, standing: &Standing) -> bool {
        standing.awaited().as_ref() == Some(awaited) && self.give_up(awaited.clone())
    }

    /// The wait for it is over. False when nothing may be concluded from that it did not come: while the list of pods is
    /// not in sync, a pod may well exist. And it is only doubted at first, since the list may be out of sync without
    /// anybody having noticed.
    fn give_up(&mut self, awaited: Awaited) -> bool {
        if let Awaited::Pod(uid) = awaited {
            return self.in_sync() && self.doubted.insert(uid);
        }
        self.remember(awaited);
        true
    }

    /// The list of pods is known to have been in sync: a pod that is not in it does not exist.
    pub(super) fn end_doubt(&mut self, uid: &str) {
        if self.doubted.remove(uid) {
            self.remember(Awaited::Pod(uid.to_owned()));
        }
    }

    /// Whether a pod that is not known does not exist, as far as anybody knows.
    pub(super) fn in_sync(&self) -> bool {
        self.view.roster.as_deref().is_some_and(Roster::in_sync)
    }

    fn remember(&mut self, awaited: Awaited) {
        if self.given_up.len() >= GIVEN_UP {
            self.given_up.clear();
        }
        self.given_up.insert(awaited);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::record::TransitionRecord;
    use kube_tcpstates_events::AttributionStatus;

    use super::{Awaited, Place, Standing, Standings};
    use crate::{
        decode::transitions,
        identity::Identity,
        plan::{View, tests_support::plan_of},
        roster::{ContainerInfo, PodInfo, Roster},
    };

    const UID: &str = "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab";
    const OTHER: &str = "00000000-0b1a-4c3d-8e5f-0123456789ab";

    fn id(digits: &str) -> String {
        digits.repeat(32)
    }

    fn mk_pod(uid: &str, namespace: &str, container: Option<&str>) -> PodInfo {
        let ids = container.map(id).into_iter().collect();
        PodInfo {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: format!("pod-in-{namespace}"),
            containers: vec![
                ContainerInfo { name: "app".to_owned(), ids },
                ContainerInfo { name: "proxy".to_owned(), ids: Vec::new() },
            ],
            ..PodInfo::default()
        }
    }

    fn mk_view(pods: Option<Vec<PodInfo>>) -> View {
        let mut roster = Roster::default();
        match pods {
            Some(pods) => roster.replace(pods, 0),
            None => roster.set_in_sync(false),
        }
        View { plan: Arc::new(plan_of(&["a", "b"])), roster: Some(Arc::new(roster)), refused: 0 }
    }

    fn mk_standings(pods: Vec<PodInfo>) -> Standings {
        Standings { view: mk_view(Some(pods)), ..Standings::default() }
    }

    fn path(text: &str) -> Identity {
        Identity::from_path(text)
    }

    fn place_of(record: TransitionRecord) -> Place {
        Place::of(&transitions(&TransitionRecord { traces: 1, ..record })[0])
    }

    #[test]
    fn a_pod_of_anothers_name_made_inside_a_container_deceives_nobody() {
        let inner = path(&format!("/kubepods/pod{UID}/{}/kubepods/pod{OTHER}/{}", id("ab"), id("cd")));
        let victim = mk_pod(OTHER, "ns", Some("cd"));
        // Not even while the real pod is not known.
        let mut standings = mk_standings(vec![victim.clone()]);
        assert_eq!(standings.of(&inner), Standing::Awaited(Awaited::Pod(UID.to_owned())));
        // Where the outer pod is none of this cluster's (an agent inside a nested cluster), the inner one is the truth.
        assert!(standings.give_up(Awaited::Pod(UID.to_owned())));
        assert_eq!(standings.of(&inner), Standing::Doubted(UID.to_owned()));
        standings.end_doubt(UID);
        assert!(matches!(standings.of(&inner), Standing::Pod { pod, .. } if pod.namespace == "ns"));

        let standings = mk_standings(vec![victim, mk_pod(UID, "evil", None)]);
        assert!(matches!(standings.of(&inner), Standing::Pod { pod, container: None, awaited: true, .. }
            if pod.namespace == "evil"));
    }

    #[test]
    fn while_the_list_is_not_in_sync_no_pod_is_given_up() {
        let identity = path(&format!("/kubepods/pod{UID}/{}", id("ab")));
        let awaited = Awaited::Pod(UID.to_owned());
        let mut standings = Standings { view: mk_view(None), ..Standings::default() };
        assert!(!standings.give_up(awaited.clone()));
        assert_eq!(standings.of(&identity), Standing::Awaited(awaited.clone()));
        standings.look_through(mk_view(Some(Vec::new())));
        assert!(standings.give_up(awaited));
        assert_eq!(standings.of(&identity), Standing::Doubted(UID.to_owned()));
        standings.end_doubt(UID);
        assert_eq!(standings.of(&identity), Standing::GivenUp);
    }

    #[test]
    fn a_pod_that_was_doubted_and_comes_is_a_pod() {
        let identity = path(&format!("/kubepods/pod{UID}/{}", id("ab")));
        let mut standings = mk_standings(Vec::new());
        assert!(standings.give_up(Awaited::Pod(UID.to_owned())));
        let plan = standings.plan().clone();
        let sets = standings.of(&identity).sets(&plan, Some(&identity));
        assert_eq!((sets.matched, sets.maybe), (0, 0b11), "any trace may still want it");
        standings.look_through(mk_view(Some(vec![mk_pod(UID, "ns", None)])));
        assert!(matches!(standings.of(&identity), Standing::Pod { .. }));
        standings.end_doubt(UID);
        standings.look_through(mk_view(Some(Vec::new())));
        assert_eq!(
            standings.of(&identity).awaited(),
            Some(Awaited::Pod(UID.to_owned())),
            "it is not given up"
        );
    }

    #[test]
    fn a_container_waits_for_its_name_and_then_goes_without() {
        let mut standings = mk_standings(vec![mk_pod(UID, "ns", None)]);
        let identity = path(&format!("/kubepods/pod{UID}/{}", id("ab")));
        let awaited = Awaited::Container(id("ab"));
        assert_eq!(standings.of(&identity).awaited(), Some(awaited.clone()));
        standings.give_up(awaited);
        let nameless = standings.of(&identity);
        assert!(matches!(nameless, Standing::Pod { awaited: false, .. }));
        let Standing::Pod { pod, container_id: Some(_), container: None, .. } = &nameless else { panic!() };
        assert_eq!(pod.namespace, "ns");
        // What is no container has no name to wait for.
        assert_eq!(standings.of(&path(&format!("/kubepods/pod{UID}"))).awaited(), None);
    }

    #[test]
    fn the_end_of_one_wait_ends_no_other() {
        let mut standings = mk_standings(vec![mk_pod(UID, "ns", None), mk_pod(OTHER, "ns", None)]);
        let [one, other] = [(UID, "ab"), (OTHER, "cd")]
            .map(|(uid, digits)| path(&format!("/kubepods/pod{uid}/{}", id(digits))));
        let awaited = Awaited::Container(id("ab"));
        // Its socket has the address that one of the first pod's had.
        let standing = standings.of(&other);
        assert!(!standings.end_wait(&awaited, &standing));
        assert_eq!(standings.of(&other).awaited(), Some(Awaited::Container(id("cd"))));
        let standing = standings.of(&one);
        assert!(standings.end_wait(&awaited, &standing));
        assert_eq!(standings.of(&one).awaited(), None);
    }

    #[test]
    fn what_was_given_up_on_in_a_namespace_is_waited_for_again_when_pods_have_changed() {
        let (root, cgroup) = (
            place_of(TransitionRecord { cgroup_id: 1, netns: 5, ..TransitionRecord::zeroed() }),
            place_of(TransitionRecord { cgroup_id: 9, ..TransitionRecord::zeroed() }),
        );
        let mut standings = mk_standings(Vec::new());
        for place in [root, cgroup] {
            standings.give_up(Awaited::Place(place));
            assert_eq!(standings.of_nobody(AttributionStatus::Unknown, place), Standing::GivenUp);
        }
        standings.look_through(mk_view(Some(Vec::new())));
        assert_eq!(
            standings.of_nobody(AttributionStatus::Unknown, root),
            Standing::Awaited(Awaited::Place(root))
        );
        assert_eq!(standings.of_nobody(AttributionStatus::Unknown, cgroup), Standing::GivenUp);
        assert_eq!(standings.of_nobody(AttributionStatus::Host, root), Standing::NoPod);
    }

    #[test]
    fn a_socket_of_the_root_cgroup_is_told_by_its_namespace() {
        let at = |cgroup_id, netns, netns_cookie| {
            place_of(TransitionRecord { cgroup_id, netns, netns_cookie, ..TransitionRecord::zeroed() })
        };
        assert_ne!(at(1, 5, 0), at(1, 6, 0));
        assert_ne!(at(0, 5, 0), at(0, 6, 0));
        assert_eq!(at(9, 5, 0), at(9, 6, 0));
        // The number of a namespace is another's once it is gone, its cookie never.
        assert_ne!(at(1, 5, 7), at(1, 5, 8));
    }

    #[test]
    fn without_a_cluster_nobody_is_a_pod_and_nothing_is_waited_for() {
        let standings = Standings::default();
        assert_eq!(standings.of(&path(&format!("/kubepods/pod{UID}/{}", id("ab")))), Standing::NoPod);
        let place = place_of(TransitionRecord { cgroup_id: 9, ..TransitionRecord::zeroed() });
        assert_eq!(standings.of_nobody(AttributionStatus::Unknown, place), Standing::NoPod);
    }
}
