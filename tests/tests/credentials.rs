//! Credentials of jobs: issued before the job is accepted, shown to its owner, and revoked before its end is seen.

use std::sync::Arc;
use std::time::Duration;

use arcp_host::provisioner::InMemoryProvisioner;
use arcp_host::store::MemoryStore;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::{Json, decode_base64};
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::model::event::JobError;
use arcp_proto::model::prompt::Question;
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{
    AgentCall, AgentExit, AgentReply, ChunkData, Config, Delegation, Input, Models, Notice, StreamCall, Wait,
    unrevoked_credentials,
};
use arcp_tests::canaries::CANARY;
use arcp_tests::raw::{Raw, code, credentials_payload, hello_payload};
use arcp_tests::server::{self, Running};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn provisions(config: &mut Config) {
    config.models = Models { provisions: true, ..Models::default() };
}

fn world(seed: u64) -> World {
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

fn refused(world: &mut World, raw: &mut Raw) -> Value {
    raw.expect(world, "session.error")
}

/// Runs the world until this is so.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    while !is_so(world) {
        assert!(world.step(), "nothing more happens");
    }
}

#[test]
fn a_job_is_accepted_with_the_credentials_that_were_issued_for_it() {
    let mut world = world(1);
    let mut raw = owner(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, with_models("echo"));
    let job = job_of(&accepted);
    let value = format!("{CANARY}{job}-1");
    let constraints = json!({"model.use": ["gpt-*"], "cost.budget": ["USD:5"]});
    let expected = json!([{"id": "cred-1", "scheme": "bearer", "value": value, "endpoint": "http://models.test/v1",
        "profile": "generic", "constraints": constraints}]);
    assert_eq!(accepted["payload"]["credentials"], expected);
    raw.until_end(&mut world);
    let given = &world.started[0].credentials;
    assert_eq!((given[0].id.as_str(), given[0].value.expose()), ("cred-1", value.as_str()));
    let plain = raw.submit(&mut world, json!({"agent": "echo", "lease_request": {"tool.call": ["demo.*"]}}));
    assert_eq!(plain["payload"]["credentials"], Value::Null);
    assert_eq!(world.provisioner.ordered.len(), 1, "who uses no models needs none");
    world.finish();
}

