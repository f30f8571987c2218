//! Which indexes point to which jobs: a job is kept as long as one does.

use alloc::collections::BTreeMap;

use crate::id::{JobId, SessionId};

/// The sessions whose index points to a job, each with its number of runs, for
/// every job there is.
#[derive(Debug, Default)]
pub(super) struct IndexRefs {
    by_job: BTreeMap<JobId, BTreeMap<SessionId, u32>>,
}

impl IndexRefs {
    /// A job is accepted, or restored: no index points to it yet.
    pub(super) fn add_job(&mut self, job: JobId) {
        self.by_job.insert(job, BTreeMap::new());
    }

    /// A job is forgotten, whoever points to it.
    pub(super) fn remove_job(&mut self, job: JobId) {
        self.by_job.remove(&job);
    }

    /// A session's index has so many new runs that point to a job.
    pub(super) fn add(&mut self, job: JobId, session: SessionId, runs: u32) {
        if let Some(readers) = self.by_job.get_mut(&job).filter(|_| runs > 0) {
            *readers.entry(session).or_default() += runs;
        }
    }

    /// A session's index lets a run go; true if with it nobody points to the job
    /// any more.
    pub(super) fn drop_one(&mut self, job: JobId, session: SessionId) -> bool {
        let Some(readers) = self.by_job.get_mut(&job) else {
            return false;
        };
        if let Some(runs) = readers.get_mut(&session) {
            *runs -= 1;
            if *runs == 0 {
                readers.remove(&session);
            }
        }
        readers.is_empty()
    }

    /// Sessions whose index points to a job.
    pub(super) fn readers(&self, job: JobId) -> impl Iterator<Item = SessionId> {
        self.by_job.get(&job).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// How many those are.
    pub(super) fn count(&self, job: JobId) -> usize {
        self.by_job.get(&job).map_or(0, BTreeMap::len)
    }
}
