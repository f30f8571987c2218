//! The virtual world: runtime, clients, store, agents, network and clock in one thread. It advances exactly to the
//! next thing that is due, and every completion comes later than its request.

mod blobs;
mod checks;
mod jobs;
mod provisioner;
mod receiver;
mod restores;
mod wires;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use arcp_host::store::{History as _, Store as _};
use arcp_proto::client::{Client, ClientConfig, ClientEvent, ClientInput, ClientOutput};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, Principal, SessionId};
use arcp_proto::lease::Ceiling;
use arcp_proto::model::feature::Features;
use arcp_proto::model::request::{Credential, Extension};
use arcp_proto::policy::Roles;
use arcp_proto::record::Recorder;
use arcp_proto::runtime::{
    AgentReply, AgentSpec, Batch, CloseReason, Config, Input, Notice, OpenInterrupt, Operator, Output, Runtime,
    StreamWord, Transport, Verdict, mask,
};
use arcp_proto::scope::Scopes;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;

pub use self::blobs::Blobs;
pub use self::checks::Checks;
pub use self::provisioner::Provisioner;
pub use self::receiver::{Receiver, Says};
use crate::agents::Running;
use crate::oracle::Oracle;
use crate::store::VirtualStore;

/// 2026-01-01T00:00:00Z.
const START_UTC: u64 = 1_767_225_600_000;
/// A run with more steps counts as one that does not end.
const STEP_BOUND: u64 = 2_000_000;

/// How the world behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed of all chance.
    pub seed: u64,
    /// The runtime's configuration.
    pub config: Config,
    /// The longest time that a message, a commit or a verdict takes.
    pub latency: Duration,
    /// How many bytes a reader takes before it gives credit again.
    pub window: u32,
    /// Whether batches that the store is given together may be committed in parts.
    pub split_commits: bool,
    /// The most calls of an agent that reach the runtime as one input.
    pub together: usize,
    /// The first choices of chance come from these bytes, one each.
    pub choices: Vec<u8>,
}

impl Options {
    /// The options for a runtime with all scripted agents.
    pub fn new(seed: u64) -> Options {
        let mut config = Config::new("world", "1.0.0");
        for agent in [
            "slow", "chatty", "kinds", "chunker", "waiter", "stubborn", "deaf", "failer", "panicker", "inventor",
            "thinker", "stepper", "hoarder", "ponderer", "finisher", "lingerer", "undead",
        ] {
            config = config.with_agent(agent, &[]);
        }
        config = config.with_agent("echo", &["1.0.0", "2.0.0"]);
        config.timing.cancel_grace = Duration::from_secs(5);
        config.history = true;
        // Shown only in tests that set it lower.
        config.limits.delivery.ack_lag = 1_000_000;
        config.restartable_agents.insert("stepper".into());
        Options {
            seed,
            config,
            latency: Duration::from_millis(5),
            window: 64 << 10,
            split_commits: false,
            together: 1,
            choices: Vec::new(),
        }
    }
}

#[derive(Debug)]
enum Event {
    ToRuntime(Input),
    ToClient(usize, ConnId, ClientInput),
    Commit,
    Agent(JobId),
}

#[derive(Debug, Default)]
struct Wire {
    client: Option<usize>,
    frames: Vec<String>,
    sidecars: Vec<Vec<u8>>,
    closed: Option<CloseReason>,
    /// Whether the reader has stopped reading.
    stalled: bool,
    owed: (u32, u32),
    paused: bool,
    held: VecDeque<Input>,
}

#[derive(Debug)]
struct Node {
    client: Client,
    conn: Option<ConnId>,
    events: Vec<ClientEvent>,
    /// Whether transports cannot be opened.
    cut: bool,
}

