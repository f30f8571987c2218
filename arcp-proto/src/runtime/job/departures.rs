//! Departures, as they are held. `departure` decides what becomes of them.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::id::{JobId, OpId, Principal};
use crate::model::handoff::Destination;
use crate::principal::Account;
use crate::runtime::account::{Charge, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::DepartureTerms;
use crate::runtime::timers::Timer;

/// Approximate bytes that tables hold for one departure.
pub(super) const ENTRY: usize = 256;

/// Jobs that are to go to another runtime, or have gone and are still held here.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Departures {
    pub(super) under_way: BTreeMap<JobId, Departure>,
    gone: BTreeMap<JobId, Gone>,
    /// Operations that the host has not answered.
    pub(super) asked: BTreeMap<OpId, JobId>,
}

/// A departure that is under way.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) account: Account,
    pub(super) terms: DepartureTerms,
    pub(super) stage: Stage,
    /// Whether the receiver may have the job although it has not said so.
    pub(super) in_doubt: bool,
    /// How often it has not answered.
    pub(super) failures: u32,
    /// Held as long as this is.
    _charge: Charge,
}

/// A job that another runtime has.
#[derive(Debug)]
struct Gone {
    account: Account,
    to: Destination,
    /// Held as long as this is.
    _charge: Charge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The intent is not durable yet.
    Intended,
    /// The receiver is asked.
    Asked(OpId),
    /// The receiver is asked again later.
    Again,
}

impl Departures {
    /// Whether a departure is under way.
    pub(in crate::runtime) fn is_under_way(&self, job: JobId) -> bool {
        self.under_way.contains_key(&job)
    }

    /// The runtime to which a job is to go, or has gone.
    pub(in crate::runtime) fn destined(&self, job: JobId) -> Option<&str> {
        let to = self.under_way.get(&job).map(|departure| departure.terms.to.as_str());
        to.or_else(|| self.gone.get(&job).map(|gone| gone.to.runtime.as_str()))
    }

    /// Where a job has gone.
    pub(in crate::runtime) fn gone(&self, job: JobId) -> Option<&Destination> {
        self.gone.get(&job).map(|gone| &gone.to)
    }

    /// What is durable of a departure, for the digest.
    pub(in crate::runtime) fn shown(&self, job: JobId) -> Option<String> {
        let terms = self.under_way.get(&job).map(|departure| alloc::format!("{:?}", departure.terms));
        terms.or_else(|| self.gone.get(&job).map(|gone| alloc::format!("{:?}", gone.to)))
    }

    pub(super) fn insert(
        &mut self,
        ctx: &mut Context,
        job: JobId,
        principal: &Principal,
        terms: DepartureTerms,
        stage: Stage,
    ) {
        let account = principal.account();
        let charge = ctx.accounts.of(&account).charge(HeldFor::Jobs, ENTRY + terms.bytes());
        let departure = Departure { account, terms, stage, in_doubt: false, failures: 0, _charge: charge };
        self.under_way.insert(job, departure);
    }

    /// Ends a departure, whatever its outcome.
    pub(super) fn take_back(&mut self, ctx: &mut Context, job: JobId) {
        if let Some(Departure { stage: Stage::Asked(op), .. }) = self.under_way.remove(&job) {
            self.asked.remove(&op);
        }
        ctx.timers.clear(Timer::Departure(job));
    }

    pub(super) fn note_gone(&mut self, ctx: &mut Context, job: JobId, principal: &Principal, to: Destination) {
        let account = principal.account();
        let charge = ctx.accounts.of(&account).charge(HeldFor::EndedJobs, ENTRY + to.bytes());
        self.gone.insert(job, Gone { account, to, _charge: charge });
    }

    /// Restores that a job has ended.
    pub(super) fn end(&mut self, job: JobId) {
        self.under_way.remove(&job);
    }

    /// A job is forgotten.
    pub(super) fn forget(&mut self, job: JobId) {
        self.under_way.remove(&job);
        self.gone.remove(&job);
    }

    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for Departure { account, terms, .. } in self.under_way.values() {
            recount.add_for(account, HeldFor::Jobs, ENTRY + terms.bytes());
        }
        for Gone { account, to, .. } in self.gone.values() {
            recount.add_for(account, HeldFor::EndedJobs, ENTRY + to.bytes());
        }
    }
}
