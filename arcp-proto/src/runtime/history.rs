//! The history of a job without its bodies: how many events there were, when
//! and of which class each was, and which are still kept somewhere.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::limits::Limits;
use crate::model::event::EventClass;
use crate::time::UtcMs;

/// Groups into which the events are cut that a store may keep of a job.
const GROUPS: usize = 1024;
/// Groups of one job that are let go at once, when their time has come.
const GROUPS_AT_ONCE: usize = 64;
/// Bytes after which a group is full.
const GROUP_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct History {
    /// Events of one group, which are let go together.
    group_events: u64,
    /// Events at the beginning that nobody has any more.
    gone: u64,
    /// The class of every other.
    classes: VecDeque<EventClass>,
    /// When the last so many of those were: milliseconds after `begun`.
    times: VecDeque<u32>,
    begun: UtcMs,
    /// The first piece of a result: what a job is for does not go by time.
    result_from: Option<u64>,
    groups: VecDeque<Group>,
    bytes: usize,
}

/// Events in a row up to `last`.
#[derive(Debug)]
struct Group {
    last: u64,
    events: u64,
    bytes: usize,
    /// When the last of them was.
    at: UtcMs,
}

impl History {
    /// A history without events.
    pub(super) fn new(limits: &Limits) -> History {
        let group_events = (limits.kept_job_events / GROUPS).clamp(16, GROUPS) as u64;
        History {
            group_events,
            gone: 0,
            classes: VecDeque::new(),
            times: VecDeque::new(),
            begun: UtcMs(0),
            result_from: None,
            groups: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes a history of an earlier run over, without its times.
    pub(super) fn restore(&mut self, gone: u64, classes: &[(EventClass, u32)], bytes: usize) {
        let classes: VecDeque<EventClass> =
            classes.iter().flat_map(|(class, count)| (0..*count).map(|_| *class)).collect();
        let events = classes.len() as u64;
        let group = Group { last: gone + events, events, bytes, at: UtcMs(0) };
        (self.gone, self.classes, self.bytes) = (gone, classes, bytes);
        self.groups = VecDeque::from([group]);
    }

    /// How many events there were.
    pub(super) fn count(&self) -> u64 {
        self.gone + self.classes.len() as u64
    }

    /// The first event that is still kept.
    pub(super) fn first(&self) -> u64 {
        self.gone + 1
    }

    /// How many events are kept.
    pub(super) fn kept(&self) -> usize {
        self.classes.len()
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The class of event `n`, if that is kept.
    pub(super) fn class(&self, n: u64) -> Option<EventClass> {
        self.classes.get(usize::try_from(n.checked_sub(self.first())?).ok()?).copied()
    }

    /// The first event of which this holds, if it holds of all that follow and
    /// that can be told.
    pub(super) fn first_where(&self, later: impl Fn(UtcMs) -> bool) -> Option<u64> {
        // After seven weeks they are no longer told apart.
        if self.times.back() == Some(&u32::MAX) {
            return None;
        }
        let first_known = self.count() + 1 - self.times.len() as u64;
        let earlier = self.times.partition_point(|after| !later(UtcMs(self.begun.0.saturating_add(u64::from(*after)))));
        (earlier > 0 || first_known == 1).then(|| first_known + earlier as u64)
    }

    /// One more event; the first to be known may be any. True if with it there
    /// is one more group.
    pub(super) fn push(&mut self, n: u64, class: EventClass, bytes: usize, at: UtcMs) -> bool {
        if self.classes.is_empty() {
            self.gone = self.gone.max(n.saturating_sub(1));
            self.begun = at;
        }
        if class == EventClass::Chunk {
            self.result_from.get_or_insert(n);
        }
        self.classes.push_back(class);
        self.times.push_back(u32::try_from(at.0.saturating_sub(self.begun.0)).unwrap_or(u32::MAX));
        self.bytes += bytes;
        match self.groups.back_mut().filter(|group| group.events < self.group_events && group.bytes < GROUP_BYTES) {
            Some(group) => {
                group.last = n;
                group.events += 1;
                group.bytes += bytes;
                group.at = at;
                false
            }
            None => {
                self.groups.push_back(Group { last: n, events: 1, bytes, at });
                self.groups.len() > 1
            }
        }
    }

    /// Whether there is a group that may go.
    pub(super) fn can_be_trimmed(&self) -> bool {
        self.groups.len() > 1
    }

    /// The last event of the groups that are not after `past` and have none from
    /// `needed` on, of the next few; the last group stays in any case, and so
    /// does a result.
    pub(super) fn purgeable(&self, past: UtcMs, needed: u64) -> Option<u64> {
        let needed = needed.min(self.result_from.unwrap_or(u64::MAX));
        let may_go = self.groups.iter().take(self.groups.len().saturating_sub(1)).take(GROUPS_AT_ONCE);
        may_go.take_while(|group| group.at <= past && group.last < needed).last().map(|group| group.last)
    }

    /// Lets the oldest group go, but never the last one; gives the last event
    /// that went.
    pub(super) fn trim(&mut self) -> Option<u64> {
        let oldest = self.groups.front().filter(|_| self.groups.len() > 1)?.last;
        self.forget(oldest);
        Some(oldest)
    }

    /// Events up to `upto` are nowhere any more.
    pub(super) fn forget(&mut self, upto: u64) {
        while self.gone < upto && self.classes.pop_front().is_some() {
            self.gone += 1;
        }
        let known = self.times.len().min(self.classes.len());
        self.times.drain(..self.times.len() - known);
        while let Some(group) = self.groups.front().filter(|group| group.last <= upto) {
            self.bytes = self.bytes.saturating_sub(group.bytes);
            self.groups.pop_front();
        }
    }

    /// How many events of each class follow each other.
    pub(super) fn runs(&self) -> Vec<(EventClass, u32)> {
        let mut runs: Vec<(EventClass, u32)> = Vec::new();
        for class in &self.classes {
            match runs.last_mut() {
                Some((last, count)) if last == class && *count < u32::MAX => *count += 1,
                Some(_) | None => runs.push((*class, 1)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_a_moment_is_known_as_long_as_the_moment_is() {
        let mut history = History::new(&Limits { kept_job_events: 16, ..Limits::default() });
        for n in 1..=40 {
            history.push(n, EventClass::Log, 10, UtcMs(1000 + n / 2));
        }
        let after = |history: &History, at| history.first_where(|when| when > UtcMs(at));
        assert_eq!([0, 1000, 1010, 1020].map(|at| after(&history, at)), [Some(1), Some(2), Some(22), Some(41)]);
        history.forget(16);
        assert_eq!([1007, 1008, 1010].map(|at| after(&history, at)), [None, Some(18), Some(22)]);
        history.push(41, EventClass::Log, 10, UtcMs(u64::MAX));
        assert_eq!(after(&history, 1010), None, "too long for us");
        let mut again = History::new(&Limits::default());
        again.restore(16, &history.runs(), history.bytes());
        assert_eq!(after(&again, 1010), None);
    }

    #[test]
    fn what_is_let_go_is_let_go_in_groups() {
        let mut history = History::new(&Limits::default());
        for n in 1..=2 * 1024 + 1 {
            let class = if n % 3 == 0 { EventClass::Thought } else { EventClass::Log };
            history.push(n, class, 10, UtcMs(n));
        }
        assert_eq!(history.trim(), Some(1024));
        assert_eq!((history.first(), history.count()), (1025, 2049));
        assert_eq!((history.class(1024), history.class(1026)), (None, Some(EventClass::Thought)));
        let mut again = History::new(&Limits::default());
        again.restore(1024, &history.runs(), history.bytes());
        assert_eq!((again.first(), again.count(), again.bytes()), (1025, 2049, 10_250));
        assert_eq!(again.class(1026), Some(EventClass::Thought));
        assert_eq!((history.trim(), history.trim()), (Some(2048), None), "the last group stays");
        let mut long = History::new(&Limits { kept_job_events: 16, ..Limits::default() });
        for n in 1..=100 * 16 {
            long.push(n, EventClass::Log, 10, UtcMs(n));
        }
        assert_eq!(long.purgeable(UtcMs(u64::MAX), u64::MAX), Some(64 * 16), "a step at a time");
        assert_eq!(long.purgeable(UtcMs(40), u64::MAX), Some(32));
        assert_eq!(long.purgeable(UtcMs(u64::MAX), 48), Some(32));
        let mut result = History::new(&Limits { kept_job_events: 16, ..Limits::default() });
        for n in 1..=100 {
            let class = if n < 40 { EventClass::Log } else { EventClass::Chunk };
            result.push(n, class, 10, UtcMs(n));
        }
        assert_eq!(result.purgeable(UtcMs(u64::MAX), u64::MAX), Some(32), "no piece of a result goes by time");
    }
}
