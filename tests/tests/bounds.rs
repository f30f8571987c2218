//! The bounds of `Limits`: what happens at each.

use std::collections::BTreeSet;
use std::time::Duration;

use arcp_proto::entropy::Seeds;
use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::{AgentCall, CloseReason, Config, Delegation, Input, Runtime, take_back};
use arcp_proto::time::Now;
use arcp_tests::raw::{Raw, hello_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// What a submit is answered with.
fn submitted(world: &mut World, raw: &mut Raw, payload: Value) -> Value {
    raw.send(world, "job.submit", payload);
    let answer = raw.expect_any(world, &["job.accepted", "session.error"]);
    if answer["type"] == "job.accepted" { json!("accepted") } else { answer["payload"]["details"]["open_code"].clone() }
}

/// A world whose store gives nothing back.
fn in_memory(seed: u64, change: impl FnOnce(&mut Limits)) -> World {
    World::configured(seed, |config| {
        config.history = false;
        change(&mut config.limits);
    })
}

#[test]
fn all_events_together_have_a_bound() {
    let mut world = in_memory(10, |limits| limits.history.log_bytes = 200_000);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let mut jobs = Vec::new();
    for _ in 0..8 {
        let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 200}}))["job_id"].clone();
        raw.until_end(&mut world);
        jobs.push(job);
    }
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": jobs[0], "history": true}));
    let gone = watcher.expect(&mut world, "session.error");
    assert_eq!(gone["payload"]["code"], "RESUME_WINDOW_EXPIRED", "the first to end goes first");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": jobs[7], "history": true}));
    assert_eq!(watcher.until_end(&mut world).len(), 203);
    watcher.send(&mut world, "session.list_jobs", json!({}));
    let page = watcher.expect(&mut world, "session.jobs");
    assert_eq!(page["payload"]["jobs"].as_array().map(Vec::len), Some(8), "they stay listed");
    world.finish();
}

#[test]
fn a_long_input_of_a_child_is_kept_once_and_not_in_its_parents_event_too() {
    let mut world = World::configured(15, |config| config.limits.family.delegate_event_bytes = 300);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["echo"]});
    let parent = raw.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}))["job_id"].clone();
    let job = parent.as_str().and_then(JobId::parse).expect("a job");
    world.settle();
    raw.take(&world);
    let asks = |agent: &str, bytes: usize| {
        let input = Json::parse(&json!("x".repeat(bytes)).to_string()).ok();
        AgentCall::Delegate(Delegation { input, ..Delegation::new(agent) })
    };
    let event = json!({"target": "echo", "task": "y".repeat(300)}).to_string();
    let event = AgentCall::Emit { kind: "delegate".into(), body: Json::parse(&event).expect("JSON") };
    for call in [asks("echo", 20), asks("echo", 300), event, asks("slow", 300)] {
        world.input(Input::Agent { job, call });
        world.settle();
    }
    let bodies: Vec<Value> = raw.take(&world).iter().map(|frame| frame["payload"]["body"].clone()).collect();
    let [short, long, told, refused, result] = bodies.as_slice() else { panic!("{bodies:#?}") };
    assert_eq!(short["input"], json!("x".repeat(20)));
    for body in [long, told] {
        let named: BTreeSet<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(named, BTreeSet::from(["agent", "child_job_id", "delegate_id", "lease"]), "{body}");
    }
    assert_eq!((&refused["agent"], refused.get("input")), (&json!("slow"), None));
    assert_eq!(result["error"]["code"], "PERMISSION_DENIED");
    let children = world.started.iter().filter(|spec| spec.agent.name() == "echo");
    let inputs: Vec<usize> = children.map(|spec| spec.input.as_str().len()).collect();
    assert_eq!(inputs, [22, 302, 300 + r#"{"task":""}"#.len()], "each child has the whole");
    raw.send(&mut world, "job.cancel", json!({"job_id": parent}));
    world.run_for(Duration::from_secs(60));
    world.finish();
}

#[test]
fn one_job_alone_stays_within_the_bound_of_all_events() {
    let mut world = in_memory(14, |limits| limits.history.log_bytes = 20_000);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 2000}}))["job_id"].clone();
    assert_eq!(raw.until_end(&mut world).len(), 2002, "who keeps up misses nothing");
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(watcher.expect(&mut world, "session.error")["payload"]["code"], "RESUME_WINDOW_EXPIRED");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "from_event_seq": 1990}));
    assert_eq!(watcher.until_end(&mut world).len(), 13);
    world.finish();
}

