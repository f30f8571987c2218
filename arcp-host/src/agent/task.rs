//! Agents that are futures.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Amount, Currency, Namespace};
use arcp_proto::model::credential::ProvisionedCredential;
use arcp_proto::model::event::{EventKind, JobError};
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, ChunkData, Input, Remaining};

use super::{
    AgentControl, AgentError, CallError, Context, CreditWait, Inbox, Level, Offer, Outcome, Reservation, Stopped,
    allowed, authorize, event_of, exit_of, remaining_of, says,
};

/// An agent whose jobs are tasks: it waits without a thread. In an adapter of an async runtime its
/// tasks run there; elsewhere each has a thread of its own.
///
/// Once its job was told to stop, it has
/// [`cancel_grace`](arcp_proto::runtime::Timing::cancel_grace) to return; then its future is
/// dropped where it waits.
///
/// Any `Fn(AsyncContext, Json) -> impl Future` is an async agent, such as an async
/// function:
///
/// ```
/// use arcp_host::agent::{AgentError, AsyncContext, Outcome};
/// use arcp_host::registry::Registry;
/// use arcp_proto::json::Json;
/// async fn echo(job: AsyncContext, input: Json) -> Result<Outcome, AgentError> {
///     job.status("echoing", None).await?;
///     Ok(Outcome::Json(input))
/// }
/// let mut registry = Registry::default();
/// registry.add_async("echo", None, echo);
/// ```
pub trait AsyncAgent: Send + Sync + 'static {
    /// Runs one job.
    ///
    /// # Errors
    ///
    /// The error with which the job ends. A panic becomes `INTERNAL_ERROR`, without its text.
    fn run(
        self: Arc<Self>,
        job: AsyncContext,
        input: Json,
    ) -> impl Future<Output = Result<Outcome, AgentError>> + Send + 'static;
}

impl<F, Fut> AsyncAgent for F
where
    F: Fn(AsyncContext, Json) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, AgentError>> + Send + 'static,
{
    fn run(
        self: Arc<F>,
        job: AsyncContext,
        input: Json,
    ) -> impl Future<Output = Result<Outcome, AgentError>> + Send + 'static {
        self(job, input)
    }
}

/// The future of an agent for one job.
pub(crate) type AgentFuture = Pin<Box<dyn Future<Output = Result<Outcome, AgentError>> + Send>>;

/// A job of an [`AsyncAgent`]. Its executor polls it until it is ready. If it is dropped before,
/// the job ends with `INTERNAL_ERROR`.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A running job, as its async agent sees it. Every call that emits waits while the runtime has no
/// credit for the agent. Such a call returns [`Stopped`] only when the job is over; after a cancel
/// alone an agent may still send its last events.
#[derive(Clone)]
pub struct AsyncContext(pub(super) Arc<Context>);

impl AsyncContext {
    /// The id of the job.
    pub fn job(&self) -> JobId {
        self.0.job()
    }

    /// The principal on whose behalf the job runs.
    pub fn principal(&self) -> &Principal {
        self.0.principal()
    }

    /// The trace id of the job: see [`Context::trace`].
    pub fn trace(&self) -> &str {
        self.0.trace()
    }

    /// The credentials that were issued for the job: see [`credentials`](super::credentials()).
    pub fn credentials(&self) -> &[ProvisionedCredential] {
        super::credentials(&self.0)
    }

    /// The state of the last [`checkpoint`](Self::checkpoint), if the runtime has restarted since
    /// and the job was started again.
    pub fn restored(&self) -> Option<&[u8]> {
        self.0.restored()
    }

    /// How many times the job was started again.
    pub fn restarts(&self) -> u32 {
        self.0.restarts()
    }

    /// Whether the job was told to stop.
    pub fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    /// Waits until the job is told to stop: for a `select` beside the work.
    pub async fn stopped(&self) {
        poll_fn(|cx| self.0.link.poll(cx, |state| (state.stopping || state.over).then_some(()))).await;
    }

