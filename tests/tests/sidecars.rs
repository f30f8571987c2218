//! Sidecars: bytes beside frames, as binary messages (RFC §11.3).

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::Duration;

use arcp_proto::client::{ClientConfig, ClientEvent, ResultData, artifacts, streams};
use arcp_proto::id::{JobId, Principal, WireId};
use arcp_proto::json::decode_base64;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::artifact::{ArtifactTerms, BlobDigest, PutArtifact};
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamRequest, StreamSaid, StreamTerms};
use arcp_proto::model::upload::{ArtifactPart, ArtifactWish};
use arcp_proto::runtime::{
    AgentCall, AgentExit, ChunkData, Config, HeldFor, Input, StreamCall, StreamWord, held_bytes,
};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::sidecars::{announced, message, offered, read};
use arcp_tests::world::World;
use serde_json::{Value, json};

const FAMILIES: [Family; 2] = [Family::Hello, Family::Open];
/// Bytes that are no text.
const BYTES: &[u8] = &[0, 255, b'{', b'\n', 0xc3, 0x28, 7];

fn world(seed: u64) -> World {
    configured(seed, |_| {})
}

fn configured(seed: u64, change: impl Fn(&mut Config) + 'static) -> World {
    World::configured(seed, move |config| {
        config.timing.artifact_retention = Some(Duration::from_secs(3600));
        change(config);
    })
}

/// A session whose client takes bytes beside frames.
fn beside(world: &mut World, family: Family, token: &str) -> Raw {
    opened(world, family, offered(payload_of(family, token)))
}

fn payload_of(family: Family, token: &str) -> Value {
    match family {
        Family::Hello => hello_payload(token),
        Family::Open => open_payload(token),
    }
}

fn opened(world: &mut World, family: Family, payload: Value) -> Raw {
    let mut raw = Raw::connect(world);
    let (ask, answer) = match family {
        Family::Hello => ("session.hello", "session.welcome"),
        Family::Open => ("session.open", "session.accepted"),
    };
    raw.send(world, ask, payload);
    let welcome = raw.expect(world, answer);
    assert!(!code(&welcome).starts_with("session.re"), "{welcome}");
    raw
}

/// The answer to a request.
fn answer(world: &mut World, raw: &mut Raw) -> Value {
    raw.expect_any(world, &["artifact.ref", "artifact.put", "nack", "session.error"])
}

/// Announces bytes to be left.
fn announce(world: &mut World, raw: &mut Raw, sidecar: Value) -> String {
    raw.send(world, "artifact.put", json!({"media_type": "a/b", "sidecar": sidecar}))
}

fn put(world: &mut World, raw: &mut Raw, bytes: &[u8]) -> Value {
    let digest = BlobDigest::of(bytes).to_string();
    let id = announce(world, raw, json!({"bytes": bytes.len(), "frames": 1, "sha256": digest}));
    world.send_binary(raw.conn, message(&id, 0, bytes));
    answer(world, raw)
}

