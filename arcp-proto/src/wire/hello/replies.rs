//! Replies to hello clients, written.

use alloc::borrow::Cow;
use alloc::string::{String, ToString as _};

use super::{Envelope, code_name, code_retryable, feature_name, is_trace, words};
use crate::error::ErrorCode;
use crate::id::{JobId, WireId};
use crate::json::{Json, Object};
use crate::model::reply::{Accepted, Opened, Refusal, Reply};
use crate::time::UtcMs;
use crate::wire::alike::{self, quoted, shown_agent, write_agent};
use crate::wire::profile::RefusalForm;
use crate::wire::{Stamp, View};

pub(crate) fn write_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<String> {
    if let Some((kind, payload)) = alike::write_reply(words(view), reply) {
        let (job, trace) = about(reply);
        return Some(envelope(stamp, kind, job, trace).around(&payload));
    }
    let mut payload = Object::new();
    let (kind, payload) = match reply {
        Reply::Opened(opened) => ("session.welcome", write_opened(opened)),
        Reply::Refused(refusal) => return write_refusal(view, stamp, refusal),
        Reply::Accepted(accepted) => ("job.accepted", write_accepted(view, accepted)),
        Reply::CancelTaken { target, reason, .. } => {
            payload.str("job_id", target.id().as_str()).opt_str("reason", reason.as_deref());
            ("job.cancelled", payload.done())
        }
        Reply::Evicted { code, reason } => {
            write_error(&mut payload, code, reason, None);
            ("session.error", payload.done())
        }
        // This family has no words for these, and makes no use of them.
        Reply::Challenge(_)
        | Reply::Refresh { .. }
        | Reply::Echo { .. }
        | Reply::Done { .. }
        | Reply::JobBeat(_)
        | Reply::Subscribed { .. }
        | Reply::Unsubscribed { .. } => {
            return None;
        }
        Reply::Closed { .. } | Reply::Ping { .. } | Reply::Pong { .. } | Reply::Jobs(_) | Reply::Watching(_) => {
            return None;
        }
    };
    let (job, trace) = about(reply);
    Some(envelope(stamp, kind, job, trace).around(&payload))
}

/// The job a reply is about, and its trace.
fn about(reply: &Reply) -> (Option<&WireId>, Option<&str>) {
    match reply {
        Reply::Accepted(accepted) => (Some(&accepted.job), accepted.trace.as_deref()),
        Reply::Watching(watching) => (Some(&watching.job), watching.trace.as_deref()),
        Reply::CancelTaken { target, .. } => (target.job(), None),
        Reply::Opened(_)
        | Reply::Refused(_)
        | Reply::Challenge(_)
        | Reply::Refresh { .. }
        | Reply::Evicted { .. }
        | Reply::Echo { .. }
        | Reply::Done { .. }
        | Reply::Subscribed { .. }
        | Reply::Unsubscribed { .. }
        | Reply::JobBeat(_)
        | Reply::Closed { .. }
        | Reply::Ping { .. }
        | Reply::Pong { .. }
        | Reply::Jobs(_) => (None, None),
    }
}

fn envelope<'a>(stamp: Stamp, kind: &'a str, job: Option<&'a WireId>, trace: Option<&'a str>) -> Envelope<'a> {
    // A strict reader cannot decode a frame without a session id, so even an
    // error before the welcome has one.
    let session = stamp.session.map_or_else(|| String::from("sess_none"), |session| session.to_string());
    Envelope {
        id: stamp.id,
        kind,
        session: Some(Cow::Owned(session)),
        job: job.map(|job| Cow::Borrowed(job.as_str())),
        trace,
        seq: None,
    }
}

fn write_opened(opened: &Opened) -> String {
    let mut payload = Object::new();
    payload
        .object("runtime", |runtime| {
            runtime.str("name", &opened.runtime.name).str("version", &opened.runtime.version);
        })
        .str("session_id", opened.session.as_str())
        .display("accepted_at", opened.accepted_at)
        .str("resume_token", opened.resume_token.expose())
        .u64("resume_window_sec", opened.resume_window_s.max(1));
    if let Some(interval) = opened.heartbeat_s {
        payload.u64("heartbeat_interval_sec", interval);
    }
    payload.object("capabilities", |capabilities| {
        capabilities
            .raw("encodings", "[\"json\"]")
            .array("features", opened.features.iter().filter_map(feature_name).map(quoted))
            .array("agents", opened.agents.iter().map(write_agent));
    });
    payload.done()
}

fn write_refusal(view: &View, stamp: Stamp, refusal: &Refusal) -> Option<String> {
    let form = view.profile.refusal_form(refusal.concern);
    let mut payload = Object::new();
    let (kind, job) = match form {
        RefusalForm::Silent => return None,
        RefusalForm::SessionError => ("session.error", refusal.job.clone()),
        RefusalForm::JobError => {
            // A job that never was: no live job may look ended.
            let job = WireId::from(JobId::from_ulid(stamp.id));
            payload.str("final_status", "error").str("job_id", job.as_str());
            ("job.error", Some(job))
        }
    };
    write_error(&mut payload, &refusal.code, &refusal.message, refusal.details.as_ref());
    payload.opt_str("request_id", refusal.request.as_ref().map(WireId::as_str));
    match form {
        RefusalForm::JobError => {
            payload.display("completed_at", UtcMs(stamp.id.timestamp_ms()));
        }
        RefusalForm::SessionError | RefusalForm::Silent => {
            payload.opt_str("job_id", job.as_ref().map(WireId::as_str));
        }
    }
    Some(envelope(stamp, kind, job.as_ref(), refusal.trace.as_deref()).around(&payload.done()))
}

/// `code`, `message`, `retryable`, `details`. A code this family does not
/// have goes into the details.
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
                    out.raw(member, value);
                }
            });
        }
        (None, None) => {}
    }
}

fn write_accepted(view: &View, accepted: &Accepted) -> String {
    let mut payload = Object::new();
    payload
        .str("job_id", accepted.job.as_str())
        .str("agent", shown_agent(view, &accepted.agent))
        .raw("lease", accepted.lease.as_str())
        .display("accepted_at", accepted.accepted_at)
        .opt_str("trace_id", accepted.trace.as_deref().filter(|trace| is_trace(trace)))
        .opt_str("request_id", accepted.request.as_ref().map(WireId::as_str));
    payload.done()
}
