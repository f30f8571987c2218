//! Credentials that get a new value while their job runs: the new value is shown only to the submitter, and the old
//! one is revoked, whatever happens in between.

use std::sync::Arc;
use std::time::Duration;

use arcp_host::process::ProcessAgent;
use arcp_host::provisioner::InMemoryProvisioner;
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::record::Recorder;
use arcp_proto::runtime::{AgentCall, AgentReply, Config, Input, Models, Notice, Wait, unrevoked_credentials};
use arcp_proto::secret::Secret;
use arcp_proto::time::Now;
use arcp_tests::canaries::CANARY;
use arcp_tests::kept::Folder;
use arcp_tests::raw::{Raw, code, credentials_payload};
use arcp_tests::server::{self, Running};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn world(seed: u64) -> World {
    let provisions = |config: &mut Config| config.models = Models { provisions: true, ..Models::default() };
    World::configured(seed, provisions)
}

fn owner(world: &mut World, token: &str) -> Raw {
    Raw::hello_with_credentials(world, token).0
}

/// A submit of a job that may use models.
fn with_models(agent: &str) -> Value {
    json!({"agent": agent, "lease_request": {"model.use": ["gpt-*"], "cost.budget": ["USD:5"]}})
}

fn job_of(accepted: &Value) -> JobId {
    JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id")).expect("a job's id")
}

/// Runs the world until this is so.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    while !is_so(world) {
        assert!(world.step(), "nothing more happens");
    }
}

/// Wants another value for a credential, in the name of a job's agent.
fn renew(world: &mut World, job: JobId, call: u64, value: Option<&str>) {
    let value = value.map(|value| Secret::new(value.into()));
    let call_of = AgentCall::RenewCredential { id: "cred-1".into(), value };
    world.input(Input::AgentAsked { job, id: CallId(call), call: call_of });
}

fn renewed(world: &World) -> Option<&str> {
    let of_last = world.replies.last().map(|(_, reply)| reply);
    of_last.and_then(|reply| if let AgentReply::Renewed(of) = reply { Some(of.value.expose()) } else { None })
}

fn refusal(world: &World) -> String {
    match world.replies.last() {
        Some((_, AgentReply::Refused(error))) => error.message.clone(),
        other => panic!("{other:?}"),
    }
}

/// A job that runs until it is cancelled, with a credential.
fn running(world: &mut World, raw: &mut Raw, submit: Value) -> JobId {
    let job = job_of(&raw.submit(world, submit));
    until(world, |world| world.started.iter().any(|spec| !spec.credentials.is_empty()));
    job
}

fn is_rotation(frame: &Value) -> bool {
    frame["payload"]["body"]["phase"] == "credential_rotated" || frame["payload"]["phase"] == "credential_rotated"
}

#[test]
fn a_credential_that_is_renewed_is_shown_to_its_submitter_and_its_earlier_value_revoked() {
    let mut world = world(30);
    let mut raw = owner(&mut world, "tok-a");
    let submit = json!({"agent": "stubborn", "idempotency_key": "k", "lease_request": {"model.use": ["*"]}});
    let job = running(&mut world, &mut raw, submit.clone());
    let mut watching = owner(&mut world, "tok-a");
    watching.send(&mut world, "job.subscribe", json!({"job_id": job.to_string(), "history": true}));
    watching.expect(&mut world, "job.subscribed");
    renew(&mut world, job, 1, None);
    assert_eq!(world.waits().get(&job), Some(&Wait::Renewal));
    world.run_for(Duration::from_secs(1));
    let value = format!("{CANARY}{job}-r1");
    assert_eq!(renewed(&world), Some(value.as_str()));
    let rotated = raw.take(&world).into_iter().find(is_rotation).expect("it is told");
    let expected = json!({"phase": "credential_rotated", "message": "cred-1", "id": "cred-1", "value": value,
        "credential_id": "cred-1", "credential_value": value, "details": {"id": "cred-1", "value": value}});
    assert_eq!(rotated["payload"]["body"], expected);
    let shown = watching.take(&world).into_iter().find(is_rotation).expect("who watches is told too");
    let without = json!({"phase": "credential_rotated", "message": "cred-1", "id": "cred-1",
        "credential_id": "cred-1", "details": {"id": "cred-1"}});
    assert_eq!(shown["payload"]["body"], without, "but not the value");
    let counting: Vec<&String> = world.provisioner.counting.keys().map(|(_, value)| value).collect();
    assert_eq!(counting, [&value], "the prior value alone is revoked");
    assert!(world.provisioner.ordered[1].renews.is_some());
    // By its key the acceptance shows what counts now.
    let again = watching.submit(&mut world, submit);
    assert_eq!(again["payload"]["credentials"][0]["value"], value);
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    raw.until_end(&mut world);
    assert!(!world.provisioner.counts(job));
    world.settle();
    world.finish();
}

