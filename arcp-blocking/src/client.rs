//! The client: one thread that keeps the session alive, and handles for
//! whoever gives commands.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arcp_host::client::{
    Answer, ClientLoop, Command, DialError, Follower, PermissionHandler, Security, Taker, Target, Transport,
};
pub use arcp_host::client::{ClientError, Welcome};
use arcp_host::framing::Framing;
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::artifact::{ArtifactRef, PutArtifact};
use arcp_proto::model::checkpoint::{CheckpointList, CheckpointRef, CreateCheckpoint, RestoreCheckpoint};
use arcp_proto::model::reply::{Accepted, FetchedArtifact, JobPage, Watching};
use arcp_proto::model::request::{
    Answering, Credential, Extension, HandOver, Invocation, ListQuery, ResumeClaim, Submit, Watch,
};
use arcp_proto::model::schedule::{NewSchedule, ScheduleChange, SchedulePage, ScheduleQuery, Scheduled};
use arcp_proto::model::session::{Eviction, SessionPage, SessionQuery};
use arcp_proto::model::stream::StreamRequest;
use arcp_proto::model::workflow;
#[cfg(feature = "websocket")]
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;

use crate::dial::{Closer, Dialer, Wire};
use crate::job::{Held, Job, Unread};
use crate::open::OpenClient;

/// Messages to the driver that may queue up.
const QUEUE: usize = 64;
/// Messages of extensions that an application may leave untaken; those that
/// come then are dropped, and jobs that are handed over then are not followed.
const UNTAKEN: usize = 1024;
/// The longest answer about what a runtime counts.
#[cfg(feature = "websocket")]
const STATS_BYTES: usize = 64 << 10;
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
    /// Jobs that were handed over to this session, and the application has not taken.
    handed: Mutex<Receiver<Result<Job, SessionEnd>>>,
    /// Ends when the driver has.
    gone: Mutex<Receiver<()>>,
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

impl Client {
    /// Connects and opens a session; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// If no connection comes about within `give_up_after`, the server is not to
    /// be trusted, others could read the credential on its way, or the runtime
    /// refuses the session.
    pub fn connect(target: Target, config: ClientConfig) -> Result<Client, ClientError> {
        Client::connect_with(target, &Security::default(), config)
    }

    /// The same, with this to protect it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also if the files of the security cannot be
    /// read.
    pub fn connect_with(target: Target, security: &Security, config: ClientConfig) -> Result<Client, ClientError> {
        security.allows(&target, &config.credential)?;
        let dialer = Dialer::new(target, security, config.open_timeout, config.limits.frame_bytes)?;
        Client::connect_by(dialer, config)
    }

    /// The same, where somebody else speaks what the target does, such as
    /// `arcp-tokio-adapter` with HTTP/2: this opens a stream with one frame a line for
    /// each connection, in the time that it is given.
    ///
    /// # Errors
    ///
    /// As [`connect_with`](Self::connect_with).
    pub fn connect_over(
        target: Target,
        security: &Security,
        open: impl Fn(Duration) -> io::Result<UnixStream> + Send + Sync + 'static,
        config: ClientConfig,
    ) -> Result<Client, ClientError> {
        security.allows(&target, &config.credential)?;
        let dialer = Dialer::over(target, open, config.open_timeout, config.limits.frame_bytes);
        Client::connect_by(dialer, config)
    }

    fn connect_by(dialer: Dialer, config: ClientConfig) -> Result<Client, ClientError> {
        let family = config.family;
        let (messages, inbox) = sync_channel(QUEUE);
        let (ready, accepted) = channel();
        let (extensions, untaken) = sync_channel(UNTAKEN);
        let unread = Arc::new(Unread::default());
        // Whoever takes none gets no more.
        let extensions = move |message| drop(extensions.try_send(message));
        let (taker, handed) = taker(&unread);
        let calls = ClientLoop::new(config, Box::new(move |welcome| drop(ready.send(welcome))), extensions, taker)?;
        let transport = Dialed { dialer, own: messages.clone(), generation: 0, wire: None, unread: unread.clone() };
        let (alive, gone) = channel();
        let drive = move || {
            Driver { calls, transport }.run(&inbox);
            drop(alive);
        };
        std::thread::Builder::new().name("arcp-client".to_string()).spawn(drive)?;
        let welcome = accepted.recv().unwrap_or(Err(ClientError::Ended(SessionEnd::Closed)))?;
        let (untaken, handed, gone) = (Mutex::new(untaken), Mutex::new(handed), Mutex::new(gone));
        Ok(Client { messages, welcome, unread, family, untaken, handed, gone })
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
        let (follower, updates) = self.follower();
        let accepted = self.ask(|answer| Command::Submit(submit, invocation, follower, answer))?;
        Ok(job_of(accepted, updates))
    }

