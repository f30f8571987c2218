//! Its client and its transport against a server of ours that hosts the
//! samples, with tokens `tok-alice` and `tok-bob`.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use arcp::ARCPClient;
use arcp::messages::{AuthScheme, Capabilities, Credentials};
use arcp::transport::websocket::WebSocketTransport;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::script::identity;
use crate::wire::{Wire, opening};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs every case; says what came of each.
pub async fn run(url: &str) -> ExitCode {
    let mut ran = Ran::default();
    let url = || url.to_string();
    ran.case("its client: bearer, invoke, result", client_invokes(url())).await;
    ran.case("its client: a wrong token is refused", client_is_refused(url())).await;
    ran.case("its client: a failure reaches the handle", client_fails(url())).await;
    ran.case("its client: cancel ends the job", client_cancels(url())).await;
    ran.case("its client: artifacts that were not agreed on are refused, not ignored", client_artifact(url())).await;
    ran.case("its client: an artifact is kept, fetched and released", client_keeps_artifacts(url())).await;
    ran.case("its client: jobs of every sort, and its connection holds", client_holds(url())).await;
    ran.case("handshake: none is refused, on the loopback too", handshake_none(url())).await;
    ran.case("handshake: signed_jwt is refused by who cannot judge it", handshake_jwt(url())).await;
    ran.case("handshake: challenge, wrong proof, right proof", handshake_challenge(url())).await;
    ran.case("metrics, none missing", metrics(url())).await;
    ran.case("every kind of event is one it can decode", kinds(url())).await;
    ran.case("result in chunks", chunks(url())).await;
    ran.case("versions", versions(url())).await;
    ran.case("unknown tool", unknown_tool(url())).await;
    ran.case("a cancel with a deadline", deadline(url())).await;
    ran.case("cancel: accepted, refused, unknown", cancels(url())).await;
    ran.case("listing, page by page", listing(url())).await;
    ran.case("watch: live and history, once each", watching(url())).await;
    ran.case("nobody else's job can be watched", foreign(url())).await;
    ran.case("subscription: the past, the boundary, what comes", subscriptions(url())).await;
    ran.case("the same frames once more after a message", replay(url())).await;
    ran.case("budgets in its spelling are read and enforced", budgets(url())).await;
    ran.case("pings of both kinds, acknowledgements", pings(url())).await;
    ran.case("an idempotency key, twice", idempotency(url())).await;
    ran.case("a duplicate id runs once", duplicates(url())).await;
    ran.case("what it alone would drop the connection for", malformed(url())).await;
    println!("their Rust client, our server: {} passed, {} failed", ran.passed, ran.failed);
    if ran.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Ran {
    passed: u32,
    failed: u32,
}

impl Ran {
    async fn case(&mut self, name: &str, case: impl Future<Output = ()> + Send + 'static) {
        let ended = tokio::time::timeout(PATIENCE, tokio::spawn(case)).await;
        if matches!(ended, Ok(Ok(()))) {
            self.passed += 1;
            println!("ok       their Rust client, our server: {name}");
        } else {
            self.failed += 1;
            println!("FAILED   their Rust client, our server: {name}");
        }
    }
}

type Session = arcp::client::Session<arcp::client::Authenticated, WebSocketTransport>;

async fn session(url: &str, token: &str) -> Result<Session, arcp::ARCPError> {
    let transport = WebSocketTransport::dial(url).await?;
    let credentials = Credentials { scheme: AuthScheme::Bearer, token: Some(token.into()) };
    ARCPClient::new(transport).open()?.authenticate(credentials, identity(), Capabilities::default()).await
}

async fn client_invokes(url: String) {
    let session = session(&url, "tok-alice").await.expect("accepted");
    for n in 0..20 {
        let job = session.invoke("echo", json!({"n": n})).await.expect("accepted");
        assert_eq!(job.join().await.expect("a result"), json!({"n": n}));
    }
}

async fn client_is_refused(url: String) {
    let error = session(&url, "nobody").await.expect_err("refused");
    assert!(matches!(error, arcp::ARCPError::Unauthenticated { .. }), "{error}");
}

async fn client_fails(url: String) {
    let session = session(&url, "tok-alice").await.expect("accepted");
    let job = session.invoke("failer", json!({"how": "error"})).await.expect("accepted");
    let error = job.join().await.expect_err("it fails");
    assert!(error.to_string().contains("boom"), "{error}");
}

async fn client_cancels(url: String) {
    let session = session(&url, "tok-alice").await.expect("accepted");
    let job = session.invoke("gate", gate()).await.expect("accepted");
    job.cancel("enough").await.expect("sent");
    let error = job.join().await.expect_err("cancelled");
    assert!(matches!(error, arcp::ARCPError::Cancelled { .. }), "{error}");
}

async fn client_artifact(url: String) {
    let session = session(&url, "tok-alice").await.expect("accepted");
    let error = session.put_artifact("text/plain", "aGk=", None).await.expect_err("refused");
    assert!(error.to_string().contains("not negotiated"), "{error}");
    // The session goes on.
    let job = session.invoke("echo", json!(1)).await.expect("accepted");
    assert_eq!(job.join().await.expect("a result"), json!(1));
}

async fn client_keeps_artifacts(url: String) {
    let transport = WebSocketTransport::dial(&url).await.expect("a connection");
    let credentials = Credentials { scheme: AuthScheme::Bearer, token: Some("tok-alice".into()) };
    let capabilities = Capabilities { artifacts: Some(true), ..Capabilities::default() };
    let client = ARCPClient::new(transport).open().expect("open");
    let session = client.authenticate(credentials, identity(), capabilities).await.expect("accepted");
    let kept = session.put_artifact("text/plain", "aGk=", Some(60)).await.expect("kept");
    assert_eq!(kept.size, 2);
    let fetched = session.fetch_artifact(kept.artifact_id.clone()).await.expect("it is there");
    assert_eq!(fetched, ("aGk=".to_string(), "text/plain".to_string()));
    session.release_artifact(kept.artifact_id.clone()).await.expect("sent");
    let error = session.fetch_artifact(kept.artifact_id).await.expect_err("it is gone");
    assert!(error.to_string().contains("no such artifact"), "{error}");
}

/// Whatever its jobs say, the session goes on.
async fn client_holds(url: String) {
    let transport = WebSocketTransport::dial(&url).await.expect("a connection");
    let credentials = Credentials { scheme: AuthScheme::Bearer, token: Some("tok-alice".into()) };
    let all = Some(true);
    let capabilities = Capabilities {
        streaming: all,
        durable_jobs: all,
        checkpoints: all,
        binary_streams: all,
        artifacts: all,
        interrupt: all,
        binary_encoding: vec!["base64".into()],
        ..Capabilities::default()
    };
    let client = ARCPClient::new(transport).open().expect("open");
    let session = client.authenticate(credentials, identity(), capabilities).await.expect("accepted");
    let kinds = ["text", "binary", "event", "log", "metric", "thought"];
    let streamers = kinds.map(|kind| ("streamer", json!({"kind": kind, "chunks": 3}), json!({"chunks": 3})));
    let others = [
        ("asker", json!({"default": {"n": 1}, "expires_ms": 300}), json!({"n": 1})),
        ("asker", json!({"choices": ["a", "b"], "default": "b", "expires_ms": 300}), json!("b")),
        ("listener", json!({"ms": 300}), json!({"interrupts": 0, "answers": []})),
        ("stepper", json!({"steps": 3, "step_ms": 10}), json!({"steps": 3, "restarts": 0})),
    ];
    for (agent, input, result) in streamers.into_iter().chain(others) {
        let job = session.invoke(agent, input.clone()).await.expect("accepted");
        assert_eq!(job.join().await.expect("a result"), result, "{agent} {input}");
    }
    let job = session.invoke("artist", json!({"bytes": 10})).await.expect("accepted");
    let kept = job.join().await.expect("a result")["artifact_id"].as_str().map(str::to_string).expect("a reference");
    let fetched = session.fetch_artifact(kept.parse().expect("an id")).await.expect("it is there");
    assert_eq!(fetched, ("YWJjZGVmZ2hpag==".to_string(), "text/plain".to_string()));
    let job = session.invoke("echo", json!("still here")).await.expect("accepted");
    assert_eq!(job.join().await.expect("a result"), json!("still here"));
}

async fn opened(url: &str, auth: Value) -> Value {
    let wire = Wire::dial(url).await;
    wire.ask("session.open", opening(auth), &["session.accepted", "session.rejected"]).await
}

async fn handshake_none(url: String) {
    let answer = opened(&url, json!({"scheme": "none"})).await;
    assert_eq!((&answer["type"], &answer["payload"]["code"]), (&json!("session.rejected"), &json!("UNAUTHENTICATED")));
}

async fn handshake_jwt(url: String) {
    let claims = json!({"sub": "alice", "aud": "arcp", "exp": 4_000_000_000_u64});
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
    let answer = opened(&url, json!({"scheme": "signed_jwt", "token": token})).await;
    assert_eq!(answer["payload"]["code"], "UNAUTHENTICATED");
}

async fn handshake_challenge(url: String) {
    let wire = Wire::dial(&url).await;
    let challenge = wire.ask("session.open", opening(json!({"scheme": "bearer"})), &["session.challenge"]).await;
    assert!(challenge["payload"]["challenge"].is_string());
    let answers = ["session.unauthenticated", "session.accepted"];
    let wrong = wire.ask("session.authenticate", json!({"response": "wrong"}), &answers).await;
    assert_eq!(wrong["type"], "session.unauthenticated");
    let right = wire.ask("session.authenticate", json!({"response": "tok-alice"}), &answers).await;
    assert_eq!(right["type"], "session.accepted");
}

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["type"].as_str()).collect()
}

