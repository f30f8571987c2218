//! The running agents of the virtual world.

use std::collections::VecDeque;
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, WireId};
use arcp_proto::model::event::JobError;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, AgentSpec};

use crate::script::{Step, script};

/// The media type of all artifacts that agents leave.
pub const MEDIA_TYPE: &str = "text/plain";

/// An agent that was started and has not exited.
#[derive(Debug)]
pub struct Running {
    steps: VecDeque<Step>,
    credit: u32,
    credit_bytes: i64,
    /// How many of its calls asked for an answer.
    asked: u64,
    /// The call that is not answered yet.
    open: Option<CallId>,
    /// The last child that it made.
    child: Option<JobId>,
    /// The last artifact that it left.
    left: Option<WireId>,
    /// Interrupts from which it continues as soon as it may call.
    interrupts: VecDeque<u32>,
    /// Whether it continues from interrupts.
    goes_on: bool,
    /// The state for a checkpoint, given as soon as a checkpoint is wanted and it may call.
    state: Option<Vec<u8>>,
    wanted: bool,
    stopping: bool,
    forced: bool,
    /// Whether a wake-up is on its way.
    pub awake: bool,
}

/// The action of an agent when it is woken.
#[derive(Debug)]
pub enum Act {
    /// It waits for credit, or to be told to stop.
    Nothing,
    /// It calls.
    Call(AgentCall),
    /// It calls, and waits for the answer.
    Ask(CallId, AgentCall),
    /// It leaves bytes with the runtime, and waits for the answer.
    Leave(CallId, Vec<u8>),
    /// It is woken again after this time, and not before.
    Sleep(Duration),
    /// It exits.
    Exit(AgentExit),
}

impl Running {
    /// An agent that was just started.
    pub fn new(spec: &AgentSpec) -> Running {
        Running {
            steps: script(spec).into(),
            credit: spec.credit,
            credit_bytes: spec.credit_bytes as i64,
            asked: 0,
            open: None,
            child: None,
            left: None,
            interrupts: VecDeque::new(),
            goes_on: spec.agent.name() != "waiter",
            state: (spec.agent.name() != "waiter").then(|| spec.checkpoint.clone().unwrap_or_else(|| vec![0])),
            wanted: false,
            stopping: false,
            forced: false,
            awake: false,
        }
    }

    /// Gives it credit for more calls.
    pub fn give(&mut self, calls: u32, bytes: u64) {
        self.credit += calls;
        self.credit_bytes += bytes as i64;
    }

    /// Takes in the answer to a call.
    pub fn answer(&mut self, id: CallId, reply: &AgentReply) {
        self.open.take_if(|open| *open == id);
        if let AgentReply::Delegated { job } = reply {
            self.child = Some(*job);
        }
        if let AgentReply::Kept(kept) = reply {
            self.left = Some(kept.id.clone());
        }
    }

    /// Interrupts it.
    pub fn interrupt(&mut self, number: u32) {
        self.interrupts.extend(self.goes_on.then_some(number));
    }

    /// Asks it for a checkpoint.
    pub fn want_checkpoint(&mut self) {
        self.wanted |= self.state.is_some();
    }

    /// Tells it to stop.
    pub fn stop(&mut self, force: bool) {
        self.stopping = true;
        self.forced |= force;
    }

