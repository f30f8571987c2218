//! Reading requests of hello clients.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{OURS_PREFIX, Traceparent, feature_named, is_trace, trace_id};
use crate::error::Violation;
use crate::json::{Json, Member, Once, Raw, Text, members};
use crate::model::agent::AgentRef;
use crate::model::feature::{Feature, Features};
use crate::model::request::{ClientInfo, Command, HandshakeRequest, Invocation, Open, SessionRequest, Submit};
use crate::wire::ReceivedRequest;
use crate::wire::envelope::{Header, payload};
use crate::wire::profile::{Fingerprint, Profile};
use crate::wire::shared::{self, Auth, Resume, bounded, credential, job_of, object, present, reason};

/// The type of a submit.
const SUBMIT: &str = "job.submit";

pub(crate) fn opens(kind: &str) -> bool {
    matches!(kind, "session.hello" | "session.resume")
}

pub(crate) fn read_request(header: &Header<'_>) -> Result<ReceivedRequest, Violation> {
    let mut profile = Profile::Plain;
    let received = |request, profile| ReceivedRequest {
        id: header.id.clone(),
        session: header.session.clone(),
        request,
        profile,
        needs: None,
    };
    let kind = header.kind.as_ref();
    if kind == SUBMIT {
        // Checked first, because it is the most frequent.
        return Ok(received(Command::Submit(read_submit(header)?, read_invocation(header)).into(), profile));
    }
    if let Some(request) = shared::read_request(header)? {
        return Ok(received(request, profile));
    }
    let invoked = |submit| Ok((Submit { trace: read_trace(header)?, ..submit }, read_invocation(header)));
    if let Some(request) = shared::read_surface(header, invoked)? {
        return Ok(ReceivedRequest { needs: Some(Feature::OpenSurfaces), ..received(request, profile) });
    }
    let request = match kind {
        "session.hello" => {
            let (open, sender) = read_hello(header)?;
            profile = sender;
            HandshakeRequest::Open(open).into()
        }
        "session.bye" => SessionRequest::Close { reason: reason(header)?, answered: false }.into(),
        shared::SCHEDULE => {
            let read = |header: &Header<'_>| Ok((read_submit(header)?, read_invocation(header)));
            Command::Schedule(shared::read_schedule(header, SUBMIT, read)?.into()).into()
        }
        "job.cancel" => Command::cancel(job_of(header, kind)?, reason(header)?).into(),
        vendor if vendor.starts_with("x-vendor.") => SessionRequest::Ignored.into(),
        _ if header.is_optional() => SessionRequest::Ignored.into(),
        unknown => {
            let shown: String = unknown.chars().take(64).collect();
            return Err(Violation::invalid(alloc::format!("unknown message type `{shown}`")));
        }
    };
    Ok(received(request, profile))
}

#[derive(Deserialize)]
struct Hello<'a> {
    #[serde(borrow, default)]
    client: Option<Client<'a>>,
    #[serde(borrow, default)]
    client_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    client_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    auth: Option<Auth<'a>>,
    #[serde(borrow, default)]
    capabilities: Option<Capabilities<'a>>,
    #[serde(borrow, default)]
    resume: Option<Resume<'a>>,
    #[serde(borrow, default)]
    resume_token: Option<Text<'a>>,
    #[serde(default)]
    last_event_seq: Option<u64>,
}

#[derive(Deserialize)]
struct Client<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    version: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
struct Capabilities<'a> {
    #[serde(borrow, default)]
    features: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    agents: Option<&'a RawValue>,
}

