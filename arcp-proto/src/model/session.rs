//! Sessions, as whoever oversees everybody is told of them: an extension of ours.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::WireId;
use crate::time::UtcMs;

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Those that were opened after this one.
    pub after: Option<WireId>,
    /// Entries of a page, 1 to 1,000; `None`: 100.
    pub limit: Option<u64>,
}

/// A page of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries, oldest first.
    pub sessions: Vec<SessionSummary>,
    /// After which session the next page begins; `None` at the end.
    pub next: Option<WireId>,
}

/// What a listing says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session.
    pub session: WireId,
    /// Whose it is.
    pub principal: String,
    /// When it was opened.
    pub opened_at: Option<UtcMs>,
    /// Whether its client is connected.
    pub connected: bool,
    /// When it ends unless its client proves again who it is.
    pub expires_at: Option<UtcMs>,
}

/// A wish to take a session from its client. Its jobs go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The session.
    pub session: WireId,
    /// Why, as its client is told.
    pub reason: Option<String>,
}
