//! Admission: the shares of connections without a credential, which of them is closed at a bound, and which
//! credentials prove a principal.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test performs what it needs")]

use std::time::Duration;

use arcp_proto::entropy::Seeds;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::ConnId;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{CloseReason, Config, Input, Output, Runtime, Transport, Verdict, may_judge};
use arcp_proto::secret::Secret;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Opens a session without a credential from an address; gives the answer.
fn nobody(world: &mut World, address: &str) -> (Raw, Value) {
    let mut raw = Raw::connect_from(world, address);
    let payload = json!({"client": {"name": "n", "version": "1"}, "auth": {"scheme": "none"}});
    raw.send(world, "session.hello", payload);
    let answer = raw.expect_any(world, &["session.welcome", "session.error"]);
    (raw, answer)
}

fn is_in(answer: &Value) -> bool {
    answer["type"] == "session.welcome"
}

#[test]
fn a_principal_at_its_bound_loses_its_oldest_session_that_has_nothing_left() {
    let mut world = World::configured(1, |config| config.limits.session.sessions_per_principal = 2);
    let (one, first) = Raw::hello(&mut world, "tok-a");
    let (two, second) = Raw::hello(&mut world, "tok-a");
    world.cut(one.conn);
    world.cut(two.conn);
    let (three, _) = Raw::hello(&mut world, "tok-a");
    let mut late = Raw::resume(&mut world, "tok-a", &first, 0);
    assert_eq!(code(&late.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED", "the oldest one went");
    let mut back = Raw::resume(&mut world, "tok-a", &second, 0);
    back.expect(&mut world, "session.welcome");
    // Both have a connection now: neither goes.
    let mut full = Raw::connect(&mut world);
    full.send(&mut world, "session.hello", hello_payload("tok-a"));
    assert_eq!(code(&full.expect(&mut world, "session.error")), "INTERNAL_ERROR");
    assert!(!three.is_closed(&world) && !back.is_closed(&world));
    // Whoever is told goodbye in order needs it no more.
    back.submit(&mut world, json!({"agent": "echo"}));
    back.until_end(&mut world);
    back.send(&mut world, "session.close", json!({}));
    back.expect(&mut world, "session.closed");
    Raw::hello(&mut world, "tok-a");
    world.finish();
}

#[test]
fn a_session_that_still_has_something_to_give_stays_at_the_bound() {
    let mut world = World::configured(2, |config| config.limits.session.sessions_per_principal = 1);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "echo"}));
    raw.until_end(&mut world);
    world.cut(raw.conn);
    let mut full = Raw::connect(&mut world);
    full.send(&mut world, "session.hello", hello_payload("tok-a"));
    full.expect(&mut world, "session.error");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    let end = back.until_end(&mut world);
    let last = end.last().and_then(|frame| frame["event_seq"].as_u64()).expect("a number");
    // Once it is acknowledged, nothing is left of it.
    back.send(&mut world, "session.ack", json!({"last_processed_seq": last}));
    world.settle();
    world.cut(back.conn);
    Raw::hello(&mut world, "tok-a");
    world.finish();
}

#[test]
fn a_session_that_was_left_in_order_goes_when_its_place_is_needed_and_after_a_restart_too() {
    for restarts in [false, true] {
        let mut world = World::configured(5, |config| config.limits.session.sessions_per_principal = 2);
        let (mut left, left_as) = Raw::hello(&mut world, "tok-a");
        let accepted = left.submit(&mut world, json!({"agent": "waiter"}));
        left.send(&mut world, "session.close", json!({}));
        left.expect(&mut world, "session.closed");
        world.settle();
        world.cut(left.conn);
        let (unused, _) = Raw::hello(&mut world, "tok-a");
        world.cut(unused.conn);
        if restarts {
            world.settle();
            world.crash_with(0, true);
        }
        // What has nothing goes first, however long the other one was left.
        Raw::hello(&mut world, "tok-a");
        let mut back = Raw::resume(&mut world, "tok-a", &left_as, 0);
        let welcome = back.expect(&mut world, "session.welcome");
        // Whoever came back and lost its connection since has not left it.
        world.cut(back.conn);
        if restarts {
            world.settle();
            world.crash_with(0, true);
            Raw::hello(&mut world, "tok-a");
        }
        let mut full = Raw::connect(&mut world);
        full.send(&mut world, "session.hello", hello_payload("tok-a"));
        assert_eq!(code(&full.expect(&mut world, "session.error")), "INTERNAL_ERROR");
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
        back.expect(&mut world, "session.welcome");
        back.send(&mut world, "session.bye", json!({}));
        world.settle();
        let (mut now, _) = Raw::hello(&mut world, "tok-a");
        now.send(&mut world, "session.list_jobs", json!({}));
        let listed = now.expect(&mut world, "session.jobs");
        assert_eq!(listed["payload"]["jobs"][0]["job_id"], accepted["job_id"], "its job stays");
        world.finish();
    }
}

