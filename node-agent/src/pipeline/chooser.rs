//! Which traces select a cgroup: the command line's one trace by its [`Selection`], or the node's traces by the
//! [`View`] of the cluster. Knows no kernel: what comes out goes into the filter's cgroup map, and settles what the
//! kernel could not decide.

use std::{collections::HashSet, sync::Arc};

use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_events::AttributionStatus;

use super::{holding::Place, selection::Selection};
use crate::{
    identity::{self, Identity},
    plan::{Container, Plan, Sets, View},
    roster::PodInfo,
};

/// Pods and containers given up on that are remembered. Above this all are forgotten: they are waited for once more.
const GIVEN_UP: usize = 16_384;

/// Decides.
pub(super) enum Chooser {
    /// `trace`.
    Selection(Selection),
    /// `agent`.
    View(Box<Viewed>),
}

/// The agent's.
#[derive(Default)]
pub(super) struct Viewed {
    /// What is in force.
    pub(super) view: View,
    /// Sockets that their cgroup does not name may be named otherwise (cgroup v1): then nothing is decided by the
    /// path of a host's cgroup.
    pub(super) other_evidence: bool,
    /// Pods that did not become known in time.
    pods_given_up: HashSet<String>,
    /// Places of which nothing more became known in time: containers without a name, cgroups without a path.
    places_given_up: HashSet<Place>,
}

/// What the cluster knows of whoever owns a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No pod: a process of the host, or a container that Kubernetes does not run.
    NoPod,
    /// A pod that is not known yet.
    Awaited,
    /// A pod that was waited for in vain.
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
    /// Something may still become known.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited | Self::Pod { awaited: true, .. })
    }

    /// Nobody can say which pod it is, if any.
    pub(super) fn is_nobody(&self) -> bool {
        matches!(self, Self::Awaited | Self::GivenUp)
    }

    /// The traces of a plan that select it.
    pub(super) fn sets(&self, plan: &Plan) -> Sets {
        match self {
            Self::NoPod | Self::GivenUp => Sets::default(),
            Self::Awaited => Sets { matched: 0, maybe: plan.live() },
            Self::Pod { pod, container: Some(name), .. } => plan.sets(pod, Container::Named(name)),
            Self::Pod { pod, awaited: true, .. } => plan.sets(pod, Container::Pending),
            Self::Pod { pod, .. } => plan.sets(pod, Container::Nameless),
        }
    }
}

/// What the filter is told of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The sets.
    pub(super) sets: Sets,
    /// They hold for cgroups made below it, too.
    pub(super) inherited: bool,
}

impl Chooser {
    /// What the filter is to be told of a cgroup; `None` when nothing is filtered by cgroup. `unified` is that every
    /// process is in the unified hierarchy.
    pub(super) fn choose(&self, id: u64, identity: &Identity, unified: bool) -> Option<Choice> {
        match self {
            Self::Selection(selection) if !selection.is_active() => None,
            Self::Selection(selection) => {
                // The root says nothing about who is in it, so it stays undecided in the kernel and user space
                // decides by other evidence.
                let undecided = identity.is_root() || (!unified && !identity.is_contained());
                let bit = |is: bool| TraceSet::from(is);
                let sets = Sets { matched: bit(selection.takes(identity)), maybe: bit(undecided) };
                Some(Choice { sets, inherited: true })
            }
            Self::View(viewed) => Some(viewed.choose(id, identity)),
        }
    }
}

impl Viewed {
    fn choose(&self, id: u64, identity: &Identity) -> Choice {
        if self.other_evidence && !identity.is_contained() {
            return Choice { sets: Sets { matched: 0, maybe: self.view.plan.live() }, inherited: false };
        }
        let standing = self.standing(Place { cgroup: id, netns: 0 }, identity);
        let inherited = matches!(standing, Standing::Pod { .. });
        Choice { sets: standing.sets(&self.view.plan), inherited }
    }

