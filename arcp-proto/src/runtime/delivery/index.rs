//! The index of a session: which event stands behind each of its sequence
//! numbers, run-length coded.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use ulid::Ulid;

use crate::id::{JobId, SessionId};
use crate::runtime::effect::Withdrawn;
use crate::runtime::io::NumberedRun;
use crate::runtime::job::{Jobs, Stored};
use crate::time::UtcMs;
use crate::wire::FrameRole;

/// Runs looked through to see whether a job's events are needed.
const RUNS_LOOKED_AT: usize = 1024;

/// A run that leaves events out is counted from its end: which event stands
/// behind a number follows from the classes of the job's events between them,
/// and can be told as long as that event is kept.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Index {
    runs: VecDeque<NumberedRun>,
    head: u64,
    /// Numbers up to here are no longer held.
    floor: u64,
}

/// What stands behind a number: a frame of an event of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct IndexEntry {
    pub(in crate::runtime) job: JobId,
    /// The event's number in the job; 0 for the acceptance, in families that
    /// number it.
    pub(in crate::runtime) event: u64,
    /// Which frame of the event.
    pub(in crate::runtime) part: FrameRole,
    /// Which of the session's requests for the job the frame follows from; 0
    /// for none.
    pub(in crate::runtime) request: u32,
    /// Which of the session's subscriptions it is shown to; 0 for none.
    pub(in crate::runtime) subscription: u32,
}

impl IndexEntry {
    /// Bytes of the event behind it that are held in memory.
    pub(super) fn weight(&self, jobs: &Jobs) -> usize {
        let held = jobs.get(self.job).and_then(|job| job.event(self.event)).filter(|_| self.part == FrameRole::Whole);
        held.map_or(0, Stored::weight)
    }

    fn of(run: &NumberedRun, event: u64) -> IndexEntry {
        let NumberedRun { job, part, request, subscription, .. } = *run;
        IndexEntry { job, event, part, request, subscription }
    }
}

impl NumberedRun {
    /// Whether it is events of this job for whoever watches it.
    fn is_of(&self, job: JobId) -> bool {
        self.job == job && self.subscription == 0 && !self.part.is_local()
    }

    /// The event behind one of its numbers, if that can be told.
    fn event_at(&self, seq: u64, jobs: &Jobs) -> Option<u64> {
        match (self.shown, self.last_seq() - seq) {
            (None, _) => Some(self.event + (seq - self.seq)),
            (Some(shown), 0) => Some(shown.last),
            (Some(shown), more) => jobs.get(self.job)?.history().before(shown.last, shown.classes, more - 1),
        }
    }
}

impl Index {
    /// The last number assigned.
    pub(in crate::runtime) fn head(&self) -> u64 {
        self.head
    }

    /// Numbers up to here are no longer held.
    pub(in crate::runtime) fn floor(&self) -> u64 {
        self.floor
    }

    /// The first run that is held.
    pub(super) fn first(&self) -> Option<&NumberedRun> {
        self.runs.front()
    }

    /// The last run.
    pub(super) fn last(&self) -> Option<&NumberedRun> {
        self.runs.back()
    }

    /// Assigns the next numbers, which are those of this run; true if it is one
    /// more.
    pub(super) fn push(&mut self, run: NumberedRun) -> bool {
        debug_assert_eq!(run.seq, self.head + 1, "numbers have no gaps");
        self.head = run.last_seq();
        let apart = match self.runs.back_mut() {
            Some(last) => last.join(run),
            None => Some(run),
        };
        self.runs.extend(apart);
        apart.is_some()
    }

    /// Takes numbers of an earlier run over; true if that is one more run. What
    /// came before a gap was let go.
    pub(super) fn restore(&mut self, run: NumberedRun) -> bool {
        if run.seq != self.head + 1 {
            self.runs.clear();
            self.head = run.seq.saturating_sub(1);
            self.floor = self.head;
        }
        self.push(run)
    }

