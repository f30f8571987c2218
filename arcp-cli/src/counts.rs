//! What a runtime counts, for its operators and auditors.

use std::time::Duration;

use serde::Deserialize;

use crate::connect::Chosen;

/// How long a runtime may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How much there is of what `arcp top` shows.
#[derive(Clone, Debug, Deserialize)]
pub struct Counts {
    /// Connections, with or without a session.
    pub connections: u64,
    /// Sessions, attached or resumable.
    pub sessions: u64,
    /// Jobs that are not over.
    pub unfinished_jobs: u64,
    /// Jobs in line for a slot.
    pub waiting_jobs: u64,
    /// Agents that hold a slot.
    pub running_agents: u64,
    /// Events that jobs have had since the start.
    pub events: u64,
    /// Bytes of events that attached sessions are behind.
    pub unsent_bytes: u64,
    /// Bytes of records that are not durable yet.
    pub undurable_bytes: u64,
    /// Whether the store is failing.
    pub store_failed: bool,
}

impl Counts {
    /// Asks for them. `None` if whoever has this token may not know, or the
    /// runtime does not say.
    pub fn of(chosen: &Chosen) -> Option<Counts> {
        serde_json::from_str(&chosen.stats(ANSWER)?).ok()
    }
}
