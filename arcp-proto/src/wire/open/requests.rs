//! Reading requests of open clients.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BINARY_ENCODING, TYPES, capability_named, extension_feature, names_sidecars, subscriptions};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Json, Member, Members, Once, Raw, Text, members};
use crate::model::agent::AgentRef;
use crate::model::feature::{Feature, Features};
use crate::model::request::{
    ClientInfo, Command, Credential, Extension, HandshakeRequest, Invocation, Open, Priority, Proof, Request,
    SessionRequest, Submit,
};
use crate::secret::Secret;
use crate::wire::ReceivedRequest;
use crate::wire::envelope::{Header, payload};
use crate::wire::profile::{OpenFingerprint, Profile};
use crate::wire::shared::{self, Auth, bounded, credential, object, present};

/// The type that invokes a tool, which is an agent here.
const INVOKE: &str = "tool.invoke";

/// The first segments of the types of the protocol itself.
const CORE: [&str; 28] = [
    "session",
    "job",
    "stream",
    "tool",
    "human",
    "permission",
    "lease",
    "subscribe",
    "unsubscribe",
    "subscription",
    "artifact",
    "agent",
    "workflow",
    "checkpoint",
    "cancel",
    "interrupt",
    "resume",
    "backpressure",
    "event",
    "trace",
    "log",
    "metric",
    "ping",
    "pong",
    "ack",
    "nack",
    "arcp",
    "error",
];

pub(crate) fn opens(kind: &str) -> bool {
    kind == "session.open"
}

/// Whether only this family has messages of this type.
pub(crate) fn is_own(kind: &str) -> bool {
    let first = kind.split('.').next().unwrap_or_default();
    match first {
        "session" => matches!(kind, "session.open" | "session.authenticate"),
        "job" => kind == "job.schedule",
        other => CORE.contains(&other),
    }
}

pub(crate) fn read_request(header: &Header<'_>) -> Result<ReceivedRequest, Violation> {
    let mut profile = Profile::Plain;
    let priority = priority(header)?;
    let shared = match header.kind.as_ref() {
        // Checked first, because it is the most frequent.
        INVOKE => None,
        _ => shared::read_request(header)?,
    };
    let request = match shared {
        Some(request) => request,
        None => match header.kind.as_ref() {
            "session.open" => {
                let (open, sender) = read_open(header)?;
                profile = sender;
                HandshakeRequest::Open(open).into()
            }
            "session.authenticate" => HandshakeRequest::Authenticate(read_proof(header)?).into(),
            INVOKE => Command::Submit(read_invoke(header)?, read_invocation(header, priority)?).into(),
            shared::SCHEDULE => {
                let read = |header: &Header<'_>| Ok((read_invoke(header)?, read_invocation(header, priority)?));
                Command::Schedule(shared::read_schedule(header, INVOKE, read)?.into()).into()
            }
            "ping" => {
                let said = payload::<Nonce<'_>>("ping", header.payload)?.nonce;
                SessionRequest::Echo { nonce: said.as_ref().map(shared::nonce).transpose()? }.into()
            }
            "pong" => {
                let said = payload::<Nonce<'_>>("pong", header.payload).ok().and_then(|said| said.nonce);
                SessionRequest::Echoed { nonce: said.and_then(|said| shared::nonce(&said).ok()) }.into()
            }
            // Answers are not answered, which would never end.
            "ack" | "nack" => SessionRequest::Ignored.into(),
            _ => {
                let invoked = |submit| Ok((submit, read_invocation(header, priority)?));
                let surface = shared::read_surface(header, invoked)?;
                match surface.map_or_else(|| subscriptions::read_request(header), |surface| Ok(Some(surface)))? {
                    Some(request) => request,
                    None => read_other(header)?,
                }
            }
        },
    };
    Ok(ReceivedRequest { id: header.id.clone(), session: header.session.clone(), request, profile, needs: None })
}

/// Reads a message of an extension. Types of the protocol that this runtime does not serve are
/// refused (RFC §21.3).
fn read_other(header: &Header<'_>) -> Result<Request, Violation> {
    match read_extension(header)? {
        Some(message) => Ok(SessionRequest::Extension(message).into()),
        None => {
            let shown: String = header.kind.chars().take(64).collect();
            let message = alloc::format!("`{shown}` is not served by this runtime");
            Err(Violation::new(ErrorCode::Unimplemented, message))
        }
    }
}

