//! Notifies receivers of what has happened, at least once each: `arcp serve --on-end`, `--webhook` and `--on-prompt`.
//!
//! The events are in the store. Beside it is a cursor file for each receiver: the position up to which the receiver
//! was told. The cursor moves once a message was taken. So nothing is lost when the program ends, and the last message
//! before that may be sent again, with the same id.

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

/// The most cursor files beside a store.
const LISTENERS: usize = 100;
/// Records that are read at once.
pub const READ: usize = 100;
/// The time between two looks for a record that was announced and is not durable yet.
const LOOK: Duration = Duration::from_millis(20);
/// How long to look at that rate, and the time between two looks after that.
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(10);
/// The pauses between attempts: the first, doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// The outcome of a message to a receiver.
#[derive(Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The receiver took the message.
    Taken,
    /// The receiver will never take it.
    Refused(String),
    /// The receiver may take it later.
    Later(String),
}

/// A receiver.
pub trait Listener: Send + 'static {
    /// The name under which its cursor is kept.
    fn name(&self) -> String;

    /// The name for a log, without secrets.
    fn shown(&self) -> String {
        self.name()
    }

    /// Sends a message.
    fn tell(&self, news: &News) -> Receipt;
}

/// A message about one event.
#[derive(Debug)]
pub struct News {
    /// The id of the message.
    pub id: String,
    /// The event in words, for a log.
    pub what: String,
    /// The most important parts, as environment variables of a program.
    pub variables: Vec<(&'static str, String)>,
    /// The whole message, a JSON object.
    pub json: String,
    /// When the event happened.
    pub at: UtcMs,
    /// The time after which the message is of no use.
    pub until: Option<UtcMs>,
}

/// The messages that a record of a job gives.
#[derive(Debug)]
pub struct Found {
    /// The position of the record.
    pub at: LogPos,
    /// The job.
    pub job: JobId,
    /// The number of the last event in it that a notice announces, counted for each job; the end of a job has the
    /// number 1.
    pub upto: u32,
    /// The messages.
    pub news: Vec<News>,
}

/// The events that a receiver is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Ended jobs.
    Ends,
    /// Questions that jobs ask people.
    Questions,
}

impl Topic {
    /// The events of this topic after a position in the log, at most [`READ`] records, and the position up to which
    /// the log was read.
    fn read(self, store: &Path, after: LogPos) -> Result<(Vec<Found>, LogPos), String> {
        let read = match self {
            Topic::Ends => ends::read(store, after),
            Topic::Questions => asked::read(store, after),
        };
        read.map_err(|error| error.to_string())
    }

    /// The event that a notice announces: its job and its number.
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

/// Announces events to the threads that send messages.
#[derive(Debug, Default)]
pub struct Announcer(Vec<(Topic, Sender<(JobId, u32)>)>);

impl Announcer {
    /// Starts a thread for each receiver that the operator named. It sends what happens from this time on, and what
    /// the receiver was not told before.
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

    /// Takes in a notice. Its event may not be durable yet.
    pub fn hear(&self, notice: &Notice) {
        for (topic, teller) in &self.0 {
            if let Some(announced) = topic.of(notice) {
                // The thread ends only with the program.
                let _ = teller.send(announced);
            }
        }
    }
}

/// Sends the messages for one receiver, one after the other.
struct Teller {
    store: PathBuf,
    topic: Topic,
    cursor: Cursor,
    awaited: Awaited,
    listener: Box<dyn Listener>,
    /// For how long after an event its message is retried.
    patience: Duration,
}

/// Announced events that were not found in the store yet, with the time of the announcement. An event that was found
/// before its announcement is looked for in vain, until the announcement is too old.
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

    /// How long to wait until the next look.
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

    /// Sends everything that the store has after the cursor.
    fn catch_up(&mut self) -> Result<(), String> {
        loop {
            let (records, upto) = self.topic.read(&self.store, self.cursor.after)?;
            for Found { at, job, upto, news } in &records {
                news.iter().for_each(|news| self.tell(news));
                self.awaited.found(*job, *upto);
                // Records without messages need no stored cursor.
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

    /// Sends one message, with retries. A receiver that takes nothing delays later messages, but not for ever.
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

/// The position up to which a receiver was told.
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
    /// The cursor of a receiver. A new receiver is told only of later events.
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

/// The last position in the log of a store, which may be new.
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

/// Checks that all receivers can be told.
pub fn check(args: &Serve, keeps: bool) -> Result<(), Failure> {
    if listeners(args)?.is_empty() || keeps {
        return Ok(());
    }
    let why = "--on-end, --webhook and --on-prompt need a store in a file, where what is told waits: \
               give --store FILE";
    Err(Failure::usage(why))
}

/// A receiver and its topic.
type Told = (Topic, Box<dyn Listener>);

/// The receivers that the options name.
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
