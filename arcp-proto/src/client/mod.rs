//! The client: the peer of a runtime, also without IO.

pub mod artifacts;
pub mod checkpoints;
mod commands;
mod follow;
mod handoff;
mod io;
pub mod job_tokens;
mod open;
pub mod prompts;
mod reconnector;
mod replies;
pub mod schedules;
mod sidecars;
pub mod streams;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};
use core::time::Duration;

pub use io::{ClientConfig, ClientEvent, ClientInput, ClientLimits, ClientOutput, Handle, ResultData, SessionEnd};
pub use open::OpenSession;
pub use reconnector::ClientTimer;
pub use sidecars::speak_in_lines;

use crate::entropy::{Entropy, Seeds};
use crate::error::{ApiMisuse, ConfigError, Violation};
use crate::id::{IdempotencyKey, SessionId, WireId};
use crate::model::artifact::PutArtifact;
use crate::model::feature::{Feature, Features};
use crate::model::reply::{Opened, Refusal, RefusedKind};
use crate::model::request::{
    Answering, Command, Credential, HandOver, HandshakeRequest, Interrupt, Invocation, ListQuery, Open, Request,
    ResumeClaim, SessionRequest, Submit, Target, Watch,
};
use crate::model::session::{Eviction, SessionQuery};
use crate::model::upload::ArtifactWish;
use crate::secret::Secret;
use crate::time::{Now, Timestamp};
use crate::wire::sidecar::{self, Sidecars};
use crate::wire::{RequestToSend, ServerProfile, write_request};
use commands::{Commands, Origin, Pending};
use follow::FollowedJobs;
use reconnector::{ReconnectState, Reconnector};

/// How long a session must stay open for its loss to count as a first failure.
const STEADY: Duration = Duration::from_secs(5);
/// How many connections in a row a runtime may close without answering the hello before the client
/// gives up.
const UNANSWERED: u32 = 3;
/// How long processed events may stay unacknowledged.
const ACK_DELAY: Duration = Duration::from_secs(1);

/// An ARCP client without IO.
///
/// The contract is that of [`crate::runtime::Runtime`]: `handle` takes one input and never fails,
/// `poll_output` gives the next thing to do, in order, and `next_deadline` says when to call again.
/// A [`ClientInput::Tick`] says that everything that had arrived by its `now` was handed over.
/// Commands are given on a [`Session`], which exists only once a session was accepted.
///
/// After a loss the client reconnects by itself and resumes its session. If that is not possible,
/// it opens a new session, watches its jobs there, and claims them by their keys. The application
/// sees each event once and in order, whatever happens to the connection.
///
/// ```
/// use arcp_proto::client::{Client, ClientConfig, ClientInput, ClientOutput};
/// use arcp_proto::entropy::Seeds;
/// use arcp_proto::error::ApiMisuse;
/// use arcp_proto::model::request::Credential;
/// use arcp_proto::time::Now;
///
/// let config = ClientConfig::new("doc", "1", Credential::Anonymous);
/// let seeds = Seeds { public: [1; 32], secret: [2; 32] };
/// let mut client = Client::new(config, seeds, Now::default())?;
/// client.handle(Now::default(), ClientInput::Tick);
/// assert_eq!(client.poll_output(), Some(ClientOutput::Connect));
/// assert_eq!(client.session().err(), Some(ApiMisuse::NotAccepted));
/// # Ok::<(), arcp_proto::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    now: Now,
    /// The time up to which all arrivals were handed over.
    heard: Timestamp,
    entropy: Entropy,
    reconnector: Reconnector,
    identity: Option<Identity>,
    /// The session of another client that is to be resumed, until it is.
    left: Option<ResumeClaim>,
    /// The session that was opened in order to resume an earlier one.
    fresh: Option<Opened>,
    commands: Commands,
    followed: FollowedJobs,
    outputs: VecDeque<ClientOutput>,
    /// The frame that waits for its sidecar.
    sidecars: Sidecars,
}