    /// Takes over that numbers up to `upto` are no longer held. Gives one
    /// entry per run that went.
    pub(super) fn restore_floor(&mut self, upto: u64) -> Vec<JobId> {
        let gone = self.release(upto);
        self.floor = self.floor.max(upto);
        self.head = self.head.max(upto);
        gone
    }

    /// Takes back the last number, if there is one. Gives one entry per run that
    /// went with it.
    pub(super) fn take_back(&mut self, jobs: &Jobs) -> Option<Vec<JobId>> {
        let run = self.runs.back_mut()?;
        self.head -= 1;
        if run.count == 1 {
            let job = run.job;
            self.runs.pop_back();
            return Some(alloc::vec![job]);
        }
        let before = run.event_at(self.head, jobs);
        run.count -= 1;
        match (before, &mut run.shown) {
            (Some(last), Some(shown)) => shown.last = last,
            (Some(_) | None, None) => {}
            // What came before is not kept: nor is anything before that.
            (None, Some(_)) => {
                self.floor = self.head;
                return Some(self.runs.drain(..).map(|run| run.job).collect());
            }
        }
        Some(Vec::new())
    }

    /// Takes back the numbers after `seq` behind which frames of such runs
    /// stand; others after it move up. Gives one entry per run that went.
    pub(super) fn withdraw(&mut self, seq: u64, of: impl Fn(&NumberedRun) -> bool) -> (Vec<JobId>, Withdrawn) {
        let mut gone = Vec::new();
        let mut numbers = Vec::new();
        let from = self.runs.partition_point(|run| run.last_seq() <= seq);
        let tail: Vec<NumberedRun> = self.runs.drain(from..).collect();
        self.head = tail.first().map_or(self.head, |first| first.seq - 1);
        for mut run in tail {
            if of(&run) {
                numbers.push((run.seq.max(seq + 1), run.last_seq()));
                if run.seq > seq {
                    gone.push(run.job);
                    continue;
                }
                run.end_at(seq);
            }
            run.seq = self.head + 1;
            if !self.push(run) {
                gone.push(run.job);
            }
        }
        (gone, Withdrawn { numbers })
    }

