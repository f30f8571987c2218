//! The numbered frames of a session, as they are recorded: frames of a log's events, or local
//! frames without an event.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LogId};
use crate::model::event::EventClasses;
use crate::time::UtcMs;
use crate::wire::FrameRole;

/// Numbers that were given in a session, or taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Stored")]
pub enum Numbered {
    /// Consecutive frames of events.
    Events(NumberedRun),
    /// A frame of this session only, without an event.
    Local {
        /// Its number.
        seq: u64,
        /// The frame.
        frame: LocalFrame,
    },
    /// Numbers that were taken back before they were sent. They have no frames; numbers that are
    /// given again are recorded again.
    TakenBack {
        /// The first number.
        seq: u64,
        /// The last one.
        upto: u64,
    },
}

/// Consecutive numbers of a session whose frames are of one log's events, in the order of the
/// events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NumberedRun {
    /// The first number.
    pub seq: u64,
    /// How many numbers.
    pub count: u64,
    /// The log.
    #[serde(rename = "job")]
    pub log: LogId,
    /// The first event's number in the log; 0 for a job's acceptance.
    pub event: u64,
    /// Which of the events from there on they are frames of; `None`: each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// Which frame of each event.
    #[serde(rename = "part")]
    pub role: FrameRole,
    /// Which of the session's requests for the job the frames answer; 0 for none.
    pub request: u32,
    /// Which of the session's subscriptions the frames are for; 0 for none.
    pub subscription: u32,
}

/// The events of a run that leaves some out: the latest events of these classes, as many as the run
/// has numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The classes that are not left out.
    pub classes: EventClasses,
    /// The last event's number in the log.
    pub last: u64,
}

/// A frame without an event. It is recorded whole, because its job may be forgotten before it is
/// sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalFrame {
    /// When it was made, in UTC milliseconds.
    pub at: UtcMs,
    /// Its content.
    pub says: LocalWord,
}

/// What a session alone is told, in its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalWord {
    /// The history that a subscription asked for is complete.
    Boundary {
        /// The number of the subscription in the session.
        subscription: u32,
    },
    /// The session is far behind on a job.
    LagWarning(AboutJob),
    /// The session was detached from a job, as it was too far behind.
    Detached(AboutJob),
}

/// The job that a local frame is about, as its envelope names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutJob {
    /// The job.
    pub job: JobId,
    /// The trace id of the job. Frames of older versions have none.
    pub trace: String,
    /// Whether the session submitted the job, or retried its submit by key.
    pub own: bool,
}

impl Numbered {
    /// The first number.
    pub fn seq(&self) -> u64 {
        match self {
            Numbered::Events(run) => run.seq,
            Numbered::Local { seq, .. } | Numbered::TakenBack { seq, .. } => *seq,
        }
    }

    /// The last number.
    pub fn last_seq(&self) -> u64 {
        match self {
            Numbered::Events(run) => run.last_seq(),
            Numbered::Local { seq, .. } => *seq,
            Numbered::TakenBack { upto, .. } => *upto,
        }
    }

    /// Appends more numbers, if they continue these; otherwise returns them.
    pub fn join(&mut self, next: Numbered) -> Option<Numbered> {
        match (self, next) {
            (Numbered::Events(run), Numbered::Events(next)) => run.join(next).map(Numbered::Events),
            (_, next) => Some(next),
        }
    }
}

impl LocalFrame {
    /// Bytes it holds, approximately.
    pub(in crate::runtime) fn weight(&self) -> usize {
        size_of::<LocalFrame>() + self.about().map_or(0, |about| about.trace.len())
    }

    /// The job that it is about, if any.
    pub fn about(&self) -> Option<&AboutJob> {
        match &self.says {
            LocalWord::Boundary { .. } => None,
            LocalWord::LagWarning(about) | LocalWord::Detached(about) => Some(about),
        }
    }

    /// Like [`about`](Self::about), to fill in what an older version did not record.
    pub(in crate::runtime) fn about_mut(&mut self) -> Option<&mut AboutJob> {
        match &mut self.says {
            LocalWord::Boundary { .. } => None,
            LocalWord::LagWarning(about) | LocalWord::Detached(about) => Some(about),
        }
    }
}

impl NumberedRun {
    /// The last number.
    pub fn last_seq(&self) -> u64 {
        self.seq + self.count - 1
    }

