//! A job: an agent's run on behalf of a principal. It outlives sessions.
//!
//! ```text
//!     ┌──────durable, with a slot────────┐
//! Accepting ──durable──▶ Queued ──slot──▶ Running ──exit──▶ Ended
//!     └────────cancel───────┘  │             ├─cancel─▶ Cancelling ──exit or grace──▶ Ended
//!              └──▶ Ended ◀────┘             └─time limit──▶ Ended
//! ```
//!
//! One that is being cancelled ends as cancelled, also by its time limit.
//!
//! Its agent is started once it runs and that is durable: see `slots`.
//!
//! `Ended` is final: exactly one terminal event, nothing after it.

mod agent;
mod checkpoint;
mod heartbeat;
mod history;
mod idempotency;
mod shares;
mod slots;
mod table;
mod waits;

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use crate::error::ErrorCode;
use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::json::Json;
use crate::limits::Limits;
use crate::model::agent::AgentRef;
use crate::model::event::{EventClass, JobError, JobEvent, ResultChunk, Terminal};
use crate::model::job::{FinalStatus, JobStatus};
use crate::model::reply::{Accepted, Reply};
use crate::model::request::Invocation;
use crate::runtime::Runtime;
use crate::runtime::delivery::IndexEntry;
use crate::runtime::effect::Effect;
use crate::runtime::io::{EventRecord, KeyRecord, Notice, Output, Record};
use crate::runtime::timers::Timer;
use crate::time::{Timestamp, UtcMs};
use crate::wire::{self, Part, Told, View};
use agent::Stream;
pub(crate) use history::History;
pub(crate) use idempotency::{Keys, digest as key_digest};
pub(crate) use table::Jobs;
pub(crate) use waits::Credit;
pub use waits::Wait;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) principal: Principal,
    pub(crate) agent: AgentRef,
    /// What its agent is started with, until it is, or never will be.
    pub(crate) input: Option<Json>,
    pub(crate) lease: Json,
    pub(crate) trace: String,
    /// What the open family said besides; its extensions go with the input.
    pub(crate) invocation: Invocation,
    pub(crate) created_at: UtcMs,
    pub(crate) max_runtime: Option<NonZeroU32>,
    /// The key it claimed.
    pub(crate) key: Option<KeyRecord>,
    /// Thoughts it has had.
    thoughts: u64,
    /// Signs of life given of it.
    pub(crate) beats: u64,
    /// When its agent last called.
    pub(crate) last_call: Timestamp,
    /// Whether it waits for an agent that fell silent.
    pub(crate) silent: bool,
    /// Where it stands in the log that it fell silent, or was heard again.
    pub(crate) silent_at: LogPos,
    /// When its agent was first started.
    pub(crate) started_at: Option<UtcMs>,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// What it is to go on from.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Where its acceptance stands in the log.
    pub(crate) accepted_at: LogPos,
    pub(crate) state: JobState,
    pub(crate) agent_state: AgentState,
    /// Whether it has a slot for its agent.
    pub(crate) has_slot: bool,
    /// Whether an earlier run may have started its agent.
    pub(crate) perhaps_started: bool,
    /// What its events were.
    pub(crate) history: History,
    /// The latest of them.
    events: VecDeque<Stored>,
    /// Bytes of those.
    pub(crate) bytes: usize,
    /// The session it was submitted in.
    pub(crate) submitter: SessionId,
    /// Where its end stands in the log.
    pub(crate) ended_at: Option<LogPos>,
    /// When it ended.
    pub(crate) ended: Option<UtcMs>,
    /// Why it is being cancelled, in the words of who did.
    cancel_reason: Option<String>,
    /// What the agent may still call, by what it was told.
    pub(crate) credit: Credit,
    /// Bytes of each of its calls that are not durable yet.
    pub(crate) undurable: VecDeque<u64>,
    /// What it gets back once its submitter keeps up.
    pub(crate) owed: Credit,
    /// Time between two of its calls, if its submitter wants that.
    pub(crate) pace: Option<Duration>,
    pub(crate) stream: Option<Stream>,
    /// Whether its retention is over and only references keep it.
    pub(crate) expired: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Its acceptance is not durable yet.
    Accepting,
    /// It waits for a slot.
    Queued,
    /// Its agent runs.
    Running,
    /// Its agent has been told to stop.
    Cancelling,
    /// It is over.
    Ended(FinalStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentState {
    /// Not started.
    Idle,
    /// Started and not gone: it holds a slot.
    Running,
    /// Gone, or never to be started.
    Gone,
}

/// What an event of an earlier run does to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    /// Nothing more than to be there.
    Said,
    /// It ends it.
    Ended,
}

