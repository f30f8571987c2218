//! Commands about jobs: their ids are executed once; cancelling, watching
//! and leaving off (1.1 §7.4, §7.6).

use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, JobId, SessionId, WireId};
use crate::json::Object;
use crate::model::feature::Feature;
use crate::model::reply::{Refusal, RefusedKind, Reply, Subject, Watching};
use crate::model::request::{Cancel, Command, Replay, Subscribe, Target, Watch};
use crate::runtime::Runtime;
use crate::runtime::authority::{self, Act, Reason, Who};
use crate::runtime::connection::{Conn, Content};
use crate::runtime::delivery::{Feed, WatchPlan};
use crate::runtime::io::Notice;
use crate::wire::envelope::Header;

impl Runtime {
    /// Runs a command, or repeats the answer to it.
    pub(in crate::runtime) fn on_command(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: WireId,
        command: Command,
        header: &Header<'_>,
    ) {
        let fingerprint = command_fingerprint(header, &command);
        self.sessions.note_command(session);
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
        let answer = match command {
            Command::Submit(submit, invocation) => {
                Some(self.on_submit(conn, session, &id, (&submit, &invocation), fingerprint))
            }
            Command::Cancel(cancel) => Some(self.on_cancel(conn, session, &id, &cancel)),
            Command::Watch(watch) => Some(self.on_watch(conn, session, &id, &watch)),
            Command::Unwatch { job } => self.on_unwatch(conn, session, &id, &job),
            Command::Subscribe(subscribe) => Some(self.on_subscribe(conn, session, &id, &subscribe, fingerprint)),
            Command::Unsubscribe { subscription } => Some(self.on_unsubscribe(conn, session, &id, &subscription)),
        };
        let bound = self.ctx.config.limits.seen_ids_per_session;
        self.sessions.remember(session, id, (fingerprint, answer), bound);
    }

    /// Repeats the answer to a command. An acceptance that is a numbered
    /// frame is one again, with what follows from it.
    fn answer_again(&mut self, conn: ConnId, session: SessionId, id: &WireId, answer: Reply) {
        let numbered = self.sessions.get(session).is_some_and(|session| session.view().numbers(&answer));
        let job = if let Reply::Accepted(accepted) = &answer { JobId::parse(accepted.job.as_str()) } else { None };
        match job.filter(|_| numbered) {
            Some(job) => {
                if let Err(violation) = self.rejoin(conn, session, id, job) {
                    self.refuse(conn, Refusal::of(RefusedKind::Submit, violation, Some(id.clone())));
                }
            }
            None => self.answer(conn, answer),
        }
    }

    /// The job of this id, if a session may do that to it. Unknown and foreign
    /// ones look alike.
    pub(in crate::runtime) fn permitted(&self, session: SessionId, act: Act, id: &WireId) -> Result<JobId, Violation> {
        let known = JobId::parse(id.as_str()).and_then(|id| Some((id, self.jobs.get(id)?)));
        let (id, job) = known.filter(|(_, job)| !job.is_expired()).ok_or(Reason::Unknown)?;
        let principal = self.sessions.get(session).ok_or(Reason::Unknown)?.principal();
        let owns = self.delivery.audience(id).is_some_and(|audience| audience.owners().contains(&session));
        authority::may(&self.ctx.config, Who { principal, owns }, act, job)?;
        Ok(id)
    }

    pub(in crate::runtime) fn refused_of(
        &mut self,
        conn: ConnId,
        kind: RefusedKind,
        violation: Violation,
        id: &WireId,
    ) -> Reply {
        let refusal = Refusal::of(kind, violation, Some(id.clone()));
        self.refuse(conn, refusal.clone());
        Reply::Refused(refusal)
    }

