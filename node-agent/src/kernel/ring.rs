//! Reading the rings, and sleeping when they are empty.
//!
//! The reader drains, rests a few milliseconds, and after some rests that brought nothing sleeps without limit. A
//! producer wakes it only when it sleeps, or when it rests while the ring is half full: under load that is far
//! fewer than one wake-up in a hundred records, when idle it is none at all.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use bytemuck::Zeroable as _;
use kube_tcpstates_common::record::{CgroupRecord, ConnectionRecord, Figures, TransitionRecord};
use rustix::{
    event::{EventfdFlags, Timespec, epoll, eventfd},
    param::page_size,
};

use super::{control::ControlPage, mapped::Mapped, pinned::Page};
use crate::decode;

/// How long a rest is.
const REST: Duration = Duration::from_millis(5);
/// Rests without a record before the reader sleeps.
const RESTS_BEFORE_SLEEP: u32 = 3;
/// Records drained before other work gets a turn.
pub const BATCH: usize = 4096;

/// A cgroup came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupChange {
    /// Of the unified hierarchy; else of that one of cgroup v1 that tells containers apart.
    pub unified: bool,
    /// One among those of its hierarchy.
    pub id: u64,
    /// Which of the two it was.
    pub kind: CgroupChangeKind,
}

/// What became of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupChangeKind {
    /// Made, with the path from the root of the hierarchy; `None` when the kernel could not hand it over whole.
    Made(Option<String>),
    /// Removed.
    Removed,
}

/// Why [`Sleeper::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be records.
    Ring,
    /// Somebody called [`Waker::wake`].
    Asked,
}

/// What the reader's last look before a sleep brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Records.
    Found,
    /// None: it may sleep, so long at most.
    Nothing(Option<Duration>),
}