/// The virtual world: see the module.
#[derive(Debug)]
pub struct World {
    now: Now,
    chance: u64,
    choices: std::vec::IntoIter<u8>,
    options: Options,
    runtime: Runtime,
    recorder: Recorder,
    recording: String,
    /// Checks every input and output.
    pub oracle: Oracle,
    queue: BTreeMap<(Timestamp, u64), Event>,
    order: u64,
    /// The latest arrival per connection and direction: links keep order.
    arrivals: BTreeMap<(ConnId, bool), Timestamp>,
    wires: BTreeMap<ConnId, Wire>,
    /// While the driver is held: the inputs that have arrived, with their times.
    held: Option<Vec<(Now, Input)>>,
    nodes: Vec<Node>,
    /// The family of further clients.
    pub family: Family,
    /// When credentials expire, for those that do, by token.
    pub credentials_until: BTreeMap<String, UtcMs>,
    /// The scopes of credentials, and what they are bound to, by token.
    pub credentials: BTreeMap<String, (Scopes, Option<String>)>,
    /// The most that credentials may be granted, by token.
    pub ceilings: BTreeMap<String, Box<Ceiling>>,
    /// The features that sessions may agree on, by token.
    pub features: BTreeMap<String, Features>,
    /// The roles of credentials, by token.
    pub roles: BTreeMap<String, Roles>,
    /// What the transports of further connections prove.
    pub binding: Option<String>,
    last_conn: u64,
    /// Batches that were given to the store and are not committed.
    given: Vec<Batch>,
    /// The store, which survives a crash.
    pub store: VirtualStore,
    /// How many commits the store was asked for.
    pub commits: u64,
    /// The longest time that loading events takes.
    pub read_latency: Duration,
    /// Recordings of runtimes that crashed.
    earlier: Vec<String>,
    commit_due: bool,
    running: BTreeMap<JobId, Running>,
    /// The specifications of agents that were started.
    pub started: Vec<AgentSpec>,
    /// The answers that agents got.
    pub replies: Vec<(JobId, AgentReply)>,
    /// The interrupts that agents got.
    pub interrupts: Vec<(JobId, OpenInterrupt)>,
    /// What agents were told of streams.
    pub stream_words: Vec<(JobId, u32, StreamWord)>,
    /// The checkpoints that agents were asked for, with their labels.
    pub wanted: Vec<(JobId, Option<String>)>,
    /// Messages of extensions that the host has taken.
    pub extensions: Vec<Extension>,
    /// The inputs that the host was asked to check.
    pub checks: Checks,
    /// The provisioner.
    pub provisioner: Provisioner,
    /// Another runtime, to which jobs can be handed over.
    pub receiver: Receiver,
    /// The bytes of artifacts.
    pub blobs: Blobs,
    /// Whether the host takes no messages of extensions at the moment.
    pub takes_no_extensions: bool,
    /// The sessions of messages that the host has not taken.
    untaken: VecDeque<SessionId>,
    /// The notices to operators.
    pub notices: Vec<Notice>,
    steps: u64,
    /// How far the wall clock is ahead of the true time, in milliseconds.
    clock_ahead: i64,
}

impl World {
    /// A world with a runtime in it.
    pub fn new(options: Options) -> World {
        let now = Now { mono: Timestamp(1), utc: UtcMs(START_UTC) };
        let seeds = seeds(options.seed);
        let recorder = Recorder::new(&options.config, &seeds, now);
        let runtime = Runtime::new(options.config.clone(), seeds, now).expect("the configuration works");
        World {
            now,
            chance: options.seed ^ 0x9e37_79b9_7f4a_7c15,
            choices: options.choices.clone().into_iter(),
            runtime,
            recorder,
            recording: String::new(),
            oracle: Oracle::of(&options.config),
            queue: BTreeMap::new(),
            order: 0,
            arrivals: BTreeMap::new(),
            wires: BTreeMap::new(),
            held: None,
            nodes: Vec::new(),
            family: Family::Hello,
            credentials_until: BTreeMap::new(),
            credentials: BTreeMap::new(),
            ceilings: BTreeMap::new(),
            features: BTreeMap::new(),
            roles: BTreeMap::new(),
            binding: None,
            last_conn: 0,
            given: Vec::new(),
            store: VirtualStore::default(),
            read_latency: options.latency,
            commits: 0,
            earlier: Vec::new(),
            commit_due: false,
            running: BTreeMap::new(),
            started: Vec::new(),
            replies: Vec::new(),
            interrupts: Vec::new(),
            stream_words: Vec::new(),
            wanted: Vec::new(),
            extensions: Vec::new(),
            checks: Checks::default(),
            provisioner: Provisioner::default(),
            receiver: Receiver::default(),
            blobs: Blobs::default(),
            takes_no_extensions: false,
            untaken: VecDeque::new(),
            notices: Vec::new(),
            steps: 0,
            clock_ahead: 0,
            options,
        }
    }

