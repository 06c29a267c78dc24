//! Which traces select a cgroup, told to the kernel's rules. The one writer of their cgroup sets.

use std::collections::VecDeque;

use kube_tcpstates_common::rule::CgroupSets;

use super::{
    cgroups::{Cgroups, News},
    standing::{Standing, Standings},
};
use crate::{
    identity::Identity,
    kernel::{Rules, boot_ns},
    names::QuickMap,
    plan::{Plan, Sets},
};

/// How long the rules know a cgroup after its removal: sockets outlive it.
const RETENTION_NS: u64 = 300 * 1_000_000_000;
/// How long rules that are taken over keep those that are gone already.
const FOUND_GONE_NS: u64 = 30 * 1_000_000_000;
/// Removed cgroups that are remembered so long. Above this the longest gone are forgotten at once.
const REMOVED: usize = 65_536;

/// What the rules are told of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Choice {
    sets: Sets,
    /// They hold for cgroups made below it, too.
    inherited: bool,
}

/// Where a socket's owner may be found, beside its own cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    /// Every process is in the unified hierarchy.
    pub(super) unified: bool,
    /// Tasks, or network namespaces, of the host are to be seen.
    pub(super) other_evidence: bool,
}

impl Layout {
    /// The socket's cgroup says all there is to say: other evidence need not be looked for.
    pub(super) fn is_conclusive(self, identity: &Identity) -> bool {
        identity.is_contained() || (self.unified && !identity.is_root())
    }
}

/// Tells the rules.
pub(super) struct Membership {
    layout: Layout,
    /// What they were told of each cgroup.
    told: QuickMap<u64, Choice>,
    /// Time and id, the longest gone first.
    removed: VecDeque<(u64, u64)>,
}

impl Membership {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, told: QuickMap::default(), removed: VecDeque::new() }
    }

    /// Tells what is new.
    pub(super) fn catch_up(&mut self, cgroups: &mut Cgroups, standings: &Standings, rules: &mut Rules) {
        for news in cgroups.take_news() {
            match news {
                News::Known(id) => {
                    if let Some(identity) = cgroups.known(id) {
                        self.tell(id, identity, standings, rules);
                    }
                }
                News::Removed(now_ns, id) => self.removed.push_back((now_ns, id)),
            }
        }
        self.forget(boot_ns(), rules);
    }

    /// Tells of every cgroup what is true of it now.
    pub(super) fn tell_all(&mut self, cgroups: &Cgroups, standings: &Standings, rules: &mut Rules) {
        for (id, identity) in cgroups.all_known() {
            self.tell(id, identity, standings, rules);
        }
    }

    /// Tells of every cgroup what is true in the half of the rules that comes into force next. What was told stays true
    /// of the other.
    pub(super) fn stage(&mut self, cgroups: &Cgroups, standings: &Standings, rules: &mut Rules) {
        if standings.plan().by_owner() == 0 {
            return;
        }
        let (now, next) = (rules.half(), 1 - rules.half());
        for (id, identity) in cgroups.all_known() {
            let choice = choice(self.layout, identity, standings);
            let told = self.told.get(&id).copied();
            // A cgroup that was told of nothing was undecided.
            let before = told.map_or(Sets { matched: 0, maybe: u64::MAX }, |told| told.sets);
            let mut sets = CgroupSets { inherited: choice.inherited.into(), ..CgroupSets::default() };
            (sets.matched[now], sets.maybe[now]) = (before.matched, before.maybe);
            (sets.matched[next], sets.maybe[next]) = (choice.sets.matched, choice.sets.maybe);
            if rules.set_cgroup(id, sets).is_ok() {
                self.told.insert(id, choice);
            }
        }
    }

    /// Takes over rules that know these cgroups. Those that are gone are forgotten soon: nobody knows for how long they have
    /// been, and each restart would put it off.
    pub(super) fn go_on(&mut self, known: Vec<u64>, cgroups: &Cgroups) {
        let since_ns = boot_ns().saturating_sub(RETENTION_NS - FOUND_GONE_NS);
        let gone = known.into_iter().filter(|id| cgroups.known(*id).is_none());
        self.removed.extend(gone.map(|id| (since_ns, id)));
    }

    /// Has the rules forget every cgroup.
    pub(super) fn clear(&mut self, rules: &mut Rules) {
        rules.clear_cgroups();
        self.told.clear();
    }

    fn tell(&mut self, id: u64, identity: &Identity, standings: &Standings, rules: &mut Rules) {
        // Rules that ask for nobody in particular are not looked up by cgroup.
        if standings.plan().by_owner() == 0 {
            return;
        }
        let choice = choice(self.layout, identity, standings);
        if self.told.get(&id) == Some(&choice) {
            return;
        }
        let Sets { matched, maybe } = choice.sets;
        let sets =
            CgroupSets { matched: [matched; 2], maybe: [maybe; 2], inherited: choice.inherited.into() };
        // Without room the cgroup stays undecided in the kernel, and user space decides each time.
        if rules.set_cgroup(id, sets).is_ok() {
            self.told.insert(id, choice);
        }
    }

    fn forget(&mut self, now_ns: u64, rules: &mut Rules) {
        while let Some((removed_ns, id)) = self.removed.front().copied() {
            if now_ns.saturating_sub(removed_ns) < RETENTION_NS && self.removed.len() <= REMOVED {
                return;
            }
            self.removed.pop_front();
            rules.remove_cgroup(id);
            self.told.remove(&id);
        }
    }
}

