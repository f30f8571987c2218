//! Telling others what has happened, at least once each: `arcp serve --on-end`,
//! `--webhook` and `--on-prompt`.
//!
//! What has happened is in the store. Beside it a cursor for each receiver says up
//! to which of it that was told; it moves once something was taken. So nothing is
//! lost by the end of the program, and what was told last before that is perhaps
//! told again, under the same id.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use arcp_host::client::Trust;
use arcp_host::replace_file::replace_file;
use arcp_host::server_log::log;
use arcp_proto::id::{JobId, LogPos};
use arcp_proto::runtime::Notice;
use arcp_proto::time::UtcMs;
use serde::{Deserialize, Serialize};

use crate::args::Serve;
use crate::exit::Failure;
use crate::notify::Program;
use crate::times::now;
use crate::webhook::Webhook;
use crate::{asked, ends};

/// Files of cursors beside a store.
const LISTENERS: usize = 100;
/// Records read at once.
pub const READ: usize = 100;
/// Between two looks for what was announced and is not durable yet.
const LOOK: Duration = Duration::from_millis(20);
/// For how long it is looked for so often, and how often then.
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(10);
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

/// Who is told what has happened.
pub trait Listener: Send + 'static {
    /// By which its cursor is known again.
    fn name(&self) -> String;

    /// As a log may name it: without secrets.
    fn shown(&self) -> String {
        self.name()
    }

    /// Tells it.
    fn tell(&self, news: &News) -> Receipt;
}

/// One thing that has happened.
#[derive(Debug)]
pub struct News {
    /// The id of the message about it.
    pub id: String,
    /// What it is, for a log.
    pub what: String,
    /// The most important of it, as a program gets it in its environment.
    pub variables: Vec<(&'static str, String)>,
    /// All of it, a JSON object.
    pub json: String,
    /// When it happened.
    pub at: UtcMs,
    /// Until when anybody needs to be told.
    pub until: Option<UtcMs>,
}

/// What a record of a job says.
#[derive(Debug)]
pub struct Found {
    /// Where it stands.
    pub at: LogPos,
    /// The job.
    pub job: JobId,
    /// How many of what is announced it says; an end is announced as 1.
    pub upto: u32,
    /// What is told of it.
    pub news: Vec<News>,
}

/// What others are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// That jobs have ended.
    Ends,
    /// What jobs ask people.
    Questions,
}

impl Topic {
    /// What a store says of it after a place in its log, and the place up to which
    /// that is all, unless it is [`READ`] records.
    fn read(self, store: &Path, after: LogPos) -> Result<(Vec<Found>, LogPos), String> {
        let read = match self {
            Topic::Ends => ends::read(store, after),
            Topic::Questions => asked::read(store, after),
        };
        read.map_err(|error| error.to_string())
    }

    /// What a notice announces: of which job, and the how many-th of it.
    fn of(self, notice: &Notice) -> Option<(JobId, u32)> {
        match notice {
            Notice::JobEnded { job, .. } if self == Topic::Ends => Some((*job, 1)),
            Notice::PeopleAsked { job, question } if self == Topic::Questions => Some((*job, *question)),
            Notice::JobEnded { .. }
            | Notice::PeopleAsked { .. }
            | Notice::PolicyRefused { .. }
            | Notice::FiringRefused { .. }
            | Notice::SessionOpened { .. }
            | Notice::SessionResumed { .. }
            | Notice::SessionDetached { .. }
            | Notice::SessionEnded { .. }
            | Notice::Refused { .. }
            | Notice::JobAccepted { .. }
            | Notice::JobWatched { .. }
            | Notice::ResumeRefused { .. }
            | Notice::Audited(_)
            | Notice::ExtensionDropped { .. }
            | Notice::ConnIdInUse { .. }
            | Notice::CredentialsNotRevoked { .. }
            | Notice::CredentialsRevoked { .. }
            | Notice::StoreFailed
            | Notice::StoreRecovered => None,
        }
    }
}

/// Announces what has happened to the threads that tell of it.
#[derive(Debug, Default)]
pub struct Announcer(Vec<(Topic, Sender<(JobId, u32)>)>);

impl Announcer {
    /// Starts to tell whom the operator has named of what happens from now on, and
    /// of what they were not told yet.
    pub fn start(args: &Serve, store: Option<&Path>) -> Result<Announcer, Failure> {
        check(args, store.is_some())?;
        let listeners = listeners(args)?;
        let Some(store) = store else {
            return Ok(Announcer::default());
        };
        let mut senders = Vec::new();
        for (topic, listener) in listeners {
            let (sender, heard) = channel();
            let cursor = Cursor::of(store, topic, &listener.name())?;
            let (store, patience) = (store.to_path_buf(), args.telling.tell_for);
            let teller = Teller { store, topic, cursor, awaited: Awaited::default(), listener, patience };
            std::thread::Builder::new().name("telling".to_string()).spawn(move || teller.run(&heard))?;
            senders.push((topic, sender));
        }
        Ok(Announcer(senders))
    }

    /// Hears of something that is perhaps not durable yet.
    pub fn hear(&self, notice: &Notice) {
        for (topic, teller) in &self.0 {
            if let Some(announced) = topic.of(notice) {
                // It has ended only with the program.
                let _ = teller.send(announced);
            }
        }
    }
}