#[test]
fn jobs_altogether_have_a_bound() {
    let mut world = World::configured(15, |config| {
        config.limits.job.jobs = 3;
        config.limits.job.principal_share = 100;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let first = raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
    raw.until_end(&mut world);
    for _ in 0..3 {
        raw.submit(&mut world, json!({"agent": "waiter"}));
    }
    raw.send(&mut world, "job.subscribe", json!({"job_id": first}));
    assert_eq!(raw.expect(&mut world, "session.error")["payload"]["code"], "JOB_NOT_FOUND", "it made room");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let refused = other.expect(&mut world, "session.error");
    assert_eq!(refused["payload"]["details"]["open_code"], "RESOURCE_EXHAUSTED", "none has ended");
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    assert_eq!(back.expect(&mut world, "session.error")["payload"]["code"], "RESUME_WINDOW_EXPIRED");
    world.finish();
}

#[test]
fn anonymous_sessions_have_a_bound() {
    let mut world = World::configured(17, |config| {
        config.anonymous = true;
        config.limits.session.anonymous_sessions = 2;
    });
    let mut open = |payload: Value| {
        let mut raw = Raw::connect(&mut world);
        raw.send(&mut world, "session.hello", payload);
        raw.expect_any(&mut world, &["session.welcome", "session.error"])["type"].clone()
    };
    let nobody = json!({"client": {"name": "n", "version": "1"}, "auth": {"scheme": "none"}});
    let answers: Vec<Value> = (0..3).map(|_| open(nobody.clone())).collect();
    assert_eq!(answers, ["session.welcome", "session.welcome", "session.error"]);
    assert_eq!(open(arcp_tests::raw::hello_payload("tok-a")), "session.welcome");
    world.finish();
}

#[test]
fn inputs_that_wait_have_a_bound() {
    let mut world = World::configured(11, |config| {
        config.limits.job.running_jobs = 1;
        config.limits.job.waiting_input_bytes_per_principal = 1000;
        config.limits.job.waiting_input_bytes = 1500;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let first = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    let (mut alone, _) = Raw::hello(&mut world, "tok-d");
    alone.send(&mut world, "job.submit", json!({"agent": "echo", "input": "x".repeat(1000)}));
    let refused = alone.expect(&mut world, "session.error").to_string();
    assert!(refused.contains("waiting_input_bytes_per_principal"), "it has none that wait: {refused}");
    let big = json!({"agent": "echo", "input": "x".repeat(600)});
    raw.submit(&mut world, big.clone());
    raw.send(&mut world, "job.submit", big.clone());
    let refused = raw.expect(&mut world, "session.error");
    assert_eq!(refused["payload"]["details"]["open_code"], "RESOURCE_EXHAUSTED");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.submit(&mut world, big.clone());
    let (mut third, _) = Raw::hello(&mut world, "tok-c");
    third.send(&mut world, "job.submit", big.clone());
    let refused = third.expect(&mut world, "session.error");
    assert_eq!(refused["payload"]["details"]["open_code"], "RESOURCE_EXHAUSTED", "everybody's together");
    raw.send(&mut world, "job.cancel", json!({"job_id": first}));
    world.settle();
    raw.submit(&mut world, big);
    world.finish();
}

#[test]
fn who_says_more_than_its_host_takes_is_not_read_until_it_does() {
    let mut world = World::configured(30, |config| {
        config.extensions = vec!["arcpx.test".into()];
        config.limits.session.extension_bytes = 1000;
    });
    let mut payload = arcp_tests::raw::open_payload("tok-a");
    payload["capabilities"]["extensions"] = json!(["arcpx.test"]);
    let (mut raw, _) = Raw::open_with(&mut world, payload);
    world.takes_no_extensions = true;
    for n in 0..50 {
        raw.send(&mut world, "arcpx.test.note.v1", json!({"n": n, "text": "x".repeat(100)}));
    }
    world.run_for(Duration::from_secs(50));
    let given = world.extensions.len();
    assert!((8..12).contains(&given), "{given}");
    assert!(!raw.is_closed(&world));
    world.takes_no_extensions = false;
    world.take_extensions();
    world.run_for(Duration::from_secs(2));
    let numbers: Vec<String> =
        world.extensions.iter().map(|e| e.payload.members().expect("an object").get("n").expect("n").into()).collect();
    assert_eq!(numbers, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn leases_and_pages_have_a_bound() {
    let mut world = World::configured(12, |config| config.limits.frame.result_frame_bytes = 64 << 10);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let lease = |bytes: usize| json!({"agent": "echo", "lease_request": {"tool.call": vec!["x".repeat(bytes / 4); 4]}});
    raw.send(&mut world, "job.submit", lease(9000));
    assert_eq!(raw.expect(&mut world, "session.error")["payload"]["code"], "INVALID_REQUEST");
    for _ in 0..12 {
        raw.submit(&mut world, lease(8000));
    }
    raw.send(&mut world, "session.list_jobs", json!({}));
    let page = raw.expect(&mut world, "session.jobs")["payload"].clone();
    let listed = page["jobs"].as_array().map_or(0, Vec::len);
    assert!((4..8).contains(&listed) && page["next_cursor"].is_string(), "{listed}");
    world.finish();
}

#[test]
fn nobody_unknown_makes_us_hold_a_large_frame() {
    let mut world = World::seeded(13);
    let mut raw = Raw::connect(&mut world);
    let mut hello = hello_payload("tok-a");
    hello["client"]["name"] = json!("x".repeat(100_000));
    raw.send(&mut world, "session.hello", hello);
    raw.expect(&mut world, "session.error");
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Refused));
    let (mut known, _) = Raw::hello(&mut world, "tok-a");
    known.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(100_000)}));
    world.finish();
}

#[test]
fn watching_has_a_bound() {
    let mut world = World::configured(7, |config| config.limits.session.watches_per_session = 2);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let jobs: Vec<Value> =
        (0..3).map(|_| owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone()).collect();
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    for (n, job) in jobs.iter().enumerate() {
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
        let answer = watcher.expect_any(&mut world, &["job.subscribed", "session.error"]);
        assert_eq!(answer["type"] == "job.subscribed", n < 2, "{answer}");
    }
    world.finish();
}

#[test]
fn unfinished_handshakes_have_a_bound() {
    let mut world = World::configured(8, |config| config.limits.connection.handshaking_connections = 3);
    let conns: Vec<Raw> = (0..5).map(|_| Raw::connect(&mut world)).collect();
    let closed: Vec<bool> = conns.iter().map(|raw| raw.is_closed(&world)).collect();
    assert_eq!(closed, [false, false, false, true, true]);
    assert_eq!(world.close_reason(conns[4].conn), Some(CloseReason::TooMany));
    world.finish();
}

#[test]
fn connections_that_open_no_session_make_room_when_they_go() {
    let mut world = World::configured(62, |config| config.limits.connection.handshaking_connections = 2);
    for _ in 0..5 {
        let raw = Raw::connect(&mut world);
        assert!(!raw.is_closed(&world));
        world.cut(raw.conn);
    }
    Raw::hello(&mut world, "tok-a");
    world.finish();
}

#[test]
fn frames_before_a_session_have_a_bound_that_can_be_set() {
    let mut world = World::configured(18, |config| config.limits.frame.handshake_frame_bytes = 1024);
    let mut raw = Raw::connect(&mut world);
    let mut hello = hello_payload("tok-a");
    hello["client"]["name"] = json!("x".repeat(2000));
    raw.send(&mut world, "session.hello", hello);
    raw.expect(&mut world, "session.error");
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Refused));
    world.finish();
}

