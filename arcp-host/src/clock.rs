//! The only file that reads clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcp_proto::time::{Now, Timestamp, UtcMs};

/// Steps of the wall clock up to this size are adopted at once.
const SMALL_STEP_MS: i64 = 1000;
/// Larger steps are adopted at one part in so many of the time that passes.
const SLEW_SHARE: i64 = 20;

/// Monotonic time that also advances while the machine sleeps, and UTC that is derived from it.
///
/// One wrong reading of the wall clock must not expire every lease. So a large step is adopted
/// slowly, by one second in twenty.
///
/// ```
/// let mut clock = arcp_host::clock::Clock::new();
/// let (a, b) = (clock.now(), clock.now());
/// assert!(b.mono >= a.mono && b.utc >= a.utc);
/// ```
#[derive(Debug)]
pub struct Clock {
    utc: Utc,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// A clock that adopts the present wall clock.
    pub fn new() -> Clock {
        Clock { utc: Utc::new(monotonic(), wall()) }
    }

    /// Both times of the present.
    pub fn now(&mut self) -> Now {
        let mono = monotonic();
        Now { mono, utc: self.utc.at(mono, wall()) }
    }

    /// Both times of a past moment, with the present offset of this clock.
    pub(crate) fn at(&self, mono: Timestamp) -> Now {
        Now { mono, utc: self.utc.of(mono) }
    }

    /// How far the wall clock has jumped ahead of (or, if negative, behind) the UTC of this clock,
    /// in milliseconds. Each jump is reported once.
    pub fn take_jump(&mut self) -> Option<i64> {
        self.utc.jump.take()
    }

    /// The time until a moment, rounded up to whole milliseconds.
    pub fn until(&self, at: Timestamp) -> Duration {
        let left = at.since(monotonic());
        let millis = left.as_micros().div_ceil(1000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// The time since the machine was started.
pub(crate) fn monotonic() -> Timestamp {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    let micros = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1000;
    Timestamp(u64::try_from(micros).unwrap_or(0))
}

/// The time of the wall clock.
#[cfg(feature = "oauth")]
pub(crate) fn utc_now() -> UtcMs {
    UtcMs(u64::try_from(wall()).unwrap_or(0))
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// UTC as monotonic time plus an offset that follows the wall clock.
#[derive(Debug)]
struct Utc {
    offset_ms: i64,
    last: Timestamp,
    /// Whether a large step is being adopted.
    slewing: bool,
    /// A step that was not reported yet.
    jump: Option<i64>,
}

impl Utc {
    fn new(mono: Timestamp, wall_ms: i64) -> Utc {
        Utc { offset_ms: wall_ms - millis(mono), last: mono, slewing: false, jump: None }
    }

    fn at(&mut self, mono: Timestamp, wall_ms: i64) -> UtcMs {
        let wanted = wall_ms - millis(mono);
        let step = wanted - self.offset_ms;
        if step.abs() <= SMALL_STEP_MS {
            self.offset_ms = wanted;
            self.last = mono;
            self.slewing = false;
        } else {
            if !std::mem::replace(&mut self.slewing, true) {
                self.jump = Some(step);
            }
            let passed = millis(mono) - millis(self.last);
            let most = passed / SLEW_SHARE;
            if most > 0 {
                self.offset_ms += step.clamp(-most, most);
                self.last = mono;
            }
        }
        self.of(mono)
    }

    fn of(&self, mono: Timestamp) -> UtcMs {
        UtcMs(u64::try_from(millis(mono) + self.offset_ms).unwrap_or(0))
    }
}

fn millis(mono: Timestamp) -> i64 {
    i64::try_from(mono.0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_step_is_taken_over_slowly() {
        let mut utc = Utc::new(Timestamp(0), 1_000_000);
        let hour = 3_600_000;
        assert_eq!(utc.at(Timestamp(1_000_000), 1_001_000 + hour), UtcMs(1_001_050));
        assert_eq!(utc.jump.take(), Some(hour));
        assert_eq!(utc.at(Timestamp(2_000_000), 1_002_000 + hour), UtcMs(1_002_100));
        assert_eq!(utc.jump, None, "told once");
        // The wrong reading has ended: the clock is off by a tenth of a second only.
        assert_eq!(utc.at(Timestamp(3_000_000), 1_003_000), UtcMs(1_003_000));
        assert_eq!(utc.at(Timestamp(3_500_000), 1_003_700), UtcMs(1_003_700));
        assert_eq!(utc.jump, None);
        utc.at(Timestamp(4_000_000), 1_004_200 - hour);
        assert_eq!(utc.jump, Some(-hour));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn time_is_that_of_the_system_and_each_jump_is_told_of_once() {
        let system = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            (time.tv_sec * 1_000_000 + time.tv_nsec / 1000).cast_unsigned()
        };
        let (before, now, after) = (system(), monotonic().0, system());
        assert!(before <= now && now <= after, "{before} {now} {after}");
        let mut clock = Clock::new();
        assert_eq!(clock.take_jump(), None);
        clock.utc.jump = Some(5);
        assert_eq!((clock.take_jump(), clock.take_jump()), (Some(5), None));
    }
}
