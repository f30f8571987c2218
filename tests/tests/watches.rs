//! Watching jobs: all events come once, whatever they are, and the cost is that of what is shown.

use std::time::Duration;

use arcp_proto::id::{JobId, LogPos};
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentExit, ChunkData, Input, Record};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// The agent of a job says something.
fn say(world: &mut World, job: &Value, kind: &str, body: Value) {
    let job = JobId::parse(job.as_str().expect("a job")).expect("ours");
    let body = Json::parse(&body.to_string()).expect("JSON");
    world.input(Input::Agent { job, call: AgentCall::Emit { kind: kind.into(), body } });
}

/// Says things of two kinds in turn; who shows no progress sees the metrics.
fn take_turns(world: &mut World, job: &Value, events: u64) {
    for n in 0..events / 2 {
        say(world, job, "metric", json!({"name": "turn", "value": n}));
        say(world, job, "progress", json!({"current": n}));
        if n % 64 == 0 {
            world.settle();
        }
    }
    world.settle();
}

fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect()
}

fn values(frames: &[Value]) -> Vec<u64> {
    let value = |frame: &Value| frame["payload"]["body"]["value"].as_u64().or(frame["payload"]["value"].as_u64());
    frames.iter().filter(|frame| frame["event_seq"].is_u64()).filter_map(value).collect()
}

/// A hello without some features.
fn hello_without(withheld: &[&str]) -> Value {
    let mut payload = hello_payload("tok-a");
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.retain(|feature| !withheld.contains(&feature.as_str().unwrap_or_default()));
    payload
}

/// Opens a session that shows some features only.
fn limited(world: &mut World, withheld: &[&str]) -> (Raw, Value) {
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", hello_without(withheld));
    let welcome = raw.expect(world, "session.welcome");
    (raw, welcome)
}

/// Numbers that are on their way to the store.
fn numbered(world: &World) -> usize {
    world
        .given()
        .flat_map(|batch| batch.records.iter())
        .filter(|record| matches!(record, Record::Numbered { .. }))
        .count()
}

#[test]
fn a_watch_of_a_long_history_is_one_run_whatever_kinds_take_turns_in_it() {
    let mut world = World::configured(1, |config| config.limits.history.job_events = 16);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    take_turns(&mut world, &job, 2000);
    let (mut watcher, _) = limited(&mut world, &["progress"]);
    for round in 0..3 {
        world.settle();
        let before = world.runtime().stats().index_runs;
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        while world.runtime().stats().index_runs == before {
            assert!(world.step(), "it is numbered");
        }
        assert_eq!((world.runtime().stats().index_runs - before, numbered(&world)), (1, 1), "round {round}");
        let frames = watcher.settle(&mut world);
        assert_eq!(values(&frames), (0..1000).collect::<Vec<_>>());
        assert_eq!(seqs(&frames).len(), 1001, "the start as well");
        watcher.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    }
    world.finish();
}

#[test]
fn a_subscription_to_a_few_kinds_is_one_run_of_each_job() {
    let mut world = World::configured(2, |config| config.limits.history.job_events = 16);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    take_turns(&mut world, &job, 1000);
    for n in 0..10 {
        say(&mut world, &job, "thought", json!({"text": n.to_string()}));
        say(&mut world, &job, "metric", json!({"name": "turn", "value": 500 + n}));
    }
    world.settle();
    let (mut observer, opened) = Raw::open_with(&mut world, open_payload("tok-a"));
    let mut seen = Vec::new();
    for (types, runs) in
        [(json!(["metric"]), 1), (json!(["metric", "stream.chunk"]), 1), (json!(["metric", "stream.open"]), 3)]
    {
        let before = world.runtime().stats().index_runs;
        observer.send(&mut world, "subscribe", json!({"filter": {"types": types}, "since": {}}));
        seen.extend(observer.settle(&mut world).into_iter().filter(|frame| frame["event_seq"].is_u64()));
        // The boundary is one more.
        assert_eq!(world.runtime().stats().index_runs - before, runs + 1, "{types}");
    }
    let value = |frame: &Value| frame["payload"]["event"]["payload"]["value"].as_u64();
    assert_eq!(
        seen.iter().filter_map(value).collect::<Vec<_>>(),
        [(); 3].map(|()| (0..510).collect::<Vec<_>>()).concat()
    );
    world.cut(observer.conn);
    let mut back = Raw::reclaim(&mut world, "tok-a", &opened, 700);
    back.expect(&mut world, "session.resumed");
    let again: Vec<Value> = back.settle(&mut world).into_iter().filter(|frame| frame["event_seq"].is_u64()).collect();
    assert_eq!(again, seen[700..], "byte for byte the same frames");
    world.finish();
}

