//! The index of a session: the event and role of each of its sequence numbers, run-length coded.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::locals::Locals;
use crate::id::{JobId, LogId};
use crate::runtime::effect::Withdrawn;
use crate::runtime::io::{LocalFrame, Numbered, NumberedRun};
use crate::runtime::job::{Jobs, Stored};
use crate::wire::FrameRole;

/// How many runs are searched at most to find out which events of a job are needed.
const RUNS_LOOKED_AT: usize = 1024;
/// How many runs at the end are searched first: sessions that keep up find their next number there.
const LATE: usize = 8;

/// The index of a session. A run that leaves events out is counted from its end: the event of a
/// number follows from the classes of the log's events between them, and is known as long as that
/// event is kept.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Index {
    runs: VecDeque<Run>,
    /// Frames without an event.
    locals: Locals,
    head: u64,
    /// Numbers up to this one are released.
    floor: u64,
}

/// Consecutive numbers.
#[derive(Clone, Copy, Debug)]
enum Run {
    Events(NumberedRun),
    /// One number, for the local frame `n`.
    Local {
        seq: u64,
        n: u64,
    },
}

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum IndexEntry {
    /// A frame of an event.
    Event(EventEntry),
    /// The session's local frame `n`.
    Local { n: u64 },
}

/// A frame of an event of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct EventEntry {
    pub(in crate::runtime) log: LogId,
    /// The event's number in the log; 0 for a job's acceptance, in families that number it.
    pub(in crate::runtime) n: u64,
    /// Which frame of the event.
    pub(in crate::runtime) role: FrameRole,
    /// Which of the session's requests for the job the frame answers; 0 for none.
    pub(in crate::runtime) request: u32,
    /// Which of the session's subscriptions the frame is for; 0 for none.
    pub(in crate::runtime) subscription: u32,
}

/// One entry for each run that an index released: the log of the run, if it is of events.
pub(super) type Released = Vec<Option<LogId>>;

impl IndexEntry {
    /// Bytes in memory of its event.
    pub(super) fn weight(&self, jobs: &Jobs) -> usize {
        match self {
            IndexEntry::Event(entry) if entry.role == FrameRole::Whole => {
                let job = entry.log.job().and_then(|job| jobs.get(job));
                job.and_then(|job| job.event(entry.n)).map_or(0, Stored::weight)
            }
            IndexEntry::Event(_) | IndexEntry::Local { .. } => 0,
        }
    }
}

impl Run {
    fn seq(&self) -> u64 {
        match self {
            Run::Events(run) => run.seq,
            Run::Local { seq, .. } => *seq,
        }
    }

    fn last_seq(&self) -> u64 {
        match self {
            Run::Events(run) => run.last_seq(),
            Run::Local { seq, .. } => *seq,
        }
    }

    fn events(&self) -> Option<&NumberedRun> {
        match self {
            Run::Events(run) => Some(run),
            Run::Local { .. } => None,
        }
    }

    fn log(&self) -> Option<LogId> {
        self.events().map(|run| run.log)
    }
}

impl NumberedRun {
    /// Whether it is of this job and subscription; 0 for a watch.
    fn is_of(&self, job: JobId, subscription: u32) -> bool {
        (self.log, self.subscription) == (LogId::Job(job), subscription)
    }

    /// The event of one of its numbers, if that is known.
    fn event_at(&self, seq: u64, jobs: &Jobs) -> Option<u64> {
        match (self.shown, self.last_seq() - seq) {
            (None, _) => Some(self.event + (seq - self.seq)),
            (Some(shown), 0) => Some(shown.last),
            (Some(shown), more) => jobs.get(self.log.job()?)?.history().before(shown.last, shown.classes, more - 1),
        }
    }

    fn entry(&self, n: u64) -> EventEntry {
        let NumberedRun { log, role, request, subscription, .. } = *self;
        EventEntry { log, n, role, request, subscription }
    }

    /// Whether the event of one of its numbers is kept.
    fn keeps(&self, seq: u64, jobs: &Jobs) -> bool {
        let job = self.log.job().and_then(|job| jobs.get(job));
        job.is_some_and(|job| self.event_at(seq, jobs).is_some_and(|event| job.keeps(event)))
    }
}

