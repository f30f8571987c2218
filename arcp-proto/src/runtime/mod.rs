//! The runtime: one value that owns every connection, session and job.

mod account;
mod agent_io;
mod artifact;
mod asker;
mod audit;
mod audit_records;
mod authority;
mod blob_io;
mod checkpoint_records;
mod close_reason;
mod config;
mod connection;
mod context;
mod delegation;
mod delivery;
mod digest;
mod dispatch;
mod edge;
mod effect;
mod expected;
mod few;
mod input_fault;
mod io;
mod job;
mod line;
mod list;
mod log;
mod notice;
mod numbered;
mod operator;
mod prompt_records;
mod proofs;
mod rare;
mod ready;
mod recent;
mod records;
mod recount;
mod rising;
mod schedule;
mod schedule_records;
mod session;
mod stream_io;
#[cfg(test)]
mod tests;
mod timers;
mod token_records;
mod workflow;
mod workflow_records;

pub use account::{HeldFor, Miscount};
use alloc::string::String;
use alloc::vec::Vec;
pub use audit_records::{AuditAct, AuditEntry};
pub use checkpoint_records::{BegunAt, CheckpointMark};
pub use config::{Authority, Config, Handoffs, Models, Timing};
use core::net::IpAddr;
pub use delegation::Delegation;
pub use delivery::subscription_id;
pub use digest::Digest;
pub use edge::{Edge, EdgeOutput};
pub use io::{
    AboutJob, AgentCall, AgentExit, AgentReply, AgentSpec, ArtifactRecord, Batch, BlobRange, ChildEnd, ChunkData,
    CloseReason, Credit, Deadline, DepartureRecord, DepartureTerms, EventRecord, Firing, HandOver, INBOUND, Input,
    InputFault, JobBounds, JobRecord, KeyRecord, LocalFrame, LocalWord, Notice, Numbered, NumberedRun, OpenedStream,
    Operator, Output, ParentRecord, PartsStep, Record, Remaining, ScheduleRecord, ScheduleState, Shown, StepRecord,
    StepState, StreamCall, StreamWord, Timer, Transport, Verdict,
};
pub use token_records::TokenRecord;

pub use job::Wait;
pub use list::{agent_of, unfinished, unfinished_by_agent, waits_of};
pub use prompt_records::{
    AnswerRecord, ClosedPrompt, Closing, GrantEnd, GrantRecord, KeptPrompts, OpenInterrupt, OpenPrompt,
};
pub use recount::{
    Unrevoked, held_bytes, held_bytes_of, is_draining, kept_artifacts, miscounts, owes, unacknowledged,
    unrevoked_credentials,
};

use crate::entropy::Seeds;
use crate::error::{ConfigError, ErrorCode, Violation};
use crate::id::{JobId, LogPos, OpId};
use crate::model::request::Credential;
use crate::principal::Network;
use crate::time::Now;
use artifact::Artifacts;
use connection::Connections;
use context::Context;
use delivery::Delivery;
use edge::NewConnection;
use job::{Jobs, deferral, departure, masking, provisioning, turns};
use log::Waiter;
use schedule::Schedules;
use session::Sessions;
use workflow::Workflows;