/// Wakes the reader from another thread.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes [`Sleeper::wait`] return.
    pub fn wake(&self) {
        // A full eventfd is readable already, which is all that matters.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Transitions.
pub struct EventRing {
    ring: RingBuf<MapData>,
    page: Arc<Page>,
    /// The record that was taken last: in the ring it would be written over.
    copy: Box<ConnectionRecord>,
    /// How far the kernel has given the ring out.
    producer: Mapped<u64>,
    /// Where the kernel's mark of what was read stands, bytes.
    position: u64,
    /// Transitions taken by there.
    taken: u64,
}

impl EventRing {
    /// A ring that another process may have read from before.
    pub(super) fn open(ring: RingBuf<MapData>, page: Arc<Page>) -> io::Result<Self> {
        let position = mark_of(&ring)?;
        let taken = page.taken_at(position);
        let producer = Mapped::map_to_read(ring.as_fd(), page_size() as u64)?;
        let copy = Box::new(ConnectionRecord::zeroed());
        Ok(Self { ring, page, copy, producer, position, taken })
    }

    /// Bytes that wait in it.
    pub fn waiting(&self) -> u64 {
        self.producer.word64(0).load(Ordering::Acquire).saturating_sub(self.position)
    }

    /// Hands at most a few thousand waiting records to `each`, with what they carry of a whole connection. Returns how
    /// many.
    ///
    /// A record is out of the ring before it is handed over: whoever is killed may lose it, but none is told twice.
    pub fn drain(&mut self, each: impl FnMut(&TransitionRecord, Option<&Figures>)) -> usize {
        self.drain_at_most(BATCH, each)
    }

    /// The same for so many.
    pub fn drain_at_most(
        &mut self,
        most: usize,
        mut each: impl FnMut(&TransitionRecord, Option<&Figures>),
    ) -> usize {
        let mut count = 0;
        while count < most {
            let Some(item) = self.ring.next() else { break };
            // None that is longer is of this version.
            let copy = bytemuck::bytes_of_mut(&mut *self.copy).get_mut(..item.len()).unwrap_or_default();
            copy.copy_from_slice(&item[..copy.len()]);
            let record = record_of(copy);
            self.position += (HEADER + item.len() as u64).next_multiple_of(8);
            self.taken += record.map_or(0, |(record, _)| decode::weight(record));
            self.page.about_to_take(self.position, self.taken);
            drop(item);
            if let Some((record, figures)) = record {
                each(record, figures);
            }
            count += 1;
        }
        count
    }

    /// Transitions that this run and those before it have taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

/// cgroups as they come and go.
pub struct CgroupRing(RingBuf<MapData>);

impl CgroupRing {
    /// Takes every waiting record.
    pub fn drain(&mut self, mut each: impl FnMut(CgroupChange)) {
        while let Some(item) = self.0.next() {
            if let Some(change) = cgroup_change(&item) {
                each(change);
            }
        }
    }
}

/// Waits for either ring.
pub struct Sleeper {
    control: Arc<ControlPage>,
    epoll: OwnedFd,
    asked: Arc<OwnedFd>,
    idle_rests: u32,
}

/// `BPF_RINGBUF_HDR_SZ`, `include/uapi/linux/bpf.h`.
const HEADER: u64 = 8;
const RING: u64 = 0;
const ASKED: u64 = 1;

/// Both rings, and how to wait for them.
pub struct Rings {
    /// Transitions.
    pub events: EventRing,
    /// cgroups as they come and go.
    pub cgroups: CgroupRing,
    /// Waits for either.
    pub sleeper: Sleeper,
}

impl Rings {
    pub(super) fn new(
        events: RingBuf<MapData>,
        cgroups: RingBuf<MapData>,
        control: Arc<ControlPage>,
        page: Arc<Page>,
    ) -> io::Result<Self> {
        let asked = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Edge-triggered: a ring with records in it is always readable, but only a producer's wake-up counts.
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, events.as_fd(), epoll::EventData::new_u64(RING), edge)?;
        epoll::add(&epoll, cgroups.as_fd(), epoll::EventData::new_u64(RING), edge)?;
        epoll::add(&epoll, &*asked, epoll::EventData::new_u64(ASKED), epoll::EventFlags::IN)?;
        let sleeper = Sleeper { control, epoll, asked, idle_rests: 0 };
        Ok(Self { events: EventRing::open(events, page)?, cgroups: CgroupRing(cgroups), sleeper })
    }
}

impl Sleeper {
    /// A handle that wakes this reader.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.asked))
    }

    /// Waits until there may be something to do. `found` is whether the last drain brought records; `again` drains
    /// once more after the program has been told that the reader sleeps, and says whether it found any and how long to
    /// sleep otherwise.
    pub fn wait(&mut self, found: bool, again: impl FnOnce() -> Look) -> io::Result<Wake> {
        self.idle_rests = if found { 0 } else { self.idle_rests + 1 };
        if self.idle_rests < RESTS_BEFORE_SLEEP {
            self.control.about_to_rest();
            let wake = self.poll(Some(REST));
            self.control.awake();
            return wake;
        }
        self.control.about_to_sleep();
        let wake = match again() {
            Look::Found => Ok(Wake::Ring),
            Look::Nothing(limit) => self.poll(limit),
        };
        self.control.awake();
        self.idle_rests = 0;
        wake
    }

    fn poll(&self, limit: Option<Duration>) -> io::Result<Wake> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 4];
        let (ready, _) = match epoll::wait(&self.epoll, &mut events, limit.as_ref()) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(Wake::Ring),
            Err(error) => return Err(error.into()),
        };
        if ready.iter().any(|event| event.data.u64() == ASKED) {
            let mut count = [0_u8; 8];
            let _ = rustix::io::read(&*self.asked, &mut count);
            return Ok(Wake::Asked);
        }
        Ok(Wake::Ring)
    }
}

/// Where the kernel's mark of what was read stands: the first word of the ring's first page (`consumer_pos`,
/// `kernel/bpf/ringbuf.c`). That of what was given out is the first of its second (`producer_pos`).
fn mark_of(ring: &RingBuf<MapData>) -> io::Result<u64> {
    Ok(Mapped::<u64>::map(ring.as_fd())?.word64(0).load(Ordering::Acquire))
}

/// What a record of the event ring holds, by its length. `None`: no record of this version.
pub fn record_of(item: &[u8]) -> Option<(&TransitionRecord, Option<&Figures>)> {
    if let Ok(record) = bytemuck::try_from_bytes(item) {
        return Some((record, None));
    }
    let ended: &ConnectionRecord = bytemuck::try_from_bytes(item).ok()?;
    Some((&ended.transition, Some(&ended.figures)))
}

/// What a record of the ring of cgroups says. `None`: no record of this version.
pub fn cgroup_change(item: &[u8]) -> Option<CgroupChange> {
    bytemuck::try_from_bytes(item).ok().map(change)
}

fn change(record: &CgroupRecord) -> CgroupChange {
    let (unified, id) = (record.hierarchy == 0, record.id);
    if record.removed != 0 {
        return CgroupChange { unified, id, kind: CgroupChangeKind::Removed };
    }
    // A path that fills the buffer may have been cut: look the cgroup up by its id instead.
    let whole = usize::try_from(record.path_len).ok().filter(|len| (1..record.path.len()).contains(len));
    let path = whole.map(|len| String::from_utf8_lossy(&record.path[..len - 1]).into_owned());
    CgroupChange { unified, id, kind: CgroupChangeKind::Made(path) }
}