/// What keeps a job running until it is cancelled.
fn gate() -> Value {
    json!({"key": arcp::ids::MessageId::new().to_string()})
}

async fn metrics(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let frames = wire.run(json!({"tool": "chatty", "arguments": {"count": 500}})).await;
    let metrics = frames.iter().filter(|frame| frame["type"] == "metric");
    let values: Vec<f64> = metrics.filter_map(|frame| frame["payload"]["value"].as_f64()).collect();
    assert_eq!(values, (0..500).map(f64::from).collect::<Vec<_>>());
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame["event_seq"], n as u64 + 1);
    }
}

async fn kinds(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let frames = wire.run(json!({"tool": "chatty", "arguments": {"kind": "all"}})).await;
    let seen = types(&frames);
    for expected in ["job.accepted", "job.started", "log", "stream.open", "stream.chunk", "metric", "event.emit"] {
        assert!(seen.contains(&expected), "no {expected} in {seen:?}");
    }
    assert_eq!(seen.last(), Some(&"job.completed"));
}

async fn chunks(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let frames = wire.run(json!({"tool": "chunker", "arguments": {"chunks": 4, "bytes": 10}})).await;
    let pieces: Vec<&Value> =
        frames.iter().filter(|f| f["type"] == "job.result_chunk").map(|f| &f["payload"]).collect();
    assert_eq!(pieces.len(), 4);
    let whole: String = pieces.iter().filter_map(|piece| piece["data"].as_str()).collect();
    let end = &frames.last().expect("an end")["payload"];
    assert_eq!((&end["result_id"], &end["result_size"]), (&pieces[0]["result_id"], &json!(whole.len())));
}

