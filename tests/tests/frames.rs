//! Frames: malformed, hostile and unknown ones, and what each published spelling means.

use std::fmt::Write as _;
use std::time::Duration;

use arcp_proto::runtime::Config;
use arcp_proto::time::UtcMs;
use arcp_proto::wire::raw::{Header, read_request, read_runtime_frame};
use arcp_proto::wire::{Family, Profile};
use arcp_tests::raw::{Raw, code};
use arcp_tests::scene::golden;
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

/// Sends bytes on an open session; the answer, and the proof that the
/// session lives on.
fn answer_to(bytes: &[u8]) -> Value {
    let mut options = Options::new(1);
    options.config = Config { ..options.config };
    let mut world = World::new(options);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    world.send_raw(raw.conn, bytes.to_vec());
    let error = raw.expect(&mut world, "session.error");
    assert!(raw.settle(&mut world).is_empty(), "one error, not more");
    raw.submit(&mut world, json!({"agent": "echo"}));
    world.finish();
    error
}

#[test]
fn malformed_frames_get_one_error_and_the_session_survives() {
    let deep = format!(
        r#"{{"id":"d","type":"job.submit","payload":{{"agent":"echo","input":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let cases: Vec<(&[u8], Option<&str>)> = vec![
        (b"{", None),
        (b"not json", None),
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b"5", None),
        (b"[\"1.1\",\"x\",\"session.ping\"]", None),
        (b"\xff\xfe{}", None),
        (b"{\"id\":\"a\xff\"}", None),
        (b"{}", None),
        (b"{\"id\":\"x\"}", Some("x")),
        (b"{\"id\":\"x\",\"type\":7}", Some("x")),
        (b"{\"id\":7,\"type\":\"session.ping\"}", None),
        (b"{\"id\":\"\",\"type\":\"session.ping\"}", None),
        (b"{\"id\":\"x\",\"type\":\"session.ping\",\"arcp\":\"2.0\"}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ping\",\"arcp\":1}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ping\",\"payload\":[]}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ping\",\"payload\":{\"nonce\":5}}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ping\",\"session_id\":\"sess_other\"}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ping\",\"extensions\":3}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.pong.x\"}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"job.what\"}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ack\",\"payload\":{}}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"session.ack\",\"payload\":{\"last_processed_seq\":-1}}", Some("x")),
        (
            b"{\"id\":\"x\",\"type\":\"session.ack\",\"payload\":{\"last_processed_seq\":1,\"last_processed_seq\":2}}",
            Some("x"),
        ),
        (b"{\"id\":\"x\",\"id\":\"y\",\"type\":\"session.ping\"}", None),
        (b"{\"id\":\"x\",\"type\":\"job.submit\",\"payload\":{\"agent\":\"echo\",\"input\":1e999}}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"job.submit\",\"payload\":{\"agent\":\"echo\",\"input\":\"\\ud800\"}}", Some("x")),
        (b"{\"id\":\"x\",\"type\":\"job.submit\",\"payload\":{\"agent\":\"echo\",\"agent\":\"echo\"}}", Some("x")),
        (deep.as_bytes(), Some("d")),
    ];
    for (bytes, id) in cases {
        let error = answer_to(bytes);
        let shown = String::from_utf8_lossy(bytes).chars().take(100).collect::<String>();
        assert_eq!(code(&error), "INVALID_REQUEST", "{shown}");
        assert_eq!(error["payload"]["request_id"].as_str(), id, "{shown}");
        assert!(error["payload"]["message"].as_str().is_some_and(|m| !m.is_empty()));
        assert_eq!(error["payload"]["retryable"], false);
    }
}

#[test]
fn an_error_never_repeats_a_value() {
    let error = answer_to(br#"{"id":"x","type":"session.ping","payload":{"nonce":{"token":"s3cret"}}}"#);
    assert!(!error.to_string().contains("s3cret"));
    let mut world = World::seeded(2);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", json!({"auth": {"scheme": "bearer", "token": ["s3cret"]}}));
    assert!(!raw.expect(&mut world, "session.error").to_string().contains("s3cret"));
    world.finish();
}

#[test]
fn frames_over_the_bound_are_refused_by_the_core_too() {
    let mut options = Options::new(3);
    options.config.limits.frame.frame_bytes = 2048;
    let mut world = World::new(options);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let big = json!({"id": "b", "type": "job.submit", "payload": {"agent": "echo", "input": "x".repeat(4000)}});
    raw.send_text(&mut world, &big.to_string());
    let error = raw.expect(&mut world, "session.error");
    assert!(error["payload"]["message"].as_str().is_some_and(|m| m.contains("2048")));
    raw.submit(&mut world, json!({"agent": "echo"}));
    world.finish();
}

#[test]
fn vendor_messages_are_never_an_error() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "x-vendor.acme.wave", json!({"a": 1}));
    raw.send_with(&mut world, "job.future", json!({}), json!({"extensions": {"optional": true}}));
    assert!(raw.settle(&mut world).is_empty());
    world.finish();
}

