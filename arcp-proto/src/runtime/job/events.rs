//! The events of a job: what each was in a few bytes, and the latest of them
//! themselves.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use super::history::History;
use crate::id::{JobId, LogPos};
use crate::limits::Limits;
use crate::model::event::{EventClass, JobEvent, ResultChunk};
use crate::runtime::io::EventRecord;
use crate::time::{Timestamp, UtcMs};
use crate::wire::{self, Beginning, EventSnapshot, FrameRole, View};

/// All events of a job, counted from 1.
#[derive(Debug)]
pub(in crate::runtime) struct Events {
    /// What they were.
    history: History,
    /// The latest of them.
    held: VecDeque<Stored>,
    /// Bytes of those.
    bytes: usize,
    /// Thoughts among all of them.
    thoughts: u64,
}

/// One event as it is kept.
#[derive(Debug)]
pub(in crate::runtime) struct Stored {
    pub(in crate::runtime) pos: LogPos,
    pub(in crate::runtime) at: UtcMs,
    pub(in crate::runtime) event: Arc<JobEvent>,
    /// Thoughts its job had had before.
    thoughts: u64,
}

impl Events {
    pub(super) fn new(limits: &Limits) -> Events {
        Events { history: History::new(limits), held: VecDeque::new(), bytes: 0, thoughts: 0 }
    }

    pub(in crate::runtime) fn history(&self) -> &History {
        &self.history
    }

    /// How many there were.
    pub(in crate::runtime) fn count(&self) -> u64 {
        self.history.count()
    }

    /// The first that is held in memory.
    pub(in crate::runtime) fn first_held(&self) -> u64 {
        self.count() + 1 - self.held.len() as u64
    }

    /// Event `n`, if it is held in memory.
    pub(in crate::runtime) fn get(&self, n: u64) -> Option<&Stored> {
        self.held.get(usize::try_from(n.checked_sub(self.first_held())?).ok()?)
    }

    /// Bytes of those that are held in memory, and of those that can be had.
    pub(super) fn sizes(&self) -> (usize, u64) {
        (self.bytes, self.history.bytes() as u64)
    }

    /// The pieces of a result so far, if all are held in memory.
    pub(super) fn pieces(&self) -> Option<impl Iterator<Item = &ResultChunk>> {
        let from = self.history.result_from()?.checked_sub(self.first_held())?;
        let events = self.held.range(usize::try_from(from).ok()?..);
        Some(
            events.filter_map(|stored| if let JobEvent::Chunk(chunk) = &*stored.event { Some(&**chunk) } else { None }),
        )
    }

    /// The record of the next event.
    pub(super) fn next(&self, at: UtcMs, event: JobEvent) -> EventRecord {
        EventRecord { n: self.count() + 1, at, thoughts: self.thoughts, event: Arc::new(event) }
    }

    /// Adds the next event, which stands in the log at `pos`, to be kept until
    /// then at least; true if with it a good many have come that may go together.
    pub(super) fn add(&mut self, pos: LogPos, record: EventRecord, keep_until: Timestamp) -> bool {
        let (class, size) = (record.event.class(), record.event.weight());
        let grown = self.history.push(record.n, class, size, record.at, keep_until);
        self.hold(pos, record);
        grown
    }

    /// Takes an event of an earlier run; one that the history tells of already
    /// is only held. False if it is not even that.
    pub(super) fn restore(&mut self, pos: LogPos, record: EventRecord, keep_until: Timestamp) -> bool {
        if record.n > self.count() {
            self.add(pos, record, keep_until);
        } else if record.n == self.count() && self.held.is_empty() {
            self.hold(pos, record);
        } else {
            return false;
        }
        true
    }

    /// Takes the history of an earlier run over, of which only the last event
    /// follows.
    pub(super) fn restore_history(&mut self, gone: u64, classes: &[(EventClass, u32)], bytes: usize) {
        self.history.restore(gone, classes, bytes);
    }