    /// The event of the last number.
    pub fn last_event(&self) -> u64 {
        self.shown.map_or(self.event + self.count - 1, |shown| shown.last)
    }

    /// Appends another run, if it continues this one; otherwise returns it.
    pub fn join(&mut self, next: NumberedRun) -> Option<NumberedRun> {
        let classes = |run: &NumberedRun| run.shown.map(|shown| shown.classes);
        let joins = next.seq == self.seq + self.count
            && next.event == self.last_event() + 1
            && (next.log, next.request, next.subscription) == (self.log, self.request, self.subscription)
            && (self.role, next.role) == (FrameRole::Whole, FrameRole::Whole)
            && classes(self) == classes(&next);
        if joins {
            self.count += next.count;
            self.shown = next.shown;
        }
        (!joins).then_some(next)
    }

    /// Drops the numbers after `seq`, which is in the run; `last`: the event of `seq`, if that
    /// event is kept.
    pub(super) fn end_at(&mut self, seq: u64, last: Option<u64>) {
        self.count = seq - self.seq + 1;
        if let Some(shown) = &mut self.shown {
            // If the event of `seq` is gone, so is the first one.
            shown.last = last.unwrap_or(self.event);
        }
    }

    /// Drops the numbers before `seq`, which is in the run.
    pub fn begin_at(&mut self, seq: u64) {
        let gone = seq - self.seq;
        (self.seq, self.count) = (seq, self.count - gone);
        if self.shown.is_none() {
            self.event += gone;
        }
    }
}

/// Either form, as a store has it. Older versions recorded a local frame as an event of a job,
/// whose number was the time.
#[derive(Deserialize)]
struct Stored {
    seq: u64,
    #[serde(default = "one")]
    count: u64,
    job: Option<LogId>,
    #[serde(default)]
    event: u64,
    shown: Option<Shown>,
    part: Option<StoredRole>,
    #[serde(default)]
    request: u32,
    #[serde(default)]
    subscription: u32,
    frame: Option<LocalFrame>,
    /// The last of the numbers that were taken back.
    upto: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
enum StoredRole {
    Whole,
    StreamOpen,
    StreamClose,
    Boundary,
    #[serde(alias = "Behind")]
    LagWarning,
    Detached,
}

fn one() -> u64 {
    1
}

impl TryFrom<Stored> for Numbered {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Numbered, &'static str> {
        let Stored { seq, count, job, event, shown, part, request, subscription, frame, upto } = stored;
        if count == 0 || upto.is_some_and(|upto| upto < seq) {
            return Err("a run of no numbers");
        }
        if let Some(upto) = upto {
            return Ok(Numbered::TakenBack { seq, upto });
        }
        let (log, role) = match (frame, job, part) {
            (Some(frame), ..) => return Ok(Numbered::Local { seq, frame }),
            (None, Some(log), Some(role)) => (log, role),
            (None, ..) => return Err("neither frames of events nor a local frame"),
        };
        let local = |says| Ok(Numbered::Local { seq, frame: LocalFrame { at: UtcMs(event), says } });
        let about = || {
            let job = log.job().ok_or("a local frame about no job")?;
            Ok::<AboutJob, &'static str>(AboutJob { job, trace: String::new(), own: false })
        };
        let role = match role {
            StoredRole::Whole => FrameRole::Whole,
            StoredRole::StreamOpen => FrameRole::StreamOpen,
            StoredRole::StreamClose => FrameRole::StreamClose,
            StoredRole::Boundary => return local(LocalWord::Boundary { subscription }),
            StoredRole::LagWarning => return local(LocalWord::LagWarning(about()?)),
            StoredRole::Detached => return local(LocalWord::Detached(about()?)),
        };
        Ok(Numbered::Events(NumberedRun { seq, count, log, event, shown, role, request, subscription }))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::model::event::EventClass;

    fn run_of(stored: &str) -> NumberedRun {
        match serde_json::from_str(stored).expect("it is read") {
            Numbered::Events(run) => run,
            Numbered::Local { .. } | Numbered::TakenBack { .. } => panic!("{stored} is of events"),
        }
    }

    #[test]
    fn runs_that_were_stored_before_any_left_events_out_are_read() {
        let stored = r#"{"seq":7,"count":3,"job":"job_01KDVDNA0F9PHT3PKBES6T1S32","event":4,"part":"Whole","request":1,"subscription":2}"#;
        let run = run_of(stored);
        assert_eq!((run.last_seq(), run.last_event(), run.shown), (9, 6, None));
        assert_eq!(serde_json::to_string(&Numbered::Events(run)).expect("JSON"), stored, "and written as they were");
    }

