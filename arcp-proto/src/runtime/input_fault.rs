//! What the host finds wrong with a value that it checks.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::json::Object;

/// Why an input does not fit its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFault {
    /// The place, as a JSON pointer (RFC 6901); empty: the whole input.
    pub pointer: String,
    /// What is wrong there, in a few words.
    pub reason: String,
}

/// How long the host may take to check a value.
pub(super) const LONGEST_CHECK: Duration = Duration::from_secs(2);

impl InputFault {
    /// The refusal for this fault.
    pub(super) fn violation(&self, what: &str) -> Violation {
        let InputFault { pointer, reason } = self;
        let place = if pointer.is_empty() { String::new() } else { alloc::format!("`{pointer}`: ") };
        let mut details = Object::new();
        details.str("pointer", pointer).str("reason", reason);
        Violation::invalid(alloc::format!("{what}: {place}{reason}")).with_details(details.json())
    }
}
