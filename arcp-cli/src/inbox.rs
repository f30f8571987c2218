//! `arcp inbox`.

use std::time::Duration;

use arcp_blocking::{Client, ClientError, JobUpdate};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::{Json, Members, Object};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::{ListQuery, Watch};
use arcp_proto::time::UtcMs;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::list::all;
use crate::output::{self, Cell, Printing, Row};
use crate::times::local;

const HEADER: [&str; 5] = ["QUESTION", "KIND", "JOB", "EXPIRES", "ASKS"];

/// List what jobs ask people, the oldest job first.
///
/// `arcp answer`, `approve` and `deny` answer it.
#[derive(Debug, clap::Args)]
pub struct Inbox {
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Lists the questions that nobody has answered.
pub fn run(args: &Inbox) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let mut rows = Vec::new();
    // Who waits for people is blocked.
    let blocked = ListQuery { status: vec![JobStatus::Blocked], ..ListQuery::default() };
    for job in all(&client, blocked)? {
        rows.extend(open_in(&client, &job.job)?.iter().map(|question| row(&job, question)));
    }
    output::rows(args.printing, &HEADER, &rows)?;
    Ok(Exit::Success)
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Input,
    /// One of several options.
    Choice,
    /// A permission.
    Permission,
}

impl Kind {
    const ALL: [(Kind, EventKind); 3] = [
        (Kind::Input, EventKind::InputRequest),
        (Kind::Choice, EventKind::ChoiceRequest),
        (Kind::Permission, EventKind::PermissionRequest),
    ];

    /// The kind of question that an event asks, if it asks one.
    fn of(event: &EventKind) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, asks)| asks == event).map(|(kind, _)| *kind)
    }

    fn as_str(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Choice => "choice",
            Kind::Permission => "permission",
        }
    }
}

/// A question that nobody has answered.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its id.
    pub id: String,
    /// What is asked for.
    pub kind: Kind,
    body: Json,
}

impl Question {
    fn members(&self) -> Members<'_> {
        self.body.members().unwrap_or_default()
    }

    /// What counts if nobody answers, if anything does.
    pub fn default_answer(&self) -> Option<Json> {
        Json::parse(self.members().get("default")?).ok()
    }
}

/// What a job asks that nobody has answered. Its session can ask once for each
/// job: nothing is shown to it twice.
pub fn open_in(client: &Client, job: &WireId) -> Result<Vec<Question>, ClientError> {
    let watched = match client.watch(Watch { job: job.clone(), after: None, history: Some(false) }) {
        Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::JobNotFound => return Ok(Vec::new()),
        watched => watched?,
    };
    // What is open is shown before anything that is asked later is answered.
    client.list(ListQuery { limit: Some(1), ..ListQuery::default() })?;
    let mut open: Vec<Question> = Vec::new();
    while let Some(update) = watched.next_update_in(Duration::ZERO) {
        let JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } = update else {
            continue;
        };
        let Some(id) = body.members().unwrap_or_default().get_str("prompt_id") else {
            continue;
        };
        if let Some(kind) = Kind::of(&kind) {
            open.push(Question { id, kind, body });
        } else if kind == EventKind::PromptClosed {
            open.retain(|question| question.id != id);
        }
    }
    client.unwatch(job.clone())?;
    Ok(open)
}

fn row(job: &JobSummary, question: &Question) -> Row {
    let members = question.members();
    let kind = question.kind.as_str();
    let expires = members.get_str("expires_at").and_then(|at| UtcMs::parse(&at));
    let mut json = Object::new();
    json.str("kind", kind).str("job_id", job.job.as_str()).str("agent", &job.agent);
    json.opt_str("owner", job.owner.as_deref());
    for (name, value) in &members.0 {
        json.raw(name, value);
    }
    Row {
        id: question.id.clone(),
        cells: vec![
            Cell::from(&question.id),
            Cell::from(kind),
            Cell::from(job.job.as_str()),
            Cell::from(expires.map_or_else(|| "-".to_string(), local)),
            Cell::from(asked(question.kind, &members)),
        ],
        json: json.done(),
    }
}

/// What is asked, and what an answer must be.
fn asked(kind: Kind, members: &Members<'_>) -> String {
    let text = |name: &str| members.get_str(name).unwrap_or_default();
    let mut asked = match kind {
        Kind::Permission => {
            let reason = members.get_str("reason").map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} on {}{reason}", text("operation"), text("resource"))
        }
        Kind::Input | Kind::Choice => text("prompt"),
    };
    if let Some(options) = members.get("options").and_then(|raw| Json::parse(raw).ok()) {
        let options: Vec<serde_json::Value> = options.decode().unwrap_or_default();
        let spelt = options.iter().map(|option| match (option["id"].as_str(), option["label"].as_str()) {
            (Some(id), Some(label)) if id != label => format!("{id} ({label})"),
            (id, _) => id.unwrap_or_default().to_string(),
        });
        asked += &format!(" [{}]", spelt.collect::<Vec<String>>().join(", "));
    }
    if let Some(schema) = members.get("response_schema").filter(|schema| !matches!(*schema, "{}" | "true")) {
        asked += &format!(" {schema}");
    }
    if let Some(default) = members.get("default") {
        asked += &format!(" [default: {default}]");
    }
    asked
}
