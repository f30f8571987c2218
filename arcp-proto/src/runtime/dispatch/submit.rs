//! Routes a submit: to the job it makes, or to the one that its key was claimed
//! for (1.1 §7.1, §7.2).

use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, JobId, SessionId, WireId};
use crate::model::feature::Feature;
use crate::model::reply::{Refusal, RefusedKind, Reply};
use crate::model::request::{Invocation, Submit};
use crate::runtime::Runtime;
use crate::runtime::delivery::{Audience, Requests};
use crate::runtime::job::{Submission, SubmitContext};

impl Runtime {
    pub(in crate::runtime) fn on_submit(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: &WireId,
        (submit, invocation): (&Submit, &Invocation),
        command: [u8; 32],
    ) -> Reply {
        match self.submit(conn, session, id, (submit, invocation), command) {
            Ok(accepted) => accepted,
            Err(violation) => {
                let trace = submit.trace.clone();
                let refusal = Refusal { trace, ..Refusal::of(RefusedKind::Submit, violation, Some(id.clone())) };
                self.refuse(conn, refusal.clone());
                Reply::Refused(refusal)
            }
        }
    }

    fn submit(
        &mut self,
        conn: ConnId,
        session_id: SessionId,
        request: &WireId,
        (submit, invocation): (&Submit, &Invocation),
        command: [u8; 32],
    ) -> Result<Reply, Violation> {
        let session = self.sessions.get(session_id).ok_or_else(|| Violation::invalid("the session is gone"))?;
        if submit.agent.version().is_some() && !session.view().features.has(Feature::AgentVersions) {
            return Err(Violation::invalid(
                "`name@version` needs the feature `agent_versions`, which was not negotiated",
            ));
        }
        let (principal, id_is_of_principal) = (&session.principal().clone(), session.view().ids_are_of_principal());
        let asked =
            SubmitContext { submit, invocation, command, request, id_is_of_principal, principal, session: session_id };
        let new = match self.jobs.check(&self.ctx, asked)? {
            Submission::Known(job) => {
                self.check_requests(session_id, job, request)?;
                return self.rejoin(conn, session_id, request, job);
            }
            Submission::New(new) => new,
        };
        if let Some(ended) = self.jobs.to_forget(&self.ctx, principal) {
            self.forget_job(ended);
        }
        let job = self.jobs.accept(&mut self.ctx, asked, new);
        self.delivery.add_job(job);
        self.delivery.own(session_id, job);
        self.delivery.join(session_id, job);
        self.delivery.show_to_subscribers(&self.ctx, &self.jobs, job);
        self.delivery.number_for_all(&mut self.ctx, &self.jobs, job, 0);
        self.carry();
        Ok(self.acceptance(conn, session_id, job, request))
    }

    /// Queues the acceptance of a job for one session, as one of its numbered
    /// frames where the family says so.
    fn acceptance(&mut self, conn: ConnId, session: SessionId, id: JobId, request: &WireId) -> Reply {
        let view = self.sessions.get(session).map(|session| *session.view());
        let (Some(view), Some(job)) = (view, self.jobs.get(id)) else {
            return Reply::Closed { reason: None, request: None };
        };
        let reply = job.accepted(Some(request));
        self.delivery.note_request(session, id, request);
        if view.numbers(&reply) {
            let first = self.delivery.number_past(&mut self.ctx, &self.jobs, session, id, 0);
            self.carry();
            if let Some(conn) = self.connections.get_mut(conn) {
                conn.follow(first);
            }
        } else {
            // Whoever is told can rely on it, who came by a key as well.
            self.answer(conn, reply.clone());
        }
        reply
    }

    /// Whether one more request may ask for a job. A message that comes again
    /// always may.
    fn check_requests(&self, session: SessionId, id: JobId, request: &WireId) -> Result<(), Violation> {
        let most = self.ctx.config.limits.requests_per_job;
        let is_noted = self.sessions.get(session).is_some_and(|session| session.view().correlates());
        let full = |requests: &Requests| requests.count() >= most && requests.number_of(session, request).is_none();
        if is_noted && self.delivery.audience(id).map(Audience::requests).is_some_and(full) {
            let full = alloc::format!("{most} requests have asked for this job: follow it where you have it");
            return Err(Violation::exhausted("requests_per_job", BoundOf::Job, most as u64, full));
        }
        Ok(())
    }

    /// A retry with the same key: the original acceptance, then the events
    /// that follow, then the terminal.
    pub(in crate::runtime) fn rejoin(
        &mut self,
        conn: ConnId,
        session_id: SessionId,
        id: &WireId,
        job_id: JobId,
    ) -> Result<Reply, Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "the job of this key has been forgotten: use a new key");
        let takes_chunks =
            self.sessions.get(session_id).is_some_and(|session| session.view().features.has(Feature::ResultChunk));
        if !takes_chunks {
            self.put_result_together(job_id)?;
        }
        let job = self.jobs.get(job_id).ok_or_else(gone)?;
        let requests = self.delivery.audience(job_id).ok_or_else(gone)?.requests();
        if job.is_terminal() && !job.keeps(job.count()) {
            let lost = "the job of this key has ended, and how is no longer kept: use a new key to run it again";
            return Err(Violation::new(ErrorCode::ResumeWindowExpired, lost));
        }
        let (over, before) = (job.is_terminal(), requests.latest(session_id));
        let is_new = requests.number_of(session_id, id).is_none();
        let owns = self.delivery.own(session_id, job_id);
        let joins = !over && self.delivery.join(session_id, job_id);
        let number = self.delivery.note_request(session_id, job_id, id);
        // A retry that changes nothing leaves nothing in the store.
        if owns || joins || number != before {
            let request = (is_new && number > 0).then(|| id.clone());
            self.delivery.note_joined(&mut self.ctx, job_id, session_id, owns, request, number);
        }
        let reply = self.acceptance(conn, session_id, job_id, id);
        self.delivery.number_end(&mut self.ctx, &self.jobs, session_id, job_id);
        self.carry();
        Ok(reply)
    }

    /// Sees to it that the end of a job has its result in one piece, for a
    /// client that comes to it late and reads no pieces.
    pub(in crate::runtime) fn put_result_together(&mut self, id: JobId) -> Result<(), Violation> {
        let terms = self.delivery.chunk_terms(&self.ctx.config.limits, id);
        self.jobs.put_result_together(id, terms)
    }
}