#[test]
fn what_was_left_out_of_a_run_is_left_out_after_a_restart_and_a_part_of_it_let_go() {
    for compact in [false, true] {
        let mut world = World::configured(3, |config| {
            config.limits.history.job_events = 16;
            config.restartable_agents.insert("waiter".into());
        });
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        take_turns(&mut world, &job, 1000);
        let (mut watcher, welcome) = limited(&mut world, &["progress"]);
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        let seen = watcher.settle(&mut world);
        watcher.send(&mut world, "session.ack", json!({"last_processed_seq": 301}));
        take_turns(&mut world, &job, 100);
        let live = watcher.settle(&mut world);
        assert_eq!((seqs(&seen), seqs(&live)), ((1..=501).collect(), (502..=551).collect()));
        world.crash_with(world.given().count(), compact);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 400);
        back.expect(&mut world, "session.welcome");
        let again: Vec<Value> = back.settle(&mut world).into_iter().filter(|f| f["event_seq"].is_u64()).collect();
        let before: Vec<Value> = seen.into_iter().chain(live).filter(|f| f["event_seq"].as_u64() > Some(400)).collect();
        assert_eq!(again[..before.len()], before, "byte for byte the same frames, compact: {compact}");
        world.finish();
    }
}

/// The chunks of a result, as an agent sends them.
fn send_chunk(world: &mut World, job: &Value, text: &str, more: bool) {
    let job = JobId::parse(job.as_str().expect("a job")).expect("ours");
    world.input(Input::Agent { job, call: AgentCall::Chunk { data: ChunkData::Text(text.into()), more } });
}

fn succeed(world: &mut World, job: &Value) {
    let job = JobId::parse(job.as_str().expect("a job")).expect("ours");
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
}

#[test]
fn a_job_that_is_watched_again_with_its_history_shows_it_again_and_its_end() {
    for again in ["after unsubscribing", "on a resumed connection", "when it is over"] {
        let mut world = World::seeded(4);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        take_turns(&mut world, &job, 20);
        let (mut watcher, welcome) = Raw::hello(&mut world, "tok-a");
        let watch = json!({"job_id": job, "history": true});
        watcher.send(&mut world, "job.subscribe", watch.clone());
        let first = watcher.settle(&mut world);
        assert_eq!(seqs(&first), (1..=21).collect::<Vec<_>>());
        if again == "after unsubscribing" {
            watcher.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
            watcher.settle(&mut world);
        } else {
            succeed(&mut world, &job);
            assert_eq!(seqs(&watcher.settle(&mut world)), [22]);
        }
        if again == "on a resumed connection" {
            world.cut(watcher.conn);
            watcher = Raw::resume(&mut world, "tok-a", &welcome, 22);
            watcher.expect(&mut world, "session.welcome");
        }
        watcher.send(&mut world, "job.subscribe", watch);
        assert_eq!(watcher.expect(&mut world, "job.subscribed")["payload"]["replayed"], true, "{again}");
        succeed(&mut world, &job);
        let frames = watcher.until_end(&mut world);
        let bodies = |frames: &[Value]| -> Vec<Value> {
            frames.iter().filter(|f| f["event_seq"].is_u64()).map(|f| f["payload"]["body"].clone()).take(21).collect()
        };
        assert_eq!((bodies(&frames), seqs(&frames).len()), (bodies(&first), 22), "{again}");
        world.finish();
    }
}