/// Reads a message whose type cannot be one of the protocol; `None` if it can.
pub(super) fn read_extension(header: &Header<'_>) -> Result<Option<Extension>, Violation> {
    let kind = header.kind.as_ref();
    let first = kind.split('.').next().unwrap_or_default();
    if CORE.contains(&first) || !kind.contains('.') || kind.len() > WireId::MAX {
        return Ok(None);
    }
    let payload = Json::parse(header.payload).map_err(|e| Violation::invalid(alloc::format!("`payload`: {e}")))?;
    Ok(Some(Extension { kind: kind.to_string(), payload, optional: header.is_optional() }))
}

fn priority(header: &Header<'_>) -> Result<Priority, Violation> {
    header.priority.as_deref().map_or(Ok(Priority::Normal), priority_named)
}

pub(super) fn priority_named(name: &str) -> Result<Priority, Violation> {
    Ok(match name {
        "low" => Priority::Low,
        "normal" => Priority::Normal,
        "high" => Priority::High,
        "critical" => Priority::Critical,
        _ => return Err(Violation::invalid("a priority is low, normal, high or critical")),
    })
}

#[derive(Deserialize)]
struct Nonce<'a> {
    #[serde(borrow, default)]
    nonce: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Opening<'a> {
    #[serde(borrow, default)]
    auth: Option<Auth<'a>>,
    #[serde(borrow, default)]
    client: Option<Client<'a>>,
    #[serde(borrow, default)]
    capabilities: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Client<'a> {
    #[serde(borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    version: Option<Text<'a>>,
    #[serde(borrow, default)]
    fingerprint: Option<Text<'a>>,
}

fn read_open(header: &Header<'_>) -> Result<(Open, Profile), Violation> {
    let opening: Opening<'_> = payload("session.open", header.payload)?;
    let (name, version, fingerprint) =
        opening.client.map_or((None, None, None), |client| (client.kind, client.version, client.fingerprint));
    let client = ClientInfo { name: bounded(name), version: bounded(version) };
    let fingerprint = fingerprint.map(|said| bounded(Some(said)));
    let raw = opening.capabilities.map_or("{}", RawValue::get);
    let capabilities = Members::parse(if raw == "null" { "{}" } else { raw })
        .map_err(|e| Violation::invalid(alloc::format!("`capabilities`: {e}")))?;
    let credential = credential(opening.auth);
    if credential == Credential::Anonymous && capabilities.get("anonymous") == Some("false") {
        let why = "the scheme `none` needs `anonymous` among the capabilities (RFC \u{a7}8.2): they say that it is not";
        return Err(Violation::new(ErrorCode::Unauthenticated, why));
    }
    let (required, required_unknown) = read_required(&capabilities)?;
    let extensions = strings(&capabilities, "extensions")?;
    let profile = Profile::from_open(OpenFingerprint {
        id: header.id.as_str(),
        timestamp: header.timestamp,
        prioritised: header.priority.is_some(),
        names: capabilities.0.iter().map(|(name, _)| name.as_ref()),
        types: extensions.iter().any(|name| name == TYPES),
    });
    let features = extensions.iter().filter_map(|name| extension_feature(name));
    let features = features.fold(offered(&capabilities), Features::with);
    let open = Open { required, required_unknown, extensions, fingerprint, ..Open::new(client, credential, features) };
    Ok((open, profile))
}

fn offered(capabilities: &Members<'_>) -> Features {
    let mut features = Features::default();
    for (name, value) in &capabilities.0 {
        let wanted = match name.as_ref() {
            "heartbeat_interval_seconds" => (value.parse::<f64>().is_ok_and(|s| s > 0.0)).then_some(Feature::Heartbeat),
            "heartbeat_recovery" => (*value == "\"block\"").then_some(Feature::BlockOnSilence),
            BINARY_ENCODING => names_sidecars(value),
            name => capability_named(name).filter(|_| *value == "true"),
        };
        features = wanted.map_or(features, |feature| features.with(feature));
    }
    features
}

/// The required features, and the first required capability that no runtime of ours has.
fn read_required(capabilities: &Members<'_>) -> Result<(Features, Option<String>), Violation> {
    let mut features = Features::default();
    let mut unknown = None;
    for name in strings(capabilities, "required")? {
        match capability_named(&name) {
            Some(feature) => features = features.with(feature),
            // Other parts of the opening decide about these.
            None if matches!(name.as_str(), "anonymous" | "heartbeat_recovery" | BINARY_ENCODING) => {}
            None => unknown = unknown.or(Some(name)),
        }
    }
    Ok((features, unknown))
}

