//! What jobs are granted, by whom and for how long: policy, permissions, and the audit trail of both.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::prompt::{PermissionRequest, Question};
use arcp_proto::runtime::{AgentCall, AgentReply, Delegation, HeldFor, Input, Record, held_bytes};
use arcp_proto::time::UtcMs;
use arcp_tests::raw::{Raw, code, hello_payload, leases_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn ceiling(lease: Value) -> Ceiling {
    Ceiling::new(Lease::parse(&Json::parse(&lease.to_string()).expect("JSON")).expect("a lease"))
}

/// A world whose runtime grants no more than this.
fn under(seed: u64, lease: Value) -> World {
    World::configured(seed, |config| config.ceiling = Some(ceiling(lease)))
}

/// A world in which nobody has to give signs of life.
fn patient(seed: u64, ceiling: Option<Ceiling>) -> World {
    World::configured(seed, |config| {
        config.timing.heartbeat = None;
        config.ceiling = ceiling;
    })
}

#[test]
fn policy_reduces_what_is_asked_for_and_the_acceptance_says_so() {
    let most = json!({"fs.read": ["/srv/**"], "tool.call": ["search.*"], "cost.budget": ["USD:5"]});
    let mut world = under(1, most.clone());
    let (mut hello, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-b");
    for (asked, granted, not_granted) in [
        (
            json!({"fs.read": ["/srv/a"], "cost.budget": ["USD:1"]}),
            json!({"fs.read": ["/srv/a"], "cost.budget": ["USD:1"]}),
            json!(null),
        ),
        (
            json!({"fs.read": ["/**"], "fs.write": ["/srv/**"], "cost.budget": ["USD:9"]}),
            json!({"fs.read": ["/srv/**"], "cost.budget": ["USD:5"]}),
            json!(["fs.read=/**", "fs.write=/srv/**", "cost.budget=USD:9"]),
        ),
        (json!({}), most.clone(), json!(null)),
        (json!(null), most.clone(), json!(null)),
    ] {
        let submit = json!({"agent": "echo", "tool": "echo", "lease_request": asked});
        hello.send(&mut world, "job.submit", submit.clone());
        open.send(&mut world, "tool.invoke", submit);
        for (raw, warned) in [(&mut hello, "job.event"), (&mut open, "log")] {
            let accepted = raw.expect(&mut world, "job.accepted");
            assert_eq!(accepted["payload"]["lease"], granted, "{asked}");
            let frames = raw.until_end(&mut world);
            let shown = |frame: &&Value| frame["type"] == warned && frame.to_string().contains("not_granted");
            let shown = frames.iter().find(shown).map(Value::to_string).unwrap_or_default();
            assert_eq!(shown.contains(&not_granted.to_string()), !not_granted.is_null(), "{asked}: {frames:?}");
        }
    }
    world.restores();
    world.finish();
}

#[test]
fn what_policy_cannot_grant_exactly_or_at_all_is_refused() {
    let mut world = under(2, json!({"tool.call": ["search.*"], "cost.budget": ["USD:5"]}));
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    for (asked, names) in [
        (json!({"tool.call": ["*.web"]}), "ask for a pattern within `search.*`"),
        (json!({"fs.read": ["/**"]}), "policy grants nothing"),
        (json!({"fs.read": ["/**"], "cost.budget": ["USD:1"]}), "policy grants nothing"),
    ] {
        raw.send(&mut world, "job.submit", json!({"agent": "echo", "lease_request": asked}));
        let refused = raw.expect(&mut world, "session.error");
        assert_eq!(code(&refused), "PERMISSION_DENIED", "{asked}");
        assert!(refused["payload"]["message"].as_str().is_some_and(|why| why.contains(names)), "{refused}");
    }
    world.finish();

    let mut world = World::configured(2, |config| {
        config.ceiling = Some(ceiling(json!({"tool.call": ["search.*", "x-?"]})));
        config.limits.job.lease_bytes = 30;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "PERMISSION_DENIED", "it is too large to be listed");
    world.finish();
}

#[test]
fn a_job_without_a_lease_is_held_to_that_of_policy() {
    let mut world = under(3, json!({"tool.call": ["search.*"]}));
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    let job = accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    world.settle();
    let body = Json::parse(r#"{"tool":"rm","call_id":"c1"}"#).expect("JSON");
    world.input(Input::Agent { job, call: AgentCall::Emit { kind: "tool_call".into(), body } });
    let frames = raw.settle(&mut world);
    let refused = frames.iter().find(|frame| frame["payload"]["kind"] == "tool_result");
    assert_eq!(
        refused.map(|frame| &frame["payload"]["body"]["error"]["code"]),
        Some(&json!("PERMISSION_DENIED")),
        "{frames:?}"
    );
    world.finish();
}

#[test]
fn policy_bounds_how_long_leases_last_and_ends_them_with_their_budget() {
    let most = ceiling(json!({"tool.call": ["**"], "cost.budget": ["USD:1"]}));
    let most = Ceiling { longest: Some(Duration::from_secs(60)), budget_is_hard: true, ..most };
    let mut world = patient(4, Some(most));
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter", "lease_constraints": {"expires_in_s": 3600}}));
    let bounds = &accepted["payload"]["lease_constraints"];
    assert!(bounds["expires_at"].as_str().is_some_and(|at| at.starts_with("2026-01-01T00:01:00")), "{bounds}");
    assert_eq!(bounds["x-vendor.arcp.budget_hard"], true);
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!(code(&end), "LEASE_EXPIRED");
    world.restores();
    world.finish();
}

#[test]
fn a_credential_bounds_the_leases_of_its_session_and_coming_back_gains_nothing() {
    let mut world = patient(5, None);
    let lease = json!({"tool.call": ["search.*"], "fs.read": ["/srv/**"]});
    let until = UtcMs(world.now().utc.0 + 3_600_000);
    world.ceilings.insert("tok-a".into(), Box::new(Ceiling { expires_at: Some(until), ..ceiling(lease.clone()) }));
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let granted = |raw: &mut Raw, world: &mut World, asked: Value| {
        let accepted = raw.submit(world, json!({"agent": "waiter", "lease_request": asked}));
        accepted["payload"]["lease"].clone()
    };
    assert_eq!(granted(&mut raw, &mut world, json!(null)), lease);
    assert_eq!(granted(&mut raw, &mut world, json!({"tool.call": ["**"]})), json!({"tool.call": ["search.*"]}));
    world.settle();

    // Whoever comes back with more has what the session was opened with, also after a restart.
    world.ceilings.clear();
    for restarts in [false, true] {
        if restarts {
            let given = world.given().count();
            world.crash_with(given, true);
        } else {
            world.cut(raw.conn);
        }
        world.restores();
    }
    let mut raw = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let welcome = raw.expect(&mut world, "session.welcome");
    assert_eq!(granted(&mut raw, &mut world, json!({"fs.read": ["/**"]})), json!({"fs.read": ["/srv/**"]}));
    // With less, less, and what both grant.
    world.cut(raw.conn);
    world.ceilings.insert("tok-a".into(), Box::new(ceiling(json!({"fs.read": ["/srv/a/*", "/etc/*"]}))));
    let mut raw = Raw::resume(&mut world, "tok-a", &welcome, 0);
    raw.expect(&mut world, "session.welcome");
    assert_eq!(granted(&mut raw, &mut world, json!(null)), json!({"fs.read": ["/srv/a/*"]}));
    // When the credential's authority ends, so do the jobs that rest on it.
    world.run_for(Duration::from_secs(3600));
    let frames = raw.take(&world);
    assert_eq!(frames.iter().filter(|frame| code(frame) == "LEASE_EXPIRED").count(), 2, "{frames:?}");
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "LEASE_EXPIRED");
    world.finish();
}

#[test]
fn a_bounded_session_oversees_nobody_and_changes_only_what_it_submitted() {
    let mut world = World::configured(6, |config| {
        config.operators = [Principal::new("o").expect("a name")].into();
    });
    let bound = || Box::new(ceiling(json!({"tool.call": ["search.*"]})));
    let (mut free, _) = Raw::hello(&mut world, "tok-a");
    let job = free.submit(&mut world, json!({"agent": "waiter"}))["payload"]["job_id"].clone();
    for token in ["tok-a", "tok-o"] {
        world.ceilings.insert(token.into(), bound());
    }
    // It is of the same principal, and has the feature to cancel anywhere.
    let mut payload = hello_payload("tok-a");
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.extend(["x-vendor.arcp.cancel_anywhere", "x-vendor.arcp.open_surfaces"].map(Value::from));
    let mut bounded = Raw::connect(&mut world);
    bounded.send(&mut world, "session.hello", payload);
    bounded.expect(&mut world, "session.welcome");
    bounded.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(&bounded.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    let own = bounded.submit(&mut world, json!({"agent": "waiter"}))["payload"]["job_id"].clone();
    // It answers its own job and no other, where nothing is asked either.
    for (job, code_of) in [(&job, "PERMISSION_DENIED"), (&own, "JOB_NOT_FOUND")] {
        let question = job.as_str().map(|id| id.replace("job_", "prm_") + "_1");
        bounded.send(&mut world, "human.input.response", json!({"prompt_id": question, "value": 1}));
        assert_eq!(code(&bounded.expect(&mut world, "session.error")), code_of);
    }
    bounded.send(&mut world, "job.cancel", json!({"job_id": own}));
    bounded.expect(&mut world, "job.cancelled");

    let mut operator = Raw::connect(&mut world);
    operator.send(&mut world, "session.hello", hello_payload("tok-o"));
    assert_eq!(code(&operator.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    world.ceilings.clear();
    let (operator, welcome) = Raw::hello(&mut world, "tok-o");
    world.cut(operator.conn);
    world.ceilings.insert("tok-o".into(), bound());
    let mut operator = Raw::resume(&mut world, "tok-o", &welcome, 0);
    assert_eq!(code(&operator.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    world.finish();
}

/// The audit trail as a restart finds it: act, who, what was refused, and how often.
fn trail(world: &World) -> Vec<(&'static str, String, String, u32)> {
    let entries = world.store.records(true).into_iter();
    let entries =
        entries.filter_map(|(_, record)| if let Record::Audited(entry) = record { Some(entry) } else { None });
    entries
        .map(|entry| {
            let who = entry.principal.as_ref().map(ToString::to_string).unwrap_or_default();
            let refused = entry.refused.as_ref().map(|code| code.as_str().to_string()).unwrap_or_default();
            (entry.act.as_str(), who, refused, entry.count)
        })
        .collect()
}

fn entry(act: &'static str, who: &str, refused: &str, count: u32) -> (&'static str, String, String, u32) {
    (act, who.into(), refused.into(), count)
}

#[test]
fn who_was_granted_what_or_used_authority_over_others_is_written_down() {
    let mut world = World::configured(7, |config| {
        config.operators = [Principal::new("o").expect("a name")].into();
    });
    let (mut alice, _) = Raw::hello(&mut world, "tok-a");
    alice.submit(&mut world, json!({"agent": "echo"}));
    alice.until_end(&mut world);
    let submit = json!({"agent": "waiter", "lease_request": {"tool.call": ["x"]}, "idempotency_key": "k"});
    let job = alice.submit(&mut world, submit.clone())["payload"]["job_id"].clone();
    alice.submit(&mut world, submit);
    alice.send(&mut world, "job.subscribe", json!({"job_id": job}));
    world.settle();
    assert_eq!(trail(&world), [entry("submit", "a", "", 1)], "what everybody may with their own is no decision");

    let (mut operator, _) = Raw::hello(&mut world, "tok-o");
    operator.send(&mut world, "job.subscribe", json!({"job_id": job}));
    operator.expect(&mut world, "job.subscribed");
    operator.send(&mut world, "job.cancel", json!({"job_id": job, "reason": "too dear"}));
    operator.expect(&mut world, "job.cancelled");
    world.settle();
    let decided = [entry("submit", "a", "", 1), entry("watch", "o", "", 1), entry("cancel", "o", "", 1)];
    assert_eq!(trail(&world), decided);
    let kept = world.store.records(true);
    let kept =
        kept.iter().find(|(_, record)| matches!(record, Record::Audited(entry) if entry.act.as_str() == "cancel"));
    let kept = serde_json::to_value(&kept.expect("it is kept").1).expect("JSON");
    assert_eq!((&kept["Audited"]["reason"], &kept["Audited"]["job"]), (&json!("too dear"), &job));

    // It stands alone: the job and its sessions may be forgotten.
    world.restores();
    let given = world.given().count();
    world.crash_with(given, true);
    world.settle();
    assert_eq!(trail(&world), decided);
    world.finish();
}

#[test]
fn what_is_refused_again_and_again_is_counted_and_fills_nothing() {
    let mut world = under(8, json!({"tool.call": ["search.*"]}));
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let refused = |raw: &mut Raw, world: &mut World| {
        raw.send(world, "job.submit", json!({"agent": "echo", "lease_request": {"fs.read": ["/**"]}}));
        assert_eq!(code(&raw.expect(world, "session.error")), "PERMISSION_DENIED");
    };
    for _ in 0..10 {
        refused(&mut raw, &mut world);
    }
    // What is wrong in itself is no decision about authority.
    raw.send(&mut world, "job.submit", json!({"agent": "nobody"}));
    world.settle();
    assert_eq!(trail(&world), [entry("submit", "a", "PERMISSION_DENIED", 1)]);
    world.run_for(Duration::from_secs(61));
    let counted = [entry("submit", "a", "PERMISSION_DENIED", 1), entry("submit", "a", "PERMISSION_DENIED", 9)];
    assert_eq!(trail(&world), counted);
    world.run_for(Duration::from_secs(200));
    assert_eq!(trail(&world), counted, "nothing more was refused");
    world.restores();
    world.finish();
}

#[test]
fn the_trail_has_bounds() {
    let mut world = World::configured(9, |config| {
        config.ceiling = Some(ceiling(json!({"tool.call": ["search.*"]})));
        config.limits.audit.audit_entries = 3;
        config.limits.audit.audited_refusals = 1;
    });
    for token in ["tok-a", "tok-b", "tok-c"] {
        let (mut raw, _) = Raw::hello(&mut world, token);
        for _ in 0..2 {
            raw.send(&mut world, "job.submit", json!({"agent": "echo", "lease_request": {"fs.read": ["/**"]}}));
            raw.expect(&mut world, "session.error");
        }
    }
    world.settle();
    // Of all but the first it is not said who they were.
    let denied = |who: &str, count| entry("submit", who, "PERMISSION_DENIED", count);
    assert_eq!(trail(&world), [denied("a", 1), denied("", 1)]);
    world.run_for(Duration::from_secs(61));
    assert_eq!(trail(&world), [denied("", 1), denied("a", 1), denied("", 3)], "the oldest went");
    world.restores();
    let given = world.given().count();
    world.crash_with(given, true);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "echo"}));
    world.settle();
    assert_eq!(trail(&world), [denied("a", 1), denied("", 3), entry("submit", "a", "", 1)]);
    world.restores();
    world.finish();
}

#[test]
fn an_agent_that_is_refused_stands_in_the_trail_and_so_does_who_it_delegates_to() {
    let mut world = World::seeded(10);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["echo"]});
    let job = raw.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}))["payload"]["job_id"].clone();
    let job = job.as_str().and_then(JobId::parse).expect("a job");
    world.settle();
    for (at, agent) in ["echo", "waiter"].into_iter().enumerate() {
        let call = AgentCall::Delegate(Delegation::new(agent));
        world.input(Input::AgentAsked { job, id: CallId(at as u64), call });
    }
    for at in 0..3 {
        let call =
            AgentCall::Authorize { operation: "fs.read".into(), target: "/etc/passwd".into(), price: Vec::new() };
        world.input(Input::AgentAsked { job, id: CallId(10 + at), call });
    }
    world.settle();
    let expected = [
        entry("submit", "a", "", 1),
        entry("delegate", "a", "", 1),
        entry("delegate", "a", "PERMISSION_DENIED", 1),
        entry("operate", "a", "PERMISSION_DENIED", 1),
    ];
    assert_eq!(trail(&world), expected);
    world.restores();
    world.finish();
}

