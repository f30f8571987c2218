//! Which indexes point to which logs: a job is kept as long as one points to
//! its log.

use alloc::collections::BTreeMap;

use crate::id::{LogId, SessionId};
use crate::runtime::recent::Recent;

/// The sessions whose index points to a log, each with its number of runs, for
/// every log there is.
#[derive(Debug, Default)]
pub(super) struct IndexRefs {
    by_log: Recent<LogId, BTreeMap<SessionId, u32>>,
}

impl IndexRefs {
    /// A log begins: no index points to it yet.
    pub(super) fn add_log(&mut self, log: LogId) {
        self.by_log.insert(log, BTreeMap::new());
    }

    /// A log is forgotten, whoever points to it.
    pub(super) fn remove_log(&mut self, log: LogId) {
        self.by_log.remove(&log);
    }

    /// A session's index has so many new runs that point to a log.
    pub(super) fn add(&mut self, log: LogId, session: SessionId, runs: u32) {
        if let Some(sessions) = self.by_log.get_mut(&log).filter(|_| runs > 0) {
            *sessions.entry(session).or_default() += runs;
        }
    }

    /// A session's index lets a run go; true if with it nobody points to the log
    /// any more.
    pub(super) fn drop_one(&mut self, log: LogId, session: SessionId) -> bool {
        let Some(sessions) = self.by_log.get_mut(&log) else {
            return false;
        };
        if let Some(runs) = sessions.get_mut(&session) {
            *runs -= 1;
            if *runs == 0 {
                sessions.remove(&session);
            }
        }
        sessions.is_empty()
    }

    /// Sessions whose index points to a log.
    pub(super) fn sessions(&self, log: LogId) -> impl Iterator<Item = SessionId> {
        self.by_log.get(&log).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// How many those are.
    pub(super) fn count(&self, log: LogId) -> usize {
        self.by_log.get(&log).map_or(0, BTreeMap::len)
    }
}
