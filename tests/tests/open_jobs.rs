//! Jobs of the open family, and jobs seen from both families.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentExit, Input};
use arcp_tests::raw::{Raw, code, open_payload};
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["type"].as_str()).collect()
}

fn job_of(frame: &Value) -> JobId {
    JobId::parse(frame["job_id"].as_str().expect("a job")).expect("one of ours")
}

/// An opening as the crate `arcp` 2.0.0 writes it.
fn rust_200(world: &mut World) -> Raw {
    let mut raw = Raw::connect(world);
    let opening = json!({
        "arcp": "1.1", "id": "msg_01M7VGPV8MCXHKKC23CBMPTMDT", "timestamp": "2026-11-20T03:41:23.604721929Z",
        "type": "session.open", "payload": {
            "auth": {"scheme": "bearer", "token": "tok-alice"}, "client": {"kind": "c", "version": "1"},
            "capabilities": {"streaming": true, "artifacts": true},
        },
    });
    raw.send_text(world, &opening.to_string());
    raw.expect(world, "session.accepted");
    raw
}

#[test]
fn a_tool_is_invoked_to_its_end_with_every_kind_of_event() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let invoked = raw.send(&mut world, "tool.invoke", json!({"tool": "kinds", "arguments": {}}));
    let frames = raw.until_end(&mut world);
    let expected = [
        "job.accepted",
        "job.started",
        "log",
        "stream.open",
        "stream.chunk",
        "event.emit",
        "event.emit",
        "job.status",
        "metric",
        "event.emit",
        "event.emit",
        "stream.close",
        "job.completed",
    ];
    assert_eq!(types(&frames), expected);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame["event_seq"], n as u64 + 1);
        assert_eq!(frame["correlation_id"], json!(invoked));
        assert_eq!(frame["trace_id"], frames[0]["trace_id"]);
        assert_eq!(frame["job_id"], frames[0]["job_id"]);
    }
    let log: Value = serde_json::from_str(r#"{"level":"warn","message":"m","attributes":{"a":1.50}}"#).expect("JSON");
    assert_eq!(frames[2]["payload"], log, "numbers are left as they are");
    let thought = json!({"sequence": 0, "data": "hm", "content": "hm", "role": "assistant_thought", "redacted": false});
    assert_eq!(frames[4]["payload"], thought);
    assert_eq!(frames[5]["payload"]["name"], "tool_call");
    assert_eq!(
        frames[8]["payload"],
        serde_json::from_str::<Value>(r#"{"name":"m","value":1.250,"dims":{"k":"v"},"unit":"s"}"#).expect("JSON")
    );
    assert_eq!(frames[12]["payload"], json!({"value": null, "result": null}));
    assert_eq!(frames[12]["priority"], "critical");
    world.finish();
}

#[test]
fn progress_chunks_and_failures_are_as_the_family_says() {
    let mut world = World::seeded(2);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    raw.send(&mut world, "tool.invoke", json!({"tool": "slow", "arguments": {"ticks": 3}}));
    let frames = raw.until_end(&mut world);
    let progress: Vec<&Value> = frames.iter().filter(|f| f["type"] == "job.progress").map(|f| &f["payload"]).collect();
    assert_eq!(progress[0], &json!({"current": 1, "total": 3, "percent": 33.33}));
    assert_eq!(progress[2], &json!({"current": 3, "total": 3, "percent": 100}));

    raw.send(&mut world, "tool.invoke", json!({"tool": "chunker", "arguments": {"chunks": 2, "bytes": 3}}));
    let frames = raw.until_end(&mut world);
    assert_eq!(types(&frames)[2..], ["job.result_chunk", "job.result_chunk", "job.completed"]);
    let (chunk, end) = (&frames[3]["payload"], &frames[4]["payload"]);
    assert_eq!((&chunk["chunk_seq"], &chunk["more"], &chunk["encoding"]), (&json!(1), &json!(false), &json!("utf8")));
    assert_eq!((&end["result_id"], &end["result_size"]), (&chunk["result_id"], &json!(6)));
    assert!(end["value"].is_null() && end["summary"] == "letters");

    for (tool, expected) in [("failer", "INTERNAL"), ("panicker", "INTERNAL"), ("inventor", "INTERNAL")] {
        raw.send(&mut world, "tool.invoke", json!({"tool": tool, "arguments": {}}));
        let frames = raw.until_end(&mut world);
        let end = frames.last().expect("an end");
        assert_eq!((end["type"].as_str(), code(end)), (Some("job.failed"), expected));
        assert_eq!(end["payload"]["retryable"], true);
    }
    raw.send(&mut world, "tool.invoke", json!({"tool": "deaf", "arguments": {}, "max_runtime_sec": 2}));
    let frames = raw.until_end(&mut world);
    let end = frames.last().expect("an end");
    assert_eq!((end["type"].as_str(), code(end)), (Some("job.failed"), "DEADLINE_EXCEEDED"));
    assert_eq!(end["payload"]["details"]["code"], "TIMEOUT");
    world.finish();
}

#[test]
fn codes_are_those_that_the_peer_can_read() {
    let mut world = World::seeded(3);
    let (mut plain, _) = Raw::open(&mut world, "tok-alice");
    let mut ours = open_payload("tok-alice");
    ours["capabilities"]["extensions"] = json!(["arcpx.arcp.types.v1"]);
    let (mut native, _) = Raw::open_with(&mut world, ours);
    for (raw, unknown, conflict) in
        [(&mut plain, "NOT_FOUND", "ALREADY_EXISTS"), (&mut native, "AGENT_NOT_AVAILABLE", "DUPLICATE_KEY")]
    {
        raw.send(&mut world, "tool.invoke", json!({"tool": "nobody", "arguments": {}}));
        let nack = raw.expect(&mut world, "nack");
        assert_eq!(code(&nack), unknown);
        if unknown == "NOT_FOUND" {
            assert_eq!(nack["payload"]["details"]["code"], "AGENT_NOT_AVAILABLE");
        }
        raw.send(&mut world, "tool.invoke", json!({"tool": "echo@9", "arguments": {}}));
        assert_eq!(code(&raw.expect(&mut world, "nack")), "AGENT_VERSION_NOT_AVAILABLE");
        let key = json!({"idempotency_key": unknown});
        raw.send_with(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": 1}), key.clone());
        raw.until_end(&mut world);
        raw.send_with(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": 2}), key);
        assert_eq!(code(&raw.expect(&mut world, "nack")), conflict);
    }
    world.finish();
}

#[test]
fn authority_is_read_in_every_spelling() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let until = json!({"expires_at": "2030-01-01T00:00:00.000Z"});
    for (asked, lease, constraints) in [
        (json!({"cost_budget": ["USD:1.00"]}), json!({"cost.budget": ["USD:1.00"]}), json!(null)),
        (json!({"cost.budget": ["USD:1.00"]}), json!({"cost.budget": ["USD:1.00"]}), json!(null)),
        (json!({"lease_request": {"cost_budget": ["USD:1"]}}), json!({"cost.budget": ["USD:1"]}), json!(null)),
        (json!({"model_use": {"patterns": ["gpt-*"]}}), json!({"model.use": ["gpt-*"]}), json!(null)),
        (json!({"lease_request": {"model.use": ["gpt-*"]}}), json!({"model.use": ["gpt-*"]}), json!(null)),
        (json!({"lease_constraints": {"expires_at": "2030-01-01T00:00:00Z"}}), json!(null), until.clone()),
        (
            json!({"lease_request": {"model_use": ["m"], "expires_at": "2030-01-01T00:00:00Z"}}),
            json!({"model.use": ["m"]}),
            until.clone(),
        ),
        (
            json!({"lease_request": {"fs_read": ["/data/**"], "x-vendor.a.b": ["c"]}}),
            json!({"fs.read": ["/data/**"], "x-vendor.a.b": ["c"]}),
            json!(null),
        ),
    ] {
        let mut payload = json!({"tool": "echo", "arguments": {}});
        payload.as_object_mut().expect("an object").extend(asked.as_object().cloned().expect("an object"));
        let accepted = raw.invoke(&mut world, payload);
        let payload = &accepted["payload"];
        assert_eq!((&payload["lease"], &payload["lease_constraints"]), (&lease, &constraints), "{asked}");
        assert_eq!(payload["budget"], if asked.to_string().contains("cost") { json!({"USD": 1}) } else { json!(null) });
    }
    for wrong in [json!({"cost_budget": ["USD:-1"]}), json!({"lease_constraints": {"expires_at": "2030-01-01"}})] {
        let mut payload = json!({"tool": "echo", "arguments": {}});
        payload.as_object_mut().expect("an object").extend(wrong.as_object().cloned().expect("an object"));
        raw.send(&mut world, "tool.invoke", payload);
        assert_eq!(code(&raw.expect(&mut world, "nack")), "INVALID_ARGUMENT", "{wrong}");
    }
    world.finish();
}

#[test]
fn a_cancel_is_accepted_then_ends_the_job_or_is_refused_with_a_reason() {
    let mut world = World::seeded(5);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-alice");
    let (mut other, _) = Raw::open(&mut world, "tok-alice");
    let (mut bob, _) = Raw::open(&mut world, "tok-bob");
    let job = raw.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}))["job_id"].clone();
    let refused = |raw: &mut Raw, world: &mut World, target: &str, id: &Value| {
        let sent = raw.send(world, "cancel", json!({"target": target, "target_id": id}));
        let refused = raw.expect(world, "cancel.refused");
        assert_eq!((&refused["correlation_id"], &refused["payload"]["target_id"]), (&json!(sent), id));
        (refused["payload"]["reason"].as_str().unwrap_or_default().to_string(), code(&refused).to_string())
    };
    let expected = |reason: &str, code: &str| (reason.to_string(), code.to_string());
    // Unknown and foreign look alike.
    assert_eq!(refused(&mut raw, &mut world, "job", &json!("job_none")), expected("not_found", "NOT_FOUND"));
    assert_eq!(refused(&mut bob, &mut world, "job", &job), expected("not_found", "NOT_FOUND"));
    assert_eq!(refused(&mut other, &mut world, "job", &job), expected("not_cancellable", "PERMISSION_DENIED"));
    assert_eq!(refused(&mut raw, &mut world, "stream", &json!("str_x")), expected("not_found", "NOT_FOUND"));
    let stream = json!(job.as_str().expect("a job").replace("job_", "str_"));
    assert_eq!(refused(&mut raw, &mut world, "stream", &stream), expected("not_cancellable", "UNIMPLEMENTED"));
    let foreign = json!("sess_other");
    assert_eq!(refused(&mut raw, &mut world, "session", &foreign), expected("not_found", "NOT_FOUND"));

    raw.take(&world);
    raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job, "reason": "enough"}));
    let frames = raw.until_end(&mut world);
    assert_eq!(types(&frames), ["cancel.accepted", "job.cancelled"]);
    assert_eq!(frames[0]["payload"]["deadline_ms"], 5000);
    assert_eq!(frames[1]["payload"]["reason"], "enough");
    assert_eq!(code(&frames[1]), "CANCELLED");
    assert_eq!(refused(&mut raw, &mut world, "job", &job), expected("already_terminal", "FAILED_PRECONDITION"));

    let job = raw.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}))["job_id"].clone();
    let watched = other.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}))["job_id"].clone();
    raw.send(&mut world, "job.subscribe", json!({"job_id": watched, "history": true}));
    raw.expect(&mut world, "job.subscribed");
    raw.send(&mut world, "cancel", json!({"target": "session", "target_id": accepted["payload"]["session_id"]}));
    raw.expect(&mut world, "cancel.accepted");
    assert_eq!(raw.expect(&mut world, "session.evicted")["payload"]["reason"], "cancelled");
    assert!(raw.is_closed(&world));
    other.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let frames = other.until_end(&mut world);
    assert_eq!(frames.last().map(|end| (&end["type"], &end["job_id"])), Some((&json!("job.cancelled"), &job)));
    world.settle();
    assert_eq!(world.runtime().stats().unfinished_jobs, 1, "what it only watched goes on");
    world.finish();
}

