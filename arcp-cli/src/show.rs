//! `arcp show`.

use std::path::{Path, PathBuf};

use arcp_blocking::{Client, JobEnd};
use arcp_host::sqlite::{OpenError, lookup};
use arcp_proto::client::ResultData;
use arcp_proto::id::{JobId, SessionId, SubscriptionId};
use arcp_proto::json::Object;
use arcp_proto::lease::{Lease, Namespace, Pattern};
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::{Filter, Watch};
use arcp_proto::runtime::{Record, subscription_id};
use arcp_proto::time::UtcMs;

use crate::args::Where;
use crate::connect::Chosen;
use crate::deliver::line_of;
use crate::exit::{Exit, Failure};
use crate::follow::error_beside;
use crate::list::{self, summary};
use crate::output::{self, Cell, Facts, Printing};
use crate::retry;
use crate::runtimes::{self, Runtime, Seen};
use crate::state::State;
use crate::times::{local, local_and_age};
use crate::{background, values};

/// Show a job, session, subscription or runtime by its id.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The id of a job, session or subscription, or the address, port or process id of a
    /// runtime.
    #[arg(value_parser = values::thing)]
    pub id: String,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Facts about a thing, by name.
type KnownFacts = Vec<(&'static str, Cell)>;

/// Shows one thing.
pub fn run(args: &Show) -> Result<Exit, Failure> {
    let facts = if let Some(runtime) = Runtime::named(&args.id) {
        of_runtime(&runtime)
    } else if let Some(session) = SessionId::parse(&args.id) {
        of_session(&store(args)?, session)?
    } else if let Some(subscription) = SubscriptionId::parse(&args.id) {
        of_subscription(&store(args)?, subscription)?
    } else {
        of_job(&Chosen::of(&args.place)?, &args.id)?
    };
    output::facts(args.printing, &facts)?;
    Ok(Exit::Success)
}

fn of_runtime(runtime: &Runtime) -> Facts {
    let seen = Seen::of(runtime);
    let mut facts = vec![
        ("runtime", Cell::from(runtime.places().join(" "))),
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

/// The store of a runtime of this user: sessions and subscriptions are read from there, because no message of the
/// protocol describes them.
fn store(args: &Show) -> Result<PathBuf, Failure> {
    let chosen = Chosen::of(&args.place)?;
    let runtime = State::of_user().and_then(|state| Runtime::at(&state, &chosen.target));
    runtime.and_then(|runtime| runtime.store).ok_or_else(|| {
        let url = chosen.url();
        let message = format!("{}: sessions are shown from a store of yours, and {url} has none here", args.id);
        Failure::new(Exit::Failed, message)
    })
}

fn unreadable(error: OpenError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

fn of_session(store: &Path, id: SessionId) -> Result<Facts, Failure> {
    let records = lookup::session(store, id).map_err(unreadable)?;
    let opened = records.iter().find_map(|record| {
        if let Record::SessionOpened { principal, view, .. } = record { Some((principal, view.family)) } else { None }
    });
    let (principal, family) = opened.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("no session is called `{id}` there: it has ended, or never was"))
    })?;
    let since = UtcMs(id.ulid().timestamp_ms());
    let subscriptions: Vec<String> = open_subscriptions(&records).map(|(id, ..)| id.to_string()).collect();
    let family = family.as_str();
    let facts = vec![
        ("session", Cell::from(id.to_string())),
        ("principal", Cell::from(principal.to_string())),
        ("family", Cell::from(family)),
        ("opened", Cell::from(local_and_age(since))),
        ("subscriptions", Cell::from(if subscriptions.is_empty() { "-".to_string() } else { subscriptions.join(" ") })),
    ];
    let mut json = Object::new();
    json.display("session_id", id).display("principal", principal).str("family", family).display("opened_at", since);
    json.raw("subscriptions", &serde_json::to_string(&subscriptions).unwrap_or_default());
    Ok(Facts { id: id.to_string(), facts, json: json.done() })
}

fn of_subscription(store: &Path, id: SubscriptionId) -> Result<Facts, Failure> {
    let records = lookup::sessions(store).map_err(unreadable)?;
    let found = open_subscriptions(&records).find(|(open, ..)| *open == id);
    let (_, session, filter) = found.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("no subscription is called `{id}` there: it has ended, or never was"))
    })?;
    let filter = serde_json::to_string(filter).unwrap_or_default();
    let facts = vec![
        ("subscription", Cell::from(id.to_string())),
        ("session", Cell::from(session.to_string())),
        ("filter", Cell::from(&filter)),
    ];
    let mut json = Object::new();
    json.display("subscription_id", id).display("session_id", session).raw("filter", &filter);
    Ok(Facts { id: id.to_string(), facts, json: json.done() })
}

/// The open subscriptions, with their sessions and filters.
fn open_subscriptions(records: &[Record]) -> impl Iterator<Item = (SubscriptionId, SessionId, &Filter)> {
    let is_over = move |of: SessionId, which: u32| {
        records.iter().any(|record| {
            matches!(record, Record::Unsubscribed { session, number, .. } if (*session, *number) == (of, which))
        })
    };
    records.iter().filter_map(move |record| {
        let Record::Subscribed { session, number, filter, .. } = record else {
            return None;
        };
        (!is_over(*session, *number)).then(|| (subscription_id(*session, *number), *session, filter))
    })
}