/// A job that says nothing by itself.
fn waiter(world: &mut World, raw: &mut Raw, family: Family) -> JobId {
    let accepted = match family {
        Family::Hello => raw.submit(world, json!({"agent": "waiter"})),
        Family::Open => raw.invoke(world, json!({"tool": "waiter"})),
    };
    world.settle();
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn say(world: &mut World, job: JobId, bytes: &[u8], more: bool) {
    let data = ChunkData::Binary(bytes.to_vec());
    world.input(Input::Agent { job, call: AgentCall::Chunk { data, more } });
}

fn end(world: &mut World, job: JobId) {
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
}

/// What a piece of a result says.
fn piece(frame: &Value) -> Option<&Value> {
    let payload = &frame["payload"];
    if frame["type"] == "job.result_chunk" {
        return Some(payload);
    }
    (payload["kind"] == "result_chunk").then_some(&payload["body"])
}

#[test]
fn pieces_of_a_binary_result_go_beside_their_frames_to_who_takes_them() {
    for family in FAMILIES {
        let mut world = World::of(family, 1);
        let mut raw = beside(&mut world, family, "tok-a");
        let mut other = opened(&mut world, family, payload_of(family, "tok-a"));
        let job = waiter(&mut world, &mut raw, family);
        other.send(&mut world, "job.subscribe", json!({"job_id": job.to_string()}));
        other.expect(&mut world, "job.subscribed");
        say(&mut world, job, BYTES, true);
        say(&mut world, job, b"text", false);
        end(&mut world, job);
        let frames = raw.until_end(&mut world);
        let announcing: Vec<&Value> = frames.iter().filter(|frame| announced(frame).is_some()).collect();
        let messages = world.sidecars_of(raw.conn).to_vec();
        assert_eq!((announcing.len(), messages.len()), (2, 2), "{frames:#?}");
        for ((frame, bytes), seq) in announcing.iter().zip([BYTES, b"text"]).zip(0..) {
            let said = piece(frame).expect("a piece");
            let sha256 = BlobDigest::of(bytes).to_string();
            assert_eq!(said["sidecar"], json!({"bytes": bytes.len(), "frames": 1, "sha256": sha256}));
            assert_eq!((&said["encoding"], &said["data"]), (&json!("sidecar"), &Value::Null));
            let id = frame["id"].as_str().expect("an id").to_string();
            assert_eq!(read(&messages[seq as usize]), (id, seq, bytes));
        }
        // Who does not gets the same bytes in base64.
        let frames = other.settle(&mut world);
        let others: Vec<Vec<u8>> = frames
            .iter()
            .filter_map(piece)
            .map(|said| decode_base64(said["data"].as_str().expect("data")).expect("base64"))
            .collect();
        assert_eq!(others, [BYTES.to_vec(), b"text".to_vec()], "{frames:#?}");
        assert!(world.sidecars_of(other.conn).is_empty());
        world.finish();
    }
}

#[test]
fn a_reader_that_comes_back_gets_frame_and_sidecar_again() {
    let mut world = world(2);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", offered(hello_payload("tok-a")));
    let welcome = raw.expect(&mut world, "session.welcome");
    let job = waiter(&mut world, &mut raw, Family::Hello);
    say(&mut world, job, BYTES, true);
    let frames = raw.settle(&mut world);
    let last = frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).max().expect("a number");
    world.cut(raw.conn);
    say(&mut world, job, b"while it was away", false);
    let again = Raw::resume_with(&mut world, offered(hello_payload("tok-a")), &welcome, last - 1);
    world.settle();
    let first = world.sidecars_of(raw.conn).to_vec();
    let resumed = world.sidecars_of(again.conn).to_vec();
    assert_eq!(resumed[..1], first[..], "the same message");
    assert_eq!(read(&resumed[1]).2, b"while it was away");
    // Over lines there are no binary messages: the same session gets base64.
    let frames = world.frames_of(again.conn).to_vec();
    let welcome: Value = serde_json::from_str(&frames[0]).expect("JSON");
    world.cut(again.conn);
    let mut lines = Raw::on(world.open_vouched("a"));
    let mut payload = offered(hello_payload("tok-a"));
    payload["resume"] = json!({"session_id": welcome["payload"]["session_id"],
        "resume_token": welcome["payload"]["resume_token"], "last_event_seq": last - 1});
    lines.send(&mut world, "session.hello", payload);
    let frames = lines.settle(&mut world);
    assert!(!frames[0]["payload"]["capabilities"]["features"].to_string().contains("sidecar"), "{}", frames[0]);
    let data: Vec<&Value> = frames.iter().filter_map(piece).map(|said| &said["data"]).collect();
    assert_eq!(data.len(), 2, "{frames:#?}");
    assert_eq!(decode_base64(data[0].as_str().expect("data")).as_deref(), Some(BYTES));
    assert!(world.sidecars_of(lines.conn).is_empty());
    world.finish();
}

