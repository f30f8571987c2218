//! Bytes that the runtime holds: for readers that are behind, of ended jobs, and for principals that take more than
//! their share.

use std::time::Duration;

use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::prompt::Question;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, CloseReason, HeldFor, Input, held_bytes, held_bytes_of};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

#[test]
fn events_that_are_taken_back_from_a_reader_are_not_counted_as_unsent() {
    let mut world = World::configured(1, |config| {
        config.history = false;
        config.limits.history.job_events = 64;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut reader, _) = Raw::hello(&mut world, "tok-a");
    let own = reader.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let job = owner.submit(&mut world, json!({"agent": "chatty", "input": {"count": 2000}}))["job_id"].clone();
    reader.send(&mut world, "job.subscribe", json!({"job_id": job}));
    reader.expect(&mut world, "job.subscribed");
    world.stall(reader.conn, true);
    world.run_for(Duration::from_millis(230));
    let own = JobId::parse(own.as_str().expect("an id")).expect("ours");
    let body = Json::parse(r#"{"name":"m","value":1}"#).expect("JSON");
    world.input(Input::Agent { job: own, call: AgentCall::Emit { kind: "metric".into(), body } });
    owner.until_end(&mut world);
    world.settle();
    // Of the other job it is to be told only that it is too far behind.
    let unsent = world.runtime().stats().unsent_bytes;
    assert!((100..400).contains(&unsent), "{unsent}: one event");
    world.stall(reader.conn, false);
    world.settle();
    assert_eq!(world.runtime().stats().unsent_bytes, 0);
    world.finish();
}

#[test]
fn jobs_that_are_owed_to_a_reader_do_not_keep_those_that_ended_after_them() {
    const BOUND: usize = 600 << 10;
    let mut world = World::configured(2, |config| {
        config.history = false;
        config.limits.history.log_bytes = BOUND;
        config.limits.job.ended_jobs_per_principal = 1000;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    });
    let text = "x".repeat(2000);
    let mut owed_to = Vec::new();
    for _ in 0..4 {
        let (mut slow, _) = Raw::hello(&mut world, "tok-a");
        world.stall(slow.conn, true);
        for _ in 0..60 {
            slow.send(&mut world, "job.submit", json!({"agent": "echo", "input": text}));
            world.settle();
        }
        owed_to.push(slow);
    }
    let owed = world.runtime().stats().event_bytes;
    assert!((100 * 2000..BOUND).contains(&owed), "{owed}: more jobs than are looked at");
    let (mut reader, _) = Raw::hello(&mut world, "tok-b");
    for _ in 0..300 {
        reader.submit(&mut world, json!({"agent": "echo", "input": text}));
        reader.until_end(&mut world);
    }
    let held = world.runtime().stats().event_bytes;
    assert!(held <= BOUND, "{held}: what was read goes");
    for slow in &mut owed_to {
        world.stall(slow.conn, false);
        let ends = slow.settle(&mut world).into_iter().filter(|frame| frame["type"] == "job.result").count();
        assert_eq!((ends, slow.is_closed(&world)), (60, false), "what was not is still to be had");
    }
    world.finish();
}

#[test]
fn whoever_reads_loses_nothing_for_who_does_not() {
    let mut world = World::configured(3, |config| {
        config.history = false;
        config.limits.history.log_bytes = 64 << 10;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    });
    let text = "x".repeat(2000);
    for _ in 0..4 {
        let (mut slow, _) = Raw::hello(&mut world, "tok-a");
        world.stall(slow.conn, true);
        for _ in 0..60 {
            slow.send(&mut world, "job.submit", json!({"agent": "echo", "input": text}));
            world.settle();
        }
    }
    let (mut reader, _) = Raw::hello(&mut world, "tok-b");
    for _ in 0..50 {
        reader.submit(&mut world, json!({"agent": "echo", "input": text}));
        let end = reader.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["payload"]["result"], text.as_str());
    }
    assert!(world.runtime().stats().event_bytes <= 70 << 10);
    world.finish();
}

/// The job of an answer, once its agent is there.
fn started(world: &mut World, accepted: &Value) -> JobId {
    world.settle();
    JobId::parse(accepted["job_id"].as_str().expect("an id")).expect("ours")
}

fn exit_with(world: &mut World, job: JobId, result: &str) {
    let result = Some(Json::parse(&json!(result).to_string()).expect("JSON"));
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result, summary: None } });
}

