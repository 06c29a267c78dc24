//! The kernel's clock of ticks (jiffies), whose rate it tells nobody.

/// What kernels are built with (`CONFIG_HZ`).
const RATES: [u64; 4] = [100, 250, 300, 1000];
/// Jiffies begin so long before they pass 32 bits (`INITIAL_JIFFIES`, `include/linux/jiffies.h`), seconds.
const BEFORE_WRAP_S: i128 = 300;
/// Ticks that a look takes at most.
const LOOK: u64 = 1_000;
const SECOND_NS: i128 = 1_000_000_000;

/// Ticks a second, by how many there have been since the boot. Ticks are made up for when they come late, so their number
/// always fits the time. Five minutes after the boot, for some seconds, all rates give the same number: then the answer
/// may be wrong.
pub(crate) fn rate(jiffies: u64, monotonic_ns: u64) -> u64 {
    let off = |rate: &u64| {
        let rate = i128::from(*rate);
        let ticks = i128::from(jiffies) - ((1 << 32) - BEFORE_WRAP_S * rate);
        (ticks * SECOND_NS / rate - i128::from(monotonic_ns)).abs()
    };
    RATES.into_iter().min_by_key(off).unwrap_or(RATES[0])
}

/// Time from a tick, of which 32 bits are known, to a later one, ns. 0 where the first is the later one: what happens
/// while one looks.
pub(crate) fn elapsed_ns(from: u32, jiffies: u64, rate: u64) -> u64 {
    let ticks = jiffies.wrapping_sub(from.into()) & u64::from(u32::MAX);
    if ticks > u64::from(u32::MAX) - LOOK { 0 } else { ticks * 1_000_000_000 / rate }
}

#[cfg(test)]
mod tests {
    use super::{elapsed_ns, rate};

    #[test]
    fn the_rate_follows_from_the_ticks_since_the_boot() {
        for hz in [100, 250, 300, 1000] {
            for uptime_s in [2, 200, 330, 86_400, 30_000_000] {
                // The first tick comes some time after the clock has begun.
                let jiffies = (1 << 32) - 300 * hz + (uptime_s * 1000 - 200) * hz / 1000;
                assert_eq!(rate(jiffies, uptime_s * 1_000_000_000), hz, "{hz} {uptime_s}");
            }
        }
    }

    #[test]
    fn ticks_are_counted_over_the_end_of_32_bits() {
        assert_eq!(elapsed_ns(1_000, 1_250, 250), 1_000_000_000);
        assert_eq!(elapsed_ns(u32::MAX, (1 << 32) + 249, 250), 1_000_000_000);
        assert_eq!(elapsed_ns(1_001, 1_000, 250), 0);
        let month = 30 * 86_400 * 1_000;
        assert_eq!(elapsed_ns(0, month, 1_000), month * 1_000_000);
    }
}
