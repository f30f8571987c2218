//! What an agent emits within one millisecond reaches the core as one input. Readers get the same frames as from one
//! input after the other.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::model::event::EventKind;
use arcp_proto::runtime::{AgentCall, AgentExit, Input};
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

/// What is said: kinds of which some are withheld from some readers, one that opens a
/// stream in the open family, one that is dropped, and one that asks for a child in vain.
const SAID: [(&str, &str); 11] = [
    ("metric", r#"{"name":"m","value":1}"#),
    ("progress", r#"{"current":1,"total":9}"#),
    ("log", r#"{"message":"m"}"#),
    ("thought", r#"{"text":"t"}"#),
    ("thought", r#"{"text":"u","redacted":true}"#),
    ("metric", r#"{"name":"m"}"#),
    ("delegate", r#"{"agent":"echo"}"#),
    ("progress", r#"{"current":2,"total":9}"#),
    ("tool_call", r#"{"tool":"t","tool_call_id":"c"}"#),
    ("status", r#"{"phase":"p"}"#),
    ("x-vendor.acme.note", r#"{"a":[1,{"b":"}"}]}"#),
];

fn calls(from: usize, count: usize) -> Vec<AgentCall> {
    let said = (from..from + count).map(|n| SAID[n % SAID.len()]);
    said.map(|(kind, body)| AgentCall::Emit { kind: EventKind::from(kind), body: Json::parse(body).expect("JSON") })
        .collect()
}

fn say(world: &mut World, job: JobId, calls: Vec<AgentCall>, together: bool) {
    if together {
        return world.input(Input::AgentSays { job, calls });
    }
    for call in calls {
        world.input(Input::Agent { job, call });
    }
}

/// Everything that the readers of a job are shown whose agent says this and that, one of
/// them after it came back, and whoever comes back after a crash.
fn shown(seed: u64, together: bool) -> Vec<Vec<Value>> {
    let mut world = World::seeded(seed);
    let (mut hello, welcome) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    observer.send(&mut world, "subscribe", json!({"filter": {"types": ["metric", "log", "stream.chunk"]}}));
    let job = hello.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    world.settle();
    let id = JobId::parse(job.as_str().expect("an id")).expect("ours");
    let mut said = 0;
    for round in 0..12 {
        let count = 1 + (seed as usize + 7 * round) % 23;
        say(&mut world, id, calls(said, count), together);
        said += count;
        world.run_for(Duration::from_millis(20));
    }
    let mut all = vec![hello.settle(&mut world), open.settle(&mut world), observer.settle(&mut world)];
    let before = all[0].iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0) / 2;
    world.crash();
    world.run_for(Duration::from_secs(1));
    let mut again = Raw::resume(&mut world, "tok-a", &welcome, before);
    world.input(Input::AgentExited { job: id, exit: AgentExit::Lost });
    all.push(again.settle(&mut world));
    world.finish();
    all
}

#[test]
fn what_is_said_together_is_shown_as_what_is_said_one_after_the_other() {
    for seed in 0..12 {
        let (alone, together) = (shown(seed, false), shown(seed, true));
        assert!(alone[0].len() > 20, "{} frames", alone[0].len());
        for (alone, together) in alone.iter().zip(&together) {
            // What is told of a session anew is drawn by lot, and what is numbered is not.
            let numbered = |frames: &[Value]| -> Vec<Value> {
                frames.iter().filter(|frame| frame["event_seq"].is_u64()).cloned().collect()
            };
            assert_eq!(numbered(alone), numbered(together), "seed {seed}");
        }
    }
}

#[test]
fn a_call_that_breaks_a_rule_ends_the_job_and_nothing_after_it_counts() {
    let mut world = World::configured(3, |config| config.limits.delivery.agent_credit = 4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    let id = JobId::parse(job.as_str().expect("an id")).expect("ours");
    say(&mut world, id, calls(0, 1).into_iter().cycle().take(6).collect(), true);
    let frames = raw.until_end(&mut world);
    let metrics = frames.iter().filter(|frame| frame["payload"]["kind"] == "metric").count();
    assert_eq!((metrics, frames.last().map(|last| last["type"].clone())), (4, Some(json!("job.error"))), "{frames:?}");
}
