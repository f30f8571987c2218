//! The client: one thread that keeps the session alive, and handles for threads that give commands.

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
/// How many messages of extensions may wait for the application. Further ones are dropped, and
/// further jobs that are handed over are not followed.
const UNTAKEN: usize = 1024;
/// The largest answer to a request for the counts of a runtime, in bytes.
#[cfg(feature = "websocket")]
const STATS_BYTES: usize = 64 << 10;
/// How long dropping a client waits until the session is closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session with a runtime. It survives lost connections.
///
/// Dropping it closes the session; its jobs go on.
#[derive(Debug)]
pub struct Client {
    messages: SyncSender<Message>,
    welcome: Welcome,
    unread: Arc<Unread>,
    family: Family,
    /// Messages of extensions that the application has not taken.
    untaken: Mutex<Receiver<Extension>>,
    /// Jobs that were handed over and that the application has not taken.
    handed: Mutex<Receiver<Result<Job, SessionEnd>>>,
    /// Disconnected once the driver has ended.
    gone: Mutex<Receiver<()>>,
}

#[derive(Debug)]
enum Message {
    Command(Box<Command>),
    Dialed(u64, Box<io::Result<Wire>>),
    Bytes(u64, Vec<u8>),
    Lost(u64, String),
    /// Break the transport, like a network failure.
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
    /// If no connection can be opened within `give_up_after`, the server cannot be trusted, others
    /// could read the credential on the network, or the runtime refuses the session.
    pub fn connect(target: Target, config: ClientConfig) -> Result<Client, ClientError> {
        Client::connect_with(target, &Security::default(), config)
    }

    /// As [`connect`](Self::connect), with these security settings.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also if the files of `security` cannot be read.
    pub fn connect_with(target: Target, security: &Security, config: ClientConfig) -> Result<Client, ClientError> {
        security.allows(&target, &config.credential)?;
        let dialer = Dialer::new(target, security, config.open_timeout, config.limits.frame_bytes)?;
        Client::connect_by(dialer, config)
    }

    /// As [`connect_with`](Self::connect_with), over a transport of another crate, such as HTTP/2
    /// of `arcp-tokio-adapter`. For each connection, `open` opens a stream with one frame per line,
    /// within the given time.
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
        // If the application takes none, further ones are dropped.
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

    /// The welcome of the first session.
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

    /// Requests that only the open family has; `None` if the session speaks hello.
    pub fn open(&self) -> Option<OpenClient<'_>> {
        self.family.has_open_requests().then_some(OpenClient::of(self))
    }

    /// Watches a job of the same principal.
    ///
    /// # Errors
    ///
    /// If the runtime does not show the job, or the session has ended.
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
    /// If the runtime refuses it: `FailedPrecondition` if the question is closed, with
    /// `responded_by` in the details if somebody else answered first; `InvalidRequest` if the
    /// answer does not fit, and the question stays open. Also if the session has ended, or may not
    /// answer.
    pub fn answer(&self, answering: Answering) -> Result<(), ClientError> {
        self.ask(|answer| Command::Answer(answering, answer))
    }

    /// Interrupts the agent of a job with a message; waits until the runtime has the message for
    /// the agent. The job is blocked until the agent goes on.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent observes no interrupts,
    /// `FailedPrecondition` if the job does not run. Also if the session has ended, or may not
    /// interrupt.
    pub fn interrupt(&self, job: WireId, prompt: String) -> Result<(), ClientError> {
        self.ask(|answer| Command::Interrupt(job, prompt, answer))
    }

    /// Opens, writes or closes a stream to the agent of a job; waits until the runtime has the
    /// request for the agent. [`StreamSender`](crate::StreamSender) handles a whole stream.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent takes no input, `ResourceExhausted`
    /// while too much waits for the agent. Also if the session has ended, or may not open streams.
    pub fn say_in_stream(&self, request: StreamRequest) -> Result<(), ClientError> {
        self.ask(|answer| Command::Stream(request, answer))
    }

    /// As [`answer`](Self::answer), without waiting: the outcome arrives on the channel.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn answer_later(&self, answering: Answering) -> Result<Receiver<Result<(), ClientError>>, ClientError> {
        self.asked(|answer| Command::Answer(answering, answer))
    }

    /// Lists the sessions of all principals, for an operator or auditor.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub fn sessions(&self, query: SessionQuery) -> Result<SessionPage, ClientError> {
        self.ask(|answer| Command::Sessions(query, answer))
    }

    /// Leaves an artifact with the runtime, which keeps it for a time (RFC §16).
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
    /// As [`put_artifact`](Self::put_artifact); `JobNotFound` if the artifact is gone.
    pub fn fetch_artifact(&self, id: WireId) -> Result<FetchedArtifact, ClientError> {
        self.ask(|answer| Command::FetchArtifact(id, None, answer))
    }

    /// Releases an artifact. It is no error if the artifact is gone.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact).
    pub fn release_artifact(&self, id: WireId) -> Result<(), ClientError> {
        self.ask(|answer| Command::ReleaseArtifact(id, answer))
    }

    /// Runs a graph of steps as one job (RFC §6.2). `steps` is an object with `steps`, or the list
    /// of them; `input` is the input of the graph. To set a lease, a key or a time limit, submit
    /// the result of
    /// [`workflow::submit`].
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, with the invalid step, or the session has ended.
    pub fn start_workflow(&self, steps: &Json, input: Option<&Json>) -> Result<Job, ClientError> {
        self.submit(workflow::submit(steps, input))
    }

    /// Has jobs submitted at times, whether or not a client is connected then (RFC §10.6).
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
    /// As [`schedule`](Self::schedule); `JobNotFound` if there is no such schedule.
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

    /// Requests about checkpoints of jobs (RFC §19).
    pub fn checkpoints(&self) -> Checkpoints<'_> {
        Checkpoints { client: self }
    }

    /// Takes a session from its client, as an operator; its jobs go on. Waits until the end of the
    /// session is durable.
    ///
    /// # Errors
    ///
    /// As [`sessions`](Self::sessions); also if there is no such session.
    pub fn evict(&self, eviction: Eviction) -> Result<(), ClientError> {
        self.ask(|answer| Command::Evict(eviction, answer))
    }

    /// Has this handler decide on permissions that followed jobs ask for, before anything else in
    /// this client can answer: a denial is final.
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

    /// Hands a job over to another owner, with the right to cancel it; waits until that is durable.
    /// Sessions take jobs if they offer
    /// [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff), which this
    /// session must offer too.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `FailedPrecondition` if no session takes the job or it cannot be
    /// handed over in its state, `ResourceExhausted` if there is no room for it. Also if the
    /// session has ended, or may not hand jobs over.
    pub fn hand_over(&self, wish: HandOver) -> Result<(), ClientError> {
        self.ask(|answer| Command::HandOver(wish, answer))
    }

    /// The next job that is handed over to this session, if one comes within `span`. It is followed
    /// from then on. A session gets jobs only if it offers
    /// [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff). Its
    /// application takes them with this function, or lists and watches them later.
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

    /// Authenticates with another credential of the same principal, so that the session does not
    /// end when the earlier credential expires. The hello family has no message for that: its
    /// client resumes the session on another connection, and misses nothing.
    ///
    /// # Errors
    ///
    /// If the session has ended. Whether the runtime accepts the credential shows later: a session
    /// that is not renewed ends when the earlier credential expires.
    pub fn renew(&self, credential: Credential) -> Result<(), ClientError> {
        self.renewer().renew(credential)
    }

    /// A handle that renews this session from another thread. It does not keep the session open.
    pub fn renewer(&self) -> Renewer {
        Renewer { messages: self.messages.clone() }
    }

    /// Breaks the connection, like a network failure, and the session resumes by itself. For tests.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn break_connection(&self) -> Result<(), ClientError> {
        self.give(Message::Cut)
    }

    /// Leaves without closing the session; returns the claim to the session, for
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

    /// Gives a command; returns the channel for its answer.
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
    // If the application dropped the job, updates are discarded.
    (Box::new(move |update| drop(sender.send(Held::new(update, &unread)))), updates)
}

