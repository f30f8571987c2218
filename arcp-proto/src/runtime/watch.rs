//! Commands about jobs: their ids are executed once; cancelling, watching
//! and leaving off (1.1 §7.4, §7.6).

use alloc::boxed::Box;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::Runtime;
use super::io::Notice;
use super::job::{Job, JobState};
use super::submit::Asked;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, JobId, Principal, SessionId, WireId};
use crate::json::Object;
use crate::model::feature::Feature;
use crate::model::reply::{Concern, Refusal, Reply, Subject, Watching};
use crate::model::request::{Cancel, Request, Target, Watch};
use crate::wire::envelope::Header;

impl Runtime {
    /// Runs a command, or repeats the answer to it (hello decision 13).
    pub(super) fn on_command(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: WireId,
        request: Request,
        header: &Header<'_>,
    ) {
        let fingerprint = command_fingerprint(header, &request);
        if let Some(session) = self.sessions.get_mut(session) {
            session.commanded = true;
        }
        if let Some((known, answer)) = self.sessions.seen(session, &id).cloned() {
            if known != fingerprint {
                let reused = Violation::invalid("this message id was used for a different message");
                return self.refuse(conn, Refusal::about(Subject::of(header), reused));
            }
            if let Some(answer) = answer {
                self.answer_again(conn, session, &id, answer);
            }
            return;
        }
        let answer = match request {
            Request::Submit(submit, invocation) => Some(self.on_submit(
                conn,
                session,
                &id,
                Asked { submit: &submit, invocation: &invocation, command: fingerprint },
            )),
            Request::Cancel(cancel) => Some(self.on_cancel(conn, session, &id, &cancel)),
            Request::Watch(watch) => Some(self.on_watch(conn, session, &id, &watch)),
            Request::Unwatch { job } => self.on_unwatch(conn, session, &id, &job),
            Request::Subscribe(subscribe) => Some(self.on_subscribe(conn, session, &id, &subscribe, fingerprint)),
            Request::Unsubscribe { subscription } => Some(self.on_unsubscribe(conn, session, &id, &subscription)),
            Request::Open(_)
            | Request::Resume(_)
            | Request::Close { .. }
            | Request::Ping { .. }
            | Request::Echo { .. }
            | Request::Authenticate(_)
            | Request::Pong { .. }
            | Request::Ack { .. }
            | Request::List(_)
            | Request::Replay(_)
            | Request::Pace { .. }
            | Request::Extension(_)
            | Request::Ignored => None,
        };
        let bound = self.ctx.config.limits.seen_ids_per_session;
        self.sessions.remember(session, id, (fingerprint, answer), bound);
    }

    /// Repeats the answer to a command. An acceptance that is a numbered
    /// frame is one again, with what follows from it.
    fn answer_again(&mut self, conn: ConnId, session: SessionId, id: &WireId, answer: Reply) {
        let numbered = self.sessions.get(session).is_some_and(|session| session.view.numbers(&answer));
        let job = if let Reply::Accepted(accepted) = &answer { JobId::parse(accepted.job.as_str()) } else { None };
        match job.filter(|_| numbered) {
            Some(job) => {
                if let Err(violation) = self.rejoin(conn, session, id, job) {
                    self.refuse(conn, Refusal::of(Concern::Submit, violation, Some(id.clone())));
                }
            }
            None => self.answer(conn, answer),
        }
    }

