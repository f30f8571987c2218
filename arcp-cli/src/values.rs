//! Parsers for values of the command line. Each error says what is expected; clap adds the argument and the given
//! value.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::drain::Drain;
use arcp_blocking::{Target, TargetError};
use arcp_host::auth::Endpoint;
use arcp_host::process::Format;
use arcp_proto::id::PromptId;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::EventKind;
use arcp_proto::model::job::JobStatus;
use arcp_proto::wire::{Compat, Family, Profile};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ureq::http::Uri;

/// The least size for a store: a smaller one is a mistake in the unit.
const LEAST_STORE: u64 = 1 << 20;
/// The longest span, in 32 bits of seconds. Adding it to a time does not overflow.
const LONGEST_SPAN: Duration = Duration::from_secs(u32::MAX as u64);
/// The longest time between two heartbeats.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(24 * 3600);
/// The longest time that a cancel may take.
const LONGEST_CANCEL: Duration = Duration::from_secs(600);

/// A span of time: `90s`, `10m`, `1h30m`; a bare number is seconds.
pub fn span(text: &str) -> Result<Duration, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let span = match is_number {
        true => Duration::from_secs(text.parse().unwrap_or(u64::MAX)),
        false => humantime::parse_duration(text).map_err(|_| "expected a duration such as 90s, 10m or 1h30m")?,
    };
    if span <= LONGEST_SPAN { Ok(span) } else { Err("expected at most 136 years".to_string()) }
}

/// The time between two heartbeats; 0 for none.
pub fn heartbeat(text: &str) -> Result<Duration, String> {
    let span = span(text)?;
    let fits = span.subsec_nanos() == 0 && span <= LONGEST_HEARTBEAT;
    fits.then_some(span).ok_or_else(|| "expected whole seconds, from 1s to 24h, or 0 for none".to_string())
}

/// How long a session can be resumed.
pub fn resume_window(text: &str) -> Result<Duration, String> {
    at_least(span(text)?, Duration::from_secs(1), "1s")
}

/// The length of a session's lease.
pub fn session_lease(text: &str) -> Result<Duration, String> {
    at_least(some_span(text)?, Duration::from_secs(10), "10s")
}

/// How long ended jobs are kept.
pub fn kept_jobs(text: &str) -> Result<Duration, String> {
    at_least(kept(text)?, Duration::from_secs(1), "1s")
}

/// How long entries of the audit trail are kept.
pub fn kept_audit(text: &str) -> Result<Duration, String> {
    at_least(kept(text)?, Duration::from_secs(60), "1m")
}

fn at_least(span: Duration, least: Duration, said: &str) -> Result<Duration, String> {
    if span >= least { Ok(span) } else { Err(format!("expected at least {said}")) }
}

/// How long jobs may continue when the runtime stops.
pub fn drain(text: &str) -> Result<Drain, String> {
    match text {
        "forever" => Ok(Drain(None)),
        text => span(text).map(|span| Drain(Some(span))).map_err(|why| format!("{why}, or `forever`")),
    }
}

/// The size of a store: `500M`, `8GiB`. A bare number is bytes; K, M, G and T are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_end_matches("iB").trim_end_matches('B').to_ascii_uppercase();
    let shift = ["", "K", "M", "G", "T"].iter().position(|known| *known == unit);
    let bytes = number.parse::<u64>().ok().zip(shift).and_then(|(number, at)| number.checked_mul(1 << (10 * at)));
    let enough = bytes.filter(|bytes| *bytes >= LEAST_STORE);
    enough.ok_or_else(|| {
        "expected at least 1MiB and at most 16777215TiB, such as 500MiB or 8GiB; a number alone is bytes".to_string()
    })
}

/// How long something is kept. A bare number is refused: a user who means days would lose everything.
pub fn kept(text: &str) -> Result<Duration, String> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err("expected a number with its unit, such as 30d, 12h or 90s".to_string()),
        false => some_span(text),
    }
}

/// A span of time that is not 0.
pub fn some_span(text: &str) -> Result<Duration, String> {
    match span(text)? {
        Duration::ZERO => Err("expected more than 0, such as 10m".to_string()),
        span => Ok(span),
    }
}

/// How long a cancel may take.
pub fn deadline(text: &str) -> Result<Duration, String> {
    let span = some_span(text)?;
    if span <= LONGEST_CANCEL { Ok(span) } else { Err("expected at most 10m".to_string()) }
}

/// A span of time in whole seconds, rounded up, and not 0.
pub fn seconds(text: &str) -> Result<NonZeroU32, String> {
    let span = some_span(text)?;
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let seconds = u32::try_from(seconds).ok().and_then(NonZeroU32::new);
    seconds.ok_or_else(|| "expected at most 136 years".to_string())
}

