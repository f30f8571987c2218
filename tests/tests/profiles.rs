//! Published clients that need frames of their own: what they send, with their ids and times, and what their decoders
//! must find in the answers.

use std::time::Duration;

use arcp_proto::runtime::AgentExit;
use arcp_tests::raw::{Raw, code, hello_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A published client, by what its envelopes show of it.
struct Peer {
    raw: Raw,
    ids: fn(u64) -> String,
    timestamp: Option<&'static str>,
    sent: u64,
}

fn ulid(n: u64) -> String {
    format!("01M7VD85KQ9SZXPW6NX4{n:06}")
}

fn prefixed_ulid(n: u64) -> String {
    format!("msg_{}", ulid(n))
}

fn uuid_v7(n: u64) -> String {
    format!("018f3a2b-1c2d-7e3f-8a4b-{n:012x}")
}

impl Peer {
    fn connect(world: &mut World, ids: fn(u64) -> String, timestamp: Option<&'static str>) -> Peer {
        Peer { raw: Raw::connect(world), ids, timestamp, sent: 0 }
    }

    fn typescript(world: &mut World) -> Peer {
        Peer::connect(world, prefixed_ulid, None).welcomed(world, hello_payload("tok-a"))
    }

    fn java(world: &mut World) -> Peer {
        Peer::connect(world, ulid, None).welcomed(world, hello_payload("tok-a"))
    }

    fn go(world: &mut World) -> Peer {
        Peer::connect(world, uuid_v7, None).welcomed(world, hello_payload("tok-a"))
    }

    fn ruby(world: &mut World) -> Peer {
        let mut hello = hello_payload("tok-a");
        hello.as_object_mut().expect("an object").remove("client");
        hello["client_name"] = json!("arcp-ruby");
        hello["client_version"] = json!("1.0.0");
        Peer::connect(world, uuid_v7, None).welcomed(world, hello)
    }

    fn csharp(world: &mut World) -> Peer {
        let at = Some("2026-11-21T10:00:00.1234567+00:00");
        Peer::connect(world, prefixed_ulid, at).welcomed(world, hello_payload("tok-a"))
    }

    fn php(world: &mut World) -> Peer {
        let at = Some("2026-11-21T10:00:00.123456Z");
        Peer::connect(world, prefixed_ulid, at).welcomed(world, hello_payload("tok-a"))
    }

    fn swift(world: &mut World) -> Peer {
        let mut peer = Peer::connect(world, prefixed_ulid, Some("2026-11-21T10:00:00.000Z"));
        peer.say_with(world, "session.open", swift_opening(), json!({"priority": "normal"}));
        peer.raw.expect(world, "session.accepted");
        peer
    }

    fn welcomed(mut self, world: &mut World, hello: Value) -> Peer {
        self.say(world, "session.hello", hello);
        self.raw.expect(world, "session.welcome");
        self
    }

    /// Sends a message as this client would; gives its id.
    fn say(&mut self, world: &mut World, kind: &str, payload: Value) -> String {
        self.say_with(world, kind, payload, json!({}))
    }

    fn say_with(&mut self, world: &mut World, kind: &str, payload: Value, more: Value) -> String {
        self.sent += 1;
        let id = (self.ids)(self.raw.conn.0 * 1000 + self.sent);
        let mut more = more;
        more["id"] = json!(id);
        if let Some(at) = self.timestamp {
            more["timestamp"] = json!(at);
        }
        self.raw.send_with(world, kind, payload, more);
        id
    }

    /// Sends a message and gives the only answer to it.
    fn ask(&mut self, world: &mut World, kind: &str, payload: Value) -> (String, Value) {
        let id = self.say(world, kind, payload);
        let mut answers = self.raw.settle(world);
        assert_eq!(answers.len(), 1, "{kind}: {answers:#?}");
        (id, answers.remove(0))
    }

    /// Submits a job; gives the request and the acceptance.
    fn submit(&mut self, world: &mut World, payload: Value) -> (String, Value) {
        let id = self.say(world, "job.submit", payload);
        (id, self.raw.expect(world, "job.accepted"))
    }
}

fn swift_opening() -> Value {
    json!({
        "auth": {"scheme": "bearer", "token": "tok-a"},
        "client": {"kind": "arcp-swift", "version": "1.1.0"},
        "capabilities": {"streaming": true, "heartbeat_interval_seconds": 30, "binary_encoding": ["base64"]},
    })
}

fn has(frame: &Value, name: &str) -> bool {
    frame.get(name).is_some()
}

/// Ends the latest job with a result.
fn succeed(world: &mut World, accepted: &Value, result: &str) {
    let id = accepted["job_id"].as_str().expect("a job");
    let job = arcp_proto::id::JobId::parse(id).expect("ours");
    let result = arcp_proto::json::Json::parse(result).expect("JSON");
    let exit = AgentExit::Success { result: Some(result), summary: None };
    world.input(arcp_proto::runtime::Input::AgentExited { job, exit });
}

#[test]
fn every_refused_submit_of_a_typescript_client_ends_a_job_that_never_was() {
    let mut world = World::seeded(1);
    let mut peer = Peer::typescript(&mut world);
    for payload in [
        json!({"agent": "nobody"}),
        json!({"agent": "echo@9"}),
        json!({"agent": 7}),
        json!({"agent": "Not a name"}),
        json!({"agent": "echo", "max_runtime_sec": -1}),
        json!({"agent": "echo", "lease_request": []}),
        json!({}),
    ] {
        let id = peer.say_with(&mut world, "job.submit", payload.clone(), json!({"trace_id": TRACE}));
        let answers = peer.raw.settle(&mut world);
        assert_eq!(answers.len(), 1, "{payload}: {answers:#?}");
        let error = &answers[0];
        assert_eq!(error["type"], "job.error", "{payload}");
        assert_eq!(error["payload"]["request_id"], id.as_str());
        assert_eq!(error["trace_id"], TRACE);
        assert_eq!(error["job_id"], error["payload"]["job_id"]);
        assert!(error["job_id"].as_str().is_some_and(|job| job.starts_with("job_")));
        assert_eq!(error["payload"]["final_status"], "error");
        assert!(!has(error, "event_seq"), "it is no event of a job");
    }
    world.finish();
}

#[test]
fn a_typescript_client_that_says_which_agents_it_has_is_recognised() {
    let mut world = World::seeded(2);
    let mut hello = hello_payload("tok-a");
    hello["capabilities"]["agents"] = json!(["echo"]);
    let mut peer = Peer::connect(&mut world, prefixed_ulid, None).welcomed(&mut world, hello);
    let (_, error) = peer.ask(&mut world, "job.submit", json!({"agent": "nobody"}));
    assert_eq!(error["type"], "job.error");
    world.finish();
}

#[test]
fn a_typescript_client_gets_no_session_error_about_one_request() {
    let mut world = World::seeded(3);
    let mut peer = Peer::typescript(&mut world);
    for (kind, payload) in [
        ("job.cancel", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"})),
        ("job.subscribe", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"})),
        ("job.subscribe", json!({"job_id": 7})),
        ("job.unsubscribe", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"})),
        ("session.unheard_of", json!({})),
    ] {
        let (id, error) = peer.ask(&mut world, kind, payload);
        assert_eq!(error["type"], "job.error", "{kind}");
        assert!(!has(&error, "job_id"), "{kind}: the oldest submit would be taken for it");
        assert_eq!(error["payload"]["request_id"], id.as_str());
    }
    world.finish();
}

#[test]
fn a_typescript_client_gets_a_page_for_whatever_it_asks_of_a_listing() {
    let mut world = World::seeded(4);
    let mut peer = Peer::typescript(&mut world);
    for _ in 0..3 {
        peer.submit(&mut world, json!({"agent": "waiter"}));
    }
    peer.raw.settle(&mut world);
    for (payload, jobs) in [
        (json!({"cursor": "not one of ours"}), 0),
        (json!({"filter": {"status": ["upside_down"]}}), 0),
        (json!({"limit": 100_000}), 3),
        (json!({"limit": 0}), 1),
    ] {
        let (id, page) = peer.ask(&mut world, "session.list_jobs", payload.clone());
        assert_eq!(page["type"], "session.jobs", "{payload}");
        assert_eq!(page["payload"]["request_id"], id.as_str());
        assert_eq!(page["payload"]["jobs"].as_array().map(Vec::len), Some(jobs), "{payload}");
        assert!(has(&page["payload"], "next_cursor"));
    }
    world.finish();
}

#[test]
fn other_clients_are_told_of_a_bad_cursor_and_a_bad_limit() {
    let mut world = World::seeded(5);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for payload in [json!({"cursor": "not one of ours"}), json!({"limit": 0}), json!({"limit": 1001})] {
        let id = raw.send(&mut world, "session.list_jobs", payload);
        let error = raw.expect(&mut world, "session.error");
        assert_eq!((code(&error), &error["payload"]["request_id"]), ("INVALID_REQUEST", &json!(id)));
    }
    world.finish();
}

#[test]
fn a_number_no_double_holds_is_a_refused_submit() {
    let mut world = World::seeded(6);
    let (mut plain, _) = Raw::hello(&mut world, "tok-a");
    let mut peer = Peer::typescript(&mut world);
    let frame = |id: &str| format!(r#"{{"id":"{id}","type":"job.submit","payload":{{"agent":"echo","input":1e400}}}}"#);
    plain.send_text(&mut world, &frame("big"));
    let error = plain.expect(&mut world, "session.error");
    assert_eq!((code(&error), &error["payload"]["request_id"]), ("INVALID_REQUEST", &json!("big")));
    let id = prefixed_ulid(999);
    peer.raw.send_text(&mut world, &frame(&id));
    let error = peer.raw.expect(&mut world, "job.error");
    assert_eq!((code(&error), &error["payload"]["request_id"]), ("INVALID_REQUEST", &json!(id)));
    world.finish();
}

#[test]
fn every_answer_to_a_java_client_bears_the_id_of_its_request() {
    let mut world = World::seeded(7);
    let mut peer = Peer::connect(&mut world, ulid, None);
    let (id, welcome) = peer.ask(&mut world, "session.hello", hello_payload("tok-a"));
    assert_eq!((&welcome["type"], &welcome["id"]), (&json!("session.welcome"), &json!(id)));
    let (id, accepted) = peer.submit(&mut world, json!({"agent": "waiter"}));
    assert_eq!(accepted["id"], id.as_str());
    peer.raw.settle(&mut world);
    for (kind, payload, answer) in [
        ("session.list_jobs", json!({}), "session.jobs"),
        ("session.ping", json!({"nonce": "n"}), "session.pong"),
        ("job.subscribe", json!({"job_id": accepted["job_id"]}), "job.subscribed"),
        ("job.submit", json!({"agent": "nobody"}), "job.error"),
        ("job.subscribe", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}), "job.error"),
        ("job.cancel", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}), "job.error"),
        ("session.list_jobs", json!({"cursor": "x"}), "job.error"),
        ("session.close", json!({}), "session.closed"),
    ] {
        let (id, frame) = peer.ask(&mut world, kind, payload);
        assert_eq!((&frame["type"], &frame["id"]), (&json!(answer), &json!(id)), "{kind}");
        if answer == "job.error" {
            assert!(!has(&frame, "job_id"), "{kind}: it would end that job");
            assert_eq!(frame["payload"]["final_status"], "error");
        }
        if answer == "session.jobs" {
            assert!(!has(&frame["payload"], "next_cursor"), "its reader takes no null");
        }
    }
    let mut stranger = Peer::connect(&mut world, ulid, None);
    let (id, denied) = stranger.ask(&mut world, "session.hello", hello_payload("wrong"));
    assert_eq!((&denied["type"], &denied["id"]), (&json!("job.error"), &json!(id)));
    assert_eq!(code(&denied), "UNAUTHENTICATED");
    world.finish();
}

#[test]
fn a_ruby_client_finds_its_request_in_the_payload_of_what_answers_it() {
    let mut world = World::seeded(8);
    let mut peer = Peer::ruby(&mut world);
    let (id, accepted) = peer.submit(&mut world, json!({"agent": "waiter"}));
    assert_eq!(accepted["payload"]["reply_to"], id.as_str());
    assert!(!has(&accepted["payload"], "lease"), "it looks for an id inside");
    peer.raw.settle(&mut world);
    let unknown = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (kind, payload, answer) in [
        ("session.list_jobs", json!({}), "session.jobs"),
        ("job.subscribe", json!({"job_id": accepted["job_id"]}), "job.subscribed"),
        ("job.submit", json!({"agent": "nobody"}), "session.error"),
        ("job.cancel", json!({"job_id": unknown}), "session.error"),
        ("job.subscribe", json!({"job_id": unknown}), "job.error"),
    ] {
        let (id, frame) = peer.ask(&mut world, kind, payload);
        assert_eq!((&frame["type"], &frame["payload"]["reply_to"]), (&json!(answer), &json!(id)), "{kind}");
        if answer == "job.error" {
            assert_eq!((&frame["job_id"], &frame["payload"]["job_id"]), (&json!(unknown), &json!(unknown)));
        }
    }
    world.finish();
}

#[test]
fn a_csharp_client_hears_of_refused_submits_and_of_no_other_refusal() {
    let mut world = World::seeded(9);
    let mut peer = Peer::csharp(&mut world);
    let (_, refused) = peer.ask(&mut world, "job.submit", json!({"agent": "nobody"}));
    assert_eq!(refused["type"], "session.error");
    for kind in ["job.cancel", "job.subscribe", "job.unsubscribe", "session.unheard_of"] {
        peer.say(&mut world, kind, json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
        assert_eq!(peer.raw.settle(&mut world), Vec::<Value>::new(), "{kind} would fail all that is open");
    }
    let (_, page) = peer.ask(&mut world, "session.list_jobs", json!({"cursor": "x"}));
    assert_eq!((&page["type"], &page["payload"]["jobs"]), (&json!("session.jobs"), &json!([])));
    world.finish();
}

#[test]
fn a_php_client_finds_the_end_of_its_job_by_its_request_and_watches_in_wrapped_events() {
    let mut world = World::seeded(10);
    let mut peer = Peer::php(&mut world);
    let (id, accepted) = peer.submit(&mut world, json!({"agent": "echo", "input": 1}));
    assert!(!has(&accepted, "correlation_id"), "it would take the acceptance for the end");
    let frames = peer.raw.until_end(&mut world);
    let (end, before) = frames.split_last().expect("an end");
    assert_eq!((&end["type"], &end["correlation_id"]), (&json!("job.result"), &json!(id)));
    assert!(before.iter().all(|frame| frame["type"] == "job.event" && !has(frame, "correlation_id")));
    assert!(frames.iter().chain([&accepted]).all(|frame| frame["timestamp"].is_string()));

    let (id, refused) = peer.ask(&mut world, "job.submit", json!({"agent": "nobody"}));
    assert_eq!((&refused["type"], &refused["correlation_id"]), (&json!("job.error"), &json!(id)));
    for (kind, payload, answer) in [
        ("session.list_jobs", json!({}), "session.jobs"),
        ("session.list_jobs", json!({"cursor": "x"}), "nack"),
        ("session.ping", json!({"nonce": "n"}), "session.pong"),
        ("job.subscribe", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}), "nack"),
    ] {
        let (id, frame) = peer.ask(&mut world, kind, payload);
        assert_eq!((&frame["type"], &frame["correlation_id"]), (&json!(answer), &json!(id)), "{kind}");
        if answer == "nack" {
            assert_eq!(frame["payload"]["error"]["code"], frame["payload"]["code"]);
        }
    }

    let mut watcher = Peer::php(&mut world);
    let job = &accepted["job_id"];
    let id = watcher.say(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let frames = watcher.raw.settle(&mut world);
    assert_eq!((&frames[0]["type"], &frames[0]["correlation_id"]), (&json!("job.subscribed"), &json!(id)));
    assert!(frames.len() > 2, "{frames:#?}");
    for (n, frame) in frames[1..].iter().enumerate() {
        assert_eq!((&frame["type"], &frame["job_id"]), (&json!("subscribe.event"), job));
        assert_eq!(frame["event_seq"], n as u64 + 1);
        assert_eq!(&frame["payload"]["event"]["job_id"], job);
        assert!(!has(frame, "correlation_id"));
    }
    assert_eq!(frames.last().expect("frames")["payload"]["event"]["type"], "job.result");
    world.finish();
}

#[test]
fn a_go_client_gets_a_large_result_once_and_in_a_frame_that_it_can_read() {
    let mut world = World::seeded(11);
    let mut peer = Peer::go(&mut world);
    for size in [600 << 10, 1_040_000] {
        let (_, accepted) = peer.submit(&mut world, json!({"agent": "waiter"}));
        peer.raw.settle(&mut world);
        succeed(&mut world, &accepted, &format!("\"{}\"", "z".repeat(size)));
        let frames = peer.raw.until_end(&mut world);
        for frame in &frames {
            assert!(frame.to_string().len() < 1 << 20, "its reader gives up the session");
        }
        let end = frames.last().expect("an end");
        assert_eq!(end["type"], "job.result");
        assert_eq!(end["payload"]["output"].as_str().map(str::len), Some(size));
        assert!(!has(&end["payload"], "result"));
    }
    let (_, accepted) = peer.submit(&mut world, json!({"agent": "waiter"}));
    peer.raw.settle(&mut world);
    succeed(&mut world, &accepted, &format!("\"{}\"", "z".repeat(3 << 20)));
    let frames = peer.raw.until_end(&mut world);
    assert!(frames.iter().all(|frame| frame.to_string().len() < 1 << 20));
    assert!(has(&frames.last().expect("an end")["payload"], "result_id"), "a larger one comes in pieces");
    world.finish();
}

#[test]
fn a_go_and_a_java_client_count_from_event_seq_as_the_submitter_does() {
    for connect in [Peer::go, Peer::java, Peer::typescript] {
        let mut world = World::seeded(12);
        let (mut submitter, _) = Raw::hello(&mut world, "tok-a");
        // The second job's events have other numbers in the session than in
        // the job.
        submitter.submit(&mut world, json!({"agent": "echo"}));
        submitter.until_end(&mut world);
        let accepted = submitter.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 3}}));
        let frames = submitter.until_end(&mut world);
        let from = frames[1]["event_seq"].as_u64().expect("a number");
        let mut watcher = connect(&mut world);
        let asked = json!({"job_id": accepted["job_id"], "from_event_seq": from, "history": true});
        watcher.say(&mut world, "job.subscribe", asked);
        watcher.raw.expect(&mut world, "job.subscribed");
        let seen: Vec<Value> =
            watcher.raw.until_end(&mut world).into_iter().map(|frame| frame["payload"]["ts"].clone()).collect();
        let expected: Vec<Value> = frames[2..].iter().map(|frame| frame["payload"]["ts"].clone()).collect();
        assert_eq!(seen, expected);
        world.finish();
    }
}

