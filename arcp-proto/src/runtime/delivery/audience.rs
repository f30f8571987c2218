//! An audience: the sessions that one job is for.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::requests::Requests;
use crate::id::{LogPos, SessionId};
use crate::runtime::few::Few;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Audience {
    /// Sessions that get new events.
    pub(super) watchers: Vec<SessionId>,
    /// Sessions that may cancel it: the submitter, and who came by its key.
    pub(super) owners: Few<SessionId>,
    /// Requests that made the job known to sessions that want to be told which.
    pub(super) requests: Requests,
    /// Where the last record of a session's joining or leaving stands, if it says
    /// nothing else: the next one replaces it.
    pub(super) joins: BTreeMap<SessionId, LogPos>,
}

impl Audience {
    pub(in crate::runtime) fn watchers(&self) -> &[SessionId] {
        &self.watchers
    }

    pub(in crate::runtime) fn owners(&self) -> &Few<SessionId> {
        &self.owners
    }

    pub(in crate::runtime) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Sessions that its agent waits for when they are far behind: those that
    /// submitted it and get its events.
    pub(in crate::runtime) fn pacing_readers(&self) -> impl Iterator<Item = SessionId> {
        self.watchers.iter().copied().filter(|watcher| self.owners.contains(watcher))
    }
}
