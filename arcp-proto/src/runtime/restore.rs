//! Taking up where an earlier run ended: the records it made durable, in
//! order, then what follows from there being no more.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::Runtime;
use super::authority::{self, Act, Who};
use super::delivery::subscription_id;
use super::io::{EventRecord, JobRecord, Record};
use super::job::{Job, JobState, NewJob, Restored};
use super::timers::Timer;
use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::model::event::EventClass;
use crate::model::reply::Reply;
use crate::time::{Timestamp, UtcMs};

impl Runtime {
    pub(super) fn on_restore(&mut self, at: LogPos, record: Record) {
        self.ctx.log.restore(at);
        self.raise_time(&record);
        match record {
            Record::SessionOpened { session, principal, anonymous: _, view, token, extensions } => {
                self.delivery.open(session, principal.clone(), view);
                self.sessions.restore(session, principal, view, token, extensions);
            }
            Record::TokenRotated { session, token } => self.sessions.restore_token(session, token),
            Record::SessionEnded { session } => {
                self.sessions.remove(&mut self.ctx, &self.jobs, session);
            }
            Record::JobAccepted(record) => self.restore_job(at, *record),
            Record::JobEvent { job, event } => self.restore_event(job, at, event),
            Record::JobHistory { job, gone, classes, bytes } => self.restore_history(job, gone, &classes, bytes),
            Record::HistoryTrimmed { job, upto, started } => self.restore_trimmed(job, upto, started),
            Record::Subscribed { session, number, filter, request, command } => {
                self.delivery.restore_subscription(session, number, &filter, at);
                let subscription = subscription_id(session, number).into();
                let answer = Reply::Subscribed { subscription, request: Some(request.clone()) };
                self.restore_answer(None, session, request, command, answer);
            }
            Record::Unsubscribed { session, number, last, .. } => {
                self.delivery.restore_unsubscribed(session, number, last);
            }
            Record::Checkpointed { job, state } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.checkpoint = Some(state);
                }
            }
            Record::JobRestarted { job } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.restarts += 1;
                }
            }
            Record::CancelAsked { job, reason } => self.restore_cancel(job, reason),
            Record::Joined { job, session, owner, request, number, undoes: _ } => {
                if !owner && request.is_none() {
                    self.delivery.replace_join(job, session, at);
                }
                self.restore_reader(job, session, owner, number, request);
            }
            Record::Left { job, session, undoes: _ } => {
                self.delivery.leave(&mut self.ctx, job, session);
                self.delivery.replace_join(job, session, at);
            }
            Record::Numbered { session, run } => {
                self.delivery.restore_numbers(&mut self.ctx, &self.jobs, session, run);
            }
            Record::Released { session, upto } => self.delivery.restore_released(&mut self.ctx, session, upto),
            Record::KeyKept { job, principal, key, until } => self.restore_claim(principal, key, job, until, true),
            Record::KeysExpired { until } => self.keys.restore_expired(until),
            Record::JobForgotten { job } => self.remove_job(job),
        }
        self.carry();
    }

    /// No id is given twice and no event is earlier than one that was before it,
    /// though the clock of this run may be behind that of an earlier one.
    fn raise_time(&mut self, record: &Record) {
        for id in record.session().map(SessionId::ulid).into_iter().chain(record.job().map(JobId::ulid)) {
            self.ctx.now.utc = self.ctx.now.utc.max(UtcMs(id.timestamp_ms()));
            self.ctx.entropy.raise(id);
        }
        self.ctx.now.utc = self.ctx.now.utc.max(record.moment());
    }

    /// When a time of the calendar comes by the monotonic clock: at once if it
    /// has been, and after `longest` even if the calendar went back.
    pub(super) fn moment(&self, at: UtcMs, longest: Duration) -> Timestamp {
        self.ctx.now.until(at, longest).max(self.ctx.now.mono + Duration::from_micros(1))
    }

    /// A command that was executed is not executed again: not by its principal,
    /// where ids are that one's, and not in its session.
    fn restore_answer(
        &mut self,
        principal: Option<Principal>,
        session: SessionId,
        request: WireId,
        command: [u8; 32],
        answer: Reply,
    ) {
        let bound = self.ctx.config.limits.seen_ids_per_session;
        let answered = (command, Some(answer));
        match principal {
            Some(principal) => self.sessions.remember_of(principal, request, answered, bound),
            None => self.sessions.remember(session, request, answered, bound),
        }
    }

    /// It comes after the start, but perhaps before the events.
    fn restore_cancel(&mut self, id: JobId, reason: Option<String>) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| !job.is_over()) {
            job.restore_cancel(reason);
        }
    }

    fn restore_job(&mut self, pos: LogPos, record: JobRecord) {
        let JobRecord { job: id, principal, session, request, command, key, created_at, .. } = record;
        if let Some(key) = key {
            let until = created_at.plus(self.ctx.config.key_window);
            self.restore_claim(principal.clone(), key, id, until, false);
        }
        let spec = NewJob {
            principal,
            agent: record.agent,
            input: record.input,
            lease: record.lease,
            trace: record.trace,
            invocation: record.invocation,
            created_at,
            max_runtime: record.max_runtime,
            key,
        };
        let mut job = Job::new(spec, session, pos, &self.ctx.config.limits);
        job.perhaps_started = record.starts;
        if let Some(command) = command {
            let answer = job.accepted(id, Some(&request));
            let principal = record.id_is_of_principal.then(|| job.principal.clone());
            self.restore_answer(principal, session, request.clone(), command, answer);
        }
        self.jobs.insert(id, job);
        self.delivery.add_job(id);
        let correlates = self.sessions.get(session).is_some_and(|session| session.view().correlates());
        self.restore_reader(id, session, true, u32::from(correlates), correlates.then_some(request));
    }

    fn restore_reader(&mut self, id: JobId, session_id: SessionId, owner: bool, number: u32, request: Option<WireId>) {
        let (Some(job), Some(session)) = (self.jobs.get(id), self.sessions.get(session_id)) else {
            return;
        };
        self.delivery.restore_request(session_id, id, number, request);
        if owner {
            self.delivery.own(session_id, id);
        }
        // Who may see what is said anew at each start.
        let who = Who { principal: session.principal(), owns: owner };
        if authority::may(&self.ctx.config, who, Act::See, job).is_ok() && !job.is_over() {
            self.delivery.join(session_id, id);
        }
    }

    /// The classes of a job's events, of which only the last one follows.
    fn restore_history(&mut self, id: JobId, gone: u64, classes: &[(EventClass, u32)], bytes: usize) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| job.count() == 0) {
            job.history.restore(gone, classes, bytes);
            self.jobs.kept_bytes += bytes as u64;
        }
    }

    fn restore_trimmed(&mut self, id: JobId, upto: u64, started: Option<UtcMs>) {
        self.jobs.forget_events(id, upto);
        if let (Some(job), Some(at)) = (self.jobs.get_mut(id), started) {
            job.restore_start(at);
        }
    }

    fn restore_event(&mut self, id: JobId, pos: LogPos, event: EventRecord) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let before = (job.bytes, job.history.bytes());
        // What was before this run is kept as if it were of now.
        let what = job.restore(pos, event, self.ctx.now.mono + self.ctx.config.resume_window);
        let (held, kept) = (job.bytes - before.0, job.history.bytes() - before.1);
        let principal = job.principal.clone();
        self.jobs.bytes += held;
        self.jobs.kept_bytes += kept as u64;
        self.jobs.fit(id, &self.ctx.config.limits, LogPos(u64::MAX), u64::MAX, |_, _| false);
        if !self.ctx.config.history {
            self.jobs.forget_dropped(id);
        }
        if what == Restored::Said {
            return;
        }
        self.jobs.take_input(id);
        self.delivery.end_job(id);
        self.jobs.end(principal, id);
        self.jobs.settle(id);
    }

    /// The store has no more: who was there may come back, what waited goes
    /// on, and what ran is over.
    pub(super) fn on_restored(&mut self, last: LogPos) {
        self.ctx.log.restore(last);
        self.sessions.forget_seen(|principal| self.jobs.has_any(principal));
        self.restored_claims();
        for id in self.sessions.ids().collect::<Vec<SessionId>>() {
            self.delivery.restored(&mut self.ctx, &self.jobs, id);
            let idle = self.has_nothing_left(id);
            self.sessions.note_idle(&self.ctx, id, idle);
            let now = self.ctx.now.mono;
            self.sessions.await_resume(&mut self.ctx, id, now);
            self.sessions.renew(&mut self.ctx, id, None);
        }
        for id in self.jobs.ids().collect::<Vec<JobId>>() {
            if self.jobs.get(id).is_some_and(|job| !job.is_over()) {
                self.delivery.show_to_subscribers(&self.ctx, &self.jobs, id);
            }
            self.plan_purge(id);
            let Some(job) = self.jobs.get(id) else {
                continue;
            };
            match job.state {
                JobState::Accepting if job.perhaps_started => self.take_up(id),
                JobState::Accepting | JobState::Queued => self.on_job_durable(id),
                JobState::Running | JobState::Cancelling => self.take_up(id),
                JobState::Ended(_) => {
                    let until = job.ended.map_or(self.ctx.now.utc, |at| at.plus(self.ctx.config.resume_window));
                    let at = self.moment(until, self.ctx.config.resume_window);
                    self.ctx.timers.set(Timer::Retention(id), at);
                }
            }
        }
        for principal in self.jobs.principals() {
            while self.bound_ended(&principal) {}
        }
    }
}
