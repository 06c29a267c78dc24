//! What the kernel's verifier needs to be told although the compiler knows it.

/// `value & MASK`, for an index.
///
/// The compiler leaves out a mask that changes no value, but the verifier may not know the value's range: up to 6.12 it
/// loses that when a register goes over the stack, and up to 6.1 by an OR. So the instruction is written down.
#[cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "assembler is unsafe, be it one AND"))]
#[inline(always)]
pub fn masked<const MASK: usize>(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one instruction on one register, after which the value is no greater than its mask.
        unsafe {
            core::arch::asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack));
            core::hint::assert_unchecked(value <= MASK);
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value & MASK
    }
}

/// All ones where the highest bit of `value` is set, else 0. Written down, because the compiler knows that a number of
/// two values can be chosen by a branch: and each branch doubles the verifier's paths.
#[cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "assembler is unsafe, be it one shift"))]
#[inline(always)]
pub fn highest_bit_everywhere(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one instruction on one register.
        unsafe { core::arch::asm!("{0} s>>= 63", inout(reg) value, options(pure, nomem, nostack)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        (value >> 63).wrapping_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_cut() {
        assert_eq!([0, 63, 64, 130].map(masked::<63>), [0, 63, 0, 2]);
    }

    #[test]
    fn the_highest_bit_fills_the_word() {
        assert_eq!([0, 1, 1 << 63, u64::MAX].map(highest_bit_everywhere), [0, 0, u64::MAX, u64::MAX]);
    }
}
