//! Listings: of the jobs that a principal may see, oldest first, with a keyset cursor (1.1 §6.6);
//! of sessions and of schedules.

mod schedules;
mod sessions;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use ulid::Ulid;

use super::authority::Viewer;
use super::context::Context;
use super::job::{Job, Jobs, Wait, lease, waits};
use super::schedule::Schedules;
use super::session::{Session, Sessions};
use super::{Runtime, authority};
use crate::error::Violation;
use crate::id::{JobId, Principal, WireId};
use crate::model::agent::AgentRef;
use crate::model::feature::Feature;
use crate::model::job::{JobStatus, JobSummary, JobWaits};
use crate::model::reply::{JobPage, SessionReply};
use crate::model::request::ListQuery;
use crate::policy::Roles;
pub(super) use schedules::ScheduleListing;
pub(super) use sessions::SessionListing;

const DEFAULT_PAGE: u64 = 100;
const LARGEST_PAGE: u64 = 1000;
/// Bytes of a cursor's tag. It is valid as long as the runtime runs, and each guess costs a
/// request.
const TAG: usize = 12;
/// Bytes of an entry besides its lease and owner, rounded up.
const ENTRY_BYTES: usize = 512;

/// A requested page.
#[derive(Debug)]
pub(super) enum Listing {
    Jobs(Box<JobListing>),
    Sessions(SessionListing),
    Schedules(ScheduleListing),
}

/// A requested page of jobs.
#[derive(Debug)]
pub(super) struct JobListing {
    request: WireId,
    principal: Principal,
    /// The roles by which the policy may show it the jobs of others.
    roles: Option<Roles>,
    after: Option<JobId>,
    query: ListQuery,
}

impl Listing {
    /// Bytes it holds, approximately.
    pub(super) fn weight(&self) -> usize {
        match self {
            Listing::Jobs(listing) => listing.weight(),
            Listing::Sessions(_) => ENTRY_BYTES,
            Listing::Schedules(listing) => ENTRY_BYTES + listing.weight(),
        }
    }

    /// Makes the page, as of now.
    pub(super) fn page(
        &self,
        ctx: &Context,
        sessions: &Sessions,
        (jobs, schedules): (&Jobs, &Schedules),
    ) -> SessionReply {
        match self {
            Listing::Jobs(listing) => SessionReply::Jobs(listing.page(ctx, jobs)),
            Listing::Sessions(listing) => SessionReply::Sessions(listing.page(ctx, sessions)),
            Listing::Schedules(listing) => SessionReply::Schedules(listing.page(ctx, schedules)),
        }
    }
}

impl JobListing {
    /// The page that a session requests.
    ///
    /// # Errors
    ///
    /// If the session may not list, or the query is invalid.
    pub(super) fn new(
        ctx: &Context,
        session: &Session,
        request: WireId,
        query: ListQuery,
    ) -> Result<JobListing, Violation> {
        if !session.view().features.has(Feature::ListJobs) {
            return Err(Violation::invalid("listing needs the feature `list_jobs`, which was not negotiated"));
        }
        let limit = match query.limit.unwrap_or(DEFAULT_PAGE) {
            within @ 1..=LARGEST_PAGE => within,
            beyond if session.view().profile.clamps_page_size() => beyond.clamp(1, LARGEST_PAGE),
            _ => return Err(Violation::invalid("`limit` must be 1 to 1000")),
        };
        let (principal, roles) = (session.principal().clone(), session.viewer().roles.cloned());
        let after = query.cursor.as_deref().map(|cursor| read_cursor(ctx, &principal, cursor)).transpose()?;
        let query = ListQuery { cursor: None, limit: Some(limit), ..query };
        Ok(JobListing { request, principal, roles, after, query })
    }

    fn weight(&self) -> usize {
        ENTRY_BYTES + self.query.status.len()
    }

    /// Makes the page, as of now.
    fn page(&self, ctx: &Context, jobs: &Jobs) -> JobPage {
        let JobListing { request, principal, roles, after, query } = self;
        let viewer = Viewer { principal, roles: roles.as_ref() };
        let limit = query.limit.unwrap_or(DEFAULT_PAGE);
        let (mut found, mut bytes) = (Vec::new(), 0);
        let page_bytes = ctx.config.limits.frame.result_frame_bytes / 2;
        let (mut seen, mut next) = (*after, None);
        for (scanned, (id, job)) in authority::perhaps_visible_jobs(&ctx.config, jobs, viewer, *after).enumerate() {
            if found.len() as u64 == limit || bytes >= page_bytes || scanned == ctx.config.limits.connection.list_scan {
                next = seen;
                break;
            }
            seen = Some(id);
            if authority::sees(&ctx.config, viewer, job) && matches(job, query) {
                let mut entry = summary(id, job);
                entry.waits.place = jobs.lines().place(&ctx.config, job);
                bytes += ENTRY_BYTES + entry.lease.as_str().len() + entry.owner.as_ref().map_or(0, String::len);
                found.push(entry);
            }
        }
        let next = next.map(|last| write_cursor(ctx, principal, last));
        JobPage { request: Some(request.clone()), next, jobs: found }
    }
}

