//! Tracing that outlives the process: where it is pinned, and how another process takes it over.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use aya::{
    EbpfLoader,
    maps::{HashMap, Map, MapData},
    programs::{Program, links::FdLink},
};
use kube_tcpstates_common::{
    pinned::{LEFT_PARTS, TEXT_LEN, Word},
    rule::MAX_TRACES,
};
use kube_tcpstates_events::Storage;

use super::{
    Link, Loaded, attach_points,
    earlier::{has_lapsed, last_words, ran_out},
    take,
};
use crate::{
    kernel::{
        btf::Btf,
        call::open_pinned,
        error::{BoxError, LoadError, told},
        heap,
        pinned::{Continues, Directory, Facts, Left, LeftText, Page, RulesLeft, Set, Will},
        records,
    },
    names::TraceBit,
};

/// Rules of before whose records may still be in the ring: plans are at least 100 ms apart. Fewer where names are long.
const RULES_LEFT: usize = 8;

/// So often in a lease the programs are shown that somebody reads.
const SHOWN_IN_A_LEASE: u128 = 4;

/// The maps that the programs share with whoever reads.
const MAPS: [&str; 20] = [
    "EVENTS",
    "RING_SHARES",
    "CGROUP_EVENTS",
    "CONTROL",
    "PINNED",
    LEFT,
    "CPU",
    "RING_FULL_BY_TRACES",
    "RULES",
    "PORT_CLASSES",
    "CGROUP_SETS",
    "NETNS_SETS",
    "PREFIXES_V4_A",
    "PREFIXES_V4_B",
    "PREFIXES_V6_A",
    "PREFIXES_V6_B",
    "SOCKET_STORAGE",
    "SOCKET_HASH",
    "LISTENERS",
    "FOUND",
];

/// The map of what is known of cgroups and pods.
const LEFT: &str = "LEFT";

/// Where this process's tracing is pinned.
pub(super) struct Pins {
    directory: Directory,
    pub(super) set: Set,
    lease: Duration,
    /// What stands in the set, where programs are attached by it.
    pub(super) found: Option<Will>,
    will: Will,
    /// Keeps the program's count of skipped hits readable.
    program: Option<OwnedFd>,
}

/// What a run takes over from the one before.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// The run of before and its last line. `None` where nobody was traced for a while since.
    pub continues: Option<Continues>,
    /// Of the ids of connections, as that run left it.
    pub secret: String,
    /// What goes on in the same maps; `None` where it begins anew in others.
    pub goes_on: Option<GoesOn>,
}

/// The rules by which is traced meanwhile.
#[derive(Clone, Debug)]
pub struct GoesOn {
    /// The rules of late, those in force last.
    pub rules: Vec<RulesLeft>,
    /// Losses for want of room that were put down to traces, by bit.
    pub ring_full: [u64; MAX_TRACES],
}

impl Pins {
    /// Looks at what is pinned. What is no whole set is removed.
    pub(super) fn look(
        directory: Directory,
        lease: Duration,
        told_apart_by: &[&[u8]],
    ) -> Result<Self, LoadError> {
        let fail = |source| LoadError::System { what: "pinning maps", source };
        let set = directory.set(told_apart_by);
        let mut found = found(&set);
        if found.is_some() && has_lapsed(&set) {
            // Its sockets were not followed for a while.
            set.set_aside(ran_out(&set)).map_err(fail)?;
            found = None;
        }
        // Once they are ended it does not show any more.
        for other in
            directory.sets().iter().filter(|other| **other != set && !other.has_run_out() && ran_out(other))
        {
            other.set_aside(true).map_err(fail)?;
        }
        if found.is_none() {
            set.make().map_err(fail)?;
        }
        Ok(Self { directory, set, lease, found, will: Will::default(), program: None })
    }
}

impl Pins {
    /// Says where the maps are, or are to be.
    pub(super) fn place(&self, loader: &mut EbpfLoader<'_>) {
        for name in MAPS {
            loader.map_pin_path(name, self.set.place(name));
        }
        loader.map_max_entries(LEFT, LEFT_PARTS);
    }

    /// The sets of others.
    pub(super) fn earlier(&self) -> Vec<Set> {
        self.directory.sets().into_iter().filter(|set| *set != self.set).collect()
    }
}