    /// A world with the usual options.
    pub fn seeded(seed: u64) -> World {
        World::new(Options::new(seed))
    }

    /// The seed of the world.
    pub fn seed(&self) -> u64 {
        self.options.seed
    }

    /// A world with the usual options whose clients speak this family.
    pub fn of(family: Family, seed: u64) -> World {
        World { family, ..World::seeded(seed) }
    }

    /// A world whose runtime is configured differently.
    pub fn configured(seed: u64, change: impl FnOnce(&mut Config)) -> World {
        let mut options = Options::new(seed);
        change(&mut options.config);
        World::new(options)
    }

    /// The present time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets the wall clock so many milliseconds ahead of the true time; behind, if negative.
    pub fn set_clock(&mut self, ahead: i64) {
        self.clock_ahead = ahead;
        self.advance(self.now.mono);
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        if let Some(choice) = self.choices.next() {
            let share = u128::from(choice) * u128::from(bound.max(1)) / 256;
            return u64::try_from(share).expect("less than the bound");
        }
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Hands an input to the runtime, at once or when its driver is not held any more.
    pub fn input(&mut self, input: Input) {
        match &mut self.held {
            Some(held) => held.push((self.now, input)),
            None => self.hand_over(self.now, input),
        }
    }

    /// Holds the runtime's driver for a span, as on a machine that sleeps; everything else continues. Then the driver
    /// hands over the inputs that have arrived, and after that lets time pass.
    pub fn hold(&mut self, span: Duration) {
        self.held = Some(Vec::new());
        self.run_for(span);
        for (arrived, input) in self.held.take().unwrap_or_default() {
            self.hand_over(arrived, input);
        }
        self.tick();
    }

    fn hand_over(&mut self, arrived: Now, mut input: Input) {
        mask(&self.runtime, &mut input);
        self.oracle.input(&input);
        self.oracle.ledger.input(arrived, &input);
        self.recorder.input(arrived, &input);
        self.runtime.handle(arrived, input);
        if let Some(deadline) = self.runtime.next_deadline() {
            assert!(deadline.at > arrived.mono, "the deadline for {:?} has passed already", deadline.reason);
        }
        while let Some(output) = self.runtime.poll_output() {
            self.oracle.schedules.output(arrived.utc, &output);
            self.oracle.output(&output);
            self.recorder.output(&output);
            self.perform(output);
        }
        self.recording.push_str(&self.recorder.take());
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { conn, frame } => self.deliver(conn, frame),
            Output::SendSidecar { conn, message } => self.deliver_sidecar(conn, message),
            Output::Close { conn, reason } => self.on_close(conn, reason),
            Output::RaiseFrameLimit { .. } | Output::Fragment { .. } => {}
            Output::PauseRead { conn } => self.wire(conn).paused = true,
            Output::ResumeRead { conn } => self.on_resume_read(conn),
            Output::Authenticate { op, credential, .. } => self.authenticate(op, &credential),
            Output::CheckInput { op, agent, input } => self.check_input(op, agent, input),
            Output::CheckValue { op, value, .. } => self.check_value(op, value.as_ref()),
            Output::IssueCredentials { op, order } => self.issue_credentials(op, *order),
            Output::RevokeCredentials { op, job, what } => self.revoke_credentials(op, job, &what),
            Output::HandOff { op, order } => self.hand_off(op, *order),
            Output::StoreBlob { op, digest, bytes } => self.store_blob(op, digest, bytes),
            Output::TakeBlob { op, job, call, digest, .. } => self.take_blob(op, (job, call), digest),
            Output::ReadBlob { op, digest, range } => self.read_blob(op, digest, range),
            Output::Parts(step) => self.do_parts(step),
            output @ Output::PlanSchedule { .. } => self.plan_schedule(output),
            Output::DropBlob { digest } => drop(self.blobs.stored.remove(&digest)),
            Output::KeepBlobs { digests } => self.keep_blobs(&digests),
            Output::Persist(batch) => {
                self.given.push(batch);
                if !self.commit_due {
                    self.commit_due = true;
                    self.later(Event::Commit);
                }
            }
            Output::Load { op, job, from, to, bytes } => {
                let events = self.store.events(job, from, to, bytes).ok();
                let longest = u64::try_from(self.read_latency.as_micros()).unwrap_or(u64::MAX);
                let at = self.now.mono + Duration::from_micros(1 + self.below(longest));
                self.schedule(at, Event::ToRuntime(Input::Loaded { op, events }));
            }
            Output::StartAgent { job, spec } => {
                self.receiver.must_lack(job);
                self.started.push((*spec).clone());
                self.running.insert(job, Running::new(&spec));
                self.wake(job);
            }
            Output::StopAgent { job, force } => self.tell(job, |running| running.stop(force)),
            Output::AgentCredit { job, calls, bytes } => self.tell(job, |running| running.give(calls, bytes)),
            Output::InterruptAgent { job, interrupt } => {
                self.tell(job, |running| running.interrupt(interrupt.number));
                self.interrupts.push((job, interrupt));
            }
            Output::AgentStream { job, stream, says } => self.stream_words.push((job, stream, says)),
            Output::AskCheckpoint { job, label } => {
                self.tell(job, Running::want_checkpoint);
                self.wanted.push((job, label));
            }
            Output::AgentReply { job, id, reply } => {
                let running = self.running.get_mut(&job).expect("only who is there is answered");
                running.answer(id, &reply);
                self.wake(job);
                self.replies.push((job, reply));
            }
            Output::Extension { session, message } => {
                self.extensions.push(message);
                self.untaken.push_back(session);
                self.take_extensions();
            }
            Output::Observe(notice) => self.notices.push(notice),
        }
    }

