//! Our client against a runtime that may send anything.

use arcp_proto::client::{Client, ClientConfig, ClientEvent, ClientInput, ClientOutput, ResultData};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::WireId;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;
use serde_json::{Value, json};

use super::bytes::Bytes;

const WELCOME: &str = r#"{"id":"msg_1","type":"session.welcome","session_id":"s","payload":{"session_id":"s","resume_token":"t","resume_window_sec":600,"runtime":{"name":"r","version":"1"},"capabilities":{"features":["ack","subscribe","list_jobs","result_chunk","progress","x-vendor.arcp.sidecar"]}}}"#;
const ACCEPTED: &str = r#"{"id":"msg_1","type":"session.accepted","payload":{"session_id":"s","resume_token":"t","capabilities":{"result_chunk":true,"binary_encoding":["base64","sidecar"]}}}"#;

/// A client, the frames that it sent, and its events.
struct Peer {
    client: Client,
    now: Now,
    sent: Vec<String>,
    events: Vec<ClientEvent>,
}

impl Peer {
    fn new(family: Family) -> Peer {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let mut config = ClientConfig::new("fuzz", "1", Credential::Anonymous);
        config.family = family;
        config.limits.early = 16;
        config.limits.followed = 4;
        config.limits.result_bytes = 4096;
        let client = Client::new(config, seeds, now).expect("the configuration works");
        Peer { client, now, sent: Vec::new(), events: Vec::new() }
    }

    fn put(&mut self, input: ClientInput) {
        self.client.handle(self.now, input);
        if let Some((at, timer)) = self.client.next_deadline() {
            assert!(at > self.now.mono, "the deadline for {timer:?} has passed already");
        }
        let mut outputs = 0;
        while let Some(output) = self.client.poll_output() {
            outputs += 1;
            match output {
                ClientOutput::Send { frame } => self.sent.push(frame),
                ClientOutput::Event(event) => self.events.push(event),
                ClientOutput::SendSidecar { message } => assert!(message.len() >= 10, "a message without a head"),
                ClientOutput::Connect | ClientOutput::Disconnect => {}
            }
        }
        assert!(outputs < 400, "one input gave {outputs} outputs");
    }

    fn receive(&mut self, frame: impl Into<Vec<u8>>) {
        self.put(ClientInput::Received { frame: frame.into() });
    }

    fn submit(&mut self) {
        let agent = AgentRef::parse("it").expect("a name");
        if let Ok(mut session) = self.client.session() {
            // A bound may refuse the job.
            let _ = session.submit(Submit::new(agent));
        }
        self.put(ClientInput::Tick);
    }

    /// The id of the last frame that was sent.
    fn last_id(&self) -> Value {
        let frame: Value = self.sent.last().map_or(Value::Null, |frame| serde_json::from_str(frame).expect("JSON"));
        frame["id"].clone()
    }
}

/// Each line is an input; its first byte selects which.
pub(super) fn client_bytes(data: &[u8]) {
    let mut data = Bytes(data);
    let family = if data.byte() & 1 == 0 { Family::Hello } else { Family::Open };
    let mut peer = Peer::new(family);
    peer.put(ClientInput::Tick);
    peer.put(ClientInput::Connected);
    for _ in 0..200 {
        if data.is_empty() {
            return;
        }
        let mut line = Bytes(data.line());
        match line.below(10) {
            0 => peer.put(ClientInput::Connected),
            1 => peer.put(ClientInput::Disconnected { why: "cut".into() }),
            2 => peer.put(ClientInput::ConnectFailed { why: "refused".into() }),
            3 => {
                peer.now.mono.0 += 1_000_000 * u64::from(line.byte());
                peer.put(ClientInput::Tick);
            }
            4 => peer.receive(if family == Family::Open { ACCEPTED } else { WELCOME }),
            5 => peer.submit(),
            6 => {
                let job = WireId::new("job_1").expect("an id");
                if let Ok(mut session) = peer.client.session() {
                    // A bound may refuse the cancel.
                    let _ = session.cancel(job, None);
                }
                peer.put(ClientInput::Tick);
            }
            // An answer to the last frame that was sent.
            7 => {
                let Ok(text) = std::str::from_utf8(line.0) else { continue };
                let id = peer.last_id().as_str().unwrap_or_default().to_string();
                peer.receive(text.replace('$', &id));
            }
            _ if line.0.first().is_some_and(|first| *first < 2) => {
                peer.put(ClientInput::ReceivedBinary { message: line.0.to_vec() });
            }
            _ => peer.receive(line.0),
        }
    }
}

/// Pieces of a result in any order, some of them repeated or missing: the client must return the result that was sent,
/// or report that it is broken.
pub(super) fn chunks(data: &[u8]) {
    let mut data = Bytes(data);
    let mut peer = Peer::new(Family::Hello);
    peer.put(ClientInput::Tick);
    peer.put(ClientInput::Connected);
    peer.receive(WELCOME);
    peer.submit();
    let accepted = json!({"id": "a", "type": "job.accepted", "session_id": "s", "job_id": "job_1", "payload": {
        "job_id": "job_1", "agent": "it", "lease": {}, "request_id": peer.last_id(),
    }});
    peer.receive(accepted.to_string());
    let pieces = 1 + data.below(4);
    let texts: Vec<String> =
        (0..pieces).map(|n| char::from(b'a' + n as u8).to_string().repeat(data.below(9))).collect();
    let mut seq = 0;
    while !data.is_empty() && seq < 64 {
        seq += 1;
        let at = data.below(pieces + 1);
        let text = texts.get(at).map_or("zz", String::as_str);
        let chunk = json!({"id": format!("e{seq}"), "type": "job.event", "session_id": "s", "job_id": "job_1",
        "event_seq": seq, "payload": {"kind": "result_chunk", "ts": "2026-01-01T00:00:00Z", "body": {
            "result_id": "res_1", "chunk_seq": at, "data": text, "encoding": "utf8", "more": at + 1 < pieces,
        }}});
        peer.receive(chunk.to_string());
    }
    let whole = texts.concat();
    let end = json!({"id": "end", "type": "job.result", "session_id": "s", "job_id": "job_1", "event_seq": seq + 1,
        "payload": {"final_status": "success", "job_id": "job_1", "result_id": "res_1", "result_size": whole.len()}});
    peer.receive(end.to_string());
    let ended = peer
        .events
        .iter()
        .filter_map(|event| if let ClientEvent::JobEnded { result, .. } = event { Some(result) } else { None });
    let ended: Vec<&ResultData> = ended.collect();
    match ended.as_slice() {
        [ResultData::Streamed { bytes, text: true }] => assert_eq!(String::from_utf8_lossy(bytes), whole),
        [ResultData::Broken { why }] => assert!(!why.is_empty()),
        other => panic!("the job ended as {other:?}"),
    }
}
