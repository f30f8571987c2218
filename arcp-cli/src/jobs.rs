//! `arcp submit`, `watch` and `cancel`.

use std::io::{Read as _, Write as _};

use arcp_blocking::{Client, ClientError, OpenClient};
use arcp_host::stderr::say;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::{Json, Object};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Invocation, Priority, Submit, Watch};

use crate::args::{self, Output};
use crate::connect::{Chosen, family};
use crate::exit::{Exit, Failure};
use crate::follow::follow;
use crate::list::{find, is_whole, there_is_none};
use crate::runtimes::is_same;
use crate::state::{KeptSession, State, Submission};

/// Runs a job.
pub fn submit(args: args::Submit) -> Result<Exit, Failure> {
    let input = args.input.as_deref().map(read_input).transpose()?;
    let key = match args.key {
        Some(key) => key,
        None => format!("arcp-{}", &arcp_host::entropy::token()?[..32]),
    };
    let chosen = Chosen::of_starting(&args.place)?;
    if args.detach {
        chosen.can_be_left().map_err(|why| Failure::usage(format!("--detach: {why}")))?;
    }
    let client = chosen.connect()?;
    let mut submission = Submission {
        url: chosen.url(),
        agent: args.agent.to_string(),
        input: input.clone(),
        key: key.clone(),
        max_runtime: args.max_runtime,
        session: None,
    };
    let request = request(args.agent.clone(), input, key, args.max_runtime);
    let submitted = match args.priority {
        None => client.submit(request),
        Some(priority) => {
            let invocation = Invocation { priority: urgency(priority), ..Invocation::default() };
            in_open(&client, "--priority")?.submit_as(request, invocation)
        }
    };
    let job = submitted.map_err(|error| match &error {
        ClientError::Refused(refusal) if refusal.code == ErrorCode::AgentNotAvailable => {
            Failure::new(Exit::Failed, there_is_none(&client, &args.agent))
        }
        ClientError::Refused(_)
        | ClientError::Config(_)
        | ClientError::Io(_)
        | ClientError::Ended(_)
        | ClientError::Misuse(_) => error.into(),
    })?;
    if args.detach {
        let left = client.leave();
        submission.session = left.and_then(|claim| KeptSession::of(family(&args.place), claim));
    }
    if let Some(state) = State::of_user()
        && let Err(error) = state.put_submission(job.id.as_str(), &submission)
    {
        say(format_args!("arcp: `arcp cancel` will not work for this job, no state can be kept: {error}"));
    }
    if args.detach {
        writeln!(std::io::stdout(), "{}", detached(&job.id, args.output))?;
        return Ok(Exit::Success);
    }
    follow(&job, args.output)
}

/// What only one family can say is a mistake in the other.
fn in_open<'a>(client: &'a Client, option: &str) -> Result<OpenClient<'a>, Failure> {
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

fn detached(job: &WireId, output: Output) -> String {
    match output {
        Output::Text => job.to_string(),
        Output::Json => {
            let mut line = Object::new();
            line.str("type", "accepted").str("job_id", job.as_str());
            line.done()
        }
    }
}

fn request(agent: AgentRef, input: Option<Json>, key: String, max_runtime: Option<std::num::NonZeroU32>) -> Submit {
    Submit { input, key: Some(key), max_runtime, ..Submit::new(agent) }
}

/// Follows a job from its beginning, or from what is kept of it.
pub fn watch(args: args::Watch) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let id = find(&client, &args.job)?;
    let after = |n| client.watch(Watch { job: id.clone(), after: Some(n), history: Some(true) });
    let mut watched = after(0);
    // While it is asked, a little more may go.
    for _ in 0..3 {
        let Err(ClientError::Refused(refusal)) = &watched else { break };
        let Some(kept) = refusal.history_after() else { break };
        say(format_args!("arcp: the first {kept} events of this job are no longer kept"));
        watched = after(kept);
    }
    follow(&watched.map_err(|error| unknown(error, &args.job))?, args.output)
}

