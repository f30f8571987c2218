//! Streams that clients open to agents of jobs: in order, each chunk once, within bounds, and ended with their
//! session, job or runtime.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, Principal};
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{AgentCall, AgentExit, Config, INBOUND, Input, StreamCall, StreamWord};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// A runtime whose `waiter` takes input, and does nothing by itself.
fn taking(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    World::configured(seed, |config| {
        let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
        waiter.takes_input = true;
        change(config);
    })
}

fn person(world: &mut World, token: &str) -> (Raw, Value) {
    let mut payload = open_payload(token);
    payload["capabilities"]["streaming"] = json!(true);
    Raw::open_with(world, payload)
}

fn run(world: &mut World, raw: &mut Raw, agent: &str) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": agent}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// Says something in the stream `mine`; gives `ack`, or the code of the refusal.
fn say(world: &mut World, raw: &mut Raw, job: JobId, kind: &str, payload: Value) -> String {
    raw.send_with(world, kind, payload, json!({"job_id": job, "stream_id": "mine"}));
    let answer = raw.expect_any(world, &["ack", "nack"]);
    world.settle();
    if answer["type"] == "ack" { "ack".into() } else { code(&answer).into() }
}

fn open(world: &mut World, raw: &mut Raw, job: JobId) {
    assert_eq!(say(world, raw, job, "stream.open", json!({"kind": "binary"})), "ack");
}

fn chunk(world: &mut World, raw: &mut Raw, job: JobId, sequence: u64, data: &str) -> String {
    say(world, raw, job, "stream.chunk", json!({"sequence": sequence, "data": data}))
}

fn heard(world: &World) -> Vec<StreamWord> {
    world.stream_words.iter().map(|(_, _, word)| word.clone()).collect()
}

fn opened() -> StreamWord {
    StreamWord::Opened(StreamTerms::new(StreamKind::Binary))
}

fn bytes(data: &[u8]) -> StreamWord {
    StreamWord::Chunk { data: data.to_vec(), notes: ChunkNotes::default() }
}

/// What is said of streams in frames: their types.
fn of_streams(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["type"].as_str().filter(|kind| kind.starts_with("stream."))).collect()
}

#[test]
fn an_agent_is_given_what_a_client_says_in_order_and_nothing_that_is_not_what_it_says() {
    let mut world = taking(1, |_| {});
    let (mut raw, accepted) = person(&mut world, "tok-a");
    assert_eq!(accepted["payload"]["capabilities"]["streaming"], true);
    let job = run(&mut world, &mut raw, "waiter");
    assert_eq!(chunk(&mut world, &mut raw, job, 0, "AA=="), "FAILED_PRECONDITION", "it is not open");
    open(&mut world, &mut raw, job);
    // Open once more, it is the same.
    open(&mut world, &mut raw, job);
    assert_eq!(say(&mut world, &mut raw, job, "stream.open", json!({"kind": "text"})), "ALREADY_EXISTS");
    assert_eq!(chunk(&mut world, &mut raw, job, 1, "AA=="), "OUT_OF_RANGE");
    assert_eq!(chunk(&mut world, &mut raw, job, 0, "AA"), "DATA_LOSS");
    let wrong = json!({"sequence": 0, "data": "AA==", "sha256": "0".repeat(64)});
    assert_eq!(say(&mut world, &mut raw, job, "stream.chunk", wrong), "DATA_LOSS");
    assert_eq!(chunk(&mut world, &mut raw, job, 0, "AA=="), "ack");
    assert_eq!(chunk(&mut world, &mut raw, job, 1, "AQI="), "ack");
    assert_eq!(say(&mut world, &mut raw, job, "stream.close", json!({"reason": "all"})), "ack");
    assert_eq!(chunk(&mut world, &mut raw, job, 2, "AA=="), "FAILED_PRECONDITION");
    assert_eq!(heard(&world), [opened(), bytes(&[0]), bytes(&[1, 2]), StreamWord::Closed(None)]);
    assert!(world.stream_words.iter().all(|(of, stream, _)| (*of, *stream) == (job, INBOUND)));

    // Whoever watches sees that there was one, not what was said in it.
    let (mut later, _) = Raw::open(&mut world, "tok-a");
    later.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let frames = later.settle(&mut world);
    assert_eq!(of_streams(&frames), ["stream.open", "stream.close"]);
    let ends: Vec<&Value> = frames.iter().filter(|frame| of_streams(std::slice::from_ref(frame)).len() == 1).collect();
    assert_eq!((&ends[0]["payload"]["inbound"], &ends[1]["payload"]["final_sequence"]), (&json!(true), &json!(1)));
    world.finish();
}

#[test]
fn hello_peers_say_the_same_with_open_surfaces() {
    let mut world = taking(2, |_| {});
    let mut raw = Raw::connect(&mut world);
    let mut payload = hello_payload("tok-a");
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.open_surfaces"));
    raw.send(&mut world, "session.hello", payload);
    raw.expect(&mut world, "session.welcome");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    raw.settle(&mut world);
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    open(&mut world, &mut raw, job);
    raw.send(&mut world, "stream.chunk", json!({"job_id": job, "stream_id": "mine", "sequence": 0, "data": "AA=="}));
    raw.expect(&mut world, "ack");
    world.settle();
    assert_eq!(heard(&world), [opened(), bytes(&[0])]);
    world.finish();
}

