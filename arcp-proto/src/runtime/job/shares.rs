//! Shares: how much of what all principals need one account may hold.
//!
//! An account may hold [`principal_share`](crate::limits::JobLimits::principal_share) percent of what the others leave,
//! but one in any case; and it gets the last one only if it holds none. So some is left for the next account, however
//! much the earlier ones asked for.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};

use super::Job;
use crate::id::Principal;
use crate::limits::Limits;
use crate::principal::Account;
use crate::runtime::account::Holding;
use crate::runtime::config::Config;

/// Whether a job has a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Slot {
    #[default]
    None,
    Held,
    /// It has lent its slot while it waits for a child.
    Lent,
}

/// What each account holds, and all together.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_account: BTreeMap<Account, Share>,
    /// Jobs that hold a slot, by the name of their agent.
    by_agent: BTreeMap<String, usize>,
    total: Share,
}

/// What one account holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Jobs that have not ended.
    pub(super) live: usize,
    /// Workflows among them.
    pub(super) workflows: usize,
    /// Ended jobs that listings still show.
    pub(super) ended: usize,
    /// Jobs that hold a slot.
    pub(super) running: usize,
    /// Jobs that have lent their slot while they wait for a child.
    pub(super) lent: usize,
}

impl Shares {
    /// Changes what a principal's account holds, and the total.
    pub(super) fn change(&mut self, principal: &Principal, change: impl Fn(&mut Share)) {
        let account = principal.account();
        let share = self.by_account.entry(account.clone()).or_default();
        change(share);
        if *share == Share::default() {
            self.by_account.remove(&account);
        }
        change(&mut self.total);
    }

    /// Gives a job a slot. The caller has checked that its principal may have one.
    pub(super) fn take_slot(&mut self, job: &mut Job) {
        self.change_slot(job, Slot::Held);
        let name = job.spec.agent.name();
        match self.by_agent.get_mut(name) {
            Some(running) => *running += 1,
            None => _ = self.by_agent.insert(name.to_string(), 1),
        }
        self.change(&job.spec.principal, |share| share.running += 1);
    }

    /// Takes the slot of a job back; false if it holds none.
    pub(super) fn return_slot(&mut self, job: &mut Job) -> bool {
        self.change_slot(job, Slot::None)
    }

    /// Takes the slot of a job that waits for a child, until a slot comes back from below.
    pub(super) fn lend_slot(&mut self, job: &mut Job) {
        let held = self.change_slot(job, Slot::Lent);
        debug_assert!(held, "whoever lends a slot has one");
        self.change(&job.spec.principal, |share| share.lent += 1);
    }

    /// Sets whether a job has a slot. Returns whether it held one.
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

    /// How much an account holds of something, and how much there is for it. Anonymous accounts cannot use the reserve
    /// for those with a credential.
    fn held(&self, account: &Account, limits: &Limits, total: usize, of: impl Fn(&Share) -> usize) -> Holding {
        Holding { own: of(&self.of(account)), all: of(&self.total), total: limits.total_for(account, total) }
    }

    /// Unended jobs, within the bound on all jobs. For a step of a workflow, the workflows of the account, which all
    /// wait for steps, do not count.
    pub(super) fn live(&self, account: &Account, limits: &Limits, is_step: bool) -> Holding {
        let held = self.held(account, limits, limits.job.jobs, |share| share.live);
        let spared = if is_step { self.of(account).workflows } else { 0 };
        Holding { own: held.own - spared, all: held.all - spared, ..held }
    }

    /// Whether a job of this agent would get a slot for this account at once.
    pub(super) fn may_start(&self, config: &Config, account: &Account, agent: &str, is_child: bool) -> bool {
        let most = config.concurrency(agent);
        self.may_run(account, &config.limits, is_child) && most.is_none_or(|most| self.running_of(agent) < most)
    }

    /// Whether an account may have one more slot. A lent slot is for children only: otherwise all jobs that delegate
    /// would run at once.
    pub(super) fn may_run(&self, account: &Account, limits: &Limits, is_child: bool) -> bool {
        let of = |share: &Share| if is_child { share.running } else { share.running + share.lent };
        let running = self.held(account, limits, limits.job.running_jobs, of);
        running.check(1, limits.job.principal_share).is_ok()
    }
}
