//! Policy: who may submit which agents, see and end whose jobs, and with which leases.

use std::path::Path;
use std::time::Duration;

use arcp_host::policy_file;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::prompt::{PermissionRequest, Question};
use arcp_proto::policy::{Policy, Roles};
use arcp_proto::runtime::{AgentCall, AgentReply, Delegation, Input, Notice, Operator, Record, Transport, Verdict};
use arcp_proto::time::UtcMs;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, leases_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn policy(text: &str) -> Policy {
    policy_file::parse(Path::new("policy.toml"), text).expect("it is one")
}

fn under(seed: u64, text: &str) -> World {
    World::configured(seed, |config| {
        config.timing.heartbeat = None;
        config.authority.policy = Some(Box::new(policy(text)));
    })
}

fn reload(world: &mut World, text: &str) {
    world.input(Input::Operator(Operator::Policy(Some(Box::new(policy(text))))));
}

fn roles(names: &[&str]) -> Roles {
    names.iter().map(|name| name.parse().expect("a role")).collect()
}

/// Opens a session; gives what was said when it was.
fn open(world: &mut World, family: Family, token: &str) -> (Raw, Value) {
    match family {
        Family::Hello => Raw::hello_with_leases(world, token),
        Family::Open => Raw::open(world, token),
    }
}

/// Submits; gives the answer.
fn submit(world: &mut World, family: Family, raw: &mut Raw, mut payload: Value) -> Value {
    let kind = match family {
        Family::Hello => "job.submit",
        Family::Open => {
            payload["tool"] = payload["agent"].clone();
            "tool.invoke"
        }
    };
    raw.send(world, kind, payload);
    raw.expect_any(world, &["job.accepted", "session.error", "job.error", "tool.error", "job.failed", "nack"])
}

fn job_of(accepted: &Value) -> String {
    let job = if accepted["job_id"].is_string() { &accepted["job_id"] } else { &accepted["payload"]["job_id"] };
    job.as_str().unwrap_or_else(|| panic!("{accepted}")).to_string()
}

fn refused_by_policy(world: &World) -> Vec<String> {
    let why = |notice: &Notice| {
        let Notice::PolicyRefused { principal, why, .. } = notice else {
            return None;
        };
        Some(format!("{principal}: {why}"))
    };
    world.notices.iter().filter_map(why).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|agent| agent["name"].as_str().unwrap_or_default()).collect()
}

const BUILDERS: &str = r#"
    [[rule]]
    name = "builders"
    principals = ["a"]
    agents = ["ech*", "waiter"]
"#;

#[test]
fn an_agent_that_policy_denies_looks_as_if_there_were_none() {
    for family in [Family::Hello, Family::Open] {
        let mut world = under(1, BUILDERS);
        let (mut alice, welcome) = open(&mut world, family, "tok-a");
        assert_eq!(names(&welcome["payload"]["capabilities"]["agents"]), ["waiter", "echo"], "{welcome}");
        assert_eq!(submit(&mut world, family, &mut alice, json!({"agent": "echo"}))["type"], "job.accepted");
        alice.until_end(&mut world);
        let denied = submit(&mut world, family, &mut alice, json!({"agent": "stepper"}));
        let unknown = submit(&mut world, family, &mut alice, json!({"agent": "nosuch"}));
        let said = |answer: &Value, name: &str| {
            let text = answer["payload"].to_string();
            text.replace(name, "NAME").replace(answer["payload"]["correlation_id"].as_str().unwrap_or("-"), "")
        };
        assert!(said(&denied, "stepper").contains("AGENT_NOT_AVAILABLE") || family == Family::Open, "{denied}");
        assert_eq!(code(&denied), code(&unknown));
        assert_eq!(
            denied["payload"]["message"].as_str().map(|text| text.replace("stepper", "nosuch")).as_deref(),
            unknown["payload"]["message"].as_str()
        );
        // Nobody has a rule for this one.
        let (mut bob, welcome) = open(&mut world, family, "tok-b");
        assert_eq!(welcome["payload"]["capabilities"]["agents"], json!([]));
        assert_eq!(code(&submit(&mut world, family, &mut bob, json!({"agent": "echo"}))), code(&unknown));
        world.settle();
        assert_eq!(
            refused_by_policy(&world),
            [
                "a: no rule lets it submit `stepper`",
                "a: no rule lets it submit `nosuch`",
                "b: no rule lets it submit `echo`"
            ]
        );
        let records = world.store.records(true).into_iter();
        let audited =
            records.filter_map(|(_, record)| if let Record::Audited(entry) = record { entry.reason } else { None });
        let audited: Vec<String> = audited.collect();
        assert_eq!(audited, ["policy: no rule lets it submit `stepper`", "policy: no rule lets it submit `echo`"]);
        world.finish();
    }
}

