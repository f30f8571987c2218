//! Agents: the code that a job runs, and what it can tell the runtime meanwhile.

mod artifacts;
mod checkpoints;
mod child;
mod credentials;
mod interrupts;
mod outcome;
pub(crate) mod people;
mod replies;
mod says;
pub(crate) mod streams;
mod task;
mod trace;
pub(crate) mod upstream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::{Json, JsonError};
use arcp_proto::lease::{Amount, Currency, Namespace};
use arcp_proto::model::event::{EventKind, JobError};
use arcp_proto::runtime::{AgentCall, AgentReply, AgentSpec, ChunkData, Input, Remaining};
use serde::de::DeserializeOwned;

pub use self::artifacts::NewArtifact;
pub(crate) use self::artifacts::{Offer, artifact_bytes, may_leave};
pub use self::checkpoints::{WantedCheckpoint, checkpoint_wanted_within};
pub use self::child::{AsyncChild, Child};
pub use self::credentials::{credentials, renew_credential, renew_credential_of};
pub use self::interrupts::Interrupt;
pub use self::outcome::Outcome;
pub(crate) use self::outcome::exit_of;
pub use self::people::Answered;
use self::replies::{allowed, authorize, event_of, remaining_of};
pub use self::streams::{AsyncStreamInput, AsyncStreamWriter, StreamInput, StreamWriter};
pub(crate) use self::task::{AgentFuture, run_task};
pub use self::task::{AsyncAgent, AsyncContext, Task};
pub use self::trace::{traceparent, traceparent_of};
use crate::metrics::Seconds;

/// Code that can be run as a job. Each job has a thread of its own and may block.
///
/// Any `Fn(&Context) -> Result<Outcome, AgentError>` is an agent.
pub trait Agent: Send + Sync + 'static {
    /// Runs one job.
    ///
    /// # Errors
    ///
    /// The error with which the job ends. A panic becomes `INTERNAL_ERROR`, without its text.
    fn run(&self, job: &Context) -> Result<Outcome, AgentError>;
}

impl<F> Agent for F
where
    F: Fn(&Context) -> Result<Outcome, AgentError> + Send + Sync + 'static,
{
    fn run(&self, job: &Context) -> Result<Outcome, AgentError> {
        self(job)
    }
}

/// An agent that answers at once. It runs on the loop itself, for proxies, lookups and tests. **It
/// must not block**: that would hold up every connection.
///
/// Any `Fn(&AgentSpec) -> Result<Outcome, AgentError>` is an inline agent.
pub trait InlineAgent: Send + Sync + 'static {
    /// Answers one job.
    ///
    /// # Errors
    ///
    /// The error with which the job ends. A panic becomes `INTERNAL_ERROR`, without its text.
    fn answer(&self, spec: &AgentSpec) -> Result<Outcome, AgentError>;
}

impl<F> InlineAgent for F
where
    F: Fn(&AgentSpec) -> Result<Outcome, AgentError> + Send + Sync + 'static,
{
    fn answer(&self, spec: &AgentSpec) -> Result<Outcome, AgentError> {
        self(spec)
    }
}

/// The error with which a job fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct AgentError(pub JobError);

impl AgentError {
    /// `INTERNAL_ERROR` with a message for the client.
    pub fn failed(message: impl Into<String>) -> AgentError {
        AgentError(JobError::new(ErrorCode::Internal, message))
    }

    /// An error with another code.
    pub fn with_code(code: ErrorCode, message: impl Into<String>) -> AgentError {
        AgentError(JobError::new(code, message))
    }
}

impl From<Stopped> for AgentError {
    fn from(stopped: Stopped) -> AgentError {
        AgentError(JobError::new(ErrorCode::Cancelled, stopped.to_string()))
    }
}

impl From<JsonError> for AgentError {
    fn from(error: JsonError) -> AgentError {
        AgentError::failed(format!("not usable as JSON: {error}"))
    }
}

/// From [`Json::decode`] of the result of a child, or of an answer.
impl From<serde_json::Error> for AgentError {
    fn from(error: serde_json::Error) -> AgentError {
        AgentError::failed(format!("not the JSON that was expected: {error}"))
    }
}

/// The job was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job was told to stop")]
pub struct Stopped;

/// Why a call was not performed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The job was told to stop before the call was answered, or has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The runtime refused the call. The job goes on as if the call had not been made.
    #[error("the runtime refused the call: {}", .0.message)]
    Refused(JobError),
}

impl From<CallError> for AgentError {
    fn from(error: CallError) -> AgentError {
        match error {
            CallError::Stopped(stopped) => stopped.into(),
            CallError::Refused(error) => AgentError(error),
        }
    }
}