#[test]
fn chunks_of_binary_streams_go_beside_their_frames_but_what_is_redacted_goes_nowhere() {
    let surfaces = |mut payload: Value| {
        payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.open_surfaces"));
        payload
    };
    let hello = || offered(hello_payload("tok-a"));
    for (family, payload) in
        [(Family::Open, offered(open_payload("tok-a"))), (Family::Hello, hello()), (Family::Hello, surfaces(hello()))]
    {
        let mut world = configured(13, |config| {
            config.auditors = [Principal::new("z").expect("a name")].into();
        });
        let mut raw = opened(&mut world, family, payload);
        let mut auditor = beside(&mut world, family, "tok-z");
        let job = waiter(&mut world, &mut raw, family);
        auditor.send(&mut world, "job.subscribe", json!({"job_id": job.to_string(), "history": true}));
        auditor.expect(&mut world, "job.subscribed");
        let mut call = |says| world.input(Input::Agent { job, call: AgentCall::Stream { stream: 1, says } });
        let chunk = |redacted| StreamCall::Chunk {
            data: ChunkData::Binary(BYTES.to_vec()),
            notes: Box::new(ChunkNotes { redacted, ..ChunkNotes::default() }),
            shed: 0,
        };
        call(StreamCall::Open(StreamTerms::new(StreamKind::Binary)));
        call(chunk(false));
        call(chunk(true));
        let frames = raw.settle(&mut world);
        let of: Vec<&Value> = frames.iter().filter(|frame| announced(frame).is_some()).collect();
        let messages = world.sidecars_of(raw.conn);
        assert_eq!((of.len(), messages.len()), (2, 2), "{frames:#?}");
        for ((frame, message), sequence) in of.iter().zip(messages).zip(0..) {
            let id = frame["stream_id"].as_str().or(frame["id"].as_str()).expect("an id").to_string();
            assert_eq!(read(message), (id, sequence, BYTES));
            assert_eq!(announced(frame).expect("it is")["sha256"], BlobDigest::of(BYTES).to_string());
        }
        let shown = auditor.settle(&mut world);
        assert_eq!(world.sidecars_of(auditor.conn).len(), 1, "{shown:#?}");
        let hidden = shown.iter().find(|frame| frame.to_string().contains("\"redacted\":true")).expect("its place");
        assert!(announced(hidden).is_none(), "{hidden}");
        world.finish();
    }
}

#[test]
fn what_a_client_says_in_a_stream_may_have_its_bytes_beside_it() {
    let mut world = configured(14, |config| {
        let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
        waiter.takes_input = true;
    });
    let mut payload = offered(open_payload("tok-a"));
    payload["capabilities"]["streaming"] = json!(true);
    let mut raw = opened(&mut world, Family::Open, payload);
    let job = waiter(&mut world, &mut raw, Family::Open);
    let of = json!({"job_id": job, "stream_id": "mine"});
    raw.send_with(&mut world, "stream.open", json!({"kind": "binary"}), of.clone());
    raw.expect(&mut world, "ack");
    let sidecar = json!({"bytes": BYTES.len(), "frames": 1, "sha256": BlobDigest::of(BYTES).to_string()});
    raw.send_with(&mut world, "stream.chunk", json!({"sequence": 0, "sidecar": sidecar}), of);
    let frames = raw.settle(&mut world);
    assert!(frames.iter().all(|frame| frame["type"] == "stream.open"), "its bytes are to come: {frames:?}");
    world.send_binary(raw.conn, message("mine", 0, BYTES));
    raw.expect(&mut world, "ack");
    world.settle();
    let words = world.stream_words.iter().filter_map(|(_, _, word)| match word {
        StreamWord::Chunk { data, .. } => Some(data.as_slice()),
        _ => None,
    });
    assert_eq!(words.collect::<Vec<_>>(), [BYTES]);
    world.finish();
}

#[test]
fn what_a_subscription_is_shown_has_its_bytes_inside() {
    let mut world = world(3);
    let mut raw = beside(&mut world, Family::Open, "tok-a");
    let mut payload = offered(open_payload("tok-a"));
    payload["capabilities"]["subscriptions"] = json!(true);
    let mut subscriber = opened(&mut world, Family::Open, payload);
    subscriber.send(&mut world, "subscribe", json!({"filter": {}}));
    subscriber.expect(&mut world, "subscribe.accepted");
    let job = waiter(&mut world, &mut raw, Family::Open);
    say(&mut world, job, BYTES, false);
    let frames = subscriber.settle(&mut world);
    let copies = frames.iter().map(|frame| &frame["payload"]["event"]);
    let data: Vec<&Value> = copies.filter_map(piece).map(|said| &said["data"]).collect();
    assert_eq!(data.len(), 1, "{frames:#?}");
    assert_eq!(decode_base64(data[0].as_str().expect("data")).as_deref(), Some(BYTES));
    world.finish();
}