    pub(crate) fn submitted_within(
        &self,
        submit: Submit,
        invocation: Option<Invocation>,
        span: Duration,
    ) -> Result<Option<Job>, ClientError> {
        let (follower, updates) = self.follower();
        let answered = self.asked(|answer| Command::Submit(submit, invocation, follower, answer))?;
        match answered.recv_timeout(span) {
            Ok(accepted) => accepted.map(|accepted| Some(job_of(accepted, updates))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ClientError::Ended(SessionEnd::Closed)),
        }
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
        let (follower, updates) = self.follower();
        let watching = self.ask(|answer| Command::Watch(watch, follower, answer))?;
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

    /// Answers a question of a job; waits until the answer counts.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `FailedPrecondition` if the question is closed,
    /// with `responded_by` in the details if somebody was first, `InvalidRequest`
    /// if the answer does not fit, and the question stays open. Also if the session
    /// is over, or cannot answer.
    pub fn answer(&self, answering: Answering) -> Result<(), ClientError> {
        self.ask(|answer| Command::Answer(answering, answer))
    }

    /// Says something to the agent of a job while it runs; waits until that is kept
    /// for the agent. The job is blocked until the agent goes on.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent observes no interrupts,
    /// `FailedPrecondition` if it does not run. Also if the session is over, or cannot
    /// interrupt.
    pub fn interrupt(&self, job: WireId, prompt: String) -> Result<(), ClientError> {
        self.ask(|answer| Command::Interrupt(job, prompt, answer))
    }

    /// Says something in a stream to the agent of a job that takes input; waits until
    /// the runtime has it for the agent. [`StreamSender`](crate::StreamSender) does all
    /// of a stream.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent takes no input,
    /// `ResourceExhausted` while it has enough to take. Also if the session is over, or
    /// cannot open streams.
    pub fn say_in_stream(&self, request: StreamRequest) -> Result<(), ClientError> {
        self.ask(|answer| Command::Stream(request, answer))
    }

    /// [`answer`](Self::answer), without waiting: what comes of it is received.
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn answer_later(&self, answering: Answering) -> Result<Receiver<Result<(), ClientError>>, ClientError> {
        self.asked(|answer| Command::Answer(answering, answer))
    }

    /// Lists the sessions of everybody, for an operator or auditor.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or has no word for it, or the session is over.
    pub fn sessions(&self, query: SessionQuery) -> Result<SessionPage, ClientError> {
        self.ask(|answer| Command::Sessions(query, answer))
    }

    /// Leaves bytes with the runtime, until their time is over (RFC §16).
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or has no word for it, or the session is over.
    pub fn put_artifact(&self, put: PutArtifact) -> Result<ArtifactRef, ClientError> {
        self.ask(|answer| Command::PutArtifact(put, answer))
    }

    /// Fetches an artifact that this principal has left.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact); `JobNotFound` if it is gone.
    pub fn fetch_artifact(&self, id: WireId) -> Result<FetchedArtifact, ClientError> {
        self.ask(|answer| Command::FetchArtifact(id, None, answer))
    }

    /// Lets go of an artifact, or of one that is gone.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact).
    pub fn release_artifact(&self, id: WireId) -> Result<(), ClientError> {
        self.ask(|answer| Command::ReleaseArtifact(id, answer))
    }

    /// Runs a graph of steps as one job (RFC §6.2): an object with its `steps`, or the list of
    /// them, and what it works on. For a lease, a key or a time limit submit what
    /// [`workflow::submit`] gives.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, with the step that is wrong, or the session is over.
    pub fn start_workflow(&self, steps: &Json, input: Option<&Json>) -> Result<Job, ClientError> {
        self.submit(workflow::submit(steps, input))
    }

    /// Has jobs submitted at times, whoever is there then (RFC §10.6).
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or has no word for it, or the session is over.
    pub fn schedule(&self, wish: NewSchedule) -> Result<Scheduled, ClientError> {
        self.ask(|answer| Command::Schedule(Box::new(wish), answer))
    }

    /// Lists schedules.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Self::schedule).
    pub fn schedules(&self, query: ScheduleQuery) -> Result<SchedulePage, ClientError> {
        self.ask(|answer| Command::Schedules(query, answer))
    }

    /// Pauses a schedule, or has it go on from its next time.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Self::schedule); `JobNotFound` if there is none.
    pub fn change_schedule(&self, change: ScheduleChange) -> Result<(), ClientError> {
        self.ask(|answer| Command::ChangeSchedule(change, answer))
    }

    /// Ends a schedule; its jobs go on.
    ///
    /// # Errors
    ///
    /// As [`change_schedule`](Self::change_schedule).
    pub fn end_schedule(&self, id: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.ask(|answer| Command::Cancel(id, reason, None, answer))
    }

    /// What can be asked about checkpoints of jobs (RFC §19).
    pub fn checkpoints(&self) -> Checkpoints<'_> {
        Checkpoints { client: self }
    }