#[test]
fn a_result_is_inline_or_in_pieces_and_not_both() {
    let mut world = World::seeded(13);
    let mut hello = hello_payload("tok-a");
    hello["capabilities"]["features"] = json!(["list_jobs"]);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", hello);
    raw.expect(&mut world, "session.welcome");
    let (mut open, _) = Raw::open_with(&mut world, json!({"auth": {"scheme": "bearer", "token": "tok-a"}}));
    raw.send(&mut world, "job.submit", json!({"agent": "chunker", "input": {"chunks": 2, "bytes": 4}}));
    open.send(&mut world, "tool.invoke", json!({"tool": "chunker", "arguments": {"chunks": 2, "bytes": 4}}));
    for peer in [&mut raw, &mut open] {
        let frames = peer.until_end(&mut world);
        let payload = &frames.last().expect("an end")["payload"];
        assert!(has(payload, "result"), "{payload}");
        assert!(!has(payload, "result_id") && !has(payload, "result_size"), "{payload}");
    }
    world.finish();
}

#[test]
fn a_trace_of_zeros_is_none() {
    let mut world = World::seeded(14);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    let zeros = "0".repeat(32);
    for trace in [zeros.clone(), format!("00-{zeros}-0000000000000000-00")] {
        raw.send_with(&mut world, "job.submit", json!({"agent": "echo"}), json!({"trace_id": trace}));
        let accepted = raw.expect(&mut world, "job.accepted");
        let minted = accepted["trace_id"].as_str().expect("a trace");
        assert!(minted.len() == 32 && minted != zeros, "{minted}");
        raw.until_end(&mut world);
    }
    open.send_with(&mut world, "tool.invoke", json!({"tool": "echo"}), json!({"trace_id": zeros}));
    assert_ne!(open.expect(&mut world, "job.accepted")["trace_id"], zeros.as_str());
    world.finish();
}