#[test]
fn bytes_are_left_and_fetched_beside_frames_and_a_restart_changes_nothing() {
    for family in FAMILIES {
        let mut world = world(4);
        let mut raw = beside(&mut world, family, "tok-a");
        let kept = put(&mut world, &mut raw, BYTES);
        assert_eq!(kept["payload"]["size"], BYTES.len(), "{kept}");
        let id = kept["payload"]["artifact_id"].clone();
        world.settle();
        world.crash();
        let mut again = beside(&mut world, family, "tok-a");
        again.send(&mut world, "artifact.fetch", json!({"artifact_id": id}));
        let fetched = answer(&mut world, &mut again);
        world.settle();
        assert_eq!(fetched["payload"]["sidecar"]["bytes"], BYTES.len(), "{fetched}");
        assert_eq!(fetched["payload"]["data"], Value::Null);
        let messages = world.sidecars_of(again.conn);
        let id = fetched["id"].as_str().expect("an id").to_string();
        assert_eq!(messages.iter().map(|message| read(message)).collect::<Vec<_>>(), [(id, 0, BYTES)]);
        world.finish();
    }
}

#[test]
fn our_client_leaves_and_fetches_bytes_and_gets_a_result_beside_frames() {
    for (family, takes) in FAMILIES.into_iter().flat_map(|family| [(family, true), (family, false)]) {
        let mut world = World::configured(5, |config| {
            config.timing.artifact_retention = Some(Duration::from_secs(3600));
        });
        let mut config = ClientConfig::new("it", "1", Credential::Bearer(Secret::new("tok-a".into())));
        config.family = family;
        if !takes {
            config.features = config.features.without(Feature::Sidecars);
        }
        let client = world.add_client_with(config);
        world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
        let put = PutArtifact::new("a/b".parse().expect("a type"), BYTES.to_vec());
        world.command(client, |c| c.session().expect("open").put_artifact(put)).expect("given");
        let kept = world.until(client, |event| matches!(event, ClientEvent::ArtifactKept { .. }));
        let ClientEvent::ArtifactKept { artifact, .. } = kept else { panic!("{kept:?}") };
        world.command(client, |c| c.session().expect("open").fetch_artifact(artifact.id.clone())).expect("given");
        let fetched = world.until(client, |event| matches!(event, ClientEvent::ArtifactFetched { .. }));
        let ClientEvent::ArtifactFetched { fetched, .. } = fetched else { panic!("{fetched:?}") };
        assert_eq!((fetched.artifact, fetched.data.as_slice()), (artifact, BYTES));
        let submit = Submit::new(AgentRef::parse("waiter").expect("a name"));
        world.command(client, |c| c.session().expect("open").submit(submit)).expect("given");
        world.until(client, |event| matches!(event, ClientEvent::Submitted { .. }));
        world.settle();
        let accepted = world.events(client).iter().find_map(|event| match event {
            ClientEvent::Submitted { accepted, .. } => JobId::parse(accepted.job.as_str()),
            _ => None,
        });
        let job = accepted.expect("a job");
        say(&mut world, job, BYTES, true);
        let conn = world.conn_of(client).expect("connected");
        // It comes back in the middle of it.
        world.cut(conn);
        say(&mut world, job, b"tail", false);
        end(&mut world, job);
        let ended = world.until(client, |event| matches!(event, ClientEvent::JobEnded { .. }));
        let ClientEvent::JobEnded { result, .. } = ended else { panic!("{ended:?}") };
        assert_eq!(result, ResultData::Streamed { bytes: [BYTES, b"tail"].concat(), text: false });
        assert_eq!(!world.sidecars_of(conn).is_empty(), takes, "{family} {takes}");
        world.finish();
    }
}

