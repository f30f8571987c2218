//! The counts of a runtime, for its operators and auditors.

use std::time::Duration;

use serde::Deserialize;

use crate::connect::Chosen;

/// How long a runtime may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The counts that `arcp top` shows.
#[derive(Clone, Debug, Deserialize)]
pub struct Counts {
    /// Connections, with or without a session.
    pub connections: u64,
    /// Sessions, attached or resumable.
    pub sessions: u64,
    /// Jobs that have not ended.
    pub unfinished_jobs: u64,
    /// Jobs that wait for a slot.
    pub waiting_jobs: u64,
    /// Agents that hold a slot.
    pub running_agents: u64,
    /// Events of all jobs since the start of the runtime.
    pub events: u64,
    /// Bytes of events that attached sessions were not sent yet.
    pub unsent_bytes: u64,
    /// Bytes of records that are not durable yet.
    pub undurable_bytes: u64,
    /// Whether the store is failing.
    pub store_failed: bool,
}

impl Counts {
    /// Reads the counts. `None` if the principal of the token may not read them, or the runtime does not serve them.
    pub fn of(chosen: &Chosen) -> Option<Counts> {
        serde_json::from_str(&chosen.stats(ANSWER)?).ok()
    }
}
