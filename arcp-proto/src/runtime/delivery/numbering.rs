//! Numbering: the frames of a job's events in a session, as runs of its index.
//!
//! A run is "the events up to this one, of these classes". However many events there are, and
//! however their classes alternate, a view that gets one frame of each, or none, has one run of
//! them. An event that is several frames ([`View::several`](crate::wire::View::several)) has runs
//! of its own, which separate the events before it from those after it. A job has at most two such
//! events: the one that opens its stream and the one that closes it.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::feed::Feed;
use super::feeds::Feeds;
use super::filter::EventFilter;
use super::index::Released;
use crate::id::{JobId, LogId, SessionId};
use crate::model::event::{EventClass, EventClasses};
use crate::runtime::account::HeldFor;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{LocalFrame, LocalWord, Numbered, NumberedRun, Record, Shown};
use crate::runtime::job::{History, Jobs, Stored};
use crate::wire::FrameRole;

/// The session for which events of a job are numbered.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) session: SessionId,
    /// Which of its requests for the job the frames answer; 0 for none.
    pub(super) request: u32,
    /// The subscription that the frames are for; `None`: the session watches the job.
    pub(super) subscription: Option<(u32, &'a EventFilter)>,
    /// Whether the events are new: other events that are numbered together are history.
    is_live: bool,
}

/// What frames that are numbered together have in common.
#[derive(Clone, Copy)]
struct Frames<'a> {
    log: LogId,
    history: &'a History,
    reader: Reader<'a>,
    /// The classes of which the event itself is shown.
    classes: EventClasses,
}

/// Runs that are numbered together: mostly one, which asks for no memory.
#[derive(Default)]
struct Runs {
    before: Vec<NumberedRun>,
    last: Option<NumberedRun>,
}

impl Runs {
    fn push(&mut self, run: NumberedRun) {
        let apart = match &mut self.last {
            Some(last) => last.join(run),
            None => Some(run),
        };
        if let Some(run) = apart {
            self.before.extend(self.last.replace(run));
        }
    }

    fn is_empty(&self) -> bool {
        self.last.is_none()
    }
}

impl<'a> Reader<'a> {
    /// A session that watches a job.
    pub(super) fn watcher(session: SessionId, request: u32) -> Reader<'a> {
        Reader { session, request, subscription: None, is_live: false }
    }

    /// A subscription of a session, whose copies answer no request.
    pub(super) fn subscription(session: SessionId, number: u32, filter: &'a EventFilter) -> Reader<'a> {
        Reader { session, request: 0, subscription: Some((number, filter)), is_live: false }
    }

    /// The same, for new events.
    pub(super) fn live(self) -> Reader<'a> {
        Reader { is_live: true, ..self }
    }

    /// The number of the subscription; 0 for a watch.
    fn number(&self) -> u32 {
        self.subscription.map_or(0, |(number, _)| number)
    }

    /// Whether a frame of an event is shown; `None` stands for the acceptance.
    fn is_shown(&self, class: Option<EventClass>, role: FrameRole) -> bool {
        self.subscription.is_none_or(|(_, filter)| filter.shows(class, role))
    }
}

impl Feeds {
    /// Numbers events of a job for one session; event 0 is the job's acceptance.
    pub(super) fn number(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        reader: Reader<'_>,
        job_id: JobId,
        events: RangeInclusive<u64>,
    ) {
        let (Some(feed), Some(job)) = (
            self.by_session.get_mut(&reader.session).expected("a reader has a feed"),
            jobs.get(job_id).expected("a job that is numbered is there"),
        ) else {
            return;
        };
        let (log, before) = (LogId::Job(job_id), feed.index.runs());
        let classes = match reader.subscription {
            Some((_, filter)) => feed.view.classes().and(filter.classes()),
            None => feed.view.classes(),
        };
        let frames = Frames { log, history: job.history(), reader, classes };
        let runs = feed.number(frames, events.clone());
        if !runs.is_empty() && (reader.is_live || events.start() == events.end()) {
            let alone = events.start() == events.end();
            let shown = |n: &u64| alone || job.history().class(*n).is_some_and(|class| classes.has(class));
            feed.owe_bytes(events.filter(shown).filter_map(|n| job.event(n)).map(Stored::weight).sum());
        }
        let new = u32::try_from(feed.index.runs() - before).unwrap_or(u32::MAX);
        self.refs.add(log, reader.session, new);
        self.numbered(ctx, reader.session, before, runs.before.into_iter().chain(runs.last).map(Numbered::Events));
    }