#[test]
fn when_the_deadline_is_over_the_job_is_aborted() {
    for deadline in [0, 700, 9000] {
        let mut world = World::seeded(6);
        let (mut raw, _) = Raw::open(&mut world, "tok-alice");
        let job = raw.invoke(&mut world, json!({"tool": "stubborn", "arguments": {}}))["job_id"].clone();
        raw.expect(&mut world, "job.started");
        let wish = json!({"target": "job", "target_id": job, "deadline_ms": deadline, "reason": "now"});
        let asked = world.now().mono;
        raw.send(&mut world, "cancel", wish);
        assert_eq!(raw.expect(&mut world, "cancel.accepted")["payload"]["deadline_ms"], deadline);
        let end = raw.expect(&mut world, "job.cancelled");
        let took = world.now().mono.since(asked);
        assert_eq!((code(&end), &end["payload"]["reason"]), ("ABORTED", &json!("now")));
        assert!(took >= Duration::from_millis(deadline) && took < Duration::from_millis(deadline + 30), "{took:?}");
        world.settle();
        assert_eq!(world.runtime().stats().running_agents, 0);
        world.finish();
    }
}

#[test]
fn jobs_give_signs_of_life_that_are_not_numbered() {
    let mut world = World::seeded(7);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let (mut hello, _) = Raw::hello(&mut world, "tok-alice");
    let accepted = raw.invoke(&mut world, json!({"tool": "deaf", "arguments": {"seconds": 100}}));
    let job = accepted["job_id"].clone();
    hello.send(&mut world, "job.subscribe", json!({"job_id": job}));
    for n in 0..3 {
        let beat = raw.expect(&mut world, "job.heartbeat");
        assert_eq!(beat["payload"], json!({"sequence": n, "deadline_ms": 60_000, "state": "running"}));
        assert!(beat["event_seq"].is_null() && beat["job_id"] == job);
        assert_eq!(beat["correlation_id"], accepted["correlation_id"]);
        raw.send(&mut world, "session.pong", json!({}));
        hello.send(&mut world, "session.ping", json!({}));
    }
    let end = raw.expect(&mut world, "job.completed");
    assert_eq!(end["event_seq"], 3);
    world.run_for(Duration::from_secs(40));
    assert!(!types(&raw.take(&world)).contains(&"job.heartbeat"), "b39: nothing after the end");
    assert!(hello.take(&world).iter().all(|frame| frame["type"] != "job.heartbeat"));
    world.finish();
}