    /// Emits a log line, with attributes for programs.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn log(&self, level: Level, message: &str, attributes: Option<&Json>) -> Result<(), Stopped> {
        self.call(says::log(level, message, attributes)).await
    }

    /// Emits a thought.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn thought(&self, text: &str) -> Result<(), Stopped> {
        self.call(says::thought(text)).await
    }

    /// Emits the phase in which the job is, in a word.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn status(&self, phase: &str, message: Option<&str>) -> Result<(), Stopped> {
        self.call(says::status(phase, message)).await
    }

    /// Emits the progress of the job, with the total if it is known.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn progress(&self, current: u64, total: Option<u64>, units: Option<&str>) -> Result<(), Stopped> {
        self.call(says::progress(current, total, units)).await
    }

    /// Emits a metric. `value` is JSON, so that decimals keep their digits.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn metric(&self, name: &str, value: &Json, unit: Option<&str>) -> Result<(), Stopped> {
        self.call(says::metric(name, value, unit)).await
    }

    /// Emits that a tool is being called.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn tool_call(&self, tool: &str, call_id: &str, args: &Json) -> Result<(), Stopped> {
        self.call(says::tool_call(tool, call_id, args)).await
    }

    /// Emits the result of a tool, or its error.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn tool_result(&self, call_id: &str, result: Result<&Json, &Json>) -> Result<(), Stopped> {
        self.call(says::tool_result(call_id, result)).await
    }

    /// Emits a reference to something that was made, by its URI.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn artifact(&self, uri: &str, content_type: Option<&str>, byte_size: Option<u64>) -> Result<(), Stopped> {
        self.call(says::artifact(uri, content_type, byte_size)).await
    }

    /// Emits any event. A body that does not fit its kind becomes a warning in the job's log.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn emit(&self, kind: &EventKind, body: &Json) -> Result<(), Stopped> {
        self.call(says::event(kind.clone(), body.clone())).await
    }

    /// Emits an event and waits until it is durable, so that no crash takes it back. Returns its
    /// number in the job, from 1.
    ///
    /// # Errors
    ///
    /// As [`Context::emit_durably`].
    pub async fn emit_durably(&self, kind: &EventKind, body: &Json) -> Result<u64, CallError> {
        event_of(self.ask(says::event(kind.clone(), body.clone())).await?)
    }

    /// What the job has left: see [`Context::ask_remaining`].
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub async fn ask_remaining(&self) -> Result<Remaining, Stopped> {
        remaining_of(self.ask(AgentCall::Remaining).await?)
    }

    /// Asks whether an operation is allowed: see [`Context::authorize`].
    ///
    /// # Errors
    ///
    /// As [`Context::authorize`].
    pub async fn authorize(&self, operation: &Namespace, target: &str) -> Result<String, CallError> {
        allowed(self.ask(authorize(operation, target, Vec::new())).await?).map(|(pattern, _)| pattern)
    }

    /// As [`authorize`](Self::authorize), for an operation that costs something: see
    /// [`Context::reserve`].
    ///
    /// # Errors
    ///
    /// As [`Context::reserve`].
    pub async fn reserve(
        &self,
        operation: &Namespace,
        target: &str,
        (currency, price): (&Currency, Amount),
    ) -> Result<Option<Reservation>, CallError> {
        let price = vec![format!("{currency}:{price}")];
        let reply = self.ask(authorize(operation, target, price)).await?;
        allowed(reply).map(|(_, reservation)| reservation.map(Reservation))
    }

    /// Emits a tool call, if the job's lease allows the tool: see [`Context::call_tool`].
    ///
    /// # Errors
    ///
    /// As [`Context::call_tool`].
    pub async fn call_tool(&self, tool: &str, call_id: &str, args: &Json) -> Result<(), CallError> {
        event_of(self.ask(says::tool_call(tool, call_id, args)).await?).map(drop)
    }

    /// Reports a cost: see [`Context::cost`].
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn cost(
        &self,
        name: &str,
        (currency, amount): (&Currency, Amount),
        reserved: Option<Reservation>,
    ) -> Result<(), Stopped> {
        self.call(says::cost(name, currency, amount, reserved.map(|Reservation(number)| number))).await
    }

    /// Emits a piece of the result; with `more` false the last one. If there is no last one, an
    /// empty one is added at the end.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn chunk(&self, data: ChunkData, more: bool) -> Result<(), Stopped> {
        self.call(AgentCall::Chunk { data, more }).await
    }

    /// Saves a state from which the job can go on: see [`Context::checkpoint`].
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn checkpoint(&self, state: impl Into<Vec<u8>>, label: Option<&str>) -> Result<(), Stopped> {
        self.call(says::checkpoint(state.into(), label)).await
    }

    /// As [`checkpoint`](Self::checkpoint), and waits until the checkpoint is durable.
    ///
    /// # Errors
    ///
    /// As [`Context::checkpoint_durably`].
    pub async fn checkpoint_durably(&self, state: impl Into<Vec<u8>>, label: Option<&str>) -> Result<u64, CallError> {
        event_of(self.ask(says::checkpoint(state.into(), label)).await?)
    }

    /// Sends a heartbeat: see [`Context::heartbeat`].
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn heartbeat(&self) -> Result<(), Stopped> {
        self.0.heartbeat()
    }

    pub(super) fn link(&self) -> &AgentControl {
        &self.0.link
    }

    pub(super) async fn call(&self, call: AgentCall) -> Result<(), Stopped> {
        let (mut call, mut wait) = (Some(call), CreditWait::default());
        poll_fn(|cx| {
            self.0.link.poll(cx, |state| {
                let spent = wait.over(&self.0.link, state.spend(call.as_ref()?))?;
                // Posted under the lock, so that calls of one job keep their order.
                Some(spent.map(|()| {
                    call.take().into_iter().for_each(|call| self.0.inbox.put(Input::Agent { job: self.0.job, call }));
                }))
            })
        })
        .await
    }

    pub(super) async fn ask(&self, call: AgentCall) -> Result<AgentReply, Stopped> {
        self.ask_with(call, None).await
    }

    /// Makes a call with the bytes that belong to it, and waits for the answer.
    pub(super) async fn ask_with(&self, call: AgentCall, mut offer: Option<Offer>) -> Result<AgentReply, Stopped> {
        let (mut call, mut asked, mut wait) = (Some(call), None, CreditWait::default());
        poll_fn(|cx| {
            self.0.link.poll(cx, |state| {
                if let Some(to_ask) = call.take() {
                    match wait.over(&self.0.link, state.spend(&to_ask)) {
                        None => call = Some(to_ask),
                        Some(Err(stopped)) => return Some(Err(stopped)),
                        Some(Ok(())) => {
                            let id = super::begin(&self.0, state, to_ask, offer.take());
                            asked = Some(Asked { id, link: &self.0.link });
                        }
                    }
                }
                state.reply(asked.as_ref()?.id)
            })
        })
        .await
    }
}