/// A price that was taken out of a budget until the final cost is reported. If the reservation is
/// dropped, the whole price counts as spent.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "say with `Context::cost` what it cost in the end"]
pub struct Reservation(u64);

/// The severity of a log event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For readers of the code.
    Trace,
    /// For debugging.
    Debug,
    /// For every reader.
    Info,
    /// Something unusual happened.
    Warn,
    /// An operation failed.
    Error,
    /// The whole job is failing.
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }
}

/// Takes the calls of agents to the runtime. It must not block for long.
pub trait Inbox: Send + Sync {
    /// Takes one input.
    fn put(&self, input: Input);
}

/// A running job, as its agent sees it.
///
/// Every call that emits waits while the runtime has no credit for the agent: a flood is slowed,
/// not buffered. Such a call returns [`Stopped`] only when the job is over; after a cancel alone an
/// agent may still send its last events.
pub struct Context {
    job: JobId,
    spec: AgentSpec,
    pub(crate) link: Arc<AgentControl>,
    inbox: Arc<dyn Inbox>,
}

impl Context {
    /// The id of the job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The principal on whose behalf the job runs.
    pub fn principal(&self) -> &Principal {
        &self.spec.principal
    }

    /// The trace id of the job: 32 hexadecimal digits, or any text of a client of the open family.
    pub fn trace(&self) -> &str {
        &self.spec.trace
    }

    /// The input of the job, exactly as sent; `{}` if there was none.
    pub fn input(&self) -> &Json {
        &self.spec.input
    }

