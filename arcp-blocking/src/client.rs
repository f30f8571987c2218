//! The client: one thread keeps the session alive, and handles give it commands.

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

/// The most messages to the driver that may be queued.
const QUEUE: usize = 64;
/// The most messages of extensions that wait for the application. Further ones are dropped, and further jobs that are
/// handed over are not followed.
const UNTAKEN: usize = 1024;
/// The longest answer with the counts of a runtime, in bytes.
#[cfg(feature = "websocket")]
const STATS_BYTES: usize = 64 << 10;
/// How long a dropped client waits until its session is closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session with a runtime. It survives lost connections.
///
/// Dropping it closes the session; jobs continue.
#[derive(Debug)]
pub struct Client {
    messages: SyncSender<Message>,
    welcome: Welcome,
    unread: Arc<Unread>,
    family: Family,
    /// Messages of extensions that the application has not taken.
    untaken: Mutex<Receiver<Extension>>,
    /// Jobs that were handed over to this session and that the application has not taken.
    handed: Mutex<Receiver<Result<Job, SessionEnd>>>,
    /// Is closed when the driver has ended.
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
    /// Leave without closing the session.
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
    /// If no connection can be made within `give_up_after`, the server is not trusted, others could read the
    /// credential on its way, or the runtime refuses the session.
    pub fn connect(target: Target, config: ClientConfig) -> Result<Client, ClientError> {
        Client::connect_with(target, &Security::default(), config)
    }

    /// As [`connect`](Self::connect), with these settings for TLS and trust.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also if a file of `security` cannot be read.
    pub fn connect_with(target: Target, security: &Security, config: ClientConfig) -> Result<Client, ClientError> {
        security.allows(&target, &config.credential)?;
        let dialer = Dialer::new(target, security, config.open_timeout, config.limits.frame_bytes)?;
        Client::connect_by(dialer, config)
    }

    /// As [`connect_with`](Self::connect_with), with a transport that the caller opens, such as HTTP/2 of
    /// `arcp-tokio-adapter`. For each connection, `open` is called with the time that it may take, and returns a
    /// stream with one frame per line.
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
        // Messages that the application does not take are dropped.
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

    /// The welcome with which the runtime first accepted the session.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Submits a job; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
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