#[test]
fn unknown_members_are_ignored_and_missing_ones_tolerated() {
    let mut world = World::seeded(5);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.send_with(
        &mut world,
        "session.ping",
        json!({"more": [1]}),
        json!({"timestamp": "2026-01-01T00:00:00Z", "source": "x", "new": {"a": 1}, "session_id": welcome["session_id"]}),
    );
    raw.expect(&mut world, "session.pong");
    raw.send_text(&mut world, r#"{"id":"bare","type":"session.ping"}"#);
    raw.expect(&mut world, "session.pong");
    raw.send_text(&mut world, r#"{"id":"null","type":"session.ping","payload":null,"session_id":null,"arcp":"1"}"#);
    raw.expect(&mut world, "session.pong");
    world.finish();
}

#[test]
fn versions_of_the_protocol() {
    let fine = ["1.1", "1.0", "1"].map(|version| (version, true));
    let others = ["2", "", "1.2", "1.9", "10", "1.10", "1.1.1", "v1", "1 "].map(|version| (version, false));
    for (version, fine) in fine.into_iter().chain(others) {
        let mut world = World::seeded(6);
        let mut raw = Raw::connect(&mut world);
        let hello = json!({
            "arcp": version, "id": "h", "type": "session.hello", "payload": {"auth": {"token": "tok-a"}},
        });
        raw.send_text(&mut world, &hello.to_string());
        world.settle();
        assert_eq!(raw.is_closed(&world), !fine, "{version}");
        world.finish();
    }
}

#[test]
fn profiles_change_what_is_written_and_not_what_happens() {
    let mut world = World::seeded(7);
    let mut raw = Raw::connect(&mut world);
    let hello = json!({
        "arcp": "1.1", "id": "01M7VD85KQ9SZXPW6NX4X2SFJ9", "type": "session.hello",
        "payload": {
            "client": {"name": "p", "version": "1"}, "auth": {"scheme": "bearer", "token": "tok-a"},
            "capabilities": {"encodings": ["json"], "features": ["progress", "subscribe"], "agents": []},
        },
    });
    raw.send_text(&mut world, &hello.to_string());
    raw.expect(&mut world, "session.welcome");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    raw.send_with(&mut world, "job.cancel", json!({"reason": "r"}), json!({"job_id": "job_unknown"}));
    raw.send(&mut world, "job.unsubscribe", json!({"job_id": "job_unknown"}));
    assert!(raw.settle(&mut world).iter().all(|f| f["type"] != "session.error"), "it would fail everything in flight");
    raw.send_with(&mut world, "job.cancel", json!({"reason": "r"}), json!({"job_id": job}));
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!((&end["type"], &end["payload"]["final_status"]), (&json!("job.result"), &json!("cancelled")), "py20");
    assert!(end["payload"]["completed_at"].is_string() && end["payload"].get("code").is_none());
    raw.send(&mut world, "job.submit", json!({"agent": "nobody"}));
    assert_eq!(raw.expect(&mut world, "session.error")["payload"]["code"], "AGENT_NOT_AVAILABLE");
    world.finish();
}

#[test]
fn the_python_client_gets_no_event_in_the_instant_after_a_watch_began() {
    let mut world = World::seeded(10);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "chatty", "input": {"count": 3}}))["job_id"].clone();
    owner.until_end(&mut world);
    let mut raw = Raw::connect(&mut world);
    let hello = json!({
        "arcp": "1.1", "id": "01M7VD85KQ9SZXPW6NX4X2SFJ9", "type": "session.hello",
        "payload": {
            "client": {"name": "p", "version": "1"}, "auth": {"scheme": "bearer", "token": "tok-a"},
            "capabilities": {"encodings": ["json"], "features": ["subscribe"], "agents": []},
        },
    });
    raw.send_text(&mut world, &hello.to_string());
    raw.expect(&mut world, "session.welcome");
    raw.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    raw.expect(&mut world, "job.subscribed");
    world.run_for(Duration::from_millis(19));
    assert!(raw.take(&world).is_empty(), "its caller has not woken up");
    world.run_for(Duration::from_millis(2));
    assert_eq!(raw.take(&world).len(), 5);
    world.finish();
}

