//! Jobs: submitting, running, ending, cancelling.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::runtime::{AgentCall, AgentExit, ChunkData, Input};
use arcp_tests::raw::{Raw, code, hello_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Submits and gives everything up to the end.
fn run(world: &mut World, payload: Value) -> Vec<Value> {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    raw.submit(world, payload);
    raw.until_end(world)
}

#[test]
fn a_job_is_accepted_started_and_completed() {
    let mut world = World::seeded(1);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let id = raw.send(&mut world, "job.submit", json!({"agent": "echo", "input": {"n": 1}}));
    let accepted = raw.expect(&mut world, "job.accepted");
    let payload = &accepted["payload"];
    assert_eq!(payload["request_id"], id.as_str());
    assert_eq!(payload["agent"], "echo@2.0.0");
    assert_eq!(payload["lease"], json!({}));
    assert_eq!(payload["job_id"], accepted["job_id"]);
    assert!(payload["accepted_at"].is_string());
    assert!(accepted.get("event_seq").is_none(), "not counted");
    let trace = payload["trace_id"].as_str().expect("minted");
    assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    let frames = raw.until_end(&mut world);
    let kinds: Vec<_> = frames.iter().map(|f| (f["type"].as_str(), f["event_seq"].as_u64())).collect();
    assert_eq!(kinds, [(Some("job.event"), Some(1)), (Some("job.result"), Some(2))]);
    assert_eq!(frames[0]["payload"]["kind"], "status");
    assert_eq!(frames[0]["payload"]["body"], json!({"phase": "running"}));
    let result = &frames[1]["payload"];
    assert_eq!((&result["final_status"], &result["result"]), (&json!("success"), &json!({"n": 1})));
    assert!(result["completed_at"].is_string() && result["job_id"] == accepted["job_id"]);
    for frame in &frames {
        assert_eq!(frame["session_id"], welcome["session_id"]);
        assert_eq!(frame["trace_id"], trace);
    }
    world.finish();
}

#[test]
fn client_json_comes_back_byte_for_byte() {
    for input in ["1.0", "1e2", "12345678901234567890123", r#"{"b":1,  "a" : [ ] }"#, r#""\u00e9\ud83d\ude00\/""#] {
        let mut world = World::seeded(2);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let text = format!(r#"{{"id":"s","type":"job.submit","payload":{{"agent":"echo","input":{input}}}}}"#);
        raw.send_text(&mut world, &text);
        world.settle();
        let frames = world.frames_of(raw.conn);
        let end = frames.iter().find(|frame| frame.contains("job.result")).expect("a result");
        assert!(end.contains(&format!("\"result\":{input},")), "{input}: {end}");
        world.finish();
    }
}

#[test]
fn null_and_false_are_results() {
    for input in ["null", "false", "0", "\"\""] {
        let mut world = World::seeded(3);
        let end = run(&mut world, json!({"agent": "echo", "input": serde_json::from_str::<Value>(input).unwrap()}));
        let payload = end.last().expect("an end")["payload"].as_object().cloned().expect("an object");
        assert!(payload.contains_key("result"), "{input}");
        assert_eq!(payload["result"].to_string(), input);
        world.finish();
    }
}

#[test]
fn every_event_kind_is_complete() {
    let mut world = World::seeded(4);
    let frames = run(&mut world, json!({"agent": "kinds"}));
    let bodies: Vec<(String, Value)> = frames
        .iter()
        .filter(|frame| frame["type"] == "job.event")
        .map(|frame| (frame["payload"]["kind"].as_str().unwrap_or("").to_string(), frame["payload"]["body"].clone()))
        .collect();
    // As text: numbers keep the spelling they came with.
    let expected = [
        ("status", r#"{"phase":"running"}"#),
        ("log", r#"{"level":"warn","message":"m","attributes":{"a":1.50}}"#),
        ("thought", r#"{"text":"hm"}"#),
        ("tool_call", r#"{"tool":"grep","call_id":"c1","args":{}}"#),
        ("tool_result", r#"{"call_id":"c1","result":{"ok":true}}"#),
        ("status", r#"{"phase":"demo"}"#),
        ("metric", r#"{"name":"m","value":1.250,"unit":"s","dimensions":{"k":"v"},"dims":{"k":"v"}}"#),
        ("artifact_ref", r#"{"uri":"arcp://a/1","content_type":"text/plain","byte_size":4}"#),
        ("x-vendor.test.note", r#"{"n":10.00,"x-mine":[]}"#),
    ];
    for ((kind, body), (expected_kind, expected_body)) in bodies.iter().zip(&expected) {
        assert_eq!((kind.as_str(), body.to_string().as_str()), (*expected_kind, *expected_body));
    }
    assert_eq!(bodies.len(), expected.len());
    assert!(frames.iter().all(|frame| frame["type"] != "job.event" || frame["payload"]["ts"].is_string()));
    world.finish();
}

#[test]
fn a_result_in_pieces() {
    let mut world = World::seeded(5);
    let frames = run(&mut world, json!({"agent": "chunker", "input": {"chunks": 4, "bytes": 7}}));
    let chunks: Vec<&Value> =
        frames.iter().filter(|f| f["payload"]["kind"] == "result_chunk").map(|f| &f["payload"]["body"]).collect();
    let seqs: Vec<u64> = chunks.iter().filter_map(|c| c["chunk_seq"].as_u64()).collect();
    assert_eq!(seqs, [0, 1, 2, 3], "b55_contiguous");
    let more: Vec<bool> = chunks.iter().filter_map(|c| c["more"].as_bool()).collect();
    assert_eq!(more, [true, true, true, false]);
    let end = &frames.last().expect("an end")["payload"];
    assert_eq!((&end["result_id"], &end["result_size"]), (&chunks[0]["result_id"], &json!(28)), "rt53");
    assert!(end.get("result").is_none());
    world.finish();
}

#[test]
fn large_pieces_are_cut_under_the_frame_limit() {
    let mut world = World::configured(6, |config| config.limits.frame.result_frame_bytes = 8192);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chunker", "input": {"chunks": 2, "bytes": 20000}}));
    let frames = raw.until_end(&mut world);
    let whole: String =
        frames.iter().filter_map(|f| f["payload"]["body"]["data"].as_str()).collect::<Vec<_>>().concat();
    assert_eq!(whole.len(), 40000);
    assert!(world.frames_of(raw.conn).iter().all(|frame| frame.len() <= 8192));
    world.finish();
}

#[test]
fn a_result_beyond_the_cap_fails_the_job() {
    for (chunks, bytes, fits) in [(3, 60, false), (2, 50, true), (1, 100, true), (1, 101, false), (101, 1, false)] {
        let mut world = World::configured(7, |config| config.limits.frame.result_bytes = 100);
        let frames = run(&mut world, json!({"agent": "chunker", "input": {"chunks": chunks, "bytes": bytes}}));
        let end = frames.last().expect("an end");
        assert_eq!(code(end), if fits { "" } else { "INTERNAL_ERROR" }, "{chunks} pieces of {bytes} bytes");
        world.finish();
    }
}

#[test]
fn one_terminal_even_when_the_end_itself_fails() {
    let mut world = World::configured(30, |config| {
        config.limits.frame.result_frame_bytes = 4096;
        config.limits.frame.result_bytes = 100;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(5000)}));
    assert_eq!(code(raw.until_end(&mut world).last().expect("an end")), "INTERNAL_ERROR");
    assert!(raw.settle(&mut world).is_empty());
    world.finish();
}

#[test]
fn an_inline_result_too_large_for_a_frame_is_sent_in_pieces() {
    let mut world = World::configured(8, |config| config.limits.frame.result_frame_bytes = 4096);
    let input = "é".repeat(5000);
    let frames = run(&mut world, json!({"agent": "echo", "input": input}));
    let whole: String =
        frames.iter().filter_map(|f| f["payload"]["body"]["data"].as_str()).collect::<Vec<_>>().concat();
    assert_eq!(whole, Value::String(input).to_string());
    let end = &frames.last().expect("an end")["payload"];
    assert_eq!(end["final_status"], "success");
    assert_eq!(end["result_size"], whole.len());
    world.finish();
}

#[test]
fn without_the_feature_pieces_come_inline_or_the_job_says_why_not() {
    for (bytes, expected) in [(10, "success"), (9000, "error")] {
        let mut world = World::configured(9, |config| config.limits.frame.result_frame_bytes = 8192);
        let mut raw = Raw::connect(&mut world);
        let mut hello = hello_payload("tok-a");
        hello["capabilities"]["features"] = json!([]);
        raw.send(&mut world, "session.hello", hello);
        raw.expect(&mut world, "session.welcome");
        raw.submit(&mut world, json!({"agent": "chunker", "input": {"chunks": 3, "bytes": bytes}}));
        let frames = raw.until_end(&mut world);
        assert!(frames.iter().all(|f| f["payload"]["kind"] != "result_chunk"));
        let seqs: Vec<u64> = frames.iter().filter_map(|f| f["event_seq"].as_u64()).collect();
        assert_eq!(seqs, [1, 2], "what is withheld takes no number");
        let end = &frames.last().expect("an end")["payload"];
        assert_eq!(end["final_status"], expected);
        match expected {
            "success" => assert_eq!(end["result"], "abcdefghijklmnopqrstuvwxyzabcd"),
            _ => assert!(end["message"].as_str().is_some_and(|m| m.contains("no pieces")), "{end}"),
        }
        world.finish();
    }
}

#[test]
fn progress_is_withheld_from_who_did_not_ask_for_it() {
    let mut world = World::seeded(10);
    let mut raw = Raw::connect(&mut world);
    let mut hello = hello_payload("tok-a");
    hello["capabilities"]["features"] = json!(["result_chunk"]);
    raw.send(&mut world, "session.hello", hello);
    raw.expect(&mut world, "session.welcome");
    raw.submit(&mut world, json!({"agent": "slow"}));
    let frames = raw.until_end(&mut world);
    let seqs: Vec<u64> = frames.iter().filter_map(|f| f["event_seq"].as_u64()).collect();
    assert_eq!(seqs, [1, 2, 3]);
    world.finish();
}

#[test]
fn failures_keep_their_code_and_show_no_insides() {
    for (agent, expected, details) in [
        ("failer", "boom", Value::Null),
        ("panicker", "the agent failed unexpectedly", Value::Null),
        ("inventor", "no luck", json!({"code": "MY_CODE"})),
    ] {
        let mut world = World::seeded(11);
        let frames = run(&mut world, json!({"agent": agent}));
        let end = &frames.last().expect("an end")["payload"];
        assert_eq!(end["final_status"], "error");
        assert_eq!((&end["code"], &end["message"]), (&json!("INTERNAL_ERROR"), &json!(expected)));
        assert_eq!(end["retryable"], true);
        assert_eq!(end.get("details").cloned().unwrap_or_default(), details);
        world.finish();
    }
}

#[test]
fn agent_versions() {
    let mut world = World::seeded(12);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let pinned = raw.submit(&mut world, json!({"agent": "echo@1.0.0"}));
    assert_eq!(pinned["payload"]["agent"], "echo@1.0.0");
    for (agent, expected) in [
        ("echo@3", "AGENT_VERSION_NOT_AVAILABLE"),
        ("slow@1", "AGENT_VERSION_NOT_AVAILABLE"),
        ("nobody", "AGENT_NOT_AVAILABLE"),
        ("no spaces", "INVALID_REQUEST"),
        ("", "INVALID_REQUEST"),
    ] {
        let id = raw.send(&mut world, "job.submit", json!({"agent": agent}));
        let error = raw.expect(&mut world, "session.error");
        assert_eq!((code(&error), &error["payload"]["request_id"]), (expected, &json!(id)), "b3_correlated");
        assert_eq!(error["payload"]["retryable"], false);
    }
    let mut plain = Raw::connect(&mut world);
    let mut hello = hello_payload("tok-a");
    hello["capabilities"]["features"] = json!([]);
    plain.send(&mut world, "session.hello", hello);
    plain.expect(&mut world, "session.welcome");
    plain.send(&mut world, "job.submit", json!({"agent": "echo@1.0.0"}));
    assert_eq!(code(&plain.expect(&mut world, "session.error")), "INVALID_REQUEST");
    let bare = plain.submit(&mut world, json!({"agent": "echo"}));
    assert_eq!(bare["payload"]["agent"], "echo", "a peer without `agent_versions` knows bare names");
    world.finish();
}

#[test]
fn cancel_is_acknowledged_and_then_ends_the_job() {
    let mut world = World::seeded(13);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    raw.send_with(&mut world, "job.cancel", json!({"reason": "enough"}), json!({"job_id": job}));
    let frames = raw.until_end(&mut world);
    assert_eq!(frames[0]["type"], "job.cancelled");
    assert_eq!(frames[0]["payload"], json!({"job_id": job, "reason": "enough"}));
    assert!(frames[0].get("event_seq").is_none());
    let end = &frames[1]["payload"];
    assert_eq!(
        (&end["final_status"], &end["code"], &end["retryable"]),
        (&json!("cancelled"), &json!("CANCELLED"), &json!(false))
    );
    world.finish();
}

#[test]
fn a_stubborn_agent_is_ended_after_the_grace() {
    let mut world = World::seeded(14);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "stubborn"}))["job_id"].clone();
    world.settle();
    let before = world.now().mono;
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    let frames = raw.until_end(&mut world);
    let end = &frames.last().expect("an end")["payload"];
    assert_eq!((&end["final_status"], &end["code"]), (&json!("cancelled"), &json!("CANCELLED")));
    let waited = world.now().mono.since(before);
    assert!((5000..5100).contains(&waited.as_millis()), "{waited:?}");
    world.settle();
    assert_eq!(world.runtime().stats().running_agents, 0, "it was forced");
    world.finish();
}

#[test]
fn a_success_after_the_cancel_is_cancelled_all_the_same() {
    let mut world = World::seeded(15);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 3}}))["job_id"].clone();
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    let frames = raw.until_end(&mut world);
    let taken = frames.iter().any(|f| f["type"] == "job.cancelled");
    let end = frames.last().expect("an end");
    assert!(!taken || end["payload"]["final_status"] == "cancelled", "{frames:#?}");
    world.finish();
}

#[test]
fn whatever_an_agent_says_after_it_was_told_to_stop_its_job_is_cancelled() {
    let exits = [
        AgentExit::Success { result: Some(Json::null()), summary: None },
        AgentExit::Failure(JobError::new(ErrorCode::Internal, "boom")),
        AgentExit::Lost,
    ];
    for exit in exits {
        let mut world = World::seeded(31);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let job = raw.submit(&mut world, json!({"agent": "stubborn"}))["job_id"].clone();
        world.settle();
        raw.send(&mut world, "job.cancel", json!({"job_id": job}));
        raw.expect(&mut world, "job.cancelled");
        let id = JobId::parse(job.as_str().expect("an id")).expect("a job");
        world.input(Input::AgentExited { job: id, exit: exit.clone() });
        let end = raw.until_end(&mut world).pop().expect("an end");
        assert_eq!((&end["payload"]["final_status"], code(&end)), (&json!("cancelled"), "CANCELLED"), "{exit:?}");
        assert!(raw.settle(&mut world).is_empty(), "one end");
        world.finish();
    }
}

#[test]
fn a_cancelled_queued_job_ends_at_once_and_never_starts() {
    let mut world = World::configured(16, |config| config.limits.job.running_jobs = 1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "waiter"}));
    let queued = raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    raw.send(&mut world, "job.cancel", json!({"job_id": queued}));
    let frames = raw.until_end(&mut world);
    let of_job: Vec<&Value> = frames.iter().filter(|f| f["job_id"] == queued).collect();
    assert_eq!(of_job.len(), 2, "the acknowledgement and the end: {of_job:#?}");
    assert_eq!(of_job[1]["payload"]["final_status"], "cancelled");
    world.finish();
}

#[test]
fn slots_go_round_by_principal() {
    let mut world = World::configured(17, |config| config.limits.job.running_jobs = 1);
    let (mut greedy, _) = Raw::hello(&mut world, "tok-greedy");
    for _ in 0..5 {
        greedy.submit(&mut world, json!({"agent": "slow"}));
    }
    let (mut modest, _) = Raw::hello(&mut world, "tok-modest");
    modest.submit(&mut world, json!({"agent": "slow"}));
    modest.until_end(&mut world);
    assert!(world.now().mono.0 < 3_500_000, "one greedy job ran before it, not five");
    world.finish();
}

#[test]
fn only_the_submitting_session_may_cancel() {
    let mut world = World::seeded(18);
    let (mut owner, welcome) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    other.send(&mut world, "job.subscribe", json!({"job_id": job}));
    other.expect(&mut world, "job.subscribed");
    let id = other.send(&mut world, "job.cancel", json!({"job_id": job}));
    let refused = other.expect(&mut world, "session.error");
    assert_eq!((code(&refused), &refused["payload"]["request_id"]), ("PERMISSION_DENIED", &json!(id)));
    let (mut foreign, _) = Raw::hello(&mut world, "tok-b");
    foreign.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(&foreign.expect(&mut world, "session.error")), "JOB_NOT_FOUND", "b82");
    world.cut(owner.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    back.send(&mut world, "job.cancel", json!({"job_id": job}));
    back.expect(&mut world, "job.cancelled");
    assert_eq!(other.until_end(&mut world).last().expect("an end")["payload"]["final_status"], "cancelled", "b50");
    world.finish();
}

#[test]
fn cancel_of_an_ended_or_unknown_job_is_an_error_of_its_own() {
    let mut world = World::seeded(19);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
    raw.until_end(&mut world);
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    let error = raw.expect(&mut world, "session.error");
    assert_eq!(code(&error), "INVALID_REQUEST");
    assert_eq!(error["payload"]["details"]["final_status"], "success");
    raw.send(&mut world, "job.cancel", json!({"job_id": "job_nobody_knows"}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "JOB_NOT_FOUND");
    raw.send(&mut world, "job.cancel", json!({}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST");
    world.finish();
}

#[test]
fn the_time_limit_ends_a_job_as_timed_out() {
    let mut world = World::seeded(20);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "stubborn", "max_runtime_sec": 2}));
    let frames = raw.until_end(&mut world);
    let end = &frames.last().expect("an end")["payload"];
    assert_eq!(
        (&end["final_status"], &end["code"], &end["retryable"]),
        (&json!("timed_out"), &json!("TIMEOUT"), &json!(true))
    );
    assert!((2_000_000..2_100_000).contains(&world.now().mono.0));
    world.run_for(Duration::from_secs(6));
    assert_eq!(world.runtime().stats().running_agents, 0, "its agent was stopped, then forced");
    assert!(raw.take(&world).iter().all(|f| f.get("event_seq").is_none()), "nothing after the end");
    world.finish();
}

#[test]
fn the_time_limit_of_an_ended_job_does_nothing() {
    let mut world = World::seeded(21);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "echo", "max_runtime_sec": 1}));
    raw.until_end(&mut world);
    world.run_for(Duration::from_secs(5));
    assert!(raw.take(&world).is_empty());
    world.finish();
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let mut world = World::seeded(22);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for bad in [
        json!({"agent": "echo", "lease_request": {"cost.budget": ["USD:5"]}}),
        json!({"agent": "echo", "lease_request": {"model_use": ["*"]}}),
        json!({"agent": "echo", "lease_request": {"": ["x"]}}),
        json!({"agent": "echo", "lease_request": {"tool.call": []}}),
        json!({"agent": "echo", "lease_request": {"nonsense": ["x"]}}),
        json!({"agent": "echo", "lease_request": ["x"]}),
        json!({"agent": "echo", "lease_constraints": {"expires_at": "2030-01-01T00:00:00Z"}}),
        json!({"agent": "echo", "parent_job_id": 1}),
        json!({"agent": "echo", "max_runtime_sec": 0}),
        json!({"agent": "echo", "max_runtime_sec": 1.5}),
        json!({"agent": "echo", "idempotency_key": ""}),
        json!({"agent": "echo", "idempotency_key": "k".repeat(257)}),
        json!({"agent": 5}),
        json!({}),
    ] {
        raw.send(&mut world, "job.submit", bad.clone());
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST", "{bad}");
    }
    let held = raw.submit(&mut world, json!({"agent": "echo", "lease_request": {"tool.call": ["demo.*"]}}));
    assert_eq!(held["payload"]["lease"], json!({"tool.call": ["demo.*"]}));
    world.finish();
}

