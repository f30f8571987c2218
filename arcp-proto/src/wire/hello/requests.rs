//! Requests of hello clients, read.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{OURS_PREFIX, feature_named, status_named, trace_id};
use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Json, Text};
use crate::model::agent::AgentRef;
use crate::model::feature::Features;
use crate::model::request::{ClientInfo, Credential, ListQuery, Open, Request, ResumeClaim, Submit, Watch};
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::Inbound;
use crate::wire::envelope::{Header, payload};
use crate::wire::profile::{Fingerprint, Profile};

pub(crate) fn opens(kind: &str) -> bool {
    matches!(kind, "session.hello" | "session.resume")
}

pub(crate) fn read_request(header: &Header<'_>) -> Result<Inbound, Violation> {
    let mut profile = Profile::Plain;
    let kind = header.kind.as_ref();
    let request = match kind {
        "session.hello" => {
            let (open, sender) = read_hello(header)?;
            profile = sender;
            Request::Open(open)
        }
        "session.resume" => Request::Resume(payload::<Resume<'_>>(kind, header.payload)?.claim(header)?),
        "session.close" => Request::Close { reason: reason(header)?, answered: true },
        "session.bye" => Request::Close { reason: reason(header)?, answered: false },
        "session.ping" => Request::Ping { nonce: payload::<Nonce<'_>>(kind, header.payload)?.nonce.0.into() },
        "session.pong" => Request::Pong { nonce: payload::<PongNonce<'_>>(kind, header.payload)?.ping_nonce.0.into() },
        "session.ack" => Request::Ack { seq: payload::<Ack>(kind, header.payload)?.last_processed_seq },
        "session.list_jobs" => Request::List(read_list(header)?),
        "job.submit" => Request::Submit(read_submit(header)?),
        "job.cancel" => Request::Cancel { job: job_of(header, kind)?, reason: reason(header)? },
        "job.subscribe" => {
            let wish: Subscribe = payload(kind, header.payload)?;
            Request::Watch(Watch { job: job_of(header, kind)?, after: wish.from_event_seq, history: wish.history })
        }
        "job.unsubscribe" => Request::Unwatch { job: job_of(header, kind)? },
        vendor if vendor.starts_with("x-vendor.") => Request::Ignored,
        _ if header.optional => Request::Ignored,
        unknown => {
            let shown: String = unknown.chars().take(64).collect();
            return Err(Violation::invalid(alloc::format!("unknown message type `{shown}`")));
        }
    };
    Ok(Inbound { id: header.id.clone(), session: header.session.clone(), request, profile })
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

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    scheme: Option<Text<'a>>,
    #[serde(borrow, default)]
    token: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
struct Capabilities<'a> {
    #[serde(borrow, default)]
    features: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    agents: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resume<'a> {
    #[serde(borrow, default)]
    session_id: Option<Text<'a>>,
    #[serde(borrow, default, alias = "token")]
    resume_token: Option<Text<'a>>,
    #[serde(default)]
    last_event_seq: Option<u64>,
}

impl Resume<'_> {
    fn claim(self, header: &Header<'_>) -> Result<ResumeClaim, Violation> {
        let token = self.resume_token.ok_or_else(|| Violation::invalid("resume: `resume_token` is missing"))?;
        let named = self.session_id.and_then(|Text(id)| WireId::new(&id));
        Ok(ResumeClaim {
            session: named.or_else(|| header.session.clone()),
            token: Secret::new(token.0.into()),
            last_seq: self.last_event_seq.unwrap_or(0),
        })
    }
}

fn read_hello(header: &Header<'_>) -> Result<(Open, Profile), Violation> {
    let hello: Hello<'_> = payload("session.hello", header.payload)?;
    let (name, version) = match hello.client {
        Some(client) => (client.name, client.version),
        None => (hello.client_name, hello.client_version),
    };
    let offered = hello.capabilities.unwrap_or_default();
    let names = offered.features.unwrap_or_default();
    let ours = names.iter().any(|Text(name)| name.starts_with(OURS_PREFIX));
    let profile = Profile::of_hello(Fingerprint {
        id: header.id.as_str(),
        offers_agents: offered.agents.is_some(),
        timestamped: header.timestamped,
        ours,
    });
    let flat = hello.resume_token.map(|token| Resume {
        session_id: None,
        resume_token: Some(token),
        last_event_seq: hello.last_event_seq,
    });
    let resume = hello.resume.or(flat).map(|resume| resume.claim(header)).transpose()?;
    let features = names.iter().filter_map(|Text(name)| feature_named(name));
    let open = Open {
        client: ClientInfo { name: bounded(name), version: bounded(version) },
        credential: credential(hello.auth),
        features: features.fold(Features::default(), Features::with),
        resume,
    };
    Ok((open, profile))
}

fn credential(auth: Option<Auth<'_>>) -> Credential {
    let Some(auth) = auth else {
        return Credential::Anonymous;
    };
    let token = Secret::new(auth.token.map(|Text(token)| token.into()).unwrap_or_default());
    match auth.scheme.as_ref().map_or("bearer", |Text(scheme)| scheme.as_ref()) {
        "bearer" => Credential::Bearer(token),
        "none" | "anonymous" => Credential::Anonymous,
        other => Credential::Other { scheme: other.chars().take(64).collect(), token },
    }
}

/// Names of programs are shown to people: they are kept short.
fn bounded(text: Option<Text<'_>>) -> String {
    text.map(|Text(text)| text.chars().take(128).collect()).unwrap_or_default()
}

#[derive(Deserialize)]
struct Nonce<'a> {
    #[serde(borrow, default = "empty")]
    nonce: Text<'a>,
}

#[derive(Deserialize)]
struct PongNonce<'a> {
    #[serde(borrow, default = "empty")]
    ping_nonce: Text<'a>,
}