    /// Takes a session from its client, as an operator; its jobs go on. Waits until
    /// nothing brings it back.
    ///
    /// # Errors
    ///
    /// As [`sessions`](Self::sessions); also if there is no such session.
    pub fn evict(&self, eviction: Eviction) -> Result<(), ClientError> {
        self.ask(|answer| Command::Evict(eviction, answer))
    }

    /// Has this decide on permissions that followed jobs ask for from now on, before
    /// anything else in this client may: what it denies is denied.
    ///
    /// ```no_run
    /// # use arcp_blocking::Client;
    /// # use arcp_host::client::{ClientError, Decision, PermissionAsked};
    /// # fn veto(client: &Client) -> Result<(), ClientError> {
    /// client.decide_permissions(|asked: &PermissionAsked| match asked.request.operation.as_str() {
    ///     "fs.write" => Decision::Deny { reason: Some("nothing is written here".to_string()) },
    ///     _ => Decision::Leave,
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn decide_permissions(&self, handler: impl PermissionHandler + 'static) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::DecidePermissions(Box::new(handler)))))
    }

    /// Makes a job somebody else's, with the right to cancel it; waits until that
    /// counts. Sessions of that one take jobs if they offer
    /// [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff), as this one must.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `FailedPrecondition` if nobody takes the job, or it
    /// cannot be handed over as it stands, `ResourceExhausted` if there is no room for
    /// it. Also if the session is over, or hands nothing over.
    pub fn hand_over(&self, wish: HandOver) -> Result<(), ClientError> {
        self.ask(|answer| Command::HandOver(wish, answer))
    }

    /// The next job that somebody hands over to this session, if one is in time. It is
    /// followed from then on. A session is handed jobs if it offers
    /// [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff): whoever offers it
    /// takes them by this, or lists and watches them later.
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn next_handed_job(&self, span: Duration) -> Result<Option<Job>, ClientError> {
        match self.handed.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(span) {
            Ok(handed) => handed.map(Some).map_err(ClientError::Ended),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ClientError::Ended(SessionEnd::Closed)),
        }
    }

    /// Is known to the runtime by another credential from now on: the session is renewed by it,
    /// so that it does not end with the earlier one. In the hello family, which has no word
    /// for that, the client comes back to its session on another connection, and nothing is missed.
    /// It has to be of the same principal.
    ///
    /// # Errors
    ///
    /// If the session is over. Whether the runtime takes the credential shows later: a session
    /// that it does not renew ends when the earlier one expires.
    pub fn renew(&self, credential: Credential) -> Result<(), ClientError> {
        self.renewer().renew(credential)
    }

    /// What renews this session from another thread. It keeps no session open.
    pub fn renewer(&self) -> Renewer {
        Renewer { messages: self.messages.clone() }
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

    pub(crate) fn ask<T: Send + 'static>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, ClientError> {
        self.asked(command)?.recv().unwrap_or(Err(ClientError::Ended(SessionEnd::Closed)))
    }

    /// Where the answer to a command will come.
    pub(crate) fn asked<T: Send + 'static>(
        &self,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<Receiver<Result<T, ClientError>>, ClientError> {
        let (answer, answered) = channel();
        let answer = move |result| drop(answer.send(result));
        self.give(Message::Command(Box::new(command(Box::new(answer)))))?;
        Ok(answered)
    }

    pub(crate) fn follower(&self) -> (Follower, Receiver<Held>) {
        follower(&self.unread)
    }

    fn give(&self, message: Message) -> Result<(), ClientError> {
        self.messages.send(message).map_err(|_| ClientError::Ended(SessionEnd::Closed))
    }
}