#[test]
fn the_python_client_gets_what_a_line_of_its_reader_holds() {
    let mut world = World::seeded(11);
    let hello = json!({
        "arcp": "1.1", "id": "01M7VD85KQ9SZXPW6NX4X2SFJ9", "type": "session.hello",
        "payload": {
            "client": {"name": "p", "version": "1"}, "auth": {"scheme": "bearer", "token": "tok-a"},
            "capabilities": {"encodings": ["json"], "features": ["result_chunk"], "agents": []},
        },
    });
    for (conn, pieces) in [(world.open_raw(), false), (world.open_vouched("a"), true)] {
        let mut raw = Raw::on(conn);
        raw.send_text(&mut world, &hello.to_string());
        raw.expect(&mut world, "session.welcome");
        raw.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(60_000)}));
        let frames = raw.until_end(&mut world);
        assert_eq!(frames.iter().any(|frame| frame["payload"]["kind"] == "result_chunk"), pieces);
        assert!(!pieces || frames.iter().all(|frame| frame.to_string().len() < 64 << 10));
    }
    world.finish();
}

#[test]
fn the_go_client_reads_whole_progress_and_its_own_word_for_a_result() {
    let mut world = World::seeded(9);
    let mut raw = Raw::connect(&mut world);
    let hello = json!({
        "arcp": "1.1", "id": "018f3a2b-1c2d-7e3f-8a4b-5c6d7e8f9a0b", "type": "session.hello",
        "payload": {"client": {"name": "g", "version": "1"}, "auth": {"token": "tok-a"}, "capabilities": {"features": ["progress"]}},
    });
    raw.send_text(&mut world, &hello.to_string());
    raw.expect(&mut world, "session.welcome");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].as_str().map(arcp_proto::id::JobId::parse);
    world.settle();
    let call = arcp_proto::runtime::AgentCall::Emit {
        kind: "progress".into(),
        body: arcp_proto::json::Json::parse(r#"{"current":1.5,"total":3,"units":"s"}"#).expect("JSON"),
    };
    world.input(arcp_proto::runtime::Input::Agent { job: job.flatten().expect("a job"), call });
    world.settle();
    let progress = raw.take(&world).pop().expect("an event");
    assert_eq!(progress["payload"]["body"], json!({"current": 1, "total": 3, "units": "s"}));
    raw.submit(&mut world, json!({"agent": "echo", "input": [1]}));
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!((&end["payload"]["result"], &end["payload"]["output"]), (&Value::Null, &json!([1])));
    world.finish();
}

#[test]
fn debug_shows_no_secret() {
    use arcp_proto::model::request::{ClientInfo, Credential, Open, ResumeClaim};
    use arcp_proto::secret::Secret;
    let secret = || Secret::new("s3cret".into());
    let claim = ResumeClaim { session: None, token: secret(), last_seq: 0 };
    let client = ClientInfo { name: "n".into(), version: "1".into() };
    let features = arcp_proto::model::feature::Features::default();
    let open = Open { resume: Some(claim), ..Open::new(client, Credential::Bearer(secret()), features) };
    let other = Credential::Other { scheme: "oauth2".into(), token: secret() };
    let seeds = arcp_proto::entropy::Seeds { public: [7; 32], secret: [9; 32] };
    let shown = format!("{open:?} {other:?} {seeds:?} {:?}", secret().digest());
    assert!(!shown.contains("s3cret") && !shown.contains("9, 9"), "{shown}");
}

#[test]
fn the_typescript_client_gets_refusals_as_job_errors_of_no_live_job() {
    let mut world = World::seeded(8);
    let mut raw = Raw::connect(&mut world);
    let hello = json!({
        "arcp": "1.1", "id": "msg_01M7VD85KQ9SZXPW6NX4X2SFJ9", "type": "session.hello",
        "payload": {"client": {"name": "t", "version": "2"}, "auth": {"token": "tok-a"}, "capabilities": {"features": []}},
    });
    raw.send_text(&mut world, &hello.to_string());
    raw.expect(&mut world, "session.welcome");
    let live = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let id = raw.send(&mut world, "job.submit", json!({"agent": "nobody"}));
    let error = raw.expect(&mut world, "job.error");
    assert_ne!(error["job_id"], live);
    assert_eq!((&error["payload"]["request_id"], code(&error)), (&json!(id), "AGENT_NOT_AVAILABLE"));
    assert!(error.get("event_seq").is_none(), "no number is spent");
    world.finish();
}