    /// The numbers from `seq` on.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = NumberedRun> {
        let from = self.runs.partition_point(|run| run.last_seq() < seq);
        self.runs.range(from..).map(move |run| {
            let mut run = *run;
            run.begin_at(run.seq.max(seq));
            run
        })
    }

    /// The first event of `job` that has a number after `seq`, if that can be
    /// told, for whoever watches it or for one subscription.
    pub(super) fn first_event_after(&self, job: JobId, subscription: u32, seq: u64, jobs: &Jobs) -> Option<u64> {
        let from = self.runs.partition_point(|run| run.last_seq() <= seq);
        let of_job = |run: &&NumberedRun| run.job == job && run.subscription == subscription && !run.part.is_local();
        let run = self.runs.range(from..).find(of_job)?;
        Some(run.event_at(run.seq.max(seq + 1), jobs).unwrap_or(0))
    }

    /// What stands behind a number; nothing can be told of one that was not
    /// given, or whose event is not kept.
    pub(in crate::runtime) fn at(&self, seq: u64, jobs: &Jobs) -> Option<IndexEntry> {
        let after = self.runs.partition_point(|run| run.seq <= seq);
        let run = self.runs.get(after.checked_sub(1)?).filter(|run| seq <= run.last_seq())?;
        Some(IndexEntry::of(run, run.event_at(seq, jobs)?))
    }

    /// The first number after `seq` behind which there is nothing any more.
    pub(in crate::runtime) fn first_lost(&self, seq: u64, jobs: &Jobs) -> Option<u64> {
        if seq < self.floor {
            return Some(seq + 1);
        }
        let keeps = |run: &NumberedRun, seq| match run.part {
            FrameRole::Boundary => true,
            FrameRole::LagWarning | FrameRole::Detached => jobs.get(run.job).is_some(),
            FrameRole::Whole | FrameRole::StreamOpen | FrameRole::StreamClose => {
                jobs.get(run.job).is_some_and(|job| run.event_at(seq, jobs).is_some_and(|event| job.keeps(event)))
            }
        };
        let from = self.runs.partition_point(|run| run.last_seq() <= seq);
        let owed = self.runs.range(from..).map(|run| (run, run.seq.max(seq + 1)));
        owed.filter(|(run, first)| !keeps(run, *first)).map(|(_, first)| first).next()
    }

    /// The last event of `job` that has a number up to `seq`; 0 if none.
    pub(in crate::runtime) fn event_at_or_before(&self, job: JobId, seq: u64, jobs: &Jobs) -> u64 {
        let covered = self.runs.iter().rev().find(|run| run.is_of(job) && run.seq <= seq);
        covered.and_then(|run| run.event_at(seq.min(run.last_seq()), jobs)).unwrap_or(0)
    }

    /// Whether event `last` of `job`, which has none after it, is behind a
    /// number after `seq`.
    pub(in crate::runtime) fn holds_last_after(&self, job: JobId, last: u64, seq: u64) -> bool {
        let owed = self.runs.iter().rev().take_while(|run| run.last_seq() > seq);
        owed.filter(|run| run.is_of(job)).any(|run| run.last_event() == last)
    }

    /// The first event of `job` that has a number; 0 if there is too much to
    /// look through.
    pub(super) fn first_event(&self, job: JobId, jobs: &Jobs) -> Option<u64> {
        if self.runs.len() > RUNS_LOOKED_AT {
            return Some(0);
        }
        let of_job = self.runs.iter().filter(|run| run.job == job && !run.part.is_local());
        of_job.map(|run| run.event_at(run.seq, jobs).unwrap_or(0)).min()
    }

    /// Whether events of `job` have numbers after `seq`, for whoever watches it.
    pub(super) fn has_events_after(&self, job: JobId, seq: u64) -> bool {
        let from = self.runs.partition_point(|run| run.last_seq() <= seq);
        self.runs.range(from..).any(|run| run.job == job && run.subscription == 0 && !run.part.is_local())
    }

    /// The numbers up to `upto` of what opened these jobs' streams.
    pub(super) fn openings(&self, upto: u64, is_open: impl Fn(JobId) -> bool) -> Vec<u64> {
        let opens = |run: &&NumberedRun| run.part == FrameRole::StreamOpen && run.subscription == 0 && is_open(run.job);
        self.runs.iter().take_while(|run| run.seq <= upto).filter(opens).map(|run| run.seq).collect()
    }

    /// How many runs it is made of.
    pub(in crate::runtime) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Forgets the oldest run; gives its job.
    pub(super) fn release_oldest(&mut self) -> Option<JobId> {
        let run = self.runs.pop_front()?;
        self.floor = run.last_seq();
        Some(run.job)
    }

    /// Forgets numbers up to `upto`. Gives one entry per run that went.
    pub(super) fn release(&mut self, upto: u64) -> Vec<JobId> {
        let mut gone = Vec::new();
        while let Some(run) = self.runs.front_mut().filter(|run| run.seq <= upto) {
            if run.last_seq() > upto {
                run.begin_at(upto + 1);
                break;
            }
            gone.push(run.job);
            self.runs.pop_front();
        }
        self.floor = self.floor.max(upto.min(self.head));
        gone
    }

    /// Forgets the oldest runs of jobs for which `done` holds, as far as
    /// everything up to `upto` goes. Gives one entry per run that went.
    pub(super) fn release_done(&mut self, upto: u64, done: impl Fn(JobId) -> bool) -> Vec<JobId> {
        let mut gone = Vec::new();
        while let Some(run) = self.runs.front().filter(|run| run.last_seq() <= upto && done(run.job)) {
            gone.push(run.job);
            self.floor = run.last_seq();
            self.runs.pop_front();
        }
        gone
    }
}