/// A call whose answer is awaited until this is dropped: an agent may drop a future before it is
/// ready.
struct Asked<'a> {
    id: CallId,
    link: &'a AgentControl,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.link.state().forget(self.id);
    }
}

impl fmt::Debug for AsyncContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Runs one job until its agent returns, or until the task is dropped because the agent did not
/// stop in time. `guard` is dropped with it.
pub(crate) fn run_task(
    begin: impl FnOnce(AsyncContext, Json) -> AgentFuture + Send + 'static,
    context: Context,
    guard: impl Send + 'static,
) -> Task {
    let context = Arc::new(context);
    let mut end = End { job: context.job, inbox: context.inbox.clone(), exit: AgentExit::Lost };
    Box::pin(async move {
        let _guard = guard;
        let (job, input) = (AsyncContext(context.clone()), context.input().clone());
        let mut work = catch_unwind(AssertUnwindSafe(|| begin(job, input))).ok();
        end.exit = poll_fn(|cx| {
            if context.link.poll(cx, |state| state.over.then_some(())).is_ready() {
                let message = "the job was made to stop".to_string();
                return Poll::Ready(AgentExit::Failure(JobError::new(ErrorCode::Cancelled, message)));
            }
            let Some(work) = &mut work else {
                return Poll::Ready(AgentExit::Lost);
            };
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => Poll::Ready(exit_of(result)),
                Err(_) => Poll::Ready(AgentExit::Lost),
            }
        })
        .await;
        // The future's values are dropped before the end of the agent is reported.
        drop(work);
        drop(end);
    })
}

/// Reports how an agent ended, also if its task is dropped.
struct End {
    job: JobId,
    inbox: Arc<dyn Inbox>,
    exit: AgentExit,
}