/// What the record that a session leaves a job has the store delete, after a crash or not.
fn undone_by_leaving(family: Family, crash: bool) -> Vec<LogPos> {
    let mut world = World::configured(41, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut watcher, welcome) = match family {
        Family::Hello => Raw::hello(&mut world, "tok-a"),
        Family::Open => Raw::open(&mut world, "tok-a"),
    };
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.settle(&mut world);
    if crash {
        world.crash();
        watcher = match family {
            Family::Hello => Raw::resume(&mut world, "tok-a", &welcome, 0),
            Family::Open => Raw::reclaim(&mut world, "tok-a", &welcome, 0),
        };
        watcher.settle(&mut world);
    }
    watcher.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    watcher.settle(&mut world);
    let records = world.store.records(false).into_iter();
    let undone = records.filter_map(|(_, r)| if let Record::Left { undoes, .. } = r { Some(undoes) } else { None });
    let undone = undone.collect();
    world.finish();
    undone
}

#[test]
fn who_leaves_a_job_has_the_same_deleted_after_a_restart_as_before() {
    for family in [Family::Hello, Family::Open] {
        let undone = undone_by_leaving(family, false);
        assert_eq!((undone.len(), &undone), (1, &undone_by_leaving(family, true)), "{family:?}");
    }
}

#[test]
fn who_still_gets_a_job_live_gets_nothing_twice() {
    let mut world = World::seeded(5);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut watcher, welcome) = Raw::hello(&mut world, "tok-a");
    let watch = json!({"job_id": job, "history": true});
    watcher.send(&mut world, "job.subscribe", watch.clone());
    watcher.settle(&mut world);
    watcher.send(&mut world, "job.subscribe", watch.clone());
    assert_eq!(watcher.expect(&mut world, "job.subscribed")["payload"]["replayed"], false);
    world.cut(watcher.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 1);
    back.expect(&mut world, "session.welcome");
    back.send(&mut world, "job.subscribe", watch);
    assert_eq!(back.expect(&mut world, "job.subscribed")["payload"]["replayed"], false);
    succeed(&mut world, &job);
    assert_eq!(seqs(&back.until_end(&mut world)), [2]);
    assert_eq!(seqs(&back.settle(&mut world)), [] as [u64; 0]);
    world.finish();
}

#[test]
fn a_result_in_flight_when_its_retention_ends_is_not_lost() {
    let mut world = World::configured(6, |config| {
        config.timing.resume_window = Duration::from_secs(100);
        config.timing.heartbeat = None;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "deaf", "input": {"seconds": 5}}));
    world.settle();
    world.cut(raw.conn);
    world.run_for(Duration::from_secs(97));
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let welcomed = back.expect(&mut world, "session.welcome");
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.frames_of(back.conn).len(), 3, "the start and the end were given to the transport");
    world.cut(back.conn);
    let rotated = json!({"session_id": welcome["session_id"], "payload": welcomed["payload"]});
    let mut again = Raw::resume(&mut world, "tok-a", &rotated, 0);
    let frames = again.until_end(&mut world);
    assert_eq!(seqs(&frames), [1, 2], "nobody had them");
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.runtime().stats().jobs, 0, "they arrived, and are kept no longer");
    world.finish();
}

#[test]
fn a_retry_is_told_when_how_its_job_ended_is_no_longer_kept() {
    let mut world = World::configured(7, |config| {
        config.history = false;
        config.limits.history.log_bytes = 3000;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let keyed = json!({"agent": "echo", "idempotency_key": "k"});
    raw.submit(&mut world, keyed.clone());
    raw.until_end(&mut world);
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 60}}));
    raw.until_end(&mut world);
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    other.send(&mut world, "job.submit", keyed);
    let answer = other.expect_any(&mut world, &["session.error", "job.error"]);
    assert_eq!(code(&answer), "RESUME_WINDOW_EXPIRED", "{answer}");
    world.finish();
}

#[test]
fn who_comes_late_and_reads_no_pieces_gets_the_whole_result() {
    let mut world = World::seeded(8);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let keyed = json!({"agent": "waiter", "idempotency_key": "k"});
    let job = owner.submit(&mut world, keyed.clone())["job_id"].clone();
    world.settle();
    send_chunk(&mut world, &job, "abc", true);
    let (mut late, _) = limited(&mut world, &["result_chunk"]);
    late.submit(&mut world, keyed.clone());
    let (mut watcher, _) = limited(&mut world, &["result_chunk"]);
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.settle(&mut world);
    send_chunk(&mut world, &job, "def", false);
    succeed(&mut world, &job);
    for reader in [&mut late, &mut watcher] {
        let end = reader.until_end(&mut world).pop().expect("the end");
        assert_eq!(end["payload"]["result"], "abcdef", "{end}");
    }
    world.finish();
}