#[test]
fn without_a_policy_everybody_submits_everything_and_with_an_empty_one_nobody_anything() {
    for family in [Family::Hello, Family::Open] {
        let mut world = under(2, "");
        let (mut alice, _) = open(&mut world, family, "tok-a");
        assert_ne!(submit(&mut world, family, &mut alice, json!({"agent": "echo"}))["type"], "job.accepted");
        world.input(Input::Operator(Operator::Policy(None)));
        assert_eq!(submit(&mut world, family, &mut alice, json!({"agent": "echo"}))["type"], "job.accepted");
        alice.until_end(&mut world);
        world.finish();
    }
}

#[test]
fn a_rule_bounds_what_jobs_of_its_agents_are_granted_and_what_people_add_to_it() {
    let text = r#"
        [[rule]]
        name = "search"
        principals = ["a"]
        agents = ["echo", "waiter"]
        lease = { "tool.call" = ["search.*"], "cost.budget" = ["USD:5"] }
        longest_lease = "1h"
        [[rule]]
        name = "free"
        principals = ["b"]
        agents = ["**"]
    "#;
    for family in [Family::Hello, Family::Open] {
        let mut world = under(3, text);
        let (mut alice, _) = open(&mut world, family, "tok-a");
        let (mut bob, _) = open(&mut world, family, "tok-b");
        let asks = json!({"agent": "echo", "lease_request": {"tool.call": ["search.web", "deploy"], "cost.budget": ["USD:9"]}});
        let accepted = submit(&mut world, family, &mut alice, asks.clone());
        assert_eq!(accepted["payload"]["lease"], json!({"tool.call": ["search.web"], "cost.budget": ["USD:5"]}));
        assert!(accepted["payload"]["lease_constraints"]["expires_at"].is_string(), "{accepted}");
        alice.until_end(&mut world);
        let accepted = submit(&mut world, family, &mut bob, asks.clone());
        assert_eq!(accepted["payload"]["lease"], asks["lease_request"]);
        bob.until_end(&mut world);
        let nothing = json!({"agent": "echo", "lease_request": {"fs.read": ["/**"]}});
        let refused = submit(&mut world, family, &mut alice, nothing);
        assert_eq!(code(&refused), "PERMISSION_DENIED");
        let by_rule = "a: rule `search`: policy grants nothing of the lease that is asked for";
        assert_eq!(refused_by_policy(&world), [by_rule]);
        world.finish();
    }
}

#[test]
fn what_an_agent_delegates_to_is_what_its_principal_may_submit() {
    let text = r#"
        [[rule]]
        name = "devs"
        roles = ["dev"]
        agents = ["waiter", "echo"]
    "#;
    let mut world = under(4, text);
    world.roles.insert("tok-a".into(), roles(&["dev"]));
    let (mut alice, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["**"]});
    let accepted = alice.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}));
    let job = JobId::parse(&job_of(&accepted)).expect("a job");
    let delegates = |world: &mut World, id: u64, agent: &str| {
        let before = world.replies.len();
        world.input(Input::AgentAsked { job, id: CallId(id), call: AgentCall::Delegate(Delegation::new(agent)) });
        world.settle();
        match world.replies.get(before).map(|(_, reply)| reply.clone()) {
            Some(AgentReply::Delegated { .. }) => Ok(()),
            Some(AgentReply::Refused(error)) => Err((error.code, error.message)),
            other => panic!("{other:?}"),
        }
    };
    world.settle();
    assert_eq!(delegates(&mut world, 1, "echo"), Ok(()));
    let no_such = |agent: &str| Err((ErrorCode::AgentNotAvailable, format!("no agent is called `{agent}`")));
    assert_eq!(delegates(&mut world, 2, "stepper"), no_such("stepper"));
    alice.send(&mut world, "job.submit", json!({"agent": "stepper", "parent_job_id": job.to_string()}));
    let refused = alice.expect_any(&mut world, &["job.error", "session.error", "job.accepted"]);
    assert_eq!(code(&refused), "AGENT_NOT_AVAILABLE");
    // What it may now is what counts, however it was accepted.
    reload(&mut world, "");
    assert_eq!(delegates(&mut world, 3, "echo"), no_such("echo"));
    world.finish();
}

