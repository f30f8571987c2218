//! The loop around a runtime, without its sockets.
//!
//! A [`Driver`] owns a runtime and performs its outputs: it commits records in groups, reads events
//! back, has credentials judged, runs agents, and writes the recording.
//!
//! An adapter, or a loop of your own, moves bytes: it hands over what sockets receive and writes
//! what the driver gives to its [`Sockets`]. The driver never waits. Its caller waits, until the
//! `wake` callback is called or [`Driver::next_wait`] has passed. So the driver fits a readiness
//! loop as well as a task of an async runtime.
//!
//! ```
//! use arcp_host::driver::{Driver, Host, Sockets, WriteWindow};
//! use arcp_host::registry::Registry;
//! use arcp_proto::id::{ConnId, Principal};
//! use arcp_proto::runtime::{AgentSpec, CloseReason, Config, Input, Transport};
//!
//! /// A peer in memory: what would be written to it.
//! #[derive(Default)]
//! struct Peer(Vec<String>);
//!
//! impl Sockets for Peer {
//!     fn send(&mut self, _: ConnId, frame: &str) {
//!         self.0.push(frame.to_string());
//!     }
//!     fn send_sidecar(&mut self, _: ConnId, _: Vec<u8>) {}
//!     fn close(&mut self, _: ConnId, _: CloseReason) {}
//!     fn pause_reading(&mut self, _: ConnId) {}
//!     fn resume_reading(&mut self, _: ConnId) {}
//! }
//!
//! let mut registry = Registry::default();
//! registry.add_inline("echo", None, |job: &AgentSpec| Ok(arcp_host::agent::Outcome::Json(job.input.clone())));
//! let this = std::thread::current();
//! let mut driver = Driver::new(Host::new(Config::new("doc", "1"), registry), move || this.unpark())?;
//!
//! let (conn, mut peer) = (ConnId(1), Peer::default());
//! let owner = Principal::new("owner").map(Into::into);
//! driver.handle(Input::Opened { conn, transport: Transport::Lines, address: None, binding: None, peer: owner }, &mut peer)?;
//! driver.handle(WriteWindow::opening_credit(conn), &mut peer)?;
//! for frame in [
//!     r#"{"id":"1","type":"session.hello"}"#,
//!     r#"{"id":"2","type":"job.submit","payload":{"agent":"echo","input":42}}"#,
//! ] {
//!     driver.handle(Input::Received { conn, frame: frame.into() }, &mut peer)?;
//! }
//! while !peer.0.iter().any(|frame| frame.contains(r#""result":42"#)) {
//!     match driver.next_wait() {
//!         Some(wait) => std::thread::park_timeout(wait),
//!         None => std::thread::park(),
//!     }
//!     driver.take_inbox(&mut peer)?;
//!     driver.tick(true, &mut peer)?;
//! }
//! # Ok::<(), arcp_host::driver::HostError>(())
//! ```

mod access;
mod agents;
mod commit;
mod elsewhere;
mod heard;
mod host;
mod inbox;
mod judges;
mod observed;
mod read_back;
mod recording;
mod restoring;
mod window;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arcp_proto::error::Violation;
use arcp_proto::id::{ConnId, OpId};
use arcp_proto::model::job::JobSummary;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{
    Authority, CloseReason, Config, Input, Models, Output, Runtime, Stats, Verdict, is_draining, judged_for, mask,
    may_judge, take_back, unfinished, unrevoked_credentials,
};
use arcp_proto::time::Now;

pub use self::host::{ExtensionTaker, Host, HostError, Observer};
pub use self::window::WriteWindow;

use self::access::Access;
use self::commit::Committer;
use self::elsewhere::Elsewhere;
use self::heard::Heard;
use self::inbox::{Mailbox, Message};
use self::observed::Observed;
use self::read_back::{ReadBack, Wanted as WantedEvents};
use self::recording::Recording;
use crate::agent::Inbox;
use crate::auth::{NotJudged, Roles};
use crate::blobs::{self, BlobThread};
use crate::clock::Clock;
use crate::handoff::Errands;
#[cfg(feature = "websocket")]
use crate::metrics::Traffic;
use crate::metrics::{Around, Metrics};
use crate::provisioner::Calls;
use crate::recurrence::{self, Wanted};
use crate::runner::Runner;
use crate::server_log::log;
use crate::spans::Spans;
use crate::store::StoreError;

