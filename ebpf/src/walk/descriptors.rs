//! Which process holds which socket.

use kube_tcpstates_common::{
    verifier::masked,
    walk::{ASKED_TASKS, HOLDINGS, Holding, Walk},
};

use super::{Next, pointer, room, shared, steps, word};
use crate::{
    globals::{offset, walk_offset},
    hook::{TCP, family},
    memory::{Memory, Probed},
};

/// `IPPROTO_MPTCP`.
const MPTCP: u16 = 262;

/// Bits of a word of the bitmap of open descriptors.
const BITS: u32 = 64;

/// Tells of the TCP sockets among the descriptors of those tasks that `words` asks for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/walk")]
extern "C" fn walk_descriptors(_: *const u64) -> i32 {
    let Some(walk) = shared() else { return Next::Lost as i32 };
    // The array of files may be another one by now.
    walk.cursor.descriptor &= !(BITS - 1);
    steps(walk_descriptor)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_descriptor() -> u32 {
    let Some(walk) = shared() else { return Next::Lost.number() };
    if walk.cursor.next >= walk.cursor.asked {
        return Next::Done.number();
    }
    if walk.cursor.descriptor % BITS == 0 && !enter(walk) {
        return Next::Step.number();
    }
    let Some(told) = room::<Holding, { HOLDINGS - 1 }>(walk) else { return Next::Full.number() };
    let socket = tcp_socket(word(walk.cursor.files + u64::from(walk.cursor.descriptor) * 8));
    walk.cursor.descriptor += 1;
    if socket != 0 {
        // SAFETY: as `room` says.
        unsafe {
            (*told).socket = socket;
            (*told).task = walk.cursor.next;
        }
        walk.cursor.count += 1;
    }
    Next::Step.number()
}

/// Finds the files behind the next 64 descriptors. False where there are none: then it has moved on.
#[inline(always)]
fn enter(walk: &mut Walk) -> bool {
    let index = masked::<{ ASKED_TASKS - 1 }>(walk.cursor.next as usize) * 2;
    let (task, started) = (walk.words[index], walk.words[index + 1]);
    let table = pointer(pointer(task, walk_offset!(task_files)), walk_offset!(files_table));
    let len: u32 = Probed::field(table as *const u8, walk_offset!(table_len));
    if table == 0 || pointer(task, walk_offset!(task_started)) != started || walk.cursor.descriptor >= len {
        walk.cursor.next += 1;
        walk.cursor.descriptor = 0;
        return false;
    }
    walk.cursor.files = pointer(table, walk_offset!(table_files));
    let open = pointer(table, walk_offset!(table_open));
    if word(open + u64::from(walk.cursor.descriptor / BITS) * 8) == 0 {
        walk.cursor.descriptor += BITS;
        return false;
    }
    true
}

/// The TCP or MPTCP socket behind a file, or 0. A file is a socket's if the socket says so as well.
#[inline(always)]
fn tcp_socket(file: u64) -> u64 {
    let socket = pointer(file, walk_offset!(file_private));
    if socket == 0 || pointer(socket, walk_offset!(socket_file)) != file {
        return 0;
    }
    let inner = pointer(socket, offset!(socket_sk));
    let protocol: u16 = Probed::field(inner as *const u8, offset!(protocol));
    let is_tcp = protocol == TCP || protocol == MPTCP;
    if is_tcp && family(Probed::field(inner as *const u8, offset!(family))) != 0 { inner } else { 0 }
}