#[test]
fn who_comes_by_the_key_of_a_job_that_may_do_more_does_not_come_to_own_it() {
    let mut world = patient(11, None);
    let lease = json!({"tool.call": ["search.*"], "cost.budget": ["USD:5"]});
    let keyed = |key: &str, lease: Value| json!({"agent": "waiter", "lease_request": lease, "idempotency_key": key});
    let wide = [
        keyed("none", json!(null)),
        keyed("more", json!({"tool.call": ["**"], "cost.budget": ["USD:1"]})),
        keyed("unbounded", json!({"tool.call": ["search.web"]})),
        keyed("longer", json!({"tool.call": ["search.web"], "cost.budget": ["USD:1"]})),
    ];
    let (mut free, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let jobs = wide.clone().map(|submit| free.submit(&mut world, submit)["payload"]["job_id"].clone());
    let (mut free, _) = Raw::open(&mut world, "tok-a");
    let asked = json!({"tool": "waiter", "lease_request": {"fs.read": ["/**"]}});
    let invoked = free.send(&mut world, "tool.invoke", asked.clone());
    free.expect(&mut world, "job.accepted");

    let until = UtcMs(world.now().utc.0 + 3_600_000);
    world.ceilings.insert("tok-a".into(), Box::new(Ceiling { expires_at: Some(until), ..ceiling(lease) }));
    let (mut bounded, _) = Raw::hello_with_leases(&mut world, "tok-a");
    for (submit, job) in wide.into_iter().zip(jobs) {
        bounded.send(&mut world, "job.submit", submit.clone());
        assert_eq!(
            code(&bounded.expect_any(&mut world, &["session.error", "job.accepted"])),
            "PERMISSION_DENIED",
            "{submit}"
        );
        bounded.send(&mut world, "job.cancel", json!({"job_id": job}));
        assert_eq!(
            code(&bounded.expect_any(&mut world, &["session.error", "job.cancelled"])),
            "PERMISSION_DENIED",
            "{submit}"
        );
        bounded.send(&mut world, "job.subscribe", json!({"job_id": job}));
        bounded.expect(&mut world, "job.subscribed");
    }
    // Nor by the id of the message that asked for it.
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    open.send_with(&mut world, "tool.invoke", asked, json!({"id": invoked}));
    assert_eq!(code(&open.expect_any(&mut world, &["nack", "tool.error", "job.accepted"])), "PERMISSION_DENIED");
    // What it could have had done is its own again in another session.
    let own = keyed("own", json!({"tool.call": ["**"]}));
    let job = bounded.submit(&mut world, own.clone())["payload"]["job_id"].clone();
    world.cut(bounded.conn);
    let (mut bounded, _) = Raw::hello_with_leases(&mut world, "tok-a");
    assert_eq!(bounded.submit(&mut world, own)["payload"]["job_id"], job);
    bounded.send(&mut world, "job.cancel", json!({"job_id": job}));
    bounded.expect(&mut world, "job.cancelled");
    world.restores();
    world.finish();
}

#[test]
fn a_child_that_a_bounded_session_submits_has_what_it_asks_for_and_ends_with_the_bounds() {
    let mut world = patient(12, None);
    let (mut raw, welcome) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["*"], "tool.call": ["**"], "cost.budget": ["USD:9"]});
    let parent =
        raw.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}))["payload"]["job_id"].clone();
    world.settle();
    world.cut(raw.conn);
    // The session is its owner's again, by a credential with bounds.
    let until = UtcMs(world.now().utc.0 + 60_000);
    let bounds = Ceiling {
        expires_at: Some(until),
        ..ceiling(json!({"tool.call": ["a.*"], "cost.budget": ["USD:2", "EUR:1"]}))
    };
    world.ceilings.insert("tok-a".into(), Box::new(bounds));
    let mut raw = Raw::resume_with(&mut world, leases_payload("tok-a"), &welcome, 0);
    raw.expect(&mut world, "session.welcome");
    let below = |asked: Option<Value>| {
        let mut submit = json!({"agent": "waiter", "parent_job_id": parent});
        asked.into_iter().for_each(|asked| submit["lease_request"] = asked);
        submit
    };
    for asked in [None, Some(json!({})), Some(json!({"tool.call": ["**"]}))] {
        let accepted = raw.submit(&mut world, below(asked.clone()))["payload"].clone();
        let mut granted = json!({"cost.budget": ["EUR:1", "USD:0"]});
        if asked.as_ref().is_some_and(|asked| asked["tool.call"].is_array()) {
            granted["tool.call"] = json!(["a.*"]);
        }
        assert_eq!(accepted["lease"], granted, "{asked:?}");
        assert_eq!(accepted["lease_constraints"]["expires_at"], until.to_string(), "{asked:?}");
    }
    world.run_for(Duration::from_secs(61));
    assert_eq!(raw.take(&world).iter().filter(|frame| code(frame) == "LEASE_EXPIRED").count(), 3);
    raw.send(&mut world, "job.submit", below(None));
    assert_eq!(code(&raw.expect_any(&mut world, &["session.error", "job.accepted"])), "LEASE_EXPIRED");
    world.finish();
}