#[test]
fn unused_sessions_without_a_credential_keep_nobody_out() {
    let mut world = World::configured(3, |config| {
        config.anonymous = true;
        config.limits.session.anonymous_sessions_per_network = 3;
        config.limits.session.anonymous_sessions = 5;
    });
    for n in 0..20 {
        let (raw, answer) = nobody(&mut world, &format!("2001:db8::{n:x}"));
        assert!(is_in(&answer), "{n}: {answer}");
        world.cut(raw.conn);
    }
    assert_eq!(world.runtime().stats().sessions, 3);
    for n in 0..20 {
        let (raw, answer) = nobody(&mut world, &format!("203.0.113.{n}"));
        assert!(is_in(&answer), "{n}: {answer}");
        world.cut(raw.conn);
    }
    assert_eq!(world.runtime().stats().sessions, 5);
    world.finish();
}

#[test]
fn peers_without_a_credential_share_the_bounds_of_their_network() {
    let mut world = World::configured(4, |config| {
        config.anonymous = true;
        config.limits.session.anonymous_sessions_per_network = 2;
    });
    let here: Vec<_> = (1..4).map(|n| nobody(&mut world, &format!("2001:db8::{n}"))).collect();
    assert_eq!(here.iter().map(|(_, answer)| is_in(answer)).collect::<Vec<_>>(), [true, true, false]);
    assert!(is_in(&nobody(&mut world, "2001:db8:0:1::1").1), "another network has its own");
    assert!(is_in(&nobody(&mut world, "203.0.113.1").1));
    world.finish();
}

#[test]
fn keys_of_peers_without_a_credential_count_for_their_network_and_leave_a_reserve() {
    let mut world = World::configured(10, |config| {
        config.anonymous = true;
        config.limits.job.keys_per_principal = 2;
        config.limits.job.keys = 4;
    });
    let mut claim = |from: &str, key: &str| {
        let (mut raw, _) = nobody(&mut world, from);
        raw.send(&mut world, "job.submit", json!({"agent": "echo", "idempotency_key": key}));
        raw.expect_any(&mut world, &["job.accepted", "session.error"])["type"] == "job.accepted"
    };
    let here = ["a", "b", "c"].map(|key| claim("203.0.113.1", key));
    assert_eq!(here, [true, true, false], "of one network");
    assert_eq!(["a", "b"].map(|key| claim("203.0.113.2", key)), [true, false], "one of four is kept");
    let (mut known, _) = Raw::hello(&mut world, "tok-a");
    known.submit(&mut world, json!({"agent": "echo", "idempotency_key": "k"}));
    world.finish();
}

/// Opens a session of the open family without a credential from an address.
fn nobody_open(world: &mut World, address: &str) -> Raw {
    let mut raw = Raw::connect_from(world, address);
    let mut payload = open_payload("");
    payload["auth"] = json!({"scheme": "none"});
    payload["capabilities"]["anonymous"] = json!(true);
    raw.send(world, "session.open", payload);
    raw.expect(world, "session.accepted");
    raw
}