#[test]
fn nesting_has_a_bound() {
    let mut world = World::configured(19, |config| config.limits.frame.json_depth = 10);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let nested = |depth: usize| -> Value { (0..depth).fold(json!(1), |inner, _| json!([inner])) };
    raw.submit(&mut world, json!({"agent": "echo", "input": nested(6)}));
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "input": nested(12)}));
    assert_eq!(raw.expect(&mut world, "session.error")["payload"]["code"], "INVALID_REQUEST");
    world.finish();
}

#[test]
fn an_event_that_is_too_large_leaves_a_trace() {
    let mut world = World::configured(20, |config| config.limits.frame.event_body_bytes = 50);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "kinds"}));
    let frames = raw.until_end(&mut world);
    let large =
        frames.iter().filter(|f| f["payload"]["body"]["message"].as_str().is_some_and(|m| m.contains("dropped")));
    assert!(large.count() > 0 && frames.last().is_some_and(|f| f["payload"]["final_status"] == "success"));
    world.finish();
}

#[test]
fn sessions_altogether_have_a_bound() {
    let mut world = World::configured(21, |config| config.limits.session.sessions = 2);
    let mut open = |token: &str| {
        let mut raw = Raw::connect(&mut world);
        raw.send(&mut world, "session.hello", hello_payload(token));
        raw.expect_any(&mut world, &["session.welcome", "session.error"])["type"].clone()
    };
    let answers = [open("tok-a"), open("tok-b"), open("tok-c")];
    assert_eq!(answers, ["session.welcome", "session.welcome", "session.error"]);
    world.finish();
}