/// A session that hands jobs over and takes them.
fn takes_jobs(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["agent_handoff"] = json!(true);
    payload["capabilities"]["lease_request"] = json!(true);
    Raw::open_with(world, payload).0
}

/// Hands a job over; gives what that is answered.
fn hand_over(world: &mut World, raw: &mut Raw, job: &str, to: &str) -> Value {
    raw.send_with(world, "agent.handoff", json!({"target": to}), json!({"job_id": job}));
    raw.expect_any(world, &["ack", "nack"])
}

#[test]
fn who_is_given_a_job_might_have_submitted_it() {
    let text = r#"
        [[rule]]
        name = "few"
        principals = ["b"]
        agents = ["waiter"]
        jobs = 1
        [[rule]]
        name = "all"
        principals = ["a"]
        agents = ["**"]
    "#;
    let mut world = under(12, text);
    let (mut alice, mut bob) = (takes_jobs(&mut world, "tok-a"), takes_jobs(&mut world, "tok-b"));
    let invoke = |world: &mut World, raw: &mut Raw, agent: &str| {
        job_of(&submit(world, Family::Open, raw, json!({"agent": agent})))
    };
    let [slow, first, second] = ["slow", "waiter", "waiter"].map(|agent| invoke(&mut world, &mut alice, agent));
    assert_eq!(code(&hand_over(&mut world, &mut alice, &slow, "b")), "FAILED_PRECONDITION", "no rule lets it");
    assert_eq!(hand_over(&mut world, &mut alice, &first, "b")["type"], "ack");
    let refused = hand_over(&mut world, &mut alice, &second, "b");
    assert_eq!(code(&refused), "RESOURCE_EXHAUSTED", "{refused}");
    assert_eq!(refused["payload"]["details"]["bound"], "policy_jobs", "{refused}");
    assert_eq!(code(&submit(&mut world, Family::Open, &mut bob, json!({"agent": "waiter"}))), "RESOURCE_EXHAUSTED");
    world.finish();
}

#[test]
fn a_job_that_is_given_away_has_no_roles_of_whoever_gave_it() {
    let text = r#"
        [[rule]]
        name = "devs"
        roles = ["dev"]
        agents = ["echo"]
        [[rule]]
        name = "all"
        principals = ["**"]
        agents = ["waiter"]
    "#;
    let mut world = under(13, text);
    world.roles.insert("tok-a".into(), roles(&["dev"]));
    let (mut alice, _bob) = (takes_jobs(&mut world, "tok-a"), takes_jobs(&mut world, "tok-b"));
    let asked = json!({"agent": "waiter", "lease_request": {"agent.delegate": ["**"]}});
    let id = job_of(&submit(&mut world, Family::Open, &mut alice, asked));
    let job = JobId::parse(&id).expect("a job");
    world.settle();
    assert_eq!(hand_over(&mut world, &mut alice, &id, "b")["type"], "ack");
    world.settle();
    world.restores();
    let before = world.replies.len();
    let call = AgentCall::Delegate(Delegation::new("echo"));
    world.input(Input::AgentAsked { job, id: CallId(1), call });
    world.settle();
    let Some((_, AgentReply::Refused(error))) = world.replies.get(before) else {
        panic!("{:?}", world.replies.get(before));
    };
    assert_eq!(error.code, ErrorCode::AgentNotAvailable, "{}", error.message);
    world.finish();
}