    /// Numbers a frame without an event, for one session.
    pub(super) fn number_local(&mut self, ctx: &mut Context, id: SessionId, says: LocalWord) {
        let frame = LocalFrame { at: ctx.now.utc, says };
        let Some(feed) = self.by_session.get_mut(&id).expected("who is told has a feed") else {
            return;
        };
        let before = feed.index.runs();
        feed.index.push_local(frame.clone());
        let seq = feed.index.head();
        self.numbered(ctx, id, before, [Numbered::Local { seq, frame }]);
        self.gate(ctx, id, seq);
    }

    /// Records the frames that were numbered for a session, and has them sent.
    fn numbered(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        runs_before: usize,
        numbered: impl IntoIterator<Item = Numbered>,
    ) {
        let Some(feed) = self.by_session.get_mut(&id).expected("who was given numbers has a feed") else {
            return;
        };
        feed.weigh();
        let (own, conn) = (feed.index.runs(), feed.conn);
        self.runs += own - runs_before;
        self.bound_index(ctx, id, own);
        for run in numbered {
            ctx.append(Record::Numbered { session: id, run });
        }
        if let Some(conn) = conn {
            ctx.ready(conn);
        }
    }

    /// Bounds the index of a session. A session that needs a released number is told when it reads
    /// on or resumes.
    fn bound_index(&mut self, ctx: &mut Context, id: SessionId, mut own: usize) {
        let limits = &ctx.config.limits.delivery;
        let (most_own, most) = (limits.index_runs_per_session, limits.index_bytes);
        while own > 1
            && let Some(feed) = self.by_session.get_mut(&id)
            && (own > most_own
                || ctx.accounts.is_beyond_share(&ctx.config.limits, feed.account(), HeldFor::Numbers, most))
        {
            let oldest = feed.index.release_oldest();
            self.unreference(ctx, id, oldest.as_slice());
            own -= 1;
        }
        self.note_released(ctx, id);
    }

    /// Holds the frames of a session from `first` on until their numbers are durable. Their events
    /// are durable already.
    pub(super) fn gate(&mut self, ctx: &Context, id: SessionId, first: u64) {
        if let Some(feed) = self.by_session.get_mut(&id).filter(|feed| feed.index.head() >= first) {
            debug_assert!(feed.gates.back().is_none_or(|(before, _)| *before < first), "gates are in order");
            // A detached session does not ask for them, so `Feed::gate` would not remove them.
            while feed.gates.front().is_some_and(|(_, pos)| ctx.log.is_durable(*pos)) {
                feed.gates.pop_front();
            }
            feed.gates.push_back((first, ctx.log.last()));
        }
    }

    /// Makes the numbers of a session from `first` on its backlog, because it requested that
    /// history.
    pub(super) fn begin_to_catch_up(&mut self, id: SessionId, first: u64) {
        if let Some(feed) = self.by_session.get_mut(&id).filter(|feed| feed.index.head() >= first) {
            feed.begin_to_catch_up(first);
        }
    }

    /// Takes back the numbers of a job's events that were not sent, for a watch or one
    /// subscription.
    pub(super) fn withdraw(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId, subscription: u32) {
        let Some(feed) = self.by_session.get_mut(&id).expected("who was shown a job has a feed") else {
            return;
        };
        let sent = feed.sent;
        let of = |run: &NumberedRun| (run.log, run.subscription) == (job.into(), subscription);
        let upto = feed.head();
        let (gone, withdrawn) = feed.index.withdraw(jobs, sent, of);
        let Some((seq, _)) = withdrawn.numbers.first().copied() else {
            return; // All these frames were sent.
        };
        feed.renumber(jobs, |seq| withdrawn.moved(seq));
        ctx.append(Record::Numbered { session: id, run: Numbered::TakenBack { seq, upto } });
        // The frames after them have new numbers.
        for run in feed.index.from(seq) {
            ctx.append(Record::Numbered { session: id, run });
        }
        feed.gates.retain(|(first, _)| *first <= sent);
        if feed.index.head() > sent {
            feed.gates.push_back((sent + 1, ctx.log.last()));
        }
        let conn = feed.conn;
        self.unreference(ctx, id, &gone);
        if let Some(conn) = conn {
            ctx.effect(Effect::Renumbered { conn, withdrawn });
        }
    }

