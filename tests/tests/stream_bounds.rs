//! Exact bounds of streams, the contents of their ends, several streams at once, and which of them end with what.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{
    AgentCall, AgentExit, AgentReply, ChunkData, Config, INBOUND, Input, StreamCall, StreamWord,
};
use arcp_tests::raw::{Raw, code, open_payload};
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

fn person(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["streaming"] = json!(true);
    payload["capabilities"]["agent_handoff"] = json!(true);
    Raw::open_with(world, payload).0
}

fn invoke(world: &mut World, raw: &mut Raw) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": "waiter"}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn say(world: &mut World, job: JobId, stream: u32, says: StreamCall) {
    world.input(Input::Agent { job, call: AgentCall::Stream { stream, says } });
    world.settle();
}

fn open() -> StreamCall {
    StreamCall::Open(StreamTerms::new(StreamKind::Text))
}

fn text(text: &str, notes: ChunkNotes, shed: u32) -> StreamCall {
    StreamCall::Chunk { data: ChunkData::Text(text.into()), notes: Box::new(notes), shed }
}

/// What its agent is told of what it says; `None`: it is done.
fn refusal(world: &mut World, job: JobId, stream: u32, says: StreamCall) -> Option<JobError> {
    let before = world.replies.len();
    world.input(Input::AgentAsked { job, id: CallId(before as u64), call: AgentCall::Stream { stream, says } });
    world.settle();
    match &world.replies[before..] {
        [(_, AgentReply::Taken { .. })] => None,
        [(_, AgentReply::Refused(error))] => Some(error.clone()),
        other => panic!("{other:?}"),
    }
}

/// Says something in a stream to the agent; gives `ack`, or the code of the refusal.
fn tell(world: &mut World, raw: &mut Raw, (job, name): (JobId, &str), kind: &str, payload: Value) -> String {
    raw.send_with(world, kind, payload, json!({"job_id": job, "stream_id": name}));
    let answer = raw.expect_any(world, &["ack", "nack"]);
    world.settle();
    if answer["type"] == "ack" { "ack".into() } else { code(&answer).into() }
}

fn payloads<'a>(frames: &'a [Value], kind: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame["type"] == kind).map(|frame| &frame["payload"]).collect()
}

#[test]
fn what_was_left_out_is_counted_to_the_end_however_a_stream_ends() {
    for fails in [false, true] {
        let mut world = World::seeded(1);
        let mut raw = person(&mut world, "tok-a");
        let job = invoke(&mut world, &mut raw);
        say(&mut world, job, 1, open());
        say(&mut world, job, 1, text("a", ChunkNotes::default(), 1));
        let error = JobError::new(ErrorCode::Aborted, "m");
        let end = if fails {
            StreamCall::Fail { error, shed: 2 }
        } else {
            StreamCall::Close { reason: Some("enough".into()), shed: 2 }
        };
        say(&mut world, job, 1, end);
        let frames = raw.settle(&mut world);
        let end = payloads(&frames, if fails { "stream.error" } else { "stream.close" })[0];
        assert_eq!((&end["shed"], &end["final_sequence"]), (&json!(3), &json!(0)), "{end}");
        assert_eq!(end["reason"], if fails { Value::Null } else { json!("enough") });
        world.finish();
    }
}

