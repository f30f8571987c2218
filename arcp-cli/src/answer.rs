//! `arcp answer`, `arcp approve` and `arcp deny`.

use std::io::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use arcp_blocking::{Client, ClientError, Job, JobUpdate};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{PromptId, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::prompt::PromptAnswer;
use arcp_proto::model::request::Answering;
use arcp_proto::time::UtcMs;
use humantime::format_duration;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_refusal};
use crate::inbox::open_in;
use crate::question::Kind;
use crate::submit::read_input;
use crate::times::now;
use crate::values;
use crate::watch::from_now;

/// How long to wait for the event that shows a changed permission.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answer a question of a job.
#[derive(Debug, clap::Args)]
#[command(override_usage = "arcp answer [OPTIONS] <ID> <JSON|@FILE|-|--choice <OPTION>|--default>")]
pub struct AnswerTo {
    /// The id of the question, as `arcp inbox` shows it.
    #[arg(value_parser = values::question, value_name = "ID")]
    pub question: PromptId,
    /// The answer.
    #[command(flatten)]
    pub given: Given,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// The answer; exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Given {
    /// The requested value: JSON, @FILE, or - for stdin.
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    pub value: Option<String>,
    /// The id of the chosen option.
    #[arg(long, value_name = "OPTION")]
    pub choice: Option<String>,
    /// The question's default answer.
    #[arg(long)]
    pub default: bool,
}

/// Grant a permission that a job requests.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The id of the question, as `arcp inbox` shows it.
    #[arg(value_parser = values::question, value_name = "ID")]
    pub question: PromptId,
    /// How long the permission lasts.
    #[command(flatten)]
    pub span: GrantedFor,
    /// Grant only this pattern, which must be within the requested one.
    #[arg(long, value_name = "PATTERN")]
    pub scope: Option<String>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// How long a permission lasts: at most as long as requested.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct GrantedFor {
    /// Grant a single use.
    #[arg(long)]
    pub once: bool,
    /// Grant it for as long as requested, at most until the job ends (the default).
    #[arg(long)]
    pub job: bool,
    /// Grant it for this time, at most as long as requested. `arcp extend` extends it.
    #[arg(long = "for", value_name = "SPAN", value_parser = values::seconds)]
    pub span: Option<NonZeroU32>,
}

/// Revoke a granted permission.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The id of the grant, as `arcp approve` printed it.
    #[arg(value_parser = values::lease, value_name = "LEASE")]
    pub lease: PromptId,
    /// The reason, shown to everybody who watches the job.
    #[arg(long)]
    pub reason: Option<String>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Extend a granted permission.
#[derive(Debug, clap::Args)]
pub struct Extend {
    /// The id of the grant, as `arcp approve` printed it.
    #[arg(value_parser = values::lease, value_name = "LEASE")]
    pub lease: PromptId,
    /// The new duration, from now.
    #[arg(long = "for", value_name = "SPAN", value_parser = values::seconds)]
    pub span: NonZeroU32,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Refuse a permission that a job requests.
#[derive(Debug, clap::Args)]
pub struct Deny {
    /// The id of the question, as `arcp inbox` shows it.
    #[arg(value_parser = values::question, value_name = "ID")]
    pub question: PromptId,
    /// The reason, shown to the agent.
    #[arg(long)]
    pub reason: Option<String>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Answers a question.
pub fn run(args: &AnswerTo) -> Result<Exit, Failure> {
    let Given { value, choice, default: _ } = &args.given;
    let given = match (value, choice) {
        (Some(value), _) => Some(PromptAnswer::Value(read_input(value, "the answer")?)),
        (None, Some(choice)) => Some(PromptAnswer::Choice(choice.clone())),
        (None, None) => None,
    };
    let client = Chosen::of(&args.place)?.connect()?;
    let answer = given.map_or_else(|| default_of(&client, args.question), Ok)?;
    give(&client, args.question, answer, "answered")
}

/// Grants a permission.
pub fn approve(args: &Approve) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let GrantedFor { once, span, job: _ } = args.span;
    let answer = PromptAnswer::Grant { lease_seconds: span.map(NonZeroU32::get), resource: args.scope.clone(), once };
    let watched = client.watch(from_now(args.question.job.into())).map_err(|error| not_taken(error, args.question))?;
    give(&client, args.question, answer, "approved")?;
    let granted = show(&watched, EventKind::LeaseGranted, args.question)?;
    say_if_shorter(args.question, span, granted);
    Ok(Exit::Success)
}

/// Prints the permission as the runtime granted it, which may be less than was asked for. Returns its remaining time
/// if it has an end.
fn show(watched: &Job, changed: EventKind, question: PromptId) -> Result<Option<Duration>, Failure> {
    while let Some(update) = watched.next_update_in(PATIENCE) {
        let JobUpdate::Event { event: JobEvent::Emitted { kind, body }, at, .. } = update else {
            continue;
        };
        let members = body.members().unwrap_or_default();
        if kind == changed && members.get_str("prompt_id") == Some(question.to_string()) {
            writeln!(std::io::stdout(), "{}", visible(body.as_str()))?;
            let until = members.get_str("expires_at").and_then(|until| UtcMs::parse(&until));
            let from = at.unwrap_or_else(now);
            return Ok(until.map(|until| Duration::from_secs(until.0.saturating_sub(from.0).div_ceil(1000))));
        }
    }
    Ok(None)
}

/// Tells the user that a permission is shorter than the user asked for.
fn say_if_shorter(question: PromptId, wanted: Option<NonZeroU32>, granted: Option<Duration>) {
    /// How much time may pass on the runtime's clock between the answer and its event.
    const LAG: Duration = Duration::from_secs(1);
    let wanted = wanted.map(|seconds| Duration::from_secs(seconds.get().into()));
    let Some((wanted, granted)) = wanted.zip(granted).filter(|(wanted, granted)| *granted + LAG < *wanted) else {
        return;
    };
    let (lease, wanted, granted) = (question.lease(), format_duration(wanted), format_duration(granted));
    say(format_args!(
        "arcp: it ends in {granted}, not in {wanted}: nobody grants for longer than is asked for or than policy \
         allows; `arcp extend {lease} --for SPAN` prolongs it"
    ));
}

/// Revokes a permission.
pub fn revoke(args: Revoke) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    change(&client, args.lease, PromptAnswer::Revoke { reason: args.reason }, "revoked")
}