/// One event as it is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) pos: LogPos,
    pub(crate) at: UtcMs,
    pub(crate) event: Arc<JobEvent>,
    /// Thoughts its job had had before.
    thoughts: u64,
}

impl Stored {
    /// An event that was kept; it is durable.
    pub(crate) fn kept(pos: LogPos, record: EventRecord) -> Stored {
        let EventRecord { at, thoughts, event, .. } = record;
        Stored { pos, at, event, thoughts }
    }

    /// Bytes it holds, roughly.
    pub(crate) fn weight(&self) -> usize {
        weight(&self.event)
    }

    /// Writes the payload for a view.
    pub(crate) fn render(&self, view: &View, job: JobId, part: Part) -> Arc<str> {
        let told = Told { job, at: self.at, thoughts: self.thoughts, event: &self.event };
        wire::render_event(view, &told, part).into()
    }
}

impl Job {
    /// A job that was just accepted.
    pub(crate) fn new(spec: NewJob, session: SessionId, accepted_at: LogPos, limits: &Limits) -> Job {
        Job {
            principal: spec.principal,
            agent: spec.agent,
            input: Some(spec.input),
            lease: spec.lease,
            trace: spec.trace,
            invocation: spec.invocation,
            created_at: spec.created_at,
            max_runtime: spec.max_runtime,
            key: spec.key,
            thoughts: 0,
            beats: 0,
            last_call: Timestamp::default(),
            silent: false,
            silent_at: LogPos(0),
            started_at: None,
            restarts: 0,
            checkpoint: None,
            accepted_at,
            state: JobState::Accepting,
            agent_state: AgentState::Idle,
            has_slot: false,
            perhaps_started: false,
            history: History::new(limits),
            events: VecDeque::new(),
            bytes: 0,
            submitter: session,
            ended_at: None,
            ended: None,
            cancel_reason: None,
            credit: Credit::default(),
            undurable: VecDeque::new(),
            owed: Credit::default(),
            pace: None,
            stream: None,
            expired: false,
        }
    }

