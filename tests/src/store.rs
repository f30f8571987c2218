//! The store of the virtual world: it refuses what a real store refuses, and loads what a real store loads.

#![allow(clippy::wildcard_enum_match_arm, reason = "a store looks at the records that replace others")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use arcp_host::store::{History, Store, StoreError};
use arcp_proto::id::{JobId, LogPos, SessionId};
use arcp_proto::runtime::{Batch, EventRecord, Record};

/// Records in memory that survive a crash of the runtime.
#[derive(Clone, Debug, Default)]
pub struct VirtualStore {
    records: Vec<(LogPos, Record)>,
    events: BTreeMap<JobId, BTreeMap<u64, EventRecord>>,
    last: LogPos,
    /// While this is set, commits fail and nothing is kept.
    pub broken: bool,
    full_at: Option<usize>,
}

impl VirtualStore {
    /// Makes it full after so many more records, until it is mended.
    pub fn fill(&mut self, room: usize) {
        self.full_at = Some(self.records.len() + room);
    }

    /// Makes it work again, with room.
    pub fn mend(&mut self) {
        (self.broken, self.full_at) = (false, None);
    }

    /// The last position that is durable.
    pub fn last(&self) -> LogPos {
        self.last
    }

    /// The records that a restart loads. `compact`: as from a store that has deleted all that it may delete; otherwise
    /// every record.
    pub fn records(&self, compact: bool) -> Vec<(LogPos, Record)> {
        if !compact {
            return self.records.clone();
        }
        let (mut forgotten, mut ended) = (BTreeSet::<JobId>::new(), BTreeSet::<SessionId>::new());
        let (mut over, mut released) = (BTreeSet::<JobId>::new(), BTreeMap::<SessionId, u64>::new());
        let (mut trimmed, mut left) = (BTreeMap::<JobId, u64>::new(), BTreeMap::<JobId, LogPos>::new());
        let (mut departing, mut tokens) = (BTreeMap::<JobId, LogPos>::new(), BTreeMap::<JobId, LogPos>::new());
        let (mut prompted, mut handed) = (BTreeMap::<JobId, LogPos>::new(), BTreeMap::<JobId, LogPos>::new());
        let mut prolonged = BTreeMap::<JobId, LogPos>::new();
        let (mut undone, mut unsubscribed) = (BTreeSet::<LogPos>::new(), BTreeMap::<SessionId, LogPos>::new());
        let expired = self.records.iter().filter_map(|(_, record)| record.expires()).max();
        for (at, record) in &self.records {
            forgotten.extend(record.forgets_job());
            undone.extend(record.undoes());
            undone.extend(record.forgets_entries());
            if let (Record::Unsubscribed { session, .. }, Some(_)) = (record, record.undoes()) {
                unsubscribed.insert(*session, *at);
            }
            ended.extend(record.ends_session());
            if let Record::JobHistory { job, .. } = record {
                over.insert(*job);
            }
            if let Record::Released { session, upto } = record {
                released.insert(*session, *upto);
            }
            if let Record::HistoryTrimmed { job, upto, .. } = record {
                trimmed.insert(*job, *upto);
            }
            if let Record::BudgetLeft { job, .. } = record {
                left.insert(*job, *at);
            }
            if let Record::Prompted { job, .. } = record {
                prompted.insert(*job, *at);
            }
            if let Record::GrantsProlonged { job, .. } = record {
                prolonged.insert(*job, *at);
            }
            if let Record::HandedOver { job, .. } = record {
                handed.insert(*job, *at);
            }
            if let Record::Departing { job, .. } = record {
                departing.insert(*job, *at);
            }
            if let Record::TokensIssued { job, .. } = record {
                tokens.insert(*job, *at);
            }
        }
        let mut given: Vec<(LogPos, Record)> = Vec::new();
        let (mut numbers, mut terminals) = (Vec::new(), BTreeMap::new());
        for (at, record) in self.records.iter().rev() {
            let gone = record.job().is_some_and(|job| forgotten.contains(&job))
                || record.session().is_some_and(|session| ended.contains(&session));
            match record {
                _ if gone || undone.contains(at) || record.expires().is_some() => {}
                _ if !record.forgets_entries().is_empty() => {}
                _ if record.until().is_some_and(|until| expired.is_some_and(|upto| until <= upto)) => {}
                Record::Unsubscribed { session, .. } if unsubscribed.get(session).is_some_and(|last| last != at) => {}
                Record::HandedOver { job, .. } if handed.get(job).is_some_and(|last| last != at) => {}
                Record::Departing { job, .. } if departing.get(job).is_some_and(|last| last != at) => {}
                Record::TokensIssued { job, .. } if tokens.get(job).is_some_and(|last| last != at) => {}
                Record::Prompted { job, .. } if prompted.get(job).is_some_and(|last| last != at) => {}
                Record::GrantsProlonged { job, .. } if prolonged.get(job).is_some_and(|last| last != at) => {}
                Record::BudgetLeft { job, .. } if left.get(job).is_some_and(|last| last != at) => {}
                Record::HistoryTrimmed { job, upto, .. } if trimmed.get(job) != Some(upto) => {}
                Record::JobEvent { job, event } if trimmed.get(job).is_some_and(|upto| event.n <= *upto) => {}
                Record::JobEvent { job, .. } if over.contains(job) => {
                    terminals.entry(*job).or_insert_with(|| record.clone());
                }
                Record::Numbered { session, run } => {
                    let needed = released.get(session).is_none_or(|upto| run.last_seq() > *upto);
                    numbers.extend(needed.then(|| (*at, record.clone())));
                }
                _ => given.push((*at, record.clone())),
            }
        }
        given.reverse();
        let mut all = Vec::new();
        for (at, record) in given {
            let terminal = if let Record::JobHistory { job, .. } = &record { terminals.remove(job) } else { None };
            all.push((at, record));
            all.extend(terminal.map(|terminal| (at, terminal)));
        }
        all.extend(numbers.into_iter().rev());
        all
    }