/// What is left in a set that is attached.
fn found(set: &Set) -> Option<Will> {
    let page = Page::map(&MapData::from_pin(set.place("PINNED")).ok()?).ok()?;
    let will = page.will()?;
    set.has_links(will.facts.links).then_some(will)
}

impl Loaded {
    /// What the run before has left, if it has.
    pub fn inherited(&mut self) -> Result<Option<Inherited>, LoadError> {
        let Some(pins) = self.pins.as_mut() else { return Ok(None) };
        let Some(will) = pins.found.take() else {
            let mut earlier = pins.earlier();
            earlier.sort_by_key(Set::has_run_out);
            let words = earlier.iter().find_map(|set| Some((set.has_run_out(), last_words(set)?)));
            return Ok(words.map(|(has_run_out, (will, lines))| Inherited {
                continues: (!has_run_out).then(|| continued(&will, lines)),
                secret: will.secret,
                goes_on: None,
            }));
        };
        if let Err(reason) = self.adopt(&will) {
            // The next start begins anew.
            self.unpin();
            return Err(LoadError::Pinned { reason });
        }
        let continues = Some(continued(&will, self.page.get(Word::Lines)));
        // The last may not have come into force any more.
        let mut rules = will.rules;
        if let Some(last) = rules.iter().position(|rules| rules.generation == self.rules.generation()) {
            rules.truncate(last + 1);
        }
        let goes_on = Some(GoesOn { rules, ring_full: self.page.ring_full() });
        Ok(Some(Inherited { continues, secret: will.secret, goes_on }))
    }

    fn adopt(&mut self, will: &Will) -> Result<(), BoxError> {
        let Some(pins) = &mut self.pins else { return Ok(()) };
        let program = open_pinned(&pins.set.program())?;
        self.counters.resume(program.as_raw_fd(), &self.page);
        pins.program = Some(program);
        pins.will = will.clone();
        self.links = pins.set.links(will.facts.links)?.into_iter().map(Link::Pinned).collect();
        let Facts { accept_owner, cgroup_events, no_ends, no_resets, no_open_sockets, .. } =
            will.facts.clone();
        self.accept_owner = accept_owner;
        self.cgroup_events = cgroup_events;
        self.ends = no_ends.map_or(Ok(()), Err);
        self.resets = no_resets.map_or(Ok(()), Err);
        self.open_sockets = no_open_sockets.map_or(Ok(()), Err);
        self.rules.resume()?;
        self.load_looks();
        heap::give_back();
        Ok(())
    }

    /// Loads what looks at records in socket storage: there are no types for it later.
    pub(super) fn load_looks(&mut self) {
        let btf = self.btf.take().or_else(|| attach_points(&Btf::read(super::BTF.as_ref()).ok()?));
        if let Some(btf) = &btf
            && self.storage == Storage::SocketStorage
            && !self.counts_records
        {
            self.counts_records = records::load_count(&mut self.ebpf, btf).is_ok();
            // Without it snapshots know no ages but their own.
            if let Err(reason) = records::load_tell(&mut self.ebpf, btf) {
                tracing::debug!("ages of open sockets: {}", told(&reason));
            }
        }
        self.btf = btf;
    }

    /// Has what is attached outlive this process, if it is to.
    pub(super) fn pin(&mut self) -> Result<(), BoxError> {
        let Some(pins) = &mut self.pins else { return Ok(()) };
        pins.program = None;
        match self.ebpf.program_mut(self.programs.first).ok_or("not in the object")? {
            Program::BtfTracePoint(program) => program.pin(pins.set.program())?,
            Program::RawTracePoint(program) => program.pin(pins.set.program())?,
            _ => return Err("of a kind that cannot be pinned".into()),
        }
        let links: Vec<FdLink> =
            std::mem::take(&mut self.links).into_iter().filter_map(Link::into_fd).collect();
        pins.will.facts = Facts {
            links: links.len(),
            accept_owner: self.accept_owner,
            cgroup_events: self.cgroup_events,
            no_ends: self.ends.clone().err(),
            no_resets: self.resets.clone().err(),
            no_open_sockets: self.open_sockets.clone().err(),
        };
        // Before the links: with the last of them the set is whole.
        self.write_will()?;
        let Some(pins) = &mut self.pins else { return Ok(()) };
        self.links = pins.set.pin_links(links)?.into_iter().map(Link::Pinned).collect();
        Ok(())
    }

