//! The client: one thread that keeps the session alive, and handles for
//! whoever gives commands.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arcp_host::clock::Clock;
use arcp_host::framing::{Framed, Framing};
use arcp_proto::client::{Client as Machine, ClientConfig, ClientEvent, ClientInput, ClientOutput, Handle, SessionEnd};
use arcp_proto::error::{ApiMisuse, ConfigError};
use arcp_proto::id::WireId;
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::model::feature::Features;
use arcp_proto::model::reply::{Accepted, JobPage, Refusal, Watching};
use arcp_proto::model::request::{ClientInfo, Extension, Invocation, ListQuery, ResumeClaim, Submit, Watch};
use arcp_proto::runtime::CloseReason;
use arcp_proto::time::Now;
use arcp_proto::wire::Family;

use crate::dial::{Closer, Target, Wire};
use crate::job::{Held, Job, JobUpdate, Unread};
use crate::open::{OpenClient, give, open_session, stop};

/// Messages to the driver that may queue up.
const QUEUE: usize = 64;
/// Messages of extensions that an application may leave untaken; those that
/// come then are dropped.
const UNTAKEN: usize = 1024;
/// How long the end of a program waits for the session to be closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session with a runtime. It survives lost connections.
///
/// Dropping it closes the session; jobs go on.
#[derive(Debug)]
pub struct Client {
    messages: SyncSender<Message>,
    welcome: Welcome,
    unread: Arc<Unread>,
    family: Family,
    /// Messages of extensions that the application has not taken.
    untaken: Mutex<Receiver<Extension>>,
    /// Ends when the driver has.
    gone: Mutex<Receiver<()>>,
}

/// What the runtime said when it accepted the session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Welcome {
    /// The session.
    pub session: WireId,
    /// What both sides use.
    pub features: Features,
    /// The agents on offer.
    pub agents: Vec<AgentEntry>,
    /// The runtime program.
    pub runtime: ClientInfo,
    /// Whether the session is the one of [`ClientConfig::resume`].
    pub resumed: bool,
}

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The system did not give what was asked of it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The runtime refused it.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The session is over.
    #[error("{0}")]
    Ended(SessionEnd),
    /// The command was not allowed.
    #[error("{0}")]
    Misuse(#[from] ApiMisuse),
}

#[derive(Debug)]
enum Message {
    Command(Box<Command>),
    Dialed(u64, Box<io::Result<Wire>>),
    Bytes(u64, Vec<u8>),
    Lost(u64, String),
    /// Break the transport, as a bad network would.
    Cut,
    Close,
    /// Go without a word.
    Leave(Sender<Option<ResumeClaim>>),
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

#[derive(Debug)]
pub(crate) enum Command {
    Submit(Submit, Option<Invocation>, Answer<(Accepted, Receiver<Held>)>),
    Watch(Watch, Answer<(Watching, Receiver<Held>)>),
    List(ListQuery, Answer<JobPage>),
    Cancel(WireId, Option<String>, Option<Duration>, Answer<()>),
    Echo(Option<String>, Answer<Option<String>>),
    Send(Extension, Answer<()>),
    Unwatch(WireId),
}

pub(crate) type Answer<T> = Sender<Result<T, ClientError>>;

impl Client {
    /// Connects and opens a session; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// If no connection comes about within `give_up_after`, or the runtime
    /// refuses the session.
    pub fn connect(target: Target, config: ClientConfig) -> Result<Client, ClientError> {
        let mut clock = Clock::new();
        let seeds = arcp_host::entropy::seeds()?;
        let frame_bytes = config.limits.frame_bytes;
        let timeout = config.open_timeout;
        let family = config.family;
        let machine = Machine::new(config, seeds, clock.now())?;
        let (messages, inbox) = sync_channel(QUEUE);
        let (ready, accepted) = channel();
        let (extensions, untaken) = sync_channel(UNTAKEN);
        let unread = Arc::new(Unread::default());
        let driver = Driver {
            machine,
            clock,
            target,
            timeout,
            frame_bytes,
            own: messages.clone(),
            generation: 0,
            wire: None,
            ready: Some(ready),
            answers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            extensions,
            unread: unread.clone(),
            over: false,
        };
        let (alive, gone) = channel();
        let drive = move || {
            driver.run(&inbox);
            drop(alive);
        };
        std::thread::Builder::new().name("arcp-client".to_string()).spawn(drive)?;
        let welcome = accepted.recv().unwrap_or(Err(ClientError::Ended(SessionEnd::Closed)))?;
        let (untaken, gone) = (Mutex::new(untaken), Mutex::new(gone));
        Ok(Client { messages, welcome, unread, family, untaken, gone })
    }