    fn keep(&mut self, at: LogPos, record: &Record) {
        match record {
            Record::JobEvent { job, event } => {
                self.events.entry(*job).or_default().insert(event.n, event.clone());
            }
            Record::HistoryTrimmed { job, upto, .. } => {
                self.events.entry(*job).or_default().retain(|n, _| n > upto);
            }
            Record::JobForgotten { job } => drop(self.events.remove(job)),
            _ => {}
        }
        self.records.push((at, record.clone()));
        self.last = at;
    }
}

impl Store for VirtualStore {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        for (at, record) in self.records(true) {
            each(at, record);
        }
        Ok(self.last)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut new: Vec<&Batch> = Vec::new();
        for batch in batches {
            let last = new.last().map_or(self.last, |before| before.last());
            if batch.first.0 > last.0 + 1 {
                return Err(StoreError::Unavailable("a gap".into()));
            }
            if batch.last() > last && batch.first <= last {
                return Err(StoreError::Unavailable("half of a batch".into()));
            }
            new.extend((batch.last() > last).then_some(batch));
        }
        let count: usize = new.iter().map(|batch| batch.records.len()).sum();
        if self.broken || self.full_at.is_some_and(|most| self.records.len() + count > most) {
            return Err(StoreError::Unavailable("no room".into()));
        }
        for (at, record) in new.into_iter().flat_map(Batch::entries) {
            self.keep(at, record);
        }
        Ok(())
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl History for VirtualStore {
    fn another(&mut self) -> Result<Box<dyn History>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError> {
        if self.broken {
            return Err(StoreError::Unavailable("broken".into()));
        }
        let kept = self.events.get(&job).into_iter().flat_map(|events| events.range(from..=to));
        let (mut in_row, mut size) = (Vec::new(), 0);
        for (expected, (n, event)) in (from..).zip(kept) {
            size += serde_json::to_string(event).map_or(0, |text| text.len());
            if expected != *n || size > bytes && !in_row.is_empty() {
                break;
            }
            in_row.push(event.clone());
        }
        Ok(in_row)
    }
}

/// A store whose first reads wait until the test releases them.
pub struct SlowToRead {
    inner: Box<dyn Store>,
    slow: Arc<Slow>,
}

#[derive(Debug)]
struct Slow {
    left: AtomicU32,
    go: Mutex<Receiver<()>>,
}

impl SlowToRead {
    /// A store, and a sender that releases its first `slow` reads, one for each message.
    pub fn new(inner: Box<dyn Store>, slow: u32) -> (SlowToRead, Sender<()>) {
        let (sender, receiver) = channel();
        let slow = Slow { left: AtomicU32::new(slow), go: Mutex::new(receiver) };
        (SlowToRead { inner, slow: Arc::new(slow) }, sender)
    }
}

impl Store for SlowToRead {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        self.inner.load(each)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.inner.commit(batches)
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        let inner = self.inner.history()?;
        Ok(inner.map(|inner| Box::new(SlowReads { inner, slow: self.slow.clone() }) as Box<dyn History>))
    }
}