/// Inputs taken from the inbox before connections get their turn.
const TURN: usize = 1024;

/// Where frames are written: sockets, pipes, queues in memory. The driver calls these functions in
/// the order of the core's outputs. No function may wait, and each ignores connections that it does
/// not know.
pub trait Sockets {
    /// Queues a frame for a connection. The caller reports written bytes with [`Input::Credit`];
    /// see [`WriteWindow`].
    fn send(&mut self, conn: ConnId, frame: &str);

    /// Queues a binary message for a WebSocket connection, directly after the frame before it. It
    /// is reported as with [`send`](Self::send).
    fn send_sidecar(&mut self, conn: ConnId, message: Vec<u8>);

    /// Closes a connection once everything queued for it is written. The core has already forgotten
    /// the connection.
    fn close(&mut self, conn: ConnId, reason: CloseReason);

    /// Stops taking frames from a connection, including those that have already arrived.
    fn pause_reading(&mut self, conn: ConnId);

    /// Takes frames from the connection again, beginning with those that arrived during the pause.
    fn resume_reading(&mut self, conn: ConnId);

    /// Accepts frames of up to [`FrameLimits::frame_bytes`] from a connection, instead of
    /// [`FrameLimits::handshake_frame_bytes`]: its peer is authenticated.
    ///
    /// [`FrameLimits::frame_bytes`]: arcp_proto::limits::FrameLimits::frame_bytes
    /// [`FrameLimits::handshake_frame_bytes`]: arcp_proto::limits::FrameLimits::handshake_frame_bytes
    fn raise_frame_limit(&mut self, conn: ConnId) {
        let _ = conn;
    }

    /// Sends messages of more than `bytes` bytes in fragments, if the transport supports fragments.
    fn fragment(&mut self, conn: ConnId, bytes: usize) {
        let _ = (conn, bytes);
    }
}

/// Another runtime owns the store. This runtime has ended and reveals nothing more. The caller
/// drops all connections without a goodbye, and then the driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this runtime has ended, somebody else owns its store now: {0}")]
pub struct Fenced(pub String);

/// A runtime and everything that it needs except sockets.
///
/// One turn of a loop: wait for [`next_wait`](Self::next_wait), call
/// [`take_inbox`](Self::take_inbox), [`handle`](Self::handle) what each connection has received,
/// [`tick`](Self::tick), write, and hand over the credit for what was written.
///
/// Dropping the driver stops every agent (see [`Runner`]) and commits what is queued.
pub struct Driver {
    runtime: Runtime,
    clock: Clock,
    runner: Runner,
    access: Access,
    elsewhere: Elsewhere,
    blobs: BlobThread,
    committer: Committer,
    read_back: Option<ReadBack>,
    recording: Option<Recording>,
    observed: Observed,
    /// Taken out of the mailbox, but not yet handed to the runtime.
    messages: VecDeque<Message>,
    mailbox: Arc<Mailbox>,
    heard: Heard,
    store_error: Option<StoreError>,
    fenced: Option<Fenced>,
}