#[test]
fn a_watcher_that_reads_no_pieces_gets_the_whole_result_and_fails_nobody() {
    for (text, whole) in [("abc".to_string(), true), ("x".repeat(10_000), false)] {
        let mut world = World::configured(13, |config| config.limits.frame.result_frame_bytes = 8192);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        let (mut watcher, _) = limited(&mut world, &["result_chunk"]);
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
        watcher.settle(&mut world);
        send_chunk(&mut world, &job, &text, false);
        succeed(&mut world, &job);
        let end = watcher.until_end(&mut world).pop().expect("the end");
        assert_eq!((&end["payload"]["final_status"], end["payload"]["result"] == text), (&json!("success"), whole));
        world.finish();
    }
}

#[test]
fn who_reads_no_pieces_is_told_when_there_is_nothing_else() {
    let mut world = World::configured(9, |config| config.limits.frame.result_frame_bytes = 8192);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let keyed = json!({"agent": "waiter", "idempotency_key": "k"});
    let job = owner.submit(&mut world, keyed.clone())["job_id"].clone();
    world.settle();
    send_chunk(&mut world, &job, &"x".repeat(10_000), true);
    let refused = |world: &mut World| {
        let (mut late, _) = limited(world, &["result_chunk"]);
        late.send(world, "job.submit", json!({"agent": "waiter", "idempotency_key": "k"}));
        let answer = late.expect_any(world, &["session.error", "job.error"]);
        assert!(answer["payload"]["message"].as_str().is_some_and(|text| text.contains("result_chunk")), "{answer}");
    };
    refused(&mut world);
    send_chunk(&mut world, &job, "the end", false);
    succeed(&mut world, &job);
    let end = owner.until_end(&mut world).pop().expect("the end");
    assert_eq!(end["payload"]["final_status"], "success", "nobody's job fails for who came late");
    refused(&mut world);
    world.finish();
}

