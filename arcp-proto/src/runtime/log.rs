//! The log of records: what was given to the store, what of it is durable, who waits for that, and
//! who caused it. The records of one input are one batch, which becomes durable as a whole, so
//! waiting for a position means waiting for the end of its batch.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::account::{Balance, Charge, HeldFor, Recount};
use super::io::{Batch, Record};
use crate::id::{ConnId, JobId, LogPos, SessionId};

#[derive(Debug)]
pub(super) struct Log {
    last: LogPos,
    durable: LogPos,
    /// The records that the present input has appended, and what belongs to them.
    records: Vec<Record>,
    open: Beside,
    /// Batches whose durability is not confirmed, in order.
    pending: VecDeque<Pending>,
    waiting: BTreeSet<(LogPos, Waiter)>,
    /// The account of the runtime, and the one that caused the present input.
    all: Balance,
    cause: Balance,
    /// Whether too many bytes are not durable.
    pub(super) full: bool,
    /// Whether the store has failed and not recovered.
    pub(super) failed: bool,
    /// How often the store was retried since it failed.
    pub(super) retries: u32,
}

#[derive(Debug)]
struct Pending {
    batch: Batch,
    beside: Beside,
}

/// What goes with the records of an input until they are durable.
#[derive(Debug, Default)]
struct Beside {
    /// The bytes of its records, roughly.
    charge: Option<Charge>,
    /// The charges for its first records, with the number of records of each, if other accounts
    /// caused them.
    apart: Vec<(usize, Charge)>,
    /// The jobs whose agents get credit back, once for each call.
    returns: Vec<JobId>,
}

/// What goes on once a position is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiter {
    /// A connection with frames to send.
    Conn(ConnId),
    /// A job that was accepted.
    Job(JobId),
    /// An agent that waits for a reply to its call.
    Agent(JobId),
    /// A session that is taken from its client.
    Session(SessionId),
    /// A job that awaits credentials.
    Credentials(JobId),
    /// A job that is to depart to another runtime.
    Departure(JobId),
}

impl Log {
    pub(super) fn new(all: &Balance) -> Log {
        Log {
            last: LogPos(0),
            durable: LogPos(0),
            records: Vec::new(),
            open: Beside::default(),
            pending: VecDeque::new(),
            waiting: BTreeSet::new(),
            all: all.clone(),
            cause: all.clone(),
            full: false,
            failed: false,
            retries: 0,
        }
    }

    /// Says which account caused the present input, and everything that it appends.
    pub(super) fn caused_by(&mut self, principal: &Balance) {
        self.cause = principal.clone();
        if let Some(charge) = &mut self.open.charge {
            charge.move_to(principal);
        }
    }

    /// The account that caused the present input; the runtime's if unknown.
    pub(super) fn cause(&self) -> &Balance {
        &self.cause
    }

    /// The records so far do not belong to the request of the present input. They stay charged as
    /// they are.
    pub(super) fn set_apart(&mut self) {
        let before: usize = self.open.apart.iter().map(|(records, _)| records).sum();
        self.open.apart.extend(self.open.charge.take().map(|charge| (self.records.len() - before, charge)));
        self.cause = self.all.clone();
    }

    /// Ends the present input's cause, and returns its account.
    pub(super) fn take_cause(&mut self) -> Balance {
        core::mem::replace(&mut self.cause, self.all.clone())
    }

