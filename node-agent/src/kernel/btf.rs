//! A reader for the kernel's BTF that answers one question: at which byte does a structure keep a member.
//!
//! Format: `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h` (Linux 6.12). One pass finds where each type
//! starts; members are looked up through anonymous structures and unions as C does.

use std::collections::{HashMap, HashSet};
use std::path::Path;

const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
const KIND_INT: u32 = 1;
/// Type modifiers: typedef, volatile, const, restrict, type tag.
const MODIFIERS: [u32; 5] = [KIND_TYPEDEF, 9, 10, 11, 18];

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or cannot be read.
    #[error("reading the kernel's type information from {path}: {source}")]
    Read {
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not little-endian BTF, or cut short.
    #[error("the kernel's type information is not valid BTF: {0}")]
    Invalid(&'static str),
}

/// The kernel's types.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Byte offset of each type; index 0 is `void`.
    types: Vec<u32>,
    /// Structures by name; the first of a name wins, as the kernel's own does.
    structs: HashMap<Vec<u8>, u32>,
}

impl Btf {
    /// Reads and indexes a BTF file, `/sys/kernel/btf/vmlinux` in most cases.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path)
            .map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(bytes)
    }

    /// Indexes BTF.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let cut = BtfError::Invalid("cut short");
        if u16_at(&bytes, 0) != Some(MAGIC) {
            return Err(BtfError::Invalid("magic"));
        }
        let header = u32_at(&bytes, 4).ok_or(cut)? as usize;
        let [type_offset, type_len, string_offset, _] =
            [8, 12, 16, 20].map(|at| u32_at(&bytes, at).unwrap_or(0) as usize);
        let start = header + type_offset;
        let mut btf =
            Self { bytes, strings: header + string_offset, types: vec![0], structs: HashMap::new() };
        btf.index(start, start + type_len)?;
        Ok(btf)
    }

    fn index(&mut self, mut at: usize, end: usize) -> Result<(), BtfError> {
        while at < end {
            let id = self.types.len();
            let info = u32_at(&self.bytes, at + 4).ok_or(BtfError::Invalid("type cut short"))?;
            let kind = kind_of(info);
            if kind == KIND_STRUCT {
                let name = self.name(u32_at(&self.bytes, at).unwrap_or(0));
                if !name.is_empty() {
                    let id = u32::try_from(id).map_err(|_| BtfError::Invalid("too many types"))?;
                    self.structs.entry(name.to_vec()).or_insert(id);
                }
            }
            self.types.push(u32::try_from(at).map_err(|_| BtfError::Invalid("too long"))?);
            at += 12 + trailing_bytes(kind, (info & 0xffff) as usize);
        }
        Ok(())
    }

    /// The text at an offset of the string section.
    fn name(&self, offset: u32) -> &[u8] {
        let text = self.bytes.get(self.strings + offset as usize..).unwrap_or_default();
        text.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Byte offset of `path` (`"__sk_common.skc_net"`) in a structure, or `None` when it has no such member.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        Some(self.bit(structure, path)? / 8)
    }

    /// Size of a structure in bytes.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let id = *self.structs.get(structure.as_bytes())?;
        u32_at(&self.bytes, *self.types.get(id as usize)? as usize + 8)
    }

    /// Bit offset of the same: of a bit-field, where its lowest bit is.
    pub fn bit(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure.as_bytes())?;
        let mut bits = 0;
        for member in path.split('.') {
            let (offset, of) = self.member(id, member.as_bytes(), 0, &mut HashSet::new())?;
            bits = u32::checked_add(bits, offset)?;
            id = of;
        }
        Some(bits)
    }

    /// The value of an enumeration's constant.
    pub fn constant(&self, enumeration: &str, name: &str) -> Option<u32> {
        let at = self.types.iter().skip(1).map(|at| *at as usize).find(|at| {
            u32_at(&self.bytes, at + 4).map(kind_of) == Some(KIND_ENUM)
                && self.name(u32_at(&self.bytes, *at).unwrap_or(0)) == enumeration.as_bytes()
        })?;
        let count = u32_at(&self.bytes, at + 4)? as usize & 0xffff;
        let constants = (0..count).map(|index| at + 12 + index * 8);
        let named =
            |at: &usize| u32_at(&self.bytes, *at).is_some_and(|offset| self.name(offset) == name.as_bytes());
        u32_at(&self.bytes, constants.into_iter().find(named)? + 4)
    }

    /// Number of parameters of a function.
    pub fn parameters(&self, function: &str) -> Option<u32> {
        let at = self.types.iter().skip(1).map(|at| *at as usize).find(|at| {
            u32_at(&self.bytes, at + 4).map(kind_of) == Some(KIND_FUNC)
                && self.name(u32_at(&self.bytes, *at).unwrap_or(0)) == function.as_bytes()
        })?;
        let prototype = *self.types.get(u32_at(&self.bytes, at + 8)? as usize)? as usize;
        Some(u32_at(&self.bytes, prototype + 4)? & 0xffff)
    }

    /// The same types in their places, but nothing of any of them except those functions and type names that are
    /// `wanted`: what is needed to find the id of one, in a tenth of the memory and time.
    pub fn skeleton(&self, wanted: &[&str]) -> Vec<u8> {
        const KIND_FWD: u32 = 7;
        const HEADER: u32 = 24;
        let mut strings = vec![0];
        let mut types = Vec::with_capacity(self.types.len() * 12);
        for at in self.types.iter().skip(1).map(|at| *at as usize) {
            let [name, info, of] = [at, at + 4, at + 8].map(|at| u32_at(&self.bytes, at).unwrap_or(0));
            let mut words = [0, KIND_FWD << 24, 0];
            if matches!(kind_of(info), KIND_FUNC | KIND_TYPEDEF) {
                let name = self.name(name);
                if wanted.iter().any(|wanted| name == wanted.as_bytes()) {
                    words = [u32::try_from(strings.len()).unwrap_or(0), info, of];
                    strings.extend_from_slice(name);
                    strings.push(0);
                }
            }
            types.extend(words.into_iter().flat_map(u32::to_le_bytes));
        }
        let [type_len, string_len] = [types.len(), strings.len()].map(|len| u32::try_from(len).unwrap_or(0));
        let mut bytes = Vec::with_capacity(HEADER as usize + types.len() + strings.len());
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        // Version and flags.
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend([HEADER, 0, type_len, type_len, string_len].into_iter().flat_map(u32::to_le_bytes));
        bytes.append(&mut types);
        bytes.append(&mut strings);
        bytes
    }

    /// Bit offset and type of a member, looking into anonymous members as well.
    fn member(&self, id: u32, wanted: &[u8], depth: usize, seen: &mut HashSet<usize>) -> Option<(u32, u32)> {
        let (at, kind, count) = self.composite(id)?;
        // Each type once: one that holds itself many times would be gone through for ever.
        if depth > 8 || !(kind == KIND_STRUCT || kind == KIND_UNION) || !seen.insert(at) {
            return None;
        }
        let info = u32_at(&self.bytes, at + 4)?;
        for index in 0..count {
            let member = at + 12 + index * 12;
            let name = self.name(u32_at(&self.bytes, member)?);
            let of = u32_at(&self.bytes, member + 4)?;
            let mut bits = u32_at(&self.bytes, member + 8)?;
            if info >> 31 == 1 {
                // With the kind flag the upper byte is a bit-field's width.
                bits &= 0x00ff_ffff;
            }
            if name == wanted {
                return Some((bits, of));
            }
            if name.is_empty()
                && let Some((inner, of)) = self.member(of, wanted, depth + 1, seen)
            {
                return Some((bits.checked_add(inner)?, of));
            }
        }
        None
    }

    /// A type behind its modifiers: where it stands, its kind, how many members it has.
    fn composite(&self, mut id: u32) -> Option<(usize, u32, usize)> {
        for _ in 0..16 {
            let at = *self.types.get(id as usize)? as usize;
            let info = u32_at(&self.bytes, at + 4)?;
            let kind = kind_of(info);
            if !MODIFIERS.contains(&kind) {
                return Some((at, kind, (info & 0xffff) as usize));
            }
            id = u32_at(&self.bytes, at + 8)?;
        }
        None
    }
}

