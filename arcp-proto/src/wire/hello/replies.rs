//! Writing replies to hello clients.

use alloc::string::String;
use alloc::vec::Vec;

use super::{
    EVICTED, Envelope, Id, RETENTION, code_name, code_retryable, feature_name, message_id, shown_trace, timestamp,
    words,
};
use crate::error::ErrorCode;
use crate::id::{JobId, WireId};
use crate::json::{Json, Object};
use crate::model::reply::{Accepted, CommandReply, HandshakeReply, JobPage, Opened, Refusal, Reply, SessionReply};
use crate::time::UtcMs;
use crate::wire::profile::RefusalForm;
use crate::wire::shared::{self, quoted, shown_agent, write_agent, write_credentials, write_lease_bounds};
use crate::wire::{Stamp, View};

pub(crate) fn write_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<String> {
    let (kind, payload) = match reply {
        Reply::Refused(refusal) => return write_refusal(view, stamp, refusal),
        Reply::Handshake(HandshakeReply::Opened(opened)) => ("session.welcome", write_opened(opened)),
        // A hello client proves its identity in the opening, or never.
        Reply::Handshake(HandshakeReply::Challenge(_)) => return None,
        Reply::Session(reply) => write_session_reply(view, reply)?,
        Reply::Command(reply) => write_command_reply(view, reply)?,
    };
    let (job, trace) = reply.job();
    let correlated = matches!(
        reply,
        Reply::Session(SessionReply::Pong { .. } | SessionReply::Jobs(_)) | Reply::Command(CommandReply::Watching(_))
    );
    let mut envelope = envelope(view, stamp, kind, About { request: reply.request(), job, trace, correlated });
    let other = match reply {
        Reply::Session(SessionReply::Done { .. }) => true,
        Reply::Command(CommandReply::CancelTaken { target, .. }) => target.job().is_none(),
        Reply::Refused(_) | Reply::Handshake(_) | Reply::Session(_) | Reply::Command(_) => false,
    };
    // A message of the open family names its request as that family does.
    if other {
        envelope.correlation = reply.request().map(WireId::as_str);
    }
    Some(envelope.around(&payload))
}

/// The type and payload of a session's reply; `None` if this family has no message for it.
fn write_session_reply(view: &View, reply: &SessionReply) -> Option<(&'static str, String)> {
    Some(match reply {
        SessionReply::Closed { reason, .. } => shared::write_closed(reason.as_deref()),
        SessionReply::Ping { nonce, at } => shared::write_ping(nonce, *at),
        SessionReply::Pong { nonce, at, .. } => shared::write_pong(nonce, *at),
        SessionReply::Jobs(page) => shared::write_jobs(words(view), page),
        SessionReply::Sessions(page) => shared::write_sessions(page),
        SessionReply::Schedules(page) => shared::write_schedules(page),
        SessionReply::Checkpoints(list) => shared::write_checkpoints(list),
        SessionReply::Artifact(fetched) => shared::write_fetched(view, fetched),
        SessionReply::OfArtifacts(answer) => shared::write_of_artifacts(answer),
        SessionReply::Evicted { code, reason } => {
            let (mut payload, mut details) = (Object::new(), Object::new());
            details.bool(EVICTED, true);
            write_error(&mut payload, code, reason, Some(&details.json()));
            ("session.error", payload.done())
        }
        // The answer to a message of the open family.
        SessionReply::Done { detail, .. } => {
            let mut payload = Object::new();
            payload.str("detail", detail).str("note", detail);
            ("ack", payload.done())
        }
        SessionReply::Refresh { .. }
        | SessionReply::Echo { .. }
        | SessionReply::Extension(_)
        | SessionReply::JobHeartbeat(_) => return None,
    })
}

fn write_command_reply(view: &View, reply: &CommandReply) -> Option<(&'static str, String)> {
    Some(match reply {
        CommandReply::Accepted(accepted) => ("job.accepted", write_accepted(view, accepted)),
        CommandReply::CancelTaken { target, reason, deadline_ms, .. } => match target.job() {
            Some(job) => {
                let mut payload = Object::new();
                payload.str("job_id", job.as_str()).opt_str("reason", reason.as_deref());
                ("job.cancelled", payload.done())
            }
            None => shared::write_cancel_taken(target, *deadline_ms),
        },
        CommandReply::Watching(watching) => shared::write_watching(words(view), watching),
        CommandReply::Artifact { artifact, .. } => shared::write_ref(artifact),
        CommandReply::Scheduled(scheduled) => shared::write_scheduled(scheduled),
        CommandReply::Checkpoint { checkpoint, request } => shared::write_checkpoint(checkpoint, request.as_ref()),
        CommandReply::Token(issued) => shared::write_token(issued),
        CommandReply::Subscribed { .. } | CommandReply::Unsubscribed { .. } => return None,
    })
}

/// The subject of a reply.
#[derive(Clone, Copy)]
struct About<'a> {
    /// The request it answers.
    request: Option<&'a WireId>,
    job: Option<&'a WireId>,
    trace: Option<&'a str>,
    /// Whether the frame names it as `correlation_id`, for clients that need that.
    correlated: bool,
}

fn envelope<'a>(view: &View, stamp: Stamp, kind: &'a str, about: About<'a>) -> Envelope<'a> {
    // Strict clients cannot decode a frame without a session id, so even an error before the
    // welcome has one.
    let session = stamp.session.map_or(Id::Text("sess_none"), |session| Id::Ulid("sess_", session.ulid()));
    let own = about.request.filter(|_| view.profile.answers_under_request_id());
    let correlation = about.request.filter(|_| about.correlated && view.profile.correlates_ends());
    Envelope {
        id: own.map_or_else(|| message_id(stamp.id), |request| Id::Text(request.as_str())),
        kind,
        at: timestamp(view, stamp.id),
        session: Some(session),
        job: about.job.map(WireId::as_str),
        trace: shown_trace(about.trace),
        correlation: correlation.map(WireId::as_str),
        seq: None,
    }
}

