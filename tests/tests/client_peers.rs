//! Our client against other runtimes: what they leave out, reorder, refuse in odd forms, or send without a request.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::fmt::Write as _;

use arcp_proto::client::{
    Client, ClientConfig, ClientEvent, ClientInput, ClientOutput, Handle, ResultData, Session, SessionEnd,
};
use arcp_proto::entropy::Seeds;
use arcp_proto::error::{ApiMisuse, ErrorCode};
use arcp_proto::id::{IdempotencyKey, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::{Credential, ListQuery, Submit, Watch};
use arcp_proto::secret::Secret;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;
use arcp_tests::scene::golden;
use serde_json::{Value, json};

struct Peer {
    client: Client,
    now: Now,
    sent: Vec<Value>,
    events: Vec<ClientEvent>,
    connects: usize,
}

impl Peer {
    fn new(change: impl FnOnce(&mut ClientConfig)) -> Peer {
        let mut config = ClientConfig::new("it", "1", Credential::Anonymous);
        change(&mut config);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let client = Client::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let mut peer = Peer { client, now, sent: Vec::new(), events: Vec::new(), connects: 0 };
        peer.put(ClientInput::Tick);
        peer
    }

    /// A client whose session was opened by a runtime that says `id` first.
    fn opened(id: &str) -> Peer {
        let mut peer = Peer::new(|_| {});
        peer.put(ClientInput::Connected);
        peer.welcome(id);
        peer
    }

    fn welcome(&mut self, id: &str) {
        self.welcome_with(id, &["ack", "subscribe", "list_jobs", "result_chunk"]);
    }

    fn welcome_with(&mut self, id: &str, features: &[&str]) {
        self.hear(json!({"id": id, "type": "session.welcome", "session_id": "s", "payload": {
            "session_id": "s", "resume_token": "t", "resume_window_sec": 600,
            "runtime": {"name": "theirs", "version": "1"}, "capabilities": {"features": features}}}));
    }

    fn put(&mut self, input: ClientInput) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll_output() {
            match output {
                ClientOutput::Send { frame } => self.sent.push(serde_json::from_str(&frame).expect("JSON")),
                ClientOutput::Event(event) => self.events.push(event),
                ClientOutput::Connect => self.connects += 1,
                ClientOutput::Disconnect | ClientOutput::SendSidecar { .. } => {}
            }
        }
    }

    fn hear(&mut self, frame: Value) {
        self.put(ClientInput::Received { frame: frame.to_string().into_bytes() });
    }

    /// Lets the time of the next deadline come.
    fn wait(&mut self) {
        self.now.mono = self.client.next_deadline().expect("a deadline").0;
        self.put(ClientInput::Tick);
    }

    fn command(&mut self, give: impl FnOnce(Session<'_>) -> Result<Handle, ApiMisuse>) -> (Handle, String) {
        let handle = give(self.client.session().expect("a session")).expect("given");
        self.put(ClientInput::Tick);
        let id = self.sent.last().expect("a frame")["id"].as_str().expect("an id").to_string();
        (handle, id)
    }

    fn submit(&mut self) -> (Handle, String) {
        self.command(|mut session| session.submit(submit()))
    }

    fn accept(&mut self, job: &str, request: Option<&str>) {
        let mut payload = json!({"job_id": job, "agent": "it", "lease": {}});
        if let Some(request) = request {
            payload["request_id"] = request.into();
        }
        self.hear(json!({"id": "a", "type": "job.accepted", "session_id": "s", "job_id": job, "payload": payload}));
    }

    fn end(&mut self, job: &str, seq: u64) {
        self.hear(json!({"id": "e", "type": "job.result", "session_id": "s", "job_id": job, "event_seq": seq,
            "payload": {"final_status": "success", "job_id": job, "result": 1}}));
    }

    fn take(&mut self) -> Vec<ClientEvent> {
        std::mem::take(&mut self.events)
    }
}

fn submit() -> Submit {
    Submit::new(AgentRef::parse("it").expect("a name"))
}

fn watch(job: &str) -> Watch {
    Watch { job: WireId::new(job).expect("an id"), after: None, history: Some(true) }
}

/// A submit that brings its trace.
fn traced() -> Submit {
    Submit { trace: Some(TRACE.into()), ..submit() }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PYTHON: &str = "01M7VD85KQ9SZXPW6NX4X2SFJ9";
const OURS: &str = "msg_01M7VD85KQ9SZXPW6NX4X2SFJ9";
const GO: &str = "018f3a2b-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

#[test]
fn a_submit_that_could_not_be_followed_is_refused_and_no_end_is_swallowed() {
    let mut peer = Peer::new(|config| config.limits.followed = 2);
    peer.put(ClientInput::Connected);
    peer.welcome(OURS);
    let (_, first) = peer.submit();
    let (_, second) = peer.submit();
    let full = Err(ApiMisuse::TooManyFollowed { limit: 2 });
    assert_eq!(peer.client.session().expect("a session").submit(submit()), full);
    assert_eq!(peer.client.session().expect("a session").watch(watch("job_3")), full);
    peer.accept("job_1", Some(&first));
    peer.accept("job_2", Some(&second));
    assert_eq!(peer.client.session().expect("a session").submit(submit()), full);
    peer.end("job_1", 1);
    peer.end("job_2", 2);
    let ends = peer.take().into_iter().filter(|event| matches!(event, ClientEvent::JobEnded { .. }));
    assert_eq!(ends.count(), 2);
    peer.submit();
}

#[test]
fn a_command_counts_against_its_own_bound_and_needs_its_own_feature() {
    let mut peer = Peer::new(|config| config.limits.followed = 1);
    peer.put(ClientInput::Connected);
    peer.welcome_with(OURS, &["list_jobs"]);
    let refused = peer.client.session().expect("a session").watch(watch("job_1"));
    assert_eq!(refused, Err(ApiMisuse::NotNegotiated(Feature::WatchJobs)));
    peer.command(|mut session| session.list(ListQuery::default()));
    peer.submit();
}

#[test]
fn what_came_before_the_acceptance_of_its_job_is_told_after_it_and_the_rest_goes_on() {
    let mut peer = Peer::opened(OURS);
    let (_, first) = peer.submit();
    let (second, id) = peer.submit();
    peer.hear(json!({"id": "m", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": 1,
        "payload": {"kind": "log", "body": {"level": "info", "message": "m"}}}));
    peer.take();
    peer.accept("job_1", Some(&first));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Submitted { .. }, ClientEvent::Job { seq: 1, .. }]));
    peer.command(|mut session| session.cancel(WireId::new("job_1").expect("an id"), None));
    peer.end("job_1", 2);
    peer.accept("job_2", Some(&id));
    let told = peer.take();
    assert!(
        matches!(told.as_slice(), [ClientEvent::JobEnded { .. }, ClientEvent::Submitted { handle, .. }] if *handle == second)
    );
}

