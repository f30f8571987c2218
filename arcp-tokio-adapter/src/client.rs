//! The client: one task keeps the session alive, and handles give it commands.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arcp_host::client::{
    Answer, ClientError, ClientLoop, Command, DialError, Follower, PermissionHandler, Security, Taker, Target,
    Transport, Welcome,
};
use arcp_host::framing::Framing;
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::artifact::{ArtifactRef, PutArtifact};
use arcp_proto::model::checkpoint::{CheckpointList, CheckpointRef, CreateCheckpoint, RestoreCheckpoint};
use arcp_proto::model::reply::{FetchedArtifact, JobPage, Watching};
use arcp_proto::model::request::{
    Answering, Credential, Extension, HandOver, Invocation, ListQuery, ResumeClaim, Submit, Watch,
};
use arcp_proto::model::schedule::{NewSchedule, ScheduleChange, SchedulePage, ScheduleQuery, Scheduled};
use arcp_proto::model::session::{Eviction, SessionPage, SessionQuery};
use arcp_proto::model::stream::StreamRequest;
use arcp_proto::model::workflow;
use arcp_proto::wire::Family;
use tokio::io::{AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::dial::{Dialer, Opened, Opening, dialer};
use crate::job::{Held, Job, Unread};
use crate::socket::ByteStream;

/// The most commands that may be queued.
const QUEUE: usize = 64;
/// How many things are handled in a row before deadlines are checked.
const TURN: usize = 64;
/// The most messages of extensions that wait for the application. Further ones are dropped, and further jobs that are
/// handed over are not followed.
const UNTAKEN: usize = 1024;
/// The most bytes of one read from the transport.
const READ_BYTES: usize = 64 << 10;
/// How long the last bytes of a transport may take to be written.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session with a runtime. It survives lost connections.
///
/// Dropping it closes the session, in the client's task; jobs continue.
#[derive(Debug)]
pub struct Client {
    messages: mpsc::Sender<Message>,
    welcome: Welcome,
    unread: Arc<Unread>,
    family: Family,
    /// Messages of extensions that the application has not taken.
    untaken: Mutex<mpsc::Receiver<Extension>>,
    /// Jobs that were handed over to this session and that the application has not taken.
    handed: Mutex<mpsc::Receiver<Result<Job, SessionEnd>>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Message {
    Command(Box<Command>),
    /// Break the transport, as a bad network would.
    Cut,
    /// Leave without closing the session.
    Leave(oneshot::Sender<Option<ResumeClaim>>),
}

impl Client {
    /// Connects and opens a session; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// If no connection can be made within `give_up_after`, the server is not trusted, others could read the
    /// credential on its way, or the runtime refuses the session.
    pub async fn connect(target: Target, config: ClientConfig) -> Result<Client, ClientError> {
        Client::connect_with(target, &Security::default(), config).await
    }

    /// As [`connect`](Self::connect), with these settings for TLS and trust.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also if a file of `security` cannot be read.
    pub async fn connect_with(
        target: Target,
        security: &Security,
        config: ClientConfig,
    ) -> Result<Client, ClientError> {
        security.allows(&target, &config.credential)?;
        let (timeout, frame_bytes) = (config.open_timeout, config.limits.frame_bytes);
        let dialer = dialer(target, security, timeout, frame_bytes).await?;
        Client::connect_over(dialer, config).await
    }

    /// As [`connect`](Self::connect), over streams with one frame per line. `open` is called for each connection; it
    /// may return the pipes of a program that it starts, for example.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_by<S, F>(
        open: impl Fn() -> F + Send + 'static,
        config: ClientConfig,
    ) -> Result<Client, ClientError>
    where
        S: ByteStream,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let frame_bytes = config.limits.frame_bytes;
        let dialer: Dialer = Box::new(move || {
            let opening = open();
            Box::pin(async move {
                let stream: Pin<Box<dyn ByteStream>> =
                    Box::pin(opening.await.map_err(|error| DialError::Failed(error.to_string()))?);
                Ok((stream, Framing::lines(frame_bytes)))
            })
        });
        Client::connect_over(dialer, config).await
    }

    async fn connect_over(dialer: Dialer, config: ClientConfig) -> Result<Client, ClientError> {
        let family = config.family;
        let (messages, inbox) = mpsc::channel(QUEUE);
        let (ready, accepted) = oneshot::channel();
        let (extensions, untaken) = mpsc::channel(UNTAKEN);
        let unread = Arc::new(Unread::default());
        // Messages that the application does not take are dropped.
        let extensions = move |message| drop(extensions.try_send(message));
        let (taker, handed) = taker(&unread);
        let calls = ClientLoop::new(config, Box::new(move |welcome| drop(ready.send(welcome))), extensions, taker)?;
        let transport = Dialed { dialer, opening: None, stream: None };
        let task = tokio::spawn(Driver { calls, transport, inbox, unread: unread.clone() }.run());
        let welcome = accepted.await.unwrap_or(Err(ClientError::Ended(SessionEnd::Closed)))?;
        let (untaken, handed) = (Mutex::new(untaken), Mutex::new(handed));
        Ok(Client { messages, welcome, unread, family, untaken, handed, task })
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
    pub async fn submit(&self, submit: Submit) -> Result<Job, ClientError> {
        self.submitted(submit, None).await
    }

    async fn submitted(&self, submit: Submit, invocation: Option<Invocation>) -> Result<Job, ClientError> {
        let (follower, updates) = self.follower();
        let accepted = self.ask(|answer| Command::Submit(submit, invocation, follower, answer)).await?;
        let mut job = Job::new(accepted.job, accepted.agent, accepted.trace, updates);
        job.credentials = accepted.credentials;
        Ok(job)
    }

    /// The requests that only the open family has; `None` in the hello family.
    pub fn open(&self) -> Option<OpenClient<'_>> {
        self.family.has_open_requests().then_some(OpenClient { client: self })
    }

    /// Watches a job of the same principal.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
    pub async fn watch(&self, watch: Watch) -> Result<Job, ClientError> {
        let (follower, updates) = self.follower();
        let watching = self.ask(|answer| Command::Watch(watch, follower, answer)).await?;
        Ok(Job::new(watching.job, watching.agent, watching.trace, updates))
    }

    /// Stops watching a job.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn unwatch(&self, job: WireId) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::Unwatch(job)))).await
    }

    /// Lists jobs.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
    pub async fn list(&self, query: ListQuery) -> Result<JobPage, ClientError> {
        self.ask(|answer| Command::List(query, answer)).await
    }

    /// Cancels a job; waits until the runtime acknowledges that, not until the job has ended.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, or the session has ended.
    pub async fn cancel(&self, job: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.ask(|answer| Command::Cancel(job, reason, None, answer)).await
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
    pub async fn answer(&self, answering: Answering) -> Result<(), ClientError> {
        self.ask(|answer| Command::Answer(answering, answer)).await
    }

    /// Lists everybody's sessions, for an operator or auditor.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, ClientError> {
        self.ask(|answer| Command::Sessions(query, answer)).await
    }

    /// Stores bytes with the runtime for a limited time (RFC §16).
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub async fn put_artifact(&self, put: PutArtifact) -> Result<ArtifactRef, ClientError> {
        self.ask(|answer| Command::PutArtifact(put, answer)).await
    }

    /// Fetches an artifact of this principal.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact); `JobNotFound` if the artifact does not exist any more.
    pub async fn fetch_artifact(&self, id: WireId) -> Result<FetchedArtifact, ClientError> {
        self.ask(|answer| Command::FetchArtifact(id, None, answer)).await
    }

    /// Deletes an artifact. It is no error if the artifact is gone already.
    ///
    /// # Errors
    ///
    /// As [`put_artifact`](Self::put_artifact).
    pub async fn release_artifact(&self, id: WireId) -> Result<(), ClientError> {
        self.ask(|answer| Command::ReleaseArtifact(id, answer)).await
    }

    /// Runs a graph of steps as one job (RFC §6.2). `steps` is an object with the member `steps`, or the list of
    /// steps. To add a lease, a key or a time limit, submit what [`workflow::submit`] returns.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it, with the step that is wrong, or the session has ended.
    pub async fn start_workflow(&self, steps: &Json, input: Option<&Json>) -> Result<Job, ClientError> {
        self.submit(workflow::submit(steps, input)).await
    }

    /// Adds a schedule: jobs are submitted at its times, whether or not this client is connected (RFC §10.6).
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub async fn schedule(&self, wish: NewSchedule) -> Result<Scheduled, ClientError> {
        self.ask(|answer| Command::Schedule(Box::new(wish), answer)).await
    }

    /// Lists schedules.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Self::schedule).
    pub async fn schedules(&self, query: ScheduleQuery) -> Result<SchedulePage, ClientError> {
        self.ask(|answer| Command::Schedules(query, answer)).await
    }

    /// Pauses a schedule, or resumes it from its next time.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Self::schedule); `JobNotFound` if the schedule does not exist.
    pub async fn change_schedule(&self, change: ScheduleChange) -> Result<(), ClientError> {
        self.ask(|answer| Command::ChangeSchedule(change, answer)).await
    }

    /// Deletes a schedule; its jobs continue.
    ///
    /// # Errors
    ///
    /// As [`change_schedule`](Self::change_schedule).
    pub async fn end_schedule(&self, id: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.ask(|answer| Command::Cancel(id, reason, None, answer)).await
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
    pub async fn evict(&self, eviction: Eviction) -> Result<(), ClientError> {
        self.ask(|answer| Command::Evict(eviction, answer)).await
    }

    /// Sends a message to the agent of a running job; waits until it is stored for the agent. The job is blocked until
    /// the agent continues.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent accepts no interrupts, `FailedPrecondition` if it does
    /// not run. Also if the session has ended, or cannot interrupt.
    pub async fn interrupt(&self, job: WireId, prompt: String) -> Result<(), ClientError> {
        self.ask(|answer| Command::Interrupt(job, prompt, answer)).await
    }

    /// Sends one message of a stream to the agent of a job that takes input; waits until the runtime has it for the
    /// agent. [`StreamSender`](crate::StreamSender) handles a whole stream.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `Unimplemented` if the agent takes no input, `ResourceExhausted` while the agent has
    /// as much input as it may have. Also if the session has ended, or cannot open streams.
    pub async fn say_in_stream(&self, request: StreamRequest) -> Result<(), ClientError> {
        self.ask(|answer| Command::Stream(request, answer)).await
    }

    /// Has `handler` decide on the permissions that followed jobs request from this time on. It comes before all other
    /// code of this client: what it denies stays denied.
    ///
    /// ```no_run
    /// # use arcp_tokio_adapter::Client;
    /// # use arcp_host::client::{ClientError, Decision, PermissionAsked};
    /// # async fn veto(client: &Client) -> Result<(), ClientError> {
    /// client.decide_permissions(|asked: &PermissionAsked| match asked.request.operation.as_str() {
    ///     "fs.write" => Decision::Deny { reason: Some("nothing is written here".to_string()) },
    ///     _ => Decision::Leave,
    /// }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn decide_permissions(&self, handler: impl PermissionHandler + 'static) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::DecidePermissions(Box::new(handler))))).await
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
    pub async fn hand_over(&self, wish: HandOver) -> Result<(), ClientError> {
        self.ask(|answer| Command::HandOver(wish, answer)).await
    }

    /// The next job that is handed over to this session; waits for it. It is followed from then on. A session is
    /// handed jobs if it offers [`Feature::AgentHandoff`](arcp_proto::model::feature::Feature::AgentHandoff). A client
    /// that offers it takes the jobs with this method, or lists and watches them later.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn next_handed_job(&self) -> Result<Job, ClientError> {
        let handed = self.handed.lock().await.recv().await;
        handed.unwrap_or(Err(SessionEnd::Closed)).map_err(ClientError::Ended)
    }

    /// Breaks the connection, as a bad network would. The session resumes by itself; use this to test that.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn break_connection(&self) -> Result<(), ClientError> {
        self.give(Message::Cut).await
    }

    /// Renews the session with another credential of the same principal, so that the session does not end with the
    /// earlier one. The hello family has no message for this: there, the client resumes its session on another
    /// connection, and no event is missed.
    ///
    /// # Errors
    ///
    /// If the session has ended. Whether the runtime accepts the credential is seen later: a session that it does not
    /// renew ends when the earlier credential expires.
    pub async fn renew(&self, credential: Credential) -> Result<(), ClientError> {
        self.give(Message::Command(Box::new(Command::Renew(credential)))).await
    }

    /// Closes the session, and waits until the runtime was told; jobs continue.
    pub async fn close(self) {
        let Client { messages, task, .. } = self;
        drop(messages);
        // If the runtime does not answer, this is the end of the wait.
        let _ = tokio::time::timeout(GOODBYE, task).await;
    }

    /// Leaves without closing the session. Returns the claim to the session, for [`ClientConfig::resume`] of another
    /// client, if the runtime gave one.
    pub async fn leave(self) -> Option<ResumeClaim> {
        let (answer, answered) = oneshot::channel();
        self.give(Message::Leave(answer)).await.ok()?;
        let claim = answered.await.ok()?;
        let _ = tokio::time::timeout(GOODBYE, self.task).await;
        claim
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<T, ClientError> {
        let (answer, answered) = oneshot::channel();
        let command = command(Box::new(move |result| drop(answer.send(result))));
        self.give(Message::Command(Box::new(command))).await?;
        answered.await.unwrap_or(Err(ClientError::Ended(SessionEnd::Closed)))
    }

    pub(crate) fn follower(&self) -> (Follower, mpsc::UnboundedReceiver<Held>) {
        follower(&self.unread)
    }

    async fn give(&self, message: Message) -> Result<(), ClientError> {
        self.messages.send(message).await.map_err(|_| ClientError::Ended(SessionEnd::Closed))
    }
}

