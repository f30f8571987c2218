//! Jobs whose result is an artifact (RFC §16): reported in both families, fetched by all who may watch, and kept as
//! long as the job.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::Duration;

use arcp_host::agent::{AgentError, AsyncContext, Context, NewArtifact, Outcome};
use arcp_host::process::ProcessAgent;
use arcp_host::registry::Registry;
use arcp_host::store::MemoryStore;
use arcp_proto::client::{ClientEvent, ResultData};
use arcp_proto::id::{CallId, JobId, Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::artifact::{ArtifactRef, BlobDigest};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, ChunkData, Config, Delegation, Input};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, leases_payload, open_payload};
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

/// The agent of a job leaves bytes.
fn leave(world: &mut World, job: JobId, bytes: &[u8]) -> ArtifactRef {
    let call = CallId(world.replies.len() as u64 + 1);
    world.offer(job, call, bytes);
    world.settle();
    match world.replies.last().expect("it is answered") {
        (_, AgentReply::Kept(kept)) => (**kept).clone(),
        other => panic!("{other:?}"),
    }
}

/// It ends with that.
fn end(world: &mut World, job: JobId, artifact: &WireId) {
    world.stop_script(job);
    let exit = AgentExit::Stored { artifact: artifact.clone(), summary: Some("all of it".into()) };
    world.input(Input::AgentExited { job, exit });
}

fn fetch(world: &mut World, raw: &mut Raw, id: &WireId) -> Value {
    raw.send(world, "artifact.fetch", json!({"artifact_id": id.as_str()}));
    raw.expect_any(world, &["artifact.put", "nack", "session.error"])
}

fn watch(world: &mut World, raw: &mut Raw, job: JobId) {
    raw.send(world, "job.subscribe", json!({"job_id": job.to_string(), "history": true}));
    raw.expect(world, "job.subscribed");
}

#[test]
fn a_result_that_is_an_artifact_is_told_in_both_families_and_fetched_by_whoever_may_watch() {
    let mut world = world(1, |_| {});
    let mut owner = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut owner);
    let mut watcher = open(&mut world, "tok-a");
    watch(&mut world, &mut watcher, job);
    let kept = leave(&mut world, job, b"abc");
    end(&mut world, job, &kept.id);
    let result = owner.expect(&mut world, "job.result");
    let completed = watcher.expect(&mut world, "job.completed");
    world.restores();
    let reference = &completed["payload"]["result_ref"];
    assert_eq!(*reference, serde_json::from_str::<Value>(kept.to_json().as_str()).expect("JSON"));
    assert_eq!(completed["payload"]["summary"], "all of it");
    assert!(completed["payload"]["value"].is_null() && completed["payload"]["result"].is_null(), "{completed}");
    // Who knows no references has an object that says what it is.
    assert_eq!((&result["payload"]["result_ref"], &result["payload"]["result"]["result_ref"]), (reference, reference));
    assert_eq!(result["payload"]["final_status"], "success");
    // Whoever comes later, after a restart as well, is told the same.
    world.crash();
    let (mut auditor, mut stranger) = (open(&mut world, "tok-clerk"), open(&mut world, "tok-b"));
    watch(&mut world, &mut auditor, job);
    let again = auditor.expect(&mut world, "job.completed");
    assert_eq!(again["payload"], completed["payload"]);
    assert_eq!(fetch(&mut world, &mut auditor, &kept.id)["payload"]["data"], "YWJj");
    assert_eq!(code(&fetch(&mut world, &mut stranger, &kept.id)), "NOT_FOUND", "it is nobody else's");
    world.finish();
}

