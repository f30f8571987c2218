//! The core and everything it asks for that is not a connection.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use arcp_host::agent::Inbox;
use arcp_host::auth::Authenticator;
use arcp_host::clock::Clock;
use arcp_host::registry::Registry;
use arcp_host::runner::Runner;
use arcp_host::server_log::log;
use arcp_host::store::Store;
use arcp_proto::error::ConfigError;
use arcp_proto::id::{ConnId, LogPos, OpId, SessionId};
use arcp_proto::model::request::{Credential, Extension};
use arcp_proto::record::Recorder;
use arcp_proto::runtime::{Batch, CloseReason, Config, Input, Notice, Output, Runtime, Stats};

use crate::readers::{Readers, Wanted};

/// Everything a server needs besides its transport.
pub struct Host {
    /// The runtime's configuration. What it says of agents is taken from
    /// `registry`, and of history from `store`.
    pub config: Config,
    /// The agents.
    pub registry: Registry,
    /// Who judges credentials.
    pub authenticator: Arc<dyn Authenticator>,
    /// Where records are made durable.
    pub store: Box<dyn Store>,
    /// Where to write a recording. It will hold secrets.
    pub record: Option<File>,
    /// Who is told what happens.
    pub observer: Option<Observer>,
    /// Who takes messages of the extensions in `config.extensions`.
    pub extensions: Option<ExtensionTaker>,
}

/// Takes notices.
pub type Observer = Box<dyn FnMut(&Notice) + Send>;

/// Takes messages of extensions, on the loop: it must not wait.
pub type ExtensionTaker = Box<dyn FnMut(SessionId, Extension) + Send>;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The system did not give what was asked of it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What was kept cannot be read.
    #[error("{0}")]
    Store(#[from] arcp_host::store::StoreError),
}

/// Where connections are written to.
pub(crate) trait Links {
    fn send(&mut self, conn: ConnId, frame: String);
    fn close(&mut self, conn: ConnId, reason: CloseReason);
    fn pause(&mut self, conn: ConnId, paused: bool);
    fn admit(&mut self, conn: ConnId);
    fn fragment(&mut self, conn: ConnId, bytes: usize);
}

/// Wakes the loop after something was put into its inbox.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

pub(crate) struct Engine {
    runtime: Runtime,
    clock: Clock,
    runner: Runner,
    authenticator: Arc<dyn Authenticator>,
    store: Committer,
    readers: Option<Readers>,
    /// What is committed together.
    group: Vec<Batch>,
    recorder: Option<(Recorder, File)>,
    observer: Option<Observer>,
    extensions: Option<ExtensionTaker>,
    pub(crate) inbox: Receiver<Input>,
    sender: Arc<Mailbox>,
}

/// Agents, the store and signals put inputs in here. What agents put is
/// bounded by their credit.
pub(crate) struct Mailbox {
    sender: Sender<Input>,
    wake: Box<dyn Wake>,
}

impl Inbox for Mailbox {
    fn put(&self, input: Input) {
        // The loop is gone only when everything ends.
        if self.sender.send(input).is_ok() {
            self.wake.wake();
        }
    }
}

enum Committer {
    Instant(Box<dyn Store>),
    Thread(Sender<Vec<Batch>>),
}

impl Engine {
    pub(crate) fn new(host: Host, wake: Box<dyn Wake>) -> Result<Engine, HostError> {
        let mut clock = Clock::new();
        let now = clock.now();
        let seeds = arcp_host::entropy::seeds()?;
        let (sender, inbox) = channel();
        let sender = Arc::new(Mailbox { sender, wake });
        let mut store = host.store;
        let history = store.history()?;
        let config = Config {
            agents: host.registry.entries(),
            restartable_agents: host.registry.restartable().clone(),
            history: history.is_some(),
            ..host.config
        };
        let mut recorder = host.record.map(|file| (Recorder::new(&config, &seeds, now), file));
        let mut runtime = Runtime::new(config, seeds, now)?;
        let mut restore = |input: Input| {
            if let Some((recorder, _)) = &mut recorder {
                recorder.input(now, &input);
            }
            runtime.handle(now, input);
        };
        let last = store.load(&mut |at, record| restore(Input::Restore { at, record }))?;
        if last > LogPos(0) {
            restore(Input::Restored { last });
        }
        let store = if store.is_instant() {
            Committer::Instant(store)
        } else {
            Committer::Thread(commit_thread(store, sender.clone())?)
        };
        let readers = history.map(|history| Readers::new(history, sender.clone()));
        Ok(Engine {
            runtime,
            clock,
            runner: Runner::new(host.registry, sender.clone()),
            authenticator: host.authenticator,
            store,
            readers,
            group: Vec::new(),
            recorder,
            observer: host.observer,
            extensions: host.extensions,
            inbox,
            sender,
        })
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        self.sender.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.runtime.stats()
    }

    pub(crate) fn running_agents(&self) -> usize {
        self.runner.running()
    }