#[test]
fn a_refusal_is_of_the_command_that_it_names_or_of_none() {
    let mut peer = Peer::opened("w");
    peer.command(|mut session| session.watch(watch("job_1")));
    let (second, _) = peer.command(|mut session| session.watch(watch("job_2")));
    peer.take();
    let no = |more: Value| {
        let mut payload = json!({"code": "INVALID_REQUEST", "message": "no", "retryable": false});
        payload["request_id"] = more;
        json!({"id": "x", "type": "session.error", "session_id": "s", "job_id": "job_2", "payload": payload})
    };
    peer.hear(no("unheard-of".into()));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: None, .. }]));
    peer.hear(no(Value::Null));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: Some(h), .. }] if *h == second));
}

#[test]
fn a_frame_that_is_nested_deeper_than_ours_may_be_is_taken() {
    let mut peer = Peer::opened(GO);
    let (_, id) = peer.submit();
    let said = peer.sent.len();
    peer.accept("job_1", Some(&id));
    assert_eq!(peer.sent.len(), said, "it had no key: there is nothing to watch");
    let depth = Json::MAX_DEPTH + 40;
    let body = format!("{{\"deep\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let event = format!(
        r#"{{"id":"m","type":"job.event","session_id":"s","job_id":"job_1","event_seq":1,"payload":{{"kind":"x-vendor.a","body":{body}}}}}"#
    );
    peer.take();
    peer.put(ClientInput::Received { frame: event.into_bytes() });
    let told = peer.take();
    assert!(!told.iter().any(|event| matches!(event, ClientEvent::Reconnecting { .. })), "{told:?}");
}

#[test]
fn an_error_that_nobody_asked_for_fails_no_command() {
    let error = |code: &str, details: Value| {
        json!({"id": OURS, "type": "session.error", "session_id": "s", "payload": {
            "code": code, "message": "read again later", "retryable": true, "details": details}})
    };
    // A runtime of ours says what it is.
    let mut peer = Peer::opened(OURS);
    let (handle, id) = peer.submit();
    peer.take();
    peer.hear(error("INTERNAL_ERROR", json!({"open_code": "UNAVAILABLE"})));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: None, .. }]));
    peer.accept("job_1", Some(&id));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Submitted { handle: h, .. }] if *h == handle));
    // Another one has shown that it names what it refuses.
    let mut peer = Peer::opened("w");
    let (_, id) = peer.submit();
    peer.hear(json!({"id": "x", "type": "session.error", "session_id": "s", "payload": {
        "code": "INVALID_REQUEST", "message": "no", "retryable": false, "request_id": id}}));
    peer.submit();
    peer.take();
    peer.hear(error("INTERNAL_ERROR", Value::Null));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: None, .. }]));
}

