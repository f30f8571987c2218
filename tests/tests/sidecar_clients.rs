//! Our client against runtimes whose sidecars (RFC §11.3) are missing, wrong or unannounced.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use arcp_proto::client::artifacts::ask;
use arcp_proto::client::streams::say;
use arcp_proto::client::{Client, ClientConfig, ClientEvent, ClientInput, ClientOutput, ResultData};
use arcp_proto::entropy::Seeds;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::artifact::{BlobDigest, PutArtifact};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::model::stream::{StreamRequest, StreamSaid};
use arcp_proto::model::upload::{ArtifactPart, ArtifactWish};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_tests::sidecars::{message, read};
use serde_json::{Value, json};

const BYTES: &[u8] = &[0, 255, 10];

struct Peer {
    client: Client,
    now: Now,
    sent: Vec<Value>,
    messages: Vec<Vec<u8>>,
    events: Vec<ClientEvent>,
}

impl Peer {
    /// A client with a session, whose runtime takes what it says.
    fn opened(features: &[&str], lines: bool) -> Peer {
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let config = ClientConfig::new("it", "1", Credential::Anonymous);
        let mut client = Client::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        if lines {
            arcp_proto::client::speak_in_lines(&mut client);
        }
        let mut peer = Peer { client, now, sent: Vec::new(), messages: Vec::new(), events: Vec::new() };
        peer.put(ClientInput::Tick);
        peer.put(ClientInput::Connected);
        peer.hear(json!({"id": "w", "type": "session.welcome", "session_id": "s", "payload": {
            "session_id": "s", "resume_token": "t", "resume_window_sec": 600,
            "runtime": {"name": "theirs", "version": "1"}, "capabilities": {"features": features}}}));
        peer
    }

    fn put(&mut self, input: ClientInput) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll_output() {
            match output {
                ClientOutput::Send { frame } => self.sent.push(serde_json::from_str(&frame).expect("JSON")),
                ClientOutput::SendSidecar { message } => self.messages.push(message),
                ClientOutput::Event(event) => self.events.push(event),
                ClientOutput::Connect | ClientOutput::Disconnect => {}
            }
        }
    }

    fn hear(&mut self, frame: Value) {
        self.put(ClientInput::Received { frame: frame.to_string().into_bytes() });
    }

    fn beside(&mut self, message: Vec<u8>) {
        self.put(ClientInput::ReceivedBinary { message });
    }

    fn unreadable(&self) -> Vec<&str> {
        fn why(event: &ClientEvent) -> Option<&str> {
            if let ClientEvent::Unreadable { why } = event { Some(why) } else { None }
        }
        self.events.iter().filter_map(why).collect()
    }

    fn submit(&mut self) {
        let submit = Submit::new(AgentRef::parse("it").expect("a name"));
        self.client.session().expect("open").submit(submit).expect("given");
        self.put(ClientInput::Tick);
        let request = self.sent.last().expect("it is sent")["id"].clone();
        self.hear(json!({"id": "a", "type": "job.accepted", "session_id": "s", "job_id": "job_1", "payload": {
            "job_id": "job_1", "agent": "it", "lease": {}, "request_id": request}}));
    }

    /// A piece whose bytes go beside it.
    fn piece(&mut self, seq: u64, sidecar: Value, more: bool) {
        self.hear(json!({"id": format!("e{seq}"), "type": "job.event", "session_id": "s", "job_id": "job_1",
            "event_seq": seq, "payload": {"kind": "result_chunk", "ts": "2026-01-01T00:00:00Z", "body": {
                "result_id": "r", "chunk_seq": seq - 1, "sidecar": sidecar, "encoding": "sidecar", "more": more}}}));
    }

    fn end(&mut self, seq: u64) -> ResultData {
        self.hear(json!({"id": "end", "type": "job.result", "session_id": "s", "job_id": "job_1", "event_seq": seq,
            "payload": {"final_status": "success", "job_id": "job_1", "result_id": "r"}}));
        let ended = self.events.iter().find_map(|event| match event {
            ClientEvent::JobEnded { result, .. } => Some(result.clone()),
            _ => None,
        });
        ended.expect("it ended")
    }
}

const FEATURES: &[&str] = &["ack", "result_chunk", "x-vendor.arcp.sidecar", "x-vendor.arcp.artifacts"];

