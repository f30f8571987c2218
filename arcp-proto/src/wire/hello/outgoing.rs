//! Requests to hello runtimes, written by our client.

use alloc::borrow::Cow;
use alloc::string::String;

use super::{Envelope, OURS, feature_name, status_name};
use crate::id::WireId;
use crate::json::{Object, push_string};
use crate::model::request::{Credential, ListQuery, Open, Request, ResumeClaim, Submit};
use crate::time::UtcMs;

/// A request on its way to a runtime.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The message id.
    pub id: ulid::Ulid,
    /// The session, once there is one.
    pub session: Option<&'a WireId>,
    /// The present time.
    pub at: UtcMs,
    /// The request.
    pub request: &'a Request,
}

/// Writes a request.
pub fn write_request(out: &Outgoing<'_>) -> String {
    let (kind, payload) = match out.request {
        Request::Open(open) => ("session.hello", write_hello(open)),
        Request::Resume(claim) => ("session.resume", write_claim(claim)),
        Request::Close { reason, answered } => {
            let kind = if *answered { "session.close" } else { "session.bye" };
            (kind, write_reason(reason.as_deref().unwrap_or("client.close"), None))
        }
        Request::Ping { nonce } => {
            let mut payload = Object::new();
            payload.str("nonce", nonce).display("sent_at", out.at);
            ("session.ping", payload.done())
        }
        Request::Pong { nonce } => {
            let mut payload = Object::new();
            payload.str("ping_nonce", nonce).display("received_at", out.at);
            ("session.pong", payload.done())
        }
        Request::Ack { seq } => {
            let mut payload = Object::new();
            payload.u64("last_processed_seq", *seq);
            ("session.ack", payload.done())
        }
        Request::List(query) => ("session.list_jobs", write_list(query)),
        Request::Submit(submit) => ("job.submit", write_submit(submit)),
        Request::Cancel { job, reason } => {
            // Published runtimes need a reason, and some the id in here.
            ("job.cancel", write_reason(reason.as_deref().unwrap_or("client.cancel"), Some(job)))
        }
        Request::Watch(watch) => {
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
        Request::Unwatch { job } => {
            let mut payload = Object::new();
            payload.str("job_id", job.as_str());
            ("job.unsubscribe", payload.done())
        }
        Request::Ignored => ("x-vendor.arcp.nothing", String::from("{}")),
    };
    let trace = if let Request::Submit(submit) = out.request { submit.trace.as_deref() } else { None };
    let envelope = Envelope {
        id: out.id,
        kind,
        session: out.session.map(|session| Cow::Borrowed(session.as_str())),
        job: out.request.job().map(|job| Cow::Borrowed(job.as_str())),
        trace,
        seq: None,
    };
    envelope.around(&payload)
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
        let names = open.features.iter().map(feature_name).chain([OURS]);
        capabilities.raw("encodings", "[\"json\"]").array(
            "features",
            names.map(|name| {
                let mut quoted = String::new();
                push_string(&mut quoted, name);
                quoted
            }),
        );
    });
    if let Some(claim) = &open.resume {
        payload.raw("resume", &write_claim(claim));
        payload.str("resume_token", claim.token.expose()).u64("last_event_seq", claim.last_seq);
    }
    payload.done()
}

fn write_claim(claim: &ResumeClaim) -> String {
    let mut payload = Object::new();
    payload
        .opt_str("session_id", claim.session.as_ref().map(WireId::as_str))
        .str("resume_token", claim.token.expose())
        .u64("last_event_seq", claim.last_seq);
    payload.done()
}

fn write_list(query: &ListQuery) -> String {
    let mut payload = Object::new();
    payload.object("filter", |filter| {
        if !query.status.is_empty() {
            filter.array("status", query.status.iter().map(|s| alloc::format!("\"{}\"", status_name(*s))));
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
        payload.u64("limit", u64::from(limit));
    }
    payload.opt_str("cursor", query.cursor.as_deref());
    payload.done()
}

fn write_submit(submit: &Submit) -> String {
    let mut payload = Object::new();
    payload
        .display("agent", &submit.agent)
        .opt_json("input", submit.input.as_ref())
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref())
        .opt_str("idempotency_key", submit.key.as_deref());
    if let Some(seconds) = submit.max_runtime {
        payload.u64("max_runtime_sec", u64::from(seconds.get()));
    }
    payload.opt_str("parent_job_id", submit.parent.as_ref().map(WireId::as_str));
    payload.done()
}
