//! Streams that agents open: their frames in both families, their ends, who may see what, how fast they come, and what
//! a restart makes of them.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::model::event::JobError;
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, ChunkData, Config, Input, StreamCall, StreamWord, Wait};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn say(world: &mut World, job: JobId, stream: u32, says: StreamCall) {
    world.input(Input::Agent { job, call: AgentCall::Stream { stream, says } });
    world.settle();
}

fn open(kind: StreamKind) -> StreamCall {
    StreamCall::Open(StreamTerms::new(kind))
}

fn text(text: &str) -> StreamCall {
    chunk(ChunkData::Text(text.into()), ChunkNotes::default())
}

fn chunk(data: ChunkData, notes: ChunkNotes) -> StreamCall {
    StreamCall::Chunk { data, notes: Box::new(notes), shed: 0 }
}

fn close() -> StreamCall {
    StreamCall::Close { reason: None, shed: 0 }
}

/// An open session and a job whose agent does nothing by itself.
fn running(world: &mut World) -> (Raw, Value, JobId) {
    let (mut raw, opened) = Raw::open(world, "tok-a");
    let job = invoke(world, &mut raw, "waiter");
    (raw, opened, job)
}

fn invoke(world: &mut World, raw: &mut Raw, agent: &str) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": agent}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn exit(world: &mut World, job: JobId) {
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
    world.settle();
}

/// What is said of streams in frames of the open family: type and payload.
fn of_streams(frames: &[Value]) -> Vec<(&str, &Value)> {
    let streams = frames.iter().filter(|frame| frame["type"].as_str().is_some_and(|kind| kind.starts_with("stream.")));
    streams.map(|frame| (frame["type"].as_str().expect("a type"), &frame["payload"])).collect()
}

