//! Exact bounds: what just fits is accepted, and one more is not.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::{AgentCall, Config, Input};
use arcp_tests::raw::{Raw, code, open_payload};
use arcp_tests::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);
const PART: &str = "x-vendor.arcp.artifact.part";
const ABANDON: &str = "x-vendor.arcp.artifact.abandon";
const LIST: &str = "x-vendor.arcp.artifacts.list";

/// A runtime of artifacts, workflows, schedules and checkpoints, all of whose room one may have.
fn world(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.timing.artifact_retention = Some(HOUR);
        config.timing.heartbeat = None;
        config.timing.schedules = true;
        config.authority.workflows = true;
        config.limits.job.principal_share = 100;
        config.restartable_agents.insert("waiter".into());
        change(config);
    })
}

fn open(world: &mut World) -> Raw {
    let mut payload = open_payload("tok-a");
    for name in ["artifacts", "checkpoints", "scheduled_jobs"] {
        payload["capabilities"][name] = json!(true);
    }
    Raw::open_with(world, payload).0
}

/// What answers: its type, or the code of the refusal.
fn ask(world: &mut World, raw: &mut Raw, kind: &str, payload: Value) -> (String, Value) {
    let id = raw.send(world, kind, payload);
    let answers = [
        "x-vendor.arcp.artifact.received",
        "x-vendor.arcp.artifacts",
        "x-vendor.arcp.checkpoints",
        "artifact.ref",
        "artifact.put",
        "job.accepted",
        "ack",
        "nack",
    ];
    let answer = raw.expect_any(world, &answers);
    assert_eq!(answer["correlation_id"], id.as_str(), "{answer}");
    let said = if answer["type"] == "nack" { code(&answer) } else { answer["type"].as_str().expect("a type") };
    (said.into(), answer)
}

const FULL: &str = "RESOURCE_EXHAUSTED";

/// Sends bytes of a whole from one number to another.
fn part(world: &mut World, raw: &mut Raw, whole: &[u8], from: usize, to: usize) -> String {
    let (sha256, data) = (BlobDigest::of(whole).to_string(), BASE64.encode(&whole[from..to]));
    ask(world, raw, PART, json!({"sha256": sha256, "size": whole.len(), "offset": from, "data": data})).0
}

#[test]
fn what_is_put_and_fetched_at_once_has_as_many_bytes_as_the_bound_says() {
    let mut world = world(1, |config| config.limits.artifact.artifact_bytes = 8);
    let mut raw = open(&mut world);
    let put = |data: &[u8]| json!({"media_type": "a/b", "data": BASE64.encode(data)});
    let (said, kept) = ask(&mut world, &mut raw, "artifact.put", put(&[1; 8]));
    assert_eq!(said, "artifact.ref");
    assert_eq!(ask(&mut world, &mut raw, "artifact.put", put(&[1; 9])).0, FULL);
    let id = &kept["payload"]["artifact_id"];
    assert_eq!(ask(&mut world, &mut raw, "artifact.fetch", json!({"artifact_id": id})).0, "artifact.put");
    assert_eq!(part(&mut world, &mut raw, &[2; 9], 0, 8), "x-vendor.arcp.artifact.received");
    assert_eq!(part(&mut world, &mut raw, &[3; 9], 0, 9), FULL);
    world.finish();
}

#[test]
fn artifacts_in_parts_that_are_abandoned_leave_all_of_their_room() {
    for name in ["artifact_uploads", "all_artifact_bytes", "artifacts"] {
        let mut world = world(2, |config| match name {
            "artifact_uploads" => config.limits.artifact.artifact_uploads = 2,
            "artifacts" => config.limits.artifact.artifacts = 2,
            _ => config.limits.artifact.all_artifact_bytes = 40,
        });
        let mut raw = open(&mut world);
        for round in 0..3 {
            let wholes = [[round * 3; 20], [round * 3 + 1; 20], [round * 3 + 2; 20]];
            for (n, expected) in
                [(0, "x-vendor.arcp.artifact.received"), (1, "x-vendor.arcp.artifact.received"), (2, FULL)]
            {
                assert_eq!(part(&mut world, &mut raw, &wholes[n], 0, 8), expected, "{name}: {n} in round {round}");
            }
            for whole in &wholes[..2] {
                let sha256 = json!({"sha256": BlobDigest::of(whole).to_string()});
                assert_eq!(ask(&mut world, &mut raw, ABANDON, sha256).0, "ack");
            }
        }
        world.settle();
        assert!(world.blobs.parts.is_empty());
        world.finish();
    }
}