#[test]
fn signs_of_life_do_not_wait_for_a_reader() {
    let mut options = Options::new(14);
    options.window = 4096;
    options.config.timing.slow_reader_grace = Duration::from_secs(24 * 3600);
    let mut world = World::new(options);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    raw.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}));
    world.settle();
    world.stall(raw.conn, true);
    for _ in 0..200 {
        raw.send(&mut world, "session.pong", json!({}));
        world.run_for(Duration::from_secs(30));
    }
    let sent = raw.take(&world).len();
    assert!((1..100).contains(&sent), "until nothing more could be written: {sent}");
    world.stall(raw.conn, false);
    world.settle();
    let beats = raw.take(&world).into_iter().filter(|frame| frame["type"] == "job.heartbeat");
    assert!(beats.count() <= 1, "those of the time in between are not sent later");
    world.finish();
}

#[test]
fn an_agent_that_falls_silent_is_lost_or_waited_for() {
    let run = |recovery: &str| {
        let mut world = World::configured(8, |config| {
            config.heartbeat_agents.insert("waiter".into());
        });
        let mut opening = open_payload("tok-alice");
        opening["capabilities"] = json!({"heartbeat_recovery": recovery});
        let (mut raw, _) = Raw::open_with(&mut world, opening);
        let job = job_of(&raw.invoke(&mut world, json!({"tool": "waiter", "arguments": {}})));
        raw.expect(&mut world, "job.started");
        world.run_for(Duration::from_secs(50));
        world.input(Input::Agent { job, call: AgentCall::Heartbeat });
        world.run_for(Duration::from_secs(59));
        (world, raw, job)
    };
    let (mut world, mut raw, _) = run("fail");
    assert!(!types(&raw.take(&world)).contains(&"job.failed"), "a sign of life counts");
    let end = raw.expect(&mut world, "job.failed");
    assert_eq!((code(&end), &end["payload"]["retryable"]), ("HEARTBEAT_LOST", &json!(false)));
    world.settle();
    assert_eq!(world.runtime().stats().running_agents, 0, "its agent is stopped");
    world.finish();

    let (mut world, mut raw, job) = run("block");
    let blocked = raw.expect(&mut world, "job.status");
    assert_eq!(blocked["payload"]["phase"], "blocked");
    raw.send(&mut world, "session.list_jobs", json!({"filter": {"status": ["blocked"]}}));
    assert_eq!(raw.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["status"], "blocked");
    world.input(Input::Agent { job, call: AgentCall::Heartbeat });
    assert_eq!(raw.expect(&mut world, "job.status")["payload"]["phase"], "running");
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: Some(Json::null()), summary: None } });
    raw.expect(&mut world, "job.completed");
    world.finish();
}

