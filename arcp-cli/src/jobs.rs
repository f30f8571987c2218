//! `arcp submit`, `watch`, `list` and `cancel`.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use arcp_blocking::{Client, ClientError, OpenClient, Target};
use arcp_host::stderr::{say, visible};
use arcp_proto::client::ClientConfig;
use arcp_proto::id::WireId;
use arcp_proto::json::{Json, Object};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::JobSummary;
use arcp_proto::model::request::{Credential, Invocation, ListQuery, Priority, Submit, Watch};
use arcp_proto::secret::Secret;
use arcp_proto::wire::{Family, status_name, status_named};

use crate::args::{self, Output, Where};
use crate::exit::{Exit, Failure};
use crate::follow::follow;
use crate::state::{KeptSession, State, Submission};

/// Runs a job.
pub fn submit(args: args::Submit) -> Result<Exit, Failure> {
    let agent = AgentRef::parse(&args.agent).map_err(|e| Failure::usage(format!("`{}`: {e}", args.agent)))?;
    let input = args.input.as_deref().map(read_input).transpose()?;
    let key = match args.key {
        Some(key) if (1..=256).contains(&key.len()) => key,
        Some(_) => return Err(Failure::usage("--key must have 1 to 256 bytes")),
        None => format!("arcp-{}", &arcp_host::entropy::token()?[..32]),
    };
    let (client, url) = connect(&args.place)?;
    let mut submission = Submission {
        url,
        agent: args.agent,
        input: input.clone(),
        key: key.clone(),
        max_runtime: args.max_runtime,
        session: None,
    };
    let request = request(agent, input, key, args.max_runtime);
    let job = match args.priority {
        None => client.submit(request)?,
        Some(priority) => {
            let invocation = Invocation { priority: urgency(priority), ..Invocation::default() };
            in_open(&client, "--priority")?.submit_as(request, invocation)?
        }
    };
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
    let id = job_id(&args.job)?;
    let (client, _) = connect(&args.place)?;
    let after = |n| client.watch(Watch { job: id.clone(), after: Some(n), history: Some(true) });
    let mut watched = after(0);
    // While it is asked, a little more may go.
    for _ in 0..3 {
        let Err(ClientError::Refused(refusal)) = &watched else { break };
        let Some(kept) = refusal.history_after() else { break };
        say(format_args!("arcp: the first {kept} events of this job are no longer kept"));
        watched = after(kept);
    }
    follow(&watched?, args.output)
}