#[test]
fn the_end_of_a_stream_says_whose_it_is() {
    let mut world = taking(2, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    say(&mut world, job, 1, open());
    say(&mut world, job, 1, StreamCall::Leave);
    let frames = raw.settle(&mut world);
    assert_eq!(payloads(&frames, "stream.close")[0].get("reason"), None, "nobody says why");
    assert_eq!(tell(&mut world, &mut raw, (job, "mine"), "stream.open", json!({"kind": "text"})), "ack");
    say(&mut world, job, INBOUND, StreamCall::Leave);
    say(&mut world, job, 2, open());
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
    let frames = raw.settle(&mut world);
    let reasons: Vec<&Value> = payloads(&frames, "stream.close").iter().map(|end| &end["reason"]).collect();
    assert_eq!(reasons, [&json!("its agent takes no more of it"), &json!("its job has ended: success")], "{frames:?}");
    world.finish();
}

#[test]
fn an_agent_opens_no_stream_twice_and_none_under_a_number_of_clients() {
    let mut world = taking(3, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    for (number, refused) in [(INBOUND - 1, false), (INBOUND - 1, true), (INBOUND, true), (INBOUND + 1, true)] {
        let told = refusal(&mut world, job, number, open());
        assert_eq!(told.is_some(), refused, "{number}: {told:?}");
        assert!(told.is_none_or(|error| error.message.contains("open already")));
    }
    let frames = raw.settle(&mut world);
    assert_eq!(payloads(&frames, "stream.open").len(), 1);
    // Neither does it say anything in one that a client has opened.
    assert_eq!(tell(&mut world, &mut raw, (job, "mine"), "stream.open", json!({"kind": "text"})), "ack");
    let told = refusal(&mut world, job, INBOUND, text("a", ChunkNotes::default(), 0)).expect("a refusal");
    assert_eq!(told.code, ErrorCode::FailedPrecondition);
    world.finish();
}

#[test]
fn what_an_end_says_is_shown_up_to_its_bound() {
    for (bytes, whole) in [(0, true), (1, false)] {
        let mut world = World::seeded(4);
        let mut raw = person(&mut world, "tok-a");
        let job = invoke(&mut world, &mut raw);
        let (code, said) = ("C".repeat(64 + bytes), "m".repeat(512 + bytes));
        say(&mut world, job, 1, open());
        let error = JobError::new(ErrorCode::from(code.as_str()), said.as_str());
        say(&mut world, job, 1, StreamCall::Fail { error, shed: 0 });
        say(&mut world, job, 2, open());
        say(&mut world, job, 2, StreamCall::Close { reason: Some(said.clone()), shed: 0 });
        let frames = raw.settle(&mut world);
        let (failed, closed) = (payloads(&frames, "stream.error")[0], payloads(&frames, "stream.close")[0]);
        assert_eq!(failed["code"], if whole { json!(code) } else { json!("UNKNOWN") });
        for shown in [&failed["message"], &closed["reason"]] {
            assert_eq!(shown.as_str().expect("a text").len(), 512, "{bytes}");
        }
        world.finish();
    }
}

#[test]
fn what_stands_beside_a_chunk_has_bounds() {
    let mut world = World::configured(5, |config| config.limits.frame.event_body_bytes = 4000);
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    say(&mut world, job, 1, open());
    let mut says = |notes: ChunkNotes| refusal(&mut world, job, 1, text("a", notes, 0)).map(|error| error.code);
    let word = |bytes: usize| Some("w".repeat(bytes));
    let attributes = |json: String| Some(Json::parse(&json).expect("JSON"));
    let of_bytes = |bytes: usize| attributes(format!(r#"{{"a":"{}"}}"#, "a".repeat(bytes - 8)));
    let deep = |depth: usize| attributes(format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)));
    let plain = ChunkNotes::default;
    assert_eq!(says(ChunkNotes { role: word(127), content_type: word(127), ..plain() }), None);
    assert_eq!(says(ChunkNotes { attributes: of_bytes(4000), ..plain() }), None);
    assert_eq!(says(ChunkNotes { attributes: deep(Json::MAX_DEPTH - 1), ..plain() }), None);
    for wrong in [
        ChunkNotes { role: word(128), ..plain() },
        ChunkNotes { content_type: word(128), ..plain() },
        ChunkNotes { attributes: of_bytes(4001), ..plain() },
        ChunkNotes { attributes: attributes("[1]".into()), ..plain() },
        ChunkNotes { attributes: deep(Json::MAX_DEPTH), ..plain() },
    ] {
        assert_eq!(says(wrong.clone()), Some(ErrorCode::InvalidRequest), "{wrong:?}");
    }
    let frames = raw.settle(&mut world);
    assert_eq!(payloads(&frames, "stream.chunk").len(), 3);
    world.finish();
}

#[test]
fn a_long_chunk_is_cut_into_few_pieces_and_its_attributes_are_said_once() {
    let mut world = World::configured(6, |config| config.limits.frame.result_frame_bytes = 4096);
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    let attributes = Json::parse(r#"{"n":1}"#).ok();
    for (stream, data) in [(1, ChunkData::Text("e".repeat(10_000))), (2, ChunkData::Binary(vec![7; 10_000]))] {
        say(&mut world, job, stream, open());
        let notes = ChunkNotes { attributes: attributes.clone(), ..ChunkNotes::default() };
        say(&mut world, job, stream, StreamCall::Chunk { data, notes: Box::new(notes), shed: 0 });
        let frames = raw.settle(&mut world);
        let pieces = payloads(&frames, "stream.chunk");
        assert!((4..12).contains(&pieces.len()), "{} pieces", pieces.len());
        let said = pieces.iter().filter(|piece| piece.get("attributes").is_some()).count();
        assert!(said == 1 && pieces[0]["attributes"]["n"] == 1, "{}", pieces[0]);
    }
    // One of nothing is one piece.
    say(&mut world, job, 2, StreamCall::Chunk { data: ChunkData::Binary(vec![]), notes: Box::default(), shed: 0 });
    let frames = raw.settle(&mut world);
    assert_eq!(payloads(&frames, "stream.chunk")[0]["data"], "");
    world.finish();
}

/// Asks for chunks of a stream at so many a second; `null`: as they come.
fn pace(world: &mut World, raw: &mut Raw, stream: &Value, rate: Value) {
    raw.send_with(world, "backpressure", json!({"desired_rate_per_second": rate}), json!({"stream_id": stream}));
    assert_eq!(raw.settle(world), Vec::<Value>::new());
}

#[test]
fn each_of_several_paced_streams_goes_on_when_its_own_time_has_come() {
    let mut world = World::seeded(7);
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    for number in 1..=4 {
        say(&mut world, job, number, open());
    }
    let frames = raw.settle(&mut world);
    let opened: Vec<Value> = frames.iter().map(|frame| frame["stream_id"].clone()).collect();
    // One chunk a second, two, and four; the last one as fast as it can.
    for (stream, rate) in opened.iter().zip([1.0, 2.0, 4.0]) {
        pace(&mut world, &mut raw, stream, json!(rate));
        pace(&mut world, &mut raw, stream, json!(rate));
    }
    assert_eq!(world.stream_words, [], "who was not told to wait is not told to go on");
    let start = world.now().mono;
    for number in 1..=4 {
        say(&mut world, job, number, text("a", ChunkNotes::default(), 0));
    }
    let held = world.stream_words.len();
    assert_eq!(held, 3);
    let mut came = Vec::new();
    for _ in 0..150 {
        world.run_for(Duration::from_millis(10));
        for (_, number, word) in &world.stream_words[held + came.len()..] {
            assert_eq!(*word, StreamWord::GoOn);
            came.push((*number, (world.now().mono.since(start).as_millis() + 20) / 50 * 50));
        }
    }
    assert_eq!(came, [(3, 250), (2, 500), (1, 1000)]);
    world.finish();
}

#[test]
fn a_client_says_text_where_the_stream_is_of_text_and_bytes_where_it_says_so() {
    let mut world = taking(8, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    let mine = (job, "mine");
    assert_eq!(tell(&mut world, &mut raw, mine, "stream.open", json!({"kind": "text"})), "ack");
    let chunks = [
        (json!({"sequence": 0, "data": "AA=="}), b"AA==".to_vec()),
        (json!({"sequence": 1, "data": "AA==", "encoding": "base64"}), vec![0]),
        (json!({"sequence": 2, "content": "hi", "encoding": "utf-8"}), b"hi".to_vec()),
    ];
    for (payload, data) in chunks {
        assert_eq!(tell(&mut world, &mut raw, mine, "stream.chunk", payload), "ack");
        let (_, _, word) = world.stream_words.last().expect("a word");
        assert_eq!(*word, StreamWord::Chunk { data, notes: ChunkNotes::default() });
    }
    world.finish();
}

#[test]
fn as_much_waits_for_an_agent_as_its_bound_says_and_one_chunk_always_may() {
    // Each chunk counts as 64 bytes more than it says.
    let mut world = taking(9, |config| config.limits.prompt.stream_input_bytes = 200);
    let mut raw = person(&mut world, "tok-a");
    let job = invoke(&mut world, &mut raw);
    let mine = (job, "mine");
    assert_eq!(tell(&mut world, &mut raw, mine, "stream.open", json!({"kind": "text"})), "ack");
    let mut sequence = 0;
    let mut chunk = |world: &mut World, bytes: usize| {
        let said = json!({"sequence": sequence, "data": "a".repeat(bytes)});
        let answer = tell(world, &mut raw, mine, "stream.chunk", said);
        sequence += u64::from(answer == "ack");
        answer
    };
    let took = |world: &mut World| say(world, job, INBOUND, StreamCall::Took);
    assert_eq!(chunk(&mut world, 201), "RESOURCE_EXHAUSTED");
    assert_eq!(chunk(&mut world, 200), "ack", "nothing waits");
    assert_eq!(chunk(&mut world, 0), "RESOURCE_EXHAUSTED");
    took(&mut world);
    assert_eq!(chunk(&mut world, 36), "ack");
    assert_eq!(chunk(&mut world, 37), "RESOURCE_EXHAUSTED");
    assert_eq!(chunk(&mut world, 36), "ack", "two hundred bytes");
    took(&mut world);
    assert_eq!(chunk(&mut world, 37), "RESOURCE_EXHAUSTED");
    took(&mut world);
    assert_eq!(chunk(&mut world, 137), "ack");
    world.finish();
}

#[test]
fn what_one_session_has_opened_ends_with_it_and_what_another_has_goes_on() {
    let mut world = taking(10, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let jobs = [(); 2].map(|()| invoke(&mut world, &mut raw));
    let (mut first, mut second) = (person(&mut world, "tok-a"), person(&mut world, "tok-a"));
    for typist in [&mut first, &mut second] {
        for job in jobs {
            assert_eq!(tell(&mut world, typist, (job, "mine"), "stream.open", json!({"kind": "text"})), "ack");
        }
    }
    let numbers: Vec<(JobId, u32)> = world.stream_words.iter().map(|(job, number, _)| (*job, *number)).collect();
    let expected = [(jobs[0], INBOUND), (jobs[1], INBOUND), (jobs[0], INBOUND + 1), (jobs[1], INBOUND + 1)];
    assert_eq!(numbers, expected, "a session's stream is none of another's");
    // An agent's own goes on, too.
    say(&mut world, jobs[0], 1, open());
    first.send(&mut world, "session.close", json!({}));
    world.run_for(Duration::from_secs(601));
    let ended: Vec<(JobId, u32)> = world.stream_words[4..].iter().map(|(job, number, _)| (*job, *number)).collect();
    assert_eq!(ended, [(jobs[0], INBOUND), (jobs[1], INBOUND)]);
    for job in jobs {
        let said = json!({"sequence": 0, "data": "a"});
        assert_eq!(tell(&mut world, &mut second, (job, "mine"), "stream.chunk", said), "ack");
    }
    assert_eq!(refusal(&mut world, jobs[0], 1, text("a", ChunkNotes::default(), 0)), None);
    world.finish();
}

#[test]
fn the_streams_of_an_agent_go_on_when_its_job_is_handed_over() {
    let mut world = taking(11, |_| {});
    let (mut alice, mut bob) = (person(&mut world, "tok-alice"), person(&mut world, "tok-bob"));
    let job = invoke(&mut world, &mut alice);
    say(&mut world, job, 1, open());
    assert_eq!(tell(&mut world, &mut alice, (job, "mine"), "stream.open", json!({"kind": "text"})), "ack");
    alice.settle(&mut world);
    alice.send_with(&mut world, "agent.handoff", json!({"target": "bob"}), json!({"job_id": job}));
    alice.expect(&mut world, "ack");
    world.settle();
    bob.settle(&mut world);
    say(&mut world, job, 1, text("a", ChunkNotes::default(), 0));
    assert_eq!(payloads(&bob.settle(&mut world), "stream.chunk").len(), 1);
    world.finish();
}

#[test]
fn nobody_says_anything_to_an_agent_that_does_not_run_yet_or_is_told_to_stop() {
    let mut world = taking(12, |config| {
        config.limits.job.running_jobs = 1;
        config.limits.job.principal_share = 100;
    });
    let mut raw = person(&mut world, "tok-a");
    let (running, queued) = (invoke(&mut world, &mut raw), invoke(&mut world, &mut raw));
    let binary = || json!({"kind": "binary"});
    assert_eq!(tell(&mut world, &mut raw, (running, "mine"), "stream.open", binary()), "ack");
    assert_eq!(tell(&mut world, &mut raw, (queued, "mine"), "stream.open", binary()), "FAILED_PRECONDITION");
    raw.send(&mut world, "cancel", json!({"target": "job", "target_id": running}));
    raw.expect(&mut world, "cancel.accepted");
    for kind in ["stream.open", "stream.chunk"] {
        let said = json!({"kind": "binary", "sequence": 0, "data": ""});
        assert_eq!(tell(&mut world, &mut raw, (running, "mine"), kind, said), "FAILED_PRECONDITION");
    }
    world.finish();
}
