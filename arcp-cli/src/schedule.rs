//! `arcp schedule`.

use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::time::Duration;

use arcp_blocking::{Client, ClientError};
use arcp_host::recurrence::{Wanted, plan};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::{Json, Object};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::schedule::{
    Missed, NewSchedule, Overlap, Rule, ScheduleChange, ScheduleQuery, ScheduleSummary, ScheduledJob, Times, When,
};
use arcp_proto::time::UtcMs;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::lease::{Asked, Authority};
use crate::output::{self, Cell, Printing, Row};
use crate::submit::read_input;
use crate::times::{local, now};
use crate::values;

const HEADER: [&str; 6] = ["SCHEDULE", "AGENT", "NEXT", "LAST", "JOBS", "WHEN"];
/// Schedules in one page of a listing.
const PAGE: u64 = 500;
/// What is printed instead of a missing time.
const NONE: &str = "-";

/// Submit jobs at set times.
#[derive(Debug, clap::Subcommand)]
pub enum Schedule {
    /// Add a schedule, once or by a rule, and print its id.
    Add(Box<Add>),
    /// List schedules.
    #[command(visible_alias = "ls")]
    List(List),
    /// Pause a schedule: its times pass without a job.
    Pause(Named),
    /// Resume a paused schedule from its next time.
    Resume(Named),
    /// Delete schedules. Their jobs keep running.
    #[command(visible_alias = "rm")]
    Remove(Remove),
    /// Print the next times of a schedule, or of a rule (without a runtime).
    Next(Next),
}

/// Add a schedule.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The agent, `name` or `name@version`.
    #[arg(value_parser = values::agent)]
    agent: AgentRef,
    /// When.
    #[command(flatten)]
    when: Moment,
    /// The input of each job: JSON, @FILE, or - for stdin.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Its id: adding the same id again is the same schedule [default: a new id].
    #[arg(long, value_name = "ID", value_parser = id)]
    id: Option<WireId>,
    /// Which times missed while the runtime was down are made up for: last, all or none.
    #[arg(long, default_value = "last", value_name = "WHICH")]
    missed: Missed,
    /// What to do at a time while an earlier job still runs: skip, queue or allow.
    #[arg(long, default_value = "skip", value_name = "HOW")]
    overlap: Overlap,
    /// Time limit of each job.
    #[arg(long, value_name = "SPAN", value_parser = values::seconds)]
    max_runtime: Option<NonZeroU32>,
    /// The lease of each job: what it may do, for how long and at what cost.
    #[command(flatten)]
    authority: Authority,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// When jobs are submitted.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Moment {
    /// Once, at this time: RFC 3339, such as 2030-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<UtcMs>,
    /// Once, after this time.
    #[arg(long, value_name = "SPAN", value_parser = values::some_span)]
    after: Option<Duration>,
    /// By this RFC 5545 rule, such as 'FREQ=DAILY;BYHOUR=9' or
    /// 'DTSTART;TZID=Europe/Berlin:20300131T083000 FREQ=DAILY'. Without DTSTART it starts
    /// now, in UTC.
    #[arg(long, value_name = "RULE", value_parser = rule)]
    every: Option<Rule>,
}

/// List schedules.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Everybody's schedules, for operators and auditors.
    #[arg(long)]
    everybody: bool,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// One schedule.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Its id.
    #[arg(value_name = "SCHEDULE", value_parser = id)]
    id: WireId,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// End schedules.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Their ids.
    #[arg(required = true, value_name = "SCHEDULE", value_parser = id)]
    ids: Vec<WireId>,
    /// The reason.
    #[arg(long)]
    reason: Option<String>,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Print the next times.