#[test]
fn our_client_says_chunks_and_parts_beside_its_frames_and_the_runtime_takes_them() {
    for family in FAMILIES {
        let mut world = configured(15, |config| {
            let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
            waiter.takes_input = true;
        });
        world.family = family;
        let client = world.add_client("a");
        world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
        let submit = Submit::new(AgentRef::parse("waiter").expect("a name"));
        world.command(client, |c| c.session().expect("open").submit(submit)).expect("given");
        let submitted = world.until(client, |event| matches!(event, ClientEvent::Submitted { .. }));
        let ClientEvent::Submitted { accepted, .. } = submitted else { panic!("{submitted:?}") };
        let (job, stream) = (accepted.job, WireId::new("mine").expect("an id"));
        let terms = StreamTerms::new(StreamKind::Binary);
        let says = [StreamSaid::Open(terms), StreamSaid::chunk(0, BYTES, None), StreamSaid::chunk(1, BYTES, None)];
        for says in says {
            let request = StreamRequest { job: job.clone(), stream: stream.clone(), says };
            world.command(client, |c| streams::say(&mut c.session().expect("open"), request)).expect("given");
        }
        world.settle();
        let words = world.stream_words.iter().filter_map(|(_, _, word)| match word {
            StreamWord::Chunk { data, .. } => Some(data.as_slice()),
            _ => None,
        });
        assert_eq!(words.collect::<Vec<_>>(), [BYTES; 2]);
        let part = ArtifactPart { digest: BlobDigest::of(BYTES), size: 7, offset: 0, data: BYTES.to_vec() };
        let part = ArtifactWish::Part(part);
        world.command(client, |c| artifacts::ask(&mut c.session().expect("open"), part)).expect("given");
        let terms = ArtifactTerms::new("a/b".parse().expect("a type"), 7, BlobDigest::of(BYTES));
        world.command(client, |c| artifacts::keep(&mut c.session().expect("open"), terms)).expect("given");
        world.until(client, |event| matches!(event, ClientEvent::ArtifactKept { .. }));
        assert_eq!(world.blobs.stored.values().collect::<Vec<_>>(), [BYTES]);
        let said = world.recordings().concat();
        assert_eq!(said.matches("\"ReceivedBinary\"").count(), 3, "{family}: beside its frames");
        world.finish();
    }
}

#[test]
fn a_part_has_its_bytes_beside_it_or_in_its_frame_and_not_both() {
    let mut world = world(16);
    let mut raw = beside(&mut world, Family::Open, "tok-a");
    let digest = BlobDigest::of(BYTES).to_string();
    let said = json!({"bytes": BYTES.len(), "frames": 1, "sha256": digest});
    let part = json!({"sha256": digest, "size": BYTES.len(), "offset": 0});
    for (more, beside, expected) in [
        (json!({"sidecar": said, "data": "AP8K"}), true, "nack"),
        (json!({}), false, "nack"),
        (json!({"sidecar": said}), true, "x-vendor.arcp.artifact.received"),
    ] {
        let mut payload = part.clone();
        payload.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let id = raw.send(&mut world, "x-vendor.arcp.artifact.part", payload);
        if beside {
            world.send_binary(raw.conn, message(&id, 0, BYTES));
        }
        let answer = raw.expect_any(&mut world, &["nack", "x-vendor.arcp.artifact.received"]);
        assert_eq!(answer["type"], expected, "{answer}");
    }
    world.finish();
}

/// What is wrong, and what came of it: one refusal for each, and the session goes on.
#[test]
fn what_is_wrong_with_a_sidecar_gets_one_error_and_nothing_else_is_lost() {
    let sha256 = BlobDigest::of(BYTES).to_string();
    let wrong: [(&str, Value, Vec<Vec<u8>>); 7] = [
        ("8 bytes: 7 were announced", json!({"bytes": 7, "frames": 1}), vec![[BYTES, b"x"].concat()]),
        ("6 bytes: 7 were announced", json!({"bytes": 7, "frames": 1}), vec![BYTES[..6].to_vec()]),
        ("8 bytes or more", json!({"bytes": 7, "frames": 3}), vec![[BYTES, b"x"].concat(), vec![1], vec![]]),
        ("sha256", json!({"bytes": 1, "frames": 1, "sha256": sha256}), vec![vec![9]]),
        ("at most", json!({"bytes": 9_000_000, "frames": 2}), vec![vec![0; 9], vec![0; 9]]),
        ("one frame or more", json!({"bytes": 7, "frames": 0}), vec![BYTES.to_vec()]),
        ("bytes", json!({"bytes": -1, "frames": 1}), vec![BYTES.to_vec()]),
    ];
    for (family, (why, sidecar, messages)) in FAMILIES.into_iter().flat_map(|f| wrong.clone().map(|w| (f, w))) {
        let mut world = world(6);
        let mut raw = beside(&mut world, family, "tok-a");
        let id = announce(&mut world, &mut raw, sidecar);
        messages.iter().for_each(|bytes| world.send_binary(raw.conn, message(&id, 0, bytes)));
        let refused = raw.settle(&mut world);
        assert_eq!(refused.len(), 1, "{family} {why}: {refused:#?}");
        assert!(refused[0]["payload"]["message"].as_str().is_some_and(|said| said.contains(why)), "{why}: {refused:?}");
        let named = refused[0]["correlation_id"].as_str().or(refused[0]["payload"]["request_id"].as_str());
        assert_eq!(named.unwrap_or(&id), id, "{refused:?}");
        assert_eq!(put(&mut world, &mut raw, BYTES)["type"], "artifact.ref", "{why}");
        assert_eq!(held_bytes(world.runtime(), HeldFor::Frames), 0);
        world.finish();
    }
}