/// An open session whose client answers questions.
fn person(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["human_input"] = json!(true);
    Raw::open_with(world, payload).0
}

/// Asks for a permission in the name of a job, and has it granted so.
fn permit(world: &mut World, raw: &mut Raw, job: JobId, (operation, resource): (&str, &str), how: Value) {
    let question = Question::Permission(PermissionRequest {
        permission: "more".into(),
        resource: resource.into(),
        operation: operation.into(),
        reason: None,
        lease_seconds: None,
    });
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
    world.input(Input::AgentAsked { job, id: CallId(1), call });
    let mut grant = how;
    grant["prompt_id"] = raw.expect(world, "permission.request")["payload"]["prompt_id"].clone();
    raw.send(world, "permission.grant", grant);
    raw.expect(world, "lease.granted");
    world.settle();
}

#[test]
fn a_delegation_that_is_refused_uses_no_permission_up() {
    let mut world = patient(13, None);
    let mut raw = person(&mut world, "tok-a");
    let job =
        raw.invoke(&mut world, json!({"tool": "waiter", "lease_request": {"tool.call": ["a"]}}))["job_id"].clone();
    let job = job.as_str().and_then(JobId::parse).expect("a job");
    world.settle();
    permit(&mut world, &mut raw, job, ("agent.delegate", "echo"), json!({"x-vendor.arcp.once": true}));
    let asks = |lease: &str| Delegation { lease_request: Json::parse(lease).ok(), ..Delegation::new("echo") };
    let mut delegate = |id: u64, lease: &str| {
        let before = world.replies.len();
        world.input(Input::AgentAsked { job, id: CallId(id), call: AgentCall::Delegate(asks(lease)) });
        world.settle();
        match world.replies.get(before) {
            Some((_, AgentReply::Delegated { .. })) => None,
            Some((_, AgentReply::Refused(why))) => Some(why.code.clone()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delegate(2, r#"{"tool.call":["b"]}"#), Some(ErrorCode::LeaseSubsetViolation));
    assert_eq!(delegate(3, r#"{"tool.call":["a"]}"#), None);
    assert_eq!(delegate(4, r#"{"tool.call":["a"]}"#), Some(ErrorCode::PermissionDenied), "it was for once");
    world.restores();
    world.finish();
}

#[test]
fn a_permission_is_over_in_its_time_while_its_job_is_told_to_stop() {
    let mut world = patient(14, None);
    let mut raw = person(&mut world, "tok-a");
    let job = raw.invoke(&mut world, json!({"tool": "lingerer"}))["job_id"].clone();
    world.settle();
    let id = job.as_str().and_then(JobId::parse).expect("a job");
    permit(&mut world, &mut raw, id, ("fs.write", "/w/*"), json!({"lease_seconds": 2}));
    raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job, "deadline_ms": 60_000}));
    world.run_for(Duration::from_secs(3));
    let frames = raw.take(&world);
    let over = frames.iter().find(|frame| frame["type"] == "lease.revoked").unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(over["payload"]["reason"], "expired");
    world.run_for(Duration::from_secs(60));
    world.finish();
}

#[test]
fn what_is_bounded_twice_is_granted_what_both_bounds_grant() {
    let mut world = under(11, json!({"tool.call": ["search.*"], "fs.read": ["/srv/**"]}));
    let bound = ceiling(json!({"tool.call": ["**"], "fs.read": ["/srv/a/*"], "net.fetch": ["https://**"]}));
    world.ceilings.insert("tok-a".into(), Box::new(bound));
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "echo"}));
    assert_eq!(accepted["payload"]["lease"], json!({"tool.call": ["search.*"], "fs.read": ["/srv/a/*"]}));
    world.finish();
}

#[test]
fn what_a_child_reports_is_compared_with_its_lease_and_its_refusal_stands_in_the_trail() {
    let mut world = World::seeded(13);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["waiter"]});
    let accepted = raw.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}));
    let job = accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    world.settle();
    world.input(Input::AgentAsked { job, id: CallId(1), call: AgentCall::Delegate(Delegation::new("waiter")) });
    world.settle();
    let Some((_, AgentReply::Delegated { job: child })) = world.replies.last().cloned() else {
        panic!("{:?}", world.replies);
    };
    raw.send(&mut world, "job.subscribe", json!({"job_id": child}));
    raw.settle(&mut world);
    let body = Json::parse(r#"{"tool":"rm","call_id":"c1"}"#).expect("JSON");
    world.input(Input::Agent { job: child, call: AgentCall::Emit { kind: "tool_call".into(), body } });
    let frames = raw.settle(&mut world);
    let refused = frames.iter().find(|frame| frame["payload"]["kind"] == "tool_result").expect("it asked for no lease");
    assert_eq!(refused["payload"]["body"]["error"]["code"], "PERMISSION_DENIED");
    assert_eq!(trail(&world).last(), Some(&entry("operate", "a", "PERMISSION_DENIED", 1)));
    world.finish();
}

