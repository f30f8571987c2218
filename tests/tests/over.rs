//! Sessions that have ended, or that can do only one thing: what the store and a restart know of them.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, Input, Record};
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::json;

#[test]
fn the_store_is_told_nothing_of_a_session_after_its_end() {
    let mut world = World::configured(1, |config| config.timing.session_lease = Some(Duration::from_secs(10)));
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 1000}}))["job_id"].clone();
    let (mut raw, _) = Raw::open_with(&mut world, open_payload("tok-a"));
    raw.send(&mut world, "subscribe", json!({"filter": {}}));
    raw.send(&mut world, "job.subscribe", json!({"job_id": job}));
    raw.expect(&mut world, "session.refresh");
    world.run_for(Duration::from_secs(2));
    // It is taken from its client, and that is not durable for a while.
    world.store.broken = true;
    world.run_for(Duration::from_millis(700));
    for (kind, payload) in [
        ("job.subscribe", json!({"job_id": job, "history": true})),
        ("job.unsubscribe", json!({"job_id": job})),
        ("subscribe", json!({"filter": {}})),
        ("tool.invoke", json!({"tool": "echo"})),
    ] {
        raw.send(&mut world, kind, payload);
        world.run_for(Duration::from_millis(100));
    }
    world.store.mend();
    let evicted = raw.expect(&mut world, "session.evicted");
    world.run_for(Duration::from_secs(2));
    let records = world.store.records(false);
    let end = records.iter().position(|(_, record)| record.ends_session().is_some()).expect("it ended");
    let session = records[end].1.session();
    let late: Vec<_> = records[end + 1..].iter().filter(|(_, record)| record.session() == session).collect();
    assert!(late.is_empty(), "nobody would ever delete it: {late:?}");
    let jobs = records.iter().filter(|(_, record)| matches!(record, Record::JobAccepted(_))).count();
    assert_eq!(jobs, 1, "what it was asked meanwhile is not done: {evicted}");
    world.finish();
}

#[test]
fn a_session_that_is_there_to_resume_another_one_is_gone_after_a_restart() {
    for compact in [false, true] {
        let mut world = World::configured(2, |config| config.limits.session.sessions_per_principal = 1);
        let (mut raw, accepted) = Raw::open(&mut world, "tok-a");
        raw.invoke(&mut world, json!({"tool": "echo"}));
        raw.until_end(&mut world);
        world.cut(raw.conn);
        let (_, second) = Raw::open(&mut world, "tok-a");
        assert_eq!(world.runtime().stats().sessions, 2);
        world.settle();
        world.crash_with(0, compact);
        assert_eq!(world.runtime().stats().sessions, 1, "{compact}");
        let mut late = Raw::reclaim(&mut world, "tok-a", &second, 0);
        late.settle(&mut world);
        assert!(late.is_closed(&world), "nothing comes of its token");
        let mut back = Raw::reclaim(&mut world, "tok-a", &accepted, 0);
        back.expect(&mut world, "session.resumed");
        world.finish();
    }
}

#[test]
fn a_connection_that_leaves_is_answered_nothing_more() {
    let mut world = World::seeded(3);
    let mut raw = Raw::on(world.open_vouched("a"));
    raw.send(&mut world, "session.hello", hello_payload("tok-a"));
    raw.expect(&mut world, "session.welcome");
    world.store.broken = true;
    // Its acceptance waits for the store, and the end of its session for that.
    raw.send(&mut world, "job.submit", json!({"agent": "waiter"}));
    raw.send(&mut world, "session.bye", json!({}));
    world.run_for(Duration::from_millis(100));
    let conn = raw.conn;
    world.input(Input::TooLong { conn });
    world.store.mend();
    world.run_for(Duration::from_secs(5));
    let types: Vec<_> = raw.take(&world).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(types, ["job.accepted", "job.event"], "what was said before it took its leave");
    assert!(raw.is_closed(&world));
    world.finish();
}

#[test]
fn numbers_that_were_taken_back_and_given_again_are_so_after_a_restart() {
    for compact in [false, true] {
        let mut world = World::configured(4, |config| {
            config.history = false;
            config.limits.history.job_events = 64;
            config.timing.slow_reader_grace = Duration::from_secs(3600);
        });
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let (mut reader, welcome) = Raw::hello(&mut world, "tok-a");
        let own = reader.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        let job = owner.submit(&mut world, json!({"agent": "chatty", "input": {"count": 2000}}))["job_id"].clone();
        reader.send(&mut world, "job.subscribe", json!({"job_id": job}));
        reader.expect(&mut world, "job.subscribed");
        world.stall(reader.conn, true);
        world.run_for(Duration::from_millis(230));
        let own_id = JobId::parse(own.as_str().expect("an id")).expect("ours");
        let body = Json::parse(r#"{"name":"own","value":1}"#).expect("JSON");
        world.input(Input::Agent { job: own_id, call: AgentCall::Emit { kind: "metric".into(), body } });
        owner.until_end(&mut world);
        world.settle();
        let last = reader.take(&world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max().expect("some");
        world.crash_with(0, compact);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, last);
        back.expect(&mut world, "session.welcome");
        let frames: Vec<_> = back.settle(&mut world).into_iter().filter(|frame| frame["event_seq"].is_u64()).collect();
        let first = frames.first().expect("what it was owed");
        assert_eq!((&first["event_seq"], &first["job_id"]), (&json!(last + 1), &own), "{compact}: {frames:#?}");
        world.finish();
    }
}