fn strings(members: &Members<'_>, name: &str) -> Result<Vec<String>, Violation> {
    const MOST: usize = 64;
    let list: Vec<String> = match members.get(name).filter(|raw| *raw != "null") {
        Some(raw) => serde_json::from_str(raw)
            .map_err(|_| Violation::invalid(alloc::format!("`capabilities`: `{name}` must be a list of strings")))?,
        None => Vec::new(),
    };
    if list.len() > MOST || list.iter().any(|item| item.is_empty() || item.len() > WireId::MAX) {
        let message = alloc::format!("`capabilities`: `{name}` has at most {MOST} names of 1 to {} bytes", WireId::MAX);
        return Err(Violation::invalid(message));
    }
    Ok(list)
}

#[derive(Deserialize)]
struct Authenticate<'a> {
    #[serde(borrow, default)]
    response: Option<Text<'a>>,
    #[serde(borrow, default)]
    token: Option<Text<'a>>,
    #[serde(borrow, default)]
    auth: Option<Auth<'a>>,
    #[serde(borrow, default)]
    nonce: Option<Text<'a>>,
}

fn read_proof(header: &Header<'_>) -> Result<Proof, Violation> {
    let said: Authenticate<'_> = payload("session.authenticate", header.payload)?;
    let response = said.response.or(said.token).or(said.auth.and_then(|auth| auth.token));
    let Some(Text(response)) = response else {
        return Err(Violation::invalid("`session.authenticate`: `response` is missing"));
    };
    let nonce = said.nonce.map(|Text(nonce)| nonce.into());
    Ok(Proof { response: Secret::new(response.into()), nonce })
}

#[derive(Default, Deserialize)]
struct Invoke<'a> {
    #[serde(borrow)]
    tool: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    arguments: Option<Raw<'a>>,
    #[serde(borrow, default, alias = "cost.budget")]
    cost_budget: Option<Raw<'a>>,
    #[serde(borrow, default, alias = "model.use")]
    model_use: Option<Raw<'a>>,
    #[serde(borrow, default)]
    lease_request: Option<Raw<'a>>,
    #[serde(borrow, default)]
    lease_constraints: Option<Raw<'a>>,
    #[serde(default)]
    max_runtime_sec: Option<u64>,
    #[serde(borrow, default)]
    idempotency_key: Option<Text<'a>>,
}

fn read_invocation(header: &Header<'_>, priority: Priority) -> Result<Invocation, Violation> {
    Ok(Invocation {
        priority,
        span: header.span.as_deref().map(|span| shared::free_text("span_id", span)).transpose()?,
        unsampled: false,
        extensions: object("extensions", header.extensions)?,
    })
}

impl<'a> Invoke<'a> {
    /// Reads the fields of a valid payload in one pass; `None` if validity cannot be decided.
    fn passed(text: &'a str) -> Option<Invoke<'a>> {
        let (mut fields, mut once) = (Invoke::default(), Once::default());
        let mut names_tool = false;
        members(text, usize::MAX, |member: Member<'a>| {
            let (number, field) = match member.name {
                "tool" => {
                    (fields.tool, names_tool) = (member.text()??, true);
                    return once.note(0);
                }
                "arguments" => {
                    fields.arguments = Some(Raw(member.value));
                    return once.note(1);
                }
                "idempotency_key" => {
                    fields.idempotency_key = member.text()?;
                    return once.note(2);
                }
                "max_runtime_sec" => {
                    fields.max_runtime_sec = member.u64()?;
                    return once.note(3);
                }
                "cost_budget" | "cost.budget" => (4, &mut fields.cost_budget),
                "model_use" | "model.use" => (5, &mut fields.model_use),
                "lease_request" => (6, &mut fields.lease_request),
                "lease_constraints" => (7, &mut fields.lease_constraints),
                _ => return Some(()),
            };
            *field = member.raw();
            once.note(number)
        })?;
        names_tool.then_some(fields)
    }
}

fn read_invoke(header: &Header<'_>) -> Result<Submit, Violation> {
    let fields = match Invoke::passed(header.payload) {
        Some(fields) => fields,
        None => payload(INVOKE, header.payload)?,
    };
    let terms = shared::Terms {
        cost_budget: fields.cost_budget,
        model_use: fields.model_use,
        lease_request: fields.lease_request,
        lease_constraints: fields.lease_constraints,
        max_runtime_sec: fields.max_runtime_sec,
        key: fields.idempotency_key,
    };
    let input = fields.arguments.map(Json::from_checked);
    shared::submit_on(header, terms, Submit { input, ..Submit::new(AgentRef::parse(&fields.tool.0)?) })
}