#[test]
fn subscriptions_of_peers_without_a_credential_count_for_their_network() {
    let mut world = World::configured(20, |config| {
        config.anonymous = true;
        config.limits.session.subscriptions_per_principal = 2;
    });
    let mut subscribe = |from: &str| {
        let mut raw = nobody_open(&mut world, from);
        raw.send(&mut world, "subscribe", json!({"filter": {}}));
        let answer = raw.expect_any(&mut world, &["subscribe.accepted", "nack"]);
        (raw, answer["payload"]["subscription_id"].clone())
    };
    let mut here = [(); 3].map(|()| subscribe("203.0.113.1"));
    assert_eq!(here.each_ref().map(|(_, id)| id.is_string()), [true, true, false]);
    assert!(subscribe("203.0.113.2").1.is_string(), "another network has its own");
    let (early, id) = &mut here[0];
    early.send(&mut world, "unsubscribe", json!({"subscription_id": id}));
    early.expect(&mut world, "subscribe.closed");
    let (late, _) = &mut here[2];
    late.send(&mut world, "subscribe", json!({"filter": {}}));
    late.expect(&mut world, "subscribe.accepted");
    world.finish();
}

#[test]
fn message_ids_of_peers_without_a_credential_are_remembered_for_their_network_and_never_meet() {
    let mut world = World::configured(21, |config| {
        config.anonymous = true;
        config.limits.session.seen_ids_per_session = 2;
    });
    let invoke = |world: &mut World, raw: &mut Raw, id: &str| {
        let frame =
            json!({"arcp": "1.1", "id": id, "type": "tool.invoke", "payload": {"tool": "echo", "arguments": 1}});
        raw.send_text(world, &frame.to_string());
        raw.expect(world, "job.accepted")["job_id"].clone()
    };
    let mut peers = ["203.0.113.1", "203.0.113.1", "203.0.113.2"].map(|from| nobody_open(&mut world, from));
    let [one, other, elsewhere] = &mut peers;
    let first = invoke(&mut world, one, "same");
    assert_eq!(invoke(&mut world, one, "same"), first, "executed once");
    let others = invoke(&mut world, other, "same");
    assert_ne!(others, first, "it is another one's message");
    assert_eq!(invoke(&mut world, one, "same"), first);
    assert_eq!(invoke(&mut world, other, "same"), others);
    for id in ["a", "b", "c"] {
        invoke(&mut world, elsewhere, id);
    }
    assert_eq!(invoke(&mut world, one, "same"), first, "another network forgets its own");
    invoke(&mut world, other, "new");
    assert_ne!(invoke(&mut world, one, "same"), first, "the oldest of the network is forgotten");
    world.finish();
}

#[test]
fn a_reserve_is_kept_for_principals_with_a_credential() {
    let mut world = World::configured(5, |config| {
        config.anonymous = true;
        config.limits.session.sessions = 4;
        config.limits.session.reserve = 50;
    });
    let sessions: Vec<_> = (1..4).map(|n| nobody(&mut world, &format!("203.0.113.{n}"))).collect();
    assert_eq!(sessions.iter().map(|(_, answer)| is_in(answer)).collect::<Vec<_>>(), [true, true, false]);
    Raw::hello(&mut world, "tok-a");
    Raw::hello(&mut world, "tok-a");
    let mut full = Raw::connect(&mut world);
    full.send(&mut world, "session.hello", hello_payload("tok-a"));
    full.expect(&mut world, "session.error");
    // Whoever has a credential takes the place of one who has none and is gone.
    world.cut(sessions[0].0.conn);
    Raw::hello(&mut world, "tok-a");
    world.finish();
}

