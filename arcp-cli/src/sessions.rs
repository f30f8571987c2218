//! `arcp sessions`.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::say;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Object;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::session::{Eviction, SessionQuery, SessionSummary};

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Printing, Row};
use crate::times::{age, local};

const HEADER: [&str; 5] = ["SESSION", "PRINCIPAL", "AGE", "CONNECTED", "EXPIRES"];
/// Sessions in one page of a listing.
const PAGE: u64 = 1000;

/// List or end the sessions of a runtime.
#[derive(Debug, clap::Subcommand)]
pub enum Sessions {
    /// List everybody's sessions, oldest first, for operators and auditors.
    #[command(visible_alias = "ls")]
    List(List),
    /// End sessions, for operators. They cannot be resumed; their jobs keep running. A
    /// client with a valid token can open a new one; `arcp token revoke` prevents that.
    Evict(Evict),
}

/// List sessions.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only sessions of this principal.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// End sessions.
#[derive(Debug, clap::Args)]
#[command(override_usage = "arcp sessions evict [OPTIONS] <SESSION...|--principal <NAME>>")]
pub struct Evict {
    /// The sessions, by id or a unique prefix.
    #[arg(required_unless_present = "principal", conflicts_with = "principal", value_name = "SESSION")]
    sessions: Vec<String>,
    /// All of this principal's.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// The reason, sent to the clients.
    #[arg(long)]
    reason: Option<String>,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Runs the subcommand.
pub fn run(asked: &Sessions) -> Result<Exit, Failure> {
    match asked {
        Sessions::List(args) => list(args),
        Sessions::Evict(args) => evict(args),
    }
}

fn list(args: &List) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    let all = all(&client)?;
    let meant = all.iter().filter(|session| args.principal.as_ref().is_none_or(|named| session.principal == *named));
    output::rows(args.printing, &HEADER, &meant.map(row).collect::<Vec<Row>>())?;
    Ok(Exit::Success)
}

fn evict(args: &Evict) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    let all = all(&client)?;
    // All sessions are looked up before one is ended.
    let meant: BTreeSet<&str> = match &args.principal {
        Some(named) => of_principal(&all, named)?,
        None => args.sessions.iter().map(|named| find(&all, named)).collect::<Result<_, Failure>>()?,
    };
    let own = client.welcome().session.as_str().to_string();
    // The session of this command comes last; without it the others could not be ended.
    let (this, others): (Vec<&str>, Vec<&str>) = meant.into_iter().partition(|session| *session == own);
    for named in others.into_iter().chain(this) {
        let session = WireId::new(named).ok_or_else(|| unknown(named))?;
        match client.evict(Eviction { session, reason: args.reason.clone() }) {
            Ok(()) => writeln!(io::stdout(), "{named}")?,
            Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::JobNotFound => {
                say(format_args!("arcp: {named} has ended meanwhile"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Exit::Success)
}

fn connect(place: &Where) -> Result<Client, Failure> {
    let chosen = Chosen::of(place)?;
    let client = chosen.connect()?;
    if client.welcome().features.has(Feature::Sessions) {
        return Ok(client);
    }
    let why =
        format!("{} cannot be asked for its sessions: it is no runtime of this project, or an older one", chosen.url());
    Err(Failure::new(Exit::Failed, why))
}

fn all(client: &Client) -> Result<Vec<SessionSummary>, ClientError> {
    let mut query = SessionQuery { after: None, limit: Some(PAGE) };
    let mut sessions = Vec::new();
    loop {
        let page = client.sessions(query.clone())?;
        sessions.extend(page.sessions);
        match page.next {
            Some(after) => query.after = Some(after),
            None => return Ok(sessions),
        }
    }
}

fn of_principal<'a>(all: &'a [SessionSummary], named: &str) -> Result<BTreeSet<&'a str>, Failure> {
    let own: BTreeSet<&str> =
        all.iter().filter(|session| session.principal == named).map(|session| session.session.as_str()).collect();
    if own.is_empty() {
        return Err(Failure::new(Exit::Failed, format!("{named} has no session: `arcp sessions list` shows who has")));
    }
    Ok(own)
}

/// The session with this id, or the only one whose id begins so.
fn find<'a>(all: &'a [SessionSummary], named: &str) -> Result<&'a str, Failure> {
    let begins = |id: &str| {
        !named.is_empty() && (id.starts_with(named) || id.strip_prefix("sess_").is_some_and(|id| id.starts_with(named)))
    };
    let found: Vec<&str> = all.iter().map(|session| session.session.as_str()).filter(|id| begins(id)).collect();
    match found.as_slice() {
        [] => Err(unknown(named)),
        [one] => Ok(one),
        several => Err(Failure::usage(format!("{} sessions begin with `{named}`: give more of it", several.len()))),
    }
}

fn unknown(named: &str) -> Failure {
    Failure::new(Exit::Failed, format!("no session is `{named}`: `arcp sessions list` shows them"))
}

fn row(session: &SessionSummary) -> Row {
    let id = session.session.as_str().to_string();
    let expires = session.expires_at.map_or_else(|| "-".to_string(), local);
    let connected = if session.connected { "yes" } else { "no" };
    let cells = [&id, &session.principal, &age(session.opened_at), connected, &expires].map(Cell::from);
    let mut json = Object::new();
    json.str("session_id", &id).str("principal", &session.principal);
    if let Some(at) = session.opened_at {
        json.display("opened_at", at);
    }
    json.bool("connected", session.connected);
    if let Some(at) = session.expires_at {
        json.display("expires_at", at);
    }
    Row { id, cells: cells.into(), json: json.done() }
}
