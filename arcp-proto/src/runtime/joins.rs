//! What the store is told of who gets a job's events. However often a session
//! comes and leaves, of the records that say nothing else only the last is kept.

use super::Runtime;
use super::io::Record;
use crate::id::{JobId, LogPos, SessionId, WireId};

impl Runtime {
    /// Records that a session gets the events of a job from now on, whether it
    /// owns the job by that, and from which of its requests they follow; the
    /// request itself, if it is new.
    pub(super) fn note_joined(
        &mut self,
        job: JobId,
        session: SessionId,
        owner: bool,
        request: Option<WireId>,
        number: u32,
    ) {
        let undoes = self.take_join(job, session);
        let says_more = owner || request.is_some();
        let at = self.ctx.append(Record::Joined { job, session, owner, request, number, undoes });
        if !says_more {
            self.replace_join(job, session, at);
        }
    }

    /// Records that a session gets no more events of a job.
    pub(super) fn note_left(&mut self, job: JobId, session: SessionId) {
        let undoes = self.take_join(job, session);
        let at = self.ctx.append(Record::Left { job, session, undoes });
        self.replace_join(job, session, at);
    }

    /// The record here is the one that the next replaces.
    pub(super) fn replace_join(&mut self, id: JobId, session_id: SessionId, at: LogPos) {
        if let (Some(job), Some(session)) = (self.jobs.get_mut(id), self.sessions.get_mut(session_id)) {
            job.joins.insert(session_id, at);
            session.asked.insert(id);
        }
    }

    /// The record that the next replaces; 0 if there is none.
    fn take_join(&mut self, id: JobId, session: SessionId) -> LogPos {
        self.jobs.get_mut(id).and_then(|job| job.joins.remove(&session)).unwrap_or_default()
    }
}
