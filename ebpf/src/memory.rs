//! Reading kernel memory, in the two ways a program may.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use kube_tcpstates_common::{
    classify::Address,
    offsets::ABSENT,
    record::{COMM_LEN, TransitionRecord},
    verifier::select,
    walk::Found,
};

use crate::socket::SocketRecord;

/// How a program reads the structures a pointer leads to.
pub(crate) trait Memory {
    /// Reads a value; zero where it cannot be read.
    fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T;

    /// Reads a value, or zero where this kernel has no such field.
    #[inline(always)]
    fn field<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        if offset == ABSENT { T::default() } else { Self::read(base, offset) }
    }

    /// The address of a socket: the sixteen bytes at `v6` where `is_v6` is all ones, the four at `v4` where it is 0.
    fn address(socket: *const u8, v4: u32, v6: u32, is_v6: u64) -> Address;

    /// Reads a field of `struct tcp_sock`, most of which lies beyond `struct sock`; zero where the socket is none.
    fn beyond<T: Copy + Default>(socket: *const u8, offset: u32) -> T;

    /// The socket as a `struct tcp_sock`, null where it is none: for several fields of one.
    fn tcp(socket: *const u8) -> *const u8;

    /// Reads a value into memory that is not the stack; zero where it cannot be read or this kernel has no such field.
    fn copy<T: Copy + Default>(to: &mut T, base: *const u8, offset: u32);

    /// Follows a pointer, null where this kernel has no such field.
    #[inline(always)]
    fn pointer(base: *const u8, offset: u32) -> *const u8 {
        if offset == ABSENT { core::ptr::null() } else { Self::read::<u64>(base, offset) as *const u8 }
    }
}

/// Plain loads through a pointer whose type the verifier knows (`tp_btf`): it checks the offset against BTF and
/// makes a load through a bad pointer give zero.
pub(crate) struct Typed;

impl Memory for Typed {
    /// In loads of four bytes: the verifier refuses wider ones on an `in6_addr`. All of them, because a branch for the
    /// family would cost it more than they cost the processor.
    #[inline(always)]
    fn address(socket: *const u8, v4: u32, v6: u32, is_v6: u64) -> Address {
        let narrow = Self::field::<u32>(socket, v4);
        if v6 == ABSENT {
            return [narrow & !is_v6 as u32, 0, 0, 0];
        }
        [
            select(is_v6, Self::read::<u32>(socket, v6).into(), narrow.into()) as u32,
            Self::read::<u32>(socket, v6 + 4) & is_v6 as u32,
            Self::read::<u32>(socket, v6 + 8) & is_v6 as u32,
            Self::read::<u32>(socket, v6 + 12) & is_v6 as u32,
        ]
    }

    /// Through the pointer that the kernel gives for the socket as a TCP one.
    #[inline(always)]
    fn beyond<T: Copy + Default>(socket: *const u8, offset: u32) -> T {
        // SAFETY: the verifier checks that `socket` is one.
        let socket = unsafe { bpf_skc_to_tcp_sock(socket.cast_mut().cast()) };
        if socket.is_null() { T::default() } else { Self::field(socket.cast_const().cast(), offset) }
    }

    #[inline(always)]
    fn tcp(socket: *const u8) -> *const u8 {
        // SAFETY: as above.
        unsafe { bpf_skc_to_tcp_sock(socket.cast_mut().cast()) }.cast_const().cast()
    }

    #[inline(always)]
    fn copy<T: Copy + Default>(to: &mut T, base: *const u8, offset: u32) {
        *to = Self::field(base, offset);
    }

    #[inline(always)]
    fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        // SAFETY: the verifier refuses the program unless a T stands at that offset.
        unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
    }
}

/// `bpf_probe_read_kernel`, for pointers without a type.
///
/// It fills what it cannot read with zeros (`bpf_probe_read_kernel_common`, since 5.5), so nobody looks at its result:
/// each look would be a fork, and with a fork for each field the verifier has more paths than it is willing to walk.
pub(crate) struct Probed;

impl Memory for Probed {
    /// One read of sixteen bytes, of which an IPv4 address is the first four: there is more of the structure behind it.
    #[inline(always)]
    fn address(socket: *const u8, v4: u32, v6: u32, is_v6: u64) -> Address {
        let (place, kept) =
            if v6 == ABSENT { (v4.into(), !is_v6) } else { (select(is_v6, v6.into(), v4.into()), u64::MAX) };
        let words: Address = Self::read(socket.wrapping_add(place as usize), 0);
        let wide = (is_v6 & kept) as u32;
        [words[0] & kept as u32, words[1] & wide, words[2] & wide, words[3] & wide]
    }

    #[inline(always)]
    fn beyond<T: Copy + Default>(socket: *const u8, offset: u32) -> T {
        Self::field(socket, offset)
    }

    #[inline(always)]
    fn tcp(socket: *const u8) -> *const u8 {
        socket
    }

    #[inline(always)]
    fn copy<T: Copy + Default>(to: &mut T, base: *const u8, offset: u32) {
        if offset == ABSENT {
            *to = T::default();
            return;
        }
        // SAFETY: as below; straight to where it belongs, to spare the stack.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut *to).cast(),
                size_of::<T>() as u32,
                base.wrapping_add(offset as usize).cast(),
            );
        }
    }

    #[inline(always)]
    fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper reads any kernel address safely, and writes all of `value` in any case.
        unsafe {
            bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                base.wrapping_add(offset as usize).cast(),
            );
            value.assume_init()
        }
    }
}

/// Sixteen bytes, word by word. For an array of bytes the compiler calls `memmove`, a function of the object's own that
/// goes byte by byte, and older verifiers walk more paths where a program calls functions (suspected on 6.1).
#[expect(
    clippy::cast_ptr_alignment,
    reason = "see the assertions below: each such field is at a multiple of four"
)]
#[inline(always)]
pub(crate) fn copy_comm(to: &mut [u8; COMM_LEN], from: &[u8; COMM_LEN]) {
    let (to, from) = (to.as_mut_ptr().cast::<u32>(), from.as_ptr().cast::<u32>());
    // SAFETY: sixteen bytes on either side; whoever has such a field has it at a multiple of four.
    unsafe {
        to.write_volatile(from.read_volatile());
        to.add(1).write_volatile(from.add(1).read_volatile());
        to.add(2).write_volatile(from.add(2).read_volatile());
        to.add(3).write_volatile(from.add(3).read_volatile());
    }
}

/// Sixteen zeros: see [`copy_comm`].
#[expect(
    clippy::cast_ptr_alignment,
    reason = "see the assertions below: each such field is at a multiple of four"
)]
#[inline(always)]
pub(crate) fn clear_comm(to: &mut [u8; COMM_LEN]) {
    let to = to.as_mut_ptr().cast::<u32>();
    // SAFETY: as above.
    unsafe {
        to.write_volatile(0);
        to.add(1).write_volatile(0);
        to.add(2).write_volatile(0);
        to.add(3).write_volatile(0);
    }
}

const _: () = assert!(
    offset_of!(SocketRecord, owner_comm) % 4 == 0
        && offset_of!(Found, owner_comm) % 4 == 0
        && offset_of!(TransitionRecord, owner_comm) % 4 == 0
        && offset_of!(TransitionRecord, on_cpu_comm) % 4 == 0
);