    /// Batches that were given to the store and are not committed.
    pub fn given(&self) -> impl Iterator<Item = &Batch> {
        self.given.iter()
    }

    fn wire(&mut self, conn: ConnId) -> &mut Wire {
        self.wires.entry(conn).or_default()
    }

    fn deliver(&mut self, conn: ConnId, frame: String) {
        let size = frame.len() as u32;
        self.wire(conn).frames.push(frame.clone());
        self.pass_on(conn, (size, 1), ClientInput::Received { frame: frame.into_bytes() });
    }

    fn pass_on(&mut self, conn: ConnId, (bytes, frames): (u32, u32), input: ClientInput) {
        let wire = self.wire(conn);
        if wire.stalled {
            wire.owed.0 += bytes;
            wire.owed.1 += frames;
            return;
        }
        if let Some(client) = wire.client {
            let at = self.arrival(conn, false);
            self.schedule(at, Event::ToClient(client, conn, input));
        }
        let at = self.arrival(conn, true);
        self.schedule(at, Event::ToRuntime(Input::Credit { conn, bytes, frames }));
    }

    fn on_close(&mut self, conn: ConnId, reason: CloseReason) {
        let wire = self.wire(conn);
        wire.closed = Some(reason);
        if let Some(client) = wire.client {
            let at = self.arrival(conn, false);
            let why = format!("closed: {reason:?}");
            self.schedule(at, Event::ToClient(client, conn, ClientInput::Disconnected { why }));
        }
    }

