//! Artifacts: bytes that clients store with the runtime for a limited time (RFC §16).

use std::time::Duration;

use arcp_proto::id::{JobId, Principal};
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::{Config, HeldFor, Input, Operator, held_bytes, held_bytes_of};
use arcp_proto::wire::{Compat, Profile};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);
/// `abc`, and its SHA-256.
const ABC: (&str, &str) = ("YWJj", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

fn world(seed: u64) -> World {
    configured(seed, |_| {})
}

fn configured(seed: u64, change: impl Fn(&mut Config) + 'static) -> World {
    World::configured(seed, move |config| {
        config.timing.artifact_retention = Some(HOUR);
        change(config);
    })
}

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["artifacts"] = json!(true);
    let (raw, accepted) = Raw::open_with(world, payload);
    assert_eq!(accepted["payload"]["capabilities"]["artifacts"], true, "{accepted}");
    raw
}

fn hello(world: &mut World, token: &str) -> Raw {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.push(json!("x-vendor.arcp.artifacts"));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

/// The answer to a request.
fn ask(world: &mut World, raw: &mut Raw, kind: &str, payload: Value) -> Value {
    raw.send(world, kind, payload);
    raw.expect_any(world, &["artifact.ref", "artifact.put", "ack", "nack", "session.error"])
}

fn put(world: &mut World, raw: &mut Raw, payload: Value) -> Value {
    ask(world, raw, "artifact.put", payload)
}

fn fetch(world: &mut World, raw: &mut Raw, id: &Value) -> Value {
    ask(world, raw, "artifact.fetch", json!({"artifact_id": id}))
}

#[test]
fn bytes_that_were_left_are_fetched_until_they_are_released_in_both_families() {
    for (is_open, gone) in [(true, "NOT_FOUND"), (false, "JOB_NOT_FOUND")] {
        let mut world = world(1);
        let mut raw = if is_open { open(&mut world, "tok-a") } else { hello(&mut world, "tok-a") };
        let said = json!({"media_type": "text/plain", "data": ABC.0, "size": 3, "sha256": ABC.1});
        let kept = put(&mut world, &mut raw, said);
        assert_eq!(kept["type"], "artifact.ref", "{kept}");
        let reference = &kept["payload"];
        let id = reference["artifact_id"].clone();
        assert!(id.as_str().expect("an id").starts_with("art_"), "{kept}");
        assert_eq!((&reference["size"], &reference["sha256"]), (&json!(3), &json!(ABC.1)));
        assert!(reference["uri"].as_str().expect("an address").ends_with(id.as_str().expect("an id")), "{kept}");
        assert_eq!(reference["artifact"]["artifact_id"], id, "as some readers want it");
        world.restores();
        let fetched = fetch(&mut world, &mut raw, &id);
        assert_eq!((&fetched["type"], &fetched["payload"]["data"]), (&json!("artifact.put"), &json!(ABC.0)));
        assert_eq!(fetched["payload"]["media_type"], "text/plain");
        for _ in 0..2 {
            assert_eq!(ask(&mut world, &mut raw, "artifact.release", json!({"artifact_id": id}))["type"], "ack");
        }
        assert_eq!(code(&fetch(&mut world, &mut raw, &id)), gone);
        world.settle();
        assert!(world.blobs.stored.is_empty(), "nothing refers to them");
        world.finish();
    }
}

#[test]
fn what_is_not_as_it_says_is_refused_and_nothing_is_stored() {
    let mut world = configured(2, |config| config.limits.artifact.artifact_bytes = 8);
    let mut raw = open(&mut world, "tok-a");
    let said = |change: Value| {
        let mut said = json!({"media_type": "text/plain", "data": ABC.0});
        said.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        said
    };
    for (change, named) in [
        (json!({"size": 4}), "`size` says 4 bytes, and 3 came"),
        (json!({"sha256": "0".repeat(64)}), "`sha256` says"),
        (json!({"sha256": "abc"}), "sha256"),
        (json!({"data": "YWJ"}), "data"),
        (json!({"media_type": "text"}), "media_type"),
        (json!({"artifact_id": ""}), "artifact_id"),
    ] {
        let refused = put(&mut world, &mut raw, said(change));
        assert_eq!(code(&refused), "INVALID_ARGUMENT", "{refused}");
        assert!(refused["payload"]["message"].as_str().expect("why").contains(named), "{refused}");
    }
    let large = put(&mut world, &mut raw, said(json!({"data": "YWJjYWJjYWJj"})));
    assert!(code(&large) == "RESOURCE_EXHAUSTED" && large.to_string().contains("artifact_bytes"), "{large}");
    assert_eq!(world.blobs.stores, 0);
    world.finish();
}

#[test]
fn nobody_else_sees_an_artifact_and_an_id_is_one_for_each_principal() {
    let mut world = world(3);
    let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
    let named = json!({"artifact_id": "report", "media_type": "text/plain", "data": ABC.0});
    assert_eq!(put(&mut world, &mut alice, named.clone())["type"], "artifact.ref");
    let id = json!("report");
    assert_eq!(code(&fetch(&mut world, &mut bob, &id)), "NOT_FOUND");
    assert_eq!(ask(&mut world, &mut bob, "artifact.release", json!({"artifact_id": id}))["type"], "ack");
    assert_eq!(fetch(&mut world, &mut alice, &id)["payload"]["data"], ABC.0, "it is hers");
    // The same once more is the same; another one is not.
    assert_eq!(put(&mut world, &mut alice, named)["type"], "artifact.ref");
    assert_eq!(world.blobs.stores, 1);
    let other = json!({"artifact_id": "report", "media_type": "text/plain", "data": "ZGVm"});
    assert_eq!(code(&put(&mut world, &mut alice, other.clone())), "FAILED_PRECONDITION");
    assert_eq!(put(&mut world, &mut bob, other)["type"], "artifact.ref", "to him it is free");
    world.finish();
}

#[test]
fn equal_bytes_are_stored_once_and_stay_while_anybody_has_them() {
    let mut world = world(4);
    let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
    let bytes = json!({"media_type": "text/plain", "data": ABC.0});
    let ids = [&mut alice, &mut bob].map(|raw| put(&mut world, raw, bytes.clone())["payload"]["artifact_id"].clone());
    assert_eq!(world.blobs.stored.len(), 1);
    ask(&mut world, &mut alice, "artifact.release", json!({"artifact_id": ids[0]}));
    world.settle();
    assert_eq!(fetch(&mut world, &mut bob, &ids[1])["payload"]["data"], ABC.0);
    ask(&mut world, &mut bob, "artifact.release", json!({"artifact_id": ids[1]}));
    world.settle();
    assert!(world.blobs.stored.is_empty());
    world.finish();
}

#[test]
fn an_artifact_goes_when_its_time_is_over_and_not_later_than_the_runtime_allows() {
    let mut world = configured(5, |config| config.timing.longest_artifact_retention = 2 * HOUR);
    let mut raw = open(&mut world, "tok-a");
    let keep = |world: &mut World, raw: &mut Raw, retain: Value, data: &str| {
        let kept = put(world, raw, json!({"media_type": "a/b", "data": data, "retain_seconds": retain}));
        kept["payload"]["artifact_id"].clone()
    };
    let short = keep(&mut world, &mut raw, json!(60), "YQ==");
    let none = put(&mut world, &mut raw, json!({"media_type": "a/b", "data": "YQ==", "retain_seconds": 0}));
    assert_eq!(code(&none), "INVALID_ARGUMENT", "nothing is kept for no time: {none}");
    let usual = keep(&mut world, &mut raw, Value::Null, "Yg==");
    let ever = keep(&mut world, &mut raw, json!(u64::MAX), "Yw==");
    let there = |world: &mut World, raw: &mut Raw| {
        [&short, &usual, &ever].map(|id| u8::from(fetch(world, raw, id)["type"] == "artifact.put"))
    };
    assert_eq!(there(&mut world, &mut raw), [1, 1, 1]);
    for (span, expected) in [(61, [0, 1, 1]), (3600, [0, 0, 1]), (3600, [0, 0, 0])] {
        world.run_for(Duration::from_secs(span));
        raw = open(&mut world, "tok-a");
        assert_eq!(there(&mut world, &mut raw), expected);
        world.restores();
        assert_eq!(world.blobs.stored.len(), expected.iter().sum::<u8>() as usize, "their bytes go with them");
    }
    world.finish();
}

#[test]
fn artifacts_outlive_a_crash_and_bytes_without_a_record_do_not() {
    let mut came = [0; 2];
    for seed in 0..40 {
        let mut world = world(100 + seed);
        let mut raw = open(&mut world, "tok-a");
        let said = |data: &str| json!({"media_type": "a/b", "data": data});
        let first = put(&mut world, &mut raw, said(ABC.0));
        let id = &first["payload"]["artifact_id"];
        raw.send(&mut world, "artifact.put", said("ZGVm"));
        let span = Duration::from_micros(world.below(10_000));
        world.run_for(span);
        let known = raw.take(&world).iter().any(|frame| frame["type"] == "artifact.ref");
        world.crash();
        let mut raw = open(&mut world, "tok-a");
        let fetched = fetch(&mut world, &mut raw, id);
        assert_eq!(fetched["payload"]["data"], ABC.0, "{seed}: {fetched}");
        world.settle();
        let second = world.blobs.stored.contains_key(&BlobDigest::of(b"def"));
        assert!(second || !known, "{seed}: what was said to be kept is kept");
        assert_eq!(world.blobs.stored.len(), 1 + usize::from(second));
        came[usize::from(second)] += 1;
        world.finish();
    }
    assert!(came.iter().all(|came| *came > 5), "lost and kept: {came:?}");
}

#[test]
fn what_a_host_cannot_store_or_has_lost_is_said() {
    let mut world = world(6);
    let mut raw = open(&mut world, "tok-a");
    world.blobs.full = true;
    let refused = put(&mut world, &mut raw, json!({"media_type": "a/b", "data": ABC.0}));
    assert_eq!(code(&refused), "UNAVAILABLE", "{refused}");
    world.blobs.full = false;
    let kept = put(&mut world, &mut raw, json!({"media_type": "a/b", "data": ABC.0}));
    let id = &kept["payload"]["artifact_id"];
    for damaged in [Some(b"abd".to_vec()), None] {
        world.blobs.stored.clear();
        world.blobs.stored.extend(damaged.map(|bytes| (BlobDigest::of(b"abc"), bytes)));
        assert_eq!(code(&fetch(&mut world, &mut raw, id)), "DATA_LOSS");
    }
    // A host that says nothing holds nobody up for ever.
    world.blobs.silent = true;
    raw.send(&mut world, "artifact.put", json!({"media_type": "a/b", "data": "ZGVm"}));
    raw.send(&mut world, "ping", json!({"nonce": "n"}));
    let refused = raw.expect(&mut world, "nack");
    assert_eq!(code(&refused), "UNAVAILABLE", "{refused}");
    raw.expect(&mut world, "pong");
    world.finish();
}

#[test]
fn who_fills_the_room_for_artifacts_leaves_some_for_others() {
    for name in ["artifacts", "all_artifact_bytes", "artifact_operations"] {
        let mut world = configured(7, move |config| match name {
            "all_artifact_bytes" => config.limits.artifact.all_artifact_bytes = 24,
            "artifact_operations" => config.limits.artifact.artifact_operations = 4,
            _ => config.limits.artifact.artifacts = 8,
        });
        world.blobs.silent = name == "artifact_operations";
        let mut refused = None;
        for n in 0..8 {
            let mut raw = open(&mut world, "tok-alice");
            raw.send(
                &mut world,
                "artifact.put",
                json!({"media_type": "a/b", "data": ABC.0, "artifact_id": n.to_string()}),
            );
            world.run_for(Duration::from_millis(10));
            refused = refused.or(raw.take(&world).into_iter().find(|frame| frame["type"] == "nack"));
        }
        let refused = refused.expect("a refusal");
        assert!(code(&refused) == "RESOURCE_EXHAUSTED" && refused.to_string().contains(name), "{refused}");
        world.blobs.silent = false;
        let mut bob = open(&mut world, "tok-bob");
        let kept = put(&mut world, &mut bob, json!({"media_type": "a/b", "data": ABC.0}));
        assert_eq!(kept["type"], "artifact.ref", "{name}: {kept}");
        world.finish();
    }
}

#[test]
fn a_command_that_comes_again_is_answered_again_and_nothing_is_kept_twice() {
    let mut world = world(8);
    let mut raw = open(&mut world, "tok-a");
    let id = raw.send(&mut world, "artifact.put", json!({"media_type": "a/b", "data": ABC.0}));
    let first = raw.expect(&mut world, "artifact.ref");
    raw.send_with(&mut world, "artifact.put", json!({"media_type": "a/b", "data": ABC.0}), json!({"id": id}));
    let second = raw.expect(&mut world, "artifact.ref");
    assert_eq!(first["payload"], second["payload"]);
    assert_eq!(world.blobs.stores, 1);
    world.finish();
}

#[test]
fn what_was_not_negotiated_is_not_there_and_is_not_offered() {
    let mut world = world(9);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let refused = put(&mut world, &mut raw, json!({"media_type": "a/b", "data": ABC.0}));
    assert!(refused.to_string().contains("not negotiated"), "{refused}");
    world.finish();
    let mut world = World::seeded(10);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["artifacts"] = json!(true);
    let (_, accepted) = Raw::open_with(&mut world, payload);
    assert_eq!(accepted["payload"]["capabilities"]["artifacts"], Value::Null, "{accepted}");
    world.finish();
}

#[test]
fn the_published_swift_client_gets_the_bytes_with_their_reference() {
    let mut world = configured(11, |config| config.compat = Compat::Always(Profile::Swift1));
    let mut raw = open(&mut world, "tok-a");
    let kept = put(&mut world, &mut raw, json!({"media_type": "a/b", "data": ABC.0, "size": 3, "ttl_seconds": 60}));
    let fetched = fetch(&mut world, &mut raw, &kept["payload"]["artifact_id"]);
    assert_eq!((&fetched["type"], &fetched["payload"]["data"]), (&json!("artifact.ref"), &json!(ABC.0)));
    world.finish();
}

#[test]
fn a_runtime_that_keeps_no_artifacts_any_more_takes_and_gives_none() {
    let mut world = world(12);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["artifacts"] = json!(true);
    let (mut raw, accepted) = Raw::open_with(&mut world, payload);
    let said = |data: &str| json!({"media_type": "a/b", "data": data});
    let id = put(&mut world, &mut raw, said(ABC.0))["payload"]["artifact_id"].clone();
    world.configure(|config| config.timing.artifact_retention = None);
    world.crash();
    let mut raw = Raw::reclaim(&mut world, "tok-a", &accepted, 0);
    for refused in [put(&mut world, &mut raw, said("ZGVm")), fetch(&mut world, &mut raw, &id)] {
        assert_eq!(code(&refused), "UNIMPLEMENTED", "{refused}");
    }
    assert_eq!(world.blobs.stores, 1, "a host without artifacts is asked for none");
    world.finish();
}

#[test]
fn what_somebody_left_whom_nobody_vouches_for_goes_with_the_session() {
    let mut world = configured(13, |config| {
        config.anonymous = true;
        config.timing.resume_window = Duration::from_secs(60);
    });
    let mut payload = open_payload("");
    payload["auth"] = json!({"scheme": "none"});
    payload["capabilities"]["artifacts"] = json!(true);
    payload["capabilities"]["anonymous"] = json!(true);
    let (mut nobody, _) = Raw::open_with(&mut world, payload);
    let mut alice = open(&mut world, "tok-alice");
    let said = |data: &str| json!({"media_type": "a/b", "data": data});
    for data in ["YQ==", "Yg=="] {
        assert_eq!(put(&mut world, &mut nobody, said(data))["type"], "artifact.ref");
    }
    let id = put(&mut world, &mut alice, said(ABC.0))["payload"]["artifact_id"].clone();
    nobody.send(&mut world, "session.close", json!({"reason": "done"}));
    world.settle();
    assert_eq!(world.blobs.stored.len(), 3, "it may be resumed");
    world.run_for(Duration::from_secs(61));
    world.restores();
    assert_eq!(world.blobs.stored.len(), 1, "nobody can come back for the others");
    world.crash();
    let mut alice = open(&mut world, "tok-alice");
    assert_eq!(fetch(&mut world, &mut alice, &id)["payload"]["data"], ABC.0);
    world.finish();
}

#[test]
fn whoever_asks_for_many_artifacts_at_once_gets_them_all_however_slowly_it_reads() {
    let mut world = configured(14, |config| config.limits.connection.reply_bytes_per_connection = 4 << 10);
    let mut raw = open(&mut world, "tok-a");
    let data = "QUJD".repeat(2 << 10);
    let id = put(&mut world, &mut raw, json!({"media_type": "a/b", "data": data}))["payload"]["artifact_id"].clone();
    world.stall(raw.conn, true);
    for _ in 0..40 {
        raw.send(&mut world, "artifact.fetch", json!({"artifact_id": id}));
    }
    // All of it was read before the driver is told to pause.
    world.hold(Duration::from_secs(1));
    world.run_for(Duration::from_secs(1));
    let held = held_bytes(world.runtime(), HeldFor::Answers);
    assert!(held < 16 << 10, "its answers wait for it, not all of the bytes: {held}");
    world.stall(raw.conn, false);
    for _ in 0..40 {
        assert_eq!(raw.expect(&mut world, "artifact.put")["payload"]["data"], data);
    }
    world.finish();
}

#[test]
fn what_follows_upon_a_request_that_waited_for_room_is_not_counted_as_its_speakers() {
    let mut world = configured(15, |config| config.limits.connection.reply_bytes_per_connection = 4 << 10);
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let job = other.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let mut raw = hello(&mut world, "tok-a");
    let wish = json!({"media_type": "a/b", "data": "QUJD".repeat(2 << 10)});
    let id = put(&mut world, &mut raw, wish)["payload"]["artifact_id"].clone();
    world.settle();
    world.stall(raw.conn, true);
    for _ in 0..40 {
        raw.send(&mut world, "artifact.fetch", json!({"artifact_id": id}));
    }
    raw.send(&mut world, "x-vendor.arcp.artifacts.list", json!({}));
    raw.send(&mut world, "job.submit", json!({"agent": "waiter"}));
    // All of it was read before the driver is told to pause.
    world.hold(Duration::from_secs(1));
    world.run_for(Duration::from_secs(1));
    world.store.broken = true;
    world.stall(raw.conn, false);
    let owner = Principal::new("a").expect("a name");
    let caused = |world: &World| held_bytes_of(world.runtime(), &owner, HeldFor::Records);
    while caused(&world) == 0 {
        assert!(world.step(), "its submit is heard");
    }
    let before = caused(&world);
    let job = JobId::parse(job.as_str().expect("an id")).expect("ours");
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    assert_eq!(caused(&world), before, "the operator has cancelled that of somebody else");
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_runtime_says_for_how_long_it_keeps_artifacts_to_whoever_may_leave_some() {
    let mut world = configured(40, |config| {
        config.timing.artifact_retention = Some(HOUR);
        config.timing.longest_artifact_retention = 2 * HOUR;
    });
    let expected = json!({"default_seconds": 3600, "max_seconds": 7200});
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["artifacts"] = json!(true);
    let (_, accepted) = Raw::open_with(&mut world, payload);
    assert_eq!(accepted["payload"]["capabilities"]["artifact_retention"], expected);
    let (_, accepted) = Raw::open(&mut world, "tok-a");
    assert_eq!(accepted["payload"]["capabilities"]["artifact_retention"], Value::Null, "not agreed on");
    for (agreed, expected) in [(true, expected), (false, Value::Null)] {
        let mut payload = hello_payload("tok-a");
        if agreed {
            payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.artifacts"));
        }
        let mut raw = Raw::connect(&mut world);
        raw.send(&mut world, "session.hello", payload);
        let welcome = raw.expect(&mut world, "session.welcome");
        assert_eq!(welcome["payload"]["capabilities"]["x-vendor.arcp.artifact_retention"], expected);
    }
    world.finish();
    // What is usual is no longer than the longest.
    let mut world = configured(41, |config| config.timing.longest_artifact_retention = HOUR / 2);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["artifacts"] = json!(true);
    let (_, accepted) = Raw::open_with(&mut world, payload);
    let retention = &accepted["payload"]["capabilities"]["artifact_retention"];
    assert_eq!(*retention, json!({"default_seconds": 1800, "max_seconds": 1800}));
    world.finish();
}
