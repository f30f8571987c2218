//! Artifacts that agents leave: watchers of their jobs are shown them and can fetch them (RFC §16).

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::Duration;

use arcp_host::agent::{AgentError, AsyncContext, CallError, Context, NewArtifact, Outcome};
use arcp_host::process::ProcessAgent;
use arcp_host::registry::Registry;
use arcp_host::store::MemoryStore;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::artifact::{BlobDigest, MediaType};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::runtime::{AgentReply, Config, Wait};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::server::{PATIENCE, Running, submit};
use arcp_tests::world::World;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

fn world(seed: u64, change: impl Fn(&mut Config) + 'static) -> World {
    World::configured(seed, move |config| {
        config.timing.artifact_retention = Some(HOUR);
        config.auditors = [Principal::new("clerk").expect("a name")].into();
        change(config);
    })
}

fn hello(world: &mut World, token: &str) -> Raw {
    let mut payload = hello_payload(token);
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.artifacts"));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["artifacts"] = json!(true);
    Raw::open_with(world, payload).0
}

/// A job whose agent does nothing by itself.
fn running(world: &mut World, raw: &mut Raw) -> JobId {
    let accepted = raw.submit(world, json!({"agent": "stubborn"}));
    world.settle();
    JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job")
}

fn fetch(world: &mut World, raw: &mut Raw, id: &str) -> Value {
    raw.send(world, "artifact.fetch", json!({"artifact_id": id}));
    raw.expect_any(world, &["artifact.put", "nack", "session.error"])
}

fn last_reply(world: &World) -> &AgentReply {
    &world.replies.last().expect("it is answered").1
}

fn refused(world: &World) -> &ErrorCode {
    match last_reply(world) {
        AgentReply::Refused(why) => &why.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_an_agent_leaves_is_shown_in_both_families_and_fetched_by_whoever_may_watch() {
    let mut world = world(1, |_| {});
    let mut owner = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut owner);
    let mut watcher = open(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job.to_string()}));
    watcher.expect(&mut world, "job.subscribed");
    world.offer(job, CallId(1), b"abc");
    assert_eq!(world.waits().get(&job), Some(&Wait::Artifact));
    world.settle();
    let AgentReply::Kept(kept) = last_reply(&world).clone() else { panic!("{:?}", last_reply(&world)) };
    let id = kept.id.as_str();
    assert!(id.starts_with("art_"), "{id}");
    let shown = owner.take(&world).into_iter().find(|frame| frame["payload"]["kind"] == "artifact_ref");
    let body = &shown.expect("it is shown")["payload"]["body"];
    assert_eq!((&body["artifact_id"], &body["byte_size"]), (&json!(id), &json!(3)), "{body}");
    let shown = watcher.expect(&mut world, "artifact.ref");
    for at in [&shown["payload"], &shown["payload"]["artifact"]] {
        assert_eq!((&at["artifact_id"], &at["media_type"], &at["size"]), (&json!(id), &json!("text/plain"), &json!(3)));
        assert_eq!((&at["uri"], &at["sha256"]), (&body["uri"], &body["sha256"]));
        assert_eq!(at["expires_at"], body["expires_at"]);
    }
    assert!(shown["event_seq"].is_u64(), "it is one of its numbered frames: {shown}");
    world.restores();
    let (mut auditor, mut stranger) = (open(&mut world, "tok-clerk"), open(&mut world, "tok-b"));
    for raw in [&mut owner, &mut watcher, &mut auditor] {
        assert_eq!(fetch(&mut world, raw, id)["payload"]["data"], "YWJj");
    }
    assert_eq!(code(&fetch(&mut world, &mut stranger, id)), "NOT_FOUND", "it is nobody else's");
    auditor.send(&mut world, "artifact.release", json!({"artifact_id": id}));
    auditor.expect(&mut world, "ack");
    assert_eq!(fetch(&mut world, &mut owner, id)["payload"]["data"], "YWJj", "who watches lets go of nothing");
    owner.send(&mut world, "artifact.release", json!({"artifact_id": id}));
    world.settle();
    assert!(world.blobs.stored.is_empty(), "its owner does");
    world.finish();
}

#[test]
fn what_an_agent_leaves_counts_as_its_principals_and_is_refused_with_the_bound() {
    let mut world = world(2, |config| {
        config.limits.artifact.whole_artifact_bytes = 8;
        config.limits.artifact.artifacts = 4;
    });
    let mut raw = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut raw);
    let leave = |world: &mut World, call: u64, bytes: &[u8]| {
        world.offer(job, CallId(call), bytes);
        world.settle();
    };
    leave(&mut world, 1, b"123456789");
    assert_eq!(refused(&world), &ErrorCode::ResourceExhausted);
    leave(&mut world, 2, b"12345678");
    assert!(matches!(last_reply(&world), AgentReply::Kept(_)));
    leave(&mut world, 3, b"1");
    raw.send(&mut world, "artifact.put", json!({"media_type": "a/b", "data": "YWJj"}));
    let full = raw.expect(&mut world, "session.error");
    assert_eq!(full["payload"]["details"]["bound"], "artifacts", "its principal has a share: {full}");
    // What is something else by now is not kept, nor is anything without a host for it.
    world.blobs.full = true;
    let mut other = hello(&mut world, "tok-b");
    let job = running(&mut world, &mut other);
    world.offer(job, CallId(4), b"x");
    world.settle();
    assert_eq!(refused(&world), &ErrorCode::Unavailable);
    assert!(!world.waits().contains_key(&job), "it goes on");
    world.finish();
}