#[test]
fn the_session_id_around_a_hello_names_nothing() {
    let mut world = World::seeded(15);
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    world.settle();
    let mut back = Raw::connect(&mut world);
    let mut hello = hello_payload("tok-a");
    hello["resume_token"] = welcome["payload"]["resume_token"].clone();
    hello["last_event_seq"] = json!(0);
    back.send_with(&mut world, "session.hello", hello, json!({"session_id": "ses_minted-by-the-client"}));
    assert_eq!(back.expect(&mut world, "session.welcome")["session_id"], welcome["session_id"]);
    world.finish();
}

#[test]
fn a_refused_swift_invocation_is_a_tool_error() {
    let mut world = World::seeded(16);
    let mut peer = Peer::swift(&mut world);
    for payload in [json!({"tool": "nobody", "arguments": {}}), json!({"tool": 7})] {
        let (id, error) = peer.ask(&mut world, "tool.invoke", payload);
        assert_eq!((&error["type"], &error["correlation_id"]), (&json!("tool.error"), &json!(id)));
        assert!(error["payload"]["code"].is_string() && error["payload"]["message"].is_string());
        assert!(error["payload"]["retryable"].is_boolean() && !has(&error["payload"], "error"));
    }
    let (_, nack) = peer.ask(&mut world, "unsubscribe", json!({"subscription_id": "sub_x"}));
    assert_eq!(nack["type"], "nack", "what else is refused is answered as before");
    world.finish();
}