fn job_of(accepted: Accepted, updates: Receiver<Held>) -> Job {
    let mut job = Job::new(accepted.job, accepted.agent, accepted.trace, updates);
    job.credentials = accepted.credentials;
    job
}

fn follower(unread: &Arc<Unread>) -> (Follower, Receiver<Held>) {
    let ((sender, updates), unread) = (channel(), unread.clone());
    // Whoever dropped the job does not want to know.
    (Box::new(move |update| drop(sender.send(Held::new(update, &unread)))), updates)
}

/// What takes jobs that are handed over, and where they are then.
fn taker(unread: &Arc<Unread>) -> (Taker, Receiver<Result<Job, SessionEnd>>) {
    let ((sender, handed), unread) = (sync_channel(UNTAKEN), unread.clone());
    let take = move |handed: Result<Watching, SessionEnd>| {
        let (follower, updates) = follower(&unread);
        let job = |watching: Watching| Job::new(watching.job, watching.agent, watching.trace, updates);
        let is_job = handed.is_ok();
        (sender.try_send(handed.map(job)).is_ok() && is_job).then_some(follower)
    };
    (Box::new(take), handed)
}

/// Renews the session of a [`Client`], from any thread.
#[derive(Clone, Debug)]
pub struct Renewer {
    messages: SyncSender<Message>,
}

