//! Telling others that jobs have ended, at least once each: `arcp serve
//! --on-end` and `--webhook`.
//!
//! The ends are in the store. Beside it a cursor for each receiver says up to
//! which of them it was told; it moves once an end was taken. So nothing is lost
//! by the end of the program, and what was told last before that is perhaps told
//! again, under the same id.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use arcp_host::server_log::log;
use arcp_host::sqlite::lookup::{self, End};
use arcp_proto::id::{JobId, LogPos};
use arcp_proto::json::Object;
use arcp_proto::model::event::{JobEvent, JobResult, Terminal};
use arcp_proto::runtime::Notice;
use arcp_proto::time::UtcMs;
use serde::{Deserialize, Serialize};

use crate::args::Serve;
use crate::exit::Failure;
use crate::notify::Program;
use crate::times::now;
use crate::webhook::Webhook;

/// Files of cursors beside a store.
const LISTENERS: usize = 100;
/// Ends read at once.
const READ: usize = 100;
/// Between two looks for an end that was announced and is not durable yet.
const LOOK: Duration = Duration::from_millis(20);
/// The pauses between attempts: the first, doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// What became of telling somebody.
#[derive(Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It was taken.
    Taken,
    /// It never will be.
    Refused(String),
    /// Perhaps later.
    Later(String),
}

/// Who is told that a job has ended.
pub trait Listener: Send + 'static {
    /// By which its cursor is known again.
    fn name(&self) -> String;

    /// As a log may name it: without secrets.
    fn shown(&self) -> String {
        self.name()
    }

    /// Tells it.
    fn tell(&self, end: &Ended) -> Receipt;
}

/// What is told of an end.
#[derive(Debug)]
pub struct Ended {
    /// The job: the id of this message, too.
    pub job: JobId,
    /// Its agent.
    pub agent: String,
    /// How it ended.
    pub status: &'static str,
    /// All of it, a JSON object.
    pub json: String,
    /// When it ended.
    pub at: UtcMs,
}

impl Ended {
    fn of(end: &End) -> Option<Ended> {
        let JobEvent::Ended(terminal) = &*end.event.event else {
            return None;
        };
        let job = &end.job;
        let (agent, status) = (job.agent.to_string(), terminal.status.as_str());
        let mut json = Object::new();
        json.str("type", "job.ended").display("job_id", job.job).str("agent", &agent).str("status", status);
        json.display("principal", &job.principal)
            .display("created_at", job.created_at)
            .display("ended_at", end.event.at);
        json.str("trace_id", &job.trace);
        write_terminal(&mut json, terminal);
        Some(Ended { job: job.job, agent, status, json: json.done(), at: end.event.at })
    }
}

/// A result in pieces is not told: `arcp result` has it.
fn write_terminal(json: &mut Object, terminal: &Terminal) {
    match &terminal.result {
        Some(JobResult::Inline(result) | JobResult::Streamed { inline: Some(result), .. }) => {
            json.raw("result", result.as_str());
        }
        Some(JobResult::Streamed { inline: None, .. }) | None => {}
    }
    if let Some(error) = &terminal.error {
        json.object("error", |out| {
            out.str("code", error.code.as_str()).str("message", &error.message);
        });
    }
    json.opt_str("summary", terminal.summary.as_deref());
}

/// Announces ends to the threads that tell of them.
#[derive(Debug, Default)]
pub struct Announcer(Vec<Sender<JobId>>);

impl Announcer {
    /// Starts to tell whom the operator has named of what ends from now on, and
    /// of what they were not told yet.
    pub fn start(args: &Serve, store: Option<&Path>) -> Result<Announcer, Failure> {
        let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
        for command in &args.on_end {
            listeners.push(Box::new(Program::new(command)));
        }
        for url in &args.webhooks {
            listeners.push(Box::new(Webhook::new(url, args.webhook_secret.as_deref())?));
        }
        let Some(store) = store else {
            if listeners.is_empty() {
                return Ok(Announcer::default());
            }
            let why = "--on-end and --webhook need a store in a file, where ends wait to be told: give --store FILE";
            return Err(Failure::usage(why));
        };
        let mut senders = Vec::new();
        for listener in listeners {
            let (sender, ended) = channel();
            let cursor = Cursor::of(store, &listener.name())?;
            let (store, patience) = (store.to_path_buf(), args.tell_for);
            let teller = Teller { store, cursor, awaited: Awaited::default(), listener, patience };
            std::thread::Builder::new().name("ends".to_string()).spawn(move || teller.run(&ended))?;
            senders.push(sender);
        }
        Ok(Announcer(senders))
    }

    /// Hears of an end, which is perhaps not durable yet.
    pub fn hear(&self, notice: &Notice) {
        if let Notice::JobEnded { job, .. } = notice {
            for teller in &self.0 {
                // It has ended only with the program.
                let _ = teller.send(*job);
            }
        }
    }
}

