//! Writing requests to open runtimes, for our client.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::{
    BINARY_ENCODING, ENCODINGS, Envelope, OPTIONAL, TYPES, capability_name, extension_names, is_job, subscriptions,
    words,
};
use crate::id::{IdempotencyKey, WireId};
use crate::json::{Json, Object};
use crate::model::feature::Feature;
use crate::model::request::{
    Command, Credential, HandshakeRequest, Open, Priority, Proof, Request, SessionRequest, Submit,
};
use crate::model::schedule::NewSchedule;
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::shared::{self, quoted};
use crate::wire::{RequestToSend, View};

/// Writes a request; `None` if this family has no message for it.
pub(crate) fn write_request(out: &RequestToSend<'_>) -> Option<String> {
    let (kind, payload) = write_payload(out)?;
    let mut envelope = Envelope {
        id: out.id,
        kind,
        session: out.session.map(|session| Cow::Borrowed(session.as_str())),
        job: out.request.job().filter(|job| is_job(job)).map(|job| Cow::Borrowed(job.as_str())),
        ..Envelope::default()
    };
    if let Request::Command(Command::Submit(submit, invocation)) = out.request {
        envelope.trace = submit.trace.as_deref();
        envelope.job = submit.parent.as_ref().map(|parent| Cow::Borrowed(parent.as_str()));
        envelope.key = submit.key.as_ref().map(IdempotencyKey::as_str);
        envelope.span = invocation.span.as_deref();
        envelope.priority = Some(invocation.priority).filter(|priority| *priority != Priority::Normal);
        envelope.extensions = invocation.extensions.as_ref().map(Json::as_str);
    }
    if let Request::Command(Command::Schedule(wish)) = out.request {
        let invocation = &wish.job.invocation;
        envelope.trace = wish.job.trace.as_deref();
        envelope.span = invocation.span.as_deref();
        envelope.priority = Some(invocation.priority).filter(|priority| *priority != Priority::Normal);
        envelope.extensions = invocation.extensions.as_ref().map(Json::as_str);
    }
    if let Request::Command(Command::Answer(answering)) = out.request {
        envelope.correlation = shared::correlates(answering).map(WireId::as_str);
    }
    if let Request::Command(Command::Stream(request)) = out.request {
        envelope.stream = Some(Cow::Borrowed(request.stream.as_str()));
    }
    if let Request::Session(SessionRequest::Pace { stream, .. }) = out.request {
        envelope.stream = Some(Cow::Borrowed(stream.as_str()));
    }
    if let Request::Session(SessionRequest::Extension(extension)) = out.request
        && extension.optional
    {
        envelope.extensions = Some(OPTIONAL);
    }
    Some(envelope.around(&payload))
}

/// The type and payload of a request.
fn write_payload<'a>(out: &RequestToSend<'a>) -> Option<(&'a str, String)> {
    match out.request {
        Request::Handshake(request) => Some(write_handshake_request(request)),
        Request::Session(request) => write_session_request(request, (out.at, out.sidecars)),
        Request::Command(command) => Some(write_command(command, out.sidecars)),
    }
}

fn write_handshake_request(request: &HandshakeRequest) -> (&'static str, String) {
    match request {
        HandshakeRequest::Open(open) => ("session.open", write_open(open)),
        HandshakeRequest::Resume(claim) => shared::write_resume(claim),
        HandshakeRequest::Authenticate(proof) => ("session.authenticate", write_proof(proof)),
    }
}

fn write_session_request(request: &SessionRequest, (at, sidecars): (UtcMs, bool)) -> Option<(&str, String)> {
    let mut payload = Object::new();
    Some(match request {
        SessionRequest::Close { reason, .. } => {
            payload.opt_str("reason", reason.as_deref());
            ("session.close", payload.done())
        }
        SessionRequest::Ping { nonce } => shared::write_ping(nonce, at),
        SessionRequest::Pong { nonce } => shared::write_pong(nonce, at),
        SessionRequest::Echo { nonce } => {
            payload.opt_str("nonce", nonce.as_deref());
            ("ping", payload.done())
        }
        SessionRequest::Echoed { nonce } => {
            payload.opt_str("nonce", nonce.as_deref());
            ("pong", payload.done())
        }
        SessionRequest::Ack { seq } => shared::write_ack(*seq),
        SessionRequest::List(query) => shared::write_list_jobs(words(&View::before_handshake(false)), query),
        SessionRequest::ListSessions(query) => shared::write_session_query(query),
        SessionRequest::ListSchedules(query) => shared::write_schedule_query(query),
        SessionRequest::AboutArtifacts(wish) => shared::write_wish(wish, sidecars),
        SessionRequest::ListCheckpoints { job } => shared::write_checkpoint_query(job),
        SessionRequest::AwaitPrompt => shared::write_await_prompt(),
        SessionRequest::Replay(replay) => shared::write_replay(replay),
        SessionRequest::Pace { stream, every } => shared::write_pace(stream, *every),
        SessionRequest::Extension(extension) => (&extension.kind, String::from(extension.payload.as_str())),
        SessionRequest::Ignored => return None,
    })
}