    /// Bytes that wait for it to start.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.input.as_ref().map_or(0, |input| waiting_bytes(input, &self.invocation))
    }

    /// The pieces of its result so far, if all are held in memory.
    pub(crate) fn pieces(&self) -> Option<impl Iterator<Item = &ResultChunk>> {
        let from = self.history.result_from()?.checked_sub(self.first_held())?;
        let events = self.events.range(usize::try_from(from).ok()?..);
        Some(events.filter_map(|stored| if let JobEvent::Chunk(chunk) = &*stored.event { Some(chunk) } else { None }))
    }

    /// Event `n`, from 1, if it is held in memory.
    pub(crate) fn event(&self, n: u64) -> Option<&Stored> {
        self.events.get(usize::try_from(n.checked_sub(self.first_held())?).ok()?)
    }

    /// Whether event `n` can be had, here or from the store; with 0, the
    /// acceptance.
    pub(crate) fn keeps(&self, n: u64) -> bool {
        n == 0 || (self.history.first()..=self.count()).contains(&n)
    }

    /// Takes an event of an earlier run; one that its history tells of already
    /// is only held.
    pub(crate) fn restore(&mut self, pos: LogPos, record: EventRecord, keep_until: Timestamp) -> Restored {
        let size = weight(&record.event);
        let class = record.event.class();
        if record.n > self.count() {
            self.history.push(record.n, class, size, record.at, keep_until);
        } else if record.n < self.count() || !self.events.is_empty() {
            return Restored::Said;
        }
        self.thoughts = record.thoughts + u64::from(class == EventClass::Thought);
        let what = match &*record.event {
            JobEvent::Started => {
                self.restore_start(record.at);
                Restored::Said
            }
            JobEvent::Ended(terminal) => {
                self.state = JobState::Ended(terminal.status);
                self.agent_state = AgentState::Gone;
                (self.ended_at, self.ended) = (Some(pos), Some(record.at));
                Restored::Ended
            }
            JobEvent::Said { .. } | JobEvent::Chunk(_) => Restored::Said,
        };
        self.hold(Stored::kept(pos, record), size);
        what
    }

    /// Takes over that its agent was started.
    pub(crate) fn restore_start(&mut self, at: UtcMs) {
        if matches!(self.state, JobState::Accepting | JobState::Queued) {
            self.state = JobState::Running;
        }
        self.started_at = Some(at);
    }

    /// Takes over that it was asked to stop.
    pub(crate) fn restore_cancel(&mut self, reason: Option<String>) {
        self.state = JobState::Cancelling;
        self.cancel_reason = reason;
    }

    /// Where event `n`, or with 0 the acceptance, stands in the log, if it is
    /// held in memory.
    pub(crate) fn position(&self, n: u64) -> Option<LogPos> {
        if n == 0 { Some(self.accepted_at) } else { self.event(n).map(|stored| stored.pos) }
    }

    /// Bytes of the event behind a number that are held in memory.
    pub(crate) fn bytes_behind(&self, entry: IndexEntry) -> usize {
        let held = self.event(entry.event).filter(|_| entry.part == Part::Whole);
        held.map_or(0, Stored::weight)
    }

    /// The acceptance of this job, as an answer to a request.
    pub(crate) fn accepted(&self, id: JobId, request: Option<&WireId>) -> Reply {
        Reply::Accepted(Accepted {
            request: request.cloned(),
            job: id.into(),
            agent: self.agent.to_string(),
            lease: self.lease.clone(),
            trace: Some(self.trace.clone()),
            accepted_at: self.created_at,
        })
    }

    /// How many events it has had.
    pub(crate) fn count(&self) -> u64 {
        self.history.count()
    }

    /// The first event that is held in memory.
    pub(crate) fn first_held(&self) -> u64 {
        self.count() + 1 - self.events.len() as u64
    }

    pub(crate) fn status(&self) -> JobStatus {
        match self.state {
            JobState::Accepting | JobState::Queued => JobStatus::Pending,
            JobState::Running | JobState::Cancelling if self.silent => JobStatus::Blocked,
            JobState::Running | JobState::Cancelling => JobStatus::Running,
            JobState::Ended(status) => JobStatus::Ended(status),
        }
    }

    /// Its status as far as that is durable.
    pub(crate) fn durable_status(&self, durable: LogPos) -> JobStatus {
        match (self.status(), self.silent_at <= durable) {
            (JobStatus::Blocked, false) => JobStatus::Running,
            (JobStatus::Running, false) => JobStatus::Blocked,
            (
                status @ (JobStatus::Pending
                | JobStatus::Running
                | JobStatus::Blocked
                | JobStatus::Paused
                | JobStatus::Ended(_)),
                _,
            ) => status,
        }
    }

    pub(crate) fn cancel_reason(&self) -> Option<&str> {
        self.cancel_reason.as_deref()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, JobState::Ended(_))
    }

    /// Whether its retention is over and its agent gone.
    pub(crate) fn is_done(&self) -> bool {
        self.expired && self.agent_state != AgentState::Running
    }

    /// Lets every event go from memory; gives the bytes they held.
    pub(crate) fn drop_events(&mut self) -> usize {
        self.events.clear();
        core::mem::take(&mut self.bytes)
    }

    /// Lets the oldest event go from memory, but never the last one, nor one
    /// after `durable`, which nobody else has; gives its bytes.
    pub(crate) fn drop_oldest(&mut self, durable: LogPos) -> Option<usize> {
        if self.events.len() < 2 || self.events.front()?.pos > durable {
            return None;
        }
        let size = weight(&self.events.pop_front()?.event);
        self.bytes = self.bytes.saturating_sub(size);
        Some(size)
    }

    /// Lets events before `needed` go from memory, but never the last one, nor
    /// one after `durable`.
    pub(crate) fn drop_before(&mut self, needed: u64, durable: LogPos) {
        while self.first_held() < needed && self.drop_oldest(durable).is_some() {}
    }

    /// Whether events may go before it is forgotten: from memory, if they are in
    /// a store, or for good while it goes on.
    pub(crate) fn may_let_events_go(&self, in_store: bool) -> bool {
        if self.is_over() { in_store && self.events.len() > 1 } else { self.history.can_be_trimmed() }
    }

    fn hold(&mut self, stored: Stored, size: usize) {
        self.events.push_back(stored);
        self.bytes += size;
    }

    /// Whether it holds more in memory than it may.
    pub(crate) fn is_too_large(&self, limits: &Limits) -> bool {
        self.events.len() > limits.job_events || self.bytes > limits.job_event_bytes
    }

    /// Whether more of it is kept in the store than may be.
    pub(crate) fn is_kept_too_large(&self, limits: &Limits) -> bool {
        self.history.kept() > limits.kept_job_events || self.history.bytes() > limits.kept_job_bytes
    }

    /// Lets the oldest events before `unsent` go from memory until the rest
    /// fits.
    pub(crate) fn fit(&mut self, limits: &Limits, durable: LogPos, unsent: u64) {
        while self.is_too_large(limits) && self.first_held() < unsent && self.drop_oldest(durable).is_some() {}
    }
}