fn said(bytes: &[u8]) -> Value {
    json!({"bytes": bytes.len(), "frames": 1, "sha256": BlobDigest::of(bytes).to_string()})
}

#[test]
fn pieces_are_put_together_from_what_came_beside_them() {
    let mut peer = Peer::opened(FEATURES, false);
    peer.submit();
    peer.piece(1, said(BYTES), true);
    peer.beside(message("e1", 0, BYTES));
    peer.piece(2, json!({"bytes": 4, "frames": 2}), false);
    peer.beside(message("e2", 1, b"ta"));
    peer.beside(message("e2", 1, b"il"));
    assert_eq!(peer.end(3), ResultData::Streamed { bytes: [BYTES, b"tail"].concat(), text: false });
    assert_eq!(peer.unreadable(), [] as [&str; 0]);
}

#[test]
fn a_chunk_of_a_stream_is_told_with_its_bytes_as_over_any_transport() {
    let mut peer = Peer::opened(FEATURES, false);
    peer.submit();
    peer.hear(json!({"id": "e1", "type": "job.event", "session_id": "s", "job_id": "job_1", "event_seq": 1,
        "payload": {"kind": "x-vendor.arcp.stream", "ts": "2026-01-01T00:00:00Z", "body": {"type": "stream.chunk",
            "stream_id": "str_1", "sequence": 0, "sidecar": said(BYTES), "encoding": "sidecar"}}}));
    assert!(!peer.events.iter().any(|event| matches!(event, ClientEvent::Job { .. })), "its bytes are to come");
    peer.beside(message("e1", 0, BYTES));
    let body = peer.events.iter().find_map(|event| match event {
        ClientEvent::Job { event: JobEvent::Emitted { kind: EventKind::StreamChunk, body }, .. } => Some(body.as_str()),
        _ => None,
    });
    assert_eq!(body, Some(r#"{"stream_id":"str_1","sequence":0,"data":"AP8K","encoding":"base64"}"#));
}

#[test]
fn a_piece_without_its_bytes_breaks_its_result_alone() {
    for wrong in [None, Some(message("e1", 0, b"other bytes")), Some(message("e1", 0, b"oth"))] {
        let mut peer = Peer::opened(FEATURES, false);
        peer.submit();
        peer.piece(1, said(BYTES), true);
        wrong.into_iter().for_each(|wrong| peer.beside(wrong));
        peer.piece(2, said(BYTES), false);
        peer.beside(message("e2", 1, BYTES));
        assert!(matches!(peer.end(3), ResultData::Broken { .. }));
        assert_eq!(peer.unreadable().len(), 1, "{:?}", peer.events);
    }
}

#[test]
fn an_event_that_waits_for_its_bytes_is_asked_for_again_after_a_loss() {
    let mut peer = Peer::opened(FEATURES, false);
    peer.submit();
    peer.piece(1, said(BYTES), true);
    peer.put(ClientInput::Disconnected { why: "cut".into() });
    peer.now.mono.0 += 10_000_000;
    peer.put(ClientInput::Tick);
    peer.put(ClientInput::Connected);
    let hello = peer.sent.last().expect("a hello");
    assert_eq!(hello["payload"]["resume"]["last_event_seq"], 0, "{hello}");
    // What was on its way is nobody's now.
    peer.beside(message("e1", 0, BYTES));
}

#[test]
fn bytes_that_were_fetched_and_are_wrong_are_an_error_of_that_fetch() {
    let mut peer = Peer::opened(FEATURES, false);
    let id = WireId::new("art_1").expect("an id");
    peer.client.session().expect("open").fetch_artifact(id).expect("given");
    peer.put(ClientInput::Tick);
    let artifact = json!({"artifact_id": "art_1", "uri": "arcp://session/sess_01ARZ3NDEKTSV4RRFFQ69G5FAV/artifact/art_1",
        "media_type": "a/b", "size": 3, "sha256": BlobDigest::of(BYTES).to_string(),
        "expires_at": "2026-01-01T00:00:00Z", "sidecar": said(BYTES)});
    peer.hear(json!({"id": "p", "type": "artifact.put", "session_id": "s", "payload": artifact}));
    peer.beside(message("p", 0, b"xyz"));
    let refused = peer.events.iter().find_map(|event| match event {
        ClientEvent::Refused { handle: Some(_), refusal } => Some(refusal),
        _ => None,
    });
    assert_eq!(refused.expect("it is refused").code, ErrorCode::DataLoss);
}

#[test]
fn messages_of_nobody_are_told_and_change_nothing() {
    let mut peer = Peer::opened(FEATURES, false);
    for stray in [message("e1", 0, BYTES), vec![0, 200], vec![1]] {
        peer.beside(stray);
    }
    assert_eq!(peer.unreadable().len(), 3);
    peer.beside(json!({"id": "p", "type": "session.ping", "payload": {"nonce": "n"}}).to_string().into_bytes());
    assert_eq!(peer.sent.last().expect("a pong")["type"], "session.pong", "JSON is a frame");
}

#[test]
fn bytes_are_left_beside_the_frame_where_both_sides_take_them() {
    let without: &[&str] = &["x-vendor.arcp.artifacts"];
    for (features, lines, beside) in [(FEATURES, false, true), (without, false, false), (FEATURES, true, false)] {
        let mut peer = Peer::opened(features, lines);
        assert_eq!(peer.sent[0].to_string().contains("x-vendor.arcp.sidecar"), !lines);
        let put = PutArtifact::new("a/b".parse().expect("a type"), BYTES.to_vec());
        peer.client.session().expect("open").put_artifact(put).expect("given");
        peer.put(ClientInput::Tick);
        let frame = peer.sent.last().expect("it is sent");
        assert_eq!(frame["type"], "artifact.put");
        if beside {
            assert_eq!(frame["payload"]["sidecar"], said(BYTES));
            let id = frame["id"].as_str().expect("an id").to_string();
            assert_eq!(peer.messages.iter().map(|message| read(message)).collect::<Vec<_>>(), [(id, 0, BYTES)]);
        } else {
            assert_eq!((&frame["payload"]["data"], peer.messages.len()), (&json!("AP8K"), 0));
        }
    }
}

#[test]
fn chunks_to_agents_and_parts_of_artifacts_go_beside_their_frames_where_both_sides_take_them() {
    let features = [FEATURES, &["x-vendor.arcp.open_surfaces"]].concat();
    let without: Vec<&str> = features.iter().copied().filter(|name| !name.ends_with("sidecar")).collect();
    for (features, beside) in [(&features, true), (&without, false)] {
        let mut peer = Peer::opened(features, false);
        let (job, stream) = (WireId::new("job_1").expect("an id"), WireId::new("mine").expect("an id"));
        let chunk = |says| StreamRequest { job: job.clone(), stream: stream.clone(), says };
        let part = |data: &[u8]| {
            let part = ArtifactPart { digest: BlobDigest::of(b"whole"), size: 5, offset: 2, data: data.to_vec() };
            ArtifactWish::Part(part)
        };
        let mut session = peer.client.session().expect("open");
        say(&mut session, chunk(StreamSaid::chunk(3, BYTES, None))).expect("given");
        say(&mut session, chunk(StreamSaid::chunk(4, b"text", Some("text")))).expect("given");
        ask(&mut session, part(BYTES)).expect("given");
        ask(&mut session, part(b"")).expect("given");
        peer.put(ClientInput::Tick);
        let [bytes, text, part, question] = &peer.sent[peer.sent.len() - 4..] else { panic!("four frames") };
        let id = |frame: &Value| frame["id"].as_str().expect("an id").to_string();
        let messages: Vec<_> = peer.messages.iter().map(|message| read(message)).collect();
        assert_eq!((&text["payload"]["data"], &text["payload"]["sidecar"]), (&json!("text"), &Value::Null));
        assert_eq!(question["payload"]["data"], "", "one without bytes asks");
        if beside {
            assert_eq!(messages, [(id(bytes), 3, BYTES), (id(part), 0, BYTES)]);
            assert_eq!((&bytes["payload"]["sidecar"], &part["payload"]["sidecar"]), (&said(BYTES), &said(BYTES)));
            assert_eq!(bytes["payload"]["encoding"], "sidecar");
        } else {
            assert_eq!(messages, []);
            assert_eq!((&bytes["payload"]["data"], &bytes["payload"]["encoding"]), (&json!("AP8K"), &json!("base64")));
        }
        let data = |frame: &Value| frame["payload"]["data"].is_string();
        assert_eq!([data(bytes), data(part)], [!beside; 2]);
    }
}