#[test]
fn a_sign_of_life_says_that_a_job_is_blocked_once_that_is_durable() {
    let mut world = World::configured(13, |config| {
        config.heartbeat_agents.insert("waiter".into());
    });
    let mut opening = open_payload("tok-alice");
    opening["capabilities"] = json!({"heartbeat_recovery": "block", "heartbeat_interval_seconds": 30});
    let (mut raw, _) = Raw::open_with(&mut world, opening);
    let job = job_of(&raw.invoke(&mut world, json!({"tool": "waiter", "arguments": {}})));
    raw.expect(&mut world, "job.started");
    let states = |world: &mut World, raw: &mut Raw| -> Vec<String> {
        world.run_for(Duration::from_secs(60));
        let frames = raw.take(world).into_iter().filter(|frame| frame["type"] == "job.heartbeat");
        frames.map(|beat| beat["payload"]["state"].as_str().expect("a state").to_string()).collect()
    };
    world.run_for(Duration::from_secs(40));
    raw.take(&world);
    world.store.broken = true;
    assert_eq!(states(&mut world, &mut raw), ["running", "running"], "a restart would not know that it is blocked");
    world.store.mend();
    assert_eq!(states(&mut world, &mut raw), ["blocked", "blocked"]);
    world.store.broken = true;
    world.input(Input::Agent { job, call: AgentCall::Heartbeat });
    world.run_for(Duration::from_secs(35));
    world.store.mend();
    // The store is asked again within a second.
    world.run_for(Duration::from_secs(2));
    world.finish();
}