impl Driver {
    /// Starts a runtime from the records in its store. `wake` is called, on any thread, when
    /// something was put into the inbox. It must not wait. It must end the current wait of the
    /// loop, or the next one if the loop does not wait at that time.
    ///
    /// Reads the whole store before it returns.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, a record cannot be read, or a thread cannot be started.
    pub fn new(host: Host, wake: impl Fn() + Send + Sync + 'static) -> Result<Driver, HostError> {
        let Host {
            config,
            registry,
            source,
            authenticator,
            credentials,
            provisioner,
            courier,
            mut store,
            blobs,
            record,
            observer,
            extensions,
            run_task,
            span_counts,
        } = host;
        let mut clock = Clock::new();
        let now = clock.now();
        let seeds = crate::entropy::seeds()?;
        let mailbox = Arc::new(Mailbox::new(wake));
        let history = store.history()?;
        let base = Roles { operators: config.operators.clone(), auditors: config.auditors.clone() };
        let Roles { operators, auditors } = access::roles_of(&credentials, &base);
        let config = Config {
            agents: registry.entries(),
            restartable_agents: registry.restartable().clone(),
            history: history.is_some(),
            operators,
            auditors,
            models: Models { provisions: provisioner.is_some(), ..config.models },
            authority: Authority {
                handoff: elsewhere::receivers(config.authority.handoff, courier.is_some()),
                ..config.authority
            },
            ..config
        };
        let elsewhere = Elsewhere {
            provisioning: Calls::new(provisioner, mailbox.clone()),
            errands: Errands::new(courier, mailbox.clone(), config.limits.family.departing_jobs),
        };
        let access = Access::new(authenticator, &config);
        let mut recording = record.map(|out| Recording::new(&config, &seeds, now, out));
        let mut runtime = Runtime::new(config, seeds, now)?;
        let mut spans = Spans::new(!store.is_instant());
        let last = commit::restore(store.as_mut(), |input| {
            if let Some(recording) = &mut recording {
                recording.input(now, &input);
            }
            spans.takes(&input);
            runtime.handle(now, input);
        })?;
        let metrics = Metrics::new(&span_counts);
        let mut runner = Runner::new(registry, mailbox.clone()).counting_waits(metrics.agents_waited.clone());
        if let Some(run_task) = run_task {
            runner = runner.with_tasks_run_by(run_task);
        }
        if let Some(source) = source {
            let (registry, mailbox) = (runner.registry(), Arc::downgrade(&mailbox));
            let follow = move || agents::follow(source, registry, mailbox);
            std::thread::Builder::new().name("agents".to_string()).spawn(follow)?;
        }
        if !credentials.is_empty() {
            let mailbox = Arc::downgrade(&mailbox);
            let follow = move || access::follow(credentials, &base, &mailbox);
            std::thread::Builder::new().name("credentials".to_string()).spawn(follow)?;
        }
        Ok(Driver {
            runtime,
            clock,
            runner,
            access,
            elsewhere,
            blobs: BlobThread::new(blobs, mailbox.clone())?,
            committer: Committer::new(store, last, &mailbox, metrics.store.clone())?,
            read_back: history.map(|history| ReadBack::new(history, mailbox.clone())),
            recording,
            observed: Observed::new(metrics, spans, observer, extensions),
            messages: VecDeque::new(),
            mailbox,
            heard: Heard::new(now),
            store_error: None,
            fenced: None,
        })
    }

    /// Hands one input to the runtime and performs all outputs that follow. An adapter hands over
    /// [`Input::Opened`], [`Input::Received`], [`Input::ReceivedBinary`], [`Input::TooLong`],
    /// [`Input::Credit`], [`Input::Closed`] and [`Input::Operator`].
    ///
    /// # Errors
    ///
    /// [`Fenced`] once another runtime owns the store; then nothing is done.
    pub fn handle(&mut self, input: Input, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        self.is_alive()?;
        self.input(input);
        self.drain(sockets)
    }

    /// Hands over inputs that other threads have put into the inbox: a bounded number, so that
    /// connections get their turn. All records that result are committed as one group.
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    pub fn take_inbox(&mut self, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        self.is_alive()?;
        if self.messages.is_empty() {
            self.mailbox.take(&mut self.messages);
        }
        let most = self.messages.len().saturating_sub(TURN);
        while self.messages.len() > most {
            let clock = &self.clock;
            let Some(message) = inbox::next(&mut self.messages, |arrived| clock.at(arrived).utc) else {
                break;
            };
            self.heard.take_up_to(self.clock.at(message.arrived));
            self.take(message)?;
        }
        if self.messages.is_empty() {
            self.heard.take_all();
        }
        self.drain(sockets)
    }

