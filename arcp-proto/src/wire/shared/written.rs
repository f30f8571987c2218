//! Writing replies and requests that are the same in both families.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::WireId;
use crate::json::{Object, push_string};
use crate::lease::{Budget, Constraints};
use crate::model::agent::AgentEntry;
use crate::model::artifact::BlobDigest;
use crate::model::credential::ProvisionedCredential;
use crate::model::event::{ChunkEncoding, ResultChunk};
use crate::model::feature::{Feature, Features};
use crate::model::job::{JobStatus, JobSummary};
use crate::model::reply::{JobPage, Watching};
use crate::model::request::{ListQuery, ResumeClaim, Watch};
use crate::time::UtcMs;
use crate::trust::TrustLevel;
use crate::wire::View;
use crate::wire::sidecar::{self, SIDECAR};

/// The member with the details of an agent, in both families.
pub(in crate::wire) const DETAILS: &str = "x-vendor.arcp.details";

/// The differences of the families in these messages.
#[derive(Clone, Copy)]
pub(in crate::wire) struct Words<'a> {
    pub(in crate::wire) view: &'a View,
    /// The word for the status of a job.
    pub(in crate::wire) status: fn(JobStatus) -> &'static str,
    /// Whether clients of the family accept this text as a trace.
    pub(in crate::wire) is_trace: fn(&str) -> bool,
}

/// The type and payload of a close.
pub(in crate::wire) fn write_closed(reason: Option<&str>) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("reason", reason);
    ("session.closed", payload.done())
}

pub(in crate::wire) fn write_ping(nonce: &str, at: UtcMs) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("nonce", nonce).display("sent_at", at);
    ("session.ping", payload.done())
}

pub(in crate::wire) fn write_pong(nonce: &str, at: UtcMs) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("ping_nonce", nonce).display("received_at", at);
    ("session.pong", payload.done())
}

pub(in crate::wire) fn write_jobs(words: Words<'_>, page: &JobPage) -> (&'static str, String) {
    ("session.jobs", write_page(words, page))
}

fn write_page(words: Words<'_>, page: &JobPage) -> String {
    let mut payload = Object::new();
    payload.opt_str("request_id", page.request.as_ref().map(WireId::as_str));
    payload.opt_str("reply_to", words.view.reply_to(page.request.as_ref()));
    let entries: Vec<String> = page.jobs.iter().map(|job| write_summary(words, job)).collect();
    payload.array("jobs", entries);
    match &page.next {
        Some(cursor) => drop(payload.str("next_cursor", cursor)),
        None if words.view.profile.reads_null_cursor() => drop(payload.raw("next_cursor", "null")),
        None => {}
    }
    payload.done()
}

fn write_summary(words: Words<'_>, job: &JobSummary) -> String {
    let mut entry = Object::new();
    entry
        .str("job_id", job.job.as_str())
        .str("agent", shown_agent(words.view, &job.agent))
        .str("status", (words.status)(job.status.unwrap_or(JobStatus::Pending)))
        .raw("lease", job.lease.as_str());
    write_lease_bounds(words.view, &mut entry, job.constraints, &job.budget);
    write_parent(&mut entry, job.parent.as_ref());
    if let Some(at) = job.created_at {
        entry.display("created_at", at).display("submitted_at", at);
    }
    entry
        .opt_str("trace_id", job.trace.as_deref().filter(|trace| (words.is_trace)(trace)))
        .u64("last_event_seq", job.last_event);
    if words.view.features.has(Feature::ListDetails) {
        if let Some(at) = job.ended_at {
            entry.display("ended_at", at);
        }
        entry.opt_str("principal", job.owner.as_deref());
        entry.opt_str("trust_level", job.trust.map(TrustLevel::as_str));
        if !job.raised.is_empty() {
            entry.raw("budget_raised", job.raised.to_json().as_str());
        }
        if let Some(place) = job.waits.place {
            entry.u64("place", place);
        }
        if !job.waits.what.is_empty() {
            entry.array("waits_for", job.waits.what.iter().map(|word| quoted(word)));
        }
    }
    entry.done()
}

/// Writes the constraints and budget of a lease, if it has any.
pub(in crate::wire) fn write_lease_bounds(view: &View, object: &mut Object, constraints: Constraints, budget: &Budget) {
    if !constraints.is_none() {
        object.raw("lease_constraints", constraints.to_json().as_str());
    }
    if budget.is_empty() {
        return;
    }
    if view.profile.reads_budgets_as_text() {
        object.object("budget", |out| {
            for (currency, amount) in budget.iter() {
                out.member(currency.as_str(), &alloc::format!("\"{currency}:{amount}\""));
            }
        });
    } else {
        object.raw("budget", budget.to_json().as_str());
    }
}

/// Writes the credentials of a job, including values, for peers that read them.
pub(in crate::wire) fn write_credentials(view: &View, object: &mut Object, credentials: &[ProvisionedCredential]) {
    let shown = |credential: &&ProvisionedCredential| view.shows_credential(credential);
    if credentials.iter().any(|credential| shown(&credential)) {
        object.array("credentials", credentials.iter().filter(shown).map(ProvisionedCredential::shown));
    }
}