#[test]
fn an_open_client_resumes_at_the_bound() {
    let mut world = World::configured(6, |config| config.limits.session.sessions_per_principal = 1);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-a");
    let job = raw.invoke(&mut world, json!({"tool": "echo", "arguments": {"n": 7}}))["job_id"].clone();
    raw.until_end(&mut world);
    world.cut(raw.conn);
    // Nothing else can be done with such a session.
    let (mut other, _) = Raw::open(&mut world, "tok-a");
    other.send(&mut world, "tool.invoke", json!({"tool": "echo"}));
    let refused = other.expect(&mut world, "nack");
    assert_eq!(code(&refused), "RESOURCE_EXHAUSTED");
    assert!(other.is_closed(&world));
    // It goes with its connection, or when it was not used in time.
    let (lost, _) = Raw::open(&mut world, "tok-a");
    world.cut(lost.conn);
    let (idle, _) = Raw::open(&mut world, "tok-a");
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.close_reason(idle.conn), Some(CloseReason::HandshakeTimeout));
    assert_eq!(world.runtime().stats().sessions, 1);
    let mut back = Raw::reclaim(&mut world, "tok-a", &accepted, 0);
    back.expect(&mut world, "session.resumed");
    let end = back.until_end(&mut world).pop().expect("an end");
    assert_eq!((&end["job_id"], &end["payload"]["value"]), (&job, &json!({"n": 7})));
    world.run_for(Duration::from_secs(11));
    assert!(!back.is_closed(&world));
    // Whoever has nothing to resume is told at once.
    let mut new = Raw::connect(&mut world);
    new.send(&mut world, "session.open", open_payload("tok-a"));
    new.expect(&mut world, "session.rejected");
    world.finish();
}