    /// Hands a tick to the runtime if a deadline is due, and has the store commit the records of
    /// this turn.
    ///
    /// A deadline may concern silence. Silence is judged as of the moment when the loop began to
    /// wait, because everything that had arrived by then was handed over in this turn. What arrived
    /// while the turn was held up is handled before it counts as silence. `all_heard` says whether
    /// everything was handed over; if not, the tick is put off, a bounded number of times in a row.
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    pub fn tick(&mut self, all_heard: bool, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        self.is_alive()?;
        let heard = self.heard.judge(all_heard);
        let due = self.until_deadline() == Some(Duration::ZERO);
        if let Some(heard) = heard.filter(|_| due) {
            self.input_at(heard, Input::Tick);
            self.drain(sockets)?;
        }
        self.commit_turn();
        Ok(())
    }

    /// How long to wait at most before the next turn; `None` means until the loop is woken. Call it
    /// directly before each wait, and before looking for ready sockets: silence is judged as of
    /// this call.
    pub fn next_wait(&mut self) -> Option<Duration> {
        self.commit_turn();
        self.heard.wait_from(self.clock.now());
        let waits = !self.heard.has_more() && self.mailbox.may_sleep();
        if waits { self.until_deadline() } else { Some(Duration::ZERO) }
    }

    /// Where other threads put inputs, such as [`Input::Operator`].
    pub fn inbox(&self) -> Arc<dyn Inbox> {
        self.mailbox.clone()
    }

    /// The number of jobs whose credentials should be revoked but may still be valid.
    pub fn unrevoked_credentials(&self) -> usize {
        unrevoked_credentials(&self.runtime).jobs
    }

    /// How long the oldest of these revocations has been due, counted from the start of this
    /// runtime at the earliest.
    pub fn longest_unrevoked(&mut self) -> Duration {
        let since = unrevoked_credentials(&self.runtime).since;
        let now = self.clock.now().mono;
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Counters and gauges of the runtime as OpenMetrics text. The cost grows with the number of
    /// sessions and unfinished jobs.
    ///
    /// ```
    /// # use arcp_host::driver::{Driver, Host};
    /// # use arcp_host::registry::Registry;
    /// # use arcp_proto::runtime::Config;
    /// let driver = Driver::new(Host::new(Config::new("doc", "1"), Registry::default()), || ())?;
    /// assert!(driver.metrics().contains("\narcp_sessions 0\n"));
    /// # Ok::<(), arcp_host::driver::HostError>(())
    /// ```
    pub fn metrics(&self) -> String {
        let stopping_agents = self.runner.stopping();
        let around = Around {
            running_agents: self.runner.running() - stopping_agents,
            stopping_agents,
            unrevoked: self.unrevoked_credentials(),
        };
        self.observed.metrics.page(&self.runtime, &around)
    }

    /// The counters of sockets.
    #[cfg(feature = "websocket")]
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.observed.metrics.traffic
    }

    /// Notes that all outputs of this turn were given to the sockets.
    #[cfg(feature = "websocket")]
    pub(crate) fn note_fan_out(&mut self) {
        self.observed.fanned_out();
    }

    /// Whether the runtime accepts no new jobs because it is about to end.
    pub fn is_draining(&self) -> bool {
        is_draining(&self.runtime)
    }

    /// How many sessions, jobs, records and so on there are.
    pub fn stats(&self) -> Stats {
        self.runtime.stats()
    }

    /// Whether a credential from `address` belongs to an operator or an auditor. `None`: the
    /// authenticator cannot tell without waiting. A wrong credential counts against that address,
    /// as on a connection.
    ///
    /// # Errors
    ///
    /// If too many credentials from that address were wrong. The error says when to try again.
    pub fn oversees(&mut self, credential: &Credential, address: Option<IpAddr>) -> Result<Option<bool>, Violation> {
        let now = self.clock.now();
        if let Some(address) = address {
            may_judge(&self.runtime, now, address, credential)?;
        }
        let Some(verdict) = self.access.judge(credential) else {
            return Ok(None);
        };
        if let Some(address) = address {
            let (credential, counts) = (credential.digest(), verdict.is_some());
            self.input(Input::JudgedElsewhere { address, credential, counts });
        }
        Ok(Some(verdict.is_some_and(|verdict| self.access.oversees(&verdict, now.utc))))
    }

    /// Whether the runtime still has something to send to a peer that has stopped sending: see
    /// [`owes`](arcp_proto::runtime::owes).
    pub fn owes(&self, conn: ConnId) -> bool {
        arcp_proto::runtime::owes(&self.runtime, conn)
    }

