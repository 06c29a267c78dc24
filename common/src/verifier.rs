//! What the kernel's verifier needs to be told although the compiler knows it, and what it must not be told.
//!
//! It walks every path to its end, unless it comes to a place in a state that it has seen there. Two paths become one
//! where what they know is the same; so a choice between two constants is made with masks instead of a branch, or
//! forgotten once it is made. Older verifiers merge less (they keep what spilled constants are, and which scalars were
//! ever looked at), and with a branch for each choice walk more than the million instructions that they are willing to.

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

/// 1 where the highest bit of `value` is set, else 0; written down like [`highest_bit_everywhere`].
///
/// To choose one constant or 0, shift this: a verifier of 6.18 or later makes two paths of an AND between a mask and a
/// constant (`maybe_fork_scalars`, `kernel/bpf/verifier.c`).
#[cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "assembler is unsafe, be it one shift"))]
#[inline(always)]
pub fn highest_bit(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one instruction on one register.
        unsafe { core::arch::asm!("{0} >>= 63", inout(reg) value, options(pure, nomem, nostack)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value >> 63
    }
}

/// 1 where any bit of `value` is set, else 0.
#[inline(always)]
pub fn any_bit(value: u64) -> u64 {
    highest_bit(value | value.wrapping_neg())
}

/// All ones where any bit of `value` is set, else 0 (H. S. Warren, Hacker's Delight, 2-12).
#[inline(always)]
pub fn any_bit_everywhere(value: u64) -> u64 {
    highest_bit_everywhere(value | value.wrapping_neg())
}

/// All ones where bit `BIT` of `value` is set, else 0.
#[inline(always)]
pub fn bit_everywhere<const BIT: u32>(value: u64) -> u64 {
    highest_bit_everywhere(value << (63 - BIT))
}

/// `yes` where `mask` is all ones, `no` where it is 0.
#[inline(always)]
pub const fn select(mask: u64, yes: u64, no: u64) -> u64 {
    no ^ ((yes ^ no) & mask)
}

/// `value`, of which the verifier knows nothing any more. `zero` is a 0 that it does not know to be one: `RuleTable`
/// has it. To be said of what two branches have set to different constants, where they meet.
#[cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "assembler is unsafe, be it one addition"))]
#[inline(always)]
pub fn forget(value: u64, zero: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one instruction on one register. Not `pure`: it has to stay where the branches meet.
        unsafe { core::arch::asm!("{0} += {1}", inout(reg) value, in(reg) zero, options(nomem, nostack)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value.wrapping_add(zero)
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

    #[test]
    fn a_bit_is_told_as_one() {
        assert_eq!([0, 1, 1 << 63, u64::MAX].map(highest_bit), [0, 0, 1, 1]);
        assert_eq!([0, 1, 6, 1 << 63, u64::MAX].map(any_bit), [0, 1, 1, 1, 1]);
    }

    #[test]
    fn any_bit_fills_the_word() {
        assert_eq!(any_bit_everywhere(0), 0);
        for bit in 0..64 {
            assert_eq!(any_bit_everywhere(1 << bit), u64::MAX);
        }
        assert_eq!(any_bit_everywhere(u64::MAX), u64::MAX);
    }

    #[test]
    fn one_bit_of_many_fills_the_word() {
        assert_eq!([0b0100, 0b1011].map(bit_everywhere::<2>), [u64::MAX, 0]);
    }

    #[test]
    fn a_mask_selects() {
        assert_eq!([u64::MAX, 0].map(|mask| select(mask, 5, 9)), [5, 9]);
    }

    #[test]
    fn what_is_forgotten_stays_the_same() {
        assert_eq!(forget(7, 0), 7);
    }
}
