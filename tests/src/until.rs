//! Waits for conditions that cannot notify a test.

use std::time::{Duration, Instant};

use crate::server::PATIENCE;

/// The time between two looks, in which the others get the processor. Nothing depends on its length.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Looks until there is a value, and returns it.
///
/// # Panics
///
/// If there is none within [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for nothing: {what}");
        std::thread::sleep(BETWEEN_LOOKS);
    }
}