    #[test]
    fn the_bits_of_stored_classes_stay_what_they_are() {
        let stored = r#"{"seq":7,"count":2,"job":"job_01KDVDNA0F9PHT3PKBES6T1S32","event":4,"shown":{"classes":65026,"last":9},"part":"Whole","request":0,"subscription":0}"#;
        let mut run = run_of(stored);
        let shown = run.shown.expect("it leaves events out");
        let classes: alloc::vec::Vec<EventClass> = shown.classes.iter().collect();
        use EventClass::{Cancelled, Checkpoint, Chunk, Failed, Log, Progress, Succeeded, Vendor};
        assert_eq!(classes, [Log, Progress, Checkpoint, Vendor, Chunk, Succeeded, Failed, Cancelled]);
        assert_eq!(serde_json::to_string(&Numbered::Events(run)).expect("JSON"), stored);
        run.begin_at(8);
        assert_eq!((run.count, run.last_event()), (1, 9));
    }

    #[test]
    fn local_frames_that_were_stored_as_events_of_a_job_are_read() {
        let job = JobId::parse("job_01KDVDNA0F9PHT3PKBES6T1S32").expect("an id");
        let about = || AboutJob { job, trace: String::new(), own: false };
        let kinds = [
            ("Boundary", LocalWord::Boundary { subscription: 2 }),
            ("Behind", LocalWord::LagWarning(about())),
            ("LagWarning", LocalWord::LagWarning(about())),
            ("Detached", LocalWord::Detached(about())),
        ];
        for (part, says) in kinds {
            let stored = alloc::format!(
                r#"{{"seq":7,"count":1,"job":"{job}","event":1767225600000,"part":"{part}","request":0,"subscription":2}}"#
            );
            let read: Numbered = serde_json::from_str(&stored).expect("it is read");
            assert_eq!(read, Numbered::Local { seq: 7, frame: LocalFrame { at: UtcMs(1_767_225_600_000), says } });
            let again = serde_json::to_string(&read).expect("JSON");
            assert_eq!(serde_json::from_str::<Numbered>(&again).expect("and as it is stored now"), read);
        }
        for neither in [r#"{"seq":7}"#, r#"{"seq":7,"count":1,"job":"job_01KDVDNA0F9PHT3PKBES6T1S32","event":1}"#] {
            assert!(serde_json::from_str::<Numbered>(neither).is_err(), "{neither}");
        }
    }

