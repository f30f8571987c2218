//! `arcp show`.

use arcp_blocking::{Client, JobEnd};
use arcp_proto::client::ResultData;
use arcp_proto::json::Object;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::Watch;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::follow::why_ended;
use crate::list::{self, summary};
use crate::output::{self, Cell, Facts, Printing};
use crate::retry;
use crate::runtimes::{self, Runtime, Seen};
use crate::times::local_and_age;
use crate::{background, values};

/// Show a job, session, subscription or runtime, and say which it is.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The id of a job, session or subscription, or the address or process of
    /// a runtime.
    #[arg(value_parser = values::thing)]
    pub id: String,
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// What is known of a thing, by name.
type KnownFacts = Vec<(&'static str, Cell)>;

/// Shows one thing.
pub fn run(args: &Show) -> Result<Exit, Failure> {
    let facts = match Runtime::named(&args.id) {
        Some(runtime) => of_runtime(&runtime),
        None => of_job(&Chosen::of(&args.place)?, &args.id)?,
    };
    output::facts(args.printing, &facts)?;
    Ok(Exit::Success)
}

fn of_runtime(runtime: &Runtime) -> Facts {
    let seen = Seen::of(runtime);
    let mut facts = vec![
        ("runtime", Cell::from(&runtime.url)),
        ("process", Cell::from(runtime.pid.to_string())),
        ("started", Cell::from(local_and_age(runtime.since))),
    ];
    let store = runtime.store.as_ref().map_or("in memory".to_string(), |store| store.display().to_string());
    facts.push(("store", Cell::from(store)));
    facts.extend(background::log_of(runtime).map(|log| ("log", Cell::from(log.display().to_string()))));
    match &seen {
        Some(seen) => facts.extend([
            ("version", Cell::from(&seen.version)),
            ("unfinished jobs", Cell::from(seen.unfinished.to_string())),
            ("agents", Cell::from(seen.agents.join(" "))),
        ]),
        None => facts.push(("agents", Cell::from("needs --token"))),
    }
    Facts { id: runtime.url.clone(), facts, json: runtimes::json(runtime, seen.as_ref()) }
}

fn of_job(chosen: &Chosen, named: &str) -> Result<Facts, Failure> {
    let client = chosen.connect()?;
    let job = summary(&client, named)?;
    let mut facts = vec![
        ("job", Cell::from(job.job.as_str())),
        ("status", Cell::status(job.status)),
        ("agent", Cell::from(&job.agent)),
    ];
    let mut json = list::json(&job);
    if let Some(created) = job.created_at {
        facts.push(("submitted", Cell::from(local_and_age(created))));
    }
    facts.push(("events", Cell::from(job.last_event.to_string())));
    if let Some(parent) = &job.parent {
        facts.push(("parent", Cell::from(parent.as_str())));
    }
    facts.extend(job.trace.as_ref().map(|trace| ("trace", Cell::from(trace))));
    if let Some(input) = retry::submitted(chosen, job.job.as_str()).ok().and_then(|order| order.input) {
        facts.push(("input", Cell::from(input.as_str())));
        json.raw("input", input.as_str());
    }
    write_end_of(&client, &job, &mut facts, &mut json)?;
    Ok(Facts { id: job.job.to_string(), facts, json: json.done() })
}

/// How a job ended, if it has.
fn write_end_of(client: &Client, job: &JobSummary, facts: &mut KnownFacts, json: &mut Object) -> Result<(), Failure> {
    if !matches!(job.status, Some(JobStatus::Ended(_))) {
        return Ok(());
    }
    // The last event is the end. What is in pieces is not asked for.
    let after = Some(job.last_event.saturating_sub(1));
    let watched = client.watch(Watch { job: job.job.clone(), after, history: Some(true) })?;
    let Ok(JobEnd { terminal, result }) = watched.wait() else {
        return Ok(());
    };
    if let Some(error) = &terminal.error {
        facts.push(("error", Cell::from(why_ended(terminal, error))));
        json.object("error", |out| {
            out.str("code", error.code.as_str()).str("message", &error.message);
        });
    }
    facts.extend(terminal.summary.as_ref().map(|summary| ("summary", Cell::from(summary))));
    match result {
        ResultData::Inline(result) => {
            facts.push(("result", Cell::from(result.as_str())));
            json.raw("result", result.as_str());
        }
        ResultData::Streamed { .. } | ResultData::Broken { .. } => {
            facts.push(("result", Cell::from(format!("in pieces: see arcp result {}", job.job))));
        }
        ResultData::None => {}
    }
    Ok(())
}
