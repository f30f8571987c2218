//! One edge in front of two runtimes, in virtual time: the edge reads peers until their principals are known, then the
//! runtime of the principal does.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the outputs that it is about")]

use std::collections::BTreeMap;
use std::time::Duration;

use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, OpId, Principal};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{
    CloseReason, Config, Edge, EdgeOutput, HandOver, Input, Notice, Output, Runtime, Timer, Transport, Verdict,
};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_tests::raw::{code, hello_payload, open_payload};
use serde_json::{Value, json};

const WELCOMES: [&str; 2] = ["session.welcome", "session.accepted"];

/// A process with two runtimes: principals up to `m` are of the first.
struct Process {
    now: Now,
    edge: Edge,
    runtimes: [Runtime; 2],
    /// Which runtime has which connection.
    runtime_of: BTreeMap<ConnId, usize>,
    /// Where the sessions of peers without a principal are, by token.
    anonymous: BTreeMap<String, usize>,
    sent: BTreeMap<ConnId, Vec<Value>>,
    closed: BTreeMap<ConnId, CloseReason>,
    handed: Vec<HandOver>,
    /// How long what the next credentials prove counts.
    verdicts_last: Option<Duration>,
    /// How long a connection is on its way from the edge to its runtime.
    way: Duration,
}

impl Process {
    fn new(configure: impl FnOnce(&mut Config)) -> Process {
        let mut config = Config::new("process", "1");
        config.anonymous = true;
        configure(&mut config);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let seeds = |n| Seeds { public: [n; 32], secret: [n + 1; 32] };
        let runtime = |n| Runtime::new(config.clone(), seeds(n), now).expect("the configuration works");
        Process {
            now,
            edge: Edge::new(config.clone(), seeds(1), now).expect("the configuration works"),
            runtimes: [runtime(3), runtime(5)],
            runtime_of: BTreeMap::new(),
            anonymous: BTreeMap::new(),
            sent: BTreeMap::new(),
            closed: BTreeMap::new(),
            handed: Vec::new(),
            verdicts_last: None,
            way: Duration::ZERO,
        }
    }

    fn open(&mut self, n: u64) -> ConnId {
        self.open_with(n, 1 << 20, 100)
    }