fn empty<'a>() -> Text<'a> {
    Text("".into())
}

#[derive(Deserialize)]
struct Ack {
    last_processed_seq: u64,
}

#[derive(Deserialize)]
struct Reason<'a> {
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    job_id: Option<Text<'a>>,
}

fn reason(header: &Header<'_>) -> Result<Option<String>, Violation> {
    let given: Reason<'_> = payload(&header.kind, header.payload)?;
    Ok(given.reason.map(|Text(reason)| reason.chars().take(1024).collect()))
}

fn job_of(header: &Header<'_>, kind: &str) -> Result<WireId, Violation> {
    let given: Reason<'_> = payload(kind, header.payload)?;
    let named = given.job_id.and_then(|Text(id)| WireId::new(&id));
    match (header.job.clone(), named) {
        (Some(a), Some(b)) if a != b => {
            Err(Violation::invalid(alloc::format!("`{kind}`: `job_id` differs between envelope and payload")))
        }
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(Violation::invalid(alloc::format!("`{kind}`: `job_id` is missing"))),
    }
}

#[derive(Deserialize)]
struct Subscribe {
    #[serde(default)]
    from_event_seq: Option<u64>,
    #[serde(default)]
    history: Option<bool>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow, default)]
    filter: Option<Filter<'a>>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(borrow, default)]
    cursor: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
struct Filter<'a> {
    #[serde(borrow, default)]
    status: Option<OneOrMany<'a>>,
    #[serde(borrow, default)]
    agent: Option<Text<'a>>,
    #[serde(borrow, default)]
    created_after: Option<Text<'a>>,
    #[serde(borrow, default)]
    created_before: Option<Text<'a>>,
}

struct OneOrMany<'a>(Vec<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMany<'a>, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        let read = if raw.starts_with('[') {
            serde_json::from_str(raw)
        } else {
            serde_json::from_str(raw).map(|one| alloc::vec![one])
        };
        read.map(OneOrMany).map_err(serde::de::Error::custom)
    }
}

fn read_list(header: &Header<'_>) -> Result<ListQuery, Violation> {
    let list: List<'_> = payload("session.list_jobs", header.payload)?;
    let filter = list.filter.unwrap_or_default();
    let words = filter.status.map(|OneOrMany(words)| words).unwrap_or_default();
    let status = words.iter().map(|Text(word)| {
        status_named(word).ok_or_else(|| {
            let shown: String = word.chars().take(32).collect();
            Violation::invalid(alloc::format!("filter: unknown status `{shown}`"))
        })
    });
    let limit = match list.limit {
        None => None,
        Some(n) => match u16::try_from(n) {
            Ok(n @ 1..=1000) => Some(n),
            _ => return Err(Violation::invalid("`limit` must be 1 to 1000")),
        },
    };
    Ok(ListQuery {
        status: status.collect::<Result<_, _>>()?,
        agent: filter.agent.map(|Text(agent)| AgentRef::parse(&agent)).transpose()?,
        created_after: moment("created_after", filter.created_after)?,
        created_before: moment("created_before", filter.created_before)?,
        limit,
        cursor: list.cursor.map(|Text(cursor)| cursor.to_string()),
    })
}

fn moment(name: &str, text: Option<Text<'_>>) -> Result<Option<UtcMs>, Violation> {
    text.map(|Text(text)| {
        UtcMs::parse(&text).ok_or_else(|| {
            Violation::invalid(alloc::format!("filter: `{name}` must be an RFC 3339 time with an offset"))
        })
    })
    .transpose()
}

#[derive(Deserialize)]
struct SubmitFields<'a> {
    #[serde(borrow)]
    agent: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lease_request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lease_constraints: Option<&'a RawValue>,
    #[serde(borrow, default)]
    idempotency_key: Option<Text<'a>>,
    #[serde(default)]
    max_runtime_sec: Option<u64>,
    #[serde(borrow, default)]
    parent_job_id: Option<Text<'a>>,
}

/// An explicit `null` is a value, unlike an absent member.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn read_submit(header: &Header<'_>) -> Result<Submit, Violation> {
    let fields: SubmitFields<'_> = payload("job.submit", header.payload)?;
    let max_runtime = match fields.max_runtime_sec {
        None => None,
        Some(s) => match u32::try_from(s).ok().and_then(NonZeroU32::new) {
            Some(s) => Some(s),
            None => return Err(Violation::invalid("`max_runtime_sec` must be a whole number from 1 to 4294967295")),
        },
    };
    let key = fields.idempotency_key.map(|Text(key)| key.to_string());
    if key.as_ref().is_some_and(|key| !(1..=256).contains(&key.len())) {
        return Err(Violation::invalid("`idempotency_key` must have 1 to 256 bytes"));
    }
    Ok(Submit {
        agent: AgentRef::parse(&fields.agent.0)?,
        input: fields.input.map(Json::of_checked),
        lease_request: object("lease_request", fields.lease_request)?,
        lease_constraints: object("lease_constraints", fields.lease_constraints)?,
        key,
        max_runtime,
        parent: fields.parent_job_id.and_then(|Text(id)| WireId::new(&id)),
        trace: header.trace.as_deref().map(trace_id).transpose()?,
    })
}

/// An object member; the empty object counts as absent.
fn object(name: &str, raw: Option<&RawValue>) -> Result<Option<Json>, Violation> {
    let Some(json) = raw.map(Json::of_checked) else {
        return Ok(None);
    };
    match json.members() {
        Ok(members) if members.0.is_empty() => Ok(None),
        Ok(_) => Ok(Some(json)),
        Err(error) => Err(Violation::invalid(alloc::format!("`{name}`: {error}"))),
    }
}
