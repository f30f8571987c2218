//! Random runs: a generator that picks actions on what exists, and a calm phase in which everything that is owed must
//! come.

mod artifacts;
mod authority;
pub mod checkpoints;
mod schedules;
mod streams;
mod tokens;
mod workflows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arcp_proto::id::{JobId, Principal};
use arcp_proto::runtime::{AgentReply, CloseReason, Wait};
use arcp_proto::wire::Family;
use serde_json::{Value, json};

use crate::artifact_log::Fetched;
use crate::ledger::Authority;
use crate::raw::{Raw, leases_payload, open_payload};
use crate::schedule_log::Came;
use crate::sidecars::message;
use crate::steward;
use crate::stream_log::Streamed;
use crate::world::{Options, World};

/// Agents that may start before that is durable, in most worlds.
const PURE: [&str; 4] = ["echo", "chatty", "chunker", "failer"];
/// Agents that accept interrupts.
const OBSERVERS: [&str; 4] = ["talker", "questioner", "steward", "waiter"];

/// One client of a random run: a principal's session over many connections.
struct Peer {
    token: String,
    family: Family,
    welcome: Value,
    raw: Option<Raw>,
    /// The last event sequence that it received.
    last: u64,
    /// The jobs that it submitted, and whether it saw their ends.
    jobs: BTreeMap<String, bool>,
    /// How many frames it received about each job.
    told: BTreeMap<String, u64>,
    /// Jobs that it unsubscribed from or gave away.
    left: BTreeSet<String>,
    /// Requests that are not answered yet on the present connection.
    waiting: BTreeSet<String>,
    subscriptions: BTreeSet<String>,
    /// Questions that it was shown, and whether the last is new.
    prompts: Vec<(String, Value)>,
    is_asked: bool,
    /// Permissions that it was shown.
    leases: Vec<Value>,
    /// Its answers to questions that were answered before.
    answered_again: BTreeSet<String>,
    /// What it has seen of streams, and its own streams.
    streams: streams::Seen,
}

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Ran {
    /// Whether its clients ask for checkpoints.
    pub asks_for_checkpoints: bool,
    /// Whether its clients have schedules.
    pub keeps_schedules: bool,
    /// What happened to schedules.
    pub scheduled: Came,
    /// Frames that the oracle checked.
    pub frames: usize,
    /// Jobs that were accepted.
    pub jobs: usize,
    /// Times that a session was resumed.
    pub resumes: usize,
    /// Times that an agent was seen to wait for a reader.
    pub paced: usize,
    /// Questions that were answered.
    pub answered: usize,
    /// Interrupts that reached agents.
    pub interrupted: usize,
    /// Jobs that agents delegated.
    pub children: usize,
    /// Times that a delegation was seen to wait for the host.
    pub deferred: usize,
    /// Operations that agents asked about and were allowed.
    pub allowed: usize,
    /// Costs that were counted against a budget.
    pub costs: usize,
    /// Answers that were refused because the question was answered already.
    pub refused_again: usize,
    /// Jobs for which credentials were ordered.
    pub provisioned: usize,
    /// Values that were ordered to replace those of credentials.
    pub rotated: usize,
    /// Jobs that were handed over to another runtime.
    pub gone: usize,
    /// Steps of workflows that have succeeded.
    pub steps: usize,
    /// What happened to streams.
    pub streamed: Streamed,
    /// What happened to artifacts.
    pub fetched: Fetched,
    /// What happened to permissions, and handoffs.
    pub authority: Authority,
    /// Requests about checkpoints, and what came of them.
    pub checkpoints: checkpoints::Checkpoints,
    /// Job tokens that were issued.
    pub tokens: tokens::Tokens,
    /// Questions that were answered.
    answers: BTreeSet<String>,
    /// Artifacts that were left.
    left: artifacts::Left,
    /// The recording of each runtime, in order.
    pub recordings: Vec<String>,
}

/// Runs one seed: `steps` random actions, then the calm phase.
pub fn run(seed: u64, steps: u64) -> Ran {
    run_with(seed, steps, &[])
}

