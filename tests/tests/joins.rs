//! Sessions that subscribe to jobs and unsubscribe, and repeated requests: what the store keeps of a session and a job
//! is bounded.

use std::time::Duration;

use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::Store as _;
use arcp_proto::id::{JobId, LogPos};
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, Input, Record};
use arcp_tests::kept::{Folder, batch_of, loaded};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn comings_and_goings(records: &[(LogPos, Record)]) -> usize {
    records.iter().filter(|(_, record)| matches!(record, Record::Joined { .. } | Record::Left { .. })).count()
}

fn watch_and_leave(world: &mut World, raw: &mut Raw, job: &Value, times: usize) {
    for _ in 0..times {
        raw.send(world, "job.subscribe", json!({"job_id": job}));
        raw.send(world, "job.unsubscribe", json!({"job_id": job}));
        world.run_for(Duration::from_millis(50));
    }
}

#[test]
fn however_often_a_session_comes_and_leaves_the_store_keeps_the_last_record_of_it() {
    // By a key it owns the job as well: one record more, once.
    for (keyed, kept) in [(false, [1, 1]), (true, [2, 2])] {
        let mut world = World::seeded(1);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let submit = json!({"agent": "waiter", "idempotency_key": "k"});
        let job = owner.submit(&mut world, submit.clone())["job_id"].clone();
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        if keyed {
            raw.submit(&mut world, submit.clone());
        }
        watch_and_leave(&mut world, &mut raw, &job, 30);
        assert_eq!(comings_and_goings(&world.store.records(true)), kept[0]);
        let folder = Folder::new(&format!("joins-{keyed}"));
        let mut store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("a store");
        store.commit(&[batch_of(&world.store.records(false))]).expect("it is committed");
        assert_eq!(comings_and_goings(&loaded(&mut store).0), kept[0]);
        raw.submit(&mut world, submit);
        world.settle();
        assert_eq!(comings_and_goings(&world.store.records(true)), kept[1]);
        world.finish();
    }
}

#[test]
fn a_session_that_came_and_left_is_restored_as_it_was_and_goes_on_to_leave_one_record() {
    for compact in [false, true] {
        let mut world = World::seeded(2);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        // One that is started again after a restart.
        let job = owner.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 5000}}))["job_id"].clone();
        let (mut raw, mut welcome) = Raw::open(&mut world, "tok-a");
        for watches in [true, false] {
            watch_and_leave(&mut world, &mut raw, &job, 3);
            if watches {
                raw.send(&mut world, "job.subscribe", json!({"job_id": job}));
            }
            world.run_for(Duration::from_millis(50));
            world.crash_with(0, compact);
            let last = seqs(&world, &raw).last().copied().unwrap_or(0);
            raw = Raw::reclaim(&mut world, "tok-a", &welcome, last);
            welcome = raw.expect(&mut world, "session.resumed");
            world.run_for(Duration::from_secs(5));
            assert_eq!(!seqs(&world, &raw).is_empty(), watches, "{compact}");
        }
        let before = comings_and_goings(&world.store.records(true));
        watch_and_leave(&mut world, &mut raw, &job, 30);
        // Each request is a record, as long as there are not too many of them.
        assert!(comings_and_goings(&world.store.records(true)) <= before + 30);
        world.finish();
    }
}

fn seqs(world: &World, raw: &Raw) -> Vec<u64> {
    let frames = world.frames_of(raw.conn).iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    frames.filter_map(|frame| frame["event_seq"].as_u64()).collect()
}

#[test]
fn a_session_of_the_open_family_leaves_as_many_records_as_there_may_be_requests() {
    let mut world = World::configured(3, |config| config.limits.job.requests_per_job = 5);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    watch_and_leave(&mut world, &mut raw, &job, 40);
    assert_eq!(comings_and_goings(&world.store.records(true)), 5 + 1, "each request, and that it left");
    world.finish();
}

/// Invokes with a key, under this message id.
fn invoke(world: &mut World, raw: &mut Raw, id: &str, key: &str) -> Value {
    let frame = json!({"id": id, "type": "tool.invoke", "idempotency_key": key, "payload": {"tool": "waiter"}});
    raw.send_text(world, &frame.to_string());
    raw.expect_any(world, &["job.accepted", "nack"])
}