    /// What is known of the pod and container of an identity that names the sockets of a place.
    ///
    /// Outside in: a container may make cgroups below itself and name them after another's pod or container, so what
    /// lies further in counts only once it is certain that what lies around it is none of this cluster's.
    pub(super) fn standing(&self, place: Place, identity: &Identity) -> Standing {
        for outer in identity.pods.iter().rev() {
            if let Some(pod) = self.view.roster.pod(&outer.uid) {
                return self.standing_in(place, identity, &outer.uid, pod);
            }
            if !self.pods_given_up.contains(&outer.uid) {
                return Standing::Awaited;
            }
        }
        if identity.pods.is_empty() { Standing::NoPod } else { Standing::GivenUp }
    }

    /// What is known where no evidence names anybody. A cgroup that could not be read or was gone too soon may be any
    /// pod's: it is waited for as a pod is.
    pub(super) fn nobody(&self, status: AttributionStatus, place: Place) -> Standing {
        match status {
            AttributionStatus::Host => Standing::NoPod,
            _ if self.places_given_up.contains(&place) => Standing::GivenUp,
            _ => Standing::Awaited,
        }
    }

    fn standing_in(&self, place: Place, identity: &Identity, path_uid: &str, pod: &Arc<PodInfo>) -> Standing {
        let of_pod = |container: &&identity::Container| container.pod_uid.as_deref() == Some(path_uid);
        let outermost = identity.containers.iter().rev().find(of_pod);
        let name = outermost.and_then(|container| pod.container_name(&container.id));
        Standing::Pod {
            pod: Arc::clone(pod),
            container_id: outermost.map(|container| container.id.clone()),
            container: name.map(str::to_owned),
            awaited: name.is_none() && !self.places_given_up.contains(&place),
        }
    }

    /// Another view is in force. A namespace's number may be another's by now, so what was given up on there is not
    /// held against it.
    pub(super) fn look_through(&mut self, view: View) {
        self.places_given_up.retain(|place| place.netns == 0);
        self.view = view;
    }

