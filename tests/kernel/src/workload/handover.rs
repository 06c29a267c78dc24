//! Sockets that go from one process to another: in a message (`SCM_RIGHTS`), and by a fork.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recvmsg, sendmsg_addr,
    socket_with,
};

/// Where a process gets the descriptors that others send to it.
pub(super) struct Mailbox(OwnedFd);

impl Mailbox {
    /// That of this process.
    pub(super) fn open() -> io::Result<Self> {
        let socket = datagrams()?;
        bind(&socket, &address(std::process::id())?)?;
        Ok(Self(socket))
    }

    /// The first descriptor that has come and was not taken.
    pub(super) fn take(&self) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut [0])], &mut control, flags)?;
        let taken = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        taken.ok_or_else(|| io::Error::other("a message without a descriptor"))
    }
}

/// Sends a descriptor to another process of this network namespace.
pub(super) fn give(socket: &OwnedFd, to: u32) -> io::Result<()> {
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg_addr(datagrams()?, &address(to)?, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// `fork`; the parent ends, and only the child returns.
#[expect(unsafe_code, reason = "neither std nor rustix forks")]
pub(super) fn leave_to_child() -> io::Result<()> {
    // SAFETY: this process has one thread, so the child finds everything as it is here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        _ => std::process::exit(0),
    }
}

fn datagrams() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

fn address(pid: u32) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(format!("tcp-workload-{pid}").as_bytes())?)
}