    /// The jobs that a principal may see, after `after`, oldest first.
    pub(super) fn visible_jobs<'a>(
        &'a self,
        principal: &'a Principal,
        after: Option<JobId>,
    ) -> Box<dyn Iterator<Item = (JobId, &'a Job)> + 'a> {
        if self.ctx.config.sees_everything(principal) {
            return Box::new(self.jobs.of_all(after));
        }
        Box::new(self.jobs.of_principal(principal, after))
    }

    /// The job of this id, if the session's principal may see it. Unknown
    /// and foreign ones look alike.
    pub(super) fn visible(&self, session: SessionId, id: &WireId) -> Result<JobId, Violation> {
        let unknown = || Violation::new(ErrorCode::JobNotFound, "no such job");
        let job = JobId::parse(id.as_str()).ok_or_else(unknown)?;
        let owner = self.jobs.get(job).filter(|job| !job.expired).map(|job| &job.principal);
        let asking = self.sessions.get(session).map(|session| &session.principal);
        match (owner, asking) {
            (Some(owner), Some(asking)) if owner == asking || self.ctx.config.sees_everything(asking) => Ok(job),
            _ => Err(unknown()),
        }
    }

    pub(super) fn refused_of(&mut self, conn: ConnId, concern: Concern, violation: Violation, id: &WireId) -> Reply {
        let refusal = Refusal::of(concern, violation, Some(id.clone()));
        self.refuse(conn, refusal.clone());
        Reply::Refused(refusal)
    }

    fn refused(&mut self, conn: ConnId, concern: Concern, violation: Violation, id: &WireId, job: &WireId) -> Reply {
        let refusal = Refusal { job: Some(job.clone()), ..Refusal::of(concern, violation, Some(id.clone())) };
        self.refuse(conn, refusal.clone());
        Reply::Refused(refusal)
    }

    fn on_cancel(&mut self, conn: ConnId, session: SessionId, id: &WireId, cancel: &Cancel) -> Reply {
        let jobs = match &cancel.target {
            Target::Job(job) => self.may_cancel(session, job).map(|job| alloc::vec![job]),
            Target::Stream(stream) => Err(self.why_no_stream(session, stream)),
            Target::Session(named) if named.as_str() == session.to_string() => Ok(self.own_jobs(session)),
            Target::Session(_) => {
                Err(Violation::new(ErrorCode::JobNotFound, "only this session can be cancelled here"))
            }
        };
        let jobs = match jobs {
            Ok(jobs) => jobs,
            Err(violation) => return self.refused(conn, Concern::Cancel, violation, id, cancel.target.id()),
        };
        let grace = cancel.deadline.unwrap_or(self.ctx.config.cancel_grace);
        // The acknowledgement comes before the terminal.
        let taken = Reply::CancelTaken {
            target: cancel.target.clone(),
            reason: cancel.reason.clone(),
            deadline_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            request: Some(id.clone()),
        };
        let reason = cancel.reason.as_deref();
        for job in &jobs {
            self.note_cancel(*job, reason);
        }
        self.answer(conn, taken.clone());
        for job in jobs {
            self.cancel_job(job, reason, grace);
        }
        if let Target::Session(_) = cancel.target {
            self.evict(session, ErrorCode::Cancelled, "cancelled");
        }
        taken
    }

    /// A stream lives and ends with its job.
    fn why_no_stream(&self, session: SessionId, stream: &WireId) -> Violation {
        let job = stream.as_str().strip_prefix("str_").and_then(|rest| WireId::new(&alloc::format!("job_{rest}")));
        match job.map(|job| self.visible(session, &job)) {
            Some(Ok(_)) => Violation::new(ErrorCode::Unimplemented, "this stream ends with its job: cancel that"),
            Some(Err(_)) | None => Violation::new(ErrorCode::JobNotFound, "no such stream"),
        }
    }

    /// Jobs that a session may cancel and that are not over.
    fn own_jobs(&self, session: SessionId) -> Vec<JobId> {
        let owned = self.sessions.get(session).map(|session| &session.owned);
        let goes_on = |id: &JobId| self.jobs.get(*id).is_some_and(|job| !job.is_over());
        owned.into_iter().flatten().copied().filter(goes_on).collect()
    }

    fn may_cancel(&self, session: SessionId, id: &WireId) -> Result<JobId, Violation> {
        let target = self.visible(session, id)?;
        let Some(job) = self.jobs.get(target) else {
            return Err(Violation::new(ErrorCode::JobNotFound, "no such job"));
        };
        let operates = self.sessions.get(session).is_some_and(|s| self.ctx.config.operators.contains(&s.principal));
        if !job.owners.contains(&session) && !operates {
            let why = "only the session that submitted the job may cancel it: resume it, or submit again with its key";
            return Err(Violation::new(ErrorCode::PermissionDenied, why));
        }
        if let JobState::Ended(_) = job.state {
            let mut details = Object::new();
            details.str("final_status", crate::wire::status_name(job.status()));
            let ended = Violation::new(ErrorCode::FailedPrecondition, "the job has ended already");
            return Err(ended.with_details(details.json()));
        }
        Ok(target)
    }

    fn on_watch(&mut self, conn: ConnId, session: SessionId, id: &WireId, watch: &Watch) -> Reply {
        match self.watch(conn, session, id, watch) {
            Ok(reply) => reply,
            Err(violation) => self.refused(conn, Concern::Watch, violation, id, &watch.job),
        }
    }

    fn watch(&mut self, conn: ConnId, session_id: SessionId, id: &WireId, watch: &Watch) -> Result<Reply, Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "no such job");
        let session = self.sessions.get(session_id).ok_or_else(gone)?;
        if !session.view.features.has(Feature::Subscribe) {
            return Err(Violation::invalid("watching jobs needs the feature `subscribe`, which was not negotiated"));
        }
        let takes_chunks = session.view.features.has(Feature::ResultChunk);
        let job_id = self.visible(session_id, &watch.job)?;
        let job = self.jobs.get(job_id).ok_or_else(gone)?;
        // Who gets the events, or is still to get the end, gets nothing twice.
        let already = job.watchers.contains(&session_id)
            || job.is_over() && session.index.holds_last_after(job_id, job.count(), session.cursor);
        let wants_history = watch.history.unwrap_or(watch.after.is_some()) && !already;
        let most = self.ctx.config.limits.watches_per_session;
        if !already && session.watched.len() >= most {
            let full = "this session watches too many jobs: unsubscribe from one first";
            return Err(Violation::exhausted("watches_per_session", BoundOf::Session, most as u64, full));
        }
        let from = self.replay_start(session_id, job_id, watch, wants_history);
        let gone_events = job.history.first() - 1;
        if wants_history && from < gone_events {
            return Err(self.history_lost(session_id, gone_events));
        }
        let reply = self.watching(job_id, id, from, wants_history).ok_or_else(gone)?;
        if !already {
            if !takes_chunks {
                // As far as it can be done: no watch is refused for it.
                let _ = self.put_result_together(job_id);
            }
            let (request, number) = self.name_request(session_id, job_id, id);
            self.note_joined(job_id, session_id, false, request, number);
        }
        self.answer(conn, reply.clone());
        if !already {
            self.begin_watch(session_id, job_id, from);
        }
        Ok(reply)
    }

    /// The job's own event number after which events are sent.
    fn replay_start(&self, session: SessionId, job_id: JobId, watch: &Watch, history: bool) -> u64 {
        let Some(job) = self.jobs.get(job_id) else {
            return 0;
        };
        if !history {
            return job.count();
        }
        let after = watch.after.unwrap_or(0);
        let in_submitter = self.sessions.get(session).is_some_and(|s| s.view.profile.counts_in_submitter());
        let submitter = self.sessions.get(job.submitter);
        match submitter {
            Some(submitter) if in_submitter => submitter.index.event_at_or_before(job_id, after, &self.jobs),
            Some(_) | None => after.min(job.count()),
        }
    }

    /// It is said from where on it can be had, to whoever counts as the job does.
    fn history_lost(&self, session: SessionId, gone: u64) -> Violation {
        let in_submitter = self.sessions.get(session).is_some_and(|s| s.view.profile.counts_in_submitter());
        if in_submitter {
            let lost = "the beginning of this job's history is no longer kept: ask from a later event";
            return Violation::new(ErrorCode::ResumeWindowExpired, lost);
        }
        let lost = alloc::format!("the first {gone} events of this job are no longer kept: ask for those after them");
        let mut details = Object::new();
        details.u64("from_event_seq", gone);
        Violation::new(ErrorCode::ResumeWindowExpired, lost).with_details(details.json())
    }

    fn watching(&self, job_id: JobId, request: &WireId, from: u64, replayed: bool) -> Option<Reply> {
        let job = self.jobs.get(job_id)?;
        Some(Reply::Watching(Watching {
            request: Some(request.clone()),
            job: job_id.into(),
            status: Some(job.status()),
            agent: job.agent.to_string(),
            lease: job.lease.clone(),
            parent: None,
            trace: Some(job.trace.clone()),
            from,
            replayed,
        }))
    }

    /// What a watch brings follows from the request for it: that, if it is a
    /// new one, and its number. Where there are too many, from the one before.
    fn name_request(&mut self, session: SessionId, id: JobId, request: &WireId) -> (Option<WireId>, u32) {
        let most = self.ctx.config.limits.requests_per_job;
        let requests = self.jobs.get(id).map(|job| &job.requests);
        let knows = requests.is_some_and(|requests| requests.number_of(session, request).is_some());
        if !knows && requests.is_some_and(|requests| requests.count() < most) {
            let number = self.note_request(session, id, request);
            return ((number > 0).then(|| request.clone()), number);
        }
        (None, requests.map_or(0, |requests| requests.latest(session)))
    }

    /// Numbers the history after `from` for a session, and what comes.
    fn begin_watch(&mut self, session_id: SessionId, job_id: JobId, from: u64) {
        let last = self.jobs.get(job_id).map_or(0, Job::count);
        let first = self.sessions.get(session_id).map_or(0, |session| session.index.head()) + 1;
        self.index_events(session_id, job_id, from + 1..=last, 0);
        if let Some(session) = self.sessions.get_mut(session_id).filter(|_| from < last) {
            session.begin_to_catch_up(first);
        }
        self.gate_numbers(session_id, first);
        if let Some(job) = self.jobs.get_mut(job_id).filter(|job| !job.is_over()) {
            job.watchers.push(session_id);
            if let Some(session) = self.sessions.get_mut(session_id) {
                session.watched.insert(job_id);
            }
        }
        self.ctx.observe(Notice::JobWatched { job: job_id, session: session_id });
    }

    fn on_unwatch(&mut self, conn: ConnId, session: SessionId, id: &WireId, job: &WireId) -> Option<Reply> {
        let target = match self.visible(session, job) {
            Ok(target) => target,
            Err(violation) => return Some(self.refused(conn, Concern::Job, violation, id, job)),
        };
        let watches = self.sessions.get(session).is_some_and(|session| session.watched.contains(&target));
        self.leave_job(target, session);
        if watches {
            self.note_left(target, session);
        }
        None
    }

    /// A session gets no more events of a job.
    pub(super) fn leave_job(&mut self, job_id: JobId, id: SessionId) {
        if let Some(job) = self.jobs.get_mut(job_id) {
            job.watchers.retain(|watcher| *watcher != id);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.watched.remove(&job_id);
            session.streams.remove(&job_id);
        }
        self.wake_if_paced_by(job_id, id);
    }
}

/// What makes two commands the same: whatever a client says in them, but for
/// what names the message itself.
fn command_fingerprint(header: &Header<'_>, request: &Request) -> [u8; 32] {
    let mut digest = Sha256::new()
        .chain_update(header.kind.as_bytes())
        .chain_update([0])
        .chain_update(request.job().map_or("", WireId::as_str))
        .chain_update([0])
        .chain_update(header.payload);
    let beside = [header.key.as_deref(), header.priority.as_deref(), header.extensions.map(|all| all.get())];
    for (tag, said) in (1..).zip(beside).filter_map(|(tag, said): (u8, _)| Some((tag, said?))) {
        // Lengths first, so that no two of them read the same.
        digest = digest.chain_update([tag]).chain_update((said.len() as u64).to_be_bytes()).chain_update(said);
    }
    digest.finalize().into()
}
