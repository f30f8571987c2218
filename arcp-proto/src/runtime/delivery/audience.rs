//! An audience: the sessions that one job is for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::requests::Requests;
use crate::id::{LogPos, SessionId};

#[derive(Debug, Default)]
pub(in crate::runtime) struct Audience {
    /// Sessions that get new events.
    pub(super) watchers: Vec<SessionId>,
    /// Subscriptions that are shown the job, by session and number.
    pub(super) subscribers: Vec<(SessionId, u32)>,
    /// Sessions that may cancel it: the submitter, and who came by its key.
    pub(super) owners: BTreeSet<SessionId>,
    /// Sessions whose index points here, each with its number of runs.
    index_refs: BTreeMap<SessionId, u32>,
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

    pub(in crate::runtime) fn owners(&self) -> &BTreeSet<SessionId> {
        &self.owners
    }

    pub(in crate::runtime) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// How many subscriptions are shown the job.
    #[cfg(test)]
    pub(super) fn subscribed(&self) -> usize {
        self.subscribers.len()
    }

    /// Sessions that its agent waits for when they are far behind: those that
    /// submitted it and get its events.
    pub(in crate::runtime) fn pacing_readers(&self) -> impl Iterator<Item = SessionId> {
        self.watchers.iter().copied().filter(|watcher| self.owners.contains(watcher))
    }

    /// A session's index has a new run that points here.
    pub(super) fn add_ref(&mut self, session: SessionId) {
        *self.index_refs.entry(session).or_default() += 1;
    }

    pub(super) fn drop_ref(&mut self, session: SessionId) {
        if let Some(runs) = self.index_refs.get_mut(&session) {
            *runs -= 1;
            if *runs == 0 {
                self.index_refs.remove(&session);
            }
        }
    }

    /// Sessions whose index points here.
    pub(super) fn readers(&self) -> impl Iterator<Item = SessionId> {
        self.index_refs.keys().copied()
    }

    /// Whether no index points here.
    pub(super) fn is_unreferenced(&self) -> bool {
        self.index_refs.is_empty()
    }

    /// Whether what is written for one session may serve another.
    pub(super) fn is_shared(&self) -> bool {
        self.index_refs.len() > 1
    }
}