const TEAM: &str = r#"
    [[rule]]
    name = "all"
    principals = ["**"]
    agents = ["**"]
    [[rule]]
    name = "watchers"
    principals = ["w"]
    watch = ["a"]
    [[rule]]
    name = "leads"
    roles = ["lead"]
    oversee = ["a"]
"#;

fn listed(world: &mut World, raw: &mut Raw) -> usize {
    raw.send(world, "session.list_jobs", json!({}));
    raw.expect(world, "session.jobs")["payload"]["jobs"].as_array().expect("a list").len()
}

#[test]
fn who_may_watch_sees_those_jobs_and_ends_none_and_who_oversees_ends_them() {
    let mut world = under(5, TEAM);
    world.roles.insert("tok-l".into(), roles(&["lead"]));
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    let (mut bob, _) = Raw::hello(&mut world, "tok-b");
    let job = job_of(&alice.submit(&mut world, json!({"agent": "waiter"})));
    let other = job_of(&bob.submit(&mut world, json!({"agent": "waiter"})));
    let (mut watcher, _) = Raw::hello(&mut world, "tok-w");
    let (mut lead, _) = Raw::hello(&mut world, "tok-l");
    for (raw, may_cancel) in [(&mut watcher, false), (&mut lead, true)] {
        assert_eq!(listed(&mut world, raw), 1);
        raw.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        raw.expect(&mut world, "job.subscribed");
        raw.send(&mut world, "job.subscribe", json!({"job_id": other}));
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "JOB_NOT_FOUND");
        raw.send(&mut world, "job.cancel", json!({"job_id": other}));
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "JOB_NOT_FOUND");
        raw.send(&mut world, "job.cancel", json!({"job_id": job}));
        let answer = raw.expect_any(&mut world, &["session.error", "job.cancelled"]);
        assert_eq!(answer["type"] == "job.cancelled", may_cancel, "{answer}");
        assert!(may_cancel || code(&answer) == "PERMISSION_DENIED", "{answer}");
    }
    assert_eq!(world.runtime().stats().unfinished_jobs, 1, "that of the lead's principal has ended");
    assert_eq!((listed(&mut world, &mut bob), listed(&mut world, &mut alice)), (1, 1), "and nobody else sees more");
    world.restores();
    world.finish();
}

#[test]
fn who_oversees_a_job_grants_it_nothing_unless_it_might_have_submitted_it() {
    let leads = |agents: &str| {
        format!(
            "{BUILDERS}\n[[rule]]\nname = \"leads\"\nprincipals = [\"l\"]\noversee = [\"a\"]\nagents = [{agents}]\n"
        )
    };
    let mut world = under(20, &leads("\"echo\""));
    let person = |world: &mut World, token: &str| {
        let mut payload = open_payload(token);
        payload["capabilities"]["human_input"] = json!(true);
        Raw::open_with(world, payload).0
    };
    let (mut alice, mut lead) = (person(&mut world, "tok-a"), person(&mut world, "tok-l"));
    let accepted = alice.invoke(&mut world, json!({"tool": "waiter"}));
    alice.settle(&mut world);
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    let question = Question::Permission(PermissionRequest {
        permission: "write the report".into(),
        resource: "/w/*".into(),
        operation: "fs.write".into(),
        reason: None,
        lease_seconds: None,
    });
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
    world.input(Input::AgentAsked { job, id: CallId(1), call });
    let frames = alice.settle(&mut world);
    let asked = frames.iter().find(|frame| frame["type"] == "permission.request").expect("it is asked");
    let grant = json!({"prompt_id": asked["payload"]["prompt_id"]});
    lead.send(&mut world, "permission.grant", grant.clone());
    let nack = lead.expect(&mut world, "nack");
    assert!(code(&nack) == "PERMISSION_DENIED" && nack.to_string().contains("jobs of this agent"), "{nack}");
    reload(&mut world, &leads("\"waiter\""));
    lead.send(&mut world, "permission.grant", grant);
    alice.expect(&mut world, "lease.granted");
    world.finish();
}