fn follower(unread: &Arc<Unread>) -> (Follower, mpsc::UnboundedReceiver<Held>) {
    let ((sender, updates), unread) = (mpsc::unbounded_channel(), unread.clone());
    // A dropped job wants no updates.
    (Box::new(move |update| drop(sender.send(Held::new(update, &unread)))), updates)
}

/// The handler for jobs that are handed over, and the receiver of these jobs.
fn taker(unread: &Arc<Unread>) -> (Taker, mpsc::Receiver<Result<Job, SessionEnd>>) {
    let ((sender, handed), unread) = (mpsc::channel(UNTAKEN), unread.clone());
    let take = move |handed: Result<Watching, SessionEnd>| {
        let (follower, updates) = follower(&unread);
        let job = |watching: Watching| Job::new(watching.job, watching.agent, watching.trace, updates);
        let is_job = handed.is_ok();
        (sender.try_send(handed.map(job)).is_ok() && is_job).then_some(follower)
    };
    (Box::new(take), handed)
}

/// A client of the open family, with the requests that only this family has.
#[derive(Clone, Copy, Debug)]
pub struct OpenClient<'a> {
    client: &'a Client,
}

impl OpenClient<'_> {
    /// Submits a job with a priority, a span or extensions; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]; also if the extensions are not an object.
    pub async fn submit_as(&self, submit: Submit, invocation: Invocation) -> Result<Job, ClientError> {
        self.client.submitted(submit, Some(invocation)).await
    }

    /// Cancels a job. Its agent is stopped at the deadline. Waits until the runtime acknowledges the cancel.
    ///
    /// # Errors
    ///
    /// As [`Client::cancel`]; also if the deadline is over ten minutes.
    pub async fn cancel_within(
        &self,
        job: WireId,
        reason: Option<String>,
        deadline: Duration,
    ) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::Cancel(job, reason, Some(deadline), answer)).await
    }

    /// Sends a message of an extension, at most once: it is lost with the connection. There is no answer.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn send(&self, message: Extension) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::Send(message, answer)).await
    }

    /// The next message of an extension of [`ClientConfig::extensions`] from the runtime's application; `None` when
    /// the session has ended. Up to 1,024 messages wait to be taken; further ones are dropped.
    pub async fn next_extension(&self) -> Option<Extension> {
        self.client.untaken.lock().await.recv().await
    }

    /// Has the runtime echo a text.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn echo(&self, nonce: Option<String>) -> Result<Option<String>, ClientError> {
        self.client.ask(|answer| Command::Echo(nonce, answer)).await
    }
}