    /// The number of running agents.
    pub fn running_agents(&self) -> usize {
        self.runner.running()
    }

    /// The unfinished jobs, the oldest first.
    pub fn unfinished(&self) -> Vec<JobSummary> {
        unfinished(&self.runtime)
    }

    /// Whether no job is unfinished and no agent runs.
    pub fn is_idle(&self) -> bool {
        self.stats().unfinished_jobs == 0 && self.running_agents() == 0
    }

    /// The last error of the store; `None` once a commit works.
    pub fn store_error(&self) -> Option<&StoreError> {
        self.store_error.as_ref()
    }

    fn until_deadline(&self) -> Option<Duration> {
        self.runtime.next_deadline().map(|deadline| self.clock.until(deadline.at))
    }

    fn is_alive(&self) -> Result<(), Fenced> {
        self.fenced.clone().map_or(Ok(()), Err)
    }

    fn take(&mut self, message: Message) -> Result<(), Fenced> {
        let Message { input, error, arrived } = message;
        match error {
            Some(error) => self.store_failed(error)?,
            None if matches!(input, Input::Persisted { .. }) => {
                self.store_error = None;
                self.observed.durable(arrived);
            }
            None => {}
        }
        let arrived = self.clock.at(arrived);
        self.input_at(arrived, input);
        Ok(())
    }

