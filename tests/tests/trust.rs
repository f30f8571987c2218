//! Trust levels: what needs one, which jobs have one, and elevation for a limited time.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::event::JobError;
use arcp_proto::model::prompt::{PermissionRequest, Question};
use arcp_proto::runtime::{AgentCall, AgentReply, AuditEntry, Delegation, Input, Record};
use arcp_proto::trust::TrustLevel;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn lease(lease: Value) -> Lease {
    Lease::parse(&Json::parse(&lease.to_string()).expect("JSON")).expect("a lease")
}

/// Deploying is for who is privileged, and searching for who is known.
fn world(seed: u64) -> World {
    World::configured(seed, |config| {
        config.timing.heartbeat = None;
        config.anonymous = true;
        config.operators = [Principal::new("o").expect("a name")].into();
        config.authority.needs_trust = [
            (TrustLevel::Constrained, lease(json!({"tool.call": ["search.*", "deploy.*"]}))),
            (TrustLevel::Privileged, lease(json!({"tool.call": ["deploy.*"]}))),
        ]
        .into();
    })
}

/// A session of either family whose client answers questions.
fn person(world: &mut World, family: &str, token: &str) -> Raw {
    if family == "open" {
        let mut payload = open_payload(token);
        payload["capabilities"]["human_input"] = json!(true);
        return Raw::open_with(world, payload).0;
    }
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.extend(["x-vendor.arcp.open_surfaces", "x-vendor.arcp.list_details"].map(Value::from));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

fn submit(world: &mut World, raw: &mut Raw, family: &str, lease: Value) -> JobId {
    let asked = json!({"agent": "waiter", "tool": "waiter", "lease_request": lease});
    let accepted =
        if family == "open" { raw.invoke(world, asked) } else { raw.submit(world, asked)["payload"].clone() };
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// Whether its agent may call a tool, and else why not.
fn may(world: &mut World, job: JobId, tool: &str) -> Result<(), JobError> {
    let before = world.replies.len();
    let call = AgentCall::Authorize { operation: "tool.call".into(), target: tool.into(), price: Vec::new() };
    world.input(Input::AgentAsked { job, id: CallId(99), call });
    world.settle();
    match world.replies.get(before) {
        Some((_, AgentReply::Allowed { .. })) => Ok(()),
        Some((_, AgentReply::Refused(error))) => Err(error.clone()),
        other => panic!("{other:?}"),
    }
}

fn code_of(verdict: Result<(), JobError>) -> Option<ErrorCode> {
    verdict.err().map(|error| error.code)
}

/// Its agent asks for a permission; gives why that is not asked, or the question's id.
fn ask(
    world: &mut World,
    job: JobId,
    permission: &str,
    resource: &str,
    seconds: Option<u32>,
) -> Result<String, String> {
    let before = world.replies.len();
    let question = Question::Permission(PermissionRequest {
        permission: permission.into(),
        resource: resource.into(),
        operation: "tool.call".into(),
        reason: None,
        lease_seconds: seconds,
    });
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
    world.input(Input::AgentAsked { job, id: CallId(before as u64 + 1000), call });
    world.settle();
    if let Some((_, AgentReply::Refused(error))) = world.replies.get(before) {
        return Err(error.message.clone());
    }
    let kept = world.store.records(true).into_iter().rev();
    let mut kept =
        kept.filter_map(|(_, record)| if let Record::Prompted { prompts, .. } = record { Some(prompts) } else { None });
    let number = kept.find_map(|prompts| prompts.open.last().map(|open| open.number)).expect("it is open");
    Ok(format!("{}_{number}", job.to_string().replace("job_", "prm_")))
}

/// What was elevated and is over, in the order of the job's metrics.
fn metrics(frames: &[Value], family: &str) -> Vec<(Value, Value)> {
    let metric = |frame: &Value| match family {
        "open" => (frame["type"] == "metric").then(|| frame["payload"].clone()),
        _ => (frame["payload"]["kind"] == "metric").then(|| frame["payload"]["body"].clone()),
    };
    let metrics = frames.iter().filter_map(metric);
    let of_trust = metrics.filter(|metric| metric["name"] == "x-vendor.arcp.trust_elevation");
    of_trust
        .map(|metric| {
            let about = if family == "open" { &metric["dims"] } else { &metric["dimensions"] };
            (metric["value"].clone(), about["trust_level"].clone())
        })
        .collect()
}

fn trail(world: &World) -> Vec<AuditEntry> {
    let records = world.store.records(true).into_iter();
    records.filter_map(|(_, record)| if let Record::Audited(entry) = record { Some(*entry) } else { None }).collect()
}

#[test]
fn what_needs_a_level_is_done_while_an_operator_elevates_the_job_and_no_longer() {
    for (seed, family) in [(1, "hello"), (2, "open")] {
        let mut world = world(seed);
        let (mut alice, mut operator) = (person(&mut world, family, "tok-a"), person(&mut world, family, "tok-o"));
        let refusal = if family == "open" { "nack" } else { "session.error" };
        let job = submit(&mut world, &mut alice, family, json!({"tool.call": ["**"]}));
        operator.send(&mut world, "job.subscribe", json!({"job_id": job}));
        operator.settle(&mut world);
        assert_eq!(may(&mut world, job, "search.web"), Ok(()));
        let why = may(&mut world, job, "deploy.prod").expect_err("its lease is not enough");
        assert!(
            why.code == ErrorCode::PermissionDenied && why.message.contains("`trust.elevate.privileged`"),
            "{why:?}"
        );
        assert!(why.details.is_some_and(|details| details.as_str().contains("\"needs_trust\":\"privileged\"")));

        // Another permission for the same elevates nobody, and an elevation has a level and an end.
        let plain = ask(&mut world, job, "deploy", "deploy.*", None).expect("it is asked");
        alice.send(&mut world, "permission.grant", json!({"prompt_id": plain}));
        alice.expect(&mut world, "lease.granted");
        assert_eq!(code_of(may(&mut world, job, "deploy.prod")), Some(ErrorCode::PermissionDenied));
        assert!(
            ask(&mut world, job, "trust.elevate.privileged", "deploy.*", None).expect_err("no end").contains("seconds")
        );
        assert!(
            ask(&mut world, job, "trust.elevate.root", "deploy.*", Some(60))
                .expect_err("no level")
                .contains("constrained")
        );

        let asked = ask(&mut world, job, "trust.elevate.privileged", "deploy.*", Some(60)).expect("it is asked");
        alice.settle(&mut world);
        alice.send(&mut world, "permission.grant", json!({"prompt_id": asked}));
        assert_eq!(code(&alice.expect(&mut world, refusal)), "PERMISSION_DENIED", "she is no operator");
        operator.send(&mut world, "permission.grant", json!({"prompt_id": asked}));
        let granted = alice.expect(&mut world, "lease.granted")["payload"].clone();
        assert_eq!((&granted["trust_level"], &granted["resource"]), (&json!("privileged"), &json!("deploy.*")));
        assert!(granted["expires_at"].is_string());
        let frames = alice.settle(&mut world);
        assert_eq!(metrics(&frames, family), [(json!(1), json!("privileged"))]);
        let logged = frames.iter().map(Value::to_string).find(|frame| frame.contains("o has elevated the job"));
        assert!(logged.is_some_and(|log| log.contains("`deploy.*`")), "{frames:?}");
        assert_eq!((may(&mut world, job, "deploy.prod"), may(&mut world, job, "search.web")), (Ok(()), Ok(())));
        world.restores();

        // Who may not elevate may not prolong that either, and it is over by itself.
        alice.send(&mut world, "lease.refresh", json!({"lease_id": granted["lease_id"], "additional_seconds": 60}));
        assert_eq!(code(&alice.expect(&mut world, refusal)), "PERMISSION_DENIED");
        alice.take(&world);
        world.run_for(Duration::from_secs(61));
        let frames = alice.take(&world);
        assert!(frames.iter().any(|frame| frame["payload"]["reason"] == "expired"), "{frames:?}");
        assert_eq!(metrics(&frames, family), [(json!(0), json!("privileged"))]);
        assert_eq!(code_of(may(&mut world, job, "deploy.prod")), Some(ErrorCode::LeaseExpired));
        let trail: Vec<String> = trail(&world)
            .into_iter()
            .map(|entry| {
                let who = entry.principal.map(|who| who.to_string()).unwrap_or_default();
                let refused = if entry.refused.is_some() { " refused" } else { "" };
                let level = entry.granted.filter(|granted| granted.as_str().contains("\"trust_level\":\"privileged\""));
                format!("{who} {}{refused}{}", entry.act.as_str(), if level.is_some() { " privileged" } else { "" })
            })
            .collect();
        let expected = [
            "a submit",
            "o watch",
            "a operate refused",
            "a approve",
            "a elevate refused",
            "o elevate privileged",
            "a extend refused",
            "a operate refused",
            "a operate refused",
        ];
        assert_eq!(trail, expected);
        world.restores();
        world.finish();
    }
}

#[test]
fn nobody_is_trusted_further_than_whoever_asks_and_a_child_no_further_than_its_parent() {
    let mut world = world(3);
    let all = json!({"tool.call": ["**"], "agent.delegate": ["*"]});
    world.ceilings.insert("tok-b".into(), Box::new(Ceiling::new(lease(all.clone()))));
    let mut nobody = Raw::connect(&mut world);
    let mut payload = hello_payload("");
    payload["auth"] = json!({"scheme": "none"});
    nobody.send(&mut world, "session.hello", payload);
    nobody.expect(&mut world, "session.welcome");
    let untrusted = submit(&mut world, &mut nobody, "hello", all.clone());
    let why = may(&mut world, untrusted, "search.web").expect_err("nobody vouches for it");
    assert!(why.message.contains("`constrained`, and the job is `untrusted`"), "{why:?}");
    assert_eq!(may(&mut world, untrusted, "other"), Ok(()));

    // A credential that bounds its session bounds how far it is trusted, its children too.
    let mut bounded = person(&mut world, "hello", "tok-b");
    let parent = submit(&mut world, &mut bounded, "hello", all.clone());
    assert_eq!(may(&mut world, parent, "search.web"), Ok(()));
    let before = world.replies.len();
    let mut child = Delegation::new("waiter");
    child.lease_request = Some(Json::parse(r#"{"tool.call":["**"]}"#).expect("JSON"));
    world.input(Input::AgentAsked { job: parent, id: CallId(7), call: AgentCall::Delegate(child) });
    world.settle();
    let Some((_, AgentReply::Delegated { job: child })) = world.replies.get(before).cloned() else {
        panic!("{:?}", world.replies.get(before));
    };
    world.restores();
    for (job, level) in [(parent, "constrained"), (child, "constrained"), (untrusted, "untrusted")] {
        let why = may(&mut world, job, "deploy.prod").expect_err("only privileged ones may");
        assert!(why.message.contains(&format!("the job is `{level}`")), "{why:?}");
    }
    bounded.settle(&mut world);
    bounded.send(&mut world, "session.list_jobs", json!({}));
    let listed = bounded.expect(&mut world, "session.jobs")["payload"]["jobs"].clone();
    let levels: Vec<&Value> = listed.as_array().expect("a list").iter().map(|job| &job["trust_level"]).collect();
    assert_eq!(levels, ["constrained"; 2], "{listed}");
    // Nor does a bounded session elevate its job beyond itself.
    let asked = ask(&mut world, parent, "trust.elevate.trusted", "deploy.*", Some(60)).expect("it is asked");
    bounded.settle(&mut world);
    bounded.send(&mut world, "permission.grant", json!({"prompt_id": asked}));
    let refused = bounded.expect(&mut world, "session.error");
    assert!(
        refused["payload"]["message"].as_str().is_some_and(|why| why.contains("who is `constrained`")),
        "{refused}"
    );
    world.finish();
}

#[test]
fn a_report_of_what_needs_a_level_is_compared_with_it_though_no_lease_was_asked_for() {
    let mut world = world(4);
    let mut alice = person(&mut world, "hello", "tok-a");
    let accepted = alice.submit(&mut world, json!({"agent": "waiter"}));
    let job = accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    alice.settle(&mut world);
    for (tool, refused) in [("deploy.prod", true), ("rm", false)] {
        let body = Json::parse(&json!({"tool": tool, "call_id": "c"}).to_string()).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "tool_call".into(), body } });
        let frames = alice.settle(&mut world);
        let results = frames.iter().filter(|frame| frame["payload"]["kind"] == "tool_result");
        assert_eq!(results.count() == 1, refused, "{tool}: {frames:?}");
    }
    world.finish();
}

#[test]
fn what_was_allowed_once_may_be_reported_and_is_not_done_again() {
    let mut world = world(5);
    let mut alice = person(&mut world, "hello", "tok-a");
    let job = submit(&mut world, &mut alice, "hello", json!({"fs.read": ["/x"]}));
    let reported = |world: &mut World, alice: &mut Raw, tool: &str| {
        let body = Json::parse(&json!({"tool": tool, "call_id": "c"}).to_string()).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "tool_call".into(), body } });
        alice.settle(world).iter().all(|frame| frame["payload"]["kind"] != "tool_result")
    };
    let asked = ask(&mut world, job, "mend", "mend.*", None).expect("it is asked");
    alice.settle(&mut world);
    alice.send(&mut world, "permission.grant", json!({"prompt_id": asked, "x-vendor.arcp.once": true}));
    alice.expect(&mut world, "lease.granted");
    assert_eq!(may(&mut world, job, "mend.a"), Ok(()));
    world.restores();
    assert!(!reported(&mut world, &mut alice, "mend.b"), "that was not asked for");
    assert!(reported(&mut world, &mut alice, "mend.a"), "it is the same use");
    world.restores();
    assert!(!reported(&mut world, &mut alice, "mend.a"), "this is another one");
    assert_eq!(code_of(may(&mut world, job, "mend.a")), Some(ErrorCode::PermissionDenied));
    world.finish();
}