/// Tells one listener, one end after the other.
struct Teller {
    store: PathBuf,
    cursor: Cursor,
    awaited: Awaited,
    listener: Box<dyn Listener>,
    /// For how long after an end its listener is told again.
    patience: Duration,
}

/// Ends that were announced and are not durable yet.
#[derive(Debug, Default)]
struct Awaited {
    jobs: BTreeSet<JobId>,
    /// Those that were durable before their announcement was heard.
    early: BTreeSet<JobId>,
}

impl Awaited {
    fn hear(&mut self, job: JobId) {
        if !self.early.remove(&job) {
            self.jobs.insert(job);
        }
    }

    fn found(&mut self, job: JobId) {
        if !self.jobs.remove(&job) {
            self.early.insert(job);
        }
    }
}

impl Teller {
    fn run(mut self, ended: &Receiver<JobId>) {
        loop {
            if let Err(why) = self.catch_up() {
                log(format_args!("arcp: {}: {why}", self.listener.shown()));
                std::thread::sleep(FIRST_PAUSE);
            }
            let heard = if self.awaited.jobs.is_empty() {
                ended.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                ended.recv_timeout(LOOK)
            };
            match heard {
                Ok(job) => self.awaited.hear(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tells of everything that is in the store.
    fn catch_up(&mut self) -> Result<(), String> {
        loop {
            let (ends, upto) = lookup::ends(&self.store, self.cursor.after, READ).map_err(|error| error.to_string())?;
            for end in &ends {
                if let Some(ended) = Ended::of(end) {
                    self.tell(&ended);
                }
                self.awaited.found(end.job.job);
                self.cursor.move_to(end.at).map_err(|error| error.to_string())?;
            }
            if ends.len() < READ {
                self.cursor.after = upto;
                return Ok(());
            }
        }
    }

    /// Who takes nothing holds up what ended later, but not for ever.
    fn tell(&self, ended: &Ended) {
        let (mut pause, name) = (FIRST_PAUSE, self.listener.shown());
        let until = ended.at.plus(self.patience);
        loop {
            match self.listener.tell(ended) {
                Receipt::Taken => return,
                Receipt::Refused(why) => {
                    log(format_args!("arcp: {name} was not told that {} ended: {why}", ended.job));
                    return;
                }
                Receipt::Later(why) if now() >= until => {
                    log(format_args!(
                        "arcp: {name} was not told that {} ended, and will not be (--tell-for): {why}",
                        ended.job
                    ));
                    return;
                }
                Receipt::Later(why) => {
                    let left = Duration::from_millis(until.0.saturating_sub(now().0));
                    let wait = pause.min(left);
                    log(format_args!(
                        "arcp: {name} could not be told that {} ended: {why}; again in {wait:?}",
                        ended.job
                    ));
                    std::thread::sleep(wait);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }
}

/// Up to where a listener was told.
#[derive(Debug)]
struct Cursor {
    file: PathBuf,
    listener: String,
    after: LogPos,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    listener: String,
    after: LogPos,
}

impl Cursor {
    /// A listener that is new is told of what ends from now on.
    fn of(store: &Path, listener: &str) -> Result<Cursor, Failure> {
        let kept = (0..LISTENERS).map(|n| store.with_added_extension(format!("told-{n}")));
        for file in kept {
            match fs::read_to_string(&file) {
                Ok(text) => {
                    let kept: Option<Kept> = serde_json::from_str(&text).ok();
                    if let Some(kept) = kept.filter(|kept| kept.listener == listener) {
                        return Ok(Cursor { file, listener: kept.listener, after: kept.after });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let after = latest(store)?;
                    let mut cursor = Cursor { file, listener: listener.to_string(), after };
                    cursor.move_to(after)?;
                    return Ok(cursor);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::usage(
            "100 receivers have a cursor beside this store: remove the files told-N of those that are no more",
        ))
    }

    fn move_to(&mut self, at: LogPos) -> io::Result<()> {
        self.after = at;
        let fresh = self.file.with_added_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        let kept = Kept { listener: self.listener.clone(), after: at };
        file.write_all(serde_json::to_string(&kept)?.as_bytes())?;
        file.sync_data()?;
        fs::rename(&fresh, &self.file)
    }
}

/// Where the log of a store ends; it may be new.
fn latest(store: &Path) -> Result<LogPos, Failure> {
    let mut after = LogPos(0);
    while let Ok((ends, upto)) = lookup::ends(store, after, READ) {
        after = upto;
        if ends.len() < READ {
            break;
        }
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_found_before_it_is_heard_of_is_not_waited_for() {
        let job = JobId::parse("job_01M7ZZRN1VGKGK3DR3ECHQNHG2").expect("an id");
        let mut awaited = Awaited::default();
        awaited.found(job);
        awaited.hear(job);
        assert!(awaited.jobs.is_empty() && awaited.early.is_empty());
        awaited.hear(job);
        assert!(awaited.jobs.contains(&job));
        awaited.found(job);
        assert!(awaited.jobs.is_empty() && awaited.early.is_empty());
    }
}
