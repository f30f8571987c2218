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
/// The time between two looks for an interrupt.
const LOOK: Duration = Duration::from_millis(100);
/// The time between two listings of blocked jobs, at a runtime that does not report new questions.
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

/// Lists the open questions.
pub fn run(args: &Inbox) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    if args.follow {
        // With `--follow` the output is no single JSON document, but one for each question and for its end.
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

/// Jobs that wait for people are blocked.
fn blocked() -> ListQuery {
    ListQuery { status: vec![JobStatus::Blocked], ..ListQuery::default() }
}

/// Watches a job from its present end on. `None` if the job does not exist any more.
fn watch(client: &Client, job: &WireId) -> Result<Option<Job>, ClientError> {
    match client.watch(from_now(job.clone())) {
        Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::JobNotFound => Ok(None),
        watched => watched.map(Some),
    }
}

/// The open questions of a job. Works once for each job and session: the runtime does not show a session the same
/// question twice.
pub fn open_in(client: &Client, job: &WireId) -> Result<Vec<Question>, ClientError> {
    let Some(watched) = watch(client, job)? else {
        return Ok(Vec::new());
    };
    let mut open: Vec<Question> = Vec::new();
    let mut settled = false;
    while !settled {
        // On one connection, the runtime sends the open questions before the answer to a later request.
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

/// Shows new questions and their outcomes until it is interrupted.
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
                // Wait first, then look: a question that is asked during the look is reported by the next answer.
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

/// What the follower is told by its threads.
enum News {
    /// A job has asked a question; or the wait for one has failed.
    Asked(Result<(), ClientError>),
    /// An update of a job that has asked a question.
    Of(WireId, JobUpdate),
}

/// The unfinished jobs that have asked questions.
struct Following<'a> {
    client: &'a Client,
    shown: Shown,
    asking: BTreeMap<WireId, Asking>,
    teller: Sender<News>,
    /// The time of the next look, at a runtime that does not report new questions.
    looks_at: Option<Instant>,
}

/// A job that has asked a question.
struct Asking {
    job: JobSummary,
    /// The ids of all questions that were shown: a new session is sent the open ones again.
    asked: Vec<String>,
    open: Vec<String>,
}

impl Following<'_> {
    /// Waits for the next question, on a thread.
    fn await_prompt(&self) -> Result<(), Failure> {
        let (asked, teller) = (next_prompt(self.client)?, self.teller.clone());
        // The thread ends when the client is dropped.
        let wait = move || asked.recv().is_ok_and(|answer| teller.send(News::Asked(answer)).is_ok());
        std::thread::Builder::new().spawn(wait)?;
        Ok(())
    }

    /// Finds jobs that ask for the first time, and watches each until it ends, so that its later questions are shown
    /// at once.
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

    /// Shows an update of a watched job.
    fn hear(&mut self, id: &WireId, update: JobUpdate) -> Result<(), Failure> {
        let Following { shown, asking, .. } = self;
        let Some(job) = asking.get_mut(id) else {
            return Ok(()); // The job has ended.
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
            // Each watched job reports the same reconnection.
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
        // The end of a question that was not shown is not shown either.
        if self.open.len() == open { Ok(()) } else { shown.end(closed_row(&self.job, closed)) }
    }

    /// Closes the open questions of a job that cannot be watched any more.
    fn withdraw(&mut self, shown: &mut Shown, why: &str) -> io::Result<()> {
        for id in std::mem::take(&mut self.open) {
            let closed = Closed { id, reason: "withdrawn".to_string(), message: why.to_string(), by: None };
            shown.end(closed_row(&self.job, &closed))?;
        }
        Ok(())
    }
}

/// What was printed so far.
struct Shown {
    printing: Printing,
    /// Whether the header was printed.
    header: bool,
    /// The last note, which is not repeated.
    noted: String,
}

impl Shown {
    /// Prints a note on stderr, unless it is the same as the last one.
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

    /// With ids as the output, only new questions are printed, and no ends.
    fn end(&mut self, row: Row) -> io::Result<()> {
        if self.printing.output == Format::Id { Ok(()) } else { self.put(row) }
    }
}

/// The row of a question; `event` says what has happened to it, if events are shown.
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

/// The row of a question that is not open any more.
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