    /// What the runtime said when it accepted the session first.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Submits a job; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session is over.
    pub fn submit(&self, submit: Submit) -> Result<Job, ClientError> {
        self.submitted(submit, None)
    }

    pub(crate) fn submitted(&self, submit: Submit, invocation: Option<Invocation>) -> Result<Job, ClientError> {
        let (accepted, updates) = self.ask(|answer| Command::Submit(submit, invocation, answer))?;
        Ok(Job::new(accepted.job, accepted.agent, accepted.trace, updates))
    }

    /// What can be asked of a runtime of the open family only; `None` where
    /// the other is spoken.
    pub fn open(&self) -> Option<OpenClient<'_>> {
        self.family.has_open_requests().then_some(OpenClient::of(self))
    }

    /// Watches a job of the same principal.
    ///
    /// # Errors
    ///
    /// If the runtime does not show it, or the session is over.
    pub fn watch(&self, watch: Watch) -> Result<Job, ClientError> {
        let (watching, updates) = self.ask(|answer| Command::Watch(watch, answer))?;
        Ok(Job::new(watching.job, watching.agent, watching.trace, updates))
    }

    /// Stops watching a job.
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn unwatch(&self, job: WireId) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::Unwatch(job))))
    }

    /// Lists jobs.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session is over.
    pub fn list(&self, query: ListQuery) -> Result<JobPage, ClientError> {
        self.ask(|answer| Command::List(query, answer))
    }

    /// Cancels a job; waits until that is acknowledged, not until it ended.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session is over.
    pub fn cancel(&self, job: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.ask(|answer| Command::Cancel(job, reason, None, answer))
    }

    /// Breaks the connection, as a bad network would. The session resumes by
    /// itself: a way to see that it does.
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn break_connection(&self) -> Result<(), ClientError> {
        self.give(Message::Cut)
    }

    /// Leaves without closing the session; gives the claim to it, for
    /// [`ClientConfig::resume`] of another client, if the runtime gave one.
    pub fn leave(self) -> Option<ResumeClaim> {
        let (answer, answered) = channel();
        self.give(Message::Leave(answer)).ok()?;
        answered.recv().ok()?
    }

    pub(crate) fn next_extension(&self, span: Duration) -> Option<Extension> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(span).ok()
    }

    pub(crate) fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, ClientError> {
        let (answer, answered) = channel();
        self.give(Message::Command(Box::new(command(answer))))?;
        answered.recv().unwrap_or(Err(ClientError::Ended(SessionEnd::Closed)))
    }

    fn give(&self, message: Message) -> Result<(), ClientError> {
        self.messages.send(message).map_err(|_| ClientError::Ended(SessionEnd::Closed))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Close);
        self.unread.open();
        // A program that ends now would take with it what was not written.
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = gone.recv_timeout(GOODBYE);
    }
}

enum Waiting {
    Submit(Answer<(Accepted, Receiver<Held>)>),
    Watch(Answer<(Watching, Receiver<Held>)>, Receiver<Held>),
    List(Answer<JobPage>),
    Cancel(WireId, Answer<()>),
    Echo(Answer<Option<String>>),
}

/// The thread that owns the machine and the transport.
struct Driver {
    machine: Machine,
    clock: Clock,
    target: Target,
    timeout: Duration,
    frame_bytes: usize,
    own: SyncSender<Message>,
    /// Counts transports, so that news of an old one is known as old.
    generation: u64,
    wire: Option<Open>,
    ready: Option<Sender<Result<Welcome, ClientError>>>,
    answers: BTreeMap<Handle, Waiting>,
    jobs: BTreeMap<WireId, Vec<Sender<Held>>>,
    extensions: SyncSender<Extension>,
    unread: Arc<Unread>,
    over: bool,
}

struct Open {
    writer: Box<dyn io::Write + Send>,
    framing: Framing,
    closer: Closer,
}

