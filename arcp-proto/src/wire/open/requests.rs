//! Requests of open clients, read.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BINARY_ENCODING, TYPES, capability_named, extension_feature, names_sidecars, subscriptions, workflows};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Json, Member, Members, Object, Once, Raw, Text, members};
use crate::model::agent::AgentRef;
use crate::model::feature::{Feature, Features};
use crate::model::request::{
    Cancel, ClientInfo, Command, Credential, Extension, HandshakeRequest, Invocation, Open, Priority, Proof, Request,
    SessionRequest, Submit, Target,
};
use crate::secret::Secret;
use crate::wire::ReceivedRequest;
use crate::wire::envelope::{Header, payload};
use crate::wire::profile::{OpenFingerprint, Profile};
use crate::wire::shared::{self, Auth, bounded, credential, object, present};

/// The type that has a tool do something.
const INVOKE: &str = "tool.invoke";
/// How long an agent may take to stop where a cancel does not say.
const CANCEL_DEADLINE_MS: u64 = 5000;
const LONGEST_CANCEL_DEADLINE_MS: u64 = 600_000;

/// The first words of types that belong to the protocol itself.
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
        // It comes most often.
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
            workflows::KIND => Command::Submit(workflows::read(header)?, read_invocation(header, priority)?).into(),
            "agent.delegate" => Command::Submit(read_delegate(header)?, read_invocation(header, priority)?).into(),
            "cancel" => Command::Cancel(read_cancel(header)?).into(),
            shared::SCHEDULE => {
                let read = |header: &Header<'_>| Ok((read_invoke(header)?, read_invocation(header, priority)?));
                Command::Schedule(shared::read_schedule(header, INVOKE, read)?.into()).into()
            }
            "ping" => {
                let said = payload::<Nonce<'_>>("ping", header.payload)?.nonce;
                SessionRequest::Echo { nonce: said.as_ref().map(shared::nonce).transpose()? }.into()
            }
            "backpressure" => read_pace(header)?,
            // An answer to an answer would never end.
            "pong" | "ack" | "nack" => SessionRequest::Ignored.into(),
            _ => match subscriptions::read_request(header)? {
                Some(request) => request,
                None => read_other(header)?,
            },
        },
    };
    Ok(ReceivedRequest { id: header.id.clone(), session: header.session.clone(), request, profile })
}

/// A type of the protocol that nobody serves here, or one of an extension
/// (RFC §21.3).
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

/// A message whose type cannot be one of the protocol; `None` if it can.
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
struct Pressure {
    #[serde(default)]
    desired_rate_per_second: Option<f64>,
}

/// How often something may be said in a stream (RFC §11.2).
fn read_pace(header: &Header<'_>) -> Result<Request, Violation> {
    const SLOWEST: f64 = 0.001;
    const FASTEST: f64 = 1_000_000.0;
    let said: Pressure = payload("backpressure", header.payload)?;
    let stream = header.stream.as_deref().and_then(WireId::new);
    let stream = stream.ok_or_else(|| Violation::invalid("`backpressure`: `stream_id` is missing"))?;
    let every = match said.desired_rate_per_second {
        None => None,
        Some(rate) if (SLOWEST..=FASTEST).contains(&rate) => Some(Duration::from_secs_f64(1.0 / rate)),
        Some(_) => {
            let range = alloc::format!("`desired_rate_per_second` is {SLOWEST} to {FASTEST}");
            return Err(Violation::invalid(range));
        }
    };
    Ok(SessionRequest::Pace { stream, every }.into())
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

/// What is required: what a runtime may have, and the first thing that none
/// of ours has.
fn read_required(capabilities: &Members<'_>) -> Result<(Features, Option<String>), Violation> {
    let mut features = Features::default();
    let mut unknown = None;
    for name in strings(capabilities, "required")? {
        match capability_named(&name) {
            Some(feature) => features = features.with(feature),
            // The credential decides about that.
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

#[derive(Deserialize)]
struct CancelFields<'a> {
    #[serde(borrow, default)]
    target: Option<Text<'a>>,
    #[serde(borrow, default)]
    target_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(default)]
    deadline_ms: Option<u64>,
}

fn read_cancel(header: &Header<'_>) -> Result<Cancel, Violation> {
    let said: CancelFields<'_> = payload("cancel", header.payload)?;
    let id = said.target_id.and_then(|Text(id)| WireId::new(&id)).or_else(|| header.job.clone());
    let id = id.ok_or_else(|| Violation::invalid("`cancel`: `target_id` is missing"))?;
    let target = match said.target.as_ref().map_or("job", |Text(target)| target.as_ref()) {
        "job" => Target::Job(id),
        "stream" => Target::Stream(id),
        "session" => Target::Session(id),
        _ => return Err(Violation::invalid("`cancel`: `target` must be job, stream or session")),
    };
    let deadline = said.deadline_ms.unwrap_or(CANCEL_DEADLINE_MS);
    if deadline > LONGEST_CANCEL_DEADLINE_MS {
        return Err(Violation::invalid("`cancel`: `deadline_ms` must be 0 to 600000"));
    }
    let reason = said.reason.map(|Text(reason)| reason.chars().take(1024).collect());
    Ok(Cancel { target, reason, deadline: Some(Duration::from_millis(deadline)) })
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
        span: header.span.as_deref().map(|span| free_text("span_id", span)).transpose()?,
        unsampled: false,
        extensions: object("extensions", header.extensions)?,
    })
}