fn read_hello(header: &Header<'_>) -> Result<(Open, Profile), Violation> {
    let hello: Hello<'_> = payload("session.hello", header.payload)?;
    let names_itself_flat = hello.client.is_none() && hello.client_name.is_some();
    let (name, version) = match hello.client {
        Some(client) => (client.name, client.version),
        None => (hello.client_name, hello.client_version),
    };
    let offered = hello.capabilities.unwrap_or_default();
    let names = offered.features.unwrap_or_default();
    let ours = names.iter().any(|Text(name)| name.starts_with(OURS_PREFIX));
    let profile = Profile::from_hello(Fingerprint {
        id: header.id.as_str(),
        offers_agents: offered.agents.is_some(),
        names_itself_flat,
        timestamp: header.timestamp,
        ours,
    });
    let flat = hello.resume_token.map(|token| Resume {
        session_id: None,
        resume_token: Some(token),
        last_event_seq: hello.last_event_seq,
    });
    // The session id of the envelope is ignored: some clients generate one.
    let resume = hello.resume.or(flat).map(|resume| resume.claim(None)).transpose()?;
    let features = names.iter().filter_map(|Text(name)| feature_named(name));
    let client = ClientInfo { name: bounded(name), version: bounded(version) };
    let features = features.fold(Features::default(), Features::with);
    let open = Open { resume, ..Open::new(client, credential(hello.auth), features) };
    Ok((open, profile))
}

#[derive(Default, Deserialize)]
struct SubmitFields<'a> {
    #[serde(borrow)]
    agent: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<Raw<'a>>,
    #[serde(borrow, default)]
    lease_request: Option<Raw<'a>>,
    #[serde(borrow, default)]
    lease_constraints: Option<Raw<'a>>,
    #[serde(borrow, default)]
    idempotency_key: Option<Text<'a>>,
    #[serde(default)]
    max_runtime_sec: Option<u64>,
    #[serde(borrow, default)]
    parent_job_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    delegate_id: Option<Text<'a>>,
}

impl<'a> SubmitFields<'a> {
    /// Reads the fields of a valid payload in one pass; `None` if validity cannot be decided.
    fn passed(text: &'a str) -> Option<SubmitFields<'a>> {
        let (mut fields, mut once) = (SubmitFields::default(), Once::default());
        let mut names_agent = false;
        members(text, usize::MAX, |member: Member<'a>| {
            let number = match member.name {
                "agent" => {
                    (fields.agent, names_agent) = (member.text()??, true);
                    0
                }
                "input" => {
                    fields.input = Some(Raw(member.value));
                    1
                }
                "lease_request" => {
                    fields.lease_request = member.raw();
                    2
                }
                "lease_constraints" => {
                    fields.lease_constraints = member.raw();
                    3
                }
                "idempotency_key" => {
                    fields.idempotency_key = member.text()?;
                    4
                }
                "max_runtime_sec" => {
                    fields.max_runtime_sec = member.u64()?;
                    5
                }
                "parent_job_id" => {
                    fields.parent_job_id = member.text()?;
                    6
                }
                "delegate_id" => {
                    fields.delegate_id = member.text()?;
                    7
                }
                _ => return Some(()),
            };
            once.note(number)
        })?;
        names_agent.then_some(fields)
    }
}

fn read_submit(header: &Header<'_>) -> Result<Submit, Violation> {
    let fields = match SubmitFields::passed(header.payload) {
        Some(fields) => fields,
        None => payload(SUBMIT, header.payload)?,
    };
    Ok(Submit {
        input: fields.input.map(Json::from_checked),
        lease_request: object("lease_request", fields.lease_request)?,
        lease_constraints: object("lease_constraints", fields.lease_constraints)?,
        key: shared::key(fields.idempotency_key)?,
        max_runtime: shared::max_runtime(fields.max_runtime_sec)?,
        // Without a parent, a delegate id has no meaning.
        delegate_id: shared::delegate_id(fields.delegate_id.filter(|_| fields.parent_job_id.is_some()))?,
        parent: fields.parent_job_id.map(|Text(id)| shared::parent(&id)).transpose()?,
        trace: read_trace(header)?,
        ..Submit::new(AgentRef::parse(&fields.agent.0)?)
    })
}

fn read_trace(header: &Header<'_>) -> Result<Option<String>, Violation> {
    Ok(header.trace.as_deref().map(trace_id).transpose()?.flatten())
}

/// The span and flags of a traceparent.
fn read_invocation(header: &Header<'_>) -> Invocation {
    let parent = header.trace.as_deref().and_then(Traceparent::parse);
    let parent = parent.filter(|parent| is_trace(parent.trace));
    Invocation {
        span: parent.as_ref().and_then(Traceparent::span).map(String::from),
        unsampled: parent.is_some_and(|parent| !parent.is_sampled()),
        ..Invocation::default()
    }
}