#[test]
fn a_result_is_kept_as_long_as_its_job_and_then_it_is_not_found() {
    let mut world = world(2, |config| {
        config.timing.artifact_retention = Some(Duration::from_secs(20));
        config.timing.job_retention = Some(Duration::from_secs(900));
        config.limits.artifact.artifacts = 8;
    });
    let mut owner = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut owner);
    let (other, kept) = (leave(&mut world, job, b"xyz"), leave(&mut world, job, b"abc"));
    let before = world.now().utc;
    end(&mut world, job, &kept.id);
    let result = owner.expect(&mut world, "job.result");
    let until = before.plus(Duration::from_secs(900));
    assert!(kept.expires_at < before.plus(Duration::from_secs(30)), "it was not to be kept for so long");
    let said = arcp_proto::time::UtcMs::parse(result["payload"]["result_ref"]["expires_at"].as_str().expect("a time"));
    assert!(said.is_some_and(|said| said >= until), "{result}");
    world.restores();
    world.run_for(Duration::from_secs(890));
    let mut raw = open(&mut world, "tok-a");
    assert_eq!(fetch(&mut world, &mut raw, &kept.id)["payload"]["data"], "YWJj", "as long as the job");
    assert_eq!(code(&fetch(&mut world, &mut raw, &other.id)), "NOT_FOUND", "the other one is nobody's result");
    world.restores();
    world.run_for(Duration::from_secs(30));
    assert_eq!(code(&fetch(&mut world, &mut raw, &kept.id)), "NOT_FOUND");
    assert!(world.blobs.stored.is_empty(), "its bytes go with it");
    world.finish();
}

#[test]
fn a_result_counts_once_is_its_owners_to_release_and_is_kept_no_longer_than_any() {
    let mut world = world(3, |config| {
        config.timing.artifact_retention = Some(Duration::from_secs(20));
        config.timing.longest_artifact_retention = Duration::from_secs(60);
        config.timing.job_retention = Some(Duration::from_secs(900));
        // Half of them is for whoever has none.
        config.limits.artifact.artifacts = 4;
        config.limits.job.principal_share = 50;
    });
    let mut owner = hello(&mut world, "tok-a");
    let job = running(&mut world, &mut owner);
    let kept = leave(&mut world, job, b"abc");
    end(&mut world, job, &kept.id);
    let result = owner.expect(&mut world, "job.result");
    let said = arcp_proto::time::UtcMs::parse(result["payload"]["result_ref"]["expires_at"].as_str().expect("a time"));
    assert!(said.is_some_and(|said| said <= world.now().utc.plus(Duration::from_secs(60))), "{result}");
    let put = |world: &mut World, raw: &mut Raw| {
        raw.send(world, "artifact.put", json!({"media_type": "a/b", "data": "eHl6"}));
        raw.expect_any(world, &["artifact.ref", "session.error"])
    };
    assert_eq!(put(&mut world, &mut owner)["type"], "artifact.ref", "one of two is left");
    assert_eq!(put(&mut world, &mut owner)["payload"]["details"]["bound"], "artifacts");
    owner.send(&mut world, "artifact.release", json!({"artifact_id": kept.id.as_str()}));
    owner.expect(&mut world, "ack");
    assert_eq!(code(&fetch(&mut world, &mut owner, &kept.id)), "JOB_NOT_FOUND", "its owner let go of it");
    assert_eq!(put(&mut world, &mut owner)["type"], "artifact.ref", "and has its room back");
    world.restores();
    world.finish();
}

#[test]
fn a_job_ends_with_nothing_that_its_agent_has_not_left_or_that_is_gone() {
    let mut world = world(4, |_| {});
    let mut owner = hello(&mut world, "tok-a");
    let mut other = hello(&mut world, "tok-b");
    let foreign = running(&mut world, &mut other);
    let of_foreign = leave(&mut world, foreign, b"xyz");
    owner.send(&mut world, "artifact.put", json!({"media_type": "a/b", "data": "YWJj"}));
    let put = owner.expect(&mut world, "artifact.ref");
    let put = WireId::new(put["payload"]["artifact_id"].as_str().expect("an id")).expect("an id");
    let before = running(&mut world, &mut owner);
    let of_before = leave(&mut world, before, b"before");
    for wrong in [of_foreign.id, put, of_before.id, WireId::new("art_none").expect("an id")] {
        let job = running(&mut world, &mut owner);
        end(&mut world, job, &wrong);
        let failed = owner.expect(&mut world, "job.error");
        assert_eq!(code(&failed), "INTERNAL_ERROR");
        assert!(failed["payload"]["message"].as_str().is_some_and(|why| why.contains(wrong.as_str())), "{failed}");
    }
    // What was released meanwhile is gone, and pieces are another result.
    let job = running(&mut world, &mut owner);
    let kept = leave(&mut world, job, b"abc");
    owner.send(&mut world, "artifact.release", json!({"artifact_id": kept.id.as_str()}));
    owner.expect(&mut world, "ack");
    end(&mut world, job, &kept.id);
    assert_eq!(code(&owner.expect(&mut world, "job.error")), "INTERNAL_ERROR");
    let job = running(&mut world, &mut owner);
    let kept = leave(&mut world, job, b"abc");
    let call = AgentCall::Chunk { data: ChunkData::Text("piece".into()), more: true };
    world.input(Input::Agent { job, call });
    end(&mut world, job, &kept.id);
    assert_eq!(code(&owner.expect(&mut world, "job.error")), "INTERNAL_ERROR");
    world.restores();
    world.finish();
}

