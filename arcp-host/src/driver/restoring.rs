//! Progress of a long start, for the log.

use std::time::{Duration, Instant};

/// The interval between two reports of progress.
const BETWEEN: Duration = Duration::from_secs(2);
/// The time is checked once per so many records. A start with fewer reports nothing.
const BETWEEN_LOOKS: u64 = 256;

/// Counts the records that are read, and decides when to report.
pub(super) struct Restoring {
    records: u64,
    next: Instant,
}

impl Restoring {
    pub(super) fn begin(now: Instant) -> Restoring {
        Restoring { records: 0, next: now + BETWEEN }
    }

    /// Counts one more record. Returns the count if it is time to report.
    pub(super) fn read_one(&mut self, now: impl FnOnce() -> Instant) -> Option<u64> {
        self.records += 1;
        if !self.records.is_multiple_of(BETWEEN_LOOKS) {
            return None;
        }
        let now = now();
        (now >= self.next).then(|| {
            self.next = now + BETWEEN;
            self.records
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reports about `records` records that take `each` time, with their times.
    fn told(records: u32, each: Duration) -> Vec<(u64, Duration)> {
        let begun = Instant::now();
        let mut restoring = Restoring::begin(begun);
        let told = (1..=records).filter_map(|n| Some((restoring.read_one(|| begun + each * n)?, each * n)));
        told.collect()
    }

    #[test]
    fn a_start_that_takes_long_says_every_two_seconds_how_far_it_is() {
        let second = Duration::from_secs(1);
        assert_eq!(told(256 * 7, second / 256), [(512, 2 * second), (1024, 4 * second), (1536, 6 * second)]);
        assert_eq!(told(256 * 2, 5 * second / 256), [(256, 5 * second), (512, 10 * second)], "from the last time on");
    }

    #[test]
    fn a_start_that_is_quick_or_has_little_to_read_says_nothing() {
        assert_eq!(told(100_000, Duration::from_micros(19)), []);
        assert_eq!(told(255, Duration::from_secs(60)), [], "the clock is not even looked at");
    }
}