impl Driver {
    fn run(mut self, inbox: &Receiver<Message>) {
        self.input(ClientInput::Tick);
        // Everything that had arrived by `looked_at` is handed over once the inbox
        // is empty, or so many messages were taken as it holds.
        let (mut looked_at, mut taken) = (self.clock.now(), 0);
        while !self.over {
            let wait = self.machine.next_deadline().map_or(Duration::from_secs(3600), |(at, _)| self.clock.until(at));
            match inbox.recv_timeout(wait) {
                Ok(message) => {
                    self.message(message);
                    taken += 1;
                }
                Err(RecvTimeoutError::Timeout) => taken = QUEUE,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if taken >= QUEUE {
                self.input_at(looked_at, ClientInput::Tick);
                (looked_at, taken) = (self.clock.now(), 0);
            }
        }
        self.hang_up();
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Command(command) => {
                self.command(*command);
                self.drain();
            }
            Message::Dialed(generation, wire) => self.dialed(generation, *wire),
            Message::Bytes(generation, bytes) if generation == self.generation => {
                if let Some(open) = &mut self.wire {
                    open.framing.feed(&bytes);
                    self.frames();
                }
            }
            Message::Lost(generation, why) if generation == self.generation && self.wire.is_some() => self.lost(why),
            Message::Bytes(..) | Message::Lost(..) => {}
            Message::Cut => {
                if let Some(open) = &self.wire {
                    open.closer.close();
                }
            }
            Message::Close => match self.machine.session().and_then(|mut session| session.close(None)) {
                Ok(_) => self.drain(),
                Err(_) => self.over = true,
            },
            Message::Leave(answer) => {
                let _ = answer.send(self.machine.claim());
                self.over = true;
            }
        }
    }

    fn command(&mut self, command: Command) {
        let session = self.machine.session();
        match command {
            Command::Submit(submit, invocation, answer) => match session.and_then(|s| give(s, submit, invocation)) {
                Ok(handle) => self.wait(handle, Waiting::Submit(answer)),
                Err(misuse) => drop(answer.send(Err(misuse.into()))),
            },
            Command::Watch(watch, answer) => {
                let job = watch.job.clone();
                match session.and_then(|mut s| s.watch(watch)) {
                    Ok(handle) => {
                        // Some runtimes replay before they answer.
                        let updates = self.follow(job);
                        self.wait(handle, Waiting::Watch(answer, updates));
                    }
                    Err(misuse) => drop(answer.send(Err(misuse.into()))),
                }
            }
            Command::List(query, answer) => match session.and_then(|mut s| s.list(query)) {
                Ok(handle) => self.wait(handle, Waiting::List(answer)),
                Err(misuse) => drop(answer.send(Err(misuse.into()))),
            },
            Command::Cancel(job, reason, deadline, answer) => {
                match session.and_then(|s| stop(s, job.clone(), reason, deadline)) {
                    Ok(handle) => self.wait(handle, Waiting::Cancel(job, answer)),
                    Err(misuse) => drop(answer.send(Err(misuse.into()))),
                }
            }
            Command::Echo(nonce, answer) => match session.and_then(|s| open_session(s)?.echo(nonce)) {
                Ok(handle) => self.wait(handle, Waiting::Echo(answer)),
                Err(misuse) => drop(answer.send(Err(misuse.into()))),
            },
            Command::Send(message, answer) => {
                let sent = session.and_then(|s| open_session(s).map(|mut open| open.send(message)));
                let _ = answer.send(sent.map_err(ClientError::from));
            }
            Command::Unwatch(job) => {
                self.jobs.remove(&job);
                if let Ok(mut session) = session {
                    session.unwatch(job);
                }
            }
        }
    }

    fn wait(&mut self, handle: Handle, waiting: Waiting) {
        self.answers.insert(handle, waiting);
    }

    fn follow(&mut self, job: WireId) -> Receiver<Held> {
        let (sender, receiver) = channel();
        self.jobs.entry(job).or_default().push(sender);
        receiver
    }

    fn input(&mut self, input: ClientInput) {
        let now = self.clock.now();
        self.input_at(now, input);
    }