    /// Decides on its next action.
    pub fn act(&mut self) -> Act {
        if self.forced || self.stopping {
            return self.act_when_stopped();
        }
        if let Some(number) = self.interrupts.front().copied().filter(|_| self.may_call()) {
            self.credit -= 1;
            self.interrupts.pop_front();
            return Act::Call(AgentCall::GoOn { interrupt: Some(number) });
        }
        if let Some(state) = self.state.clone().filter(|_| self.wanted && self.may_call()) {
            self.credit -= 1;
            self.credit_bytes -= state.len() as i64;
            self.wanted = false;
            return Act::Call(AgentCall::Checkpoint { state, label: None });
        }
        let next = match self.steps.front().cloned() {
            // Without a child there is nothing to wait for.
            Some(Step::AwaitChild) => self.child.map(|job| Step::Ask(AgentCall::AwaitChild { job })),
            next => next,
        };
        match next {
            None if !self.steps.is_empty() && self.open.is_none() => {
                self.steps.pop_front();
                Act::Sleep(Duration::ZERO)
            }
            Some(Step::Call(call)) if self.may_call() => {
                self.credit -= 1;
                self.credit_bytes -= call.bytes() as i64;
                self.steps.pop_front();
                if let (AgentCall::Checkpoint { state, .. }, Some(own)) = (&call, &mut self.state) {
                    own.clone_from(state);
                }
                Act::Call(call)
            }
            Some(Step::Ask(call)) if self.open.is_none() && self.may_call() => {
                self.credit -= 1;
                self.credit_bytes -= call.bytes() as i64;
                self.steps.pop_front();
                let id = CallId(self.asked);
                self.asked += 1;
                self.open = Some(id);
                Act::Ask(id, call)
            }
            Some(Step::Leave(bytes)) if self.open.is_none() && self.may_call() => {
                self.credit -= 1;
                self.credit_bytes -= MEDIA_TYPE.len() as i64;
                self.steps.pop_front();
                let id = CallId(self.asked);
                self.asked += 1;
                self.open = Some(id);
                Act::Leave(id, bytes)
            }
            Some(_) if self.open.is_some() => Act::Nothing,
            Some(Step::Sleep(span)) => {
                self.steps.pop_front();
                Act::Sleep(span)
            }
            Some(Step::Exit(exit)) => Act::Exit(exit),
            Some(Step::ExitStored) => {
                let artifact = self.left.clone().unwrap_or_else(|| WireId::new("art_none").expect("an id"));
                Act::Exit(AgentExit::Stored { artifact, summary: None })
            }
            Some(
                Step::Call(_)
                | Step::Ask(_)
                | Step::Leave(_)
                | Step::AwaitChild
                | Step::UntilStopped
                | Step::Stubborn
                | Step::FinishWhenStopped
                | Step::ExitLate(_)
                | Step::Never,
            )
            | None => Act::Nothing,
        }
    }

    fn act_when_stopped(&mut self) -> Act {
        let stopped = || Act::Exit(AgentExit::Failure(JobError::new(ErrorCode::Cancelled, "stopped")));
        match self.steps.front().cloned() {
            Some(Step::Never) => Act::Nothing,
            Some(Step::Stubborn) if !self.forced => Act::Nothing,
            Some(Step::FinishWhenStopped) if !self.forced => {
                Act::Exit(AgentExit::Success { result: None, summary: Some("all the same".into()) })
            }
            Some(Step::ExitLate(span)) => {
                self.steps.pop_front();
                Act::Sleep(span)
            }
            Some(
                Step::Call(_)
                | Step::Ask(_)
                | Step::Leave(_)
                | Step::AwaitChild
                | Step::Sleep(_)
                | Step::Exit(_)
                | Step::ExitStored
                | Step::UntilStopped
                | Step::Stubborn
                | Step::FinishWhenStopped,
            )
            | None => stopped(),
        }
    }

    /// This call, and those that it makes right after it, at most `most` in total.
    pub fn calls_together(&mut self, first: AgentCall, most: usize) -> Vec<AgentCall> {
        let mut calls = vec![first];
        while calls.len() < most && self.calls_next() {
            let Act::Call(call) = self.act() else { unreachable!("it calls next") };
            calls.push(call);
        }
        calls
    }

    fn calls_next(&self) -> bool {
        let calls = matches!(self.steps.front(), Some(Step::Call(_))) || !self.interrupts.is_empty() || self.wanted;
        calls && self.may_call() && !self.stopping && !self.forced
    }

    fn may_call(&self) -> bool {
        self.credit > 0 && self.credit_bytes > 0
    }

    /// If it wants to call and may not: the number of steps left.
    pub fn held_back(&self) -> Option<usize> {
        let wants = matches!(self.steps.front(), Some(Step::Call(_) | Step::Ask(_) | Step::Leave(_))) && !self.stopping;
        (wants && !self.may_call()).then_some(self.steps.len())
    }

    /// Whether a call of it is not answered yet.
    pub fn has_open_call(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it was forced to stop and will never exit.
    pub fn is_undead(&self) -> bool {
        self.forced && matches!(self.steps.front(), Some(Step::Never))
    }
}