    /// The requests that only the open family has; `None` in the hello family.
    pub fn open(&self) -> Option<OpenClient<'_>> {
        self.family.has_open_requests().then_some(OpenClient::of(self))
    }

    /// Watches a job of the same principal.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
    pub fn watch(&self, watch: Watch) -> Result<Job, ClientError> {
        let (follower, updates) = self.follower();
        let watching = self.ask(|answer| Command::Watch(watch, follower, answer))?;
        Ok(Job::new(watching.job, watching.agent, watching.trace, updates))
    }

    /// Stops watching a job.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn unwatch(&self, job: WireId) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::Unwatch(job))))
    }

    /// Lists jobs.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
    pub fn list(&self, query: ListQuery) -> Result<JobPage, ClientError> {
        self.ask(|answer| Command::List(query, answer))
    }

    /// Cancels a job; waits until the runtime acknowledges that, not until the job has ended.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
    pub fn cancel(&self, job: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.ask(|answer| Command::Cancel(job, reason, None, answer))
    }

    /// Answers a question of a job; waits until the answer is accepted.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it:
    ///
    /// * `FailedPrecondition` if the question is closed, with `responded_by` in the details if another session was
    ///   first.
    /// * `InvalidRequest` if the answer does not fit; the question stays open.
    ///
    /// Also if the session has ended, or cannot answer questions.
    pub fn answer(&self, answering: Answering) -> Result<(), ClientError> {
        self.ask(|answer| Command::Answer(answering, answer))
    }

    /// Sends a message to the agent of a running job; waits until it is stored for the agent. The job is blocked until
    /// the agent continues.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent accepts no interrupts, `FailedPrecondition` if it does
    /// not run. Also if the session has ended, or cannot interrupt.
    pub fn interrupt(&self, job: WireId, prompt: String) -> Result<(), ClientError> {
        self.ask(|answer| Command::Interrupt(job, prompt, answer))
    }

    /// Sends one message of a stream to the agent of a job that takes input; waits until the runtime has it for the
    /// agent. [`StreamSender`](crate::StreamSender) handles a whole stream.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent takes no input, `ResourceExhausted` while the agent has
    /// as much input as it may have. Also if the session has ended, or cannot open streams.
    pub fn say_in_stream(&self, request: StreamRequest) -> Result<(), ClientError> {
        self.ask(|answer| Command::Stream(request, answer))
    }

    /// As [`answer`](Self::answer), without waiting: the outcome comes on the receiver.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn answer_later(&self, answering: Answering) -> Result<Receiver<Result<(), ClientError>>, ClientError> {
        self.asked(|answer| Command::Answer(answering, answer))
    }

    /// Lists everybody's sessions, for an operator or auditor.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub fn sessions(&self, query: SessionQuery) -> Result<SessionPage, ClientError> {
        self.ask(|answer| Command::Sessions(query, answer))
    }

    /// Stores bytes with the runtime for a limited time (RFC §16).
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub fn put_artifact(&self, put: PutArtifact) -> Result<ArtifactRef, ClientError> {
        self.ask(|answer| Command::PutArtifact(put, answer))
    }

    /// Fetches an artifact of this principal.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact); `JobNotFound` if the artifact does not exist any more.
    pub fn fetch_artifact(&self, id: WireId) -> Result<FetchedArtifact, ClientError> {
        self.ask(|answer| Command::FetchArtifact(id, None, answer))
    }

    /// Deletes an artifact. It is no error if the artifact is gone already.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact).
    pub fn release_artifact(&self, id: WireId) -> Result<(), ClientError> {
        self.ask(|answer| Command::ReleaseArtifact(id, answer))
    }

    /// Runs a graph of steps as one job (RFC §6.2). `steps` is an object with the member `steps`, or the list of
    /// steps. To add a lease, a key or a time limit, submit what [`workflow::submit`] returns.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, with the step that is wrong, or the session has ended.
    pub fn start_workflow(&self, steps: &Json, input: Option<&Json>) -> Result<Job, ClientError> {
        self.submit(workflow::submit(steps, input))
    }

    /// Adds a schedule: jobs are submitted at its times, whether or not this client is connected (RFC §10.6).
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
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

    /// Pauses a schedule, or resumes it from its next time.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Self::schedule); `JobNotFound` if the schedule does not exist.
    pub fn change_schedule(&self, change: ScheduleChange) -> Result<(), ClientError> {
        self.ask(|answer| Command::ChangeSchedule(change, answer))
    }

    /// Deletes a schedule; its jobs continue.
    ///
    /// # Errors
    ///
    /// As [`change_schedule`](Self::change_schedule).
    pub fn end_schedule(&self, id: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.ask(|answer| Command::Cancel(id, reason, None, answer))
    }

    /// The requests for checkpoints of jobs (RFC §19).
    pub fn checkpoints(&self) -> Checkpoints<'_> {
        Checkpoints { client: self }
    }

    /// Ends the session of any client, as an operator; its jobs continue. Waits until the session cannot be resumed
    /// any more.
    ///
    /// # Errors
    ///
    /// As [`sessions`](Self::sessions); also if the session does not exist.
    pub fn evict(&self, eviction: Eviction) -> Result<(), ClientError> {
        self.ask(|answer| Command::Evict(eviction, answer))
    }

    /// Has `handler` decide on the permissions that followed jobs request from this time on. It comes before all other
    /// code of this client: what it denies stays denied.
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
    /// If the session has ended.
    pub fn decide_permissions(&self, handler: impl PermissionHandler + 'static) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::DecidePermissions(Box::new(handler)))))
    }

    /// Hands a job over to another principal, with the right to cancel it; waits until that is done. A session takes
    /// jobs if it offers [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff); this session
    /// must offer it as well.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `FailedPrecondition` if no session takes the job or its state does not allow a
    /// handoff, `ResourceExhausted` if there is no room for it. Also if the session has ended, or cannot hand jobs
    /// over.
    pub fn hand_over(&self, wish: HandOver) -> Result<(), ClientError> {
        self.ask(|answer| Command::HandOver(wish, answer))
    }

    /// The next job that is handed over to this session, if one comes within `span`. It is followed from then on. A
    /// session is handed jobs if it offers
    /// [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff). A client that offers it takes the
    /// jobs with this method, or lists and watches them later.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn next_handed_job(&self, span: Duration) -> Result<Option<Job>, ClientError> {
        match self.handed.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(span) {
            Ok(handed) => handed.map(Some).map_err(ClientError::Ended),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ClientError::Ended(SessionEnd::Closed)),
        }
    }

    /// Renews the session with another credential of the same principal, so that the session does not end with the
    /// earlier one. The hello family has no message for this: there, the client resumes its session on another
    /// connection, and no event is missed.
    ///
    /// # Errors
    ///
    /// If the session has ended. Whether the runtime accepts the credential is seen later: a session that it does not
    /// renew ends when the earlier credential expires.
    pub fn renew(&self, credential: Credential) -> Result<(), ClientError> {
        self.renewer().renew(credential)
    }

    /// A handle that renews this session from another thread. It does not keep the session open.
    pub fn renewer(&self) -> Renewer {
        Renewer { messages: self.messages.clone() }
    }

    /// Breaks the connection, as a bad network would. The session resumes by itself; use this to test that.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn break_connection(&self) -> Result<(), ClientError> {
        self.give(Message::Cut)
    }

    /// Leaves without closing the session. Returns the claim to the session, for [`ClientConfig::resume`] of another
    /// client, if the runtime gave one.
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

    /// Sends a command; the answer comes on the receiver.
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
    // A dropped job wants no updates.
    (Box::new(move |update| drop(sender.send(Held::new(update, &unread)))), updates)
}