#[test]
fn an_entry_of_the_trail_goes_when_its_time_is_over_or_there_are_too_many() {
    let mut world = World::configured(30, |config| {
        config.timing.heartbeat = None;
        config.timing.audit_retention = Some(Duration::from_secs(120));
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let mut submit = |world: &mut World| {
        raw.submit(world, json!({"agent": "echo", "lease_request": {"tool.call": ["x"]}}));
        raw.until_end(world);
    };
    submit(&mut world);
    let held = held_bytes(world.runtime(), HeldFor::Audit);
    world.run_for(Duration::from_secs(60));
    submit(&mut world);
    assert_eq!(trail(&world).len(), 2);
    assert_eq!(held_bytes(world.runtime(), HeldFor::Audit), 2 * held, "it is in the account of the runtime");
    world.run_for(Duration::from_secs(61));
    assert_eq!(trail(&world).len(), 1, "the first one is too old");
    world.restores();
    let given = world.given().count();
    world.crash_with(given, true);
    world.run_for(Duration::from_secs(60));
    assert_eq!(trail(&world), [], "and so is the other one, over a restart");
    assert_eq!(held_bytes(world.runtime(), HeldFor::Audit), 0);
    world.restores();
    world.finish();
}

#[test]
fn who_is_not_let_in_stands_in_the_trail_with_where_that_came_from() {
    let mut world = World::configured(31, |config| {
        config.operators = [Principal::new("o").expect("a name")].into();
    });
    for _ in 0..3 {
        let mut raw = Raw::connect_from(&mut world, "203.0.113.7");
        raw.send(&mut world, "session.hello", hello_payload("wrong"));
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    }
    // A session is asked for by a token that is none, and by a credential that may not have one.
    let (raw, mut welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    welcome["payload"]["resume_token"] = json!("rtk_none");
    let mut raw = Raw::resume(&mut world, "tok-a", &welcome, 0);
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    world.ceilings.insert("tok-o".into(), Box::new(ceiling(json!({"tool.call": ["x"]}))));
    let mut operator = Raw::connect(&mut world);
    operator.send(&mut world, "session.hello", hello_payload("tok-o"));
    assert_eq!(code(&operator.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    // What is wrong in itself is no matter of who it is.
    let mut odd = Raw::connect(&mut world);
    odd.send(&mut world, "session.hello", json!({"auth": 7}));
    odd.settle(&mut world);
    let mut expected = vec![
        entry("login", "", "UNAUTHENTICATED", 1),
        entry("resume", "a", "UNAUTHENTICATED", 1),
        entry("login", "o", "PERMISSION_DENIED", 1),
    ];
    assert_eq!(trail(&world), expected);
    world.run_for(Duration::from_secs(61));
    expected.push(entry("login", "", "UNAUTHENTICATED", 2));
    assert_eq!(trail(&world), expected, "again and again is counted");
    let kept = world.store.records(true);
    let kept = kept.iter().find_map(|(_, record)| if let Record::Audited(entry) = record { entry.from } else { None });
    assert_eq!(kept.map(|from| from.to_string()).as_deref(), Some("203.0.113.7"));
    world.restores();
    world.finish();
}

#[test]
fn who_has_too_much_proved_waits_and_nobody_else_does() {
    let mut world = World::configured(31, |config| {
        config.limits.lease.proof_units = 1 << 18;
        config.limits.lease.proof_units_per_second = core::num::NonZeroU32::new(1 << 19).expect("some");
    });
    let behind = "?".repeat(13);
    let bounds = json!({"tool.call": [format!("*a{behind}"), format!("*b{behind}"), "x.*"]});
    for token in ["tok-a", "tok-b"] {
        world.ceilings.insert(token.into(), Box::new(ceiling(bounds.clone())));
    }
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let (mut again, _) = Raw::open(&mut world, "tok-a");
    let (mut other, _) = Raw::hello_with_leases(&mut world, "tok-b");
    let mut submit = |world: &mut World, pattern: &str| {
        let asked = json!({"agent": "echo", "lease_request": {"tool.call": [pattern]}});
        raw.send(world, "job.submit", asked);
        raw.expect_any(world, &["session.error", "job.accepted"])
    };
    let involved = format!("c{behind}?*");
    let first = submit(&mut world, &involved);
    assert!(first["payload"]["message"].as_str().is_some_and(|text| text.contains("too involved")), "{first}");
    let (mut refused, mut asked) = (submit(&mut world, &involved), 0);
    while code(&refused) == "PERMISSION_DENIED" && asked < 10 {
        (refused, asked) = (submit(&mut world, &involved), asked + 1);
    }
    let details = &refused["payload"]["details"];
    assert_eq!(
        (&details["bound"], &details["of"]),
        (&json!("proof_units_per_second"), &json!("principal")),
        "{refused}"
    );
    // Neither in this session nor in another one, and what needs no proof goes on.
    again.send(&mut world, "tool.invoke", json!({"tool": "echo", "lease_request": {"tool.call": ["x.y"]}}));
    assert_eq!(code(&again.expect_any(&mut world, &["nack", "tool.error", "job.accepted"])), "RESOURCE_EXHAUSTED");
    again.invoke(&mut world, json!({"tool": "echo"}));
    other.submit(&mut world, json!({"agent": "echo", "lease_request": {"tool.call": ["x.y"]}}));
    let wait = details["retry_after_ms"].as_u64().expect("a time");
    assert!(wait <= 1000, "{refused}");
    world.run_for(Duration::from_millis(wait));
    assert_eq!(submit(&mut world, "x.y")["type"], "job.accepted");
    world.finish();
}

#[test]
fn an_agent_that_asks_about_involved_patterns_takes_its_principals_part_of_the_time_and_no_more() {
    let mut world = World::configured(33, |config| {
        config.limits.lease.proof_units = 1 << 18;
        config.limits.lease.proof_units_per_second = core::num::NonZeroU32::new(1 << 19).expect("some");
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let (mut other, _) = Raw::hello_with_leases(&mut world, "tok-b");
    // As many as a lease may have, and all of them are compared with a target to its end.
    let patterns: Vec<String> = (0..1000).map(|n| format!("*-{n}")).collect();
    let involved = json!({"agent": "waiter", "lease_request": {"tool.call": patterns}});
    let plain = json!({"agent": "waiter", "lease_request": {"tool.call": ["x"]}});
    let [job, simple] = [&involved, &plain].map(|asked| {
        let id = raw.submit(&mut world, asked.clone())["job_id"].as_str().map(JobId::parse);
        id.flatten().expect("a job")
    });
    let theirs = other.submit(&mut world, involved)["job_id"].as_str().and_then(JobId::parse).expect("a job");
    let mut call = 0;
    let mut ask = |world: &mut World, job, target: &str| {
        call += 1;
        let authorize =
            AgentCall::Authorize { operation: "tool.call".into(), target: target.into(), price: Vec::new() };
        world.input(Input::AgentAsked { job, id: CallId(call), call: authorize });
        world.settle();
        match world.replies.last() {
            Some((_, AgentReply::Allowed { .. })) => (None, "allowed".to_string()),
            Some((_, AgentReply::Refused(error))) => (Some(error.code.clone()), format!("{error:?}")),
            reply => panic!("{reply:?}"),
        }
    };
    let long = "y".repeat(4000);
    let (code_of, why) = ask(&mut world, job, &long);
    assert!(code_of == Some(ErrorCode::ResourceExhausted) && why.contains("too much work"), "{why}");
    let waits = (0..10).map(|_| ask(&mut world, job, &long).1).filter(|why| why.contains("retry_after_ms")).count();
    assert!(waits > 5, "{waits}");
    let (refused, why) = ask(&mut world, job, "y-999");
    assert!(refused == Some(ErrorCode::ResourceExhausted) && why.contains("proof_units_per_second"), "{why}");
    // What takes no more than the usual is answered all the same, and nobody else waits.
    assert_eq!(ask(&mut world, simple, "x").0, None);
    assert_eq!(ask(&mut world, theirs, "y-999").0, None);
    world.run_for(Duration::from_secs(2));
    assert_eq!(ask(&mut world, job, "y-999").0, None);
    world.finish();
}

#[test]
fn nobody_pushes_what_others_did_out_of_the_trail() {
    let mut world = World::configured(32, |config| config.limits.audit.audit_entries = 20);
    let (mut few, _) = Raw::hello_with_leases(&mut world, "tok-few");
    let (mut many, _) = Raw::hello_with_leases(&mut world, "tok-many");
    let submit = json!({"agent": "echo", "lease_request": {"tool.call": ["x"]}});
    for _ in 0..3 {
        few.submit(&mut world, submit.clone());
    }
    for _ in 0..60 {
        many.submit(&mut world, submit.clone());
    }
    world.settle();
    let kept = |world: &World| {
        let whose = trail(world);
        let of = |name: &str| whose.iter().filter(|entry| **entry == self::entry("submit", name, "", 1)).count();
        (of("few"), of("many"))
    };
    assert_eq!(kept(&world), (3, 17));
    let given = world.given().count();
    world.crash_with(given, true);
    assert_eq!(kept(&world), (3, 17));
    let (mut many, _) = Raw::hello_with_leases(&mut world, "tok-many");
    many.submit(&mut world, submit);
    world.settle();
    assert_eq!(kept(&world), (3, 17), "whose entries they are is known after a restart");
    world.restores();
    world.finish();
}
