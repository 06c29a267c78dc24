//! The kernel's clock of ticks (jiffies).

/// Ticks that a look takes at most.
const LOOK: u64 = 1_000;

/// Time from a tick, of which 32 bits are known, to a later one, ns. 0 where the first is the later one: what happens
/// while one looks.
pub fn elapsed_ns(from: u32, jiffies: u64, jiffy_ns: u64) -> u64 {
    let ticks = jiffies.wrapping_sub(from.into()) & u64::from(u32::MAX);
    if ticks > u64::from(u32::MAX) - LOOK { 0 } else { ticks * jiffy_ns }
}

#[cfg(test)]
mod tests {
    use super::elapsed_ns;

    #[test]
    fn ticks_are_counted_over_the_end_of_32_bits() {
        assert_eq!(elapsed_ns(1_000, 1_250, 4_000_000), 1_000_000_000);
        assert_eq!(elapsed_ns(u32::MAX, (1 << 32) + 249, 4_000_000), 1_000_000_000);
        assert_eq!(elapsed_ns(1_001, 1_000, 4_000_000), 0);
        let month = 30 * 86_400 * 1_000;
        assert_eq!(elapsed_ns(0, month, 1_000_000), month * 1_000_000);
    }
}
