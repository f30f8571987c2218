//! Requests to hello runtimes, written by our client.

use alloc::borrow::Cow;
use alloc::string::String;

use super::{Envelope, OURS, feature_name, message_id, words};
use crate::id::{IdempotencyKey, WireId};
use crate::json::{Json, Object};
use crate::model::request::{Command, Credential, HandshakeRequest, Open, Request, SessionRequest, Submit};
use crate::wire::shared::{self, quoted, write_claim};
use crate::wire::{RequestToSend, View};

/// Writes a request; `None` if this family has no word for it.
pub(crate) fn write_request(out: &RequestToSend<'_>) -> Option<String> {
    let (kind, payload) = match shared::write_request(words(&View::before_handshake(false)), out.request, out.at) {
        Some(written) => written,
        None => write_own(out.request)?,
    };
    let trace =
        if let Request::Command(Command::Submit(submit, _)) = out.request { submit.trace.as_deref() } else { None };
    let envelope = Envelope {
        id: message_id(out.id),
        kind,
        at: None,
        session: out.session.map(|session| Cow::Borrowed(session.as_str())),
        job: out.request.job().map(|job| Cow::Borrowed(job.as_str())),
        trace,
        correlation: None,
        seq: None,
    };
    Some(envelope.around(&payload))
}

fn write_own(request: &Request) -> Option<(&'static str, String)> {
    Some(match request {
        Request::Handshake(HandshakeRequest::Open(open)) => ("session.hello", write_hello(open)),
        Request::Session(SessionRequest::Close { reason, answered }) => {
            let kind = if *answered { "session.close" } else { "session.bye" };
            (kind, write_reason(reason.as_deref().unwrap_or("client.close"), None))
        }
        Request::Command(Command::Submit(submit, _)) => ("job.submit", write_submit(submit)),
        // Published runtimes need a reason, and some the id in here.
        Request::Command(Command::Cancel(cancel)) => (
            "job.cancel",
            write_reason(cancel.reason.as_deref().unwrap_or("client.cancel"), Some(cancel.target.job()?)),
        ),
        Request::Handshake(HandshakeRequest::Resume(_) | HandshakeRequest::Authenticate(_))
        | Request::Session(
            SessionRequest::Ping { .. }
            | SessionRequest::Echo { .. }
            | SessionRequest::Pong { .. }
            | SessionRequest::Ack { .. }
            | SessionRequest::List(_)
            | SessionRequest::Replay(_)
            | SessionRequest::Pace { .. }
            | SessionRequest::Extension(_)
            | SessionRequest::Ignored,
        )
        | Request::Command(
            Command::Watch(_) | Command::Unwatch { .. } | Command::Subscribe(_) | Command::Unsubscribe { .. },
        ) => return None,
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

fn write_submit(submit: &Submit) -> String {
    let mut payload = Object::new();
    // Some published runtimes demand an input; an empty one is the same as none.
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
    payload.opt_str("parent_job_id", submit.parent.as_ref().map(WireId::as_str));
    payload.done()
}
