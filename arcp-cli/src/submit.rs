//! `arcp submit`.

use std::io::{Read as _, Write as _};
use std::num::NonZeroU32;
use std::path::Path;

use arcp_blocking::{Client, ClientError, Job, OpenClient};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{IdempotencyKey, WireId};
use arcp_proto::json::{Json, Object};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::{Invocation, Priority, Submit};
use arcp_proto::model::workflow;

use crate::args::{self, Output};
use crate::caller::Caller;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_refusal};
use crate::follow::{Following, follow};
use crate::lease::Asked;
use crate::list::{find, there_is_none};
use crate::state::{KeptSession, State, Submission};
use crate::tls;

/// Submits a job.
pub fn run(args: args::Submit) -> Result<Exit, Failure> {
    let input = args.input.as_deref().map(|given| read_input(given, "--input")).transpose()?;
    let key = args.key.map_or_else(fresh_key, Ok)?;
    let authority = args.authority.asked()?;
    let (agent, max_runtime, priority) = (args.agent, args.max_runtime, args.priority);
    let order = Order { agent, input, key, max_runtime, authority, parent: args.parent, priority };
    place(&order, &args.place, args.detach, args.following, args.credentials.as_deref())
}

/// A job to be submitted.
#[derive(Debug)]
pub struct Order {
    /// The agent.
    pub agent: AgentRef,
    /// Its input.
    pub input: Option<Json>,
    /// Its idempotency key.
    pub key: IdempotencyKey,
    /// Its time limit in seconds.
    pub max_runtime: Option<NonZeroU32>,
    /// Its authority.
    pub authority: Asked,
    /// The id of its parent job, or the beginning of that id.
    pub parent: Option<String>,
    /// Its priority; open family only.
    pub priority: Option<args::Priority>,
}

/// A new, random key.
pub fn fresh_key() -> Result<IdempotencyKey, Failure> {
    Ok(format!("arcp-{}", &arcp_host::entropy::token()?[..32]).parse().map_err(std::io::Error::other)?)
}

/// Submits a job, and follows it unless `detach`. `credentials`: the file for the credentials that are issued for it.
pub fn place(
    order: &Order,
    place: &args::Where,
    detach: bool,
    following: Following,
    credentials: Option<&Path>,
) -> Result<Exit, Failure> {
    following.check(detach)?;
    let chosen = Chosen::of_starting(place)?;
    if detach {
        chosen.can_be_left().map_err(|why| Failure::usage(format!("--detach: {why}")))?;
    }
    let client = match credentials {
        Some(_) => chosen.connect_for_credentials()?,
        None => chosen.connect()?,
    };
    let parent = order.parent.as_ref().map(|named| find(&client, named)).transpose()?;
    if let Some(file) = credentials {
        // If the file cannot be written, nothing is submitted.
        tls::can_write(file)?;
    }
    let job = submit(&client, order, parent.clone())?;
    if let Some(file) = credentials {
        keep(&job, file, client.welcome().features.has(Feature::ProvisionedCredentials))?;
    }
    let mut submission = Submission {
        url: chosen.url(),
        agent: order.agent.to_string(),
        input: order.input.clone(),
        key: order.key.clone(),
        max_runtime: order.max_runtime,
        authority: order.authority.clone(),
        parent,
        session: None,
    };
    let client = if detach {
        // Where any session of this user can cancel the job, this session need not stay resumable.
        if !client.welcome().features.has(Feature::CancelAnywhere) {
            submission.session = client.leave().and_then(|claim| KeptSession::of(place.family, claim));
        }
        None
    } else {
        Some(client)
    };
    if let Some(state) = State::of_user()
        && let Err(error) = state.put_submission(job.id.as_str(), &submission)
    {
        say(format_args!("arcp: `arcp retry` will not work for this job, no state can be kept: {error}"));
    }
    let Some(client) = client else {
        writeln!(std::io::stdout(), "{}", detached(&job.id, following.output))?;
        return Ok(Exit::Success);
    };
    follow(&client, &job, following)
}