#[test]
fn a_resume_over_an_event_that_is_lost_further_on_is_refused_at_once() {
    let mut world = World::configured(10, |config| {
        config.limits.job.jobs = 2;
        config.limits.job.principal_share = 100;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let one = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let two = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    world.cut(raw.conn);
    say(&mut world, &one, "metric", json!({"name": "m", "value": 1}));
    succeed(&mut world, &two);
    say(&mut world, &one, "metric", json!({"name": "m", "value": 2}));
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    other.submit(&mut world, json!({"agent": "echo"}));
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 2);
    let answer = back.expect_any(&mut world, &["session.error", "session.welcome"]);
    assert_eq!(code(&answer), "RESUME_WINDOW_EXPIRED");
    assert!(answer["payload"]["message"].as_str().is_some_and(|text| text.contains("number 4")), "{answer}");
    world.finish();
}

#[test]
fn payloads_written_for_several_sessions_are_kept_within_a_bound() {
    let mut world = World::configured(11, |config| config.limits.delivery.rendered_bytes = 50_000);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let withheld: [&[&str]; 4] = [&[], &["result_chunk"], &["agent_versions"], &["result_chunk", "agent_versions"]];
    let mut watchers = withheld.map(|features| limited(&mut world, features).0);
    for watcher in &mut watchers {
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    }
    world.settle();
    let text = "y".repeat(10_000);
    for n in 0..20 {
        say(&mut world, &job, "x-vendor.test.note", json!({"n": n, "text": text}));
        world.settle();
        let kept = world.runtime().stats().rendered_bytes;
        assert!((10_000..=50_000).contains(&kept), "{kept}");
    }
    for watcher in &mut watchers {
        let frames = watcher.settle(&mut world);
        let notes: Vec<u64> = frames.iter().filter_map(|frame| frame["payload"]["body"]["n"].as_u64()).collect();
        assert_eq!(notes, (0..20).collect::<Vec<_>>());
    }
    say(&mut world, &job, "x-vendor.test.note", json!({"n": 20, "text": "y".repeat(60_000)}));
    world.settle();
    assert!(world.runtime().stats().rendered_bytes <= 50_000, "what does not fit at all is not kept");
    world.finish();
}

#[test]
fn a_watcher_that_a_job_without_a_store_overtakes_is_detached_and_loses_nothing_else() {
    overtake(forgetful(12), false);
}

#[test]
fn a_watcher_that_a_job_overtakes_of_which_a_store_keeps_little_is_detached_and_loses_nothing_else() {
    overtake(oblivious(12), false);
    // What it waits for is no longer there when the store comes to read it.
    let mut slow = oblivious(12);
    slow.read_latency = Duration::from_secs(20);
    overtake(slow, true);
}

/// A job overtakes who watches it and who has subscribed to it: readers that have
/// stopped, or `wait` for the store.
fn overtake(mut world: World, wait: bool) {
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut watcher, _) = limited(&mut world, &["progress"]);
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    observer.send(&mut world, "subscribe", json!({"filter": {"types": ["metric"]}}));
    observer.settle(&mut world);
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.settle(&mut world);
    let own = watcher.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut viewer, _) = Raw::open(&mut world, "tok-a");
    for watched in [&job, &own] {
        viewer.send(&mut world, "job.subscribe", json!({"job_id": watched}));
    }
    viewer.settle(&mut world);
    let conns = [watcher.conn, observer.conn, viewer.conn];
    conns.into_iter().for_each(|conn| world.stall(conn, true));
    say(&mut world, &own, "metric", json!({"name": "own", "value": 10_001}));
    if wait {
        take_turns(&mut world, &job, 160);
        conns.into_iter().for_each(|conn| world.stall(conn, false));
        world.run_for(Duration::from_millis(10));
        (0..200).for_each(|n| say(&mut world, &job, "metric", json!({"name": "meanwhile", "value": n})));
    }
    take_turns(&mut world, &job, 2000);
    say(&mut world, &own, "metric", json!({"name": "own", "value": 10_002}));
    conns.into_iter().for_each(|conn| world.stall(conn, false));
    for reader in [&mut watcher, &mut viewer] {
        is_detached(&mut world, reader);
    }
    let closed = observer.settle(&mut world).pop().expect("the end of the subscription");
    assert_eq!((closed["type"].as_str(), code(&closed)), (Some("subscribe.closed"), "BACKPRESSURE_OVERFLOW"));
    assert_eq!(world.close_reason(observer.conn), None);
    take_turns(&mut world, &own, 20);
    for reader in [&mut watcher, &mut viewer] {
        assert_eq!(values(&reader.settle(&mut world)), (0..10).collect::<Vec<_>>());
    }
    world.finish();
}

/// A reader that two events of its own job were for is told that another one has
/// overtaken it, and keeps its connection.
fn is_detached(world: &mut World, reader: &mut Raw) {
    let frames = reader.settle(world);
    assert_eq!(world.close_reason(reader.conn), None, "it is not closed");
    let is_told = |frame: &&Value| {
        let payload = &frame["payload"];
        payload["phase"] == "detached" || payload["body"]["phase"] == "detached"
    };
    let detached = frames.iter().filter(is_told).count();
    assert_eq!((detached, values(&frames).iter().filter(|value| **value > 10_000).count()), (1, 2), "{frames:#?}");
    let first = seqs(&frames)[0];
    assert_eq!(seqs(&frames), (first..).take(seqs(&frames).len()).collect::<Vec<_>>(), "no number is missing");
}

