//! Shares: how much one principal may hold of what everybody needs.
//!
//! Of what the others leave it may hold
//! [`principal_share`](crate::limits::JobLimits::principal_share) percent, but one
//! in any case; and the last one only if it holds none. So whoever comes next
//! finds something, however much those before it asked for.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};

use super::slots::concurrency;
use super::{Input, Job};
use crate::error::{BoundOf, Violation};
use crate::id::Principal;
use crate::limits::Limits;
use crate::principal::Account;
use crate::runtime::config::Config;

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
    /// Jobs that are, and that listings still show.
    pub(super) ended: usize,
    /// Bytes of input of jobs that have not started.
    pub(super) waiting_bytes: usize,
    /// Agents that hold a slot.
    pub(super) running: usize,
}

/// How much there is of something, and who holds it.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Held {
    /// What the principal holds.
    pub(in crate::runtime) own: usize,
    /// What everybody holds, the principal included.
    pub(in crate::runtime) all: usize,
    /// What there is.
    pub(in crate::runtime) total: usize,
}

/// What somebody would go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Its share of it.
    Share,
    /// All there is.
    All,
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
        job.run.has_slot = true;
        *self.by_agent.entry(job.spec.agent.name().to_string()).or_default() += 1;
        self.change(&job.spec.principal, |share| share.running += 1);
    }

    /// Takes the slot of a job back, if it has one.
    pub(super) fn return_slot(&mut self, job: &mut Job) {
        if !core::mem::take(&mut job.run.has_slot) {
            return;
        }
        self.change(&job.spec.principal, |share| share.running -= 1);
        let name = job.spec.agent.name();
        if let Some(running) = self.by_agent.get_mut(name) {
            *running -= 1;
            if *running == 0 {
                self.by_agent.remove(name);
            }
        }
    }

    /// How many jobs of an agent hold a slot.
    pub(super) fn running_of(&self, agent: &str) -> usize {
        self.by_agent.get(agent).copied().unwrap_or(0)
    }

    /// Takes the input of a job: it starts, or never will. From then on it waits
    /// for nothing.
    pub(super) fn take_input(&mut self, job: &mut Job) -> Option<Input> {
        let input = job.input.take()?;
        self.change(&job.spec.principal, |share| share.waiting_bytes -= input.bytes());
        Some(input)
    }

    pub(super) fn of(&self, account: &Account) -> Share {
        self.by_account.get(account).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> Share {
        self.total
    }

    /// How much an account holds of something, and what there is for it: a
    /// reserve is kept for those with a credential.
    fn held(&self, account: &Account, limits: &Limits, total: usize, of: impl Fn(&Share) -> usize) -> Held {
        let total = if account.is_anonymous() { limits.without_reserve(total) } else { total };
        Held { own: of(&self.of(account)), all: of(&self.total), total }
    }

    /// Jobs that are not over, of the table that all share.
    pub(super) fn live(&self, account: &Account, limits: &Limits) -> Held {
        self.held(account, limits, limits.job.jobs, |share| share.live)
    }

    /// Bytes of input of jobs that have not started, of what all may hold.
    pub(super) fn waiting_bytes(&self, account: &Account, limits: &Limits) -> Held {
        self.held(account, limits, limits.job.waiting_input_bytes, |share| share.waiting_bytes)
    }

    /// Whether an agent that is started now for this account has a slot.
    pub(super) fn may_start(&self, config: &Config, account: &Account, agent: &str) -> bool {
        let most = concurrency(config, agent);
        self.may_run(account, &config.limits) && most.is_none_or(|most| self.running_of(agent) < most)
    }

    /// Whether an account may have a slot for one agent more.
    pub(super) fn may_run(&self, account: &Account, limits: &Limits) -> bool {
        let running = self.held(account, limits, limits.job.running_jobs, |share| share.running);
        running.check(1, limits.job.principal_share).is_ok()
    }
}

impl Held {
    /// What the principal may hold altogether.
    pub(super) fn share(self, percent: u32) -> usize {
        let left = self.total.saturating_sub(self.all - self.own) as u64;
        usize::try_from(left * u64::from(percent) / 100).unwrap_or(usize::MAX).max(1)
    }

    /// Whether the principal may have so much more.
    ///
    /// # Errors
    ///
    /// What is reached.
    pub(super) fn check(self, more: usize, percent: u32) -> Result<(), Beyond> {
        let free = self.total.saturating_sub(self.all);
        if more > free {
            return Err(Beyond::All);
        }
        let beyond = self.own.saturating_add(more) > self.share(percent) || more == free;
        if percent < 100 && self.own > 0 && beyond { Err(Beyond::Share) } else { Ok(()) }
    }

    /// As [`check`](Self::check), as a refusal that names the bound; `own` is
    /// whose the share is.
    pub(in crate::runtime) fn admit(
        self,
        more: usize,
        percent: u32,
        own: BoundOf,
        bound: &'static str,
        what: &str,
    ) -> Result<(), Violation> {
        self.check(more, percent).map_err(|beyond| {
            let (of, limit, message) = match beyond {
                Beyond::Share => {
                    let message = alloc::format!("{what} have reached your share, which leaves room for others");
                    (own, self.share(percent), message)
                }
                Beyond::All => {
                    let message = alloc::format!("{what} of everybody have reached the bound of this runtime");
                    (BoundOf::Runtime, self.total, message)
                }
            };
            let message = alloc::format!("{message}: submit again when some have ended");
            Violation::exhausted(bound, of, limit as u64, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most_of(total: usize, others: usize) -> usize {
        let fits = |own: &usize| Held { own: *own, all: others + own, total }.check(1, 25).is_ok();
        (0..).take_while(fits).count()
    }

    #[test]
    fn a_share_is_a_quarter_of_what_the_others_leave() {
        assert_eq!([0, 64, 112].map(|others| most_of(256, others)), [64, 48, 36]);
        let mut others = 0;
        for _ in 0..10 {
            others += most_of(256, others);
        }
        assert!(others < 256, "ten who take all they may leave something: {others}");
    }

    #[test]
    fn the_last_one_is_for_who_has_none() {
        assert_eq!([1, 2, 3].map(|total| most_of(total, 0)), [1, 1, 1]);
        assert_eq!((most_of(8, 7), most_of(8, 8)), (1, 0));
        let all_of_it = Held { own: 7, all: 7, total: 8 };
        assert_eq!((all_of_it.check(1, 100), all_of_it.check(1, 99)), (Ok(()), Err(Beyond::Share)));
    }
}
