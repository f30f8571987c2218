//! Restores the records of an earlier run, in order, and goes on from there once there are no more.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::policy;
use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::runtime::Runtime;
use crate::runtime::artifact::Artifacts;
use crate::runtime::context::Context;
use crate::runtime::delivery::{Delivery, dismiss, hand_over, subscription_id};
use crate::runtime::io::{EventRecord, JobRecord, Record, StepRecord};
use crate::runtime::job::{Job, Jobs, account_of, checkpoint, departure, grants, handoff, lease, prompt, provisioning};
use crate::runtime::schedule::Schedules;
use crate::runtime::session::{Executed, KeptSession, Outcome, Sessions, restore_closed};
use crate::runtime::token_records::TokenRecord;
use crate::runtime::workflow::Workflows;
use crate::time::UtcMs;

/// Passes the records of an earlier run to the parts.
pub(super) struct Restorer<'r> {
    ctx: &'r mut Context,
    sessions: &'r mut Sessions,
    jobs: &'r mut Jobs,
    delivery: &'r mut Delivery,
    artifacts: &'r mut Artifacts,
    schedules: &'r mut Schedules,
    workflows: &'r mut Workflows,
}

impl Runtime {
    pub(in crate::runtime) fn on_restore(&mut self, at: LogPos, record: Record) {
        let Runtime { ctx, sessions, jobs, delivery, artifacts, schedules, workflows, .. } = self;
        let restorer = Restorer { ctx, sessions, jobs, delivery, artifacts, schedules, workflows };
        if let Some((job, gone)) = restorer.on_record(at, record) {
            self.retention().let_go(job, &gone);
        }
    }

    /// The store has no more records: sessions can be resumed, queued jobs go on, and jobs that ran
    /// end or are restarted.
    pub(in crate::runtime) fn on_restored(&mut self, last: LogPos) {
        let Runtime { ctx, sessions, jobs, delivery, artifacts, schedules, workflows, .. } = self;
        (Restorer { ctx, sessions, jobs, delivery, artifacts, schedules, workflows }).on_restored(last);
        provisioning::on_restored(&mut self.jobs, &mut self.ctx);
        for id in self.jobs.table().ids().collect::<Vec<JobId>>() {
            if self.jobs.get(id).is_some_and(|job| !job.is_terminal()) {
                self.delivery.subscriptions.show(&self.ctx, (&self.jobs, &self.delivery.feeds), id);
            }
            self.jobs.on_restored(&mut self.ctx, id);
            self.carry();
        }
        let Runtime { ctx, jobs, schedules, .. } = self;
        schedules.on_restored(ctx, |job| jobs.get(job).is_some_and(|job| !job.is_terminal()));
        for principal in self.jobs.table().principals() {
            while self.retention().bound_ended(&principal) {
                self.carry();
            }
        }
    }
}