#[test]
fn nobody_but_the_submitter_is_shown_what_was_issued() {
    let mut world = world(2);
    let mut raw = owner(&mut world, "tok-a");
    let accepted = raw.submit(
        &mut world,
        json!({"agent": "slow", "input": {"ticks": 30}, "idempotency_key": "k",
        "lease_request": {"model.use": ["*"]}}),
    );
    let id = &accepted["payload"]["job_id"];
    // The same principal elsewhere, and with the same key: who has the key is who submitted.
    let mut other = owner(&mut world, "tok-a");
    other.send(&mut world, "job.subscribe", json!({"job_id": id, "history": true}));
    let watching = other.expect(&mut world, "job.subscribed");
    other.send(&mut world, "session.list_jobs", json!({}));
    let listed = other.expect(&mut world, "session.jobs");
    assert!(!format!("{watching}{listed}").contains(CANARY), "{watching} {listed}");
    // A client that did not agree to such is shown none.
    let (mut plain, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let again = json!({"agent": "slow", "input": {"ticks": 30}, "idempotency_key": "k",
        "lease_request": {"model.use": ["*"]}});
    assert_eq!(plain.submit(&mut world, again.clone())["payload"]["credentials"], Value::Null);
    assert_eq!(other.submit(&mut world, again)["payload"]["credentials"], accepted["payload"]["credentials"]);
    raw.until_end(&mut world);
    other.until_end(&mut world);
    assert!(!format!("{:?}", world.started).contains(CANARY), "what is printed shows no value");
    world.finish();
}

#[test]
fn a_session_that_is_bounded_gets_none_by_the_key_of_another() {
    let mut world = world(3);
    let ceiling = r#"{"lease": {"model.use": ["gpt-4"]}}"#;
    let mut raw = owner(&mut world, "tok-a");
    let submit = json!({"agent": "slow", "idempotency_key": "k", "lease_request": {"model.use": ["*"]}});
    let accepted = raw.submit(&mut world, submit.clone());
    assert!(accepted["payload"]["credentials"].is_array());
    world.ceilings.insert("tok-a".into(), serde_json::from_str(ceiling).expect("a ceiling"));
    let mut narrow = owner(&mut world, "tok-a");
    narrow.send(&mut world, "job.submit", submit);
    assert_eq!(code(&refused(&mut world, &mut narrow)), "PERMISSION_DENIED");
    assert!(narrow.take(&world).iter().all(|frame| !frame.to_string().contains(CANARY)));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn a_job_that_gets_no_credentials_is_refused_and_whatever_was_issued_revoked() {
    let mut world = world(4);
    world.provisioner.fails = Some("the gateway is away".into());
    let mut raw = owner(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", with_models("echo"));
    let error = refused(&mut world, &mut raw);
    assert_eq!(error["payload"]["message"], "the job gets no credentials: the gateway is away");
    world.settle();
    let job = world.provisioner.ordered[0].job;
    assert!(!world.provisioner.counts(job), "an answer that was lost leaves nothing behind");
    assert_eq!(world.runtime().stats().jobs, 0);
    world.provisioner.fails = None;
    raw.submit(&mut world, with_models("echo"));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn who_has_nothing_left_to_spend_upstream_is_told_that_and_not_of_an_error() {
    let mut world = world(14);
    world.provisioner.fails = Some("nothing is left of the budget there".into());
    let mut raw = owner(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", with_models("echo"));
    let error = refused(&mut world, &mut raw);
    assert_eq!((code(&error), &error["payload"]["retryable"]), ("BUDGET_EXHAUSTED", &json!(false)), "{error}");
    world.settle();
    world.finish();
}

#[test]
fn a_slow_provisioner_holds_up_its_client_only_and_no_longer_than_its_time() {
    let mut world = world(5);
    world.provisioner.silent = true;
    let (mut raw, mut other) = (owner(&mut world, "tok-a"), owner(&mut world, "tok-b"));
    raw.send(&mut world, "job.submit", with_models("echo"));
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "input": 2}));
    let before = world.now().mono;
    let accepted = other.submit(&mut world, json!({"agent": "echo"}));
    assert!(accepted["payload"]["job_id"].is_string());
    other.until_end(&mut world);
    let error = refused(&mut world, &mut raw);
    assert!(error["payload"]["message"].as_str().expect("a text").contains("not issued in time"), "{error}");
    let waited = Duration::from_micros(world.now().mono.0 - before.0);
    assert_eq!(waited.as_secs(), 10);
    raw.expect(&mut world, "job.accepted");
    // What is said late is revoked.
    let job = world.provisioner.ordered[0].job;
    assert!(world.provisioner.counts(job));
    world.say_issued();
    world.settle();
    assert!(!world.provisioner.counts(job));
    world.finish();
}

#[test]
fn acceptances_keep_the_order_of_their_submits() {
    let mut world = world(6);
    world.provisioner.silent = true;
    let mut raw = owner(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", with_models("slow"));
    until(&mut world, |world| !world.provisioner.ordered.is_empty());
    let second = raw.send(&mut world, "job.submit", json!({"agent": "slow"}));
    world.run_for(Duration::from_secs(1));
    assert!(raw.take(&world).iter().all(|frame| frame["type"] != "job.accepted"));
    world.say_issued();
    let (first, next) = (raw.expect(&mut world, "job.accepted"), raw.expect(&mut world, "job.accepted"));
    assert_eq!(first["payload"]["job_id"], world.provisioner.ordered[0].job.to_string());
    assert_eq!(next["payload"]["request_id"], second);
    world.settle();
    world.finish();
}

#[test]
fn credentials_are_revoked_before_the_end_of_their_job_is_seen() {
    let mut world = world(7);
    world.provisioner.mute = true;
    let mut raw = owner(&mut world, "tok-a");
    let job = job_of(&raw.submit(&mut world, with_models("echo")));
    until(&mut world, |world| !world.provisioner.counts(job));
    assert_eq!(world.waits().get(&job), Some(&Wait::Revocation));
    let revoked = world.now().mono;
    raw.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(raw.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["status"], "running");
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!(end["type"], "job.result");
    // Nobody has said that they are revoked: after five seconds the end is seen.
    let waited = Duration::from_micros(world.now().mono.0 - revoked.0);
    assert!((5..6).contains(&waited.as_secs()), "{waited:?}");
    let told = |notice: &&Notice| matches!(notice, Notice::CredentialsNotRevoked { .. });
    assert_eq!(world.notices.iter().filter(told).count(), 1);
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 1);
    world.crash();
    world.provisioner.mute = false;
    world.settle();
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 0, "a restart asks again");
    world.finish();
}

#[test]
fn what_cannot_be_revoked_is_tried_again_ever_more_rarely_and_shown() {
    let mut world = world(8);
    world.provisioner.cannot_revoke = 6;
    let mut raw = owner(&mut world, "tok-a");
    let submit = json!({"agent": "echo", "idempotency_key": "k", "lease_request": {"model.use": ["*"]}});
    let job = job_of(&raw.submit(&mut world, submit.clone()));
    raw.until_end(&mut world);
    assert!(world.provisioner.counts(job), "the end has waited for five seconds and no longer");
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 1);
    // Whoever asks again is not shown what is to be revoked.
    assert_eq!(raw.submit(&mut world, submit)["payload"]["credentials"], Value::Null);
    until(&mut world, |world| !world.provisioner.counts(job));
    // After 1, 2, 4, 8, 16 and 32 seconds.
    assert_eq!(world.provisioner.revocations[&job], 7);
    world.settle();
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 0);
    assert!(world.notices.contains(&Notice::CredentialsRevoked { job }));
    world.finish();
}

