//! `arcp inbox`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use arcp_blocking::inbox::next_prompt;
use arcp_blocking::{Client, ClientError, Job, JobUpdate};
use arcp_host::stderr::say;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Object;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::ListQuery;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_end};
use crate::follow::interrupted;
use crate::list::all;
use crate::output::{self, Cell, Format, Printing, Row};
use crate::question::{Closed, Question};
use crate::times::local;
use crate::watch::from_now;

const HEADER: [&str; 5] = ["QUESTION", "KIND", "JOB", "EXPIRES", "ASKS"];
/// Between two looks for an interrupt.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks for jobs that have begun to ask, at a runtime that does not say so.
const POLL: Duration = Duration::from_secs(1);

/// List the open questions of jobs, oldest job first.
///
/// `arcp answer`, `approve` and `deny` answer it.
#[derive(Debug, clap::Args)]
pub struct Inbox {
    /// Keep running: show each new question and its outcome, until Ctrl-C. -o json prints
    /// one object per line, like -o jsonl.
    #[arg(long, short)]
    pub follow: bool,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Lists the questions that nobody has answered.
pub fn run(args: &Inbox) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    if args.follow {
        // What goes on is no single document: it is one for each question, and its end.
        let output = if args.printing.output == Format::Json { Format::Jsonl } else { args.printing.output };
        return follow(&client, Printing { output, ..args.printing });
    }
    let mut rows = Vec::new();
    for job in all(&client, blocked())? {
        rows.extend(open_in(&client, &job.job)?.iter().map(|question| row(&job, question, None)));
    }
    output::rows(args.printing, &HEADER, &rows)?;
    Ok(Exit::Success)
}

/// Who waits for people is blocked.
fn blocked() -> ListQuery {
    ListQuery { status: vec![JobStatus::Blocked], ..ListQuery::default() }
}

/// Watches a job from now on. `None`: there is no such job any more.
fn watch(client: &Client, job: &WireId) -> Result<Option<Job>, ClientError> {
    match client.watch(from_now(job.clone())) {
        Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::JobNotFound => Ok(None),
        watched => watched.map(Some),
    }
}

/// What a job asks that nobody has answered. Its session can ask once for each
/// job: nothing is shown to it twice.
pub fn open_in(client: &Client, job: &WireId) -> Result<Vec<Question>, ClientError> {
    let Some(watched) = watch(client, job)? else {
        return Ok(Vec::new());
    };
    let mut open: Vec<Question> = Vec::new();
    let mut settled = false;
    while !settled {
        // What is open is shown before anything that is asked later is answered, on
        // one connection.
        client.list(ListQuery { limit: Some(1), ..ListQuery::default() })?;
        settled = true;
        while let Some(update) = watched.next_update_in(Duration::ZERO) {
            match update {
                JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } => {
                    if let Some(question) = Question::of(&kind, &body) {
                        open.retain(|known| known.id != question.id);
                        open.push(question);
                    } else if let Some(closed) = Closed::of(&kind, &body) {
                        open.retain(|question| question.id != closed.id);
                    }
                }
                JobUpdate::Reconnected { .. } => settled = false,
                JobUpdate::Event { .. }
                | JobUpdate::Ended { .. }
                | JobUpdate::Reconnecting { .. }
                | JobUpdate::Missed { .. }
                | JobUpdate::Gone(_)
                | JobUpdate::Lost(_) => {}
            }
        }
    }
    client.unwatch(job.clone())?;
    Ok(open)
}

/// Shows what is asked, and what becomes of it, until it is interrupted.
fn follow(client: &Client, printing: Printing) -> Result<Exit, Failure> {
    let interrupted = interrupted()?;
    let (teller, told) = channel();
    let shown = Shown { printing, header: false, noted: String::new() };
    let mut following = Following { client, shown, asking: BTreeMap::new(), teller, looks_at: None };
    following.await_prompt()?;
    loop {
        if interrupted.load(Ordering::SeqCst) {
            return Ok(Exit::Interrupted);
        }
        match told.recv_timeout(LOOK) {
            Ok(News::Asked(Ok(()))) => {
                // What is asked while this looks is told of by the next answer.
                following.await_prompt()?;
                following.look()?;
            }
            Ok(News::Asked(Err(ClientError::Refused(_)))) => following.looks_at = Some(Instant::now()),
            Ok(News::Asked(Err(error))) => return Err(error.into()),
            Ok(News::Of(job, update)) => following.hear(&job, update)?,
            Err(_) => {}
        }
        if following.looks_at.is_some_and(|at| at <= Instant::now()) {
            following.looks_at = Some(Instant::now() + POLL);
            following.look()?;
        }
    }
}

/// What is told to who follows.
enum News {
    /// People are asked something, somewhere.
    Asked(Result<(), ClientError>),
    /// Something has come of a job that asks.
    Of(WireId, JobUpdate),
}

/// The jobs that have asked something and are not over.
struct Following<'a> {
    client: &'a Client,
    shown: Shown,
    asking: BTreeMap<WireId, Asking>,
    teller: Sender<News>,
    /// When it looks by itself, at a runtime that does not say when something is asked.
    looks_at: Option<Instant>,
}

/// A job that has asked something.
struct Asking {
    job: JobSummary,
    /// Every question that was shown. A new session is shown again what is open.
    asked: Vec<String>,
    open: Vec<String>,
}