    /// Has what is attached end with this process.
    pub(super) fn unpin(&mut self) {
        let Some(pins) = &mut self.pins else { return };
        if let Err(error) = pins.set.remove_links() {
            tracing::warn!("programs stay attached in {}: {error}", pins.set.program().display());
        }
    }

    /// Removes every trace of it: nobody is to go on.
    pub fn remove_pins(&mut self) {
        let Some(pins) = &mut self.pins else { return };
        for set in pins.directory.sets() {
            if let Err(error) = set.remove() {
                tracing::warn!("{}: {error}", set.program().display());
            }
        }
        pins.directory.remove();
    }

    /// What this run leaves to the next.
    pub fn page(&self) -> Arc<Page> {
        Arc::clone(&self.page)
    }

    /// Where this run leaves what it knows of cgroups and pods, and what is left there, by other builds too. `None` where
    /// nobody is to go on. To be asked once.
    pub fn left(&mut self) -> Result<Option<(Left, Vec<LeftText>)>, LoadError> {
        let Some(pins) = &self.pins else { return Ok(None) };
        let map = HashMap::try_from(take(&mut self.ebpf, LEFT)?)
            .map_err(|source| LoadError::Maps { reason: source.into() })?;
        let mut left = Left::new(map);
        let mut texts = left.take_over();
        for text in pins.earlier().iter().flat_map(|set| Left::read(&set.place(LEFT))) {
            left.leave_again(&text);
            texts.push(text);
        }
        Ok(Some((left, texts)))
    }

    /// How often the programs must be shown that somebody reads, if they would stop to trace otherwise; ns.
    pub fn show_reader_every_ns(&self) -> Option<u64> {
        let lease = self.pins.as_ref()?.lease;
        Some(u64::try_from(lease.as_nanos() / SHOWN_IN_A_LEASE).unwrap_or(u64::MAX))
    }

    /// Whether tracing goes on when this process ends.
    pub const fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Leaves the run's own name, and what it goes on from, to the next.
    pub fn leave_run(&mut self, run: String, secret: String, continues: Option<Continues>) {
        let lines_before = self.page.get(Word::Lines);
        self.change_will(|will| {
            let (rules, facts) = (std::mem::take(&mut will.rules), will.facts.clone());
            *will = Will { run, lines_before, continues, secret, rules, facts };
        });
    }

    /// Leaves which bits mean which traces in the rules that come into force next.
    pub fn leave_rules(&mut self, traces: Vec<TraceBit>) {
        let generation = self.rules.generation().wrapping_add(1);
        self.change_will(|will| {
            will.rules.push(RulesLeft { generation, traces });
            let more = will.rules.len().saturating_sub(RULES_LEFT);
            will.rules.drain(..more);
        });
    }

    fn change_will(&mut self, change: impl FnOnce(&mut Will)) {
        let Some(pins) = &mut self.pins else { return };
        change(&mut pins.will);
        if let Err(error) = self.write_will() {
            tracing::warn!("the next run will not know of this one: {error}");
        }
    }

    fn write_will(&mut self) -> Result<(), BoxError> {
        let Some(pins) = &mut self.pins else { return Ok(()) };
        let text = pins.will.write(TEXT_LEN);
        let page = Arc::clone(&self.page);
        if page.set_text(&text) { Ok(()) } else { Err(format!("{} bytes are too many", text.len()).into()) }
    }
}

/// The run that a next one continues. One that wrote nothing has never been heard of.
fn continued(will: &Will, lines: u64) -> Continues {
    let of_its_own = lines.saturating_sub(will.lines_before);
    match &will.continues {
        Some(before) if of_its_own == 0 => before.clone(),
        _ => Continues { run: will.run.clone(), seq: of_its_own },
    }
}

/// The map in which a run leaves what the next must know.
pub(super) fn page(ebpf: &mut aya::Ebpf) -> Result<Page, LoadError> {
    let page = match take(ebpf, "PINNED")? {
        Map::Array(data) => Page::map(&data),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    };
    page.map_err(|source| LoadError::System { what: "mapping the page of what is left", source })
}