/// An ARCP runtime without IO.
///
/// # Contract
///
/// Three kinds of method:
///
/// * [`handle`](Self::handle) takes one input: something that happened outside. It
///   runs to completion and never fails. Any number of inputs may be handled before
///   outputs are taken.
/// * [`poll_output`](Self::poll_output) gives the next output, in one total order;
///   `None` means that there are none left. Only `handle` adds outputs.
/// * [`next_deadline`](Self::next_deadline) says when to call `handle` with
///   [`Input::Tick`] if no other input comes first. Only `handle` changes it. It is
///   always later than the `now` of the last `handle`.
///
/// Obligations of the driver:
///
/// * It performs outputs in the order given, at least per connection, job and log.
/// * An input is one atom: everything that it makes durable is one `Persist`, which
///   the store commits whole or not at all, in the order of positions.
/// * The core writes to a connection only within the credit that the driver gave
///   by [`Input::Credit`].
/// * Each of these outputs gets exactly one answer: `Authenticate` one `Authenticated`
///   (or `NotJudged`), `Load` one `Loaded`, `IssueCredentials` one `CredentialsIssued`,
///   `RevokeCredentials` one `CredentialsRevoked`, `HandOff` one `HandedOff`,
///   `PlanSchedule` one `SchedulePlanned`, `CheckInput` and `CheckValue` one
///   `InputChecked`, `StoreBlob` and `TakeBlob` one `BlobStored`, `ReadBlob` one
///   `BlobRead`, and `StartAgent` one `AgentExited`. Late, early, repeated and unknown answers change
///   nothing.
/// * `now` is the time at which the input arrived, which may be before the driver hands
///   it over. Time never goes back: an earlier `now` counts as the last one.
/// * A [`Tick`](Input::Tick) says that the driver has handed over everything that arrived
///   until its `now`. A late tick therefore makes no peer or agent look silent: silence is
///   judged as of that `now`.
/// * The driver does no IO while it borrows the runtime; the core never waits.
///
/// The same configuration, seeds and inputs give the same outputs, byte for byte.
///
/// A `Runtime` is `Send` and `Sync`: it may be made on one thread and run on another, and
/// several threads may read it.
///
/// ```
/// use arcp_proto::entropy::Seeds;
/// use arcp_proto::id::ConnId;
/// use arcp_proto::runtime::{Config, Input, Output, Runtime, Transport};
/// use arcp_proto::time::Now;
///
/// let mut config = Config::new("doc", "1");
/// config.anonymous = true;
/// let seeds = Seeds { public: [1; 32], secret: [2; 32] };
/// let mut runtime = Runtime::new(config, seeds, Now::default())?;
///
/// let conn = ConnId(1);
/// let opened =
///     Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
/// runtime.handle(Now::default(), opened);
/// runtime.handle(Now::default(), Input::Credit { conn, bytes: 65_536, frames: 64 });
/// let hello = br#"{"id":"1","type":"session.hello","payload":{"auth":{"scheme":"none"}}}"#;
/// runtime.handle(Now::default(), Input::Received { conn, frame: hello.to_vec() });
///
/// let mut sent = Vec::new();
/// while let Some(output) = runtime.poll_output() {
///     match output {
///         // This driver has no disk: what it is given is as durable as it gets.
///         Output::Persist(batch) => runtime.handle(Now::default(), Input::Persisted { up_to: batch.last() }),
///         Output::Send { frame, .. } => sent.push(frame),
///         _ => {}
///     }
/// }
/// assert!(sent[0].contains("\"type\":\"session.welcome\""));
/// # Ok::<(), arcp_proto::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    ctx: Context,
    connections: Connections,
    sessions: Sessions,
    jobs: Jobs,
    delivery: Delivery,
    /// The fingerprint of the runtime's certificate, by which clients recognise the runtime.
    fingerprint: Option<String>,
    artifacts: Artifacts,
    schedules: Schedules,
    workflows: Workflows,
}

// In tests a runtime holds counters that belong to one thread.
#[cfg(not(test))]
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Runtime>();
};