    /// Restores numbers of an earlier run.
    pub(super) fn restore_numbers(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, mut numbered: Numbered) {
        let floor = self.by_session.get(&id).map(|feed| feed.index.floor());
        let Some(floor) = floor.filter(|floor| numbered.last_seq() > *floor) else {
            return; // These numbers were released later.
        };
        if let Numbered::Events(run) = &mut numbered {
            run.begin_at(run.seq.max(floor + 1));
        }
        // Numbers that are recorded again were taken back before.
        let seq = numbered.seq().max(floor + 1);
        while self.head(id) >= seq && self.take_back(ctx, jobs, id, seq) {}
        if let Numbered::TakenBack { .. } = numbered {
            return;
        }
        let Some(feed) = self.by_session.get_mut(&id).expected("it was just looked up") else {
            return;
        };
        let before = feed.index.runs();
        let new = feed.restore_numbers(numbered);
        feed.weigh();
        self.runs = self.runs + feed.index.runs() - before;
        if let Some(log) = new {
            self.refs.add(log, id, 1);
        }
    }

    /// All records are restored: numbers of events that never became durable are removed, and the
    /// others count as sent. `is_shown`: whether the session still gets a job's events, by
    /// subscription.
    pub(super) fn restored(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        id: SessionId,
        is_shown: impl Fn(u32, LogId) -> bool,
    ) {
        while let Some(last) = self.by_session.get(&id).and_then(|feed| feed.index.last()) {
            let job = last.log.job().and_then(|job| jobs.get(job));
            let came = job.is_none_or(|job| last.last_event() <= job.count());
            let seq = last.last_seq();
            if came || !self.take_back(ctx, jobs, id, seq) {
                break;
            }
        }
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.restored(is_shown);
        }
    }

    /// Takes back the numbers of a session's last run from `seq` on; false if there is none.
    fn take_back(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, seq: u64) -> bool {
        let gone = self.by_session.get_mut(&id).and_then(|feed| feed.take_back(jobs, seq));
        self.unreference(ctx, id, gone.as_deref().unwrap_or_default());
        gone.is_some()
    }
}

impl Feed {
    /// Numbers events, with event 0 the acceptance; gives the runs.
    fn number(&mut self, frames: Frames<'_>, events: RangeInclusive<u64>) -> Runs {
        let (first, last) = events.into_inner();
        let mut runs = Runs::default();
        let (reader, number) = (frames.reader, frames.reader.number());
        if first == 0 && reader.is_shown(None, FrameRole::Whole) {
            self.push(&mut runs, frames.one(0, FrameRole::Whole));
        }
        let mut from = first.max(frames.history.first());
        while from <= last {
            let streaming = self.streams.contains(&(number, frames.log));
            let several = frames.history.first_of(self.view.several(streaming), from..=last);
            self.number_shared(&mut runs, frames, from..=several.map_or(last, |n| n - 1));
            let Some((n, class)) = several.and_then(|n| Some((n, frames.history.class(n)?))) else {
                break;
            };
            for role in self.view.roles(class, streaming).iter().copied() {
                self.note_stream(frames.log, role, number);
                if role == FrameRole::Whole {
                    self.number_shared(&mut runs, frames, n..=n);
                } else if reader.is_shown(Some(class), role) {
                    self.push(&mut runs, frames.one(n, role));
                }
            }
            from = n + 1;
        }
        runs
    }