#[test]
fn a_swift_client_reads_its_result_under_one_name() {
    let mut world = World::seeded(17);
    let mut peer = Peer::swift(&mut world);
    peer.say(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {"n": 1}}));
    let frames = peer.raw.until_end(&mut world);
    let payload = &frames.last().expect("an end")["payload"];
    assert_eq!(payload, &json!({"result": {"n": 1}}));
    world.finish();
}

#[test]
fn an_open_session_is_not_lost_for_the_cadence_of_its_jobs_signs_of_life() {
    let mut world = World::seeded(18);
    let mut peer = Peer::swift(&mut world);
    let (mut plain, accepted) = Raw::open(&mut world, "tok-a");
    assert_eq!(accepted["payload"]["capabilities"]["heartbeat_interval_seconds"], 30);
    assert!(!has(&accepted["payload"], "heartbeat_interval_sec"), "nobody is expected to be heard");
    let mut capabilities = json!({"heartbeat_interval_seconds": 30, "extensions": ["arcpx.arcp.types.v1"]});
    let ours = json!({"auth": {"scheme": "bearer", "token": "tok-a"}, "capabilities": capabilities.take()});
    let (native, accepted) = Raw::open_with(&mut world, ours);
    assert_eq!(accepted["payload"]["heartbeat_interval_sec"], 30);
    plain.send(&mut world, "ping", json!({}));
    plain.take(&world);
    world.run_for(Duration::from_secs(600));
    assert!(!peer.raw.is_closed(&world) && !plain.is_closed(&world), "they do not know pings");
    assert!(native.is_closed(&world), "ours knows them");
    assert!(peer.raw.take(&world).is_empty());
    peer.say(&mut world, "session.ping", json!({"nonce": "n"}));
    peer.raw.expect(&mut world, "session.pong");
    world.run_for(Duration::from_secs(61));
    assert!(peer.raw.is_closed(&world), "who pings once is missed when it stops");
    world.finish();
}