const AT: UtcMs = UtcMs(1_767_225_600_000);
/// The job that they are about.
const JOB: &str = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A frame with these members beside its payload.
fn frame(kind: &str, payload: Value, more: Value) -> String {
    let mut frame = json!({"arcp": "1.1", "id": "m1", "type": kind, "payload": payload});
    for (name, value) in more.as_object().expect("an object") {
        frame[name] = value.clone();
    }
    frame.to_string()
}

fn said_to_a_client() -> Vec<(Family, String)> {
    let mut frames = Vec::new();
    let mut open = |kind, payload, more| frames.push((Family::Open, frame(kind, payload, more)));
    let of_job = || json!({"job_id": JOB, "event_seq": 7, "timestamp": "2026-01-01T00:00:00Z"});
    open("job.heartbeat", json!({"job_id": JOB}), json!({}));
    open("artifact.ref", json!({"artifact_id": "a", "uri": "arcp://a/1", "media_type": "text/plain"}), of_job());
    for redacted in [true, false] {
        let said = json!({"role": "assistant_thought", "content": "hm", "redacted": redacted});
        open("stream.chunk", said, of_job());
    }
    open("stream.chunk", json!({"role": "user", "content": "hm"}), of_job());
    open("job.dance", json!({}), json!({"event_seq": 7}));
    open("job.dance", json!({}), json!({}));
    open("log", json!({"level": "info", "message": "m"}), json!({"correlation_id": "m9"}));
    open("job.failed", json!({"code": "NOT_FOUND", "message": "none"}), json!({"correlation_id": "m9"}));
    open("job.failed", json!({"code": "NOT_FOUND", "message": "none"}), json!({}));
    for why in [
        json!({"reason": "not_found"}),
        json!({"reason": "already_terminal"}),
        json!({"reason": "no"}),
        json!({"code": "INTERNAL", "message": "m"}),
    ] {
        let mut payload = why;
        payload["target_id"] = JOB.into();
        open("cancel.refused", payload, json!({"correlation_id": "m9"}));
    }
    for error in [
        json!({"error": {"code": "NOT_FOUND", "message": "nested", "retryable": true}, "code": "INTERNAL"}),
        json!({"error": {"message": "without a code"}, "code": "NOT_FOUND", "message": "flat"}),
        json!({"code": "NOT_FOUND", "message": "", "details": {"n": 1}, "detail": "passed over"}),
        json!({"code": "NOT_FOUND", "detail": "a sentence"}),
        json!({"error": {"code": "NOT_FOUND"}, "detail": "beside", "details": [1]}),
    ] {
        open("tool.error", error, of_job());
    }
    for replayed in [json!(true), json!(false), Value::Null] {
        let payload = json!({"session_id": "s", "resume_token": "t", "replayed_from": 3, "replayed": replayed});
        open("session.resumed", payload, json!({"session_id": "s"}));
    }
    for seconds in [json!(0), json!(0.2), json!(30)] {
        let capabilities = json!({"heartbeat_interval_seconds": seconds});
        let payload = json!({"session_id": "s", "heartbeat_interval_sec": seconds, "capabilities": capabilities});
        open("session.accepted", payload, json!({}));
    }
    for replayed in [json!(true), json!(0), json!(3), json!("x"), Value::Null] {
        let payload = json!({"job_id": JOB, "current_status": "running", "subscribed_from": 2, "replayed": replayed});
        frames.push((Family::Hello, frame("job.subscribed", payload, json!({"session_id": "s"}))));
    }
    for (kind, status) in
        [("job.result", "success"), ("job.result", "lost"), ("job.error", "success"), ("job.error", "error")]
    {
        let payload = json!({"final_status": status, "code": "INTERNAL_ERROR", "message": "m"});
        frames.push((Family::Hello, frame(kind, payload, json!({"job_id": JOB, "event_seq": 8}))));
    }
    frames
}