#[test]
fn an_agent_that_waits_for_its_reader_is_not_silent() {
    let mut world = World::configured(12, |config| {
        config.heartbeat_agents.insert("chatty".into());
        config.limits.delivery.pace_events = 32;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 2000}}));
    world.stall(raw.conn, true);
    for _ in 0..10 {
        world.run_for(Duration::from_secs(20));
        raw.send(&mut world, "session.ping", json!({}));
    }
    world.stall(raw.conn, false);
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!(end["payload"]["result"]["emitted"], 2000, "{end}");
    world.finish();
}

#[test]
fn what_is_urgent_starts_first_within_its_principal() {
    let mut world = World::configured(9, |config| config.limits.job.running_jobs = 1);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    raw.invoke(&mut world, json!({"tool": "slow", "arguments": {"ticks": 3}}));
    raw.expect(&mut world, "job.started");
    for priority in ["low", "normal", "critical", "high", "critical"] {
        let payload = json!({"tool": "echo", "arguments": priority});
        raw.send_with(&mut world, "tool.invoke", payload, json!({"priority": priority}));
    }
    let mut ends = Vec::new();
    for _ in 0..6 {
        ends.push(raw.expect(&mut world, "job.completed")["payload"]["value"].clone());
    }
    assert_eq!(ends[1..], ["critical", "critical", "high", "normal", "low"].map(Value::from));
    world.finish();
}

#[test]
fn a_retry_with_its_key_gets_acceptance_and_end_under_its_own_request() {
    let mut world = World::seeded(10);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let (mut other, _) = Raw::open(&mut world, "tok-alice");
    let key = json!({"idempotency_key": "k1"});
    let invoke = json!({"tool": "slow", "arguments": {"ticks": 2}});
    raw.send_with(&mut world, "tool.invoke", invoke.clone(), key.clone());
    let first = raw.until_end(&mut world);
    for peer in [&mut raw, &mut other] {
        let again = peer.send_with(&mut world, "tool.invoke", invoke.clone(), key.clone());
        let frames = peer.until_end(&mut world);
        assert_eq!(types(&frames), ["job.accepted", "job.completed"]);
        for frame in &frames {
            assert_eq!((&frame["job_id"], &frame["correlation_id"]), (&first[0]["job_id"], &json!(again)));
        }
        assert_eq!(frames[1]["payload"], first.last().expect("an end")["payload"]);
    }
    world.finish();
}

