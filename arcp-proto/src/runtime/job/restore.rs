//! Restoring jobs from the records of an earlier run, in order.

use alloc::boxed::Box;
use alloc::string::String;

use super::checkpoint;
use super::delegation;
use super::lease::{self, Purse};
use super::result::is_in_pieces;
use super::streams;
use super::table::Table;
use super::{AgentState, End, Job, JobSpec, JobState, Jobs};
use crate::id::{JobId, LogPos};
use crate::model::event::{EventClass, JobEvent};
use crate::runtime::context::Context;
use crate::runtime::few::Few;
use crate::runtime::io::{EventRecord, JobRecord, OpenedStream};
use crate::time::UtcMs;

impl Jobs {
    /// Restores an accepted job, with its key.
    pub(in crate::runtime) fn restore_job(&mut self, ctx: &mut Context, pos: LogPos, record: JobRecord) {
        let JobRecord { job: id, principal, key, created_at, .. } = record;
        if let Some(key) = key {
            let until = created_at.plus(ctx.config.timing.key_window);
            self.keys.restore(ctx, &principal, key, (id, until), false);
        }
        let spec = JobSpec {
            principal,
            agent: record.agent,
            lease: record.lease,
            trace: record.trace,
            invocation: record.invocation,
            created_at,
            bounds: record.bounds,
            key: key.map(Box::new),
            asked_by: None,
            given_by: None,
        };
        let mut job = Job::new(ctx, id, spec, record.input, record.session, pos);
        job.run.perhaps_started = record.starts;
        job.purse = Purse::of_granted(&job.spec.lease);
        job.run.credentials = self.credentials.has(id);
        self.insert(job);
    }

    /// Restores an event of a job. It is kept as long as an event of this moment.
    pub(in crate::runtime) fn restore_event(&mut self, ctx: &Context, id: JobId, pos: LogPos, record: EventRecord) {
        let (at, event) = (record.at, record.event.clone());
        let keep_until = ctx.now.mono + ctx.config.timing.resume_window;
        let ended = self
            .table
            // Nothing comes after an end.
            .change(id, |job| {
                !job.is_terminal() && job.events.restore(pos, record, keep_until) && job.restore_event(pos, at, &event)
            });
        self.table.bound_restored(ctx, id);
        if ended == Some(true) {
            self.departures.end(id);
            self.table.change(id, checkpoint::drop_input);
            self.list(id);
            self.table.settle(id);
            delegation::leave_family(self, id);
        }
    }
}

impl Table {
    /// Restores the history of an ended job, of which only the last event follows.
    pub(in crate::runtime) fn restore_history(
        &mut self,
        id: JobId,
        gone: u64,
        (classes, bytes): (&[(EventClass, u32)], usize),
        started: Option<UtcMs>,
    ) {
        self.change(id, |job| {
            if job.count() == 0 {
                job.events.restore_history(gone, classes, bytes);
            }
            if let Some(at) = started {
                restore_start(job, at);
            }
        });
    }

    /// Restores that events of a job were let go for good.
    pub(in crate::runtime) fn restore_trimmed(
        &mut self,
        id: JobId,
        upto: u64,
        started: Option<UtcMs>,
        streams: &[OpenedStream],
    ) {
        self.change(id, |job| {
            job.events.forget(upto);
            if streams.is_empty() {
                job.run.sends.streams.take_out();
            } else {
                job.run.sends.streams.restore_open(streams);
            }
            if let Some(at) = started {
                restore_start(job, at);
            }
        });
    }

    /// Restores that the agent of a job was started again.
    pub(in crate::runtime) fn restore_restart(&mut self, id: JobId) {
        self.change(id, |job| job.run.restarts += 1);
    }

    /// Restores that a job was asked to stop. This record is after that of its start, but may be before its events.
    pub(in crate::runtime) fn restore_cancel(&mut self, id: JobId, reason: Option<String>) {
        self.change(id, |job| {
            if !job.is_terminal() {
                job.mark_cancelling(reason);
            }
        });
    }
}

impl Job {
    /// Restores the state that an event leads to. Returns whether the job has ended.
    fn restore_event(&mut self, pos: LogPos, at: UtcMs, event: &JobEvent) -> bool {
        match event {
            JobEvent::Started => restore_start(self, at),
            JobEvent::Ended(terminal) => {
                self.run.state = AgentState::Gone;
                self.state =
                    JobState::Ended(End { status: terminal.status, at, pos, in_pieces: is_in_pieces(terminal) });
                self.run.waits = Few::default();
                self.run.sends.streams.take_out();
                checkpoint::restore_end(self);
                lease::close(self);
            }
            JobEvent::Emitted { kind, body } => streams::restore(self, kind, body),
            JobEvent::Chunk(_) => {}
        }
        self.is_terminal()
    }
}

/// Restores that the agent was started.
fn restore_start(job: &mut Job, at: UtcMs) {
    if matches!(job.state, JobState::Accepting | JobState::Queued) {
        job.state = JobState::Running;
    }
    job.run.started_at = Some(at);
}