/// Whether running jobs keep few events.
fn keeps_little(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// Runs one seed; the first choices of chance come from `choices`.
pub fn run_with(seed: u64, steps: u64, choices: &[u8]) -> Ran {
    let mut options = Options::new(seed);
    options.choices = choices.to_vec();
    for agent in ["talker", "asker", "questioner", "steward", "streamer", "curator"] {
        options.config = options.config.with_agent(agent, &[]);
    }
    options.config.restartable_agents.extend(["asker", "questioner", "steward"].map(String::from));
    for entry in options.config.agents.iter_mut().filter(|entry| OBSERVERS.contains(&entry.name.as_str())) {
        entry.observes_interrupts = true;
        entry.takes_input = true;
    }
    for entry in &mut options.config.agents {
        entry.gives_checkpoints = options.config.restartable_agents.contains(&entry.name);
    }
    // These agents differ from the others only in that they may start before that is durable.
    for entry in options.config.agents.iter_mut().filter(|entry| PURE.contains(&entry.name.as_str())) {
        entry.pure = seed % 4 != 3;
    }
    authority::configure(&mut options.config, seed);
    artifacts::configure(&mut options.config, seed);
    options.config.authority.workflows = true;
    options.config.timing.schedules = true;
    options.config.limits.family.children_per_job = 3;
    options.config.limits.family.delegation_depth = 3;
    options.config.limits.delivery.open_calls_per_job = 1;
    options.config.limits.job.running_jobs = 8;
    options.config.limits.job.principal_share = if seed.is_multiple_of(4) { 100 } else { 25 };
    options.config.limits.delivery.pace_events = 16;
    options.config.limits.delivery.agent_credit = 8;
    options.config.limits.delivery.ack_lag = 40;
    options.window = 4096;
    options.together = if seed % 3 == 1 { 1 } else { 8 };
    options.split_commits = true;
    if seed % 2 == 1 {
        // A reader that is a little behind reads from the store.
        options.config.limits.history.job_events = 16;
        options.config.limits.delivery.load_events = 5;
        options.config.limits.delivery.loads_per_session = 2;
        options.config.limits.delivery.ahead_bytes = 3000;
    }
    if seed.is_multiple_of(7) {
        // Agents of one principal are read in turn.
        options.config.limits.history.agent_undurable_bytes = 3000;
    }
    if keeps_little(seed) {
        // Events are deleted while their jobs run, sixteen at a time.
        options.config.limits.history.kept_job_events = 64;
        options.config.timing.resume_window = Duration::from_secs(20);
    }
    if seed.is_multiple_of(4) {
        // Ended jobs stay longer than any session can be resumed.
        options.config.timing.job_retention = Some(options.config.timing.resume_window + Duration::from_secs(300));
    }
    if seed.is_multiple_of(5) {
        options.config.auditors = [Principal::new("c").expect("a name")].into();
    }
    let needs_trust = options.config.authority.needs_trust.clone();
    let config = options.config.clone();
    let mut world = World::new(options);
    artifacts::watch(&mut world, &config);
    world.oracle.ledger.needs_trust = needs_trust;
    authority::bound(&mut world, seed);
    const PEERS: [(&str, Family); 6] = [
        ("tok-a", Family::Hello),
        ("tok-a", Family::Open),
        ("tok-b", Family::Hello),
        ("tok-b", Family::Open),
        ("tok-c", Family::Open),
        (authority::OPERATOR_TOKEN, Family::Open),
    ];
    let mut peers: Vec<Peer> = PEERS.iter().map(|(token, family)| open(&mut world, token, *family)).collect();
    let mut ran =
        Ran { asks_for_checkpoints: !seed.is_multiple_of(5), keeps_schedules: seed % 5 == 4, ..Ran::default() };
    for n in 0..steps {
        let at = world.below(peers.len() as u64) as usize;
        act(&mut world, &mut peers, at, n, &mut ran);
        for _ in 0..world.below(12) {
            world.step();
        }
        peers.iter_mut().for_each(|peer| peer.look(&world, &mut ran));
        if n % 10 == seed % 10 {
            world.restores();
        }
        ran.deferred += world.waits().values().filter(|wait| **wait == Wait::Delegation).count();
        ran.paced += world.waits().values().filter(|wait| matches!(wait, Wait::Reader(_))).count();
    }
    calm(&mut world, &mut peers, &mut ran);
    let answered = |(_, reply): &&(_, AgentReply)| matches!(reply, AgentReply::Answered { .. });
    ran.answered = world.replies.iter().filter(answered).count();
    ran.interrupted = world.interrupts.len();
    world.oracle.ledger.is_settled();
    let ledger = &world.oracle.ledger;
    (ran.children, ran.allowed, ran.costs) = (ledger.children, ledger.allowed, ledger.costs);
    (ran.rotated, ran.authority) = (ledger.rotations, ledger.authority.clone());
    ran.provisioned = world.provisioner.ordered.len();
    ran.gone = world.receiver.has.len();
    ran.steps = world.oracle.graphs.succeeded();
    ran.streamed = world.oracle.streams.check();
    ran.scheduled = world.came_of_schedules();
    leave(&mut world, peers);
    artifacts::nothing_is_left(&world);
    ran.fetched = world.oracle.artifacts.came;
    authority::nothing_counts(&world);
    ran.frames = world.oracle.frames;
    ran.recordings = world.recordings();
    world.finish();
    ran
}

fn open(world: &mut World, token: &str, family: Family) -> Peer {
    let (raw, welcome) = match family {
        Family::Hello => {
            let mut raw = Raw::connect(world);
            raw.send(world, "session.hello", hello(token));
            let welcome = raw.expect(world, "session.welcome");
            (raw, welcome)
        }
        Family::Open => {
            let mut payload = open_payload(token);
            payload["capabilities"]["human_input"] = json!(true);
            payload["capabilities"]["binary_encoding"] = json!(["base64", "sidecar"]);
            payload["capabilities"]["interrupt"] = json!(true);
            payload["capabilities"]["streaming"] = json!(true);
            payload["capabilities"]["artifacts"] = json!(true);
            payload["capabilities"]["checkpoints"] = json!(true);
            payload["capabilities"]["agent_handoff"] = json!(true);
            payload["capabilities"]["scheduled_jobs"] = json!(true);
            payload["capabilities"]["extensions"] = json!(["arcpx.arcp.job_tokens.v1"]);
            Raw::open_with(world, payload)
        }
    };
    let (mut raw, token) = (raw, token.to_string());
    if token == authority::OPERATOR_TOKEN {
        raw.send(world, "subscribe", json!({"filter": {}, "since": {}}));
    }
    Peer {
        token,
        family,
        welcome,
        raw: Some(raw),
        last: 0,
        jobs: BTreeMap::new(),
        told: BTreeMap::new(),
        left: BTreeSet::new(),
        waiting: BTreeSet::new(),
        subscriptions: BTreeSet::new(),
        prompts: Vec::new(),
        is_asked: false,
        leases: Vec::new(),
        answered_again: BTreeSet::new(),
        streams: streams::Seen::default(),
    }
}

/// The hello of a client that requests leases and answers questions.
fn hello(token: &str) -> Value {
    let mut payload = leases_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    let more = [
        "x-vendor.arcp.open_surfaces",
        "x-vendor.arcp.agent_handoff",
        "x-vendor.arcp.sidecar",
        "x-vendor.arcp.checkpoints",
        "x-vendor.arcp.scheduled_jobs",
        "x-vendor.arcp.artifacts",
        "x-vendor.arcp.job_tokens",
    ];
    features.extend(more.map(Value::from));
    payload
}

impl Peer {
    /// Reads the frames that have come.
    fn look(&mut self, world: &World, ran: &mut Ran) {
        let Some(raw) = &mut self.raw else {
            return;
        };
        for frame in raw.take(world) {
            if let Some(request) = answered(&frame) {
                self.waiting.remove(request);
                let refused = matches!(frame["type"].as_str(), Some("nack" | "session.error"));
                ran.refused_again += usize::from(self.answered_again.remove(request) && refused);
            }
            if let Some(seq) = frame["event_seq"].as_u64() {
                self.last = self.last.max(seq);
            }
            self.streams.look(&frame);
            ran.left.look(&frame);
            ran.tokens.look(&frame);
            ran.checkpoints.look(&frame);
            let numbered = !frame["event_seq"].is_null();
            if let Some(job) = frame["job_id"].as_str().filter(|_| numbered) {
                *self.told.entry(job.into()).or_default() += 1;
            }
            match frame["type"].as_str() {
                Some("session.welcome" | "session.accepted" | "session.resumed") => self.welcome = frame,
                Some(kind @ ("human.input.request" | "human.choice.request" | "permission.request")) => {
                    self.prompts.push((kind.into(), frame["payload"].clone()));
                    self.is_asked = true;
                }
                Some("lease.granted") => self.leases.push(frame["payload"]["lease_id"].clone()),
                Some("subscribe.event") => {
                    let copy = &frame["payload"]["event"];
                    if copy["type"] == "permission.request" {
                        self.prompts.push(("permission.request".into(), copy["payload"].clone()));
                        self.is_asked = true;
                    }
                }
                Some("subscribe.accepted") => {
                    self.subscriptions.insert(frame["payload"]["subscription_id"].as_str().expect("an id").into());
                }
                Some("job.accepted") => {
                    let job = frame["job_id"].as_str().expect("a job");
                    if !self.left.contains(job) {
                        self.jobs.entry(job.into()).or_insert(false);
                    }
                }
                Some("job.result" | "job.error" | "job.completed" | "job.failed" | "job.cancelled") if numbered => {
                    self.jobs.insert(frame["job_id"].as_str().expect("a job").into(), true);
                }
                _ => {}
            }
        }
        if raw.is_closed(world) {
            self.raw = None;
            self.waiting.clear();
        }
    }

    fn pick_job(&self, world: &mut World) -> Option<String> {
        let n = world.below(self.jobs.len() as u64) as usize;
        self.jobs.keys().nth(n).cloned()
    }

    fn pick_open_job(&self, world: &mut World) -> Option<String> {
        let open: Vec<&String> = self.jobs.iter().filter(|(_, ended)| !**ended).map(|(job, _)| job).collect();
        open.get(world.below(open.len() as u64) as usize).copied().cloned()
    }
}

/// The id of the request that a frame answers.
fn answered(frame: &Value) -> Option<&str> {
    frame["payload"]["request_id"].as_str().or(frame["correlation_id"].as_str())
}

fn act(world: &mut World, peers: &mut [Peer], at: usize, n: u64, ran: &mut Ran) {
    let answered = &mut ran.answers;
    let dice = world.below(100);
    if peers[at].raw.is_none() {
        return reconnect(world, &mut peers[at], ran);
    }
    if world.below(12) == 0 {
        return artifacts::act(world, &mut peers[at], &ran.left);
    }
    match dice {
        // Questions are answered soon, or hardly ever.
        0..80 if std::mem::take(&mut peers[at].is_asked) => answer(world, &mut peers[at], answered),
        // Some of the jobs are workflows.
        0..30 if world.below(10) == 0 => workflows::start(world, &mut peers[at], n),
        0..30 => submit(world, &mut peers[at], n),
        30..40 => {
            let other = world.below(peers.len() as u64) as usize;
            let job = peers[other].pick_job(world).unwrap_or_else(|| "job_none".into());
            let history = world.below(2) == 0;
            ask(world, &mut peers[at], "job.subscribe", json!({"job_id": job, "history": history}));
        }
        40..50 => {
            let other = if world.below(4) == 0 { world.below(peers.len() as u64) as usize } else { at };
            if let Some(job) = peers[other].pick_job(world) {
                cancel(world, &mut peers[at], &job);
            }
        }
        50..55 => {
            // Mostly about running jobs, some of which it waits for.
            let open = if world.below(4) > 0 { peers[at].pick_open_job(world) } else { None };
            if let Some(job) = open.or_else(|| peers[at].pick_job(world)) {
                say(world, &mut peers[at], "job.unsubscribe", json!({"job_id": job}));
                // A client that unsubscribes is owed nothing more.
                peers[at].jobs.remove(&job);
                peers[at].left.insert(job);
            }
        }
        55..57 => authority::change_lease(world, &mut peers[at]),
        57 => authority::send_away(world, &mut peers[at]),
        58..60 => {
            let to = world.below(peers.len() as u64) as usize;
            let to = peers[to].token.trim_start_matches("tok-").to_string();
            authority::hand_over(world, &mut peers[at], &to);
        }
        60 if ran.asks_for_checkpoints => ran.checkpoints.drive(world, &mut peers[at]),
        61 | 62 if ran.keeps_schedules => schedules::act(world, &mut peers[at], n),
        61 => ran.tokens.drive(world, &mut peers[at]),
        60..63 => ask(world, &mut peers[at], "session.list_jobs", json!({"limit": 1 + n % 5})),
        63..68 => {
            let seq = peers[at].last;
            say(world, &mut peers[at], "session.ack", json!({"last_processed_seq": seq}));
        }
        68..70 => answer(world, &mut peers[at], answered),
        70 => {
            let open = peers[at].pick_open_job(world);
            let job = open.or_else(|| peers[at].pick_job(world)).unwrap_or_else(|| "job_none".into());
            ask(world, &mut peers[at], "interrupt", json!({"target": "job", "target_id": job, "prompt": "why?"}));
        }
        71 => say(world, &mut peers[at], "session.ping", json!({"nonce": "n"})),
        72..76 if peers[at].family == Family::Open => observe(world, &mut peers[at]),
        72..84 => {
            if let Some(raw) = peers[at].raw.take() {
                peers[at].waiting.clear();
                world.cut(raw.conn);
            }
        }
        84 | 85 => authority::trouble(world),
        86 | 87 => {
            let stalled = world.below(2) == 0;
            if let Some(raw) = &peers[at].raw {
                world.stall(raw.conn, stalled);
            }
        }
        88..92 => match world.below(3) {
            0 => world.store.mend(),
            1 => world.store.broken = true,
            _ => {
                let room = world.below(20) as usize;
                world.store.fill(room);
            }
        },
        92 => artifacts::crash(world),
        93 => {
            let ahead = 15_000 - world.below(30_000) as i64;
            world.set_clock(ahead);
        }
        94..96 => {
            let span = Duration::from_millis(world.below(3000));
            world.run_for(span);
        }
        96 | 97 => streams::act(world, &mut peers[at]),
        _ => junk(world, &mut peers[at]),
    }
}

/// Answers a recent question, some of them answered before, and sometimes with an answer that does not fit.
fn answer(world: &mut World, peer: &mut Peer, answers: &mut BTreeSet<String>) {
    let lately = peer.prompts.len().saturating_sub(3);
    let pick = lately + world.below(3) as usize;
    let Some((kind, asked)) = peer.prompts.get(pick).cloned() else {
        return;
    };
    let id = &asked["prompt_id"];
    let value = [json!({}), json!({"bad": 1}), json!(null)][world.below(3) as usize].clone();
    let choice = ["a", "b", "c"][world.below(3) as usize];
    match kind.as_str() {
        "human.choice.request" => {
            ask(world, peer, "human.choice.response", json!({"prompt_id": id, "choice_id": choice}));
        }
        "permission.request" if world.below(3) == 0 => {
            ask(world, peer, "permission.deny", json!({"prompt_id": id, "reason": "no"}));
        }
        "permission.request" => {
            let mut grant = json!({"prompt_id": id});
            for name in ["permission", "resource", "operation"] {
                grant[name] = asked[name].clone();
            }
            let is_of_budget = asked["operation"] == "cost.budget";
            if is_of_budget && world.below(4) == 0 {
                grant["cost_budget"] = json!(["USD:0.125"]);
            }
            // These members are refused for a budget.
            if !is_of_budget || world.below(8) == 0 {
                grant["lease_seconds"] = json!(1 + world.below(60));
                grant["x-vendor.arcp.once"] = json!(world.below(2) == 0);
            }
            ask(world, peer, "permission.grant", grant);
        }
        _ => ask(world, peer, "human.input.response", json!({"prompt_id": id, "value": value})),
    }
    let is_again = !answers.insert(id.to_string());
    if let Some(raw) = peer.raw.as_ref().filter(|_| is_again) {
        peer.answered_again.insert(raw.last_id());
    }
}

/// Does something that only the open family has.
fn observe(world: &mut World, peer: &mut Peer) {
    let last = peer.raw.as_ref().map(|raw| world.frames_of(raw.conn)).and_then(|frames| frames.last());
    let last = last.map_or(Value::Null, |text| serde_json::from_str::<Value>(text).expect("JSON")["id"].clone());
    let types = if world.below(2) == 0 { json!(["metric", "job.completed"]) } else { json!([]) };
    match world.below(6) {
        0 => ask(world, peer, "subscribe", json!({"filter": {"types": types}, "since": {}})),
        1 => ask(world, peer, "subscribe", json!({"filter": {"types": types}})),
        2 => ask(world, peer, "subscribe", json!({"filter": {}, "since": {"after_message_id": last}})),
        3 => ask(world, peer, "resume", json!({"after_message_id": last, "include_open_streams": true})),
        4 => {
            if let (Some(job), rate) = (peer.pick_open_job(world), 1 + world.below(200)) {
                let pace = json!({"desired_rate_per_second": rate});
                let stream = json!({"stream_id": job.replace("job_", "str_")});
                if let Some(raw) = &mut peer.raw {
                    raw.send_with(world, "backpressure", pace, stream);
                }
            }
        }
        _ => {
            if let Some(id) = peer.subscriptions.pop_first() {
                ask(world, peer, "unsubscribe", json!({"subscription_id": id}));
            }
        }
    }
}

fn cancel(world: &mut World, peer: &mut Peer, job: &str) {
    let deadline = world.below(7000);
    match peer.family {
        Family::Hello => say(world, peer, "job.cancel", json!({"job_id": job})),
        Family::Open => {
            ask(world, peer, "cancel", json!({"target": "job", "target_id": job, "deadline_ms": deadline}));
        }
    }
}

fn junk(world: &mut World, peer: &mut Peer) {
    const JUNK: [&str; 6] = [
        "{",
        "[]",
        r#"{"id":"j","type":"job.submit","payload":{"agent":7}}"#,
        r#"{"id":"k","type":"tool.invoke","payload":{"tool":7}}"#,
        r#"{"id":"l","type":"arcpx.none.v1","payload":{}}"#,
        "\u{1}",
    ];
    if let Some(raw) = &mut peer.raw {
        match JUNK.get(world.below(JUNK.len() as u64 + 2) as usize) {
            Some(junk) => raw.send_text(world, junk),
            // Bytes without a frame, or a frame whose bytes never come.
            None if world.below(2) == 0 => world.send_binary(raw.conn, message("nobody", 0, b"\xff")),
            None => {
                let sidecar = json!({"bytes": 9, "frames": 2});
                let id = raw.send(world, "artifact.put", json!({"media_type": "a/b", "sidecar": sidecar}));
                world.send_binary(raw.conn, message(&id, 0, b"\xff"));
            }
        }
    }
}

fn submit(world: &mut World, peer: &mut Peer, n: u64) {
    const AGENTS: [&str; 26] = [
        "curator",
        "curator",
        "streamer",
        "streamer",
        "echo",
        "slow",
        "chatty",
        "talker",
        "talker",
        "ponderer",
        "kinds",
        "chunker",
        "waiter",
        "stubborn",
        "failer",
        "finisher",
        "lingerer",
        "undead",
        "asker",
        "questioner",
        "questioner",
        "steward",
        "steward",
        "steward",
        "steward",
        "steward",
    ];
    let agent = AGENTS[world.below(AGENTS.len() as u64) as usize];
    // Some agents still run when their reader stops reading or leaves.
    let count = if world.below(3) == 0 { 400 } else { 40 };
    let encoding = ["utf8", "base64"][(n % 2) as usize];
    let mut input = json!({"ticks": 3, "count": count, "encoding": encoding});
    let mut more = json!({});
    if agent == "steward" || world.below(5) == 0 {
        let (lease, constraints) = steward::lease(|bound| world.below(bound as u64) as usize);
        more = json!({"lease_request": lease, "lease_constraints": constraints});
        input["seed"] = json!(world.below(1 << 30));
        input["depth"] = json!(world.below(4));
        if world.seed() % 4 == 3 {
            input["raises"] = json!(true);
        } else if authority::needs_trust(world.seed()) {
            input["elevates"] = json!(true);
        }
    }
    if agent == "curator" {
        input["rounds"] = json!(1 + world.below(4));
    }
    let mut key = Value::Null;
    if world.below(2) == 0 {
        let n = if world.below(3) == 0 { n } else { world.below(20) };
        key = json!(format!("{agent}{n}"));
    }
    let id = match (&mut peer.raw, peer.family) {
        (None, _) => return,
        (Some(raw), Family::Hello) => {
            more["agent"] = json!(agent);
            more["input"] = input;
            more["max_runtime_sec"] = json!(30);
            if key.is_string() {
                more["idempotency_key"] = key;
            }
            raw.send(world, "job.submit", more)
        }
        (Some(raw), Family::Open) => {
            more["tool"] = json!(agent);
            more["arguments"] = input;
            more["max_runtime_sec"] = json!(30);
            let priority = ["low", "normal", "high", "critical"][world.below(4) as usize];
            raw.send_with(world, "tool.invoke", more, json!({"idempotency_key": key, "priority": priority}))
        }
    };
    peer.waiting.insert(id);
}

fn reconnect(world: &mut World, peer: &mut Peer, ran: &mut Ran) {
    // A welcome waits until its token is durable, and new sessions wait while the store fails.
    mend(world);
    let (mut raw, back) = match peer.family {
        Family::Hello => (Raw::resume_with(world, hello(&peer.token), &peer.welcome, peer.last), "session.welcome"),
        Family::Open => (Raw::reclaim(world, &peer.token, &peer.welcome, peer.last), "session.resumed"),
    };
    // A welcome that is lost with its connection uses up the token.
    let answer = raw.expect_any(world, &[back, "session.error", "nack"]);
    if answer["type"] == back {
        ran.resumes += 1;
        peer.welcome = answer;
        peer.raw = Some(raw);
    } else {
        let jobs = std::mem::take(&mut peer.jobs);
        *peer = open(world, &peer.token.clone(), peer.family);
        ran.jobs += jobs.len();
    }
}

/// Repairs the store, and runs until the runtime knows.
fn mend(world: &mut World) {
    world.store.mend();
    while world.runtime().stats().store_failed {
        assert!(world.step(), "the store is asked again");
    }
}

fn say(world: &mut World, peer: &mut Peer, kind: &str, payload: Value) {
    if let Some(raw) = &mut peer.raw {
        raw.send(world, kind, payload);
    }
}

fn ask(world: &mut World, peer: &mut Peer, kind: &str, payload: Value) {
    if let Some(raw) = &mut peer.raw {
        let id = raw.send(world, kind, payload);
        peer.waiting.insert(id);
    }
}

/// The calm phase: the store works, and all clients are connected and read. Then everything that is owed must come.
fn calm(world: &mut World, peers: &mut [Peer], ran: &mut Ran) {
    mend(world);
    authority::mend(world);
    artifacts::mend(world);
    world.set_clock(0);
    for peer in peers.iter_mut() {
        if let Some(raw) = &peer.raw {
            world.stall(raw.conn, false);
        }
    }
    world.run_for(Duration::from_secs(2));
    for peer in peers.iter_mut() {
        peer.look(world, ran);
        if peer.raw.is_none() {
            reconnect(world, peer, ran);
        }
        // A client that was silent for long would be given up before its next message.
        say(world, peer, "session.ping", json!({}));
    }
    schedules::end(world, peers);
    for _ in 0..5 {
        world.run_for(Duration::from_secs(2));
        everybody_reads(world, peers, ran);
    }
    people_take_their_time(world, peers, ran);
    // Each job may wait for the one before it, for its time limit and cancel grace.
    let rounds = 12 + 5 * world.runtime().stats().unfinished_jobs;
    let mut before = nobody_waits_for_ever(world, &BTreeMap::new());
    for _ in 0..rounds {
        world.run_for(Duration::from_secs(10));
        before = nobody_waits_for_ever(world, &before);
        world.reap();
        everybody_reads(world, peers, ran);
    }
    for peer in peers.iter_mut() {
        // The job with the most frames is watched once more, from its history, unless that is deleted.
        let longest = peer.told.iter().max_by_key(|(_, frames)| **frames).map(|(job, _)| job.clone());
        if let Some(job) = longest {
            ask(world, peer, "job.subscribe", json!({"job_id": job, "history": true}));
        }
    }
    world.run_for(Duration::from_secs(10));
    for peer in peers.iter_mut() {
        let why = peer.raw.as_ref().and_then(|raw| world.close_reason(raw.conn));
        peer.look(world, ran);
        assert!(peer.raw.is_some(), "a kind world closes nobody: {why:?}");
        assert!(peer.waiting.is_empty(), "never answered: {:?}", peer.waiting);
        let open: Vec<&String> = peer.jobs.iter().filter(|(_, ended)| !**ended).map(|(job, _)| job).collect();
        assert!(open.is_empty(), "never seen to end: {open:?}");
        ran.jobs += peer.jobs.len();
    }
    let stats = world.runtime().stats();
    assert_eq!((stats.unfinished_jobs, stats.running_agents), (0, 0));
}

/// All clients read and send heartbeats. Running jobs keep a bounded number of events. An agent waits only for its
/// submitter, so a watcher may be overtaken in a world that keeps few events; an overtaken client connects again.
fn everybody_reads(world: &mut World, peers: &mut [Peer], ran: &mut Ran) {
    for peer in peers {
        let closed = peer.raw.as_ref().and_then(|raw| world.close_reason(raw.conn));
        peer.look(world, ran);
        if peer.raw.is_none() {
            let is_overtaken = closed == Some(CloseReason::HistoryLost) && keeps_little(world.seed());
            assert!(is_overtaken, "a kind world closes nobody: {closed:?}");
            reconnect(world, peer, ran);
        }
        say(world, peer, "session.ping", json!({}));
    }
}

/// While all clients are connected, questions are answered, and permissions are extended and revoked.
fn people_take_their_time(world: &mut World, peers: &mut [Peer], ran: &mut Ran) {
    for _ in 0..30 {
        world.run_for(Duration::from_secs(1));
        everybody_reads(world, peers, ran);
        for peer in peers.iter_mut() {
            if std::mem::take(&mut peer.is_asked) {
                answer(world, peer, &mut ran.answers);
            }
            authority::change_lease(world, peer);
        }
    }
}

/// In the calm phase no agent waits for ten seconds, and each job that waits has a reason.
fn nobody_waits_for_ever(world: &World, before: &BTreeMap<JobId, usize>) -> BTreeMap<JobId, usize> {
    let held_back = world.held_back();
    let stuck: Vec<_> = held_back.iter().filter(|(job, left)| before.get(job) == Some(left)).collect();
    let waits = world.waits();
    assert!(stuck.is_empty(), "held back for ten seconds: {stuck:?}, the runtime says {waits:?}");
    held_back
}

/// All clients leave; then the runtime must hold nothing for them.
fn leave(world: &mut World, peers: Vec<Peer>) {
    for raw in peers.into_iter().filter_map(|peer| peer.raw) {
        world.cut(raw.conn);
    }
    // Longer than every resume window and every retention.
    world.run_for(Duration::from_secs(1300));
    let stats = world.runtime().stats();
    assert_eq!((stats.connections, stats.sessions, stats.jobs, stats.index_runs), (0, 0, 0, 0), "held for nobody");
    assert_eq!(stats.read_ahead_bytes, 0);
}