/// The open session and its runtime.
#[derive(Debug)]
struct Identity {
    session: WireId,
    token: Secret,
    features: Features,
    /// The last sequence number that was processed.
    last_seq: u64,
    acked: u64,
    server: ServerProfile,
    /// Whether the runtime has named a refused request: then a refusal that names none is not an
    /// answer. Some runtimes name the requests that they accept, but not those that they refuse.
    names_refused: bool,
}

impl Identity {
    /// The claim with which the session can be resumed, if it can be.
    fn claim(&self) -> Option<ResumeClaim> {
        let claim =
            ResumeClaim { session: Some(self.session.clone()), token: self.token.clone(), last_seq: self.last_seq };
        Some(claim).filter(|claim| !claim.token.expose().is_empty())
    }

    /// The last number that may be acknowledged. Events that wait for the acceptance of their job
    /// are not: they are requested again if too many wait.
    fn acknowledgeable(&self, first_early: Option<u64>) -> u64 {
        first_early.map_or(self.last_seq, |first| self.last_seq.min(first.saturating_sub(1)))
    }
}

impl Client {
    /// A client that is not connected.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(config: ClientConfig, seeds: Seeds, now: Now) -> Result<Client, ConfigError> {
        config.validate()?;
        Ok(Client {
            left: config.resume.clone(),
            config,
            now,
            heard: now.mono,
            entropy: Entropy::new(&seeds),
            reconnector: Reconnector::new(now.mono),
            identity: None,
            fresh: None,
            commands: Commands::default(),
            followed: FollowedJobs::default(),
            outputs: VecDeque::new(),
            sidecars: Sidecars::default(),
        })
    }

    /// Handles one input with all its effects.
    pub fn handle(&mut self, now: Now, input: ClientInput) {
        self.now.mono = self.now.mono.max(now.mono);
        self.now.utc = self.now.utc.max(now.utc);
        if input == ClientInput::Tick {
            self.heard = self.heard.max(now.mono);
        }
        if self.reconnector.state == ReconnectState::Down {
            self.connect();
        }
        self.fire_timers();
        match input {
            ClientInput::Connected => self.on_connected(),
            ClientInput::ConnectFailed { why } if self.reconnector.state == ReconnectState::Connecting => {
                self.lose(&why)
            }
            ClientInput::Disconnected { why } => self.on_disconnected(&why),
            ClientInput::TooLarge { why } => self.on_too_large(&why),
            ClientInput::Received { frame } => self.on_received(&frame),
            ClientInput::ReceivedBinary { message } => sidecars::on_binary(self, &message),
            ClientInput::ConnectFailed { .. } | ClientInput::Tick => {}
        }
    }

    /// The next thing to do; `None` when there is nothing left.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`handle`](Self::handle) again at the latest, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Timestamp, ClientTimer)> {
        self.reconnector.next()
    }

    /// The session, on which commands are given.
    ///
    /// # Errors
    ///
    /// `NotAccepted` before the first acceptance, `Ended` after the end. While the client
    /// reconnects, the session stays, and commands wait.
    pub fn session(&mut self) -> Result<Session<'_>, ApiMisuse> {
        if self.reconnector.state == ReconnectState::Over {
            return Err(ApiMisuse::Ended);
        }
        if self.identity.is_none() {
            return Err(ApiMisuse::NotAccepted);
        }
        Ok(Session { client: self })
    }

    fn connect(&mut self) {
        self.reconnector.state = ReconnectState::Connecting;
        let at = self.now.mono + self.config.open_timeout;
        self.reconnector.set(ClientTimer::OpenTimeout, Some(at));
        self.outputs.push_back(ClientOutput::Connect);
    }

    fn on_connected(&mut self) {
        if self.reconnector.state != ReconnectState::Connecting {
            return;
        }
        self.reconnector.state = ReconnectState::Opening;
        self.reconnector.last_received = self.now.mono;
        self.reconnector.answered = false;
        self.fresh = None;
        self.sidecars = Sidecars::default();
        let config = &self.config;
        let open = Open::new(config.client.clone(), config.credential.clone(), config.features);
        let resume = self.claim().filter(|_| !config.family.resumes_after_opening());
        let open =
            Request::Handshake(HandshakeRequest::Open(Open { resume, extensions: config.extensions.clone(), ..open }));
        let id = self.entropy.ulid(self.now.utc);
        // Some runtimes require a session id in the hello, and close the connection without an
        // answer if there is none.
        let minted = (self.reconnector.unanswered == 1).then(|| WireId::from(SessionId::from_ulid(id)));
        self.write(id, minted.as_ref(), &open);
    }

    /// The claim to its session, for [`ClientConfig::resume`] of another client; `None` if there is
    /// no session that can be resumed.
    #[must_use]
    pub fn claim(&self) -> Option<ResumeClaim> {
        self.identity.as_ref().map_or_else(|| self.left.clone(), Identity::claim)
    }

    fn on_disconnected(&mut self, why: &str) {
        if self.reconnector.state == ReconnectState::Opening && !self.reconnector.answered && self.identity.is_none() {
            self.reconnector.unanswered += 1;
            // The runtime may not support resuming.
            self.left = None;
            let said = alloc::format!("the runtime closed the connection without an answer to the hello ({why})");
            if self.reconnector.unanswered >= UNANSWERED {
                return self.end(SessionEnd::Lost(said));
            }
            return self.lose(&said);
        }
        match self.reconnector.state {
            ReconnectState::Connecting | ReconnectState::Opening | ReconnectState::Open => self.lose(why),
            ReconnectState::Down | ReconnectState::Pausing | ReconnectState::Over => {}
        }
    }

    /// Refuses the largest unanswered command, which is taken for the frame that was too large.
    /// Otherwise it would be sent again on each connection.
    fn on_too_large(&mut self, why: &str) {
        let (family, sidecars) = (self.config.family, sidecars::are_agreed(self));
        let session = self.identity.as_ref().map(|me| me.session.clone());
        let size = |pending: &Pending| {
            let to_send = RequestToSend {
                id: pending.id,
                session: session.as_ref(),
                at: self.now.utc,
                request: &pending.request,
                sidecars,
            };
            let beside = sidecar::of_request(family, &to_send).map_or(0, |message| message.len());
            write_request(family, &to_send).map_or(0, |frame| frame.len().max(beside))
        };
        if let Some((bytes, handle, pending)) = self.commands.take_largest(size) {
            let message = alloc::format!("a message of {bytes} bytes is too large for the runtime ({why})");
            let mut refusal = Refusal::new(RefusedKind::Frame, Violation::invalid(message), None);
            refusal.job = pending.request.job().cloned();
            let handle = pending.is_asked().then_some(handle);
            self.tell(ClientEvent::Refused { handle, refusal });
        }
        self.on_disconnected(why);
    }

    /// Handles a lost connection: pauses before the next attempt, or gives up if attempts have
    /// failed for too long.
    fn lose(&mut self, why: &str) {
        if self.commands.is_closing() {
            return self.end(SessionEnd::Closed);
        }
        let mortal = self.identity.as_ref().is_some_and(|me| !me.server.outlives_connections());
        if mortal && !self.followed.is_empty() {
            return self.end(SessionEnd::Lost(alloc::format!("{why}; this runtime keeps no jobs over a loss")));
        }
        if self.reconnector.state == ReconnectState::Open {
            self.reconnector.lost_at = self.now.mono;
            // If the session was open only briefly, pauses keep growing.
            if self.now.mono >= self.reconnector.opened_at + STEADY {
                self.reconnector.attempt = 0;
            }
        }
        self.reconnector.set(ClientTimer::Heartbeat, None);
        self.reconnector.set(ClientTimer::OpenTimeout, None);
        self.reconnector.set(ClientTimer::Ack, None);
        self.reconnector.attempt += 1;
        let pause = self.reconnector.pause(self.config.longest_pause, self.entropy.public_u64());
        let at = self.now.mono + pause;
        if self.config.give_up_after.is_some_and(|limit| at > self.reconnector.lost_at + limit) {
            return self.end(SessionEnd::Lost(why.to_string()));
        }
        self.reconnector.state = ReconnectState::Pausing;
        self.reconnector.set(ClientTimer::Reconnect, Some(at));
        let attempt = self.reconnector.attempt;
        self.tell(ClientEvent::Reconnecting { attempt, after: pause, why: why.to_string() });
    }

    /// Closes the present transport.
    fn drop_transport(&mut self, why: &str) {
        self.outputs.push_back(ClientOutput::Disconnect);
        self.lose(why);
    }

    fn end(&mut self, end: SessionEnd) {
        if self.reconnector.state == ReconnectState::Over {
            return;
        }
        self.reconnector = Reconnector::new(self.now.mono);
        self.reconnector.state = ReconnectState::Over;
        self.commands.clear();
        self.followed.clear();
        self.tell(ClientEvent::Ended(end));
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.reconnector.pop_due(self.now.mono, self.heard) {
            match timer {
                ClientTimer::Reconnect => self.connect(),
                ClientTimer::OpenTimeout => self.drop_transport("the session was not opened in time"),
                ClientTimer::Heartbeat => self.on_heartbeat(),
                ClientTimer::Ack => self.send_ack(),
            }
        }
    }

    fn on_heartbeat(&mut self) {
        let Some(interval) = self.reconnector.heartbeat else {
            return;
        };
        if self.heard >= self.reconnector.last_received + interval * 2 {
            return self.drop_transport("nothing was heard from the runtime for two heartbeats");
        }
        if self.now.mono >= self.reconnector.last_sent + interval {
            let nonce = alloc::format!("{:016x}", self.entropy.public_u64());
            self.send(&Request::Session(SessionRequest::Ping { nonce }));
        }
        self.reconnector.set(ClientTimer::Heartbeat, Some(self.reconnector.heartbeat_at(interval)));
    }

    fn send_ack(&mut self) {
        self.reconnector.set(ClientTimer::Ack, None);
        let Some(me) = self.identity.as_mut().filter(|me| me.features.has(Feature::Ack)) else {
            return;
        };
        let seq = me.acknowledgeable(self.followed.first_early());
        if self.reconnector.state == ReconnectState::Open && seq > me.acked {
            me.acked = seq;
            self.send(&Request::Session(SessionRequest::Ack { seq }));
        }
    }

    /// Plans or sends the acknowledgement of a processed event.
    fn processed(&mut self) {
        let Some(me) = &self.identity else {
            return;
        };
        if me.acknowledgeable(self.followed.first_early()).saturating_sub(me.acked) >= self.config.limits.ack_every {
            self.send_ack();
        } else if !self.reconnector.is_set(ClientTimer::Ack) && me.features.has(Feature::Ack) {
            self.reconnector.set(ClientTimer::Ack, Some(self.now.mono + ACK_DELAY));
        }
    }

    /// Sends a request that needs no answer, in the open session.
    fn send(&mut self, request: &Request) {
        let id = self.entropy.ulid(self.now.utc);
        let session = self.identity.as_ref().map(|me| me.session.clone());
        self.write(id, session.as_ref(), request);
    }

    fn write(&mut self, id: ulid::Ulid, session: Option<&WireId>, request: &Request) {
        let sidecars = sidecars::are_agreed(self);
        let to_send = RequestToSend { id, session, at: self.now.utc, request, sidecars };
        let Some(frame) = write_request(self.config.family, &to_send) else {
            debug_assert!(false, "{:?} has no word for {request:?}", self.config.family);
            return;
        };
        self.reconnector.last_sent = self.now.mono;
        self.outputs.push_back(ClientOutput::Send { frame });
        let beside =
            sidecar::of_request(self.config.family, &to_send).map(|message| ClientOutput::SendSidecar { message });
        self.outputs.extend(beside);
    }

    /// Adds a command, which is sent on each connection until it is answered.
    fn give(&mut self, request: impl Into<Request>, origin: Origin) -> Result<Handle, ApiMisuse> {
        let id = self.entropy.ulid(self.now.utc);
        let handle = self.commands.add(id, request.into(), origin, self.config.limits.pending)?;
        self.send_pending();
        Ok(handle)
    }

    /// Sends every command that was not sent on this connection.
    fn send_pending(&mut self) {
        if self.reconnector.state != ReconnectState::Open {
            return;
        }
        let session = self.identity.as_ref().map(|me| me.session.clone());
        for (id, request) in self.commands.take_unsent() {
            self.write(id, session.as_ref(), &request);
        }
        if self.identity.as_ref().is_some_and(|me| !me.server.acknowledges_cancels()) {
            // The runtime will not acknowledge it: a sent cancel counts as accepted.
            for (handle, job) in self.commands.take_cancels() {
                self.tell(ClientEvent::CancelTaken { handle: Some(handle), job });
            }
        }
    }

    fn tell(&mut self, event: ClientEvent) {
        self.outputs.push_back(ClientOutput::Event(event));
    }
}