    /// The wait for whoever owns the sockets of a place is over.
    pub(super) fn give_up(&mut self, place: Place, identity: Option<&Identity>) {
        if self.places_given_up.len() >= GIVEN_UP {
            self.places_given_up.clear();
        }
        self.places_given_up.insert(place);
        // While the list is not in sync the pod may well exist.
        if !self.view.roster.in_sync() {
            return;
        }
        for pod in identity.iter().flat_map(|identity| &identity.pods) {
            if self.view.roster.pod(&pod.uid).is_none() {
                if self.pods_given_up.len() >= GIVEN_UP {
                    self.pods_given_up.clear();
                }
                self.pods_given_up.insert(pod.uid.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Choice, Chooser, Place, Sets, Standing, Viewed};
    use crate::{
        identity::Identity,
        plan::{View, tests_support::plan_of},
        roster::{ContainerInfo, PodInfo, Roster},
    };

    const UID: &str = "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab";
    const OTHER: &str = "00000000-0b1a-4c3d-8e5f-0123456789ab";
    const PLACE: Place = Place { cgroup: 7, netns: 0 };

    fn id(digits: &str) -> String {
        digits.repeat(32)
    }

    fn mk_pod(uid: &str, namespace: &str, container: Option<&str>) -> PodInfo {
        let ids = container.map(id).into_iter().collect();
        PodInfo {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: format!("pod-in-{namespace}"),
            containers: vec![ContainerInfo { name: "app".to_owned(), ids }],
            ..PodInfo::default()
        }
    }

    fn mk_viewed(pods: Vec<PodInfo>) -> Viewed {
        let mut roster = Roster::default();
        roster.replace(pods, 0);
        let view = View { plan: Arc::new(plan_of(&["a", "b"])), roster: Arc::new(roster), refused: 0 };
        Viewed { view, ..Viewed::default() }
    }

    fn path(text: &str) -> Identity {
        Identity::from_path(text)
    }

    #[test]
    fn a_container_below_its_pod_is_selected_and_its_children_with_it() {
        let viewed = mk_viewed(vec![mk_pod(UID, "ns", Some("ab"))]);
        let sets = Sets { matched: 0b11, maybe: 0 };
        let chosen = viewed.choose(7, &path(&format!("/kubepods/pod{UID}/{}", id("ab"))));
        assert_eq!(chosen, Choice { sets, inherited: true });
        assert_eq!(viewed.choose(7, &path(&format!("/kubepods/pod{UID}"))).sets, sets);
        let other = mk_viewed(vec![mk_pod(UID, "elsewhere", Some("ab"))]);
        let chosen = other.choose(7, &path(&format!("/kubepods/pod{UID}/{}", id("ab"))));
        assert_eq!(chosen, Choice { sets: Sets::default(), inherited: true });
    }

    #[test]
    fn a_pod_that_is_not_known_yet_may_be_anybodys_and_nothing_below_it_inherits() {
        let viewed = mk_viewed(Vec::new());
        let chosen = viewed.choose(7, &path(&format!("/kubepods/pod{UID}/{}", id("ab"))));
        assert_eq!(chosen, Choice { sets: Sets { matched: 0, maybe: 0b11 }, inherited: false });
        for host in ["/", "/system.slice/sshd.service", "/kubepods/besteffort"] {
            assert_eq!(viewed.choose(7, &path(host)).sets, Sets::default(), "{host}");
        }
    }

    #[test]
    fn a_pod_of_anothers_name_made_inside_a_container_deceives_nobody() {
        let inner = format!("/kubepods/pod{UID}/{}/kubepods/pod{OTHER}/{}", id("ab"), id("cd"));
        let stands = |viewed: &Viewed| viewed.standing(PLACE, &path(&inner));
        let victim = mk_pod(OTHER, "ns", Some("cd"));
        // Not even while the real pod is not known.
        let mut viewed = mk_viewed(vec![victim.clone()]);
        assert_eq!(stands(&viewed), Standing::Awaited);
        // Where the outer pod is none of this cluster's (an agent inside a nested cluster), the inner one is the truth.
        viewed.give_up(PLACE, Some(&path(&inner)));
        assert!(matches!(stands(&viewed), Standing::Pod { pod, .. } if pod.namespace == "ns"));

        let viewed = mk_viewed(vec![victim, mk_pod(UID, "evil", None)]);
        assert!(matches!(stands(&viewed), Standing::Pod { pod, container: None, awaited: true, .. }
            if pod.namespace == "evil"));
    }

    #[test]
    fn while_the_list_is_not_in_sync_no_pod_is_given_up() {
        let mut viewed = mk_viewed(Vec::new());
        let identity = path(&format!("/kubepods/pod{UID}/{}", id("ab")));
        let mut roster = Roster::default();
        roster.set_in_sync(false);
        viewed.view.roster = Arc::new(roster);
        viewed.give_up(PLACE, Some(&identity));
        assert_eq!(viewed.standing(PLACE, &identity), Standing::Awaited);
        let mut roster = Roster::default();
        roster.replace(Vec::new(), 0);
        viewed.view.roster = Arc::new(roster);
        viewed.give_up(PLACE, Some(&identity));
        assert_eq!(viewed.standing(PLACE, &identity), Standing::GivenUp);
    }

    #[test]
    fn a_container_waits_for_its_name_and_then_goes_without() {
        let mut viewed = mk_viewed(vec![mk_pod(UID, "ns", None)]);
        let identity = path(&format!("/kubepods/pod{UID}/{}", id("ab")));
        assert!(viewed.standing(PLACE, &identity).is_awaited());
        viewed.give_up(PLACE, Some(&identity));
        assert!(!viewed.standing(PLACE, &identity).is_awaited());
        assert!(matches!(viewed.standing(PLACE, &identity), Standing::Pod { .. }));
    }

    #[test]
    fn the_command_line_without_a_selection_filters_nothing_by_cgroup() {
        let chooser = Chooser::Selection(super::Selection::default());
        assert_eq!(chooser.choose(7, &path("/kubepods"), true), None);
    }
}