/// Writes the credentials of a job to a file that only this user can read. `offered`: whether the runtime gives
/// clients credentials at all.
fn keep(job: &Job, file: &Path, offered: bool) -> Result<(), Failure> {
    let all = serde_json::to_string(&job.credentials).map_err(std::io::Error::other)?;
    tls::write(file, &format!("{all}\n"), 0o600).map_err(|Failure { message, exit }| {
        let mend = format!("{} has them all the same: `arcp cancel {0}` revokes them", job.id);
        Failure::new(exit, format!("{message}; {mend}"))
    })?;
    if job.credentials.is_empty() {
        let why = if offered {
            "its lease grants no model.use there"
        } else {
            "its runtime offers none (`provisioned_credentials`); `arcp serve` does with a store in a file, and \
             --provisioner, or --samples without --insecure"
        };
        say(format_args!("arcp: no credentials were issued for {}: {why}", job.id));
    }
    Ok(())
}

fn submit(client: &Client, order: &Order, parent: Option<WireId>) -> Result<Job, Failure> {
    let asked = order.authority.clone();
    let (agent, input, key) = (order.agent.clone(), order.input.clone(), order.key.clone());
    let mut request = Submit { parent, ..request(agent, input, key, order.max_runtime, asked) };
    let mut invocation = Invocation::default();
    if let Some(caller) = Caller::of_environment() {
        caller.continued(client, &mut request, &mut invocation);
    }
    let open = match order.priority {
        None => client.open(),
        Some(priority) => {
            invocation.priority = urgency(priority);
            Some(in_open(client, "--priority")?)
        }
    };
    let submitted = match open {
        None => client.submit(request),
        Some(open) => open.submit_as(request, invocation),
    };
    submitted.map_err(|error| {
        let ClientError::Refused(refusal) = &error else {
            return error.into();
        };
        match (&refusal.code, order.parent.as_deref()) {
            (ErrorCode::AgentNotAvailable, _) if order.agent.name() != workflow::AGENT => {
                Failure::new(Exit::Failed, there_is_none(client, &order.agent))
            }
            // The parent is the only other job that a submit names.
            (ErrorCode::JobNotFound | ErrorCode::FailedPrecondition, Some(named)) => {
                Failure::new(of_refusal(refusal), format!("--parent {named}: {}", visible(&refusal.message)))
            }
            _ => error.into(),
        }
    })
}

/// The client as one of the open family; in the other family, `option` is a usage error.
pub fn in_open<'a>(client: &'a Client, option: &str) -> Result<OpenClient<'a>, Failure> {
    client
        .open()
        .ok_or_else(|| Failure::usage(format!("{option} needs --family open: the hello family has no word for it")))
}

fn urgency(priority: args::Priority) -> Priority {
    match priority {
        args::Priority::Low => Priority::Low,
        args::Priority::Normal => Priority::Normal,
        args::Priority::High => Priority::High,
        args::Priority::Critical => Priority::Critical,
    }
}

/// The line that names a job that is not followed.
pub fn detached(job: &WireId, output: Output) -> String {
    match output {
        Output::Text => job.to_string(),
        Output::Jsonl => {
            let mut line = Object::new();
            line.str("type", "accepted").str("job_id", job.as_str());
            line.done()
        }
    }
}

/// The submit for a job.
pub fn request(
    agent: AgentRef,
    input: Option<Json>,
    key: IdempotencyKey,
    max_runtime: Option<NonZeroU32>,
    Asked { lease_request, lease_constraints }: Asked,
) -> Submit {
    Submit { input, key: Some(key), max_runtime, lease_request, lease_constraints, ..Submit::new(agent) }
}

/// Reads an input that an option or argument gives: JSON, a file, or stdin.
pub fn read_input(given: &str, by: &str) -> Result<Json, Failure> {
    let (text, name) = if given == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        (text, "stdin".to_string())
    } else if let Some(path) = given.strip_prefix('@') {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("{by} @{path}: {e}")))?;
        (text, path.to_string())
    } else {
        (given.to_string(), by.to_string())
    };
    let text = text.trim();
    Json::parse(text).map_err(|e| Failure::usage(format!("{name}: {e}{}", quoted(text, by).unwrap_or_default())))
}

/// Advice on how to give a plain text as JSON.
fn quoted(text: &str, by: &str) -> Option<String> {
    let begins_as_text = text.chars().next()?.is_alphabetic();
    let plain = text.len() <= 80 && text.chars().all(|c| !c.is_control() && !"'\"\\".contains(c));
    let example = if plain { text } else { "some text" };
    let option = if by.starts_with('-') { format!("{by} ") } else { String::new() };
    begins_as_text.then(|| format!("; a text is quoted, as in {option}'\"{example}\"'"))
}
