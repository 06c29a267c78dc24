//! Who traces on without a reader stops some time after it was last there: programs that stay attached must not cost a node
//! for ever what nobody reads.

use aya_ebpf::helpers::generated::bpf_jiffies64;

use crate::{globals::setting, maps::CONTROL};

/// 1 once the lease has ended, else 0. It is counted from the first transition after the reader last showed itself.
#[inline(always)]
pub(crate) fn is_over() -> u32 {
    let length = u64::from(setting!(lease_jiffies));
    if length == 0 {
        return 0;
    }
    let Some(control) = CONTROL.get_ptr_mut(0) else { return 0 };
    // SAFETY: the helper has no preconditions; the map's only element, shared with user space. Two programs that renew at
    // once renew it to the same, and one that sees that it is renewed sees the new lease: that is written first.
    unsafe {
        let now = bpf_jiffies64();
        let (renewed, lease) = (&raw mut (*control).renewed, &raw mut (*control).lease);
        if renewed.read_volatile() != 0 {
            lease.write_volatile(now + length);
            renewed.write_volatile(0);
        }
        let over = lease.read_volatile().wrapping_sub(now) >> 63;
        if over != 0 {
            (&raw mut (*control).lapsed).write_volatile(1);
        }
        over as u32
    }
}
