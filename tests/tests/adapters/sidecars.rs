//! Bytes beside frames, where a transport has binary messages.

use std::time::Duration;

use arcp_proto::model::artifact::{BlobDigest, PutArtifact};
use arcp_proto::model::feature::Feature;
use arcp_proto::runtime::Config;
use arcp_tests::raw::hello_payload;
use arcp_tests::sidecars::{message, offered};
use serde_json::json;

use crate::our_client::OurClient;
use crate::site::Adapter::{Blocking, Tokio};
use crate::site::{Over, Site};
use crate::transcript::same_over;
use crate::{CARRIED, EVENT_LOOP, EVERY, LINES, PORTS};

const BYTES: &[u8] = &[0, 159, 146, 150, b'\n', 1];

fn with_artifacts(config: &mut Config) {
    config.timing.artifact_retention = Some(Duration::from_secs(600));
}

#[test]
fn bytes_go_beside_frames_alike() {
    same_over(&[PORTS[0], PORTS[1], EVENT_LOOP, CARRIED[2]], |adapter| {
        let site = Site::start(adapter, with_artifacts);
        let mut peer = site.peer_beside();
        peer.say("h", "session.hello", offered(hello_payload("tok-a")));
        peer.until("session.welcome");
        peer.say(
            "1",
            "job.submit",
            json!({"agent": "chunker",
            "input": {"chunks": 20, "bytes": 60_000, "encoding": "base64"}}),
        );
        peer.until("job.result");
        // One that fits, one that is announced wrongly, one that never comes, one that is for nobody.
        let sidecar = json!({"bytes": BYTES.len(), "frames": 1, "sha256": BlobDigest::of(BYTES).to_string()});
        let put = json!({"media_type": "a/b", "artifact_id": "art_mine", "sidecar": sidecar});
        peer.say("2", "artifact.put", put.clone());
        peer.say_binary(message("2", 0, BYTES));
        peer.until("artifact.ref");
        peer.say("3", "artifact.put", put.clone());
        peer.say_binary(message("3", 0, b"others"));
        peer.until("session.error");
        peer.say("4", "artifact.put", put);
        peer.say("5", "artifact.fetch", json!({"artifact_id": "art_mine"}));
        peer.until("session.error");
        peer.until("artifact.put");
        peer.until_binary();
        peer.say_binary(message("nobody", 7, BYTES));
        peer.until("session.error");
        vec![peer.seen]
    });
}

#[test]
fn what_is_too_long_before_a_session_ends_the_connection_alike() {
    same_over(PORTS, |adapter| {
        let site = Site::start(adapter, |_| {});
        let mut peer = site.peer();
        peer.say_binary(message("x", 0, &vec![0; 16 << 20]));
        vec![peer.until_closed()]
    });
}

#[test]
fn our_clients_get_and_leave_the_same_bytes_over_everything() {
    for client in [Blocking, Tokio] {
        let mut beside = Vec::new();
        same_over(EVERY, |server| {
            let site = Site::start(server, with_artifacts);
            let is_there = matches!(server.1, Over::WebSocket | Over::Tls) || (client, server.1) == (Tokio, Over::Quic);
            let client = OurClient::connect(client, &site, None);
            beside.push((is_there, client.welcome().features.has(Feature::Sidecars)));
            let input = r#"{"chunks":3,"bytes":100000,"encoding":"base64"}"#;
            let job = client.submit("chunker", input).expect("it is accepted").rest();
            let kept = client.put(PutArtifact::new("a/b".parse().expect("a type"), BYTES.to_vec()));
            let fetched = client.fetch(kept.id);
            assert_eq!(fetched.data, BYTES, "{server:?}");
            let made = client.submit("artist", r#"{"bytes":30,"as_result":true}"#).expect("it is accepted").stored();
            assert_eq!(client.fetch(made.id).data, b"abcdefghijklmnopqrstuvwxyzabcd", "{server:?}");
            client.close();
            vec![job]
        });
        for (at, (is_there, agreed)) in beside.into_iter().enumerate() {
            assert_eq!(agreed, is_there, "{:?}", EVERY[at]);
        }
    }
    assert!(LINES.iter().all(|way| way.1 != Over::WebSocket));
}
