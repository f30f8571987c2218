//! Which indexes refer to which logs: a job is kept as long as an index refers to its log.

use alloc::collections::BTreeMap;

use crate::id::{LogId, SessionId};
use crate::runtime::recent::Recent;

/// For each log the sessions whose index refers to it.
#[derive(Debug, Default)]
pub(super) struct IndexRefs {
    by_log: Recent<LogId, Readers>,
}

/// Sessions, each with its number of runs; usually one session.
#[derive(Debug, Default)]
struct Readers {
    /// The session that came first.
    first: Option<(SessionId, u32)>,
    others: BTreeMap<SessionId, u32>,
}

impl IndexRefs {
    /// Adds a log that no index refers to.
    pub(super) fn add_log(&mut self, log: LogId) {
        self.by_log.insert(log, Readers::default());
    }

    /// Removes a log, whether or not indexes refer to it.
    pub(super) fn remove_log(&mut self, log: LogId) {
        self.by_log.remove(&log);
    }

    /// Notes new runs of a session's index that refer to a log.
    pub(super) fn add(&mut self, log: LogId, session: SessionId, runs: u32) {
        if let Some(readers) = self.by_log.get_mut(&log).filter(|_| runs > 0) {
            readers.add(session, runs);
        }
    }

    /// Notes that a session's index released a run; true if no index refers to the log any more.
    pub(super) fn drop_one(&mut self, log: LogId, session: SessionId) -> bool {
        let Some(readers) = self.by_log.get_mut(&log) else {
            return false;
        };
        readers.drop_one(session);
        readers.first.is_none()
    }

    /// The sessions whose index refers to a log, in order.
    pub(super) fn sessions(&self, log: LogId) -> impl Iterator<Item = SessionId> {
        self.by_log.get(&log).into_iter().flat_map(Readers::sessions)
    }

    /// The number of those sessions.
    pub(super) fn count(&self, log: LogId) -> usize {
        self.by_log.get(&log).map_or(0, |readers| usize::from(readers.first.is_some()) + readers.others.len())
    }
}

impl Readers {
    fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.first.into_iter().map(|(session, _)| session).chain(self.others.keys().copied())
    }

    fn add(&mut self, session: SessionId, runs: u32) {
        match &mut self.first {
            None => self.first = Some((session, runs)),
            Some((first, known)) if *first == session => *known += runs,
            Some(first) if session < first.0 => {
                let (later, known) = core::mem::replace(first, (session, runs));
                self.others.insert(later, known);
            }
            Some(_) => *self.others.entry(session).or_default() += runs,
        }
    }

    fn drop_one(&mut self, session: SessionId) {
        let first = self.first.as_mut().filter(|(first, _)| *first == session).map(|(_, runs)| runs);
        let is_first = first.is_some();
        let Some(runs) = first.or_else(|| self.others.get_mut(&session)) else {
            return; // None of the session's runs refers to the job.
        };
        *runs -= 1;
        if *runs > 0 {
            return;
        }
        if is_first {
            self.first = self.others.pop_first();
        } else {
            self.others.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ulid::Ulid;

    use super::*;

    #[test]
    fn readers_are_counted_and_told_in_their_order_whoever_comes_and_goes_first() {
        let log = LogId::Job(crate::id::JobId::from_ulid(Ulid::nil()));
        let session = |n: u32| SessionId::from_ulid(Ulid(n.into()));
        let (mut refs, mut plain) = (IndexRefs::default(), BTreeMap::<u32, u32>::new());
        refs.add_log(log);
        let mut random = 1_u32;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (n, runs) = (random >> 16 & 3, random >> 8 & 3);
            if runs > 1 {
                refs.add(log, session(n), runs);
                *plain.entry(n).or_default() += runs;
            } else {
                if let Some(known) = plain.get_mut(&n) {
                    *known -= 1;
                }
                plain.retain(|_, known| *known > 0);
                assert_eq!(refs.drop_one(log, session(n)), plain.is_empty());
            }
            assert_eq!(refs.sessions(log).collect::<Vec<_>>(), plain.keys().map(|n| session(*n)).collect::<Vec<_>>());
            assert_eq!(refs.count(log), plain.len());
        }
    }
}
