//! Says who brought more to the ring than others left room for.

use std::collections::BTreeMap;

use super::{
    Pipeline,
    standing::{Standing, Standings},
};
use crate::{identity::Identity, kernel::boot_ns};

/// It is said at most so often.
const APART_NS: u64 = 10_000_000_000;
/// So many are named.
const NAMED: usize = 3;

/// When it was last said.
#[derive(Debug, Default)]
pub(super) struct Floods {
    /// Losses for want of room of which it is known whose they were.
    seen: u64,
    said_ns: Option<u64>,
}

impl Floods {
    /// Whether to look again after so many losses for want of room.
    fn is_due(&self, ring_full: u64, now_ns: u64) -> bool {
        ring_full > self.seen && self.said_ns.is_none_or(|said_ns| now_ns - said_ns >= APART_NS)
    }
}

impl Pipeline {
    /// Names those whose share of the ring was not enough.
    pub(super) fn name_floods(&mut self, ring_full: u64) {
        let now_ns = boot_ns();
        if !self.floods.is_due(ring_full, now_ns) {
            return;
        }
        self.floods = Floods { seen: ring_full, said_ns: Some(now_ns) };
        let owners = &mut self.flow.owners;
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (cgroup, count) in self.kernel.shares.refused() {
            let identity = owners.cgroups.identity(cgroup);
            *by_name.entry(name(cgroup, identity.as_deref(), &owners.standings)).or_default() += count;
        }
        if let Some(text) = told(by_name) {
            tracing::warn!("{text}");
        }
    }
}

fn name(cgroup: u64, identity: Option<&Identity>, standings: &Standings) -> String {
    let Some(identity) = identity else { return format!("cgroup {cgroup}") };
    match (standings.of(identity), &identity.container_id) {
        (Standing::Pod { pod, .. }, _) => format!("pod {}/{}", pod.namespace, pod.name),
        (_, Some(id)) => format!("container {id}"),
        (_, None) => format!("cgroup {:?}", identity.path),
    }
}

/// What to say, the worst first. Nothing, if nobody was beyond their share.
fn told(by_name: BTreeMap<String, u64>) -> Option<String> {
    let mut sorted: Vec<_> = by_name.into_iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = sorted.len().saturating_sub(NAMED);
    let named: Vec<_> =
        sorted.iter().take(NAMED).map(|(name, count)| format!("{count} transitions of {name}")).collect();
    let others = if rest == 0 { String::new() } else { format!(", and some of {rest} more") };
    (!named.is_empty()).then(|| {
        format!("the ring was nearly full; lost beyond their share of it: {}{others}", named.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::{APART_NS, Floods, told};

    #[test]
    fn it_is_said_when_there_is_news_and_not_all_the_time() {
        let mut floods = Floods::default();
        assert!(!floods.is_due(0, 5));
        assert!(floods.is_due(1, 5));
        floods = Floods { seen: 1, said_ns: Some(5) };
        assert!(!floods.is_due(1, 5 + APART_NS));
        assert!(!floods.is_due(2, 4 + APART_NS));
        assert!(floods.is_due(2, 5 + APART_NS));
    }

    #[test]
    fn the_worst_come_first_and_the_rest_are_a_number() {
        let counts = |names: &[(&str, u64)]| names.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
        assert_eq!(told(counts(&[])), None);
        assert_eq!(
            told(counts(&[("pod a/b", 7)])).unwrap(),
            "the ring was nearly full; lost beyond their share of it: 7 transitions of pod a/b"
        );
        let five = [("a", 1), ("b", 5), ("c", 3), ("d", 4), ("e", 2)];
        assert!(
            told(counts(&five))
                .unwrap()
                .ends_with("5 transitions of b, 4 transitions of d, 3 transitions of c, and some of 2 more")
        );
    }
}