    fn store_failed(&mut self, error: StoreError) -> Result<(), Fenced> {
        match error {
            StoreError::Fenced(why) => {
                self.runner.stop_all();
                self.fenced = Some(Fenced(why));
            }
            StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
                log(format_args!("arcp: {error}"));
                self.store_error = Some(error);
            }
        }
        self.is_alive()
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        self.input_at(now, input);
    }

    fn input_at(&mut self, arrived: Now, mut input: Input) {
        mask(&self.runtime, &mut input);
        self.runner.takes(&input);
        self.access.takes(&input);
        self.observed.spans.takes(&input);
        if let Some(jump) = self.clock.take_jump() {
            let seconds = jump / 1000;
            log(format_args!(
                "arcp: the wall clock jumped by {seconds} s: it is followed slowly, so that no time limit ends early or \
                 late; restart to follow it at once"
            ));
        }
        if let Some(recording) = &mut self.recording {
            recording.input(arrived, &input);
        }
        self.runtime.handle(arrived, input);
    }

    /// Performs all outputs of the core. Records are collected for the one group of this turn.
    fn drain(&mut self, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        let drained = self.perform_all(sockets);
        if self.recording.as_mut().is_some_and(|recording| !recording.write()) {
            self.recording = None;
        }
        drained
    }

    /// Gives the records of this turn to the store as one group, so that the commit thread is woken
    /// once and waits for the disk once.
    fn commit_turn(&mut self) {
        if let Some(outcome) = self.committer.hand_over() {
            self.mailbox.post(outcome);
        }
    }

    fn perform_all(&mut self, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        loop {
            while let Some(output) = self.runtime.poll_output() {
                if let Some(recording) = &mut self.recording {
                    recording.output(&output);
                }
                self.observed.spans.performs(&output);
                self.perform(output, sockets);
            }
            match self.committer.commit_at_once() {
                Some(outcome) => self.take(outcome)?,
                None => return Ok(()),
            }
        }
    }

    fn perform(&mut self, output: Output, sockets: &mut impl Sockets) {
        match output {
            Output::Send { conn, frame } => {
                sockets.send(conn, &frame);
                take_back(&mut self.runtime, frame);
            }
            Output::SendSidecar { conn, message } => sockets.send_sidecar(conn, message),
            Output::Close { conn, reason } => sockets.close(conn, reason),
            Output::PauseRead { conn } => sockets.pause_reading(conn),
            Output::ResumeRead { conn } => sockets.resume_reading(conn),
            Output::RaiseFrameLimit { conn } => sockets.raise_frame_limit(conn),
            Output::Fragment { conn, bytes } => sockets.fragment(conn, bytes),
            Output::Authenticate { op, credential, .. } => self.authenticate(op, credential),
            Output::CheckInput { op, agent, input } => {
                if let Some(found) = self.runner.check(op, &agent, input) {
                    self.input(found);
                }
            }
            Output::CheckValue { op, schema, value } => self.runner.check_value(op, schema, value),
            Output::IssueCredentials { op, order } => self.elsewhere.provisioning.issue(op, *order),
            Output::RevokeCredentials { op, job, what } => self.elsewhere.provisioning.revoke(op, job, what),
            Output::HandOff { op, order } => self.elsewhere.errands.hand_off(op, *order),
            Output::StoreBlob { op, digest, bytes } => self.blobs.want(blobs::Wanted::Store(op, digest, bytes)),
            Output::TakeBlob { op, job, call, digest, size } => {
                self.blobs.want(blobs::Wanted::Take(op, digest, size, self.runner.take_offer(job, call)));
            }
            Output::ReadBlob { op, digest, range } => self.blobs.want(blobs::Wanted::Read(op, digest, range)),
            Output::Parts(step) => self.blobs.want(blobs::Wanted::Parts(step)),
            Output::DropBlob { digest } => self.blobs.want(blobs::Wanted::LetGo(digest)),
            Output::KeepBlobs { digests } => self.blobs.want(blobs::Wanted::KeepOnly(digests.into_iter().collect())),
            Output::PlanSchedule { op, rule, after, now, missed, coming, ends } => {
                recurrence::begin(op, Wanted { rule, after, now, missed, coming, ends }, self.mailbox.clone());
            }
            Output::Persist(batch) => self.committer.add(batch),
            Output::Load { op, job, from, to, bytes } => self.load(WantedEvents { op, job, from, to, bytes }),
            Output::StartAgent { job, spec } => {
                if let Some(exit) = self.runner.start_now(job, *spec) {
                    self.input(exit);
                }
            }
            Output::StopAgent { job, force } => self.runner.stop(job, force),
            Output::AgentCredit { job, calls, bytes } => self.runner.credit(job, calls, bytes),
            Output::AgentReply { job, id, reply } => self.runner.reply(job, id, reply),
            Output::InterruptAgent { job, interrupt } => self.runner.interrupt(job, interrupt),
            Output::AgentStream { job, stream, says } => self.runner.hear_of_stream(job, stream, says),
            Output::AskCheckpoint { job, label } => self.runner.want_checkpoint(job, label),
            Output::Extension { session, message } => {
                self.observed.take_extension(session, message);
                self.input(Input::ExtensionTaken { session });
            }
            Output::Observe(notice) => self.observed.notice(&notice, &self.runtime),
        }
    }

    fn authenticate(&mut self, op: OpId, credential: Credential) {
        if let Some(verdict) = self.access.judge(&credential) {
            return self.input(Input::Authenticated { op, verdict });
        }
        let authenticator = self.access.authenticator();
        let judgement = Judgement { op, mailbox: self.mailbox.clone(), judged: Err(NotJudged) };
        // Without a thread, the closure is dropped, and dropping the judgement posts it.
        self.access.judges.begin(judged_for(&self.runtime, op), move || {
            let mut judgement = judgement;
            judgement.judged = authenticator.judge(&credential);
        });
    }

    fn load(&mut self, wanted: WantedEvents) {
        let op = wanted.op;
        if self.read_back.as_mut().is_none_or(|read_back| read_back.read(wanted).is_err()) {
            self.input(Input::Loaded { op, events: None });
        }
    }
}

/// The outcome of judging a credential. It is posted when this is dropped, so also after a panic.
struct Judgement {
    op: OpId,
    mailbox: Arc<Mailbox>,
    judged: Result<Option<Verdict>, NotJudged>,
}

impl Drop for Judgement {
    fn drop(&mut self) {
        let op = self.op;
        self.mailbox.put(match std::mem::replace(&mut self.judged, Err(NotJudged)) {
            Ok(verdict) => Input::Authenticated { op, verdict },
            Err(NotJudged) => Input::NotJudged { op },
        });
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("stats", &self.stats()).field("runner", &self.runner).finish_non_exhaustive()
    }
}
