//! Numbering: the frames that a job's events are for a session, as runs of its
//! index.
//!
//! A run is "the events up to this one, of these classes": however many events
//! there are and whatever kinds take turns in them, a view that gets one frame
//! of each, or none, has one run of them. An event that is several frames
//! ([`View::several`](crate::wire::View::several)) stands in runs of its own
//! and parts what is before it from what is after it. A job has two such
//! events at most: the one that opens its stream and the one that closes it.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::Runtime;
use super::io::{NumberedRun, Shown};
use super::job::History;
use super::job::Jobs;
use super::session::Session;
use crate::id::{JobId, SessionId};
use crate::model::event::{EventClass, EventClasses};
use crate::wire::Part;

/// What is common to the frames that are numbered together.
#[derive(Clone, Copy)]
struct Frames<'a> {
    job: JobId,
    history: &'a History,
    /// Which of the session's requests for the job they follow from; 0 for none.
    request: u32,
    /// Which of the session's subscriptions they are shown to; 0 for none.
    subscription: u32,
    /// The events of which the event itself is shown.
    classes: EventClasses,
}

impl Runtime {
    /// Numbers an event for one session, or with 0 the job's acceptance.
    pub(super) fn index_event(&mut self, id: SessionId, job: JobId, n: u64) {
        self.index_events(id, job, n..=n, 0);
    }

    /// Numbers events for one session, or one of its subscriptions: with event 0
    /// the job's acceptance.
    pub(super) fn index_events(
        &mut self,
        id: SessionId,
        job_id: JobId,
        events: RangeInclusive<u64>,
        subscription: u32,
    ) {
        let (Some(session), Some(job)) = (self.sessions.get_mut(id), self.jobs.get_mut(job_id)) else {
            return;
        };
        let before = session.index.runs();
        let correlates = session.view.correlates() && subscription == 0;
        let request = if correlates { job.requests.latest(id) } else { 0 };
        let classes = session.shown_classes(subscription);
        let frames = Frames { job: job_id, history: &job.history, request, subscription, classes };
        // What is numbered together is of the past.
        let live = (events.start() == events.end()).then(|| job.event(*events.start())).flatten();
        let runs = session.number(frames, events);
        if let Some(event) = live.filter(|_| !runs.is_empty()) {
            session.owe_bytes(event.weight());
        }
        for _ in before..session.index.runs() {
            job.add_reader(id);
        }
        self.numbered(id, before, runs);
    }

    /// Numbers something of no event, for one session.
    pub(super) fn index_local(&mut self, id: SessionId, job: JobId, part: Part, subscription: u32) {
        let event = self.ctx.now.utc.0;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let before = session.index.runs();
        let seq = session.index.head() + 1;
        let run = NumberedRun { seq, count: 1, job, event, shown: None, part, request: 0, subscription };
        session.index.push(run);
        if let Some(job) = self.jobs.get_mut(job) {
            job.add_reader(id);
        }
        self.numbered(id, before, alloc::vec![run]);
        self.gate_numbers(id, seq);
    }
}

impl Session {
    /// The classes of events that it is shown, or one of its subscriptions.
    fn shown_classes(&self, subscription: u32) -> EventClasses {
        let filter = self.subscriptions.get(subscription).map(|shown| &shown.filter);
        match filter {
            _ if subscription == 0 => self.view.classes(),
            Some(filter) => self.view.classes().and(filter.classes()),
            None => EventClasses::default(),
        }
    }

    /// Whether a frame of an event, or with `None` of the acceptance, is shown:
    /// to whoever watches it is.
    fn is_shown(&self, class: Option<EventClass>, part: Part, subscription: u32) -> bool {
        let filter = self.subscriptions.get(subscription).map(|shown| &shown.filter);
        subscription == 0 || filter.is_some_and(|filter| filter.shows(class, part))
    }

    /// Numbers events, with event 0 the acceptance; gives the runs.
    fn number(&mut self, frames: Frames<'_>, events: RangeInclusive<u64>) -> Vec<NumberedRun> {
        let (first, last) = events.into_inner();
        let mut runs = Vec::new();
        if first == 0 && self.is_shown(None, Part::Whole, frames.subscription) {
            self.push(&mut runs, frames.one(0, Part::Whole));
        }
        let mut from = first.max(frames.history.first());
        while from <= last {
            let subscription = self.subscriptions.get(frames.subscription);
            let streaming = subscription.map_or(&self.streams, |shown| &shown.streams).contains(&frames.job);
            let several = frames.history.first_of(self.view.several(streaming), from..=last);
            self.number_alike(&mut runs, frames, from..=several.map_or(last, |n| n - 1));
            let Some((n, class)) = several.and_then(|n| Some((n, frames.history.class(n)?))) else {
                break;
            };
            for part in self.view.parts(class, streaming).iter().copied() {
                self.note_stream(frames.job, part, frames.subscription);
                if part == Part::Whole {
                    self.number_alike(&mut runs, frames, n..=n);
                } else if self.is_shown(Some(class), part, frames.subscription) {
                    self.push(&mut runs, frames.one(n, part));
                }
            }
            from = n + 1;
        }
        runs
    }