    /// Bytes of those that are held in memory, counted once more.
    pub(super) fn recount(&self) -> usize {
        self.held.iter().map(Stored::weight).sum()
    }

    fn hold(&mut self, pos: LogPos, record: EventRecord) {
        self.thoughts = record.thoughts + u64::from(record.event.class() == EventClass::Thought);
        self.bytes += record.event.weight();
        if self.held.capacity() == 0 {
            // Many jobs have no more than a start and an end.
            self.held.reserve_exact(2);
        }
        self.held.push_back(Stored::kept(pos, record));
    }

    /// Lets all go from memory.
    pub(super) fn drop_all(&mut self) {
        self.held.clear();
        self.bytes = 0;
    }

    /// Lets the oldest go from memory, but never the last one, nor one after
    /// `durable`, which nobody else has; false if it stays.
    pub(super) fn drop_oldest(&mut self, durable: LogPos) -> bool {
        let may_go = self.held.len() > 1 && self.held.front().is_some_and(|oldest| oldest.pos <= durable);
        if may_go && let Some(oldest) = self.held.pop_front() {
            self.bytes -= oldest.weight();
        }
        may_go
    }

    /// Lets those before `needed` go from memory, but never the last one, nor
    /// one after `durable`.
    pub(super) fn drop_before(&mut self, needed: u64, durable: LogPos) {
        while self.first_held() < needed && self.drop_oldest(durable) {}
    }

    /// Lets the oldest before `unsent` go from memory until the rest fits.
    pub(super) fn fit(&mut self, limits: &Limits, durable: LogPos, unsent: u64) {
        while self.is_too_large(limits) && self.first_held() < unsent && self.drop_oldest(durable) {}
    }

    /// Lets those up to `upto` go for good.
    pub(super) fn forget(&mut self, upto: u64) {
        self.history.forget(upto);
        self.drop_before(upto + 1, LogPos(u64::MAX));
    }

    /// Lets the oldest go for good that go together, but never the last; gives
    /// the last that went.
    pub(super) fn trim(&mut self) -> Option<u64> {
        self.history.trim()
    }

    /// Whether some may go from memory and can be had again.
    pub(super) fn can_be_dropped(&self) -> bool {
        self.held.len() > 1
    }

    /// Whether more are held in memory than may be.
    pub(super) fn is_too_large(&self, limits: &Limits) -> bool {
        self.held.len() > limits.history.job_events || self.bytes > limits.history.job_event_bytes
    }

    /// Whether more are kept in the store than may be.
    pub(super) fn is_kept_too_large(&self, limits: &Limits) -> bool {
        self.history.kept() > limits.history.kept_job_events || self.history.bytes() > limits.history.kept_job_bytes
    }
}

impl Stored {
    /// An event that was kept; it is durable.
    pub(in crate::runtime) fn kept(pos: LogPos, record: EventRecord) -> Stored {
        let EventRecord { at, thoughts, event, .. } = record;
        Stored { pos, at, event, thoughts }
    }

    /// Bytes it holds, roughly.
    pub(in crate::runtime) fn weight(&self) -> usize {
        self.event.weight()
    }

    /// Event `n` without what only whoever submitted the job may see; `None` if there is
    /// nothing of that in it.
    pub(in crate::runtime) fn redacted(&self, n: u64) -> Option<Stored> {
        let event = Arc::new(crate::model::stream::redacted(&self.event)?);
        Some(Stored::kept(self.pos, EventRecord { n, at: self.at, thoughts: self.thoughts, event }))
    }

    /// Writes the payload for a view, in a buffer that was used before if that is of use,
    /// with how the payload before begins.
    pub(in crate::runtime) fn render(
        &self,
        buffer: (String, &mut Beginning),
        view: &View,
        job: JobId,
        role: FrameRole,
    ) -> String {
        let snapshot = EventSnapshot { job, at: self.at, thoughts: self.thoughts, event: &self.event };
        wire::render_event_in(buffer, view, &snapshot, role)
    }
}