#[test]
fn traces_travel() {
    let mut world = World::seeded(23);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    for given in [id.to_string(), format!("00-{id}-00f067aa0ba902b7-01")] {
        raw.send_with(&mut world, "job.submit", json!({"agent": "echo"}), json!({"trace_id": given}));
        for frame in raw.until_end(&mut world) {
            assert_eq!(frame["trace_id"], id);
        }
    }
    for (flags, unsampled) in [("01", false), ("00", true), ("03", false)] {
        let given = format!("00-{id}-00f067aa0ba902b7-{flags}");
        raw.send_with(&mut world, "job.submit", json!({"agent": "echo"}), json!({"trace_id": given}));
        raw.until_end(&mut world);
        let started = world.started.last().expect("it ran");
        assert_eq!((started.trace.as_str(), started.unsampled), (id, unsampled), "{flags}");
    }
    let parents = ["-00f067aa0ba902b-01", "-00f067aa0ba902b7-1"].map(|rest| format!("00-{id}{rest}"));
    for bad in ["x", "4BF92F3577B34DA6A3CE929D0E0E4736", "", "0000", &parents[0], &parents[1]] {
        raw.send_with(&mut world, "job.submit", json!({"agent": "echo"}), json!({"trace_id": bad}));
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST", "{bad}");
    }
    world.finish();
}