#[test]
fn a_cancel_counts_that_comes_while_credentials_are_revoked() {
    let mut world = world(9);
    world.provisioner.mute = true;
    let mut raw = owner(&mut world, "tok-a");
    let job = job_of(&raw.submit(&mut world, with_models("echo")));
    until(&mut world, |world| world.waits().get(&job) == Some(&Wait::Revocation));
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string(), "reason": "changed my mind"}));
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!(code(&end), "CANCELLED", "{end}");
    world.provisioner.mute = false;
    world.crash();
    world.settle();
    world.finish();
}

#[test]
fn jobs_that_are_ended_from_outside_lose_their_credentials_too() {
    let mut world = World::configured(10, |config| {
        provisions(config);
        config.limits.job.running_jobs = 1;
    });
    let mut raw = owner(&mut world, "tok-a");
    let mut jobs = Vec::new();
    for (agent, limit) in [("stubborn", 1), ("slow", 60)] {
        let submit = json!({"agent": agent, "max_runtime_sec": limit, "lease_request": {"model.use": ["*"]}});
        jobs.push(job_of(&raw.submit(&mut world, submit)));
    }
    // One waits for the slot of the other.
    raw.send(&mut world, "job.cancel", json!({"job_id": jobs[1].to_string()}));
    for end in [raw.until_end(&mut world), raw.until_end(&mut world)] {
        assert!(["CANCELLED", "TIMEOUT"].contains(&code(end.last().expect("an end"))), "{end:?}");
    }
    assert!(jobs.iter().all(|job| !world.provisioner.counts(*job)));
    world.reap();
    world.settle();
    world.finish();
}

#[test]
fn after_a_restart_everything_that_was_issued_is_revoked() {
    let mut issued = 0;
    for seed in 0..12 {
        let mut world = world(100 + seed);
        world.provisioner.silent = seed % 3 == 0;
        let mut raw = owner(&mut world, "tok-a");
        raw.send(&mut world, "job.submit", with_models(if seed % 2 == 0 { "slow" } else { "stepper" }));
        for _ in 0..seed * 2 {
            world.step();
        }
        issued += world.provisioner.counting.len();
        world.crash();
        world.settle();
        let left = &world.provisioner.counting;
        assert!(left.is_empty(), "seed {seed}: {left:?}");
        assert_eq!(world.runtime().stats().unfinished_jobs, 0, "nobody has the values any more");
        world.finish();
    }
    assert!(issued > 3, "only {issued} were there to be revoked");
}