/// The handler for jobs that are handed over, and the receiver of these jobs.
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
        // A program that exits at once would lose the bytes that are not written yet.
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = gone.recv_timeout(GOODBYE);
    }
}

/// The counts of a runtime, as JSON; `None` if the token is not of an operator or auditor. Waits for at most
/// `timeout`.
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

/// The transport, and how it is opened.
struct Dialed {
    dialer: Dialer,
    own: SyncSender<Message>,
    /// Counts transports, so that messages about an old one are recognised.
    generation: u64,
    wire: Option<(Box<dyn io::Write + Send>, Closer)>,
    unread: Arc<Unread>,
}

impl Driver {
    fn run(mut self, inbox: &Receiver<Message>) {
        // The first tick starts to connect.
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
            // What had arrived by the last tick was handed over when the inbox is empty, or when as many messages were
            // taken as it holds.
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
    /// Connects on another thread.
    fn dial(&mut self) {
        self.generation += 1;
        let (generation, dialer, own) = (self.generation, self.dialer.clone(), self.own.clone());
        let dial = move || {
            let wire = dialer.dial();
            let _ = own.send(Message::Dialed(generation, Box::new(wire)));
        };
        if let Err(error) = std::thread::Builder::new().name("arcp-dial".to_string()).spawn(dial) {
            // If the inbox is full, opening the transport times out.
            let _ = self.own.try_send(Message::Dialed(generation, Box::new(Err(error))));
        }
    }

    fn flush(&mut self, framing: &mut Framing) {
        if let Some((writer, closer)) = &mut self.wire
            && write(writer, framing).is_err()
        {
            // The reader sees the end and reports it.
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
    // Once this is written, a pong that did not fit may follow.
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

/// The requests for checkpoints of jobs.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints<'c> {
    client: &'c Client,
}

impl Checkpoints<'_> {
    /// Has the agent of a job make a checkpoint (RFC §19); waits until the checkpoint is durable.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent makes no checkpoints, `Timeout` if it takes too long.
    /// Also if the runtime does not support it, or the session has ended.
    pub fn create(&self, wish: CreateCheckpoint) -> Result<CheckpointRef, ClientError> {
        self.client.ask(|answer| Command::CreateCheckpoint(wish, answer))
    }

    /// Starts a job from a checkpoint of another job (RFC §19); waits until it is accepted.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]; `JobNotFound` if the checkpoint is not kept.
    pub fn restore(&self, wish: RestoreCheckpoint) -> Result<Job, ClientError> {
        let (follower, updates) = self.client.follower();
        let accepted = self.client.ask(|answer| Command::RestoreCheckpoint(wish, follower, answer))?;
        Ok(job_of(accepted, updates))
    }

    /// Lists the kept checkpoints of a job.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn list(&self, job: WireId) -> Result<CheckpointList, ClientError> {
        self.client.ask(|answer| Command::Checkpoints(job, answer))
    }
}