/// The bits of an id that stand for a session, or a job.
pub(super) fn tag(ulid: Ulid) -> u64 {
    const MASK: u128 = (1 << 40) - 1;
    (ulid.random() & MASK) as u64
}

/// The message id of a numbered frame: its time is the event's, the rest
/// comes from session and number, so that a replayed frame has its old id
/// and the number can be read back from it.
pub(super) fn message_id(session: SessionId, seq: u64, at: UtcMs) -> Ulid {
    const MASK: u128 = (1 << 40) - 1;
    Ulid::from_parts(at.0, u128::from(tag(session.ulid())) << 40 | (u128::from(seq) & MASK))
}

/// The tag and the number in a message id that we made.
pub(super) fn tag_and_number(id: Ulid) -> (u64, u64) {
    const MASK: u128 = (1 << 40) - 1;
    ((id.random() >> 40 & MASK) as u64, (id.random() & MASK) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u64) -> JobId {
        JobId::from_ulid(Ulid::from_parts(n, 0))
    }

    fn frames(seq: u64, n: u64, event: u64, part: FrameRole) -> NumberedRun {
        NumberedRun { seq, count: 1, job: job(n), event, shown: None, part, request: 0, subscription: 0 }
    }

    fn place(n: u64, event: u64, part: FrameRole) -> IndexEntry {
        IndexEntry::of(&frames(1, n, event, part), event)
    }

    /// Pushes a frame; true if that is one more run.
    fn push(index: &mut Index, n: u64, event: u64, part: FrameRole) -> bool {
        index.push(frames(index.head() + 1, n, event, part))
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
        let expected = [(1, 1), (1, 2), (2, 1), (1, 3)].map(|(n, event)| Some(place(n, event, FrameRole::Whole)));
        assert_eq!(events[1..5], expected);
        assert_eq!((events[0], events[5]), (None, None));
        assert_eq!(index.event_at_or_before(job(1), 3, &jobs), 2);
        assert_eq!(index.event_at_or_before(job(2), 2, &jobs), 0);
        assert!(index.holds_last_after(job(1), 3, 3));
        assert!(!index.holds_last_after(job(1), 2, 2));
        assert_eq!(index.release(1), []);
        assert_eq!(index.at(1, &jobs), None);
        assert_eq!(index.at(2, &jobs), Some(place(1, 2, FrameRole::Whole)));
        assert_eq!(index.release(3), [job(1), job(2)]);
        assert_eq!((index.floor(), index.head()), (3, 4));
        assert_eq!(index.release_done(4, |id| id == job(1)), [job(1)]);
        assert_eq!(index.floor(), 4);
    }

    #[test]
    fn frames_of_different_requests_are_kept_apart() {
        let mut index = Index::default();
        let runs = [0, 1, 1].map(|request| NumberedRun {
            request,
            ..frames(1 + u64::from(request), 1, 1 + u64::from(request), FrameRole::Whole)
        });
        assert_eq!([index.push(runs[0]), index.push(runs[1])], [true, true]);
        assert_eq!(index.at(2, &Jobs::default()).map(|place| place.request), Some(1));
    }

    #[test]
    fn an_event_of_several_frames_has_a_number_for_each() {
        let mut index = Index::default();
        use FrameRole::{StreamOpen, Whole};
        let places = [(0, Whole), (1, Whole), (2, StreamOpen), (2, Whole), (3, Whole)];
        let runs = places.map(|(event, part)| push(&mut index, 1, event, part));
        assert_eq!(runs, [true, false, true, true, false]);
        let expected = places.map(|(event, part)| place(1, event, part));
        assert_eq!((1..=5).filter_map(|seq| index.at(seq, &Jobs::default())).collect::<Vec<_>>(), expected);
    }
}