/// The task that owns the session and its transport.
struct Driver {
    calls: ClientLoop,
    transport: Dialed,
    inbox: mpsc::Receiver<Message>,
    unread: Arc<Unread>,
}

/// The transport, and how it is opened.
struct Dialed {
    dialer: Dialer,
    opening: Option<Opening>,
    stream: Option<Pin<Box<dyn ByteStream>>>,
}

/// The event that ended a wait of the task.
enum Happened {
    /// `None`: all handles are dropped.
    Message(Option<Message>),
    Opened(Result<Opened, DialError>),
    /// `Ok(0)` is the end of the stream.
    Received(io::Result<usize>),
    TimePassed,
}

impl Driver {
    async fn run(mut self) {
        let mut buffer = vec![0; READ_BYTES];
        let (mut commanded, mut taken) = (true, 0);
        // The first tick starts to connect.
        self.calls.tick(&mut self.transport);
        while !self.calls.is_over() {
            let happened = self.next(&mut buffer, commanded).await;
            taken = if matches!(happened, Happened::TimePassed) { TURN } else { taken + 1 };
            let Driver { calls, transport, .. } = &mut self;
            match happened {
                Happened::Message(Some(Message::Command(command))) => calls.command(*command, transport),
                Happened::Message(Some(Message::Cut)) => {
                    if transport.stream.take().is_some() {
                        calls.lost("the connection was broken on purpose".to_string(), transport);
                    }
                }
                Happened::Message(Some(Message::Leave(answer))) => drop(answer.send(calls.leave())),
                Happened::Message(None) => {
                    commanded = false;
                    calls.close(transport);
                }
                Happened::Opened(Ok((stream, framing))) => {
                    transport.stream = Some(stream);
                    calls.connected(framing, transport);
                }
                Happened::Opened(Err(error)) => calls.connect_failed(error, transport),
                Happened::Received(Ok(0)) => calls.lost("the connection was closed".to_string(), transport),
                Happened::Received(Ok(n)) => calls.received(&buffer[..n], transport),
                Happened::Received(Err(error)) => calls.lost(format!("the connection broke: {error}"), transport),
                Happened::TimePassed => {}
            }
            // What had arrived by the last tick was handled when nothing is ready, or when as much was handled as fits
            // a turn.
            if taken >= TURN {
                calls.tick(transport);
                taken = 0;
            }
        }
        self.calls.hang_up(&mut self.transport);
    }

