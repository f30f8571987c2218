//! Writing replies to open clients.

use alloc::borrow::Cow;
use alloc::string::String;

use super::{
    BINARY_ENCODING, ENCODINGS, Envelope, OPTIONAL, capability_name, code_name, correlation, extension_names, is_job,
    shown, status_word, words,
};
use crate::error::ErrorCode;
use crate::id::WireId;
use crate::json::{Json, Object};
use crate::model::feature::Feature;
use crate::model::reply::{
    Accepted, Challenge, CommandReply, HandshakeReply, JobHeartbeat, Opened, Refusal, RefusedKind, Reply, SessionReply,
};
use crate::model::request::Priority;
use crate::wire::shared::{self, quoted, write_agent, write_credentials, write_lease_bounds};
use crate::wire::{Stamp, View};

pub(crate) fn write_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<String> {
    let (kind, payload) = match reply {
        Reply::Refused(refusal) => write_refusal(view, stamp, refusal),
        Reply::Handshake(HandshakeReply::Opened(opened)) => match opened.replay {
            Some((from, replayed)) => ("session.resumed", write_resumed(opened, from, replayed)),
            None => ("session.accepted", write_opened(opened)),
        },
        Reply::Handshake(HandshakeReply::Challenge(challenge)) => ("session.challenge", write_challenge(challenge)),
        Reply::Session(SessionReply::Closed { .. }) if !view.profile.reads_closed() => return None,
        Reply::Session(reply) => write_session_reply(view, reply),
        Reply::Command(reply) => write_command_reply(view, reply),
    };
    let (job, trace) = match reply {
        Reply::Refused(refusal) => about_refusal(refusal),
        Reply::Handshake(_) | Reply::Session(_) | Reply::Command(_) => reply.job(),
    };
    let envelope = Envelope {
        id: stamp.id,
        kind,
        session: stamp.session.map(|session| Cow::Owned(session.into())),
        job: job.map(|job| Cow::Borrowed(job.as_str())),
        trace,
        correlation: correlation(view, reply.request()),
        priority: shown(view, Priority::Normal),
        extensions: is_optional(reply).then_some(OPTIONAL),
        seq: stamp.seq,
        ..Envelope::default()
    };
    Some(envelope.around(&payload))
}

fn write_session_reply<'a>(view: &View, reply: &'a SessionReply) -> (&'a str, String) {
    let mut payload = Object::new();
    match reply {
        SessionReply::Closed { reason, .. } => shared::write_closed(reason.as_deref()),
        SessionReply::Ping { nonce, at } => shared::write_ping(nonce, *at),
        SessionReply::Pong { nonce, at, .. } => shared::write_pong(nonce, *at),
        SessionReply::Jobs(page) => shared::write_jobs(words(view), page),
        SessionReply::Sessions(page) => shared::write_sessions(page),
        SessionReply::Schedules(page) => shared::write_schedules(page),
        SessionReply::Checkpoints(list) => shared::write_checkpoints(list),
        SessionReply::Artifact(fetched) => shared::write_fetched(view, fetched),
        SessionReply::OfArtifacts(answer) => shared::write_of_artifacts(answer),
        SessionReply::Refresh { deadline, deadline_ms } => {
            payload.display("deadline", deadline).u64("deadline_ms", *deadline_ms);
            ("session.refresh", payload.done())
        }
        SessionReply::Evicted { code, reason } => ("session.evicted", write_eviction(view, code, reason)),
        SessionReply::Echo { nonce, .. } => {
            payload.opt_str("nonce", nonce.as_deref());
            ("pong", payload.done())
        }
        SessionReply::Done { detail, .. } => {
            payload.str("detail", detail).str("note", detail);
            ("ack", payload.done())
        }
        SessionReply::Extension(message) => (message.kind.as_str(), String::from(message.payload.as_str())),
        SessionReply::JobHeartbeat(heartbeat) => ("job.heartbeat", write_heartbeat(heartbeat)),
    }
}

