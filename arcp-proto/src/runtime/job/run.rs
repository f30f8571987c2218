//! The run of a job's agent: whether it is there, what it may say and what it
//! has said so far.

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
use crate::time::{Timestamp, UtcMs};

/// Paced agents get their calls in portions of about this span.
const PORTION: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct AgentRun {
    pub(super) state: AgentState,
    /// What it waits for.
    pub(super) waits: Few<Wait>,
    pub(super) slot: Slot,
    /// Whether an earlier run of the runtime may have started it.
    pub(super) perhaps_started: bool,
    /// When it was first started.
    pub(super) started_at: Option<UtcMs>,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// What it goes on from, and others may begin at.
    pub(super) checkpoints: Option<Box<Checkpoints>>,
    /// When it last called.
    pub(super) last_call: Timestamp,
    /// Where it stands in the log that it fell silent, or was heard again.
    pub(super) silence_at: LogPos,
    /// Signs of life given of its job.
    pub(super) heartbeats: u64,
    pub(super) allowance: Allowance,
    /// Whether its job has credentials, or some that are not known to be revoked.
    pub(super) credentials: bool,
    /// What it may do, once it has asked.
    pub(super) lease: Option<Box<Lease>>,
    /// Calls that it wants to know about and that are not answered yet.
    pub(super) questions: OpenCalls,
    /// What it sends little by little.
    pub(super) sends: Sends,
}

/// What an agent sends little by little.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// The result, in pieces.
    pub(super) result: Option<Box<Stream>>,
    /// What it says in streams, and what is said to it.
    pub(super) streams: Streams,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AgentState {
    /// Not started.
    #[default]
    Idle,
    /// Started and not gone: it holds a slot.
    Running,
    /// Gone, or never to be started.
    Gone,
}

/// What an agent may call.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// What it may call, by what it was told.
    pub(super) credit: Credit,
    /// Bytes of each of its calls that are not durable yet.
    pub(super) undurable: VecDeque<u64>,
    /// What it gets back once its submitter keeps up.
    pub(super) owed: Credit,
    /// Time between two of its calls, if its submitter wants that.
    pub(super) pace: Option<Duration>,
    /// What it has said that is heard later.
    pub(super) backlog: Option<Box<Backlog>>,
}

impl AgentRun {
    /// Bytes it holds, roughly.
    pub(super) fn weight(&self) -> usize {
        let result = self.sends.result.as_ref().map_or(0, |stream| size_of::<Stream>() + stream.weight());
        let checkpoints = self.checkpoints.as_ref().map_or(0, |_| size_of::<Checkpoints>());
        let backlog = self.allowance.backlog.as_ref().map_or(0, |backlog| backlog.weight());
        self.questions.weight() + result + self.sends.streams.weight() + checkpoints + backlog
    }
}

impl AgentRun {
    /// Whether its agent is gone, or was never started and will not be.
    pub(super) fn is_gone(&self) -> bool {
        self.state == AgentState::Gone
    }

    /// Whether nothing happens before somebody else says something: people, or its
    /// agent.
    pub(super) fn is_blocked(&self) -> bool {
        self.waits.iter().any(|wait| matches!(wait, Wait::Silence | Wait::Prompt | Wait::Interrupt))
    }

    /// The first thing that holds it up, if anything does but its agent.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.held_up_by().next()
    }

    /// All that holds it up but its agent.
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
    /// It calls: what that costs comes back once it is durable.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.credit.spend(bytes);
        self.undurable.push_back(bytes);
    }

    /// Its first call that was not durable is.
    pub(super) fn return_call(&mut self) {
        self.undurable.pop_front().into_iter().for_each(|bytes| self.owe(bytes));
    }

    /// Its last call, which is not durable, never will be: nothing of it is
    /// recorded.
    pub(super) fn return_last_call(&mut self) {
        self.undurable.pop_back().into_iter().for_each(|bytes| self.owe(bytes));
    }

    fn owe(&mut self, bytes: u64) {
        self.owed.add(Credit { calls: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) });
    }

    /// Takes of what it is owed what it may call in a while, with so much time
    /// between two calls.
    pub(super) fn take_portion(&mut self, every: Duration) -> Credit {
        let portion = u32::try_from(PORTION.as_micros() / every.as_micros()).unwrap_or(u32::MAX).max(1);
        let calls = self.owed.calls.min(portion);
        self.owed.calls -= calls;
        Credit { calls, bytes: core::mem::take(&mut self.owed.bytes) }
    }
}

/// How much an agent may call: as long as there is any of both, one call more,
/// whatever its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) calls: u32,
    /// Below zero after a call larger than what was left.
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