impl Runtime {
    /// A runtime without connections, sessions or jobs.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(config: Config, seeds: Seeds, now: Now) -> Result<Runtime, ConfigError> {
        Ok(Runtime {
            ctx: Context::new(config, &seeds, now)?,
            connections: Connections::default(),
            sessions: Sessions::default(),
            jobs: Jobs::default(),
            delivery: Delivery::default(),
            fingerprint: None,
            artifacts: Artifacts::default(),
            schedules: Schedules::default(),
            workflows: Workflows::default(),
        })
    }

    /// Takes one input and does everything that follows from it.
    pub fn handle(&mut self, now: Now, mut input: Input) {
        mask(self, &mut input);
        self.ctx.advance(now, &input);
        self.fire_timers();
        match input {
            Input::Opened { conn, transport, address, binding, peer } => {
                let opened = NewConnection { conn, transport, address, binding, peer };
                self.connections.on_opened(&mut self.ctx, opened);
            }
            Input::HandedOver(handed) => {
                let judged = self.connections.on_handed_over(&mut self.ctx, *handed);
                self.on_judged(judged);
            }
            Input::Received { conn, frame } => self.on_received(conn, &frame),
            Input::ReceivedBinary { conn, message } => dispatch::on_binary(self, conn, &message),
            Input::TooLong { conn } => self.on_too_long(conn),
            Input::Credit { conn, bytes, frames } => self.connections.on_credit(&mut self.ctx, conn, bytes, frames),
            Input::Closed { conn } => self.connections.on_closed(&mut self.ctx, conn),
            Input::Authenticated { op, verdict } => {
                let judged = self.connections.on_authenticated(&mut self.ctx, op, verdict);
                self.on_judged(judged);
            }
            Input::NotJudged { op } => dispatch::on_not_judged(self, op),
            Input::JudgedElsewhere { address, credential, counts } => {
                connection::on_judged_elsewhere(&mut self.connections, &self.ctx, (address, credential), counts);
            }
            Input::Persisted { up_to } => self.on_persisted(up_to),
            Input::PersistFailed { .. } => dispatch::on_persist_failed(self),
            Input::Agent { job, call } => dispatch::on_calls(self, job, None, [call].into_iter()),
            Input::AgentSays { job, calls } => dispatch::on_calls(self, job, None, calls.into_iter()),
            Input::AgentAsked { job, id, call } => dispatch::on_calls(self, job, Some(id), [call].into_iter()),
            Input::AgentExited { job, exit } => dispatch::on_exited(self, job, exit),
            Input::Loaded { op, events } => self.delivery.on_loaded(&mut self.ctx, op, events),
            Input::ExtensionTaken { session } => {
                self.sessions.take_extension(session);
                // The connection may be read again, if its extension bytes fell below their bound.
                if let Some(conn) = self.delivery.feeds.conn(session) {
                    self.ctx.ready(conn);
                }
            }
            Input::InputChecked { op, fault } => {
                // Operation ids are unique, so at most one of these knows `op`.
                job::prompt::on_question_checked(&mut self.jobs, &mut self.ctx, op, fault.as_ref());
                deferral::on_input_checked(&mut self.jobs, op, fault.as_ref());
                dispatch::on_schedule_checked(self, op, fault.as_ref());
                dispatch::on_step_checked(self, op, fault.as_ref());
                let judged = self.connections.on_input_checked(&mut self.ctx, op, fault);
                self.hear_again(judged);
            }
            Input::CredentialsIssued { op, issuance } => {
                dispatch::on_credentials_issued(self, op, issuance);
            }
            Input::CredentialsRevoked { op, done } => {
                provisioning::on_revoked(&mut self.jobs, &mut self.ctx, op, done);
            }
            Input::HandedOff { op, answer } => departure::on_answer(&mut self.jobs, &mut self.ctx, op, answer),
            Input::BlobStored { op, stored } => dispatch::on_blob_stored(self, op, stored),
            Input::BlobRead { op, bytes } => dispatch::on_blob_read(self, op, bytes),
            Input::SchedulePlanned { op, plan } => dispatch::on_planned(self, op, plan),
            Input::Agents { agents, restartable } => self.agents().on_hosted(agents, restartable),
            Input::SendExtension { session, message } => self.on_send_extension(session, message),
            Input::Operator(operator) => self.on_operator(operator),
            Input::Reseed(seeds) => self.ctx.entropy.reseed(&seeds),
            Input::Restore { at, record } => self.on_restore(at, record),
            Input::Restored { last } => self.on_restored(last),
            Input::Tick => {}
        }
        self.carry();
        dispatch::hear_agents(self);
        self.bound_held();
        self.pump_ready();
        debug_assert!(self.is_tidy(), "nothing would ever let go of one of {:?}", self.ctx.log.open());
        self.ctx.seal();
    }

    /// The next output; `None` if there is none left.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.ctx.poll_output()
    }

    /// When to call [`handle`](Self::handle) again at the latest, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.ctx.next_deadline()
    }

    /// Counts of connections, sessions, jobs and bytes, for an operator.
    pub fn stats(&self) -> Stats {
        let counts = self.jobs.counts();
        Stats {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            unfinished_jobs: counts.unfinished,
            jobs: self.jobs.table().len(),
            index_runs: self.delivery.feeds.runs(),
            waiting_jobs: counts.waiting,
            running_agents: counts.running,
            events: self.ctx.events,
            event_bytes: self.jobs.table().bytes(),
            kept_event_bytes: self.jobs.table().kept_bytes(),
            read_ahead_bytes: held_bytes(self, HeldFor::ReadBack),
            rendered_bytes: held_bytes(self, HeldFor::Payloads),
            unsent_bytes: self.delivery.feeds.unsent_bytes(),
            undurable_bytes: self.ctx.log.bytes(),
            store_failed: self.ctx.log.failed,
        }
    }

    /// Everything that survives a restart and can be observed from outside, as a digest. Costs
    /// time in proportion to what the runtime holds.
    pub fn digest(&self) -> Digest {
        Digest::new(self.ctx.log.last(), &self.ctx.trail, &self.sessions, &self.jobs, &self.delivery).with_kept(
            &self.artifacts,
            &self.schedules,
            &self.workflows,
        )
    }

    /// What each unfinished job waits for, unless it waits only for its agent. For an
    /// operator who asks why a job makes no progress.
    pub fn waits(&self) -> Vec<(JobId, Wait)> {
        self.jobs.waits()
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.ctx.pop_due() {
            match timer {
                Timer::Handshake(conn) => self.connections.on_handshake_timeout(&mut self.ctx, conn),
                Timer::Heartbeat(conn) => self.connections.on_heartbeat(&mut self.ctx, conn),
                Timer::InputCheck(conn) => {
                    let judged = self.connections.on_check_overdue(&mut self.ctx, conn);
                    self.hear_again(judged);
                }
                Timer::Sidecar(conn) => dispatch::on_sidecar_overdue(self, conn),
                Timer::Stalled(conn) => self.connections.leave(&mut self.ctx, conn, CloseReason::SlowReader),
                Timer::Hold(conn) => {
                    if let Some(conn) = self.connections.get_mut(conn) {
                        conn.on_hold_over(&mut self.ctx);
                    }
                }
                Timer::ResumeWindow(session) => self.sessions.end(&mut self.ctx, &self.jobs, session),
                Timer::SessionLease(session) => self.on_session_lease(session),
                Timer::Pace(job) => self.agents().return_credit(job),
                Timer::StreamPace(job) => job::streams::on_due(&mut self.jobs, &mut self.ctx, job),
                Timer::JobHeartbeat(job) => self.on_job_heartbeat(job),
                Timer::AgentSilence(job) => self.on_agent_silence(job),
                Timer::MaxRuntime(job) => self.jobs.on_max_runtime(&mut self.ctx, job),
                Timer::CancelGrace(job) => self.jobs.on_cancel_grace_over(&mut self.ctx, job),
                Timer::Retention(job) => self.retention().on_over(job),
                Timer::EndMissed(job) => self.retention().on_end_missed(job),
                Timer::LeaseExpiry(job) => job::lease::expire(&mut self.jobs, &mut self.ctx, job),
                Timer::Prompt(job) => job::prompt::on_due(&mut self.jobs, &mut self.ctx, job),
                Timer::Checkpoint(job) => job::checkpoint::on_due(&mut self.jobs, &mut self.ctx, job),
                Timer::RevocationGrace(job) => provisioning::on_grace_over(&mut self.jobs, &mut self.ctx, job),
                Timer::Delegation(job) => deferral::on_overdue(&mut self.jobs, job),
                Timer::Provision(job) => dispatch::on_credentials_overdue(self, job),
                Timer::Renewal(job) => provisioning::on_renewal_due(&mut self.jobs, &mut self.ctx, job),
                Timer::RevokeAgain(job) => provisioning::on_again(&mut self.jobs, &mut self.ctx, job),
                Timer::Departure(job) => departure::on_due(&mut self.jobs, &mut self.ctx, job),
                Timer::Purge(job) => self.retention().on_purge(job),
                Timer::Arrived(session) => self.delivery.feeds.on_arrived(&mut self.ctx, &self.jobs, session),
                Timer::KeyExpiry => self.jobs.keys_mut().on_expiry(&mut self.ctx),
                Timer::Audit => self.ctx.on_audit_due(),
                Timer::Artifacts => self.artifacts.on_due(&mut self.ctx),
                Timer::Schedules => dispatch::on_schedules_due(self),
                Timer::Workflow(job) => dispatch::on_workflow_due(self, job),
                Timer::Backlog => dispatch::on_turn_due(self),
                Timer::Read(session) => self.delivery.on_read_failed(&mut self.ctx, session),
                Timer::StoreRetry => self.ctx.on_store_retry(),
            }
            self.carry();
        }
    }

    /// Whether each record of this input belongs to a session and a job that can still end.
    /// The store would keep a record that follows its owner's last one for ever.
    fn is_tidy(&self) -> bool {
        let records = self.ctx.log.open();
        let later = |at: usize, ends: &dyn Fn(&Record) -> bool| records[at + 1..].iter().any(ends);
        records.iter().enumerate().all(|(at, record)| {
            let (last_of_session, last_of_job) = (record.ends_session().is_some(), record.forgets_job().is_some());
            let of_session = record.session().filter(|_| !last_of_session).is_none_or(|id| {
                self.sessions.get(id).is_some_and(session::Session::is_recorded)
                    || later(at, &|record| record.ends_session() == Some(id))
            });
            let of_job = record.job().filter(|_| !last_of_job).is_none_or(|id| {
                self.jobs.get(id).is_some()
                    || self.jobs.credentials.has(id)
                    || later(at, &|record| record.forgets_job() == Some(id))
            });
            of_session && of_job
        })
    }

    /// Stops reading from all connections while too many bytes are not durable, and from the
    /// connections of an account that holds too much.
    fn bound_held(&mut self) {
        let bound = self.ctx.config.limits.history.undurable_bytes;
        // Reading resumes once half of it is durable.
        let full = self.ctx.log.bytes() >= if self.ctx.log.full { bound.div_ceil(2) } else { bound };
        if core::mem::replace(&mut self.ctx.log.full, full) != full {
            self.connections.on_log_bounded(&mut self.ctx);
        }
        let cause = self.ctx.log.take_cause();
        for account in self.ctx.accounts.bound(&self.ctx.config.limits, &cause) {
            self.connections.on_account_bounded(&mut self.ctx, &account);
        }
        turns::plan(&self.jobs, &mut self.ctx);
    }

    fn on_persisted(&mut self, up_to: LogPos) {
        let before = self.ctx.log.durable();
        let credits = self.ctx.log.persisted(up_to);
        while let Some(waiter) = self.ctx.log.next_awake() {
            match waiter {
                Waiter::Conn(conn) => self.ctx.ready(conn),
                Waiter::Job(job) => self.jobs.on_durable(&mut self.ctx, job),
                Waiter::Agent(job) => self.jobs.table_mut().on_answer_durable(&mut self.ctx, job),
                Waiter::Session(session) => self.on_evicted(session),
                Waiter::Credentials(job) => provisioning::on_durable(&mut self.jobs, &mut self.ctx, job),
                Waiter::Departure(job) => departure::on_durable(&mut self.jobs, &mut self.ctx, job),
            }
            self.carry();
        }
        self.agents().on_calls_durable(credits);
        self.ctx.on_durable_since(before);
        self.artifacts.on_durable(&mut self.ctx);
    }

    fn on_operator(&mut self, operator: Operator) {
        match operator {
            Operator::Drain => self.ctx.draining = true,
            Operator::Shutdown => {
                self.ctx.draining = true;
                self.connections.close_all(&mut self.ctx, "the runtime is shutting down");
            }
            Operator::CancelJob { job, reason } => {
                self.jobs.note_cancel(&mut self.ctx, job, reason.as_deref());
                self.cancel_job(job, reason.as_deref(), self.ctx.config.timing.cancel_grace);
            }
            Operator::EndSession { session, reason } => {
                let reason = reason.as_deref().unwrap_or(dispatch::TAKEN);
                self.sessions.evict(&mut self.ctx, session, ErrorCode::Cancelled, reason);
            }
            Operator::Revoke { principal } => {
                let why = "the credential does not count any more: open another session with one that does";
                self.sessions.evict_all(&mut self.ctx, &principal, why);
                dispatch::on_revoked(self, &principal);
            }
            Operator::Distrust { conn } => match self.connections.opened_by_transport(conn) {
                Some(session) => {
                    let why = "the certificate does not count any more: open another session with one that does";
                    self.sessions.evict(&mut self.ctx, session, ErrorCode::Unauthenticated, why);
                }
                None => self.connections.leave(&mut self.ctx, conn, CloseReason::Refused),
            },
            Operator::Fingerprint { fingerprint } => self.fingerprint = fingerprint,
            Operator::Policy(policy) => dispatch::on_policy(self, policy),
            Operator::Overseers { operators, auditors } => {
                for principal in authority::oversee(&mut self.ctx.config, operators, auditors) {
                    let why = "a role was taken from you: open another session to go on without it";
                    self.sessions.evict_all(&mut self.ctx, &principal, why);
                }
                self.sessions.evict_bounded_overseers(&mut self.ctx);
            }
        }
    }
}