/// The kind in a type's `info` word.
const fn kind_of(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// Bytes that follow a type's common twelve.
const fn trailing_bytes(kind: u32, count: usize) -> usize {
    match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::{Btf, BtfError};

    /// Builds BTF by hand: `struct inner { int a; int b; }`, `struct outer { int x; union { struct inner in; }; }`,
    /// `enum outer { a = 3, b = 7 }`.
    fn small() -> Vec<u8> {
        let strings = b"\0inner\0a\0b\0outer\0x\0in\0int\0";
        let at = |name: &[u8]| {
            let needle = [b"\0", name, b"\0"].concat();
            u32::try_from(strings.windows(needle.len()).position(|w| w == needle).unwrap() + 1).unwrap()
        };
        let words: Vec<u32> = vec![
            at(b"int"),
            1 << 24,
            4,
            32, // 1: int
            at(b"inner"),
            4 << 24 | 2,
            8,
            at(b"a"),
            1,
            0,
            at(b"b"),
            1,
            32, // 2: inner
            0,
            5 << 24 | 1,
            8,
            at(b"in"),
            2,
            0, // 3: anonymous union
            at(b"outer"),
            4 << 24 | 2,
            12,
            at(b"x"),
            1,
            0,
            0,
            3,
            32, // 4: outer
            at(b"outer"),
            6 << 24 | 2,
            4,
            at(b"a"),
            3,
            at(b"b"),
            7, // 5: the enumeration
        ];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let type_len = u32::try_from(types.len()).unwrap();
        for word in [24, 0, type_len, type_len, u32::try_from(strings.len()).unwrap()] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_skeleton_has_every_type_in_its_place_and_only_wanted_names() {
        // Two functions and a type name of the same name, one after the other.
        let strings = b"\0one\0two\0";
        let words: [u32; 9] = [1, 12 << 24, 7, 5, 12 << 24, 8, 1, 8 << 24, 9];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, 36, 36, 9].into_iter().chain(words) {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(strings);
        let skeleton = Btf::parse(bytes).unwrap().skeleton(&["one"]);
        let kept: Vec<u32> = skeleton[24..60].chunks(4).map(|word| super::u32_at(word, 0).unwrap()).collect();
        assert_eq!(kept, [1, 12 << 24, 7, 0, 7 << 24, 0, 5, 8 << 24, 9]);
        assert_eq!(&skeleton[60..], b"\0one\0one\0");
        assert!(aya::Btf::parse(&skeleton, aya::Endianness::default()).is_ok());
    }

    #[test]
    fn a_member_is_found_through_anonymous_unions_and_named_structures() {
        let btf = Btf::parse(small()).unwrap();
        assert_eq!(btf.offset("outer", "x"), Some(0));
        assert_eq!(btf.offset("outer", "in.b"), Some(8));
        assert_eq!(btf.offset("inner", "b"), Some(4));
        assert_eq!(btf.bit("outer", "in.b"), Some(64));
        assert_eq!(btf.size("outer"), Some(12));
    }

    #[test]
    fn a_constant_of_an_enumeration_has_its_value() {
        let btf = Btf::parse(small()).unwrap();
        assert_eq!(btf.constant("outer", "b"), Some(7));
        assert_eq!(btf.constant("outer", "x"), None);
        assert_eq!(btf.constant("inner", "a"), None);
    }

    #[test]
    fn what_is_not_there_is_none() {
        let btf = Btf::parse(small()).unwrap();
        assert_eq!(btf.offset("outer", "y"), None);
        assert_eq!(btf.offset("nothing", "x"), None);
        assert_eq!(btf.offset("outer", "x.y"), None);
        assert_eq!(btf.size("nothing"), None);
    }

    #[test]
    fn a_member_beyond_what_a_number_can_say_is_none() {
        let mut far = small();
        // Where `outer` keeps the anonymous union: from 32 bits to the end of all bits.
        let at =
            far.windows(12).position(|words| words == [0, 0, 0, 0, 3, 0, 0, 0, 32, 0, 0, 0]).unwrap() + 8;
        far[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let btf = Btf::parse(far).unwrap();
        assert_eq!(btf.bit("outer", "in"), Some(u32::MAX));
        assert_eq!(btf.bit("outer", "in.b"), None);
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert!(matches!(Btf::parse(vec![]), Err(BtfError::Invalid(_))));
        assert!(matches!(Btf::parse(vec![0x7f, b'E', b'L', b'F']), Err(BtfError::Invalid(_))));
        let mut cut = small();
        cut.truncate(40);
        assert!(Btf::parse(cut).is_err());
    }

    #[test]
    fn a_structure_that_holds_itself_many_times_is_gone_through_once() {
        let mut words = vec![1, 4 << 24 | 64, 4];
        words.extend([0, 1, 0].repeat(64));
        let length = u32::try_from(words.len() * 4).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend([24, 0, length, length, 3].into_iter().chain(words).flat_map(u32::to_le_bytes));
        bytes.extend(b"\0s\0");
        assert_eq!(Btf::parse(bytes).unwrap().offset("s", "a"), None);
    }
}