#[test]
fn history_and_replays_show_a_renewed_value_to_nobody_else_and_to_its_owner_while_it_counts() {
    let mut world = world(31);
    let (mut raw, welcome) = Raw::hello_with_credentials(&mut world, "tok-a");
    let submit = json!({"agent": "stubborn", "lease_request": {"model.use": ["*"]}});
    let job = running(&mut world, &mut raw, submit);
    for call in 1..=2 {
        renew(&mut world, job, call, None);
        world.run_for(Duration::from_secs(1));
    }
    let values = |frames: &[Value]| -> Vec<Value> {
        frames
            .iter()
            .filter(|frame| is_rotation(frame))
            .map(|frame| frame["payload"]["body"]["value"].clone())
            .collect()
    };
    let (first, second) = (format!("{CANARY}{job}-r1"), format!("{CANARY}{job}-r2"));
    assert_eq!(values(&raw.take(&world)), [json!(first), json!(second)]);
    world.cut(raw.conn);
    let mut back = Raw::resume_with(&mut world, credentials_payload("tok-a"), &welcome, 0);
    world.run_for(Duration::from_secs(1));
    assert_eq!(values(&back.take(&world)), [Value::Null, json!(second)], "what was renewed again counts no more");
    // An operator may watch every job, and has the history.
    let mut later = owner(&mut world, "tok-a");
    later.send(&mut world, "job.subscribe", json!({"job_id": job.to_string(), "history": true}));
    later.expect(&mut world, "job.subscribed");
    world.run_for(Duration::from_secs(1));
    assert_eq!(values(&later.take(&world)), [Value::Null, Value::Null]);
    let (mut open, _) = Raw::open_with(&mut world, arcp_tests::raw::open_payload("tok-a"));
    open.send(&mut world, "subscribe", json!({"filter": {"job_id": [job.to_string()]}, "since": {}}));
    world.run_for(Duration::from_secs(1));
    assert!(open.take(&world).iter().all(|frame| !frame.to_string().contains(CANARY)));
    world.reap();
    world.settle();
    world.finish();
}

#[test]
fn the_open_family_shows_a_renewed_value_to_its_submitter_only() {
    let mut world = world(32);
    let mut payload = arcp_tests::raw::open_payload("tok-a");
    payload["capabilities"]["provisioned_credentials"] = json!(true);
    let (mut raw, _) = Raw::open_with(&mut world, payload.clone());
    let accepted = raw.invoke(&mut world, json!({"tool": "stubborn", "lease_request": {"model.use": ["*"]}}));
    let job = job_of(&accepted);
    let (mut other, _) = Raw::open_with(&mut world, payload);
    other.send(&mut world, "subscribe", json!({"filter": {"job_id": [job.to_string()]}}));
    other.expect(&mut world, "subscribe.accepted");
    until(&mut world, |world| !world.started.is_empty());
    renew(&mut world, job, 1, None);
    world.run_for(Duration::from_secs(1));
    let rotated = raw.take(&world).into_iter().find(is_rotation).expect("it is told");
    assert_eq!(rotated["type"], "job.status");
    assert_eq!(rotated["payload"]["credential_value"], format!("{CANARY}{job}-r1"));
    let copies = other.take(&world);
    assert!(copies.iter().any(|frame| frame.to_string().contains("credential_rotated")), "{copies:?}");
    assert!(copies.iter().all(|frame| !frame.to_string().contains(CANARY)));
    world.reap();
    world.settle();
    world.finish();
}