fn kinds<'a>(frames: &[(&'a str, &Value)]) -> Vec<&'a str> {
    frames.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn a_stream_of_each_kind_is_numbered_and_says_how_much_it_had() {
    for kind in StreamKind::ALL {
        let mut world = World::seeded(1);
        let (mut raw, _, job) = running(&mut world);
        say(&mut world, job, 7, open(kind));
        let attributes = Json::parse(r#"{"n":1.50}"#).expect("JSON");
        let data = match kind {
            StreamKind::Binary => ChunkData::Binary(vec![0, 255]),
            StreamKind::Text | StreamKind::Event | StreamKind::Log | StreamKind::Metric | StreamKind::Thought => {
                ChunkData::Text("hi".into())
            }
        };
        for _ in 0..3 {
            let notes = ChunkNotes { attributes: Some(attributes.clone()), ..ChunkNotes::default() };
            say(&mut world, job, 7, chunk(data.clone(), notes));
        }
        say(&mut world, job, 7, close());
        let frames = raw.settle(&mut world);
        let said = of_streams(&frames);
        assert_eq!(kinds(&said), ["stream.open", "stream.chunk", "stream.chunk", "stream.chunk", "stream.close"]);
        assert_eq!(said[0].1["kind"], kind.as_str());
        for (at, (_, payload)) in said[1..4].iter().enumerate() {
            assert_eq!(
                (&payload["sequence"], payload["attributes"].to_string().as_str()),
                (&json!(at), r#"{"n":1.50}"#)
            );
            let bytes = kind == StreamKind::Binary;
            let digest = BlobDigest::of(&[0, 255]).to_string();
            let expected = if bytes { ("AP8=", json!(digest), Value::Null) } else { ("hi", Value::Null, json!("hi")) };
            assert_eq!(
                (payload["data"].as_str(), &payload["sha256"], &payload["content"]),
                (Some(expected.0), &expected.1, &expected.2)
            );
        }
        assert_eq!((&said[4].1["final_sequence"], said[4].1.get("shed")), (&json!(2), None));
        // They are events of the job: numbered without a gap, each under the name of its stream.
        let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect();
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
        let named = frames.iter().all(|frame| frame["stream_id"] == frame["payload"]["stream_id"]);
        assert!(named, "{frames:?}");
        world.finish();
    }
}

#[test]
fn hello_sees_a_stream_as_events_of_ours_or_in_full() {
    let mut world = World::seeded(2);
    let (_raw, _, job) = running(&mut world);
    let (mut plain, _) = Raw::hello(&mut world, "tok-a");
    let mut full = Raw::connect(&mut world);
    let mut payload = hello_payload("tok-a");
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.open_surfaces"));
    full.send(&mut world, "session.hello", payload);
    full.expect(&mut world, "session.welcome");
    for watcher in [&mut plain, &mut full] {
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
        watcher.settle(&mut world);
    }
    say(&mut world, job, 1, open(StreamKind::Text));
    say(&mut world, job, 1, text("hi"));
    let seen = plain.settle(&mut world);
    let bodies: Vec<(&str, &str)> = seen
        .iter()
        .map(|frame| &frame["payload"])
        .map(|payload| (payload["kind"].as_str().expect("a kind"), payload["body"]["type"].as_str().expect("a type")))
        .collect();
    assert_eq!(bodies, [("x-vendor.arcp.stream", "stream.open"), ("x-vendor.arcp.stream", "stream.chunk")]);
    assert_eq!(seen[1]["payload"]["body"]["data"], "hi");
    let seen = full.settle(&mut world);
    let said = of_streams(&seen);
    assert_eq!(kinds(&said), ["stream.open", "stream.chunk"]);
    assert_eq!((&said[1].1["data"], &said[1].1["stream_id"]), (&json!("hi"), &said[0].1["stream_id"]));
    world.finish();
}

#[test]
fn the_end_of_a_job_closes_what_its_agent_left_open() {
    let mut world = World::seeded(3);
    let (mut raw, _, job) = running(&mut world);
    for stream in [1, 2] {
        say(&mut world, job, stream, open(StreamKind::Text));
    }
    say(&mut world, job, 2, text("a"));
    raw.settle(&mut world);
    exit(&mut world, job);
    let frames = raw.settle(&mut world);
    let said = of_streams(&frames);
    assert_eq!(kinds(&said), ["stream.close", "stream.close"]);
    assert_eq!((said[0].1.get("final_sequence"), &said[1].1["final_sequence"]), (None, &json!(0)));
    assert_eq!(frames.last().expect("an end")["type"], "job.completed");
    world.finish();
}

#[test]
fn as_many_streams_are_open_as_the_bound_says_and_a_program_is_told() {
    let mut world = World::configured(4, |config| config.limits.prompt.open_streams_per_job = 2);
    let (mut raw, _, job) = running(&mut world);
    for stream in [1, 2, 3] {
        say(&mut world, job, stream, open(StreamKind::Text));
    }
    assert!(matches!(&world.stream_words[..], [(_, 3, StreamWord::Ended(_))]), "{:?}", world.stream_words);
    let frames = raw.settle(&mut world);
    assert!(frames.last().expect("a warning").to_string().contains("2 streams of this job are open"));
    world.input(Input::AgentAsked {
        job,
        id: CallId(0),
        call: AgentCall::Stream { stream: 4, says: open(StreamKind::Text) },
    });
    world.settle();
    assert!(matches!(world.replies.last(), Some((_, AgentReply::Refused(_)))), "{:?}", world.replies);
    say(&mut world, job, 1, close());
    say(&mut world, job, 4, open(StreamKind::Text));
    assert_eq!(kinds(&of_streams(&raw.settle(&mut world))), ["stream.close", "stream.open"]);
    world.finish();
}

#[test]
fn a_cancelled_stream_ends_and_its_job_goes_on() {
    let mut world = World::seeded(5);
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    say(&mut world, job, 1, text("a"));
    let stream = raw.settle(&mut world)[0]["stream_id"].clone();
    let (mut other, _) = Raw::open(&mut world, "tok-b");
    for (target, expected) in [(&stream, "NOT_FOUND"), (&json!("str_x_1"), "NOT_FOUND")] {
        other.send(&mut world, "cancel", json!({"target": "stream", "target_id": target}));
        assert_eq!(code(&other.expect(&mut world, "cancel.refused")), expected);
    }
    raw.send(&mut world, "cancel", json!({"target": "stream", "target_id": stream, "reason": "enough"}));
    raw.expect(&mut world, "cancel.accepted");
    let failed = raw.expect(&mut world, "stream.error");
    let payload = &failed["payload"];
    assert_eq!(
        (&payload["code"], &payload["message"], &payload["final_sequence"]),
        (&json!("CANCELLED"), &json!("enough"), &json!(0))
    );
    assert!(matches!(world.stream_words.last(), Some((_, 1, StreamWord::Ended(_)))));
    // What its agent says in it all the same is nothing, and the job goes on.
    say(&mut world, job, 1, text("b"));
    raw.send(&mut world, "cancel", json!({"target": "stream", "target_id": stream}));
    assert_eq!(code(&raw.expect(&mut world, "cancel.refused")), "FAILED_PRECONDITION");
    assert_eq!(of_streams(&raw.settle(&mut world)), []);
    exit(&mut world, job);
    assert_eq!(raw.settle(&mut world).last().expect("an end")["type"], "job.completed");
    world.finish();
}

fn overseen(config: &mut Config) {
    config.auditors = [Principal::new("b").expect("a name")].into();
}

#[test]
fn what_is_redacted_is_seen_by_whoever_submitted_the_job_alone_also_later_and_after_a_restart() {
    let mut world = World::configured(6, overseen);
    let (mut raw, _, job) = running(&mut world);
    let (mut clerk, _) = Raw::open(&mut world, "tok-b");
    clerk.send(&mut world, "job.subscribe", json!({"job_id": job}));
    clerk.settle(&mut world);
    let secret = |kind| {
        let notes = ChunkNotes { redacted: true, sha256: Some(BlobDigest::of(b"s3cret")), ..ChunkNotes::default() };
        [open(kind), chunk(ChunkData::Text("s3cret".into()), notes)]
    };
    for says in secret(StreamKind::Thought) {
        say(&mut world, job, 1, says);
    }
    let body = Json::parse(r#"{"text":"s3cret","redacted":true}"#).expect("JSON");
    world.input(Input::Agent { job, call: AgentCall::Emit { kind: "thought".into(), body } });
    world.settle();
    let told = |frames: &[Value]| frames.iter().filter(|frame| frame.to_string().contains("s3cret")).count();
    assert_eq!(told(&raw.settle(&mut world)), 2);
    let watched = clerk.settle(&mut world);
    assert_eq!((told(&watched), of_streams(&watched).len()), (0, 4), "{watched:?}");
    assert!(watched.iter().all(|frame| frame["payload"].get("sha256").is_none()));
    for crashes in [false, true] {
        if crashes {
            world.crash();
        }
        let (mut later, _) = Raw::hello(&mut world, "tok-b");
        later.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        let frames = later.settle(&mut world);
        assert!(told(&frames) == 0 && frames.len() > 3, "{frames:?}");
        let (mut subscriber, _) = Raw::open(&mut world, "tok-b");
        subscriber.send(&mut world, "subscribe", json!({"filter": {"job_id": [job]}, "since": {}}));
        let frames = subscriber.settle(&mut world);
        assert!(told(&frames) == 0 && frames.len() > 3, "{frames:?}");
        let (mut own, _) = Raw::hello(&mut world, "tok-a");
        own.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        assert_eq!(told(&own.settle(&mut world)), 2);
    }
    world.finish();
}

#[test]
fn a_chunk_that_is_not_what_it_says_is_refused_and_leaves_no_gap() {
    let mut world = World::seeded(7);
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    let wrong = ChunkNotes { sha256: Some(BlobDigest::of(b"b")), ..ChunkNotes::default() };
    let says = chunk(ChunkData::Text("a".into()), wrong);
    world.input(Input::AgentAsked { job, id: CallId(0), call: AgentCall::Stream { stream: 1, says } });
    world.settle();
    let Some((_, AgentReply::Refused(error))) = world.replies.last() else { panic!("{:?}", world.replies) };
    assert_eq!(error.code.as_str(), "DATA_LOSS");
    let right = ChunkNotes { sha256: Some(BlobDigest::of(b"a")), ..ChunkNotes::default() };
    say(&mut world, job, 1, chunk(ChunkData::Text("a".into()), right));
    let frames = raw.settle(&mut world);
    let said = of_streams(&frames);
    assert_eq!(said[1].1["sequence"], 0);
    assert_eq!(said[1].1["sha256"], BlobDigest::of(b"a").to_string());
    world.finish();
}

#[test]
fn a_chunk_that_does_not_fit_a_frame_becomes_several() {
    let mut world = World::configured(8, |config| config.limits.frame.result_frame_bytes = 4096);
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    let long = "é".repeat(5000);
    say(&mut world, job, 1, text(&long));
    say(&mut world, job, 2, open(StreamKind::Binary));
    let bytes: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    say(&mut world, job, 2, chunk(ChunkData::Binary(bytes.clone()), ChunkNotes::default()));
    let frames = raw.settle(&mut world);
    assert!(frames.iter().all(|frame| frame.to_string().len() <= 4096));
    let of = |stream: &Value| -> Vec<String> {
        let chunks = frames.iter().filter(|f| f["type"] == "stream.chunk" && f["stream_id"] == *stream);
        chunks
            .enumerate()
            .map(|(at, f)| {
                assert_eq!(f["payload"]["sequence"], at);
                f["payload"]["data"].as_str().expect("data").to_string()
            })
            .collect()
    };
    let streams: Vec<&Value> = frames.iter().filter(|f| f["type"] == "stream.open").map(|f| &f["stream_id"]).collect();
    assert_eq!(of(streams[0]).concat(), long);
    let decoded: Vec<u8> =
        of(streams[1]).iter().flat_map(|data| arcp_proto::json::decode_base64(data).expect("base64")).collect();
    assert_eq!(decoded, bytes);
    world.finish();
}

#[test]
fn a_stream_is_paced_alone_and_what_may_be_left_out_of_it_is_counted() {
    let mut world = World::seeded(9);
    let (mut raw, _, job) = running(&mut world);
    for stream in [1, 2] {
        say(&mut world, job, stream, open(StreamKind::Text));
    }
    let paced = raw.settle(&mut world)[0]["stream_id"].clone();
    let pace = |raw: &mut Raw, world: &mut World, rate: Value| {
        raw.send_with(world, "backpressure", json!({"desired_rate_per_second": rate}), json!({"stream_id": paced}));
        raw.settle(world)
    };
    assert_eq!(pace(&mut raw, &mut world, json!(2.0)), Vec::<Value>::new());
    let low = |n: u32| StreamCall::Chunk {
        data: ChunkData::Text("low".into()),
        notes: Box::new(ChunkNotes { low_priority: true, ..ChunkNotes::default() }),
        shed: n,
    };
    say(&mut world, job, 1, text("a"));
    assert_eq!(world.stream_words, [(job, 1, StreamWord::Hold)]);
    // Left out by its agent, and here; what must be said is, and prolongs the wait.
    say(&mut world, job, 1, low(3));
    say(&mut world, job, 1, text("b"));
    say(&mut world, job, 2, text("c"));
    say(&mut world, job, 2, low(0));
    world.run_for(Duration::from_millis(900));
    assert_eq!(world.stream_words.len(), 1, "{:?}", world.stream_words);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.stream_words[1..], [(job, 1, StreamWord::GoOn)]);
    say(&mut world, job, 1, low(0));
    assert_eq!(world.stream_words.last(), Some(&(job, 1, StreamWord::Hold)));
    pace(&mut raw, &mut world, Value::Null);
    assert_eq!(world.stream_words.last(), Some(&(job, 1, StreamWord::GoOn)));
    say(&mut world, job, 1, close());
    let frames = raw.settle(&mut world);
    let closed = of_streams(&frames).pop().expect("it is closed").1;
    assert_eq!((&closed["shed"], &closed["final_sequence"]), (&json!(4), &json!(2)));
    // Nobody else paces it.
    let (mut other, _) = Raw::open(&mut world, "tok-b");
    other.send_with(&mut world, "backpressure", json!({"desired_rate_per_second": 1.0}), json!({"stream_id": paced}));
    assert_eq!(code(&other.expect(&mut world, "nack")), "NOT_FOUND");
    world.finish();
}

#[test]
fn streams_are_seen_again_after_a_restart_and_end_with_their_job() {
    for agent in ["waiter", "stepper"] {
        let mut world = World::seeded(10);
        let (mut raw, opened) = Raw::open(&mut world, "tok-a");
        let accepted = raw.invoke(&mut world, json!({"tool": agent, "arguments": {"steps": 50}}));
        let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
        world.run_for(Duration::from_millis(350));
        let words =
            [(1, open(StreamKind::Text)), (2, open(StreamKind::Text)), (1, text("a")), (2, text("a")), (2, close())];
        for (stream, says) in words {
            world.input(Input::Agent { job, call: AgentCall::Stream { stream, says } });
            world.run_for(Duration::from_millis(5));
        }
        let seen = raw.take(&world);
        let last = seen.iter().filter_map(|frame| frame["event_seq"].as_u64()).max().expect("frames");
        world.crash();
        let mut back = Raw::reclaim(&mut world, "tok-a", &opened, last - 2);
        let frames = back.settle(&mut world);
        let said = of_streams(&frames);
        // The end of the second one once more, then that of the first.
        let ends = if agent == "waiter" { "stream.close" } else { "stream.error" };
        assert_eq!(kinds(&said)[..], ["stream.chunk", "stream.close", ends], "{agent}: {frames:?}");
        assert_eq!(said[2].1["final_sequence"], 0);
        world.finish();
    }
}

#[test]
fn a_filter_of_types_lets_frames_of_streams_through() {
    let mut world = World::seeded(11);
    let (mut raw, _, job) = running(&mut world);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["subscriptions"] = json!(true);
    let (mut watcher, _) = Raw::open_with(&mut world, payload);
    watcher.send(&mut world, "subscribe", json!({"filter": {"types": ["stream.chunk", "stream.error"]}}));
    watcher.settle(&mut world);
    say(&mut world, job, 1, open(StreamKind::Log));
    say(&mut world, job, 1, text("a"));
    let stream = raw.settle(&mut world)[0]["stream_id"].clone();
    raw.send(&mut world, "cancel", json!({"target": "stream", "target_id": stream}));
    let shown = watcher.settle(&mut world);
    let types: Vec<&str> = shown.iter().map(|f| f["payload"]["event"]["type"].as_str().expect("a type")).collect();
    assert_eq!(types, ["stream.chunk", "stream.error"]);
    assert_eq!(shown[0]["payload"]["event"]["stream_id"], stream);
    world.finish();
}

#[test]
fn the_code_of_an_end_that_an_agent_gives_has_a_bound_and_costs_credit() {
    let mut world = World::seeded(12);
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    let error = JobError::new(ErrorCode::from("C".repeat(50_000).as_str()), "m");
    say(&mut world, job, 1, StreamCall::Fail { error, shed: 2 });
    let frames = raw.settle(&mut world);
    let failed = of_streams(&frames)[1].1;
    assert_eq!((&failed["code"], &failed["shed"]), (&json!("UNKNOWN"), &json!(2)));
    assert!(failed.to_string().len() < 1000);
    world.finish();
}

#[test]
fn an_agent_that_is_to_say_a_stream_slowly_is_not_taken_for_dead() {
    let mut world = World::configured(13, |config| {
        config.timing.heartbeat = Some(Duration::from_secs(30));
        config.heartbeat_agents.insert("waiter".into());
    });
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    let stream = raw.settle(&mut world)[0]["stream_id"].clone();
    let pace = json!({"desired_rate_per_second": 0.005});
    raw.send_with(&mut world, "backpressure", pace, json!({"stream_id": stream}));
    raw.settle(&mut world);
    say(&mut world, job, 1, text("a"));
    assert_eq!(world.stream_words, [(job, 1, StreamWord::Hold)]);
    assert_eq!(world.runtime().waits(), [(job, Wait::StreamPace)]);
    world.run_for(Duration::from_secs(199));
    assert_eq!(world.stream_words.len(), 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.stream_words.last(), Some(&(job, 1, StreamWord::GoOn)));
    assert_eq!(world.runtime().waits(), []);
    let frames = raw.settle(&mut world);
    assert!(frames.iter().all(|frame| frame["type"] != "job.failed"), "it was told to wait: {frames:?}");
    // From then on it is awaited again.
    world.run_for(Duration::from_secs(121));
    assert_eq!(raw.settle(&mut world).last().expect("an end")["payload"]["code"], "HEARTBEAT_LOST");
    world.finish();
}

#[test]
fn a_stream_whose_events_are_let_go_of_ends_all_the_same_after_a_restart() {
    let mut world = World::configured(14, |config| {
        config.limits.history.kept_job_events = 600;
    });
    let (mut raw, opened, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    say(&mut world, job, 1, text("a"));
    say(&mut world, job, 2, open(StreamKind::Text));
    say(&mut world, job, 2, close());
    let stream = raw.settle(&mut world)[0]["stream_id"].clone();
    for n in 0..1500 {
        let body = Json::parse(&format!(r#"{{"level":"info","message":"{n}"}}"#)).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
        world.settle();
    }
    let last = raw.settle(&mut world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max().expect("frames");
    world.crash();
    let (mut watcher, _) = Raw::open(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(code(&watcher.expect(&mut world, "nack")), "DATA_LOSS", "its first events are gone");
    let mut back = Raw::reclaim(&mut world, "tok-a", &opened, last);
    let frames = back.settle(&mut world);
    let said = of_streams(&frames);
    assert_eq!(kinds(&said), ["stream.close"]);
    assert_eq!((&said[0].1["stream_id"], &said[0].1["final_sequence"]), (&stream, &json!(0)));
    world.finish();
}

#[test]
fn an_agent_says_nothing_that_readers_take_for_a_stream_of_the_runtime() {
    let mut world = World::seeded(15);
    let (mut raw, _, job) = running(&mut world);
    let mut emit = |world: &mut World, kind: &str, body: &str| {
        let body = Json::parse(body).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: kind.into(), body } });
        world.settle();
        raw.settle(world).pop().expect("a frame")
    };
    for kind in ["x-vendor.arcp.stream", "x-vendor.arcp.request"] {
        let shown = emit(&mut world, kind, r#"{"type":"stream.chunk","stream_id":"str_1","sequence":0,"sidecar":{}}"#);
        assert!(shown.to_string().contains("the runtime says that"), "{shown}");
    }
    let thought = emit(&mut world, "thought", r#"{"text":"t","stream_id":"str_1","sequence":7,"mood":"x"}"#);
    let payload = &thought["payload"];
    assert_eq!((&payload["content"], &payload["mood"], payload.get("stream_id")), (&json!("t"), &json!("x"), None));
    world.finish();
}

#[test]
fn a_stream_that_is_refused_is_over_for_its_agent() {
    let mut world = World::seeded(16);
    let (_raw, _, job) = running(&mut world);
    let terms = StreamTerms { content_type: Some("t".repeat(128)), ..StreamTerms::default() };
    say(&mut world, job, 1, StreamCall::Open(terms));
    assert!(matches!(&world.stream_words[..], [(_, 1, StreamWord::Ended(_))]), "{:?}", world.stream_words);
    world.finish();
}

#[test]
fn attributes_and_text_of_a_chunk_fit_a_frame_together() {
    let mut world = World::configured(17, |config| config.limits.frame.result_frame_bytes = 4096);
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    let attributes = |bytes: usize| Json::parse(&format!(r#"{{"a":"{}"}}"#, "a".repeat(bytes))).ok();
    let said = "t".repeat(3000);
    for bytes in [1000, 3000] {
        let notes = ChunkNotes { attributes: attributes(bytes), ..ChunkNotes::default() };
        say(&mut world, job, 1, chunk(ChunkData::Text(said.clone()), notes));
    }
    let frames = raw.settle(&mut world);
    assert!(frames.iter().all(|frame| frame.to_string().len() <= 4096));
    let chunks = of_streams(&frames);
    let read: String = chunks[1..].iter().map(|(_, payload)| payload["data"].as_str().expect("a text")).collect();
    assert_eq!(read, said, "the second one is refused");
    world.finish();
}

#[test]
fn a_stream_whose_opener_went_away_is_closed() {
    let mut world = World::seeded(18);
    let (mut raw, _, job) = running(&mut world);
    say(&mut world, job, 1, open(StreamKind::Text));
    say(&mut world, job, 1, StreamCall::Leave);
    say(&mut world, job, 2, StreamCall::Leave);
    assert_eq!(kinds(&of_streams(&raw.settle(&mut world))), ["stream.open", "stream.close"]);
    world.finish();
}