fn write_command_reply(view: &View, reply: &CommandReply) -> (&'static str, String) {
    let mut payload = Object::new();
    match reply {
        CommandReply::Accepted(accepted) => ("job.accepted", write_accepted(view, accepted)),
        CommandReply::Watching(watching) => shared::write_watching(words(view), watching),
        CommandReply::Artifact { artifact, .. } => shared::write_ref(artifact),
        CommandReply::Scheduled(scheduled) => shared::write_scheduled(scheduled),
        CommandReply::Checkpoint { checkpoint, request } => shared::write_checkpoint(checkpoint, request.as_ref()),
        CommandReply::Token(issued) => shared::write_token(issued),
        CommandReply::CancelTaken { target, deadline_ms, .. } => shared::write_cancel_taken(target, *deadline_ms),
        CommandReply::Subscribed { subscription, .. } => {
            payload.str("subscription_id", subscription.as_str());
            ("subscribe.accepted", payload.done())
        }
        CommandReply::Unsubscribed { subscription, code, reason, .. } => {
            payload
                .str("subscription_id", subscription.as_str())
                .str("code", code_name(view, code).0)
                .str("reason", reason);
            ("subscribe.closed", payload.done())
        }
    }
}

/// Whether the receiver need not know its type.
fn is_optional(reply: &Reply) -> bool {
    matches!(reply, Reply::Session(SessionReply::Extension(message)) if message.optional)
}

/// The job of a refusal, and its trace. An unrequested end of a session has neither.
fn about_refusal(refusal: &Refusal) -> (Option<&WireId>, Option<&str>) {
    if refusal.kind == RefusedKind::Session && refusal.request.is_none() {
        return (None, None);
    }
    (refusal.job.as_ref().filter(|job| is_job(job)), refusal.trace.as_deref())
}

fn write_opened(opened: &Opened) -> String {
    let mut payload = Object::new();
    payload
        .str("session_id", opened.session.as_str())
        .object("runtime", |runtime| {
            runtime.str("kind", &opened.runtime.program.name).str("version", &opened.runtime.program.version);
            runtime.opt_str("fingerprint", opened.runtime.fingerprint.as_deref());
        })
        .object("capabilities", |capabilities| write_capabilities(capabilities, opened));
    if let Some(expires_at) = opened.expires_at {
        payload.object("lease", |lease| {
            lease.display("expires_at", expires_at);
        });
    }
    payload.str("resume_token", opened.resume_token.expose()).u64("resume_window_sec", opened.resume_window_s.max(1));
    if let Some(interval) = opened.heartbeat_s {
        payload.u64("heartbeat_interval_sec", interval);
    }
    payload.done()
}

fn write_capabilities(out: &mut Object, opened: &Opened) {
    for name in opened.features.iter().filter_map(capability_name) {
        out.bool(name, true);
    }
    if opened.anonymous {
        out.bool("anonymous", true);
    }
    out.str("heartbeat_recovery", if opened.features.has(Feature::BlockOnSilence) { "block" } else { "fail" });
    let encodings = if opened.features.has(Feature::Sidecars) { &ENCODINGS[..] } else { &ENCODINGS[..1] };
    out.array(BINARY_ENCODING, encodings.iter().map(|encoding| quoted(encoding)));
    shared::write_retention(out, "artifact_retention", opened);
    if let Some(interval) = opened.job_heartbeat_s {
        out.u64("heartbeat_interval_seconds", interval);
    }
    let extensions = opened.extensions.iter().map(String::as_str).chain(extension_names(opened.features));
    out.array("extensions", extensions.map(quoted))
        .array("agents", opened.agents.iter().map(|agent| write_agent(opened.features, agent)));
}

fn write_resumed(opened: &Opened, from: u64, replayed: bool) -> String {
    let mut payload = Object::new();
    payload
        .str("session_id", opened.session.as_str())
        .str("resume_token", opened.resume_token.expose())
        .u64("replayed_from", from)
        .bool("replayed", replayed)
        .u64("resume_window_sec", opened.resume_window_s.max(1));
    payload.done()
}

fn write_challenge(challenge: &Challenge) -> String {
    let mut payload = Object::new();
    payload
        .str("challenge", &challenge.nonce)
        .str("nonce", &challenge.nonce)
        .str("scheme", &challenge.scheme)
        .display("expires_at", challenge.expires_at);
    payload.done()
}

