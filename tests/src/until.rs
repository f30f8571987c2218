//! Waiting for what a test cannot be told of.

use std::time::{Duration, Instant};

use crate::server::PATIENCE;

/// Between two looks, so that whoever is waited for gets the processor. Nothing
/// depends on how long it is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Looks until there is something to see, and gives it.
///
/// # Panics
///
/// If it does not come within [`PATIENCE`].
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