    fn open_with(&mut self, n: u64, bytes: u32, frames: u32) -> ConnId {
        let conn = ConnId(n);
        self.input(
            conn,
            Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None },
        );
        self.input(conn, Input::Credit { conn, bytes, frames });
        conn
    }

    fn send(&mut self, conn: ConnId, id: &str, kind: &str, payload: Value) {
        let frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload}).to_string().into_bytes();
        self.input(conn, Input::Received { conn, frame });
    }

    /// Hands an input to whoever has the connection, and does what follows.
    fn input(&mut self, conn: ConnId, input: Input) {
        match self.runtime_of.get(&conn) {
            Some(runtime) => self.runtimes[*runtime].handle(self.now, input),
            None => self.edge.handle(self.now, input),
        }
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.utc = self.now.utc.plus(time);
    }

    fn tick(&mut self) {
        self.edge.handle(self.now, Input::Tick);
        for runtime in &mut self.runtimes {
            runtime.handle(self.now, Input::Tick);
        }
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            if let Some(output) = self.edge.poll_output() {
                match output {
                    EdgeOutput::Perform(output) => self.perform(None, output),
                    EdgeOutput::HandOver(handed) => self.hand_over(*handed),
                }
            } else if let Some((at, output)) =
                (0..2).find_map(|at| self.runtimes[at].poll_output().map(|output| (at, output)))
            {
                self.perform(Some(at), output);
            } else {
                return;
            }
        }
    }

    /// Routes a peer by its principal, and who has none by its token.
    fn hand_over(&mut self, handed: HandOver) {
        let at = match (handed.principal(), handed.resumes()) {
            (Some(principal), _) => usize::from(principal.to_string().as_str() > "m"),
            (None, Some(claim)) => self.anonymous[claim.token.expose()],
            (None, None) => self.anonymous.len() % 2,
        };
        self.handed.push(handed.clone());
        self.runtime_of.insert(handed.conn, at);
        let way = self.way;
        self.pass(way);
        self.runtimes[at].handle(self.now, Input::HandedOver(Box::new(handed)));
    }

    fn perform(&mut self, of: Option<usize>, output: Output) {
        match output {
            Output::Send { conn, frame } => {
                assert_eq!(self.runtime_of.get(&conn).copied(), of, "{conn:?} is written to by who has it");
                let frame: Value = serde_json::from_str(&frame).expect("JSON");
                if let (Some(at), Some(token)) = (of, frame["payload"]["resume_token"].as_str()) {
                    self.anonymous.insert(token.to_string(), at);
                }
                self.sent.entry(conn).or_default().push(frame);
            }
            Output::Close { conn, reason } => {
                assert!(self.closed.insert(conn, reason).is_none(), "{conn:?} is closed once");
            }
            Output::Authenticate { op, credential, .. } => self.judge(of, op, &credential),
            Output::Persist(batch) => {
                let at = of.expect("an edge keeps nothing");
                self.runtimes[at].handle(self.now, Input::Persisted { up_to: batch.last() });
            }
            _ => {}
        }
    }

    /// Here a token is its principal's name with `tok-` before it.
    fn judge(&mut self, of: Option<usize>, op: OpId, credential: &Credential) {
        let Credential::Bearer(token) = credential else { panic!("{credential:?}") };
        let principal = token.expose().strip_prefix("tok-").and_then(Principal::new);
        let expires_at = self.verdicts_last.map(|last| self.now.utc.plus(last));
        let verdict = principal.map(|principal| Verdict { expires_at, ..Verdict::from(principal) });
        let input = Input::Authenticated { op, verdict };
        match of {
            Some(at) => self.runtimes[at].handle(self.now, input),
            None => self.edge.handle(self.now, input),
        }
    }

    /// Takes the one frame that a connection was sent since the last look.
    fn only(&mut self, conn: ConnId) -> Value {
        let mut sent = self.sent.remove(&conn).unwrap_or_default();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    fn sessions(&self) -> [usize; 2] {
        [self.runtimes[0].stats().sessions, self.runtimes[1].stats().sessions]
    }
}

#[test]
fn one_edge_stands_in_front_of_two_runtimes_that_are_chosen_by_principal() {
    let mut process = Process::new(|_| {});
    let (alice, zoe) = (process.open(1), process.open(2));
    assert_eq!(process.edge.connections(), 2);
    process.send(alice, "a1", "session.hello", hello_payload("tok-alice"));
    assert_eq!(process.only(alice)["type"], "session.welcome");
    // The other family, and a challenge: the edge asks, the runtime answers.
    process.send(zoe, "z1", "session.open", open_payload(""));
    let challenge = process.only(zoe);
    assert_eq!((process.edge.connections(), process.sessions()), (1, [1, 0]));
    process.send(zoe, "z2", "session.authenticate", json!({"response": "wrong"}));
    assert_eq!(code(&process.only(zoe)), "UNAUTHENTICATED");
    let nonce = &challenge["payload"]["nonce"];
    process.send(zoe, "z3", "session.authenticate", json!({"response": "tok-zoe", "nonce": nonce}));
    let accepted = process.only(zoe);
    assert_eq!((&accepted["type"], &accepted["correlation_id"]), (&json!("session.accepted"), &json!("z3")));
    assert_eq!((process.edge.connections(), process.sessions()), (0, [1, 1]));
    // From now on each is heard by its runtime.
    process.send(alice, "a2", "session.ping", json!({"nonce": "n"}));
    assert_eq!(process.only(alice)["type"], "session.pong");
    process.send(zoe, "z4", "ping", json!({"nonce": "n"}));
    assert_eq!(process.only(zoe)["type"], "pong");
    // Both agreed with the edge on what a proof answers: one wrong proof counts
    // at the runtime too, and so does the nonce.
    process.send(zoe, "z5", "session.authenticate", json!({"response": "tok-zoe", "nonce": "another"}));
    assert_eq!(process.closed, BTreeMap::new());
    process.send(zoe, "z6", "session.authenticate", json!({"response": "tok-zoe", "nonce": "another"}));
    assert_eq!(process.closed, BTreeMap::from([(zoe, CloseReason::Refused)]));
}

