//! Sidecars: bytes beside frames, as peers write and read them by hand (RFC §11.3).

use std::collections::BTreeMap;

use arcp_proto::id::ConnId;
use arcp_proto::json::decode_base64;
use arcp_proto::model::artifact::BlobDigest;
use serde_json::{Value, json};

/// A binary message: the id, a sequence, and the bytes.
pub fn message(id: &str, sequence: u64, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(id.len()).expect("an id is short").to_be_bytes();
    [&length[..], id.as_bytes(), &sequence.to_be_bytes(), bytes].concat()
}

/// The id, the sequence and the bytes of a binary message.
///
/// # Panics
///
/// If it is no such message.
pub fn read(message: &[u8]) -> (String, u64, &[u8]) {
    let (length, rest) = message.split_at(2);
    let (id, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
    let (sequence, bytes) = rest.split_at(8);
    let sequence = u64::from_be_bytes(sequence.try_into().expect("eight bytes"));
    (String::from_utf8(id.to_vec()).expect("an id is a text"), sequence, bytes)
}

/// The sidecar that a frame of a runtime announces, if it does.
pub fn announced(frame: &Value) -> Option<&Value> {
    let payload = &frame["payload"];
    let is_chunk = payload["kind"] == "result_chunk" || payload["kind"] == "x-vendor.arcp.stream";
    let said = if is_chunk { &payload["body"]["sidecar"] } else { &payload["sidecar"] };
    let has = matches!(frame["type"].as_str(), Some("artifact.put" | "job.result_chunk" | "stream.chunk")) || is_chunk;
    Some(said).filter(|said| has && said.is_object())
}

/// A payload in which bytes are replaced by the announcement of a sidecar, so that frames over lines compare equal.
#[must_use]
pub fn as_announced(payload: &Value) -> Value {
    let mut shown = payload.clone();
    let piece = if payload["body"]["encoding"] == "base64" { &mut shown["body"] } else { &mut shown };
    if piece["encoding"] == "base64"
        && let Some(bytes) = piece["data"].as_str().and_then(decode_base64)
    {
        piece["sidecar"] = json!({"bytes": bytes.len(), "frames": 1, "sha256": BlobDigest::of(&bytes).to_string()});
        piece["encoding"] = json!("sidecar");
        piece.as_object_mut().map(|members| members.remove("data"));
    }
    shown
}

/// The payload of an opening whose client accepts sidecars.
#[must_use]
pub fn offered(mut payload: Value) -> Value {
    match payload["capabilities"]["features"].as_array_mut() {
        Some(features) => features.extend(["x-vendor.arcp.sidecar", "x-vendor.arcp.artifacts"].map(Value::from)),
        None => {
            payload["capabilities"]["binary_encoding"] = json!(["base64", "sidecar"]);
            payload["capabilities"]["artifacts"] = json!(true);
        }
    }
    payload
}

/// Checks that every announced sidecar follows its frame, with nothing in between.
#[derive(Debug, Default)]
pub struct Announced(BTreeMap<ConnId, (String, u64)>);

impl Announced {
    /// Watches a frame.
    ///
    /// # Panics
    ///
    /// If a sidecar should have come first.
    pub fn frame(&mut self, conn: ConnId, frame: &Value) {
        assert!(!self.0.contains_key(&conn), "a frame where bytes were announced: {frame}");
        if let Some(said) = announced(frame) {
            let id = frame["stream_id"].as_str().or(frame["id"].as_str()).expect("a frame has an id");
            self.0.insert(conn, (id.to_string(), said["bytes"].as_u64().expect("it says how many")));
        }
    }

    /// Watches a binary message.
    ///
    /// # Panics
    ///
    /// If no frame announced it.
    pub fn message(&mut self, conn: ConnId, message: &[u8]) {
        let (id, _, bytes) = read(message);
        assert_eq!(self.0.remove(&conn), Some((id, bytes.len() as u64)), "it is what was announced");
    }

    /// A connection was closed.
    pub fn gone(&mut self, conn: ConnId) {
        assert_eq!(self.0.remove(&conn), None, "what was announced is written");
    }
}