/// What a job is made of.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) principal: Principal,
    pub(crate) agent: AgentRef,
    pub(crate) input: Json,
    pub(crate) lease: Json,
    pub(crate) trace: String,
    pub(crate) invocation: Invocation,
    pub(crate) created_at: UtcMs,
    pub(crate) max_runtime: Option<NonZeroU32>,
    pub(crate) key: Option<KeyRecord>,
}

/// Bytes that wait for a job to start.
pub(crate) fn waiting_bytes(input: &Json, invocation: &Invocation) -> usize {
    input.as_str().len() + invocation.extensions.as_ref().map_or(0, |extensions| extensions.as_str().len())
}

/// Bytes an event holds, roughly.
pub(crate) fn weight(event: &JobEvent) -> usize {
    const FIXED: usize = 160;
    FIXED
        + match event {
            JobEvent::Started => 0,
            JobEvent::Said { body, .. } => body.as_str().len(),
            JobEvent::Chunk(chunk) => chunk.data.len(),
            JobEvent::Ended(terminal) => match &terminal.result {
                Some(crate::model::event::JobResult::Inline(json)) => json.as_str().len(),
                Some(crate::model::event::JobResult::Streamed { inline: Some(json), .. }) => json.as_str().len(),
                Some(crate::model::event::JobResult::Streamed { inline: None, .. }) | None => 0,
            },
        }
}

impl Runtime {
    /// Adds one event to a job and numbers it for everyone who watches.
    pub(crate) fn append_event(&mut self, id: JobId, event: JobEvent, returns_credit: bool) {
        let at = self.ctx.now.utc;
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let (class, size) = (event.class(), weight(&event));
        let n = job.count() + 1;
        let record = EventRecord { n, at, thoughts: job.thoughts, event: Arc::new(event) };
        job.thoughts += u64::from(class == EventClass::Thought);
        let grown = job.history.push(n, class, size, at, self.ctx.now.mono + self.ctx.config.resume_window);
        let pos = self.ctx.append_event(id, record.clone(), returns_credit);
        job.hold(Stored::kept(pos, record), size);
        self.jobs.bytes += size;
        self.jobs.kept_bytes += size as u64;
        self.ctx.effect(Effect::Appended { job: id, n, class, grown });
        self.carry();
    }

    /// Ends a job. Calling it twice ends it once.
    pub(crate) fn end_job(&mut self, id: JobId, terminal: Terminal) {
        let Some(job) = self.jobs.get_mut(id).filter(|job| !job.is_over()) else {
            return;
        };
        let status = terminal.status;
        let was_running = job.agent_state == AgentState::Running;
        let principal = job.principal.clone();
        job.stream = None;
        let mut freed = false;
        if job.agent_state == AgentState::Idle {
            self.jobs.take_input(id);
            self.jobs.leave_line(id);
            freed = self.jobs.return_slot(id);
            if let Some(job) = self.jobs.get_mut(id) {
                job.agent_state = AgentState::Gone;
            }
        }
        for timer in [Timer::MaxRuntime(id), Timer::JobBeat(id), Timer::AgentSilence(id), Timer::Pace(id)] {
            self.ctx.timers.clear(timer);
        }
        self.append_event(id, JobEvent::Ended(terminal), false);
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.state = JobState::Ended(status);
        (job.ended_at, job.ended) = (job.events.back().map(|stored| stored.pos), Some(self.ctx.now.utc));
        let (gone, classes, bytes) = (job.history.first() - 1, job.history.runs(), job.history.bytes());
        if self.ctx.config.history {
            self.ctx.append(Record::JobHistory { job: id, gone, classes, bytes });
        }
        self.delivery.end_job(id);
        self.jobs.end(principal.clone(), id);
        if !was_running {
            self.ctx.timers.clear(Timer::CancelGrace(id));
            self.jobs.settle(id);
        }
        self.ctx.timers.set(Timer::Retention(id), self.ctx.now.mono + self.ctx.config.resume_window);
        self.ctx.observe(Notice::JobEnded { job: id, status });
        self.bound_ended(&principal);
        if freed {
            self.fill_slots();
        }
    }

