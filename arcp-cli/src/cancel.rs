//! `arcp cancel`.

use arcp_blocking::{Client, ClientError, Streams};
use arcp_host::stderr::say;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::Submit;

use crate::args;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::filter;
use crate::list::{self, all, find, summary, unknown};
use crate::output::Printing;
use crate::runtimes::is_same;
use crate::state::{State, Submission};
use crate::submit::{in_open, request};
use crate::watch::from_now;

/// The prefix of the ids of streams.
const OF_STREAM: &str = "str_";

/// Cancels jobs, or streams of running jobs. Nothing is cancelled until all of them were found.
pub fn run(args: args::Cancel) -> Result<Exit, Failure> {
    let chosen = Chosen::of(&args.place)?;
    match args.jobs.iter().filter(|id| id.starts_with(OF_STREAM)).count() {
        0 => {}
        streams if streams < args.jobs.len() => {
            return Err(Failure::usage("either jobs or streams: nothing was cancelled"));
        }
        _ => return cancel_streams(&args, &chosen),
    }
    let client = chosen.connect()?;
    let jobs = if args.filter.is_empty() { named(&args, &client)? } else { filtered(&args, &client)? };
    if args.dry_run {
        return dry_run(&jobs, &client);
    }
    if jobs.is_empty() {
        say(format_args!("arcp: no job that is not over meets that: nothing was cancelled"));
    }
    let mut failures = Vec::new();
    for job in &jobs {
        match cancel(&args, &chosen, &client, job) {
            Ok(()) => say(format_args!("arcp: {job} is being cancelled")),
            Err(failure) => failures.push(failure),
        }
    }
    end(failures, &format!("{} jobs", jobs.len()))
}

fn end(mut failures: Vec<Failure>, of: &str) -> Result<Exit, Failure> {
    match failures.len() {
        0 => Ok(Exit::Success),
        1 => Err(failures.remove(0)),
        several => {
            let messages: Vec<String> = failures.iter().map(|failure| failure.message.clone()).collect();
            let message = format!("{several} of {of} were not cancelled:\n{}", messages.join("\n"));
            Err(Failure::new(failures.remove(0).exit, message))
        }
    }
}

/// Cancels streams; their jobs continue.
fn cancel_streams(args: &args::Cancel, chosen: &Chosen) -> Result<Exit, Failure> {
    if args.dry_run || args.deadline.is_some() {
        return Err(Failure::usage("streams end at once: without --dry-run and --deadline"));
    }
    let client = chosen.connect()?;
    let mut failures = Vec::new();
    for named in &args.jobs {
        let stream =
            WireId::new(named).ok_or_else(|| Failure::usage(format!("`{named}` is not the id of a stream")))?;
        match Streams::of(&client).cancel(stream, args.reason.clone()) {
            Ok(()) => say(format_args!("arcp: {named} is cancelled, and its job goes on")),
            Err(ClientError::Refused(refused)) if refused.code == ErrorCode::JobNotFound => {
                let none = format!("there is no stream {named}: `arcp watch JOB` names those of a job");
                failures.push(Failure::new(Exit::Failed, none));
            }
            Err(error) => {
                let failure = Failure::from(error);
                failures.push(Failure::new(failure.exit, format!("{named}: {}", failure.message)));
            }
        }
    }
    end(failures, &format!("{} streams", args.jobs.len()))
}

fn named(args: &args::Cancel, client: &Client) -> Result<Vec<WireId>, Failure> {
    let mut jobs = Vec::new();
    // A single id needs no listing: if it cannot be found, nothing is cancelled anyway.
    let listed = args.jobs.len() > 1 && client.welcome().features.has(Feature::ListJobs);
    for named in &args.jobs {
        let job = if listed { summary(client, named)?.job } else { find(client, named)? };
        if !jobs.contains(&job) {
            jobs.push(job);
        }
    }
    Ok(jobs)
}