    /// Numbers events of which each is one frame, or none.
    fn number_alike(&mut self, runs: &mut Vec<NumberedRun>, frames: Frames<'_>, events: RangeInclusive<u64>) {
        let (from, upto) = (*events.start(), *events.end());
        if frames.classes == EventClasses::ALL {
            if from <= upto {
                self.push(runs, NumberedRun { count: upto - from + 1, ..frames.one(from, Part::Whole) });
            }
            return;
        }
        let count = frames.history.number_of(frames.classes, events);
        let Some(last) = frames.history.before(upto + 1, frames.classes, 0).filter(|_| count > 0) else {
            return;
        };
        let shown = Some(Shown { classes: frames.classes, last });
        let run = NumberedRun { count, shown, ..frames.one(from, Part::Whole) };
        let event = self.index.last().and_then(|before| frames.goes_on(before, &run)).unwrap_or(from);
        self.push(runs, NumberedRun { event, ..run });
    }

    fn push(&mut self, runs: &mut Vec<NumberedRun>, run: NumberedRun) {
        let run = NumberedRun { seq: self.index.head() + 1, ..run };
        self.index.push(run);
        let apart = match runs.last_mut() {
            Some(last) => last.join(run),
            None => Some(run),
        };
        runs.extend(apart);
    }

    /// Streams open and close as their frames are numbered.
    fn note_stream(&mut self, job: JobId, part: Part, subscription: u32) {
        let streams = match (subscription, self.subscriptions.get_mut(subscription)) {
            (0, _) => &mut self.streams,
            (_, Some(subscription)) => &mut subscription.streams,
            // It is over; what was numbered for it is still sent.
            (_, None) => return,
        };
        match part {
            Part::Whole | Part::Boundary | Part::Behind | Part::Detached => {}
            Part::StreamOpen => drop(streams.insert(job)),
            Part::StreamClose => drop(streams.remove(&job)),
        }
    }

    /// Takes its last number back, and what that did to a stream; gives one
    /// entry for each run that is gone, or `None` if there was no number.
    pub(super) fn take_back(&mut self, jobs: &Jobs) -> Option<Vec<JobId>> {
        let last = self.index.last()?;
        let (job, part, subscription) = (last.job, last.part, last.subscription);
        let gone = self.index.take_back(jobs)?;
        match part {
            Part::StreamOpen => self.note_stream(job, Part::StreamClose, subscription),
            Part::StreamClose => self.note_stream(job, Part::StreamOpen, subscription),
            Part::Whole | Part::Boundary | Part::Behind | Part::Detached => {}
        }
        Some(gone)
    }

    /// Takes numbers of an earlier run over; true if that is one more run.
    pub(super) fn restore_numbers(&mut self, run: NumberedRun) -> bool {
        self.note_stream(run.job, run.part, run.subscription);
        self.index.restore(run)
    }
}

impl Frames<'_> {
    /// One of them, without its number.
    fn one(&self, event: u64, part: Part) -> NumberedRun {
        let Frames { job, request, subscription, .. } = *self;
        NumberedRun { seq: 0, count: 1, job, event, shown: None, part, request, subscription }
    }

    /// The event after the end of a run, if the next one goes on there: nothing
    /// between the two is shown.
    fn goes_on(&self, before: &NumberedRun, next: &NumberedRun) -> Option<u64> {
        let after = before.last_event() + 1;
        let between = || self.history.first_of(self.classes, after..=next.event - 1);
        let goes_on = before.job == next.job
            && before.part == Part::Whole
            && before.shown.is_some_and(|shown| shown.classes == self.classes)
            && (self.history.first()..next.event).contains(&after)
            && between().is_none();
        goes_on.then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::id::Principal;
    use crate::secret::Secret;
    use crate::wire::View;

    #[test]
    fn a_stream_is_as_open_as_the_numbers_say_that_are_left() {
        let principal = Principal::new("p").expect("a name");
        let token = Secret::new("token".into()).digest();
        let mut session = Session::new(principal, View::before_handshake(false), token);
        let job = JobId::from_ulid(Ulid::from_parts(1, 1));
        let run =
            |seq, part| NumberedRun { seq, count: 1, job, event: 1, shown: None, part, request: 0, subscription: 0 };
        let jobs = Jobs::default();
        session.restore_numbers(run(1, Part::StreamOpen));
        assert!(session.streams.contains(&job));
        session.take_back(&jobs);
        assert!(!session.streams.contains(&job), "the next thought opens it");
        session.restore_numbers(run(1, Part::StreamOpen));
        session.restore_numbers(run(2, Part::StreamClose));
        session.take_back(&jobs);
        assert!(session.streams.contains(&job), "the end closes it");
    }
}
