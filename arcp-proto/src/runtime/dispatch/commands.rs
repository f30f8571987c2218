//! Commands: each id is executed once. Cancelling, watching and unwatching jobs (1.1 §7.4, §7.6).

use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use sha2::{Digest as _, Sha256};

use super::requests::RequestHandler;
use super::{
    answers, artifacts, audit, checkpoints, handoff, interrupts, job_tokens, policy, schedules, streams, watches,
};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, SessionId, SubscriptionId, WireId};
use crate::json::Object;
use crate::model::feature::Feature;
use crate::model::reply::{CommandReply, Refusal, RefusedKind, Reply, Subject};
use crate::model::request::{Cancel, Command, Replay as ReplayRequest, Subscribe, Target};
use crate::model::session::Eviction;
use crate::runtime::Runtime;
use crate::runtime::authority::{self, Act, Reason};
use crate::runtime::connection::{Conn, Content};
use crate::runtime::delivery::Replay;
use crate::runtime::session::{Outcome, Session};
use crate::wire::envelope::Header;

/// The reason for which a session is taken from its client, if the operator gives none.
pub(in crate::runtime) const TAKEN: &str = "an operator ended the session";

/// The reply to an eviction.
const EVICTED: &str = "evicted";

impl RequestHandler<'_> {
    /// Executes a command, or repeats its answer.
    pub(super) fn on_command(&mut self, command: Command, header: &Header<'_>) {
        let fingerprint = command_fingerprint(header, &command);
        self.runtime.sessions.note_command(self.session);
        let before = (self.runtime.ctx.log.last(), audit::concerned(self, &command));
        if let Some((known, outcome)) = self.runtime.sessions.seen(self.session, &self.id).cloned() {
            if known != fingerprint {
                let reused = Violation::invalid("this message id was used for a different message");
                return self.runtime.refuse(self.conn, Refusal::about(Subject::from_header(header), reused));
            }
            if let Err(violation) = self.answer_again(&command, outcome) {
                self.refuse_command(&command, violation);
            }
            return;
        }
        let done = match &command {
            Command::Submit(submit, invocation) => match self.on_submit((submit, invocation), fingerprint) {
                Ok(None) => return,
                Ok(Some(accepted)) => Ok(accepted),
                Err(violation) => {
                    policy::note_refused(self.runtime, self.session, submit, &violation);
                    Err(violation)
                }
            },
            Command::Cancel(cancel) => self.on_cancel(cancel),
            Command::Watch(watch) => watches::on_watch(self, watch),
            Command::Unwatch { job } => self.on_unwatch(job),
            Command::Subscribe(subscribe) => self.on_subscribe(subscribe, fingerprint),
            Command::Unsubscribe { subscription } => self.on_unsubscribe(subscription),
            Command::HandOver(wish) => handoff::on_hand_over(self, wish),
            Command::Answer(answering) => match answers::on_answer(self, answering) {
                Ok(None) => return,
                Ok(Some(done)) => Ok(done),
                Err(violation) => Err(violation),
            },
            Command::Evict(eviction) => self.on_evict(eviction),
            Command::Interrupt(interrupt) => interrupts::on_interrupt(self, interrupt),
            Command::Stream(request) => streams::on_said(self, request),
            Command::PutArtifact(put) => match artifacts::on_put(self, put) {
                Ok(None) => return,
                Ok(Some(kept)) => Ok(kept),
                Err(violation) => Err(violation),
            },
            Command::KeepParts(terms) => match artifacts::on_keep_parts(self, terms) {
                Ok(None) => return,
                Ok(Some(kept)) => Ok(kept),
                Err(violation) => Err(violation),
            },
            Command::ReleaseArtifact { id } => artifacts::on_release(self, id),
            Command::Schedule(wish) => match schedules::on_schedule(self, wish) {
                Ok(None) => return,
                Ok(Some(kept)) => Ok(kept),
                Err(violation) => Err(violation),
            },
            Command::ChangeSchedule(change) => schedules::on_change(self, change),
            Command::CreateCheckpoint(wish) => checkpoints::on_create(self, wish),
            Command::IssueToken { job } => job_tokens::on_issue(self, job),
            Command::ExchangeToken(wish) => job_tokens::on_exchange(self, wish),
            Command::RestoreCheckpoint(wish) => match checkpoints::on_restore(self, wish, fingerprint) {
                Ok(None) => return,
                Ok(Some(accepted)) => Ok(accepted),
                Err(violation) => Err(violation),
            },
        };
        audit::note(self, &command, &done, before);
        let outcome = done.unwrap_or_else(|violation| {
            self.refuse_command(&command, violation.clone());
            Outcome::Refused(violation)
        });
        let Runtime { ctx, sessions, .. } = &mut *self.runtime;
        sessions.remember(ctx, self.session, self.id.clone(), (fingerprint, outcome));
    }

    /// Answers a repeated command, from its outcome and what still exists of that.
    ///
    /// # Errors
    ///
    /// Why the command was refused, or that its job is gone.
    fn answer_again(&mut self, command: &Command, outcome: Outcome) -> Result<(), Violation> {
        match outcome {
            Outcome::Refused(violation) => Err(violation),
            Outcome::Accepted(job) => self.accept_again(job),
            Outcome::Watching { job, from, replayed } => {
                self.permitted(Act::See, &job.into())?;
                let job = self.runtime.jobs.get(job).ok_or_else(|| Reason::unknown(&self.runtime.ctx.config))?;
                let watching = job.watching(&self.id, from, replayed);
                self.answer(Reply::Command(CommandReply::Watching(watching)));
                Ok(())
            }
            Outcome::Subscribed(subscription) => {
                self.answer(self.subscribed(subscription));
                Ok(())
            }
            Outcome::Kept(id) => artifacts::answer_again(self, &id),
            Outcome::Scheduled(id) => {
                schedules::answer_again(self, id);
                Ok(())
            }
            Outcome::Done => {
                match command {
                    Command::Cancel(cancel) => self.answer(self.cancel_taken(cancel)),
                    Command::Unsubscribe { subscription } => self.answer(self.unsubscribed(subscription)),
                    Command::Answer(_) => self.answer(self.done(answers::DONE)),
                    Command::Evict(_) => self.answer(self.done(EVICTED)),
                    Command::Interrupt(_) => self.answer(self.done(interrupts::DONE)),
                    Command::Stream(_) => self.answer(self.done(streams::DONE)),
                    Command::HandOver(wish) => self.answer(self.done(handoff::done(wish))),
                    Command::Unwatch { .. } => {}
                    Command::ReleaseArtifact { .. } => self.answer(self.done(artifacts::DONE)),
                    Command::ChangeSchedule(change) => self.answer(self.done(schedules::changed(change))),
                    Command::CreateCheckpoint(wish) => checkpoints::create_again(self, wish)?,
                    Command::IssueToken { job } => drop(job_tokens::on_issue(self, job)?),
                    Command::Submit(..)
                    | Command::Watch(_)
                    | Command::ExchangeToken(_)
                    | Command::Subscribe(_)
                    | Command::PutArtifact(_)
                    | Command::KeepParts(_)
                    | Command::Schedule(_)
                    | Command::RestoreCheckpoint(_) => {
                        debug_assert!(false, "{} made something that has a name", self.id);
                    }
                }
                Ok(())
            }
        }
    }

    /// Repeats an acceptance. If it is a numbered frame, it is numbered again, with the frames that
    /// follow it.
    fn accept_again(&mut self, id: JobId) -> Result<(), Violation> {
        let Runtime { sessions, jobs, .. } = &*self.runtime;
        let gone = || {
            let why = "this message was executed before, and its job is no longer kept: use a new id to run it again";
            Violation::new(ErrorCode::JobNotFound, why)
        };
        let principal = sessions.get(self.session).map(Session::principal);
        let own = jobs.get(id).filter(|job| Some(&job.spec().principal) == principal);
        let accepted = own.ok_or_else(gone)?.accepted(Some(&self.id));
        let accepted = jobs.credentials.attach(id, self.session, accepted);
        if sessions.get(self.session).is_some_and(|session| session.view().numbers(&accepted)) {
            return self.rejoin(id);
        }
        self.answer(accepted);
        Ok(())
    }

    /// Refuses a command.
    fn refuse_command(&mut self, command: &Command, violation: Violation) {
        let (kind, job, trace) = match command {
            Command::Submit(submit, _) => (RefusedKind::Submit, None, submit.trace.as_ref()),
            Command::Cancel(cancel) => (RefusedKind::Cancel, Some(cancel.target.id()), None),
            Command::Watch(watch) => (RefusedKind::Watch, Some(&watch.job), None),
            Command::ExchangeToken(wish) => (RefusedKind::Watch, Some(wish.token.job()), None),
            Command::IssueToken { job } => (RefusedKind::Frame, Some(job), None),
            Command::Unwatch { job } => (RefusedKind::Job, Some(job), None),
            Command::CreateCheckpoint(wish) => (RefusedKind::Frame, Some(&wish.job), None),
            Command::RestoreCheckpoint(_) => (RefusedKind::Submit, None, None),
            Command::Subscribe(_)
            | Command::Unsubscribe { .. }
            | Command::Answer(_)
            | Command::Evict(_)
            | Command::HandOver(_)
            | Command::PutArtifact(_)
            | Command::KeepParts(_)
            | Command::ReleaseArtifact { .. }
            | Command::Schedule(_)
            | Command::ChangeSchedule(_) => (RefusedKind::Frame, None, None),
            Command::Interrupt(interrupt) => (RefusedKind::Frame, interrupt.target.job(), None),
            Command::Stream(request) => (RefusedKind::Frame, Some(&request.job), None),
        };
        let subject = Subject { kind, id: Some(self.id.clone()), job: job.cloned(), trace: trace.cloned() };
        self.runtime.refuse(self.conn, Refusal::about(subject, violation));
    }

    /// The job with this id, if the session may do this to it. Unknown and foreign jobs look alike.
    pub(super) fn permitted(&self, act: Act, id: &WireId) -> Result<JobId, Violation> {
        let Runtime { ctx, sessions, jobs, delivery, .. } = &*self.runtime;
        let known = JobId::parse(id.as_str()).and_then(|id| Some((id, jobs.get(id)?)));
        let (id, job) = known.filter(|(_, job)| !job.is_expired()).ok_or_else(|| Reason::unknown(&ctx.config))?;
        let asking = sessions.get(self.session).ok_or_else(|| Reason::unknown(&ctx.config))?;
        let owns = delivery.audiences.get(id).is_some_and(|audience| audience.owners().contains(&self.session));
        authority::may(&ctx.config, asking.who(owns), act, job)?;
        Ok(id)
    }

    /// How long the agents of cancelled jobs may take to stop.
    fn cancel_grace(&self, cancel: &Cancel) -> Duration {
        cancel.deadline.unwrap_or(self.runtime.ctx.config.timing.cancel_grace)
    }

    pub(super) fn cancel_taken(&self, cancel: &Cancel) -> Reply {
        Reply::Command(CommandReply::CancelTaken {
            target: cancel.target.clone(),
            reason: cancel.reason.clone(),
            deadline_ms: u64::try_from(self.cancel_grace(cancel).as_millis()).unwrap_or(u64::MAX),
            request: Some(self.id.clone()),
        })
    }

    fn on_cancel(&mut self, cancel: &Cancel) -> Result<Outcome, Violation> {
        if let Some(schedule) = cancel.target.job().and_then(|id| schedules::find(self, id)) {
            schedules::end(self, schedule)?;
            self.answer(self.cancel_taken(cancel));
            return Ok(Outcome::Done);
        }
        if let Target::Stream(stream) = &cancel.target {
            return streams::on_cancel(self, cancel, stream);
        }
        let jobs = self.to_cancel(&cancel.target)?;
        let grace = self.cancel_grace(cancel);
        let reason = cancel.reason.as_deref();
        for job in &jobs {
            self.runtime.jobs.note_cancel(&mut self.runtime.ctx, *job, reason);
        }
        // The acknowledgement comes before the terminal.
        self.answer(self.cancel_taken(cancel));
        for job in jobs {
            self.runtime.cancel_job(job, reason, grace);
        }
        if let Target::Session(_) = cancel.target {
            self.runtime.sessions.evict(&mut self.runtime.ctx, self.session, ErrorCode::Cancelled, "cancelled");
            self.runtime.carry();
        }
        Ok(Outcome::Done)
    }

    /// The jobs that a cancel of this target affects.
    fn to_cancel(&self, target: &Target) -> Result<Vec<JobId>, Violation> {
        match target {
            Target::Job(job) => self.may_cancel(job).map(|job| alloc::vec![job]),
            Target::Stream(_) => Err(streams::none()),
            Target::Session(named) if named.as_str() == self.session.to_string() => Ok(self.own_jobs()),
            Target::Session(_) => {
                Err(Violation::new(ErrorCode::JobNotFound, "only this session can be cancelled here"))
            }
        }
    }

    /// Unfinished jobs that the session may cancel.
    fn own_jobs(&self) -> Vec<JobId> {
        let Runtime { jobs, delivery, .. } = &*self.runtime;
        let goes_on = |id: &JobId| jobs.get(*id).is_some_and(|job| !job.is_terminal());
        delivery.audiences.owned(self.session).filter(goes_on).collect()
    }

    fn may_cancel(&self, id: &WireId) -> Result<JobId, Violation> {
        let target = self.permitted(Act::Cancel, id)?;
        if let Some(job) = self.runtime.jobs.get(target).filter(|job| job.is_terminal()) {
            let mut details = Object::new();
            details.str("final_status", job.status().as_str());
            let ended = match self.runtime.jobs.departures.gone(target) {
                None => "the job has ended already".into(),
                Some(to) => {
                    to.write(&mut details);
                    let (runtime, job) = (&to.runtime, &to.job);
                    alloc::format!("the job was handed over to the runtime `{runtime}`: cancel {job} there").into()
                }
            };
            let ended: Violation = Violation { message: ended, ..Violation::new(ErrorCode::FailedPrecondition, "") };
            return Err(ended.with_details(details.json()));
        }
        Ok(target)
    }

    fn on_unwatch(&mut self, job: &WireId) -> Result<Outcome, Violation> {
        let target = self.permitted(Act::See, job)?;
        let Runtime { ctx, delivery, .. } = &mut *self.runtime;
        let watches = delivery.audiences.is_watched_by(self.session, target);
        delivery.leave(ctx, self.session, target);
        self.runtime.carry();
        if watches {
            let Runtime { ctx, delivery, .. } = &mut *self.runtime;
            delivery.audiences.note_left(ctx, self.session, target);
        }
        Ok(Outcome::Done)
    }

    fn subscribed(&self, subscription: SubscriptionId) -> Reply {
        let request = Some(self.id.clone());
        Reply::Command(CommandReply::Subscribed { subscription: subscription.into(), request })
    }

    fn on_subscribe(&mut self, subscribe: &Subscribe, command: [u8; 32]) -> Result<Outcome, Violation> {
        let Runtime { ctx, jobs, delivery, .. } = &mut *self.runtime;
        let (subscription, new) = delivery.subscriptions.subscribe(
            ctx,
            (jobs, &delivery.feeds),
            self.session,
            subscribe,
            (&self.id, command),
        )?;
        self.answer(self.subscribed(subscription));
        let Runtime { ctx, jobs, delivery, .. } = &mut *self.runtime;
        delivery.begin_subscription(ctx, jobs, self.session, new);
        self.runtime.carry();
        Ok(Outcome::Subscribed(subscription))
    }

    fn unsubscribed(&self, named: &WireId) -> Reply {
        Reply::Command(CommandReply::Unsubscribed {
            subscription: named.clone(),
            code: ErrorCode::Cancelled,
            reason: "unsubscribed".to_string(),
            request: Some(self.id.clone()),
        })
    }

    fn on_unsubscribe(&mut self, named: &WireId) -> Result<Outcome, Violation> {
        let unknown = || Violation::new(ErrorCode::JobNotFound, "no such subscription");
        let number = self.runtime.delivery.subscriptions.named(self.session, named).ok_or_else(unknown)?;
        let Runtime { ctx, delivery, .. } = &mut *self.runtime;
        delivery.unsubscribe(ctx, self.session, number);
        self.answer(self.unsubscribed(named));
        Ok(Outcome::Done)
    }

    /// Takes a session from its client; it may be this one.
    fn on_evict(&mut self, eviction: &Eviction) -> Result<Outcome, Violation> {
        let Runtime { ctx, sessions, .. } = &*self.runtime;
        let unknown = || Violation::new(ErrorCode::JobNotFound, "no such session is here");
        let asking = sessions.get(self.session).ok_or_else(unknown)?;
        if !asking.view().features.has(Feature::Sessions) {
            return Err(Violation::invalid("taking sessions needs the feature `sessions`, which was not negotiated"));
        }
        authority::may_evict(&ctx.config, asking.principal())?;
        let id = SessionId::parse(eviction.session.as_str()).ok_or_else(unknown)?;
        sessions.get(id).filter(|session| session.is_recorded()).ok_or_else(unknown)?;
        // If the session is this one, its client needs the answer first.
        self.answer(self.done(EVICTED));
        let reason = eviction.reason.as_deref().unwrap_or(TAKEN);
        self.runtime.sessions.evict(&mut self.runtime.ctx, id, ErrorCode::Cancelled, reason);
        self.runtime.carry();
        Ok(Outcome::Done)
    }

    /// Begins a replay. `named`: the session that the request names.
    pub(super) fn on_replay(&mut self, named: Option<&WireId>, asked: &ReplayRequest) {
        let busy = self.runtime.connections.get(self.conn).is_some_and(Conn::is_replaying);
        let planned = match busy {
            true => Err(Violation::invalid("a replay is under way: wait for its end")),
            false => {
                let parts = (&self.runtime.delivery.feeds, &self.runtime.jobs);
                Replay::new(parts, self.session, named, &self.id, asked)
            }
        };
        match planned {
            Ok(replay) => self.answer(Content::Replay(replay)),
            Err(violation) => self.refuse(RefusedKind::Frame, violation),
        }
    }
}

/// A digest by which repeated commands are recognised: of all that a client says, except what
/// identifies the message.
fn command_fingerprint(header: &Header<'_>, command: &Command) -> [u8; 32] {
    let mut digest = Sha256::new()
        .chain_update(header.kind.as_bytes())
        .chain_update([0])
        .chain_update(command.job().map_or("", WireId::as_str))
        .chain_update([0])
        .chain_update(header.payload);
    let beside = [header.key.as_deref(), header.priority.as_deref(), header.extensions];
    for (tag, said) in (1..).zip(beside).filter_map(|(tag, said): (u8, _)| Some((tag, said?))) {
        // With tag and length, so that no two combinations have the same digest.
        digest = digest.chain_update([tag]).chain_update((said.len() as u64).to_be_bytes()).chain_update(said);
    }
    digest.finalize().into()
}
