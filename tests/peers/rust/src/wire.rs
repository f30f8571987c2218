//! Its transport with frames written as JSON: what it reads, its own decoder
//! reads.

use std::time::Duration;

use arcp::Envelope;
use arcp::transport::{Transport, websocket::WebSocketTransport};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, with or without a session.
pub struct Wire {
    transport: WebSocketTransport,
    session: Option<Value>,
}

impl Wire {
    pub async fn dial(url: &str) -> Wire {
        let transport = WebSocketTransport::dial(url).await.expect("a connection");
        Wire { transport, session: None }
    }

    /// A session with a bearer token.
    pub async fn open(url: &str, token: &str) -> Wire {
        let mut wire = Wire::dial(url).await;
        let auth = json!({"scheme": "bearer", "token": token});
        let accepted = wire.ask("session.open", opening(auth), &["session.accepted", "session.rejected"]).await;
        assert_eq!(accepted["type"], "session.accepted", "{accepted}");
        wire.session = Some(accepted["session_id"].clone());
        wire
    }

    /// Sends a message as its own writer writes it; gives the id.
    pub async fn send(&self, kind: &str, payload: Value) -> String {
        self.send_with(kind, payload, json!({})).await
    }

    pub async fn send_with(&self, kind: &str, payload: Value, more: Value) -> String {
        let id = arcp::ids::MessageId::new().to_string();
        let mut frame = json!({
            "arcp": "1.1", "id": id, "timestamp": "2026-11-20T03:41:22.687964781Z", "type": kind, "payload": payload,
        });
        if let Some(session) = &self.session {
            frame["session_id"] = session.clone();
        }
        for (name, value) in more.as_object().expect("an object") {
            frame[name] = value.clone();
        }
        let envelope: Envelope = serde_json::from_value(frame).expect("a frame of its own");
        self.transport.send(envelope).await.expect("sent");
        id
    }

    /// The next frame, read by its decoder.
    pub async fn next(&self) -> Option<Value> {
        let read = tokio::time::timeout(PATIENCE, self.transport.recv()).await.expect("something within ten seconds");
        let envelope = read.unwrap_or_else(|error| panic!("its decoder refuses the frame: {error}"))?;
        Some(serde_json::to_value(envelope).expect("JSON"))
    }

    /// Reads until one of these types; all frames up to it.
    pub async fn until(&self, kinds: &[&str]) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let Some(frame) = self.next().await else { panic!("the connection ended after {frames:#?}") };
            let kind = frame["type"].as_str().unwrap_or_default().to_string();
            frames.push(frame);
            if kinds.contains(&kind.as_str()) {
                return frames;
            }
        }
    }

    pub async fn expect(&self, kind: &str) -> Value {
        self.until(&[kind]).await.pop().expect("the frame waited for")
    }

    pub async fn ask(&self, kind: &str, payload: Value, answers: &[&str]) -> Value {
        let id = self.send(kind, payload).await;
        let answer = self.until(answers).await.pop().expect("an answer");
        assert_eq!(answer["correlation_id"], json!(id), "{answer}");
        answer
    }

    /// Invokes a tool; all frames to its end.
    pub async fn run(&self, payload: Value) -> Vec<Value> {
        let id = self.send("tool.invoke", payload).await;
        let frames = self.until(&["job.completed", "job.failed", "job.cancelled", "nack"]).await;
        let own = |frame: &&Value| frame["correlation_id"] == json!(id);
        frames.iter().filter(own).cloned().collect()
    }
}

/// The payload of an opening.
pub fn opening(auth: Value) -> Value {
    json!({"auth": auth, "client": {"kind": "their-rust", "version": "2.0.0"}, "capabilities": {"streaming": true}})
}