struct SlowReads {
    inner: Box<dyn History>,
    slow: Arc<Slow>,
}

impl History for SlowReads {
    fn another(&mut self) -> Result<Box<dyn History>, StoreError> {
        Ok(Box::new(SlowReads { inner: self.inner.another()?, slow: self.slow.clone() }))
    }

    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError> {
        let is_slow =
            self.slow.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_slow {
            let go = self.slow.go.lock().expect("nobody panics here");
            go.recv().map_err(|gone| StoreError::Unavailable(gone.to_string()))?;
        }
        self.inner.events(job, from, to, bytes)
    }
}

/// A store that fails when it is told to, like a disk that is full for a while.
pub struct Faulty {
    inner: Box<dyn Store>,
    faults: Arc<Faults>,
}

/// Says when a [`Faulty`] store fails.
#[derive(Debug, Default)]
pub struct Faults {
    failing: AtomicBool,
    failed: AtomicU32,
}

impl Faults {
    /// Makes commits fail or work from this time on.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// How many commits have failed.
    pub fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl Faulty {
    /// A store that works until it is told to fail.
    pub fn new(inner: Box<dyn Store>) -> (Faulty, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (Faulty { inner, faults: faults.clone() }, faults)
    }
}

impl Store for Faulty {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        self.inner.load(each)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if self.faults.failing.load(Ordering::SeqCst) {
            self.faults.failed.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Unavailable("the disk is full".into()));
        }
        self.inner.commit(batches)
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        self.inner.history()
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        self.inner.tidy()
    }
}

/// A store most of whose commits report a failure, though some of these were made: like a disk behind an unreliable
/// connection.
pub struct Flaky {
    inner: Box<dyn Store>,
    commits: u32,
}

impl Flaky {
    /// One of so many commits reports a success.
    pub const TRIES: u32 = 3;

    /// A store behind an unreliable connection.
    pub fn new(inner: Box<dyn Store>) -> Flaky {
        Flaky { inner, commits: 0 }
    }
}

impl Store for Flaky {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        self.inner.load(each)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.commits += 1;
        match self.commits % Flaky::TRIES {
            1 => Err(StoreError::Unavailable("it was not reached".into())),
            2 => self.inner.commit(batches).and(Err(StoreError::Unavailable("no answer came".into()))),
            _ => self.inner.commit(batches),
        }
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        self.inner.history()
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        self.inner.tidy()
    }
}

/// A virtual store that can be opened again.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<VirtualStore>>);

impl Shared {
    fn store(&self) -> std::sync::MutexGuard<'_, VirtualStore> {
        self.0.lock().expect("nobody panics here")
    }
}

impl Store for Shared {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        self.store().load(each)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.store().commit(batches)
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl History for Shared {
    fn another(&mut self) -> Result<Box<dyn History>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError> {
        self.store().events(job, from, to, bytes)
    }
}