    /// The input of the job, decoded.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` if the input does not have this type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, AgentError> {
        let bad = |e| AgentError::with_code(ErrorCode::InvalidRequest, format!("the input does not fit: {e}"));
        serde_json::from_str(self.spec.input.as_str()).map_err(bad)
    }

    /// The lease of the job as it was granted; `{}` if none was requested. Whether an operation is
    /// allowed at present, [`authorize`](Context::authorize) says.
    pub fn lease(&self) -> &Json {
        &self.spec.lease
    }

    /// The state of the last [`checkpoint`](Context::checkpoint), if the runtime has restarted
    /// since and the job was started again.
    pub fn restored(&self) -> Option<&[u8]> {
        self.spec.checkpoint.as_deref()
    }

    /// How many times the job was started again.
    pub fn restarts(&self) -> u32 {
        self.spec.restarts
    }

    /// Whether the job was told to stop.
    pub fn cancelled(&self) -> bool {
        self.link.state().stopping
    }

    /// Sleeps, but not beyond a cancel.
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub fn sleep(&self, span: Duration) -> Result<(), Stopped> {
        self.link.wait_for(span, |_| None::<()>).map(drop)
    }

    /// Emits a log line.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn log(&self, level: Level, message: &str) -> Result<(), Stopped> {
        self.call(says::log(level, message, None))
    }

    /// Emits a log line with attributes for programs.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn log_with(&self, level: Level, message: &str, attributes: &Json) -> Result<(), Stopped> {
        self.call(says::log(level, message, Some(attributes)))
    }

    /// Emits a thought.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn thought(&self, text: &str) -> Result<(), Stopped> {
        self.call(says::thought(text))
    }

    /// Emits the phase in which the job is, in a word.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn status(&self, phase: &str, message: Option<&str>) -> Result<(), Stopped> {
        self.call(says::status(phase, message))
    }

    /// Emits the progress of the job, with the total if it is known.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn progress(&self, current: u64, total: Option<u64>, units: Option<&str>) -> Result<(), Stopped> {
        self.call(says::progress(current, total, units))
    }

    /// Emits a metric. `value` is JSON, so that decimals keep their digits.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn metric(&self, name: &str, value: &Json, unit: Option<&str>) -> Result<(), Stopped> {
        self.call(says::metric(name, value, unit))
    }

    /// Emits that a tool is being called.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn tool_call(&self, tool: &str, call_id: &str, args: &Json) -> Result<(), Stopped> {
        self.call(says::tool_call(tool, call_id, args))
    }

    /// Emits the result of a tool, or its error.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn tool_result(&self, call_id: &str, result: Result<&Json, &Json>) -> Result<(), Stopped> {
        self.call(says::tool_result(call_id, result))
    }

    /// Emits a reference to something that was made, by its URI.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn artifact(&self, uri: &str, content_type: Option<&str>, byte_size: Option<u64>) -> Result<(), Stopped> {
        self.call(says::artifact(uri, content_type, byte_size))
    }

    /// Emits any event. A body that does not fit its kind becomes a warning in the job's log.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn emit(&self, kind: &EventKind, body: &Json) -> Result<(), Stopped> {
        self.call(says::event(kind.clone(), body.clone()))
    }

    /// Emits an event and waits until it is durable, so that no crash takes it back. Returns its
    /// number in the job, from 1.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if the body does not fit its kind, or is too large;
    /// [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn emit_durably(&self, kind: &EventKind, body: &Json) -> Result<u64, CallError> {
        event_of(self.ask(says::event(kind.clone(), body.clone()))?)
    }

    /// What the job has left: the time until it is stopped, and how much it may emit before it has
    /// to wait.
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub fn ask_remaining(&self) -> Result<Remaining, Stopped> {
        remaining_of(self.ask(AgentCall::Remaining)?)
    }

    /// Asks whether an operation is allowed, before the agent performs it: `operation` on `target`,
    /// such as `fs.read` on `/srv/notes.txt`. Returns the pattern of the job's lease that allows
    /// it.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with `LEASE_EXPIRED`, `BUDGET_EXHAUSTED` or `PERMISSION_DENIED`; the
    /// job goes on, except after `LEASE_EXPIRED`. [`CallError::Stopped`] as soon as the job is told
    /// to stop.
    pub fn authorize(&self, operation: &Namespace, target: &str) -> Result<String, CallError> {
        allowed(self.ask(authorize(operation, target, Vec::new()))?).map(|(pattern, _)| pattern)
    }

    /// As [`authorize`](Self::authorize), for an operation that costs something. The price is taken
    /// out of the job's budget at once, until [`cost`](Self::cost) is called with the reservation
    /// and the final cost. Returns `None` if there is no budget in that currency.
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize), and `BUDGET_EXHAUSTED` if less is left.
    pub fn reserve(
        &self,
        operation: &Namespace,
        target: &str,
        (currency, price): (&Currency, Amount),
    ) -> Result<Option<Reservation>, CallError> {
        let price = vec![format!("{currency}:{price}")];
        let reply = self.ask(authorize(operation, target, price))?;
        allowed(reply).map(|(_, reservation)| reservation.map(Reservation))
    }

    /// Emits a tool call, if the job's lease allows the tool. Readers of the job see the call, and
    /// also the refusal, as the error of the tool.
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize).
    pub fn call_tool(&self, tool: &str, call_id: &str, args: &Json) -> Result<(), CallError> {
        event_of(self.ask(says::tool_call(tool, call_id, args))?).map(drop)
    }

    /// Reports a cost: `name` begins with `cost.`. The amount is taken out of the budget in that
    /// currency, which may become negative.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn cost(
        &self,
        name: &str,
        (currency, amount): (&Currency, Amount),
        reserved: Option<Reservation>,
    ) -> Result<(), Stopped> {
        self.call(says::cost(name, currency, amount, reserved.map(|Reservation(number)| number)))
    }

    /// Emits a piece of the result, as text. It may be split further, never inside a character.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn chunk(&self, text: impl Into<String>) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data: ChunkData::Text(text.into()), more: true })
    }

    /// Emits a piece of the result, as bytes.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn chunk_bytes(&self, bytes: impl Into<Vec<u8>>) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data: ChunkData::Binary(bytes.into()), more: true })
    }

    /// Emits the last piece of the result. Without this call, an empty last piece is added at the
    /// end.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn last_chunk(&self, data: ChunkData) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data, more: false })
    }

    /// Saves a state from which the job can go on, at most
    /// [`JobLimits::checkpoint_bytes`](arcp_proto::limits::JobLimits::checkpoint_bytes) bytes. An
    /// agent added by [`Registry::add_restartable`] is started again with its latest checkpoint
    /// after the runtime has restarted; work since that checkpoint may be done twice.
    ///
    /// [`Registry::add_restartable`]: crate::registry::Registry::add_restartable
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn checkpoint(&self, state: impl Into<Vec<u8>>, label: Option<&str>) -> Result<(), Stopped> {
        self.call(says::checkpoint(state.into(), label))
    }

    /// As [`checkpoint`](Self::checkpoint), and waits until the checkpoint is durable: after a
    /// restart the job goes on from it. Returns the number of its event in the job, from 1.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if the state is too large, or the agent was not added by
    /// [`Registry::add_restartable`]; [`CallError::Stopped`] as soon as the job is told to stop.
    ///
    /// [`Registry::add_restartable`]: crate::registry::Registry::add_restartable
    pub fn checkpoint_durably(&self, state: impl Into<Vec<u8>>, label: Option<&str>) -> Result<u64, CallError> {
        event_of(self.ask(says::checkpoint(state.into(), label))?)
    }

    /// Sends a heartbeat. A watched agent must send one, or emit something, at least every two
    /// heartbeat intervals. It costs no credit and never waits: while one heartbeat is in the
    /// inbox, further ones are merged with it.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn heartbeat(&self) -> Result<(), Stopped> {
        heartbeat_under(self, self.link.state())
    }

    pub(crate) fn call(&self, call: AgentCall) -> Result<(), Stopped> {
        // Posted under the lock, so that calls of one job keep their order.
        let _locked = self.link.spend(&call)?;
        self.inbox.put(Input::Agent { job: self.job, call });
        Ok(())
    }

    /// Makes a call once there is credit for it, and waits for the answer.
    pub(crate) fn ask(&self, call: AgentCall) -> Result<AgentReply, Stopped> {
        ask_with(self, call, None)
    }
}