#[test]
fn artifacts_that_are_released_leave_all_of_their_room() {
    for name in ["artifacts", "all_artifact_bytes"] {
        let mut world = world(3, |config| match name {
            "artifacts" => config.limits.artifact.artifacts = 2,
            _ => config.limits.artifact.all_artifact_bytes = 6,
        });
        let mut raw = open(&mut world);
        let put = |data: &str| json!({"media_type": "a/b", "data": data});
        for _ in 0..3 {
            let kept = ["YWJj", "ZGVm"].map(|data| {
                let (said, kept) = ask(&mut world, &mut raw, "artifact.put", put(data));
                assert_eq!(said, "artifact.ref", "{name}: {kept}");
                kept["payload"]["artifact_id"].clone()
            });
            assert_eq!(ask(&mut world, &mut raw, "artifact.put", put("YQ==")).0, FULL, "{name}");
            for id in kept {
                assert_eq!(ask(&mut world, &mut raw, "artifact.release", json!({"artifact_id": id})).0, "ack");
            }
        }
        world.finish();
    }
}

#[test]
fn parts_wait_for_the_next_one_for_five_minutes_and_artifacts_go_on_time() {
    let mut world = world(4, |_| {});
    let mut raw = open(&mut world);
    part(&mut world, &mut raw, &[1; 20], 0, 8);
    let came = world.now().mono;
    let kept = json!({"media_type": "a/b", "data": "YWJj", "retain_seconds": 290});
    assert_eq!(ask(&mut world, &mut raw, "artifact.put", kept).0, "artifact.ref");
    let put = world.now().mono;
    world.run_for(Duration::from_millis(289_900) - world.now().mono.since(put));
    assert_eq!((world.blobs.stored.len(), world.blobs.parts.len()), (1, 1));
    world.run_for(Duration::from_millis(200));
    assert_eq!((world.blobs.stored.len(), world.blobs.parts.len()), (0, 1));
    world.run_for(Duration::from_millis(299_900) - world.now().mono.since(came));
    assert_eq!(world.blobs.parts.len(), 1);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.blobs.parts.len(), 0);
    world.finish();
}