/// The type and payload of a refusal: the type depends on what is refused.
fn write_refusal(view: &View, stamp: Stamp, refusal: &Refusal) -> (&'static str, String) {
    let mut payload = Object::new();
    match refusal.kind {
        RefusedKind::Session if stamp.session.is_none() => {
            write_error(&mut payload, view, refusal);
            write_nested(&mut payload, view, refusal);
            ("session.rejected", payload.done())
        }
        RefusedKind::Session if refusal.request.is_none() => {
            ("session.evicted", write_eviction(view, &refusal.code, &refusal.message))
        }
        RefusedKind::Proof => {
            write_error(&mut payload, view, refusal);
            payload.str("detail", &refusal.message);
            ("session.unauthenticated", payload.done())
        }
        RefusedKind::Submit if view.profile.invocation_ends_as_tool_error() => {
            write_error(&mut payload, view, refusal);
            ("tool.error", payload.done())
        }
        // A refused cancel without a target is a refused frame.
        RefusedKind::Cancel if refusal.job.is_some() => {
            payload
                .opt_str("target_id", refusal.job.as_ref().map(WireId::as_str))
                .str("reason", cancel_refusal(&refusal.code))
                .str("code", code_name(view, &refusal.code).0)
                .str("message", &refusal.message)
                .opt_json("details", refusal.details.as_ref());
            ("cancel.refused", payload.done())
        }
        RefusedKind::Session
        | RefusedKind::Frame
        | RefusedKind::Submit
        | RefusedKind::Cancel
        | RefusedKind::Job
        | RefusedKind::Watch
        | RefusedKind::Listing => {
            write_error(&mut payload, view, refusal);
            write_nested(&mut payload, view, refusal);
            ("nack", payload.done())
        }
    }
}

fn cancel_refusal(code: &ErrorCode) -> &'static str {
    if *code == ErrorCode::JobNotFound {
        "not_found"
    } else if *code == ErrorCode::FailedPrecondition {
        "already_terminal"
    } else {
        "not_cancellable"
    }
}

fn write_error(payload: &mut Object, view: &View, refusal: &Refusal) {
    write_failure(payload, view, &refusal.code, &refusal.message, refusal.retryable, refusal.details.as_ref());
}

/// Writes `code`, `message`, `retryable` and `details`. The code of 1.1 is in the details if this
/// peer would not read it as the code.
pub(super) fn write_failure(
    payload: &mut Object,
    view: &View,
    code: &ErrorCode,
    message: &str,
    retryable: bool,
    details: Option<&Json>,
) {
    let (name, own) = code_name(view, code);
    let message = if message.is_empty() { "no message was given" } else { message };
    payload.str("code", name).str("message", message).bool("retryable", retryable);
    match (details, own) {
        (None, None) => {}
        (Some(details), None) => {
            payload.raw("details", details.as_str());
        }
        (given, Some(own)) => {
            payload.object("details", |out| {
                out.str("code", own);
                let members = given.and_then(|given| given.members().ok()).unwrap_or_default();
                for (member, value) in members.0.iter().filter(|(member, _)| member != "code") {
                    out.member(member, value);
                }
            });
        }
    }
}

/// Writes the same once more in `error`, where some clients read it.
fn write_nested(payload: &mut Object, view: &View, refusal: &Refusal) {
    payload.object("error", |error| {
        error
            .str("code", code_name(view, &refusal.code).0)
            .str("message", &refusal.message)
            .bool("retryable", refusal.retryable);
    });
}

fn write_eviction(view: &View, code: &ErrorCode, reason: &str) -> String {
    let mut payload = Object::new();
    payload.str("code", code_name(view, code).0).str("reason", reason);
    payload.done()
}

fn write_heartbeat(heartbeat: &JobHeartbeat) -> String {
    let mut payload = Object::new();
    payload
        .u64("sequence", heartbeat.sequence)
        .u64("deadline_ms", heartbeat.deadline_ms)
        .str("state", status_word(heartbeat.status));
    payload.done()
}

fn write_accepted(view: &View, accepted: &Accepted) -> String {
    let mut payload = Object::new();
    payload.str("job_id", accepted.job.as_str()).str("agent", &accepted.agent);
    if !accepted.lease.is_empty_object() {
        payload.raw("lease", accepted.lease.as_str());
    }
    write_lease_bounds(view, &mut payload, accepted.constraints, &accepted.budget);
    write_credentials(view, &mut payload, &accepted.credentials);
    payload
        .time("accepted_at", accepted.accepted_at)
        .opt_str("parent_job_id", accepted.parent.as_ref().map(WireId::as_str))
        .opt_str("delegate_id", accepted.delegate_id.as_ref().map(WireId::as_str));
    payload.done()
}