#[test]
fn one_job_is_seen_from_both_families() {
    let mut world = World::seeded(11);
    let (mut open, _) = Raw::open(&mut world, "tok-alice");
    let (mut hello, _) = Raw::hello(&mut world, "tok-alice");

    let job = hello.submit(&mut world, json!({"agent": "kinds"}))["job_id"].clone();
    let watch = open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let frames = open.until_end(&mut world);
    assert_eq!(frames[0]["type"], "job.subscribed");
    assert_eq!(frames.len(), 13, "{:?}", types(&frames));
    assert!(frames.iter().all(|frame| frame["correlation_id"] == json!(watch)));
    assert_eq!(frames[12]["event_seq"], 12);
    let seen = hello.until_end(&mut world);

    let job = open.invoke(&mut world, json!({"tool": "kinds", "arguments": {}}))["job_id"].clone();
    hello.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    hello.expect(&mut world, "job.subscribed");
    let watched = hello.until_end(&mut world);
    let bodies = |frames: &[Value]| -> Vec<Value> {
        frames.iter().filter(|f| f["type"] == "job.event").map(|f| f["payload"]["body"].clone()).collect()
    };
    assert_eq!(bodies(&watched), bodies(&seen), "who submitted it makes no difference");
    hello.send(&mut world, "session.list_jobs", json!({}));
    let listed = hello.expect(&mut world, "session.jobs");
    assert_eq!(listed["payload"]["jobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["payload"]["jobs"][1]["status"], "success");
    world.finish();
}

#[test]
fn a_trace_of_free_text_is_shown_only_where_it_can_be_read() {
    let mut world = World::seeded(15);
    let (mut open, _) = Raw::open(&mut world, "tok-alice");
    let (mut hello, _) = Raw::hello(&mut world, "tok-alice");
    let more = json!({"trace_id": "trace_789", "span_id": "s1"});
    open.send_with(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {}}), more);
    let frames = open.until_end(&mut world);
    assert!(frames.iter().all(|frame| frame["trace_id"] == "trace_789"));
    assert!(frames[1..].iter().all(|frame| frame["span_id"] == "s1"));
    hello.send(&mut world, "job.subscribe", json!({"job_id": frames[0]["job_id"], "history": true}));
    hello.send(&mut world, "session.list_jobs", json!({}));
    let seen = hello.settle(&mut world);
    assert!(seen.len() >= 3 && seen.iter().all(|frame| !frame.to_string().contains("trace_789")), "{seen:#?}");
    world.finish();
}