/// A number, 0 included.
pub fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a number, 0 for all".to_string())
}

/// A rate per second.
pub fn rate(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "expected a number from 1 on; without this option there is no bound".to_string())
}

/// A percentage.
pub fn percent(text: &str) -> Result<u32, String> {
    let percent = text.parse().ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| "expected a number of percent from 1 to 100, without a sign".to_string())
}

/// The URL of a runtime; `ws://` and `/arcp` may be left out.
pub fn runtime(text: &str) -> Result<Target, String> {
    let expected = "expected ws://HOST:PORT/PATH, wss:// with TLS, HOST:PORT, h2://HOST:PORT/PATH, h2c:// without TLS, \
                    quic://HOST:PORT, unix:///PATH, or exec:COMMAND";
    for (scheme, ours) in [("http://", "ws://"), ("https://", "wss://")] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return Err(format!("a runtime speaks WebSocket: give {ours}{rest}"));
        }
    }
    let whole = match text.strip_prefix(':') {
        Some(rest) => format!("ws://127.0.0.1:{rest}"),
        None if ["exec:", "unix:"].iter().any(|scheme| text.starts_with(scheme)) || text.contains("://") => {
            text.to_string()
        }
        None if text.contains(':') => format!("ws://{text}"),
        None => return Err(expected.to_string()),
    };
    let why = |error| if let TargetError::NotUnix(_, why) = error { why } else { expected.to_string() };
    whole.parse().map_err(why)
}

/// The URL of a webhook.
pub fn webhook(text: &str) -> Result<String, String> {
    let is_url = text.parse::<Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some_and(|host| !host.is_empty())
    });
    is_url.then(|| text.to_string()).ok_or_else(|| "expected https://HOST:PORT/PATH, or http://".to_string())
}

/// The URL of an identity provider's endpoint.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::new(text).map_err(|error| error.to_string())
}

/// The path of a WebSocket.
pub fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)) {
        return Ok(text.to_string());
    }
    Err("expected a path that begins with `/`, such as /arcp, without spaces, `?` and `#`".to_string())
}

/// A host name, as in a URL.
pub fn host_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    fits.then(|| text.to_string())
        .ok_or_else(|| "expected a host name such as my.host.name, without scheme, port and path".to_string())
}

/// A web origin, as browsers send it.
pub fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = host.is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
    fits.then(|| text.to_string()).ok_or_else(|| "expected an origin such as https://my.page, without path".to_string())
}

/// An agent, with or without a version.
pub fn agent(text: &str) -> Result<AgentRef, String> {
    AgentRef::parse(text).map_err(|_| "expected NAME or NAME@VERSION, of letters, digits, `.`, `_` and `-`".to_string())
}

/// The name of a hosted agent and its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCommand {
    /// Its name.
    pub agent: AgentRef,
    /// The command line for the shell.
    pub command: String,
}

/// `NAME=COMMAND`: an agent and its command.
pub fn agent_command(text: &str) -> Result<AgentCommand, String> {
    let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND, such as 'shout=tr a-z A-Z'")?;
    if command.trim().is_empty() {
        return Err(format!("the command is empty: give NAME=COMMAND, such as '{name}=tr a-z A-Z'"));
    }
    Ok(AgentCommand { agent: agent(name)?, command: command.to_string() })
}

/// A value for one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfAgent<T> {
    /// The name of the agent.
    pub agent: String,
    /// The value.
    pub value: T,
}

impl<T: Clone> OfAgent<T> {
    /// The last value given for an agent.
    pub fn find(all: &[OfAgent<T>], agent: &str) -> Option<T> {
        all.iter().rev().find(|of| of.agent == agent).map(|of| of.value.clone())
    }
}

fn of_agent<T>(text: &str, example: &str, value: impl Fn(&str) -> Option<T>) -> Result<OfAgent<T>, String> {
    let parsed = text.split_once('=').and_then(|(name, given)| Some((agent(name).ok()?, value(given)?)));
    let (agent, value) = parsed.ok_or_else(|| format!("expected {example}"))?;
    Ok(OfAgent { agent: agent.name().to_string(), value })
}

/// A value for one other runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfRuntime<T> {
    /// The name that the other runtime has here.
    pub runtime: String,
    /// The value.
    pub value: T,
}