/// The function that takes jobs that are handed over, and the channel on which they arrive.
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
        // A program that ends at once would lose unwritten bytes.
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = gone.recv_timeout(GOODBYE);
    }
}

/// The counts of a runtime as JSON, for the holder of an operator's or auditor's token; `None` for
/// any other token. Waits at most `timeout`.
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

/// The transport, with the dialer that opens it.
struct Dialed {
    dialer: Dialer,
    own: SyncSender<Message>,
    /// Counts transports, so that messages about earlier ones are recognised.
    generation: u64,
    wire: Option<(Box<dyn io::Write + Send>, Closer)>,
    unread: Arc<Unread>,
}

impl Driver {
    fn run(mut self, inbox: &Receiver<Message>) {
        // The first tick begins to connect.
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
            // A tick means that everything which had arrived by the previous tick was handed over.
            // That is so when the inbox is empty, or after as many messages as it can hold.
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
    /// Opens a transport on a thread of its own.
    fn dial(&mut self) {
        self.generation += 1;
        let (generation, dialer, own) = (self.generation, self.dialer.clone(), self.own.clone());
        let dial = move || {
            let wire = dialer.dial();
            let _ = own.send(Message::Dialed(generation, Box::new(wire)));
        };
        if let Err(error) = std::thread::Builder::new().name("arcp-dial".to_string()).spawn(dial) {
            // If the queue is full too, the attempt times out.
            let _ = self.own.try_send(Message::Dialed(generation, Box::new(Err(error))));
        }
    }

    fn flush(&mut self, framing: &mut Framing) {
        if let Some((writer, closer)) = &mut self.wire
            && write(writer, framing).is_err()
        {
            // The reader notices it and reports the reason.
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
    // Once the output is written, a pong that was held back may follow.
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

/// Requests about checkpoints of jobs.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints<'c> {
    client: &'c Client,
}

impl Checkpoints<'_> {
    /// Has the agent of a job make a checkpoint (RFC §19); waits until it is durable.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent makes no checkpoints, `Timeout` if
    /// it takes too long. Also if the runtime does not support it, or the session has ended.
    pub fn create(&self, wish: CreateCheckpoint) -> Result<CheckpointRef, ClientError> {
        self.client.ask(|answer| Command::CreateCheckpoint(wish, answer))
    }

    /// Runs a job that begins at a checkpoint of another job (RFC §19); waits until it is accepted.
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