#[test]
fn leases_have_a_bound_that_can_be_set() {
    let mut world = World::configured(22, |config| config.limits.job.lease_bytes = 100);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let lease = |bytes: usize| json!({"tool.call": ["x".repeat(bytes - r#"{"tool.call":[""]}"#.len())]});
    raw.submit(&mut world, json!({"agent": "echo", "lease_request": lease(100)}));
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "lease_request": lease(101)}));
    assert_eq!(raw.expect(&mut world, "session.error")["payload"]["code"], "INVALID_REQUEST");
    world.finish();
}

#[test]
fn ended_jobs_of_one_principal_have_a_bound() {
    let mut world = World::configured(23, |config| config.limits.job.ended_jobs_per_principal = 2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone());
        raw.until_end(&mut world);
    }
    assert_eq!(world.runtime().stats().jobs, 2, "what was sent of the others counts as received");
    raw.send(&mut world, "session.list_jobs", json!({}));
    let page = raw.expect(&mut world, "session.jobs");
    let mut listed: Vec<Value> =
        page["payload"]["jobs"].as_array().expect("jobs").iter().map(|job| job["job_id"].clone()).collect();
    listed.sort_by_key(ToString::to_string);
    assert_eq!(listed, jobs[2..]);
    world.finish();
}

#[test]
fn answers_that_wait_have_a_bound() {
    let mut world = World::configured(24, |config| config.limits.connection.replies_per_connection = 2);
    let (raw, _) = Raw::hello(&mut world, "tok-a");
    world.stall(raw.conn, true);
    // The world's transport stops reading when told; this one does not.
    let ping = r#"{"arcp":"1.1","id":"ID","type":"session.ping","payload":{}}"#;
    for n in 0..1000 {
        let frame = ping.replace("ID", &format!("p{n}")).into_bytes();
        world.input(Input::Received { conn: raw.conn, frame });
    }
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Flood));
    world.finish();
}

#[test]
fn bytes_of_answers_that_wait_have_a_bound() {
    let mut world = World::configured(62, |config| config.limits.connection.reply_bytes_per_connection = 10_000);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let lease = json!({"tool.call": ["x".repeat(4000), "y".repeat(4000)]});
    let job = raw.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}))["job_id"].clone();
    world.stall(raw.conn, true);
    // The world's transport stops reading when told; this one does not.
    for n in 0..50 {
        let watch = json!({"arcp": "1.1", "id": format!("w{n}"), "type": "job.subscribe", "payload": {"job_id": job}});
        world.input(Input::Received { conn: raw.conn, frame: watch.to_string().into_bytes() });
    }
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Flood));
    world.finish();
}

#[test]
fn bytes_that_are_not_durable_have_a_bound() {
    let bound = 20_000;
    let mut world = World::configured(63, |config| {
        config.limits.history.undurable_bytes = bound;
        config.limits.job.principal_share = 100;
        // Not what stops anybody here.
        config.limits.connection.replies_per_connection = 100_000;
        config.limits.connection.reply_bytes_per_connection = 1 << 30;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    world.store.broken = true;
    // Each of these changes something.
    let asked = json!({"job_id": job});
    for n in 0..2000 {
        raw.send(&mut world, ["job.unsubscribe", "job.subscribe"][n % 2], asked.clone());
    }
    world.run_for(Duration::from_secs(5));
    assert!(world.runtime().stats().undurable_bytes < bound + 1000, "nobody is read");
    other.send(&mut world, "session.ping", json!({"nonce": "n"}));
    world.run_for(Duration::from_secs(1));
    assert!(other.take(&world).is_empty(), "nor are others");
    world.store.broken = false;
    other.expect(&mut world, "session.pong");
    raw.send(&mut world, "session.list_jobs", json!({}));
    raw.expect(&mut world, "session.jobs");
    world.settle();
    // Who is not read and sends on is closed.
    world.store.broken = true;
    for n in 0..2000 {
        let kind = ["job.unsubscribe", "job.subscribe"][n % 2];
        let frame = json!({"arcp": "1.1", "id": format!("x{n}"), "type": kind, "payload": asked});
        world.input(Input::Received { conn: raw.conn, frame: frame.to_string().into_bytes() });
    }
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Flood));
    assert!(world.runtime().stats().undurable_bytes < 5 * bound);
    world.store.broken = false;
    world.finish();
}