/// Tells one listener, one thing after the other.
struct Teller {
    store: PathBuf,
    topic: Topic,
    cursor: Cursor,
    awaited: Awaited,
    listener: Box<dyn Listener>,
    /// For how long after it happened its listener is told again.
    patience: Duration,
}

/// What was announced of jobs and is perhaps not durable yet, and when. What was
/// found before it was heard of is looked for a little in vain.
#[derive(Debug, Default)]
struct Awaited(BTreeMap<JobId, (u32, Instant)>);

impl Awaited {
    fn hear(&mut self, (job, n): (JobId, u32)) {
        self.0.insert(job, (n, Instant::now()));
    }

    fn found(&mut self, job: JobId, upto: u32) {
        if self.0.get(&job).is_some_and(|(n, _)| *n <= upto) {
            self.0.remove(&job);
        }
    }

    /// For how long to wait until the next look.
    fn pause(&mut self) -> Duration {
        self.0.retain(|_, (_, heard)| heard.elapsed() < SOON);
        if self.0.is_empty() { LATER } else { LOOK }
    }
}

impl Teller {
    fn run(mut self, heard: &Receiver<(JobId, u32)>) {
        loop {
            if let Err(why) = self.catch_up() {
                log(format_args!("arcp: {}: {why}", self.listener.shown()));
                std::thread::sleep(FIRST_PAUSE);
            }
            match heard.recv_timeout(self.awaited.pause()) {
                Ok(announced) => self.awaited.hear(announced),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tells of everything that is in the store.
    fn catch_up(&mut self) -> Result<(), String> {
        loop {
            let (records, upto) = self.topic.read(&self.store, self.cursor.after)?;
            for Found { at, job, upto, news } in &records {
                news.iter().for_each(|news| self.tell(news));
                self.awaited.found(*job, *upto);
                // Where nothing was told, nothing is told again.
                if news.is_empty() {
                    self.cursor.after = *at;
                } else {
                    self.cursor.move_to(*at).map_err(|error| error.to_string())?;
                }
            }
            if records.len() < READ {
                self.cursor.after = upto;
                return Ok(());
            }
        }
    }

    /// Who takes nothing holds up what happened later, but not for ever.
    fn tell(&self, news: &News) {
        let (mut pause, name, what) = (FIRST_PAUSE, self.listener.shown(), &news.what);
        let until = news.until.into_iter().chain([news.at.plus(self.patience)]).min().unwrap_or(news.at);
        loop {
            match self.listener.tell(news) {
                Receipt::Taken => return,
                Receipt::Refused(why) => {
                    log(format_args!("arcp: {name} was not told that {what}: {why}"));
                    return;
                }
                Receipt::Later(why) if now() >= until => {
                    log(format_args!("arcp: {name} was not told that {what}, and will not be (--tell-for): {why}"));
                    return;
                }
                Receipt::Later(why) => {
                    let left = Duration::from_millis(until.0.saturating_sub(now().0));
                    let wait = pause.min(left);
                    log(format_args!("arcp: {name} could not be told that {what}: {why}; again in {wait:?}"));
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
    /// A listener that is new is told of what happens from now on.
    fn of(store: &Path, topic: Topic, listener: &str) -> Result<Cursor, Failure> {
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
                    let after = latest(store, topic);
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
        let kept = Kept { listener: self.listener.clone(), after: at };
        replace_file(&self.file, 0o600, serde_json::to_string(&kept)?.as_bytes())
    }
}

/// Up to where the log of a store has something to tell; it may be new.
fn latest(store: &Path, topic: Topic) -> LogPos {
    let mut after = LogPos(0);
    while let Ok((records, upto)) = topic.read(store, after) {
        after = upto;
        if records.len() < READ {
            break;
        }
    }
    after
}

/// Whether everybody who is to be told can be.
pub fn check(args: &Serve, keeps: bool) -> Result<(), Failure> {
    if listeners(args)?.is_empty() || keeps {
        return Ok(());
    }
    let why = "--on-end, --webhook and --on-prompt need a store in a file, where what is told waits: \
               give --store FILE";
    Err(Failure::usage(why))
}

/// Somebody who is to be told, and of what.
type Told = (Topic, Box<dyn Listener>);

/// Everybody who is to be told.
fn listeners(args: &Serve) -> Result<Vec<Told>, Failure> {
    let mut listeners: Vec<Told> = Vec::new();
    for command in &args.telling.on_end {
        listeners.push((Topic::Ends, Box::new(Program::on_end(command))));
    }
    let trust = args.telling.webhook_ca.clone().map(Trust::Authorities).unwrap_or_default();
    for url in &args.telling.webhooks {
        listeners.push((Topic::Ends, Box::new(Webhook::new(url, args.telling.webhook_secret.as_deref(), &trust)?)));
    }
    for command in &args.telling.on_prompt {
        listeners.push((Topic::Questions, Box::new(Program::on_prompt(command))));
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_before_an_announcement_does_not_end_the_look_for_it() {
        let job = JobId::parse("job_01M7ZZRN1VGKGK3DR3ECHQNHG2").expect("an id");
        let mut awaited = Awaited::default();
        awaited.hear((job, 2));
        awaited.found(job, 1);
        assert_eq!(awaited.pause(), LOOK);
        awaited.found(job, 2);
        assert_eq!(awaited.pause(), LATER);
    }
}