#[test]
fn a_cancel_answers_an_agent_that_leaves_something_and_nobody_has_its_bytes() {
    let mut world = world(3, |_| {});
    let mut raw = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut raw);
    world.blobs.silent = true;
    world.offer(job, CallId(1), b"abc");
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    raw.expect(&mut world, "job.cancelled");
    assert_eq!(last_reply(&world), &AgentReply::Stopped);
    world.blobs.silent = false;
    world.crash();
    world.settle();
    assert!(world.blobs.stored.is_empty(), "no record has ever named them");
    world.finish();
}

#[test]
fn who_leaves_artifacts_waits_for_a_submitter_that_reads_nothing() {
    let mut world = world(6, |config| {
        config.limits.delivery.pace_events = 8;
        config.limits.delivery.agent_credit = 4;
    });
    let mut raw = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut raw);
    world.stall(raw.conn, true);
    let mut left = 0;
    while !world.waits().contains_key(&job) && left < 100 {
        left += 1;
        world.offer(job, CallId(left), b"abc");
        world.run_for(Duration::from_millis(100));
    }
    assert!(matches!(world.waits().get(&job), Some(Wait::Reader(_))), "{:?} after {left}", world.waits().get(&job));
    world.stall(raw.conn, false);
    world.settle();
    assert!(world.waits().is_empty(), "it goes on when it reads");
    world.finish();
}

#[test]
fn a_crash_while_an_agent_leaves_something_keeps_all_of_it_or_nothing() {
    let mut came = [0; 2];
    for seed in 0..40 {
        let mut world = world(100 + seed, |_| {});
        let mut raw = open(&mut world, "tok-a");
        raw.send(&mut world, "tool.invoke", json!({"tool": "stubborn"}));
        let accepted = raw.expect(&mut world, "job.accepted");
        let job = JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job");
        world.settle();
        world.offer(job, CallId(1), b"abc");
        let span = Duration::from_micros(world.below(10_000));
        world.run_for(span);
        let shown = raw.take(&world).into_iter().find(|frame| frame["type"] == "artifact.ref");
        world.crash();
        let mut raw = open(&mut world, "tok-a");
        if let Some(shown) = &shown {
            let id = shown["payload"]["artifact_id"].as_str().expect("an id");
            assert_eq!(fetch(&mut world, &mut raw, id)["payload"]["data"], "YWJj", "{seed}: what was shown is there");
        }
        world.settle();
        let stored = world.blobs.stored.contains_key(&BlobDigest::of(b"abc"));
        assert!(stored || shown.is_none());
        came[usize::from(stored)] += 1;
        world.finish();
    }
    assert!(came.iter().all(|came| *came > 5), "lost and kept: {came:?}");
}

#[test]
fn an_agent_cannot_say_that_something_is_stored_which_is_not() {
    let mut world = world(4, |_| {});
    let mut raw = open(&mut world, "tok-a");
    raw.send(&mut world, "tool.invoke", json!({"tool": "stubborn"}));
    let accepted = raw.expect(&mut world, "job.accepted");
    let job = JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job");
    world.settle();
    let body = Json::parse(r#"{"uri":"arcp://x/y","artifact_id":"art_1"}"#).expect("JSON");
    for kind in ["artifact.ref", "artifact_ref"] {
        let call = arcp_proto::runtime::AgentCall::Emit { kind: kind.into(), body: body.clone() };
        world.input(arcp_proto::runtime::Input::Agent { job, call });
    }
    let shown = raw.settle(&mut world);
    assert!(shown.iter().all(|frame| frame["type"] != "artifact.ref"), "{shown:?}");
    world.finish();
}

fn text() -> MediaType {
    "text/plain".parse().expect("a media type")
}

/// A server that keeps artifacts, with these agents.
fn server(registry: Registry) -> Running {
    let keeps = |config: &mut Config| {
        config.timing.artifact_retention = Some(HOUR);
        config.limits.artifact.whole_artifact_bytes = 4 << 20;
    };
    Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, keeps))
}