impl Drop for End {
    fn drop(&mut self) {
        let exit = std::mem::replace(&mut self.exit, AgentExit::Lost);
        self.inbox.put(Input::AgentExited { job: self.job, exit });
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context as TaskContext, Waker};

    use arcp_proto::runtime::AgentSpec;

    use super::super::streams::tests::{Said, spec};
    use super::*;

    /// The context of an agent with this state, its control, and its inbox.
    fn begun(checkpoint: Option<&[u8]>) -> (AsyncContext, Arc<AgentControl>, Arc<Said>) {
        let (said, control) = (Arc::new(Said::default()), Arc::new(AgentControl::default()));
        control.change(|state| state.give(2, 1000));
        let spec = AgentSpec { checkpoint: checkpoint.map(<[u8]>::to_vec), ..spec() };
        let context = super::super::context(JobId::from_ulid(ulid::Ulid::nil()), spec, control.clone(), said.clone());
        (AsyncContext(Arc::new(context)), control, said)
    }

    #[test]
    fn an_agent_is_told_of_its_state_and_its_end() {
        for state in [None, Some(b"s".as_slice())] {
            assert_eq!(begun(state).0.restored(), state);
        }
        let mut cx = TaskContext::from_waker(Waker::noop());
        for (stopping, over) in [(false, false), (true, false), (false, true), (true, true)] {
            let (job, control, _) = begun(None);
            control.change(|state| (state.stopping, state.over) = (stopping, over));
            let stopped = Box::pin(job.stopped()).as_mut().poll(&mut cx).is_ready();
            assert_eq!((job.cancelled(), stopped), (stopping, stopping || over), "{stopping} {over}");
        }
    }

    #[test]
    fn a_heartbeat_is_said_once_until_it_is_taken_and_by_nobody_whose_job_is_over() {
        let (job, control, said) = begun(None);
        for beats in 1..=3 {
            assert_eq!(super::super::heartbeat_in_turn(&job.0), Ok(()));
            assert_eq!(job.heartbeat(), Ok(()));
            assert_eq!(said.0.lock().expect("nobody panicked").len(), beats);
            control.change(|state| state.heartbeat_sent = false);
        }
        control.change(|state| state.over = true);
        assert_eq!(super::super::heartbeat_in_turn(&job.0), Err(Stopped));
    }

    #[test]
    fn an_agent_that_waits_for_a_checkpoint_is_told_which_event_it_is() {
        let (job, control, said) = begun(None);
        let mut cx = TaskContext::from_waker(Waker::noop());
        let mut asking = Box::pin(job.checkpoint_durably("s", Some("label")));
        assert!(asking.as_mut().poll(&mut cx).is_pending());
        let asked = said.0.lock().expect("nobody panicked").pop();
        let Some(Input::AgentAsked { id, .. }) = asked else { panic!("it asks: {asked:?}") };
        control.change(|state| state.answer(id, AgentReply::Taken { event: Some(7) }));
        let Poll::Ready(Ok(event)) = asking.as_mut().poll(&mut cx) else { panic!("it was answered") };
        assert_eq!(event, 7);
    }

    #[test]
    fn an_answer_that_nobody_waits_for_any_more_is_not_kept() {
        let (said, control) = (Arc::new(Said::default()), Arc::new(AgentControl::default()));
        control.change(|state| state.give(2, 1000));
        let context = super::super::context(JobId::from_ulid(ulid::Ulid::nil()), spec(), control.clone(), said.clone());
        let job = AsyncContext(Arc::new(context));
        let body = Json::empty_object();
        let mut cx = TaskContext::from_waker(Waker::noop());
        for answered_before in [true, false] {
            let mut asking = Box::pin(job.emit_durably(&EventKind::Status, &body));
            assert!(asking.as_mut().poll(&mut cx).is_pending());
            let Some(Input::AgentAsked { id, .. }) = said.0.lock().expect("nobody panicked").pop() else {
                panic!("it asks");
            };
            let answer = || control.change(|state| state.answer(id, AgentReply::Taken { event: Some(1) }));
            if answered_before {
                answer();
                drop(asking);
            } else {
                drop(asking);
                answer();
            }
            assert!(control.state().open.is_empty(), "answered before: {answered_before}");
        }
    }
}