#[test]
fn a_sidecar_that_never_comes_or_comes_for_nobody_is_refused_once() {
    for family in FAMILIES {
        let mut world = configured(7, |config| config.limits.frame.sidecar_seconds = 4);
        let mut raw = beside(&mut world, family, "tok-a");
        let announcement = json!({"bytes": BYTES.len(), "frames": 1});
        // Another frame comes instead, and is heard.
        let late = announce(&mut world, &mut raw, announcement.clone());
        let refused = put(&mut world, &mut raw, b"next");
        assert!(refused.to_string().contains("right after its frame"), "{refused}");
        assert_eq!(answer(&mut world, &mut raw)["type"], "artifact.ref");
        // What comes too late was answered already.
        world.send_binary(raw.conn, message(&late, 0, BYTES));
        assert_eq!(raw.settle(&mut world), [] as [Value; 0]);
        // Nothing comes at all.
        let late = announce(&mut world, &mut raw, announcement);
        world.run_for(Duration::from_secs(3));
        assert!(held_bytes(world.runtime(), HeldFor::Frames) > 0 && raw.take(&world).is_empty());
        world.run_for(Duration::from_secs(2));
        let refused = raw.take(&world);
        assert!(refused.len() == 1 && refused[0].to_string().contains("did not come in time"), "{refused:#?}");
        assert_eq!(held_bytes(world.runtime(), HeldFor::Frames), 0);
        world.send_binary(raw.conn, message(&late, 0, BYTES));
        assert_eq!(raw.settle(&mut world), [] as [Value; 0]);
        // It comes twice, of nobody, of another sequence, or cannot be read.
        let kept = put(&mut world, &mut raw, BYTES);
        let id = raw.last_id();
        let nobody =
            [message(&id, 0, BYTES), message("nobody", 0, b""), message(&late, 1, b""), vec![0, 9, 1], vec![0]];
        for stray in nobody {
            world.send_binary(raw.conn, stray);
            let refused = raw.settle(&mut world);
            assert_eq!(refused.len(), 1, "{refused:#?}");
            assert!(matches!(code(&refused[0]), "INVALID_ARGUMENT" | "INVALID_REQUEST"), "{refused:?}");
        }
        raw.send(&mut world, "artifact.fetch", json!({"artifact_id": kept["payload"]["artifact_id"]}));
        assert_eq!(answer(&mut world, &mut raw)["type"], "artifact.put");
        world.finish();
    }
}

#[test]
fn a_stray_message_takes_nothing_from_the_sidecar_that_is_awaited() {
    let mut world = world(8);
    let mut raw = beside(&mut world, Family::Open, "tok-a");
    let id = announce(&mut world, &mut raw, json!({"bytes": BYTES.len(), "frames": 3}));
    world.send_binary(raw.conn, message(&id, 0, &BYTES[..3]));
    world.send_binary(raw.conn, message("nobody", 0, b"x"));
    world.send_binary(raw.conn, message(&id, 0, &[]));
    world.send_binary(raw.conn, message(&id, 0, &BYTES[3..]));
    assert_eq!(answer(&mut world, &mut raw)["type"], "nack");
    let kept = answer(&mut world, &mut raw);
    assert_eq!(kept["payload"]["sha256"], BlobDigest::of(BYTES).to_string(), "{kept}");
    // Data beside data is refused once all of it has come.
    let both = json!({"media_type": "a/b", "data": "YQ==", "sidecar": {"bytes": 1, "frames": 1}});
    let id = raw.send(&mut world, "artifact.put", both);
    world.send_binary(raw.conn, message(&id, 0, b"a"));
    let refused = raw.settle(&mut world);
    assert!(refused.len() == 1 && refused[0].to_string().contains("there is `data` as well"), "{refused:#?}");
    world.finish();
}