    fn input_at(&mut self, now: Now, input: ClientInput) {
        self.machine.handle(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        let mut written = false;
        while let Some(output) = self.machine.poll_output() {
            match output {
                ClientOutput::Connect => self.dial(),
                ClientOutput::Send { frame } => {
                    if let Some(open) = &mut self.wire {
                        open.framing.write(frame);
                        written = true;
                    }
                }
                ClientOutput::Disconnect => {
                    self.flush();
                    self.hang_up();
                }
                ClientOutput::Event(event) => {
                    // Whoever hears of it may end the program.
                    if std::mem::take(&mut written) {
                        self.flush();
                    }
                    self.event(event);
                }
            }
        }
        if written {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(open) = &mut self.wire {
            let mut result = Ok(());
            // Once it is written, a pong that found no room may follow.
            while result.is_ok() && !open.framing.output().is_empty() {
                let bytes = open.framing.output().len();
                result = open.writer.write_all(open.framing.output());
                open.framing.wrote(bytes);
            }
            if result.and_then(|()| open.writer.flush()).is_err() {
                // The reader notices and says why.
                open.closer.close();
            }
        }
    }

    /// Opens the transport on a thread of its own.
    fn dial(&mut self) {
        self.generation += 1;
        let (generation, target, own) = (self.generation, self.target.clone(), self.own.clone());
        let (timeout, frame_bytes) = (self.timeout, self.frame_bytes);
        let dial = move || {
            let wire = target.dial(timeout, frame_bytes);
            let _ = own.send(Message::Dialed(generation, Box::new(wire)));
        };
        if let Err(error) = std::thread::Builder::new().name("arcp-dial".to_string()).spawn(dial) {
            let now = self.clock.now();
            self.machine.handle(now, ClientInput::ConnectFailed { why: error.to_string() });
        }
    }

    fn dialed(&mut self, generation: u64, wire: io::Result<Wire>) {
        match wire {
            Ok(wire) if generation != self.generation || self.over => wire.closer.close(),
            Ok(wire) => {
                let Wire { reader, writer, framing, closer } = wire;
                let (own, unread) = (self.own.clone(), self.unread.clone());
                let read = move || read(reader, generation, &own, &unread);
                if std::thread::Builder::new().name("arcp-read".to_string()).spawn(read).is_err() {
                    closer.close();
                    return self.input(ClientInput::ConnectFailed { why: "no thread could be started".to_string() });
                }
                self.wire = Some(Open { writer, framing, closer });
                self.input(ClientInput::Connected);
                self.frames();
            }
            Err(_) if generation != self.generation => {}
            Err(error) => {
                let why = format!("{}: {error}", self.target);
                self.input(ClientInput::ConnectFailed { why });
            }
        }
    }

    fn frames(&mut self) {
        while let Some(framed) = self.wire.as_mut().and_then(|open| open.framing.next_frame()) {
            match framed {
                Framed::Frame(frame) => self.input(ClientInput::Received { frame }),
                Framed::TooLong => return self.lost("the server sent a message that is too long".to_string()),
                Framed::End(why) => return self.lost(why),
                Framed::TooLarge(why) => {
                    self.hang_up();
                    return self.input(ClientInput::TooLarge { why });
                }
            }
        }
        // Reading may have produced something to write, such as a pong.
        if self.wire.as_mut().is_some_and(|open| !open.framing.output().is_empty()) {
            self.flush();
        }
    }

    fn lost(&mut self, why: String) {
        self.hang_up();
        self.input(ClientInput::Disconnected { why });
    }

    fn hang_up(&mut self) {
        if let Some(mut open) = self.wire.take() {
            open.framing.close(CloseReason::Goodbye);
            let _ = open.writer.write_all(open.framing.output());
            open.closer.close();
        }
    }

    fn event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Accepted { session, features, agents, runtime, resumed, .. } => match self.ready.take() {
                Some(ready) => drop(ready.send(Ok(Welcome { session, features, agents, runtime, resumed }))),
                None => self.tell_all(&JobUpdate::Reconnected { resumed }),
            },
            ClientEvent::Reconnecting { attempt, after, why } => {
                self.tell_all(&JobUpdate::Reconnecting { attempt, after, why });
            }
            ClientEvent::Ended(end) => self.ended(&end),
            ClientEvent::Submitted { handle, accepted } => {
                if let Some(Waiting::Submit(answer)) = self.answers.remove(&handle) {
                    let updates = self.follow(accepted.job.clone());
                    let _ = answer.send(Ok((accepted, updates)));
                }
            }
            ClientEvent::Watching { handle, watching } => {
                if let Some(Waiting::Watch(answer, updates)) = self.answers.remove(&handle) {
                    let _ = answer.send(Ok((watching, updates)));
                }
            }
            ClientEvent::Jobs { handle, page } => {
                if let Some(Waiting::List(answer)) = self.answers.remove(&handle) {
                    let _ = answer.send(Ok(page));
                }
            }
            ClientEvent::CancelTaken { handle, .. } => {
                if let Some(Waiting::Cancel(_, answer)) = handle.and_then(|handle| self.answers.remove(&handle)) {
                    let _ = answer.send(Ok(()));
                }
            }
            ClientEvent::Refused { handle, refusal } => self.refused(handle, refusal),
            ClientEvent::Echoed { handle, nonce } => {
                if let Some(Waiting::Echo(answer)) = self.answers.remove(&handle) {
                    let _ = answer.send(Ok(nonce));
                }
            }
            ClientEvent::Missed { job, events } => self.tell(&job, &JobUpdate::Missed { events }),
            ClientEvent::Extension(message) => {
                // Whoever takes none gets no more.
                let _ = self.extensions.try_send(message);
            }
            ClientEvent::Unreadable { .. } => {}
            ClientEvent::Job { job, seq, at, event } => self.tell(&job, &JobUpdate::Event { seq, at, event }),
            ClientEvent::JobEnded { job, seq, terminal, result } => {
                self.tell(&job, &JobUpdate::Ended { seq, terminal, result });
                self.jobs.remove(&job);
                self.resolve_cancels(&job);
            }
        }
    }