#[derive(Debug, clap::Args)]
pub struct Next {
    /// The schedule's id. At most five of its times are known.
    #[arg(value_name = "SCHEDULE", value_parser = id, required_unless_present = "every")]
    id: Option<WireId>,
    /// A rule instead, as for `arcp schedule add`.
    #[arg(long, value_name = "RULE", value_parser = rule, conflicts_with = "id")]
    every: Option<Rule>,
    /// How many times.
    #[arg(short = 'n', long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

fn id(text: &str) -> Result<WireId, String> {
    WireId::new(text).ok_or_else(|| format!("the id of a schedule has 1 to {} bytes", WireId::MAX))
}

fn time(text: &str) -> Result<UtcMs, String> {
    text.parse().map_err(|error| format!("{error}, such as 2030-01-31T12:00:00Z"))
}

/// Parses a rule. Its lines may be separated by spaces.
fn rule(text: &str) -> Result<Rule, String> {
    let lines: Vec<&str> = text.split_whitespace().collect();
    let rule: Rule = lines.join("\n").parse().map_err(|error| format!("{error}"))?;
    let wanted = Wanted { rule: rule.clone(), after: now(), now: now(), missed: 0, coming: 1, ends: None };
    plan(&wanted).map(|_| rule).map_err(|fault| fault.reason)
}

/// Runs the subcommand.
pub fn run(asked: &Schedule) -> Result<Exit, Failure> {
    match asked {
        Schedule::Add(args) => add(args),
        Schedule::List(args) => list(args),
        Schedule::Pause(args) => change(args, true),
        Schedule::Resume(args) => change(args, false),
        Schedule::Remove(args) => remove(args),
        Schedule::Next(args) => next(args),
    }
}

fn connect(place: &Where) -> Result<Client, Failure> {
    let client = Chosen::of(place)?.connect()?;
    if !client.welcome().features.has(Feature::Schedules) {
        return Err(Failure::new(Exit::Failed, "this runtime keeps no schedules"));
    }
    Ok(client)
}

fn add(args: &Add) -> Result<Exit, Failure> {
    let input = args.input.as_deref().map(|given| read_input(given, "--input")).transpose()?;
    let Asked { lease_request, lease_constraints } = args.authority.asked()?;
    let Moment { at, after, every } = &args.when;
    let once = at.map(When::At).or_else(|| after.map(When::After));
    let when = once.or_else(|| every.clone().map(When::Every));
    let when = when.ok_or_else(|| Failure::usage("one of --at, --after and --every is needed"))?;
    let job = ScheduledJob {
        input,
        lease_request,
        lease_constraints,
        max_runtime: args.max_runtime,
        ..ScheduledJob::new(args.agent.clone())
    };
    let (id, missed, overlap) = (args.id.clone(), args.missed, args.overlap);
    let wish = NewSchedule { id, missed, overlap, ..NewSchedule::new(job, when) };
    let client = connect(&args.place)?;
    let kept = client.schedule(wish).map_err(in_words_of_options)?;
    let mut json = Object::new();
    json.str("schedule_id", kept.id.as_str());
    if let Some(next) = kept.next {
        json.display("next_at", next);
    }
    let id = kept.id.as_str().to_string();
    let next = kept.next.map_or_else(|| NONE.to_string(), local);
    let cells = vec![Cell::from(id.as_str()), Cell::from(next.as_str())];
    output::rows(args.printing, &["SCHEDULE", "NEXT"], &[Row { cells, id, json: json.done() }])?;
    Ok(Exit::Success)
}

fn list(args: &List) -> Result<Exit, Failure> {
    let all = all(&connect(&args.place)?, args.everybody)?;
    output::rows(args.printing, &HEADER, &all.iter().map(row).collect::<Vec<Row>>())?;
    Ok(Exit::Success)
}

fn all(client: &Client, everybody: bool) -> Result<Vec<ScheduleSummary>, ClientError> {
    let mut query = ScheduleQuery { after: None, everybody, limit: Some(PAGE) };
    let mut schedules = Vec::new();
    loop {
        let page = client.schedules(query.clone())?;
        schedules.extend(page.schedules);
        match page.next {
            Some(after) => query.after = Some(after),
            None => return Ok(schedules),
        }
    }
}

fn change(args: &Named, paused: bool) -> Result<Exit, Failure> {
    let change = ScheduleChange { id: args.id.clone(), paused };
    connect(&args.place)?.change_schedule(change).map_err(|error| gone(error, &args.id))?;
    Ok(Exit::Success)
}

fn remove(args: &Remove) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    for id in &args.ids {
        client.end_schedule(id.clone(), args.reason.clone()).map_err(|error| gone(error, id))?;
    }
    Ok(Exit::Success)
}

