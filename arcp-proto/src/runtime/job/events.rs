//! The events of a job: a few bytes about each, and the latest events themselves.

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
    /// Class and time of each.
    history: History,
    /// The latest events, held in memory.
    held: VecDeque<Stored>,
    /// Bytes of the events in memory.
    bytes: usize,
    /// Thoughts among all events.
    thoughts: u64,
}

/// One event in memory.
#[derive(Debug)]
pub(in crate::runtime) struct Stored {
    pub(in crate::runtime) pos: LogPos,
    pub(in crate::runtime) at: UtcMs,
    pub(in crate::runtime) event: Arc<JobEvent>,
    /// Thoughts of the job before this event.
    thoughts: u64,
}

impl Events {
    pub(super) fn new(limits: &Limits) -> Events {
        Events { history: History::new(limits), held: VecDeque::new(), bytes: 0, thoughts: 0 }
    }

    pub(in crate::runtime) fn history(&self) -> &History {
        &self.history
    }

    /// How many events there were.
    pub(in crate::runtime) fn count(&self) -> u64 {
        self.history.count()
    }

    /// The first event that is held in memory.
    pub(in crate::runtime) fn first_held(&self) -> u64 {
        self.count() + 1 - self.held.len() as u64
    }

    /// Event `n`, if it is held in memory.
    pub(in crate::runtime) fn get(&self, n: u64) -> Option<&Stored> {
        self.held.get(usize::try_from(n.checked_sub(self.first_held())?).ok()?)
    }

    /// Bytes of the events in memory, and of all events that are kept.
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

    /// Adds the next event, whose record is at `pos`, to be kept until `keep_until` at least. Returns whether it
    /// began another group of events that can be let go together.
    pub(super) fn add(&mut self, pos: LogPos, record: EventRecord, keep_until: Timestamp) -> bool {
        let (class, size) = (record.event.class(), record.event.weight());
        let grown = self.history.push(record.n, class, size, record.at, keep_until);
        self.hold(pos, record);
        grown
    }

    /// Restores an event. If the history counts it already, it is only held in memory. Returns false if it is not
    /// even held.
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

    /// Restores the history of a job, of which only the last event follows.
    pub(super) fn restore_history(&mut self, gone: u64, classes: &[(EventClass, u32)], bytes: usize) {
        self.history.restore(gone, classes, bytes);
    }

    /// Bytes of the events in memory, counted anew.
    pub(super) fn recount(&self) -> usize {
        self.held.iter().map(Stored::weight).sum()
    }

    fn hold(&mut self, pos: LogPos, record: EventRecord) {
        self.thoughts = record.thoughts + u64::from(record.event.class() == EventClass::Thought);
        self.bytes += record.event.weight();
        if self.held.capacity() == 0 {
            // Many jobs have a start and an end only.
            self.held.reserve_exact(2);
        }
        self.held.push_back(Stored::kept(pos, record));
    }

    /// Drops all events from memory.
    pub(super) fn drop_all(&mut self) {
        self.held.clear();
        self.bytes = 0;
    }

    /// Drops the oldest event from memory, but never the last one, nor one after `durable`, which only the core has.
    /// Returns whether it went.
    pub(super) fn drop_oldest(&mut self, durable: LogPos) -> bool {
        let may_go = self.held.len() > 1 && self.held.front().is_some_and(|oldest| oldest.pos <= durable);
        if may_go && let Some(oldest) = self.held.pop_front() {
            self.bytes -= oldest.weight();
        }
        may_go
    }

    /// Drops events before `needed` from memory, but never the last one, nor one after `durable`.
    pub(super) fn drop_before(&mut self, needed: u64, durable: LogPos) {
        while self.first_held() < needed && self.drop_oldest(durable) {}
    }

    /// Drops the oldest events before `unsent` from memory until the rest fits.
    pub(super) fn fit(&mut self, limits: &Limits, durable: LogPos, unsent: u64) {
        while self.is_too_large(limits) && self.first_held() < unsent && self.drop_oldest(durable) {}
    }

    /// Lets events up to `upto` go for good.
    pub(super) fn forget(&mut self, upto: u64) {
        self.history.forget(upto);
        self.drop_before(upto + 1, LogPos(u64::MAX));
    }

    /// Lets the oldest group of events go for good, but never the last group. Returns the last event that went.
    pub(super) fn trim(&mut self) -> Option<u64> {
        self.history.trim()
    }

    /// Whether events can be dropped from memory.
    pub(super) fn can_be_dropped(&self) -> bool {
        self.held.len() > 1
    }

    /// Whether more events are held in memory than the limits of a job allow.
    pub(super) fn is_too_large(&self, limits: &Limits) -> bool {
        self.held.len() > limits.history.job_events || self.bytes > limits.history.job_event_bytes
    }

    /// Whether more events are kept in the store than the limits of a job allow.
    pub(super) fn is_kept_too_large(&self, limits: &Limits) -> bool {
        self.history.kept() > limits.history.kept_job_events || self.history.bytes() > limits.history.kept_job_bytes
    }
}

impl Stored {
    /// An event from a record that is durable.
    pub(in crate::runtime) fn kept(pos: LogPos, record: EventRecord) -> Stored {
        let EventRecord { at, thoughts, event, .. } = record;
        Stored { pos, at, event, thoughts }
    }

    /// Approximate bytes that it holds.
    pub(in crate::runtime) fn weight(&self) -> usize {
        self.event.weight()
    }

    /// Event `n` without what only the submitter may see; `None` if it holds nothing of that kind.
    pub(in crate::runtime) fn redacted(&self, n: u64) -> Option<Stored> {
        let event = Arc::new(crate::model::stream::redacted(&self.event)?);
        Some(Stored::kept(self.pos, EventRecord { n, at: self.at, thoughts: self.thoughts, event }))
    }

    /// Writes the payload for a view. It reuses the buffer, and what the payload written before has in common with
    /// this one.
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
