//! The context lent to every part while an input is handled: the time, the configuration, and the
//! places for records, timers and outputs.

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

/// The first and the longest wait before a failed store is asked again. Each wait is twice the one
/// before.
const STORE_RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// After so many failed retries, which take more than a second, sessions are neither opened nor
/// resumed.
const DOWN_AFTER: u32 = 8;

#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) now: Now,
    /// Everything that had arrived by then was handed over. Silence is judged as of this moment,
    /// not of `now`.
    pub(super) heard: Timestamp,
    pub(super) entropy: Entropy,
    /// Authenticates the cursors of listings.
    pub(super) cursor_key: [u8; 32],
    pub(super) accounts: Accounts,
    pub(super) log: Log,
    pub(super) timers: Timers,
    pub(super) trail: Trail,
    pub(super) draining: bool,
    /// Events of all jobs since the start of this runtime.
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

    /// Advances the time to that of an input; an earlier time counts as the last one.
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

    /// Appends a record to the batch of this input.
    pub(super) fn append(&mut self, record: Record) -> LogPos {
        self.log.append(record, None)
    }

    /// Appends an event. If an agent's call made it, the credit of the call is returned once the
    /// event is durable.
    pub(super) fn append_event(&mut self, job: JobId, event: EventRecord, of_call: bool) -> LogPos {
        self.events += 1;
        self.log.append(Record::JobEvent { job, event }, of_call.then_some(job))
    }

    /// Asks a question that may take proofs about leases. Their work is charged to the principal's
    /// share.
    ///
    /// # Errors
    ///
    /// The answer's error; or when to ask again, if proofs are needed and the share is used up.
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

    /// Writes an entry of the audit trail.
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

    /// Writes a refusal for lack of authority to the audit trail: at once if it is new, with its
    /// count if it repeats. Other refusals are no decisions about authority, and are ignored.
    pub(super) fn audit_refused(&mut self, entry: AuditEntry, why: &Violation) {
        let limits = &self.config.limits.audit;
        let most = limits.audited_refusals;
        if limits.audit_entries == 0 {
            return; // The audit trail is disabled.
        }
        if let Some(entry) = self.trail.refuse(self.now.mono, most, entry, why) {
            self.plan_audit();
            self.audit(entry);
        }
    }

    /// Writes the refusals that were repeated, and removes entries whose retention is over.
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

    /// Sets the timer for repeated refusals and for entries to remove.
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

    /// Adds an effect, to be carried to the other parts.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.put(effect);
    }

    /// A job has another event. The session `but`, if any, has no use for it. `grown`: so many
    /// events have come that old ones may be dropped together.
    pub(super) fn appended(&mut self, job: JobId, n: u64, class: EventClass, grown: bool, but: Option<SessionId>) {
        self.effects.appended(job, n, class, (grown, but));
    }

    /// Announces how many calls of an agent follow: the events of several share one effect.
    pub(super) fn expect_calls(&mut self, calls: usize) {
        self.effects.joins = calls > 1;
        if calls > 1 {
            // One more record has their numbers.
            self.log.reserve(calls + 1);
        }
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.take()
    }

    /// Marks a connection that may have something to send. It is pumped before this input ends.
    pub(super) fn ready(&mut self, conn: ConnId) {
        self.ready.put(conn);
    }

    pub(super) fn next_ready(&mut self) -> Option<ConnId> {
        self.ready.take()
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Gives the records of this input to the store as one batch.
    pub(super) fn seal(&mut self) {
        if let Some(batch) = self.log.seal() {
            self.outputs.push_back(Output::Persist(batch));
        }
    }

    /// Gives the store the first unconfirmed batches again.
    fn persist_again(&mut self, batches: usize) {
        self.outputs.extend(self.log.unconfirmed().take(batches).cloned().map(Output::Persist));
    }

    /// No numbered frame is sent until the store works. Heartbeats go on, and agents stop when
    /// their credit is used up.
    pub(super) fn on_persist_failed(&mut self) {
        // Without an unconfirmed batch there is nothing to retry, and no answer to wait for.
        if self.log.unconfirmed().next().is_none() {
            return;
        }
        if !core::mem::replace(&mut self.log.failed, true) {
            self.observe(Notice::StoreFailed);
        }
        // Each batch that was queued behind a failed one fails too.
        if !self.timers.is_set(Timer::StoreRetry) {
            let (first, longest) = STORE_RETRY;
            let wait = first.saturating_mul(1 << self.log.retries.min(16)).min(longest);
            self.log.retries += 1;
            self.timers.set(Timer::StoreRetry, self.now.mono + wait);
        }
    }

    /// Whether the store has failed for so long that sessions are neither opened nor resumed.
    pub(super) fn store_is_down(&self) -> bool {
        self.log.failed && self.log.retries >= DOWN_AFTER
    }

    /// Retries the store with the first batch alone; the others follow once it works.
    pub(super) fn on_store_retry(&mut self) {
        self.persist_again(1);
    }

    /// Called after everything that follows from the durable position was done. If the position is
    /// beyond `before`, the store works.
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

    /// A new id for an operation of the host.
    pub(super) fn next_op(&mut self) -> OpId {
        self.last_op += 1;
        OpId(self.last_op)
    }

    /// The monotonic time of a UTC time: at once if that has passed, and at most `longest` from now
    /// even if UTC went back.
    pub(super) fn moment(&self, at: UtcMs, longest: Duration) -> Timestamp {
        self.now.until(at, longest).max(self.soonest())
    }

    /// When the next timer is due. Silence that cannot be judged yet is judged at the next tick.
    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        self.timers.next().map(|(at, reason)| Deadline { at: at.max(self.soonest()), reason })
    }

    /// The earliest time for which a timer may be set.
    pub(super) fn soonest(&self) -> Timestamp {
        self.now.mono + Duration::from_micros(1)
    }
}