impl Index {
    /// The last number given.
    pub(in crate::runtime) fn head(&self) -> u64 {
        self.head
    }

    /// Numbers up to this one are released.
    pub(in crate::runtime) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether the first run is local, or of a log for which `done` holds.
    pub(super) fn begins_with(&self, done: impl Fn(LogId) -> bool) -> bool {
        self.runs.front().is_some_and(|run| run.log().is_none_or(done))
    }

    /// The last run, if it is of events.
    pub(super) fn last(&self) -> Option<&NumberedRun> {
        self.runs.back().and_then(Run::events)
    }

    /// A local frame, unless it was released.
    pub(in crate::runtime) fn local(&self, n: u64) -> Option<&LocalFrame> {
        self.locals.get(n)
    }

    /// Gives the next numbers to a run, which has them already; true if it does not join the last
    /// run.
    pub(super) fn push(&mut self, run: NumberedRun) -> bool {
        debug_assert_eq!(run.seq, self.head + 1, "numbers have no gaps");
        self.head = run.last_seq();
        let apart = match self.runs.back_mut() {
            Some(Run::Events(last)) => last.join(run),
            Some(Run::Local { .. }) | None => Some(run),
        };
        self.runs.extend(apart.map(Run::Events));
        apart.is_some()
    }

    /// Gives the next number to a local frame.
    pub(super) fn push_local(&mut self, frame: LocalFrame) {
        let n = self.locals.push(frame);
        self.head += 1;
        self.runs.push_back(Run::Local { seq: self.head, n });
    }

    /// Restores numbers of an earlier run of the runtime; true if they are a new run of events.
    /// Numbers before a gap were released.
    pub(super) fn restore(&mut self, numbered: Numbered) -> bool {
        let seq = numbered.seq();
        if seq != self.head + 1 {
            self.runs.clear();
            self.locals = Locals::default();
            self.head = seq.saturating_sub(1);
            self.floor = self.head;
        }
        match numbered {
            Numbered::Events(run) => self.push(run),
            Numbered::Local { frame, .. } => {
                self.push_local(frame);
                false
            }
            Numbered::TakenBack { .. } => false,
        }
    }

    /// Restores that numbers up to `upto` were released.
    pub(super) fn restore_floor(&mut self, upto: u64) -> Released {
        let gone = self.release(upto);
        self.floor = self.floor.max(upto);
        self.head = self.head.max(upto);
        gone
    }

    /// Takes back the numbers of its last run from `seq` on; all other numbers are below them.
    /// `None` if there is no run.
    pub(super) fn take_back(&mut self, jobs: &Jobs, seq: u64) -> Option<Released> {
        match self.runs.back_mut()? {
            Run::Events(run) if run.seq < seq => {
                let last = run.event_at(seq - 1, jobs);
                run.end_at(seq - 1, last);
                self.head = seq - 1;
                return Some(Vec::new());
            }
            Run::Events(_) => {}
            Run::Local { .. } => self.locals.pop_back(),
        }
        let run = self.runs.pop_back()?;
        self.head = run.seq() - 1;
        Some(alloc::vec![run.log()])
    }

    /// Takes back the numbers after `seq` that are in runs for which `of` holds; the others after
    /// `seq` move up.
    pub(super) fn withdraw(
        &mut self,
        jobs: &Jobs,
        seq: u64,
        of: impl Fn(&NumberedRun) -> bool,
    ) -> (Released, Withdrawn) {
        let mut gone = Vec::new();
        let mut numbers = Vec::new();
        let from = self.runs.partition_point(|run| run.last_seq() <= seq);
        let tail: Vec<Run> = self.runs.drain(from..).collect();
        self.head = tail.first().map_or(self.head, |first| first.seq() - 1);
        for run in tail {
            let mut run = match run {
                Run::Events(run) => run,
                Run::Local { n, .. } => {
                    self.head += 1;
                    self.runs.push_back(Run::Local { seq: self.head, n });
                    continue;
                }
            };
            if of(&run) {
                numbers.push((run.seq.max(seq + 1), run.last_seq()));
                if run.seq > seq {
                    gone.push(Some(run.log));
                    continue;
                }
                let last = run.event_at(seq, jobs);
                run.end_at(seq, last);
            }
            run.seq = self.head + 1;
            if !self.push(run) {
                gone.push(Some(run.log));
            }
        }
        (gone, Withdrawn { numbers })
    }