async fn versions(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    for tool in ["echo", "echo@1.0.0", "echo@2.0.0"] {
        let frames = wire.run(json!({"tool": tool, "arguments": 1})).await;
        assert_eq!(types(&frames), ["job.accepted", "job.started", "job.completed"], "{tool}");
    }
    let frames = wire.run(json!({"tool": "echo@9.9.9", "arguments": {}})).await;
    assert_eq!((types(&frames), &frames[0]["payload"]["code"]), (vec!["nack"], &json!("AGENT_VERSION_NOT_AVAILABLE")));
}

async fn unknown_tool(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let frames = wire.run(json!({"tool": "nobody", "arguments": {}})).await;
    assert_eq!((types(&frames), &frames[0]["payload"]["code"]), (vec!["nack"], &json!("NOT_FOUND")));
}

async fn deadline(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    // Its payload has no word for a limit, but a cancel has a deadline.
    let job = wire.ask("tool.invoke", json!({"tool": "gate", "arguments": gate()}), &["job.accepted"]).await;
    let wish = json!({"target": "job", "target_id": job["job_id"], "deadline_ms": 300, "reason": "too long"});
    wire.send("cancel", wish).await;
    let end = wire.expect("job.cancelled").await;
    assert_eq!(end["payload"]["reason"], "too long");
}