impl<'a> Invoke<'a> {
    /// Those of a payload in which nothing is wrong, in one pass; `None` if that cannot be
    /// told.
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
    let terms = Terms {
        cost_budget: fields.cost_budget,
        model_use: fields.model_use,
        lease_request: fields.lease_request,
        lease_constraints: fields.lease_constraints,
        max_runtime_sec: fields.max_runtime_sec,
        key: fields.idempotency_key,
    };
    let input = fields.arguments.map(Json::from_checked);
    submit_on(header, terms, Submit { input, ..Submit::new(AgentRef::parse(&fields.tool.0)?) })
}

/// What is said of a job besides its agent and its input.
pub(super) struct Terms<'a> {
    pub(super) cost_budget: Option<Raw<'a>>,
    pub(super) model_use: Option<Raw<'a>>,
    pub(super) lease_request: Option<Raw<'a>>,
    pub(super) lease_constraints: Option<Raw<'a>>,
    pub(super) max_runtime_sec: Option<u64>,
    pub(super) key: Option<Text<'a>>,
}

/// A submit with what is said of it besides, here and in the envelope.
pub(super) fn submit_on(header: &Header<'_>, terms: Terms<'_>, submit: Submit) -> Result<Submit, Violation> {
    let key = match header.key.as_deref() {
        Some(key) => Some(Text(key.into())),
        None => terms.key,
    };
    let lease = object("lease_request", terms.lease_request)?;
    let constraints = object("lease_constraints", terms.lease_constraints)?.or_else(|| expiry_within(lease.as_ref()));
    let lease = with_budgets(lease, terms.cost_budget, terms.model_use)?;
    // A tracer that does nothing writes zeros.
    let trace = header.trace.as_deref().filter(|trace| trace.len() != 32 || trace.bytes().any(|digit| digit != b'0'));
    let trace = trace.map(|trace| free_text("trace_id", trace)).transpose()?;
    Ok(Submit {
        lease_request: lease,
        lease_constraints: constraints,
        key: shared::key(key)?,
        max_runtime: shared::max_runtime(terms.max_runtime_sec)?,
        trace,
        ..submit
    })
}

#[derive(Deserialize)]
struct Delegate<'a> {
    #[serde(borrow)]
    target: Text<'a>,
    #[serde(borrow, default)]
    task: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lease_request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lease_constraints: Option<&'a RawValue>,
    #[serde(default)]
    max_runtime_sec: Option<u64>,
    #[serde(borrow, default)]
    delegate_id: Option<Text<'a>>,
}

