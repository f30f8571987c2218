//! The index of a session: which event stands behind each of its sequence
//! numbers, run-length coded.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use ulid::Ulid;

use super::io::NumberedRun;
use crate::id::{JobId, SessionId};
use crate::time::UtcMs;
use crate::wire::Part;

/// Runs looked through to see whether a job's events are needed.
const RUNS_LOOKED_AT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Index {
    runs: VecDeque<Run>,
    head: u64,
    /// Numbers up to here are no longer held.
    floor: u64,
}

/// `len` numbers from `first` on are the events of `job` from `event` on.
/// An event that is several frames for its reader has a run for each frame
/// that is not the event itself.
#[derive(Debug)]
struct Run {
    first: u64,
    len: u64,
    job: JobId,
    event: u64,
    part: Part,
    request: u32,
    subscription: u32,
}

/// What stands behind a number: a frame of an event of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) job: JobId,
    /// The event's number in the job; 0 for the acceptance, in families that
    /// number it.
    pub(super) event: u64,
    /// Which frame of the event.
    pub(super) part: Part,
    /// Which of the session's requests for the job the frame follows from; 0
    /// for none.
    pub(super) request: u32,
    /// Which of the session's subscriptions it is shown to; 0 for none.
    pub(super) subscription: u32,
}

impl From<NumberedRun> for Place {
    /// The first of a run.
    fn from(run: NumberedRun) -> Place {
        let NumberedRun { job, event, part, request, subscription, .. } = run;
        Place { job, event, part, request, subscription }
    }
}

impl Run {
    /// Whether it is events of this job for whoever watches it.
    fn is_of(&self, job: JobId) -> bool {
        self.job == job && self.subscription == 0 && !self.part.is_local()
    }
}

impl Index {
    /// The last number assigned.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Numbers up to here are no longer held.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Assigns the next number; true if that began a new run.
    pub(super) fn push(&mut self, place: Place) -> bool {
        let Place { job, event, part, request, subscription } = place;
        self.head += 1;
        if let Some(last) = self.runs.back_mut()
            && last.job == job
            && last.event + last.len == event
            && (last.part, part) == (Part::Whole, Part::Whole)
            && (last.request, last.subscription) == (request, subscription)
        {
            last.len += 1;
            return false;
        }
        self.runs.push_back(Run { first: self.head, len: 1, job, event, part, request, subscription });
        true
    }

    /// Takes a number from an earlier run over; true if that began a new run.
    /// What came before a gap was let go.
    pub(super) fn restore(&mut self, seq: u64, place: Place) -> bool {
        if seq != self.head + 1 {
            self.runs.clear();
            self.head = seq.saturating_sub(1);
            self.floor = self.head;
        }
        self.push(place)
    }

    /// Takes over that numbers up to `upto` are no longer held. Gives one
    /// entry per run that went.
    pub(super) fn restore_floor(&mut self, upto: u64) -> Vec<JobId> {
        let gone = self.release(upto);
        self.floor = self.floor.max(upto);
        self.head = self.head.max(upto);
        gone
    }

    /// Takes back the last number; gives its place and whether its run is
    /// gone.
    pub(super) fn take_back(&mut self) -> Option<(Place, bool)> {
        let place = self.at(self.head)?;
        self.head -= 1;
        let run = self.runs.back_mut()?;
        run.len -= 1;
        let gone = run.len == 0;
        if gone {
            self.runs.pop_back();
        }
        Some((place, gone))
    }

    /// The event behind a number.
    pub(super) fn at(&self, seq: u64) -> Option<Place> {
        let after = self.runs.partition_point(|run| run.first <= seq);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let Run { job, part, request, subscription, .. } = *run;
        let event = run.event + seq.checked_sub(run.first)?;
        (seq < run.first + run.len).then_some(Place { job, event, part, request, subscription })
    }

    /// The last event of `job` that has a number up to `seq`; 0 if none.
    pub(super) fn event_at_or_before(&self, job: JobId, seq: u64) -> u64 {
        let covered = self.runs.iter().rev().find(|run| run.is_of(job) && run.first <= seq);
        covered.map_or(0, |run| run.event + (seq - run.first).min(run.len - 1))
    }

    /// Whether the last event of `job` is behind a number after `seq`.
    pub(super) fn holds_after(&self, job: JobId, event: u64, seq: u64) -> bool {
        self.runs.iter().rev().any(|run| {
            run.is_of(job) && (run.event..run.event + run.len).contains(&event) && run.first + (event - run.event) > seq
        })
    }

