//! `arcp checkpoint`.

use std::io::{self, Write as _};

use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{IdempotencyKey, WireId};
use arcp_proto::json::Object;
use arcp_proto::model::checkpoint::{CheckpointRef, CreateCheckpoint, LONGEST_LABEL, RestoreCheckpoint};
use arcp_proto::model::feature::Feature;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_refusal};
use crate::follow::{Following, follow};
use crate::list::find;
use crate::output::{self, Cell, Printing, Row};
use crate::submit::detached;
use crate::times::local;

const HEADER: [&str; 5] = ["CHECKPOINT", "MADE", "SIZE", "BY", "LABEL"];

/// List and make checkpoints, and start jobs from them.
#[derive(Debug, clap::Subcommand)]
pub enum Checkpoint {
    /// List the kept checkpoints of a job.
    #[command(visible_alias = "ls")]
    List(List),
    /// Ask a job's agent for a checkpoint and print its id.
    Create(Create),
    /// Start a job from a checkpoint and follow it.
    Restore(Restore),
}

/// List checkpoints.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The job.
    job: String,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Make a checkpoint.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// The job.
    job: String,
    /// Its label [default: chosen by the agent].
    #[arg(long, short, value_name = "LABEL", value_parser = label)]
    label: Option<String>,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Start a job from a checkpoint.
///
/// The job runs the same agent with the same input, within what is left of the original
/// job's lease. `arcp tree` shows it as a child of the original.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The checkpoint.
    #[arg(value_parser = id)]
    checkpoint: WireId,
    /// The idempotency key: the same key gives the same job [default: a new key each
    /// time].
    #[arg(long)]
    key: Option<IdempotencyKey>,
    /// Print the new job's id and exit.
    #[arg(long)]
    detach: bool,
    /// How to follow the job.
    #[command(flatten)]
    following: Following,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

fn id(text: &str) -> Result<WireId, String> {
    WireId::new(text).ok_or_else(|| format!("the id of a checkpoint has 1 to {} bytes", WireId::MAX))
}

fn label(text: &str) -> Result<String, String> {
    let fits = (1..=LONGEST_LABEL).contains(&text.len());
    fits.then(|| text.to_string()).ok_or_else(|| format!("a label has 1 to {LONGEST_LABEL} bytes"))
}

/// Runs the subcommand.
pub fn run(asked: Checkpoint) -> Result<Exit, Failure> {
    match asked {
        Checkpoint::List(args) => list(&args),
        Checkpoint::Create(args) => create(&args),
        Checkpoint::Restore(args) => restore(args),
    }
}

fn connect(place: &Where) -> Result<Client, Failure> {
    let client = Chosen::of(place)?.connect()?;
    if !client.welcome().features.has(Feature::Checkpoints) {
        let why = "this runtime has no agent that can go on from a checkpoint: `arcp serve --restartable`";
        return Err(Failure::new(Exit::Failed, why));
    }
    Ok(client)
}

fn list(args: &List) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    let job = find(&client, &args.job)?;
    let list = client.checkpoints().list(job)?;
    output::rows(args.printing, &HEADER, &list.checkpoints.iter().map(row).collect::<Vec<Row>>())?;
    Ok(Exit::Success)
}

fn create(args: &Create) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    let job = find(&client, &args.job)?;
    let wish = CreateCheckpoint { job: job.clone(), label: args.label.clone() };
    let made = client.checkpoints().create(wish).map_err(|error| refused(error, job.as_str()))?;
    output::rows(args.printing, &HEADER, &[row(&made)])?;
    Ok(Exit::Success)
}

fn restore(args: Restore) -> Result<Exit, Failure> {
    args.following.check(args.detach)?;
    let client = connect(&args.place)?;
    let wish = RestoreCheckpoint { checkpoint: args.checkpoint.clone(), key: args.key };
    let job = client.checkpoints().restore(wish).map_err(|error| refused(error, args.checkpoint.as_str()))?;
    if args.detach {
        writeln!(io::stdout(), "{}", detached(&job.id, args.following.output))?;
        return Ok(Exit::Success);
    }
    say(format_args!("arcp: {} begins at {}", job.id, args.checkpoint));
    follow(&client, &job, args.following)
}

fn row(checkpoint: &CheckpointRef) -> Row {
    let CheckpointRef { id, job, label, created_at, size, asked_for } = checkpoint;
    let (id, label) = (id.as_str().to_string(), label.as_deref().unwrap_or_default());
    let mut json = Object::new();
    json.str("checkpoint_id", &id).str("job_id", job.as_str()).opt_str("label", Some(label).filter(|l| !l.is_empty()));
    if let Some(at) = created_at {
        json.display("created_at", at);
    }
    json.u64("size", *size).bool("asked_for", *asked_for);
    let at = created_at.map(local).unwrap_or_default();
    let (size, by) = (size.to_string(), if *asked_for { "request" } else { "agent" });
    let cells = [id.as_str(), &at, &size, by, label].into_iter().map(Cell::from).collect();
    Row { cells, id, json: json.done() }
}

/// The failure for a refusal: it names the job or checkpoint, and what to do.
fn refused(error: ClientError, about: &str) -> Failure {
    let ClientError::Refused(refusal) = &error else {
        return error.into();
    };
    let advice = if refusal.code == ErrorCode::JobNotFound {
        ": `arcp checkpoint list JOB` shows those that are kept"
    } else if refusal.code == ErrorCode::Unimplemented {
        ": `arcp serve --checkpoints NAME` lets people ask an agent that can"
    } else {
        ""
    };
    Failure::new(of_refusal(refusal), format!("{about}: {}{advice}", visible(&refusal.message)))
}