/// A child of the job that the envelope names (RFC §14).
fn read_delegate(header: &Header<'_>) -> Result<Submit, Violation> {
    let fields: Delegate<'_> = payload("agent.delegate", header.payload)?;
    let missing = || Violation::invalid("`agent.delegate`: `job_id` must name the job that has it done");
    let parent = header.job.clone().ok_or_else(missing)?;
    let lease = object("lease_request", fields.lease_request)?;
    let trace = header.trace.as_deref().map(|trace| free_text("trace_id", trace)).transpose()?;
    let said = |raw: Option<&RawValue>| raw.filter(|raw| raw.get() != "null").map(Json::from_checked);
    // A task stands beside an input, or for it.
    let task = || {
        let mut input = Object::new();
        input.opt_json("task", Some(&said(fields.task)?)).opt_json("context", said(fields.context).as_ref());
        Some(input.json())
    };
    Ok(Submit {
        input: fields.input.map(Json::from_checked).or_else(task),
        lease_request: with_budgets(lease, None, None)?,
        lease_constraints: object("lease_constraints", fields.lease_constraints)?,
        key: shared::key(header.key.as_deref().map(|key| Text(key.into())))?,
        max_runtime: shared::max_runtime(fields.max_runtime_sec)?,
        parent: Some(parent),
        delegate_id: shared::delegate_id(fields.delegate_id)?,
        trace,
        ..Submit::new(AgentRef::parse(&fields.target.0)?)
    })
}

fn free_text(name: &str, text: &str) -> Result<String, Violation> {
    if !(1..=WireId::MAX).contains(&text.len()) {
        return Err(Violation::invalid(alloc::format!("`{name}` must have 1 to {} bytes", WireId::MAX)));
    }
    Ok(text.to_string())
}

/// When a lease ends that says so itself.
fn expiry_within(lease: Option<&Json>) -> Option<Json> {
    let members = lease?.members().ok()?;
    let at = members.get("expires_at").filter(|at| *at != "null")?;
    let mut constraints = Object::new();
    constraints.raw("expires_at", at);
    Some(constraints.json())
}

/// The list of patterns in what one published client writes around it.
fn patterns(value: &str) -> &str {
    Members::parse(value).ok().and_then(|around| around.get("patterns")).unwrap_or(value)
}

/// The lease asked for under the names of 1.1: published clients write them
/// with `_`, and some of them beside the lease.
fn with_budgets(
    lease: Option<Json>,
    cost: Option<Raw<'_>>,
    models: Option<Raw<'_>>,
) -> Result<Option<Json>, Violation> {
    const NAMES: [(&str, &str); 7] = [
        ("cost_budget", "cost.budget"),
        ("model_use", "model.use"),
        ("fs_read", "fs.read"),
        ("fs_write", "fs.write"),
        ("net_fetch", "net.fetch"),
        ("tool_call", "tool.call"),
        ("agent_delegate", "agent.delegate"),
    ];
    if lease.is_none() && cost.is_none() && models.is_none() {
        return Ok(None);
    }
    let mut out = Object::new();
    let mut any = false;
    let members = lease.as_ref().map(|lease| lease.members()).transpose();
    let members = members.map_err(|e| Violation::invalid(alloc::format!("`lease_request`: {e}")))?.unwrap_or_default();
    let beside = [("cost.budget", cost), ("model.use", models)];
    let beside = beside.into_iter().filter_map(|(name, raw)| Some((name, raw?.get())));
    let inside = members.0.iter().map(|(name, value)| {
        let known = NAMES.iter().find(|(snake, _)| *snake == name.as_ref());
        (known.map_or(name.as_ref(), |(_, dotted)| *dotted), *value)
    });
    for (name, value) in inside.chain(beside) {
        // A published client says in the lease when it ends.
        if value != "null" && value != "[]" && name != "expires_at" {
            any = true;
            out.member(name, if name == "model.use" { patterns(value) } else { value });
        }
    }
    if !any {
        return Ok(None);
    }
    let lease = out.json();
    lease.members().map_err(|_| Violation::invalid("`lease_request`: the same thing is asked for twice"))?;
    Ok(Some(lease))
}
