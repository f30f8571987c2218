//! The history of a job without the bodies of its events: how many there were, the time and class of each, and
//! which are still kept.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::limits::Limits;
use crate::model::event::{EventClass, EventClasses};
use crate::time::{Timestamp, UtcMs};

/// Number of groups into which the kept events of a job are divided.
const GROUPS: usize = 1024;
/// The most groups of one job that are let go in one step.
const GROUPS_AT_ONCE: usize = 64;
/// Bytes at which a group is full.
const GROUP_BYTES: usize = 1 << 20;

/// Events per block. The events of each class are counted at the start of a block, so that a question about
/// classes looks at one block at most.
const BLOCK: usize = 256;

#[derive(Debug)]
pub(in crate::runtime) struct History {
    /// Events per group. The events of a group are let go together.
    group_events: u64,
    /// Events at the beginning that are gone for good.
    gone: u64,
    classes: Classes,
    /// Times of the latest events, in milliseconds after `begun`.
    times: VecDeque<u32>,
    begun: UtcMs,
    /// The first piece of a result: pieces are not let go by time.
    result_from: Option<u64>,
    groups: VecDeque<Group>,
    bytes: usize,
}

/// The class of every event after `before`.
#[derive(Debug)]
struct Classes {
    before: u64,
    of_events: VecDeque<EventClass>,
    /// All classes that have occurred, also in forgotten events.
    seen: EventClasses,
    /// Counts per block, once there is more than one block.
    counted: Option<Box<Counted>>,
}

/// Events of each class.
#[derive(Debug, Default)]
struct Counted {
    /// Counts before each block.
    blocks: VecDeque<Counts>,
    all: Counts,
}

/// How many events there are of each class.
#[derive(Clone, Copy, Debug, Default)]
struct Counts([u64; EventClass::ALL.len()]);

/// Consecutive events up to `last`.
#[derive(Debug)]
struct Group {
    last: u64,
    events: u64,
    bytes: usize,
    /// The end of the resume window after the last event. It is monotonic time, so that one wrong reading of UTC
    /// lets nothing go.
    keep_until: Timestamp,
}