#[test]
fn a_refusal_that_names_nothing_is_found_by_id_job_trace_or_order() {
    // By the id of the envelope.
    let mut peer = Peer::opened("w");
    peer.submit();
    let (second, id) = peer.submit();
    peer.take();
    peer.hear(json!({"id": id, "type": "job.error", "payload": {"final_status": "error", "code": "AGENT_NOT_AVAILABLE", "message": "no"}}));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: Some(h), .. }] if *h == second));
    // By order.
    let mut peer = Peer::opened("w");
    let (first, _) = peer.submit();
    peer.submit();
    peer.take();
    peer.hear(json!({"id": "x", "type": "session.error", "session_id": "s", "payload": {"code": "INVALID_REQUEST", "message": "no", "retryable": false}}));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: Some(h), .. }] if *h == first));
    // By its trace.
    let mut peer = Peer::opened("w");
    peer.submit();
    let (traced, _) = peer.command(|mut session| session.submit(traced()));
    peer.take();
    peer.hear(json!({"id": "x", "type": "session.error", "session_id": "s", "trace_id": TRACE, "payload": {"code": "INVALID_REQUEST", "message": "no", "retryable": false}}));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: Some(h), .. }] if *h == traced));
    // An end of a job that never was.
    let mut peer = Peer::opened("w");
    let (first, _) = peer.submit();
    peer.take();
    peer.hear(json!({"id": "x", "type": "job.error", "session_id": "s", "job_id": "job_fresh", "payload": {"final_status": "error", "job_id": "job_fresh", "code": "DUPLICATE_KEY", "message": "no"}}));
    assert!(matches!(peer.take().as_slice(), [ClientEvent::Refused { handle: Some(h), .. }] if *h == first));
}