/// Extends a permission.
pub fn extend(args: &Extend) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let watched = client.watch(from_now(args.lease.job.into())).map_err(|error| not_changed(error, args.lease))?;
    change(&client, args.lease, PromptAnswer::Extend { seconds: args.span, from_end: false }, "extended")?;
    show(&watched, EventKind::LeaseExtended, args.lease)?;
    Ok(Exit::Success)
}

fn change(client: &Client, lease: PromptId, answer: PromptAnswer, done: &str) -> Result<Exit, Failure> {
    let id = lease.lease();
    let prompt = WireId::new(&id).ok_or_else(|| Failure::usage("an id is not empty"))?;
    client.answer(Answering { prompt, answer }).map_err(|error| not_changed(error, lease))?;
    say(format_args!("arcp: {id} is {done}"));
    Ok(Exit::Success)
}

/// The failure for a permission that was not changed, with the reason.
fn not_changed(error: ClientError, lease: PromptId) -> Failure {
    let ClientError::Refused(refusal) = &error else {
        return error.into();
    };
    Failure::new(of_refusal(refusal), format!("{}: {}", lease.lease(), visible(&refusal.message)))
}

/// Denies a permission.
pub fn deny(args: Deny) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    give(&client, args.question, PromptAnswer::Deny { reason: args.reason }, "denied")
}

fn give(client: &Client, question: PromptId, answer: PromptAnswer, done: &str) -> Result<Exit, Failure> {
    send(client, question, answer)?;
    say(format_args!("arcp: {question} is {done}"));
    Ok(Exit::Success)
}

fn send(client: &Client, question: PromptId, answer: PromptAnswer) -> Result<(), Failure> {
    let prompt = WireId::new(&question.to_string()).ok_or_else(|| Failure::usage("an id is not empty"))?;
    client.answer(Answering { prompt, answer }).map_err(|error| not_taken(error, question))
}

/// The failure for an answer that was refused, with the reason and what to do.
fn not_taken(error: ClientError, question: PromptId) -> Failure {
    let ClientError::Refused(refusal) = &error else {
        return error.into();
    };
    let why = visible(&refusal.message);
    let is_closed = refusal.code == ErrorCode::FailedPrecondition;
    let advice = if refusal.code == ErrorCode::InvalidRequest && !is_closed {
        "; it is still open: `arcp inbox` shows what it asks for"
    } else if refusal.code == ErrorCode::JobNotFound {
        ": `arcp inbox` shows what is open"
    } else {
        ""
    };
    Failure::new(of_refusal(refusal), format!("{question}: {why}{advice}"))
}

/// The question's default answer.
fn default_of(client: &Client, question: PromptId) -> Result<PromptAnswer, Failure> {
    let id = question.to_string();
    let found = open_in(client, &question.job.into())?.into_iter().find(|open| open.id == id);
    let Some(open) = found else {
        // The question is not open: the runtime says why. No option has an empty id, so that this answers nothing.
        send(client, question, PromptAnswer::Choice(String::new()))?;
        return Err(Failure::new(Exit::Failed, format!("{question} is not open: see `arcp inbox`")));
    };
    let default: Json = open.default_answer().ok_or_else(|| {
        Failure::usage(format!("--default: {question} has none: `arcp inbox` shows what it asks for"))
    })?;
    match open.kind {
        Kind::Choice => {
            default.decode().map(PromptAnswer::Choice).map_err(|e| Failure::new(Exit::Failed, e.to_string()))
        }
        Kind::Input | Kind::Permission => Ok(PromptAnswer::Value(default)),
    }
}
