//! Listing jobs: those a principal may see, oldest first, by keyset cursor
//! (1.1 §6.6).

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use super::Runtime;
use super::authority;
use super::connection::Content;
use super::job::Job;
use crate::error::Violation;
use crate::id::{ConnId, JobId, Principal, SessionId, WireId};
use crate::model::feature::Feature;
use crate::model::job::{JobStatus, JobSummary};
use crate::model::reply::{Concern, JobPage, Refusal};
use crate::model::request::ListQuery;

const DEFAULT_PAGE: u64 = 100;
const LARGEST_PAGE: u64 = 1000;
/// What an entry takes besides its lease, generously.
const ENTRY_BYTES: usize = 512;

/// A page that was asked for.
#[derive(Debug)]
pub(super) struct Listing {
    request: WireId,
    principal: Principal,
    after: Option<JobId>,
    query: ListQuery,
}

impl Listing {
    /// Bytes it holds, roughly.
    pub(super) fn weight(&self) -> usize {
        ENTRY_BYTES + self.query.status.len()
    }
}

impl Runtime {
    pub(super) fn on_list(&mut self, conn: ConnId, session: SessionId, id: WireId, query: &ListQuery) {
        match self.listing(session, &id, query) {
            Ok(listing) => self.answer(conn, Content::Page(listing)),
            Err(violation) => self.refuse(conn, Refusal::of(Concern::Listing, violation, Some(id))),
        }
    }

    fn listing(&self, session: SessionId, request: &WireId, query: &ListQuery) -> Result<Listing, Violation> {
        let session = self.sessions.get(session).ok_or_else(|| Violation::invalid("the session is gone"))?;
        if !session.view().features.has(Feature::ListJobs) {
            return Err(Violation::invalid("listing needs the feature `list_jobs`, which was not negotiated"));
        }
        let limit = match query.limit.unwrap_or(DEFAULT_PAGE) {
            within @ 1..=LARGEST_PAGE => within,
            beyond if session.view().profile.clamps_page_size() => beyond.clamp(1, LARGEST_PAGE),
            _ => return Err(Violation::invalid("`limit` must be 1 to 1000")),
        };
        let principal = session.principal().clone();
        let after = query.cursor.as_deref().map(|cursor| self.read_cursor(&principal, cursor)).transpose()?;
        let query = ListQuery { cursor: None, limit: Some(limit), ..query.clone() };
        Ok(Listing { request: request.clone(), principal, after, query })
    }

    /// Looks a page up, as it is now.
    pub(super) fn page(&self, listing: &Listing) -> JobPage {
        let Listing { request, principal, after, query } = listing;
        let after = *after;
        let limit = query.limit.unwrap_or(DEFAULT_PAGE);
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        let page_bytes = self.ctx.config.limits.result_frame_bytes / 2;
        let (mut seen, mut next) = (after, None);
        for (scanned, (id, job)) in authority::visible_jobs(&self.ctx.config, &self.jobs, principal, after).enumerate()
        {
            if jobs.len() as u64 == limit || bytes >= page_bytes || scanned == self.ctx.config.limits.list_scan {
                next = seen;
                break;
            }
            seen = Some(id);
            if matches(job, query) {
                bytes += ENTRY_BYTES + job.spec().lease.as_str().len();
                jobs.push(summary(id, job));
            }
        }
        JobPage { request: Some(request.clone()), next: next.map(|last| self.write_cursor(principal, last)), jobs }
    }

    fn write_cursor(&self, principal: &Principal, last: JobId) -> String {
        let mut bytes = last.ulid().to_bytes().to_vec();
        bytes.extend_from_slice(&self.cursor_mac(principal, last)[..12]);
        BASE64.encode(bytes)
    }

    fn read_cursor(&self, principal: &Principal, cursor: &str) -> Result<JobId, Violation> {
        let bad = || Violation::invalid("`cursor` is not one this runtime gave you: start without one");
        let bytes = BASE64.decode(cursor).map_err(|_| bad())?;
        let (id, mac) = bytes.split_at_checked(16).ok_or_else(bad)?;
        let id: [u8; 16] = id.try_into().map_err(|_| bad())?;
        let last = JobId::from_ulid(Ulid::from_bytes(id));
        (mac == &self.cursor_mac(principal, last)[..12]).then_some(last).ok_or_else(bad)
    }

    /// Cursors hold no state here, and nobody else can make one.
    fn cursor_mac(&self, principal: &Principal, last: JobId) -> [u8; 32] {
        let inner = Sha256::new()
            .chain_update(self.ctx.cursor_key)
            .chain_update(last.ulid().to_bytes())
            .chain_update(principal.to_string())
            .finalize();
        Sha256::new().chain_update(self.ctx.cursor_key).chain_update(inner).finalize().into()
    }
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

/// Blocked and paused jobs are running ones to whoever asks in few words.
fn fits(asked: JobStatus, status: JobStatus) -> bool {
    asked == status || asked == JobStatus::Running && matches!(status, JobStatus::Blocked | JobStatus::Paused)
}

fn summary(id: JobId, job: &Job) -> JobSummary {
    JobSummary {
        job: id.into(),
        agent: job.spec().agent.to_string(),
        status: Some(job.status()),
        lease: job.spec().lease.clone(),
        parent: None,
        created_at: Some(job.spec().created_at),
        trace: Some(job.spec().trace.clone()),
        last_event: job.count(),
    }
}