#[test]
fn the_end_of_a_job_does_not_go_to_make_room_for_itself() {
    let mut world = World::configured(4, |config| {
        config.history = false;
        config.limits.history.log_bytes = 4000;
        config.timing.heartbeat = None;
    });
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let accepted = other.submit(&mut world, json!({"agent": "waiter"}));
    let long = started(&mut world, &accepted);
    let body = Json::parse(&json!({"message": "x".repeat(3000), "level": "info"}).to_string()).expect("JSON");
    world.input(Input::Agent { job: long, call: AgentCall::Emit { kind: "log".into(), body } });
    let (mut owner, welcome) = Raw::hello(&mut world, "tok-a");
    let accepted = owner.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    let read = owner.take(&world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0);
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": accepted["job_id"]}));
    watcher.expect(&mut world, "job.subscribed");
    world.cut(owner.conn);
    world.settle();
    exit_with(&mut world, job, &"y".repeat(2000));
    let end = watcher.until_end(&mut world).pop().expect("an end");
    assert_eq!(end["type"], "job.result", "{end}");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, read);
    let answer = back.expect_any(&mut world, &["session.welcome", "session.error"]);
    assert_eq!(answer["type"], "session.welcome", "{answer}");
    assert_eq!(back.until_end(&mut world).pop().expect("an end")["type"], "job.result");
    world.finish();
}

#[test]
fn the_pieces_of_a_result_do_not_go_to_make_room_for_its_last_ones() {
    let mut world = World::configured(5, |config| {
        config.limits.frame.result_frame_bytes = 4096;
        config.limits.history.kept_job_events = 1000;
        config.limits.history.kept_bytes = 20_000;
        config.timing.heartbeat = None;
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let accepted = owner.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    exit_with(&mut world, job, &"y".repeat(100_000));
    let frames = owner.until_end(&mut world);
    let bytes: usize = frames.iter().filter_map(|frame| frame["payload"]["body"]["data"].as_str()).map(str::len).sum();
    assert_eq!(bytes, 100_002, "who reads gets all of it");
    world.finish();
}

#[test]
fn what_was_read_back_and_sent_is_not_counted_as_unsent() {
    let mut world = World::configured(6, |config| {
        config.limits.history.job_events = 16;
        config.limits.delivery.agent_credit_bytes = 20_000;
        config.limits.delivery.pace_bytes = 40_000;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    });
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    let talks = other.submit(&mut world, json!({"agent": "waiter"}));
    let talking = started(&mut world, &talks);
    let (mut reader, _) = Raw::hello(&mut world, "tok-a");
    reader.send(&mut world, "job.subscribe", json!({"job_id": talks["job_id"]}));
    reader.expect(&mut world, "job.subscribed");
    world.stall(reader.conn, true);
    reader.send(&mut world, "job.submit", json!({"agent": "chunker", "input": {"chunks": 200, "bytes": 2000}}));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.runtime().waits().len(), 1, "its agent waits for it");
    world.stall(reader.conn, false);
    // Meanwhile the other job goes on, so that it is never at the end of all.
    let mut least = usize::MAX;
    for _ in 0..40 {
        let body = Json::parse(r#"{"name":"m","value":1}"#).expect("JSON");
        world.input(Input::Agent { job: talking, call: AgentCall::Emit { kind: "metric".into(), body } });
        world.run_for(Duration::from_micros(400));
        least = least.min(world.runtime().stats().unsent_bytes);
    }
    assert!(least < 10_000, "{least}: what it has read is not what its agent waits for");
    reader.until_end(&mut world);
    world.finish();
}

/// A quarter of what waits.
const SHARE: usize = 16 << 10;

/// A world where nothing but its share stops a principal that reads nothing.
fn shared(seed: u64) -> World {
    World::configured(seed, |config| {
        config.limits.connection.waiting_bytes = 4 * SHARE;
        config.limits.connection.replies_per_connection = 10_000;
        config.limits.connection.reply_bytes_per_connection = 1 << 30;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    })
}

#[test]
fn connections_of_a_principal_that_read_nothing_hold_its_share_and_others_are_read() {
    const ASKED: usize = 300;
    let mut world = shared(7);
    let mut raws: Vec<Raw> = (0..4).map(|_| Raw::hello(&mut world, "tok-a").0).collect();
    for raw in &mut raws {
        world.stall(raw.conn, true);
        for _ in 0..ASKED {
            raw.send(&mut world, "job.cancel", json!({"job_id": "job_none"}));
        }
    }
    world.run_for(Duration::from_secs(10));
    let waits = held_bytes(world.runtime(), HeldFor::Answers);
    assert!((SHARE..SHARE + (2 << 10)).contains(&waits), "{waits}");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.submit(&mut world, json!({"agent": "echo"}));
    other.until_end(&mut world);
    raws.iter().for_each(|raw| world.stall(raw.conn, false));
    world.settle();
    for raw in &mut raws {
        let refused = raw.take(&world).iter().filter(|frame| frame["type"] == "session.error").count();
        assert_eq!(refused, ASKED, "all of it is read and answered in the end");
    }
    assert_eq!(held_bytes(world.runtime(), HeldFor::Answers), 0);
    world.finish();
}

#[test]
fn whoever_sends_on_at_its_share_of_what_waits_is_closed() {
    let mut world = shared(8);
    let (raw, _) = Raw::hello(&mut world, "tok-a");
    world.stall(raw.conn, true);
    let mut most = 0;
    for n in 0..2000 {
        let frame = json!({"id": format!("x{n}"), "type": "job.cancel", "payload": {"job_id": "job_none"}});
        world.input(Input::Received { conn: raw.conn, frame: frame.to_string().into_bytes() });
        most = most.max(held_bytes(world.runtime(), HeldFor::Answers));
    }
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Flood));
    assert!((2 * SHARE..2 * SHARE + 1024).contains(&most), "{most}");
    assert_eq!(held_bytes(world.runtime(), HeldFor::Answers), 0, "it goes with the connection");
    world.finish();
}

