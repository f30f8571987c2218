//! Golden transcripts, one per section of the protocol, which people can read. `ARCP_BLESS=1` writes them anew.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::fmt::Write as _;
use std::time::Duration;

use arcp_tests::raw::{Raw, hello_payload};
use arcp_tests::scene::{Scene, answers, golden};
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

fn job_of(scene: &Scene, raw: &Raw) -> Value {
    let accepted = scene.world.frames_of(raw.conn).iter().rev().find(|frame| frame.contains("\"job.accepted\""));
    let frame: Value = serde_json::from_str(accepted.expect("accepted")).expect("JSON");
    frame["job_id"].clone()
}

#[test]
fn section_6_sessions() {
    let mut scene = Scene::new("1.1 §6: open, ping, acknowledge, close, resume");
    let mut raw = scene.connect();
    scene.say(&mut raw, "session.hello", hello_payload("tok-a"));
    let welcome: Value = serde_json::from_str(&scene.world.frames_of(raw.conn)[0]).expect("JSON");
    scene.say(&mut raw, "session.ping", json!({"nonce": "n1"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "echo", "input": {"n": 1}}));
    scene.say(&mut raw, "session.ack", json!({"last_processed_seq": 1}));
    scene.say(&mut raw, "session.hello", hello_payload("tok-a"));
    scene.say(&mut raw, "session.close", json!({"reason": "done"}));
    scene.note("resume from 1: the welcome, then the replay");
    let mut back = scene.connect();
    let mut hello = hello_payload("tok-a");
    hello["resume"] = json!({"session_id": welcome["session_id"], "resume_token": welcome["payload"]["resume_token"], "last_event_seq": 1});
    scene.say(&mut back, "session.hello", hello.clone());
    scene.note("the old token again");
    let mut thief = scene.connect();
    scene.say(&mut thief, "session.hello", hello);
    scene.note("no handshake at all");
    let mut rude = scene.connect();
    scene.say(&mut rude, "job.submit", json!({"agent": "echo"}));
    scene.close("section-6-sessions.txt");
}