#[test]
fn an_acceptance_that_names_nothing_is_found_by_its_trace_or_order() {
    let mut peer = Peer::opened("w");
    let (first, _) = peer.submit();
    let (traced, _) = peer.command(|mut session| session.submit(traced()));
    peer.take();
    peer.hear(json!({"id": "a", "type": "job.accepted", "session_id": "s", "job_id": "job_2", "trace_id": TRACE,
        "payload": {"job_id": "job_2", "agent": "it", "lease": {}}}));
    match peer.take().as_slice() {
        [ClientEvent::Submitted { handle, accepted }] => {
            assert_eq!((*handle, accepted.trace.as_deref()), (traced, Some(TRACE)));
        }
        other => panic!("{other:?}"),
    }
    peer.accept("job_1", None);
    match peer.take().as_slice() {
        [ClientEvent::Submitted { handle, accepted }] => assert_eq!((*handle, &accepted.trace), (first, &None)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cancel_that_no_acknowledgement_follows_counts_as_taken_when_it_is_sent() {
    for (welcome, acknowledges) in [(PYTHON, false), (OURS, true)] {
        let mut peer = Peer::opened(welcome);
        let (_, id) = peer.submit();
        peer.accept("job_1", Some(&id));
        peer.take();
        let job = WireId::new("job_1").expect("an id");
        let (cancel, _) = peer.command(|mut session| session.cancel(job.clone(), None));
        match peer.take().as_slice() {
            [] => assert!(acknowledges),
            [ClientEvent::CancelTaken { handle, job: of }] => {
                assert_eq!((acknowledges, *handle, of), (false, Some(cancel), &job));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cancel_refused_in_the_form_of_an_end_ends_no_job() {
    let mut peer = Peer::opened("w");
    let (_, id) = peer.submit();
    peer.accept("job_1", Some(&id));
    let job = WireId::new("job_1").expect("an id");
    let (cancel, _) = peer.command(|mut session| session.cancel(job, None));
    peer.take();
    peer.hear(json!({"id": "x", "type": "job.error", "session_id": "s", "job_id": "job_1", "payload": {
        "final_status": "error", "job_id": "job_1", "code": "PERMISSION_DENIED", "message": "not yours"}}));
    let told = peer.take();
    assert!(
        matches!(told.as_slice(), [ClientEvent::Refused { handle: Some(h), refusal }] if *h == cancel && refusal.code == ErrorCode::PermissionDenied),
        "{told:?}"
    );
    peer.end("job_1", 1);
    assert!(matches!(peer.take().as_slice(), [ClientEvent::JobEnded { .. }]));
}

#[test]
fn a_refused_watch_leaves_a_job_of_ours_followed() {
    let mut peer = Peer::opened(OURS);
    let (_, id) = peer.submit();
    peer.accept("job_1", Some(&id));
    let (_, id) = peer.command(|mut session| session.watch(watch("job_1")));
    peer.hear(json!({"id": "x", "type": "session.error", "session_id": "s", "payload": {
        "code": "RESUME_WINDOW_EXPIRED", "message": "gone", "retryable": false, "request_id": id}}));
    peer.take();
    peer.end("job_1", 1);
    assert!(matches!(peer.take().as_slice(), [ClientEvent::JobEnded { .. }]));
    // A job that was never shown is not followed any more.
    let (_, id) = peer.command(|mut session| session.watch(watch("job_2")));
    peer.hear(json!({"id": "x", "type": "session.error", "session_id": "s", "payload": {
        "code": "JOB_NOT_FOUND", "message": "none", "retryable": false, "request_id": id}}));
    peer.take();
    peer.end("job_2", 2);
    assert!(peer.take().is_empty());
}

#[test]
fn who_watches_a_job_no_more_says_so_where_there_is_somebody_to_hear_it() {
    let mut peer = Peer::opened(OURS);
    let (_, id) = peer.command(|mut session| session.watch(watch("job_1")));
    peer.hear(json!({"id": "x", "type": "job.subscribed", "session_id": "s", "payload": {
        "job_id": "job_1", "request_id": id, "current_status": "running", "agent": "it", "subscribed_from": 1, "replayed": false}}));
    peer.take();
    peer.client.session().expect("a session").unwatch(WireId::new("job_1").expect("an id"));
    peer.put(ClientInput::Tick);
    let said = peer.sent.last().expect("a frame");
    assert_eq!((&said["type"], &said["payload"]["job_id"]), (&json!("job.unsubscribe"), &json!("job_1")));
    peer.end("job_1", 1);
    assert!(peer.take().is_empty(), "nothing more of it is shown");

    peer.command(|mut session| session.watch(watch("job_2")));
    peer.put(ClientInput::Disconnected { why: "gone".into() });
    let sent = peer.sent.len();
    peer.client.session().expect("a session").unwatch(WireId::new("job_2").expect("an id"));
    peer.put(ClientInput::Tick);
    assert_eq!(peer.sent.len(), sent, "nobody is there");
}

#[test]
fn what_waits_for_its_acceptance_is_not_acknowledged() {
    let mut peer = Peer::new(|config| {
        config.limits.ack_every = 2;
        config.limits.early = 4;
    });
    peer.put(ClientInput::Connected);
    peer.welcome(OURS);
    peer.submit();
    let (_, second) = peer.submit();
    peer.accept("job_2", Some(&second));
    let event = |seq: u64, job: &str| {
        json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": job, "event_seq": seq, "payload": {
            "kind": "log", "ts": "2026-01-01T00:00:00Z", "body": {"level": "info", "message": "m"}}})
    };
    peer.hear(event(1, "job_2"));
    // Its acceptance was lost with an earlier connection.
    for seq in 2..=5 {
        peer.hear(event(seq, "job_1"));
    }
    for seq in 6..=8 {
        peer.hear(event(seq, "job_2"));
    }
    peer.wait();
    let acks = |peer: &Peer| -> Vec<u64> {
        let acks = peer.sent.iter().filter(|frame| frame["type"] == "session.ack");
        acks.map(|frame| frame["payload"]["last_processed_seq"].as_u64().expect("a number")).collect()
    };
    assert!(acks(&peer).iter().all(|seq| *seq <= 1), "{:?}", acks(&peer));
    // One too many: all of them are asked for again, and can be had.
    peer.hear(event(9, "job_1"));
    peer.wait();
    peer.put(ClientInput::Connected);
    assert_eq!(peer.sent.last().expect("a hello")["payload"]["resume"]["last_event_seq"], 1);
}

#[test]
fn a_runtime_that_closes_on_the_hello_is_given_up_soon_and_tried_with_a_session_id() {
    let mut peer = Peer::new(|_| {});
    for attempt in 1..=3 {
        peer.put(ClientInput::Connected);
        let hello = peer.sent.last().expect("a hello");
        assert_eq!(hello["type"], "session.hello");
        let minted = hello["session_id"].as_str().is_some_and(|id| id.starts_with("sess_"));
        assert_eq!(minted, attempt == 2, "attempt {attempt}");
        peer.put(ClientInput::Disconnected { why: "closed".into() });
        match peer.take().as_slice() {
            [ClientEvent::Reconnecting { why, .. }] if attempt < 3 => {
                assert!(why.contains("without an answer"), "{why}")
            }
            [ClientEvent::Ended(SessionEnd::Lost(why))] if attempt == 3 => {
                assert!(why.contains("without an answer"), "{why}");
                return;
            }
            other => panic!("attempt {attempt}: {other:?}"),
        }
        peer.wait();
    }
    panic!("it was never given up");
}

#[test]
fn a_session_that_another_client_left_is_gone_on_with() {
    let mut first = Peer::opened(OURS);
    let (_, request) = first.submit();
    first.accept("job_1", Some(&request));
    first.hear(json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": 1,
        "payload": {"kind": "log", "ts": "2026-01-01T00:00:00Z", "body": {"level": "info", "message": "m"}}}));
    let claim = first.client.claim().expect("a session");
    assert_eq!((claim.token.expose(), claim.last_seq), ("t", 1));
    let second = || {
        let mut second = Peer::new(|config| config.resume = Some(claim.clone()));
        second.put(ClientInput::Connected);
        let resume = &second.sent[0]["payload"]["resume"];
        assert_eq!(*resume, json!({"session_id": "s", "resume_token": "t", "last_event_seq": 1}));
        second
    };
    let accepted = |peer: &mut Peer| {
        let resumed = |event: &ClientEvent| match event {
            ClientEvent::Accepted { resumed, .. } => Some(*resumed),
            _ => None,
        };
        peer.take().iter().find_map(resumed)
    };
    let mut peer = second();
    peer.welcome(OURS);
    assert_eq!(accepted(&mut peer), Some(true));
    assert_eq!(peer.client.claim().map(|claim| claim.last_seq), Some(1));
    let job = WireId::new("job_1").expect("an id");
    let (_, request) = peer.command(|mut session| session.cancel(job.clone(), None));
    peer.hear(json!({"id": "c", "type": "job.cancelled", "session_id": "s", "job_id": "job_1",
        "payload": {"job_id": "job_1", "request_id": request}}));
    assert!(peer.take().iter().any(|event| matches!(event, ClientEvent::CancelTaken { .. })));
    // Whoever refuses it, or does not know what it is, gets another hello.
    let refused = json!({"id": "r", "type": "session.error", "session_id": "s", "payload": {
        "code": "RESUME_WINDOW_EXPIRED", "message": "gone", "retryable": false}});
    for refusal in [Some(refused), None] {
        let mut peer = second();
        match refusal {
            Some(refused) => peer.hear(refused),
            None => peer.put(ClientInput::Disconnected { why: "1002".to_string() }),
        }
        peer.wait();
        peer.put(ClientInput::Connected);
        assert!(peer.sent.last().expect("a hello")["payload"]["resume"].is_null());
        peer.hear(json!({"id": OURS, "type": "session.welcome", "session_id": "s2", "payload": {
            "session_id": "s2", "resume_token": "t2", "resume_window_sec": 600,
            "runtime": {"name": "theirs", "version": "1"}, "capabilities": {"features": []}}}));
        assert_eq!(accepted(&mut peer), Some(false));
    }
}

#[test]
fn a_client_says_that_it_is_anonymous_if_it_is() {
    let bearer = Credential::Bearer(Secret::new("secret".into()));
    for (credential, said) in [(Credential::Anonymous, json!(true)), (bearer, Value::Null)] {
        let mut peer = Peer::new(|config| (config.family, config.credential) = (Family::Open, credential));
        peer.put(ClientInput::Connected);
        assert_eq!(peer.sent[0]["payload"]["capabilities"]["anonymous"], said);
    }
}

#[test]
fn an_input_is_always_sent() {
    let mut peer = Peer::opened(OURS);
    peer.submit();
    assert_eq!(peer.sent.last().expect("a submit")["payload"]["input"], json!({}));
}

#[test]
fn a_message_that_is_too_large_is_refused_and_not_sent_again() {
    let mut peer = Peer::opened(OURS);
    let (small, _) = peer.submit();
    let input = Some(Json::string(&"x".repeat(100_000)));
    let (large, _) = peer.command(|mut session| session.submit(Submit { input, ..submit() }));
    peer.take();
    peer.put(ClientInput::TooLarge { why: "closed with 1009".into() });
    match peer.take().as_slice() {
        [ClientEvent::Refused { handle: Some(refused), refusal }, ClientEvent::Reconnecting { .. }] => {
            assert_eq!(*refused, large);
            assert!(refusal.message.contains("too large") && refusal.message.contains("100"), "{}", refusal.message);
        }
        other => panic!("{other:?}"),
    }
    peer.sent.clear();
    peer.wait();
    peer.put(ClientInput::Connected);
    peer.welcome(OURS);
    let submits = peer.sent.iter().filter(|frame| frame["type"] == "job.submit");
    let again: Vec<String> = submits.filter_map(|frame| Some(frame["id"].as_str()?.to_string())).collect();
    assert_eq!(again.len(), 1, "the small one only");
    peer.accept("job_1", again.first().map(String::as_str));
    assert!(peer.take().iter().any(|event| matches!(event, ClientEvent::Submitted { handle, .. } if *handle == small)));
}

#[test]
fn swapped_neighbours_of_a_runtime_known_for_them_are_both_read() {
    let mut peer = Peer::opened(GO);
    let (_, id) = peer.submit();
    peer.accept("job_1", Some(&id));
    peer.take();
    let event = |seq: u64| {
        json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": seq, "payload": {
            "kind": "log", "ts": "2026-01-01T00:00:00Z", "body": {"level": "info", "message": "m"}}})
    };
    for seq in [2, 1, 4, 3] {
        peer.hear(event(seq));
    }
    peer.end("job_1", 5);
    let told = peer.take();
    assert_eq!(told.iter().filter(|event| matches!(event, ClientEvent::Job { .. })).count(), 4);
    assert!(matches!(told.last(), Some(ClientEvent::JobEnded { result: ResultData::Inline(_), .. })));
}