#[test]
fn whoever_is_read_is_not_closed_because_others_hold_more_by_now() {
    let mut world = shared(12);
    let ask = |world: &mut World, raw: &mut Raw| {
        raw.send(world, "job.cancel", json!({"job_id": "job_none"}));
        world.run_for(Duration::from_millis(100));
        held_bytes(world.runtime(), HeldFor::Answers)
    };
    // It is read: it has almost its share.
    let (mut raw, _) = Raw::hello(&mut world, "tok-first");
    world.stall(raw.conn, true);
    while ask(&mut world, &mut raw) < SHARE - 1024 {}
    let own = held_bytes(world.runtime(), HeldFor::Answers);
    for n in 0..6 {
        let (mut other, _) = Raw::hello(&mut world, &format!("tok-{n}"));
        world.stall(other.conn, true);
        for _ in 0..300 {
            other.send(&mut world, "job.cancel", json!({"job_id": "job_none"}));
        }
        world.run_for(Duration::from_secs(1));
    }
    let left = 4 * SHARE - (held_bytes(world.runtime(), HeldFor::Answers) - own);
    assert!(own > 2 * (left / 4), "{own} of {left}: it has more than twice of what is its share now");
    for _ in 0..2 {
        ask(&mut world, &mut raw);
        assert_eq!(world.close_reason(raw.conn), None, "it waits to be read");
    }
    world.stall(raw.conn, false);
    world.settle();
    world.finish();
}

#[test]
fn whoever_fills_its_share_of_what_is_not_durable_stops_nobody_else() {
    let bound = 40_000;
    let mut world = World::configured(9, |config| config.limits.history.undurable_bytes = bound);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    world.store.broken = true;
    // Each of these changes something.
    for n in 0..200 {
        raw.send(&mut world, ["job.unsubscribe", "job.subscribe"][n % 2], json!({"job_id": job}));
    }
    world.run_for(Duration::from_secs(1));
    let undurable = world.runtime().stats().undurable_bytes;
    assert!((bound / 4..bound / 4 + 1000).contains(&undurable), "{undurable}");
    other.send(&mut world, "session.ping", json!({"nonce": "n"}));
    other.expect(&mut world, "session.pong");
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    let watched = raw.take(&world).iter().filter(|frame| frame["type"] == "job.subscribed").count();
    assert_eq!(watched, 100, "what it said is done once it is read again");
    world.finish();
}