/// An accepted session, on which commands are given. Every command returns a [`Handle`], which its
/// answer carries.
#[derive(Debug)]
pub struct Session<'a> {
    client: &'a mut Client,
}

impl Session<'_> {
    /// The features that both sides offer.
    pub fn features(&self) -> Features {
        self.client.identity.as_ref().map(|me| me.features).unwrap_or_default()
    }

    /// Submits a job. A submit without a key gets one, so that a retry never runs the job twice.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `TooManyFollowed`.
    pub fn submit(&mut self, submit: Submit) -> Result<Handle, ApiMisuse> {
        self.invoke(submit, Invocation::default())
    }

    fn invoke(&mut self, mut submit: Submit, invocation: Invocation) -> Result<Handle, ApiMisuse> {
        let client = &mut *self.client;
        let origin = if submit.key.is_some() { Origin::ApplicationWithKey } else { Origin::Application };
        submit.key.get_or_insert_with(|| IdempotencyKey::from_ulid(client.entropy.ulid(client.now.utc)));
        self.check_followed()?;
        self.client.give(Command::Submit(submit, invocation), origin)
    }

    /// Cancels a job of this session.
    ///
    /// # Errors
    ///
    /// `TooManyPending`.
    pub fn cancel(&mut self, job: WireId, reason: Option<String>) -> Result<Handle, ApiMisuse> {
        self.client.give(Command::cancel(job, reason), Origin::Application)
    }

    /// Answers a question of a job (RFC §12, §15.4). `ClientEvent::AnswerTaken` follows, or a
    /// refusal: `FailedPrecondition` if the question is closed, with `responded_by` in its details
    /// if another answer came first; `InvalidRequest` if the answer does not fit, and the question
    /// stays open.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn answer(&mut self, answering: Answering) -> Result<Handle, ApiMisuse> {
        self.needs(self.client.config.family.answers_with())?;
        self.client.give(Command::Answer(answering), Origin::Application)
    }

    /// Sends a message to the running agent of a job (RFC §10.5). `ClientEvent::AnswerTaken`
    /// follows, or a refusal: `Unimplemented` if the agent observes no interrupts.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn interrupt(&mut self, job: WireId, prompt: String) -> Result<Handle, ApiMisuse> {
        self.needs(self.client.config.family.interrupts_with())?;
        self.client.give(Command::Interrupt(Interrupt { target: Target::Job(job), prompt }), Origin::Application)
    }

    /// Gives a job to another owner, with the right to cancel it (RFC §14).
    /// `ClientEvent::HandedOver` follows, or a refusal: `FailedPrecondition` if no session takes
    /// it, or it cannot be handed over in its present state.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`: offer [`Feature::AgentHandoff`].
    pub fn hand_over(&mut self, wish: HandOver) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::AgentHandoff)?;
        self.client.give(Command::HandOver(wish), Origin::Application)
    }

    /// Lists jobs.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn list(&mut self, query: ListQuery) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::ListJobs)?;
        self.client.give(SessionRequest::List(query), Origin::Application)
    }

    /// Lists the sessions of all principals: `ClientEvent::Sessions` follows, or a refusal if the
    /// client is neither operator nor auditor.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn sessions(&mut self, query: SessionQuery) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::Sessions)?;
        self.client.give(SessionRequest::ListSessions(query), Origin::Application)
    }

    /// Takes a session from its client; its jobs continue. `ClientEvent::Evicted` follows, or a
    /// refusal if this client is no operator.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn evict(&mut self, eviction: Eviction) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::Sessions)?;
        self.client.give(Command::Evict(eviction), Origin::Application)
    }

    /// Stores bytes with the runtime (RFC §16): `ClientEvent::ArtifactKept` follows, or a refusal.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn put_artifact(&mut self, put: PutArtifact) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::Artifacts)?;
        self.client.give(Command::PutArtifact(put), Origin::Application)
    }

    /// Fetches the bytes of an artifact: `ClientEvent::ArtifactFetched` follows, or a
    /// refusal.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn fetch_artifact(&mut self, id: WireId) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::Artifacts)?;
        self.client.give(SessionRequest::AboutArtifacts(ArtifactWish::Fetch { id, range: None }), Origin::Application)
    }

    /// Releases an artifact: `ClientEvent::AnswerTaken` follows, also if the artifact is already
    /// gone.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `NotNegotiated`.
    pub fn release_artifact(&mut self, id: WireId) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::Artifacts)?;
        self.client.give(Command::ReleaseArtifact { id }, Origin::Application)
    }

    /// Watches a job.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, `TooManyFollowed`, or `NotNegotiated`.
    pub fn watch(&mut self, watch: Watch) -> Result<Handle, ApiMisuse> {
        self.needs(Feature::WatchJobs)?;
        let job = watch.job.clone();
        if !self.client.followed.has(&job) {
            self.check_followed()?;
        }
        let handle = self.client.give(Command::Watch(watch), Origin::Application)?;
        // Some runtimes replay events before they answer.
        self.client.followed.follow(job);
        Ok(handle)
    }

    /// Stops watching a job. There is no answer.
    pub fn unwatch(&mut self, job: WireId) {
        self.client.followed.remove(&job);
        if self.client.reconnector.state == ReconnectState::Open {
            self.client.send(&Request::Command(Command::Unwatch { job }));
        }
    }

    /// Replaces the credential, before the earlier one expires. In the open family a connected
    /// session is renewed at once. In hello, which has no message for this, the client resumes its
    /// session on a new connection.
    pub fn renew(&mut self, credential: Credential) {
        let client = &mut *self.client;
        client.config.credential = credential;
        if client.reconnector.state != ReconnectState::Open {
            return; // The next connection uses it.
        }
        match client.config.proof(None) {
            Some(proof) if client.config.family.resumes_after_opening() => {
                client.send(&Request::Handshake(HandshakeRequest::Authenticate(proof)));
            }
            Some(_) | None => {
                // This is no failure, so the pause must not grow.
                client.reconnector.attempt = 0;
                client.drop_transport("the credential was renewed");
            }
        }
    }

    /// Closes the session; its jobs continue. `ClientEvent::Ended` follows.
    ///
    /// # Errors
    ///
    /// `TooManyPending`.
    pub fn close(&mut self, reason: Option<String>) -> Result<Handle, ApiMisuse> {
        let open = self.client.reconnector.state == ReconnectState::Open;
        let handle = self.client.give(SessionRequest::Close { reason, answered: true }, Origin::Application)?;
        if !open {
            self.client.outputs.push_back(ClientOutput::Disconnect);
            self.client.end(SessionEnd::Closed);
        }
        Ok(handle)
    }

    /// Checks that one more job may be followed. Each unanswered submit counts as a job.
    fn check_followed(&self) -> Result<(), ApiMisuse> {
        let limit = self.client.config.limits.followed;
        let room = self.client.followed.len() + self.client.commands.submits() < limit;
        room.then_some(()).ok_or(ApiMisuse::TooManyFollowed { limit })
    }

    fn needs(&self, feature: Feature) -> Result<(), ApiMisuse> {
        if self.features().has(feature) { Ok(()) } else { Err(ApiMisuse::NotNegotiated(feature)) }
    }
}
