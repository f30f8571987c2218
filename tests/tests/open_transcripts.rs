//! Golden transcripts of the open family, and the answers in each phase of a session.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::fmt::Write as _;
use std::time::Duration;

use arcp_proto::runtime::{AgentCall, AgentExit, Input, Notice};
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::scene::{Scene, answers, golden};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn last_job(scene: &Scene, raw: &Raw) -> Value {
    let mut latest = scene.world.frames_of(raw.conn).iter().rev();
    latest.find_map(|text| serde_json::from_str::<Value>(text).ok()?.get("job_id").cloned()).expect("a job")
}

#[test]
fn section_8_open_sessions() {
    let mut scene = Scene::new("RFC §8, §9: open, prove, ping, close, claim");
    let mut raw = scene.connect();
    let mut bare = open_payload("");
    bare["auth"] = json!({"scheme": "bearer"});
    scene.say(&mut raw, "session.open", bare);
    scene.say(&mut raw, "tool.invoke", json!({"tool": "echo", "arguments": {}}));
    scene.say(&mut raw, "session.authenticate", json!({"response": "wrong"}));
    scene.say(&mut raw, "session.authenticate", json!({"response": "tok-a"}));
    let frames = scene.world.frames_of(raw.conn);
    let accepted: Value = serde_json::from_str(&frames[frames.len() - 1]).expect("JSON");
    scene.say(&mut raw, "ping", json!({"nonce": "n1"}));
    scene.say(&mut raw, "session.ping", json!({"nonce": "n2"}));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "echo", "arguments": {"n": 1}}));
    scene.say(&mut raw, "artifact.put", json!({"media_type": "text/plain", "data": "aGk="}));
    scene.say(&mut raw, "arcpx.other.v1", json!({}));
    scene.say(&mut raw, "session.close", json!({"reason": "done"}));
    scene.note("claimed from 1 on a fresh session: it is resumed, then the replay");
    let mut back = scene.connect();
    scene.say(&mut back, "session.open", open_payload("tok-a"));
    let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": 1});
    scene.say(&mut back, "session.resume", claim.clone());
    scene.note("the old token again");
    let mut thief = scene.connect();
    scene.say(&mut thief, "session.open", open_payload("tok-a"));
    scene.say(&mut thief, "session.resume", claim);
    scene.note("a requirement that nobody meets");
    let mut wishful = scene.connect();
    let mut wish = open_payload("tok-a");
    wish["capabilities"]["required"] = json!(["artifacts"]);
    scene.say(&mut wishful, "session.open", wish);
    scene.close("open-section-8-sessions.txt");
}

#[test]
fn section_10_open_jobs() {
    let mut scene = Scene::new("RFC §10, §11: invoke, refuse, cancel, list, watch");
    let mut raw = scene.connect();
    scene.say(&mut raw, "session.open", open_payload("tok-a"));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "kinds", "arguments": {}}));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "slow", "arguments": {"ticks": 2}}));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "chunker", "arguments": {"chunks": 2, "bytes": 4}}));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "nobody", "arguments": {}}));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "echo", "arguments": {}, "cost_budget": ["USD:1"]}));
    scene.say(&mut raw, "tool.invoke", json!({"tool": "waiter", "arguments": {}}));
    let job = last_job(&scene, &raw);
    let wish = json!({"target": "job", "target_id": job, "reason": "enough", "deadline_ms": 1000});
    scene.say(&mut raw, "cancel", wish.clone());
    scene.say(&mut raw, "cancel", wish);
    scene.say(&mut raw, "session.list_jobs", json!({"limit": 1}));
    scene.note("another session watches an ended job");
    let mut watcher = scene.connect();
    scene.say(&mut watcher, "session.open", open_payload("tok-a"));
    scene.say(&mut watcher, "job.subscribe", json!({"job_id": job, "history": true}));
    scene.note("a hello session watches it too");
    let mut other = scene.connect();
    scene.say(&mut other, "session.hello", hello_payload("tok-a"));
    scene.say(&mut other, "job.subscribe", json!({"job_id": job, "history": true}));
    scene.close("open-section-10-jobs.txt");
}

