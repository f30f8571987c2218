//! A client that sends the frames of a test and keeps the frames that come back.

use std::time::Duration;

use arcp_proto::id::ConnId;
use serde_json::{Value, json};

use crate::world::World;

/// How long a test waits for anything, in virtual time, before it fails.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// The most steps of the world within which a frame must come: a timer that fires again and again is no progress.
const MOST_STEPS: usize = 100_000;

/// A raw connection in a world.
#[derive(Debug)]
pub struct Raw {
    /// The connection.
    pub conn: ConnId,
    sent: u64,
    read: usize,
}

impl Raw {
    /// Connects, and sends nothing.
    pub fn connect(world: &mut World) -> Raw {
        Raw::on(world.open_raw())
    }

    /// Uses an open connection.
    pub fn on(conn: ConnId) -> Raw {
        Raw { conn, sent: 0, read: 0 }
    }

    /// Connects from an address, and sends nothing.
    pub fn connect_from(world: &mut World, address: &str) -> Raw {
        let address = address.parse().expect("an address");
        Raw { conn: world.open_raw_from(address), sent: 0, read: 0 }
    }

    /// Connects and opens a session with a bearer token.
    pub fn hello(world: &mut World, token: &str) -> (Raw, Value) {
        let mut raw = Raw::connect(world);
        raw.send(world, "session.hello", hello_payload(token));
        let welcome = raw.expect(world, "session.welcome");
        (raw, welcome)
    }

    /// Connects and opens a session whose client offers all features that concern leases.
    pub fn hello_with_leases(world: &mut World, token: &str) -> (Raw, Value) {
        let mut raw = Raw::connect(world);
        raw.send(world, "session.hello", leases_payload(token));
        let welcome = raw.expect(world, "session.welcome");
        (raw, welcome)
    }

    /// Connects and opens a session whose client is sent the credentials of its jobs.
    pub fn hello_with_credentials(world: &mut World, token: &str) -> (Raw, Value) {
        let mut raw = Raw::connect(world);
        raw.send(world, "session.hello", credentials_payload(token));
        let welcome = raw.expect(world, "session.welcome");
        (raw, welcome)
    }

    /// Resumes a session on a new connection.
    pub fn resume(world: &mut World, token: &str, welcome: &Value, last: u64) -> Raw {
        Raw::resume_with(world, hello_payload(token), welcome, last)
    }

    /// Resumes a session with this payload of a hello.
    pub fn resume_with(world: &mut World, mut payload: Value, welcome: &Value, last: u64) -> Raw {
        let mut raw = Raw::connect(world);
        payload["resume"] = json!({
            "session_id": welcome["payload"]["session_id"],
            "resume_token": welcome["payload"]["resume_token"],
            "last_event_seq": last,
        });
        raw.send(world, "session.hello", payload);
        raw
    }

    /// Connects and opens a session of the open family.
    pub fn open(world: &mut World, token: &str) -> (Raw, Value) {
        Raw::open_with(world, open_payload(token))
    }

    /// Connects and opens a session of the open family with this payload.
    pub fn open_with(world: &mut World, payload: Value) -> (Raw, Value) {
        let mut raw = Raw::connect(world);
        raw.send(world, "session.open", payload);
        let accepted = raw.expect(world, "session.accepted");
        (raw, accepted)
    }

    /// Opens a session of the open family and resumes an earlier one with it.
    pub fn reclaim(world: &mut World, token: &str, accepted: &Value, last: u64) -> Raw {
        let (mut raw, _) = Raw::open(world, token);
        let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": last});
        raw.send(world, "session.resume", claim);
        raw
    }

    /// Invokes a tool; returns the acceptance.
    pub fn invoke(&mut self, world: &mut World, payload: Value) -> Value {
        self.send(world, "tool.invoke", payload);
        self.expect(world, "job.accepted")
    }

    /// Sends a message with a new id; returns the id.
    pub fn send(&mut self, world: &mut World, kind: &str, payload: Value) -> String {
        self.send_with(world, kind, payload, json!({}))
    }

    /// Sends a message with further members in its envelope.
    pub fn send_with(&mut self, world: &mut World, kind: &str, payload: Value, more: Value) -> String {
        self.sent += 1;
        let id = self.last_id();
        let mut frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
        for (name, value) in more.as_object().expect("an object") {
            frame[name] = value.clone();
        }
        self.send_text(world, &frame.to_string());
        id
    }