#[test]
fn a_session_is_resumed_through_the_edge_at_the_runtime_that_has_it() {
    let mut process = Process::new(|_| {});
    for (n, auth) in [(1, json!({"scheme": "bearer", "token": "tok-zoe"})), (3, json!({"scheme": "none"}))] {
        let (first, second) = (process.open(n), process.open(n + 1));
        let mut hello = hello_payload("");
        hello["auth"] = auth;
        process.send(first, "1", "session.hello", hello.clone());
        let welcome = process.only(first)["payload"].clone();
        let before = process.sessions();
        let (session, token) = (&welcome["session_id"], &welcome["resume_token"]);
        hello["resume"] = json!({"session_id": session, "resume_token": token, "last_event_seq": 0});
        process.send(second, "1", "session.hello", hello);
        let again = process.only(second);
        assert_eq!((&again["type"], &again["payload"]["session_id"]), (&json!("session.welcome"), session), "{again}");
        assert_eq!((process.sessions(), process.closed[&first]), (before, CloseReason::TakenOver));
    }
}

#[test]
fn what_may_be_written_to_a_connection_goes_with_it() {
    let mut process = Process::new(|_| {});
    // Two frames: the edge's challenge, and the runtime's word of the session.
    let conn = process.open_with(1, 1 << 20, 2);
    process.send(conn, "1", "session.open", open_payload(""));
    process.only(conn);
    process.send(conn, "2", "session.authenticate", json!({"response": "tok-alice"}));
    assert_eq!(process.only(conn)["type"], "session.accepted");
    process.send(conn, "3", "ping", json!({}));
    assert_eq!(process.sent.get(&conn), None, "its credit is used up");
    process.input(conn, Input::Credit { conn, bytes: 100, frames: 1 });
    assert_eq!(process.only(conn)["type"], "pong");
}

#[test]
fn a_proof_that_comes_before_its_challenge_was_sent_is_no_answer_to_it() {
    let mut process = Process::new(|_| {});
    let conn = process.open_with(1, 0, 0);
    process.send(conn, "1", "session.open", open_payload(""));
    process.send(conn, "2", "session.authenticate", json!({"response": "tok-alice"}));
    assert_eq!((process.edge.connections(), process.handed.len()), (1, 0));
    process.input(conn, Input::Credit { conn, bytes: 1000, frames: 10 });
    assert_eq!(process.only(conn)["type"], "session.challenge");
    process.send(conn, "3", "session.authenticate", json!({"response": "tok-alice"}));
    assert_eq!(process.only(conn)["type"], "session.accepted");
}

#[test]
fn whoever_does_not_say_who_it_is_is_closed_by_the_edge() {
    let mut process = Process::new(|config| config.limits.connection.handshaking_connections = 3);
    let (silent, stray, denied, long) = (process.open(1), process.open(2), process.open(3), ConnId(4));
    process.open(4);
    assert_eq!(process.closed, BTreeMap::from([(long, CloseReason::TooMany)]));
    process.send(stray, "1", "job.submit", json!({"agent": "echo"}));
    process.send(denied, "1", "session.hello", hello_payload("nobody"));
    assert_eq!((process.closed[&stray], process.closed[&denied]), (CloseReason::Refused, CloseReason::Refused));
    assert_eq!(code(&process.only(denied)), "UNAUTHENTICATED");
    let long = process.open(5);
    process.input(long, Input::TooLong { conn: long });
    assert_eq!(process.closed[&long], CloseReason::TooLong);
    let gone = process.open(6);
    process.input(gone, Input::Closed { conn: gone });
    let deadline = process.edge.next_deadline().expect("it waits for the silent one");
    assert_eq!(deadline.reason, Timer::Handshake(silent));
    process.pass(deadline.at.since(process.now.mono));
    process.tick();
    assert_eq!(process.closed[&silent], CloseReason::HandshakeTimeout);
    assert_eq!((process.edge.connections(), process.edge.next_deadline()), (0, None));
    assert_eq!((process.closed.get(&gone), process.sessions()), (None, [0, 0]));
}