fn of_job(chosen: &Chosen, named: &str) -> Result<Facts, Failure> {
    let client = chosen.connect()?;
    let job = summary(&client, named)?;
    let mut facts =
        vec![("job", Cell::from(job.job.as_str())), ("status", list::status(&job)), ("agent", Cell::from(&job.agent))];
    let mut json = list::json(&job);
    facts.extend(job.owner.as_ref().map(|owner| ("owner", Cell::from(owner))));
    facts.extend(job.created_at.map(|created| ("submitted", Cell::from(local_and_age(created)))));
    facts.extend(job.ended_at.map(|_| ("took", Cell::from(list::took(&job)))));
    if !job.waits.what.is_empty() {
        facts.push(("waits for", Cell::from(waits_for(&job.waits.what))));
    }
    facts.push(("events", Cell::from(job.last_event.to_string())));
    if let Some(parent) = &job.parent {
        facts.push(("parent", Cell::from(parent.as_str())));
    }
    facts.extend(job.trace.as_ref().map(|trace| ("trace", Cell::from(trace))));
    write_authority(&job, &mut facts);
    write_credentials(chosen, &job, &mut facts, &mut json);
    if let Some(input) = retry::submitted(chosen, job.job.as_str()).ok().and_then(|order| order.input) {
        facts.push(("input", Cell::from(input.as_str())));
        json.raw("input", input.as_str());
    }
    write_end_of(&client, &job, &mut facts, &mut json)?;
    Ok(Facts { id: job.job.to_string(), facts, json: json.done() })
}

/// What a job waits for, in words. An unknown word is shown as it is.
fn waits_for(words: &[String]) -> String {
    static SAID: [(&str, &str); 19] = [
        ("agent", "its agent, which fell silent"),
        ("answer", "the store, to answer its agent"),
        ("artifact", "what it leaves to be stored"),
        ("backlog", "the store, for what its owner's agents have said"),
        ("check", "a check of what it asks, or of arguments of a step"),
        ("child", "a job below it"),
        ("credential", "a credential to be renewed"),
        ("delegation", "the host, for a child that its agent asks for"),
        ("departure", "another runtime to take it"),
        ("interrupt", "its agent, which was interrupted"),
        ("pace", "the pace that was asked for"),
        ("people", "an answer (`arcp inbox`)"),
        ("reader", "whoever submitted it to read on"),
        ("retry", "the time to try a step again"),
        ("revocation", "its credentials to be revoked"),
        ("room", "room for a step"),
        ("slot", "a slot"),
        ("store", "the store"),
        ("stream_pace", "the pace that was asked for in a stream"),
    ];
    let said = words.iter().map(|word| {
        let known = SAID.iter().find(|(known, _)| known == word);
        known.map_or(word.as_str(), |(_, said)| *said)
    });
    said.collect::<Vec<&str>>().join(", ")
}

/// Whether credentials of the job are still valid, or should not be. The store knows, if it is on this machine.
fn write_credentials(chosen: &Chosen, job: &JobSummary, facts: &mut KnownFacts, json: &mut Object) {
    let store = State::of_user().and_then(|state| Runtime::at(&state, &chosen.target)).and_then(|it| it.store);
    let known = store.zip(JobId::parse(job.job.as_str())).map(|(store, id)| lookup::has_credentials(&store, id));
    let Some(Ok(true)) = known else {
        return;
    };
    let (word, shown) = match job.ended_at {
        Some(ended) => ("unrevoked", format!("not revoked, though it ended {}", local_and_age(ended))),
        None => ("live", "count until it ends".to_string()),
    };
    facts.push(("credentials", Cell::from(shown)));
    json.str("credentials", word);
}

/// The lease of a job, and its budget: granted, spent and left.
fn write_authority(job: &JobSummary, facts: &mut KnownFacts) {
    facts.extend(job.trust.map(|level| ("trust", Cell::from(level.as_str()))));
    let lease = Lease::parse(&job.lease).unwrap_or_default();
    for (namespace, patterns) in lease.grants() {
        let patterns: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
        facts.push(("may", Cell::from(format!("{namespace} {}", patterns.join(" ")))));
    }
    facts.extend(job.constraints.expires_at.map(|at| ("lease ends", Cell::from(local(at)))));
    // The listing does not separate what its children hold.
    let delegates = lease.grants().any(|(namespace, _)| *namespace == Namespace::AgentDelegate);
    let gone = if delegates { "spent or below (`arcp tree`)" } else { "spent" };
    for (currency, granted) in lease.budget().iter() {
        let left = job.budget.left(currency.as_str()).unwrap_or(granted);
        let raised = job.raised.left(currency.as_str()).unwrap_or_default();
        let spent = granted + raised - left;
        let more = if raised.is_used_up() { String::new() } else { format!(" and {raised} that people added") };
        facts.push(("budget", Cell::from(format!("{granted} {currency}{more}: {spent} {gone}, {left} left"))));
    }
}

/// How a job ended, if it has ended.
fn write_end_of(client: &Client, job: &JobSummary, facts: &mut KnownFacts, json: &mut Object) -> Result<(), Failure> {
    if !matches!(job.status, Some(JobStatus::Ended(_))) {
        return Ok(());
    }
    // The last event is the end. A result in pieces is not fetched.
    let after = Some(job.last_event.saturating_sub(1));
    let watched = client.watch(Watch { job: job.job.clone(), after, history: Some(true) })?;
    let Ok(JobEnd { terminal, result }) = watched.wait() else {
        return Ok(());
    };
    if let Some(error) = &terminal.error {
        let why = error_beside(terminal, error);
        facts.extend((!why.is_empty()).then(|| ("error", Cell::from(why))));
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
        ResultData::Stored(stored) => {
            facts.push(("result", Cell::from(line_of(stored))));
            json.raw("result_ref", stored.to_json().as_str());
        }
        ResultData::Streamed { .. } | ResultData::Broken { .. } => {
            facts.push(("result", Cell::from(format!("in pieces: see arcp result {}", job.job))));
        }
        ResultData::None => {}
    }
    Ok(())
}
