//! Writing the filter's tables into the kernel: fill the idle half, flip, wait until no program uses the other.

use std::sync::Arc;

use aya::maps::{Array, HashMap, LpmTrie, MapData, MapError, lpm_trie::Key};
use kube_tcpstates_common::rule::{
    CgroupEntry, CgroupSets, PortClasses, PrefixSet, RuleTable, TraceSet, port_table_index, prefix_set,
};

use super::{control::ControlPage, pod::Plain};
use crate::filter::Compiled;

/// The kernel refused a table.
#[derive(Debug, thiserror::Error)]
#[error("writing the filter's {table} into the kernel: {source}")]
pub struct RulesError {
    table: &'static str,
    source: MapError,
}

fn writing(table: &'static str) -> impl Fn(MapError) -> RulesError {
    move |source| RulesError { table, source }
}

type Trie<const N: usize> = LpmTrie<MapData, [u8; N], PrefixSet>;

/// The tables.
pub struct Rules {
    pub(super) control: Arc<ControlPage>,
    pub(super) tables: Array<MapData, Plain<RuleTable>>,
    pub(super) ports: Array<MapData, Plain<PortClasses>>,
    pub(super) cgroups: HashMap<MapData, u64, Plain<CgroupEntry>>,
    pub(super) epoch: u64,
    pub(super) netns: HashMap<MapData, [u32; 2], TraceSet>,
    pub(super) prefixes_v4: [Trie<4>; 2],
    pub(super) prefixes_v6: [Trie<16>; 2],
    /// By half: the traces by which a transition may come to wait in its socket's record.
    pub(super) may_hold: [TraceSet; 2],
    pub(super) some_wait: bool,
    pub(super) lapse_is_known: bool,
}

impl Rules {
    /// Goes on from what another process has put in force.
    pub(super) fn resume(&mut self) -> Result<(), MapError> {
        for half in [0, 1] {
            self.may_hold[half] = self.tables.get(&u32::from(half != 0), 0)?.0.may_hold;
        }
        let entries = self.cgroups.iter().filter_map(Result::ok);
        self.epoch = entries.map(|(_, entry)| entry.0.epoch).max().unwrap_or(0);
        Ok(())
    }

    /// The cgroups of which it is known who selects them.
    pub fn known_cgroups(&self) -> Vec<u64> {
        self.cgroups.keys().filter_map(Result::ok).collect()
    }

    /// Puts a rule set in force as a whole. No transition is judged by a mixture: the program reads the generation
    /// once. Returns the new generation when no program uses the old one any more.
    pub fn swap(&mut self, compiled: &Compiled) -> Result<u32, RulesError> {
        self.stage(compiled)?;
        Ok(self.flip())
    }

    /// Shows the programs that somebody reads. Returns whether they had traced nobody for want of it; says so once.
    pub fn show_reader(&mut self) -> bool {
        self.control.renew();
        self.have_lapsed() && !std::mem::replace(&mut self.lapse_is_known, true)
    }

    /// Whether the programs have traced nobody for a while, as nobody read for too long.
    pub fn have_lapsed(&self) -> bool {
        self.control.has_lapsed()
    }

    /// The half in force.
    pub fn half(&self) -> usize {
        (self.control.load_generation() & 1) as usize
    }

    /// Whether transitions wait in records of sockets, under whichever rules they came to. The rules that are filled next
    /// then have the program look for them, also where nobody wants the socket any more.
    pub fn some_wait(&mut self, wait: bool) {
        self.some_wait = wait;
    }

    /// Fills the idle half, and waits until every cgroup entry that a program was about to copy is there.
    pub fn stage(&mut self, compiled: &Compiled) -> Result<(), RulesError> {
        self.fill(self.control.load_generation().wrapping_add(1) & 1, compiled)?;
        wait_for_programs();
        Ok(())
    }

    /// Puts the idle half in force. Returns the new generation when no program uses the other any more.
    pub fn flip(&mut self) -> u32 {
        let generation = self.control.load_generation().wrapping_add(1);
        self.control.store_generation(generation);
        wait_for_programs();
        generation
    }

    /// The generation in force.
    pub fn generation(&self) -> u32 {
        self.control.load_generation()
    }

    fn fill(&mut self, half: u32, compiled: &Compiled) -> Result<(), RulesError> {
        let mut table = compiled.table.clone();
        self.may_hold[half as usize] = table.may_hold;
        // Until they are out of force, more may come to wait by the rules in the other half.
        table.may_hold |= self.may_hold[1 - half as usize] | TraceSet::from(self.some_wait);
        self.tables.set(half, Plain::from_ref(&*table), 0).map_err(writing("rule table"))?;
        for (peer, classes) in [(false, &compiled.local_classes), (true, &compiled.peer_classes)] {
            if let Some(classes) = classes {
                let index = port_table_index(half, peer);
                self.ports.set(index, Plain::from_ref(&**classes), 0).map_err(writing("port classes"))?;
            }
        }
        fill_trie(&mut self.prefixes_v4[half as usize], &compiled.v4_prefixes)?;
        fill_trie(&mut self.prefixes_v6[half as usize], &compiled.v6_prefixes)?;
        self.fill_netns(half, &compiled.netns)
    }

    fn fill_netns(&mut self, half: u32, wanted: &[(u32, TraceSet)]) -> Result<(), RulesError> {
        let stale: Vec<[u32; 2]> =
            self.netns.keys().filter_map(Result::ok).filter(|key| key[1] == half).collect();
        for key in stale {
            self.netns.remove(&key).map_err(writing("network namespaces"))?;
        }
        for (inode, traces) in wanted {
            self.netns.insert([*inode, half], traces, 0).map_err(writing("network namespaces"))?;
        }
        Ok(())
    }

    /// Says which traces select a cgroup. Takes effect at once, in both halves.
    pub fn set_cgroup(&mut self, id: u64, sets: CgroupSets) -> Result<(), RulesError> {
        self.epoch += 1;
        let entry = CgroupEntry { sets, epoch: self.epoch };
        self.cgroups.insert(id, Plain(entry), 0).map_err(writing("cgroups"))
    }

    /// Forgets every cgroup.
    pub fn clear_cgroups(&mut self) {
        for id in self.known_cgroups() {
            self.remove_cgroup(id);
        }
    }

    /// Forgets a cgroup.
    pub fn remove_cgroup(&mut self, id: u64) {
        // It may never have had an entry.
        let _ = self.cgroups.remove(&id);
    }
}

fn fill_trie<const N: usize>(trie: &mut Trie<N>, wanted: &[(u8, [u8; N], TraceSet)]) -> Result<(), RulesError>
where
    [u8; N]: aya::Pod,
{
    let stale: Vec<Key<[u8; N]>> = trie.keys().filter_map(Result::ok).collect();
    for key in stale {
        trie.remove(&key).map_err(writing("peer prefixes"))?;
    }
    for (length, address, traces) in wanted {
        let key = Key::new((*length).into(), *address);
        trie.insert(&key, prefix_set(*traces), 0).map_err(writing("peer prefixes"))?;
    }
    Ok(())
}

/// Returns when every program that was running has ended: `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period
/// (`kernel/sched/membarrier.c`, since 4.3). Where the kernel has it not, or refuses it, time stands in: a program
/// runs for microseconds.
#[expect(unsafe_code, reason = "no crate here wraps membarrier")]
pub(super) fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