/// Which traces select a cgroup. What its path does not tell for certain, user space decides by other evidence.
fn choice(layout: Layout, identity: &Identity, standings: &Standings) -> Choice {
    let plan: &Plan = standings.plan();
    if layout.other_evidence && !layout.is_conclusive(identity) {
        return Choice { sets: Sets { matched: 0, maybe: plan.by_owner() }, inherited: false };
    }
    let standing = standings.of(identity);
    let sets = standing.sets(plan, Some(identity));
    let is_pod = matches!(standing, Standing::Pod { .. });
    Choice { sets, inherited: is_pod || sets.matched != 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Choice, Layout, choice};
    use crate::{
        identity::Identity,
        pipeline::standing::Standings,
        plan::{Sets, View, tests_support::plan_of},
        roster::{ContainerInfo, PodInfo, Roster},
    };

    const UID: &str = "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab";
    const HOSTS: [&str; 3] = ["/", "/system.slice/sshd.service", "/kubepods/besteffort"];

    fn path(text: &str) -> Identity {
        Identity::from_path(text)
    }

    fn container() -> Identity {
        path(&format!("/kubepods/pod{UID}/{}", "ab".repeat(32)))
    }

    /// The traces `a` and `b` take every pod of namespace `ns`.
    fn standings(namespace: Option<&str>) -> Standings {
        let pod = namespace.map(|namespace| PodInfo {
            uid: UID.to_owned(),
            namespace: namespace.to_owned(),
            containers: vec![ContainerInfo { name: "app".to_owned(), ids: vec!["ab".repeat(32)] }],
            ..PodInfo::default()
        });
        let mut roster = Roster::default();
        roster.replace(pod.into_iter().collect(), 0);
        let mut standings = Standings::default();
        standings.look_through(View {
            plan: Arc::new(plan_of(&["a", "b"])),
            roster: Some(Arc::new(roster)),
            refused: 0,
        });
        standings
    }

    fn chosen(standings: &Standings, identity: &Identity) -> Choice {
        choice(Layout::default(), identity, standings)
    }

    #[test]
    fn a_container_below_its_pod_is_selected_and_its_children_with_it() {
        let ours = standings(Some("ns"));
        let sets = Sets { matched: 0b11, maybe: 0 };
        assert_eq!(chosen(&ours, &container()), Choice { sets, inherited: true });
        assert_eq!(chosen(&ours, &path(&format!("/kubepods/pod{UID}"))).sets, sets);
        let others = standings(Some("elsewhere"));
        assert_eq!(chosen(&others, &container()), Choice { sets: Sets::default(), inherited: true });
    }

    #[test]
    fn a_pod_that_is_not_known_yet_may_be_anybodys_and_nothing_below_it_inherits() {
        let standings = standings(None);
        let sets = Sets { matched: 0, maybe: 0b11 };
        assert_eq!(chosen(&standings, &container()), Choice { sets, inherited: false });
        for host in HOSTS {
            assert_eq!(chosen(&standings, &path(host)).sets, Sets::default(), "{host}");
        }
    }

    #[test]
    fn where_other_evidence_may_name_a_socket_no_path_of_the_host_decides() {
        let standings = standings(Some("ns"));
        let hybrid = Layout { unified: false, other_evidence: true };
        for host in HOSTS {
            let Choice { sets, inherited } = choice(hybrid, &path(host), &standings);
            assert_eq!((sets, inherited), (Sets { matched: 0, maybe: 0b11 }, false), "{host}");
        }
        assert_eq!(choice(hybrid, &container(), &standings).sets.matched, 0b11);
        // In the unified hierarchy only the root says nothing.
        let unified = Layout { unified: true, other_evidence: true };
        let sets = HOSTS.map(|host| choice(unified, &path(host), &standings).sets.maybe);
        assert_eq!(sets, [0b11, 0, 0]);
    }
}