#[test]
fn many_that_are_sent_at_once_are_answered_in_their_order() {
    for family in FAMILIES {
        let mut world = world(9);
        let mut raw = beside(&mut world, family, "tok-a");
        // While the first is stored the others wait, bytes and all.
        let ids: Vec<String> = (0..20_u8)
            .map(|n| {
                let id = announce(&mut world, &mut raw, json!({"bytes": 2, "frames": 1}));
                world.send_binary(raw.conn, message(&id, 0, &[n, 255]));
                id
            })
            .collect();
        let answers = raw.settle(&mut world);
        let named = |frame: &Value| {
            let id = frame["correlation_id"].as_str().or(frame["payload"]["request_id"].as_str());
            assert_eq!(frame["type"], "artifact.ref", "{frame}");
            id.map(str::to_string)
        };
        let answered: Vec<String> = answers.iter().filter_map(named).collect();
        // Hello names no request where an artifact says by itself what it is of.
        assert_eq!(answered, if family == Family::Open { ids } else { Vec::new() });
        let sums = answers.iter().map(|frame| frame["payload"]["sha256"].as_str().expect("a sum").to_string());
        let expected = (0..20_u8).map(|n| BlobDigest::of(&[n, 255]).to_string());
        assert!(sums.eq(expected), "{answers:#?}");
        world.finish();
    }
}

#[test]
fn who_did_not_agree_sends_json_in_binary_messages_or_gets_one_error() {
    for family in FAMILIES {
        let mut world = world(10);
        let mut raw = opened(&mut world, family, payload_of(family, "tok-a"));
        let ping = json!({"id": "b", "type": "session.ping", "payload": {"nonce": "n"}}).to_string();
        world.send_binary(raw.conn, ping.clone().into_bytes());
        assert_eq!(raw.expect(&mut world, "session.pong")["payload"]["ping_nonce"], "n");
        world.send_binary(raw.conn, message("nobody", 0, BYTES));
        let refused = raw.settle(&mut world);
        assert!(refused.len() == 1 && refused[0].to_string().contains("not UTF-8"), "{refused:#?}");
        // Who did may send JSON as well.
        let mut raw = beside(&mut world, family, "tok-b");
        world.send_binary(raw.conn, ping.into_bytes());
        assert_eq!(raw.expect(&mut world, "session.pong")["payload"]["ping_nonce"], "n");
        world.finish();
    }
}

#[test]
fn a_sidecar_has_a_bound_and_a_thousand_that_never_come_hold_one() {
    let mut world = configured(11, |config| config.limits.frame.sidecar_bytes = 100);
    let mut raw = beside(&mut world, Family::Hello, "tok-a");
    assert_eq!(put(&mut world, &mut raw, &[7; 100])["type"], "artifact.ref");
    let refused = put(&mut world, &mut raw, &[7; 101]);
    assert!(refused.to_string().contains("a sidecar of 101 bytes: at most 100"), "{refused}");
    for _ in 0..1000 {
        announce(&mut world, &mut raw, json!({"bytes": 100, "frames": 1}));
        raw.settle(&mut world);
        assert!(held_bytes(world.runtime(), HeldFor::Frames) < 500, "one frame waits");
    }
    assert_eq!(put(&mut world, &mut raw, b"and on")["type"], "session.error", "the last one that never came");
    assert_eq!(answer(&mut world, &mut raw)["type"], "artifact.ref");
    world.finish();
}

#[test]
fn the_credit_of_a_reader_pays_for_the_bytes_beside_its_frames() {
    let mut world = World::seeded(12);
    let mut raw = beside(&mut world, Family::Hello, "tok-a");
    let job = waiter(&mut world, &mut raw, Family::Hello);
    world.stall(raw.conn, true);
    for _ in 0..10 {
        say(&mut world, job, &[7; 20_000], true);
    }
    world.settle();
    let sent = world.sidecars_of(raw.conn).len();
    assert!((3..=5).contains(&sent), "{sent} of 20,000 bytes fit into 64 KiB");
    world.stall(raw.conn, false);
    world.settle();
    assert_eq!(world.sidecars_of(raw.conn).len(), 10);
    world.finish();
}