/// Cancels a job. The right to do so is that of the session that submitted it,
/// and comes with its key: submitting again attaches this session to the job,
/// and evicts nobody who follows it.
pub fn cancel(args: args::Cancel) -> Result<Exit, Failure> {
    let chosen = Chosen::of(&args.place)?;
    let job = match WireId::new(&args.job).filter(|_| is_whole(&args.job)) {
        Some(job) => job,
        None => find(&chosen.connect()?, &args.job)?,
    };
    cancel_as_submitter(&args, &chosen, &job)?;
    say(format_args!("arcp: {job} is being cancelled"));
    Ok(Exit::Success)
}

fn cancel_as_submitter(args: &args::Cancel, chosen: &Chosen, job: &WireId) -> Result<(), Failure> {
    let state = State::of_user().filter(|_| !args.operator);
    let Some(mut kept) = state.as_ref().and_then(|state| state.submission(job.as_str())) else {
        // Perhaps the runtime lets us all the same.
        return stop(&chosen.connect()?, job, args).map_err(|failure| not_ours(failure, job, args.operator));
    };
    if !kept.url.parse().is_ok_and(|submitted_to| is_same(&submitted_to, &chosen.target)) {
        let (there, here) = (&kept.url, chosen.url());
        return Err(Failure::usage(format!("{job} was submitted to {there}, not to {here}: give --url {there}")));
    }
    let client = chosen.connect_as(&kept)?;
    let stop = || stop(&client, job, args);
    let tried = kept.session.take_if(|left| left.family == family(&args.place)).is_some();
    if let Some(state) = state.filter(|_| tried) {
        // Its token holds once, and this client closes it.
        let _ = state.put_submission(job.as_str(), &kept);
    }
    if client.welcome().resumed {
        match stop() {
            Err(failure) if failure.exit == Exit::Permission => {}
            stopped => return stopped,
        }
    }
    let agent = AgentRef::parse(&kept.agent).map_err(|e| Failure::usage(e.to_string()))?;
    // A runtime that has forgotten the job must not run it once more.
    drop(
        client
            .watch(Watch { job: job.clone(), after: None, history: Some(false) })
            .map_err(|e| unknown(e, job.as_str()))?,
    );
    let attached = client.submit(request(agent, kept.input, kept.key, kept.max_runtime))?;
    if attached.id != *job {
        let message = format!("the key of {job} stands for {} by now: nothing was cancelled", attached.id);
        return Err(Failure::new(Exit::Failed, message));
    }
    stop()
}

fn stop(client: &Client, job: &WireId, args: &args::Cancel) -> Result<(), Failure> {
    let (id, reason) = (job.clone(), args.reason.clone());
    let stopped = match args.deadline {
        None => client.cancel(id, reason),
        Some(deadline) => in_open(client, "--deadline")?.cancel_within(id, reason, deadline),
    };
    stopped.map_err(|error| unknown(error, job.as_str()))
}

/// A refusal that names the job that was asked for.
fn unknown(error: ClientError, named: &str) -> Failure {
    let code = if let ClientError::Refused(refusal) = &error { Some(&refusal.code) } else { None };
    if code == Some(&ErrorCode::JobNotFound) {
        return Failure::new(
            Exit::Failed,
            format!("no job is called `{named}` there, or begins like it: see `arcp list`"),
        );
    }
    error.into()
}

/// Who may do what another session's client must not.
fn not_ours(failure: Failure, job: &WireId, operator: bool) -> Failure {
    if failure.exit != Exit::Permission {
        return failure;
    }
    let message = if operator {
        format!(
            "{job}: whoever this token belongs to is no operator there: give an operator's --token, see `arcp serve --operator`"
        )
    } else {
        format!("{job} was not submitted from here: cancel it where it was, or as an operator, with --operator")
    };
    Failure::new(Exit::Permission, message)
}

fn read_input(given: &str) -> Result<Json, Failure> {
    let (text, name) = if given == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        (text, "stdin".to_string())
    } else if let Some(path) = given.strip_prefix('@') {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("--input @{path}: {e}")))?;
        (text, path.to_string())
    } else {
        (given.to_string(), "--input".to_string())
    };
    Json::parse(text.trim()).map_err(|e| Failure::usage(format!("{name}: {e}")))
}
