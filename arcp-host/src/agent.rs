//! Agents: what a job runs, and what it can say while it runs.

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

/// Something that can be run as a job. It has a thread of its own and may
/// block.
///
/// Any `Fn(&Context) -> Result<Outcome, AgentError>` is one.
pub trait Agent: Send + Sync + 'static {
    /// Runs one job.
    ///
    /// # Errors
    ///
    /// What the job ends with. A panic becomes `INTERNAL_ERROR`, without its
    /// text.
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

/// An agent that answers at once: it runs on the loop itself, for proxies,
/// lookups and tests. **It must not block**: whoever does holds up everybody.
///
/// Any `Fn(&AgentSpec) -> Result<Outcome, AgentError>` is one.
pub trait InlineAgent: Send + Sync + 'static {
    /// Answers one job.
    ///
    /// # Errors
    ///
    /// What the job ends with. A panic becomes `INTERNAL_ERROR`, without its
    /// text.
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

/// How a job does not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct AgentError(pub JobError);

impl AgentError {
    /// `INTERNAL_ERROR` with a message the client sees.
    pub fn failed(message: impl Into<String>) -> AgentError {
        AgentError(JobError::new(ErrorCode::Internal, message))
    }

    /// Another code.
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

/// Of what [`Json::decode`] gives: the result of a child, or an answer.
impl From<serde_json::Error> for AgentError {
    fn from(error: serde_json::Error) -> AgentError {
        AgentError::failed(format!("not the JSON that was expected: {error}"))
    }
}

/// The job was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job was told to stop")]
pub struct Stopped;

/// A call that was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The job was told to stop before the call was answered, or is over.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The runtime refused it; the job goes on as if it had not been made.
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

/// A price that was taken out of a budget, until it is said what something cost.
/// One that is dropped counts as spent.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "say with `Context::cost` what it cost in the end"]
pub struct Reservation(u64);

/// How serious a log event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever reads the code.
    Trace,
    /// For whoever debugs.
    Debug,
    /// For everybody.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
    /// Everything failed.
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

/// Takes what agents say to the runtime. Must not block for long.
pub trait Inbox: Send + Sync {
    /// Takes one input.
    fn put(&self, input: Input);
}

/// A running job, as its agent sees it.
///
/// Everything that emits waits while the runtime has no credit for the
/// agent: a flood is slowed, not buffered. It gives [`Stopped`] only when the
/// job is over; after a mere cancel an agent may still say goodbye.
pub struct Context {
    job: JobId,
    spec: AgentSpec,
    pub(crate) link: Arc<AgentControl>,
    inbox: Arc<dyn Inbox>,
}

impl Context {
    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// On whose behalf it runs.
    pub fn principal(&self) -> &Principal {
        &self.spec.principal
    }

    /// Its trace, 32 hexadecimal digits.
    pub fn trace(&self) -> &str {
        &self.spec.trace
    }

    /// Its input, exactly as sent; `{}` if there was none.
    pub fn input(&self) -> &Json {
        &self.spec.input
    }

    /// Its input, decoded.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` if it does not fit.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, AgentError> {
        let bad = |e| AgentError::with_code(ErrorCode::InvalidRequest, format!("the input does not fit: {e}"));
        serde_json::from_str(self.spec.input.as_str()).map_err(bad)
    }

    /// What it may do, as it was granted; `{}` if nothing was asked for. Whether it
    /// may do something now, [`authorize`](Context::authorize) says.
    pub fn lease(&self) -> &Json {
        &self.spec.lease
    }

    /// What it left at its last [`checkpoint`](Context::checkpoint), if the
    /// runtime has ended since and the job was started again.
    pub fn restored(&self) -> Option<&[u8]> {
        self.spec.checkpoint.as_deref()
    }

    /// How often the job was started again.
    pub fn restarts(&self) -> u32 {
        self.spec.restarts
    }

    /// Whether the job was told to stop.
    pub fn cancelled(&self) -> bool {
        self.link.state().stopping
    }

    /// Waits, but not beyond a cancel.
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub fn sleep(&self, span: Duration) -> Result<(), Stopped> {
        self.link.wait_for(span, |_| None::<()>).map(drop)
    }