impl Following<'_> {
    /// Waits for the next question, aside.
    fn await_prompt(&self) -> Result<(), Failure> {
        let (asked, teller) = (next_prompt(self.client)?, self.teller.clone());
        // Whoever drops the client ends it.
        let wait = move || asked.recv().is_ok_and(|answer| teller.send(News::Asked(answer)).is_ok());
        std::thread::Builder::new().spawn(wait)?;
        Ok(())
    }

    /// Finds jobs that ask for the first time. Each is watched until its end: what it asks
    /// next is shown at once.
    fn look(&mut self) -> Result<(), Failure> {
        for job in all(self.client, blocked())? {
            if !self.asking.contains_key(&job.job)
                && let Some(updates) = watch(self.client, &job.job)?
            {
                let (id, teller) = (job.job.clone(), self.teller.clone());
                let tell = move || updates.updates().all(|update| teller.send(News::Of(id.clone(), update)).is_ok());
                std::thread::Builder::new().spawn(tell)?;
                let asking = Asking { asked: Vec::new(), open: Vec::new(), job };
                self.asking.insert(asking.job.job.clone(), asking);
            }
        }
        Ok(())
    }

    /// Shows what has come of one that there is.
    fn hear(&mut self, id: &WireId, update: JobUpdate) -> Result<(), Failure> {
        let Following { shown, asking, .. } = self;
        let Some(job) = asking.get_mut(id) else {
            return Ok(()); // It is over.
        };
        let over = match update {
            JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } => {
                if let Some(question) = Question::of(&kind, &body) {
                    job.ask(shown, &question)?;
                } else if let Some(closed) = Closed::of(&kind, &body) {
                    job.close(shown, &closed)?;
                }
                None
            }
            JobUpdate::Event { .. } => None,
            JobUpdate::Ended { .. } => Some("the job is over"),
            JobUpdate::Gone(_) => Some("the job is not shown any more"),
            JobUpdate::Missed { events } => {
                shown.note(format!("{events} events of {id} were missed"));
                None
            }
            // The same for each of them.
            JobUpdate::Reconnecting { attempt, why, .. } => {
                shown.note(format!("reconnecting (attempt {attempt}): {why}"));
                None
            }
            JobUpdate::Reconnected { .. } => {
                shown.note("reconnected".to_string());
                None
            }
            JobUpdate::Lost(end) => return Err(Failure::new(of_end(&end), end.to_string())),
        };
        if let Some(why) = over
            && let Some(mut job) = asking.remove(id)
        {
            job.withdraw(shown, why)?;
        }
        Ok(())
    }
}

impl Asking {
    fn ask(&mut self, shown: &mut Shown, question: &Question) -> io::Result<()> {
        if self.asked.contains(&question.id) {
            return Ok(());
        }
        self.asked.push(question.id.clone());
        self.open.push(question.id.clone());
        shown.put(row(&self.job, question, Some("asked")))
    }

    fn close(&mut self, shown: &mut Shown, closed: &Closed) -> io::Result<()> {
        let open = self.open.len();
        self.open.retain(|id| *id != closed.id);
        // What was not shown is closed in silence.
        if self.open.len() == open { Ok(()) } else { shown.end(closed_row(&self.job, closed)) }
    }

    /// Nothing more is heard of the job.
    fn withdraw(&mut self, shown: &mut Shown, why: &str) -> io::Result<()> {
        for id in std::mem::take(&mut self.open) {
            let closed = Closed { id, reason: "withdrawn".to_string(), message: why.to_string(), by: None };
            shown.end(closed_row(&self.job, &closed))?;
        }
        Ok(())
    }
}

/// What was printed.
struct Shown {
    printing: Printing,
    /// Whether the header was.
    header: bool,
    /// The last note.
    noted: String,
}

impl Shown {
    /// Says something aside, once in a row.
    fn note(&mut self, note: String) {
        if self.noted != note {
            say(format_args!("arcp: {note}"));
            self.noted = note;
        }
    }

    fn put(&mut self, row: Row) -> io::Result<()> {
        let no_header = self.printing.no_header || std::mem::replace(&mut self.header, true);
        output::rows(Printing { no_header, ..self.printing }, &HEADER, &[row])
    }

    /// An id alone says that a question is there, and nothing of its end.
    fn end(&mut self, row: Row) -> io::Result<()> {
        if self.printing.output == Format::Id { Ok(()) } else { self.put(row) }
    }
}

/// A question; `event`: what has happened to it, among others.
fn row(job: &JobSummary, question: &Question, event: Option<&str>) -> Row {
    let kind = question.kind.as_str();
    let mut json = Object::new();
    json.opt_str("type", event);
    json.str("kind", kind).str("job_id", job.job.as_str()).str("agent", &job.agent);
    json.opt_str("owner", job.owner.as_deref());
    for (name, value) in &question.members().0 {
        json.member(name, value);
    }
    Row {
        id: question.id.clone(),
        cells: vec![
            Cell::from(&question.id),
            Cell::from(kind),
            Cell::from(job.job.as_str()),
            Cell::from(question.expires_at().map_or_else(|| "-".to_string(), local)),
            Cell::from(question.line()),
        ],
        json: json.done(),
    }
}

/// What became of a question.
fn closed_row(job: &JobSummary, closed: &Closed) -> Row {
    let mut json = Object::new();
    json.str("type", "closed").str("job_id", job.job.as_str()).str("prompt_id", &closed.id);
    json.str("reason", &closed.reason).str("message", &closed.message);
    json.opt_str("responded_by", closed.by.as_deref());
    Row {
        id: closed.id.clone(),
        cells: vec![
            Cell::from(&closed.id),
            Cell::from(&closed.reason),
            Cell::from(job.job.as_str()),
            Cell::from("-"),
            Cell::from(&closed.message),
        ],
        json: json.done(),
    }
}