/// A Swift client that lost its connection and came back with a new session.
fn came_back(world: &mut World, lost: &Peer) -> Peer {
    world.cut(lost.raw.conn);
    world.run_for(Duration::from_secs(30));
    Peer::swift(world)
}

#[test]
fn what_happened_while_a_swift_client_was_away_is_given_up_to_the_present() {
    let mut world = World::seeded(19);
    let mut peer = Peer::swift(&mut world);
    peer.say(&mut world, "tool.invoke", json!({"tool": "slow", "arguments": {"ticks": 4}}));
    let accepted = peer.raw.expect(&mut world, "job.accepted");
    let started = peer.raw.expect(&mut world, "job.started");
    let mut back = came_back(&mut world, &peer);
    let earlier = json!({"session_id": accepted["session_id"]});
    let id = back.say_with(&mut world, "resume", json!({"after_message_id": started["id"]}), earlier.clone());
    let frames = back.raw.settle(&mut world);
    let (done, missed) = frames.split_last().expect("an answer");
    assert_eq!((&done["type"], &done["correlation_id"]), (&json!("ack"), &json!(id)));
    assert_eq!(missed.last().expect("the end")["type"], "job.completed");
    let numbers: Vec<u64> = missed.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect();
    let first = started["event_seq"].as_u64().expect("a number") + 1;
    assert_eq!(numbers, (first..first + missed.len() as u64).collect::<Vec<_>>(), "nothing is missing");

    back.say_with(&mut world, "resume", json!({}), earlier);
    let all = back.raw.settle(&mut world);
    assert_eq!(all[0]["event_seq"], 1, "without a message: from the start of what is kept");
    assert_eq!(all.len() as u64, first - 1 + frames.len() as u64);

    back.say(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {}}));
    assert_eq!(back.raw.until_end(&mut world)[0]["event_seq"], 1, "its own session begins at one");
    world.finish();
}