#[test]
fn too_many_jobs_are_refused_for_now() {
    let mut world = World::configured(24, |config| config.limits.job.jobs_per_principal = 2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "waiter"}));
    raw.submit(&mut world, json!({"agent": "waiter"}));
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let error = raw.expect(&mut world, "session.error");
    assert_eq!((code(&error), &error["payload"]["retryable"]), ("INTERNAL_ERROR", &json!(true)));
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.submit(&mut world, json!({"agent": "echo"}));
    world.finish();
}

#[test]
fn a_job_that_ends_before_its_agent_is_started_leaves_its_slot() {
    let mut world = World::configured(40, |config| config.limits.job.running_jobs = 1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 3}}));
    let next = raw.submit(&mut world, json!({"agent": "echo", "input": 1}))["job_id"].clone();
    let last = raw.submit(&mut world, json!({"agent": "echo", "input": 2}))["job_id"].clone();
    world.run_for(Duration::from_millis(200));
    // The first one ends, and that the next one begins is not durable.
    world.store.broken = true;
    world.run_for(Duration::from_millis(400));
    raw.send(&mut world, "job.cancel", json!({"job_id": next}));
    world.run_for(Duration::from_millis(100));
    world.store.broken = false;
    world.run_for(Duration::from_secs(3));
    let frames = raw.take(&world);
    let end_of = |job: &Value| frames.iter().find(|f| f["job_id"] == *job && f["payload"]["final_status"].is_string());
    assert_eq!(end_of(&next).map(code), Some("CANCELLED"));
    assert_eq!(end_of(&last).map(|end| &end["payload"]["result"]), Some(&json!(2)), "{frames:#?}");
    assert_eq!(world.started.iter().filter(|spec| spec.agent.name() == "echo").count(), 1);
    world.finish();
}