    /// The numbers from `seq` on.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = Numbered> {
        let from = self.runs.partition_point(|run| run.last_seq() < seq);
        self.runs.range(from..).filter_map(move |run| match run {
            Run::Events(run) => {
                let mut run = *run;
                run.begin_at(run.seq.max(seq));
                Some(Numbered::Events(run))
            }
            Run::Local { seq, n } => Some(Numbered::Local { seq: *seq, frame: self.locals.get(*n)?.clone() }),
        })
    }

    /// Runs of events with numbers after `seq`.
    fn events_after(&self, seq: u64) -> impl Iterator<Item = &NumberedRun> {
        let from = self.runs.partition_point(|run| run.last_seq() <= seq);
        self.runs.range(from..).filter_map(Run::events)
    }

    /// The first event of `job` that has a number after `seq`, for a watch or one subscription; 0
    /// if it is unknown which one it is.
    pub(super) fn first_event_after(&self, job: JobId, subscription: u32, seq: u64, jobs: &Jobs) -> Option<u64> {
        let run = self.events_after(seq).find(|run| run.is_of(job, subscription))?;
        Some(run.event_at(run.seq.max(seq + 1), jobs).unwrap_or(0))
    }

    /// The entry of a number; `None` if the number was not given, or its event is deleted.
    pub(in crate::runtime) fn at(&self, seq: u64, jobs: &Jobs) -> Option<IndexEntry> {
        match self.runs.get(self.begun_by(seq).checked_sub(1)?).filter(|run| seq <= run.last_seq())? {
            Run::Events(run) => Some(IndexEntry::Event(run.entry(run.event_at(seq, jobs)?))),
            Run::Local { n, .. } => Some(IndexEntry::Local { n: *n }),
        }
    }

    /// How many runs begin at or before `seq`. Usually only the end has to be searched: a search
    /// through all runs touches memory that was not used for a long time.
    fn begun_by(&self, seq: u64) -> usize {
        let is_later = |run: &&Run| run.seq() > seq;
        if !self.runs.back().as_ref().is_some_and(is_later) {
            return self.runs.len();
        }
        let later = self.runs.iter().rev().take(LATE).take_while(is_later).count();
        if later < LATE { self.runs.len() - later } else { self.runs.partition_point(|run| run.seq() <= seq) }
    }

    /// The first number after `seq` whose event is deleted.
    pub(in crate::runtime) fn first_lost(&self, seq: u64, jobs: &Jobs) -> Option<u64> {
        if seq < self.floor {
            return Some(seq + 1);
        }
        let mut owed = self.events_after(seq).map(|run| (run, run.seq.max(seq + 1)));
        owed.find(|(run, first)| !run.keeps(*first, jobs)).map(|(_, first)| first)
    }

    /// The last event of `job` that has a number up to `seq`; 0 if there is none.
    pub(in crate::runtime) fn event_at_or_before(&self, job: JobId, seq: u64, jobs: &Jobs) -> u64 {
        let mut earlier = self.runs.iter().rev().filter_map(Run::events);
        let covered = earlier.find(|run| run.is_of(job, 0) && run.seq <= seq);
        covered.and_then(|run| run.event_at(seq.min(run.last_seq()), jobs)).unwrap_or(0)
    }

    /// Whether event `last` of `job`, which is its last, has a number after `seq`.
    pub(in crate::runtime) fn holds_last_after(&self, job: JobId, last: u64, seq: u64) -> bool {
        let owed = self.runs.iter().rev().take_while(|run| run.last_seq() > seq).filter_map(Run::events);
        owed.filter(|run| run.is_of(job, 0)).any(|run| run.last_event() == last)
    }

    /// The number after `seq` of event `n` of `job`, in a watch of the job.
    pub(super) fn number_after(&self, seq: u64, job: JobId, n: u64, jobs: &Jobs) -> Option<u64> {
        let mut later = self.events_after(seq).filter(|run| run.is_of(job, 0));
        let run =
            later.find(|run| run.event_at(run.seq, jobs).is_none_or(|first| first <= n) && n <= run.last_event())?;
        let (mut low, mut high) = (run.seq, run.last_seq());
        while low < high {
            let middle = low + (high - low) / 2;
            // The event of a number is known as long as it is kept, so an unknown one is an earlier
            // one.
            match run.event_at(middle, jobs).is_none_or(|event| event < n) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Some(low).filter(|found| *found > seq)
    }

    /// The first event of `job` that has a number; 0 if there are too many runs to search.
    pub(super) fn first_event(&self, job: JobId, jobs: &Jobs) -> Option<u64> {
        if self.runs.len() > RUNS_LOOKED_AT {
            return Some(0);
        }
        let of_job = self.runs.iter().filter_map(Run::events).filter(|run| run.log == LogId::Job(job));
        of_job.map(|run| run.event_at(run.seq, jobs).unwrap_or(0)).min()
    }

    /// Whether events of `job` have numbers after `seq` in a watch of the job.
    pub(super) fn has_events_after(&self, job: JobId, seq: u64) -> bool {
        self.events_after(seq).any(|run| run.is_of(job, 0))
    }

    /// The numbers up to `upto` of the frames that opened these jobs' streams.
    pub(super) fn openings(&self, upto: u64, is_open: impl Fn(JobId) -> bool) -> Vec<u64> {
        let opens = |run: &&NumberedRun| {
            run.role == FrameRole::StreamOpen && run.subscription == 0 && run.log.job().is_some_and(&is_open)
        };
        let earlier = self.runs.iter().take_while(|run| run.seq() <= upto).filter_map(Run::events);
        earlier.filter(opens).map(|run| run.seq).collect()
    }

    /// Bytes it holds, approximately.
    pub(super) fn weight(&self) -> usize {
        self.runs.len() * size_of::<Run>() + self.locals.weight()
    }

    /// The same, counted again.
    pub(super) fn recount(&self) -> usize {
        self.runs.len() * size_of::<Run>() + self.locals.recount()
    }

    /// The number of runs.
    pub(in crate::runtime) fn runs(&self) -> usize {
        self.runs.len()
    }

    fn pop_front(&mut self) -> Option<Run> {
        let run = self.runs.pop_front()?;
        if run.events().is_none() {
            self.locals.pop_front();
        }
        Some(run)
    }

    /// Releases the oldest run.
    pub(super) fn release_oldest(&mut self) -> Option<Option<LogId>> {
        let run = self.pop_front()?;
        self.floor = run.last_seq();
        Some(run.log())
    }

    /// Releases numbers up to `upto`.
    pub(super) fn release(&mut self, upto: u64) -> Released {
        let mut gone = Vec::new();
        while let Some(run) = self.runs.front_mut().filter(|run| run.seq() <= upto) {
            if let Run::Events(run) = run
                && run.last_seq() > upto
            {
                run.begin_at(upto + 1);
                break;
            }
            gone.extend(self.pop_front().map(|run| run.log()));
        }
        self.floor = self.floor.max(upto.min(self.head));
        gone
    }

    /// Releases the oldest runs as long as they are local, or of logs for which `done` holds, and
    /// end at or before `upto`.
    pub(super) fn release_done(&mut self, upto: u64, done: impl Fn(LogId) -> bool) -> Released {
        let mut gone = Vec::new();
        while self.runs.front().is_some_and(|run| run.last_seq() <= upto && run.log().is_none_or(&done)) {
            gone.extend(self.release_oldest());
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::runtime::io::LocalWord;
    use crate::time::UtcMs;

    fn job(n: u64) -> JobId {
        JobId::from_ulid(Ulid::from_parts(n, 0))
    }

    fn frames(seq: u64, n: u64, event: u64, role: FrameRole) -> NumberedRun {
        NumberedRun { seq, count: 1, log: job(n).into(), event, shown: None, role, request: 0, subscription: 0 }
    }

    fn entry(n: u64, event: u64, role: FrameRole) -> IndexEntry {
        IndexEntry::Event(frames(1, n, event, role).entry(event))
    }

    /// Pushes a frame; true if it does not join the last run.
    fn push(index: &mut Index, n: u64, event: u64, role: FrameRole) -> bool {
        index.push(frames(index.head() + 1, n, event, role))
    }

    fn boundary(subscription: u32) -> LocalFrame {
        LocalFrame { at: UtcMs(1), says: LocalWord::Boundary { subscription } }
    }

    #[test]
    fn runs_map_both_ways() {
        let jobs = Jobs::default();
        let mut index = Index::default();
        assert!(push(&mut index, 1, 1, FrameRole::Whole));
        assert!(!push(&mut index, 1, 2, FrameRole::Whole));
        assert!(push(&mut index, 2, 1, FrameRole::Whole));
        assert!(push(&mut index, 1, 3, FrameRole::Whole));
        let events: Vec<_> = (0..6).map(|seq| index.at(seq, &jobs)).collect();
        let expected = [(1, 1), (1, 2), (2, 1), (1, 3)].map(|(n, event)| Some(entry(n, event, FrameRole::Whole)));
        assert_eq!(events[1..5], expected);
        assert_eq!((events[0], events[5]), (None, None));
        assert_eq!(index.event_at_or_before(job(1), 3, &jobs), 2);
        let first_after = |n, subscription, seq| index.first_event_after(job(n), subscription, seq, &jobs);
        assert_eq!([0, 1, 2, 4].map(|seq| first_after(1, 0, seq)), [Some(1), Some(2), Some(3), None]);
        assert_eq!((first_after(2, 0, 2), first_after(2, 0, 3), first_after(1, 1, 0)), (Some(1), None, None));
        assert_eq!(index.event_at_or_before(job(2), 2, &jobs), 0);
        assert!(index.holds_last_after(job(1), 3, 3));
        assert!(!index.holds_last_after(job(1), 2, 2));
        assert_eq!(index.release(1), []);
        assert_eq!(index.at(1, &jobs), None);
        assert_eq!(index.at(2, &jobs), Some(entry(1, 2, FrameRole::Whole)));
        assert_eq!(index.release(3), [1, 2].map(|n| Some(LogId::Job(job(n)))));
        assert_eq!((index.floor(), index.head()), (3, 4));
        assert_eq!(index.release_done(4, |log| log == job(1).into()), [Some(LogId::Job(job(1)))]);
        assert_eq!(index.floor(), 4);
    }

    #[test]
    fn a_number_is_found_however_far_back_it_stands() {
        let (jobs, mut index) = (Jobs::default(), Index::default());
        let last = 3 * LATE as u64;
        (1..=last).for_each(|seq| assert!(push(&mut index, seq % 2, seq, FrameRole::Whole)));
        let found = (0..=last + 1).filter_map(|seq| index.at(seq, &jobs)).collect::<Vec<_>>();
        assert_eq!(found, (1..=last).map(|seq| entry(seq % 2, seq, FrameRole::Whole)).collect::<Vec<_>>());
    }

    #[test]
    fn frames_of_different_requests_are_kept_apart() {
        let mut index = Index::default();
        let runs = [0, 1, 1].map(|request| NumberedRun {
            request,
            ..frames(1 + u64::from(request), 1, 1 + u64::from(request), FrameRole::Whole)
        });
        assert_eq!([index.push(runs[0]), index.push(runs[1])], [true, true]);
        assert_eq!(index.at(2, &Jobs::default()), Some(IndexEntry::Event(runs[1].entry(2))));
    }

    #[test]
    fn an_event_of_several_frames_has_a_number_for_each() {
        let mut index = Index::default();
        use FrameRole::{StreamOpen, Whole};
        let all = [(0, Whole), (1, Whole), (2, StreamOpen), (2, Whole), (3, Whole)];
        let runs = all.map(|(event, role)| push(&mut index, 1, event, role));
        assert_eq!(runs, [true, false, true, true, false]);
        let expected = all.map(|(event, role)| entry(1, event, role));
        assert_eq!((1..=5).filter_map(|seq| index.at(seq, &Jobs::default())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn local_frames_are_counted_on_their_own_and_kept_with_their_numbers() {
        let (jobs, mut index) = (Jobs::default(), Index::default());
        index.push_local(boundary(1));
        push(&mut index, 1, 1, FrameRole::Whole);
        index.push_local(boundary(2));
        push(&mut index, 1, 2, FrameRole::Whole);
        index.push_local(boundary(3));
        let told = |index: &Index, seq| match index.at(seq, &jobs)? {
            IndexEntry::Local { n } => index.local(n).cloned(),
            IndexEntry::Event(_) => None,
        };
        assert_eq!([1, 3, 5].map(|seq| told(&index, seq)), [1, 2, 3].map(|n| Some(boundary(n))));
        assert_eq!(index.first_lost(2, &jobs), Some(4), "a local frame is there as long as its number is");
        // Numbers of the job are taken back: a local frame moves up.
        index.release(1);
        let (gone, withdrawn) = index.withdraw(&jobs, 2, |run| run.log == job(1).into());
        assert_eq!((gone.len(), withdrawn.numbers, index.head()), (1, alloc::vec![(4, 4)], 4));
        assert_eq!([3, 4].map(|seq| told(&index, seq)), [2, 3].map(|n| Some(boundary(n))));
        let again: Vec<Numbered> = index.from(3).collect();
        assert_eq!(again, [(3, 2), (4, 3)].map(|(seq, n)| Numbered::Local { seq, frame: boundary(n) }));
        assert_eq!(index.take_back(&jobs, 4), Some(alloc::vec![None]));
        index.push_local(boundary(4));
        assert_eq!((told(&index, 3), told(&index, 4)), (Some(boundary(2)), Some(boundary(4))));
        assert_eq!(index.release_done(4, |_| true).len(), 3, "they go as soon as their client has them");
    }

    #[test]
    fn numbers_that_are_taken_back_make_room_for_those_after_them() {
        let (jobs, mut index) = (Jobs::default(), Index::default());
        for (n, event) in [(1, 1), (2, 1), (2, 2), (1, 2), (1, 3)] {
            push(&mut index, n, event, FrameRole::Whole);
        }
        let behind = |index: &Index| (1..=index.head()).filter_map(|seq| index.at(seq, &jobs)).collect::<Vec<_>>();
        let events = |events: &[(u64, u64)]| -> Vec<_> {
            events.iter().map(|(n, event)| entry(*n, *event, FrameRole::Whole)).collect()
        };
        let log = |n| Some(LogId::Job(job(n)));
        let (gone, withdrawn) = index.withdraw(&jobs, 2, |run| run.log == job(2).into());
        assert_eq!((gone, withdrawn.numbers), (Vec::new(), alloc::vec![(3, 3)]));
        assert_eq!(behind(&index), events(&[(1, 1), (2, 1), (1, 2), (1, 3)]));
        let (gone, withdrawn) = index.withdraw(&jobs, 1, |run| run.log == job(2).into());
        assert_eq!((gone, withdrawn.numbers), (alloc::vec![log(2), log(1)], alloc::vec![(2, 2)]), "two runs are one");
        assert_eq!(behind(&index), events(&[(1, 1), (1, 2), (1, 3)]));
        assert_eq!((index.release(2), index.first_lost(1, &jobs)), (Vec::new(), Some(2)));
    }

    #[test]
    fn the_first_event_of_a_job_is_found_in_so_many_runs() {
        let (jobs, mut index) = (Jobs::default(), Index::default());
        push(&mut index, 1, 7, FrameRole::Whole);
        push(&mut index, 2, 9, FrameRole::Whole);
        push(&mut index, 1, 5, FrameRole::Whole);
        assert_eq!([1, 2, 3].map(|n| index.first_event(job(n), &jobs)), [Some(5), Some(9), None]);
        for event in 4..=RUNS_LOOKED_AT as u64 {
            push(&mut index, 3 + event % 2, event, FrameRole::Whole);
        }
        assert_eq!((index.runs(), index.first_event(job(1), &jobs)), (RUNS_LOOKED_AT, Some(5)));
        push(&mut index, 2, 10, FrameRole::Whole);
        assert_eq!(index.first_event(job(1), &jobs), Some(0), "too many to look at");
    }
}