fn write_opened(opened: &Opened) -> String {
    let mut payload = Object::new();
    payload
        .object("runtime", |runtime| {
            runtime.str("name", &opened.runtime.program.name).str("version", &opened.runtime.program.version);
            runtime.opt_str("fingerprint", opened.runtime.fingerprint.as_deref());
        })
        .str("session_id", opened.session.as_str())
        .time("accepted_at", opened.accepted_at)
        .str("resume_token", opened.resume_token.expose())
        .u64("resume_window_sec", opened.resume_window_s.max(1));
    if let Some(interval) = opened.heartbeat_s {
        payload.u64("heartbeat_interval_sec", interval);
    }
    payload.object("capabilities", |capabilities| {
        capabilities
            .raw("encodings", "[\"json\"]")
            .array("features", opened.features.iter().filter_map(feature_name).map(quoted))
            .array("agents", opened.agents.iter().map(|agent| write_agent(opened.features, agent)));
        shared::write_retention(capabilities, RETENTION, opened);
    });
    payload.done()
}

fn write_refusal(view: &View, stamp: Stamp, refusal: &Refusal) -> Option<String> {
    let form = view.profile.refusal_form(refusal.kind);
    let named = refusal.job.as_ref().filter(|id| is_of_jobs(id));
    // An unrequested refusal is about the session.
    let of_session = form == RefusalForm::JoblessError && refusal.request.is_none()
        || form == RefusalForm::NamedJobError && refusal.job.is_none();
    let form = if of_session { RefusalForm::SessionError } else { form };
    // The id of a job that never existed: no live job may look ended.
    let fresh = WireId::from(JobId::from_ulid(stamp.id));
    let mut payload = Object::new();
    let (kind, job) = match form {
        RefusalForm::Silent => return None,
        RefusalForm::EmptyPage => {
            let page = JobPage { request: refusal.request.clone(), jobs: Vec::new(), next: None };
            return write_reply(view, stamp, &SessionReply::Jobs(page).into());
        }
        RefusalForm::SessionError => ("session.error", named),
        RefusalForm::Nack => ("nack", named),
        RefusalForm::JobError => ("job.error", Some(&fresh)),
        RefusalForm::JoblessError => ("job.error", None),
        RefusalForm::NamedJobError => ("job.error", refusal.job.as_ref()),
    };
    if kind == "job.error" {
        payload.str("final_status", "error").display("completed_at", UtcMs(stamp.id.timestamp_ms()));
    }
    write_error(&mut payload, &refusal.code, &refusal.message, refusal.details.as_ref());
    if form == RefusalForm::Nack {
        payload.object("error", |error| write_error(error, &refusal.code, &refusal.message, refusal.details.as_ref()));
    }
    payload
        .opt_str("request_id", refusal.request.as_ref().map(WireId::as_str))
        .opt_str("reply_to", view.reply_to(refusal.request.as_ref()))
        .opt_str("job_id", job.map(WireId::as_str));
    let about = About { request: refusal.request.as_ref(), job, trace: refusal.trace.as_deref(), correlated: true };
    Some(envelope(view, stamp, kind, about).around(&payload.done()))
}

/// Whether the subject of a refusal may be a job: a cancel can also name a stream or a session.
fn is_of_jobs(id: &WireId) -> bool {
    !["str_", "sess_"].iter().any(|prefix| id.as_str().starts_with(prefix))
}

/// Writes `code`, `message`, `retryable` and `details`. A code that this family lacks goes into the
/// details.
pub(super) fn write_error(payload: &mut Object, code: &ErrorCode, message: &str, details: Option<&Json>) {
    let (name, own) = code_name(code);
    let message = if message.is_empty() { "no message was given" } else { message };
    payload.str("code", name).str("message", message).bool("retryable", code_retryable(name));
    match (details, own) {
        (Some(details), None) => {
            payload.raw("details", details.as_str());
        }
        (given, Some(own)) => {
            payload.object("details", |out| {
                let key = if matches!(code, ErrorCode::Other(_)) { "code" } else { "open_code" };
                out.str(key, own);
                let members = given.and_then(|given| given.members().ok()).unwrap_or_default();
                for (member, value) in members.0.iter().filter(|(member, _)| member != key) {
                    out.member(member, value);
                }
            });
        }
        (None, None) => {}
    }
}

fn write_accepted(view: &View, accepted: &Accepted) -> String {
    let mut payload = Object::with_capacity(254 + accepted.lease.as_str().len());
    payload.str("job_id", accepted.job.as_str()).str("agent", shown_agent(view, &accepted.agent));
    if view.profile.reads_accepted_lease() {
        payload.raw("lease", accepted.lease.as_str());
    }
    write_lease_bounds(view, &mut payload, accepted.constraints, &accepted.budget);
    write_credentials(view, &mut payload, &accepted.credentials);
    payload
        .time("accepted_at", accepted.accepted_at)
        .opt_str("parent_job_id", accepted.parent.as_ref().map(WireId::as_str))
        .opt_str("delegate_id", accepted.delegate_id.as_ref().map(WireId::as_str))
        .opt_str("trace_id", shown_trace(accepted.trace.as_deref()))
        .opt_str("request_id", accepted.request.as_ref().map(WireId::as_str))
        .opt_str("reply_to", view.reply_to(accepted.request.as_ref()));
    payload.done()
}