    fn on_resume_read(&mut self, conn: ConnId) {
        let wire = self.wire(conn);
        wire.paused = false;
        // These come before everything that was sent after them.
        for input in std::mem::take(&mut wire.held) {
            self.schedule(self.now.mono, Event::ToRuntime(input));
        }
    }

    fn on_commit(&mut self) {
        self.commit_due = false;
        // After a failed commit, its batches are not kept for the next one.
        let mut group = std::mem::take(&mut self.given);
        if self.options.split_commits && !group.is_empty() && self.below(2) == 0 {
            let kept = 1 + self.below(group.len() as u64) as usize;
            self.given = group.split_off(kept);
            self.commit_due = true;
            self.later(Event::Commit);
        }
        let (Some(from), Some(up_to)) = (group.first().map(|batch| batch.first), group.last().map(Batch::last)) else {
            return;
        };
        self.commits += 1;
        match self.store.commit(&group) {
            Ok(()) => self.input(Input::Persisted { up_to }),
            Err(_) => self.input(Input::PersistFailed { from }),
        }
    }

    /// Changes the runtime's configuration for its next start.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.options.config);
    }

    /// The runtime's process crashes, and another one continues from the store. Any number of the batches that were on
    /// their way may have been committed, and the store may have deleted what it may delete.
    pub fn crash(&mut self) {
        let kept = self.below(self.given.len() as u64 + 1) as usize;
        let compact = self.below(2) == 0;
        self.crash_with(kept, compact);
    }

    /// As [`crash`](Self::crash), with exactly so many of these batches committed.
    pub fn crash_with(&mut self, kept: usize, compact: bool) {
        // If the store fails, these are not committed.
        let _ = self.store.commit(&self.given[..kept]);
        self.given.clear();
        let last = self.store.last();
        self.oracle.crash(last);
        self.queue.retain(|_, event| matches!(event, Event::ToClient(..)));
        self.running.clear();
        self.commit_due = false;
        let open = self.wires.iter().filter(|(_, wire)| wire.closed.is_none());
        for conn in open.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.on_close(conn, CloseReason::Shutdown);
        }
        let seed = self.below(u64::MAX);
        let seeds = seeds(seed);
        let recorder = Recorder::new(&self.options.config, &seeds, self.now);
        self.earlier.push(std::mem::take(&mut self.recording));
        self.recorder = recorder;
        self.runtime = Runtime::new(self.options.config.clone(), seeds, self.now).expect("the configuration works");
        for (at, record) in self.store.records(compact) {
            self.input(Input::Restore { at, record });
        }
        self.input(Input::Restored { last });
    }

    fn later(&mut self, event: Event) {
        let span = self.latency();
        let at = self.now.mono + span;
        self.schedule(at, event);
    }

    fn latency(&mut self) -> Duration {
        let longest = u64::try_from(self.options.latency.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(1 + self.below(longest))
    }

    fn arrival(&mut self, conn: ConnId, to_runtime: bool) -> Timestamp {
        let at = self.now.mono + self.latency();
        let last = self.arrivals.entry((conn, to_runtime)).or_default();
        *last = at.max(*last);
        *last
    }

    fn schedule(&mut self, at: Timestamp, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    /// Does the next thing that is due. Returns false if there is none.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < STEP_BOUND, "the world does not come to rest");
        let event = self.queue.keys().next().map(|(at, _)| *at);
        let timer = self.next_timer();
        let Some(at) = event.into_iter().chain(timer).min() else {
            return false;
        };
        self.advance(at);
        if event == Some(at) {
            if let Some((_, event)) = self.queue.pop_first() {
                self.dispatch(event);
            }
        } else {
            self.tick();
        }
        if self.steps.is_multiple_of(1000) {
            self.counts();
        }
        true
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let clients = self.nodes.iter().filter_map(|node| node.client.next_deadline().map(|(at, _)| at));
        let runtime = self.runtime.next_deadline().filter(|_| self.held.is_none());
        clients.chain(runtime.map(|deadline| deadline.at)).min()
    }

    fn advance(&mut self, at: Timestamp) {
        self.now.mono = self.now.mono.max(at);
        self.now.utc = UtcMs((START_UTC + self.now.mono.0 / 1000).saturating_add_signed(self.clock_ahead));
    }

    /// Ticks the runtime and the clients whose deadlines have come.
    fn tick(&mut self) {
        let due = self.runtime.next_deadline().is_some_and(|deadline| deadline.at <= self.now.mono);
        if due && self.held.is_none() {
            self.input(Input::Tick);
        }
        for at in 0..self.nodes.len() {
            let due = self.nodes[at].client.next_deadline().is_some_and(|(due, _)| due <= self.now.mono);
            if due {
                self.client_input(at, ClientInput::Tick);
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::ToRuntime(input) => {
                if let Input::Received { conn, .. } | Input::ReceivedBinary { conn, .. } = &input {
                    let wire = self.wires.entry(*conn).or_default();
                    if wire.paused {
                        wire.held.push_back(input);
                        return;
                    }
                }
                self.input(input);
            }
            Event::ToClient(client, conn, input) => {
                if self.nodes[client].conn == Some(conn) {
                    if matches!(input, ClientInput::Disconnected { .. }) {
                        self.nodes[client].conn = None;
                    }
                    self.client_input(client, input);
                }
            }
            Event::Commit => self.on_commit(),
            Event::Agent(job) => self.on_agent(job),
        }
    }

    /// Runs for a span of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now.mono + span;
        loop {
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let next = event.into_iter().chain(self.next_timer()).min();
            match next {
                Some(at) if at <= end => {
                    self.step();
                }
                _ => break,
            }
        }
        self.advance(end);
        self.tick();
    }

    /// Runs until nothing is in flight; distant timers remain.
    pub fn settle(&mut self) {
        while let Some((at, _)) = self.queue.keys().next().copied() {
            let timer = self.next_timer();
            if timer.is_some_and(|timer| timer < at) {
                self.advance(timer.unwrap_or(at));
                self.tick();
            } else {
                self.step();
            }
        }
    }

    fn open(&mut self, client: Option<usize>, transport: Transport, peer: Option<Principal>) -> ConnId {
        self.open_at(None, client, transport, peer)
    }

    fn open_at(
        &mut self,
        address: Option<IpAddr>,
        client: Option<usize>,
        transport: Transport,
        peer: Option<Principal>,
    ) -> ConnId {
        let peer = peer.map(Verdict::from);
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.wires.insert(conn, Wire { client, ..Wire::default() });
        self.input(Input::Opened { conn, transport, address, binding: self.binding.clone(), peer });
        self.input(Input::Credit { conn, bytes: self.options.window, frames: 64 });
        conn
    }

    /// Adds a client of ours, which connects as soon as the world runs.
    pub fn add_client(&mut self, principal: &str) -> usize {
        let token = arcp_proto::secret::Secret::new(format!("tok-{principal}"));
        let config = ClientConfig::new("world", "1", Credential::Bearer(token));
        self.add_client_with(ClientConfig { family: self.family, ..config })
    }

    /// Adds a client of ours with a configuration.
    pub fn add_client_with(&mut self, config: ClientConfig) -> usize {
        let seed = self.below(u64::MAX);
        let client = Client::new(config, seeds(seed), self.now).expect("the configuration works");
        self.nodes.push(Node { client, conn: None, events: Vec::new(), cut: false });
        let at = self.nodes.len() - 1;
        self.client_input(at, ClientInput::Tick);
        at
    }

    /// Calls the client of a node, and handles its outputs.
    pub fn command<T>(&mut self, client: usize, give: impl FnOnce(&mut Client) -> T) -> T {
        let answer = give(&mut self.nodes[client].client);
        self.drain_client(client);
        answer
    }

    /// The events that a client has reported so far.
    pub fn events(&self, client: usize) -> &[ClientEvent] {
        &self.nodes[client].events
    }

    /// The connection a client has.
    pub fn conn_of(&self, client: usize) -> Option<ConnId> {
        self.nodes[client].conn
    }

    /// Sets whether the client can open no transports.
    pub fn unplug(&mut self, client: usize, unplugged: bool) {
        self.nodes[client].cut = unplugged;
    }

    /// Runs until a client has reported an event for which `told` is true.
    pub fn until(&mut self, client: usize, told: impl Fn(&ClientEvent) -> bool) -> ClientEvent {
        let mut seen = 0;
        loop {
            let events = &self.nodes[client].events;
            if let Some(event) = events[seen..].iter().find(|event| told(event)) {
                return event.clone();
            }
            seen = events.len();
            assert!(self.step(), "the client was never told: {:#?}", self.nodes[client].events);
        }
    }

    fn client_input(&mut self, at: usize, input: ClientInput) {
        self.nodes[at].client.handle(self.now, input);
        if let Some((due, timer)) = self.nodes[at].client.next_deadline() {
            assert!(due > self.now.mono, "the client's deadline for {timer:?} has passed already");
        }
        self.drain_client(at);
    }

    fn drain_client(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].client.poll_output() {
            match output {
                ClientOutput::Connect if self.nodes[at].cut => {
                    let why = "unplugged".to_string();
                    self.nodes[at].conn = Some(ConnId(0));
                    self.later(Event::ToClient(at, ConnId(0), ClientInput::ConnectFailed { why }));
                }
                ClientOutput::Connect => {
                    let conn = self.open(Some(at), Transport::WebSocket, None);
                    self.nodes[at].conn = Some(conn);
                    let arrival = self.arrival(conn, false);
                    self.schedule(arrival, Event::ToClient(at, conn, ClientInput::Connected));
                }
                ClientOutput::Send { frame } => {
                    if let Some(conn) = self.nodes[at].conn {
                        self.send_raw(conn, frame.into_bytes());
                    }
                }
                ClientOutput::SendSidecar { message } => {
                    if let Some(conn) = self.nodes[at].conn {
                        self.send_binary(conn, message);
                    }
                }
                ClientOutput::Disconnect => {
                    if let Some(conn) = self.nodes[at].conn.take() {
                        let arrival = self.arrival(conn, true);
                        self.schedule(arrival, Event::ToRuntime(Input::Closed { conn }));
                    }
                }
                ClientOutput::Event(event) => self.nodes[at].events.push(event),
            }
        }
    }

    /// The recordings so far, one for each runtime in turn.
    pub fn recordings(&self) -> Vec<String> {
        self.earlier.iter().chain([&self.recording]).cloned().collect()
    }

    /// Ends the run. The world calms down, stalled readers read again, the runtime is shut down, and the recording
    /// must replay to the same bytes.
    pub fn finish(mut self) -> String {
        self.restores();
        self.store.mend();
        let stalled: Vec<ConnId> = self.wires.iter().filter(|(_, wire)| wire.stalled).map(|(conn, _)| *conn).collect();
        stalled.iter().for_each(|conn| self.stall(*conn, false));
        self.settle();
        self.restores();
        self.owes_nothing();
        stalled.iter().for_each(|conn| self.stall(*conn, true));
        self.input(Input::Operator(Operator::Shutdown));
        self.oracle.shut_down();
        self.settle();
        self.oracle.schedules.check(&self.options.config.limits.schedule, false);
        for recording in self.recordings() {
            let replayed = arcp_proto::record::replay(&recording);
            assert!(replayed.is_ok(), "the recording does not replay: {replayed:?}");
            assert!(!recording.contains(crate::canaries::CANARY), "a value of a credential is recorded");
        }
        self.recording
    }
}

fn seeds(seed: u64) -> Seeds {
    let mut public = [0; 32];
    public[..8].copy_from_slice(&seed.to_le_bytes());
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_be_bytes());
    Seeds { public, secret }
}
