//! The loop around a runtime, without its sockets.
//!
//! A [`Driver`] owns a runtime and does what that asks for: it commits records
//! in groups, reads events back, has credentials judged, runs agents, records.
//! An adapter, or a loop of your own, moves bytes: it hands over what sockets
//! receive and writes what the driver gives to its [`Sockets`]. The driver
//! never waits; whoever calls it does, until its callback wakes it or
//! [`Driver::next_wait`] has passed. So it fits a readiness loop as well as a
//! task of an async runtime.
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

/// What frames are written to: sockets, pipes, queues in memory. The driver
/// calls it in the order of what is to be done; nothing in it may wait, and
/// connections that it does not know are passed over.
pub trait Sockets {
    /// Queues a frame for a connection. What is written of it is told with
    /// [`Input::Credit`]; see [`WriteWindow`].
    fn send(&mut self, conn: ConnId, frame: &str);

    /// Queues a binary message for a connection that is a WebSocket, right behind the
    /// frame before it; as [`send`](Self::send).
    fn send_sidecar(&mut self, conn: ConnId, message: Vec<u8>);

    /// Closes a connection once everything queued for it is written. The core
    /// has forgotten it.
    fn close(&mut self, conn: ConnId, reason: CloseReason);

    /// Takes no frame from a connection for now, not even one that has arrived.
    fn pause_reading(&mut self, conn: ConnId);

    /// Takes frames from it again, those first that have arrived since.
    fn resume_reading(&mut self, conn: ConnId);

    /// Takes frames of up to [`FrameLimits::frame_bytes`] from a connection, no
    /// longer only of [`FrameLimits::handshake_frame_bytes`]: its peer is known.
    ///
    /// [`FrameLimits::frame_bytes`]: arcp_proto::limits::FrameLimits::frame_bytes
    /// [`FrameLimits::handshake_frame_bytes`]: arcp_proto::limits::FrameLimits::handshake_frame_bytes
    fn raise_frame_limit(&mut self, conn: ConnId) {
        let _ = conn;
    }

    /// Sends messages of more than so many bytes in fragments, where the
    /// transport has them.
    fn fragment(&mut self, conn: ConnId, bytes: usize) {
        let _ = (conn, bytes);
    }
}

/// The store is somebody else's: the runtime has ended and shows nothing more.
/// Whoever gets this drops all connections as they are, without a goodbye, and
/// then the driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this runtime has ended, somebody else owns its store now: {0}")]
pub struct Fenced(pub String);

/// A runtime with everything under it but its sockets.
///
/// One turn of a loop: wait for [`next_wait`](Self::next_wait),
/// [`take_inbox`](Self::take_inbox), hand over with [`handle`](Self::handle) what
/// each connection has received, [`tick`](Self::tick), write, and hand over the
/// credit of what was written.
///
/// Dropping it stops every agent (see [`Runner`]) and commits what is queued.
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
    /// What was taken out of the mailbox and not handed over.
    messages: VecDeque<Message>,
    mailbox: Arc<Mailbox>,
    heard: Heard,
    store_error: Option<StoreError>,
    fenced: Option<Fenced>,
}

impl Driver {
    /// Starts a runtime, from what its store has kept. `wake` is called, on any
    /// thread, when something was put into the inbox: it must not wait, and has
    /// to end the wait of the loop, the next one if there is none.
    ///
    /// Reads the whole store before it returns.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, what was kept cannot be read, or a
    /// thread cannot be started.
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

    /// Hands one input to the runtime and does everything that follows. From an
    /// adapter come [`Input::Opened`], [`Input::Received`], [`Input::ReceivedBinary`],
    /// [`Input::TooLong`], [`Input::Credit`], [`Input::Closed`] and [`Input::Operator`].
    ///
    /// # Errors
    ///
    /// [`Fenced`] from the moment on when the store is somebody else's; nothing
    /// is done any more.
    pub fn handle(&mut self, input: Input, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        self.is_alive()?;
        self.input(input);
        self.drain(sockets)
    }

    /// Hands over what others have put into the inbox: a bounded number, so
    /// that connections get their turn. What follows from all of it is
    /// committed as one group.
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

    /// Lets time pass, where a deadline is due, and has the store make durable what the
    /// turn has made. A deadline may be about
    /// silence, which is judged as of the moment when the loop began to wait:
    /// whatever had arrived by then was handed over in this turn, and what came
    /// while the turn was held up is heard first. Say with `all_heard` whether
    /// that is so; if not, the tick is put off, but not for ever.
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

    /// How long to wait at most before the next turn; `None`: until there is
    /// something to do. To be called right before each wait, and before it is
    /// looked which sockets have something: silence is judged as of then.
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

    /// Jobs whose credentials ought to be revoked and may count.
    pub fn unrevoked_credentials(&self) -> usize {
        unrevoked_credentials(&self.runtime).jobs
    }

    /// For how long that is so of the first of them, in this run of the runtime.
    pub fn longest_unrevoked(&mut self) -> Duration {
        let since = unrevoked_credentials(&self.runtime).since;
        let now = self.clock.now().mono;
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// What it has counted and how much there is of everything, as OpenMetrics text.
    /// Costs as much as there are sessions and unfinished jobs.
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

    /// What sockets count.
    #[cfg(feature = "websocket")]
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.observed.metrics.traffic
    }

    /// Every socket was given what there is for it.
    #[cfg(feature = "websocket")]
    pub(crate) fn note_fan_out(&mut self) {
        self.observed.fanned_out();
    }

    /// Whether no new jobs are accepted because it is to end.
    pub fn is_draining(&self) -> bool {
        is_draining(&self.runtime)
    }

    /// How much there is of everything.
    pub fn stats(&self) -> Stats {
        self.runtime.stats()
    }

    /// Whether a credential that came from `address` is that of an operator or
    /// auditor. `None`: that cannot be told without waiting. A wrong one counts for
    /// that address, as those of connections do.
    ///
    /// # Errors
    ///
    /// If too many that came from there were wrong: when to try again.
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

    /// Whether a peer that says nothing more is owed something: see
    /// [`owes`](arcp_proto::runtime::owes).
    pub fn owes(&self, conn: ConnId) -> bool {
        arcp_proto::runtime::owes(&self.runtime, conn)
    }

    /// How many agents run.
    pub fn running_agents(&self) -> usize {
        self.runner.running()
    }

    /// The jobs that have not ended, the oldest first.
    pub fn unfinished(&self) -> Vec<JobSummary> {
        unfinished(&self.runtime)
    }

    /// Whether no job is unfinished and no agent runs.
    pub fn is_idle(&self) -> bool {
        self.stats().unfinished_jobs == 0 && self.running_agents() == 0
    }

    /// What the store said when it failed last; `None` once a commit works.
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

    /// Hands over what arrives now.
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

    /// Does everything the core asks for. What was given for durability is one group with
    /// what the rest of this turn gives.
    fn drain(&mut self, sockets: &mut impl Sockets) -> Result<(), Fenced> {
        let drained = self.perform_all(sockets);
        if self.recording.as_mut().is_some_and(|recording| !recording.write()) {
            self.recording = None;
        }
        drained
    }

    /// What this turn has made goes to the store, as one group: for all that is committed
    /// together its thread is woken once, and the disk waited for once.
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
        // Where there is no thread, the judgement is dropped with it, and so given.
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

/// What becomes of a credential, which is told however its judge ends.
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
