//! `arcp cancel`.

use arcp_blocking::Client;
use arcp_host::stderr::say;
use arcp_proto::id::WireId;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::Watch;

use crate::args;
use crate::connect::{Chosen, family};
use crate::exit::{Exit, Failure};
use crate::list::{find, is_whole};
use crate::runtimes::is_same;
use crate::state::State;
use crate::submit::{in_open, request};
use crate::watch::unknown;

/// Cancels a job. The right to do so is that of the session that submitted it,
/// and comes with its key: submitting again attaches this session to the job,
/// and evicts nobody who follows it.
pub fn run(args: args::Cancel) -> Result<Exit, Failure> {
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
