//! bpf(2), for what aya does not do.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_long = 7;

/// `union bpf_attr` for `BPF_OBJ_GET` (`include/uapi/linux/bpf.h`).
#[repr(C)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Opens what is pinned. aya asks for more about a program than `CAP_BPF` allows (`BPF_BTF_GET_FD_BY_ID` wants
/// `CAP_SYS_ADMIN`).
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(BPF_OBJ_GET, &ObjectGet { path: path.as_ptr() as u64, descriptor: 0, flags: 0 })
}

/// A command that makes a descriptor.
#[expect(unsafe_code, reason = "aya has no place for these commands")]
pub(super) fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is the part of `union bpf_attr` that the command reads, of the size given; what it
    // points to lives in the caller.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call has just made this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