#[test]
fn a_renewal_that_fails_leaves_the_credential_as_it_was() {
    let mut world = world(33);
    let mut raw = owner(&mut world, "tok-a");
    let job = running(&mut world, &mut raw, with_models("stubborn"));
    world.provisioner.fails = Some("the gateway is away".into());
    renew(&mut world, job, 1, None);
    world.run_for(Duration::from_secs(1));
    assert_eq!(refusal(&world), "the credential keeps its value: the gateway is away");
    world.provisioner.fails = None;
    // Too late is revoked, and is no news.
    world.provisioner.silent = true;
    renew(&mut world, job, 2, None);
    renew(&mut world, job, 3, None);
    assert!(refusal(&world).contains("not revoked yet"), "{}", refusal(&world));
    world.run_for(Duration::from_secs(11));
    assert_eq!(refusal(&world), "the credential keeps its value: no other was issued in time");
    let late = world.provisioner.counting.len();
    world.provisioner.silent = false;
    world.say_issued();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.provisioner.counting.len(), late - 1, "what came late is revoked by itself");
    assert!(world.provisioner.counting.contains_key(&(job, format!("{CANARY}{job}-1"))), "the first one counts on");
    for (value, why) in [("short", "`value`"), (&format!("{CANARY}{job}-1") as &str, "has already")] {
        renew(&mut world, job, 4, Some(value));
        assert!(refusal(&world).contains(why), "{}", refusal(&world));
    }
    assert!(raw.take(&world).iter().all(|frame| !is_rotation(frame)));
    renew(&mut world, job, 5, Some(&format!("{CANARY}{job}-mine")));
    world.run_for(Duration::from_secs(1));
    assert_eq!(renewed(&world), Some(format!("{CANARY}{job}-mine").as_str()), "the agent may say which");
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    raw.until_end(&mut world);
    assert!(world.provisioner.counting.is_empty());
    world.finish();
}

#[test]
fn a_value_that_an_agent_chose_is_masked_although_the_answer_to_its_renewal_was_lost() {
    let mut world = World::configured(43, |config| {
        config.models = Models { provisions: true, ..Models::default() };
        config.limits.credential.credentials_per_job = 2;
    });
    let mut raw = owner(&mut world, "tok-a");
    let job = running(&mut world, &mut raw, with_models("stubborn"));
    world.provisioner.fails = Some("nothing came in time".into());
    let values = ["x", "y", "z"].map(|which| format!("{CANARY}{job}-mine-{which}"));
    for (at, value) in values.iter().enumerate().take(2) {
        renew(&mut world, job, at as u64, Some(value));
        world.run_for(Duration::from_secs(1));
        assert_eq!(refusal(&world), "the credential keeps its value: nothing came in time");
        assert!(world.provisioner.counting.contains_key(&(job, value.clone())), "it was issued");
    }
    world.provisioner.fails = None;
    renew(&mut world, job, 2, Some(&values[2]));
    assert!(refusal(&world).contains("leave `value` out"), "{}", refusal(&world));
    raw.take(&world);
    let said = format!("{}, {}", values[0], values[1]);
    let body = serde_json::from_str(&json!({"message": said}).to_string()).expect("JSON");
    world.input(Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
    world.run_for(Duration::from_secs(1));
    let frames = raw.take(&world);
    let shown = values[0].replace(|_: char| true, "*");
    assert_eq!(frames[0]["payload"]["body"]["message"], format!("{shown}, {shown}"));
    // One that it has asked for may be issued after all.
    renew(&mut world, job, 3, Some(&values[0]));
    world.run_for(Duration::from_secs(1));
    assert_eq!(renewed(&world), Some(values[0].as_str()));
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    raw.until_end(&mut world);
    assert!(world.provisioner.counting.is_empty(), "what came of it is revoked with the rest");
    world.finish();
}

#[test]
fn an_earlier_value_is_revoked_until_that_is_done_and_the_job_goes_on() {
    let mut world = world(34);
    let mut raw = owner(&mut world, "tok-a");
    let job = running(&mut world, &mut raw, with_models("stubborn"));
    world.provisioner.cannot_revoke = 2;
    renew(&mut world, job, 1, None);
    world.run_for(Duration::from_millis(500));
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 1);
    world.run_for(Duration::from_secs(2));
    assert!(unrevoked_credentials(world.runtime()).since.is_some());
    world.run_for(Duration::from_secs(2));
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 0);
    assert_eq!(world.provisioner.counting.len(), 1);
    assert!(world.notices.contains(&Notice::CredentialsRevoked { job }));
    renew(&mut world, job, 2, None);
    world.run_for(Duration::from_secs(1));
    assert!(renewed(&world).is_some(), "and it may be renewed again");
    world.reap();
    world.settle();
    world.finish();
}

#[test]
fn a_value_that_is_issued_while_its_job_ends_is_revoked_too() {
    let mut world = world(35);
    let mut raw = owner(&mut world, "tok-a");
    let job = running(&mut world, &mut raw, json!({"agent": "stubborn", "lease_request": {"model.use": ["*"]}}));
    world.provisioner.silent = true;
    renew(&mut world, job, 1, None);
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    until(&mut world, |world| world.provisioner.revocations.contains_key(&job));
    // Everything was revoked, and then one more is issued: nobody knew of it.
    world.run_for(Duration::from_secs(1));
    world.provisioner.counting.insert((job, format!("{CANARY}{job}-r1")), "cred-1".into());
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!(code(&end), "CANCELLED");
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 1, "it may count");
    world.say_issued();
    world.settle();
    assert!(world.provisioner.counting.is_empty());
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 0);
    world.finish();
}