    /// Numbers events of which each is one frame, or none.
    fn number_shared(&mut self, runs: &mut Runs, frames: Frames<'_>, events: RangeInclusive<u64>) {
        let (from, upto) = (*events.start(), *events.end());
        if frames.classes == EventClasses::ALL {
            if from <= upto {
                self.push(runs, NumberedRun { count: upto - from + 1, ..frames.one(from, FrameRole::Whole) });
            }
            return;
        }
        let count = frames.history.number_of(frames.classes, events);
        let Some(last) = frames.history.before(upto + 1, frames.classes, 0).filter(|_| count > 0) else {
            return; // The view shows none of these events.
        };
        let shown = Some(Shown { classes: frames.classes, last });
        let run = NumberedRun { count, shown, ..frames.one(from, FrameRole::Whole) };
        let event = self.index.last().and_then(|before| frames.goes_on(before, &run)).unwrap_or(from);
        self.push(runs, NumberedRun { event, ..run });
    }

    fn push(&mut self, runs: &mut Runs, run: NumberedRun) {
        let run = NumberedRun { seq: self.index.head() + 1, ..run };
        self.index.push(run);
        runs.push(run);
    }

    /// Notes that a stream opens or closes when its frame is numbered.
    fn note_stream(&mut self, log: LogId, role: FrameRole, subscription: u32) {
        match role {
            FrameRole::Whole => {}
            FrameRole::StreamOpen => drop(self.streams.insert((subscription, log))),
            FrameRole::StreamClose => drop(self.streams.remove(&(subscription, log))),
        }
    }

    /// Takes back the numbers of its last run from `seq` on, and the effect on a stream; `None` if
    /// there is no run.
    fn take_back(&mut self, jobs: &Jobs, seq: u64) -> Option<Released> {
        let last = self.index.last().map(|run| (run.log, run.role, run.subscription));
        let gone = self.index.take_back(jobs, seq)?;
        match last {
            Some((log, FrameRole::StreamOpen, number)) => self.note_stream(log, FrameRole::StreamClose, number),
            Some((log, FrameRole::StreamClose, number)) => self.note_stream(log, FrameRole::StreamOpen, number),
            Some((_, FrameRole::Whole, _)) | None => {}
        }
        Some(gone)
    }

    /// Restores numbers of an earlier run of the runtime; returns the log if there is one more run
    /// that refers to it.
    fn restore_numbers(&mut self, numbered: Numbered) -> Option<LogId> {
        let log = match &numbered {
            Numbered::Events(run) => {
                self.note_stream(run.log, run.role, run.subscription);
                Some(run.log)
            }
            Numbered::Local { .. } | Numbered::TakenBack { .. } => None,
        };
        let is_new = self.index.restore(numbered);
        log.filter(|_| is_new)
    }
}

impl Frames<'_> {
    /// One of the frames, without its number.
    fn one(&self, event: u64, role: FrameRole) -> NumberedRun {
        let (log, request, subscription) = (self.log, self.reader.request, self.reader.number());
        NumberedRun { seq: 0, count: 1, log, event, shown: None, role, request, subscription }
    }

    /// The event after the end of a run, if the next one continues it: nothing between the two is
    /// shown.
    fn goes_on(&self, before: &NumberedRun, next: &NumberedRun) -> Option<u64> {
        let after = before.last_event() + 1;
        let between = || self.history.first_of(self.classes, after..=next.event - 1);
        let goes_on = before.log == next.log
            && before.role == FrameRole::Whole
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
    use crate::runtime::account::Accounts;
    use crate::wire::View;

    #[test]
    fn a_stream_is_as_open_as_the_numbers_say_that_are_left() {
        let principal = Principal::new("p").expect("a name");
        let mut feed = Feed::new(principal, View::before_handshake(false), Accounts::new().runtime());
        let log = LogId::Job(JobId::from_ulid(Ulid::from_parts(1, 1)));
        let run = |seq, role| {
            let (shown, request, subscription) = (None, 0, 0);
            Numbered::Events(NumberedRun { seq, count: 1, log, event: 1, shown, role, request, subscription })
        };
        let jobs = Jobs::default();
        feed.restore_numbers(run(1, FrameRole::StreamOpen));
        assert!(feed.streams.contains(&(0, log)));
        feed.take_back(&jobs, 1);
        assert!(!feed.streams.contains(&(0, log)), "the next thought opens it");
        feed.restore_numbers(run(1, FrameRole::StreamOpen));
        feed.restore_numbers(run(2, FrameRole::StreamClose));
        feed.take_back(&jobs, 2);
        assert!(feed.streams.contains(&(0, log)), "the end closes it");
    }
}