#[test]
fn section_7_jobs() {
    let mut scene = Scene::new("1.1 §7: submit, key, refuse, cancel, list, watch");
    let mut raw = scene.connect();
    scene.say(&mut raw, "session.hello", hello_payload("tok-a"));
    scene.say(&mut raw, "job.submit", json!({"agent": "echo", "input": [1.5], "idempotency_key": "k"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "echo", "input": [1.5], "idempotency_key": "k"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "echo", "input": [2], "idempotency_key": "k"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "echo@9"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "nobody"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "waiter"}));
    let job = job_of(&scene, &raw);
    scene.say(&mut raw, "job.cancel", json!({"job_id": job, "reason": "enough"}));
    scene.say(&mut raw, "job.cancel", json!({"job_id": job}));
    scene.say(&mut raw, "session.list_jobs", json!({"limit": 1}));
    scene.note("another session watches an ended job");
    let mut watcher = scene.connect();
    scene.say(&mut watcher, "session.hello", hello_payload("tok-a"));
    scene.say(&mut watcher, "job.subscribe", json!({"job_id": job, "history": true}));
    scene.say(&mut watcher, "job.subscribe", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
    scene.close("section-7-jobs.txt");
}

#[test]
fn section_8_events() {
    let mut scene = Scene::new("1.1 §8: every kind of event, progress, a result in pieces");
    let mut raw = scene.connect();
    scene.say(&mut raw, "session.hello", hello_payload("tok-a"));
    scene.say(&mut raw, "job.submit", json!({"agent": "kinds"}));
    scene.say(&mut raw, "job.submit", json!({"agent": "slow", "input": {"ticks": 2}}));
    scene.say(&mut raw, "job.submit", json!({"agent": "chunker", "input": {"chunks": 2, "bytes": 4}}));
    scene.close("section-8-events.txt");
}

/// What a job does in each of its states, as a table.
#[test]
fn transitions_of_a_job() {
    const STATES: [&str; 5] = ["accepting", "queued", "running", "cancelling", "ended"];
    const INPUTS: [&str; 7] =
        ["cancel", "cancel by another", "time limit", "grace over", "agent succeeds", "agent lost", "store works"];
    let mut table = String::from("state x input -> what is listed, and what the submitter is told\n\n");
    for state in STATES {
        for input in INPUTS {
            let outcome = transition(state, input);
            writeln!(table, "{state:<11} {input:<18} -> {outcome}").expect("a string");
        }
        table.push('\n');
    }
    golden("transitions-job.txt", &table);
}

fn transition(state: &str, input: &str) -> String {
    let mut options = Options::new(3);
    options.config.limits.job.running_jobs = 1;
    let mut world = World::new(options);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    if state == "queued" {
        raw.submit(&mut world, json!({"agent": "stubborn"}));
    }
    let agent = if state == "ended" { "echo" } else { "stubborn" };
    world.store.broken = state == "accepting";
    raw.send(&mut world, "job.submit", json!({"agent": agent, "max_runtime_sec": 20}));
    world.settle();
    let (mut other, _) = match state {
        "accepting" => (Raw::connect(&mut world), Value::Null),
        _ => Raw::hello(&mut world, "tok-a"),
    };
    let job = world.notices.iter().rev().find_map(|notice| match notice {
        arcp_proto::runtime::Notice::JobAccepted { job, .. } => Some(*job),
        _ => None,
    });
    let job = job.expect("accepted");
    if state == "cancelling" {
        raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
        world.settle();
    }
    raw.take(&world);
    match input {
        "cancel" => {
            raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
        }
        "cancel by another" => {
            other.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
        }
        "time limit" => world.run_for(Duration::from_secs(21)),
        "grace over" => world.run_for(Duration::from_secs(6)),
        "agent succeeds" => {
            exit(&mut world, job, arcp_proto::runtime::AgentExit::Success { result: None, summary: None })
        }
        "agent lost" => exit(&mut world, job, arcp_proto::runtime::AgentExit::Lost),
        _ => world.store.broken = false,
    }
    world.settle();
    let told: Vec<String> = raw.take(&world).iter().filter_map(|frame| told(frame, job)).collect();
    world.store.broken = false;
    world.run_for(Duration::from_millis(1100));
    raw.send(&mut world, "session.list_jobs", json!({}));
    let page = raw.expect(&mut world, "session.jobs");
    let jobs = page["payload"]["jobs"].as_array().expect("jobs").clone();
    let status = jobs.iter().find(|entry| entry["job_id"] == job.to_string()).map(|entry| entry["status"].clone());
    world.finish();
    format!("{:<10} {}", status.expect("listed").as_str().expect("a word"), told.join(", "))
}

fn exit(world: &mut World, job: arcp_proto::id::JobId, exit: arcp_proto::runtime::AgentExit) {
    world.input(arcp_proto::runtime::Input::AgentExited { job, exit });
}

fn told(frame: &Value, job: arcp_proto::id::JobId) -> Option<String> {
    let payload = &frame["payload"];
    let of_job = frame["job_id"] == job.to_string() || payload["job_id"] == job.to_string();
    let word = |name: &str| payload[name].as_str().unwrap_or("").to_string();
    match frame["type"].as_str()? {
        "session.error" => Some(format!("refused {}", word("code"))),
        "job.event" if of_job => Some(format!("{} {}", word("kind"), payload["body"]["phase"].as_str().unwrap_or(""))),
        "job.result" | "job.error" if of_job => {
            Some(format!("{} {}", word("final_status"), word("code")).trim().to_string())
        }
        kind if of_job => Some(kind.to_string()),
        _ => None,
    }
}

/// What a connection answers to each message in each of its phases.
#[test]
fn transitions_of_a_connection() {
    const PHASES: [&str; 3] = ["fresh", "authenticating", "attached"];
    let messages = [
        ("session.hello", hello_payload("tok-a")),
        ("session.hello (wrong token)", hello_payload("wrong")),
        ("session.resume (unknown)", json!({"resume_token": "rtk_x", "last_event_seq": 0})),
        ("session.open", json!({})),
        ("session.ping", json!({})),
        ("session.close", json!({})),
        ("session.bye", json!({})),
        ("job.submit", json!({"agent": "echo"})),
        ("x-vendor.a.b", json!({})),
        ("unknown", json!({})),
    ];
    let mut table = String::from("phase x message -> what is answered\n\n");
    for phase in PHASES {
        for (name, payload) in &messages {
            let kind = name.split(' ').next().expect("a word");
            let mut world = World::seeded(4);
            let mut raw = Raw::connect(&mut world);
            match phase {
                "authenticating" => {
                    raw.send(&mut world, "session.hello", hello_payload("tok-a"));
                }
                "attached" => raw = Raw::hello(&mut world, "tok-a").0,
                _ => {}
            }
            raw.send(&mut world, kind, payload.clone());
            let shown = answers(&mut world, &mut raw);
            let closed = world.close_reason(raw.conn).map(|reason| format!(" closed: {reason:?}")).unwrap_or_default();
            writeln!(table, "{phase:<15} {name:<28} -> {}{closed}", shown).expect("a string");
            world.finish();
        }
        table.push('\n');
    }
    golden("transitions-connection.txt", &table);
}