#[test]
fn a_thought_stream_is_opened_to_everyone_who_sees_a_thought() {
    let mut world = World::seeded(12);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let (mut late, _) = Raw::open(&mut world, "tok-alice");
    let job = raw.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}))["job_id"].clone();
    raw.expect(&mut world, "job.started");
    let id = JobId::parse(job.as_str().expect("a job")).expect("ours");
    let think = |text: &str| Input::Agent {
        job: id,
        call: AgentCall::Emit { kind: "thought".into(), body: Json::parse(text).expect("JSON") },
    };
    world.input(think(r#"{"text":"one"}"#));
    late.send(&mut world, "job.subscribe", json!({"job_id": job}));
    late.expect(&mut world, "job.subscribed");
    world.input(think(r#"{"text":"two","redacted":true}"#));
    world.input(Input::AgentExited { job: id, exit: AgentExit::Success { result: None, summary: None } });
    let stream = |frames: Vec<Value>| -> Vec<String> {
        let streamed = frames.into_iter().filter(|frame| frame["stream_id"].is_string());
        streamed.map(|f| format!("{} {}", f["type"].as_str().unwrap_or_default(), f["payload"]["sequence"])).collect()
    };
    let seen = stream(raw.until_end(&mut world));
    assert_eq!(seen, ["stream.open null", "stream.chunk 0", "stream.chunk 1", "stream.close null"]);
    assert_eq!(stream(late.until_end(&mut world)), ["stream.open null", "stream.chunk 1", "stream.close null"]);
    world.finish();
}

#[test]
fn the_published_rust_client_gets_only_what_it_can_decode() {
    let mut world = World::seeded(13);
    let mut raw = rust_200(&mut world);
    raw.send_with(&mut world, "tool.invoke", json!({"tool": "kinds", "arguments": {}}), json!({"id": "msg_1"}));
    let frames = raw.until_end(&mut world);
    assert!(!types(&frames).contains(&"job.status"));
    let status = frames.iter().find(|frame| frame["payload"]["name"] == "job.status").expect("as an event");
    assert_eq!((&status["type"], &status["payload"]["data"]), (&json!("event.emit"), &json!({"phase": "demo"})));
    assert!(frames.iter().all(|frame| frame["correlation_id"] == "msg_1"));
    // It reads pieces without a word for that, and no answer to its close.
    raw.send(&mut world, "tool.invoke", json!({"tool": "chunker", "arguments": {}}));
    let frames = raw.until_end(&mut world);
    assert!(types(&frames).contains(&"job.result_chunk"));
    assert!(frames.iter().all(|frame| frame["correlation_id"].is_null()), "it drops ids without `msg_`");
    raw.send(&mut world, "session.close", json!({}));
    assert_eq!(raw.settle(&mut world), Vec::<Value>::new());
    assert!(raw.is_closed(&world));
    world.finish();
}

#[test]
fn listings_are_asked_for_and_shown_in_the_words_of_the_family() {
    let mut world = World::seeded(16);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    for (tool, limit) in [("echo", 9), ("failer", 9), ("deaf", 1)] {
        raw.send(&mut world, "tool.invoke", json!({"tool": tool, "arguments": {}, "max_runtime_sec": limit}));
        raw.until_end(&mut world);
    }
    let mut listed = |status: Value| -> Vec<Value> {
        raw.send(&mut world, "session.list_jobs", json!({"filter": {"status": status}}));
        let page = raw.expect(&mut world, "session.jobs");
        page["payload"]["jobs"].as_array().expect("a list").iter().map(|job| job["status"].clone()).collect()
    };
    assert_eq!(listed(json!(["failed"])), ["failed", "failed"]);
    assert_eq!(listed(json!(["timed_out"])), ["failed"]);
    assert_eq!(listed(json!("completed")), ["completed"]);
    assert_eq!(listed(json!(["success", "error"])), ["completed", "failed"]);
    world.finish();
}

#[test]
fn the_swift_client_always_gets_a_priority() {
    let mut world = World::seeded(17);
    let mut raw = Raw::connect(&mut world);
    let mut payload = open_payload("tok-alice");
    payload["capabilities"]["binary_encoding"] = json!(["base64"]);
    let opening = json!({
        "arcp": "1.1", "id": "msg_01M7VD85KQ9SZXPW6NX4X2SFJ9", "timestamp": "2026-05-22T10:00:00.000Z",
        "priority": "normal", "type": "session.open", "payload": payload,
    });
    raw.send_text(&mut world, &opening.to_string());
    assert_eq!(raw.expect(&mut world, "session.accepted")["priority"], "normal");
    raw.send(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {"n": 1}}));
    let frames = raw.until_end(&mut world);
    let priorities: Vec<&Value> = frames.iter().map(|frame| &frame["priority"]).collect();
    assert_eq!(priorities, ["normal", "normal", "critical"]);
    assert_eq!(frames[2]["payload"]["result"], json!({"n": 1}));
    world.finish();
}

#[test]
fn a_job_is_watched_and_left_off() {
    let mut world = World::seeded(14);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let (mut other, _) = Raw::open(&mut world, "tok-alice");
    let (mut bob, _) = Raw::open(&mut world, "tok-bob");
    let job = raw.invoke(&mut world, json!({"tool": "slow", "arguments": {"ticks": 9}}))["job_id"].clone();
    bob.send(&mut world, "job.subscribe", json!({"job_id": job}));
    assert_eq!(code(&bob.expect(&mut world, "nack")), "NOT_FOUND");
    other.send(&mut world, "job.subscribe", json!({"job_id": job}));
    let subscribed = other.expect(&mut world, "job.subscribed");
    assert!(matches!(subscribed["payload"]["current_status"].as_str(), Some("queued" | "running")));
    other.expect(&mut world, "job.progress");
    other.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    world.settle();
    other.take(&world);
    raw.until_end(&mut world);
    assert_eq!(other.settle(&mut world), Vec::<Value>::new());
    world.finish();
}