#[test]
fn nobody_is_given_the_frames_of_somebody_elses_session() {
    let mut world = World::seeded(20);
    let mut peer = Peer::swift(&mut world);
    peer.say(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {}}));
    let accepted = peer.raw.expect(&mut world, "job.accepted");
    let mut opening = swift_opening();
    opening["auth"]["token"] = json!("tok-b");
    let mut stranger = Peer::connect(&mut world, prefixed_ulid, Some("2026-11-21T10:00:00.000Z"));
    stranger.say_with(&mut world, "session.open", opening, json!({"priority": "normal"}));
    stranger.raw.expect(&mut world, "session.accepted");
    for payload in [json!({}), json!({"after_message_id": accepted["id"]})] {
        let earlier = json!({"session_id": accepted["session_id"]});
        stranger.say_with(&mut world, "resume", payload, earlier);
        let frames = stranger.raw.settle(&mut world);
        assert_eq!(frames.len(), 1, "{frames:#?}");
        assert_eq!((frames[0]["type"].as_str(), code(&frames[0])), (Some("nack"), "DATA_LOSS"));
    }
    world.finish();
}

#[test]
fn a_proof_without_a_token_is_refused_and_not_passed_over() {
    let mut world = World::seeded(21);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.open", json!({"auth": {"scheme": "bearer"}}));
    raw.expect(&mut world, "session.challenge");
    for _ in 0..3 {
        let id = raw.send(&mut world, "session.authenticate", json!({}));
        let refused = raw.expect(&mut world, "session.unauthenticated");
        assert_eq!(refused["correlation_id"], id.as_str());
        assert!(refused["payload"]["message"].as_str().is_some_and(|text| text.contains("`response` is missing")));
    }
    world.settle();
    assert!(raw.is_closed(&world), "three of them are enough");
    world.finish();
}

