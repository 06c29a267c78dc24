//! What is known of cgroups and pods, left to the next run: of those that end while nobody is there, nobody can be asked
//! any more.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
};

use aya::maps::{HashMap as Hash, Map, MapData, MapError};
use bytemuck::Zeroable as _;
use kube_tcpstates_common::pinned::{LEFT_LEN, LeftKey, LeftKind, LeftPart};

use crate::kernel::pod::Plain;

type Parts = Hash<MapData, Plain<LeftKey>, Plain<LeftPart>>;

/// How long a text stays when what it tells of is no more: sockets outlive it.
const RETENTION_NS: u64 = 300 * 1_000_000_000;
/// Longest text, bytes: a path in cgroupfs, or a pod.
const MAX_LEN: usize = 16 * LEFT_LEN;

/// Names a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeftName {
    /// Of what it is.
    pub kind: LeftKind,
    /// Of the cgroup; of a pod a hash of its UID.
    pub id: u64,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftText {
    /// Of what it is.
    pub name: LeftName,
    /// Since when that is no more, boot time, ns.
    pub gone_ns: Option<u64>,
    /// A path, or JSON.
    pub text: String,
}

/// How a text stands in the map.
#[derive(Clone, Copy)]
struct Stands {
    parts: u32,
    gone_ns: Option<u64>,
}

/// The texts in the map, of which this process is the only writer.
pub struct Left {
    map: Parts,
    stands: HashMap<LeftName, Stands>,
    /// Those of things that are no more, in the order in which that was seen. One whose time is another has come back.
    gone: VecDeque<(u64, LeftName)>,
    /// There was no room, and that was said.
    is_full: bool,
}

impl Left {
    pub(in crate::kernel) fn new(map: Parts) -> Self {
        Self { map, stands: HashMap::new(), gone: VecDeque::new(), is_full: false }
    }

    /// What stands in another map. Another build may have none.
    pub(in crate::kernel) fn read(path: &Path) -> Vec<LeftText> {
        let map = MapData::from_pin(path).and_then(|data| Parts::try_from(Map::HashMap(data)));
        map.map(|map| texts(&map)).unwrap_or_default()
    }

    /// What a run of before has left here, and is kept from now on.
    pub(in crate::kernel) fn take_over(&mut self) -> Vec<LeftText> {
        let texts = texts(&self.map);
        let stands = |text: &LeftText| Stands { parts: count(text.text.len()), gone_ns: text.gone_ns };
        self.stands = texts.iter().map(|text| (text.name, stands(text))).collect();
        // Whoever was killed while it wrote has left parts of no text.
        let keys: Vec<LeftKey> = self.map.keys().flatten().map(|key| key.0).collect();
        let is_of_a_text = |key: &LeftKey| {
            name(key).and_then(|name| self.stands.get(&name)).is_some_and(|stands| key.part < stands.parts)
        };
        for key in keys.iter().filter(|key| !is_of_a_text(key)) {
            let _ = self.map.remove(Plain::from_ref(key));
        }
        let mut gone: Vec<_> = texts.iter().filter_map(|text| Some((text.gone_ns?, text.name))).collect();
        gone.sort_unstable_by_key(|(gone_ns, _)| *gone_ns);
        self.gone = gone.into();
        texts
    }

    /// Takes over a text of another map.
    pub(in crate::kernel) fn leave_again(&mut self, text: &LeftText) {
        self.leave(text.name, &text.text);
        if let Some(gone_ns) = text.gone_ns {
            self.gone(text.name, gone_ns);
        }
    }

    /// Whether a text of that name is there.
    pub fn has(&self, name: LeftName) -> bool {
        self.stands.contains_key(&name)
    }

    /// Leaves a text, instead of one of that name. Where there is no room the next run will not know.
    pub fn leave(&mut self, name: LeftName, text: &str) {
        self.forget(name);
        if text.len() > MAX_LEN {
            return;
        }
        for (number, part) in parts(text) {
            let key = key(name, number);
            if let Err(error) = self.map.insert(Plain::from_ref(&key), Plain::from_ref(&part), 0) {
                self.say_full(&error);
                self.stands.insert(name, Stands { parts: number, gone_ns: None });
                return self.forget(name);
            }
        }
        self.stands.insert(name, Stands { parts: count(text.len()), gone_ns: None });
    }

    /// What it tells of is no more. It stays for a while.
    pub fn gone(&mut self, name: LeftName, gone_ns: u64) {
        let gone_ns = gone_ns.max(1);
        match self.stands.get_mut(&name) {
            Some(stands) if stands.gone_ns.is_none() => stands.gone_ns = Some(gone_ns),
            _ => return,
        }
        let key = key(name, 0);
        if let Ok(Plain(mut part)) = self.map.get(Plain::from_ref(&key), 0) {
            part.gone_ns = gone_ns;
            // It stands there, so there is room.
            let _ = self.map.insert(Plain::from_ref(&key), Plain::from_ref(&part), 0);
        }
        self.gone.push_back((gone_ns, name));
    }

