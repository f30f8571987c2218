//! Messages of the open family, used by hello clients that agreed on `x-vendor.arcp.open_surfaces`: the same messages,
//! with the same effect.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the events that it is about")]

use std::time::Duration;

use arcp_proto::client::{ClientEvent, streams};
use arcp_proto::id::{JobId, WireId};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::Submit;
use arcp_proto::model::stream::{StreamEvent, StreamKind, StreamTerms};
use arcp_proto::runtime::{AgentCall, ChunkData, Input, StreamCall, StreamWord};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, leases_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const FAMILIES: [Family; 2] = [Family::Hello, Family::Open];

/// A session of a family with everything that this is about; gives the answer to its opening.
fn person(world: &mut World, family: Family, token: &str) -> (Raw, Value) {
    if family == Family::Open {
        return Raw::open_with(world, open_payload(token));
    }
    let mut payload = leases_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.push(json!("x-vendor.arcp.open_surfaces"));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    let welcome = raw.expect(world, "session.welcome");
    (raw, welcome)
}

fn run(world: &mut World, raw: &mut Raw, family: Family, agent: &str, lease: Value) -> JobId {
    let (kind, name) = if family == Family::Open { ("tool.invoke", "tool") } else { ("job.submit", "agent") };
    raw.send(world, kind, json!({name: agent, "lease_request": lease}));
    let accepted = raw.expect(world, "job.accepted");
    raw.settle(world);
    accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn say(world: &mut World, job: JobId, says: StreamCall) {
    world.input(Input::Agent { job, call: AgentCall::Stream { stream: 1, says } });
    world.settle();
}

fn text(text: &str) -> StreamCall {
    StreamCall::Chunk { data: ChunkData::Text(text.into()), notes: Box::default(), shed: 0 }
}

/// Opens a stream of a job; gives its id.
fn open(world: &mut World, raw: &mut Raw, job: JobId) -> Value {
    say(world, job, StreamCall::Open(StreamTerms::new(StreamKind::Text)));
    let frames = raw.settle(world);
    let opened = frames.iter().find(|frame| frame["type"] == "stream.open").expect("it is open");
    opened["payload"]["stream_id"].clone()
}

#[test]
fn a_stream_is_cancelled_and_its_job_goes_on_in_both_families() {
    for family in FAMILIES {
        let mut world = World::seeded(1);
        let (mut raw, _) = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut raw, family, "waiter", json!({}));
        let stream = open(&mut world, &mut raw, job);
        let asked = json!({"target": "stream", "target_id": stream, "reason": "enough"});
        let id = raw.send(&mut world, "cancel", asked.clone());
        let taken = raw.expect(&mut world, "cancel.accepted");
        assert_eq!((&taken["payload"]["target_id"], &taken["correlation_id"]), (&stream, &json!(id)), "{family}");
        let failed = raw.expect(&mut world, "stream.error");
        assert_eq!((code(&failed), &failed["payload"]["message"]), ("CANCELLED", &json!("enough")), "{family}");
        assert!(matches!(world.stream_words.last(), Some((_, 1, StreamWord::Ended(_)))), "{family}");
        raw.send(&mut world, "cancel", asked);
        let again = raw.expect_any(&mut world, &["cancel.refused", "session.error"]);
        let over = if family == Family::Open { "FAILED_PRECONDITION" } else { "INVALID_REQUEST" };
        assert_eq!((code(&again), &again["job_id"]), (over, &Value::Null), "{again}");
        // What is aimed at a job is told in the words of its family.
        raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
        let (taken, end) = match family {
            Family::Hello => ("job.cancelled", "job.error"),
            Family::Open => ("cancel.accepted", "job.cancelled"),
        };
        raw.expect(&mut world, taken);
        raw.expect(&mut world, end);
        world.finish();
    }
}

#[test]
fn a_stream_is_paced_in_both_families() {
    for family in FAMILIES {
        for within in [false, true] {
            let mut world = World::seeded(2);
            let (mut raw, _) = person(&mut world, family, "tok-a");
            let job = run(&mut world, &mut raw, family, "waiter", json!({}));
            let stream = open(&mut world, &mut raw, job);
            let (mut payload, beside) = (json!({"desired_rate_per_second": 2}), json!({"stream_id": stream}));
            if within {
                payload["stream_id"] = stream;
            }
            let beside = if within { json!({}) } else { beside };
            raw.send_with(&mut world, "backpressure", payload, beside);
            assert_eq!(raw.settle(&mut world), Vec::<Value>::new(), "{family}");
            say(&mut world, job, text("a"));
            assert_eq!(world.stream_words, [(job, 1, StreamWord::Hold)], "{family}");
            world.finish();
        }
    }
}