#[test]
fn nobody_is_anonymous_who_says_that_he_is_not() {
    let mut world = World::configured(22, |config| config.anonymous = true);
    let opening = |anonymous: Value| json!({"auth": {"scheme": "none"}, "capabilities": {"anonymous": anonymous}});
    Raw::open_with(&mut world, opening(json!(true)));
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.open", opening(json!(false)));
    let refused = raw.expect(&mut world, "session.rejected");
    assert_eq!(code(&refused), "UNAUTHENTICATED");
    world.finish();
}

#[test]
fn the_codes_of_an_agent_keep_their_names() {
    for name in ["DATA_LOSS", "UNKNOWN", "UNAVAILABLE"] {
        let mut world = World::seeded(23);
        let mut peer = Peer::swift(&mut world);
        let (mut hello, _) = Raw::hello(&mut world, "tok-a");
        peer.say(&mut world, "tool.invoke", json!({"tool": "waiter", "arguments": {}}));
        let accepted = peer.raw.expect(&mut world, "job.accepted");
        world.settle();
        hello.send(&mut world, "job.subscribe", json!({"job_id": accepted["job_id"]}));
        world.settle();
        let job = arcp_proto::id::JobId::parse(accepted["job_id"].as_str().expect("a job")).expect("ours");
        let error = arcp_proto::model::event::JobError::new(arcp_proto::error::ErrorCode::from(name), "so it is");
        world.input(arcp_proto::runtime::Input::AgentExited { job, exit: AgentExit::Failure(error) });
        let end = peer.raw.until_end(&mut world).pop().expect("an end");
        assert_eq!(code(&end), name);
        let end = hello.until_end(&mut world).pop().expect("an end");
        assert_eq!((code(&end), &end["payload"]["details"]["open_code"]), ("INTERNAL_ERROR", &json!(name)));
        world.finish();
    }
}

