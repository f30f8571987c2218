//! Every message type of RFC §6.2, and those that 1.1 adds: our runtime and our client read the types that the other
//! side sends, and refuse or skip the others by name.

use arcp_proto::client::{self, ClientConfig, ClientInput, ClientOutput};
use arcp_proto::entropy::Seeds;
use arcp_proto::error::ErrorCode;
use arcp_proto::model::request::{Credential, Request, SessionRequest};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;
use arcp_proto::wire::raw::{Header, RuntimeFrame, read_request, read_runtime_frame};

/// Who sends a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Client,
    Runtime,
    Both,
}

use By::{Both, Client, Runtime};

/// The types, who sends each, and a payload of it.
const TYPES: [(&str, By, &str); 79] = [
    ("session.open", Client, r#"{"auth":{"scheme":"none"},"client":{"kind":"k","version":"1"},"capabilities":{}}"#),
    ("session.challenge", Runtime, r#"{"challenge":"n","nonce":"n","scheme":"bearer"}"#),
    ("session.authenticate", Client, r#"{"response":"r"}"#),
    ("session.accepted", Runtime, r#"{"session_id":"sess_1","runtime":{"kind":"k","version":"1"},"capabilities":{}}"#),
    ("session.rejected", Runtime, r#"{"code":"UNIMPLEMENTED","message":"m"}"#),
    ("session.unauthenticated", Runtime, r#"{"code":"UNAUTHENTICATED","message":"m"}"#),
    ("session.refresh", Runtime, r#"{"deadline":"2026-01-01T00:00:00Z","deadline_ms":5}"#),
    ("session.evicted", Runtime, r#"{"code":"CANCELLED","reason":"r"}"#),
    ("session.close", Client, r#"{"reason":"r"}"#),
    ("session.closed", Runtime, r#"{"reason":"r"}"#),
    ("session.resume", Client, r#"{"resume_token":"t","last_event_seq":0}"#),
    ("session.resumed", Runtime, r#"{"session_id":"sess_1","resume_token":"t","replayed_from":0,"replayed":false}"#),
    ("session.ping", Both, r#"{"nonce":"n"}"#),
    ("session.pong", Both, r#"{"ping_nonce":"n"}"#),
    ("session.ack", Client, r#"{"last_processed_seq":1}"#),
    ("session.list_jobs", Client, "{}"),
    ("session.jobs", Runtime, r#"{"jobs":[]}"#),
    ("ping", Both, r#"{"nonce":"n"}"#),
    ("pong", Both, r#"{"nonce":"n"}"#),
    ("ack", Both, r#"{"detail":"d"}"#),
    ("nack", Both, r#"{"code":"INTERNAL","message":"m"}"#),
    ("cancel", Client, r#"{"target":"job","target_id":"job_1"}"#),
    ("cancel.accepted", Runtime, r#"{"target_id":"job_1","deadline_ms":5000}"#),
    ("cancel.refused", Runtime, r#"{"target_id":"job_1","reason":"not_found"}"#),
    ("interrupt", Client, r#"{"target":"job","target_id":"job_1","prompt":"p"}"#),
    ("resume", Client, r#"{"after_message_id":"m"}"#),
    ("backpressure", Both, r#"{"desired_rate_per_second":2}"#),
    ("checkpoint.create", Client, r#"{"job_id":"job_1"}"#),
    ("checkpoint.restore", Client, r#"{"checkpoint_id":"chk_1"}"#),
    ("tool.invoke", Client, r#"{"tool":"echo"}"#),
    ("tool.result", Runtime, r#"{"value":1}"#),
    ("tool.error", Runtime, r#"{"code":"INTERNAL","message":"m"}"#),
    ("job.accepted", Runtime, r#"{"job_id":"job_1","agent":"echo"}"#),
    ("job.started", Runtime, r#"{"job_id":"job_1"}"#),
    ("job.progress", Runtime, r#"{"current":1}"#),
    ("job.heartbeat", Runtime, r#"{"sequence":1,"deadline_ms":1,"state":"running"}"#),
    ("job.status", Runtime, r#"{"phase":"working"}"#),
    ("job.checkpoint", Runtime, r#"{"checkpoint_id":"chk_1","job_id":"job_1"}"#),
    ("job.completed", Runtime, r#"{"value":1}"#),
    ("job.failed", Runtime, r#"{"code":"INTERNAL","message":"m"}"#),
    ("job.cancelled", Runtime, r#"{"reason":"r","code":"CANCELLED"}"#),
    ("job.result_chunk", Runtime, r#"{"result_id":"res_1","chunk_seq":0,"data":"d","encoding":"utf8","more":true}"#),
    ("job.schedule", Client, r#"{"job":{"type":"tool.invoke","payload":{"tool":"echo"}},"when":{"after":5}}"#),
    ("workflow.start", Client, r#"{"workflow":{"steps":[{"id":"a","tool":"echo"}]}}"#),
    ("workflow.complete", Runtime, r#"{"status":"success","steps":{}}"#),
    ("agent.delegate", Both, r#"{"target":"echo","task":"t"}"#),
    ("agent.handoff", Both, r#"{"job_id":"job_1","target":{"principal":"bob"}}"#),
    ("stream.open", Both, r#"{"kind":"text"}"#),
    ("stream.chunk", Both, r#"{"sequence":0,"data":"d"}"#),
    ("stream.close", Both, r#"{"reason":"r"}"#),
    ("stream.error", Both, r#"{"code":"CANCELLED","message":"m"}"#),
    ("human.input.request", Runtime, r#"{"prompt":"p","response_schema":{},"prompt_id":"prm_1"}"#),
    ("human.input.response", Client, r#"{"value":1,"prompt_id":"prm_1"}"#),
    ("human.input.cancelled", Runtime, r#"{"code":"CANCELLED","reason":"answered","prompt_id":"prm_1"}"#),
    ("human.choice.request", Runtime, r#"{"prompt":"p","options":[],"prompt_id":"prm_1"}"#),
    ("human.choice.response", Client, r#"{"choice_id":"c","prompt_id":"prm_1"}"#),
    ("permission.request", Runtime, r#"{"permission":"p","resource":"r","operation":"o","prompt_id":"prm_1"}"#),
    ("permission.grant", Client, r#"{"prompt_id":"prm_1","lease_seconds":5}"#),
    ("permission.deny", Client, r#"{"prompt_id":"prm_1"}"#),
    ("lease.granted", Runtime, r#"{"lease_id":"lease_1","permission":"p","resource":"r","operation":"o"}"#),
    ("lease.refresh", Client, r#"{"lease_id":"lease_1","requested_seconds":5}"#),
    ("lease.extended", Runtime, r#"{"lease_id":"lease_1","expires_at":"2026-01-01T00:00:00Z"}"#),
    ("lease.revoked", Both, r#"{"lease_id":"lease_1","reason":"r"}"#),
    ("subscribe", Client, r#"{"filter":{}}"#),
    ("subscribe.accepted", Runtime, r#"{"subscription_id":"sub_1"}"#),
    ("subscribe.event", Runtime, r#"{"event":{"type":"log","payload":{}}}"#),
    ("unsubscribe", Client, r#"{"subscription_id":"sub_1"}"#),
    ("subscribe.closed", Runtime, r#"{"subscription_id":"sub_1","code":"CANCELLED","reason":"r"}"#),
    ("job.subscribe", Client, r#"{"job_id":"job_1"}"#),
    ("job.subscribed", Runtime, r#"{"job_id":"job_1","current_status":"running"}"#),
    ("job.unsubscribe", Client, r#"{"job_id":"job_1"}"#),
    (
        "artifact.put",
        Both,
        r#"{"artifact_id":"art_1","media_type":"text/plain","size":1,"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","uri":"arcp://session/sess_01ARZ3NDEKTSV4RRFFQ69G5FAV/artifact/art_1","expires_at":"2026-01-01T00:00:00Z","data":"YQ=="}"#,
    ),
    (
        "artifact.ref",
        Runtime,
        r#"{"artifact_id":"art_1","media_type":"text/plain","size":1,"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","uri":"arcp://session/sess_01ARZ3NDEKTSV4RRFFQ69G5FAV/artifact/art_1","expires_at":"2026-01-01T00:00:00Z"}"#,
    ),
    ("artifact.fetch", Client, r#"{"artifact_id":"art_1"}"#),
    ("artifact.release", Client, r#"{"artifact_id":"art_1"}"#),
    ("log", Runtime, r#"{"level":"info","message":"m"}"#),
    ("metric", Runtime, r#"{"name":"n","value":1,"unit":"1"}"#),
    ("trace.span", Runtime, r#"{"name":"n","trace_id":"t","span_id":"s"}"#),
    ("event.emit", Runtime, r#"{"name":"n","data":{}}"#),
];

/// What our client passes over, of all that a runtime may send it, and why.
const PASSED_OVER: [(&str, &str); 3] = [
    ("backpressure", "each of its chunks waits for the answer to the one before, which paces them"),
    ("agent.handoff", "a handoff is shown as a status of the job"),
    ("subscribe.event", "it asks for no subscriptions"),
];

fn frame(kind: &str, payload: &str) -> String {
    format!(
        r#"{{"arcp":"1.1","id":"msg_1","type":"{kind}","session_id":"sess_1","job_id":"job_1","stream_id":"str_x_1","correlation_id":"msg_0","payload":{payload}}}"#
    )
}

#[test]
fn our_runtime_reads_every_type_that_clients_send_and_refuses_the_others_by_name() {
    for (kind, by, payload) in TYPES {
        let text = frame(kind, payload);
        let header = Header::read(&text).expect("a frame");
        let read = read_request(Family::Open, &header).map(|received| received.request);
        if by == Runtime {
            match read {
                Err(refused) => assert_eq!(refused.code, ErrorCode::Unimplemented, "{kind}: {}", refused.message),
                Ok(other) => panic!("{kind} is a runtime's, and is read as {other:?}"),
            }
            continue;
        }
        let request = read.unwrap_or_else(|refused| panic!("{kind}: {}", refused.message));
        // An answer to an answer would never end.
        let is_answer = matches!(kind, "ack" | "nack");
        assert_eq!(matches!(request, Request::Session(SessionRequest::Ignored)), is_answer, "{kind}");
        let passed = matches!(request, Request::Session(SessionRequest::Extension(_)));
        assert!(!passed, "{kind} is taken for an extension");
    }
}

#[test]
fn our_client_reads_every_type_that_runtimes_send_or_passes_it_over_by_name() {
    for (kind, by, payload) in TYPES {
        let text = frame(kind, payload);
        let header = Header::read(&text).expect("a frame");
        let read = read_runtime_frame(Family::Open, &header, UtcMs(0));
        let read = read.unwrap_or_else(|refused| panic!("{kind}: {}", refused.message));
        let is_read = match &read {
            RuntimeFrame::Reply { .. } | RuntimeFrame::Event { .. } | RuntimeFrame::Heartbeat { .. } => true,
            RuntimeFrame::Echo { .. } | RuntimeFrame::Goodbye { .. } => true,
            RuntimeFrame::Counted | RuntimeFrame::Unknown => false,
        };
        let is_passed_over = PASSED_OVER.iter().any(|(name, _)| *name == kind);
        match by {
            Client => {}
            Both if kind == "nack" || kind == "ack" => assert!(is_read, "{kind}"),
            Both | Runtime => assert_eq!(is_read, !is_passed_over, "{kind}: {read:?}"),
        }
    }
}

#[test]
fn our_client_says_back_what_a_runtime_wants_said_back() {
    let config = ClientConfig { family: Family::Open, ..ClientConfig::new("it", "1", Credential::Anonymous) };
    let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
    let mut client = client::Client::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
    let mut said = Vec::new();
    let mut hear = |frame: Option<String>| {
        let input = frame.map_or(ClientInput::Connected, |frame| ClientInput::Received { frame: frame.into_bytes() });
        client.handle(now, input);
        while let Some(output) = client.poll_output() {
            if let ClientOutput::Send { frame } = output {
                said.push(frame);
            }
        }
        std::mem::take(&mut said)
    };
    hear(None);
    let (_, _, accepted) = TYPES.iter().find(|(kind, ..)| *kind == "session.accepted").expect("it is there");
    hear(Some(frame("session.accepted", accepted)));
    let said = hear(Some(frame("ping", r#"{"nonce":"n\u00e9"}"#)));
    let [pong] = said.as_slice() else { panic!("{said:?}") };
    assert!(pong.contains(r#""type":"pong""#) && pong.contains("\"nonce\":\"n\u{e9}\""), "{pong}");
    assert_eq!(hear(Some(frame("pong", "{}"))), Vec::<String>::new(), "an answer has none");
}
