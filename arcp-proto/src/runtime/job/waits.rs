//! Why jobs wait. Whatever one waits for is a [`Wait`] in the set of its waits,
//! and each has one waker: a job that waits for what nobody says any more would
//! wait for ever.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use super::table::Table;
use super::{AgentRun, AgentState, Jobs};
use crate::id::{JobId, SessionId};
use crate::limits::Limits;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::Output;
use crate::runtime::timers::Timer;

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The store: its acceptance, its start or what its agent said last is not
    /// durable yet. It goes on with [`Input::Persisted`](crate::runtime::Input::Persisted).
    Store,
    /// A slot. It goes on when one is free that its principal may have.
    Slot,
    /// A session that submitted it, gets its events and reads too slowly. It
    /// goes on when that has caught up, is detached or over, or leaves the job.
    Reader(SessionId),
    /// The pace that its submitter asked for. It goes on with time.
    Pace,
    /// Its agent, which fell silent. It goes on when that is heard.
    Silence,
    /// The store, as its agent does that wants to know what became of a call. It
    /// is answered with [`Input::Persisted`](crate::runtime::Input::Persisted).
    Answer,
    /// A child, as its agent does. It goes on when that has ended.
    Child(JobId),
    /// The host, which checks what its agent asks people. It goes on with
    /// [`Input::InputChecked`](crate::runtime::Input::InputChecked), or after two
    /// seconds.
    Check,
    /// People, as its agent asks them something: its job is blocked. It goes on when
    /// the first of them answers, with time, or when it is told to stop.
    Prompt,
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

/// The waits of a run, and what its agent may say. Those for a slot are in
/// `slots`, that for the agent in `heartbeat`, and that for an answer in
/// `questions`.
impl AgentRun {
    /// Whether nothing happens before somebody else says something: people, or its
    /// agent.
    pub(super) fn is_blocked(&self) -> bool {
        self.waits.contains(&Wait::Silence) || self.waits.contains(&Wait::Prompt)
    }

    /// The first thing that holds it up, if anything does but its agent.
    fn wait(&self) -> Option<Wait> {
        let may_call = self.state == AgentState::Running && !self.allowance.credit.is_spent();
        debug_assert!(
            self.state != AgentState::Running || may_call || !self.waits.is_empty(),
            "an agent that may not call has a waker"
        );
        let holds_up = |wait: &&Wait| match wait {
            Wait::Slot | Wait::Reader(_) | Wait::Silence | Wait::Answer => true,
            Wait::Child(_) | Wait::Check | Wait::Prompt => true,
            Wait::Store | Wait::Pace => !may_call,
        };
        self.waits.iter().find(holds_up).copied()
    }

    /// What its agent may call to begin with: nothing yet, if a reader that paces
    /// it is far behind.
    pub(super) fn first_credit(&mut self, limits: &Limits, reader: Option<SessionId>) -> Credit {
        let bytes = i64::try_from(limits.delivery.agent_credit_bytes).unwrap_or(i64::MAX);
        let all = Credit { calls: limits.delivery.agent_credit, bytes };
        self.waits.extend(reader.map(Wait::Reader));
        let (owed, credit) = if reader.is_some() { (all, Credit::default()) } else { (Credit::default(), all) };
        (self.allowance.owed, self.allowance.credit) = (owed, credit);
        credit
    }

    /// A call costs credit: until it is durable, or, if nothing of it is
    /// recorded, until its agent may have it back.
    pub(super) fn spend_credit(&mut self, ctx: &mut Context, id: JobId, bytes: u64, recorded: bool) {
        self.allowance.spend(bytes);
        if !recorded {
            self.allowance.return_last_call();
            ctx.effect(Effect::CreditOwed(id));
        }
        self.note_undurable();
    }

    /// Gives its agent what it is owed, unless `reader`, who paces it, is far
    /// behind, or its submitter wants it to go slowly.
    fn return_credit(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        self.waits.retain(|wait| !matches!(wait, Wait::Reader(_) | Wait::Pace));
        if self.allowance.owed.calls > 0 {
            match reader {
                Some(reader) => drop(self.waits.insert(Wait::Reader(reader))),
                None => self.grant(ctx, id),
            }
        }
        self.note_undurable();
    }

    fn grant(&mut self, ctx: &mut Context, id: JobId) {
        let granted = match self.allowance.pace {
            None => core::mem::take(&mut self.allowance.owed),
            Some(_) if ctx.timers.is_set(Timer::Pace(id)) => Credit::default(),
            Some(every) => {
                let every = every.max(Duration::from_micros(1));
                let portion = self.allowance.take_portion(every);
                ctx.timers.set(Timer::Pace(id), ctx.now.mono + every * portion.calls);
                portion
            }
        };
        if self.allowance.owed.calls > 0 {
            self.waits.insert(Wait::Pace);
        }
        if granted.calls > 0 {
            self.allowance.credit.add(granted);
            let bytes = u64::try_from(granted.bytes).unwrap_or(0);
            ctx.output(Output::AgentCredit { job: id, calls: granted.calls, bytes });
        }
    }

    /// Its agent waits for the store as long as it may not call, and something
    /// that it said is not durable.
    fn note_undurable(&mut self) {
        if self.allowance.credit.is_spent() && !self.allowance.undurable.is_empty() {
            self.waits.insert(Wait::Store);
        } else {
            self.waits.remove(&Wait::Store);
        }
    }
}

impl Jobs {
    /// What every job that is not over waits for, if it waits for anything but
    /// its agent.
    pub(in crate::runtime) fn waits(&self) -> Vec<(JobId, Wait)> {
        let go_on = self.table.of_all(None).filter(|(_, job)| !job.is_terminal());
        go_on.filter_map(|(id, job)| Some((id, job.run.wait()?))).collect()
    }

    /// Gives an agent its credit back, unless `reader`, who paces it, is far
    /// behind.
    pub(in crate::runtime) fn return_credit(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        self.table.change(id, |job| {
            if job.is_heard() {
                job.run.return_credit(ctx, id, reader);
            }
        });
    }
}

impl Table {
    /// Whether something is owed to the agent of a job, which it gets unless a
    /// reader is far behind.
    pub(in crate::runtime) fn is_owed_credit(&self, id: JobId) -> bool {
        self.get(id).is_some_and(|job| job.run.allowance.owed.calls > 0 && job.is_heard())
    }

    /// Calls of agents are durable, one entry for each: gives the jobs to which
    /// something is owed for that.
    pub(in crate::runtime) fn on_calls_durable(&mut self, calls: &[JobId]) -> BTreeSet<JobId> {
        for id in calls {
            self.change(*id, |job| job.run.allowance.return_call());
        }
        calls.iter().copied().collect()
    }

    /// Its submitter wants so much time between two calls of a job's agent.
    pub(in crate::runtime) fn set_pace(&mut self, ctx: &mut Context, id: JobId, every: Option<Duration>) {
        ctx.timers.clear(Timer::Pace(id));
        self.change(id, |job| job.run.allowance.pace = every);
    }
}