    /// Forgets what tells of things that have been gone for long.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some((gone_ns, name)) = self.gone.front().copied() {
            if now_ns.saturating_sub(gone_ns) < RETENTION_NS {
                return;
            }
            self.gone.pop_front();
            if self.stands.get(&name).is_some_and(|stands| stands.gone_ns == Some(gone_ns)) {
                self.forget(name);
            }
        }
    }

    fn forget(&mut self, name: LeftName) {
        for number in 0..self.stands.remove(&name).map_or(0, |stands| stands.parts) {
            let _ = self.map.remove(Plain::from_ref(&key(name, number)));
        }
    }

    fn say_full(&mut self, error: &MapError) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                "the next run will not know of all cgroups and pods that end while nobody is there: {error}"
            );
        }
    }
}

fn key(LeftName { kind, id }: LeftName, part: u32) -> LeftKey {
    LeftKey { id, kind: kind as u32, part }
}

/// `None` of a kind that this build does not know.
fn name(key: &LeftKey) -> Option<LeftName> {
    let kind = LeftKind::ALL.into_iter().find(|kind| *kind as u32 == key.kind)?;
    Some(LeftName { kind, id: key.id })
}

/// In how many parts a text of that length is; one at least.
fn count(length: usize) -> u32 {
    u32::try_from(length.div_ceil(LEFT_LEN).max(1)).unwrap_or(u32::MAX)
}

/// The parts of a text, by number.
fn parts(text: &str) -> impl Iterator<Item = (u32, LeftPart)> {
    let text = text.as_bytes();
    let rest = text.chunks(LEFT_LEN).skip(1);
    let chunks = std::iter::once(&text[..text.len().min(LEFT_LEN)]).chain(rest);
    (0..).zip(chunks).map(|(number, chunk)| {
        let mut part = LeftPart { text_len: text.len() as u64, ..LeftPart::zeroed() };
        part.text[..chunk.len()].copy_from_slice(chunk);
        (number, part)
    })
}

/// All texts that are whole.
fn texts(map: &Parts) -> Vec<LeftText> {
    let mut found: HashMap<LeftName, Vec<(u32, LeftPart)>> = HashMap::new();
    for (key, part) in map.iter().flatten() {
        if let Some(name) = name(&key.0) {
            found.entry(name).or_default().push((key.0.part, part.0));
        }
    }
    found.into_iter().filter_map(|(name, parts)| joined(name, parts)).collect()
}

/// `None` where a part is missing, or is of another text.
fn joined(name: LeftName, mut parts: Vec<(u32, LeftPart)>) -> Option<LeftText> {
    parts.sort_unstable_by_key(|(number, _)| *number);
    let (_, first) = parts.first()?;
    let (length, gone_ns) = (usize::try_from(first.text_len).ok()?, first.gone_ns);
    parts.truncate(count(length) as usize);
    let is_whole = (0..count(length)).eq(parts.iter().map(|(number, _)| *number))
        && parts.iter().all(|(_, part)| part.text_len == length as u64);
    if !is_whole {
        return None;
    }
    let mut text: Vec<u8> = parts.iter().flat_map(|(_, part)| part.text).collect();
    text.truncate(length);
    Some(LeftText { name, gone_ns: (gone_ns != 0).then_some(gone_ns), text: String::from_utf8(text).ok()? })
}

#[cfg(test)]
mod tests {
    use super::{LEFT_LEN, LeftKind, LeftName, LeftPart, LeftText, joined, parts};

    const NAME: LeftName = LeftName { kind: LeftKind::Pod, id: 7 };

    fn numbered(text: &str) -> Vec<(u32, LeftPart)> {
        parts(text).collect()
    }

    #[test]
    fn a_text_of_any_length_comes_back_from_its_parts() {
        for length in [0, 1, LEFT_LEN - 1, LEFT_LEN, LEFT_LEN + 1, 3 * LEFT_LEN] {
            let text = "x".repeat(length);
            let mut parts = numbered(&text);
            assert_eq!(parts.len(), length.div_ceil(LEFT_LEN).max(1), "{length}");
            parts.reverse();
            parts.last_mut().unwrap().1.gone_ns = 9;
            assert_eq!(joined(NAME, parts), Some(LeftText { name: NAME, gone_ns: Some(9), text }));
        }
    }

    #[test]
    fn what_was_cut_short_is_no_text() {
        let long = "x".repeat(3 * LEFT_LEN);
        for missing in 0..3 {
            let mut parts = numbered(&long);
            parts.remove(missing);
            assert_eq!(joined(NAME, parts), None, "{missing}");
        }
        // The second part is of a longer text that stood there before.
        let mut parts = numbered(&"y".repeat(LEFT_LEN + 1));
        parts[1] = numbered(&long)[1];
        assert_eq!(joined(NAME, parts), None);
        assert_eq!(joined(NAME, Vec::new()), None);
    }
}