async fn cancels(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let job = wire.ask("tool.invoke", json!({"tool": "gate", "arguments": gate()}), &["job.accepted"]).await;
    let wish = |id: &Value| json!({"target": "job", "target_id": id, "reason": "enough"});
    let answers = ["cancel.accepted", "cancel.refused"];
    let taken = wire.ask("cancel", wish(&job["job_id"]), &answers).await;
    assert_eq!(taken["type"], "cancel.accepted");
    wire.expect("job.cancelled").await;
    for id in [&job["job_id"], &json!("job_01M7VGPV8N8WP3MHZCPGS8E14N")] {
        assert_eq!(wire.ask("cancel", wish(id), &answers).await["type"], "cancel.refused");
    }
}

async fn listing(url: String) {
    let wire = Wire::open(&url, "tok-bob").await;
    for _ in 0..5 {
        wire.run(json!({"tool": "echo", "arguments": {}})).await;
    }
    let (mut seen, mut cursor) = (0, Value::Null);
    loop {
        let mut wish = json!({"limit": 2, "filter": {"agent": "echo"}});
        if cursor.is_string() {
            wish["cursor"] = cursor;
        }
        let page = wire.ask("session.list_jobs", wish, &["session.jobs"]).await;
        let jobs = page["payload"]["jobs"].as_array().expect("a list").clone();
        assert!(jobs.len() <= 2 && jobs.iter().all(|job| job["status"] == "completed"), "{jobs:?}");
        seen += jobs.len();
        cursor = page["payload"]["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert!(seen >= 5);
}

async fn watching(url: String) {
    let (owner, watcher) = (Wire::open(&url, "tok-alice").await, Wire::open(&url, "tok-alice").await);
    let job = owner.ask("tool.invoke", json!({"tool": "slow", "arguments": {}}), &["job.accepted"]).await;
    owner.expect("job.progress").await;
    let wish = json!({"job_id": job["job_id"], "history": true, "from_event_seq": 0});
    let subscribed = watcher.ask("job.subscribe", wish, &["job.subscribed", "nack"]).await;
    assert_eq!(subscribed["type"], "job.subscribed");
    let frames = watcher.until(&["job.completed"]).await;
    let progress = frames.iter().filter(|frame| frame["type"] == "job.progress").count();
    assert_eq!(progress, 10);
    let numbers: Vec<u64> = frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

async fn foreign(url: String) {
    let (alice, bob) = (Wire::open(&url, "tok-alice").await, Wire::open(&url, "tok-bob").await);
    let job = alice.run(json!({"tool": "echo", "arguments": {}})).await[0]["job_id"].clone();
    let nack = bob.ask("job.subscribe", json!({"job_id": job}), &["job.subscribed", "nack"]).await;
    assert_eq!(nack["payload"]["code"], "NOT_FOUND");
}

async fn subscriptions(url: String) {
    let (agent, observer) = (Wire::open(&url, "tok-carol").await, Wire::open(&url, "tok-carol").await);
    // Its reader decodes what is wrapped as strictly as what wraps it.
    let before = agent.run(json!({"tool": "chatty", "arguments": {"kind": "all"}})).await;
    let accepted = observer.ask("subscribe", json!({"filter": {}, "since": {}}), &["subscribe.accepted", "nack"]).await;
    let subscription = accepted["payload"]["subscription_id"].clone();
    assert!(subscription.is_string(), "{accepted}");
    let mut copies = Vec::new();
    while copies.last().is_none_or(|copy: &Value| copy["payload"]["name"] != "subscription.backfill_complete") {
        copies.push(observer.expect("subscribe.event").await["payload"]["event"].clone());
    }
    copies.pop();
    let shown: Vec<(&Value, &Value)> = copies.iter().map(|copy| (&copy["type"], &copy["job_id"])).collect();
    let sent: Vec<(&Value, &Value)> = before.iter().map(|frame| (&frame["type"], &frame["job_id"])).collect();
    assert_eq!(shown, sent, "the past");
    let echoed = agent.run(json!({"tool": "echo", "arguments": {}})).await.len();
    for _ in 0..echoed {
        observer.expect("subscribe.event").await;
    }
    observer.ask("unsubscribe", json!({"subscription_id": subscription}), &["subscribe.closed"]).await;
}

async fn replay(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let frames = wire.run(json!({"tool": "chatty", "arguments": {"count": 5}})).await;
    wire.send("resume", json!({"after_message_id": frames[2]["id"]})).await;
    let again = wire.until(&["ack"]).await;
    assert_eq!(again[..again.len() - 1], frames[3..], "the same frames");
    assert_eq!(again[again.len() - 1]["payload"]["note"], "resume complete: 5 events");
}

async fn budgets(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    for more in [json!({"cost_budget": ["USD:1.00"]}), json!({"lease_request": {"cost_budget": ["USD:1.00"]}})] {
        let mut payload = json!({"tool": "spender", "arguments": {"amounts": [2, 2], "fatal": true}});
        for (name, value) in more.as_object().expect("an object") {
            payload[name] = value.clone();
        }
        payload["lease_request"]["tool.call"] = json!(["demo.*"]);
        let frames = wire.run(payload).await;
        let failed = frames.last().expect("an end");
        assert_eq!(failed["type"], "job.failed", "{failed}");
        assert_eq!(failed["payload"]["code"], "BUDGET_EXHAUSTED", "{failed}");
    }
}

async fn pings(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let ping = json!({"nonce": "n", "sent_at": "2026-11-20T03:41:22Z"});
    assert_eq!(wire.ask("session.ping", ping, &["session.pong"]).await["payload"]["ping_nonce"], "n");
    assert_eq!(wire.ask("ping", json!({"nonce": "m"}), &["pong"]).await["payload"]["nonce"], "m");
    let frames = wire.run(json!({"tool": "chatty", "arguments": {"count": 5}})).await;
    let last = frames.last().expect("an end")["event_seq"].clone();
    wire.send("session.ack", json!({"last_processed_seq": last})).await;
    wire.ask("ping", json!({}), &["pong"]).await;
}

async fn idempotency(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let key = json!({"idempotency_key": format!("key-{}", arcp::ids::MessageId::new())});
    let mut jobs = Vec::new();
    for _ in 0..2 {
        wire.send_with("tool.invoke", json!({"tool": "echo", "arguments": 1}), key.clone()).await;
        let frames = wire.until(&["job.completed"]).await;
        assert_eq!(frames.last().expect("an end")["payload"]["value"], 1);
        jobs.push(frames[0]["job_id"].clone());
    }
    assert_eq!(jobs[0], jobs[1]);
}

async fn duplicates(url: String) {
    let wire = Wire::open(&url, "tok-alice").await;
    let id = json!({"id": arcp::ids::MessageId::new().to_string()});
    let mut jobs = Vec::new();
    for _ in 0..2 {
        wire.send_with("tool.invoke", json!({"tool": "echo", "arguments": 2}), id.clone()).await;
        jobs.push(wire.until(&["job.completed"]).await[0]["job_id"].clone());
    }
    assert_eq!(jobs[0], jobs[1]);
}

/// Frames for which it drops the connection are answered, and decodably.
async fn malformed(url: String) {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a connection");
    let frame = |id: &str, kind: &str, payload: Value| {
        let stamp = "2026-11-20T03:41:22.687964781Z";
        json!({"arcp": "1.1", "id": id, "timestamp": stamp, "type": kind, "payload": payload}).to_string()
    };
    // It is recognised by an id of its own.
    let own = arcp::ids::MessageId::new().to_string();
    let opened = frame(&own, "session.open", opening(json!({"scheme": "bearer", "token": "tok-alice"})));
    let mut ask = async |text: String| -> Value {
        socket.send(Message::text(text)).await.expect("sent");
        loop {
            if let Message::Text(text) = socket.next().await.expect("open").expect("a message") {
                let envelope: arcp::Envelope = serde_json::from_str(&text).expect("its decoder reads it");
                return serde_json::to_value(envelope).expect("JSON");
            }
        }
    };
    assert_eq!(ask(opened).await["type"], "session.accepted");
    for text in [
        "{bad".to_string(),
        "[]".to_string(),
        json!({"id": "msg_2", "type": "tool.invoke"}).to_string(),
        frame("msg_3", "tool.invoke", json!({"arguments": {}})),
        frame("msg_4", "workflow.start", json!({})),
        frame("msg_5", "human.input.response", json!({})),
        frame("msg_6", "arcpx.unknown.v1", json!({})),
        frame("msg_7", "nonsense", json!({})),
        frame("01M7VGPV8MCXHKKC23CBMPTMDT", "session.hello", json!({})),
    ] {
        assert_eq!(ask(text.clone()).await["type"], "nack", "{text}");
    }
    // A payload may be left away, even of a ping.
    assert_eq!(ask(json!({"id": "msg_8", "type": "ping"}).to_string()).await["type"], "pong");
}
