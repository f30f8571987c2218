//! `arcp audit`.

use std::path::PathBuf;
use std::time::Duration;

use arcp_host::sqlite::lookup;
use arcp_proto::id::Principal;
use arcp_proto::json::Object;
use arcp_proto::runtime::{AuditAct, AuditEntry};
use arcp_proto::time::UtcMs;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Printing, Row};
use crate::runtimes::Runtime;
use crate::state::State;
use crate::times::{local, now};
use crate::{store, values};

const HEADER: [&str; 6] = ["AT", "WHO", "ACT", "JOB", "OUTCOME", "WHY"];

/// List grants, refusals and uses of authority over others, with reasons, oldest first.
///
/// Reads the store of this user's runtime, or of --store, whether or not a runtime has it
/// open. Repeated refusals are one entry per minute, with a count.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// The store's file.
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Only entries newer than this, such as 1h.
    #[arg(long, value_name = "SPAN", value_parser = values::some_span)]
    pub since: Option<Duration>,
    /// Only entries of this principal.
    #[arg(long, value_name = "NAME")]
    pub principal: Option<Principal>,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Lists the audit trail.
pub fn run(args: &Audit) -> Result<Exit, Failure> {
    let file = match &args.store {
        Some(file) => file.clone(),
        None => of_runtime(args)?,
    };
    let since =
        args.since.map(|span| UtcMs(now().0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))));
    let asked = |entry: &AuditEntry| {
        since.is_none_or(|since| entry.at >= since) && (args.principal.is_none() || entry.principal == args.principal)
    };
    let rows: Vec<Row> =
        lookup::audit(&file).map_err(store::failure)?.iter().filter(|entry| asked(entry)).map(row).collect();
    output::rows(args.printing, &HEADER, &rows)?;
    Ok(Exit::Success)
}

/// The store of a runtime of this user: no message of the protocol gives the audit trail.
fn of_runtime(args: &Audit) -> Result<PathBuf, Failure> {
    let chosen = Chosen::of(&args.place)?;
    let runtime = State::of_user().and_then(|state| Runtime::at(&state, &chosen.target));
    runtime.and_then(|runtime| runtime.store).ok_or_else(|| {
        let url = chosen.url();
        Failure::new(
            Exit::Failed,
            format!("the trail is read from a store of yours, and {url} has none here: give --store FILE"),
        )
    })
}

fn row(entry: &AuditEntry) -> Row {
    let who = entry.principal.as_ref().map_or_else(|| nobody(entry), ToString::to_string);
    let job = entry.job.map(|job| job.to_string()).or_else(|| entry.taken.map(|session| session.to_string()));
    let job = job.unwrap_or_else(|| "-".to_string());
    let times = if entry.count > 1 { format!(" x{}", entry.count) } else { String::new() };
    let outcome = entry.refused.as_ref().map_or_else(|| "done".to_string(), |code| format!("{}{times}", code.as_str()));
    let granted = entry.granted.as_ref().map(|granted| granted.as_str().to_string());
    let why = [concerned(entry), entry.reason.clone().or(granted)];
    let why = why.into_iter().flatten().collect::<Vec<String>>().join(": ");
    let id = entry.at.to_string();
    let cells = [local(entry.at), who, entry.act.as_str().to_string(), job, outcome, why];
    Row { id, cells: cells.iter().map(Cell::from).collect(), json: json(entry) }
}

/// The principal or runtime to which something was given, or from which it was taken, as text.
fn concerned(entry: &AuditEntry) -> Option<String> {
    let how = if entry.taken.is_some() { "from" } else { "to" };
    let runtime = entry.runtime.as_ref().map(|runtime| format!("to the runtime {runtime}"));
    entry.to.as_ref().map(|to| format!("{how} {to}")).or(runtime)
}

/// The text for an entry without a known principal.
fn nobody(entry: &AuditEntry) -> String {
    match (entry.from, entry.act) {
        (Some(from), _) => format!("({from})"),
        (None, AuditAct::Login | AuditAct::Resume) => "(nobody)".to_string(),
        (None, _) => "(several)".to_string(),
    }
}

fn json(entry: &AuditEntry) -> String {
    let mut out = Object::new();
    out.display("at", entry.at).str("act", entry.act.as_str());
    out.opt_str("principal", entry.principal.as_ref().map(ToString::to_string).as_deref());
    out.opt_str("session_id", entry.session.map(|session| session.to_string()).as_deref());
    out.opt_str("from", entry.from.map(|from| from.to_string()).as_deref());
    out.opt_str("job_id", entry.job.map(|job| job.to_string()).as_deref());
    out.opt_str("taken", entry.taken.map(|session| session.to_string()).as_deref());
    let name = if entry.taken.is_some() { "taken_from" } else { "to" };
    out.opt_str(name, entry.to.as_ref().map(ToString::to_string).as_deref());
    out.opt_str("runtime", entry.runtime.as_deref());
    out.str("outcome", if entry.refused.is_some() { "refused" } else { "done" });
    out.opt_str("code", entry.refused.as_ref().map(|code| code.as_str()));
    out.opt_json("granted", entry.granted.as_ref()).opt_str("reason", entry.reason.as_deref());
    out.u64("count", u64::from(entry.count));
    out.done()
}
