//! What every part is lent while an input is handled: the time, the
//! configuration, and where records, timers and outputs go.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use super::account::Accounts;
use super::audit::Trail;
use super::audit_records::AuditEntry;
use super::config::Config;
use super::effect::{Effect, Effects};
use super::io::{Deadline, EventRecord, Input, Notice, Output, Record};
use super::log::Log;
use super::ready::Ready;
use super::timers::{Timer, Timers};
use crate::entropy::{Entropy, Seeds};
use crate::error::{ConfigError, Violation};
use crate::id::{ConnId, JobId, LogPos, OpId, Principal, SessionId};
use crate::lease::Fuel;
use crate::model::event::EventClass;
use crate::time::{Now, Timestamp, UtcMs};

/// How long to wait before a failed store is asked again: each time twice as
/// long, from the first to the second.
const STORE_RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// A store that was asked so often in vain, for more than a second, keeps out whoever is new.
const DOWN_AFTER: u32 = 8;

#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) now: Now,
    /// Everything that had arrived by then was handed over: silence is judged as
    /// of this moment, not of `now`.
    pub(super) heard: Timestamp,
    pub(super) entropy: Entropy,
    /// Authenticates the cursors of listings.
    pub(super) cursor_key: [u8; 32],
    pub(super) accounts: Accounts,
    pub(super) log: Log,
    pub(super) timers: Timers,
    pub(super) trail: Trail,
    pub(super) draining: bool,
    /// Events that jobs have had since the start.
    pub(super) events: u64,
    last_op: u64,
    outputs: VecDeque<Output>,
    effects: Effects,
    /// Connections that may have something to send.
    ready: Ready,
}

impl Context {
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration cannot work.
    pub(super) fn new(config: Config, seeds: &Seeds, now: Now) -> Result<Context, ConfigError> {
        config.validate()?;
        let (mut entropy, accounts) = (Entropy::new(seeds), Accounts::new());
        Ok(Context {
            cursor_key: entropy.secret_256(),
            config,
            now,
            heard: now.mono,
            entropy,
            log: Log::new(accounts.runtime()),
            trail: Trail::new(accounts.runtime()),
            accounts,
            timers: Timers::default(),
            draining: false,
            events: 0,
            last_op: 0,
            outputs: VecDeque::new(),
            effects: Effects::default(),
            ready: Ready::default(),
        })
    }

    /// Takes the time at which an input arrived, clamped forward.
    pub(super) fn advance(&mut self, now: Now, input: &Input) {
        self.now.mono = self.now.mono.max(now.mono);
        self.now.utc = self.now.utc.max(now.utc);
        if matches!(input, Input::Tick) {
            self.heard = self.heard.max(now.mono);
        }
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop_due(&mut self) -> Option<Timer> {
        self.timers.pop_due(self.now.mono, self.heard)
    }

    /// Adds a record to what this input gives to the store.
    pub(super) fn append(&mut self, record: Record) -> LogPos {
        self.log.append(record, None)
    }

    /// Adds an event; where an agent's call made it, its durability gives the
    /// call's credit back.
    pub(super) fn append_event(&mut self, job: JobId, event: EventRecord, of_call: bool) -> LogPos {
        self.events += 1;
        self.log.append(Record::JobEvent { job, event }, of_call.then_some(job))
    }

    /// Asks something that may take proofs about leases, for a principal: that takes
    /// of its share of this runtime's time.
    ///
    /// # Errors
    ///
    /// What is answered, or when to ask again, if proofs are needed and the share is
    /// used up.
    pub(super) fn prove<T>(
        &mut self,
        principal: &Principal,
        ask: impl FnOnce(&Context, &mut Fuel) -> Result<T, Violation>,
    ) -> Result<T, Violation> {
        let refused = self.accounts.proofs.refusal(self.now.mono, principal, &self.config.limits.lease);
        let mut fuel = Fuel::new(if refused.is_some() { 0 } else { self.config.limits.lease.proof_units });
        let answer = ask(self, &mut fuel);
        self.accounts.proofs.charge(self.now.mono, principal, fuel.used(), &self.config.limits.lease);
        match refused {
            Some(why) if fuel.is_spent() => Err(why),
            Some(_) | None => answer,
        }
    }

    /// Writes an entry of the audit trail down.
    pub(super) fn audit(&mut self, entry: AuditEntry) {
        let most = self.config.limits.audit.audit_entries;
        if most > 0 {
            let undoes = self.trail.make_room(most, entry.principal.as_ref());
            let entry = Box::new(AuditEntry { at: self.now.utc, undoes, ..entry });
            self.observe(Notice::Audited(entry.clone()));
            self.trail.add(LogPos(self.log.last().0 + 1), &entry);
            self.append(Record::Audited(entry));
            if self.trail.len() == 1 {
                self.plan_audit();
            }
        }
    }

    /// Writes down that somebody is refused something for lack of authority: at once
    /// if that is new, with how often it was if it is not. Other refusals are no
    /// decisions about authority.
    pub(super) fn audit_refused(&mut self, entry: AuditEntry, why: &Violation) {
        let limits = &self.config.limits.audit;
        let most = limits.audited_refusals;
        if limits.audit_entries == 0 {
            return; // none is written
        }
        if let Some(entry) = self.trail.refuse(self.now.mono, most, entry, why) {
            self.plan_audit();
            self.audit(entry);
        }
    }

    /// What was refused again for a while is written down, and what is kept for long
    /// enough goes.
    pub(super) fn on_audit_due(&mut self) {
        let again = self.trail.take_due(self.now.mono);
        again.into_iter().for_each(|entry| self.audit(entry));
        let kept_for = self.config.timing.audit_retention;
        let before = kept_for.map(|kept_for| {
            UtcMs(self.now.utc.0.saturating_sub(u64::try_from(kept_for.as_millis()).unwrap_or(u64::MAX)))
        });
        let entries = self.trail.forget(before, self.config.limits.audit.audit_entries);
        if !entries.is_empty() {
            self.append(Record::AuditForgotten { entries });
        }
        self.plan_audit();
    }

    /// Sees to it that refusals are written down, and entries go.
    pub(super) fn plan_audit(&mut self) {
        let beyond = self.trail.len() > self.config.limits.audit.audit_entries;
        let oldest = self.trail.oldest().zip(self.config.timing.audit_retention);
        let over = oldest.map(|(since, kept_for)| self.moment(since.plus(kept_for), kept_for));
        let soonest = beyond.then(|| self.soonest());
        match self.trail.next_due().into_iter().chain(over).chain(soonest).min() {
            Some(at) => self.timers.set(Timer::Audit, at),
            None => self.timers.clear(Timer::Audit),
        }
    }

    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn observe(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Observe(notice));
    }

