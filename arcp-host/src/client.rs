//! The client that an adapter runs, without its transport and its waiting.
//!
//! A [`ClientLoop`] owns the [client of the core](arcp_proto::client), the framing, the answers
//! that callers wait for, and the followers of jobs. An adapter provides a [`Transport`], hands
//! over what it receives, and waits: in a thread (`arcp-blocking`), or in a task
//! (`arcp-tokio-adapter`).

mod asking;
mod command;
mod job_update;
mod permissions;
mod security;
mod target;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arcp_proto::client::{
    Client, ClientConfig, ClientEvent, ClientInput, ClientOutput, Handle, SessionEnd, artifacts, checkpoints,
    job_tokens, prompts, schedules, speak_in_lines, streams,
};
use arcp_proto::error::{ApiMisuse, ConfigError};
use arcp_proto::id::WireId;
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::feature::Features;
use arcp_proto::model::reply::{Refusal, RefusedKind, Watching};
use arcp_proto::model::request::{Answering, ClientInfo, Extension, ResumeClaim};
use arcp_proto::model::upload::ArtifactWish;
use arcp_proto::time::Now;

use self::asking::{cancel_on, open_session, submit_on};
pub use self::command::Command;
use self::command::Waiting;
pub use self::job_update::{JobEnd, JobUpdate, Last};
pub use self::permissions::{Decision, PermissionAsked, PermissionHandler};
pub use self::security::{DialError, Identity, Security, Trust};
pub use self::target::{HTTP2, QUIC, Target, TargetError, bracketed, is_loopback};

use crate::clock::Clock;
use crate::framing::{Framed, Framing};

/// The answer of the runtime when it accepted the session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Welcome {
    /// The session.
    pub session: WireId,
    /// The features that both sides use.
    pub features: Features,
    /// The agents that the runtime offers.
    pub agents: Vec<AgentEntry>,
    /// The name and version of the runtime program.
    pub runtime: ClientInfo,
    /// The fingerprint of the runtime's key, as the runtime states it.
    pub fingerprint: Option<String>,
    /// Whether the session is the one of [`ClientConfig::resume`].
    pub resumed: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration is invalid.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// An operation of the system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The runtime refused the command.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The session has ended.
    #[error("{0}")]
    Ended(SessionEnd),
    /// The command is not allowed in this session.
    #[error("{0}")]
    Misuse(#[from] ApiMisuse),
    /// A token would be readable on the network: see [`Security::insecure`].
    #[error("{0} is neither TLS nor this machine, so that others could read the token on its way: use wss://")]
    Cleartext(Target),
    /// The server is not the expected one, or does not speak TLS.
    #[error("{0}")]
    Untrusted(String),
    /// The server does not accept the client's certificate.
    #[error("{0}")]
    NotTaken(String),
    /// What answers serves no sessions there: another path, another protocol, or without TLS.
    #[error("{0}")]
    NotServed(String),
}

/// Takes the answer to a command. It must not wait.
pub type Answer<T> = Box<dyn FnOnce(Result<T, ClientError>) + Send>;

/// Takes the updates of a job. It must not wait.
pub type Follower = Box<dyn Fn(JobUpdate) + Send>;

/// Takes a job that was handed over to the session, and returns its follower, if there is one; or
/// takes the reason why no more jobs come. It must not wait.
pub type Taker = Box<dyn Fn(Result<Watching, SessionEnd>) -> Option<Follower> + Send>;

/// Opens connections and writes frames. No function waits for long.
pub trait Transport {
    /// Begins to open a transport: [`ClientLoop::connected`] or
    /// [`ClientLoop::connect_failed`] answers.
    fn dial(&mut self);

    /// Writes the output of the framing, at once or as soon as possible.
    fn flush(&mut self, framing: &mut Framing);

    /// Writes the remaining output, with the goodbye in it, and drops the transport. What it
    /// receives afterwards is discarded.
    fn hang_up(&mut self, framing: Framing);
}

