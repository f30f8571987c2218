//! Random worlds of checkpoints and job tokens: two principals use both families to make checkpoints, begin jobs at
//! them, resume sessions at them, and follow jobs by tokens, with cuts and crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::runtime::{AgentCall, Config, Input};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Who there is: two of one principal, and somebody else.
const PEERS: [(&str, Family); 3] = [("tok-a", Family::Open), ("tok-a", Family::Hello), ("tok-b", Family::Open)];

/// What came of all worlds.
#[derive(Debug, Default)]
struct Came {
    made: usize,
    restored: usize,
    resumed: usize,
    exchanged: usize,
    /// Wishes about what is somebody else's.
    kept_from_others: usize,
}

struct Peer {
    token: &'static str,
    family: Family,
    raw: Raw,
    /// Checkpoints that this session was told of, with the number of the event.
    told: Vec<(String, u64)>,
}

/// A checkpoint: of whose job, and of which.
struct Kept {
    token: &'static str,
    job: String,
}

/// What is known of everybody's.
#[derive(Default)]
struct Known {
    checkpoints: BTreeMap<String, Kept>,
    /// Jobs with the token of who submitted them.
    jobs: Vec<(JobId, &'static str)>,
    /// Tokens of jobs, likewise.
    tokens: Vec<(String, &'static str)>,
}

fn open(world: &mut World, (token, family): (&'static str, Family)) -> Peer {
    let raw = match family {
        Family::Open => {
            let mut payload = open_payload(token);
            payload["capabilities"]["checkpoints"] = json!(true);
            payload["capabilities"]["extensions"] = json!(["arcpx.arcp.job_tokens.v1"]);
            Raw::open_with(world, payload).0
        }
        Family::Hello => {
            let mut payload = hello_payload(token);
            let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
            features.extend(["x-vendor.arcp.checkpoints", "x-vendor.arcp.job_tokens"].map(Value::from));
            let mut raw = Raw::connect(world);
            raw.send(world, "session.hello", payload);
            raw.expect(world, "session.welcome");
            raw
        }
    };
    Peer { token, family, raw, told: Vec::new() }
}

impl Peer {
    /// Reads what has come, and notes the checkpoints of the jobs that it follows.
    fn look(&mut self, world: &World, known: &mut Known) -> Vec<Value> {
        let frames = self.raw.take(world);
        for frame in &frames {
            let payload = &frame["payload"];
            let id = payload["checkpoint_id"].as_str().or(payload["body"]["checkpoint_id"].as_str());
            let job = frame["job_id"].as_str().or(payload["job_id"].as_str());
            if let (Some(id), Some(job)) = (id, job) {
                known.checkpoints.insert(id.into(), Kept { token: self.token, job: job.into() });
                self.told.extend(frame["event_seq"].as_u64().map(|seq| (id.to_string(), seq)));
            }
        }
        frames
    }

    /// What is answered, once the world is calm; other frames that came.
    fn ask(&mut self, world: &mut World, known: &mut Known, kind: &str, payload: Value) -> (Option<Value>, Vec<Value>) {
        self.look(world, known);
        let id = self.raw.send(world, kind, payload);
        world.settle();
        let mut frames = self.look(world, known);
        let is_answer = |frame: &Value| {
            let correlated = frame["correlation_id"] == *id || frame["payload"]["request_id"] == *id;
            correlated && frame["event_seq"].is_null() || frame["payload"]["details"]["request_id"] == *id
        };
        let at = frames.iter().position(is_answer);
        (at.map(|at| frames.remove(at)), frames)
    }
}

/// One of several, by chance.
fn pick<T>(world: &mut World, of: &[T]) -> Option<usize> {
    (!of.is_empty()).then(|| world.below(of.len() as u64) as usize)
}

fn act(world: &mut World, peers: &mut Vec<Peer>, known: &mut Known, came: &mut Came) {
    let at = world.below(peers.len() as u64) as usize;
    let peer = &mut peers[at];
    match world.below(20) {
        0..3 => submit(world, peer, known),
        3..7 => make(world, peer, known, came),
        7..10 => restore(world, peer, known, came),
        10..13 => resume(world, peer, known, came),
        13..17 => follow(world, peer, known, came),
        17 => {
            world.cut(peer.raw.conn);
            *peer = open(world, PEERS[at]);
        }
        18 => {
            world.crash();
            *peers = PEERS.map(|who| open(world, who)).into();
            world.settle();
        }
        _ => {
            let span = Duration::from_millis(world.below(2000));
            world.run_for(span);
        }
    }
}

fn submit(world: &mut World, peer: &mut Peer, known: &mut Known) {
    let (agent, input) = [("waiter", json!({})), ("stepper", json!({"steps": 5}))][world.below(2) as usize].clone();
    let accepted = match peer.family {
        Family::Open => peer.ask(world, known, "tool.invoke", json!({"tool": agent, "arguments": input})),
        Family::Hello => peer.ask(world, known, "job.submit", json!({"agent": agent, "input": input})),
    };
    let accepted = accepted.0.filter(|answer| answer["type"] == "job.accepted");
    known
        .jobs
        .extend(accepted.and_then(|answer| JobId::parse(answer["job_id"].as_str()?)).map(|job| (job, peer.token)));
}

/// Asks for a checkpoint of some job, which says in its state whose it is.
fn make(world: &mut World, peer: &mut Peer, known: &mut Known, came: &mut Came) {
    let Some((job, token)) = pick(world, &known.jobs).map(|at| known.jobs[at]) else { return };
    peer.look(world, known);
    let wanted = world.wanted.len();
    let (first, _) = peer.ask(world, known, "checkpoint.create", json!({"job_id": job, "label": "mine"}));
    let is_wanted = world.wanted.len() > wanted;
    if token != peer.token {
        assert!(!is_wanted && first.is_some_and(|answer| answer["type"] != "job.checkpoint"), "it is of {token}");
        came.kept_from_others += 1;
        return;
    }
    if is_wanted {
        let call = AgentCall::Checkpoint { state: job.to_string().into(), label: None };
        world.input(Input::Agent { job, call });
        world.settle();
        came.made += usize::from(peer.look(world, known).iter().any(|frame| frame["type"] == "job.checkpoint"));
    }
}

/// Begins a job at a checkpoint, perhaps of somebody else.
fn restore(world: &mut World, peer: &mut Peer, known: &mut Known, came: &mut Came) {
    let ids: Vec<&String> = known.checkpoints.keys().collect();
    let Some(id) = pick(world, &ids).map(|at| ids[at].clone()) else { return };
    let started = world.started.len();
    let (answer, _) = peer.ask(world, known, "checkpoint.restore", json!({"checkpoint_id": id}));
    let is_accepted = answer.as_ref().is_some_and(|answer| answer["type"] == "job.accepted");
    let Kept { token, job } = &known.checkpoints[&id];
    if *token != peer.token {
        assert!(!is_accepted, "{id} is of {token}, and {} begins there: {answer:?}", peer.token);
        came.kept_from_others += 1;
    } else if is_accepted {
        let answer = answer.expect("it is accepted");
        // A stepper says how far it is, in one byte.
        let is_its = |state: &Vec<u8>| state.len() == 1 || state == job.as_bytes();
        let mut states = world.started[started..].iter().filter_map(|spec| spec.checkpoint.clone());
        assert!(states.all(|state| is_its(&state)), "another state than that of {id}");
        let new = answer["job_id"].as_str().and_then(JobId::parse).expect("a job");
        known.jobs.push((new, peer.token));
        came.restored += 1;
    }
}

/// Has what came after a checkpoint sent again: all of it, in order, and nothing before.
fn resume(world: &mut World, peer: &mut Peer, known: &mut Known, came: &mut Came) {
    if peer.family != Family::Open {
        return;
    }
    peer.look(world, known);
    let Some((id, seq)) = pick(world, &peer.told).map(|at| peer.told[at].clone()) else { return };
    let streams = world.below(2) == 0;
    let told = peer.told.clone();
    let wish = json!({"checkpoint_id": id, "include_open_streams": streams});
    let (answer, frames) = peer.ask(world, known, "resume", wish);
    peer.told = told;
    let answer = answer.expect("it is answered");
    if answer["type"] != "ack" {
        assert_eq!(code(&answer), "DATA_LOSS", "{answer}");
        return;
    }
    let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect();
    let next = seq + 1..=seq + seqs.len() as u64;
    assert_eq!(seqs, next.collect::<Vec<_>>(), "after {id}, which was {seq}");
    came.resumed += 1;
}

/// Has a token of a job issued, or follows the rest of one for a token, perhaps of somebody else.
fn follow(world: &mut World, peer: &mut Peer, known: &mut Known, came: &mut Came) {
    let token = pick(world, &known.tokens).filter(|_| world.below(3) > 0).map(|at| known.tokens[at].clone());
    let Some((token, whose)) = token else {
        let Some((job, _)) = pick(world, &known.jobs).map(|at| known.jobs[at]) else { return };
        let (answer, _) = peer.ask(world, known, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
        let issued = answer.as_ref().and_then(|answer| answer["payload"]["token"].as_str());
        known.tokens.extend(issued.map(|token| (token.to_string(), peer.token)));
        return;
    };
    let (answer, _) = peer.ask(world, known, "x-vendor.arcp.job_token.exchange", json!({"token": token}));
    let is_followed = answer.as_ref().is_some_and(|answer| answer["type"] == "job.subscribed");
    assert!(!is_followed || whose == peer.token, "{} follows a job of {whose}: {answer:?}", peer.token);
    came.exchanged += usize::from(is_followed);
    came.kept_from_others += usize::from(whose != peer.token);
}

#[test]
fn random_worlds_begin_and_resume_at_checkpoints_and_follow_jobs_for_tokens_of_their_own_alone() {
    let mut came = Came::default();
    for seed in 0..12 {
        eprintln!("seed {seed}");
        let mut world = World::configured(seed, |config: &mut Config| {
            config.restartable_agents.insert("waiter".into());
            config.timing.heartbeat = None;
            let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
            waiter.gives_checkpoints = true;
        });
        let mut peers: Vec<Peer> = PEERS.map(|who| open(&mut world, who)).into();
        let mut known = Known::default();
        for n in 0..80 {
            act(&mut world, &mut peers, &mut known, &mut came);
            if n % 20 == seed {
                world.restores();
            }
        }
        world.finish();
    }
    eprintln!("{came:?}");
    let Came { made, restored, resumed, exchanged, kept_from_others } = came;
    assert!(made > 20 && restored > 20 && resumed > 10 && exchanged > 20 && kept_from_others > 20, "{came:?}");
}