#[test]
fn what_is_issued_for_a_connection_that_is_gone_is_revoked() {
    let mut world = world(11);
    world.provisioner.silent = true;
    let mut raw = owner(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", with_models("echo"));
    until(&mut world, |world| !world.provisioner.ordered.is_empty());
    world.cut(raw.conn);
    world.settle();
    world.say_issued();
    world.settle();
    assert!(world.provisioner.counting.is_empty());
    assert_eq!(world.runtime().stats().jobs, 0);
    world.finish();
}

#[test]
fn a_key_that_was_claimed_meanwhile_leaves_no_surplus() {
    let mut world = world(12);
    world.provisioner.silent = true;
    let (mut one, mut two) = (owner(&mut world, "tok-a"), owner(&mut world, "tok-a"));
    let submit = json!({"agent": "slow", "idempotency_key": "k", "lease_request": {"model.use": ["*"]}});
    for raw in [&mut one, &mut two] {
        raw.send(&mut world, "job.submit", submit.clone());
    }
    until(&mut world, |world| world.provisioner.ordered.len() == 2);
    world.say_issued();
    let accepted = [one.expect(&mut world, "job.accepted"), two.expect(&mut world, "job.accepted")];
    assert_eq!(accepted[0]["payload"]["credentials"], accepted[1]["payload"]["credentials"]);
    let job = job_of(&accepted[0]);
    world.run_for(Duration::from_millis(100));
    assert!(world.provisioner.counting.keys().all(|(of, _)| *of == job), "{:?}", world.provisioner.counting);
    one.until_end(&mut world);
    two.until_end(&mut world);
    world.finish();
}

#[test]
fn nobody_without_a_name_gets_credentials() {
    let mut world = World::configured(13, |config| {
        provisions(config);
        config.anonymous = true;
    });
    let mut raw = Raw::connect(&mut world);
    let mut payload = credentials_payload("");
    payload["auth"] = json!({"scheme": "none"});
    raw.send(&mut world, "session.hello", payload);
    raw.expect(&mut world, "session.welcome");
    let accepted = raw.submit(&mut world, with_models("echo"));
    assert_eq!(accepted["payload"]["credentials"], Value::Null);
    raw.until_end(&mut world);
    assert!(world.provisioner.ordered.is_empty() && world.started[0].credentials.is_empty());
    world.finish();
}

#[test]
fn more_than_a_job_may_have_is_revoked_at_once() {
    let mut world = World::configured(14, |config| {
        provisions(config);
        config.limits.credential.credentials_per_job = 2;
    });
    world.provisioner.issues = 5;
    let mut raw = owner(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, with_models("slow"));
    assert_eq!(accepted["payload"]["credentials"].as_array().expect("a list").len(), 2);
    assert_eq!(world.provisioner.counting.len(), 2);
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn a_principal_has_its_share_of_jobs_with_credentials() {
    let mut world = World::configured(15, |config| {
        provisions(config);
        config.limits.credential.jobs_with_credentials = 8;
    });
    let mut raw = owner(&mut world, "tok-a");
    for _ in 0..2 {
        raw.submit(&mut world, with_models("slow"));
    }
    raw.send(&mut world, "job.submit", with_models("slow"));
    let error = refused(&mut world, &mut raw);
    assert_eq!(error["payload"]["details"]["bound"], "jobs_with_credentials");
    let mut other = owner(&mut world, "tok-b");
    other.submit(&mut world, with_models("echo"));
    other.until_end(&mut world);
    world.finish();
}

#[test]
fn credentials_are_offered_where_jobs_outlive_the_process() {
    for (history, offered) in [(true, true), (false, false)] {
        let mut world = World::configured(16, |config| {
            provisions(config);
            config.history = history;
        });
        let (_, welcome) = Raw::hello_with_credentials(&mut world, "tok-a");
        let features = welcome["payload"]["capabilities"]["features"].as_array().expect("a list");
        assert_eq!(features.contains(&json!("provisioned_credentials")), offered);
    }
    let mut world = World::seeded(17);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", hello_payload("tok-a"));
    assert!(!raw.expect(&mut world, "session.welcome").to_string().contains("provisioned"));
}

#[test]
fn the_open_family_shows_them_in_the_acceptance_and_again_until_they_are_revoked() {
    let mut world = world(18);
    let mut payload = arcp_tests::raw::open_payload("tok-a");
    payload["capabilities"]["provisioned_credentials"] = json!(true);
    let (mut raw, opened) = Raw::open_with(&mut world, payload.clone());
    let invoke = json!({"tool": "slow", "arguments": {"ticks": 20}, "lease_request": {"model.use": ["*"]}});
    let accepted = raw.invoke(&mut world, invoke);
    assert!(accepted["payload"]["credentials"][0]["value"].as_str().expect("a value").starts_with(CANARY));
    world.cut(raw.conn);
    let again = |world: &mut World, opened: &Value| {
        let (mut back, _) = Raw::open_with(world, payload.clone());
        let claim = json!({"resume_token": opened["payload"]["resume_token"], "last_event_seq": 0});
        back.send(world, "session.resume", claim);
        let resumed = back.expect(world, "session.resumed");
        (back, resumed)
    };
    let (mut back, resumed) = again(&mut world, &opened);
    let replayed = back.expect(&mut world, "job.accepted");
    assert_eq!(replayed["payload"]["credentials"], accepted["payload"]["credentials"]);
    back.until_end(&mut world);
    world.cut(back.conn);
    let (mut back, _) = again(&mut world, &resumed);
    let replayed = back.expect(&mut world, "job.accepted");
    assert_eq!(replayed["payload"]["credentials"], Value::Null, "they are revoked");
    world.finish();
}

#[test]
fn a_value_that_cannot_be_used_is_refused_and_recorded_nowhere() {
    let mut world = world(19);
    world.provisioner.suffix = "\"quoted\"".into();
    let mut raw = owner(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", with_models("echo"));
    let message = refused(&mut world, &mut raw)["payload"]["message"].to_string();
    assert!(message.contains("cannot be used") && !message.contains(CANARY), "{message}");
    world.settle();
    assert!(world.provisioner.counting.is_empty());
    world.finish();
}

#[test]
fn a_job_without_any_lease_may_use_every_model_where_policy_says_so() {
    let may = |allowed: bool, lease: Value| {
        let mut world = World::configured(20, |config| config.models.allowed_without_lease = allowed);
        world.oracle.ledger.allows_models = allowed;
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let job = job_of(&raw.submit(&mut world, json!({"agent": "stubborn", "lease_request": lease})));
        until(&mut world, |world| !world.started.is_empty());
        let call = AgentCall::Authorize { operation: "model.use".into(), target: "gpt-4".into(), price: Vec::new() };
        world.input(Input::AgentAsked { job, id: CallId(1), call });
        matches!(world.replies.last(), Some((_, AgentReply::Allowed { .. })))
    };
    assert!(may(true, Value::Null), "nothing was said of what is allowed");
    assert!(!may(false, Value::Null), "that is the default");
    assert!(!may(true, json!({"tool.call": ["*"]})), "who has a lease is bound by it");
    assert!(!may(true, json!({"model.use": ["claude-*"]})));
    assert!(may(false, json!({"model.use": ["gpt-*"]})));
}

#[test]
fn programs_and_samples_are_given_the_credentials_of_their_jobs_which_end_with_them() {
    let provisioner = Arc::new(InMemoryProvisioner::default());
    let command = "case \"$ARCP_CREDENTIALS\" in *\"sk-sample-$ARCP_JOB_ID\"*) echo mine;; *) echo none;; esac";
    let programs = [("program", command), ("careless", "echo \"$ARCP_CREDENTIALS\"")];
    let host = Running::host(Box::<MemoryStore>::default(), &programs, |_| {});
    let server = Running::serve(host.with_provisioner(provisioner.clone()));
    let (mut socket, _) = server.session("tok-a");
    let mut socket_with = server.websocket();
    server::send(&mut socket_with, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket_with, "session.welcome");
    for (n, agent) in ["program", "creds", "careless"].into_iter().enumerate() {
        let lease = json!({"model.use": ["*"]});
        server::send(&mut socket_with, &format!("s{n}"), "job.submit", json!({"agent": agent, "lease_request": lease}));
        let accepted = server::expect(&mut socket_with, "job.accepted");
        let id = accepted["payload"]["job_id"].as_str().expect("an id").to_string();
        let end = server::expect(&mut socket_with, "job.result");
        assert!(provisioner.counting().is_empty(), "it ended before it was revoked");
        match agent {
            "program" => assert_eq!(end["payload"]["result"], "mine", "{end}"),
            "careless" => {
                let said = end["payload"]["result"].to_string();
                assert!(
                    said.contains(&format!("cred-{id}")) && said.contains("****") && !said.contains("sk-"),
                    "{end}"
                );
            }
            _ => assert_eq!(end["payload"]["result"]["ids"], json!([format!("cred-{id}")]), "{end}"),
        }
    }
    server::send(&mut socket, "plain", "job.submit", json!({"agent": "program"}));
    assert_eq!(server::expect(&mut socket, "job.result")["payload"]["result"], "none");
}

#[test]
fn what_is_issued_too_late_is_seen_to_be_unrevoked_until_it_is_not() {
    let mut world = world(36);
    world.provisioner.silent = true;
    let mut raw = owner(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", with_models("echo"));
    let error = refused(&mut world, &mut raw);
    assert!(error["payload"]["message"].as_str().expect("a text").contains("not issued in time"), "{error}");
    assert_eq!(unrevoked_credentials(world.runtime()).jobs, 1);
    world.provisioner.cannot_revoke = 3;
    world.say_issued();
    until(&mut world, |world| world.provisioner.counting.is_empty());
    world.settle();
    let job = world.provisioner.ordered[0].job;
    assert_eq!((unrevoked_credentials(world.runtime()).jobs, world.provisioner.revocations[&job]), (0, 4));
    world.finish();
}

#[test]
fn a_later_session_of_the_principal_is_shown_no_credentials_without_the_key() {
    let mut world = world(37);
    let mut payload = arcp_tests::raw::open_payload("tok-a");
    payload["capabilities"]["provisioned_credentials"] = json!(true);
    let (mut raw, _) = Raw::open_with(&mut world, payload.clone());
    let invoke = json!({"tool": "slow", "arguments": {"ticks": 20}, "lease_request": {"model.use": ["*"]}});
    let accepted = raw.invoke(&mut world, invoke);
    assert!(accepted["payload"]["credentials"].is_array());
    let (mut later, _) = Raw::open_with(&mut world, payload);
    later.send(&mut world, "subscribe", json!({"filter": {}, "since": {}}));
    let (mut hello, _) = Raw::hello_with_credentials(&mut world, "tok-a");
    hello.send(&mut world, "job.subscribe", json!({"job_id": accepted["payload"]["job_id"], "history": true}));
    raw.until_end(&mut world);
    for other in [&mut later, &mut hello] {
        let shown = other.take(&world);
        assert!(!shown.is_empty());
        assert!(shown.iter().all(|frame| !frame.to_string().contains(CANARY)), "{shown:?}");
    }
    world.finish();
}

#[test]
fn credentials_that_are_ordered_count_as_submits_though_nobody_waits_for_them() {
    let mut world = World::configured(39, |config| {
        provisions(config);
        config.limits.session.submits_per_second = core::num::NonZeroU32::new(2);
    });
    world.provisioner.silent = true;
    for _ in 0..5 {
        let mut raw = owner(&mut world, "tok-a");
        raw.send(&mut world, "job.submit", with_models("echo"));
        world.settle();
        world.cut(raw.conn);
    }
    assert_eq!(world.provisioner.ordered.len(), 2);
    world.say_issued();
    world.run_for(Duration::from_secs(2));
    world.provisioner.silent = false;
    let mut raw = owner(&mut world, "tok-a");
    for _ in 0..2 {
        raw.submit(&mut world, with_models("waiter"));
    }
    raw.send(&mut world, "job.submit", with_models("echo"));
    let told = refused(&mut world, &mut raw);
    assert_eq!(told["payload"]["details"]["bound"], "submits_per_second", "each counts once: {told}");
    world.finish();
}

#[test]
fn a_restartable_job_with_credentials_ends_with_its_runtime() {
    let mut world = world(38);
    let mut raw = owner(&mut world, "tok-a");
    let submit = json!({"agent": "stepper", "input": {"steps": 50}, "lease_request": {"model.use": ["*"]}});
    let job = job_of(&raw.submit(&mut world, submit));
    until(&mut world, |world| !world.started.is_empty());
    world.run_for(Duration::from_millis(300));
    let started = world.started.len();
    world.crash();
    world.settle();
    assert_eq!(world.started.len(), started, "nobody has the values that it would be started with");
    let mut later = owner(&mut world, "tok-a");
    later.send(&mut world, "job.subscribe", json!({"job_id": job.to_string(), "history": true}));
    let end = later.until_end(&mut world).pop().expect("an end");
    assert_eq!(code(&end), "INTERNAL_ERROR");
    assert!(end.to_string().contains("credentials of the job were lost"), "{end}");
    assert!(!world.provisioner.counts(job));
    world.finish();
}

#[test]
fn a_recording_replays_whatever_an_agent_says_that_could_stand_for_a_value() {
    let mut world = world(24);
    let mut raw = owner(&mut world, "tok-a");
    let job = job_of(&raw.submit(&mut world, with_models("stubborn")));
    until(&mut world, |world| world.started.iter().any(|spec| !spec.credentials.is_empty()));
    let length = world.started[0].credentials[0].value.expose().len();
    for number in ["~1", "~2", "-1"] {
        // What it was told stands in its text, and numbers are easily guessed.
        let message = format!("{}{number}", "*".repeat(length - number.len()));
        let body = Json::parse(&json!({"message": message}).to_string()).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
    }
    raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn what_an_agent_says_shows_no_value_of_the_credentials_of_its_job() {
    let mut world = world(23);
    let mut raw = owner(&mut world, "tok-a");
    let job = job_of(&raw.submit(&mut world, with_models("stubborn")));
    until(&mut world, |world| world.started.iter().any(|spec| !spec.credentials.is_empty()));
    let value = world.started[0].credentials[0].value.expose().to_string();
    let json = |value: Value| Json::parse(&value.to_string()).expect("JSON");
    let emit = |kind: &str, body: Value| AgentCall::Emit { kind: kind.into(), body: json(body) };
    let says = |n: u64, call: AgentCall| Input::AgentAsked { job, id: CallId(n), call };
    world.input(Input::Agent { job, call: emit("log", json!({"message": format!("got {value}.")})) });
    let thought = emit("thought", json!({"text": value}));
    world.input(Input::AgentSays { job, calls: vec![thought, emit("x-vendor.test", json!({&value: [&value]}))] });
    world.input(says(1, emit("delegate", json!({"target": "echo", "input": {"key": value}}))));
    world
        .input(says(2, AgentCall::Delegate(Delegation { input: Some(json(json!(value))), ..Delegation::new("echo") })));
    let target = format!("/w/{value}");
    world.input(says(3, AgentCall::Authorize { operation: "fs.read".into(), target, price: vec![] }));
    let question = Question::Input { prompt: value.clone(), schema: Json::empty_object(), default: None };
    world.input(says(4, AgentCall::Ask { question: Box::new(question), timeout_ms: Some(10) }));
    world.input(says(5, AgentCall::Checkpoint { state: value.clone().into_bytes(), label: Some(value.clone()) }));
    let stream = |says| Input::Agent { job, call: AgentCall::Stream { stream: 1, says } };
    let of_bytes = |bytes: &[u8]| StreamCall::Chunk {
        data: ChunkData::Binary(bytes.into()),
        notes: Box::new(ChunkNotes {
            sha256: Some(BlobDigest::of(bytes)),
            role: Some(value.clone()),
            ..ChunkNotes::default()
        }),
        shed: 0,
    };
    world.input(stream(StreamCall::Open(StreamTerms::new(StreamKind::Binary))));
    world.input(stream(of_bytes(format!("\u{ff}{value}").as_bytes())));
    world.input(Input::Agent { job, call: AgentCall::Chunk { data: ChunkData::Text(value.clone()), more: true } });
    world.run_for(Duration::from_secs(1));
    let seen = raw.take(&world);
    let shown = "*".repeat(value.len());
    let text = seen.iter().map(Value::to_string).collect::<String>();
    assert!(
        text.contains(&format!("got {shown}.")) && text.contains(&format!("{{\"{shown}\":[\"{shown}\"]}}")),
        "{text}"
    );
    let is_chunk = |frame: &&Value| frame["payload"]["body"]["type"] == "stream.chunk";
    let chunk = &seen.iter().find(is_chunk).expect("a chunk counts though its digest was of something else")["payload"];
    let bytes = decode_base64(chunk["body"]["data"].as_str().expect("bytes")).expect("base64");
    assert_eq!(bytes, format!("\u{ff}{shown}").as_bytes());
    world.input(Input::AgentExited {
        job,
        exit: AgentExit::Failure(JobError::new(ErrorCode::Internal, value.as_str())),
    });
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["message"], shown.as_str());
    world.finish();
}