#[test]
fn a_verdict_that_is_over_when_it_is_handed_over_is_asked_for_again() {
    let mut process = Process::new(|_| {});
    process.verdicts_last = Some(Duration::from_secs(1));
    process.way = Duration::from_secs(2);
    let conn = process.open(1);
    process.send(conn, "1", "session.hello", hello_payload("tok-alice"));
    let until = process.handed[0].verdict.as_ref().and_then(|verdict| verdict.expires_at).expect("it ends");
    assert!(until < process.now.utc);
    assert_eq!(process.only(conn)["type"], "session.welcome", "the runtime has judged the credential itself");
    process.pass(Duration::from_secs(1));
    process.tick();
    assert_eq!(code(&process.only(conn)), "LEASE_EXPIRED", "by what it was told then");
}

#[test]
fn what_is_handed_over_can_be_recorded_and_shows_no_credential() {
    let mut process = Process::new(|_| {});
    for (n, payload, kind) in
        [(1, hello_payload("tok-alice"), "session.hello"), (2, open_payload("tok-zoe"), "session.open")]
    {
        let conn = process.open(n);
        process.send(conn, "1", kind, payload);
        assert!(WELCOMES.contains(&process.only(conn)["type"].as_str().unwrap_or_default()));
    }
    for handed in &process.handed {
        assert!(!format!("{handed:?}").contains("tok-"), "{handed:?}");
        let input = Input::HandedOver(Box::new(handed.clone()));
        let text = serde_json::to_string(&input).expect("it is written");
        assert_eq!(serde_json::from_str::<Input>(&text).expect("it is read"), input);
    }
}

#[test]
fn a_connection_that_comes_under_the_number_of_an_open_one_changes_nothing_of_that() {
    let mut process = Process::new(|_| {});
    let conn = process.open(1);
    process.send(conn, "1", "session.hello", hello_payload("tok-alice"));
    let handed = Box::new(process.handed[0].clone());
    let runtime = &mut process.runtimes[1];
    for input in [
        Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None },
        Input::Credit { conn, bytes: 0, frames: 0 },
        Input::HandedOver(handed),
    ] {
        runtime.handle(process.now, input);
    }
    let outputs: Vec<Output> = std::iter::from_fn(|| runtime.poll_output()).collect();
    assert_eq!(outputs, [Output::Observe(Notice::ConnIdInUse { conn })], "nobody hears its frame");
    // The one that was there first says who it is itself.
    let frame = json!({"arcp": "1.1", "id": "1", "type": "session.hello", "payload": hello_payload("tok-zoe")});
    runtime.handle(process.now, Input::Received { conn, frame: frame.to_string().into_bytes() });
    assert!(matches!(runtime.poll_output(), Some(Output::Authenticate { .. })));
}

#[test]
fn an_edge_shows_no_credential_of_those_who_are_judged() {
    let mut process = Process::new(|_| {});
    let conn = process.open_with(1, 0, 0);
    let mut hello = open_payload("");
    hello["client"]["name"] = json!("secret-of-the-frame");
    process.send(conn, "1", "session.open", hello);
    assert_eq!(process.edge.connections(), 1);
    let shown = format!("{:?}", process.edge);
    let bytes = format!("{:?}", b"secret-of-the-frame");
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}
