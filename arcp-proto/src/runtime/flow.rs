//! How far a reader may fall behind what it watches, and how fast an agent may
//! go on: told first, then detached with a reason; nobody else is slowed.

use core::time::Duration;

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::Runtime;
use super::job::Credit;
use super::timers::Timer;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, JobId, SessionId, WireId};
use crate::model::feature::Feature;
use crate::model::reply::{Concern, Refusal, Reply};
use crate::wire::Part;

/// Paced agents get their calls in portions of about this span.
const PORTION: Duration = Duration::from_millis(100);

impl Runtime {
    /// An event of a job that goes on was numbered for whoever watches it:
    /// perhaps somebody is too far behind.
    pub(super) fn check_readers(&mut self, id: JobId) {
        for at in (0..self.jobs.get(id).map_or(0, |job| job.watchers.len())).rev() {
            if let Some(watcher) = self.jobs.get(id).and_then(|job| job.watchers.get(at).copied()) {
                self.check_watcher(watcher, id);
            }
        }
        for at in (0..self.jobs.get(id).map_or(0, |job| job.observers.len())).rev() {
            if let Some((session, number)) = self.jobs.get(id).and_then(|job| job.observers.get(at).copied()) {
                self.check_subscription(session, number);
            }
        }
    }

    fn check_watcher(&mut self, id: SessionId, job_id: JobId) {
        let limits = &self.ctx.config.limits;
        let (most, unacked) = (limits.watch_lag, limits.ack_lag);
        let owns = self.jobs.get(job_id).is_some_and(|job| job.owners.contains(&id));
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.conn.is_some()) else {
            return;
        };
        let (lag, waits) = (session.behind(), session.unacknowledged());
        let acknowledges = session.view.features.has(Feature::Ack) && session.view.profile.acknowledges();
        session.told_behind &= lag > most / 4;
        if lag >= most && !owns {
            self.detach_watcher(id, job_id);
        } else if lag >= most / 2 && !session.told_behind {
            session.told_behind = true;
            self.index_local(id, job_id, Part::Behind, 0);
        } else if acknowledges && waits > unacked && !session.told_unacked {
            session.told_unacked = true;
            self.index_local(id, job_id, Part::Behind, 0);
        }
    }

    /// Events of a job are gone that there is no store for. Who watches it and
    /// was not sent them yet is detached before it comes to the gap; who owns it
    /// is told there.
    pub(super) fn detach_overtaken(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id).filter(|job| job.history.first() > 1) else {
            return;
        };
        let first = job.history.first();
        let overtaken = |session: SessionId, number: u32| {
            let session = self.sessions.get(session).filter(|session| session.conn.is_some());
            let next = session.and_then(|s| s.index.first_event_after(id, number, s.cursor, &self.jobs));
            next.is_some_and(|next| next < first)
        };
        let watchers = job.watchers.iter().copied().filter(|watcher| !job.owners.contains(watcher));
        let watchers: Vec<SessionId> = watchers.filter(|watcher| overtaken(*watcher, 0)).collect();
        let shown = job.observers.iter().copied().filter(|(session, number)| overtaken(*session, *number));
        let observers: Vec<(SessionId, u32)> = shown.collect();
        for watcher in watchers {
            self.withdraw_numbers(watcher, id, 0);
            self.detach_watcher(watcher, id);
        }
        for (session, number) in observers {
            self.withdraw_numbers(session, id, number);
            self.end_slow_subscription(session, number);
        }
    }

    fn detach_watcher(&mut self, id: SessionId, job: JobId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.told_behind = false;
        }
        self.index_local(id, job, Part::Detached, 0);
        self.leave_job(job, id);
        self.note_left(job, id);
    }

    fn check_subscription(&mut self, id: SessionId, number: u32) {
        let most = self.ctx.config.limits.watch_lag;
        if self.sessions.get(id).is_some_and(|session| session.conn.is_some() && session.behind() >= most) {
            self.end_slow_subscription(id, number);
        }
    }

    fn end_slow_subscription(&mut self, id: SessionId, number: u32) {
        let Some(conn) = self.sessions.get(id).and_then(|session| session.conn) else {
            return;
        };
        let closed = Reply::Unsubscribed {
            subscription: super::subscribe::id_of(id, number).into(),
            code: ErrorCode::BackpressureOverflow,
            reason: "this was read too slowly: subscribe again after the last message".to_string(),
            request: None,
        };
        self.close_subscription(conn, id, number, closed);
    }

    /// How often something may be said in a stream of a job: the session that
    /// asked for the job may say so (RFC §11.2).
    pub(super) fn on_pace(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: WireId,
        stream: &WireId,
        every: Option<Duration>,
    ) {
        match self.paced_job(session, stream) {
            Ok(job_id) => {
                if let Some(job) = self.jobs.get_mut(job_id) {
                    job.pace = every;
                }
                self.ctx.timers.clear(Timer::Pace(job_id));
                self.return_credit(job_id);
            }
            Err(violation) => self.refuse(conn, Refusal::of(Concern::Frame, violation, Some(id))),
        }
    }

    fn paced_job(&self, session: SessionId, stream: &WireId) -> Result<JobId, Violation> {
        let unknown = || Violation::new(ErrorCode::JobNotFound, "no such stream");
        let job = stream.as_str().strip_prefix("str_").and_then(|rest| WireId::new(&alloc::format!("job_{rest}")));
        let job_id = self.visible(session, &job.ok_or_else(unknown)?).map_err(|_| unknown())?;
        if !self.jobs.get(job_id).is_some_and(|job| job.owners.contains(&session)) {
            let why = "only the session that submitted the job paces its streams";
            return Err(Violation::new(ErrorCode::PermissionDenied, why));
        }
        Ok(job_id)
    }

    /// Gives a paced agent its next few calls.
    pub(super) fn return_portion(&mut self, id: JobId, every: Duration) {
        let Some(job) = self.jobs.get_mut(id).filter(|_| !self.ctx.timers.is_set(Timer::Pace(id))) else {
            return;
        };
        let every = every.max(Duration::from_micros(1));
        let portion = u32::try_from(PORTION.as_micros() / every.as_micros()).unwrap_or(u32::MAX).max(1);
        let calls = job.owed.calls.min(portion);
        let granted = Credit { calls, bytes: core::mem::take(&mut job.owed.bytes) };
        job.owed.calls -= calls;
        self.grant(id, granted);
        self.ctx.timers.set(Timer::Pace(id), self.ctx.now.mono + every * calls);
    }
}