    /// A line of log.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn log(&self, level: Level, message: &str) -> Result<(), Stopped> {
        self.call(says::log(level, message, None))
    }

    /// A line of log with more for a program.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn log_with(&self, level: Level, message: &str, attributes: &Json) -> Result<(), Stopped> {
        self.call(says::log(level, message, Some(attributes)))
    }

    /// A thought.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn thought(&self, text: &str) -> Result<(), Stopped> {
        self.call(says::thought(text))
    }

    /// Where the job stands, in a word.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn status(&self, phase: &str, message: Option<&str>) -> Result<(), Stopped> {
        self.call(says::status(phase, message))
    }

    /// How far the job is, of a known or unknown total.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn progress(&self, current: u64, total: Option<u64>, units: Option<&str>) -> Result<(), Stopped> {
        self.call(says::progress(current, total, units))
    }

    /// A number. `value` is JSON, so that decimals keep their digits.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn metric(&self, name: &str, value: &Json, unit: Option<&str>) -> Result<(), Stopped> {
        self.call(says::metric(name, value, unit))
    }

    /// A tool is being called.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn tool_call(&self, tool: &str, call_id: &str, args: &Json) -> Result<(), Stopped> {
        self.call(says::tool_call(tool, call_id, args))
    }

    /// What a tool gave.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn tool_result(&self, call_id: &str, result: Result<&Json, &Json>) -> Result<(), Stopped> {
        self.call(says::tool_result(call_id, result))
    }

    /// Something that was made can be found at a URI.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn artifact(&self, uri: &str, content_type: Option<&str>, byte_size: Option<u64>) -> Result<(), Stopped> {
        self.call(says::artifact(uri, content_type, byte_size))
    }

    /// Any event. What does not fit its kind becomes a warning in the job's
    /// log.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn emit(&self, kind: &EventKind, body: &Json) -> Result<(), Stopped> {
        self.call(says::event(kind.clone(), body.clone()))
    }

    /// The same, and waits until it is durable: everybody who may see it will.
    /// Gives its number in the job, from 1.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if it does not fit its kind, or is too large;
    /// [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn emit_durably(&self, kind: &EventKind, body: &Json) -> Result<u64, CallError> {
        event_of(self.ask(says::event(kind.clone(), body.clone()))?)
    }

    /// What is left of the job: the time until it is made to stop, and what it may
    /// say before it has to wait.
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub fn ask_remaining(&self) -> Result<Remaining, Stopped> {
        remaining_of(self.ask(AgentCall::Remaining)?)
    }

    /// Asks whether it may do something, before it does it: `operation` on `target`,
    /// such as `fs.read` on `/srv/notes.txt`. Gives the pattern of the job's lease
    /// that allows it.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with `LEASE_EXPIRED`, `BUDGET_EXHAUSTED` or
    /// `PERMISSION_DENIED`, and the job goes on, but for the first of them;
    /// [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn authorize(&self, operation: &Namespace, target: &str) -> Result<String, CallError> {
        allowed(self.ask(authorize(operation, target, Vec::new()))?).map(|(pattern, _)| pattern)
    }

    /// The same for something that costs: the price is taken out of the job's budget
    /// at once, until [`cost`](Self::cost) says with what this gives what it cost
    /// in the end. `None`: that currency is not bounded.
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

    /// Calls a tool, if the job's lease allows that: everybody who may see it is
    /// shown the call, and also that it is not allowed, as the error of the tool.
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize).
    pub fn call_tool(&self, tool: &str, call_id: &str, args: &Json) -> Result<(), CallError> {
        event_of(self.ask(says::tool_call(tool, call_id, args))?).map(drop)
    }

    /// Something has cost so much: `name` begins with `cost.`. A budget in that
    /// currency has so much less left, also below zero.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn cost(
        &self,
        name: &str,
        (currency, amount): (&Currency, Amount),
        reserved: Option<Reservation>,
    ) -> Result<(), Stopped> {
        self.call(says::cost(name, currency, amount, reserved.map(|Reservation(number)| number)))
    }

    /// A piece of the result, as text. It may be cut further, never inside a
    /// character.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn chunk(&self, text: impl Into<String>) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data: ChunkData::Text(text.into()), more: true })
    }

    /// A piece of the result, as bytes.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn chunk_bytes(&self, bytes: impl Into<Vec<u8>>) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data: ChunkData::Binary(bytes.into()), more: true })
    }

    /// The last piece of the result. Without it an empty one is added at the
    /// end.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn last_chunk(&self, data: ChunkData) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data, more: false })
    }

    /// Keeps what the job can go on from, at most
    /// [`JobLimits::checkpoint_bytes`](arcp_proto::limits::JobLimits::checkpoint_bytes).
    /// An agent added by [`Registry::add_restartable`] is started again with
    /// the latest of them when the runtime has ended under it; whatever it did
    /// since, it may do twice.
    ///
    /// [`Registry::add_restartable`]: crate::registry::Registry::add_restartable
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn checkpoint(&self, state: impl Into<Vec<u8>>, label: Option<&str>) -> Result<(), Stopped> {
        self.call(says::checkpoint(state.into(), label))
    }

    /// The same, and waits until it is durable: from then on the job goes on from
    /// here, whatever happens to the runtime. Gives the number of its event in the
    /// job, from 1.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if it is too large, or the agent was not added by
    /// [`Registry::add_restartable`]; [`CallError::Stopped`] as soon as the job is
    /// told to stop.
    ///
    /// [`Registry::add_restartable`]: crate::registry::Registry::add_restartable
    pub fn checkpoint_durably(&self, state: impl Into<Vec<u8>>, label: Option<&str>) -> Result<u64, CallError> {
        event_of(self.ask(says::checkpoint(state.into(), label))?)
    }

    /// Nothing new, but alive. Agents that are watched say something at least
    /// every two heartbeats. Costs no credit and never waits: while one of these is
    /// on its way to the runtime, others are one with it.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job is over.
    pub fn heartbeat(&self) -> Result<(), Stopped> {
        heartbeat_under(self, self.link.state())
    }

    pub(crate) fn call(&self, call: AgentCall) -> Result<(), Stopped> {
        // Under the lock, so that calls of one job keep their order.
        let _locked = self.link.spend(&call)?;
        self.inbox.put(Input::Agent { job: self.job, call });
        Ok(())
    }

    /// Makes a call as soon as there is credit for it, and waits for what becomes
    /// of it.
    pub(crate) fn ask(&self, call: AgentCall) -> Result<AgentReply, Stopped> {
        ask_with(self, call, None)
    }
}