    /// How long to sleep at most.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.runtime.next_deadline().map(|deadline| self.clock.until(deadline.at))
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.runner.takes(&input);
        let now = self.clock.now();
        if let Some(jump) = self.clock.take_jump() {
            let seconds = jump / 1000;
            log(format_args!(
                "arcp: the wall clock jumped by {seconds} s: it is followed slowly, so that no time limit ends early or \
                 late; restart to follow it at once"
            ));
        }
        if let Some((recorder, _)) = &mut self.recorder {
            recorder.input(now, &input);
        }
        self.runtime.handle(now, input);
    }

    /// Takes what others have put into the inbox; a bounded number, so that
    /// connections get their turn.
    pub(crate) fn take_inbox(&mut self) -> bool {
        const TURN: usize = 1024;
        for _ in 0..TURN {
            match self.inbox.try_recv() {
                Ok(input) => self.input(input),
                Err(_) => return false,
            }
        }
        true
    }

    /// Does everything the core asks for. What was given for durability is
    /// committed as one group.
    pub(crate) fn drain(&mut self, links: &mut impl Links) {
        loop {
            while let Some(output) = self.runtime.poll_output() {
                if let Some((recorder, _)) = &mut self.recorder {
                    recorder.output(&output);
                }
                self.perform(output, links);
            }
            if !self.commit() {
                break;
            }
        }
        self.write_recording();
    }

    fn perform(&mut self, output: Output, links: &mut impl Links) {
        match output {
            Output::Send { conn, frame } => links.send(conn, frame),
            Output::Close { conn, reason } => links.close(conn, reason),
            Output::Admit { conn } => links.admit(conn),
            Output::Fragment { conn, bytes } => links.fragment(conn, bytes),
            Output::PauseRead { conn } => links.pause(conn, true),
            Output::ResumeRead { conn } => links.pause(conn, false),
            Output::Authenticate { op, credential, .. } => self.authenticate(op, credential),
            Output::Persist(batch) => self.group.push(batch),
            Output::Load { op, job, from, to, bytes } => self.load(Wanted { op, job, from, to, bytes }),
            Output::StartAgent { job, spec } => self.runner.start(job, *spec),
            Output::StopAgent { job, force } => self.runner.stop(job, force),
            Output::AgentCredit { job, calls, bytes } => self.runner.credit(job, calls, bytes),
            Output::Extension { session, message } => {
                if let Some(take) = &mut self.extensions {
                    take(session, message);
                }
                self.input(Input::ExtensionTaken { session });
            }
            Output::Observe(notice) => {
                if let Some(observer) = &mut self.observer {
                    observer(&notice);
                }
            }
        }
    }

    fn authenticate(&mut self, op: OpId, credential: Credential) {
        if self.authenticator.is_instant() {
            let principal = self.authenticator.verify(&credential);
            return self.input(Input::Authenticated { op, principal });
        }
        // One thread each; their number is bounded by the connections that
        // may be in their handshake.
        let (authenticator, mailbox) = (self.authenticator.clone(), self.sender.clone());
        let judge = move || {
            let principal = authenticator.verify(&credential);
            mailbox.put(Input::Authenticated { op, principal });
        };
        if std::thread::Builder::new().name("authenticate".to_string()).spawn(judge).is_err() {
            self.input(Input::Authenticated { op, principal: None });
        }
    }

    fn load(&mut self, wanted: Wanted) {
        let op = wanted.op;
        if self.readers.as_mut().is_none_or(|readers| readers.read(wanted).is_err()) {
            self.input(Input::Loaded { op, events: None });
        }
    }

    /// True if something was committed at once and more may follow.
    fn commit(&mut self) -> bool {
        let Some(from) = self.group.first().map(|batch| batch.first) else {
            return false;
        };
        let group = std::mem::take(&mut self.group);
        match &mut self.store {
            Committer::Instant(store) => {
                let outcome = committed(store.as_mut(), &group);
                self.group = group;
                self.group.clear();
                self.input(outcome);
                true
            }
            Committer::Thread(thread) => {
                // A store thread that is gone is a store that fails.
                if thread.send(group).is_err() {
                    self.input(Input::PersistFailed { from });
                }
                false
            }
        }
    }

    fn write_recording(&mut self) {
        if let Some((recorder, file)) = &mut self.recorder
            && let Err(error) = file.write_all(recorder.take().as_bytes())
        {
            log(format_args!("arcp: the recording stops here, it cannot be written: {error}"));
            self.recorder = None;
        }
    }
}

/// Commits a group; what the core is told of it.
fn committed(store: &mut dyn Store, group: &[Batch]) -> Input {
    match store.commit(group) {
        Ok(()) => Input::Persisted { up_to: group.last().map_or(LogPos(0), Batch::last) },
        Err(error) => {
            log(format_args!("arcp: {error}"));
            Input::PersistFailed { from: group.first().map_or(LogPos(0), |batch| batch.first) }
        }
    }
}

/// Commits whatever is queued as one group. What nobody needs is deleted when
/// nothing is queued, and after some commits in any case: never before an answer
/// that waits.
fn commit_thread(mut store: Box<dyn Store>, mailbox: Arc<Mailbox>) -> io::Result<Sender<Vec<Batch>>> {
    const TIDY_AFTER: u32 = 32;
    let (sender, receiver) = channel::<Vec<Batch>>();
    let work = move || {
        let (mut untidy, mut commits) = (true, 0);
        loop {
            let next =
                if untidy { receiver.try_recv() } else { receiver.recv().map_err(|_| TryRecvError::Disconnected) };
            match next {
                Ok(mut group) => {
                    while let Ok(more) = receiver.try_recv() {
                        group.extend(more);
                    }
                    mailbox.put(committed(store.as_mut(), &group));
                    (untidy, commits) = (true, commits + 1);
                    if commits < TIDY_AFTER {
                        continue;
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            // What cannot be deleted now is tried again with a later commit.
            (untidy, commits) = (store.tidy().unwrap_or(false), 0);
        }
    };
    std::thread::Builder::new().name("store".to_string()).spawn(work)?;
    Ok(sender)
}