#[test]
fn nobody_is_named_as_a_session_without_a_credential_is() {
    let mut world = World::configured(7, |config| config.anonymous = true);
    let (mut raw, welcome) = nobody(&mut world, "203.0.113.1");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["payload"]["job_id"].clone();
    world.settle();
    let ulid = welcome["payload"]["session_id"].as_str().expect("an id").trim_start_matches("sess_").to_string();
    let mut forged = Raw::connect(&mut world);
    forged.send(&mut world, "session.hello", hello_payload(&format!("tok-anonymous-{ulid}")));
    assert_eq!(code(&forged.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn a_connection_resumes_no_session_that_it_has() {
    let mut world = World::seeded(8);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let token = welcome["payload"]["resume_token"].clone();
    raw.send(&mut world, "session.resume", json!({"resume_token": token, "last_event_seq": 0}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST");
    raw.submit(&mut world, json!({"agent": "echo"}));
    raw.until_end(&mut world);
    // Its token is what it was.
    Raw::resume(&mut world, "tok-a", &welcome, 0).expect(&mut world, "session.welcome");
    world.finish();
}

#[test]
fn a_resumed_session_has_the_heartbeat_it_agreed_to() {
    let mut world = World::seeded(9);
    let mut raw = Raw::connect(&mut world);
    let mut quiet = hello_payload("tok-a");
    quiet["capabilities"]["features"] = json!(["ack"]);
    raw.send(&mut world, "session.hello", quiet);
    let welcome = raw.expect(&mut world, "session.welcome");
    world.cut(raw.conn);
    let (mut back, _) = Raw::hello(&mut world, "tok-a");
    let claim = json!({"resume_token": welcome["payload"]["resume_token"], "last_event_seq": 0});
    back.send(&mut world, "session.resume", claim);
    let welcome = back.expect(&mut world, "session.welcome");
    assert!(welcome["payload"].get("heartbeat_interval_sec").is_none());
    world.run_for(Duration::from_secs(120));
    assert!(!back.is_closed(&world), "nobody told its client to speak");
    world.finish();
}

/// A runtime without a world around it: its driver does as the test says.
struct Bare {
    runtime: Runtime,
    now: Now,
    sent: Vec<(ConnId, String)>,
    closed: Vec<(ConnId, CloseReason)>,
    asked: Vec<(String, Option<String>)>,
}

impl Bare {
    fn new(change: impl FnOnce(&mut Config)) -> Bare {
        let mut config = Config::new("bare", "1").with_agent("echo", &[]);
        change(&mut config);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it can work");
        Bare { runtime, now, sent: Vec::new(), closed: Vec::new(), asked: Vec::new() }
    }

    fn input(&mut self, input: Input) {
        self.runtime.handle(self.now, input);
        while let Some(output) = self.runtime.poll_output() {
            match output {
                Output::Send { conn, frame } => self.sent.push((conn, frame)),
                Output::Close { conn, reason } => self.closed.push((conn, reason)),
                Output::Authenticate { op, challenge, credential, .. } => {
                    self.asked.push((format!("{credential:?}"), challenge));
                    let verdict = arcp_proto::id::Principal::new("a").map(Verdict::from);
                    self.runtime.handle(self.now, Input::Authenticated { op, verdict });
                }
                Output::Persist(batch) => self.runtime.handle(self.now, Input::Persisted { up_to: batch.last() }),
                _ => {}
            }
        }
    }

    fn open(&mut self, n: u64, kind: &str, payload: Value) -> ConnId {
        let conn = ConnId(n);
        self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
        self.input(Input::Credit { conn, bytes: 1 << 20, frames: 100 });
        self.say(conn, kind, payload);
        conn
    }

    fn say(&mut self, conn: ConnId, kind: &str, payload: Value) {
        let frame = json!({"id": format!("m{}", self.sent.len()), "type": kind, "payload": payload});
        self.input(Input::Received { conn, frame: frame.to_string().into_bytes() });
    }
}

#[test]
fn silence_is_judged_after_what_had_arrived() {
    let mut bare = Bare::new(|config| config.timing.heartbeat = Some(Duration::from_secs(30)));
    let peers = [1, 2, 3].map(|n| bare.open(n, "session.hello", hello_payload("t")));
    // Nobody ran the driver for long; two frames wait in its buffers.
    bare.now.mono = bare.now.mono + Duration::from_secs(700);
    for conn in &peers[..2] {
        bare.say(*conn, "session.ping", json!({}));
        assert_eq!(bare.closed, []);
        assert!(bare.runtime.next_deadline().is_some_and(|deadline| deadline.at > bare.now.mono));
    }
    let tick = |bare: &mut Bare| {
        bare.now.mono = bare.runtime.next_deadline().expect("it has to judge").at;
        bare.input(Input::Tick);
    };
    tick(&mut bare);
    assert_eq!(bare.closed, [], "whom nobody has asked is asked first");
    while bare.closed.is_empty() {
        tick(&mut bare);
    }
    assert_eq!(bare.closed, [(peers[2], CloseReason::HeartbeatLost)]);
}

#[test]
fn a_client_chooses_no_nonce() {
    let mut bare = Bare::new(|config| config.timing.session_lease = Some(Duration::from_secs(60)));
    let auth = |token: &str| json!({"auth": {"scheme": "bearer", "token": token}});
    let known = bare.open(1, "session.open", auth("t"));
    bare.say(known, "session.authenticate", json!({"response": "t", "nonce": "of its own"}));
    assert_eq!(bare.asked.iter().map(|(_, nonce)| nonce.clone()).collect::<Vec<_>>(), [None, None]);
    // Whoever was challenged is held to that nonce, and to its scheme.
    bare.asked.clear();
    let challenged = bare.open(2, "session.open", json!({"auth": {"scheme": "signed", "token": ""}}));
    let challenge: Value = serde_json::from_str(&bare.sent.last().expect("a challenge").1).expect("JSON");
    let nonce = challenge["payload"]["nonce"].as_str().expect("a nonce").to_string();
    bare.say(challenged, "session.authenticate", json!({"response": "t"}));
    bare.say(challenged, "session.authenticate", json!({"response": "t", "nonce": "another"}));
    assert!(bare.sent.last().is_some_and(|(_, frame)| frame.contains("UNAUTHENTICATED")));
    bare.say(challenged, "session.authenticate", json!({"response": "t", "nonce": nonce}));
    assert_eq!(bare.asked.len(), 2);
    for (credential, asked) in &bare.asked {
        assert_eq!(asked.as_ref(), Some(&nonce));
        assert!(credential.contains("signed"), "{credential}");
    }
}

#[test]
fn a_session_that_is_there_to_resume_another_one_is_not_resumed() {
    let mut world = World::configured(16, |config| config.limits.session.sessions_per_principal = 1);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "echo", "arguments": {}}));
    raw.until_end(&mut world);
    world.cut(raw.conn);
    let (other, between) = Raw::open(&mut world, "tok-a");
    let mut thief = Raw::reclaim(&mut world, "tok-a", &between, 0);
    let refused = thief.expect_any(&mut world, &["session.rejected", "nack", "session.error"]);
    assert_eq!(code(&refused), "DATA_LOSS", "{refused}");
    assert!(thief.is_closed(&world) && !other.is_closed(&world));
    Raw::reclaim(&mut world, "tok-a", &accepted, 0).expect(&mut world, "session.resumed");
    world.finish();
}

#[test]
fn a_credential_counts_until_it_is_judged_also_of_a_peer_that_has_left() {
    let mut bare = Bare::new(|config| {
        config.limits.connection.handshaking_connections = 4;
        config.limits.connection.handshaking_connections_per_network = 3;
    });
    let asked = |bare: &mut Bare, from: std::ops::Range<u64>, address: Option<&str>| {
        from.map(|n| judged_after_leaving(bare, ConnId(n), address)).sum::<usize>()
    };
    assert_eq!(asked(&mut bare, 1..20, Some("203.0.113.7")), 3, "one network leaves room for others");
    assert_eq!(asked(&mut bare, 20..40, None), 1, "whoever judges them has no more to do at once");
}

/// How many credentials are to be judged of a peer that sends one and leaves.
fn judged_after_leaving(bare: &mut Bare, conn: ConnId, address: Option<&str>) -> usize {
    let address = address.map(|address| address.parse().expect("an address"));
    let hello = json!({"id": "1", "type": "session.hello", "payload": hello_payload("t")});
    let open = Input::Opened { conn, transport: Transport::WebSocket, address, binding: None, peer: None };
    let said = Input::Received { conn, frame: hello.to_string().into_bytes() };
    for input in [open, Input::Credit { conn, bytes: 1 << 20, frames: 100 }, said, Input::Closed { conn }] {
        bare.runtime.handle(bare.now, input);
    }
    let outputs = std::iter::from_fn(|| bare.runtime.poll_output());
    outputs.filter(|output| matches!(output, Output::Authenticate { .. })).count()
}

/// Opens a session with a token from an address; gives the answer.
fn come(world: &mut World, address: &str, token: &str) -> Value {
    let mut raw = Raw::connect_from(world, address);
    raw.send(world, "session.hello", hello_payload(token));
    raw.expect_any(world, &["session.welcome", "session.error"])
}

/// For how long somebody is told to wait, if that is why it was refused.
fn told_to_wait(answer: &Value) -> Option<Duration> {
    let details = &answer["payload"]["details"];
    (details["bound"] == "wrong_credentials").then(|| {
        assert!(answer["payload"]["message"].as_str().is_some_and(|text| text.contains("try again in")), "{answer}");
        Duration::from_millis(details["retry_after_ms"].as_u64().expect("milliseconds"))
    })
}

#[test]
fn who_sends_too_many_wrong_credentials_waits_and_keeps_nobody_else_out() {
    let mut world = World::configured(31, |config| config.limits.connection.wrong_credentials = 3);
    let (here, there) = ("203.0.113.7", "203.0.113.8");
    assert!(is_in(&come(&mut world, here, "tok-alice")));
    for _ in 0..3 {
        let refused = come(&mut world, here, "guess");
        assert_eq!((code(&refused), told_to_wait(&refused)), ("UNAUTHENTICATED", None), "{refused}");
    }
    // Not even a right one is judged, but for one that was right before.
    let refused = come(&mut world, here, "tok-bob");
    let wait = told_to_wait(&refused).unwrap_or_else(|| panic!("{refused}"));
    assert!(wait <= Duration::from_secs(20), "a third of a minute, and not {wait:?}");
    assert!(is_in(&come(&mut world, here, "tok-alice")) && is_in(&come(&mut world, there, "tok-bob")));
    world.run_for(wait);
    assert!(told_to_wait(&come(&mut world, here, "guess")).is_none(), "one more may be sent");
    assert!(told_to_wait(&come(&mut world, here, "guess")).is_some());
    world.run_for(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(code(&come(&mut world, here, "guess")), "UNAUTHENTICATED");
    }
    // Right ones cost nothing.
    let mut world = World::configured(32, |config| config.limits.connection.wrong_credentials = 1);
    for token in ["tok-a", "tok-b", "tok-c", "tok-a"] {
        assert!(is_in(&come(&mut world, here, token)));
    }
    assert_eq!(code(&come(&mut world, here, "guess")), "UNAUTHENTICATED");
    world.finish();
}

#[test]
fn of_who_sent_wrong_credentials_a_bounded_number_is_remembered() {
    let mut world = World::configured(33, |config| {
        config.limits.connection.wrong_credentials = 1;
        config.limits.connection.wrong_credential_sources = 2;
    });
    for n in 1..=3 {
        assert!(told_to_wait(&come(&mut world, &format!("203.0.113.{n}"), "guess")).is_none());
        world.run_for(Duration::from_secs(1));
    }
    let waits = [3, 2, 1].map(|n| told_to_wait(&come(&mut world, &format!("203.0.113.{n}"), "tok-b")).is_some());
    assert_eq!(waits, [true, true, false], "the first of them is forgotten");
    // Of those that were right as well.
    for token in ["tok-c", "tok-d"] {
        assert!(is_in(&come(&mut world, "203.0.113.9", token)));
    }
    assert!(told_to_wait(&come(&mut world, "203.0.113.9", "guess")).is_none());
    let waits =
        ["tok-b", "tok-c", "tok-d"].map(|token| told_to_wait(&come(&mut world, "203.0.113.9", token)).is_some());
    assert_eq!(waits, [true, false, false]);
    world.finish();
}

#[test]
fn wrong_proofs_in_sessions_of_a_principal_count_wherever_they_come_from() {
    let mut world = World::configured(34, |config| config.limits.connection.wrong_credentials = 2);
    let open = |world: &mut World, address: &str| {
        let mut raw = Raw::connect_from(world, address);
        raw.send(world, "session.open", open_payload("tok-alice"));
        raw.expect(world, "session.accepted");
        raw
    };
    for n in 1..=2 {
        let mut raw = open(&mut world, &format!("203.0.113.{n}"));
        raw.send(&mut world, "session.authenticate", json!({"response": "guess"}));
        raw.expect(&mut world, "session.unauthenticated");
    }
    let mut raw = open(&mut world, "203.0.113.3");
    raw.send(&mut world, "session.authenticate", json!({"response": "guess"}));
    let refused = raw.expect(&mut world, "nack");
    assert_eq!(code(&refused), "RESOURCE_EXHAUSTED", "{refused}");
    assert!(!raw.is_closed(&world));
    raw.send(&mut world, "session.authenticate", json!({"response": "tok-alice"}));
    raw.expect(&mut world, "ack");
    world.finish();
}

#[test]
fn wrong_credentials_that_the_host_was_given_count_as_those_of_connections_do() {
    let mut world = World::configured(35, |config| config.limits.connection.wrong_credentials = 2);
    let (here, there) = ("203.0.113.7", "203.0.113.8");
    let token = |text: &str| Credential::Bearer(Secret::new(text.into()));
    let may = |world: &World, address: &str, text: &str| {
        let address = address.parse().expect("an address");
        may_judge(world.runtime(), world.now(), address, &token(text)).map_err(|why| why.code)
    };
    let judged = |world: &mut World, text: &str, counts: bool| {
        let (address, credential) = (here.parse().expect("an address"), token(text).digest());
        world.input(Input::JudgedElsewhere { address, credential, counts });
    };
    judged(&mut world, "tok-alice", true);
    for guess in ["1", "2"] {
        assert_eq!(may(&world, here, guess), Ok(()));
        judged(&mut world, guess, false);
    }
    assert_eq!(may(&world, here, "3"), Err(ErrorCode::ResourceExhausted));
    assert!(told_to_wait(&come(&mut world, here, "tok-bob")).is_some(), "nor over a connection");
    assert_eq!((may(&world, here, "tok-alice"), may(&world, there, "3")), (Ok(()), Ok(())));
    // What counts no more is as wrong as any other.
    judged(&mut world, "tok-alice", false);
    assert_eq!(may(&world, here, "tok-alice"), Err(ErrorCode::ResourceExhausted));
    world.run_for(Duration::from_secs(120));
    assert_eq!(may(&world, here, "3"), Ok(()));
    world.finish();
}