/// What a connection answers to each message in each of its phases.
#[test]
fn transitions_of_an_open_connection() {
    const PHASES: [&str; 4] = ["challenged", "authenticating", "attached", "refreshing"];
    let messages = [
        ("session.open", open_payload("tok-a")),
        ("session.authenticate", json!({"response": "tok-a"})),
        ("session.authenticate (wrong)", json!({"response": "wrong"})),
        ("session.resume (unknown)", json!({"resume_token": "rtk_x", "last_event_seq": 0})),
        ("session.hello", hello_payload("tok-a")),
        ("session.ping", json!({})),
        ("session.close", json!({})),
        ("ping", json!({})),
        ("nack", json!({})),
        ("tool.invoke", json!({"tool": "echo", "arguments": {}})),
        ("cancel (unknown)", json!({"target": "job", "target_id": "job_x"})),
        ("human.input.response", json!({})),
        ("com.example.thing", json!({})),
        ("unknown", json!({})),
    ];
    let mut table = String::from("phase x message -> what is answered\n\n");
    for phase in PHASES {
        for (name, payload) in &messages {
            let kind = name.split(' ').next().expect("a word");
            let mut world = World::configured(4, |config| config.timing.session_lease = Some(Duration::from_secs(100)));
            let mut raw = Raw::connect(&mut world);
            match phase {
                "challenged" => {
                    raw.send(&mut world, "session.open", json!({"auth": {"scheme": "bearer"}}));
                    raw.expect(&mut world, "session.challenge");
                }
                "authenticating" => {
                    raw.send(&mut world, "session.open", open_payload("tok-a"));
                }
                "attached" => raw = Raw::open(&mut world, "tok-a").0,
                _ => {
                    let auth = json!({"scheme": "bearer", "token": "tok-a"});
                    raw = Raw::open_with(&mut world, json!({"auth": auth})).0;
                    raw.expect(&mut world, "session.refresh");
                }
            }
            raw.send(&mut world, kind, payload.clone());
            let shown = answers(&mut world, &mut raw);
            let closed = world.close_reason(raw.conn).map(|reason| format!(" closed: {reason:?}")).unwrap_or_default();
            writeln!(table, "{phase:<15} {name:<28} -> {shown}{closed}").expect("a string");
            world.finish();
        }
        table.push('\n');
    }
    golden("transitions-open-connection.txt", &table);
}

/// What a job of an agent that must speak does in each of its states.
#[test]
fn transitions_of_an_open_job() {
    const STATES: [&str; 6] = ["accepting", "queued", "running", "blocked", "cancelling", "ended"];
    const INPUTS: [&str; 8] = [
        "cancel",
        "cancel at once",
        "cancel by another",
        "silence",
        "agent speaks",
        "time limit",
        "agent succeeds",
        "store works",
    ];
    let mut table = String::from("state x input -> what is listed, and what the submitter is told\n\n");
    for state in STATES {
        for input in INPUTS {
            writeln!(table, "{state:<11} {input:<18} -> {}", job_transition(state, input)).expect("a string");
        }
        table.push('\n');
    }
    golden("transitions-open-job.txt", &table);
}

fn job_transition(state: &str, input: &str) -> String {
    let mut world = World::configured(5, |config| {
        config.limits.job.running_jobs = 1;
        config.heartbeat_agents.insert("stubborn".into());
    });
    let opening = |recovery: &str| json!({"auth": {"scheme": "bearer", "token": "tok-a"}, "capabilities": {"heartbeat_recovery": recovery}});
    let (mut raw, _) = Raw::open_with(&mut world, opening("block"));
    let (mut other, _) = Raw::open_with(&mut world, opening("block"));
    if state == "queued" {
        other.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}));
    }
    let tool = if state == "ended" { "echo" } else { "stubborn" };
    world.store.broken = state == "accepting";
    raw.send(&mut world, "tool.invoke", json!({"tool": tool, "arguments": {}, "max_runtime_sec": 200}));
    world.settle();
    let job = world.notices.iter().rev().find_map(|notice| match notice {
        Notice::JobAccepted { job, .. } => Some(*job),
        _ => None,
    });
    let job = job.expect("accepted");
    let wish = |deadline: u64| json!({"target": "job", "target_id": job.to_string(), "deadline_ms": deadline});
    match state {
        "blocked" => world.run_for(Duration::from_secs(61)),
        "cancelling" => drop(raw.send(&mut world, "cancel", wish(600_000))),
        _ => {}
    }
    world.settle();
    raw.take(&world);
    match input {
        "cancel" => drop(raw.send(&mut world, "cancel", wish(600_000))),
        "cancel at once" => drop(raw.send(&mut world, "cancel", wish(0))),
        "cancel by another" => drop(other.send(&mut world, "cancel", wish(0))),
        "silence" => world.run_for(Duration::from_secs(61)),
        "agent speaks" => world.input(Input::Agent { job, call: AgentCall::Heartbeat }),
        "time limit" => world.run_for(Duration::from_secs(201)),
        "agent succeeds" => {
            world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
        }
        _ => world.store.broken = false,
    }
    let told = answers_about(&mut world, &mut raw);
    world.store.broken = false;
    world.run_for(Duration::from_millis(1100));
    raw.send(&mut world, "session.list_jobs", json!({}));
    let page = raw.expect(&mut world, "session.jobs");
    let listed = page["payload"]["jobs"].as_array().expect("jobs").iter();
    let own = listed.filter(|entry| entry["job_id"] == job.to_string()).map(|entry| entry["status"].clone()).next();
    world.finish();
    format!("{:<10} {told}", own.expect("listed").as_str().expect("a word"))
}

/// As [`answers`], without signs of life, which come when they come.
fn answers_about(world: &mut World, raw: &mut Raw) -> String {
    let told = answers(world, raw);
    told.split(", ").filter(|word| *word != "job.heartbeat").collect::<Vec<_>>().join(", ")
}
