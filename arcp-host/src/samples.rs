//! The sample agents of `arcp serve --samples`: ordinary agents that use the public API. Read them
//! as the tutorial.
//!
//! Any client that may submit a job may give them any input. So each checks its input before it
//! allocates or sleeps, and refuses too large values with `INVALID_REQUEST`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arcp_proto::error::ErrorCode;
use arcp_proto::json::{Json, Object};
use arcp_proto::lease::{Amount, Namespace};
use arcp_proto::model::credential::ProvisionedCredential;
use arcp_proto::model::event::{EventKind, JobError};
use arcp_proto::model::prompt::{Choice, PermissionRequest, Question};
use arcp_proto::model::stream::{ChunkNotes, StreamKind};
use arcp_proto::runtime::{AgentSpec, ChunkData, Delegation};
use arcp_proto::secret::Secret;
use serde::Deserialize;

use crate::agent::{
    AgentError, CallError, Context, Level, NewArtifact, Outcome, Stopped, StreamWriter, credentials, renew_credential,
};
use crate::registry::{Registry, Terms};

/// The longest generated text or piece, in bytes.
const PIECE_BYTES: u64 = 4 << 20;
/// The most pieces of one result.
const CHUNKS: u64 = 1 << 20;
/// The most steps, or events, of one job.
const STEPS: u64 = 1 << 20;
/// The longest run of a sample, in milliseconds: a day.
const RUN_MS: u64 = 86_400_000;
/// The longest sleep without a check for a stop, in milliseconds.
const DEAF_MS: u64 = 60_000;
/// How many keys `counter` and `gate` remember, and the longest key in bytes.
const KEYS: u64 = 10_000;
const KEY_BYTES: u64 = 256;

/// Adds all samples. None of them can end the process.
pub fn add_to(registry: &mut Registry) {
    registry.add_inline("echo", Some("1.0.0"), echo);
    registry.add_inline("echo", Some("2.0.0"), echo);
    registry.add("slow", None, slow);
    registry.add("chatty", None, chatty);
    registry.add("chunker", None, chunker);
    registry.add("failer", None, failer);
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    registry.add("counter", None, move |job: &Context| counter(job, &counts));
    let gates = Arc::new(Gates::default());
    let opened = gates.clone();
    registry.add("gate", None, move |job: &Context| gates.wait(job));
    registry.add_restartable("stepper", None, |job: &Context| stepper(job, false));
    registry.add("opengate", None, move |job: &Context| opened.open(job));
    registry.add("spender", None, spender);
    registry.add("guard", None, guard);
    registry.add("models", None, models);
    registry.add("creds", None, creds);
    registry.add("rotator", None, rotator);
    registry.add("artist", None, artist);
    registry.add("delegator", None, delegator);
    registry.add("asker", None, asker);
    registry.add("permitter", None, permitter);
    registry.add("streamer", None, streamer);
    registry.add("listener", None, listener);
    // These read only their input, and end soon.
    for pure in ["echo", "failer"] {
        registry.set_terms(pure, Terms { pure: true, ..Terms::default() });
    }
    registry.set_terms("stepper", Terms { gives_checkpoints: true, ..Terms::default() });
    registry.set_terms("listener", Terms { observes_interrupts: true, ..Terms::default() });
}

/// Lets `stepper` obey `crash_at`, which aborts the whole process at that step, to show a restart.
/// Use it only if every client of the runtime may end it.
pub fn let_crash(registry: &mut Registry) {
    registry.add_restartable("stepper", None, |job: &Context| stepper(job, true));
}

/// Refuses a number that is too large.
fn at_most(name: &str, value: u64, bound: u64) -> Result<(), AgentError> {
    if value <= bound {
        return Ok(());
    }
    let message = format!("`{name}` is {value}: at most {bound} is accepted");
    Err(AgentError::with_code(ErrorCode::InvalidRequest, message))
}

/// Refuses a key that is too long, or a new one if too many are remembered.
fn remembers(key: &str, known: bool, keys: usize) -> Result<(), AgentError> {
    at_most("the length of key", key.len() as u64, KEY_BYTES)?;
    if known || (keys as u64) < KEYS {
        return Ok(());
    }
    let message = format!("{KEYS} keys are in use, and none is forgotten before the runtime ends: use one of them");
    Err(AgentError::with_code(ErrorCode::ResourceExhausted, message))
}

