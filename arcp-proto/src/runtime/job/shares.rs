//! Shares: how much one principal may hold of what everybody needs.
//!
//! Of what the others leave it may hold
//! [`principal_share`](crate::limits::JobLimits::principal_share) percent, but one
//! in any case; and the last one only if it holds none. So whoever comes next
//! finds something, however much those before it asked for.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};

use super::Job;
use crate::id::Principal;
use crate::limits::Limits;
use crate::principal::Account;
use crate::runtime::account::Holding;
use crate::runtime::config::Config;

/// Whether an agent has a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Slot {
    #[default]
    None,
    Held,
    /// It gave its own up while its job waits for a child.
    Lent,
}

/// What each account holds, and all together.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_account: BTreeMap<Account, Share>,
    /// Agents that hold a slot, by name.
    by_agent: BTreeMap<String, usize>,
    total: Share,
}

/// What one account holds of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Jobs that are not over.
    pub(super) live: usize,
    /// Those of them that are workflows.
    pub(super) workflows: usize,
    /// Jobs that are, and that listings still show.
    pub(super) ended: usize,
    /// Agents that hold a slot.
    pub(super) running: usize,
    /// Agents that run and gave theirs up while they wait for a child.
    pub(super) lent: usize,
}

impl Shares {
    /// Changes what a principal's account holds, and with it what all hold.
    pub(super) fn change(&mut self, principal: &Principal, change: impl Fn(&mut Share)) {
        let account = principal.account();
        let share = self.by_account.entry(account.clone()).or_default();
        change(share);
        if *share == Share::default() {
            self.by_account.remove(&account);
        }
        change(&mut self.total);
    }

    /// Gives a job a slot: its principal may have one.
    pub(super) fn take_slot(&mut self, job: &mut Job) {
        self.change_slot(job, Slot::Held);
        *self.by_agent.entry(job.spec.agent.name().to_string()).or_default() += 1;
        self.change(&job.spec.principal, |share| share.running += 1);
    }

    /// Takes the slot of a job back; false if it has none.
    pub(super) fn return_slot(&mut self, job: &mut Job) -> bool {
        self.change_slot(job, Slot::None)
    }

    /// Takes the slot that a job holds, until a child of it gives one back.
    pub(super) fn lend_slot(&mut self, job: &mut Job) {
        let held = self.change_slot(job, Slot::Lent);
        debug_assert!(held, "whoever lends a slot has one");
        self.change(&job.spec.principal, |share| share.lent += 1);
    }

    /// Notes whether a job has a slot from now on; gives whether it held one.
    fn change_slot(&mut self, job: &mut Job, to: Slot) -> bool {
        match core::mem::replace(&mut job.run.slot, to) {
            Slot::None => return false,
            Slot::Lent => {
                self.change(&job.spec.principal, |share| share.lent -= 1);
                return false;
            }
            Slot::Held => {}
        }
        self.change(&job.spec.principal, |share| share.running -= 1);
        let name = job.spec.agent.name();
        if let Some(running) = self.by_agent.get_mut(name) {
            *running -= 1;
            if *running == 0 {
                self.by_agent.remove(name);
            }
        }
        true
    }

    /// How many jobs of an agent hold a slot.
    pub(super) fn running_of(&self, agent: &str) -> usize {
        self.by_agent.get(agent).copied().unwrap_or(0)
    }

    pub(super) fn of(&self, account: &Account) -> Share {
        self.by_account.get(account).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> Share {
        self.total
    }

    /// How much an account holds of something, and what there is for it: a
    /// reserve is kept for those with a credential.
    fn held(&self, account: &Account, limits: &Limits, total: usize, of: impl Fn(&Share) -> usize) -> Holding {
        Holding { own: of(&self.of(account)), all: of(&self.total), total: limits.total_for(account, total) }
    }

    /// Jobs that are not over, of the table that all share; for a step of a workflow
    /// without the workflows of the account, which all wait for steps.
    pub(super) fn live(&self, account: &Account, limits: &Limits, is_step: bool) -> Holding {
        let held = self.held(account, limits, limits.job.jobs, |share| share.live);
        let spared = if is_step { self.of(account).workflows } else { 0 };
        Holding { own: held.own - spared, all: held.all - spared, ..held }
    }

    /// Whether an agent that is started now for this account has a slot.
    pub(super) fn may_start(&self, config: &Config, account: &Account, agent: &str, is_child: bool) -> bool {
        let most = config.concurrency(agent);
        self.may_run(account, &config.limits, is_child) && most.is_none_or(|most| self.running_of(agent) < most)
    }

    /// Whether an account may have a slot for one agent more. One that was lent is
    /// for children only: else all jobs that delegate would run at once.
    pub(super) fn may_run(&self, account: &Account, limits: &Limits, is_child: bool) -> bool {
        let of = |share: &Share| if is_child { share.running } else { share.running + share.lent };
        let running = self.held(account, limits, limits.job.running_jobs, of);
        running.check(1, limits.job.principal_share).is_ok()
    }
}