    /// The first event of `job` that has a number; 0 if there is too much to
    /// look through.
    pub(super) fn first_event(&self, job: JobId) -> Option<u64> {
        if self.runs.len() > RUNS_LOOKED_AT {
            return Some(0);
        }
        self.runs.iter().filter(|run| run.job == job && !run.part.is_local()).map(|run| run.event).min()
    }

    /// The numbers up to `upto` of what opened these jobs' streams.
    pub(super) fn openings(&self, upto: u64, jobs: &BTreeSet<JobId>) -> Vec<u64> {
        let opens = |run: &&Run| run.part == Part::StreamOpen && run.subscription == 0 && jobs.contains(&run.job);
        self.runs.iter().take_while(|run| run.first <= upto).filter(opens).map(|run| run.first).collect()
    }

    /// How many runs it is made of.
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Forgets the oldest run; gives its job.
    pub(super) fn release_oldest(&mut self) -> Option<JobId> {
        let run = self.runs.pop_front()?;
        self.floor = run.first + run.len - 1;
        Some(run.job)
    }

    /// Forgets numbers up to `upto`. Gives one entry per run that went.
    pub(super) fn release(&mut self, upto: u64) -> Vec<JobId> {
        let mut gone = Vec::new();
        while let Some(run) = self.runs.front_mut() {
            if run.first + run.len - 1 <= upto {
                gone.push(run.job);
                self.runs.pop_front();
                continue;
            }
            if run.first <= upto {
                let cut = upto - run.first + 1;
                run.first += cut;
                run.event += cut;
                run.len -= cut;
            }
            break;
        }
        self.floor = self.floor.max(upto.min(self.head));
        gone
    }

    /// Forgets the oldest runs of jobs for which `done` holds, as far as
    /// everything up to `upto` goes. Gives one entry per run that went.
    pub(super) fn release_done(&mut self, upto: u64, done: impl Fn(JobId) -> bool) -> Vec<JobId> {
        let mut gone = Vec::new();
        while let Some(run) = self.runs.front() {
            let last = run.first + run.len - 1;
            if last > upto || !done(run.job) {
                break;
            }
            gone.push(run.job);
            self.floor = last;
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

    fn place(n: u64, event: u64, part: Part) -> Place {
        Place { job: job(n), event, part, request: 0, subscription: 0 }
    }

    #[test]
    fn runs_map_both_ways() {
        let mut index = Index::default();
        assert!(index.push(place(1, 1, Part::Whole)));
        assert!(!index.push(place(1, 2, Part::Whole)));
        assert!(index.push(place(2, 1, Part::Whole)));
        assert!(index.push(place(1, 3, Part::Whole)));
        let events: Vec<_> = (0..6).map(|seq| index.at(seq)).collect();
        let expected = [(1, 1), (1, 2), (2, 1), (1, 3)].map(|(n, event)| Some(place(n, event, Part::Whole)));
        assert_eq!(events[1..5], expected);
        assert_eq!((events[0], events[5]), (None, None));
        assert_eq!(index.event_at_or_before(job(1), 3), 2);
        assert_eq!(index.event_at_or_before(job(2), 2), 0);
        assert!(index.holds_after(job(1), 3, 3));
        assert!(!index.holds_after(job(1), 2, 2));
        assert_eq!(index.release(1), []);
        assert_eq!(index.at(1), None);
        assert_eq!(index.at(2), Some(place(1, 2, Part::Whole)));
        assert_eq!(index.release(3), [job(1), job(2)]);
        assert_eq!((index.floor(), index.head()), (3, 4));
        assert_eq!(index.release_done(4, |id| id == job(1)), [job(1)]);
        assert_eq!(index.floor(), 4);
    }

    #[test]
    fn frames_of_different_requests_are_kept_apart() {
        let mut index = Index::default();
        let places = [0, 1, 1].map(|request| Place { request, ..place(1, 1 + u64::from(request), Part::Whole) });
        assert_eq!([index.push(places[0]), index.push(places[1])], [true, true]);
        assert_eq!(index.at(2), Some(places[1]));
    }

    #[test]
    fn an_event_of_several_frames_has_a_number_for_each() {
        let mut index = Index::default();
        use Part::{StreamOpen, Whole};
        let places =
            [place(1, 0, Whole), place(1, 1, Whole), place(1, 2, StreamOpen), place(1, 2, Whole), place(1, 3, Whole)];
        let runs = places.map(|place| index.push(place));
        assert_eq!(runs, [true, false, true, true, false]);
        assert_eq!((1..=5).filter_map(|seq| index.at(seq)).collect::<Vec<_>>(), places);
    }
}