#[test]
fn a_replay_of_all_there_is_passes_over_what_is_gone_and_one_after_a_message_is_refused() {
    let mut world = forgetful(25);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let accepted = raw.invoke(&mut world, json!({"tool": "waiter"}));
    for n in 0..100 {
        say(&mut world, &accepted["job_id"], "metric", json!({"name": "m", "value": n}));
        world.settle();
    }
    let seen = raw.take(&world);
    raw.send(&mut world, "resume", json!({"after_message_id": seen[9]["id"]}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "DATA_LOSS");
    raw.send(&mut world, "resume", json!({}));
    let mut again = raw.settle(&mut world);
    let done = again.pop().expect("an answer");
    assert_eq!(
        (done["type"].as_str(), &done["payload"]["detail"]),
        (Some("ack"), &json!("resume complete: 65 events"))
    );
    // How a job was accepted is kept as long as the job.
    assert!(again[0] == accepted && again[1..] == seen[seen.len() - 64..], "{again:?}");
    world.finish();
}

#[test]
fn who_was_overtaken_comes_back_after_a_restart_and_is_owed_nothing() {
    for compact in [false, true] {
        let mut world = oblivious(23);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let (mut observer, accepted) = Raw::open(&mut world, "tok-a");
        let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        observer.send(&mut world, "subscribe", json!({"filter": {"types": ["metric"]}}));
        observer.settle(&mut world);
        take_turns(&mut world, &job, 20);
        let sent = *seqs(&observer.settle(&mut world)).last().expect("metrics");
        world.stall(observer.conn, true);
        take_turns(&mut world, &job, 2000);
        world.stall(observer.conn, false);
        let closed = observer.settle(&mut world).pop().expect("the end of the subscription");
        assert_eq!(closed["type"], "subscribe.closed");
        world.crash_with(world.given().count(), compact);
        let mut back = Raw::reclaim(&mut world, "tok-a", &accepted, 10_000);
        let refused = back.expect_any(&mut world, &["session.resumed", "nack", "session.error"]);
        let last = seqs(
            &world
                .frames_of(observer.conn)
                .iter()
                .filter_map(|text| serde_json::from_str(text).ok())
                .collect::<Vec<Value>>(),
        );
        let last = last.last().copied().unwrap_or(sent);
        assert!(refused.to_string().contains(&format!("nothing after {last} was ever sent")), "{refused}");
        let mut back = Raw::reclaim(&mut world, "tok-a", &accepted, last);
        back.expect(&mut world, "session.resumed");
        assert!(seqs(&back.settle(&mut world)).is_empty(), "{compact}");
        world.finish();
    }
}

/// A world whose store keeps little of a job.
fn oblivious(seed: u64) -> World {
    World::configured(seed, |config| {
        (config.limits.history.job_events, config.limits.history.kept_job_events) = (16, 64);
    })
}

/// A world without a store that gives events back.
fn forgetful(seed: u64) -> World {
    World::configured(seed, |config| {
        config.history = false;
        config.limits.history.job_events = 64;
    })
}

#[test]
fn every_subscription_that_a_job_overtakes_is_told_that_it_is_over() {
    for world in [forgetful(21), oblivious(21)] {
        overtake_subscriptions(world);
    }
}

fn overtake_subscriptions(mut world: World) {
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    for kinds in [json!(["metric"]), json!([])] {
        observer.send(&mut world, "subscribe", json!({"filter": {"types": kinds}}));
    }
    observer.settle(&mut world);
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.stall(observer.conn, true);
    take_turns(&mut world, &job, 2000);
    world.stall(observer.conn, false);
    observer.send(&mut world, "ping", json!({"nonce": "n"}));
    let frames = observer.settle(&mut world);
    let closed = frames.iter().filter(|frame| frame["type"] == "subscribe.closed").count();
    assert_eq!(closed, 2, "{frames:#?}");
    world.finish();
}

#[test]
fn answers_leave_though_what_was_numbered_before_them_is_taken_back() {
    for world in [forgetful(22), oblivious(22)] {
        overtake_answers(world);
    }
}

fn overtake_answers(mut world: World) {
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    observer.send(&mut world, "subscribe", json!({"filter": {"job_id": [job]}}));
    let own = observer.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}))["job_id"].clone();
    world.stall(observer.conn, true);
    take_turns(&mut world, &own, 200);
    take_turns(&mut world, &job, 60);
    observer.send(&mut world, "tool.invoke", json!({"tool": "waiter", "arguments": {}}));
    observer.send(&mut world, "unsubscribe", json!({"subscription_id": "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
    world.settle();
    take_turns(&mut world, &job, 2000);
    world.stall(observer.conn, false);
    let frames = observer.settle(&mut world);
    let refused = frames.iter().filter(|frame| code(frame) == "NOT_FOUND").count();
    let closed = frames.iter().filter(|frame| frame["type"] == "subscribe.closed").count();
    assert_eq!((refused, closed), (1, 1), "{frames:#?}");
    world.finish();
}