#[test]
fn a_used_key_of_a_runtime_that_forgets_is_watched_and_its_loss_is_told() {
    let mut peer = Peer::opened(GO);
    let keyed = Submit { key: IdempotencyKey::new("k"), ..submit() };
    let (_, id) = peer.command(|mut session| session.submit(keyed));
    peer.accept("job_1", Some(&id));
    let asked = peer.sent.last().expect("a watch").clone();
    assert_eq!((&asked["type"], &asked["payload"]["history"]), (&json!("job.subscribe"), &json!(true)));
    peer.take();
    peer.hear(json!({"id": "x", "type": "session.error", "session_id": "s", "payload": {
        "code": "JOB_NOT_FOUND", "message": "no such job", "retryable": false, "request_id": asked["id"]}}));
    match peer.take().as_slice() {
        [ClientEvent::Refused { handle: None, refusal }] => {
            assert_eq!(refusal.job, WireId::new("job_1"));
            assert_eq!(refusal.code, ErrorCode::JobNotFound);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_inline_copy_of_a_result_in_pieces_counts_only_without_the_pieces() {
    for pieces in [false, true] {
        let mut peer = Peer::opened(OURS);
        let (_, id) = peer.submit();
        peer.accept("job_1", Some(&id));
        if pieces {
            peer.hear(
                json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": 1, "payload": {
                "kind": "result_chunk", "ts": "2026-01-01T00:00:00Z", "body": {
                    "result_id": "r", "chunk_seq": 0, "data": "ab", "encoding": "utf8", "more": false}}}),
            );
        }
        peer.take();
        let seq = 1 + u64::from(pieces);
        peer.hear(json!({"id": "e", "type": "job.result", "session_id": "s", "job_id": "job_1", "event_seq": seq,
            "payload": {"final_status": "success", "job_id": "job_1", "result_id": "r", "result": "copy"}}));
        match peer.take().as_slice() {
            [ClientEvent::JobEnded { result: ResultData::Inline(copy), .. }] => {
                assert_eq!((pieces, copy.as_str()), (false, "\"copy\""));
            }
            [ClientEvent::JobEnded { result: ResultData::Streamed { bytes, .. }, .. }] => {
                assert_eq!((pieces, bytes.as_slice()), (true, b"ab".as_slice()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_result_whose_last_piece_is_missing_is_broken() {
    for (more, of_no_result) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut peer = Peer::opened(OURS);
        let (_, id) = peer.submit();
        peer.accept("job_1", Some(&id));
        peer.hear(
            json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": 1, "payload": {
            "kind": "result_chunk", "ts": "2026-01-01T00:00:00Z", "body": {
                "result_id": "r", "chunk_seq": 0, "data": "ab", "encoding": "utf8", "more": more}}}),
        );
        peer.take();
        let mut payload = json!({"final_status": "success", "job_id": "job_1"});
        // A published runtime ends its results in pieces with a result that is null.
        payload[if of_no_result { "result" } else { "result_id" }] =
            if of_no_result { Value::Null } else { json!("r") };
        peer.hear(json!({"id": "e", "type": "job.result", "session_id": "s", "job_id": "job_1", "event_seq": 2, "payload": payload}));
        match peer.take().as_slice() {
            [ClientEvent::JobEnded { result: ResultData::Streamed { bytes, .. }, .. }] => {
                assert_eq!((more, bytes.as_slice()), (false, b"ab".as_slice()));
            }
            [ClientEvent::JobEnded { result: ResultData::Broken { why }, .. }] => {
                assert!(more && why.contains("the last piece is missing"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_that_is_open_is_closed_by_the_runtime_and_another_at_once() {
    let ended =
        |peer: &mut Peer| peer.take().iter().any(|event| matches!(event, ClientEvent::Ended(SessionEnd::Closed)));
    let mut peer = Peer::opened(OURS);
    let (_, id) = peer.command(|mut session| session.close(None));
    assert_eq!(peer.sent.last().expect("a frame")["type"], "session.close");
    assert!(!ended(&mut peer), "its answer has not come");
    peer.hear(json!({"id": "c", "type": "session.closed", "session_id": "s", "payload": {"request_id": id}}));
    assert!(ended(&mut peer));
    let mut peer = Peer::opened(OURS);
    peer.put(ClientInput::Disconnected { why: "gone".into() });
    peer.client.session().expect("a session").close(None).expect("given");
    peer.put(ClientInput::Tick);
    assert!(ended(&mut peer), "there is nobody to ask");
}

#[test]
fn a_size_that_is_not_announced_is_not_zero() {
    let mut peer = Peer::opened(OURS);
    let (_, id) = peer.submit();
    peer.accept("job_1", Some(&id));
    peer.hear(
        json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": 1, "payload": {
        "kind": "result_chunk", "ts": "2026-01-01T00:00:00Z", "body": {
            "result_id": "r", "chunk_seq": 0, "data": "ab", "encoding": "utf8", "more": false}}}),
    );
    peer.take();
    peer.hear(json!({"id": "e", "type": "job.result", "session_id": "s", "job_id": "job_1", "event_seq": 2,
        "payload": {"final_status": "success", "job_id": "job_1", "result_id": "r"}}));
    match peer.take().as_slice() {
        [ClientEvent::JobEnded { result, .. }] => {
            assert_eq!(*result, ResultData::Streamed { bytes: b"ab".to_vec(), text: true });
        }
        other => panic!("{other:?}"),
    }
}

/// What our client does with a frame: what it sends, tells and asks for.
fn reaction(peer: &mut Peer, frame: Value) -> String {
    (peer.sent, peer.events, peer.connects) = (Vec::new(), Vec::new(), 0);
    peer.hear(frame);
    let sent: Vec<&str> = peer.sent.iter().filter_map(|frame| frame["type"].as_str()).collect();
    let told = peer.events.iter().map(|event| format!("\n    {event:?}")).collect::<String>();
    let open = peer.client.session().is_ok();
    format!("sends {sent:?}, connects {} times, open: {open}{told}", peer.connects)
}

/// Our client in a state that it can be in.
fn in_state(state: &str, change: fn(&mut ClientConfig), welcome: fn(&mut Peer)) -> Peer {
    let mut peer = Peer::new(change);
    if state == "connecting" {
        return peer;
    }
    peer.put(ClientInput::Connected);
    if state == "opening" {
        return peer;
    }
    welcome(&mut peer);
    if state == "open" {
        return peer;
    }
    let (_, id) = peer.submit();
    if state == "waiting" {
        return peer;
    }
    peer.hear(json!({"id": "a", "type": "job.accepted", "session_id": "s", "job_id": "job_1", "correlation_id": id,
        "payload": {"job_id": "job_1", "agent": "it", "lease": {}, "request_id": id}}));
    match state {
        "closing" => {
            peer.command(|mut session| session.close(None));
        }
        "resuming" => {
            peer.put(ClientInput::Disconnected { why: "gone".into() });
            // One that is over does not come back.
            if peer.client.next_deadline().is_some() {
                peer.wait();
                peer.put(ClientInput::Connected);
            }
        }
        _ => assert_eq!(state, "following"),
    }
    peer
}

const STATES: [&str; 7] = ["connecting", "opening", "open", "waiting", "following", "closing", "resuming"];

#[test]
fn transitions_of_a_hello_client() {
    let error = |code: &str, retryable: bool, more: Value| {
        let mut payload = json!({"code": code, "message": "no", "retryable": retryable});
        payload.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"id": "x", "type": "session.error", "session_id": "s", "payload": payload})
    };
    let event = |job: &str, seq: Value| {
        json!({"id": "e", "type": "job.event", "session_id": "s", "job_id": job, "event_seq": seq, "payload": {
            "kind": "log", "ts": "2026-01-01T00:00:00Z", "body": {"level": "info", "message": "m"}}})
    };
    let welcome = |session: &str| {
        json!({"id": OURS, "type": "session.welcome", "session_id": session, "payload": {
            "session_id": session, "resume_token": "t2", "resume_window_sec": 600,
            "runtime": {"name": "theirs", "version": "1"}, "capabilities": {"features": ["ack"]}}})
    };
    let frames = [
        ("the same session", welcome("s")),
        ("another session", welcome("s2")),
        ("not now", error("RESOURCE_EXHAUSTED", true, json!({}))),
        ("never", error("UNAUTHENTICATED", true, json!({}))),
        ("no", error("PERMISSION_DENIED", false, json!({}))),
        ("of a request that nobody gave", error("INVALID_REQUEST", false, json!({"request_id": "nobody's"}))),
        ("silence", error("HEARTBEAT_LOST", true, json!({}))),
        ("goodbye", json!({"id": "x", "type": "session.bye", "session_id": "s", "payload": {"reason": "done"}})),
        ("ping", json!({"id": "x", "type": "session.ping", "session_id": "s", "payload": {"nonce": "n"}})),
        ("the first event", event("job_1", json!(1))),
        ("the second event", event("job_1", json!(2))),
        ("an event without a number", event("job_1", Value::Null)),
        ("an event of nobody's job", event("job_9", json!(1))),
        ("an event that is none", json!({"id": "e", "type": "job.event", "event_seq": 1, "payload": {"kind": 5}})),
        ("an unknown message", json!({"id": "e", "type": "job.dance", "event_seq": 1, "payload": {}})),
        (
            "an end",
            json!({"id": "e", "type": "job.result", "job_id": "job_1", "event_seq": 1, "payload": {
            "final_status": "success", "job_id": "job_1", "result": 1}}),
        ),
        ("no JSON of a frame", json!("text")),
    ];
    let mut text = String::new();
    for state in STATES {
        for (name, frame) in &frames {
            let mut peer = in_state(state, |_| {}, |peer| peer.welcome(OURS));
            writeln!(text, "{state}, {name}: {}", reaction(&mut peer, frame.clone())).expect("a string");
        }
    }
    golden("transitions-client.txt", &text);
}

#[test]
fn transitions_of_an_open_client() {
    let open = |config: &mut ClientConfig| {
        config.family = Family::Open;
        config.credential = Credential::Bearer(Secret::new("tok".to_string()));
    };
    let accepted = |session: &str| {
        json!({"arcp": "1.0", "id": "w", "type": "session.accepted", "session_id": session, "payload": {
            "session_id": session, "resume_token": "t2", "runtime": {"kind": "theirs", "version": "1"},
            "capabilities": {"result_chunk": true}}})
    };
    let say = |kind: &str, payload: Value| json!({"arcp": "1.0", "id": "x", "type": kind, "session_id": "s", "payload": payload});
    let frames = [
        ("the same session", accepted("s")),
        ("another session", accepted("s2")),
        ("resumed", say("session.resumed", json!({"session_id": "s", "resume_token": "t3", "replayed": true}))),
        ("a challenge", say("session.challenge", json!({"challenge": "n", "scheme": "bearer"}))),
        ("not now", say("session.rejected", json!({"code": "RESOURCE_EXHAUSTED", "message": "m", "retryable": true}))),
        ("never", say("session.unauthenticated", json!({"code": "UNAUTHENTICATED", "message": "m"}))),
        ("refresh", say("session.refresh", json!({"deadline": "2026-01-01T00:00:00Z", "deadline_ms": 5000}))),
        ("evicted", say("session.evicted", json!({"code": "ABORTED", "reason": "r"}))),
        ("silence", say("session.evicted", json!({"code": "HEARTBEAT_LOST", "reason": "r"}))),
        ("closed", say("session.closed", json!({"reason": "r"}))),
        ("nack", say("nack", json!({"code": "INVALID_ARGUMENT", "message": "m"}))),
        ("ack", say("ack", json!({"detail": "d"}))),
        ("pong", say("pong", json!({"nonce": "n"}))),
        ("ping", say("ping", json!({"nonce": "n"}))),
    ];
    let mut text = String::new();
    for state in STATES {
        for (name, frame) in &frames {
            let opened = |peer: &mut Peer| {
                peer.hear(json!({"arcp": "1.0", "id": "w", "type": "session.accepted", "session_id": "s", "payload": {
                    "session_id": "s", "resume_token": "t", "runtime": {"kind": "arcp-rs", "version": "2.0.0"}}}));
            };
            let mut peer = in_state(state, open, opened);
            writeln!(text, "{state}, {name}: {}", reaction(&mut peer, frame.clone())).expect("a string");
        }
    }
    golden("transitions-open-client.txt", &text);
}