/// A job that does nothing by itself, of a client that reads no pieces of results
/// or does.
fn waiter(world: &mut World, reads_pieces: bool) -> (Raw, JobId) {
    let mut raw = Raw::connect(world);
    let mut hello = hello_payload("tok-a");
    if !reads_pieces {
        hello["capabilities"]["features"] = json!([]);
    }
    raw.send(world, "session.hello", hello);
    raw.expect(world, "session.welcome");
    let accepted = raw.submit(world, json!({"agent": "waiter"}));
    world.settle();
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    (raw, job)
}

#[test]
fn a_whole_result_fits_its_frame_however_it_is_written() {
    const MOST: usize = 8192;
    let text = |text: &str, n| ChunkData::Text(text.repeat(n));
    for (half, status) in [
        (text("a", 3000), "success"),
        (text("\u{1}", 500), "success"),
        // Six bytes each, where they are written.
        (text("\u{1}", 3000), "error"),
        (text("\"", 3000), "error"),
        (ChunkData::Binary(vec![0; 2500]), "success"),
        (ChunkData::Binary(vec![0; 3400]), "error"),
    ] {
        let mut world = World::configured(40, |config| config.limits.frame.result_frame_bytes = MOST);
        let (mut raw, job) = waiter(&mut world, false);
        for more in [true, false] {
            world.input(Input::Agent { job, call: AgentCall::Chunk { data: half.clone(), more } });
        }
        world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
        let frames = raw.until_end(&mut world);
        assert_eq!(frames.last().expect("an end")["payload"]["final_status"], status, "{half:?}");
        let longest = world.frames_of(raw.conn).iter().map(|frame| frame.len()).max();
        assert!(longest <= Some(MOST), "{longest:?}: {half:?}");
        world.finish();
    }
}