/// The unfinished jobs that the filter matches.
fn filtered(args: &args::Cancel, client: &Client) -> Result<Vec<WireId>, Failure> {
    let query = filter::query(&args.filter).map_err(|why| Failure::usage(format!("--filter: {why}")))?;
    let jobs = all(client, query)?;
    Ok(jobs.into_iter().filter(|job| !matches!(job.status, Some(JobStatus::Ended(_)))).map(|job| job.job).collect())
}

fn dry_run(jobs: &[WireId], client: &Client) -> Result<Exit, Failure> {
    let jobs: Result<Vec<JobSummary>, Failure> = jobs.iter().map(|job| summary(client, job.as_str())).collect();
    let jobs = jobs?;
    list::print(Printing::TABLE, jobs.iter().rev())?;
    say(format_args!("arcp: {} jobs would be cancelled", jobs.len()));
    Ok(Exit::Success)
}

/// Cancels a job: directly if the runtime lets every session of a principal do so, otherwise with the right of the
/// session that submitted it.
fn cancel(args: &args::Cancel, chosen: &Chosen, client: &Client, job: &WireId) -> Result<(), Failure> {
    let state = State::of_user().filter(|_| !args.operator);
    let kept = state.as_ref().and_then(|state| state.submission(job.as_str()));
    if let Some(kept) = &kept
        && !kept.url.parse().is_ok_and(|submitted_to| is_same(&submitted_to, &chosen.target))
    {
        let (there, here) = (&kept.url, chosen.url());
        return Err(Failure::usage(format!("{job} was submitted to {there}, not to {here}: give --url {there}")));
    }
    let anywhere = client.welcome().features.has(Feature::CancelAnywhere);
    match state.zip(kept).filter(|_| !anywhere) {
        None => stop(client, job, args).map_err(|failure| not_ours(failure, job)),
        Some((state, kept)) => cancel_as_submitter(args, chosen, job, &state, kept),
    }
}

/// Gets the right of the submitting session by submitting again with its key. That attaches this session to the job,
/// and does not disturb others that follow it.
fn cancel_as_submitter(
    args: &args::Cancel,
    chosen: &Chosen,
    job: &WireId,
    state: &State,
    mut kept: Submission,
) -> Result<(), Failure> {
    let client = chosen.connect_as(&kept)?;
    let stop = || stop(&client, job, args);
    if kept.session.take_if(|left| left.family == args.place.family).is_some() {
        // The resume token is valid once, and this client closes the session: keep the submission without it.
        let _ = state.put_submission(job.as_str(), &kept);
    }
    if client.welcome().resumed {
        match stop() {
            Err(failure) if failure.exit == Exit::Permission => {}
            stopped => return stopped,
        }
    }
    let agent = AgentRef::parse(&kept.agent).map_err(|e| Failure::usage(e.to_string()))?;
    // A runtime that has forgotten the job must not run it again: check that the job exists.
    drop(client.watch(from_now(job.clone())).map_err(|e| unknown(e, job.as_str()))?);
    let again = request(agent, kept.input, kept.key, kept.max_runtime, kept.authority);
    let attached = client.submit(Submit { parent: kept.parent, ..again })?;
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
    stopped.map_err(|error| {
        let refused = matches!(&error, ClientError::Refused(refusal) if refusal.code != ErrorCode::JobNotFound);
        let failure = unknown(error, job.as_str());
        if refused { Failure::new(failure.exit, format!("{job}: {}", failure.message)) } else { failure }
    })
}

/// Adds to a refusal who may cancel a job that this principal can only see.
fn not_ours(failure: Failure, job: &WireId) -> Failure {
    if failure.exit != Exit::Permission {
        return failure;
    }
    let message = format!(
        "{job} is not yours to cancel: give the --token of its owner (`arcp list` names it), or of an operator, \
         see `arcp serve --operator`"
    );
    Failure::new(Exit::Permission, message)
}