/// Reports its credentials, without their values.
fn creds(job: &Context) -> Result<Outcome, AgentError> {
    let of = |member: fn(&ProvisionedCredential) -> &str| {
        credentials(job).iter().map(move |credential| serde_json::Value::from(member(credential)).to_string())
    };
    let mut result = Object::new();
    result.array("ids", of(|credential| &credential.id)).array("endpoints", of(|credential| &credential.endpoint));
    Ok(Outcome::Json(result.json()))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rotator {
    hold_ms: u64,
}

/// Replaces the value of its first credential.
fn rotator(job: &Context) -> Result<Outcome, AgentError> {
    let input: Rotator = job.parse()?;
    at_most("hold_ms", input.hold_ms, RUN_MS)?;
    let none = || AgentError::with_code(ErrorCode::InvalidRequest, "it has no credential: ask for `model.use`");
    let first = credentials(job).first().ok_or_else(none)?;
    let renewed = renew_credential(job, &first.id, Some(Secret::new("rotated-value".to_string())))?;
    job.sleep(Duration::from_millis(input.hold_ms))?;
    let mut result = Object::new();
    result.str("rotated", &renewed.id);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Spender {
    amounts: Vec<Json>,
    unit: String,
    name: String,
    tool: String,
    wait_ms: u64,
    fatal: bool,
}

impl Default for Spender {
    fn default() -> Spender {
        Spender {
            amounts: vec![Json::parse("0.3").unwrap_or_else(|_| Json::null()); 5],
            unit: "USD".to_string(),
            name: "cost.inference".to_string(),
            tool: "demo.spend".to_string(),
            wait_ms: 0,
            fatal: false,
        }
    }
}

/// Calls a tool for each amount, if it is allowed to, and reports the cost.
fn spender(job: &Context) -> Result<Outcome, AgentError> {
    let input: Spender = job.parse()?;
    at_most("the number of amounts", input.amounts.len() as u64, STEPS)?;
    at_most("wait_ms", input.wait_ms, RUN_MS)?;
    let (mut spent, mut denied) = (Amount::ZERO, Vec::new());
    for (n, amount) in (1..).zip(&input.amounts) {
        let call_id = format!("c{n}");
        let cost = Amount::reported(amount.as_str()).ok_or_else(|| {
            AgentError::with_code(ErrorCode::InvalidRequest, format!("`amounts`: {amount} is no number from zero on"))
        })?;
        job.sleep(Duration::from_millis(input.wait_ms))?;
        let mut args = Object::new();
        args.raw("amount", amount.as_str());
        match job.call_tool(&input.tool, &call_id, &args.json()) {
            Ok(()) => {}
            // Watchers of the job have seen the error of the call.
            Err(CallError::Refused(error)) if !input.fatal => {
                denied.push(error.code.to_string());
                break;
            }
            Err(error) => return Err(error.into()),
        }
        job.metric(&input.name, amount, Some(&input.unit))?;
        job.tool_result(&call_id, Ok(&Json::parse(r#"{"ok":true}"#)?))?;
        spent = spent + cost;
    }
    let mut result = Object::new();
    result.raw("spent", &spent.to_string()).raw("denied", Json::from_value(&denied)?.as_str());
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Guard {
    ops: Vec<(String, String)>,
    charge: Vec<Json>,
}

/// Spends the charges, and then asks for each operation whether it is allowed.
fn guard(job: &Context) -> Result<Outcome, AgentError> {
    let input: Guard = job.parse()?;
    at_most("the number of ops", input.ops.len() as u64, STEPS)?;
    at_most("the number of charges", input.charge.len() as u64, STEPS)?;
    for amount in &input.charge {
        job.metric("cost.guard", amount, Some("USD"))?;
    }
    // All operations are parsed before the first is asked for.
    let operations = input.ops.iter().map(|(named, target)| Ok((operation("ops", named)?, target)));
    verdicts(job, operations.collect::<Result<Vec<_>, AgentError>>()?)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Models {
    models: Vec<String>,
}

/// Asks which models it may use.
fn models(job: &Context) -> Result<Outcome, AgentError> {
    let Models { models } = job.parse()?;
    at_most("the number of models", models.len() as u64, STEPS)?;
    verdicts(job, models.iter().map(|model| (Namespace::ModelUse, model)))
}

/// Asks for each of these operations whether it is allowed.
fn verdicts<'a>(
    job: &Context,
    operations: impl IntoIterator<Item = (Namespace, &'a String)>,
) -> Result<Outcome, AgentError> {
    let verdicts = operations.into_iter().map(|(operation, target)| verdict(job, &operation, target));
    let verdicts = verdicts.collect::<Result<Vec<String>, AgentError>>()?;
    let mut result = Object::new();
    result.raw("verdicts", Json::from_value(&verdicts)?.as_str());
    Ok(Outcome::Json(result.json()))
}

/// Asks whether an operation is allowed: `ALLOW`, or the code of the refusal.
fn verdict(job: &Context, operation: &Namespace, target: &str) -> Result<String, AgentError> {
    match job.authorize(operation, target) {
        Ok(_) => Ok("ALLOW".to_string()),
        Err(CallError::Refused(error)) => Ok(error.code.to_string()),
        Err(stopped) => Err(stopped.into()),
    }
}

/// The operation that a member of the input names.
fn operation(member: &str, named: &str) -> Result<Namespace, AgentError> {
    named.parse().map_err(|error| {
        let message = format!("`{member}`: `{named}`: {error}");
        AgentError::with_code(ErrorCode::InvalidRequest, message)
    })
}

#[derive(Deserialize)]
#[serde(default)]
struct Asker {
    prompt: String,
    /// The schema of the answer; without it, any JSON is valid.
    schema: Option<Json>,
    /// The options; without them, it asks for a value.
    choices: Option<Vec<Named>>,
    default: Option<Json>,
    expires_ms: u64,
}

/// An option: one text that is both label and answer, or both separately.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Short(String),
    Whole(Choice),
}

impl Default for Asker {
    fn default() -> Asker {
        Asker { prompt: "?".to_string(), schema: None, choices: None, default: None, expires_ms: 60_000 }
    }
}

/// Asks people, and ends with their answer as its result.
fn asker(job: &Context) -> Result<Outcome, AgentError> {
    let Asker { prompt, schema, choices, default, expires_ms } = job.parse()?;
    at_most("expires_ms", expires_ms, RUN_MS)?;
    let wrong = |message: &str| AgentError::with_code(ErrorCode::InvalidRequest, message);
    let question = match (choices, schema) {
        (Some(_), Some(_)) => return Err(wrong("`schema` and `choices`: a choice has no schema, leave one away")),
        (None, schema) => Question::Input { prompt, schema: schema.unwrap_or_else(Json::empty_object), default },
        (Some(choices), None) => {
            let options = choices.into_iter().map(|named| match named {
                Named::Short(id) => Choice { label: id.clone(), id },
                Named::Whole(choice) => choice,
            });
            let id =
                |json: Json| json.decode::<String>().map_err(|_| wrong("`default` of a choice is the id of an option"));
            Question::Choice { prompt, options: options.collect(), default: default.map(id).transpose()? }
        }
    };
    Ok(Outcome::Json(job.ask_people(question, Some(Duration::from_millis(expires_ms)))?.value))
}

#[derive(Deserialize)]
#[serde(default)]
struct Permitter {
    permission: String,
    operation: String,
    resource: String,
    /// The target of the operation; without it, the resource.
    target: Option<String>,
    seconds: u32,
    use_after_ms: u64,
}

impl Default for Permitter {
    fn default() -> Permitter {
        Permitter {
            permission: "demo.write".to_string(),
            operation: "x-vendor.demo.write".to_string(),
            resource: "demo-1".to_string(),
            target: None,
            seconds: 60,
            use_after_ms: 0,
        }
    }
}

/// Asks people for a permission, waits, and then performs the operation.
fn permitter(job: &Context) -> Result<Outcome, AgentError> {
    let input: Permitter = job.parse()?;
    at_most("use_after_ms", input.use_after_ms, RUN_MS)?;
    let operation = operation("operation", &input.operation)?;
    let asked = Question::Permission(PermissionRequest {
        permission: input.permission,
        resource: input.resource.clone(),
        operation: input.operation,
        reason: Some("to show how permissions are asked for".to_string()),
        lease_seconds: Some(input.seconds),
    });
    let granted = match job.ask_people(asked, None) {
        Ok(answered) => Some(answered.value),
        Err(CallError::Refused(error)) if error.code == ErrorCode::PermissionDenied => None,
        Err(error) => return Err(error.into()),
    };
    job.sleep(Duration::from_millis(input.use_after_ms))?;
    let used = verdict(job, &operation, input.target.as_deref().unwrap_or(&input.resource))?;
    let lease = granted.as_ref().and_then(|lease| lease.members().ok()?.get_str("lease_id"));
    let mut result = Object::new();
    result.bool("granted", granted.is_some()).opt_str("lease_id", lease.as_deref()).str("used", &used);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Delegator {
    agent: String,
    input: Json,
    lease_request: Json,
    lease_constraints: Option<Json>,
    delegate_id: String,
    count: u64,
    wait_ms: u64,
}

impl Default for Delegator {
    fn default() -> Delegator {
        Delegator {
            agent: "echo".to_string(),
            input: Json::empty_object(),
            lease_request: Json::empty_object(),
            lease_constraints: None,
            delegate_id: "del_1".to_string(),
            count: 1,
            wait_ms: 300,
        }
    }
}

/// Delegates the same work several times, without waiting. The ids of its children count up from
/// the first.
fn delegator(job: &Context) -> Result<Outcome, AgentError> {
    let input: Delegator = job.parse()?;
    at_most("count", input.count, STEPS)?;
    at_most("wait_ms", input.wait_ms, RUN_MS)?;
    let stem = input.delegate_id.trim_end_matches(|c: char| c.is_ascii_digit());
    let first: u64 = input.delegate_id[stem.len()..].parse().unwrap_or(1);
    for n in 0..input.count {
        let numbered = || format!("{stem}{}", first.saturating_add(n));
        let delegation = Delegation {
            input: Some(input.input.clone()),
            lease_request: Some(input.lease_request.clone()),
            lease_constraints: input.lease_constraints.clone(),
            delegate_id: Some(if n == 0 { input.delegate_id.clone() } else { numbered() }),
            ..Delegation::new(&input.agent)
        };
        match job.delegate(delegation) {
            // Watchers of the job have seen the refusal.
            Ok(_) | Err(CallError::Refused(_)) => {}
            Err(CallError::Stopped(stopped)) => return Err(stopped.into()),
        }
    }
    job.sleep(Duration::from_millis(input.wait_ms))?;
    let mut result = Object::new();
    result.u64("delegated", input.count);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Streamer {
    kind: String,
    chunks: u64,
    bytes: u64,
}

impl Default for Streamer {
    fn default() -> Streamer {
        Streamer { kind: "text".into(), chunks: 10, bytes: 100 }
    }
}

/// Writes one stream of a kind. Byte k is a letter, or `k mod 256` in a binary stream; a metric
/// stream has numbers in its attributes.
fn streamer(job: &Context) -> Result<Outcome, AgentError> {
    let input: Streamer = job.parse()?;
    at_most("chunks", input.chunks, CHUNKS)?;
    at_most("bytes", input.bytes, PIECE_BYTES)?;
    let kind = StreamKind::named(&input.kind);
    let mut stream = StreamWriter::open(job, kind)?;
    for n in 0..input.chunks {
        let at = n * input.bytes..(n + 1) * input.bytes;
        let (data, attributes) = match kind {
            StreamKind::Binary => (ChunkData::Binary(at.map(|k| (k % 256) as u8).collect()), None),
            StreamKind::Metric => {
                let mut attributes = Object::new();
                attributes.str("name", "tick").u64("value", n).str("unit", "count");
                (ChunkData::Text(String::new()), Some(attributes.json()))
            }
            StreamKind::Text | StreamKind::Event | StreamKind::Log | StreamKind::Thought => {
                (ChunkData::Text(at.map(|k| char::from(b'a' + (k % 26) as u8)).collect()), None)
            }
        };
        stream.chunk(data, ChunkNotes { attributes, ..ChunkNotes::default() })?;
    }
    stream.close(None)?;
    let mut result = Object::new();
    result.u64("chunks", input.chunks);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Listener {
    ms: u64,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener { ms: 5000 }
    }
}

/// Waits; at each interrupt it asks people what to do.
fn listener(job: &Context) -> Result<Outcome, AgentError> {
    const ASKED: &str = "What now?";
    let input: Listener = job.parse()?;
    at_most("ms", input.ms, RUN_MS)?;
    let end = Instant::now() + Duration::from_millis(input.ms);
    let (mut interrupts, mut answers) = (0, Vec::new());
    while let Some(interrupt) = job.interrupt_within(end.saturating_duration_since(Instant::now()))? {
        interrupts += 1;
        let said = if interrupt.prompt().is_empty() { ASKED } else { interrupt.prompt() };
        let question = Question::Input { prompt: said.to_string(), schema: Json::empty_object(), default: None };
        match job.ask_people(question, None) {
            Ok(answered) => answers.push(answered.value),
            // Nobody answered in time: it goes on.
            Err(CallError::Refused(_)) => {}
            Err(CallError::Stopped(stopped)) => return Err(stopped.into()),
        }
        job.go_on(interrupt)?;
    }
    let mut result = Object::new();
    result.u64("interrupts", interrupts).array("answers", answers.iter().map(Json::as_str));
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Stepper {
    steps: u64,
    step_ms: u64,
    crash_at: Option<u64>,
}

impl Default for Stepper {
    fn default() -> Stepper {
        Stepper { steps: 10, step_ms: 50, crash_at: None }
    }
}

/// Makes one checkpoint per step. After a restart of the runtime it goes on from the last one.
/// `may_crash` says whether it may end the runtime itself.
fn stepper(job: &Context, may_crash: bool) -> Result<Outcome, AgentError> {
    let input: Stepper = job.parse()?;
    at_most("steps", input.steps, STEPS)?;
    at_most("step_ms", input.step_ms, RUN_MS)?;
    if input.crash_at.is_some() && !may_crash {
        let message = "`crash_at` ends the whole runtime, and its operator does not allow that";
        return Err(AgentError::with_code(ErrorCode::PermissionDenied, message));
    }
    let done: u64 = match job.restored() {
        Some(state) => serde_json::from_slice(state).map_err(|e| AgentError::failed(e.to_string()))?,
        None => 0,
    };
    for step in done.saturating_add(1)..=input.steps {
        let end = Instant::now() + Duration::from_millis(input.step_ms);
        // A requested checkpoint is made at once, not with the next step.
        while crate::agent::checkpoint_wanted_within(job, end.saturating_duration_since(Instant::now()))?.is_some() {
            job.checkpoint((step - 1).to_string(), Some(&format!("step {}", step - 1)))?;
        }
        if input.crash_at == Some(step) && job.restarts() == 0 {
            std::process::abort();
        }
        job.progress(step, Some(input.steps), Some("steps"))?;
        job.checkpoint(step.to_string(), Some(&format!("step {step}")))?;
    }
    let mut result = Object::new();
    result.u64("steps", input.steps).u64("restarts", u64::from(job.restarts()));
    Ok(Outcome::Json(result.json()))
}

/// Returns the input, byte for byte. It answers at once, so it needs no thread.
fn echo(spec: &AgentSpec) -> Result<Outcome, AgentError> {
    Ok(Outcome::Json(spec.input.clone()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Slow {
    ms: u64,
    tick_ms: u64,
    ignore_cancel: bool,
}

impl Default for Slow {
    fn default() -> Slow {
        Slow { ms: 1000, tick_ms: 100, ignore_cancel: false }
    }
}

/// Reports progress at a steady pace.
fn slow(job: &Context) -> Result<Outcome, AgentError> {
    let input: Slow = job.parse()?;
    at_most("ms", input.ms, RUN_MS)?;
    at_most("tick_ms", input.tick_ms, if input.ignore_cancel { DEAF_MS } else { RUN_MS })?;
    let tick = input.tick_ms.max(1);
    let ticks = input.ms.div_ceil(tick);
    job.status("working", None)?;
    for n in 1..=ticks {
        let pause = Duration::from_millis(tick.min(input.ms - (n - 1) * tick));
        if input.ignore_cancel {
            std::thread::sleep(pause);
        } else {
            job.sleep(pause)?;
        }
        job.progress(n, Some(ticks), Some("ticks"))?;
    }
    let mut result = Object::new();
    result.bool("done", true).u64("ticks", ticks);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Chatty {
    count: u64,
    kind: String,
    pad: u64,
    delay_ms: u64,
}

impl Default for Chatty {
    fn default() -> Chatty {
        Chatty { count: 100, kind: "metric".to_string(), pad: 0, delay_ms: 0 }
    }
}

/// Emits many events, back to back, or one of each kind.
fn chatty(job: &Context) -> Result<Outcome, AgentError> {
    let input: Chatty = job.parse()?;
    at_most("pad", input.pad, PIECE_BYTES)?;
    at_most("delay_ms", input.delay_ms, RUN_MS)?;
    if input.kind == "all" {
        return one_of_each(job);
    }
    for n in 0..input.count {
        match input.kind.as_str() {
            "metric" => job.metric("tick", &Json::from_value(&n)?, Some("count"))?,
            "log" => job.log(Level::Info, &format!("tick {n}{}", "x".repeat(input.pad as usize)))?,
            "vendor" => {
                let mut body = Object::new();
                body.u64("i", n);
                job.emit(&EventKind::from("x-vendor.test.tick"), &body.json())?;
            }
            other => {
                return Err(AgentError::failed(format!("`kind` is `{other}`, expected metric, log, vendor or all")));
            }
        }
        if input.delay_ms > 0 {
            job.sleep(Duration::from_millis(input.delay_ms))?;
        }
    }
    emitted(input.count)
}

fn one_of_each(job: &Context) -> Result<Outcome, AgentError> {
    job.log(Level::Info, "demo")?;
    job.thought("demo")?;
    job.status("demo", None)?;
    job.metric("demo", &Json::from_value(&1)?, None)?;
    job.tool_call("demo.echo", "c1", &Json::empty_object())?;
    job.tool_result("c1", Ok(&Json::parse(r#"{"ok":true}"#)?))?;
    job.artifact("arcp://artifacts/demo", Some("text/plain"), Some(4))?;
    job.emit(&EventKind::from("x-vendor.test.note"), &Json::parse(r#"{"n":1}"#)?)?;
    emitted(8)
}

fn emitted(count: u64) -> Result<Outcome, AgentError> {
    let mut result = Object::new();
    result.u64("emitted", count);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Artist {
    bytes: u64,
    media_type: String,
    as_result: bool,
}

impl Default for Artist {
    fn default() -> Artist {
        Artist { bytes: 1000, media_type: "text/plain".to_string(), as_result: false }
    }
}

/// Leaves letters as an artifact. Its result is the id of the artifact, or with `as_result` the
/// artifact.
fn artist(job: &Context) -> Result<Outcome, AgentError> {
    let input: Artist = job.parse()?;
    at_most("bytes", input.bytes, PIECE_BYTES)?;
    let wrong = |why| AgentError::with_code(ErrorCode::InvalidRequest, format!("`media_type`: {why}"));
    let media_type = input.media_type.parse().map_err(wrong)?;
    let letters = letters(0, input.bytes).into_bytes();
    let kept = job.put_artifact(NewArtifact::of(media_type, letters))?;
    Ok(if input.as_result { kept.into() } else { Outcome::Json(kept.to_json()) })
}

#[derive(Deserialize)]
#[serde(default)]
struct Chunker {
    chunks: u64,
    bytes: u64,
    encoding: String,
}

impl Default for Chunker {
    fn default() -> Chunker {
        Chunker { chunks: 10, bytes: 1000, encoding: "utf8".to_string() }
    }
}

/// Sends its result in pieces.
fn chunker(job: &Context) -> Result<Outcome, AgentError> {
    let input: Chunker = job.parse()?;
    at_most("bytes", input.bytes, PIECE_BYTES)?;
    at_most("chunks", input.chunks, CHUNKS)?;
    for n in 0..input.chunks {
        let begins = n * input.bytes;
        let data = match input.encoding.as_str() {
            "utf8" => ChunkData::Text(letters(begins, input.bytes)),
            "base64" => ChunkData::Binary((begins..begins + input.bytes).map(|k| (k % 256) as u8).collect()),
            other => return Err(AgentError::failed(format!("`encoding` is `{other}`, expected utf8 or base64"))),
        };
        match data {
            data if n + 1 == input.chunks => job.last_chunk(data)?,
            ChunkData::Text(text) => job.chunk(text)?,
            ChunkData::Binary(bytes) => job.chunk_bytes(bytes)?,
        }
    }
    Ok(Outcome::Streamed { summary: Some(format!("{} chunks of {} bytes", input.chunks, input.bytes)) })
}

/// `bytes` letters of the repeated alphabet, beginning at letter `begins`.
fn letters(begins: u64, bytes: u64) -> String {
    const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";
    let (said, next) = ALPHABET.split_at((begins % ALPHABET.len() as u64) as usize);
    let (round, bytes) = ([next, said].concat(), bytes as usize);
    let rounds = round.repeat(bytes / round.len());
    // Without spare capacity, because the text is kept.
    [rounds.as_str(), &round[..bytes % round.len()]].concat()
}

#[derive(Deserialize)]
#[serde(default)]
struct Failer {
    code: String,
    message: String,
    plain: bool,
}

impl Default for Failer {
    fn default() -> Failer {
        Failer { code: "INTERNAL_ERROR".to_string(), message: "boom".to_string(), plain: false }
    }
}

/// Fails with any error, or panics.
fn failer(job: &Context) -> Result<Outcome, AgentError> {
    let input: Failer = job.parse()?;
    assert!(!input.plain, "failer was asked to panic");
    let code = ErrorCode::from(input.code.as_str());
    Err(AgentError(if let ErrorCode::Other(code) = &code {
        JobError::invented(code, &input.message)
    } else {
        JobError::new(code, input.message)
    }))
}

#[derive(Deserialize)]
#[serde(default)]
struct Counter {
    key: String,
    ms: u64,
}

impl Default for Counter {
    fn default() -> Counter {
        Counter { key: "default".to_string(), ms: 0 }
    }
}

/// Counts its runs: a retry with the same idempotency key is not a run.
fn counter(job: &Context, counts: &Mutex<BTreeMap<String, u64>>) -> Result<Outcome, AgentError> {
    let input: Counter = job.parse()?;
    at_most("ms", input.ms, RUN_MS)?;
    let runs = {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        remembers(&input.key, counts.contains_key(&input.key), counts.len())?;
        let runs = counts.entry(input.key).or_default();
        *runs += 1;
        *runs
    };
    job.sleep(Duration::from_millis(input.ms))?;
    let mut result = Object::new();
    result.u64("runs", runs);
    Ok(Outcome::Json(result.json()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Gate {
    key: String,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate { key: "k".to_string() }
    }
}

/// Gates at which jobs wait until another job opens them.
#[derive(Debug, Default)]
struct Gates {
    open: Mutex<BTreeSet<String>>,
    changed: Condvar,
}

impl Gates {
    fn wait(&self, job: &Context) -> Result<Outcome, AgentError> {
        const LOOK: Duration = Duration::from_millis(50);
        let Gate { key } = job.parse()?;
        at_most("the length of key", key.len() as u64, KEY_BYTES)?;
        job.status("waiting", None)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !open.contains(&key) {
            if job.cancelled() {
                return Err(Stopped.into());
            }
            open = self.changed.wait_timeout(open, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut result = Object::new();
        result.str("gate", &key);
        Ok(Outcome::Json(result.json()))
    }

    fn open(&self, job: &Context) -> Result<Outcome, AgentError> {
        let Gate { key } = job.parse()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        remembers(&key, open.contains(&key), open.len())?;
        open.insert(key.clone());
        drop(open);
        self.changed.notify_all();
        let mut result = Object::new();
        result.str("opened", &key);
        Ok(Outcome::Json(result.json()))
    }
}
