//! The audience of a job: its sessions.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::requests::Requests;
use crate::id::{LogPos, SessionId};
use crate::runtime::few::Few;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Audience {
    /// Sessions that get its new events.
    pub(super) watchers: Vec<SessionId>,
    /// Sessions that may cancel it: the submitter, and those that retried its submit by key.
    pub(super) owners: Few<SessionId>,
    /// Requests that gave sessions access to the job, for sessions whose frames name requests.
    pub(super) requests: Requests,
    /// The position of each session's last record of joining or leaving, if it has no other
    /// content: the next such record replaces it.
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

    /// Sessions that its agent waits for when they are far behind: owners that get its events.
    pub(in crate::runtime) fn pacing_readers(&self) -> impl Iterator<Item = SessionId> {
        self.watchers.iter().copied().filter(|watcher| self.owners.contains(watcher))
    }
}