#[test]
fn remembered_message_ids_have_a_bound() {
    let mut world = World::configured(25, |config| config.limits.session.seen_ids_per_session = 2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let again = |raw: &mut Raw, world: &mut World, id: &str| {
        let frame = json!({"arcp": "1.1", "id": id, "type": "job.submit", "payload": {"agent": "echo"}});
        raw.send_text(world, &frame.to_string());
        raw.expect(world, "job.accepted")["job_id"].clone()
    };
    let first = again(&mut raw, &mut world, "one");
    assert_eq!(again(&mut raw, &mut world, "one"), first, "executed once");
    again(&mut raw, &mut world, "two");
    again(&mut raw, &mut world, "three");
    assert_ne!(again(&mut raw, &mut world, "one"), first, "the oldest is forgotten");
    world.finish();
}

#[test]
fn idempotency_keys_have_a_bound() {
    let mut world = World::configured(26, |config| {
        config.limits.job.keys_per_principal = 2;
        config.limits.job.keys = 3;
        config.timing.key_window = Duration::from_secs(60);
    });
    let keyed = |key: &str| json!({"agent": "echo", "idempotency_key": key});
    let ask = |world: &mut World, principal: &str, keys: &[&str]| -> Vec<Value> {
        let (mut raw, _) = Raw::hello(world, principal);
        keys.iter().map(|key| submitted(world, &mut raw, keyed(key))).collect()
    };
    let full = json!("RESOURCE_EXHAUSTED");
    let got = ask(&mut world, "tok-a", &["a", "b", "c", "a"]);
    assert_eq!(got, [json!("accepted"), json!("accepted"), full.clone(), json!("accepted")], "its own");
    let got = ask(&mut world, "tok-b", &["a", "b"]);
    assert_eq!(got, [json!("accepted"), full], "everybody's");
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    assert_eq!(submitted(&mut world, &mut raw, json!({"agent": "echo"})), "accepted", "one without a key");
    world.run_for(Duration::from_secs(61));
    assert_eq!(ask(&mut world, "tok-b", &["b", "c"]), ["accepted", "accepted"], "their time is over");
    world.finish();
}

#[test]
fn bytes_of_one_jobs_events_have_a_bound() {
    let mut world = in_memory(27, |limits| limits.history.job_event_bytes = 5000);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 200}}))["job_id"].clone();
    assert_eq!(raw.until_end(&mut world).len(), 202, "who keeps up misses nothing");
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(watcher.expect(&mut world, "session.error")["payload"]["code"], "RESUME_WINDOW_EXPIRED");
    world.finish();
}