fn next(args: &Next) -> Result<Exit, Failure> {
    let (times, why_none) = match (&args.every, &args.id) {
        (Some(rule), _) => {
            let coming = usize::from(args.count);
            let wanted = Wanted { rule: rule.clone(), after: now(), now: now(), missed: 0, coming, ends: None };
            let plan = plan(&wanted).map_err(|fault| Failure::usage(format!("--every: {}", fault.reason)))?;
            (plan.coming, "--every: the rule has no time to come".to_string())
        }
        (None, Some(id)) => {
            let all = all(&connect(&args.place)?, false)?;
            let found = all.into_iter().find(|schedule| schedule.id == *id);
            let found = found.ok_or_else(|| unknown(id))?;
            let why = why_none(&found);
            (found.next, why)
        }
        (None, None) => return Err(Failure::usage("a schedule or --every is needed")),
    };
    if times.is_empty() {
        writeln!(io::stderr(), "arcp: {why_none}")?;
    }
    let mut out = io::stdout().lock();
    for time in times.into_iter().take(usize::from(args.count)) {
        writeln!(out, "{}", local(time))?;
    }
    Ok(Exit::Success)
}

/// Why a schedule has no next time.
fn why_none(schedule: &ScheduleSummary) -> String {
    let id = schedule.id.as_str();
    match &schedule.paused {
        Some(why) => format!("{id} is paused: {why}: `arcp schedule resume {id}` has it go on"),
        None if schedule.queued > 0 => format!("{id} has no time to come: {} wait for its job to end", schedule.queued),
        None => format!("{id} has no time to come that is known"),
    }
}

/// Replaces names of message members in a refusal by the options that the user gave.
fn in_words_of_options(error: ClientError) -> ClientError {
    let ClientError::Refused(mut refusal) = error else {
        return error;
    };
    let mut message = refusal.message.into_owned();
    for (word, option) in [
        ("`when`: `at`:", "--at:"),
        ("`when`: `every`:", "--every:"),
        ("`when`: `after` is", "--after is"),
        ("`schedule_id` has", "--id has"),
        ("end one with `cancel`", "end one with `arcp schedule remove`"),
    ] {
        message = message.replace(word, option);
    }
    refusal.message = message.into();
    ClientError::Refused(refusal)
}

fn unknown(id: &WireId) -> Failure {
    let why = format!("{id}: no such schedule of yours is kept there: `arcp schedule list` shows those that are");
    Failure::new(Exit::Failed, why)
}

fn gone(error: ClientError, id: &WireId) -> Failure {
    if let ClientError::Refused(refusal) = &error
        && refusal.code == ErrorCode::JobNotFound
    {
        return unknown(id);
    }
    error.into()
}

fn row(schedule: &ScheduleSummary) -> Row {
    let id = schedule.id.as_str().to_string();
    let time = |at: Option<UtcMs>| at.map_or_else(|| NONE.to_string(), local);
    let next = if schedule.paused.is_some() { "paused".to_string() } else { time(schedule.next.first().copied()) };
    let when = match &schedule.times {
        Some(Times::At(at)) => local(*at),
        Some(Times::Every(rule)) => rule.as_str().replace('\n', " "),
        None => NONE.to_string(),
    };
    let (last, jobs) = (time(schedule.last_at), schedule.fired.to_string());
    let cells = [id.as_str(), &schedule.agent, &next, &last, &jobs, &when].map(Cell::from);
    Row { cells: cells.into(), json: json(schedule), id }
}

fn json(schedule: &ScheduleSummary) -> String {
    let ScheduleSummary { id, principal, agent, times, missed, overlap, created_at, paused, next, .. } = schedule;
    let mut json = Object::new();
    json.str("schedule_id", id.as_str()).str("principal", principal).str("agent", agent);
    match times {
        Some(Times::At(at)) => json.display("at", at),
        Some(Times::Every(rule)) => json.str("every", rule.as_str()),
        None => &mut json,
    };
    json.str("missed", missed.as_str()).str("overlap", overlap.as_str()).opt_str("paused", paused.as_deref());
    for (name, at) in [("created_at", *created_at), ("last_at", schedule.last_at)] {
        if let Some(at) = at {
            json.display(name, at);
        }
    }
    json.opt_str("last_job_id", schedule.last_job.as_ref().map(WireId::as_str));
    json.opt_str("last_refused", schedule.last_refused.as_deref());
    json.array("next", next.iter().map(|at| Json::string(&at.to_string()).as_str().to_string()));
    json.u64("queued", schedule.queued).u64("fired", schedule.fired).u64("skipped", schedule.skipped);
    json.done()
}