    /// Writes what is queued, and waits for the next event.
    async fn next(&mut self, buffer: &mut [u8], commanded: bool) -> Happened {
        let wait = self.calls.next_wait().unwrap_or(Duration::from_secs(3600));
        let mut sleep = pin!(tokio::time::sleep(wait));
        poll_fn(|cx| {
            if commanded && let Poll::Ready(message) = self.inbox.poll_recv(cx) {
                return Poll::Ready(Happened::Message(message));
            }
            if let Some(opening) = &mut self.transport.opening
                && let Poll::Ready(opened) = opening.as_mut().poll(cx)
            {
                self.transport.opening = None;
                return Poll::Ready(Happened::Opened(opened));
            }
            if let (Some(stream), Some(framing)) = (&mut self.transport.stream, self.calls.framing()) {
                if let Poll::Ready(Err(error)) = poll_write(stream.as_mut(), framing, cx) {
                    return Poll::Ready(Happened::Received(Err(error)));
                }
                let mut buffer = ReadBuf::new(buffer);
                // After the client was dropped, updates are not taken any more and must not delay the end.
                if (!commanded || self.unread.has_room(cx))
                    && let Poll::Ready(read) = stream.as_mut().poll_read(cx, &mut buffer)
                {
                    return Poll::Ready(Happened::Received(read.map(|()| buffer.filled().len())));
                }
            }
            sleep.as_mut().poll(cx).map(|()| Happened::TimePassed)
        })
        .await
    }
}