impl Renewer {
    /// As [`Client::renew`].
    ///
    /// # Errors
    ///
    /// As [`Client::renew`].
    pub fn renew(&self, credential: Credential) -> Result<(), ClientError> {
        let renew = Message::Command(Box::new(Command::Renew(credential)));
        self.messages.send(renew).map_err(|_| ClientError::Ended(SessionEnd::Closed))
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

/// What a runtime counts, as JSON, for whoever has the token of an operator or
/// auditor; `None` for anybody else. Waits for so long.
///
/// # Errors
///
/// As [`Client::connect_with`], and if no answer comes.
#[cfg(feature = "websocket")]
pub fn stats(
    target: &Target,
    security: &Security,
    token: Secret,
    timeout: Duration,
) -> Result<Option<String>, ClientError> {
    let credential = Credential::Bearer(token.clone());
    security.allows(target, &credential)?;
    Ok(Dialer::new(target.clone(), security, timeout, STATS_BYTES)?.stats(&token)?)
}

/// The thread that owns the session and its transport.
struct Driver {
    calls: ClientLoop,
    transport: Dialed,
}

/// The transport, and how it comes about.
struct Dialed {
    dialer: Dialer,
    own: SyncSender<Message>,
    /// Counts transports, so that news of an old one is known as old.
    generation: u64,
    wire: Option<(Box<dyn io::Write + Send>, Closer)>,
    unread: Arc<Unread>,
}

impl Driver {
    fn run(mut self, inbox: &Receiver<Message>) {
        // It begins to connect.
        self.calls.tick(&mut self.transport);
        let mut taken = 0;
        while !self.calls.is_over() {
            let wait = self.calls.next_wait().unwrap_or(Duration::from_secs(3600));
            match inbox.recv_timeout(wait) {
                Ok(message) => {
                    self.message(message);
                    taken += 1;
                }
                Err(RecvTimeoutError::Timeout) => taken = QUEUE,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Everything that had arrived by the tick before is handed over once the
            // inbox is empty, or so many messages were taken as it holds.
            if taken >= QUEUE {
                self.calls.tick(&mut self.transport);
                taken = 0;
            }
        }
        self.calls.hang_up(&mut self.transport);
    }

    fn message(&mut self, message: Message) {
        let Driver { calls, transport } = self;
        match message {
            Message::Command(command) => calls.command(*command, transport),
            Message::Dialed(generation, wire) => self.dialed(generation, *wire),
            Message::Bytes(generation, bytes) if generation == transport.generation => {
                calls.received(&bytes, transport)
            }
            Message::Lost(generation, why) if generation == transport.generation => calls.lost(why, transport),
            Message::Bytes(..) | Message::Lost(..) => {}
            Message::Cut => {
                if let Some((_, closer)) = &transport.wire {
                    closer.close();
                }
            }
            Message::Close => calls.close(transport),
            Message::Leave(answer) => drop(answer.send(calls.leave())),
        }
    }

    fn dialed(&mut self, generation: u64, wire: io::Result<Wire>) {
        let Driver { calls, transport } = self;
        match wire {
            Ok(wire) if generation != transport.generation => wire.closer.close(),
            Ok(Wire { reader, writer, framing, closer }) => {
                let (own, unread) = (transport.own.clone(), transport.unread.clone());
                let read = move || read(reader, generation, &own, &unread);
                if std::thread::Builder::new().name("arcp-read".to_string()).spawn(read).is_err() {
                    closer.close();
                    return calls
                        .connect_failed(DialError::Failed("no thread could be started".to_string()), transport);
                }
                transport.wire = Some((writer, closer));
                calls.connected(framing, transport);
            }
            Err(_) if generation != transport.generation => {}
            Err(error) => calls.connect_failed(DialError::new(&transport.dialer.target, &error), transport),
        }
    }
}

impl Transport for Dialed {
    /// On a thread of its own.
    fn dial(&mut self) {
        self.generation += 1;
        let (generation, dialer, own) = (self.generation, self.dialer.clone(), self.own.clone());
        let dial = move || {
            let wire = dialer.dial();
            let _ = own.send(Message::Dialed(generation, Box::new(wire)));
        };
        if let Err(error) = std::thread::Builder::new().name("arcp-dial".to_string()).spawn(dial) {
            // Where there is no room for it, opening takes too long.
            let _ = self.own.try_send(Message::Dialed(generation, Box::new(Err(error))));
        }
    }

    fn flush(&mut self, framing: &mut Framing) {
        if let Some((writer, closer)) = &mut self.wire
            && write(writer, framing).is_err()
        {
            // The reader notices and says why.
            closer.close();
        }
    }

    fn hang_up(&mut self, mut framing: Framing) {
        if let Some((mut writer, closer)) = self.wire.take() {
            let _ = write(&mut writer, &mut framing);
            closer.close();
        }
    }
}

fn write(writer: &mut impl io::Write, framing: &mut Framing) -> io::Result<()> {
    // Once it is written, a pong that found no room may follow.
    while !framing.output().is_empty() {
        let bytes = framing.output().len();
        let written = writer.write_all(framing.output());
        framing.wrote(bytes);
        written?;
    }
    writer.flush()
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

/// What can be asked about checkpoints of jobs.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints<'c> {
    client: &'c Client,
}

impl Checkpoints<'_> {
    /// Has the agent of a job make a checkpoint (RFC §19); waits until it is durable.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent gives none, `Timeout` if it
    /// takes too long. Also if the runtime has no word for it, or the session is over.
    pub fn create(&self, wish: CreateCheckpoint) -> Result<CheckpointRef, ClientError> {
        self.client.ask(|answer| Command::CreateCheckpoint(wish, answer))
    }

    /// Runs a job that begins at a checkpoint of another one (RFC §19); waits until it is
    /// accepted.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]; `JobNotFound` if the checkpoint is not kept.
    pub fn restore(&self, wish: RestoreCheckpoint) -> Result<Job, ClientError> {
        let (follower, updates) = self.client.follower();
        let accepted = self.client.ask(|answer| Command::RestoreCheckpoint(wish, follower, answer))?;
        Ok(job_of(accepted, updates))
    }

    /// Lists the checkpoints of a job that are kept.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn list(&self, job: WireId) -> Result<CheckpointList, ClientError> {
        self.client.ask(|answer| Command::Checkpoints(job, answer))
    }
}