#[test]
fn whoever_has_a_child_done_is_handed_what_its_result_is_known_by() {
    let mut world = world(5, |_| {});
    let (mut raw, mut payload) = (Raw::connect(&mut world), leases_payload("tok-a"));
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.artifacts"));
    raw.send(&mut world, "session.hello", payload);
    raw.expect(&mut world, "session.welcome");
    let lease = json!({"agent.delegate": ["stubborn"]});
    let accepted = raw.submit(&mut world, json!({"agent": "stubborn", "lease_request": lease}));
    world.settle();
    let job = JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job");
    let asked = Delegation {
        delegate_id: Some("d1".into()),
        lease_request: Some(Json::empty_object()),
        ..Delegation::new("stubborn")
    };
    world.input(Input::AgentAsked { job, id: CallId(900), call: AgentCall::Delegate(asked) });
    world.settle();
    let AgentReply::Delegated { job: child } = world.replies.last().expect("answered").1 else { panic!("a child") };
    world.input(Input::AgentAsked { job, id: CallId(901), call: AgentCall::AwaitChild { job: child } });
    let kept = leave(&mut world, child, b"abc");
    end(&mut world, child, &kept.id);
    world.settle();
    let AgentReply::ChildEnded(ended) = &world.replies.last().expect("answered").1 else { panic!("an end") };
    assert_eq!((ended.status, &ended.result), (FinalStatus::Success, &Some(kept.as_result())));
    assert_eq!(fetch(&mut world, &mut raw, &kept.id)["payload"]["data"], "YWJj");
    world.finish();
}

#[test]
fn a_crash_while_a_job_ends_so_keeps_its_end_with_what_it_names_or_neither() {
    let mut came = [0; 2];
    for seed in 0..40 {
        let mut world = world(100 + seed, |config| {
            config.timing.artifact_retention = Some(Duration::from_secs(20));
            config.timing.job_retention = Some(Duration::from_secs(900));
        });
        let mut raw = open(&mut world, "tok-a");
        raw.send(&mut world, "tool.invoke", json!({"tool": "stubborn"}));
        let accepted = raw.expect(&mut world, "job.accepted");
        let job = JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job");
        world.settle();
        let kept = leave(&mut world, job, b"abc");
        end(&mut world, job, &kept.id);
        let span = Duration::from_micros(world.below(10_000));
        world.run_for(span);
        world.crash();
        let mut raw = open(&mut world, "tok-a");
        watch(&mut world, &mut raw, job);
        let ended = raw.expect_any(&mut world, &["job.completed", "job.failed"]);
        let completed = ended["type"] == "job.completed";
        came[usize::from(completed)] += 1;
        world.run_for(Duration::from_secs(30));
        let fetched = fetch(&mut world, &mut raw, &kept.id);
        let is_there = fetched["payload"]["data"] == "YWJj";
        assert_eq!(is_there, completed, "{seed}: what an end names is kept as long as it: {fetched}");
        world.finish();
    }
    assert!(came.iter().all(|came| *came > 3), "lost and kept: {came:?}");
}

