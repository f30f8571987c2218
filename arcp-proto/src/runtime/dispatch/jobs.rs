//! Routes what concerns jobs: what agents do, what time does to jobs, and how
//! long they are kept.

use alloc::vec::Vec;
use core::time::Duration;

use crate::id::{JobId, Principal};
use crate::model::feature::Feature;
use crate::model::reply::{JobHeartbeat, Reply};
use crate::runtime::Runtime;
use crate::runtime::delivery::Audience;
use crate::runtime::io::{AgentCall, AgentExit};
use crate::runtime::job::{Job, Wait};

impl Runtime {
    /// What every job that is not over waits for, if it waits for anything but
    /// its agent: for an operator who asks why nothing happens.
    pub fn waits(&self) -> Vec<(JobId, Wait)> {
        self.jobs.waits()
    }

    pub(in crate::runtime) fn on_agent_call(&mut self, id: JobId, call: AgentCall) {
        let delivery = &self.delivery;
        self.jobs.on_agent_call(&mut self.ctx, id, call, |ctx| delivery.chunk_terms(&ctx.config.limits, id));
        self.carry();
    }

    pub(in crate::runtime) fn on_agent_exited(&mut self, id: JobId, exit: AgentExit) {
        let delivery = &self.delivery;
        self.jobs.on_agent_exited(&mut self.ctx, id, exit, |ctx| delivery.chunk_terms(&ctx.config.limits, id));
        self.carry();
        self.forget_if_done(id);
        self.jobs.fill_slots(&mut self.ctx);
        self.carry();
    }

    /// That an agent is started is durable.
    pub(super) fn launch(&mut self, id: JobId) {
        let reader = self.delivery.paces(&self.ctx.config.limits, id);
        self.jobs.launch(&mut self.ctx, id, reader);
    }

    /// Calls of agents are durable, one entry for each.
    pub(in crate::runtime) fn on_calls_durable(&mut self, calls: &[JobId]) {
        for job in self.jobs.on_calls_durable(calls) {
            self.return_credit(job);
        }
    }

    /// Gives an agent its credit back, unless a reader that paces it is far
    /// behind.
    pub(in crate::runtime) fn return_credit(&mut self, id: JobId) {
        let reader = match self.jobs.is_owed_credit(id) {
            true => self.delivery.paces(&self.ctx.config.limits, id),
            false => {
                self.delivery.release_paced(id);
                None
            }
        };
        self.jobs.return_credit(&mut self.ctx, id, reader);
    }

    pub(in crate::runtime) fn cancel_job(&mut self, id: JobId, reason: Option<&str>, grace: Duration) {
        self.jobs.cancel(&mut self.ctx, id, reason, grace);
        self.carry();
    }

    /// Tells whoever wants to know that a job is alive. Who cannot take it now
    /// gets the next one.
    pub(in crate::runtime) fn on_job_heartbeat(&mut self, id: JobId) {
        let Some(beat) = self.jobs.on_heartbeat(&mut self.ctx, id) else {
            return;
        };
        let watchers = self.delivery.audience(id).map(|audience| audience.watchers().to_vec()).unwrap_or_default();
        for watcher in watchers {
            if !self.sessions.get(watcher).is_some_and(|session| session.view().has_job_heartbeats()) {
                continue;
            }
            let conn = self.delivery.conn(watcher);
            let Some(conn) = conn.and_then(|conn| self.connections.get_mut(conn)).filter(|conn| conn.can_write())
            else {
                continue;
            };
            let requests = self.delivery.audience(id).map(Audience::requests);
            let request = requests.and_then(|requests| requests.get(watcher, requests.latest(watcher))).cloned();
            conn.send_reply(&mut self.ctx, &Reply::JobHeartbeat(JobHeartbeat { request, ..beat.clone() }));
        }
    }

    /// Perhaps an agent has been silent for too long: its job waits for it where
    /// its submitter asked for that.
    pub(in crate::runtime) fn on_agent_silence(&mut self, id: JobId) {
        let submitter = self.jobs.get(id).and_then(|job| self.sessions.get(job.submitter()));
        let blocks = submitter.is_some_and(|session| session.view().features.has(Feature::BlockOnSilence));
        self.jobs.on_agent_silence(&mut self.ctx, id, blocks);
        self.carry();
    }

    /// An event of a job is numbered, those after it perhaps not yet: it and
    /// others make room for it.
    pub(super) fn bound_events(&mut self, id: JobId, n: u64) {
        let beyond = self.jobs.table().is_beyond(&self.ctx, id);
        let unsent = if beyond { self.delivery.first_unsent(&self.jobs, id) } else { u64::MAX };
        let delivery = &self.delivery;
        self.jobs.table_mut().bound(&mut self.ctx, id, (unsent, n + 1), |job| delivery.is_owed(job));
        if !self.ctx.config.history {
            self.delivery.detach_overtaken(&mut self.ctx, &self.jobs, id);
        }
    }

    pub(in crate::runtime) fn on_purge(&mut self, id: JobId) {
        let needed = self.delivery.first_needed(&self.jobs, id);
        self.jobs.table_mut().on_purge(&mut self.ctx, id, needed);
    }

    /// A job is over, and its end numbered.
    pub(super) fn on_job_ended(&mut self, id: JobId) {
        self.delivery.end_job(id);
        self.jobs.table_mut().settle(id);
        if let Some(principal) = self.jobs.get(id).map(|job| job.spec().principal.clone()) {
            self.bound_ended(&principal);
        }
        self.jobs.fill_slots(&mut self.ctx);
    }

    /// An ended job leaves the listings; what sessions still need stays.
    pub(in crate::runtime) fn on_retention_over(&mut self, id: JobId) {
        self.jobs.expire(&mut self.ctx, id);
        self.delivery.release_expired_job(&mut self.ctx, &self.jobs, id);
        self.carry();
        self.forget_if_done(id);
    }

    /// Takes the oldest ended job of a principal from the listings, if there
    /// are too many; true if there were.
    pub(in crate::runtime) fn bound_ended(&mut self, principal: &Principal) -> bool {
        let oldest = self.jobs.one_too_many(principal, &self.ctx.config.limits);
        if let Some(id) = oldest {
            self.delivery.take_as_received(id);
            self.on_retention_over(id);
        }
        oldest.is_some()
    }

    pub(in crate::runtime) fn forget_if_done(&mut self, id: JobId) {
        if self.delivery.is_unreferenced(id) && self.jobs.get(id).is_some_and(Job::is_done) {
            self.forget_job(id);
        }
    }

    /// Forgets a job whose agent is gone. Who was still to read of it is told
    /// that its history is lost.
    pub(super) fn forget_job(&mut self, id: JobId) {
        if let Some(job) = self.jobs.forget(&mut self.ctx, id) {
            self.let_go(id, &job);
        }
    }

    /// A job is gone, and perhaps the last thing of its principal: then the ids
    /// of that one's messages go too.
    pub(in crate::runtime) fn let_go(&mut self, id: JobId, job: &Job) {
        self.delivery.remove_job(id);
        let principal = &job.spec().principal;
        self.sessions.forget_seen_of(principal, self.jobs.table().has_any(principal));
    }
}