fn of_runtime<T>(text: &str, example: &str, value: impl Fn(&str) -> Result<T, String>) -> Result<OfRuntime<T>, String> {
    const LONGEST: usize = 64;
    let parts = text.split_once('=').filter(|(name, value)| (1..=LONGEST).contains(&name.len()) && !value.is_empty());
    let (name, given) = parts.ok_or_else(|| format!("expected {example}"))?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(format!("a name is letters, digits, `.`, `_` and `-`: expected {example}"));
    }
    Ok(OfRuntime { runtime: name.to_string(), value: value(given)? })
}

/// The URL of another runtime.
pub fn receiver(text: &str) -> Result<OfRuntime<Target>, String> {
    of_runtime(text, "NAME=URL, such as east=wss://east.example/arcp", |url| match runtime(url)? {
        target @ (Target::WebSocket { .. } | Target::Unix(_)) => Ok(target),
        Target::Http2 { .. } | Target::Quic { .. } => {
            Err("another runtime is reached at ws://, wss:// or unix:".to_string())
        }
        Target::Program(_) => Err("a program of its own is no other runtime: give where that one listens".to_string()),
    })
}

/// A file for another runtime.
pub fn receiver_file(text: &str) -> Result<OfRuntime<PathBuf>, String> {
    of_runtime(text, "NAME=FILE, such as east=/etc/arcp/east.token", |file| Ok(PathBuf::from(file)))
}

/// The key fingerprint of another runtime.
pub fn receiver_key(text: &str) -> Result<OfRuntime<String>, String> {
    of_runtime(text, "NAME=sha256:HEX", |said| {
        let digits = said.strip_prefix("sha256:").filter(|digits| digits.len() == 64);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let digits = digits
            .ok_or("expected sha256: and 64 hexadecimal digits, as `known_runtimes` in the state directory has them")?;
        Ok(format!("sha256:{}", digits.to_ascii_lowercase()))
    })
}

/// The output format of an agent.
pub fn agent_format(text: &str) -> Result<OfAgent<Format>, String> {
    let example = "NAME=FORMAT, such as coder=claude-json; formats are text, jsonl, claude-json and codex-json";
    of_agent(text, example, |format| format.parse().ok())
}

/// How many jobs of an agent may run at once.
pub fn agent_concurrency(text: &str) -> Result<OfAgent<NonZeroU32>, String> {
    of_agent(text, "NAME=N, such as render=2, and N is 1 or more", |most| most.parse().ok())
}

/// An id, or the beginning of one.
pub fn id(text: &str) -> Result<String, String> {
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_string())
        .ok_or_else(|| "expected the id of a job, or how it begins: `arcp ls` shows them".to_string())
}

/// The id of a question.
pub fn question(text: &str) -> Result<PromptId, String> {
    text.parse().map_err(|_| "expected the id of a question: `arcp inbox` shows them".to_string())
}

/// The id of a granted permission.
pub fn lease(text: &str) -> Result<PromptId, String> {
    PromptId::of_lease(text).ok_or_else(|| "expected what `arcp approve` has shown as `lease_id`".to_string())
}

/// The id of anything, or the URL of a runtime.
pub fn thing(text: &str) -> Result<String, String> {
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_string()).ok_or_else(|| {
        "expected the id of a job, session or subscription, or the address of a runtime: \
         `arcp ls` and `arcp runtimes` show them"
            .to_string()
    })
}

/// A kind of event.
pub fn kind(text: &str) -> Result<EventKind, String> {
    let kind = EventKind::from(text);
    if matches!(&kind, EventKind::Vendor(name) if !name.starts_with("x-")) {
        let known: Vec<&str> = EventKind::NAMED.iter().map(EventKind::as_str).collect();
        return Err(format!("expected one of {}, or a kind that begins with x-", known.join(", ")));
    }
    Ok(kind)
}

/// The status of a job.
pub fn status() -> impl TypedValueParser<Value = JobStatus> {
    PossibleValuesParser::new(JobStatus::ALL.map(JobStatus::as_str)).try_map(|word| word.parse::<JobStatus>())
}

/// A family of frames.
pub fn family() -> impl TypedValueParser<Value = Family> {
    let hello = PossibleValue::new("hello").help("`session.hello`, `job.submit`: the SDKs for Python, TypeScript, Go");
    let open = PossibleValue::new("open").help("`session.open`, `tool.invoke`: the SDKs for Rust and Swift");
    PossibleValuesParser::new([hello, open]).try_map(|name| name.parse::<Family>())
}

/// A compatibility profile for published clients.
pub fn compat() -> impl TypedValueParser<Value = Compat> {
    let names = ["auto", "off"].into_iter().chain(Profile::PUBLISHED.map(Profile::as_str));
    PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(|name| name.parse::<Compat>())
}