impl History {
    /// A history without events.
    pub(in crate::runtime) fn new(limits: &Limits) -> History {
        let group_events = (limits.history.kept_job_events / GROUPS).clamp(16, GROUPS) as u64;
        History {
            group_events,
            gone: 0,
            classes: Classes::new(0),
            times: VecDeque::new(),
            begun: UtcMs(0),
            result_from: None,
            groups: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Restores a history. The times of its events are not known.
    pub(in crate::runtime) fn restore(&mut self, gone: u64, classes: &[(EventClass, u32)], bytes: usize) {
        self.classes = Classes::new(gone);
        for (class, count) in classes {
            (0..*count).for_each(|_| self.classes.push(*class));
        }
        let group = Group {
            last: self.classes.count(),
            events: self.classes.count() - gone,
            bytes,
            keep_until: Timestamp::default(),
        };
        (self.gone, self.bytes) = (gone, bytes);
        self.groups = VecDeque::from([group]);
    }

    /// How many events there were.
    pub(in crate::runtime) fn count(&self) -> u64 {
        self.classes.count()
    }

    /// The first event that is still kept.
    pub(in crate::runtime) fn first(&self) -> u64 {
        self.gone + 1
    }

    /// How many events are kept.
    pub(in crate::runtime) fn kept(&self) -> usize {
        usize::try_from(self.count() - self.gone).unwrap_or(usize::MAX)
    }

    /// The first piece of a result.
    pub(in crate::runtime) fn result_from(&self) -> Option<u64> {
        self.result_from
    }

    /// Bytes of the history itself.
    pub(in crate::runtime) fn weight(&self) -> usize {
        self.classes.of_events.capacity() * size_of::<EventClass>()
            + self.classes.counted.as_ref().map_or(0, |counted| counted.weight())
            + self.times.capacity() * size_of::<u32>()
            + self.groups.capacity() * size_of::<Group>()
    }

    /// Bytes of the kept events.
    pub(in crate::runtime) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The class of event `n`, if it is kept.
    pub(in crate::runtime) fn class(&self, n: u64) -> Option<EventClass> {
        self.classes.get(n).filter(|_| n > self.gone)
    }

    /// How many of these events, all of them kept, are of the given classes.
    pub(in crate::runtime) fn number_of(&self, classes: EventClasses, events: RangeInclusive<u64>) -> u64 {
        if events.start() == events.end() {
            return u64::from(self.class(*events.end()).is_some_and(|class| classes.has(class)));
        }
        let before = events.start().saturating_sub(1).max(self.gone);
        if self.classes.are_all(classes) {
            return (*events.end()).min(self.count()).saturating_sub(before);
        }
        self.classes.up_to(classes, *events.end()).saturating_sub(self.classes.up_to(classes, before))
    }

    /// The first of these events that is kept and is of the given classes.
    pub(in crate::runtime) fn first_of(&self, classes: EventClasses, events: RangeInclusive<u64>) -> Option<u64> {
        if classes.is_empty() || events.start() == events.end() {
            return self.class(*events.end()).filter(|class| classes.has(*class)).map(|_| *events.end());
        }
        let before = events.start().saturating_sub(1).max(self.gone);
        self.classes.nth(classes, self.classes.up_to(classes, before) + 1).filter(|n| n <= events.end())
    }

    /// The last event of the given classes before event `n`, or, counting back, the one `more` events of these
    /// classes earlier. `None` if it is not kept.
    pub(in crate::runtime) fn before(&self, n: u64, classes: EventClasses, more: u64) -> Option<u64> {
        if more == 0 && self.class(n.saturating_sub(1)).is_some_and(|class| classes.has(class)) {
            return Some(n - 1);
        }
        if self.classes.are_all(classes) {
            let last = n.saturating_sub(1).min(self.count());
            return last.checked_sub(more).filter(|n| *n > self.gone);
        }
        let nth = self.classes.up_to(classes, n.saturating_sub(1)).checked_sub(more)?;
        self.classes.nth(classes, nth).filter(|n| *n > self.gone)
    }

    /// The first event whose time satisfies `later`, which must hold for all times after that. `None` if the known
    /// times do not tell.
    pub(in crate::runtime) fn first_where(&self, later: impl Fn(UtcMs) -> bool) -> Option<u64> {
        // Offsets are capped after seven weeks, and cannot be compared then.
        if self.times.back() == Some(&u32::MAX) {
            return None;
        }
        let first_known = self.count() + 1 - self.times.len() as u64;
        let earlier = self.times.partition_point(|after| !later(UtcMs(self.begun.0.saturating_add(u64::from(*after)))));
        (earlier > 0 || first_known == 1).then(|| first_known + earlier as u64)
    }

    /// Adds an event, which is kept until `keep_until` at least. The first event may have any number. Returns
    /// whether this began one more group.
    pub(in crate::runtime) fn push(
        &mut self,
        n: u64,
        class: EventClass,
        bytes: usize,
        at: UtcMs,
        keep_until: Timestamp,
    ) -> bool {
        if self.kept() == 0 {
            self.begun = at;
        }
        if self.classes.of_events.is_empty() {
            self.gone = self.gone.max(n.saturating_sub(1));
            self.classes.before = self.gone;
        }
        if class == EventClass::Chunk {
            self.result_from.get_or_insert(n);
        }
        self.classes.push(class);
        self.times.push_back(u32::try_from(at.0.saturating_sub(self.begun.0)).unwrap_or(u32::MAX));
        self.bytes += bytes;
        match self.groups.back_mut().filter(|group| group.events < self.group_events && group.bytes < GROUP_BYTES) {
            Some(group) => {
                group.last = n;
                group.events += 1;
                group.bytes += bytes;
                group.keep_until = keep_until;
                false
            }
            None => {
                if self.groups.capacity() == 0 {
                    // Most jobs have one group only.
                    self.groups.reserve_exact(1);
                }
                self.groups.push_back(Group { last: n, events: 1, bytes, keep_until });
                self.groups.len() > 1
            }
        }
    }

    /// Whether a group may be let go.
    pub(in crate::runtime) fn can_be_trimmed(&self) -> bool {
        self.groups.len() > 1
    }

    /// The last event of the groups that can be let go in this step: their resume window has passed, and all their
    /// events are before `needed`. Never the last group, nor any piece of a result.
    pub(in crate::runtime) fn purgeable(&self, now: Timestamp, needed: u64) -> Option<u64> {
        let needed = needed.min(self.result_from.unwrap_or(u64::MAX));
        let may_go = self.groups.iter().take(self.groups.len().saturating_sub(1)).take(GROUPS_AT_ONCE);
        may_go.take_while(|group| group.keep_until <= now && group.last < needed).last().map(|group| group.last)
    }

    /// The last event of the oldest group.
    pub(in crate::runtime) fn first_group_end(&self) -> u64 {
        self.groups.front().map_or(0, |group| group.last)
    }

    /// Lets the oldest group go, unless it is the last one. Returns the last event that went.
    pub(in crate::runtime) fn trim(&mut self) -> Option<u64> {
        let oldest = self.groups.front().filter(|_| self.groups.len() > 1)?.last;
        self.forget(oldest);
        Some(oldest)
    }

    /// Events up to `upto` are gone for good.
    pub(in crate::runtime) fn forget(&mut self, upto: u64) {
        self.gone = self.gone.max(upto.min(self.count()));
        self.classes.forget(self.gone);
        self.times.drain(..self.times.len().saturating_sub(self.kept()));
        while let Some(group) = self.groups.front().filter(|group| group.last <= upto) {
            self.bytes = self.bytes.saturating_sub(group.bytes);
            self.groups.pop_front();
        }
    }

    /// The classes of the kept events, run-length coded.
    pub(in crate::runtime) fn runs(&self) -> Vec<(EventClass, u32)> {
        let mut runs: Vec<(EventClass, u32)> = Vec::new();
        let kept = self.classes.of_events.iter().skip(self.classes.at(self.first()).unwrap_or(usize::MAX));
        for class in kept {
            match runs.last_mut() {
                Some((last, count)) if last == class && *count < u32::MAX => *count += 1,
                Some(_) | None => runs.push((*class, 1)),
            }
        }
        runs
    }
}

impl Classes {
    fn new(before: u64) -> Classes {
        Classes { before, of_events: VecDeque::new(), seen: EventClasses::new(&[]), counted: None }
    }

    fn count(&self) -> u64 {
        self.before + self.of_events.len() as u64
    }

    /// Index of event `n`.
    fn at(&self, n: u64) -> Option<usize> {
        usize::try_from(n.checked_sub(self.before + 1)?).ok()
    }

    fn get(&self, n: u64) -> Option<EventClass> {
        self.of_events.get(self.at(n)?).copied()
    }

    fn push(&mut self, class: EventClass) {
        if self.of_events.len() == BLOCK {
            self.begin_to_count();
        }
        if let Some(counted) = &mut self.counted {
            if self.of_events.len().is_multiple_of(BLOCK) {
                counted.blocks.push_back(counted.all);
            }
            counted.all.0[class as usize] += 1;
        }
        self.of_events.push_back(class);
        self.seen = self.seen.with(class);
    }

    /// Counts the first block, which is full.
    fn begin_to_count(&mut self) {
        if self.counted.is_none() {
            let mut counted = Counted { blocks: VecDeque::from([Counts::default()]), all: Counts::default() };
            self.of_events.iter().for_each(|class| counted.all.0[*class as usize] += 1);
            self.counted = Some(Box::new(counted));
        }
    }

    /// Forgets the classes of events up to `upto`, in whole blocks.
    fn forget(&mut self, upto: u64) {
        while self.before + BLOCK as u64 <= upto && self.of_events.len() >= BLOCK {
            self.begin_to_count();
            self.of_events.drain(..BLOCK);
            if let Some(counted) = &mut self.counted {
                counted.blocks.pop_front();
            }
            self.before += BLOCK as u64;
        }
    }

    /// Whether all events so far were of the given classes, so that nothing has to be searched.
    fn are_all(&self, classes: EventClasses) -> bool {
        self.seen.without(classes).is_empty()
    }

    /// How many events up to `n` are of the given classes, since counting began.
    fn up_to(&self, classes: EventClasses, n: u64) -> u64 {
        let end = usize::try_from(n.saturating_sub(self.before)).unwrap_or(usize::MAX).min(self.of_events.len());
        let (from, before) = self.counted.as_ref().map_or((0, 0), |counted| counted.before_block(end / BLOCK, classes));
        before + self.of_events.range(from..end).filter(|class| classes.has(**class)).count() as u64
    }

    /// The `nth` event of the given classes, from 1, since counting began.
    fn nth(&self, classes: EventClasses, nth: u64) -> Option<u64> {
        let (from, before) = match &self.counted {
            Some(counted) => {
                let block = counted.blocks.partition_point(|counts| counts.of(classes) < nth).checked_sub(1)?;
                counted.before_block(block, classes)
            }
            None => (0, 0),
        };
        let after = usize::try_from(nth.checked_sub(before + 1)?).ok()?;
        let mut shown = self.of_events.range(from..).enumerate().take(BLOCK).filter(|(_, class)| classes.has(**class));
        shown.nth(after).map(|(at, _)| self.before + 1 + (from + at) as u64)
    }
}

impl Counted {
    /// The index at which a block begins, and how many events of the given classes come before it.
    fn before_block(&self, block: usize, classes: EventClasses) -> (usize, u64) {
        (block * BLOCK, self.blocks.get(block).unwrap_or(&self.all).of(classes))
    }

    fn weight(&self) -> usize {
        size_of::<Counted>() + self.blocks.capacity() * size_of::<Counts>()
    }
}

impl Counts {
    fn of(&self, classes: EventClasses) -> u64 {
        classes.iter().map(|class| self.0[class as usize]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HistoryLimits;

    #[test]
    fn what_came_after_a_moment_is_known_as_long_as_the_moment_is() {
        let mut history = History::new(&Limits {
            history: HistoryLimits { kept_job_events: 16, ..HistoryLimits::default() },
            ..Limits::default()
        });
        for n in 1..=40 {
            history.push(n, EventClass::Log, 10, UtcMs(1000 + n / 2), Timestamp(0));
        }
        let after = |history: &History, at| history.first_where(|when| when > UtcMs(at));
        assert_eq!([0, 1000, 1010, 1020].map(|at| after(&history, at)), [Some(1), Some(2), Some(22), Some(41)]);
        history.forget(16);
        assert_eq!([1007, 1008, 1010].map(|at| after(&history, at)), [None, Some(18), Some(22)]);
        history.push(41, EventClass::Log, 10, UtcMs(u64::MAX), Timestamp(0));
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
            history.push(n, class, 10, UtcMs(n), Timestamp(0));
        }
        assert_eq!(history.trim(), Some(1024));
        assert_eq!((history.first(), history.count()), (1025, 2049));
        assert_eq!((history.class(1024), history.class(1026)), (None, Some(EventClass::Thought)));
        let mut again = History::new(&Limits::default());
        again.restore(1024, &history.runs(), history.bytes());
        assert_eq!((again.first(), again.count(), again.bytes()), (1025, 2049, 10_250));
        assert_eq!(again.class(1026), Some(EventClass::Thought));
        assert_eq!((history.trim(), history.trim()), (Some(2048), None), "the last group stays");
        let mut long = History::new(&Limits {
            history: HistoryLimits { kept_job_events: 16, ..HistoryLimits::default() },
            ..Limits::default()
        });
        for n in 1..=100 * 16 {
            long.push(n, EventClass::Log, 10, UtcMs(n), Timestamp(n));
        }
        assert_eq!(long.purgeable(Timestamp(u64::MAX), u64::MAX), Some(64 * 16), "a step at a time");
        assert_eq!(long.purgeable(Timestamp(40), u64::MAX), Some(32));
        assert_eq!(long.purgeable(Timestamp(u64::MAX), 48), Some(32));
        let mut result = History::new(&Limits {
            history: HistoryLimits { kept_job_events: 16, ..HistoryLimits::default() },
            ..Limits::default()
        });
        for n in 1..=100 {
            let class = if n < 40 { EventClass::Log } else { EventClass::Chunk };
            result.push(n, class, 10, UtcMs(n), Timestamp(0));
        }
        assert_eq!(result.purgeable(Timestamp(u64::MAX), u64::MAX), Some(32), "no piece of a result goes by time");
        assert_eq!((result.result_from(), history.result_from()), (Some(40), None));
        assert_eq!(result.runs(), [(EventClass::Log, 39), (EventClass::Chunk, 61)]);
    }

    #[test]
    fn a_group_is_full_with_its_last_event_or_byte() {
        let mut history = History::new(&Limits {
            history: HistoryLimits { kept_job_events: 16, ..HistoryLimits::default() },
            ..Limits::default()
        });
        let mut push = |n, bytes| history.push(n, EventClass::Log, bytes, UtcMs(n), Timestamp(0));
        let grown: Vec<u64> = (1..=49).filter(|n| push(*n, 10)).collect();
        assert_eq!(grown, [17, 33, 49], "the first one is not one more");
        assert_eq!([push(50, GROUP_BYTES - 11), push(51, 1), push(52, 1)], [false, false, true]);
        assert_eq!((history.trim(), history.can_be_trimmed()), (Some(16), true));
        assert_eq!((history.trim(), history.trim(), history.trim()), (Some(32), Some(48), Some(51)));
        assert!(!history.can_be_trimmed(), "the last one stays");
    }

    #[test]
    fn events_of_some_classes_are_found_by_how_many_came_before_them() {
        let class = |n: u64| EventClass::ALL[usize::try_from(n * n / 7 % 11).expect("small")];
        let mut history = History::new(&Limits {
            history: HistoryLimits { kept_job_events: 16, ..HistoryLimits::default() },
            ..Limits::default()
        });
        for n in 1..=2000 {
            history.push(n, class(n), 1, UtcMs(n), Timestamp(0));
        }
        for gone in [0, 1, 300, 512, 1999] {
            history.forget(gone);
            for classes in
                [EventClasses::ALL, EventClasses::new(&[EventClass::Log, EventClass::Status]), EventClasses::ENDS]
            {
                let shown: Vec<u64> = (gone + 1..=2000).filter(|n| classes.has(class(*n))).collect();
                for n in (1..=2001).step_by(13).chain([gone + 1]) {
                    let until = shown.partition_point(|shown| *shown < n);
                    assert_eq!(history.number_of(classes, 1..=n - 1), until as u64, "{gone} {n}");
                    assert_eq!(history.number_of(classes, n..=2000), (shown.len() - until) as u64);
                    assert_eq!(history.first_of(classes, n..=2000), shown.get(until).copied());
                    assert_eq!(history.first_of(classes, n..=n), shown.get(until).copied().filter(|first| *first == n));
                    for more in [0, 1, 290] {
                        let expected = until.checked_sub(more + 1).map(|at| shown[at]);
                        assert_eq!(history.before(n, classes, more as u64), expected, "{gone} {n} {more}");
                    }
                }
            }
            assert_eq!((history.first(), history.count()), (gone + 1, 2000));
            let mut again = History::new(&Limits::default());
            again.restore(gone, &history.runs(), 0);
            assert_eq!((again.kept() as u64, again.class(2000)), (2000 - gone, Some(class(2000))));
        }
    }
}