fn write_parent(object: &mut Object, parent: Option<&WireId>) {
    match parent {
        Some(parent) => object.str("parent_job_id", parent.as_str()),
        None => object.raw("parent_job_id", "null"),
    };
}

/// Without `agent_versions` a peer knows bare names only.
pub(in crate::wire) fn shown_agent<'a>(view: &View, agent: &'a str) -> &'a str {
    if view.features.has(Feature::AgentVersions) { agent } else { agent.split('@').next().unwrap_or(agent) }
}

/// The type and payload of the answer to a watch.
pub(in crate::wire) fn write_watching(words: Words<'_>, watching: &Watching) -> (&'static str, String) {
    let mut payload = Object::new();
    payload
        .opt_str("request_id", watching.request.as_ref().map(WireId::as_str))
        .opt_str("reply_to", words.view.reply_to(watching.request.as_ref()))
        .str("job_id", watching.job.as_str())
        .str("current_status", (words.status)(watching.status.unwrap_or(JobStatus::Pending)))
        .str("agent", shown_agent(words.view, &watching.agent))
        .raw("lease", watching.lease.as_str());
    write_lease_bounds(words.view, &mut payload, watching.constraints, &watching.budget);
    write_parent(&mut payload, watching.parent.as_ref());
    payload
        .opt_str("trace_id", watching.trace.as_deref().filter(|trace| (words.is_trace)(trace)))
        .u64("subscribed_from", watching.from)
        .bool("replayed", watching.replayed);
    ("job.subscribed", payload.done())
}

/// Writes an agent, with details if they were negotiated.
pub(in crate::wire) fn write_agent(features: Features, agent: &AgentEntry) -> String {
    let mut entry = Object::new();
    entry
        .str("name", &agent.name)
        .array("versions", agent.versions.iter().map(|v| quoted(v)))
        .opt_str("default", agent.default.as_deref());
    if features.has(Feature::AgentDetails) {
        entry.object(DETAILS, |details| {
            if let Some(most) = agent.concurrency {
                details.u64("concurrency", u64::from(most.get()));
            }
            details
                .opt_str("description", agent.description.as_deref())
                .opt_json("input_schema", agent.input_schema.as_ref());
        });
    }
    entry.done()
}

pub(in crate::wire) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_string(&mut out, text);
    out
}

/// The type and payload of an acknowledgement.
pub(in crate::wire) fn write_ack(seq: u64) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.u64("last_processed_seq", seq);
    ("session.ack", payload.done())
}

/// The type and payload of a watch.
pub(in crate::wire) fn write_watch(watch: &Watch) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("job_id", watch.job.as_str());
    if let Some(after) = watch.after {
        payload.u64("from_event_seq", after);
    }
    if let Some(history) = watch.history {
        payload.bool("history", history);
    }
    ("job.subscribe", payload.done())
}

/// The type and payload of an unwatch.
pub(in crate::wire) fn write_unwatch(job: &WireId) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("job_id", job.as_str());
    ("job.unsubscribe", payload.done())
}

/// The type and payload of a resume.
pub(in crate::wire) fn write_resume(claim: &ResumeClaim) -> (&'static str, String) {
    ("session.resume", write_claim(claim))
}

pub(in crate::wire) fn write_claim(claim: &ResumeClaim) -> String {
    let mut payload = Object::new();
    payload
        .opt_str("session_id", claim.session.as_ref().map(WireId::as_str))
        .str("resume_token", claim.token.expose())
        .u64("last_event_seq", claim.last_seq);
    payload.done()
}

/// The type and payload of a listing's query.
pub(in crate::wire) fn write_list_jobs(words: Words<'_>, query: &ListQuery) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.object("filter", |filter| {
        if !query.status.is_empty() {
            filter.array("status", query.status.iter().map(|s| alloc::format!("\"{}\"", (words.status)(*s))));
        }
        if let Some(agent) = &query.agent {
            filter.display("agent", agent);
        }
        if let Some(at) = query.created_after {
            filter.display("created_after", at);
        }
        if let Some(at) = query.created_before {
            filter.display("created_before", at);
        }
    });
    if let Some(limit) = query.limit {
        payload.u64("limit", limit);
    }
    payload.opt_str("cursor", query.cursor.as_deref());
    ("session.list_jobs", payload.done())
}

/// Writes the members of a result chunk.
pub(in crate::wire) fn chunk_members(out: &mut Object, view: &View, chunk: &ResultChunk) {
    let encoding = match chunk.encoding {
        ChunkEncoding::Utf8 => "utf8",
        ChunkEncoding::Base64 => "base64",
    };
    out.str("result_id", &chunk.result_id).u64("chunk_seq", chunk.chunk_seq);
    match sidecar::beside(view, chunk) {
        Some(bytes) => {
            sidecar::announce(out, &bytes, BlobDigest::of(&bytes));
            out.str("encoding", SIDECAR);
        }
        None => drop(out.str("data", &chunk.data).str("encoding", encoding)),
    }
    out.bool("more", chunk.more);
}