/// Whether the host may judge a credential that came from an address outside any
/// connection of the runtime; it reports the verdict by [`Input::JudgedElsewhere`].
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED`, with the time to try again, if too many credentials from that
/// address were wrong.
pub fn may_judge(runtime: &Runtime, now: Now, address: IpAddr, credential: &Credential) -> Result<(), Violation> {
    connection::may_judge(&runtime.connections, (&runtime.ctx, now.mono), address, credential.digest())
}

/// The network from which a credential came that is being judged; `None` if its peer has no
/// network address, as over a pipe or a Unix socket. A host that judges only a few
/// credentials at once can take turns by network.
pub fn judged_for(runtime: &Runtime, op: OpId) -> Option<Network> {
    connection::judged_for(&runtime.connections, op)
}

/// Replaces the values of a job's own credentials by asterisks in what its agent says.
/// [`handle`](Runtime::handle) does this before any other code sees the input. Code that
/// keeps an input before it is handled, such as a [`Recorder`](crate::record::Recorder),
/// must call this first.
pub fn mask(runtime: &Runtime, input: &mut Input) {
    masking::mask(&runtime.jobs, input);
}

/// Gives the buffer of a frame that was written out back for reuse. This only saves
/// allocations.
pub fn take_back(runtime: &mut Runtime, frame: String) {
    runtime.delivery.buffers.keep_frame(frame, runtime.ctx.config.limits.frame.frame_buffers);
}

/// Counts of a [`Runtime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Connections, with or without a session.
    pub connections: usize,
    /// Sessions, attached or resumable.
    pub sessions: usize,
    /// Unfinished jobs.
    pub unfinished_jobs: usize,
    /// All jobs in memory, ended ones included.
    pub jobs: usize,
    /// Runs of all session indexes.
    pub index_runs: usize,
    /// Jobs that wait for a slot.
    pub waiting_jobs: usize,
    /// Agents that hold a slot.
    pub running_agents: usize,
    /// Events of all jobs since the start of this runtime.
    pub events: u64,
    /// Bytes of events held in memory.
    pub event_bytes: usize,
    /// Bytes of events that are still available, from memory or the store.
    pub kept_event_bytes: u64,
    /// Bytes of events read back from the store and not sent yet.
    pub read_ahead_bytes: usize,
    /// Bytes of payloads kept because several sessions are sent them.
    pub rendered_bytes: usize,
    /// Bytes of events that attached sessions have not been sent yet; agents are paced by
    /// this.
    pub unsent_bytes: usize,
    /// Bytes of records that are not durable yet.
    pub undurable_bytes: usize,
    /// Whether the store is failing.
    pub store_failed: bool,
}