    #[test]
    fn numbers_that_were_taken_back_are_read_as_they_were_stored() {
        let taken_back = Numbered::TakenBack { seq: 3, upto: 9 };
        let stored = serde_json::to_string(&taken_back).expect("JSON");
        assert_eq!(stored, r#"{"seq":3,"upto":9}"#);
        assert_eq!(serde_json::from_str::<Numbered>(&stored).expect("it is read"), taken_back);
        assert_eq!((taken_back.seq(), taken_back.last_seq()), (3, 9));
        assert!(serde_json::from_str::<Numbered>(r#"{"seq":3,"upto":2}"#).is_err(), "none at all");
    }

    #[test]
    fn a_run_of_a_log_that_is_not_known_is_no_run_of_a_job() {
        let stored = |log| {
            alloc::format!(
                r#"{{"seq":1,"count":1,"job":"{log}","event":1,"part":"Whole","request":0,"subscription":0}}"#
            )
        };
        let read = |log| serde_json::from_str::<Numbered>(&stored(log));
        assert!(matches!(read("job_01KDVDNA0F9PHT3PKBES6T1S32"), Ok(Numbered::Events(_))));
        for other in ["strm_01KDVDNA0F9PHT3PKBES6T1S32", "01KDVDNA0F9PHT3PKBES6T1S32", ""] {
            assert!(read(other).is_err(), "{other}");
        }
    }

    #[test]
    fn runs_join_where_nothing_is_left_out_between_them() {
        let log = LogId::Job(JobId::from_ulid(ulid::Ulid::nil()));
        let classes = EventClasses::new(&[EventClass::Metric]);
        let run = |seq, event, last| NumberedRun {
            seq,
            count: 1,
            log,
            event,
            shown: Some(Shown { classes, last }),
            role: FrameRole::Whole,
            request: 0,
            subscription: 0,
        };
        let mut one = run(1, 1, 4);
        assert_eq!(one.join(run(2, 6, 6)), Some(run(2, 6, 6)), "event 5 may be one of them");
        assert_eq!(
            one.join(NumberedRun { shown: None, ..run(2, 5, 0) }),
            Some(NumberedRun { shown: None, ..run(2, 5, 0) })
        );
        assert_eq!(one.join(run(2, 5, 8)), None);
        assert_eq!((one.count, one.last_seq(), one.last_event()), (2, 2, 8));
    }

    #[test]
    fn a_run_is_its_numbers_and_their_events_however_it_is_joined_and_cut() {
        let log = |n| LogId::Job(JobId::from_ulid(ulid::Ulid::from_parts(n, 0)));
        let plain = |seq, event, count| NumberedRun {
            seq,
            count,
            log: log(1),
            event,
            shown: None,
            role: FrameRole::Whole,
            request: 3,
            subscription: 4,
        };
        let pairs = |run: &NumberedRun| (0..run.count).map(|k| (run.seq + k, run.event + k)).collect::<Vec<_>>();
        for (first, second) in (1..4).flat_map(|first| (1..4).map(move |second| (first, second))) {
            let mut run = plain(5, 2, first);
            let next = plain(5 + first, 2 + first, second);
            for other in [
                NumberedRun { seq: next.seq - 1, ..next },
                NumberedRun { seq: next.seq + 1, ..next },
                NumberedRun { event: next.event - 1, ..next },
                NumberedRun { event: next.event + 1, ..next },
                NumberedRun { log: log(2), ..next },
                NumberedRun { request: 0, ..next },
                NumberedRun { subscription: 0, ..next },
                NumberedRun { role: FrameRole::StreamClose, ..next },
            ] {
                assert_eq!((run.join(other), run), (Some(other), plain(5, 2, first)), "it does not go on there");
            }
            let mut opens = NumberedRun { role: FrameRole::StreamOpen, ..run };
            assert_eq!(opens.join(next), Some(next), "what opens a stream is the first of its event");
            assert_eq!(run.join(next), None);
            let whole: Vec<(u64, u64)> = (0..first + second).map(|k| (5 + k, 2 + k)).collect();
            assert_eq!((pairs(&run), run.last_seq(), run.last_event()), (whole.clone(), 4 + run.count, 1 + run.count));
            for (from, upto) in
                (5..=run.last_seq()).flat_map(|from| (from..=run.last_seq()).map(move |upto| (from, upto)))
            {
                let mut cut = run;
                cut.end_at(upto, None);
                cut.begin_at(from);
                let left: Vec<(u64, u64)> =
                    whole.iter().copied().filter(|(seq, _)| (from..=upto).contains(seq)).collect();
                assert_eq!(
                    (pairs(&cut), Some((cut.last_seq(), cut.last_event()))),
                    (left.clone(), left.last().copied())
                );
            }
        }
    }

    #[test]
    fn a_run_that_leaves_events_out_says_where_it_ends_and_not_where_it_begins() {
        let classes = EventClasses::new(&[EventClass::Metric]);
        let run = NumberedRun {
            seq: 5,
            count: 3,
            log: LogId::Job(JobId::from_ulid(ulid::Ulid::nil())),
            event: 2,
            shown: Some(Shown { classes, last: 9 }),
            role: FrameRole::Whole,
            request: 0,
            subscription: 0,
        };
        let cut = |from, upto, last| {
            let mut cut = run;
            cut.end_at(upto, last);
            cut.begin_at(from);
            (cut.seq, cut.count, cut.event, cut.last_event())
        };
        assert_eq!(cut(5, 7, Some(9)), (5, 3, 2, 9));
        assert_eq!(cut(6, 7, Some(9)), (6, 2, 2, 9));
        assert_eq!(cut(5, 6, Some(4)), (5, 2, 2, 4));
        assert_eq!(cut(7, 7, Some(9)), (7, 1, 2, 9));
        assert_eq!(cut(5, 5, None), (5, 1, 2, 2), "the event behind the last one is gone");
        let local = || Numbered::TakenBack { seq: 8, upto: 8 };
        assert_eq!(Numbered::Events(run).join(local()), Some(local()));
        assert_eq!(local().join(Numbered::Events(run)), Some(Numbered::Events(run)));
    }
}