/// What a job shows of what it stores, and its result.
fn run(server: &Running, agent: &str, input: &str) -> (Vec<Json>, String) {
    let client = server.client();
    let job = client.submit(submit(agent, input)).expect("accepted");
    let mut shown = Vec::new();
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            arcp_blocking::JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } => {
                shown.extend((kind == EventKind::StoredArtifact).then_some(body));
            }
            arcp_blocking::JobUpdate::Event { .. } => {}
            arcp_blocking::JobUpdate::Ended { result, .. } => {
                let arcp_proto::client::ResultData::Inline(result) = result else { panic!("{result:?}") };
                return (shown, result.as_str().to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn agents_of_both_sorts_leave_bytes_and_are_told_what_they_are_known_by() {
    fn blocking(job: &Context) -> Result<Outcome, AgentError> {
        let kept = job.put_artifact(NewArtifact::of(text(), "abc").kept_for(Duration::from_secs(60)))?;
        let large = NewArtifact::of(text(), vec![b'x'; (4 << 20) + 1]);
        let Err(CallError::Refused(why)) = job.put_artifact(large) else {
            return Err(AgentError::failed("it is too large"));
        };
        Outcome::of(&(kept.id.as_str(), why.code.as_str()))
    }
    async fn asynchronous(job: AsyncContext, _: Json) -> Result<Outcome, AgentError> {
        let kept = job.put_artifact(NewArtifact::of(text(), vec![b'y'; 3 << 20])).await?;
        Outcome::of(&(kept.id.as_str(), "RESOURCE_EXHAUSTED"))
    }
    let mut registry = Registry::default();
    registry.add("blocking", None, blocking);
    registry.add_async("async", None, asynchronous);
    let server = server(registry);
    for (agent, size) in [("blocking", "3"), ("async", "3145728")] {
        let (shown, result) = run(&server, agent, "{}");
        let [body] = shown.as_slice() else { panic!("{shown:?}") };
        let members = body.members().expect("an object");
        let id = members.get_str("artifact_id").expect("an id");
        assert_eq!(result, format!(r#"["{id}","RESOURCE_EXHAUSTED"]"#));
        assert_eq!(members.get("byte_size"), Some(size));
        if agent == "blocking" {
            let fetched = server.client().fetch_artifact(WireId::new(&id).expect("an id")).expect("fetched");
            assert_eq!(fetched.data, b"abc");
        }
    }
}

#[test]
fn the_sample_leaves_letters_and_its_result_is_the_reference() {
    let mut registry = Registry::default();
    arcp_host::samples::add_to(&mut registry);
    let server = server(registry);
    let (shown, result) = run(&server, "artist", r#"{"bytes":30,"media_type":"text/x-letters"}"#);
    let result: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!((&result["size"], &result["media_type"]), (&json!(30), &json!("text/x-letters")));
    let body: Value = serde_json::from_str(shown[0].as_str()).expect("JSON");
    for name in ["artifact_id", "uri", "sha256", "expires_at"] {
        assert_eq!(result[name], body[name], "{name}");
    }
    let id = WireId::new(result["artifact_id"].as_str().expect("an id")).expect("an id");
    assert_eq!(server.client().fetch_artifact(id).expect("fetched").data, b"abcdefghijklmnopqrstuvwxyzabcd");
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_leaves_regular_files_beneath_its_working_directory_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("arcp-leaves-{}", std::process::id()));
    let outside = folder.join("outside.txt");
    let inside = folder.join("work");
    std::fs::create_dir_all(inside.join("deep")).expect("a folder");
    std::fs::write(&outside, "secret").expect("written");
    std::fs::write(inside.join("deep/report.txt"), "abc").expect("written");
    std::fs::write(inside.join("large.bin"), vec![0; (4 << 20) + 1]).expect("written");
    std::os::unix::fs::symlink(&outside, inside.join("out")).expect("a link");
    std::os::unix::fs::symlink("deep/report.txt", inside.join("in")).expect("a link");
    std::os::unix::fs::symlink("/", inside.join("root")).expect("a link");
    let command = r#"mkfifo fifo; read input; n=0
        for path in deep/report.txt in "$PWD/deep/report.txt" out ../outside.txt root/etc/passwd /etc/passwd fifo deep large.bin gone /dev/zero; do
            n=$((n+1)); echo '{"kind":"artifact","id":'$n',"path":"'$path'","media_type":"text/plain"}'
            read answer; case "$answer" in *'"ok":true'*) all="$all yes";; *RESOURCE_EXHAUSTED*) all="$all large";; *) all="$all no";; esac
        done
        echo '{"kind":"artifact","path":"out"}'; echo '{"kind":"artifact","id":99}'; read answer
        case "$answer" in *'`path` must be'*) all="$all told";; esac
        echo "{\"result\":\"$all\"}""#;
    let mut registry = Registry::default();
    registry.add("it", None, ProcessAgent::shell(command).answered().in_directory(&inside));
    let (shown, result) = run(&server(registry), "it", "{}");
    std::fs::remove_dir_all(&folder).expect("deleted");
    assert_eq!(result, r#"" yes yes yes no no no no no no large no no told""#);
    assert_eq!(shown.len(), 3);
    for body in shown {
        let digest = body.members().expect("an object").get_str("sha256");
        assert_eq!(digest, Some(BlobDigest::of(b"abc").to_string()));
    }
}