impl Transport for Dialed {
    fn dial(&mut self) {
        self.stream = None;
        self.opening = Some((self.dialer)());
    }

    /// Writes as much as the stream takes at once. The task writes the rest, and sees errors.
    fn flush(&mut self, framing: &mut Framing) {
        if let Some(stream) = &mut self.stream {
            let _ = poll_write(stream.as_mut(), framing, &mut Context::from_waker(Waker::noop()));
        }
    }

    /// Writes the last bytes in a task of its own, for a bounded time.
    fn hang_up(&mut self, mut framing: Framing) {
        if let Some(mut stream) = self.stream.take() {
            let last = std::mem::take(framing.output());
            let write = async move {
                stream.write_all(&last).await?;
                stream.shutdown().await
            };
            tokio::spawn(tokio::time::timeout(GOODBYE, write));
        }
    }
}

/// Writes the output until it is empty and nothing is held back.
fn poll_write(
    mut stream: Pin<&mut dyn ByteStream>,
    framing: &mut Framing,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    // Once this is written, a pong that did not fit may follow.
    while !framing.output().is_empty() {
        match stream.as_mut().poll_write(cx, framing.output()) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => framing.wrote(n),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    stream.poll_flush(cx)
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
    pub async fn create(&self, wish: CreateCheckpoint) -> Result<CheckpointRef, ClientError> {
        self.client.ask(|answer| Command::CreateCheckpoint(wish, answer)).await
    }

    /// Starts a job from a checkpoint of another job (RFC §19); waits until it is accepted.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]; `JobNotFound` if the checkpoint is not kept.
    pub async fn restore(&self, wish: RestoreCheckpoint) -> Result<Job, ClientError> {
        let (follower, updates) = self.client.follower();
        let accepted = self.client.ask(|answer| Command::RestoreCheckpoint(wish, follower, answer)).await?;
        let mut job = Job::new(accepted.job, accepted.agent, accepted.trace, updates);
        job.credentials = accepted.credentials;
        Ok(job)
    }

    /// Lists the kept checkpoints of a job.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub async fn list(&self, job: WireId) -> Result<CheckpointList, ClientError> {
        self.client.ask(|answer| Command::Checkpoints(job, answer)).await
    }
}