    /// Some runtimes answer a cancel by the end alone.
    fn resolve_cancels(&mut self, job: &WireId) {
        self.answers.retain(|_, waiting| match waiting {
            Waiting::Cancel(asked, answer) if asked == job => {
                let _ = answer.send(Ok(()));
                false
            }
            Waiting::Submit(_) | Waiting::Watch(..) | Waiting::List(_) | Waiting::Cancel(..) | Waiting::Echo(_) => true,
        });
    }

    fn refused(&mut self, handle: Option<Handle>, refusal: Refusal) {
        let error = |refusal| ClientError::Refused(Box::new(refusal));
        match handle.and_then(|handle| self.answers.remove(&handle)) {
            Some(Waiting::Submit(answer)) => drop(answer.send(Err(error(refusal)))),
            Some(Waiting::Watch(answer, _)) => drop(answer.send(Err(error(refusal)))),
            Some(Waiting::List(answer)) => drop(answer.send(Err(error(refusal)))),
            Some(Waiting::Cancel(_, answer)) => drop(answer.send(Err(error(refusal)))),
            Some(Waiting::Echo(answer)) => drop(answer.send(Err(error(refusal)))),
            // A job could not be brought over to a new session.
            None => {
                if let Some(job) = refusal.job.clone() {
                    self.tell(&job, &JobUpdate::Gone(Box::new(refusal)));
                    self.jobs.remove(&job);
                }
            }
        }
    }

    fn tell(&mut self, job: &WireId, update: &JobUpdate) {
        for sender in self.jobs.get(job).into_iter().flatten() {
            // Whoever dropped the job does not want to know.
            let _ = sender.send(Held::new(update.clone(), &self.unread));
        }
    }

    fn tell_all(&mut self, update: &JobUpdate) {
        let jobs: Vec<WireId> = self.jobs.keys().cloned().collect();
        for job in jobs {
            self.tell(&job, update);
        }
    }

    fn ended(&mut self, end: &SessionEnd) {
        self.over = true;
        self.tell_all(&JobUpdate::Lost(end.clone()));
        self.jobs.clear();
        let error = || ClientError::Ended(end.clone());
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(error()));
        }
        for waiting in std::mem::take(&mut self.answers).into_values() {
            match waiting {
                Waiting::Submit(answer) => drop(answer.send(Err(error()))),
                Waiting::Watch(answer, _) => drop(answer.send(Err(error()))),
                Waiting::List(answer) => drop(answer.send(Err(error()))),
                Waiting::Cancel(_, answer) => drop(answer.send(Err(error()))),
                Waiting::Echo(answer) => drop(answer.send(Err(error()))),
            }
        }
    }
}

fn read(mut reader: Box<dyn io::Read + Send>, generation: u64, own: &SyncSender<Message>, unread: &Unread) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        unread.wait();
        let message = match reader.read(&mut buffer) {
            Ok(0) => Message::Lost(generation, "the connection was closed".to_string()),
            Ok(n) => Message::Bytes(generation, buffer[..n].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Message::Lost(generation, format!("the connection broke: {error}")),
        };
        let last = matches!(message, Message::Lost(..));
        if own.send(message).is_err() || last {
            return;
        }
    }
}
