//! The history that a subscription requests: which events of which jobs.

use alloc::vec::Vec;

use super::feeds::Feeds;
use super::filter::EventFilter;
use super::index::{EventEntry, IndexEntry};
use super::message_id::{event_of_copy, tag, tag_and_number};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, SessionId, WireId};
use crate::model::request::Since;
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::io::LocalFrame;
use crate::runtime::job::{Job, Jobs};
use crate::time::UtcMs;
use crate::wire::FrameRole;

/// The jobs whose history a subscription is sent, each with the first event.
#[derive(Debug, Default)]
pub(super) struct Backfill {
    pub(super) jobs: Vec<(JobId, u64)>,
    /// Whether a frame marks the end of the history.
    pub(super) bounded: bool,
}

/// Where that history begins.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Beginning,
    /// After this time; in this job, after this event.
    After {
        at: UtcMs,
        job: Option<JobId>,
        event: u64,
    },
}

impl Backfill {
    /// All jobs that the filter covers, each with the first event after the point that a client
    /// names.
    ///
    /// # Errors
    ///
    /// If that is too much, unknown, or was deleted.
    pub(super) fn new(
        ctx: &Context,
        jobs: &Jobs,
        feeds: &Feeds,
        session: SessionId,
        filter: &EventFilter,
        since: Option<&Since>,
    ) -> Result<Backfill, Violation> {
        let unknown = || Violation::invalid("the session is gone");
        let viewer = feeds.get(session).ok_or_else(unknown)?.viewer();
        let cut = match since {
            None => return Ok(Backfill::default()),
            Some(Since::Beginning) => Cut::Beginning,
            Some(Since::Message(message)) => Cut::new(ctx, jobs, feeds, session, message)?,
        };
        let visible = authority::visible_jobs(&ctx.config, jobs, viewer);
        let covered = visible.filter(|(id, job)| !job.is_expired() && filter.covers(*id, job));
        let (mut events, mut found) = (0, Vec::new());
        for (id, job) in covered {
            let from = first_after(cut, id, job)?;
            events += (job.count() + 1).saturating_sub(from);
            found.push((id, from));
        }
        let most = ctx.config.limits.session.backfill_events;
        if events > most {
            let large =
                alloc::format!("more than {most} events of the past: ask for fewer jobs, or after a later message");
            return Err(Violation::exhausted("backfill_events", BoundOf::Request, most, large));
        }
        Ok(Backfill { jobs: found, bounded: true })
    }
}

impl Feeds {
    /// The event of a message that a client of the same principal was sent, if it is still known.
    pub(in crate::runtime) fn event_of_message(
        &self,
        ctx: &Context,
        jobs: &Jobs,
        own: SessionId,
        message: &WireId,
    ) -> Option<(JobId, u64)> {
        let (message_tag, number) = tag_and_number(message.message_ulid()?);
        if let Some(session) = self.tagged(own, message_tag) {
            return match self.get(session)?.index().at(number, jobs)? {
                IndexEntry::Event(EventEntry { log, n, .. }) => Some((log.job()?, n)),
                IndexEntry::Local { .. } => None,
            };
        }
        let viewer = self.get(own)?.viewer();
        let mut visible = authority::visible_jobs(&ctx.config, jobs, viewer);
        let (job, _) = visible.find(|(id, _)| tag(id.ulid()) == message_tag)?;
        Some((job, event_of_copy(number)))
    }
}

impl Cut {
    /// The event of a message that a client of the same principal was sent.
    fn new(ctx: &Context, jobs: &Jobs, feeds: &Feeds, own: SessionId, message: &WireId) -> Result<Cut, Violation> {
        let unknown = || Violation::new(ErrorCode::JobNotFound, "`after_message_id`: no such message is known here");
        let ulid = message.message_ulid().ok_or_else(unknown)?;
        let (message_tag, number) = tag_and_number(ulid);
        let at = UtcMs(ulid.timestamp_ms());
        if let Some(session) = feeds.tagged(own, message_tag) {
            let index = feeds.get(session).ok_or_else(unknown)?.index();
            let given = (1..=index.head()).contains(&number);
            let entry = index.at(number, jobs).ok_or_else(|| if given { trimmed() } else { unknown() })?;
            let (job, event) = match entry {
                IndexEntry::Event(EventEntry { log, n, role, .. }) => match role {
                    FrameRole::Whole => (log.job(), n),
                    // The event itself comes after these frames.
                    FrameRole::StreamOpen | FrameRole::StreamClose => (log.job(), n - 1),
                },
                // A local frame comes after the events that were numbered before it.
                IndexEntry::Local { n } => {
                    let job = index.local(n).and_then(LocalFrame::about).map(|about| about.job);
                    (job, job.map_or(0, |job| index.event_at_or_before(job, number, jobs)))
                }
            };
            return Ok(Cut::After { at, job, event });
        }
        let viewer = feeds.get(own).ok_or_else(unknown)?.viewer();
        let mut visible = authority::visible_jobs(&ctx.config, jobs, viewer);
        let (job, _) = visible.find(|(id, _)| tag(id.ulid()) == message_tag).ok_or_else(unknown)?;
        Ok(Cut::After { at, job: Some(job), event: event_of_copy(number) })
    }
}

/// The first event of a job after a cut: ordered by time, and within a millisecond by job.
fn first_after(cut: Cut, id: JobId, job: &Job) -> Result<u64, Violation> {
    // The acceptance comes with the first event.
    let beginning = if job.history().first() == 1 { 0 } else { job.history().first() };
    let Cut::After { at, job: cut_job, event } = cut else {
        return Ok(beginning);
    };
    let later = |when: UtcMs| (when, Some(id)) > (at, cut_job);
    let from = if Some(id) == cut_job {
        event + 1
    } else if later(job.spec().created_at) {
        0
    } else {
        return first_later(job, later);
    };
    // Deleted events belong to the history: they came after the message, or with the acceptance.
    if from.max(1) < job.history().first() { Err(trimmed()) } else { Ok(from) }
}

/// The first event after the cut, of a job that was accepted before it.
fn first_later(job: &Job, later: impl Fn(UtcMs) -> bool) -> Result<u64, Violation> {
    if job.end().is_some_and(|end| !later(end.at)) {
        return Ok(job.count() + 1);
    }
    job.history().first_where(later).ok_or_else(trimmed)
}

fn trimmed() -> Violation {
    let why = "`after_message_id`: too long ago to tell what came later in every job: subscribe from the beginning";
    Violation::new(ErrorCode::ResumeWindowExpired, why)
}