#[test]
fn what_is_remembered_of_the_commands_of_a_principal_has_a_bound_in_bytes() {
    let mut world = World::configured(10, |config| config.limits.session.seen_bytes_per_principal = 2000);
    let mut raws = [(); 2].map(|()| Raw::hello(&mut world, "tok-a").0);
    let mut submit = |at: usize, id: &str| {
        let said = json!({"id": id, "type": "job.submit", "payload": {"agent": "waiter"}}).to_string();
        raws[at].send_text(&mut world, &said);
        let job = raws[at].expect(&mut world, "job.accepted")["job_id"].clone();
        (job, held_bytes(world.runtime(), HeldFor::Commands))
    };
    let (first, own) = submit(0, "one");
    assert_eq!(submit(0, "one"), (first.clone(), own), "executed once");
    assert!((0..8).all(|n| submit(1, &format!("{n}")).1 <= 2000), "its sessions share it");
    assert_eq!(submit(0, "one").0, first, "what another session says makes this one forget nothing");
    submit(0, "two");
    assert_ne!(submit(0, "one").0, first, "what it says itself does");
    world.finish();
}

#[test]
fn a_filter_has_a_bound_in_bytes() {
    let mut world = World::configured(11, |config| config.limits.session.filter_bytes = 100);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let mut subscribe = |traces: &[String]| {
        raw.send(&mut world, "subscribe", json!({"filter": {"trace_id": traces}}));
        let answer = raw.expect_any(&mut world, &["subscribe.accepted", "nack"]);
        (code(&answer).to_string(), held_bytes(world.runtime(), HeldFor::Filters))
    };
    let (fits, held) = subscribe(&["x".repeat(50), "y".repeat(50)]);
    assert!(fits.is_empty() && held > 100, "{fits} {held}");
    assert_eq!(subscribe(&["x".repeat(50), "y".repeat(51)]), ("RESOURCE_EXHAUSTED".to_string(), held));
    world.finish();
}

/// What is held for whom: bytes of a principal.
fn of(world: &World, name: &str, held_for: HeldFor) -> usize {
    held_bytes_of(world.runtime(), &Principal::new(name).expect("a name"), held_for)
}