#[test]
fn a_subscription_is_shown_the_jobs_that_policy_shows_over_restarts_too() {
    let mut world = under(6, TEAM);
    let (mut alice, _) = Raw::open(&mut world, "tok-a");
    let (mut bob, _) = Raw::open(&mut world, "tok-b");
    let (mut watcher, accepted) = Raw::open(&mut world, "tok-w");
    watcher.send(&mut world, "subscribe", json!({"filter": {"types": ["metric", "job.accepted"]}}));
    world.settle();
    watcher.take(&world);
    let shown = |world: &mut World, watcher: &mut Raw| {
        world.settle();
        let frames = watcher.take(world);
        frames.iter().filter(|frame| frame.to_string().contains("job.accepted")).count()
    };
    alice.invoke(&mut world, json!({"tool": "waiter"}));
    bob.invoke(&mut world, json!({"tool": "waiter"}));
    assert_eq!(shown(&mut world, &mut watcher), 1, "that of whom it may watch");
    world.crash();
    let mut watcher = Raw::reclaim(&mut world, "tok-w", &accepted, 0);
    world.settle();
    watcher.take(&world);
    let (mut alice, _) = Raw::open(&mut world, "tok-a");
    let (mut bob, _) = Raw::open(&mut world, "tok-b");
    alice.invoke(&mut world, json!({"tool": "waiter"}));
    bob.invoke(&mut world, json!({"tool": "waiter"}));
    assert_eq!(shown(&mut world, &mut watcher), 1);
    world.restores();
    world.finish();
}

