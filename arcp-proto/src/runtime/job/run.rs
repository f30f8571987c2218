//! The run of a job's agent: its state, its credit, and what it has sent so far.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use super::backlog::Backlog;
use super::kept_checkpoints::Checkpoints;
use super::open_calls::OpenCalls;
use super::result::Stream;
use super::shares::Slot;
use super::streams::Streams;
use super::waits::Wait;
use crate::id::LogPos;
use crate::lease::Lease;
use crate::runtime::few::Few;
use crate::runtime::rare::Rare;
use crate::time::{Timestamp, UtcMs};

/// Paced agents get their credit in portions for about this span.
const PORTION: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct AgentRun {
    pub(super) state: AgentState,
    /// What the job waits for.
    pub(super) waits: Few<Wait>,
    pub(super) slot: Slot,
    /// Whether an earlier run of the runtime may have started the agent.
    pub(super) perhaps_started: bool,
    /// When the agent was first started.
    pub(super) started_at: Option<UtcMs>,
    /// How often the agent was started again.
    pub(super) restarts: u32,
    /// States that the agent goes on from, and at which other jobs may begin.
    pub(super) checkpoints: Option<Box<Checkpoints>>,
    /// When the agent last called.
    pub(super) last_call: Timestamp,
    /// Log position of the last event that the agent fell silent, or was heard again.
    pub(super) silence_at: LogPos,
    /// Heartbeats sent about the job.
    pub(super) heartbeats: u64,
    pub(super) allowance: Allowance,
    /// Whether the job has credentials that are not known to be revoked.
    pub(super) credentials: bool,
    /// The parsed lease, once the agent has asked about it.
    pub(super) lease: Option<Box<Lease>>,
    /// Calls that it wants to know about and that are not answered yet.
    pub(super) questions: Rare<OpenCalls>,
    /// What it sends little by little.
    pub(super) sends: Sends,
}

/// What an agent sends in several calls.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// The result, if it is sent in pieces.
    pub(super) result: Option<Box<Stream>>,
    /// What it says in streams, and what is said to it.
    pub(super) streams: Rare<Streams>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AgentState {
    /// Not started yet.
    #[default]
    Idle,
    /// Started and not gone. It holds a slot, or has lent it.
    Running,
    /// Gone, or never to be started.
    Gone,
}

/// The credit of an agent.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// What the agent may still call, by what it was granted.
    pub(super) credit: Credit,
    /// Bytes of each call that is not durable yet, oldest first.
    pub(super) undurable: VecDeque<u64>,
    /// Credit that the agent gets back once its submitter keeps up.
    pub(super) owed: Credit,
    /// Minimum time between two calls, if the submitter asked for a pace.
    pub(super) pace: Option<Duration>,
    /// Calls that the core processes later.
    pub(super) backlog: Option<Box<Backlog>>,
}

impl AgentRun {
    /// Approximate bytes that it holds.
    pub(super) fn weight(&self) -> usize {
        let result = self.sends.result.as_ref().map_or(0, |stream| size_of::<Stream>() + stream.weight());
        let checkpoints = self.checkpoints.as_ref().map_or(0, |_| size_of::<Checkpoints>());
        let backlog = self.allowance.backlog.as_ref().map_or(0, |backlog| backlog.weight());
        let questions = self.questions.known().map_or(0, |calls| size_of::<OpenCalls>() + calls.weight());
        let streams = self.sends.streams.known().map_or(0, |streams| size_of::<Streams>() + streams.weight());
        questions + result + streams + checkpoints + backlog
    }
}

impl AgentRun {
    /// Whether the agent is gone, or was never started and will not be.
    pub(super) fn is_gone(&self) -> bool {
        self.state == AgentState::Gone
    }

    /// Whether the job goes on only when people or its agent act.
    pub(super) fn is_blocked(&self) -> bool {
        self.waits.iter().any(|wait| matches!(wait, Wait::Silence | Wait::Prompt | Wait::Interrupt))
    }

    /// The first wait that holds the job up, apart from its agent.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.held_up_by().next()
    }

    /// All waits that hold the job up, apart from its agent.
    pub(super) fn held_up_by(&self) -> impl Iterator<Item = Wait> {
        let may_call = self.state == AgentState::Running && !self.allowance.credit.is_spent();
        debug_assert!(
            self.state != AgentState::Running || may_call || !self.waits.is_empty(),
            "an agent that may not call has a waker"
        );
        let holds_up = move |wait: &&Wait| match wait {
            Wait::Slot | Wait::Reader(_) | Wait::Silence | Wait::Answer | Wait::Backlog => true,
            Wait::Child(_) | Wait::Check | Wait::Prompt | Wait::Interrupt | Wait::Revocation | Wait::Renewal => true,
            Wait::Delegation | Wait::Departure | Wait::Artifact | Wait::StreamPace | Wait::Retry | Wait::Room => true,
            Wait::Store | Wait::Pace => !may_call,
        };
        self.waits.iter().filter(holds_up).copied()
    }
}

impl Allowance {
    /// Spends the credit of a call. It comes back once the call is durable.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.credit.spend(bytes);
        self.undurable.push_back(bytes);
    }

    /// The oldest undurable call is durable.
    pub(super) fn return_call(&mut self) {
        self.undurable.pop_front().into_iter().for_each(|bytes| self.owe(bytes));
    }

    /// The last call has left no record, so it never becomes durable: returns its credit.
    pub(super) fn return_last_call(&mut self) {
        self.undurable.pop_back().into_iter().for_each(|bytes| self.owe(bytes));
    }

    fn owe(&mut self, bytes: u64) {
        self.owed.add(Credit { calls: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) });
    }

    /// Takes a portion of the owed credit, for a pace of `every` between two calls.
    pub(super) fn take_portion(&mut self, every: Duration) -> Credit {
        let portion = u32::try_from(PORTION.as_micros() / every.as_micros()).unwrap_or(u32::MAX).max(1);
        let calls = self.owed.calls.min(portion);
        self.owed.calls -= calls;
        Credit { calls, bytes: core::mem::take(&mut self.owed.bytes) }
    }
}

/// How much an agent may call. While any of both is left, one more call of any size is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) calls: u32,
    /// Below zero after a call that was larger than what was left.
    pub(super) bytes: i64,
}

impl Credit {
    pub(super) fn is_spent(self) -> bool {
        self.calls == 0 || self.bytes <= 0
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn add(&mut self, more: Credit) {
        self.calls = self.calls.saturating_add(more.calls);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}
