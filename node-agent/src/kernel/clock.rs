//! Boot time to wall time. Records carry `CLOCK_BOOTTIME`, so that durations include suspend and never step.

use rustix::time::{ClockId, clock_getres, clock_gettime};

const SECOND_NS: u64 = 1_000_000_000;
/// A step of the wall clock larger than this is told.
const STEP_NS: i64 = 1_000_000;

/// `CLOCK_BOOTTIME`, ns.
pub fn boot_ns() -> u64 {
    to_ns(ClockId::Boottime)
}

/// How long the kernel's tick is, ns: the resolution of the clocks that go by it (`KTIME_LOW_RES`,
/// `include/linux/hrtimer.h`).
pub fn jiffy_ns() -> u64 {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    u64::try_from(resolution.tv_nsec).unwrap_or(0)
}

fn to_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND_NS + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The offset between the two clocks, sampled at most once a second and only when somebody asks.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs in the name")]
pub struct Clock {
    offset_ns: i64,
    sampled_ns: u64,
    step_ns: i64,
}

impl Clock {
    /// Samples for the first time.
    pub fn new() -> Self {
        Self { offset_ns: sample(), sampled_ns: boot_ns(), step_ns: 0 }
    }

    /// Samples again when the last sample is older than a second. `boot_ns` is now.
    pub fn refresh(&mut self, boot_ns: u64) {
        if boot_ns.saturating_sub(self.sampled_ns) < SECOND_NS {
            return;
        }
        let offset_ns = sample();
        let step = offset_ns - self.offset_ns;
        if step.abs() > STEP_NS {
            self.step_ns += step;
        }
        self.offset_ns = offset_ns;
        self.sampled_ns = boot_ns;
    }

    /// Wall time of a boot time, ns since the epoch.
    pub fn unix_ns(&self, boot_ns: u64) -> u64 {
        boot_ns.saturating_add_signed(self.offset_ns)
    }

    /// How far the wall clock has stepped since this was last asked, ns; `None` when it has not.
    pub fn take_step(&mut self) -> Option<i64> {
        Some(std::mem::take(&mut self.step_ns)).filter(|step| *step != 0)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Wall time minus boot time, ns: of three readings the one least disturbed, or being taken off the CPU between two
/// readings would look like a step.
fn sample() -> i64 {
    let reading = |()| {
        let before = to_ns(ClockId::Boottime);
        let wall = to_ns(ClockId::Realtime);
        let taken = to_ns(ClockId::Boottime) - before;
        (taken, i128::from(wall) - i128::from(before + taken / 2))
    };
    let best = [(); 3].map(reading).into_iter().min_by_key(|(taken, _)| *taken);
    best.and_then(|(_, difference)| i64::try_from(difference).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Clock, boot_ns};

    #[test]
    fn a_boot_time_of_now_is_the_wall_time_of_now() {
        let clock = Clock::new();
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let ours = u128::from(clock.unix_ns(boot_ns()));
        assert!(ours.abs_diff(wall) < 100_000_000, "{ours} {wall}");
    }
}