#[test]
fn a_policy_that_takes_something_away_is_felt_at_once_and_ends_no_job() {
    let mut world = under(7, TEAM);
    world.roles.insert("tok-l".into(), roles(&["lead"]));
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    let job = job_of(&alice.submit(&mut world, json!({"agent": "waiter"})));
    let (mut watcher, _) = Raw::hello(&mut world, "tok-w");
    let (mut lead, _) = Raw::open(&mut world, "tok-l");
    let (mut idle, _) = Raw::hello(&mut world, "tok-w");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.expect(&mut world, "job.subscribed");
    lead.send(&mut world, "subscribe", json!({"filter": {"types": ["metric"]}}));
    world.settle();
    lead.take(&world);
    reload(&mut world, BUILDERS);
    assert_eq!(code(&watcher.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    assert_eq!(code(&lead.expect(&mut world, "session.evicted")), "PERMISSION_DENIED");
    assert_eq!(listed(&mut world, &mut idle), 0, "who watched nothing goes on, and sees no more");
    assert_eq!(world.runtime().stats().unfinished_jobs, 1, "jobs go on");
    alice.send(&mut world, "job.submit", json!({"agent": "stepper"}));
    assert_eq!(code(&alice.expect(&mut world, "session.error")), "AGENT_NOT_AVAILABLE");
    // What was accepted is its principal's, whatever it may submit now.
    reload(&mut world, "");
    assert_eq!(listed(&mut world, &mut alice), 1);
    alice.send(&mut world, "job.cancel", json!({"job_id": job}));
    alice.until_end(&mut world);
    world.finish();
}

#[test]
fn quotas_are_a_principals_and_say_when_to_try_again() {
    let text = r#"
        [[rule]]
        name = "few"
        principals = ["a"]
        agents = ["**"]
        sessions = 2
        jobs = 2
        submits_per_second = 3
        [[rule]]
        name = "all"
        principals = ["**"]
        agents = ["**"]
        jobs = 100
    "#;
    for family in [Family::Hello, Family::Open] {
        let mut world = under(8, text);
        let (mut first, _) = open(&mut world, family, "tok-a");
        let (mut second, _) = open(&mut world, family, "tok-a");
        let mut third = Raw::connect(&mut world);
        match family {
            Family::Hello => third.send(&mut world, "session.hello", leases_payload("tok-a")),
            Family::Open => third.send(&mut world, "session.open", open_payload("tok-a")),
        };
        let bound = |answer: &Value| {
            let details = &answer["payload"]["details"];
            // Hello has no such code.
            let exhausted = code(answer) == "RESOURCE_EXHAUSTED" || details["open_code"] == "RESOURCE_EXHAUSTED";
            assert!(exhausted, "{answer}");
            assert!(details["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{answer}");
            (details["bound"].as_str().unwrap_or_default().to_string(), details["limit"].as_u64().unwrap_or_default())
        };
        let answer =
            third.expect_any(&mut world, &["session.error", "session.rejected", "session.welcome", "session.accepted"]);
        assert_eq!(bound(&answer), ("policy_sessions".into(), 2));
        let refused = |notice: &Notice| {
            let Notice::Refused { principal, code, .. } = notice else { return None };
            (code == "RESOURCE_EXHAUSTED").then(|| principal.as_ref().map(Principal::to_string))
        };
        assert_eq!(world.notices.iter().find_map(refused), Some(Some("a".into())), "operators are told whose it is");

        let ask = |world: &mut World, raw: &mut Raw, agent: &str| submit(world, family, raw, json!({"agent": agent}));
        let running = job_of(&ask(&mut world, &mut first, "waiter"));
        ask(&mut world, &mut second, "waiter");
        assert_eq!(bound(&ask(&mut world, &mut first, "waiter")), ("policy_jobs".into(), 2));
        let (mut other, _) = open(&mut world, family, "tok-b");
        for _ in 0..4 {
            assert_eq!(ask(&mut world, &mut other, "waiter")["type"], "job.accepted", "others have their own");
        }
        first.send(
            &mut world,
            if family == Family::Hello { "job.cancel" } else { "cancel" },
            match family {
                Family::Hello => json!({"job_id": running}),
                Family::Open => json!({"target": "job", "target_id": running}),
            },
        );
        first.until_end(&mut world);
        world.run_for(Duration::from_secs(5));
        let mut taken = 0;
        let refused = loop {
            let answer = ask(&mut world, &mut first, "echo");
            if answer["type"] != "job.accepted" {
                break answer;
            }
            first.until_end(&mut world);
            taken += 1;
        };
        assert_eq!((taken, bound(&refused)), (3, ("policy_submits_per_second".into(), 3)));
        let told = refused_by_policy(&world);
        assert!(told.iter().all(|why| why.starts_with("a: ") && why.contains("rule `few`")), "{told:?}");
        assert_eq!(told.len(), 3, "{told:?}");
        world.finish();
    }
}

#[test]
fn an_issuer_says_only_the_roles_that_policy_lets_it_say() {
    let text = r#"
        [roles]
        dev = ["https://login.example#*"]
        [[rule]]
        name = "devs"
        roles = ["dev"]
        agents = ["echo"]
        [[rule]]
        name = "roots"
        roles = ["root"]
        agents = ["**"]
    "#;
    let mut world = under(9, text);
    for (token, says, agents) in [
        ("tok-https://login.example#a", &["dev", "root"][..], &["echo"][..]),
        ("tok-https://other.example#a", &["dev", "root"], &[]),
        ("tok-https://login.example#b", &[], &[]),
    ] {
        world.roles.insert(token.into(), roles(says));
        let (_, welcome) = Raw::hello(&mut world, token);
        assert_eq!(names(&welcome["payload"]["capabilities"]["agents"]), agents, "{token}");
    }
    world.finish();
}

#[test]
fn coming_back_gains_no_role_and_coming_back_with_less_has_less() {
    let mut world = under(10, TEAM);
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    let job = job_of(&alice.submit(&mut world, json!({"agent": "waiter"})));
    let (plain, welcome) = Raw::hello(&mut world, "tok-l");
    world.cut(plain.conn);
    world.roles.insert("tok-l".into(), roles(&["lead"]));
    let mut plain = Raw::resume(&mut world, "tok-l", &welcome, 0);
    plain.expect(&mut world, "session.welcome");
    assert_eq!(listed(&mut world, &mut plain), 0, "it was opened without that role");
    let (mut lead, welcome) = Raw::hello(&mut world, "tok-l");
    lead.send(&mut world, "job.subscribe", json!({"job_id": job}));
    lead.expect(&mut world, "job.subscribed");
    world.settle();
    world.crash();
    let mut lead = Raw::resume(&mut world, "tok-l", &welcome, 0);
    let welcome = lead.expect(&mut world, "session.welcome");
    assert_eq!(listed(&mut world, &mut lead), 1, "it has it over a restart");
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    let job = job_of(&alice.submit(&mut world, json!({"agent": "waiter"})));
    lead.send(&mut world, "job.subscribe", json!({"job_id": job}));
    lead.expect(&mut world, "job.subscribed");
    world.cut(lead.conn);
    world.roles.clear();
    let mut lead = Raw::resume(&mut world, "tok-l", &welcome, 0);
    assert_eq!(code(&lead.expect(&mut world, "session.error")), "PERMISSION_DENIED", "what it watches it may not see");
    world.finish();
}

#[test]
fn whose_credential_is_bounded_sees_and_ends_nothing_of_others_by_policy() {
    let mut world = under(11, TEAM);
    world.ceilings.insert("tok-w".into(), Box::default());
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    alice.submit(&mut world, json!({"agent": "waiter"}));
    let (mut bounded, _) = Raw::hello(&mut world, "tok-w");
    assert_eq!(listed(&mut world, &mut bounded), 0);
    world.finish();
}

#[test]
fn whom_the_transport_vouches_for_until_a_moment_is_let_go_then() {
    let mut world = World::configured(12, |config| config.timing.heartbeat = None);
    let until = UtcMs(world.now().utc.0 + 60_000);
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    let conn = alice.conn;
    let certified = Verdict { expires_at: Some(until), ..Verdict::from(Principal::new("c").expect("a name")) };
    let before = world.runtime().stats().sessions;
    let other = arcp_proto::id::ConnId(conn.0 + 100);
    world.input(Input::Opened {
        conn: other,
        transport: Transport::WebSocket,
        address: None,
        binding: None,
        peer: Some(certified),
    });
    world.input(Input::Credit { conn: other, bytes: 1 << 20, frames: 64 });
    let hello = json!({"id": "1", "type": "session.hello", "payload": {"client": {"name": "c", "version": "1"}}});
    world.input(Input::Received { conn: other, frame: hello.to_string().into_bytes() });
    world.settle();
    assert_eq!(world.runtime().stats().sessions, before + 1);
    world.run_for(Duration::from_secs(59));
    assert_eq!(world.runtime().stats().sessions, before + 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.runtime().stats().sessions, before, "its certificate is over");
    alice.submit(&mut world, json!({"agent": "echo"}));
    world.finish();
}

#[test]
fn a_policy_is_part_of_a_recording() {
    let text = serde_json::to_string(&policy(TEAM)).expect("it can be written");
    assert_eq!(serde_json::from_str::<Policy>(&text).expect("it can be read"), policy(TEAM));
    assert!(Json::parse(&text).is_ok());
}

#[test]
fn a_policy_says_whether_jobs_without_a_lease_may_use_models() {
    const RULE: &str = "[[rule]]\nname = \"a\"\nprincipals = [\"a\"]\nagents = [\"**\"]\n";
    let mut world = under(24, RULE);
    world.oracle.ledger.allows_models = true;
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let mut run = |world: &mut World, lease: Value| {
        let job = job_of(&raw.submit(world, json!({"agent": "stubborn", "lease_request": lease})));
        world.settle();
        JobId::parse(&job).expect("a job's id")
    };
    let (free, bound) = (run(&mut world, json!({})), run(&mut world, json!({"tool.call": ["*"]})));
    let mut call = 0;
    let mut may = |world: &mut World, job| {
        call += 1;
        let asks = AgentCall::Authorize { operation: "model.use".into(), target: "gpt-4".into(), price: Vec::new() };
        world.input(Input::AgentAsked { job, id: CallId(call), call: asks });
        world.settle();
        matches!(world.replies.last(), Some((_, AgentReply::Allowed { .. })))
    };
    assert!(!may(&mut world, free) && !may(&mut world, bound));
    reload(&mut world, &format!("models_without_lease = true\n{RULE}"));
    assert!(may(&mut world, free) && !may(&mut world, bound), "who has a lease is bound by it");
    reload(&mut world, RULE);
    assert!(!may(&mut world, free));
    world.finish();
}