fn emit(world: &mut World, job: JobId, bytes: usize) {
    let body = Json::parse(&json!({"level": "info", "message": "x".repeat(bytes)}).to_string()).expect("JSON");
    world.input(Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
}

fn ask(world: &mut World, job: JobId, id: u64, text: &str) -> Option<AgentReply> {
    let question = Question::Input { prompt: text.into(), schema: Json::parse("{}").expect("JSON"), default: None };
    let before = world.replies.len();
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
    world.input(Input::AgentAsked { job, id: CallId(id), call });
    world.settle();
    world.replies.get(before).map(|(_, reply)| reply.clone())
}

fn listed(world: &mut World, raw: &mut Raw) -> Vec<Value> {
    raw.send(world, "session.list_jobs", json!({}));
    let answer = raw.expect(world, "session.jobs");
    answer["payload"]["jobs"].as_array().expect("jobs").iter().map(|job| job["job_id"].clone()).collect()
}

#[test]
fn everything_that_is_held_is_held_for_its_principal_and_goes_with_what_it_is() {
    let mut world = World::configured(20, |config| {
        config.timing.heartbeat = None;
        config.timing.key_window = Duration::from_secs(600);
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (_other, _) = Raw::hello(&mut world, "tok-b");
    let trace = "ab".repeat(16);
    let accepted = raw.submit(&mut world, json!({"agent": "waiter", "idempotency_key": "k", "trace_id": trace}));
    let job = started(&mut world, &accepted);
    let [jobs, numbers] = [HeldFor::Jobs, HeldFor::Numbers].map(|held_for| of(&world, "a", held_for));
    emit(&mut world, job, 1000);
    assert_eq!(ask(&mut world, job, 1, &"why ".repeat(1000)), None, "it is open");
    assert!(of(&world, "a", HeldFor::Jobs) > jobs + 4000, "the question");
    assert!(of(&world, "a", HeldFor::Numbers) >= numbers && numbers > 0);
    assert!(of(&world, "a", HeldFor::Events) > 5000, "what was said, and what was asked");
    assert!([HeldFor::Keys, HeldFor::Watches].iter().all(|held_for| of(&world, "a", *held_for) > 0));
    exit_with(&mut world, job, "done");
    world.settle();
    assert_eq!(of(&world, "a", HeldFor::Jobs), 0);
    assert!((1000..4000).contains(&of(&world, "a", HeldFor::EndedJobs)), "the question is not held any more");
    for held_for in HeldFor::ALL {
        assert_eq!(of(&world, "b", held_for), 0, "{held_for:?}: it did nothing");
    }
    world.cut(raw.conn);
    world.run_for(Duration::from_secs(100_000));
    for held_for in HeldFor::ALL {
        assert_eq!((of(&world, "a", held_for), held_bytes(world.runtime(), held_for)), (0, 0), "{held_for:?}");
    }
    world.finish();
}

#[test]
fn what_an_agent_is_to_go_on_from_is_held_once_and_goes_with_its_job() {
    let mut world = World::configured(21, |config| {
        config.restartable_agents.insert("waiter".into());
        config.limits.job.running_jobs = 1;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    world.input(Input::Agent { job, call: AgentCall::Checkpoint { state: vec![1; 5000], label: None } });
    world.settle();
    // Jobs can begin at it; what its own agent is to go on from are the same bytes.
    let held_once = |world: &World| {
        let held = of(world, "a", HeldFor::Checkpoints);
        assert!((5000..5500).contains(&held), "{held}");
    };
    held_once(&world);
    let given = world.given().count();
    world.crash_with(given, true);
    held_once(&world);
    world.settle();
    held_once(&world);
    exit_with(&mut world, job, "done");
    world.run_for(Duration::from_secs(100_000));
    assert_eq!(of(&world, "a", HeldFor::Checkpoints), 0, "it goes with its job");
    world.finish();
}

/// A job of its own, and many after it of somebody else, which all say so much.
fn few_and_many(world: &mut World, many: usize, bytes: usize) -> (Raw, Value) {
    let text = "x".repeat(bytes);
    let (mut few, _) = Raw::hello(world, "tok-few");
    let own = few.submit(world, json!({"agent": "echo", "input": text}))["job_id"].clone();
    few.until_end(world);
    let (mut raw, _) = Raw::hello(world, "tok-many");
    for _ in 0..many {
        raw.submit(world, json!({"agent": "echo", "input": text}));
        raw.until_end(world);
    }
    (few, own)
}

/// What happened in a job, for whoever comes to it now.
fn history(world: &mut World, raw: &mut Raw, job: &Value) -> Vec<Value> {
    raw.send(world, "job.subscribe", json!({"job_id": job, "history": true}));
    raw.expect_any(world, &["job.subscribed", "session.error"]);
    raw.settle(world)
}

#[test]
fn the_ended_jobs_of_who_holds_little_are_not_forgotten_for_those_of_who_holds_much() {
    let bounds: [fn(&mut arcp_proto::limits::Limits); 3] = [
        |limits| limits.history.ended_bytes = 30 << 10,
        |limits| limits.history.kept_bytes = 30 << 10,
        |limits| limits.job.jobs = 12,
    ];
    for (seed, bound) in (22..).zip(bounds) {
        let mut world = World::configured(seed, |config| {
            config.timing.heartbeat = None;
            config.timing.job_retention = Some(Duration::from_secs(100_000));
            bound(&mut config.limits);
        });
        let (mut few, own) = few_and_many(&mut world, 60, 1000);
        assert!(world.runtime().stats().jobs < 40, "{seed}: most are forgotten");
        assert_eq!(listed(&mut world, &mut few), core::slice::from_ref(&own), "{seed}");
        assert!(!history(&mut world, &mut few, &own).is_empty(), "{seed}: with what happened in it");
        world.finish();
    }
}

#[test]
fn who_has_an_ended_job_that_stays_makes_room_by_its_others_all_the_same() {
    let mut world = World::configured(29, |config| {
        config.timing.heartbeat = None;
        config.timing.job_retention = Some(Duration::from_secs(100_000));
        config.limits.job.jobs = 12;
    });
    let (mut heavy, _) = Raw::hello(&mut world, "tok-heavy");
    let lease: Vec<String> = (0..100).map(|n| format!("a.tool.of.many.{n}")).collect();
    for _ in 0..4 {
        heavy.submit(&mut world, json!({"agent": "echo", "lease_request": {"tool.call": lease}}));
        heavy.until_end(&mut world);
    }
    let (mut raw, _) = Raw::hello(&mut world, "tok-many");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter", "lease_request": {"agent.delegate": ["*"]}}));
    let parent = started(&mut world, &accepted);
    raw.submit(&mut world, json!({"agent": "waiter", "parent_job_id": parent.to_string()}));
    world.stop_script(parent);
    let exit = AgentExit::Success { result: None, summary: None };
    world.input(Input::AgentExited { job: parent, exit });
    world.settle();
    // It stays as long as the job below it goes on.
    for _ in 0..20 {
        raw.submit(&mut world, json!({"agent": "echo"}));
        raw.until_end(&mut world);
    }
    assert_eq!(listed(&mut world, &mut heavy).len(), 4);
    assert_eq!(listed(&mut world, &mut raw).len(), 8);
    world.finish();
}

#[test]
fn without_a_store_events_of_who_holds_little_stay_in_memory() {
    let mut world = World::configured(25, |config| {
        config.history = false;
        config.timing.heartbeat = None;
        config.limits.history.log_bytes = 30 << 10;
    });
    let (mut few, own) = few_and_many(&mut world, 60, 1000);
    assert!(world.runtime().stats().event_bytes <= 30 << 10);
    assert!(!history(&mut world, &mut few, &own).is_empty());
    world.finish();
}

#[test]
fn the_index_of_one_principal_is_not_cut_for_those_of_another() {
    let mut world = World::configured(26, |config| config.limits.delivery.index_bytes = 16 << 10);
    let (mut few, welcome) = Raw::hello(&mut world, "tok-few");
    few.submit(&mut world, json!({"agent": "echo"}));
    few.until_end(&mut world);
    world.cut(few.conn);
    let mut many: Vec<Raw> = (0..8).map(|_| Raw::hello(&mut world, "tok-many").0).collect();
    for raw in &mut many {
        for _ in 0..2 {
            raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 40}}));
        }
    }
    world.run_for(Duration::from_secs(20));
    let held = of(&world, "many", HeldFor::Numbers);
    assert!((2 << 10..=4 << 10).contains(&held), "{held}: its share");
    let mut back = Raw::resume(&mut world, "tok-few", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    back.until_end(&mut world);
    world.finish();
}

#[test]
fn jobs_that_have_not_ended_have_a_bound_in_bytes_of_which_nobody_has_all() {
    const BOUND: usize = 64 << 10;
    let mut world = World::configured(27, |config| {
        config.limits.history.unfinished_bytes = BOUND;
        config.timing.heartbeat = None;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    let text = "why ".repeat(1000);
    let refused = (1..16).find_map(|id| ask(&mut world, job, id, &text));
    let Some(AgentReply::Refused(why)) = refused else {
        panic!("nothing is refused: {refused:?}");
    };
    assert!(why.details.is_some_and(|details| details.as_str().contains("unfinished_bytes")), "it says so");
    let held = of(&world, "a", HeldFor::Jobs);
    assert!((BOUND / 4 - 5000..=BOUND / 4).contains(&held), "{held}: its share");
    let refused = (0..8).find_map(|_| {
        raw.send(&mut world, "job.submit", json!({"agent": "waiter"}));
        let answer = raw.expect_any(&mut world, &["job.accepted", "session.error"]);
        (answer["type"] == "session.error").then_some(answer)
    });
    let refused = refused.expect("no more jobs");
    assert_eq!(refused["payload"]["details"]["bound"], "unfinished_bytes", "{refused}");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.submit(&mut world, json!({"agent": "echo"}));
    other.until_end(&mut world);
    exit_with(&mut world, job, "done");
    raw.until_end(&mut world);
    raw.submit(&mut world, json!({"agent": "echo"}));
    world.finish();
}

#[test]
fn what_agents_say_that_is_not_durable_stops_the_reading_of_their_principal_alone() {
    let bound = 40_000;
    let mut world = World::configured(28, |config| config.limits.history.undurable_bytes = bound);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    world.store.broken = true;
    for _ in 0..12 {
        emit(&mut world, job, 1000);
    }
    let held = of(&world, "a", HeldFor::Records);
    assert!((bound / 4..bound).contains(&held), "{held}: its share");
    raw.send(&mut world, "session.ping", json!({"nonce": "n"}));
    world.run_for(Duration::from_secs(1));
    assert!(raw.take(&world).iter().all(|frame| frame["type"] != "session.pong"), "it is not read");
    other.send(&mut world, "session.ping", json!({"nonce": "n"}));
    other.expect(&mut world, "session.pong");
    world.store.mend();
    raw.expect(&mut world, "session.pong");
    world.finish();
}