impl Restorer<'_> {
    /// Takes the next record over; gives the job that is forgotten with it.
    fn on_record(mut self, at: LogPos, record: Record) -> Option<(JobId, Box<Job>)> {
        self.ctx.log.restore(at);
        self.raise_time(&record);
        match record {
            Record::SessionOpened {
                session,
                principal,
                anonymous: _,
                scopes,
                roles,
                ceiling,
                view,
                token,
                extensions,
            } => {
                let kept =
                    KeptSession { principal: principal.clone(), scopes, roles, ceiling, view, token, extensions };
                let account = self.sessions.restore(self.ctx, session, kept);
                self.delivery.open(session, principal, view, &account);
                policy::view_anew(self.sessions, self.delivery, session);
            }
            Record::TokenRotated { session, token } => self.sessions.restore_token(session, token),
            Record::SessionClosed { session } => restore_closed(self.sessions, session),
            Record::SessionEnded { session } => {
                self.sessions.remove(self.ctx, self.jobs, session);
            }
            Record::JobAccepted(record) => self.restore_job(at, Arc::unwrap_or_clone(record)),
            Record::JobEvent { job, event } => self.restore_event(job, at, event),
            Record::JobHistory { job, gone, classes, bytes, started } => {
                self.jobs.table_mut().restore_history(job, gone, (&classes, bytes), started);
            }
            Record::HistoryTrimmed { job, upto, started, streams } => {
                self.jobs.table_mut().restore_trimmed(job, upto, started, &streams);
            }
            Record::Subscribed { session, number, filter, request, command } => {
                self.delivery.restore_subscription(self.ctx, session, number, &filter, at);
                let outcome = Outcome::Subscribed(subscription_id(session, number));
                self.restore_seen(None, session, request, (command, outcome));
            }
            Record::Unsubscribed { session, number, last, .. } => {
                self.delivery.restore_unsubscribed(session, number, last);
            }
            Record::Checkpointed { job, state, kept } => {
                checkpoint::restore(self.jobs, self.ctx, job, (at, kept), state);
            }
            Record::CheckpointsForgotten { job, entries } => checkpoint::restore_forgotten(self.jobs, job, &entries),
            Record::JobRestarted { job } => self.jobs.table_mut().restore_restart(job),
            Record::BudgetLeft { job, left, raised } => {
                lease::restore_budget_left(self.jobs.table_mut(), job, left, raised);
            }
            Record::Prompted { job, prompts } => prompt::restore(self.jobs.table_mut(), job, *prompts),
            Record::GrantsProlonged { job, until } => grants::restore_prolonged(self.jobs.table_mut(), job, until),
            Record::CancelAsked { job, reason } => self.jobs.table_mut().restore_cancel(job, reason),
            Record::Joined { job, session, owner, request, number, undoes: _ } => {
                if !owner && request.is_none() {
                    self.delivery.audiences.replace_join(session, job, at);
                }
                self.restore_reader(job, session, owner, number, request);
            }
            Record::Left { job, session, undoes: _ } => {
                self.delivery.leave(self.ctx, session, job);
                self.delivery.audiences.replace_join(session, job, at);
            }
            Record::Numbered { session, run } => {
                self.delivery.restore_numbers(self.ctx, self.jobs, session, run);
            }
            Record::Released { session, upto } => self.delivery.feeds.restore_released(self.ctx, session, upto),
            Record::KeyKept { job, principal, key, until } => {
                self.jobs.keys_mut().restore(self.ctx, &principal, key, (job, until), true);
            }
            Record::HandedOver { job, principal, session, by } => {
                self.restore_handed_over(job, (&principal, session), by.as_ref());
            }
            Record::TokensIssued { job, tokens } => self.restore_tokens(job, tokens),
            Record::Departing { job, departure } => departure::restore(self.jobs, self.ctx, job, *departure),
            Record::Audited(entry) => self.ctx.trail.restore(at, &entry),
            Record::AuditForgotten { entries } => self.ctx.trail.restore_forgotten(&entries),
            Record::KeysExpired { until } => self.jobs.keys_mut().restore_expired(until),
            Record::ArtifactKept(artifact) => self.artifacts.restore(self.ctx, at, *artifact),
            Record::ArtifactsForgotten { entries } => self.artifacts.restore_forgotten(&entries),
            Record::ScheduleKept(schedule) => self.schedules.restore(self.ctx, at, *schedule),
            Record::ScheduleMoved(state) => self.schedules.restore_state(at, *state),
            Record::SchedulesForgotten { entries } => self.schedules.restore_forgotten(&entries),
            Record::StepMoved(step) => self.restore_step(at, *step),
            Record::CredentialsWanted { job, principal } => self.jobs.credentials.restore(self.ctx, job, &principal),
            Record::CredentialsRevoked { job } => provisioning::restore_revoked(self.jobs, job),
            Record::JobForgotten { job } => {
                return provisioning::restore_forgotten(self.jobs, job).map(|gone| (job, gone));
            }
        }
        None
    }

    /// Raises the time and the ids to those of a record, so that no id is given twice and no event
    /// is earlier than one before it, even if the clock is behind that of an earlier run.
    fn raise_time(&mut self, record: &Record) {
        for id in record.session().map(SessionId::ulid).into_iter().chain(record.job().map(JobId::ulid)) {
            self.ctx.now.utc = self.ctx.now.utc.max(UtcMs(id.timestamp_ms()));
            self.ctx.entropy.raise(id);
        }
        self.ctx.now.utc = self.ctx.now.utc.max(record.moment());
    }

    /// Restores that a command was executed, so that it is not executed again: by its principal, if
    /// ids belong to principals, or else in its session.
    fn restore_seen(&mut self, principal: Option<Principal>, session: SessionId, request: WireId, executed: Executed) {
        match principal {
            Some(principal) => self.sessions.remember_of(self.ctx, principal, request, executed),
            None => self.sessions.remember(self.ctx, session, request, executed),
        }
    }

    fn restore_job(&mut self, pos: LogPos, record: JobRecord) {
        // A store may give a job twice.
        if self.jobs.get(record.job).is_some() {
            return;
        }
        let (id, session, command) = (record.job, record.session, record.command);
        // The acceptance of a job that no client's message asked for is not sent to a session.
        let (request, is_child) = (record.request.clone(), record.bounds.parent.is_some() && command.is_none());
        let is_scheduled = record.bounds.firing.is_some();
        let principal = record.id_is_of_principal.then(|| record.principal.clone());
        self.jobs.restore_job(self.ctx, pos, record);
        if let Some(command) = command {
            self.restore_seen(principal, session, request.clone(), (command, Outcome::Accepted(id)));
        }
        self.delivery.add_job(id);
        if is_scheduled {
            return; // No session owns the job of a schedule.
        }
        if is_child {
            self.delivery.audiences.own(session, id);
            return;
        }
        let correlates = self.sessions.get(session).is_some_and(|session| session.view().correlates());
        self.restore_reader(id, session, true, u32::from(correlates), correlates.then_some(request));
    }

    fn restore_reader(&mut self, id: JobId, session_id: SessionId, owner: bool, number: u32, request: Option<WireId>) {
        let (Some(job), Some(_)) = (self.jobs.get(id), self.sessions.get(session_id)) else {
            return; // The job or the session has ended, and the store was not tidied.
        };
        self.delivery.audiences.restore_request(session_id, id, number, request);
        if owner {
            self.delivery.audiences.own(session_id, id);
        }
        // Whether the session may see the job is decided once the job's last principal is known.
        if !job.is_terminal() {
            self.delivery.audiences.join(session_id, id);
        }
    }

    fn restore_handed_over(&mut self, id: JobId, to: (&Principal, SessionId), by: Option<&Principal>) {
        let (_, session) = to;
        handoff::give(self.jobs, self.ctx, id, to, by);
        self.jobs.get(id).into_iter().for_each(|job| self.workflows.give(id, account_of(job)));
        self.delivery.audiences.own(session, id);
        hand_over(self.delivery, self.ctx, self.jobs, id, session);
    }

    fn restore_tokens(&mut self, id: JobId, tokens: Vec<TokenRecord>) {
        if let Some(owner) = self.jobs.get(id).map(|job| job.spec().principal.clone()) {
            self.jobs.tokens.restore(self.ctx, id, &owner, tokens);
        }
    }

    fn restore_event(&mut self, id: JobId, pos: LogPos, event: EventRecord) {
        self.jobs.restore_event(self.ctx, id, pos, event);
        if self.jobs.get(id).is_some_and(Job::is_terminal) {
            self.workflows.forget(self.ctx, id);
            self.delivery.end_job(id);
        }
    }

    fn restore_step(&mut self, pos: LogPos, step: StepRecord) {
        if let Some(job) = self.jobs.get(step.job).filter(|job| !job.is_terminal()) {
            self.workflows.restore(account_of(job), pos, step);
        }
    }

    /// The time is known: from here on sessions can be resumed, and keys are held until they
    /// expire.
    fn on_restored(&mut self, last: LogPos) {
        self.ctx.log.restore(last);
        self.sessions.forget_seen(|principal| self.jobs.table().has_any(principal));
        self.jobs.keys_mut().on_restored(self.ctx);
        self.ctx.plan_audit();
        self.artifacts.on_restored(self.ctx);
        // Authority is not recorded: the configuration says anew who may see what.
        for id in self.jobs.table().ids().collect::<Vec<JobId>>() {
            dismiss(self.delivery, self.ctx, self.jobs, id);
        }
        for id in self.sessions.ids().collect::<Vec<SessionId>>() {
            self.delivery.restored(self.ctx, self.jobs, id);
            let left = self.delivery.has_nothing_left(id);
            self.sessions.note_idle(self.ctx, id, left);
            let now = self.ctx.now.mono;
            self.sessions.await_resume(self.ctx, id, now);
            self.sessions.renew(self.ctx, id, None);
        }
    }
}
