//! Who brought more than their share to the ring while it was nearly full.

use std::collections::BTreeMap;

use aya::maps::{HashMap, MapData};
use kube_tcpstates_common::share::{Share, Sharer};

use super::pod::Plain;

/// Reads what the programs count.
pub struct RingShares {
    map: HashMap<MapData, Sharer, Plain<Share>>,
    told: BTreeMap<Sharer, u64>,
}

impl RingShares {
    pub(super) fn new(map: HashMap<MapData, Sharer, Plain<Share>>) -> Self {
        Self { map, told: BTreeMap::new() }
    }

    /// Transitions that were beyond their container's share since this was last asked, by cgroup id.
    pub fn refused(&mut self) -> BTreeMap<u64, u64> {
        let now: BTreeMap<Sharer, u64> =
            self.map.iter().filter_map(Result::ok).map(|(sharer, share)| (sharer, share.0.refused)).collect();
        let mut since = BTreeMap::new();
        for (sharer, refused) in &now {
            let told = self.told.get(sharer).copied().unwrap_or(0);
            // Less than before: it had made room for another, and begun anew.
            let more = refused.checked_sub(told).unwrap_or(*refused);
            if more > 0 {
                *since.entry(sharer[0]).or_default() += more;
            }
        }
        self.told = now;
        since
    }
}