    /// Counts the records that are not durable again.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        let sealed = self.pending.iter().map(|pending| (&pending.beside, &*pending.batch.records));
        for (beside, records) in sealed.chain([(&self.open, &self.records)]) {
            let bytes = |records: &[Record]| records.iter().map(Record::weight).sum();
            let mut rest: &[Record] = records;
            for (count, charge) in &beside.apart {
                let (these, others) = rest.split_at(*count);
                recount.add(charge.balance(), HeldFor::Records, bytes(these));
                rest = others;
            }
            let cause = beside.charge.as_ref().map_or(&self.cause, Charge::balance);
            recount.add(cause, HeldFor::Records, bytes(rest));
        }
    }

    /// Makes room for this many records.
    pub(super) fn reserve(&mut self, records: usize) {
        self.records.reserve(records);
        self.open.returns.reserve(records);
    }

    /// Appends a record, and returns its position.
    pub(super) fn append(&mut self, record: Record, returns: Option<JobId>) -> LogPos {
        self.last = LogPos(self.last.0 + 1);
        let bytes = record.weight();
        match &mut self.open.charge {
            Some(charge) => charge.add(bytes),
            none @ None => *none = Some(self.cause.charge(HeldFor::Records, bytes)),
        }
        self.records.push(record);
        self.open.returns.extend(returns);
        self.last
    }

    /// How many calls get their credit back once the records of the present input are durable.
    pub(super) fn returning(&self) -> usize {
        self.open.returns.len()
    }

    /// Another call of a job gets its credit back with them; there is at least one record.
    pub(super) fn return_call(&mut self, job: JobId) {
        self.open.returns.push(job);
    }

    /// The records that the present input has appended.
    pub(super) fn open(&self) -> &[Record] {
        &self.records
    }

    /// Ends the batch of an input. Returns it, if it has records and the store works.
    pub(super) fn seal(&mut self) -> Option<Batch> {
        if self.records.is_empty() {
            return None;
        }
        let records = core::mem::take(&mut self.records);
        let first = LogPos(self.last.0 + 1 - records.len() as u64);
        let batch = Batch { first, records: Arc::new(records) };
        let given = (!self.failed).then(|| batch.clone());
        self.pending.push_back(Pending { batch, beside: core::mem::take(&mut self.open) });
        given
    }

    /// Notes the position of an earlier run's record, which is durable.
    pub(super) fn restore(&mut self, at: LogPos) {
        self.last = self.last.max(at);
        self.durable = self.last;
    }

    pub(super) fn last(&self) -> LogPos {
        self.last
    }

    pub(super) fn durable(&self) -> LogPos {
        self.durable
    }

    pub(super) fn bytes(&self) -> usize {
        self.all.bytes(HeldFor::Records)
    }

    pub(super) fn is_durable(&self, pos: LogPos) -> bool {
        pos <= self.durable
    }

    pub(super) fn wait(&mut self, pos: LogPos, waiter: Waiter) {
        self.waiting.insert((pos, waiter));
    }

    /// Notes durability up to a position. Gives the jobs that get credit back, one entry
    /// per credit.
    pub(super) fn persisted(&mut self, up_to: LogPos) -> Vec<JobId> {
        let mut credits = Vec::new();
        while let Some(last) = self.pending.front().map(|first| first.batch.last()).filter(|last| *last <= up_to) {
            self.durable = last;
            match self.pending.pop_front().map(|first| first.beside.returns) {
                // Mostly it is the only one.
                Some(returns) if credits.is_empty() => credits = returns,
                Some(returns) => credits.extend(returns),
                None => {}
            }
        }
        credits
    }

    /// The next one that may go on, by what is durable.
    pub(super) fn next_awake(&mut self) -> Option<Waiter> {
        self.waiting.first().filter(|(pos, _)| *pos <= self.durable)?;
        self.waiting.pop_first().map(|(_, waiter)| waiter)
    }

    /// The batches that are not confirmed.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = &Batch> {
        self.pending.iter().map(|pending| &pending.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Principal;
    use crate::runtime::account::Accounts;

    fn new() -> Log {
        Log::new(Accounts::new().runtime())
    }

    #[test]
    fn what_is_not_durable_is_weighed_batch_by_batch_and_whoever_waits_is_woken_with_its_own() {
        let record = || Record::SessionEnded { session: SessionId::from_ulid(ulid::Ulid::nil()) };
        let (mut log, job, waiter) = (new(), JobId::from_ulid(ulid::Ulid::nil()), Waiter::Conn(ConnId(1)));
        assert!(log.seal().is_none() && log.open().is_empty());
        log.append(record(), Some(job));
        let one = log.bytes();
        assert_eq!((one, log.open().len()), (record().weight(), 1));
        log.append(record(), None);
        assert_eq!(log.seal().map(|batch| (batch.first, batch.last())), Some((LogPos(1), LogPos(2))));
        log.append(record(), None);
        log.failed = true;
        assert_eq!(log.seal(), None, "it is kept until the store takes it");
        log.wait(LogPos(3), waiter);
        assert_eq!((log.bytes(), log.unconfirmed().count()), (3 * one, 2));
        assert_eq!(log.persisted(LogPos(1)), [], "half a batch is nothing");
        assert_eq!((log.persisted(LogPos(2)), log.next_awake()), (alloc::vec![job], None));
        assert_eq!((log.bytes(), log.durable(), log.is_durable(LogPos(3))), (one, LogPos(2), false));
        assert_eq!(log.persisted(LogPos(3)), []);
        assert_eq!([log.next_awake(), log.next_awake()], [Some(waiter), None]);
        assert_eq!((log.bytes(), log.unconfirmed().count()), (0, 0));
    }

    #[test]
    fn what_is_set_apart_stays_with_whoever_has_caused_it_until_it_is_durable() {
        let account = |name| Principal::new(name).expect("a name").account();
        let record = || Record::SessionEnded { session: SessionId::from_ulid(ulid::Ulid::nil()) };
        let mut accounts = Accounts::new();
        let [p, q] = ["p", "q"].map(|name| accounts.of(&account(name)));
        let (mut log, one) = (Log::new(accounts.runtime()), record().weight());
        let caused = |balance: &Balance| balance.bytes(HeldFor::Records) / one;
        log.caused_by(&p);
        log.append(record(), None);
        log.append(record(), None);
        log.set_apart();
        assert!(log.cause().is(accounts.runtime()));
        log.set_apart();
        log.append(record(), None);
        log.caused_by(&q);
        assert_eq!([&p, &q, accounts.runtime()].map(caused), [2, 1, 3]);
        for sealed in [false, true] {
            let mut recount = Recount::new(&accounts);
            log.recount(&mut recount);
            assert_eq!(recount.miscounts(), [], "sealed: {sealed}");
            log.seal();
        }
        log.take_cause();
        log.persisted(LogPos(3));
        assert_eq!([&p, &q, accounts.runtime()].map(caused), [0, 0, 0]);
    }
}