#[test]
fn a_message_that_comes_again_is_answered_however_many_requests_there_were() {
    let mut world = World::configured(4, |config| config.limits.job.requests_per_job = 2);
    let (mut raw, opened) = Raw::open(&mut world, "tok-a");
    for id in ["one", "two", "one", "two", "two", "one"] {
        let answer = invoke(&mut world, &mut raw, id, "k");
        assert_eq!((&answer["type"], &answer["correlation_id"]), (&json!("job.accepted"), &json!(id)));
    }
    let full = invoke(&mut world, &mut raw, "three", "k");
    assert_eq!(code(&full), "RESOURCE_EXHAUSTED");
    // Its id is the principal's.
    let (mut other, _) = Raw::open(&mut world, "tok-a");
    for id in ["two", "one", "two"] {
        let answer = invoke(&mut world, &mut other, id, "k");
        assert_eq!((&answer["type"], &answer["correlation_id"]), (&json!("job.accepted"), &json!(id)));
    }
    world.settle();
    let kept = comings_and_goings(&world.store.records(true));
    for id in ["one", "two", "one", "two"] {
        invoke(&mut world, &mut other, id, "k");
    }
    world.settle();
    assert_eq!(comings_and_goings(&world.store.records(true)), kept, "nothing that was not known");
    let shown = world.frames_of(raw.conn).to_vec();
    world.crash_with(0, true);
    let mut back = Raw::reclaim(&mut world, "tok-a", &opened, 0);
    back.expect(&mut world, "session.resumed");
    world.settle();
    let numbered = |frames: &[String]| -> Vec<String> {
        frames.iter().filter(|frame| frame.contains("\"event_seq\":")).cloned().collect()
    };
    let again = numbered(world.frames_of(back.conn));
    assert_eq!(again[..numbered(&shown).len()], numbered(&shown), "byte for byte");
    world.finish();
}

#[test]
fn a_client_names_the_child_that_it_submits_and_one_that_its_agent_made_is_not_made_again() {
    let mut world = World::seeded(31);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["waiter"], "tool.call": ["a.*"]});
    let job = raw.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    let below = |agent: &str, name: Value| json!({"agent": agent, "parent_job_id": job, "delegate_id": name, "lease_request": {"tool.call": ["a.b"]}});
    let accepted = raw.submit(&mut world, below("waiter", json!("del_1")));
    assert_eq!(accepted["payload"]["delegate_id"], "del_1", "{accepted}");
    world.settle();
    let told = raw.take(&world).into_iter().find(|frame| frame["payload"]["kind"] == "delegate").expect("it is told");
    assert_eq!(told["payload"]["body"]["delegate_id"], "del_1");
    let again = raw.submit(&mut world, below("waiter", json!("del_1")));
    assert_eq!(again["job_id"], accepted["job_id"], "the same name is the same child");
    let other = raw.submit(&mut world, below("waiter", json!("del_2")));
    assert_ne!(other["job_id"], accepted["job_id"]);
    // What the agent asked for under a name, a client that asks for it too is given.
    let asked = r#"{"delegate_id":"del_3","agent":"waiter","lease_request":{"tool.call":["a.b"]}}"#;
    let call = AgentCall::Emit { kind: "delegate".into(), body: Json::parse(asked).expect("JSON") };
    world.input(Input::Agent { job: job.as_str().and_then(JobId::parse).expect("an id"), call });
    world.settle();
    let of_agent = |frame: &Value| frame["payload"]["body"]["delegate_id"] == "del_3";
    let told = raw.take(&world).into_iter().find(of_agent).expect("it is told");
    let made = raw.submit(&mut world, below("waiter", json!("del_3")));
    assert_eq!(made["job_id"], told["payload"]["body"]["child_job_id"]);
    let mut different = below("waiter", json!("del_3"));
    different["input"] = json!({"n": 1});
    for (submit, expected) in [(different, "DUPLICATE_KEY"), (below("waiter", json!("")), "INVALID_REQUEST")] {
        raw.send(&mut world, "job.submit", submit.clone());
        let refused = raw.expect_any(&mut world, &["session.error", "job.error"]);
        assert_eq!(code(&refused), expected, "{submit}");
    }
    // Without a job that knows it by it a name names nothing.
    let plain = json!({"agent": "waiter", "delegate_id": "del_1"});
    let plain = raw.submit(&mut world, plain);
    assert!(plain["payload"]["delegate_id"].is_null() && plain["job_id"] != accepted["job_id"], "{plain}");
    world.restores();
    world.finish();
}
