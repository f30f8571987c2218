//! Listing and evicting sessions, for operators and auditors: an extension of ours.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::WireId;
use crate::time::UtcMs;

/// A query for sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only those that were opened after this one.
    pub after: Option<WireId>,
    /// Entries per page, 1 to 1,000; `None`: 100.
    pub limit: Option<u64>,
}

/// A page of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries, oldest first.
    pub sessions: Vec<SessionSummary>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<WireId>,
}

/// A session in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session.
    pub session: WireId,
    /// Its principal.
    pub principal: String,
    /// When it was opened.
    pub opened_at: Option<UtcMs>,
    /// Whether its client is connected.
    pub connected: bool,
    /// When it ends unless its client proves its principal again.
    pub expires_at: Option<UtcMs>,
}

/// A request to take a session from its client. The jobs of the session continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The session.
    pub session: WireId,
    /// The reason, which its client is told.
    pub reason: Option<String>,
}