#[test]
fn what_waits_for_an_agent_has_a_bound_and_a_refused_chunk_is_sent_again() {
    let mut world = taking(3, |config| config.limits.prompt.stream_input_bytes = 200);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    open(&mut world, &mut raw, job);
    for n in 0..3 {
        assert_eq!(chunk(&mut world, &mut raw, job, n, ""), "ack", "chunk {n}");
    }
    assert_eq!(chunk(&mut world, &mut raw, job, 3, ""), "RESOURCE_EXHAUSTED", "nothing costs something, too");
    let took = AgentCall::Stream { stream: INBOUND, says: StreamCall::Took };
    world.input(Input::Agent { job, call: took });
    assert_eq!(chunk(&mut world, &mut raw, job, 3, ""), "ack");
    assert_eq!(chunk(&mut world, &mut raw, job, 4, ""), "RESOURCE_EXHAUSTED");
    world.finish();
}

#[test]
fn only_the_principal_of_a_job_says_anything_to_it_and_only_if_its_agent_takes_that() {
    let mut world = taking(4, |config| {
        config.auditors = [Principal::new("b").expect("a name")].into();
        config.limits.prompt.open_streams_per_job = 1;
    });
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    let (mut clerk, _) = person(&mut world, "tok-b");
    let (mut stranger, _) = person(&mut world, "tok-c");
    let binary = || json!({"kind": "binary"});
    assert_eq!(say(&mut world, &mut clerk, job, "stream.open", binary()), "PERMISSION_DENIED");
    assert_eq!(say(&mut world, &mut stranger, job, "stream.open", binary()), "NOT_FOUND");
    let (mut plain, _) = Raw::open(&mut world, "tok-a");
    assert_eq!(say(&mut world, &mut plain, job, "stream.open", binary()), "UNIMPLEMENTED", "not negotiated");
    let deaf = run(&mut world, &mut raw, "stubborn");
    assert_eq!(say(&mut world, &mut raw, deaf, "stream.open", binary()), "UNIMPLEMENTED");
    open(&mut world, &mut raw, job);
    raw.send_with(&mut world, "stream.open", binary(), json!({"job_id": job, "stream_id": "another"}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "RESOURCE_EXHAUSTED");
    assert_eq!(heard(&world), [opened()]);
    // Where no agent takes any, there are streams all the same, and each is told apart.
    let mut other = World::seeded(4);
    let (mut asking, accepted) = person(&mut other, "tok-a");
    assert_eq!(accepted["payload"]["capabilities"]["streaming"], true);
    let deaf = run(&mut other, &mut asking, "waiter");
    assert_eq!(say(&mut other, &mut asking, deaf, "stream.open", binary()), "UNIMPLEMENTED");
    other.finish();
    world.finish();
}

#[test]
fn a_stream_to_an_agent_ends_with_its_session_its_job_or_by_a_cancel() {
    for way in ["session", "job", "cancel", "agent", "client"] {
        let mut world = taking(5, |_| {});
        let (mut raw, _) = person(&mut world, "tok-a");
        let job = run(&mut world, &mut raw, "waiter");
        let (mut typist, _) = person(&mut world, "tok-a");
        open(&mut world, &mut typist, job);
        let stream = raw.settle(&mut world)[0]["stream_id"].clone();
        let (frame, told) = match way {
            "session" => {
                // Until then its client may come back.
                typist.send(&mut world, "session.close", json!({}));
                world.run_for(Duration::from_secs(601));
                ("stream.error", Some(ErrorCode::Unavailable))
            }
            "job" => {
                world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
                ("stream.close", None)
            }
            "cancel" => {
                raw.send(&mut world, "cancel", json!({"target": "stream", "target_id": stream}));
                ("stream.error", Some(ErrorCode::Cancelled))
            }
            "agent" => {
                let says = StreamCall::Close { reason: Some("enough".into()), shed: 0 };
                world.input(Input::Agent { job, call: AgentCall::Stream { stream: INBOUND, says } });
                ("stream.close", None)
            }
            _ => {
                say(&mut world, &mut typist, job, "stream.error", json!({"code": "ABORTED", "message": "m"}));
                ("stream.error", Some(ErrorCode::Aborted))
            }
        };
        world.settle();
        assert_eq!(of_streams(&raw.settle(&mut world)), [frame], "{way}");
        let word = heard(&world).pop().expect("it was opened");
        match told {
            Some(code) => {
                assert!(matches!(&word, StreamWord::Closed(Some(error)) if error.code == code), "{way}: {word:?}")
            }
            None => assert_eq!(word, opened(), "{way}"),
        }
        if way != "session" {
            assert_eq!(chunk(&mut world, &mut typist, job, 0, ""), "FAILED_PRECONDITION", "{way}");
        }
        world.finish();
    }
}

#[test]
fn what_an_agent_had_not_taken_is_gone_with_its_runtime_and_the_stream_is_over() {
    let mut world = taking(6, |_| {});
    let (mut raw, opening) = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    open(&mut world, &mut raw, job);
    assert_eq!(chunk(&mut world, &mut raw, job, 0, "AA=="), "ack");
    let last = 1;
    world.crash();
    let mut back = Raw::reclaim(&mut world, "tok-a", &opening, last);
    let frames = back.settle(&mut world);
    assert_eq!(of_streams(&frames), ["stream.open", "stream.close"], "{frames:?}");
    assert_eq!(frames.last().expect("an end")["type"], "job.failed");
    world.finish();
}

#[test]
fn an_agent_that_reads_nothing_is_given_no_more_than_its_bounds_however_many_streams_end() {
    let mut world = taking(7, |config| config.limits.prompt.open_streams_per_job = 2);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    let mut refused = 0;
    for _ in 0..20 {
        match say(&mut world, &mut raw, job, "stream.open", json!({"kind": "binary"})).as_str() {
            "ack" => {
                assert_eq!(chunk(&mut world, &mut raw, job, 0, "AA=="), "ack");
                assert_eq!(say(&mut world, &mut raw, job, "stream.error", json!({"code": "ABORTED"})), "ack");
            }
            code => {
                assert_eq!(code, "RESOURCE_EXHAUSTED");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 18, "two that are over and not taken are as many as may be open");
    assert_eq!(heard(&world).len(), 6);
    let took = |world: &mut World, says: StreamCall| {
        world.input(Input::Agent { job, call: AgentCall::Stream { stream: INBOUND, says } });
        world.settle();
    };
    // Its chunk, and then its end.
    took(&mut world, StreamCall::Took);
    assert_eq!(say(&mut world, &mut raw, job, "stream.open", json!({"kind": "binary"})), "RESOURCE_EXHAUSTED");
    took(&mut world, StreamCall::Took);
    open(&mut world, &mut raw, job);
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
    world.settle();
    let frames = raw.settle(&mut world);
    assert_eq!(of_streams(&frames).last(), Some(&"stream.close"), "what is over ends no second time");
    assert_eq!(of_streams(&frames).iter().filter(|kind| **kind == "stream.close").count(), 1);
    world.finish();
}

#[test]
fn the_code_of_an_end_that_a_client_gives_has_a_bound() {
    let mut world = taking(8, |_| {});
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    open(&mut world, &mut raw, job);
    raw.settle(&mut world);
    let long = json!({"code": "C".repeat(50_000), "message": "m".repeat(50_000)});
    raw.send_with(&mut world, "stream.error", long, json!({"job_id": job, "stream_id": "mine"}));
    let failed = raw.expect(&mut world, "stream.error");
    assert!(failed.to_string().len() < 2000);
    assert_eq!(failed["payload"]["code"], "UNKNOWN");
    world.finish();
}

#[test]
fn a_stream_that_its_agent_leaves_is_over_and_counts_no_more() {
    for ended in [false, true] {
        let mut world = taking(9, |config| config.limits.prompt.open_streams_per_job = 1);
        let (mut raw, _) = person(&mut world, "tok-a");
        let job = run(&mut world, &mut raw, "waiter");
        open(&mut world, &mut raw, job);
        if ended {
            assert_eq!(say(&mut world, &mut raw, job, "stream.close", json!({})), "ack");
        }
        world.input(Input::Agent { job, call: AgentCall::Stream { stream: INBOUND, says: StreamCall::Leave } });
        world.settle();
        assert_eq!(chunk(&mut world, &mut raw, job, 0, ""), "FAILED_PRECONDITION");
        open(&mut world, &mut raw, job);
        world.finish();
    }
}

#[test]
fn a_stream_to_the_agent_of_a_job_that_is_handed_over_is_over() {
    let mut world = taking(10, |_| {});
    let person = |world: &mut World, token: &str| {
        let mut payload = open_payload(token);
        payload["capabilities"]["streaming"] = json!(true);
        payload["capabilities"]["agent_handoff"] = json!(true);
        Raw::open_with(world, payload).0
    };
    let (mut alice, mut bob) = (person(&mut world, "tok-alice"), person(&mut world, "tok-bob"));
    let job = run(&mut world, &mut alice, "waiter");
    open(&mut world, &mut alice, job);
    alice.settle(&mut world);
    alice.send_with(&mut world, "agent.handoff", json!({"target": "bob"}), json!({"job_id": job}));
    alice.expect(&mut world, "ack");
    world.settle();
    let word = heard(&world).pop().expect("it was opened");
    assert!(matches!(&word, StreamWord::Closed(Some(error)) if error.code == ErrorCode::Unavailable), "{word:?}");
    assert_eq!(chunk(&mut world, &mut alice, job, 0, ""), "NOT_FOUND");
    open(&mut world, &mut bob, job);
    world.finish();
}
