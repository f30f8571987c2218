//! The filter of a subscription.

use alloc::collections::BTreeSet;
use alloc::string::String;

use crate::id::{JobId, SessionId};
use crate::model::event::{EventClass, EventClasses};
use crate::model::request::{Filter, Priority};
use crate::runtime::job::Job;
use crate::wire::{self, FrameRole};

/// Bytes of an entry of a list besides its text, rounded up.
const ENTRY: usize = 64;

/// Classes of events that belong to streams.
const OF_STREAMS: EventClasses = EventClasses::new(&[
    EventClass::Thought,
    EventClass::StreamOpen,
    EventClass::StreamChunk,
    EventClass::StreamClose,
    EventClass::StreamError,
]);

/// The job of a stream. A filter that names a stream lets all streams of its job through, because
/// events do not record their stream.
fn job_of_stream(id: &str) -> Option<JobId> {
    JobId::parse(&alloc::format!("job_{}", id.strip_prefix("str_")?.split('_').next()?))
}

/// A filter, compiled so that every condition is a look-up.
#[derive(Debug)]
pub(super) struct EventFilter {
    sessions: Option<BTreeSet<SessionId>>,
    traces: Option<BTreeSet<String>>,
    jobs: Option<BTreeSet<JobId>>,
    streams: Option<BTreeSet<JobId>>,
    types: Option<u32>,
    min_priority: Priority,
    classes: EventClasses,
}

impl EventFilter {
    pub(super) fn new(filter: &Filter) -> EventFilter {
        fn set<T: Ord>(list: &[String], read: impl Fn(&String) -> Option<T>) -> Option<BTreeSet<T>> {
            // Ids that this runtime did not make match nothing; they must not widen the filter.
            (!list.is_empty()).then(|| list.iter().filter_map(read).collect())
        }
        let mut compiled = EventFilter {
            sessions: set(&filter.sessions, |id| SessionId::parse(id)),
            traces: set(&filter.traces, |trace| Some(trace.clone())),
            jobs: set(&filter.jobs, |id| JobId::parse(id)),
            streams: set(&filter.streams, |id| job_of_stream(id)),
            types: (!filter.types.is_empty()).then(|| wire::observed_types(&filter.types)),
            min_priority: filter.min_priority.unwrap_or(Priority::Low),
            classes: EventClasses::default(),
        };
        let shown = EventClass::ALL.into_iter().filter(|class| compiled.shows(Some(*class), FrameRole::Whole));
        compiled.classes = shown.collect();
        compiled
    }

    /// Whether the filter may let events of a job through.
    pub(super) fn covers(&self, id: JobId, job: &Job) -> bool {
        self.sessions.as_ref().is_none_or(|sessions| sessions.contains(&job.submitter()))
            && self.traces.as_ref().is_none_or(|traces| traces.contains(&job.spec().trace))
            && self.jobs.as_ref().is_none_or(|jobs| jobs.contains(&id))
            && self.streams.as_ref().is_none_or(|streams| streams.contains(&id))
    }

    /// Bytes it holds, approximately.
    pub(super) fn weight(&self) -> usize {
        let traces = self.traces.iter().flatten();
        let ids = [&self.jobs, &self.streams].into_iter().flatten().map(BTreeSet::len).sum::<usize>()
            + self.sessions.as_ref().map_or(0, BTreeSet::len);
        size_of::<EventFilter>() + ids * ENTRY + traces.map(|trace| ENTRY + trace.len()).sum::<usize>()
    }

    /// The classes of events of which it lets every frame through, for a job that it covers.
    pub(super) fn classes(&self) -> EventClasses {
        self.classes
    }

    /// Whether it lets a frame of an event through (`None`: of the acceptance), for a job that it
    /// covers.
    pub(super) fn shows(&self, class: Option<EventClass>, role: FrameRole) -> bool {
        let (kind, priority) = wire::observed_type(class, role);
        let of_stream = role == FrameRole::StreamOpen
            || role == FrameRole::StreamClose
            || role == FrameRole::Whole && class.is_some_and(|class| OF_STREAMS.has(class));
        self.types.is_none_or(|types| types & kind != 0)
            && priority >= self.min_priority
            && (self.streams.is_none() || of_stream)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_filter_weighs_as_much_as_its_lists() {
        let list = |ids: &[&str]| ids.iter().map(|id| String::from(*id)).collect::<Vec<String>>();
        let weight = |filter: Filter| EventFilter::new(&filter).weight() - size_of::<EventFilter>();
        assert_eq!(weight(Filter::default()), 0);
        let jobs = list(&["job_01KDVDNA09Z9GEBBX0JS6RDFE6", "job_01KDVDNA083DM7E736JB7S998R"]);
        let sessions = list(&["sess_01KDVDNA0233RQ3RRSFQHS1P05"]);
        let streams = list(&["str_01KDVDNA09Z9GEBBX0JS6RDFE6_1"]);
        let traces = list(&["abc", "defgh"]);
        assert_eq!(weight(Filter { jobs: jobs.clone(), ..Filter::default() }), 2 * ENTRY);
        assert_eq!(weight(Filter { traces: traces.clone(), ..Filter::default() }), 2 * ENTRY + 8);
        assert_eq!(weight(Filter { sessions, traces, jobs, streams, ..Filter::default() }), 6 * ENTRY + 8);
    }
}
