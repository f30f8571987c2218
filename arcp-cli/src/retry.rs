//! `arcp retry`.

use arcp_host::sqlite::lookup;
use arcp_host::stderr::say;
use arcp_proto::id::JobId;
use arcp_proto::model::agent::AgentRef;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::follow::Following;
use crate::lease::Asked;
use crate::list::{find, is_whole};
use crate::runtimes::Runtime;
use crate::state::State;
use crate::submit::{Order, fresh_key, place, read_input};
use crate::values;

/// Submit the same job again, under a new key, and follow it.
///
/// A child job is a child of the same parent again. The submission is known on the
/// machine that submitted it, and to the user who started the runtime.
#[derive(Debug, clap::Args)]
pub struct Retry {
    /// The job.
    #[arg(value_parser = values::id)]
    pub job: String,
    /// A different input: JSON, @FILE, or - for stdin.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub input: Option<String>,
    /// Print the new job's id and exit.
    #[arg(long)]
    pub detach: bool,
    /// How to follow the job.
    #[command(flatten)]
    pub following: Following,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Submits a job again.
pub fn run(args: Retry) -> Result<Exit, Failure> {
    let input = args.input.as_deref().map(|given| read_input(given, "--input")).transpose()?;
    let chosen = Chosen::of(&args.place)?;
    let id = match is_whole(&args.job) {
        true => args.job.clone(),
        false => find(&chosen.connect()?, &args.job)?.to_string(),
    };
    let before = submitted(&chosen, &id)?;
    let order = Order { input: input.or(before.input), ..before };
    say(format_args!("arcp: {id} is submitted again"));
    place(&order, &args.place, args.detach, args.following, None)
}

/// The order that an earlier submit was made of, with a new key.
pub fn submitted(chosen: &Chosen, id: &str) -> Result<Order, Failure> {
    let state = State::of_user();
    let key = fresh_key()?;
    if let Some(kept) = state.as_ref().and_then(|state| state.submission(id)) {
        let agent = AgentRef::parse(&kept.agent).map_err(|error| Failure::usage(error.to_string()))?;
        let (max_runtime, authority) = (kept.max_runtime, kept.authority);
        let parent = kept.parent.map(|parent| parent.to_string());
        return Ok(Order { agent, input: kept.input, key, max_runtime, authority, parent, priority: None });
    }
    let store = state.and_then(|state| Runtime::at(&state, &chosen.target)).and_then(|runtime| runtime.store);
    let kept = store.zip(JobId::parse(id)).map(|(store, id)| lookup::job(&store, id)).transpose();
    match kept.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?.flatten() {
        Some(job) => {
            let authority = Asked::again(&job);
            let (agent, input, max_runtime) = (job.agent, Some(job.input), job.bounds.max_runtime);
            let parent = job.bounds.parent.map(|parent| parent.job.to_string());
            Ok(Order { agent, input, key, max_runtime, authority, parent, priority: None })
        }
        None => {
            let message = format!(
                "the agent and input of {id} are not known here: `arcp ls` shows jobs; retry it where it was \
                 submitted, or give both to `arcp submit AGENT --input ...`"
            );
            Err(Failure::new(Exit::Failed, message))
        }
    }
}