/// Makes a call with the bytes that belong to it.
fn ask_with(job: &Context, call: AgentCall, offer: Option<Offer>) -> Result<AgentReply, Stopped> {
    let mut state = job.link.spend(&call)?;
    let id = begin(job, &mut state, call, offer);
    loop {
        match state.reply(id) {
            Some(reply) => return reply,
            None => state = job.link.wait(state, None),
        }
    }
}

/// The context of a job that begins to run.
pub(crate) fn context(job: JobId, spec: AgentSpec, link: Arc<AgentControl>, inbox: Arc<dyn Inbox>) -> Context {
    Context { job, spec, link, inbox }
}

/// Sends a heartbeat once the previous one was taken, so that a program that prints nothing else is
/// slowed by its pipe.
pub(crate) fn heartbeat_in_turn(job: &Context) -> Result<(), Stopped> {
    let mut state = job.link.state();
    while state.heartbeat_sent && !state.over {
        state = job.link.wait(state, None);
    }
    heartbeat_under(job, state)
}

fn heartbeat_under(job: &Context, mut state: MutexGuard<'_, ControlState>) -> Result<(), Stopped> {
    if state.over {
        return Err(Stopped);
    }
    if !std::mem::replace(&mut state.heartbeat_sent, true) {
        job.inbox.put(Input::Agent { job: job.job, call: AgentCall::Heartbeat });
    }
    Ok(())
}

/// Makes a call that will be answered.
fn begin(job: &Context, state: &mut ControlState, call: AgentCall, offer: Option<Offer>) -> CallId {
    let id = CallId(state.asked);
    state.asked += 1;
    state.open.insert(id, None);
    state.offers.extend(offer.map(|offer| (id, offer)));
    job.inbox.put(Input::AgentAsked { job: job.job, id, call });
    id
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("job", &self.job).field("agent", &self.spec.agent).finish_non_exhaustive()
    }
}

/// What the runtime has told a running agent.
#[derive(Debug, Default)]
pub(crate) struct AgentControl {
    state: Mutex<ControlState>,
    changed: Condvar,
    /// Counts the time for which agents waited for credit.
    waited: Seconds,
}

#[derive(Debug, Default)]
pub(crate) struct ControlState {
    pub(crate) credit: u32,
    /// Negative after a call larger than the remaining credit.
    pub(crate) credit_bytes: i64,
    /// Whether a heartbeat is in the inbox.
    pub(crate) heartbeat_sent: bool,
    /// The number of calls with an answer so far.
    asked: u64,
    /// Calls whose answers are awaited, each with its answer once it is there.
    open: BTreeMap<CallId, Option<AgentReply>>,
    /// The bytes of those calls, until the host takes them.
    offers: BTreeMap<CallId, Offer>,
    /// Interrupts that the agent has not taken. The runtime bounds their number.
    interrupts: VecDeque<Interrupt>,
    streams: streams::Streams,
    /// A checkpoint that was requested and that the agent has not taken.
    wanted: Option<WantedCheckpoint>,
    /// Whether the job was told to stop.
    pub(crate) stopping: bool,
    /// Whether the job is over: it did not stop in time, and further calls are ignored.
    pub(crate) over: bool,
    /// Whether the agent has returned, so that it is told nothing more.
    pub(crate) done: bool,
    /// The number of threads that wait for a change. Only if there are any, the system is called to
    /// wake them.
    sleeping: usize,
    /// The tasks that wait for a change.
    waiting: Vec<Waker>,
}