/// Lists jobs, page by page.
pub fn list(args: args::List) -> Result<Exit, Failure> {
    let status = args.status.iter().map(|word| {
        status_named(word).ok_or_else(|| {
            Failure::usage(format!(
                "--status {word}: expected pending, running, blocked, paused, success, error, cancelled or timed_out"
            ))
        })
    });
    let mut query = ListQuery {
        status: status.collect::<Result<_, _>>()?,
        agent: args.agent.as_deref().map(AgentRef::parse).transpose().map_err(|e| Failure::usage(e.to_string()))?,
        ..ListQuery::default()
    };
    let (client, _) = connect(&args.place)?;
    let mut out = std::io::stdout().lock();
    let mut left = args.limit;
    if args.output == Output::Text {
        say(format_args!("{:<30} {:<10} {:<20} CREATED", "JOB", "STATUS", "AGENT"));
    }
    while left > 0 {
        query.limit = Some(u64::try_from(left.min(1000)).unwrap_or(1000));
        let page = client.list(query.clone())?;
        for job in page.jobs.iter().take(left) {
            writeln!(out, "{}", row(job, args.output))?;
        }
        left = left.saturating_sub(page.jobs.len());
        match page.next {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    Ok(Exit::Success)
}

fn row(job: &JobSummary, output: Output) -> String {
    let status = job.status.map_or("unknown", status_name);
    let created = job.created_at.map(|at| at.to_string()).unwrap_or_default();
    match output {
        Output::Text => {
            let (id, agent) = (visible(job.job.as_str()), visible(&job.agent));
            format!("{id:<30} {status:<10} {agent:<20} {created}")
        }
        Output::Json => {
            let mut line = Object::new();
            line.str("job_id", job.job.as_str())
                .str("status", status)
                .str("agent", &job.agent)
                .str("created_at", &created)
                .u64("last_event_seq", job.last_event)
                .opt_str("trace_id", job.trace.as_deref());
            line.done()
        }
    }
}

/// Cancels a job. The right to do so is that of the session that submitted it,
/// and comes with its key: submitting again attaches this session to the job,
/// and evicts nobody who follows it.
pub fn cancel(args: args::Cancel) -> Result<Exit, Failure> {
    cancel_as_submitter(&args)?;
    say(format_args!("arcp: {} is being cancelled", args.job));
    Ok(Exit::Success)
}

fn cancel_as_submitter(args: &args::Cancel) -> Result<(), Failure> {
    let job = job_id(&args.job)?;
    let state = State::of_user().filter(|_| !args.operator);
    let kept = state.as_ref().and_then(|state| state.submission(&args.job));
    let (client, url) = connect_as(&args.place, kept.as_ref())?;
    let stop = || stop(&client, job.clone(), args.reason.clone(), args.deadline);
    let Some(mut kept) = kept else {
        // Perhaps the runtime lets us all the same.
        return stop();
    };
    if kept.url != url {
        let message = format!("{} was submitted to {}, not to {url}: give --url", args.job, kept.url);
        return Err(Failure::usage(message));
    }
    let tried = kept.session.take_if(|left| left.family == family(&args.place)).is_some();
    if let Some(state) = state.filter(|_| tried) {
        // Its token holds once, and this client closes it.
        let _ = state.put_submission(&args.job, &kept);
    }
    if client.welcome().resumed {
        match stop() {
            Err(failure) if failure.exit == Exit::Permission => {}
            stopped => return stopped,
        }
    }
    let agent = AgentRef::parse(&kept.agent).map_err(|e| Failure::usage(e.to_string()))?;
    // A runtime that has forgotten the job must not run it once more.
    drop(client.watch(Watch { job: job.clone(), after: None, history: Some(false) })?);
    let attached = client.submit(request(agent, kept.input, kept.key, kept.max_runtime))?;
    if attached.id != job {
        let message = format!("the key of {} stands for {} by now: nothing was cancelled", args.job, attached.id);
        return Err(Failure::new(Exit::Failed, message));
    }
    stop()
}

fn stop(client: &Client, job: WireId, reason: Option<String>, deadline: Option<u64>) -> Result<(), Failure> {
    match deadline {
        None => client.cancel(job, reason)?,
        Some(ms) => in_open(client, "--deadline")?.cancel_within(job, reason, Duration::from_millis(ms))?,
    }
    Ok(())
}

fn job_id(text: &str) -> Result<WireId, Failure> {
    WireId::new(text).ok_or_else(|| Failure::usage("a job id has 1 to 256 bytes"))
}

/// Opens a session with the runtime that was named, or started here last.
fn connect(place: &Where) -> Result<(Client, String), Failure> {
    connect_as(place, None)
}

/// As [`connect`], but goes on with the session of a submission to that runtime,
/// if it was left open.
fn connect_as(place: &Where, submitted: Option<&Submission>) -> Result<(Client, String), Failure> {
    let known = State::of_user().and_then(|state| state.runtime());
    let url = match (&place.url, &known) {
        (Some(url), _) => url.clone(),
        (None, Some(runtime)) => runtime.url.clone(),
        (None, None) => {
            let message = "no runtime is known: start one with `arcp serve --samples`, or give --url";
            return Err(Failure::usage(message));
        }
    };
    let target: Target = url.parse().map_err(|e| Failure::usage(format!("{e}")))?;
    // A token that was made on a port is not for a runtime with tokens of its
    // operator that is there now.
    let made = known.filter(|runtime| runtime.url == url).map_or_else(|| token_of(&target), |runtime| runtime.token);
    let without = place.token.is_none();
    let token = place.token.clone().or(made);
    let credential = token.map_or(Credential::Anonymous, |token| Credential::Bearer(Secret::new(token)));
    let mut config = ClientConfig::new("arcp", env!("CARGO_PKG_VERSION"), credential);
    config.family = family(place);
    let left = submitted.filter(|submitted| submitted.url == url).and_then(|submitted| submitted.session.as_ref());
    config.resume = left.filter(|left| left.family == config.family).map(KeptSession::claim);
    // A runtime that was never there is not waited for as long as one that
    // was lost.
    config.give_up_after = Some(Duration::from_secs(if is_there(&target) { place.give_up_after } else { 2 }));
    let client = Client::connect(target, config).map_err(|error| {
        let mut failure = Failure::from(error);
        if without && failure.exit == Exit::Unauthenticated {
            failure.message.push_str(": give --token, or set ARCP_TOKEN");
        }
        failure
    })?;
    Ok((client, url))
}

fn family(place: &Where) -> Family {
    match place.family {
        args::Family::Hello => Family::Hello,
        args::Family::Open => Family::Open,
    }
}

/// The token that a runtime of this user made, on this machine.
fn token_of(target: &Target) -> Option<String> {
    match target {
        Target::WebSocket { host, port, .. } => {
            let ours = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            State::of_user().filter(|_| ours)?.token_at(*port)
        }
        Target::Program(_) => None,
    }
}

fn is_there(target: &Target) -> bool {
    use std::net::{TcpStream, ToSocketAddrs as _};
    match target {
        Target::WebSocket { host, port, .. } => {
            let addresses = (host.as_str(), *port).to_socket_addrs();
            addresses.is_ok_and(|mut all| all.any(|a| TcpStream::connect_timeout(&a, Duration::from_secs(5)).is_ok()))
        }
        Target::Program(_) => true,
    }
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
