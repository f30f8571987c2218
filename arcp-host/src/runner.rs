//! Runs agents: on threads of their own, on the loop, or as tasks.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::task::{self, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, OpId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::JobError;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, AgentSpec, Input, OpenInterrupt, StreamWord};

use crate::agent::{AgentControl, Context, Inbox, Offer, Task, context, exit_of, run_task};
use crate::checks::Checks;
use crate::metrics::Seconds;
use crate::registry::{Hosted, Registry};

/// How long agents have to stop when the runner is dropped, before their programs are killed.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How long to wait for killed programs.
const KILL_GRACE: Duration = Duration::from_millis(500);

/// The running agents.
///
/// The driver passes it every `StartAgent`, `StopAgent`, `AgentCredit`, `AgentReply`,
/// `InterruptAgent` and `AgentStream`, and every input of the core with [`takes`](Self::takes).
///
/// Dropping it ends every agent: each is told to stop, and after half a second its program is
/// killed, and async agents are dropped. Other agents in this process that do not stop go on until
/// the process ends.
pub struct Runner {
    registry: Arc<RwLock<Registry>>,
    checks: Checks,
    inbox: Arc<dyn Inbox>,
    running: BTreeMap<JobId, Arc<AgentControl>>,
    threads: Arc<Threads>,
    run_task: TaskRunner,
    waited: Seconds,
}

/// Polls tasks until they are ready. It must not wait for them.
pub type TaskRunner = Arc<dyn Fn(Task) + Send + Sync>;

impl Runner {
    /// A runner for these agents; their calls go into `inbox`.
    pub fn new(registry: Registry, inbox: Arc<dyn Inbox>) -> Runner {
        let registry = Arc::new(RwLock::new(registry));
        let checks = Checks::new(registry.clone(), inbox.clone());
        let run_task: TaskRunner = Arc::new(run_on_a_thread);
        Runner {
            registry,
            checks,
            inbox,
            running: BTreeMap::new(),
            threads: Arc::default(),
            run_task,
            waited: Seconds::default(),
        }
    }

    /// Counts in `waited` how long agents wait for credit.
    #[must_use]
    pub(crate) fn counting_waits(self, waited: Seconds) -> Runner {
        let mut runner = self;
        runner.waited = waited;
        runner
    }

    /// Has this function run the jobs of async agents, instead of a thread for each.
    #[must_use]
    pub fn with_tasks_run_by(self, run_task: TaskRunner) -> Runner {
        // A type with `Drop` allows no field to be moved out of it.
        let mut runner = self;
        runner.run_task = run_task;
        runner
    }

    /// Starts an agent.
    pub fn start(&mut self, job: JobId, spec: AgentSpec) {
        if let Some(exit) = self.start_now(job, spec) {
            self.inbox.put(exit);
        }
    }

    /// Starts an agent; returns its exit if that is known at once.
    pub(crate) fn start_now(&mut self, job: JobId, spec: AgentSpec) -> Option<Input> {
        let hosted = self.registry.read().unwrap_or_else(PoisonError::into_inner).get(&spec.agent);
        match hosted {
            Some(Hosted::Threaded(agent)) => {
                let (context, counted) = self.begin(job, spec);
                let inbox = self.inbox.clone();
                let work = move || {
                    let _counted = counted;
                    let result = catch_unwind(AssertUnwindSafe(|| agent.run(&context)));
                    let exit = result.map_or(AgentExit::Lost, exit_of);
                    inbox.put(Input::AgentExited { job, exit });
                };
                let thread = std::thread::Builder::new().name(format!("{job}")).spawn(work);
                thread.is_err().then_some(Input::AgentExited { job, exit: AgentExit::Lost })
            }
            Some(Hosted::Async(agent)) => {
                let (context, counted) = self.begin(job, spec);
                let begin = move |job, input| agent.begin(job, input);
                (self.run_task)(run_task(begin, context, counted));
                None
            }
            Some(Hosted::Inline(agent)) => {
                let result = catch_unwind(AssertUnwindSafe(|| agent.answer(&spec)));
                let exit = result.map_or(AgentExit::Lost, exit_of);
                Some(Input::AgentExited { job, exit })
            }
            // The agent was removed after the job was accepted.
            None => {
                let message = format!("`{}` is not hosted any more: submit the job again", spec.agent);
                let exit = AgentExit::Failure(JobError::new(ErrorCode::AgentNotAvailable, message));
                Some(Input::AgentExited { job, exit })
            }
        }
    }

    /// The context of an agent that does not answer at once.
    fn begin(&mut self, job: JobId, spec: AgentSpec) -> (Context, Counted) {
        let link = Arc::new(AgentControl::new(self.waited.clone()));
        link.change(|state| state.give(spec.credit, spec.credit_bytes));
        self.running.insert(job, link.clone());
        (context(job, spec, link, self.inbox.clone()), self.threads.count())
    }

    /// Checks whether an input fits an agent. Returns the outcome if it is known at once, and
    /// otherwise posts it later.
    pub(crate) fn check(&self, op: OpId, agent: &AgentRef, input: Json) -> Option<Input> {
        self.checks.begin(op, agent, input)
    }

    /// Checks whether `schema` is a schema and the value fits it; posts the outcome later.
    pub(crate) fn check_value(&self, op: OpId, schema: Json, value: Option<Json>) {
        self.checks.begin_value(op, schema, value);
    }