fn said_to_a_runtime() -> Vec<(Family, String)> {
    let auth = json!({"scheme": "bearer", "token": "t"});
    let mut frames = Vec::new();
    for features in
        [json!(["cost_budget", "model_use", "ack"]), json!(["cost.budget", "model.use"]), json!(["no.such.feature"])]
    {
        let payload = json!({"auth": auth, "capabilities": {"features": features}});
        frames.push((Family::Hello, frame("session.hello", payload, json!({}))));
    }
    let client = |more: Value| {
        let mut payload = more;
        payload["auth"] = auth.clone();
        (Family::Hello, frame("session.hello", payload, json!({})))
    };
    let named = json!({"name": "c", "version": "1"});
    frames.push(client(json!({"client": named})));
    frames.push(client(json!({"client": named, "client_name": "flat"})));
    frames.push(client(json!({"client_name": "flat", "client_version": "1"})));
    frames.push(client(json!({})));
    let mut hello = |kind: &str, payload, more| frames.push((Family::Hello, frame(kind, payload, more)));
    hello(
        "job.submit",
        json!({"agent": "echo", "lease_request": {"fs.read": ["/a"]}, "parent_job_id": JOB}),
        json!({}),
    );
    for (around, inside) in [(JOB, JOB), (JOB, "job_other")] {
        hello("job.subscribe", json!({"job_id": inside}), json!({"job_id": around}));
    }
    for length in [256, 257] {
        hello("session.ping", json!({"nonce": "n".repeat(length)}), json!({}));
    }
    let many = |count: usize| json!(vec!["n"; count]);
    for capabilities in [
        json!({"cost.budget": true, "model.use": true, "result_chunk": false}),
        json!({"cost_budget": true, "model_use": true, "result_chunk": true}),
        json!({"heartbeat_interval_seconds": 0}),
        json!({"heartbeat_interval_seconds": 0.5, "heartbeat_recovery": "block"}),
        json!({"heartbeat_recovery": "fail"}),
        json!({"required": ["anonymous", "heartbeat_recovery", "subscriptions"]}),
        json!({"required": ["artifacts", "interrupt"]}),
        json!({"required": ["heartbeat_interval_seconds"]}),
        json!({"required": many(64)}),
        json!({"required": many(65)}),
        json!({"extensions": [""]}),
        json!({"extensions": ["x".repeat(256)]}),
        json!({"extensions": ["x".repeat(257)]}),
    ] {
        let payload = json!({"auth": auth, "client": {"kind": "k", "version": "1"}, "capabilities": capabilities});
        frames.push((Family::Open, frame("session.open", payload, json!({}))));
    }
    let mut open = |kind: &str, payload| frames.push((Family::Open, frame(kind, payload, json!({"session_id": "s"}))));
    for deadline in [0, 1, 600_000, 600_001] {
        open("cancel", json!({"target": "job", "target_id": JOB, "deadline_ms": deadline}));
    }
    for budget in [Value::Null, json!([]), json!(["USD:1"])] {
        open("tool.invoke", json!({"tool": "echo", "arguments": {}, "cost_budget": budget}));
    }
    for (count, length) in [(64, 1), (65, 1), (1, 256), (1, 257)] {
        open("subscribe", json!({"filter": {"types": vec!["t".repeat(length); count]}}));
    }
    let long = |count| format!("arcpx.{}", "x".repeat(count));
    for kind in ["arcpx.a.v1", &long(250), &long(251), "nodots"] {
        open(kind, json!({}));
    }
    frames
}

/// What comes many times in a row, once and how often.
fn shown(text: &str) -> String {
    let mut out = String::new();
    let items: Vec<&str> = text.split_inclusive(',').collect();
    for same in items.chunk_by(|a, b| a.trim() == b.trim()) {
        let letters: Vec<char> = same[0].chars().collect();
        for run in letters.chunk_by(char::eq) {
            match run.len() {
                0..16 => out.extend(run),
                many => write!(out, "{}*{many}", run[0]).expect("a string"),
            }
        }
        if same.len() > 1 {
            write!(out, "*{}", same.len()).expect("a string");
        }
    }
    out
}

#[test]
fn every_published_spelling_is_read() {
    let mut text = String::new();
    for (family, frame) in said_to_a_client() {
        let read = read_runtime_frame(family, &Header::read(&frame).expect("a frame"), AT);
        writeln!(text, "< {frame}\n  {read:?}").expect("a string");
    }
    for (family, frame) in said_to_a_runtime() {
        let read = read_request(family, &Header::read(&frame).expect("a frame"));
        let profile = read.as_ref().map_or(Profile::Plain, |read| read.profile);
        let sender = if profile == Profile::Plain { String::new() } else { format!(" from {profile}") };
        let read = read.map(|read| read.request);
        writeln!(text, "> {}\n  {}{sender}", shown(&frame), shown(&format!("{read:?}"))).expect("a string");
    }
    for frame in [
        "[]",
        r#"["1.1","m1","session.ping"]"#,
        " 5",
        "",
        "{",
        "not json",
        r#"{"id":"a","id":"b","type":"t"}"#,
        r#"{"id":5,"type":"t"}"#,
        r#"{"id":"a","type":"t","job_id":null,"session_id":7}"#,
        r#"{"id":"a","type":"t","job_id":null,"event_seq":"1"}"#,
    ] {
        let why = Header::read(frame).expect_err("no frame").violation;
        writeln!(text, "! {frame}\n  {why}").expect("a string");
    }
    golden("readings.txt", &text);
}