#[test]
fn a_page_of_artifacts_ends_where_a_frame_does_and_has_as_many_as_were_asked_for() {
    let mut world = world(5, |config| config.limits.frame.result_frame_bytes = 4096);
    let mut raw = open(&mut world);
    for n in 0..40 {
        let put = json!({"artifact_id": format!("{n:02}"), "media_type": "a/b", "data": "YWJj"});
        assert_eq!(ask(&mut world, &mut raw, "artifact.put", put).0, "artifact.ref");
    }
    for (limit, expected) in [(0, "INVALID_ARGUMENT"), (1001, "INVALID_ARGUMENT"), (1, "x-vendor.arcp.artifacts")] {
        assert_eq!(ask(&mut world, &mut raw, LIST, json!({"limit": limit})).0, expected, "{limit}");
    }
    let (mut after, mut seen, mut pages) = (Value::Null, Vec::new(), 0);
    loop {
        let asked = if after.is_null() { json!({"limit": 1000}) } else { json!({"limit": 1000, "after": after}) };
        let (_, page) = ask(&mut world, &mut raw, LIST, asked);
        assert_eq!(page["correlation_id"], raw.last_id());
        assert!(page.to_string().len() <= 4096, "{}", page.to_string().len());
        let ids = page["payload"]["artifacts"].as_array().expect("a list").iter();
        seen.extend(ids.map(|one| one["artifact_id"].as_str().expect("an id").to_string()));
        pages += 1;
        after = page["payload"]["next_after"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(seen, (0..40).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    assert!((3..14).contains(&pages), "{pages} pages");
    world.finish();
}

#[test]
fn a_page_of_jobs_ends_where_a_frame_does() {
    let mut world = world(12, |config| {
        config.limits.frame.result_frame_bytes = 8192;
        config.limits.job.jobs_per_principal = 100;
    });
    let mut raw = Raw::open(&mut world, &format!("tok-{}", "a".repeat(200))).0;
    let lease = json!({"fs.read": (0..10).map(|n| format!("/srv/{n:0>60}/*")).collect::<Vec<_>>()});
    for n in 0..20 {
        raw.invoke(
            &mut world,
            json!({"tool": "waiter", "lease_request": if n % 2 == 0 { lease.clone() } else { json!({}) }}),
        );
    }
    raw.settle(&mut world);
    let (mut cursor, mut seen, mut pages) = (Value::Null, 0, Vec::new());
    loop {
        let asked = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        raw.send(&mut world, "session.list_jobs", asked);
        let page = raw.expect(&mut world, "session.jobs");
        let bytes = page.to_string().len();
        assert!(bytes <= 8192, "{bytes}");
        let count = page["payload"]["jobs"].as_array().expect("a list").len();
        (seen, cursor) = (seen + count, page["payload"]["next_cursor"].clone());
        pages.push(count);
        if cursor.is_null() {
            break;
        }
    }
    // Half a frame: at 512 bytes each, the 200 of whose they are, and a lease of 740 beside every second one.
    assert_eq!((seen, pages[0]), (20, 4), "{pages:?}");
    world.finish();
}

#[test]
fn a_lease_has_as_many_bytes_as_its_bound_says() {
    let lease = json!({"fs.read": ["/a/b/c"]});
    let bytes = lease.to_string().len();
    for (bound, expected) in [(bytes, "job.accepted"), (bytes - 1, "INVALID_ARGUMENT")] {
        let mut world = world(5, |config| config.limits.job.lease_bytes = bound);
        let mut raw = open(&mut world);
        let wish = json!({"tool": "waiter", "lease_request": lease});
        let (said, answer) = ask(&mut world, &mut raw, "tool.invoke", wish);
        assert_eq!(said, expected, "{answer}");
        world.finish();
    }
}

fn invoke(world: &mut World, raw: &mut Raw, agent: &str) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": agent}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// How many checkpoints of a job are kept once its agent has made one more of so many bytes.
fn kept(world: &mut World, raw: &mut Raw, job: JobId, bytes: usize) -> usize {
    let call = AgentCall::Checkpoint { state: vec![b'x'; bytes], label: None };
    world.input(Input::Agent { job, call });
    world.settle();
    raw.settle(world);
    let (_, list) = ask(world, raw, "x-vendor.arcp.checkpoints.list", json!({"job_id": job}));
    list["payload"]["checkpoints"].as_array().expect("a list").len()
}

#[test]
fn the_checkpoints_of_a_job_have_as_many_bytes_as_its_bound_says() {
    // Each takes 256 bytes more than it says.
    let mut world = world(6, |config| {
        config.limits.artifact.checkpoint_bytes_per_job = 1000;
        config.limits.job.checkpoint_bytes = 745;
    });
    let mut raw = open(&mut world);
    for (bytes, expected) in [(746, 0), (745, 0), (744, 1)] {
        let job = invoke(&mut world, &mut raw, "waiter");
        assert_eq!(kept(&mut world, &mut raw, job, bytes), expected, "{bytes}");
    }
    let job = invoke(&mut world, &mut raw, "waiter");
    assert_eq!(kept(&mut world, &mut raw, job, 244), 1);
    assert_eq!(kept(&mut world, &mut raw, job, 244), 2);
    assert_eq!(kept(&mut world, &mut raw, job, 0), 2, "the oldest has gone");
    assert_eq!(kept(&mut world, &mut raw, job, 245), 2);
    world.finish();
}

fn step(id: &str, more: Value) -> Value {
    let mut step = json!({"id": id, "tool": "echo"});
    step.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    step
}

#[test]
fn a_graph_that_meets_each_of_its_bounds_is_run_and_one_beyond_is_not() {
    let steps = json!([
        step("a", json!({})),
        step("b", json!({"needs": ["a"], "arguments": {"x": {"$from": "/steps/a/result"}}})),
        step("c", json!({"needs": ["b"], "retry": {"limit": 2}, "when": {"$from": "/steps/b/state"}})),
    ]);
    type Set = fn(&mut Config, usize);
    let bounds: [(&str, usize, Set); 4] = [
        ("workflow_steps", 3, |config, most| config.limits.workflow.workflow_steps = most),
        ("workflow_depth", 3, |config, most| config.limits.workflow.workflow_depth = most),
        ("workflow_pointers", 2, |config, most| config.limits.workflow.workflow_pointers = most),
        ("step_retries", 2, |config, most| config.limits.workflow.step_retries = most as u32),
    ];
    for (name, needed, set) in bounds {
        for (most, expected) in [(needed, "job.accepted"), (needed - 1, FULL)] {
            let mut world = world(7, |config| set(config, most));
            let mut raw = open(&mut world);
            let (said, answer) = ask(&mut world, &mut raw, "workflow.start", json!({"workflow": {"steps": steps}}));
            assert_eq!(said, expected, "{name} of {most}: {answer}");
            raw.settle(&mut world);
            world.finish();
        }
    }
}

/// What a step has come to whose arguments are these, under bounds of those and of results.
fn result(seed: u64, (arguments, results): (usize, usize), text: usize) -> Value {
    let mut world = world(seed, |config| {
        config.limits.workflow.step_argument_bytes = arguments;
        config.limits.workflow.step_result_bytes = results;
    });
    let mut raw = open(&mut world);
    let steps = json!([
        step("a", json!({"arguments": {"$from": "/input"}, "on_failure": "continue"})),
        step("b", json!({"arguments": {"$from": "/input"}, "on_failure": "continue"})),
        step("c", json!({"needs": ["a", "b"], "arguments": {"$from": "/steps/b/state"}})),
    ]);
    let input = "x".repeat(text - 2);
    raw.send(&mut world, "workflow.start", json!({"workflow": {"steps": steps}, "input": input}));
    let frames = raw.until_end(&mut world);
    world.finish();
    frames.last().expect("an end")["payload"].clone()
}

#[test]
fn the_arguments_and_results_of_steps_have_as_many_bytes_as_their_bounds_say() {
    let large = 1 << 20;
    for (bounds, is_done) in
        [((300, large), true), ((299, large), false), ((large, 600 + 11), true), ((large, 599), false)]
    {
        let end = result(8, bounds, 300);
        let state = end["value"]["c"].as_str();
        assert_eq!(state == Some("succeeded"), is_done, "{bounds:?}: {end}");
    }
}

fn schedule(world: &mut World, raw: &mut Raw, when: Value, more: Value) -> (String, Value) {
    let mut wish = json!({"job": {"type": "tool.invoke", "payload": {"tool": "echo"}}, "when": when});
    wish.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    ask(world, raw, "job.schedule", wish)
}

#[test]
fn a_schedule_is_put_off_no_longer_than_ten_years_and_its_id_has_its_bound() {
    let mut world = world(9, |_| {});
    let mut raw = open(&mut world);
    let ten_years = 10 * 366 * 24 * 3600;
    let named = |bytes: usize| json!({"schedule_id": "i".repeat(bytes)});
    for (after, id, expected) in [
        (ten_years, named(128), "ack"),
        (ten_years + 1, named(1), "INVALID_ARGUMENT"),
        (1, named(129), "INVALID_ARGUMENT"),
        (0, json!({}), "ack"),
    ] {
        let (said, answer) = schedule(&mut world, &mut raw, json!({"after": after}), id);
        assert_eq!(said, expected, "{after}: {answer}");
    }
    world.finish();
}

#[test]
fn many_schedules_that_are_due_at_once_all_have_their_jobs() {
    let mut world = world(10, |_| {});
    let mut raw = open(&mut world);
    for _ in 0..40 {
        assert_eq!(schedule(&mut world, &mut raw, json!({"at": "2026-01-01T01:00:00Z"}), json!({})).0, "ack");
    }
    world.run_for(HOUR + Duration::from_secs(1));
    assert_eq!(world.started.len(), 40);
    world.finish();
}

#[test]
fn a_time_that_is_a_minute_late_was_not_missed_and_each_that_was_is_counted() {
    // Hourly from midnight on, when worlds begin.
    let rule = json!({"every": "DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY"});
    for (late_ms, fired) in [(59_000, 1), (61_000, 0)] {
        let mut world = world(11, |_| {});
        let mut raw = open(&mut world);
        let more = json!({"x-vendor.arcp.missed": "none", "schedule_id": "s"});
        assert_eq!(schedule(&mut world, &mut raw, rule.clone(), more).0, "ack");
        world.settle();
        world.set_clock(3 * 3_600_000 + late_ms - i64::try_from(world.now().mono.0 / 1000).expect("not long"));
        // Whatever is done of schedules has the clock looked at.
        assert_eq!(schedule(&mut world, &mut raw, json!({"after": 86_400}), json!({})).0, "ack");
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.started.len(), fired, "{late_ms}");
        raw.send(&mut world, "x-vendor.arcp.schedules.list", json!({}));
        let page = raw.expect(&mut world, "x-vendor.arcp.schedules");
        let all = page["payload"]["schedules"].as_array().expect("a list");
        let shown = all.iter().find(|one| one["schedule_id"] == "s").expect("it goes on");
        assert_eq!((&shown["fired"], &shown["skipped"]), (&json!(fired), &json!(3 - fired)), "{shown}");
        assert_eq!(shown["next"][0], "2026-01-01T04:00:00.000Z");
        world.finish();
    }
}