    fn refused(&mut self, conn: ConnId, kind: RefusedKind, violation: Violation, id: &WireId, job: &WireId) -> Reply {
        let refusal = Refusal { job: Some(job.clone()), ..Refusal::of(kind, violation, Some(id.clone())) };
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
            Err(violation) => return self.refused(conn, RefusedKind::Cancel, violation, id, cancel.target.id()),
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
            self.jobs.note_cancel(&mut self.ctx, *job, reason);
        }
        self.answer(conn, taken.clone());
        for job in jobs {
            self.cancel_job(job, reason, grace);
        }
        if let Target::Session(_) = cancel.target {
            self.sessions.evict(&mut self.ctx, session, ErrorCode::Cancelled, "cancelled");
            self.carry();
        }
        taken
    }

    /// A stream lives and ends with its job.
    fn why_no_stream(&self, session: SessionId, stream: &WireId) -> Violation {
        let job = stream.as_str().strip_prefix("str_").and_then(|rest| WireId::new(&alloc::format!("job_{rest}")));
        match job.map(|job| self.permitted(session, Act::See, &job)) {
            Some(Ok(_)) => Violation::new(ErrorCode::Unimplemented, "this stream ends with its job: cancel that"),
            Some(Err(_)) | None => Violation::new(ErrorCode::JobNotFound, "no such stream"),
        }
    }

    /// Jobs that a session may cancel and that are not over.
    fn own_jobs(&self, session: SessionId) -> Vec<JobId> {
        let owned = self.delivery.feed(session).map(Feed::owned);
        let goes_on = |id: &JobId| self.jobs.get(*id).is_some_and(|job| !job.is_terminal());
        owned.into_iter().flatten().copied().filter(goes_on).collect()
    }

    fn may_cancel(&self, session: SessionId, id: &WireId) -> Result<JobId, Violation> {
        let target = self.permitted(session, Act::Cancel, id)?;
        if let Some(job) = self.jobs.get(target).filter(|job| job.is_terminal()) {
            let mut details = Object::new();
            details.str("final_status", job.status().as_str());
            let ended = Violation::new(ErrorCode::FailedPrecondition, "the job has ended already");
            return Err(ended.with_details(details.json()));
        }
        Ok(target)
    }

    fn on_watch(&mut self, conn: ConnId, session: SessionId, id: &WireId, watch: &Watch) -> Reply {
        match self.watch(conn, session, id, watch) {
            Ok(reply) => reply,
            Err(violation) => self.refused(conn, RefusedKind::Watch, violation, id, &watch.job),
        }
    }

    fn watch(&mut self, conn: ConnId, session_id: SessionId, id: &WireId, watch: &Watch) -> Result<Reply, Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "no such job");
        let session = self.sessions.get(session_id).ok_or_else(gone)?;
        if !session.view().features.has(Feature::WatchJobs) {
            return Err(Violation::invalid("watching jobs needs the feature `subscribe`, which was not negotiated"));
        }
        let takes_chunks = session.view().features.has(Feature::ResultChunk);
        let job_id = self.permitted(session_id, Act::See, &watch.job)?;
        let plan = self.delivery.plan_watch(&self.ctx, &self.jobs, session_id, job_id, watch)?;
        let reply = self.watching(job_id, id, plan).ok_or_else(gone)?;
        if plan.already {
            self.answer(conn, reply.clone());
            return Ok(reply);
        }
        if !takes_chunks {
            // As far as it can be done: no watch is refused for it.
            let _ = self.put_result_together(job_id);
        }
        self.delivery.note_watch(&mut self.ctx, session_id, job_id, id);
        self.answer(conn, reply.clone());
        self.delivery.begin_watch(&mut self.ctx, &self.jobs, session_id, job_id, plan.from);
        self.ctx.observe(Notice::JobWatched { job: job_id, session: session_id });
        self.carry();
        Ok(reply)
    }

    fn watching(&self, job_id: JobId, request: &WireId, plan: WatchPlan) -> Option<Reply> {
        let job = self.jobs.get(job_id)?;
        Some(Reply::Watching(Watching {
            request: Some(request.clone()),
            job: job_id.into(),
            status: Some(job.status()),
            agent: job.spec().agent.to_string(),
            lease: job.spec().lease.clone(),
            parent: None,
            trace: Some(job.spec().trace.clone()),
            from: plan.from,
            replayed: plan.replayed,
        }))
    }

    fn on_subscribe(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: &WireId,
        subscribe: &Subscribe,
        command: [u8; 32],
    ) -> Reply {
        let subscribed = self.delivery.subscribe(&mut self.ctx, &self.jobs, session, subscribe, (id, command));
        let (subscription, new) = match subscribed {
            Ok(subscribed) => subscribed,
            Err(violation) => return self.refused_of(conn, RefusedKind::Frame, violation, id),
        };
        let reply = Reply::Subscribed { subscription: subscription.into(), request: Some(id.clone()) };
        self.answer(conn, reply.clone());
        self.delivery.begin_subscription(&mut self.ctx, &self.jobs, session, new);
        self.carry();
        reply
    }

    fn on_unsubscribe(&mut self, conn: ConnId, session: SessionId, id: &WireId, named: &WireId) -> Reply {
        let Some(number) = self.delivery.subscription_named(session, named) else {
            let unknown = Violation::new(ErrorCode::JobNotFound, "no such subscription");
            return self.refused_of(conn, RefusedKind::Frame, unknown, id);
        };
        let closed = Reply::Unsubscribed {
            subscription: named.clone(),
            code: ErrorCode::Cancelled,
            reason: "unsubscribed".to_string(),
            request: Some(id.clone()),
        };
        self.delivery.unsubscribe(&mut self.ctx, session, number);
        self.answer(conn, closed.clone());
        closed
    }

    pub(in crate::runtime) fn on_replay(
        &mut self,
        conn: ConnId,
        session: SessionId,
        named: Option<&WireId>,
        id: WireId,
        asked: &Replay,
    ) {
        let busy = self.connections.get(conn).is_some_and(Conn::is_replaying);
        let planned = match busy {
            true => Err(Violation::invalid("a replay is under way: wait for its end")),
            false => self.delivery.plan_replay(session, named, &id, asked),
        };
        match planned {
            Ok(replay) => self.answer(conn, Content::Replay(replay)),
            Err(violation) => self.refuse(conn, Refusal::of(RefusedKind::Frame, violation, Some(id))),
        }
    }

    /// How often something may be said in a stream of a job: the session that
    /// asked for the job may say so (RFC §11.2).
    pub(in crate::runtime) fn on_pace(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: WireId,
        stream: &WireId,
        every: Option<Duration>,
    ) {
        match self.paced_job(session, stream) {
            Ok(job_id) => {
                self.jobs.set_pace(&mut self.ctx, job_id, every);
                self.return_credit(job_id);
            }
            Err(violation) => self.refuse(conn, Refusal::of(RefusedKind::Frame, violation, Some(id))),
        }
    }

    fn paced_job(&self, session: SessionId, stream: &WireId) -> Result<JobId, Violation> {
        let unknown = || Violation::new(ErrorCode::JobNotFound, "no such stream");
        let job = stream.as_str().strip_prefix("str_").and_then(|rest| WireId::new(&alloc::format!("job_{rest}")));
        let job = job.ok_or_else(unknown)?;
        self.permitted(session, Act::See, &job).map_err(|_| unknown())?;
        self.permitted(session, Act::Pace, &job)
    }

    fn on_unwatch(&mut self, conn: ConnId, session: SessionId, id: &WireId, job: &WireId) -> Option<Reply> {
        let target = match self.permitted(session, Act::See, job) {
            Ok(target) => target,
            Err(violation) => return Some(self.refused(conn, RefusedKind::Job, violation, id, job)),
        };
        let watches = self.delivery.feed(session).is_some_and(|feed| feed.watched().contains(&target));
        self.delivery.leave(&mut self.ctx, target, session);
        self.carry();
        if watches {
            self.delivery.note_left(&mut self.ctx, target, session);
        }
        None
    }
}

/// What makes two commands the same: whatever a client says in them, but for
/// what names the message itself.
fn command_fingerprint(header: &Header<'_>, command: &Command) -> [u8; 32] {
    let mut digest = Sha256::new()
        .chain_update(header.kind.as_bytes())
        .chain_update([0])
        .chain_update(command.job().map_or("", WireId::as_str))
        .chain_update([0])
        .chain_update(header.payload);
    let beside = [header.key.as_deref(), header.priority.as_deref(), header.extensions.map(|all| all.get())];
    for (tag, said) in (1..).zip(beside).filter_map(|(tag, said): (u8, _)| Some((tag, said?))) {
        // Lengths first, so that no two of them read the same.
        digest = digest.chain_update([tag]).chain_update((said.len() as u64).to_be_bytes()).chain_update(said);
    }
    digest.finalize().into()
}
