//! Reading requests that are the same in both families.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::Violation;
use crate::id::{IdempotencyKey, WireId};
use crate::json::{Json, Once, Raw, Text, members};
use crate::model::agent::AgentRef;
use crate::model::job::{FinalStatus, JobStatus};
use crate::model::reply::RefusedKind;
use crate::model::request::{
    Command, Credential, HandshakeRequest, ListQuery, Request, ResumeClaim, SessionRequest, Watch,
};
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::envelope::{Header, payload};
use crate::wire::names::status_named;

/// Reads a request of a type that both families have; `None` for other types.
pub(in crate::wire) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    let kind = header.kind.as_ref();
    Ok(Some(match kind {
        "session.resume" => {
            HandshakeRequest::Resume(payload::<Resume<'_>>(kind, header.payload)?.claim(header.session.as_ref())?)
                .into()
        }
        "session.close" => SessionRequest::Close { reason: reason(header)?, answered: true }.into(),
        "session.ping" => {
            let said = match Nonce::passed(header.payload) {
                Some(said) => said,
                None => payload(kind, header.payload)?,
            };
            SessionRequest::Ping { nonce: nonce(&said.nonce)? }.into()
        }
        "session.pong" => {
            SessionRequest::Pong { nonce: nonce(&payload::<PongNonce<'_>>(kind, header.payload)?.ping_nonce)? }.into()
        }
        "session.ack" => SessionRequest::Ack { seq: payload::<Ack>(kind, header.payload)?.last_processed_seq }.into(),
        "session.list_jobs" => SessionRequest::List(read_list(header)?).into(),
        "job.subscribe" => {
            let wish: Subscribe = payload(kind, header.payload)?;
            Command::Watch(Watch { job: job_of(header, kind)?, after: wish.from_event_seq, history: wish.history })
                .into()
        }
        "job.unsubscribe" => Command::Unwatch { job: job_of(header, kind)? }.into(),
        "interrupt" => Command::Interrupt(super::interrupt::read_interrupt(header)?).into(),
        super::prompts::AWAIT => SessionRequest::AwaitPrompt.into(),
        super::handoff::KIND => Command::HandOver(super::handoff::read_hand_over(header)?).into(),
        _ => {
            let answer = super::prompts::read_answer(header)?.map(|answering| Command::Answer(answering).into());
            let answer = answer.map_or_else(|| super::artifacts::read_request(header), |answer| Ok(Some(answer)))?;
            let said = || match super::uploads::read_request(header)? {
                Some(wish) => Ok(Some(wish)),
                None => super::streams::read_request(header).map(|said| said.map(Request::from)),
            };
            let answer = answer.map_or_else(said, |answer| Ok(Some(answer)))?;
            let answer = answer.map_or_else(|| super::schedules::read_request(header), |answer| Ok(Some(answer)))?;
            let answer = answer.map_or_else(|| super::checkpoints::read_request(header), |answer| Ok(Some(answer)))?;
            let answer = answer.map_or_else(|| super::job_tokens::read_request(header), |answer| Ok(Some(answer)))?;
            return answer.map_or_else(|| super::sessions::read_request(header), |answer| Ok(Some(answer)));
        }
    }))
}

/// The kind of the request in a message of this type, for a refusal before it is read.
pub(in crate::wire) fn refused_kind(kind: &str) -> RefusedKind {
    match kind {
        "job.submit" | "tool.invoke" | "agent.delegate" | "checkpoint.restore" => RefusedKind::Submit,
        "job.cancel" | "cancel" => RefusedKind::Cancel,
        "job.subscribe" | super::job_tokens::EXCHANGE => RefusedKind::Watch,
        "job.unsubscribe" => RefusedKind::Job,
        "session.list_jobs" => RefusedKind::Listing,
        "session.authenticate" => RefusedKind::Proof,
        _ => RefusedKind::Frame,
    }
}

#[derive(Deserialize)]
pub(in crate::wire) struct Resume<'a> {
    #[serde(borrow, default)]
    pub(in crate::wire) session_id: Option<Text<'a>>,
    #[serde(borrow, default, alias = "token")]
    pub(in crate::wire) resume_token: Option<Text<'a>>,
    #[serde(default)]
    pub(in crate::wire) last_event_seq: Option<u64>,
}

impl Resume<'_> {
    /// The claim. Without a session of its own it is to the one in the envelope.
    pub(in crate::wire) fn claim(self, around: Option<&WireId>) -> Result<ResumeClaim, Violation> {
        let token = self.resume_token.ok_or_else(|| Violation::invalid("resume: `resume_token` is missing"))?;
        let named = self.session_id.and_then(|Text(id)| WireId::new(&id));
        Ok(ResumeClaim {
            session: named.or_else(|| around.cloned()),
            token: Secret::new(token.0.into()),
            last_seq: self.last_event_seq.unwrap_or(0),
        })
    }
}

#[derive(Deserialize)]
pub(in crate::wire) struct Auth<'a> {
    #[serde(borrow, default)]
    pub(in crate::wire) scheme: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(in crate::wire) token: Option<Text<'a>>,
}