    /// The agents, which may be replaced: a running job keeps the agent with which it was started.
    pub(crate) fn registry(&self) -> Arc<RwLock<Registry>> {
        self.registry.clone()
    }

    /// Tells an agent to stop; with `force`, ignores its further calls.
    pub fn stop(&mut self, job: JobId, force: bool) {
        if let Some(link) = self.running.get(&job) {
            stop(link, force);
        }
    }

    /// Tells every agent to stop.
    pub fn stop_all(&mut self) {
        self.running.values().for_each(|link| stop(link, false));
    }

    /// Gives an agent credit.
    pub fn credit(&mut self, job: JobId, calls: u32, bytes: u64) {
        if let Some(link) = self.running.get(&job) {
            link.change(|state| state.give(calls, bytes));
        }
    }

    /// Passes an agent the answer to a call.
    pub fn reply(&mut self, job: JobId, id: CallId, reply: AgentReply) {
        if let Some(link) = self.running.get(&job) {
            link.change(|state| state.answer(id, reply));
        }
    }

    /// Takes the bytes that an agent offers with a call; `None` if the agent does not wait for the
    /// call any more.
    pub(crate) fn take_offer(&self, job: JobId, id: CallId) -> Option<Offer> {
        self.running.get(&job)?.state().take_offer(id)
    }

    /// Passes an agent an interrupt.
    pub fn interrupt(&mut self, job: JobId, interrupt: OpenInterrupt) {
        if let Some(link) = self.running.get(&job) {
            link.interrupt(interrupt);
        }
    }

    /// Tells an agent what happened to a stream of its job.
    pub fn hear_of_stream(&mut self, job: JobId, stream: u32, says: StreamWord) {
        if let Some(link) = self.running.get(&job) {
            link.hear_of_stream(stream, says);
        }
    }

    /// Passes an agent a request for a checkpoint.
    pub fn want_checkpoint(&mut self, job: JobId, label: Option<String>) {
        if let Some(link) = self.running.get(&job) {
            link.want_checkpoint(label);
        }
    }

    /// Notes an input of the core: after a heartbeat the agent may send the next one, and an agent
    /// that has exited is removed.
    pub fn takes(&mut self, input: &Input) {
        if let Input::Agent { job, call: AgentCall::Heartbeat } = input
            && let Some(link) = self.running.get(job)
        {
            link.change(|state| state.heartbeat_sent = false);
        }
        if let Input::AgentExited { job, .. } = input {
            self.running.remove(job);
        }
    }

    /// The number of running agents.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The number of running agents that were told to stop.
    pub(crate) fn stopping(&self) -> usize {
        self.running.values().filter(|link| link.state().stopping).count()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        for (force, grace) in [(false, STOP_GRACE), (true, KILL_GRACE)] {
            self.running.values().for_each(|link| stop(link, force));
            self.threads.wait_for_none(grace);
        }
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("running", &self.running.keys()).finish_non_exhaustive()
    }
}

fn stop(link: &AgentControl, force: bool) {
    link.change(|state| {
        state.stopping = true;
        state.over |= force;
    });
}

/// Without a thread, the task is dropped, which ends the job.
fn run_on_a_thread(task: Task) {
    let _ = std::thread::Builder::new().name("agent".to_string()).spawn(move || block_on(task));
}

/// Polls a task on this thread until it is ready.
fn block_on(mut task: Task) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = task::Context::from_waker(&waker);
    while task.as_mut().poll(&mut cx).is_pending() {
        std::thread::park();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// The number of threads and tasks of agents.
#[derive(Default)]
struct Threads {
    alive: Mutex<usize>,
    ended: Condvar,
}

/// One thread or task, counted until it is dropped.
struct Counted(Arc<Threads>);

impl Threads {
    fn count(self: &Arc<Threads>) -> Counted {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Counted(self.clone())
    }

    fn wait_for_none(&self, span: Duration) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        // Threads and tasks that are left after `span` are not awaited.
        let _ = self.ended.wait_timeout_while(alive, span, |alive| *alive > 0);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.alive.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_all_of_them_waits_for_the_last() {
        let threads = Arc::new(Threads::default());
        threads.wait_for_none(Duration::from_secs(60));
        let counted = [threads.count(), threads.count()];
        threads.wait_for_none(Duration::ZERO);
        assert_eq!(*threads.alive.lock().expect("nobody panics"), 2, "they go on");
        let ended = Arc::new(Mutex::new(0));
        let ends = counted.map(|counted| {
            let ended = ended.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                *ended.lock().expect("nobody panics") += 1;
                drop(counted);
            })
        });
        threads.wait_for_none(Duration::from_secs(60));
        assert_eq!(*ended.lock().expect("nobody panics"), 2);
        for end in ends {
            end.join().expect("nobody panics");
        }
    }

    #[test]
    fn an_agent_that_was_stopped_for_good_stays_so() {
        let link = AgentControl::new(Seconds::default());
        let told = || {
            let state = link.state();
            (state.stopping, state.over)
        };
        assert_eq!(told(), (false, false));
        stop(&link, false);
        assert_eq!(told(), (true, false));
        stop(&link, true);
        assert_eq!(told(), (true, true));
        stop(&link, false);
        assert_eq!(told(), (true, true));
    }
}