#[test]
fn an_agent_that_takes_more_credit_than_it_has_fails() {
    let mut world = World::configured(28, |config| config.limits.delivery.agent_credit = 3);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = accepted["job_id"].as_str().and_then(arcp_proto::id::JobId::parse).expect("a job");
    world.settle();
    world.store.broken = true;
    for n in 0..5 {
        assert_eq!(world.runtime().stats().unfinished_jobs, usize::from(n < 4), "call {n}");
        let body = Json::parse(r#"{"message":"m"}"#).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
    }
    world.store.broken = false;
    let end = raw.until_end(&mut world);
    assert_eq!(end.last().expect("an end")["payload"]["code"], "INTERNAL_ERROR");
    world.finish();
}

#[test]
fn ended_sessions_remembered_have_a_bound() {
    let mut world = World::configured(29, |config| {
        config.limits.session.ended_sessions = 1;
        config.timing.resume_window = Duration::from_secs(1);
    });
    let mut welcomes = Vec::new();
    for _ in 0..2 {
        let (raw, welcome) = Raw::hello(&mut world, "tok-a");
        world.cut(raw.conn);
        world.run_for(Duration::from_secs(2));
        welcomes.push(welcome);
    }
    let codes: Vec<Value> = (welcomes.iter())
        .map(|welcome| {
            let mut raw = Raw::resume(&mut world, "tok-a", welcome, 0);
            raw.expect(&mut world, "session.error")["payload"]["code"].clone()
        })
        .collect();
    assert_eq!(codes, ["UNAUTHENTICATED", "RESUME_WINDOW_EXPIRED"], "forgotten, and remembered");
    world.finish();
}

#[test]
fn indexes_have_a_bound() {
    let limits: [fn(&mut Config); 2] = [
        |config| config.limits.delivery.index_runs_per_session = 20,
        |config| config.limits.delivery.index_bytes = 8 << 10,
    ];
    for (seed, change) in (30..).zip(limits) {
        let mut world = World::configured(seed, change);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        for _ in 0..2 {
            raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 100}}));
        }
        raw.until_end(&mut world);
        raw.until_end(&mut world);
        world.cut(raw.conn);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 10);
        assert_eq!(back.expect(&mut world, "session.error")["payload"]["code"], "RESUME_WINDOW_EXPIRED");
        // From the first number on from which it can be had, all of it is.
        let first = (11..=206).find_map(|last| {
            let mut back = Raw::resume(&mut world, "tok-a", &welcome, last);
            let answer = back.expect_any(&mut world, &["session.error", "session.welcome"]);
            (answer["type"] == "session.welcome").then_some((last, back))
        });
        let (last, mut back) = first.expect("something is held");
        assert!(last < 200, "{last}");
        let seqs: Vec<u64> = back.settle(&mut world).iter().filter_map(|f| f["event_seq"].as_u64()).collect();
        assert_eq!(seqs, (last + 1..=206).collect::<Vec<_>>(), "what is held comes without a gap");
        assert!(!back.is_closed(&world));
        world.finish();
    }
}

#[test]
fn a_reader_whose_history_is_lost_is_closed_and_never_skips() {
    let mut world = World::configured(32, |config| config.limits.delivery.index_runs_per_session = 20);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for _ in 0..2 {
        raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 100}}));
    }
    world.stall(raw.conn, true);
    world.run_for(Duration::from_secs(15));
    world.stall(raw.conn, false);
    let seqs: Vec<u64> = raw.settle(&mut world).iter().filter_map(|f| f["event_seq"].as_u64()).collect();
    // The start of the first job came before the second was accepted.
    assert_eq!(seqs, (2..2 + seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::HistoryLost));
    world.finish();
}

#[test]
fn requests_per_job() {
    let mut world = World::configured(61, |config| config.limits.job.requests_per_job = 2);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let mut ask = |world: &mut World| {
        let invoke = json!({"tool": "waiter", "arguments": {}});
        raw.send_with(world, "tool.invoke", invoke, json!({"idempotency_key": "k"}));
        raw.expect_any(world, &["job.accepted", "nack"])
    };
    assert_eq!(ask(&mut world)["type"], "job.accepted");
    assert_eq!(ask(&mut world)["type"], "job.accepted");
    assert_eq!(ask(&mut world)["payload"]["code"], "RESOURCE_EXHAUSTED");
    world.finish();
}

#[test]
fn sessions_and_jobs_of_both_families_run_within_the_bounds_of_a_device() {
    let mut world = World::configured(61, |config| config.limits = Limits::small());
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-b");
    for agent in ["echo", "kinds", "chunker", "thinker"] {
        hello.submit(&mut world, json!({"agent": agent, "input": "hi"}));
        let end = hello.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["payload"]["final_status"], "success", "{agent}");
        open.invoke(&mut world, json!({"tool": agent, "arguments": "hi"}));
        let end = open.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["type"], "job.completed", "{agent}");
    }
    world.finish();
}

#[test]
fn places_of_frames_that_were_written_out_are_held_up_to_their_bound_and_size() {
    for most in [0, 4] {
        let mut config = Config::new("test", "1");
        config.limits.frame.frame_buffers = most;
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut runtime = Runtime::new(config, seeds, Now::default()).expect("it can work");
        for bytes in [2000, 100, 2000, 1024, 1025, 100, 100, 100, 100, 100] {
            take_back(&mut runtime, String::with_capacity(bytes));
        }
        let held = vec!["\"\""; most].join(", ");
        assert!(format!("{runtime:?}").contains(&format!("frames: [{held}]")), "{most}");
    }
}