#[test]
fn our_client_is_told_what_the_result_is_known_by_in_both_families() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::configured(6, |config| {
            config.timing.artifact_retention = Some(HOUR);
            *config = config.clone().with_agent("artist", &[]);
        });
        world.family = family;
        let client = world.add_client("a");
        world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
        let request = submit("artist", r#"{"bytes":3,"as_result":true}"#);
        world.command(client, |c| c.session().and_then(|mut s| s.submit(request))).expect("a handle");
        let ended = world.until(client, |event| matches!(event, ClientEvent::JobEnded { .. }));
        let ClientEvent::JobEnded { result: ResultData::Stored(stored), .. } = ended else { panic!("{ended:?}") };
        assert_eq!((stored.size, stored.digest), (3, BlobDigest::of(b"abc")));
        assert_eq!(stored.media_type.as_str(), "text/plain");
        world.finish();
    }
}

/// A server that keeps artifacts, with these agents.
fn server(registry: Registry) -> Running {
    let keeps = |config: &mut Config| {
        config.timing.artifact_retention = Some(HOUR);
        config.limits.artifact.whole_artifact_bytes = 4 << 20;
    };
    Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, keeps))
}

fn text() -> Result<arcp_proto::model::artifact::MediaType, AgentError> {
    "text/plain".parse().map_err(|_| AgentError::failed("a media type"))
}

/// How a job ends.
fn run(server: &Running, agent: &str) -> Result<Vec<u8>, String> {
    let client = server.client();
    let job = client.submit(submit(agent, "{}")).expect("accepted");
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            arcp_blocking::JobUpdate::Ended { terminal, result, .. } => {
                let ResultData::Stored(stored) = result else {
                    return Err(terminal.error.map_or_else(|| format!("{result:?}"), |error| error.message));
                };
                let mut bytes = Vec::new();
                arcp_blocking::artifacts::stream(&client, &stored.id, &mut bytes).expect("fetched");
                return Ok(bytes);
            }
            arcp_blocking::JobUpdate::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn agents_of_both_sorts_end_with_what_is_larger_than_a_frame() {
    fn blocking(job: &Context) -> Result<Outcome, AgentError> {
        Ok(job.put_artifact(NewArtifact::of(text()?, vec![b'x'; 3 << 20]))?.into())
    }
    async fn asynchronous(job: AsyncContext, _: Json) -> Result<Outcome, AgentError> {
        Ok(job.put_artifact(NewArtifact::of(text()?, vec![b'y'; 3 << 20])).await?.into())
    }
    let mut registry = Registry::default();
    registry.add("blocking", None, blocking);
    registry.add_async("async", None, asynchronous);
    let server = server(registry);
    for (agent, byte) in [("blocking", b'x'), ("async", b'y')] {
        assert!(run(&server, agent).expect("a result") == vec![byte; 3 << 20], "{agent}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_ends_with_a_file_that_it_leaves_and_fails_if_that_is_not_kept() {
    let folder = std::env::temp_dir().join(format!("arcp-results-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("report.txt"), "abc").expect("written");
    let agents = [
        ("direct", r#"echo before; echo '{"kind":"artifact","path":"report.txt","result":true}'; echo after"#),
        (
            "named",
            r#"read input; echo '{"kind":"artifact","id":1,"path":"report.txt"}'; read answer
               id=${answer#*artifact_id\":\"}; echo "{\"result_ref\":\"${id%%\"*}\"}""#,
        ),
        ("gone", r#"echo '{"kind":"artifact","path":"gone.txt","result":true}'; sleep 60"#),
        ("unknown", r#"echo '{"result_ref":"art_none"}'"#),
        ("odd", r#"echo '{"result_ref":7}'"#),
    ];
    let mut registry = Registry::default();
    for (name, command) in agents {
        registry.add(name, None, ProcessAgent::shell(command).answered().in_directory(&folder));
    }
    let server = server(registry);
    for agent in ["direct", "named"] {
        assert_eq!(run(&server, agent).as_deref(), Ok(&b"abc"[..]), "{agent}");
    }
    for (agent, why) in [("gone", "gone.txt"), ("unknown", "art_none"), ("odd", "`result_ref` must be")] {
        let failed = run(&server, agent).expect_err("it has no such result");
        assert!(failed.contains(why), "{agent}: {failed}");
    }
    drop(server);
    std::fs::remove_dir_all(&folder).expect("deleted");
}