/// The credential of a peer; without `auth` the peer is anonymous.
pub(in crate::wire) fn credential(auth: Option<Auth<'_>>) -> Credential {
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

/// Names of programs are shown to people, so their length is bounded.
pub(in crate::wire) fn bounded(text: Option<Text<'_>>) -> String {
    text.map(|Text(text)| text.chars().take(128).collect()).unwrap_or_default()
}

#[derive(Deserialize)]
struct Nonce<'a> {
    #[serde(borrow, default = "empty")]
    nonce: Text<'a>,
}

impl<'a> Nonce<'a> {
    /// Reads the nonce of a valid payload in one pass; `None` if validity cannot be decided.
    fn passed(text: &'a str) -> Option<Nonce<'a>> {
        let (mut nonce, mut once) = (empty(), Once::default());
        members(text, usize::MAX, |member| {
            if member.name == "nonce" {
                nonce = member.text()??;
                once.note(0)?;
            }
            Some(())
        })?;
        Some(Nonce { nonce })
    }
}

#[derive(Deserialize)]
struct PongNonce<'a> {
    #[serde(borrow, default = "empty")]
    ping_nonce: Text<'a>,
}

pub(in crate::wire) fn empty<'a>() -> Text<'a> {
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

pub(in crate::wire) fn reason(header: &Header<'_>) -> Result<Option<String>, Violation> {
    let given: Reason<'_> = payload(&header.kind, header.payload)?;
    Ok(given.reason.map(|Text(reason)| reason.chars().take(1024).collect()))
}

pub(in crate::wire) fn job_of(header: &Header<'_>, kind: &str) -> Result<WireId, Violation> {
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
    limit: Option<u64>,
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
    let mut status = Vec::new();
    for Text(word) in &words {
        let Some(named) = status_named(word) else {
            let shown: String = word.chars().take(32).collect();
            return Err(Violation::invalid(alloc::format!("filter: unknown status `{shown}`")));
        };
        status.push(named);
        if word == "failed" {
            // The open family has one word for two ends.
            status.push(JobStatus::Ended(FinalStatus::TimedOut));
        }
    }
    Ok(ListQuery {
        status,
        agent: filter.agent.map(|Text(agent)| AgentRef::parse(&agent)).transpose()?,
        created_after: moment("created_after", filter.created_after)?,
        created_before: moment("created_before", filter.created_before)?,
        limit: list.limit,
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

/// An explicit `null` is a value, unlike an absent member.
pub(in crate::wire) fn present<'de, D: Deserializer<'de>, R: From<&'de RawValue>>(
    deserializer: D,
) -> Result<Option<R>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(|raw| Some(R::from(raw)))
}

/// An object; an empty one counts as absent.
pub(in crate::wire) fn object<'a>(name: &str, raw: Option<impl Into<Raw<'a>>>) -> Result<Option<Json>, Violation> {
    let Some(json) = raw.map(Json::from_checked) else {
        return Ok(None);
    };
    match json.members() {
        Ok(members) if members.0.is_empty() => Ok(None),
        Ok(_) => Ok(Some(json)),
        Err(error) => Err(Violation::invalid(alloc::format!("`{name}`: {error}"))),
    }
}

/// A nonce to repeat. Its length is bounded, because it waits in memory until the peer reads.
pub(in crate::wire) fn nonce(Text(nonce): &Text<'_>) -> Result<String, Violation> {
    if nonce.len() > WireId::MAX {
        return Err(Violation::invalid(alloc::format!("`nonce` must have at most {} bytes", WireId::MAX)));
    }
    Ok(nonce.to_string())
}

/// Reads an idempotency key.
pub(in crate::wire) fn key(text: Option<Text<'_>>) -> Result<Option<IdempotencyKey>, Violation> {
    let bad = || Violation::invalid("`idempotency_key` must have 1 to 256 bytes");
    text.map(|Text(key)| IdempotencyKey::new(&key).ok_or_else(bad)).transpose()
}

/// Reads the id of a parent job.
pub(in crate::wire) fn parent(id: &str) -> Result<WireId, Violation> {
    WireId::new(id).ok_or_else(|| Violation::invalid("`parent_job_id` must have 1 to 256 bytes"))
}

/// Reads the id by which the parent refers to the job.
pub(in crate::wire) fn delegate_id(text: Option<Text<'_>>) -> Result<Option<WireId>, Violation> {
    let bad = || Violation::invalid("`delegate_id` must have 1 to 256 bytes");
    text.map(|Text(id)| WireId::new(&id).ok_or_else(bad)).transpose()
}

/// Reads a time limit.
pub(in crate::wire) fn max_runtime(seconds: Option<u64>) -> Result<Option<NonZeroU32>, Violation> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    match u32::try_from(seconds).ok().and_then(NonZeroU32::new) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Violation::invalid("`max_runtime_sec` must be a whole number from 1 to 4294967295")),
    }
}