#[test]
fn a_crash_between_any_two_steps_of_a_renewal_leaves_no_value() {
    let mut both = 0;
    for steps in 0..24 {
        let mut world = world(200 + steps);
        let mut raw = owner(&mut world, "tok-a");
        let job = running(&mut world, &mut raw, with_models("stubborn"));
        world.provisioner.cannot_revoke = usize::from(steps % 2 == 0) * 2;
        renew(&mut world, job, 1, None);
        for _ in 0..steps {
            world.step();
        }
        both += usize::from(world.provisioner.counting.len() == 2);
        world.crash();
        until(&mut world, |world| world.provisioner.counting.is_empty());
        world.settle();
        assert_eq!(world.runtime().stats().unfinished_jobs, 0, "after {steps} steps");
        world.finish();
    }
    assert!(both > 3, "only {both} crashes found two values");
}

#[test]
fn what_is_left_of_the_budget_is_what_a_renewed_credential_may_spend() {
    let mut world = world(39);
    let mut raw = owner(&mut world, "tok-a");
    let job = running(&mut world, &mut raw, with_models("stubborn"));
    let cost = |amount: &str| {
        let body = format!(r#"{{"name": "cost.tokens", "value": {amount}, "unit": "USD"}}"#);
        let body = serde_json::from_str(&body).expect("JSON");
        Input::Agent { job, call: AgentCall::Emit { kind: "metric".into(), body } }
    };
    world.input(cost("3.25"));
    renew(&mut world, job, 1, None);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.provisioner.ordered[1].budget(), ["USD:1.75"]);
    world.input(cost("2"));
    renew(&mut world, job, 2, None);
    assert!(refusal(&world).contains("the budget is used up"), "{}", refusal(&world));
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn samples_and_programs_renew_their_credentials_and_are_told_the_value() {
    let provisioner = Arc::new(InMemoryProvisioner::default());
    let command = "read input; \
        echo '{\"kind\":\"renew_credential\",\"id\":1,\"body\":{\"id\":\"cred-'$ARCP_JOB_ID'\"}}'; read answer; \
        case \"$answer\" in *\"sk-sample-$ARCP_JOB_ID-2\"*) echo '{\"result\":\"new\"}';; *) echo \"$answer\";; esac";
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    registry.add("program", None, ProcessAgent::shell(command).answered());
    let folder = Folder::new("renewal");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let host = Running::host_of(Box::new(store), registry, |_| {});
    let server = Running::serve(host.with_provisioner(provisioner.clone()));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    for agent in ["program", "rotator"] {
        let submit = json!({"agent": agent, "lease_request": {"model.use": ["*"]}});
        server::send(&mut socket, agent, "job.submit", submit);
        let accepted = server::expect(&mut socket, "job.accepted");
        let id = accepted["payload"]["job_id"].as_str().expect("an id").to_string();
        let (result, value) = match agent {
            "program" => (json!("new"), format!("sk-sample-{id}-2")),
            _ => (json!({"rotated": format!("cred-{id}")}), "rotated-value".to_string()),
        };
        let rotated = loop {
            let event = server::expect(&mut socket, "job.event");
            if is_rotation(&event) {
                break event;
            }
        };
        assert_eq!(rotated["payload"]["body"]["credential_value"], value);
        assert_eq!(server::expect(&mut socket, "job.result")["payload"]["result"], result);
        assert!(provisioner.counting().is_empty(), "it ended before it was revoked");
    }
}

#[test]
fn a_value_that_an_agent_says_among_other_things_is_in_no_recording() {
    let seeds = Seeds { public: [1; 32], secret: [2; 32] };
    let mut recorder = Recorder::new(&Config::new("test", "1"), &seeds, Now::default());
    let job = JobId::parse("job_01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("an id");
    // The second one cannot be used, and is refused.
    let calls = ["sk-live-1234567890", "sk live 1234567890"]
        .map(|value| AgentCall::RenewCredential { id: "cred-1".into(), value: Some(Secret::new(value.into())) });
    recorder.input(Now::default(), &Input::AgentSays { job, calls: calls.into() });
    let recording = recorder.take();
    let recorded = recording.lines().last().expect("an input");
    assert!(recorded.contains("AgentSays") && !recorded.contains("live"), "{recorded}");
}
