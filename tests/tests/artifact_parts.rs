//! Artifacts that do not fit a frame: they are stored in parts, fetched in ranges, and listed (RFC §16, §21).

use std::time::Duration;

use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::decode_base64;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::Config;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);
const PART: &str = "x-vendor.arcp.artifact.part";
const KEEP: &str = "x-vendor.arcp.artifact.keep";
const ABANDON: &str = "x-vendor.arcp.artifact.abandon";
const LIST: &str = "x-vendor.arcp.artifacts.list";

fn world(seed: u64, change: impl Fn(&mut Config) + 'static) -> World {
    World::configured(seed, move |config| {
        config.timing.artifact_retention = Some(HOUR);
        config.limits.artifact.artifact_bytes = 8;
        change(config);
    })
}

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["artifacts"] = json!(true);
    Raw::open_with(world, payload).0
}

fn hello(world: &mut World, token: &str) -> Raw {
    let mut payload = hello_payload(token);
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.artifacts"));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

fn ask(world: &mut World, raw: &mut Raw, kind: &str, payload: Value) -> Value {
    raw.send(world, kind, payload);
    let answers = [
        "x-vendor.arcp.artifact.received",
        "x-vendor.arcp.artifacts",
        "artifact.ref",
        "artifact.put",
        "ack",
        "nack",
        "session.error",
    ];
    raw.expect_any(world, &answers)
}

/// Sends bytes of a whole from one number to another.
fn part(world: &mut World, raw: &mut Raw, whole: &[u8], from: usize, to: usize) -> Value {
    let (sha256, data) = (BlobDigest::of(whole).to_string(), BASE64.encode(&whole[from..to]));
    ask(world, raw, PART, json!({"sha256": sha256, "size": whole.len(), "offset": from, "data": data}))
}

fn keep(world: &mut World, raw: &mut Raw, whole: &[u8]) -> Value {
    let sha256 = BlobDigest::of(whole).to_string();
    ask(world, raw, KEEP, json!({"sha256": sha256, "size": whole.len(), "media_type": "text/plain"}))
}

fn range(world: &mut World, raw: &mut Raw, id: &Value, offset: u64, length: u64) -> Value {
    ask(world, raw, "artifact.fetch", json!({"artifact_id": id, "offset": offset, "length": length}))
}

fn received(answer: &Value) -> u64 {
    answer["payload"]["received"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// Twenty letters.
const WHOLE: &[u8] = b"abcdefghijklmnopqrst";

#[test]
fn what_is_larger_than_a_frame_comes_in_parts_and_is_fetched_in_ranges_in_both_families() {
    for is_open in [true, false] {
        let mut world = world(1, |_| {});
        let mut raw = if is_open { open(&mut world, "tok-a") } else { hello(&mut world, "tok-a") };
        for (from, to) in [(0, 8), (8, 16), (16, 20)] {
            assert_eq!(received(&part(&mut world, &mut raw, WHOLE, from, to)), to as u64);
        }
        assert_eq!(received(&part(&mut world, &mut raw, WHOLE, 8, 16)), 20, "a part that comes again changes nothing");
        let kept = keep(&mut world, &mut raw, WHOLE);
        assert_eq!((&kept["type"], &kept["payload"]["size"]), (&json!("artifact.ref"), &json!(20)), "{kept}");
        assert!(world.blobs.parts.is_empty());
        world.restores();
        let id = &kept["payload"]["artifact_id"];
        let whole = ask(&mut world, &mut raw, "artifact.fetch", json!({"artifact_id": id}));
        assert!(whole.to_string().contains("in ranges of at most 8"), "it does not fit a frame: {whole}");
        let (mut came, mut offset) = (Vec::new(), 0);
        while offset < 20 {
            let some = range(&mut world, &mut raw, id, offset, 100);
            assert_eq!(some["payload"]["offset"], offset, "{some}");
            assert_eq!(some["payload"]["sha256"], BlobDigest::of(WHOLE).to_string());
            came.extend(decode_base64(some["payload"]["data"].as_str().expect("bytes")).expect("base64"));
            offset = came.len() as u64;
        }
        assert_eq!(came, WHOLE);
        assert_eq!(range(&mut world, &mut raw, id, 20, 5)["payload"]["data"], "", "there is nothing behind its end");
        let beyond = range(&mut world, &mut raw, id, 21, 5);
        assert!(beyond.to_string().contains("`offset` is 21"), "{beyond}");
        world.finish();
    }
}

#[test]
fn parts_that_do_not_follow_are_refused_and_say_how_many_bytes_have_come() {
    let mut world = world(2, |config| config.limits.artifact.whole_artifact_bytes = 20);
    let mut raw = open(&mut world, "tok-a");
    let gap = part(&mut world, &mut raw, WHOLE, 8, 16);
    assert!(code(&gap) == "FAILED_PRECONDITION" && gap.to_string().contains("begin at 0"), "{gap}");
    part(&mut world, &mut raw, WHOLE, 0, 8);
    let gap = part(&mut world, &mut raw, WHOLE, 12, 16);
    assert!(code(&gap) == "FAILED_PRECONDITION" && gap.to_string().contains("8 bytes have come"), "{gap}");
    let early = keep(&mut world, &mut raw, WHOLE);
    assert!(code(&early) == "FAILED_PRECONDITION" && early.to_string().contains("8 of 20"), "{early}");
    let sha256 = BlobDigest::of(WHOLE).to_string();
    let said = |world: &mut World, raw: &mut Raw, size: u64, offset: u64, data: &str| {
        ask(world, raw, PART, json!({"sha256": sha256, "size": size, "offset": offset, "data": data}))
    };
    assert_eq!(code(&said(&mut world, &mut raw, 19, 8, "YQ==")), "INVALID_ARGUMENT", "its size is another");
    assert_eq!(code(&said(&mut world, &mut raw, 20, 19, "YWI=")), "INVALID_ARGUMENT", "it ends behind the end");
    assert_eq!(
        code(&said(&mut world, &mut raw, 20, 8, &BASE64.encode([0; 9]))),
        "RESOURCE_EXHAUSTED",
        "it is too large"
    );
    assert_eq!(code(&said(&mut world, &mut raw, 20, 8, "?")), "INVALID_ARGUMENT");
    let large = [b'x'; 21];
    let large = part(&mut world, &mut raw, &large, 0, 8);
    assert!(code(&large) == "RESOURCE_EXHAUSTED" && large.to_string().contains("whole_artifact_bytes"), "{large}");
    // Other bytes than were named are dropped, and nothing is kept of them.
    assert_eq!(received(&said(&mut world, &mut raw, 20, 8, &BASE64.encode([b'x'; 8]))), 16);
    assert_eq!(received(&said(&mut world, &mut raw, 20, 16, &BASE64.encode([b'x'; 4]))), 20);
    let other = keep(&mut world, &mut raw, WHOLE);
    assert!(code(&other) == "INVALID_ARGUMENT" && other.to_string().contains("`sha256` says"), "{other}");
    world.settle();
    assert!(world.blobs.parts.is_empty() && world.blobs.stored.is_empty());
    // What the host could not store begins again.
    part(&mut world, &mut raw, WHOLE, 0, 8);
    world.blobs.full = true;
    assert_eq!(code(&part(&mut world, &mut raw, WHOLE, 8, 16)), "UNAVAILABLE");
    world.blobs.full = false;
    assert!(part(&mut world, &mut raw, WHOLE, 8, 16).to_string().contains("begin at 0"));
    assert!(world.blobs.parts.is_empty());
    world.finish();
}

#[test]
fn parts_go_on_after_a_lost_connection_and_a_crash_takes_them_all() {
    let mut world = world(3, |_| {});
    let mut raw = open(&mut world, "tok-a");
    part(&mut world, &mut raw, WHOLE, 0, 8);
    let mut again = open(&mut world, "tok-a");
    assert_eq!(received(&part(&mut world, &mut again, WHOLE, 0, 0)), 8, "it is its principal's, in any session");
    part(&mut world, &mut again, WHOLE, 8, 16);
    let mut bob = open(&mut world, "tok-b");
    assert_eq!(received(&part(&mut world, &mut bob, WHOLE, 0, 0)), 0, "nobody learns what others have sent");
    world.crash();
    world.settle();
    assert!(world.blobs.parts.is_empty(), "what a crash left is dropped at the start");
    let mut raw = open(&mut world, "tok-a");
    assert!(keep(&mut world, &mut raw, WHOLE).to_string().contains("begin at 0"), "and its client is told");
    for (from, to) in [(0, 8), (8, 16), (16, 20)] {
        part(&mut world, &mut raw, WHOLE, from, to);
    }
    let id = keep(&mut world, &mut raw, WHOLE)["payload"]["artifact_id"].clone();
    assert_eq!(range(&mut world, &mut raw, &id, 16, 4)["payload"]["data"], BASE64.encode(&WHOLE[16..]));
    world.finish();
}

#[test]
fn parts_that_are_abandoned_or_not_followed_in_time_make_room() {
    let mut world = world(4, |_| {});
    let mut raw = open(&mut world, "tok-a");
    part(&mut world, &mut raw, WHOLE, 0, 8);
    assert_eq!(world.blobs.parts.len(), 1);
    let sha256 = json!({"sha256": BlobDigest::of(WHOLE).to_string()});
    for _ in 0..2 {
        assert_eq!(ask(&mut world, &mut raw, ABANDON, sha256.clone())["type"], "ack");
    }
    world.settle();
    assert!(world.blobs.parts.is_empty());
    part(&mut world, &mut raw, WHOLE, 0, 8);
    world.run_for(Duration::from_secs(200));
    let mut raw = open(&mut world, "tok-a");
    part(&mut world, &mut raw, WHOLE, 8, 16);
    world.run_for(Duration::from_secs(200));
    assert_eq!(world.blobs.parts.len(), 1, "each part gives the next one its time");
    world.run_for(Duration::from_secs(101));
    assert!(world.blobs.parts.is_empty(), "five minutes");
    world.finish();
}

/// All parts have come.
fn all_parts(world: &mut World, raw: &mut Raw) {
    for (from, to) in [(0, 8), (8, 16), (16, 20)] {
        assert_eq!(received(&part(world, raw, WHOLE, from, to)), to as u64);
    }
}

#[test]
fn a_refusal_that_passes_costs_no_part_that_has_come() {
    let mut world = world(7, |config| config.limits.artifact.artifact_operations = 4);
    let mut raw = open(&mut world, "tok-a");
    let small = part(&mut world, &mut raw, b"abc", 0, 3);
    assert_eq!(received(&small), 3);
    let small = keep(&mut world, &mut raw, b"abc");
    all_parts(&mut world, &mut raw);
    let mut busy = open(&mut world, "tok-a");
    world.blobs.silent = true;
    for _ in 0..4 {
        busy.send(&mut world, "artifact.fetch", json!({"artifact_id": small["payload"]["artifact_id"]}));
        busy = open(&mut world, "tok-a");
    }
    world.run_for(Duration::from_millis(100));
    let refused = keep(&mut world, &mut raw, WHOLE);
    assert!(refused.to_string().contains("artifact_operations"), "{refused}");
    world.speak_of_blobs();
    world.settle();
    // Neither does one for the id, which its client may make free.
    let sha256 = BlobDigest::of(WHOLE).to_string();
    let taken =
        json!({"sha256": sha256, "size": 20, "media_type": "a/b", "artifact_id": small["payload"]["artifact_id"]});
    assert_eq!(code(&ask(&mut world, &mut raw, KEEP, taken)), "FAILED_PRECONDITION");
    let kept = keep(&mut world, &mut raw, WHOLE);
    assert_eq!(kept["type"], "artifact.ref", "{kept}");
    assert!(world.blobs.parts.is_empty());
    world.finish();
}

#[test]
fn who_is_cut_off_while_the_whole_is_stored_asks_for_it_again_and_sends_no_part_twice() {
    for is_heard_again in [true, false] {
        let mut world = world(8, |_| {});
        let mut raw = open(&mut world, "tok-a");
        all_parts(&mut world, &mut raw);
        world.blobs.silent = true;
        raw.send(
            &mut world,
            KEEP,
            json!({"sha256": BlobDigest::of(WHOLE).to_string(), "size": 20, "media_type": "a/b"}),
        );
        world.run_for(Duration::from_millis(100));
        assert!(world.blobs.parts.is_empty(), "the host is at it");
        world.cut(raw.conn);
        let mut raw = open(&mut world, "tok-a");
        let early = keep(&mut world, &mut raw, WHOLE);
        assert_eq!(code(&early), "UNAVAILABLE", "{early}");
        world.speak_of_blobs();
        world.settle();
        assert_eq!(received(&part(&mut world, &mut raw, WHOLE, 0, 0)), 20);
        if is_heard_again {
            let kept = keep(&mut world, &mut raw, WHOLE);
            let id = &kept["payload"]["artifact_id"];
            assert_eq!(range(&mut world, &mut raw, id, 0, 8)["payload"]["data"], BASE64.encode(&WHOLE[..8]));
            world.run_for(Duration::from_secs(301));
            world.restores();
        } else {
            world.run_for(Duration::from_secs(301));
        }
        assert_eq!(world.blobs.stored.contains_key(&BlobDigest::of(WHOLE)), is_heard_again);
        world.finish();
    }
}

#[test]
fn who_begins_many_artifacts_in_parts_leaves_room_for_others() {
    for name in ["artifact_uploads", "all_artifact_bytes", "artifacts"] {
        let mut world = world(5, move |config| match name {
            "artifact_uploads" => config.limits.artifact.artifact_uploads = 8,
            "artifacts" => config.limits.artifact.artifacts = 8,
            _ => config.limits.artifact.all_artifact_bytes = 160,
        });
        let mut alice = open(&mut world, "tok-alice");
        let mut begin = |world: &mut World, n: u8| part(world, &mut alice, &[n; 20], 0, 8);
        let refused = (0..8).map(|n| begin(&mut world, n)).find(|answer| answer["type"] == "nack");
        let refused = refused.expect("a refusal");
        assert!(code(&refused) == "RESOURCE_EXHAUSTED" && refused.to_string().contains(name), "{refused}");
        let mut bob = open(&mut world, "tok-bob");
        assert_eq!(received(&part(&mut world, &mut bob, WHOLE, 0, 8)), 8, "{name}");
        world.finish();
    }
}

#[test]
fn a_listing_shows_ones_own_artifacts_and_those_of_a_job_that_one_may_watch_page_by_page() {
    let mut world = world(6, |_| {});
    let mut alice = open(&mut world, "tok-alice");
    for id in ["c", "a", "b"] {
        let put = json!({"artifact_id": id, "media_type": "text/plain", "data": "YWJj"});
        assert_eq!(ask(&mut world, &mut alice, "artifact.put", put)["type"], "artifact.ref");
    }
    let mut bob = hello(&mut world, "tok-bob");
    let accepted = bob.submit(&mut world, json!({"agent": "stubborn"}));
    let job = JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job");
    world.settle();
    for call in 1..=2 {
        world.offer(job, CallId(call), &[b'x'; 3][..call as usize]);
        world.settle();
    }
    let ids = |world: &mut World, raw: &mut Raw, asked: Value| -> (Vec<String>, Value) {
        let page = ask(world, raw, LIST, asked);
        let all = page["payload"]["artifacts"].as_array().unwrap_or_else(|| panic!("{page}"));
        let ids = all.iter().map(|one| one["artifact_id"].as_str().expect("an id").to_string()).collect();
        (ids, page["payload"]["next_after"].clone())
    };
    assert_eq!(ids(&mut world, &mut alice, json!({})), (vec!["a".into(), "b".into(), "c".into()], Value::Null));
    assert_eq!(ids(&mut world, &mut alice, json!({"limit": 2})), (vec!["a".into(), "b".into()], json!("b")));
    assert_eq!(ids(&mut world, &mut alice, json!({"limit": 2, "after": "b"})), (vec!["c".into()], Value::Null));
    let (own, _) = ids(&mut world, &mut bob, json!({}));
    assert_eq!(ids(&mut world, &mut bob, json!({"job_id": job.to_string()})).0, own);
    assert_eq!(own.len(), 2);
    world.restores();
    let denied = ask(&mut world, &mut alice, LIST, json!({"job_id": job.to_string()}));
    assert_eq!(code(&denied), "NOT_FOUND", "{denied}");
    for limit in [0, 1001] {
        assert_eq!(code(&ask(&mut world, &mut alice, LIST, json!({"limit": limit}))), "INVALID_ARGUMENT");
    }
    world.finish();
}

#[test]
fn a_put_without_an_id_that_is_tried_again_after_a_crash_keeps_nothing_twice() {
    let mut world = world(7, |_| {});
    let mut raw = open(&mut world, "tok-a");
    let put = json!({"media_type": "text/plain", "data": "YWJj"});
    let message = raw.send(&mut world, "artifact.put", put.clone());
    let first = raw.expect(&mut world, "artifact.ref");
    world.crash();
    let mut raw = open(&mut world, "tok-a");
    raw.send_with(&mut world, "artifact.put", put.clone(), json!({"id": message}));
    let second = raw.expect(&mut world, "artifact.ref");
    assert_eq!(first["payload"]["artifact_id"], second["payload"]["artifact_id"]);
    let listed = ask(&mut world, &mut raw, LIST, json!({}));
    assert_eq!(listed["payload"]["artifacts"].as_array().map(Vec::len), Some(1), "{listed}");
    // Another message, or another principal's of the same id, is another wish.
    assert_ne!(
        ask(&mut world, &mut raw, "artifact.put", put.clone())["payload"]["artifact_id"],
        first["payload"]["artifact_id"]
    );
    let mut bob = open(&mut world, "tok-b");
    bob.send_with(&mut world, "artifact.put", put, json!({"id": message}));
    assert_ne!(bob.expect(&mut world, "artifact.ref")["payload"]["artifact_id"], first["payload"]["artifact_id"]);
    world.finish();
}