#[test]
fn the_error_of_a_tool_has_all_that_strict_readers_need() {
    let mut world = World::seeded(24);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = arcp_proto::id::JobId::parse(accepted["job_id"].as_str().expect("a job")).expect("ours");
    world.settle();
    raw.take(&world);
    for (said, whole) in [
        (json!("boom"), json!({"code": "INTERNAL_ERROR", "message": "boom", "retryable": true})),
        (
            json!({"code": "TIMEOUT"}),
            json!({"code": "TIMEOUT", "message": "the tool gave no message", "retryable": true}),
        ),
        (
            json!({"message": "no", "code": "ENOENT", "path": "/x"}),
            json!({"code": "ENOENT", "message": "no", "retryable": false, "path": "/x"}),
        ),
        (
            json!({"code": "INTERNAL_ERROR", "message": "m", "retryable": false}),
            json!({"code": "INTERNAL_ERROR", "message": "m", "retryable": false}),
        ),
    ] {
        let body = json!({"call_id": "c", "error": said}).to_string();
        let body = arcp_proto::json::Json::parse(&body).expect("JSON");
        let call = arcp_proto::runtime::AgentCall::Emit { kind: "tool_result".into(), body };
        world.input(arcp_proto::runtime::Input::Agent { job, call });
        let event = raw.expect(&mut world, "job.event");
        assert_eq!(event["payload"]["body"]["error"], whole);
    }
    world.finish();
}

#[test]
fn no_frame_is_twice_as_large_as_what_an_agent_may_say() {
    let mut world = World::seeded(25);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let accepted = raw.invoke(&mut world, json!({"tool": "waiter"}));
    let job = arcp_proto::id::JobId::parse(accepted["job_id"].as_str().expect("a job")).expect("ours");
    world.settle();
    let large = "y".repeat(900_000);
    for (kind, body) in [
        ("x-vendor.a.b", json!({"t": large})),
        ("thought", json!({"text": large})),
        ("metric", json!({"name": "m", "value": 1, "dimensions": {"d": large}})),
    ] {
        let body = arcp_proto::json::Json::parse(&body.to_string()).expect("JSON");
        let call = arcp_proto::runtime::AgentCall::Emit { kind: kind.into(), body };
        world.input(arcp_proto::runtime::Input::Agent { job, call });
    }
    succeed(&mut world, &accepted, &format!("\"{}\"", "z".repeat(1_040_000)));
    raw.until_end(&mut world);
    for text in world.frames_of(raw.conn) {
        assert!(text.len() <= 1 << 20, "{} bytes", text.len());
    }
    world.finish();
}

#[test]
fn dimensions_have_two_names_only_while_they_are_small() {
    let mut world = World::seeded(27);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = arcp_proto::id::JobId::parse(accepted["payload"]["job_id"].as_str().expect("a job")).expect("ours");
    world.settle();
    for (name, bytes, names) in [("dimensions", 900_000, 1), ("dims", 900_000, 1), ("dims", 60_000, 2)] {
        let body = json!({"name": "m", "value": 1, name: {"d": "y".repeat(bytes)}}).to_string();
        let body = arcp_proto::json::Json::parse(&body).expect("JSON");
        let call = arcp_proto::runtime::AgentCall::Emit { kind: "metric".into(), body };
        world.input(arcp_proto::runtime::Input::Agent { job, call });
        let event = loop {
            let event = raw.expect(&mut world, "job.event");
            if event["payload"]["kind"] == "metric" {
                break event;
            }
        };
        let body = &event["payload"]["body"];
        assert!(body["dimensions"].is_object(), "by the name of the draft in any case");
        assert_eq!(1 + usize::from(body["dims"].is_object()), names, "{bytes} bytes as `{name}`");
    }
    for text in world.frames_of(raw.conn) {
        assert!(text.len() <= 1 << 20, "{} bytes", text.len());
    }
    world.finish();
}

#[test]
fn a_frame_that_is_too_long_is_told_of_the_limit_and_a_line_ends_nothing() {
    let mut world = World::seeded(26);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    world.input(arcp_proto::runtime::Input::TooLong { conn: raw.conn });
    let error = raw.expect(&mut world, "session.error");
    assert!(error["payload"]["message"].as_str().is_some_and(|text| text.contains("4194304 bytes")), "{error}");
    world.settle();
    assert_eq!(world.close_reason(raw.conn), Some(arcp_proto::runtime::CloseReason::TooLong));
    let mut lines = Raw::on(world.open_vouched("a"));
    lines.send(&mut world, "session.hello", json!({}));
    lines.expect(&mut world, "session.welcome");
    world.input(arcp_proto::runtime::Input::TooLong { conn: lines.conn });
    lines.expect(&mut world, "session.error");
    lines.submit(&mut world, json!({"agent": "echo"}));
    lines.until_end(&mut world);
    let early = Raw::connect(&mut world);
    world.input(arcp_proto::runtime::Input::TooLong { conn: early.conn });
    world.settle();
    assert!(world.frames_of(early.conn)[0].contains("65536 bytes"), "that of a handshake");
    world.finish();
}
