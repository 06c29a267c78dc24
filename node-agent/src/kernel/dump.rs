//! Sockets that were open before the programs were attached, and how many socket records there are.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya::{
    Btf, Ebpf,
    maps::{Array, Map, MapData},
    programs::Iter,
};

use super::error::LoadError;

/// Walks every task's descriptors twice: listeners first, so that the second pass can tell servers from clients.
/// Leaves a record, marked as older than the tracer, with each TCP socket that has none.
pub(super) fn open_sockets(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), LoadError> {
    open_listeners(ebpf, btf)?;
    walk(ebpf, btf, "dump_sockets")
}

/// The first pass alone: where records are in the hash, the children of listeners get their owner from it.
pub(super) fn open_listeners(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), LoadError> {
    walk(ebpf, btf, "dump_listeners")
}

fn walk(ebpf: &mut Ebpf, btf: &Btf, program: &'static str) -> Result<(), LoadError> {
    run(ebpf, btf, program).map_err(|reason| LoadError::Program {
        program,
        hint: "sockets open before the start".to_owned(),
        reason,
    })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn run(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<(), BoxError> {
    let program: &mut Iter = ebpf.program_mut(name).ok_or("not in the object")?.try_into()?;
    program.load("task_file", btf)?;
    let link = program.attach()?;
    let link = program.take_link(link)?;
    let mut nothing = Vec::new();
    // Reading is what makes the kernel walk; the programs print nothing.
    link.into_file()?.read_to_end(&mut nothing)?;
    program.unload()?;
    Ok(())
}

/// Loads the program that counts records.
pub(super) fn load_count(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), BoxError> {
    let program: &mut Iter = ebpf.program_mut("count_records").ok_or("not in the object")?.try_into()?;
    Ok(program.load("bpf_sk_storage_map", btf)?)
}

/// Counts the socket records in socket storage: all, and those of closed sockets among them.
pub(super) fn count_records(ebpf: &mut Ebpf) -> Result<(u64, u64), BoxError> {
    let records = match ebpf.map("SOCKET_STORAGE") {
        Some(Map::SkStorage(map)) => map.fd().as_fd().try_clone_to_owned()?,
        _ => return Err("the object has no socket storage".into()),
    };
    let mut counts: Array<&mut MapData, u64> =
        Array::try_from(ebpf.map_mut("RECORD_COUNT").ok_or("the object has no RECORD_COUNT")?)?;
    for slot in [0, 1] {
        counts.set(slot, 0, 0)?;
    }
    let program: &mut Iter = ebpf.program_mut("count_records").ok_or("not in the object")?.try_into()?;
    let link = link_to_map(program.fd()?.as_fd(), records.as_fd())?;
    let mut nothing = Vec::new();
    File::from(iterator_of(link.as_fd())?).read_to_end(&mut nothing)?;
    let counts: Array<&MapData, u64> = Array::try_from(ebpf.map("RECORD_COUNT").ok_or("no RECORD_COUNT")?)?;
    Ok((counts.get(&0, 0)?, counts.get(&1, 0)?))
}

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// `union bpf_attr` for `BPF_LINK_CREATE` of an iterator (`include/uapi/linux/bpf.h`, since 5.9).
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    iterator_info: u64,
    iterator_info_len: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

/// Links an iterator to one map; aya's own `attach` has no place for the map.
fn link_to_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // `union bpf_iter_link_info` begins with the map's descriptor.
    let info = [u32::try_from(map.as_raw_fd()).unwrap_or(0), 0, 0, 0];
    let attributes = LinkCreate {
        program: u32::try_from(program.as_raw_fd()).unwrap_or(0),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        iterator_info: info.as_ptr() as u64,
        iterator_info_len: 16,
        padding: 0,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

fn iterator_of(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes = IterCreate { link: u32::try_from(link.as_raw_fd()).unwrap_or(0), flags: 0 };
    bpf(BPF_ITER_CREATE, &attributes)
}

#[expect(unsafe_code, reason = "aya makes links to maps only for its own program types")]
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is the part of `union bpf_attr` that the command reads, of the size given; what it
    // points to lives in the caller.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call has just made this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