#[test]
fn what_an_agent_says_of_its_end_fits_a_frame() {
    const MOST: usize = 8192;
    let long = "\u{1}x".repeat(10_000);
    let detail = Json::parse(&json!({"why": long}).to_string()).expect("JSON");
    let success = |result| AgentExit::Success { result, summary: Some(long.clone()) };
    let failed = |detail| JobError { details: Some(detail), ..JobError::new(ErrorCode::Internal, long.clone()) };
    let some_detail = Json::parse(&json!({"why": "x".repeat(5000)}).to_string()).expect("JSON");
    for (streams, exit, status) in [
        (false, success(None), "success"),
        (false, success(Some(Json::string("short"))), "success"),
        (true, success(None), "success"),
        (false, AgentExit::Failure(failed(detail)), "error"),
        (false, AgentExit::Failure(failed(some_detail)), "error"),
    ] {
        for reads_pieces in [true, false] {
            let mut world = World::configured(41, |config| config.limits.frame.result_frame_bytes = MOST);
            let (mut raw, job) = waiter(&mut world, reads_pieces);
            if streams {
                let data = ChunkData::Text("a".repeat(6000));
                world.input(Input::Agent { job, call: AgentCall::Chunk { data, more: false } });
            }
            world.input(Input::AgentExited { job, exit: exit.clone() });
            let frames = raw.until_end(&mut world);
            let end = &frames.last().expect("an end")["payload"];
            assert_eq!(end["final_status"], status, "{reads_pieces}");
            let said = end["summary"].as_str().or(end["message"].as_str()).expect("words");
            assert!(said.starts_with("\u{1}x") && said.len() < long.len(), "the beginning of it");
            let longest = world.frames_of(raw.conn).iter().map(|frame| frame.len()).max();
            assert!(longest <= Some(MOST), "{longest:?}: {streams} {reads_pieces} {status}");
            world.finish();
        }
    }
}

#[test]
fn a_result_that_is_whole_does_not_follow_one_in_pieces() {
    let mut world = World::seeded(42);
    let (mut raw, job) = waiter(&mut world, true);
    world.input(Input::Agent { job, call: AgentCall::Chunk { data: ChunkData::Text("a".into()), more: true } });
    let exit = AgentExit::Success { result: Some(Json::string("whole")), summary: None };
    world.input(Input::AgentExited { job, exit });
    let frames = raw.until_end(&mut world);
    let end = &frames.last().expect("an end")["payload"];
    assert_eq!((&end["final_status"], &end["code"]), (&json!("error"), &json!("INTERNAL_ERROR")));
    world.finish();
}