fn write_command(command: &Command, sidecars: bool) -> (&'static str, String) {
    match command {
        Command::Submit(submit, _) if submit.parent.is_some() => shared::write_delegate(submit),
        Command::Submit(submit, _) => {
            shared::write_workflow(submit).unwrap_or_else(|| ("tool.invoke", write_invoke(submit)))
        }
        Command::Cancel(cancel) => shared::write_cancel(cancel),
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
        Command::Subscribe(subscribe) => ("subscribe", subscriptions::write_subscribe(subscribe)),
        Command::Unsubscribe { subscription } => ("unsubscribe", subscriptions::write_unsubscribe(subscription)),
    }
}

fn write_open(open: &Open) -> String {
    let mut payload = Object::new();
    payload.object("auth", |auth| {
        let mut say = |scheme: &str, token: Option<&Secret>| {
            let token = token.map(Secret::expose).filter(|token| !token.is_empty());
            auth.str("scheme", scheme).opt_str("token", token);
        };
        match &open.credential {
            Credential::Bearer(token) => say("bearer", Some(token)),
            Credential::Anonymous => say("none", None),
            Credential::Other { scheme, token } => say(scheme, Some(token)),
        }
    });
    payload.object("client", |client| {
        client.str("kind", &open.client.name).str("version", &open.client.version);
    });
    payload.object("capabilities", |capabilities| write_capabilities(capabilities, open));
    payload.done()
}

fn write_capabilities(out: &mut Object, open: &Open) {
    for name in open.features.iter().filter_map(capability_name) {
        out.bool(name, true);
    }
    if open.credential == Credential::Anonymous {
        out.bool("anonymous", true);
    }
    if open.features.has(Feature::BlockOnSilence) {
        out.str("heartbeat_recovery", "block");
    }
    if open.features.has(Feature::Sidecars) {
        out.array(BINARY_ENCODING, ENCODINGS.map(quoted));
    }
    if open.features.has(Feature::Heartbeat) {
        out.u64("heartbeat_interval_seconds", 30);
    }
    let others = open.extensions.iter().map(String::as_str).filter(|name| *name != TYPES);
    let mut extensions: Vec<String> = others.chain(extension_names(open.features)).map(quoted).collect();
    extensions.push(quoted(TYPES));
    out.array("extensions", extensions);
    let required = open.required.iter().filter_map(capability_name).map(quoted);
    let required: Vec<String> = required.chain(open.required_unknown.as_deref().map(quoted)).collect();
    if !required.is_empty() {
        out.array("required", required);
    }
}

/// The answer to a challenge, in every published form at once.
fn write_proof(proof: &Proof) -> String {
    let mut payload = Object::new();
    let response = proof.response.expose();
    payload.str("response", response).str("token", response).opt_str("nonce", proof.nonce.as_deref());
    payload.done()
}

fn write_schedule(wish: &NewSchedule) -> (&'static str, String) {
    shared::write_schedule(wish, ("tool.invoke", &write_invoke(&wish.job.submit(None))))
}

/// Published runtimes require `arguments`, and read the names of a lease only with `_`.
fn write_invoke(submit: &Submit) -> String {
    let mut payload = Object::new();
    payload
        .display("tool", &submit.agent)
        .raw("arguments", submit.input.as_ref().map_or("{}", Json::as_str))
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref());
    if let Some(seconds) = submit.max_runtime {
        payload.u64("max_runtime_sec", u64::from(seconds.get()));
    }
    payload.done()
}