/// Makes a call with bytes that go with it.
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

/// A job that begins to run, as its agent will see it.
pub(crate) fn context(job: JobId, spec: AgentSpec, link: Arc<AgentControl>, inbox: Arc<dyn Inbox>) -> Context {
    Context { job, spec, link, inbox }
}

/// A heartbeat that waits until the one before it was taken: a program that prints
/// nothing else is slowed by its pipe.
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

/// Makes a call that is to be answered.
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

/// What the runtime tells a running agent.
#[derive(Debug, Default)]
pub(crate) struct AgentControl {
    state: Mutex<ControlState>,
    changed: Condvar,
    /// How long it waited for credit is added here.
    waited: Seconds,
}

#[derive(Debug, Default)]
pub(crate) struct ControlState {
    pub(crate) credit: u32,
    /// Below zero after a call larger than what was left.
    pub(crate) credit_bytes: i64,
    /// A heartbeat is in the inbox.
    pub(crate) heartbeat_sent: bool,
    /// How many calls were to be answered.
    asked: u64,
    /// Calls whose answers somebody waits for, each with its answer once there is
    /// one.
    open: BTreeMap<CallId, Option<AgentReply>>,
    /// Bytes that go with those calls, until the host takes them.
    offers: BTreeMap<CallId, Offer>,
    /// Interrupts that it has not taken, as many as the runtime leaves open.
    interrupts: VecDeque<Interrupt>,
    streams: streams::Streams,
    /// That somebody wants a checkpoint, which it has not taken.
    wanted: Option<WantedCheckpoint>,
    /// Told to stop.
    pub(crate) stopping: bool,
    /// Asking was not enough: nothing it says counts any more.
    pub(crate) over: bool,
    /// Its work is done; nobody needs to be told anything.
    pub(crate) done: bool,
    /// Threads that wait for a change: only those are told, by a call of the system.
    sleeping: usize,
    /// Who waits for one without a thread of their own.
    waiting: Vec<Waker>,
}

impl ControlState {
    pub(crate) fn give(&mut self, calls: u32, bytes: u64) {
        self.credit = self.credit.saturating_add(calls);
        self.credit_bytes = self.credit_bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether a call would not wait.
    fn has_credit(&self) -> bool {
        self.credit > 0 && self.credit_bytes > 0
    }

    /// Takes the credit for a call; `None` while there is none.
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

    /// A call was answered. Where nobody waits for that any more, it is dropped.
    pub(crate) fn answer(&mut self, id: CallId, reply: AgentReply) {
        if let Some(open) = self.open.get_mut(&id) {
            *open = Some(reply);
        }
    }

    /// What became of a call; `None` while that is not known.
    fn reply(&mut self, id: CallId) -> Option<Result<AgentReply, Stopped>> {
        let reply = match self.open.get_mut(&id).and_then(Option::take) {
            Some(AgentReply::Stopped) => Err(Stopped),
            Some(reply) => Ok(reply),
            None if self.over => Err(Stopped),
            None => return None,
        };
        self.forget(id);
        Some(reply)
    }

    /// Nobody waits for the answer to a call any more.
    fn forget(&mut self, id: CallId) {
        self.open.remove(&id);
        self.offers.remove(&id);
    }

    /// What goes with a call.
    pub(crate) fn take_offer(&mut self, id: CallId) -> Option<Offer> {
        self.offers.remove(&id)
    }
}

impl AgentControl {
    /// Of an agent that has no credit yet.
    pub(crate) fn new(waited: Seconds) -> AgentControl {
        AgentControl { waited, ..AgentControl::default() }
    }

    /// Takes the credit for a call, once there is any.
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

    /// A panic elsewhere leaves only numbers and flags, each valid.
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

    /// What `look` finds, once it finds something; until then the task is woken
    /// by each change.
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

    /// Waits until something is there to take, but not beyond a span, nor a cancel.
    pub(crate) fn wait_for<T>(
        &self,
        span: Duration,
        mut take: impl FnMut(&mut ControlState) -> Option<T>,
    ) -> Result<Option<T>, Stopped> {
        // A span beyond what the clock can count has no end.
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

/// Since when a call waits for credit, if it had to.
#[derive(Default)]
struct CreditWait(Option<Instant>);

impl CreditWait {
    /// Once the call has its credit, or gets none, the wait is counted.
    fn over<T>(&mut self, control: &AgentControl, spent: Option<T>) -> Option<T> {
        if spent.is_none() {
            self.0.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.0.take() {
            control.waited.inc_by(since.elapsed().as_secs_f64());
        }
        spent
    }
}