#[test]
fn what_came_after_a_message_or_a_checkpoint_is_sent_again_in_both_families() {
    for family in FAMILIES {
        let mut world = World::configured(3, |config| {
            config.restartable_agents.insert("stepper".into());
        });
        let (mut raw, _) = person(&mut world, family, "tok-a");
        let submit = match family {
            Family::Hello => ("job.submit", json!({"agent": "stepper", "input": {"steps": 4}})),
            Family::Open => ("tool.invoke", json!({"tool": "stepper", "arguments": {"steps": 4}})),
        };
        raw.send(&mut world, submit.0, submit.1);
        let frames = raw.until_end(&mut world);
        let body = |frame: &Value| match family {
            Family::Hello => frame["payload"]["body"].clone(),
            Family::Open => frame["payload"].clone(),
        };
        let made: Vec<&Value> = frames.iter().filter(|frame| body(frame)["checkpoint_id"].is_string()).collect();
        assert_eq!(made.len(), 4, "{family}");
        let after = |of: &Value| -> Vec<String> {
            let seen = frames.iter().filter(|frame| frame["event_seq"].as_u64() > of["event_seq"].as_u64());
            seen.map(|frame| frame["id"].to_string()).collect()
        };
        let whence = [
            json!({"checkpoint_id": body(made[1])["checkpoint_id"], "include_open_streams": true}),
            json!({"after_message_id": made[1]["id"]}),
        ];
        for whence in whence {
            raw.send(&mut world, "resume", whence.clone());
            world.settle();
            let mut again = raw.take(&world);
            let done = again.pop().expect("an answer");
            assert!(done["payload"]["detail"].to_string().contains("resume complete"), "{family}: {done}");
            let again: Vec<String> = again.iter().map(|frame| frame["id"].to_string()).collect();
            assert_eq!(again, after(made[1]), "{family}: {whence}");
        }
        raw.send(&mut world, "resume", json!({"checkpoint_id": "chk_1"}));
        let lost =
            if family == Family::Open { ("nack", "DATA_LOSS") } else { ("session.error", "RESUME_WINDOW_EXPIRED") };
        assert_eq!(code(&raw.expect(&mut world, lost.0)), lost.1);
        world.finish();
    }
}

#[test]
fn a_workflow_is_started_and_work_delegated_in_both_families() {
    for family in FAMILIES {
        let mut world = World::configured(4, |config| config.authority.workflows = true);
        let (mut raw, _) = person(&mut world, family, "tok-a");
        let steps = json!([{"id": "a", "tool": "echo", "arguments": {"q": 1}}]);
        raw.send(&mut world, "workflow.start", json!({"workflow": {"steps": steps}, "input": {}}));
        raw.expect(&mut world, "job.accepted");
        let frames = raw.until_end(&mut world);
        let complete = frames.iter().find(|frame| {
            frame["type"] == "workflow.complete" || frame["payload"]["kind"] == "x-vendor.arcp.workflow_complete"
        });
        let complete = complete.unwrap_or_else(|| panic!("{family}: {frames:#?}"));
        assert!(complete.to_string().contains("success"), "{complete}");
        let job = run(&mut world, &mut raw, family, "waiter", json!({"agent.delegate": ["echo"]}));
        let task = json!({"target": "echo", "input": {"q": 2}, "delegate_id": "d1"});
        raw.send_with(&mut world, "agent.delegate", task, json!({"job_id": job}));
        let child = raw.expect(&mut world, "job.accepted");
        let below = (&child["payload"]["parent_job_id"], &child["payload"]["delegate_id"]);
        assert_eq!(below, (&json!(job), &json!("d1")), "{family}: {child}");
        world.finish();
    }
}

#[test]
fn a_hello_peer_that_did_not_agree_on_them_is_refused_each_and_told_why() {
    let mut world = World::configured(5, |config| config.authority.workflows = true);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let steps = json!([{"id": "a", "tool": "echo", "arguments": {}}]);
    let asked = [
        ("cancel", json!({"target": "stream", "target_id": "str_1_1"})),
        ("backpressure", json!({"stream_id": "str_1_1"})),
        ("resume", json!({})),
        ("workflow.start", json!({"workflow": {"steps": steps}})),
        ("agent.delegate", json!({"target": "echo"})),
    ];
    for (kind, payload) in asked {
        raw.send_with(&mut world, kind, payload, json!({"job_id": "job_1"}));
        let refused = raw.expect(&mut world, "session.error");
        assert_eq!(code(&refused), "INVALID_REQUEST", "{refused}");
        let why = refused["payload"]["message"].to_string();
        assert!(why.contains(kind) && why.contains("open_surfaces"), "{why}");
    }
    world.finish();
}

#[test]
fn our_client_paces_a_stream_and_cancels_it_in_both_families() {
    for family in FAMILIES {
        let mut world = World::of(family, 6);
        let client = world.add_client("a");
        world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
        let submit = Submit::new(AgentRef::parse("waiter").expect("a name"));
        world.command(client, |c| c.session().expect("accepted").submit(submit)).expect("a handle");
        let submitted = world.until(client, |event| matches!(event, ClientEvent::Submitted { .. }));
        let ClientEvent::Submitted { accepted, .. } = submitted else { panic!("{submitted:?}") };
        let job = JobId::parse(accepted.job.as_str()).expect("a job");
        world.settle();
        say(&mut world, job, StreamCall::Open(StreamTerms::new(StreamKind::Text)));
        let of = |event: &ClientEvent| match event {
            ClientEvent::Job { event, .. } => StreamEvent::of(event),
            _ => None,
        };
        let opened = world.until(client, |event| of(event).is_some());
        let stream: WireId = of(&opened).expect("one").expect("a stream").stream;
        let slowly = Some(Duration::from_millis(500));
        let paced = stream.clone();
        world.command(client, |c| streams::pace(&mut c.session().expect("open"), paced, slowly)).expect("said");
        world.settle();
        say(&mut world, job, text("a"));
        assert_eq!(world.stream_words, [(job, 1, StreamWord::Hold)], "{family}");
        let handle = world.command(client, |c| {
            streams::cancel(&mut c.session().expect("open"), stream.clone(), Some("enough".into()))
        });
        let handle = handle.expect("a handle");
        world.until(client, |event| matches!(event, ClientEvent::CancelTaken { handle: Some(h), .. } if *h == handle));
        let again = world.command(client, |c| streams::cancel(&mut c.session().expect("open"), stream, None));
        let again = again.expect("a handle");
        world.until(client, |event| matches!(event, ClientEvent::Refused { handle: Some(h), .. } if *h == again));
        assert!(!world.events(client).iter().any(|event| matches!(event, ClientEvent::JobEnded { .. })), "{family}");
        world.finish();
    }
}
