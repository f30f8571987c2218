//! Bytes beside frames over QUIC, by peers that do it wrongly.

use std::time::{Duration, Instant};

use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::Config;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::PATIENCE;
use arcp_tests::sidecars::{message, offered};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::CARRIED;
use crate::carried::quic;
use crate::site::{Site, runtime};

const BYTES: &[u8] = b"beside a frame";

/// A session, by hand.
struct Session {
    _endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    receive: BufReader<RecvStream>,
}

impl Session {
    async fn open(site: &Site) -> Session {
        let (_endpoint, connection) = quic(&site.target, &site.security).await;
        let (send, receive) = connection.open_bi().await.expect("a stream");
        let mut session = Session { _endpoint, connection, send, receive: BufReader::new(receive) };
        session.say("h", "session.hello", &offered(hello_payload("tok-a"))).await;
        session.until("session.welcome").await;
        session
    }

    async fn say(&mut self, id: &str, kind: &str, payload: &Value) {
        let frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
        self.write(format!("{frame}\n").as_bytes()).await;
    }

    /// Announces bytes, and says where they stand.
    async fn put(&mut self, id: &str) {
        let sidecar = json!({"bytes": BYTES.len(), "frames": 1, "sha256": BlobDigest::of(BYTES).to_string()});
        self.say(id, "artifact.put", &json!({"media_type": "a/b", "sidecar": sidecar})).await;
        self.write(b"+\n").await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.expect("written");
    }

    async fn beside(&self, message: &[u8]) -> SendStream {
        let opened = timeout(PATIENCE, self.connection.open_uni()).await.expect("in time");
        let mut stream = opened.expect("a stream");
        stream.write_all(message).await.expect("written");
        stream
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.receive.read_line(&mut line)).await.expect("in time");
            assert!(read.expect("it goes on") > 0, "it ended before a {kind}");
            let frame: Value = serde_json::from_str(&line).expect("JSON");
            if frame["type"] == kind {
                return frame;
            }
            assert_ne!(frame["type"], "session.error", "before a {kind}: {frame}");
        }
    }

    /// Waits for an error that says this.
    async fn refused(&mut self, why: &str) {
        let error = self.until("session.error").await;
        assert!(error["payload"]["message"].as_str().is_some_and(|said| said.contains(why)), "{error}");
    }

    /// Leaves bytes rightly.
    async fn works(&mut self, id: &str) {
        self.put(id).await;
        self.beside(&message(id, 0, BYTES)).await.finish().expect("open");
        self.until("artifact.ref").await;
    }
}

fn briefly(config: &mut Config) {
    config.timing.artifact_retention = Some(Duration::from_secs(600));
    config.limits.frame.sidecar_seconds = 1;
    config.limits.frame.sidecar_bytes = 64 << 10;
    config.limits.stream.stream_bytes = 16 << 10;
}

#[test]
fn what_comes_before_its_frame_waits_and_what_comes_late_or_never_is_refused_once() {
    let site = Site::start(CARRIED[2], briefly);
    runtime().block_on(async {
        let mut session = Session::open(&site).await;
        // Early: it waits unread.
        let stream = session.beside(&message("1", 0, BYTES)).await;
        drop(stream);
        session.put("1").await;
        session.until("artifact.ref").await;
        // Never, and then late: nobody takes it for the next one.
        session.put("2").await;
        session.refused("did not come in time").await;
        session.say("3", "session.ping", &json!({"nonce": "n"})).await;
        session.until("session.pong").await;
        let late = session.beside(&message("2", 0, BYTES)).await;
        drop(late);
        session.works("4").await;
        // Reset: as one that never comes, and what follows is heard at once.
        session.put("5").await;
        let mut reset = session.beside(b"\0").await;
        reset.reset(0u32.into()).expect("open");
        session.say("p", "session.ping", &json!({"nonce": "n"})).await;
        session.refused("right after its frame").await;
        session.works("6").await;
    });
}

#[test]
fn what_is_too_long_or_announced_by_nobody_gets_one_error_and_the_session_goes_on() {
    let site = Site::start(CARRIED[2], briefly);
    runtime().block_on(async {
        let mut session = Session::open(&site).await;
        session.put("1").await;
        let opened = session.connection.open_uni().await;
        let mut long = opened.expect("a stream");
        let _ = timeout(PATIENCE, long.write_all(&message("1", 0, &vec![0; 16 << 20]))).await.expect("it is stopped");
        session.refused("bytes").await;
        session.works("2").await;
        // One that has no place among the frames.
        session.beside(&message("nobody", 0, BYTES)).await.finish().expect("open");
        session.refused("nobody").await;
        session.works("3").await;
        // Nobody says in a line what only stands for a message.
        session.write(b" +\n").await;
        session.refused("").await;
        session.works("4").await;
    });
}

#[test]
fn who_opens_many_streams_before_any_frame_is_let_open_four_and_send_little() {
    let site = Site::start(CARRIED[2], briefly);
    runtime().block_on(async {
        let mut session = Session::open(&site).await;
        let (mut streams, began) = (Vec::new(), Instant::now());
        for _ in 0..4 {
            let opened = timeout(PATIENCE, session.connection.open_uni()).await.expect("in time");
            streams.push(opened.expect("a stream"));
        }
        let short = Duration::from_millis(200);
        timeout(short, session.connection.open_uni()).await.expect_err("there are four");
        for stream in &mut streams {
            let mut taken = 0;
            while let Ok(Ok(some)) = timeout(Duration::from_millis(50), stream.write(&[0; 1 << 10])).await {
                taken += some;
            }
            assert!(taken <= 16 << 10, "{taken}");
        }
        assert!(began.elapsed() < PATIENCE);
        // Frames have their own way, and are heard meanwhile.
        session.say("1", "session.ping", &json!({"nonce": "n"})).await;
        session.until("session.pong").await;
    });
}