    /// The id of the last message that was sent.
    pub fn last_id(&self) -> String {
        format!("m{}-{}", self.conn.0, self.sent)
    }

    /// Sends this text without changes.
    pub fn send_text(&mut self, world: &mut World, text: &str) {
        world.send_raw(self.conn, text.as_bytes().to_vec());
    }

    /// Submits a job; returns the acceptance.
    pub fn submit(&mut self, world: &mut World, payload: Value) -> Value {
        self.send(world, "job.submit", payload);
        self.expect(world, "job.accepted")
    }

    /// Runs the world until nothing is in flight, and returns the frames that have come.
    pub fn settle(&mut self, world: &mut World) -> Vec<Value> {
        world.settle();
        self.take(world)
    }

    /// The frames that have come since the last look.
    pub fn take(&mut self, world: &World) -> Vec<Value> {
        let all = world.frames_of(self.conn);
        let new = all[self.read..].iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
        self.read = all.len();
        new
    }

    /// Runs the world until a message of this type has come, and returns it. Skips others.
    pub fn expect(&mut self, world: &mut World, kind: &str) -> Value {
        self.expect_any(world, &[kind])
    }

    /// As [`expect`](Self::expect), for any of several types.
    pub fn expect_any(&mut self, world: &mut World, kinds: &[&str]) -> Value {
        let (until, mut steps) = (world.now().mono + PATIENCE, 0);
        loop {
            let all = world.frames_of(self.conn);
            for (at, text) in all.iter().enumerate().skip(self.read) {
                let frame: Value = serde_json::from_str(text).expect("JSON");
                if kinds.iter().any(|kind| frame["type"] == *kind) {
                    self.read = at + 1;
                    return frame;
                }
            }
            steps += 1;
            let went_on = steps < MOST_STEPS && world.now().mono < until && world.step();
            assert!(went_on, "no {kinds:?} came on {:?}: {:#?}", self.conn, &world.frames_of(self.conn)[self.read..]);
        }
    }

    /// Runs the world until the job has ended; returns all frames until then.
    pub fn until_end(&mut self, world: &mut World) -> Vec<Value> {
        let (mut frames, until) = (Vec::new(), world.now().mono + PATIENCE);
        loop {
            for frame in self.take(world) {
                let end = matches!(frame["type"].as_str(), Some("job.result" | "job.error" | "job.completed" | "job.failed"))
                    // In the hello family this is only the acknowledgement of a cancel.
                    || frame["type"] == "job.cancelled" && !frame["event_seq"].is_null();
                frames.push(frame);
                if end {
                    return frames;
                }
            }
            let went_on = world.now().mono < until && world.step();
            assert!(went_on, "the job did not end: {frames:#?}");
        }
    }

    /// Whether the runtime has closed the connection.
    pub fn is_closed(&self, world: &World) -> bool {
        world.is_closed(self.conn)
    }
}

/// The error code of a frame.
pub fn code(frame: &Value) -> &str {
    frame["payload"]["code"].as_str().unwrap_or_default()
}

/// The payload of a complete hello.
pub fn hello_payload(token: &str) -> Value {
    json!({
        "client": {"name": "raw", "version": "1"},
        "auth": {"scheme": "bearer", "token": token},
        "capabilities": {"encodings": ["json"], "features": [
            "heartbeat", "ack", "list_jobs", "subscribe", "progress", "result_chunk", "agent_versions",
        ]},
    })
}

/// The payload of a hello whose client offers all features that concern leases.
pub fn leases_payload(token: &str) -> Value {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.extend(["lease_expires_at", "cost.budget", "model.use"].map(Value::from));
    payload
}

/// The payload of a hello whose client is sent the credentials of its jobs.
pub fn credentials_payload(token: &str) -> Value {
    let mut payload = leases_payload(token);
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("provisioned_credentials"));
    payload
}

/// The payload of a complete opening in the open family.
pub fn open_payload(token: &str) -> Value {
    json!({
        "auth": {"scheme": "bearer", "token": token},
        "client": {"kind": "raw", "version": "1"},
        "capabilities": {"result_chunk": true, "heartbeat_interval_seconds": 30},
    })
}