    /// Whoever may cancel has asked for it; the agent has until `grace` is
    /// over.
    pub(crate) fn cancel_job(&mut self, id: JobId, reason: Option<&str>, grace: Duration) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        match job.state {
            _ if job.agent_state == AgentState::Idle => {
                self.end_job(id, cancelled(ErrorCode::Cancelled, reason));
            }
            JobState::Accepting | JobState::Queued | JobState::Running => {
                job.state = JobState::Cancelling;
                job.cancel_reason = reason.map(ToString::to_string);
                self.stop_agent(id, grace);
            }
            // Who asks again may shorten the grace.
            JobState::Cancelling => self.ctx.timers.hasten(Timer::CancelGrace(id), self.after(grace)),
            JobState::Ended(_) => {}
        }
    }

    /// Notes that a job was asked to stop, unless that is of no more use:
    /// whoever is told so can rely on it.
    pub(crate) fn note_cancel(&mut self, id: JobId, reason: Option<&str>) {
        let goes_on = |job: &Job| !matches!(job.state, JobState::Cancelling | JobState::Ended(_));
        if self.jobs.get(id).is_some_and(goes_on) {
            self.ctx.append(Record::CancelAsked { job: id, reason: reason.map(ToString::to_string) });
        }
    }

    fn after(&self, span: Duration) -> Timestamp {
        self.ctx.now.mono + span.max(Duration::from_micros(1))
    }

    /// Tells an agent to stop and starts the grace.
    fn stop_agent(&mut self, id: JobId, grace: Duration) {
        self.ctx.output(Output::StopAgent { job: id, force: false });
        let at = self.after(grace);
        self.ctx.timers.set(Timer::CancelGrace(id), at);
    }

    pub(crate) fn on_max_runtime(&mut self, id: JobId) {
        let Some(limit) = self.jobs.get(id).filter(|job| !job.is_over()).and_then(|job| job.max_runtime) else {
            return;
        };
        let error = JobError::new(ErrorCode::Timeout, alloc::format!("the time limit of {limit} s was reached"));
        self.end_agent(id, error);
    }

    pub(crate) fn on_cancel_grace_over(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let still_there = job.agent_state == AgentState::Running;
        if job.state == JobState::Cancelling {
            let terminal = cancelled(ErrorCode::Aborted, job.cancel_reason());
            self.end_job(id, terminal);
        }
        if still_there {
            self.ctx.output(Output::StopAgent { job: id, force: true });
        }
    }

    /// Ends a job whose agent broke a rule, and the agent with it.
    pub(crate) fn fail_job(&mut self, id: JobId, message: &str) {
        self.end_agent(id, JobError::new(ErrorCode::Internal, message));
    }

    /// Ends a job, and then its agent, unless that was told to stop before.
    pub(crate) fn end_agent(&mut self, id: JobId, error: JobError) {
        let was_told = self.jobs.get(id).is_some_and(|job| job.state == JobState::Cancelling);
        self.conclude(id, Terminal::failure(error));
        let runs = self.jobs.get(id).is_some_and(|job| job.agent_state == AgentState::Running);
        if runs && !was_told {
            self.stop_agent(id, self.ctx.config.cancel_grace);
        }
    }

    /// Ends a job by its agent or by its time limit. One that was cancelled
    /// ends as cancelled, whatever came after.
    pub(crate) fn conclude(&mut self, id: JobId, terminal: Terminal) {
        let cancelling = self.jobs.get(id).filter(|job| job.state == JobState::Cancelling);
        let cancelled = cancelling.map(|job| cancelled(ErrorCode::Cancelled, job.cancel_reason()));
        self.end_job(id, cancelled.unwrap_or(terminal));
    }

    /// The agent of a job is gone.
    pub(crate) fn on_agent_gone(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.agent_state = AgentState::Gone;
        }
        self.jobs.return_slot(id);
        self.ctx.timers.clear(Timer::CancelGrace(id));
        self.jobs.settle(id);
        self.forget_if_done(id);
    }
}

/// The end of a job that was cancelled, by itself or by force.
pub(crate) fn cancelled(code: ErrorCode, reason: Option<&str>) -> Terminal {
    let mut message = match reason {
        Some(reason) if !reason.is_empty() => alloc::format!("cancelled: {reason}"),
        Some(_) | None => "cancelled".to_string(),
    };
    if code == ErrorCode::Aborted {
        message.push_str("; the agent did not stop in time");
    }
    Terminal { reason: reason.map(Into::into), ..Terminal::failure(JobError::new(code, message)) }
}
