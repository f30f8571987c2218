//! Writing requests to hello runtimes, for our client.

use alloc::string::String;

use super::{Envelope, Id, OURS, feature_name, message_id, trace_id, words};
use crate::id::{IdempotencyKey, WireId};
use crate::json::{Json, Object};
use crate::model::request::{Command, Credential, HandshakeRequest, Open, Request, SessionRequest, Submit};
use crate::model::schedule::NewSchedule;
use crate::time::UtcMs;
use crate::wire::shared::{self, quoted, write_claim};
use crate::wire::{RequestToSend, View};

/// Writes a request; `None` if this family has no message for it.
pub(crate) fn write_request(out: &RequestToSend<'_>) -> Option<String> {
    let (kind, payload) = write_payload(out)?;
    let trace =
        if let Request::Command(Command::Submit(submit, _)) = out.request { submit.trace.as_deref() } else { None };
    // A traceparent, or its trace alone.
    let trace = trace.filter(|trace| matches!(trace_id(trace), Ok(Some(_))));
    let envelope = Envelope {
        id: message_id(out.id),
        kind,
        at: None,
        session: out.session.map(|session| Id::Text(session.as_str())),
        job: out.request.job().map(WireId::as_str),
        trace,
        correlation: match out.request {
            Request::Command(Command::Answer(answering)) => shared::correlates(answering).map(WireId::as_str),
            Request::Command(_) | Request::Handshake(_) | Request::Session(_) => None,
        },
        seq: None,
    };
    Some(envelope.around(&payload))
}

/// The type and payload of a request.
fn write_payload(out: &RequestToSend<'_>) -> Option<(&'static str, String)> {
    match out.request {
        Request::Handshake(request) => write_handshake_request(request),
        Request::Session(request) => write_session_request(request, (out.at, out.sidecars)),
        Request::Command(command) => write_command(command, out.sidecars),
    }
}

fn write_handshake_request(request: &HandshakeRequest) -> Option<(&'static str, String)> {
    match request {
        HandshakeRequest::Open(open) => Some(("session.hello", write_hello(open))),
        HandshakeRequest::Resume(claim) => Some(shared::write_resume(claim)),
        HandshakeRequest::Authenticate(_) => None,
    }
}

fn write_session_request(request: &SessionRequest, (at, sidecars): (UtcMs, bool)) -> Option<(&'static str, String)> {
    Some(match request {
        SessionRequest::Close { reason, answered } => {
            let kind = if *answered { "session.close" } else { "session.bye" };
            (kind, write_reason(reason.as_deref().unwrap_or("client.close"), None))
        }
        SessionRequest::Ping { nonce } => shared::write_ping(nonce, at),
        SessionRequest::Pong { nonce } => shared::write_pong(nonce, at),
        SessionRequest::Ack { seq } => shared::write_ack(*seq),
        SessionRequest::List(query) => shared::write_list_jobs(words(&View::before_handshake(false)), query),
        SessionRequest::ListSessions(query) => shared::write_session_query(query),
        SessionRequest::ListSchedules(query) => shared::write_schedule_query(query),
        SessionRequest::AboutArtifacts(wish) => shared::write_wish(wish, sidecars),
        SessionRequest::ListCheckpoints { job } => shared::write_checkpoint_query(job),
        SessionRequest::AwaitPrompt => shared::write_await_prompt(),
        SessionRequest::Replay(replay) => shared::write_replay(replay),
        SessionRequest::Pace { stream, every } => shared::write_pace(stream, *every),
        SessionRequest::Echo { .. }
        | SessionRequest::Echoed { .. }
        | SessionRequest::Extension(_)
        | SessionRequest::Ignored => return None,
    })
}

fn write_command(command: &Command, sidecars: bool) -> Option<(&'static str, String)> {
    Some(match command {
        Command::Submit(submit, _) => ("job.submit", write_submit(submit)),
        Command::Cancel(cancel) => match cancel.target.job() {
            // Published runtimes require a reason, and some the id in the payload.
            Some(job) => ("job.cancel", write_reason(cancel.reason.as_deref().unwrap_or("client.cancel"), Some(job))),
            None => shared::write_cancel(cancel),
        },
        Command::Watch(watch) => shared::write_watch(watch),
        Command::Unwatch { job } => shared::write_unwatch(job),
        Command::Answer(answering) => shared::write_answer(answering),
        Command::Evict(eviction) => shared::write_eviction(eviction),
        Command::Interrupt(interrupt) => shared::write_interrupt(interrupt),
        Command::Stream(request) => shared::write_stream(request, sidecars),
        Command::HandOver(wish) => shared::write_hand_over(wish),
        Command::PutArtifact(put) => shared::write_put(put, sidecars),
        Command::KeepParts(terms) => shared::write_keep(terms),
        Command::ReleaseArtifact { id } => shared::write_release(id),
        Command::Schedule(wish) => write_schedule(wish),
        Command::ChangeSchedule(change) => shared::write_schedule_change(change),
        Command::CreateCheckpoint(wish) => shared::write_create_checkpoint(wish),
        Command::RestoreCheckpoint(wish) => shared::write_restore_checkpoint(wish),
        Command::IssueToken { job } => shared::write_issue_token(job),
        Command::ExchangeToken(wish) => shared::write_exchange_token(wish),
        Command::Subscribe(_) | Command::Unsubscribe { .. } => return None,
    })
}

fn write_reason(reason: &str, job: Option<&WireId>) -> String {
    let mut payload = Object::new();
    payload.opt_str("job_id", job.map(WireId::as_str)).str("reason", reason);
    payload.done()
}

fn write_hello(open: &Open) -> String {
    let mut payload = Object::new();
    payload.object("client", |client| {
        client.str("name", &open.client.name).str("version", &open.client.version);
    });
    payload.object("auth", |auth| {
        match &open.credential {
            Credential::Bearer(token) => auth.str("scheme", "bearer").str("token", token.expose()),
            Credential::Anonymous => auth.str("scheme", "none"),
            Credential::Other { scheme, token } => auth.str("scheme", scheme).str("token", token.expose()),
        };
    });
    payload.object("capabilities", |capabilities| {
        let names = open.features.iter().filter_map(feature_name).chain([OURS]);
        capabilities.raw("encodings", "[\"json\"]").array("features", names.map(quoted));
    });
    if let Some(claim) = &open.resume {
        payload.raw("resume", &write_claim(claim));
        payload.str("resume_token", claim.token.expose()).u64("last_event_seq", claim.last_seq);
    }
    payload.done()
}

fn write_schedule(wish: &NewSchedule) -> (&'static str, String) {
    shared::write_schedule(wish, ("job.submit", &write_submit(&wish.job.submit(None))))
}

fn write_submit(submit: &Submit) -> String {
    let mut payload = Object::new();
    // Some published runtimes require an input; an empty one means the same as none.
    let input = submit.input.clone().unwrap_or_else(Json::empty_object);
    payload
        .display("agent", &submit.agent)
        .raw("input", input.as_str())
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref())
        .opt_str("idempotency_key", submit.key.as_ref().map(IdempotencyKey::as_str));
    if let Some(seconds) = submit.max_runtime {
        payload.u64("max_runtime_sec", u64::from(seconds.get()));
    }
    payload
        .opt_str("parent_job_id", submit.parent.as_ref().map(WireId::as_str))
        .opt_str("delegate_id", submit.delegate_id.as_ref().map(WireId::as_str));
    payload.done()
}