    /// Says something to the other parts.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.put(effect);
    }

    /// A job has one more event, which is no news to one session, perhaps. With `grown` a
    /// good many have come that may go together.
    pub(super) fn appended(&mut self, job: JobId, n: u64, class: EventClass, grown: bool, but: Option<SessionId>) {
        self.effects.appended(job, n, class, (grown, but));
    }

    /// So many calls of an agent come: the events of several are told of together.
    pub(super) fn expect_calls(&mut self, calls: usize) {
        self.effects.joins = calls > 1;
        if calls > 1 {
            // And one that says under which numbers.
            self.log.reserve(calls + 1);
        }
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.take()
    }

    /// A connection may have something to send: it is looked at before this
    /// input is over.
    pub(super) fn ready(&mut self, conn: ConnId) {
        self.ready.put(conn);
    }

    pub(super) fn next_ready(&mut self) -> Option<ConnId> {
        self.ready.take()
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Gives the store what this input has appended.
    pub(super) fn seal(&mut self) {
        if let Some(batch) = self.log.seal() {
            self.outputs.push_back(Output::Persist(batch));
        }
    }

    /// Gives the store the first batches again that are not confirmed.
    fn persist_again(&mut self, batches: usize) {
        self.outputs.extend(self.log.unconfirmed().take(batches).cloned().map(Output::Persist));
    }

    /// Nothing numbered is sent until the store works; heartbeats go on, and
    /// agents stop when their credit is used up.
    pub(super) fn on_persist_failed(&mut self) {
        // Nothing would be asked for again, and no answer would come.
        if self.log.unconfirmed().next().is_none() {
            return;
        }
        if !core::mem::replace(&mut self.log.failed, true) {
            self.observe(Notice::StoreFailed);
        }
        // Each batch that was queued behind one that fails says so too.
        if !self.timers.is_set(Timer::StoreRetry) {
            let (first, longest) = STORE_RETRY;
            let wait = first.saturating_mul(1 << self.log.retries.min(16)).min(longest);
            self.log.retries += 1;
            self.timers.set(Timer::StoreRetry, self.now.mono + wait);
        }
    }

    /// Whether the store has failed for so long that nobody new is let in.
    pub(super) fn store_is_down(&self) -> bool {
        self.log.failed && self.log.retries >= DOWN_AFTER
    }

    /// Asks the store again with the first batch alone; the others follow
    /// once it works.
    pub(super) fn on_store_retry(&mut self) {
        self.persist_again(1);
    }

    /// Whatever followed from what is durable was done: if that is more than
    /// `before`, the store works.
    pub(super) fn on_durable_since(&mut self, before: LogPos) {
        if self.log.durable() == before {
            return;
        }
        self.log.retries = 0;
        if core::mem::take(&mut self.log.failed) {
            self.observe(Notice::StoreRecovered);
            self.persist_again(usize::MAX);
        }
    }

    /// The id of an operation that is answered later.
    pub(super) fn next_op(&mut self) -> OpId {
        self.last_op += 1;
        OpId(self.last_op)
    }

    /// When a time of the calendar comes by the monotonic clock: at once if it
    /// has been, and after `longest` even if the calendar went back.
    pub(super) fn moment(&self, at: UtcMs, longest: Duration) -> Timestamp {
        self.now.until(at, longest).max(self.soonest())
    }

    /// When the next timer is due; silence that is not judged yet is judged by
    /// the next tick.
    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        self.timers.next().map(|(at, reason)| Deadline { at: at.max(self.soonest()), reason })
    }

    /// The next moment at which a timer may be set.
    pub(super) fn soonest(&self) -> Timestamp {
        self.now.mono + Duration::from_micros(1)
    }
}
