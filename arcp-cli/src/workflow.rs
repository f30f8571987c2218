//! `arcp workflow`.

use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use arcp_proto::id::IdempotencyKey;
use arcp_proto::json::Json;
use arcp_proto::limits::WorkflowLimits;
use arcp_proto::model::workflow::{self, Workflow as Steps};

use crate::args::Where;
use crate::exit::{Exit, Failure};
use crate::follow::Following;
use crate::graph::Graph;
use crate::lease::Authority;
use crate::submit::{Order, fresh_key, place, read_input};
use crate::values;

/// Run a graph of steps as one job.
#[derive(Debug, clap::Subcommand)]
pub enum Workflow {
    /// Run the steps in a file as one job and follow it.
    Run(Box<Run>),
    /// Check a file and show its steps, without a runtime.
    Check(Check),
}

/// Run a workflow.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The steps: a JSON file, a .toml file, or - for JSON on stdin.
    file: PathBuf,
    /// The workflow's input: JSON, @FILE, or - for stdin.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// The idempotency key: the same key gives the same job.
    #[arg(long)]
    key: Option<IdempotencyKey>,
    /// The time limit of the whole workflow.
    #[arg(long, value_name = "SPAN", value_parser = values::seconds)]
    max_runtime: Option<NonZeroU32>,
    /// The lease of all steps together: what they may do, for how long and at what cost.
    #[command(flatten)]
    authority: Authority,
    /// Print the job's id and exit.
    #[arg(long)]
    detach: bool,
    /// How to follow the job.
    #[command(flatten)]
    following: Following,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Check a workflow.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The steps, as for `arcp workflow run`.
    file: PathBuf,
    /// The workflow's input; pointers into it are checked too [default: {}].
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
}

/// Runs the subcommand.
pub fn run(asked: Workflow) -> Result<Exit, Failure> {
    match asked {
        Workflow::Run(args) => start(*args),
        Workflow::Check(args) => check(&args),
    }
}

fn start(args: Run) -> Result<Exit, Failure> {
    let (graph, input) = read(&args.file, args.input.as_deref())?;
    let submit = workflow::submit(&graph, input.as_ref());
    let order = Order {
        agent: submit.agent,
        input: submit.input,
        key: args.key.map_or_else(fresh_key, Ok)?,
        max_runtime: args.max_runtime,
        authority: args.authority.asked()?,
        parent: None,
        priority: None,
    };
    place(&order, &args.place, args.detach, args.following, None)
}

fn check(args: &Check) -> Result<Exit, Failure> {
    let (graph, input) = read(&args.file, args.input.as_deref())?;
    let named = args.file.display();
    let steps = Steps::check(&graph, input.as_ref(), &WorkflowLimits::default())
        .map_err(|why| Failure::new(Exit::Failed, format!("{named}: {}", why.message)))?;
    let mut out = io::stdout().lock();
    for line in Graph::of(&steps).lines() {
        writeln!(out, "{}", line.strip_prefix("  ").unwrap_or(&line))?;
    }
    Ok(Exit::Success)
}

/// Reads the steps and the input.
fn read(file: &Path, input: Option<&str>) -> Result<(Json, Option<Json>), Failure> {
    if file == Path::new("-") && input == Some("-") {
        return Err(Failure::usage("the steps and --input cannot both come from stdin"));
    }
    let graph = graph_of(file)?;
    Ok((graph, input.map(|given| read_input(given, "--input")).transpose()?))
}

fn graph_of(file: &Path) -> Result<Json, Failure> {
    let named = file.display();
    let wrong = |why: String| Failure::usage(format!("{named}: {why}"));
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    }
    if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim().to_string()))?;
        return Json::from_value(&table).map_err(|error| wrong(error.to_string()));
    }
    Json::parse(text.trim()).map_err(|error| wrong(error.to_string()))
}