/// A client without its transport and its waiting.
///
/// One turn: wait as [`next_wait`](Self::next_wait) says, for commands and for the transport; hand
/// over what came, or call [`tick`](Self::tick). Once [`is_over`](Self::is_over) is true, call
/// [`hang_up`](Self::hang_up) and end.
pub struct ClientLoop {
    machine: Client,
    clock: Clock,
    /// The time at which the last tick ended.
    looked_at: Now,
    framing: Option<Framing>,
    ready: Option<Answer<Welcome>>,
    answers: BTreeMap<Handle, Waiting>,
    /// The followers of each job, with the command that added them; `None` for a job that was
    /// handed over.
    jobs: BTreeMap<WireId, Vec<(Option<Handle>, Follower)>>,
    extensions: Box<dyn Fn(Extension) + Send>,
    taker: Taker,
    permissions: Option<Arc<dyn PermissionHandler>>,
    /// The last refusal of the session that no command asked for: the reason, if the session is
    /// lost next.
    said: Option<String>,
    over: bool,
}

impl ClientLoop {
    /// A client that has not connected yet. `ready` gets the answer about its first session,
    /// `extensions` takes messages of extensions, and `taker` takes jobs that are handed over to
    /// the client, if it offers that.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, or the system provides no entropy.
    pub fn new(
        config: ClientConfig,
        ready: Answer<Welcome>,
        extensions: impl Fn(Extension) + Send + 'static,
        taker: Taker,
    ) -> Result<ClientLoop, ClientError> {
        let mut clock = Clock::new();
        let looked_at = clock.now();
        let machine = Client::new(config, crate::entropy::seeds()?, looked_at)?;
        Ok(ClientLoop {
            machine,
            clock,
            looked_at,
            framing: None,
            ready: Some(ready),
            answers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            extensions: Box::new(extensions),
            taker,
            permissions: None,
            said: None,
            over: false,
        })
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// How long to wait at most before the next [`tick`](Self::tick); `None`: until a command or
    /// bytes come.
    pub fn next_wait(&self) -> Option<Duration> {
        self.machine.next_deadline().map(|(at, _)| self.clock.until(at))
    }

    /// The framing of the open transport.
    pub fn framing(&mut self) -> Option<&mut Framing> {
        self.framing.as_mut()
    }

    /// Lets time pass. Everything that had arrived by the previous tick must have been handed over:
    /// silence is judged as of that tick.
    pub fn tick(&mut self, transport: &mut impl Transport) {
        self.machine.handle(self.looked_at, ClientInput::Tick);
        self.drain(transport);
        self.looked_at = self.clock.now();
    }

    /// Takes over a transport that was opened.
    pub fn connected(&mut self, framing: Framing, transport: &mut impl Transport) {
        if !framing.has_binary() {
            speak_in_lines(&mut self.machine);
        }
        self.framing = Some(framing);
        self.input(ClientInput::Connected, transport);
        self.frames(transport);
    }

    /// Reports that the transport could not be opened. A client that was never connected does not
    /// retry a server that cannot be trusted, that does not accept the client's certificate, or that serves no sessions.
    pub fn connect_failed(&mut self, why: DialError, transport: &mut impl Transport) {
        match (why, self.ready.take()) {
            (DialError::Untrusted(why), Some(ready)) => {
                self.over = true;
                ready(Err(ClientError::Untrusted(why)));
            }
            (DialError::NotTaken(why), Some(ready)) => {
                self.over = true;
                ready(Err(ClientError::NotTaken(why)));
            }
            (DialError::NotServed(why), Some(ready)) => {
                self.over = true;
                ready(Err(ClientError::NotServed(why)));
            }
            (
                DialError::Untrusted(why)
                | DialError::NotTaken(why)
                | DialError::NotServed(why)
                | DialError::Failed(why),
                ready,
            ) => {
                self.ready = ready;
                self.input(ClientInput::ConnectFailed { why }, transport);
            }
        }
    }

    /// Hands over bytes that the transport received.
    pub fn received(&mut self, bytes: &[u8], transport: &mut impl Transport) {
        if let Some(framing) = &mut self.framing {
            framing.feed(bytes);
            self.frames(transport);
        }
    }

    /// Reports that the transport was lost.
    pub fn lost(&mut self, why: String, transport: &mut impl Transport) {
        if self.framing.is_some() {
            self.hang_up(transport);
            self.input(ClientInput::Disconnected { why }, transport);
        }
    }

    /// Performs a command.
    pub fn command(&mut self, command: Command, transport: &mut impl Transport) {
        self.give(command);
        self.drain(transport);
    }

    /// Closes the session; its jobs go on.
    pub fn close(&mut self, transport: &mut impl Transport) {
        match self.machine.session().and_then(|mut session| session.close(None)) {
            Ok(_) => self.drain(transport),
            Err(_) => self.over = true,
        }
    }

    /// Ends without closing the session; returns the claim to the session, if the runtime gave one.
    pub fn leave(&mut self) -> Option<ResumeClaim> {
        self.over = true;
        self.machine.claim()
    }

    /// Sends a goodbye and drops the transport, if there is one.
    pub fn hang_up(&mut self, transport: &mut impl Transport) {
        if let Some(mut framing) = self.framing.take() {
            framing.close(arcp_proto::runtime::CloseReason::Goodbye);
            transport.hang_up(framing);
        }
    }

    fn give(&mut self, command: Command) {
        let session = self.machine.session();
        match command {
            Command::Submit(submit, invocation, follower, answer) => {
                let given = session.and_then(|session| submit_on(session, submit, invocation));
                self.await_answer(given, answer, |answer| Waiting::Submit(follower, answer));
            }
            Command::Watch(watch, follower, answer) => {
                let job = watch.job.clone();
                let given = session.and_then(|mut session| session.watch(watch));
                if let Ok(handle) = given {
                    // Some runtimes replay events before they answer.
                    self.jobs.entry(job.clone()).or_default().push((Some(handle), follower));
                }
                self.await_answer(given, answer, |answer| Waiting::Watch(job, answer));
            }
            Command::Unwatch(job) => {
                self.jobs.remove(&job);
                if let Ok(mut session) = session {
                    session.unwatch(job);
                }
            }
            Command::List(query, answer) => {
                let given = session.and_then(|mut session| session.list(query));
                self.await_answer(given, answer, Waiting::List);
            }
            Command::Cancel(job, reason, deadline, answer) => {
                let given = session.and_then(|session| cancel_on(session, job.clone(), reason, deadline));
                self.await_answer(given, answer, |answer| Waiting::Cancel(job, answer));
            }
            Command::Answer(answering, answer) => {
                let given = session.and_then(|mut session| session.answer(answering));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::AwaitPrompt(answer) => {
                let given = session.and_then(|mut session| prompts::await_next(&mut session));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::Sessions(query, answer) => {
                let given = session.and_then(|mut session| session.sessions(query));
                self.await_answer(given, answer, Waiting::Sessions);
            }
            Command::Evict(eviction, answer) => {
                let given = session.and_then(|mut session| session.evict(eviction));
                self.await_answer(given, answer, Waiting::Evict);
            }
            Command::PutArtifact(put, answer) => {
                let given = session.and_then(|mut session| session.put_artifact(put));
                self.await_answer(given, answer, Waiting::Put);
            }
            Command::FetchArtifact(id, range, answer) => {
                let given = session.and_then(|mut session| match range {
                    Some(range) => artifacts::fetch_range(&mut session, id, range),
                    None => session.fetch_artifact(id),
                });
                self.await_answer(given, answer, Waiting::Fetch);
            }
            Command::KeepParts(terms, answer) => {
                let given = session.and_then(|mut session| artifacts::keep(&mut session, terms));
                self.await_answer(given, answer, Waiting::Put);
            }
            Command::AboutArtifacts(wish, answer) => {
                let given = session.and_then(|mut session| artifacts::ask(&mut session, wish));
                self.await_answer(given, answer, Waiting::OfArtifacts);
            }
            Command::AbandonParts(digest, answer) => {
                let wish = ArtifactWish::Abandon(digest);
                let given = session.and_then(|mut session| artifacts::ask(&mut session, wish));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::ReleaseArtifact(id, answer) => {
                let given = session.and_then(|mut session| session.release_artifact(id));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::Schedule(wish, answer) => {
                let given = session.and_then(|mut session| schedules::add(&mut session, *wish));
                self.await_answer(given, answer, Waiting::Schedule);
            }
            Command::Schedules(query, answer) => {
                let given = session.and_then(|mut session| schedules::list(&mut session, query));
                self.await_answer(given, answer, Waiting::Schedules);
            }
            Command::ChangeSchedule(change, answer) => {
                let given = session.and_then(|mut session| schedules::change(&mut session, change));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::CreateCheckpoint(wish, answer) => {
                let given = session.and_then(|mut session| checkpoints::create(&mut session, wish));
                self.await_answer(given, answer, Waiting::Checkpoint);
            }
            Command::RestoreCheckpoint(wish, follower, answer) => {
                let given = session.and_then(|mut session| checkpoints::restore(&mut session, wish));
                self.await_answer(given, answer, |answer| Waiting::Submit(follower, answer));
            }
            Command::Checkpoints(job, answer) => {
                let given = session.and_then(|mut session| checkpoints::list(&mut session, job));
                self.await_answer(given, answer, Waiting::Checkpoints);
            }
            Command::IssueToken(job, answer) => {
                let given = session.and_then(|mut session| job_tokens::issue(&mut session, job));
                self.await_answer(given, answer, Waiting::Token);
            }
            Command::ExchangeToken(wish, follower, answer) => {
                let job = wish.token.job().clone();
                let given = session.and_then(|mut session| job_tokens::exchange(&mut session, wish));
                if let Ok(handle) = given {
                    self.jobs.entry(job.clone()).or_default().push((Some(handle), follower));
                }
                self.await_answer(given, answer, |answer| Waiting::Watch(job, answer));
            }
            Command::Interrupt(job, prompt, answer) => {
                let given = session.and_then(|mut session| session.interrupt(job, prompt));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::Stream(request, answer) => {
                let given = session.and_then(|mut session| streams::say(&mut session, request));
                self.await_answer(given, answer, Waiting::Answer);
            }
            Command::CancelStream(stream, reason, answer) => {
                let given = session.and_then(|mut session| streams::cancel(&mut session, stream.clone(), reason));
                self.await_answer(given, answer, |answer| Waiting::Cancel(stream, answer));
            }
            Command::PaceStream(stream, every, answer) => {
                let said = session.and_then(|mut session| streams::pace(&mut session, stream, every));
                answer(said.map_err(ClientError::from));
            }
            Command::HandOver(wish, answer) => {
                let given = session.and_then(|mut session| session.hand_over(wish));
                self.await_answer(given, answer, Waiting::HandOver);
            }
            Command::DecidePermissions(handler) => self.permissions = Some(handler.into()),
            Command::Renew(credential) => {
                if let Ok(mut session) = session {
                    session.renew(credential);
                }
            }
            Command::Echo(nonce, answer) => {
                let given = session.and_then(|session| open_session(session)?.echo(nonce));
                self.await_answer(given, answer, Waiting::Echo);
            }
            Command::Send(message, answer) => {
                let sent = session.and_then(|session| open_session(session).map(|mut open| open.send(message)));
                answer(sent.map_err(ClientError::from));
            }
        }
    }

    fn await_answer<T>(
        &mut self,
        given: Result<Handle, ApiMisuse>,
        answer: Answer<T>,
        waiting: impl FnOnce(Answer<T>) -> Waiting,
    ) {
        match given {
            Ok(handle) => drop(self.answers.insert(handle, waiting(answer))),
            Err(misuse) => answer(Err(misuse.into())),
        }
    }

    fn input(&mut self, input: ClientInput, transport: &mut impl Transport) {
        let now = self.clock.now();
        self.machine.handle(now, input);
        self.drain(transport);
    }

    fn drain(&mut self, transport: &mut impl Transport) {
        let mut written = false;
        while let Some(output) = self.machine.poll_output() {
            match output {
                ClientOutput::Connect => transport.dial(),
                ClientOutput::Send { frame } => {
                    if let Some(framing) = &mut self.framing {
                        framing.write(&frame);
                        written = true;
                    }
                }
                ClientOutput::SendSidecar { message } => {
                    if let Some(framing) = &mut self.framing {
                        framing.write_binary(message);
                    }
                }
                ClientOutput::Disconnect => self.hang_up(transport),
                ClientOutput::Event(event) => {
                    // The application may end the program when it hears of the event.
                    if std::mem::take(&mut written) {
                        self.flush(transport);
                    }
                    self.event(event);
                }
            }
        }
        if written {
            self.flush(transport);
        }
    }

    fn flush(&mut self, transport: &mut impl Transport) {
        if let Some(framing) = &mut self.framing {
            transport.flush(framing);
        }
    }

    fn frames(&mut self, transport: &mut impl Transport) {
        while let Some(framed) = self.framing.as_mut().and_then(Framing::next_frame) {
            match framed {
                Framed::Frame(frame) => self.input(ClientInput::Received { frame }, transport),
                Framed::Binary(message) => self.input(ClientInput::ReceivedBinary { message }, transport),
                Framed::TooLong => {
                    return self.lost("the server sent a message that is too long".to_string(), transport);
                }
                Framed::End(why) => return self.lost(why, transport),
                Framed::TooLarge(why) => {
                    self.hang_up(transport);
                    return self.input(ClientInput::TooLarge { why }, transport);
                }
            }
        }
        // Reading may have produced output, such as a pong.
        if self.framing.as_mut().is_some_and(|framing| !framing.output().is_empty()) {
            self.flush(transport);
        }
    }

    fn event(&mut self, event: ClientEvent) {
        let said = self.said.take();
        match event {
            ClientEvent::Accepted { session, features, agents, runtime, fingerprint, resumed, .. } => {
                match self.ready.take() {
                    Some(ready) => ready(Ok(Welcome { session, features, agents, runtime, fingerprint, resumed })),
                    None => self.tell_all(&JobUpdate::Reconnected { resumed }),
                }
            }
            ClientEvent::Reconnecting { attempt, after, why } => {
                let why = because(why, said);
                self.tell_all(&JobUpdate::Reconnecting { attempt, after, why });
            }
            ClientEvent::Ended(SessionEnd::Lost(why)) => self.ended(&SessionEnd::Lost(because(why, said))),
            ClientEvent::Ended(end) => self.ended(&end),
            ClientEvent::Submitted { handle, accepted } => {
                if let Some(Waiting::Submit(follower, answer)) = self.answers.remove(&handle) {
                    self.jobs.entry(accepted.job.clone()).or_default().push((Some(handle), follower));
                    answer(Ok(accepted));
                }
            }
            ClientEvent::Watching { handle, watching } => {
                if let Some(Waiting::Watch(_, answer)) = self.answers.remove(&handle) {
                    answer(Ok(watching));
                }
            }
            ClientEvent::Jobs { handle, page } => {
                if let Some(Waiting::List(answer)) = self.answers.remove(&handle) {
                    answer(Ok(page));
                }
            }
            ClientEvent::CancelTaken { handle, .. } => {
                if let Some(Waiting::Cancel(_, answer)) = handle.and_then(|handle| self.answers.remove(&handle)) {
                    answer(Ok(()));
                }
            }
            ClientEvent::AnswerTaken { handle } => {
                if let Some(Waiting::Answer(answer)) = self.answers.remove(&handle) {
                    answer(Ok(()));
                }
            }
            ClientEvent::Sessions { handle, page } => {
                if let Some(Waiting::Sessions(answer)) = self.answers.remove(&handle) {
                    answer(Ok(page));
                }
            }
            ClientEvent::ArtifactKept { handle, artifact } => {
                if let Some(Waiting::Put(answer)) = self.answers.remove(&handle) {
                    answer(Ok(artifact));
                }
            }
            ClientEvent::ArtifactFetched { handle, fetched } => {
                if let Some(Waiting::Fetch(answer)) = self.answers.remove(&handle) {
                    answer(Ok(fetched));
                }
            }
            ClientEvent::OfArtifacts { handle, answer: said } => {
                if let Some(Waiting::OfArtifacts(answer)) = self.answers.remove(&handle) {
                    answer(Ok(said));
                }
            }
            ClientEvent::Scheduled { handle, scheduled } => {
                if let Some(Waiting::Schedule(answer)) = self.answers.remove(&handle) {
                    answer(Ok(scheduled));
                }
            }
            ClientEvent::Schedules { handle, page } => {
                if let Some(Waiting::Schedules(answer)) = self.answers.remove(&handle) {
                    answer(Ok(page));
                }
            }
            ClientEvent::Checkpoint { handle, checkpoint } => {
                if let Some(Waiting::Checkpoint(answer)) = self.answers.remove(&handle) {
                    answer(Ok(checkpoint));
                }
            }
            ClientEvent::Checkpoints { handle, list } => {
                if let Some(Waiting::Checkpoints(answer)) = self.answers.remove(&handle) {
                    answer(Ok(list));
                }
            }
            ClientEvent::Token { handle, issued } => {
                if let Some(Waiting::Token(answer)) = self.answers.remove(&handle) {
                    answer(Ok(issued));
                }
            }
            ClientEvent::Evicted { handle } => {
                if let Some(Waiting::Evict(answer)) = self.answers.remove(&handle) {
                    answer(Ok(()));
                }
            }
            ClientEvent::HandedOver { handle } => {
                if let Some(Waiting::HandOver(answer)) = self.answers.remove(&handle) {
                    answer(Ok(()));
                }
            }
            ClientEvent::Taken { watching } => self.taken(watching),
            ClientEvent::Refused { handle, refusal } => self.refused(handle, refusal),
            ClientEvent::Echoed { handle, nonce } => {
                if let Some(Waiting::Echo(answer)) = self.answers.remove(&handle) {
                    answer(Ok(nonce));
                }
            }
            ClientEvent::Missed { job, events } => self.tell(&job, JobUpdate::Missed { events }),
            ClientEvent::Extension(message) => (self.extensions)(message),
            ClientEvent::Unreadable { .. } => {}
            ClientEvent::Job { job, seq, at, event } => {
                self.decide(&job, &event);
                self.tell(&job, JobUpdate::Event { seq, at, event });
            }
            ClientEvent::JobEnded { job, seq, terminal, result } => {
                self.tell(&job, JobUpdate::Ended { seq, terminal, result });
                self.jobs.remove(&job);
                self.resolve_cancels(&job);
            }
        }
    }

    /// Answers a permission request with the decision of the handler, if there is one.
    fn decide(&mut self, job: &WireId, event: &JobEvent) {
        let Some((handler, asked)) = self.permissions.clone().zip(PermissionAsked::of(job, event)) else {
            return;
        };
        let Some(answer) = handler.decide(&asked).answer() else {
            return;
        };
        let answering = Answering { prompt: asked.prompt.clone(), answer };
        let given = self.machine.session().and_then(|mut session| session.answer(answering));
        let taken = move |result: Result<(), ClientError>| {
            if let Err(why) = result {
                handler.not_taken(&asked, &why);
            }
        };
        self.await_answer(given, Box::new(taken), Waiting::Answer);
    }

    /// Hands a job over to the taker.
    fn taken(&mut self, watching: Watching) {
        let job = watching.job.clone();
        if let Some(follower) = (self.taker)(Ok(watching)) {
            self.jobs.entry(job).or_default().push((None, follower));
        }
    }

    /// Answers the cancels of a job that has ended: some runtimes send no other answer.
    fn resolve_cancels(&mut self, job: &WireId) {
        let of_job = |waiting: &Waiting| matches!(waiting, Waiting::Cancel(asked, _) if asked == job);
        for (_, waiting) in self.answers.extract_if(.., |_, waiting| of_job(waiting)) {
            if let Waiting::Cancel(_, answer) = waiting {
                answer(Ok(()));
            }
        }
    }

    fn refused(&mut self, handle: Option<Handle>, refusal: Refusal) {
        match handle.and_then(|handle| Some((handle, self.answers.remove(&handle)?))) {
            Some((handle, waiting)) => {
                if let Waiting::Watch(job, _) = &waiting {
                    self.unfollow(job, handle);
                }
                waiting.fail(ClientError::Refused(Box::new(refusal)));
            }
            // A job could not be continued in a new session.
            None => {
                if let Some(job) = refusal.job.clone() {
                    self.tell(&job, JobUpdate::Gone(Box::new(refusal)));
                    self.jobs.remove(&job);
                } else if refusal.kind == RefusedKind::Session && refusal.request.is_none() {
                    self.said = Some(refusal.message.into_owned());
                }
            }
        }
    }

    /// Removes the follower that this command added.
    fn unfollow(&mut self, job: &WireId, by: Handle) {
        if let Some(followers) = self.jobs.get_mut(job) {
            followers.retain(|(handle, _)| *handle != Some(by));
            if followers.is_empty() {
                self.jobs.remove(job);
            }
        }
    }

    fn tell(&self, job: &WireId, update: JobUpdate) {
        if let Some(((_, last), others)) = self.jobs.get(job).and_then(|followers| followers.split_last()) {
            others.iter().for_each(|(_, follower)| follower(update.clone()));
            last(update);
        }
    }

    fn tell_all(&self, update: &JobUpdate) {
        self.jobs.values().flatten().for_each(|(_, follower)| follower(update.clone()));
    }

    fn ended(&mut self, end: &SessionEnd) {
        self.over = true;
        self.tell_all(&JobUpdate::Lost(end.clone()));
        self.jobs.clear();
        drop((self.taker)(Err(end.clone())));
        if let Some(ready) = self.ready.take() {
            ready(Err(ClientError::Ended(end.clone())));
        }
        for waiting in std::mem::take(&mut self.answers).into_values() {
            waiting.fail(ClientError::Ended(end.clone()));
        }
    }
}

/// Why a connection was lost, with the last message of the runtime.
fn because(why: String, said: Option<String>) -> String {
    match said {
        Some(said) => format!("{why}: {said}"),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    use arcp_proto::model::request::{Credential, Watch};
    use arcp_proto::secret::Secret;
    use serde_json::{Value, json};

    use super::*;

    /// A transport that keeps the written bytes.
    #[derive(Default)]
    struct Wire(Vec<u8>);

    impl Transport for Wire {
        fn dial(&mut self) {}

        fn flush(&mut self, framing: &mut Framing) {
            self.0.append(framing.output());
        }

        fn hang_up(&mut self, _: Framing) {}
    }

    impl Wire {
        /// The id of the last frame.
        fn last_id(&self) -> Value {
            let line = self.0.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().expect("a frame");
            serde_json::from_slice::<Value>(line).expect("JSON")["id"].clone()
        }
    }

    fn hear(calls: &mut ClientLoop, wire: &mut Wire, kind: &str, payload: &Value) {
        let frame = json!({"arcp": "1.1", "id": "m", "type": kind, "session_id": "s", "payload": payload});
        calls.received(format!("{frame}\n").as_bytes(), wire);
    }

    /// Watches a job; returns whether that was accepted, and the updates.
    fn watch(calls: &mut ClientLoop, wire: &mut Wire, job: &WireId) -> (Receiver<bool>, Receiver<JobUpdate>) {
        let ((answer, answered), (follower, updates)) = (channel(), channel());
        let watch = Watch { job: job.clone(), after: None, history: None };
        let follower = Box::new(move |update| drop(follower.send(update)));
        let answer = Box::new(move |result: Result<Watching, _>| _ = answer.send(result.is_ok()));
        calls.command(Command::Watch(watch, follower, answer), wire);
        (answered, updates)
    }

    #[test]
    fn whoever_may_not_watch_a_job_does_not_follow_it() {
        let (mut wire, job) = (Wire::default(), WireId::new("job_1").expect("an id"));
        let config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("t".into())));
        let mut calls = ClientLoop::new(config, Box::new(|_| {}), |_| {}, Box::new(|_| None)).expect("it works");
        calls.tick(&mut wire);
        calls.connected(Framing::lines(1 << 20), &mut wire);
        let features = json!({"capabilities": {"features": ["subscribe"]}});
        hear(&mut calls, &mut wire, "session.welcome", &features);
        let (answered, first) = watch(&mut calls, &mut wire, &job);
        let watched = json!({"job_id": "job_1", "request_id": wire.last_id(), "current_status": "running"});
        hear(&mut calls, &mut wire, "job.subscribed", &watched);
        assert_eq!(answered.try_recv(), Ok(true));
        let (answered, second) = watch(&mut calls, &mut wire, &job);
        let refused = json!({"code": "RESOURCE_EXHAUSTED", "message": "no", "request_id": wire.last_id()});
        hear(&mut calls, &mut wire, "session.error", &refused);
        assert_eq!(answered.try_recv(), Ok(false));
        assert!(matches!(second.try_recv(), Err(TryRecvError::Disconnected)));
        let said = json!({"job_id": "job_1", "kind": "status", "body": {"phase": "p"}});
        hear(&mut calls, &mut wire, "job.event", &said);
        assert!(matches!(first.try_recv(), Ok(JobUpdate::Event { .. })), "it is watched as before");
    }
}