/// All unfinished jobs of a runtime, oldest first: for an operator who wants to end it.
pub fn unfinished(runtime: &Runtime) -> Vec<JobSummary> {
    let going = runtime.jobs.table().of_all(None).filter(|(_, job)| !job.is_terminal());
    going.map(|(id, job)| summary(id, job)).collect()
}

/// How many unfinished jobs each agent has, by status. Costs time in proportion to the jobs.
pub fn unfinished_by_agent(runtime: &Runtime) -> BTreeMap<(&str, JobStatus), usize> {
    let going = runtime.jobs.table().of_all(None).filter(|(_, job)| !job.is_terminal());
    let mut counts = BTreeMap::new();
    going.for_each(|(_, job)| *counts.entry((job.spec().agent.name(), job.status())).or_default() += 1);
    counts
}

/// All that a job waits for, except its agent; [`Runtime::waits`] has only the first.
pub fn waits_of(runtime: &Runtime, job: JobId) -> Vec<Wait> {
    runtime.jobs.get(job).map(|job| waits(job).collect()).unwrap_or_default()
}

/// The agent of a job, as long as the job is in memory.
pub fn agent_of(runtime: &Runtime, job: JobId) -> Option<&AgentRef> {
    runtime.jobs.get(job).map(|job| &job.spec().agent)
}

fn write_cursor(ctx: &Context, principal: &Principal, last: JobId) -> String {
    let mut bytes = last.ulid().to_bytes().to_vec();
    bytes.extend_from_slice(&cursor_mac(ctx, principal, last).finalize().into_bytes()[..TAG]);
    BASE64.encode(bytes)
}

fn read_cursor(ctx: &Context, principal: &Principal, cursor: &str) -> Result<JobId, Violation> {
    let bad = || Violation::invalid("`cursor` is not one this runtime gave you: start without one");
    let bytes = BASE64.decode(cursor).map_err(|_| bad())?;
    let (id, tag) = bytes.split_first_chunk().filter(|(_, tag)| tag.len() == TAG).ok_or_else(bad)?;
    let last = JobId::from_ulid(Ulid::from_bytes(*id));
    cursor_mac(ctx, principal, last).verify_truncated_left(tag).map(|()| last).map_err(|_| bad())
}

/// The tag lets a cursor be checked without state here, and nobody else can make one.
fn cursor_mac(ctx: &Context, principal: &Principal, last: JobId) -> Hmac<Sha256> {
    // As HMAC does, a key shorter than a block is padded with zeros.
    let mut key = [0; 64];
    key[..ctx.cursor_key.len()].copy_from_slice(&ctx.cursor_key);
    Hmac::<Sha256>::new(&key.into()).chain_update(last.ulid().to_bytes()).chain_update(principal.to_string())
}

fn matches(job: &Job, query: &ListQuery) -> bool {
    let status = job.status();
    let agent = query.agent.as_ref().is_none_or(|asked| {
        asked.name() == job.spec().agent.name() && asked.version().is_none_or(|v| job.spec().agent.version() == Some(v))
    });
    !job.is_expired()
        && agent
        && (query.status.is_empty() || query.status.iter().any(|asked| fits(*asked, status)))
        && query.created_after.is_none_or(|at| job.spec().created_at > at)
        && query.created_before.is_none_or(|at| job.spec().created_at <= at)
}

/// A filter for running jobs also finds blocked and paused ones.
fn fits(asked: JobStatus, status: JobStatus) -> bool {
    asked == status || asked == JobStatus::Running && matches!(status, JobStatus::Blocked | JobStatus::Paused)
}

fn summary(id: JobId, job: &Job) -> JobSummary {
    JobSummary {
        job: id.into(),
        agent: job.spec().agent.to_string(),
        status: Some(job.status()),
        lease: job.spec().lease.clone(),
        constraints: job.spec().bounds.constraints,
        budget: lease::budget_left(job),
        raised: lease::budget_raised(job),
        parent: job.spec().origin().map(Into::into),
        created_at: Some(job.spec().created_at),
        trace: Some(job.spec().trace.clone()),
        last_event: job.count(),
        ended_at: job.end().map(|end| end.at),
        owner: Some(job.spec().principal.to_string()),
        trust: Some(lease::trust(job)),
        waits: JobWaits { place: None, what: waits_for(job) },
    }
}

/// The kinds of things that a job waits for, without their ids.
fn waits_for(job: &Job) -> Vec<String> {
    let words: BTreeSet<&str> = waits(job).map(Wait::as_str).collect();
    words.into_iter().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_stand_still_are_running_ones_to_whoever_asks_in_few_words() {
        let (pending, running, blocked) = (JobStatus::Pending, JobStatus::Running, JobStatus::Blocked);
        for (asked, status, shown) in [
            (running, running, true),
            (running, blocked, true),
            (running, JobStatus::Paused, true),
            (blocked, blocked, true),
            (blocked, running, false),
            (pending, blocked, false),
            (running, pending, false),
        ] {
            assert_eq!(fits(asked, status), shown, "{asked:?} {status:?}");
        }
    }
}