impl ControlState {
    pub(crate) fn give(&mut self, calls: u32, bytes: u64) {
        self.credit = self.credit.saturating_add(calls);
        self.credit_bytes = self.credit_bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether a call can be made without waiting.
    fn has_credit(&self) -> bool {
        self.credit > 0 && self.credit_bytes > 0
    }

    /// Takes the credit for a call; `None` if there is none.
    fn spend(&mut self, call: &AgentCall) -> Option<Result<(), Stopped>> {
        if self.over {
            return Some(Err(Stopped));
        }
        if !self.has_credit() {
            return None;
        }
        self.credit -= 1;
        self.credit_bytes = self.credit_bytes.saturating_sub(i64::try_from(call.bytes()).unwrap_or(i64::MAX));
        Some(Ok(()))
    }

    /// Stores the answer to a call, or drops it if nobody awaits it.
    pub(crate) fn answer(&mut self, id: CallId, reply: AgentReply) {
        if let Some(open) = self.open.get_mut(&id) {
            *open = Some(reply);
        }
    }

    /// What became of a call; `None` while that is not known.
    pub(crate) fn reply(&mut self, id: CallId) -> Option<Result<AgentReply, Stopped>> {
        let reply = match self.open.get_mut(&id).and_then(Option::take) {
            Some(AgentReply::Stopped) => Err(Stopped),
            Some(reply) => Ok(reply),
            None if self.over => Err(Stopped),
            None => return None,
        };
        self.forget(id);
        Some(reply)
    }

    /// Notes that the answer to a call is not awaited any more.
    fn forget(&mut self, id: CallId) {
        self.open.remove(&id);
        self.offers.remove(&id);
    }

    /// Takes the bytes that belong to a call.
    pub(crate) fn take_offer(&mut self, id: CallId) -> Option<Offer> {
        self.offers.remove(&id)
    }
}

impl AgentControl {
    /// The control of an agent that has no credit yet.
    pub(crate) fn new(waited: Seconds) -> AgentControl {
        AgentControl { waited, ..AgentControl::default() }
    }

    /// Waits for credit and takes it for a call.
    fn spend(&self, call: &AgentCall) -> Result<MutexGuard<'_, ControlState>, Stopped> {
        let (mut state, mut wait) = (self.state(), CreditWait::default());
        loop {
            match wait.over(self, state.spend(call)) {
                Some(Ok(())) => return Ok(state),
                Some(Err(stopped)) => return Err(stopped),
                None => state = self.wait(state, None),
            }
        }
    }

    /// The lock may be poisoned by a panic elsewhere, but each field stays valid.
    pub(crate) fn state(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut ControlState)) {
        let mut state = self.state();
        change(&mut state);
        let (waiting, sleeps) = (std::mem::take(&mut state.waiting), state.sleeping > 0);
        drop(state);
        if sleeps {
            self.changed.notify_all();
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The value that `look` finds. Until it finds one, each change wakes the task.
    pub(crate) fn poll<T>(&self, cx: &TaskContext<'_>, look: impl FnOnce(&mut ControlState) -> Option<T>) -> Poll<T> {
        let mut state = self.state();
        if let Some(found) = look(&mut state) {
            return Poll::Ready(found);
        }
        if !state.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until `take` finds something, until `span` has passed, or until a cancel.
    pub(crate) fn wait_for<T>(
        &self,
        span: Duration,
        mut take: impl FnMut(&mut ControlState) -> Option<T>,
    ) -> Result<Option<T>, Stopped> {
        // If the clock cannot represent the end of the span, there is no end.
        let end = Instant::now().checked_add(span);
        let mut state = self.state();
        loop {
            if state.stopping {
                return Err(Stopped);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let taken = take(&mut state);
            if taken.is_some() || left.is_some_and(|left| left.is_zero()) {
                return Ok(taken);
            }
            state = self.wait(state, left);
        }
    }

    pub(crate) fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, ControlState>,
        span: Option<Duration>,
    ) -> MutexGuard<'a, ControlState> {
        state.sleeping += 1;
        let mut state = match span {
            Some(span) => self.changed.wait_timeout(state, span).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.sleeping -= 1;
        state
    }
}

/// The time since which a call waits for credit, if it has to wait.
#[derive(Default)]
struct CreditWait(Option<Instant>);

impl CreditWait {
    /// Counts the wait once the call has its credit or is refused.
    fn over<T>(&mut self, control: &AgentControl, spent: Option<T>) -> Option<T> {
        if spent.is_none() {
            self.0.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.0.take() {
            control.waited.inc_by(since.elapsed().as_secs_f64());
        }
        spent
    }
}
