//! How many socket records there are in socket storage, what they say, and the end of all of them.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::{
    Btf, Ebpf,
    maps::{Array, Map, MapData},
    programs::Iter,
};

use kube_tcpstates_common::socket::ToldRecord;

use super::{call::bpf, error::BoxError};

const COUNT: &str = "count_records";
const FORGET: &str = "forget_records";
const TELL: &str = "tell_records";

/// Loads the program that counts records.
pub(super) fn load_count(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), BoxError> {
    load(ebpf, COUNT, btf)
}

/// Loads the program that tells of records.
pub(super) fn load_tell(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), BoxError> {
    load(ebpf, TELL, btf)
}

/// Loads the program that forgets records.
pub(super) fn load_forget(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), BoxError> {
    load(ebpf, FORGET, btf)
}

fn load(ebpf: &mut Ebpf, name: &str, btf: &Btf) -> Result<(), BoxError> {
    Ok(iterator(ebpf, name)?.load("bpf_sk_storage_map", btf)?)
}

fn iterator<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter, BoxError> {
    Ok(ebpf.program_mut(name).ok_or("not in the object")?.try_into()?)
}

/// Counts the socket records in socket storage: all, and those of closed sockets among them.
pub(super) fn count_records(ebpf: &mut Ebpf) -> Result<(u64, u64), BoxError> {
    let mut counts: Array<&mut MapData, u64> =
        Array::try_from(ebpf.map_mut("RECORD_COUNT").ok_or("the object has no RECORD_COUNT")?)?;
    for slot in [0, 1] {
        counts.set(slot, 0, 0)?;
    }
    run(ebpf, COUNT)?;
    let counts: Array<&MapData, u64> = Array::try_from(ebpf.map("RECORD_COUNT").ok_or("no RECORD_COUNT")?)?;
    Ok((counts.get(&0, 0)?, counts.get(&1, 0)?))
}

/// What the records in socket storage say, those of closed sockets included.
pub(super) fn tell_records(ebpf: &mut Ebpf) -> Result<Vec<ToldRecord>, BoxError> {
    let mut bytes = Vec::new();
    read_to_end(open(ebpf, TELL)?, |piece| bytes.extend_from_slice(piece))?;
    Ok(bytes.chunks_exact(size_of::<ToldRecord>()).map(bytemuck::pod_read_unaligned).collect())
}

/// Forgets every socket in socket storage.
pub(super) fn forget_records(ebpf: &mut Ebpf) -> Result<(), BoxError> {
    run(ebpf, FORGET)
}

/// Runs one of the programs once for each record.
fn run(ebpf: &mut Ebpf, name: &str) -> Result<(), BoxError> {
    Ok(read_to_end(open(ebpf, name)?, |_| ())?)
}

/// Whoever reads it has a program run once for each record.
fn open(ebpf: &mut Ebpf, name: &str) -> Result<File, BoxError> {
    let records = match ebpf.map("SOCKET_STORAGE") {
        Some(Map::SkStorage(map)) => map.fd().as_fd().try_clone_to_owned()?,
        _ => return Err("the object has no socket storage".into()),
    };
    let link = link_to_map(iterator(ebpf, name)?.fd()?.as_fd(), records.as_fd())?;
    Ok(File::from(iterator_of(link.as_fd())?))
}

/// Reading is what makes the kernel walk; what the program prints is what is read. After a million objects without output
/// a read ends with `EAGAIN`, and the next goes on (`MAX_ITER_OBJECTS`, `kernel/bpf/bpf_iter.c`).
fn read_to_end(mut iterator: impl io::Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match iterator.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => take(&piece[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of one read; the kernel's own buffer has eight pages.
const PIECE: usize = 32 * 1024;
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

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::read_to_end;

    /// What reads of an iterator give, one after the other.
    struct Reads(Vec<Result<usize, i32>>);

    impl Read for Reads {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.remove(0).map_err(io::Error::from_raw_os_error)
        }
    }

    #[test]
    fn an_iterator_of_more_than_a_million_is_read_to_its_end() {
        let mut reads = Reads(vec![Err(libc::EAGAIN), Err(libc::EAGAIN), Ok(0)]);
        read_to_end(&mut reads, |_| ()).unwrap();
        assert!(reads.0.is_empty());
    }

    #[test]
    fn any_other_error_ends_it() {
        let refused = read_to_end(Reads(vec![Err(libc::EACCES)]), |_| ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
}
