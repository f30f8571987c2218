//! Questions of agents to people: shown, answered once, and kept.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::prompt::{Choice, PermissionRequest, Question};
use arcp_proto::runtime::{AgentCall, AgentReply, Input, Operator, Record, Wait};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const SURFACES: &str = "x-vendor.arcp.open_surfaces";

/// An open session whose client answers questions.
fn person(world: &mut World, token: &str) -> (Raw, Value) {
    let mut payload = open_payload(token);
    payload["capabilities"]["human_input"] = json!(true);
    payload["capabilities"]["subscriptions"] = json!(true);
    Raw::open_with(world, payload)
}

/// A job whose agent does nothing by itself.
fn waiter(world: &mut World, raw: &mut Raw) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": "waiter"}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn watch(world: &mut World, raw: &mut Raw, job: JobId) -> Vec<Value> {
    raw.send(world, "job.subscribe", json!({"job_id": job}));
    raw.settle(world)
}

/// Its agent asks; gives what it was answered since.
fn ask(world: &mut World, job: JobId, id: u64, question: Question, timeout_ms: Option<u64>) -> Option<AgentReply> {
    let before = world.replies.len();
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms };
    world.input(Input::AgentAsked { job, id: CallId(id), call });
    world.settle();
    world.replies.get(before).map(|(_, reply)| reply.clone())
}

fn input(text: &str, schema: &str, default: Option<&str>) -> Question {
    let json = |text: &str| Json::parse(text).expect("JSON");
    Question::Input { prompt: text.into(), schema: json(schema), default: default.map(json) }
}

fn free(text: &str) -> Question {
    input(text, "{}", None)
}

fn refused(reply: Option<AgentReply>) -> (ErrorCode, String) {
    match reply {
        Some(AgentReply::Refused(error)) => (error.code, error.message),
        other => panic!("not refused: {other:?}"),
    }
}

fn answered(reply: Option<&(JobId, AgentReply)>) -> (String, String) {
    match reply {
        Some((_, AgentReply::Answered { value, by, .. })) => (value.as_str().to_string(), by.clone()),
        other => panic!("not answered: {other:?}"),
    }
}

fn of_type<'a>(frames: &'a [Value], kind: &str) -> Option<&'a Value> {
    frames.iter().find(|frame| frame["type"] == kind)
}

fn prompt_id(frames: &[Value], kind: &str) -> Value {
    of_type(frames, kind).unwrap_or_else(|| panic!("no {kind} in {frames:?}"))["payload"]["prompt_id"].clone()
}

#[test]
fn the_first_answer_that_fits_goes_to_the_agent_and_everybody_else_is_told() {
    let mut world = World::seeded(1);
    let (mut alice, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut alice);
    let (mut phone, _) = person(&mut world, "tok-a");
    watch(&mut world, &mut phone, job);
    let asks = input("how many?", r#"{"type":"object"}"#, None);
    assert_eq!(ask(&mut world, job, 1, asks, None), None);
    assert_eq!(world.waits().get(&job), Some(&Wait::Prompt));
    let shown = alice.take(&world);
    let request = of_type(&shown, "human.input.request").expect("it is shown");
    assert_eq!(request["payload"]["prompt"], "how many?");
    assert_eq!(request["payload"]["response_schema"], json!({"type": "object"}));
    assert!(request["payload"]["expires_at"].is_string() && request["event_seq"].is_u64());
    assert_eq!(of_type(&shown, "job.status").expect("it says so")["payload"]["phase"], "blocked");
    alice.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(alice.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["status"], "blocked");
    let on_phone = phone.take(&world);
    let request = of_type(&on_phone, "human.input.request").expect("there as well").clone();

    // One that does not fit is refused with its place, and the question stays open.
    let about = json!({"correlation_id": request["id"]});
    let response = |value: Value| json!({"value": value, "responded_by": "p", "responded_at": "2026-01-01T00:00:00Z"});
    phone.send_with(&mut world, "human.input.response", response(json!({"bad": 1})), about.clone());
    let nack = phone.expect(&mut world, "nack");
    assert_eq!((code(&nack), &nack["payload"]["details"]["pointer"]), ("INVALID_ARGUMENT", &json!("/bad")));
    assert_eq!(world.waits().get(&job), Some(&Wait::Prompt));

    let id = phone.send_with(&mut world, "human.input.response", response(json!({"n": 1.5})), about.clone());
    let after = phone.settle(&mut world);
    assert_eq!(of_type(&after, "ack").expect("it is taken")["correlation_id"], id);
    assert_eq!(of_type(&after, "human.input.cancelled"), None, "it answered itself");
    assert_eq!(of_type(&after, "job.status").expect("it goes on")["payload"]["phase"], "running");
    assert_eq!(answered(world.replies.last()), (r#"{"n":1.5}"#.into(), "a".into()));
    let told = alice.take(&world);
    let cancelled = of_type(&told, "human.input.cancelled").expect("it is told");
    assert_eq!((code(cancelled), &cancelled["payload"]["responded_by"]), ("CANCELLED", &json!("a")));
    assert_eq!(world.waits().get(&job), None);

    // Who is late is told who was first.
    let late = json!({"prompt_id": request["payload"]["prompt_id"], "value": {}});
    alice.send(&mut world, "human.input.response", late);
    let nack = alice.expect(&mut world, "nack");
    assert_eq!((code(&nack), &nack["payload"]["details"]["responded_by"]), ("FAILED_PRECONDITION", &json!("a")));
    assert!(nack["payload"]["message"].as_str().expect("a text").contains("already, by a at"), "{nack}");
    world.finish();
}

#[test]
fn an_answer_that_comes_again_under_its_id_is_taken_once() {
    let mut world = World::seeded(2);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, free("which?"), None);
    let id = prompt_id(&raw.take(&world), "human.input.request");
    let frame =
        json!({"arcp": "1.1", "id": "again", "type": "human.input.response", "payload": {"prompt_id": id, "value": 1}});
    for _ in 0..2 {
        raw.send_text(&mut world, &frame.to_string());
        assert_eq!(raw.expect(&mut world, "ack")["correlation_id"], "again");
    }
    assert_eq!(world.replies.len(), 1);
    world.finish();
}

#[test]
fn a_choice_is_one_of_its_options() {
    let mut world = World::seeded(3);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let option = |id: &str| Choice { id: id.into(), label: format!("the {id} one") };
    let choice = |default: Option<&str>| Question::Choice {
        prompt: "which?".into(),
        options: vec![option("red"), option("blue")],
        default: default.map(Into::into),
    };
    assert!(refused(ask(&mut world, job, 1, choice(Some("green")), None)).1.contains("none of the options"));
    let twice = Question::Choice { prompt: "p".into(), options: vec![option("a"), option("a")], default: None };
    assert!(refused(ask(&mut world, job, 1, twice, None)).1.contains("an id of its own"));
    assert_eq!(ask(&mut world, job, 1, choice(None), None), None);
    let shown = raw.take(&world);
    let request = of_type(&shown, "human.choice.request").expect("it is shown");
    assert_eq!(request["payload"]["options"][1], json!({"id": "blue", "label": "the blue one"}));
    let id = &request["payload"]["prompt_id"];
    raw.send(&mut world, "human.choice.response", json!({"prompt_id": id, "choice_id": "green"}));
    assert!(raw.expect(&mut world, "nack")["payload"]["message"].as_str().expect("a text").contains("red, blue"));
    raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": "red"}));
    assert!(raw.expect(&mut world, "nack")["payload"]["message"].as_str().expect("a text").contains("human.choice"));
    raw.send(&mut world, "human.choice.response", json!({"prompt_id": id, "choice_id": "blue"}));
    raw.settle(&mut world);
    assert_eq!(answered(world.replies.last()).0, r#""blue""#);
    world.finish();
}

#[test]
fn whoever_may_only_watch_cannot_answer() {
    let mut world = World::configured(4, |config| config.auditors = [Principal::new("c").expect("a name")].into());
    let (mut alice, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut alice);
    let (mut auditor, _) = person(&mut world, "tok-c");
    watch(&mut world, &mut auditor, job);
    let (mut bob, _) = person(&mut world, "tok-b");
    let (mut plain, _) = Raw::hello(&mut world, "tok-a");
    watch(&mut world, &mut plain, job);
    ask(&mut world, job, 1, free("which?"), None);
    let id = prompt_id(&auditor.take(&world), "human.input.request");
    let answer = json!({"prompt_id": id, "value": 1});
    auditor.send(&mut world, "human.input.response", answer.clone());
    assert_eq!(code(&auditor.expect(&mut world, "nack")), "PERMISSION_DENIED");
    bob.send(&mut world, "human.input.response", answer.clone());
    assert_eq!(code(&bob.expect(&mut world, "nack")), "NOT_FOUND", "it is not there for him");
    // It is shown to who has not said that it can answer, and no more.
    let events = plain.take(&world);
    let request = events.iter().find(|frame| frame["payload"]["kind"] == "x-vendor.arcp.request").expect("shown");
    assert_eq!(request["payload"]["body"]["type"], "human.input.request");
    assert!(events.iter().any(|frame| frame["payload"]["body"]["phase"] == "blocked"), "{events:?}");
    plain.send(&mut world, "human.input.response", answer.clone());
    assert_eq!(code(&plain.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    assert_eq!(world.waits().get(&job), Some(&Wait::Prompt));
    alice.send(&mut world, "human.input.response", answer);
    alice.expect(&mut world, "ack");
    world.finish();
}

#[test]
fn a_hello_peer_with_the_open_surfaces_answers_with_the_same_messages() {
    let mut world = World::seeded(5);
    let mut payload = hello_payload("tok-a");
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!(SURFACES));
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", payload);
    let welcome = raw.expect(&mut world, "session.welcome");
    let features = welcome["payload"]["capabilities"]["features"].as_array().expect("a list");
    assert!(features.contains(&json!(SURFACES)), "{features:?}");
    let accepted = raw.submit(&mut world, json!({"agent": "waiter"}));
    raw.settle(&mut world);
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    ask(&mut world, job, 1, free("which?"), None);
    let shown = raw.take(&world);
    let request = of_type(&shown, "human.input.request").expect("the message itself").clone();
    assert!(request["event_seq"].is_u64(), "one of the numbered frames: {request}");
    let about = json!({"correlation_id": request["id"]});
    let id = raw.send_with(&mut world, "human.input.response", json!({"value": 7}), about);
    let after = raw.settle(&mut world);
    assert_eq!(of_type(&after, "ack").expect("taken")["correlation_id"], id);
    assert_eq!(answered(world.replies.last()), ("7".into(), "a".into()));
    world.finish();
}

#[test]
fn who_starts_to_watch_later_is_shown_what_is_open_and_nothing_else() {
    let mut world = World::seeded(6);
    let (mut alice, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut alice);
    ask(&mut world, job, 1, free("first?"), None);
    ask(&mut world, job, 2, free("second?"), None);
    let first = prompt_id(&alice.take(&world), "human.input.request");
    alice.send(&mut world, "human.input.response", json!({"prompt_id": first, "value": 1}));
    alice.settle(&mut world);
    let (mut phone, _) = person(&mut world, "tok-a");
    let shown = watch(&mut world, &mut phone, job);
    let requests: Vec<&Value> = shown.iter().filter(|frame| frame["type"] == "human.input.request").collect();
    assert_eq!(requests.len(), 1, "{shown:?}");
    assert_eq!(requests[0]["payload"]["prompt"], "second?");
    phone.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    phone.settle(&mut world);
    let again = watch(&mut world, &mut phone, job);
    assert_eq!(of_type(&again, "human.input.request"), None, "it was shown");
    let about = json!({"correlation_id": requests[0]["id"]});
    phone.send_with(&mut world, "human.input.response", json!({"value": 2}), about);
    phone.expect(&mut world, "ack");
    world.finish();
}

#[test]
fn what_is_open_is_shown_before_anything_that_is_asked_afterwards_is_answered() {
    let mut world = World::seeded(16);
    let (mut alice, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut alice);
    ask(&mut world, job, 1, free("first?"), None);
    ask(&mut world, job, 2, free("second?"), None);
    let (mut phone, _) = person(&mut world, "tok-a");
    phone.send(&mut world, "job.subscribe", json!({"job_id": job}));
    phone.send(&mut world, "session.list_jobs", json!({}));
    let frames = phone.settle(&mut world);
    let kinds = ["job.subscribed", "human.input.request", "session.jobs"];
    let told: Vec<&str> =
        frames.iter().filter_map(|f| f["type"].as_str()).filter(|kind| kinds.contains(kind)).collect();
    assert_eq!(told, [kinds[0], kinds[1], kinds[1], kinds[2]], "{frames:?}");
    world.finish();
}

#[test]
fn who_comes_back_is_shown_what_is_open_before_anything_that_it_asks_is_answered() {
    let mut world = World::configured(17, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut alice, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut alice);
    ask(&mut world, job, 1, free("first?"), None);
    ask(&mut world, job, 2, free("second?"), None);
    let (mut phone, accepted) = person(&mut world, "tok-a");
    watch(&mut world, &mut phone, job);
    // What was said before has to be read back from now on.
    world.crash();
    world.settle();
    // It has seen nothing so far, and asks for jobs at once.
    let (mut back, _) = Raw::open(&mut world, "tok-a");
    let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": 0});
    back.send(&mut world, "session.resume", claim);
    back.send(&mut world, "session.list_jobs", json!({}));
    let frames = back.settle(&mut world);
    let kinds = ["session.resumed", "human.input.request", "session.jobs"];
    let told: Vec<&str> =
        frames.iter().filter_map(|f| f["type"].as_str()).filter(|kind| kinds.contains(kind)).collect();
    assert_eq!(told, [kinds[0], kinds[1], kinds[1], kinds[2]], "{frames:?}");
    world.finish();
}

#[test]
fn nobody_answers_in_time_and_the_default_does_or_the_agent_goes_on() {
    let mut world = World::seeded(7);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, input("how many?", "{}", Some("3")), Some(5000));
    ask(&mut world, job, 2, free("which?"), Some(8000));
    let shown = raw.take(&world);
    assert_eq!(of_type(&shown, "human.input.request").expect("it")["payload"]["default"], 3);
    world.run_for(Duration::from_secs(6));
    assert_eq!(answered(world.replies.last()), ("3".into(), "default".into()));
    let told = raw.take(&world);
    assert_eq!(of_type(&told, "human.input.cancelled").expect("told")["payload"]["responded_by"], "default");
    assert_eq!(world.waits().get(&job), Some(&Wait::Prompt), "the other is open");
    world.run_for(Duration::from_secs(6));
    let (code_of, why) = refused(world.replies.last().map(|(_, reply)| reply.clone()));
    assert_eq!((code_of, why.as_str()), (ErrorCode::Timeout, "nobody has answered in time"));
    let told = raw.take(&world);
    assert_eq!(code(of_type(&told, "human.input.cancelled").expect("told")), "DEADLINE_EXCEEDED");
    assert_eq!(world.waits().get(&job), None);
    // It goes on.
    assert_eq!(ask(&mut world, job, 3, free("what now?"), None), None);
    world.finish();
}

#[test]
fn a_cancel_ends_the_call_at_once_and_takes_the_question_back() {
    let mut world = World::seeded(8);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, free("which?"), None);
    let id = prompt_id(&raw.take(&world), "human.input.request");
    world.store.broken = true;
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    assert_eq!(world.replies.last(), Some(&(job, AgentReply::Stopped)), "before anything is durable");
    world.store.broken = false;
    let frames = raw.until_end(&mut world);
    let withdrawn = of_type(&frames, "human.input.cancelled").expect("it is taken back");
    assert_eq!(withdrawn["payload"]["reason"], "withdrawn");
    assert_eq!(frames.last().expect("an end")["type"], "job.cancelled");
    raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": 1}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "FAILED_PRECONDITION");
    world.finish();
}

#[test]
fn the_watch_over_a_silent_agent_is_paused_and_the_time_limit_is_not() {
    let mut world = World::configured(9, |config| {
        config.heartbeat_agents.insert("waiter".into());
    });
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, free("which?"), Some(600_000));
    let id = prompt_id(&raw.take(&world), "human.input.request");
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.waits().get(&job), Some(&Wait::Prompt), "it has waited for long");
    raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": 1}));
    raw.expect(&mut world, "ack");
    world.run_for(Duration::from_secs(40));
    assert!(raw.take(&world).iter().all(|frame| frame["type"] != "job.failed"), "it had its time again");
    let limited = raw.invoke(&mut world, json!({"tool": "waiter", "max_runtime_sec": 20}));
    raw.settle(&mut world);
    let limited = limited["job_id"].as_str().and_then(JobId::parse).expect("a job");
    ask(&mut world, limited, 1, free("which?"), None);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.replies.last(), Some(&(limited, AgentReply::Stopped)));
    world.finish();
}

#[test]
fn bounds_of_questions_and_answers_hold() {
    let mut world = World::configured(10, |config| {
        config.limits.prompt.open_prompts_per_job = 2;
        config.limits.prompt.question_bytes = 100;
        config.limits.prompt.answer_bytes = 10;
    });
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let bound = |reply| match reply {
        Some(AgentReply::Refused(error)) => {
            assert_eq!(error.code, ErrorCode::ResourceExhausted);
            error.details.expect("details").as_str().to_string()
        }
        other => panic!("not refused: {other:?}"),
    };
    assert!(bound(ask(&mut world, job, 1, free(&"x".repeat(101)), None)).contains("question_bytes"));
    for id in 1..3 {
        assert_eq!(ask(&mut world, job, id, free("which?"), None), None);
    }
    assert!(bound(ask(&mut world, job, 3, free("which?"), None)).contains("open_prompts_per_job"));
    let id = prompt_id(&raw.take(&world), "human.input.request");
    raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": "nine and more"}));
    assert!(raw.expect(&mut world, "nack")["payload"]["details"].to_string().contains("answer_bytes"));
    // Of those that are over, as many are known as may be open.
    let mut ids = Vec::new();
    for n in 0..3 {
        raw.take(&world);
        if n > 0 {
            ask(&mut world, job, 10 + n, free("again?"), None);
        }
        let id = if n == 0 { id.clone() } else { prompt_id(&raw.take(&world), "human.input.request") };
        raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": 1}));
        raw.expect(&mut world, "ack");
        ids.push(id);
    }
    for (id, why) in [(&ids[0], "not open any more"), (&ids[2], "answered already")] {
        raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": 1}));
        let message = raw.expect(&mut world, "nack")["payload"]["message"].clone();
        assert!(message.as_str().expect("a text").contains(why), "{message}");
    }
    world.finish();
}

#[test]
fn a_schema_that_nobody_checks_in_time_fails_the_call() {
    let mut world = World::seeded(11);
    world.checks.silent = true;
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let before = world.replies.len();
    assert_eq!(ask(&mut world, job, 1, input("n?", r#"{"type":"object"}"#, None), None), None);
    assert_eq!(world.waits().get(&job), Some(&Wait::Check));
    world.run_for(Duration::from_secs(3));
    assert_eq!(refused(world.replies.get(before).map(|(_, reply)| reply.clone())).0, ErrorCode::Unavailable);
    assert_eq!(world.waits().get(&job), None);
    world.checks.silent = false;
    // A default that does not fit is none.
    let bad = input("n?", r#"{"type":"object"}"#, Some(r#"{"bad":1}"#));
    assert!(refused(ask(&mut world, job, 2, bad, None)).1.contains("`/bad`"));
    assert!(raw.take(&world).iter().all(|frame| frame["type"] != "human.input.request"), "nothing was asked");
    world.finish();
}

#[test]
fn an_open_question_outlives_the_runtime_and_its_agent_takes_it_over() {
    let mut world = World::configured(12, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, free("which?"), None);
    ask(&mut world, job, 2, free("how many?"), None);
    let ids: Vec<Value> = raw
        .take(&world)
        .iter()
        .filter(|f| f["type"] == "human.input.request")
        .map(|f| f["payload"]["prompt_id"].clone())
        .collect();
    world.crash();
    world.settle();
    let (mut phone, _) = person(&mut world, "tok-a");
    let shown = watch(&mut world, &mut phone, job);
    assert_eq!(shown.iter().filter(|frame| frame["type"] == "human.input.request").count(), 2, "{shown:?}");
    // One is answered before its agent asks again, and one after it.
    phone.send(&mut world, "human.input.response", json!({"prompt_id": ids[0], "value": "red"}));
    phone.expect(&mut world, "ack");
    assert_eq!(ask(&mut world, job, 1, free("how many?"), None), None);
    assert_eq!(world.waits().get(&job), Some(&Wait::Prompt));
    assert!(matches!(ask(&mut world, job, 2, free("which?"), None), Some(AgentReply::Answered { .. })));
    assert_eq!(answered(world.replies.last()), (r#""red""#.into(), "a".into()));
    phone.send(&mut world, "human.input.response", json!({"prompt_id": ids[1], "value": 3}));
    let after = phone.settle(&mut world);
    assert_eq!(answered(world.replies.last()).0, "3");
    assert_eq!(of_type(&after, "human.input.request"), None, "nothing was asked twice");
    // What was answered before the next start is not asked again, but for after a checkpoint.
    world.crash();
    world.settle();
    assert!(matches!(ask(&mut world, job, 1, free("how many?"), None), Some(AgentReply::Answered { .. })));
    let state = AgentCall::Checkpoint { state: vec![1], label: None };
    world.input(Input::AgentAsked { job, id: CallId(3), call: state });
    world.settle();
    world.crash();
    world.settle();
    assert_eq!(ask(&mut world, job, 1, free("how many?"), None), None, "that is another time");
    world.finish();
}

#[test]
fn a_job_that_ends_with_its_runtime_takes_its_questions_back() {
    let mut world = World::seeded(13);
    let (mut raw, accepted) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, free("which?"), None);
    let id = prompt_id(&raw.take(&world), "human.input.request");
    world.crash();
    let (mut back, _) = person(&mut world, "tok-a");
    let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": 0});
    back.send(&mut world, "session.resume", claim);
    let frames = back.until_end(&mut world);
    assert_eq!(of_type(&frames, "human.input.cancelled").expect("taken back")["payload"]["prompt_id"], id);
    world.finish();
}

#[test]
fn a_permission_allows_what_it_says_for_as_long_as_it_says() {
    let mut world = World::seeded(14);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let wants = |resource: &str| {
        Question::Permission(PermissionRequest {
            permission: "write the report".into(),
            resource: resource.into(),
            operation: "fs.write".into(),
            reason: Some("it is due".into()),
            lease_seconds: Some(600),
        })
    };
    let may = |world: &mut World, target: &str| {
        let before = world.replies.len();
        let call = AgentCall::Authorize { operation: "fs.write".into(), target: target.into(), price: Vec::new() };
        world.input(Input::AgentAsked { job, id: CallId(99), call });
        matches!(world.replies.get(before), Some((_, AgentReply::Allowed { .. })))
    };
    assert!(refused(ask(&mut world, job, 1, wants("not/absolute"), None)).0 == ErrorCode::InvalidRequest);
    assert_eq!(ask(&mut world, job, 1, wants("/w/*.md"), None), None);
    let shown = raw.take(&world);
    let request = of_type(&shown, "permission.request").expect("it is shown").clone();
    assert_eq!((&request["priority"], &request["payload"]["operation"]), (&json!("critical"), &json!("fs.write")));
    assert!(!may(&mut world, "/w/a.md"));
    let about = json!({"correlation_id": request["id"]});
    let grant =
        json!({"permission": "write the report", "resource": "/w/*.md", "operation": "fs.write", "lease_seconds": 60});
    raw.send_with(&mut world, "permission.grant", grant, about);
    let after = raw.settle(&mut world);
    assert_eq!(of_type(&after, "lease.granted").expect("it is granted")["payload"]["resource"], "/w/*.md");
    assert!(answered(world.replies.last()).0.contains("lease_id"));
    assert!(may(&mut world, "/w/a.md") && !may(&mut world, "/w/b.txt"));
    world.run_for(Duration::from_secs(61));
    assert!(!may(&mut world, "/w/a.md"), "its time is over");
    assert_eq!(ask(&mut world, job, 2, wants("/w/*.txt"), None), None);
    let id = prompt_id(&raw.take(&world), "permission.request");
    raw.send(&mut world, "permission.deny", json!({"prompt_id": id, "reason": "not today"}));
    raw.expect(&mut world, "ack");
    let (code_of, why) = refused(world.replies.last().map(|(_, reply)| reply.clone()));
    assert_eq!((code_of, why.as_str()), (ErrorCode::PermissionDenied, "a denied the permission: not today"));
    // Without an answer it is over after five minutes.
    ask(&mut world, job, 3, wants("/w/*.txt"), None);
    world.run_for(Duration::from_secs(301));
    assert_eq!(refused(world.replies.last().map(|(_, reply)| reply.clone())).0, ErrorCode::Timeout);
    world.finish();
}

#[test]
fn an_agent_is_told_what_people_have_answered_once_no_crash_takes_it_back() {
    let mut world = World::configured(17, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let wants = Question::Permission(PermissionRequest {
        permission: "read".into(),
        resource: "/w/*".into(),
        operation: "fs.read".into(),
        reason: None,
        lease_seconds: None,
    });
    ask(&mut world, job, 1, wants, None);
    let id = prompt_id(&raw.take(&world), "permission.request");
    raw.send(&mut world, "permission.grant", json!({"prompt_id": id}));
    let granted = |record: &Record| matches!(record, Record::Prompted { prompts, .. } if !prompts.grants.is_empty());
    while !world.given().any(|batch| batch.records.iter().any(granted)) {
        assert!(world.step(), "it is granted");
    }
    let call = AgentCall::Authorize { operation: "fs.read".into(), target: "/w/a".into(), price: Vec::new() };
    let before = world.replies.len();
    world.input(Input::AgentAsked { job, id: CallId(2), call });
    assert_eq!(world.replies.len(), before, "the grant is not durable");
    world.settle();
    assert!(matches!(world.replies.last(), Some((_, AgentReply::Allowed { .. }))));
    world.finish();
}

#[test]
fn a_default_that_could_not_be_read_again_is_refused() {
    let mut world = World::seeded(18);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deep = input("which?", "{}", Some(&nested(Json::MAX_DEPTH)));
    assert!(refused(ask(&mut world, job, 1, deep, None)).1.contains("nested deeper"));
    assert_eq!(ask(&mut world, job, 1, input("which?", "{}", Some(&nested(Json::MAX_DEPTH - 1))), None), None);
    for (_, record) in world.store.records(false) {
        let stored = serde_json::to_string(&record).expect("it can be written");
        serde_json::from_str::<Record>(&stored).expect("it can be read again");
    }
    world.finish();
}

#[test]
fn questions_that_are_being_checked_have_a_bound_over_all_jobs() {
    let mut world = World::configured(19, |config| {
        config.limits.job.input_checks = 2;
        config.limits.job.principal_share = 100;
    });
    world.checks.silent = true;
    let (mut raw, _) = person(&mut world, "tok-a");
    let jobs = [waiter(&mut world, &mut raw), waiter(&mut world, &mut raw)];
    let asks = || input("n?", r#"{"type":"object"}"#, None);
    for job in jobs {
        assert_eq!(ask(&mut world, job, 1, asks(), None), None);
    }
    let (code_of, why) = refused(ask(&mut world, jobs[0], 2, asks(), None));
    assert!(code_of == ErrorCode::ResourceExhausted && why.contains("being checked"), "{why}");
    // Whoever asked may be gone: what the host looks at it looks at.
    world.input(Input::Operator(Operator::CancelJob { job: jobs[1], reason: None }));
    world.settle();
    assert_eq!(refused(ask(&mut world, jobs[0], 3, asks(), None)).0, ErrorCode::ResourceExhausted);
    assert_eq!(world.waits().get(&jobs[0]), Some(&Wait::Check), "the first one is still looked at");
    world.finish();
}

#[test]
fn a_question_is_over_in_its_time_though_the_calendar_went_back() {
    let mut world = World::configured(20, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, free("which?"), Some(5000));
    world.set_clock(-3_600_000);
    world.run_for(Duration::from_secs(6));
    assert_eq!(refused(world.replies.last().map(|(_, reply)| reply.clone())).0, ErrorCode::Timeout);
    // Also over a restart.
    ask(&mut world, job, 2, free("how many?"), Some(60_000));
    world.settle();
    world.crash();
    world.set_clock(-7_200_000);
    world.settle();
    assert_eq!(ask(&mut world, job, 3, free("how many?"), None), None);
    world.run_for(Duration::from_secs(90));
    assert_eq!(refused(world.replies.last().map(|(_, reply)| reply.clone())).0, ErrorCode::Timeout);
    world.finish();
}

fn permission(resource: &str, seconds: Option<u32>) -> Question {
    Question::Permission(PermissionRequest {
        permission: "write the report".into(),
        resource: resource.into(),
        operation: "fs.write".into(),
        reason: None,
        lease_seconds: seconds,
    })
}

/// Whether its agent may write there, and else why not.
fn may_write(world: &mut World, job: JobId, target: &str) -> Result<(), ErrorCode> {
    let before = world.replies.len();
    let call = AgentCall::Authorize { operation: "fs.write".into(), target: target.into(), price: Vec::new() };
    world.input(Input::AgentAsked { job, id: CallId(99), call });
    world.settle();
    match world.replies.get(before) {
        Some((_, AgentReply::Allowed { .. })) => Ok(()),
        Some((_, AgentReply::Refused(error))) => Err(error.code.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_permission_is_granted_in_part_or_once_and_exactly_so() {
    let mut world = World::seeded(15);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    ask(&mut world, job, 1, permission("/w/**", None), None);
    let id = prompt_id(&raw.take(&world), "permission.request");
    for (beyond, code_of) in [("/etc/*", "INVALID_ARGUMENT"), ("not/absolute", "INVALID_ARGUMENT")] {
        raw.send(&mut world, "permission.grant", json!({"prompt_id": id, "resource": beyond}));
        assert_eq!(code(&raw.expect(&mut world, "nack")), code_of, "{beyond}");
    }
    raw.send(&mut world, "permission.grant", json!({"prompt_id": id, "resource": "/w/a/*"}));
    let shown = raw.settle(&mut world);
    let granted = &of_type(&shown, "lease.granted").expect("it is granted")["payload"];
    assert_eq!((&granted["resource"], &granted["expires_at"]), (&json!("/w/a/*"), &json!(null)));
    assert_eq!(may_write(&mut world, job, "/w/a/x"), Ok(()));
    assert_eq!(may_write(&mut world, job, "/w/b/x"), Err(ErrorCode::PermissionDenied));

    ask(&mut world, job, 2, permission("/once/*", None), None);
    let id = prompt_id(&raw.take(&world), "permission.request");
    raw.send(&mut world, "permission.grant", json!({"prompt_id": id, "x-vendor.arcp.once": true}));
    assert_eq!(raw.expect(&mut world, "lease.granted")["payload"]["once"], true);
    assert_eq!(may_write(&mut world, job, "/once/x"), Ok(()));
    assert_eq!(raw.expect(&mut world, "lease.revoked")["payload"]["reason"], "used");
    assert_eq!(may_write(&mut world, job, "/once/x"), Err(ErrorCode::PermissionDenied));
    world.restores();
    world.finish();
}

#[test]
fn a_permission_is_prolonged_taken_back_or_over_and_says_which() {
    let mut world = World::seeded(16);
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    let (mut hello, _) = {
        let mut payload = hello_payload("tok-a");
        payload["capabilities"]["features"].as_array_mut().expect("a list").push(SURFACES.into());
        let mut hello = Raw::connect(&mut world);
        hello.send(&mut world, "session.hello", payload);
        let welcome = hello.expect(&mut world, "session.welcome");
        (hello, welcome)
    };
    watch(&mut world, &mut hello, job);
    ask(&mut world, job, 1, permission("/w/*", Some(60)), None);
    let id = prompt_id(&raw.take(&world), "permission.request");
    raw.send(&mut world, "permission.grant", json!({"prompt_id": id}));
    let lease = raw.expect(&mut world, "lease.granted")["payload"]["lease_id"].clone();
    for bad in [json!({"requested_seconds": 0}), json!({}), json!({"requested_seconds": 30})] {
        let mut bad = bad;
        bad["lease_id"] = lease.clone();
        raw.send(&mut world, "lease.refresh", bad.clone());
        raw.expect(&mut world, "nack");
    }
    raw.send(&mut world, "lease.refresh", json!({"lease_id": "lease_1", "requested_seconds": 60}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "NOT_FOUND");
    // Either family may, and everybody is told.
    hello.send(&mut world, "lease.refresh", json!({"lease_id": lease, "requested_seconds": 600}));
    let extended = hello.expect(&mut world, "lease.extended")["payload"].clone();
    assert_eq!(raw.expect(&mut world, "lease.extended")["payload"], extended);
    assert_eq!((&extended["lease_id"], &extended["resource"]), (&lease, &json!("/w/*")));
    let (mut other, _) = person(&mut world, "tok-b");
    other.send(&mut world, "lease.revoked", json!({"lease_id": lease, "reason": "mine"}));
    assert_eq!(code(&other.expect(&mut world, "nack")), "NOT_FOUND");

    world.run_for(Duration::from_secs(30));
    // What is open besides is not written again, however much it is.
    ask(&mut world, job, 3, free(&"long ".repeat(1000)), Some(3_600_000));
    world.settle();
    let before = world.store.records(false).len();
    raw.send(&mut world, "lease.refresh", json!({"lease_id": lease, "additional_seconds": 5}));
    raw.expect(&mut world, "lease.extended");
    world.settle();
    let written = serde_json::to_string(&world.store.records(false)[before..]).expect("JSON");
    assert!(written.len() < 3000 && written.contains("GrantsProlonged"), "{written}");
    world.restores();
    raw.take(&world);
    raw.send(&mut world, "lease.revoked", json!({"lease_id": lease, "reason": "done with it"}));
    for of in [&mut raw, &mut hello] {
        assert_eq!(of.expect(&mut world, "lease.revoked")["payload"]["reason"], "done with it");
    }
    assert_eq!(may_write(&mut world, job, "/w/x"), Err(ErrorCode::LeaseRevoked));
    raw.send(&mut world, "lease.refresh", json!({"lease_id": lease, "requested_seconds": 60}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "LEASE_REVOKED");

    ask(&mut world, job, 2, permission("/w/*", Some(10)), None);
    let id = prompt_id(&raw.take(&world), "permission.request");
    raw.send(&mut world, "permission.grant", json!({"prompt_id": id}));
    raw.expect(&mut world, "lease.granted");
    assert_eq!(may_write(&mut world, job, "/w/x"), Ok(()), "the newer one holds");
    // Nobody asks for anything: it is over by itself.
    assert_eq!(raw.expect(&mut world, "lease.revoked")["payload"]["reason"], "expired");
    assert_eq!(may_write(&mut world, job, "/w/x"), Err(ErrorCode::LeaseExpired));
    world.restores();
    world.finish();
}

#[test]
fn nobody_grants_more_than_policy_and_their_own_credential_allow() {
    let lease = |text: &str| Lease::parse(&Json::parse(text).expect("JSON")).expect("a lease");
    let mut world = World::configured(17, |config| {
        let most = Ceiling::new(lease(r#"{"fs.write":["/w/**"],"tool.call":["*"]}"#));
        config.ceiling = Some(Ceiling { longest: Some(Duration::from_secs(600)), ..most });
    });
    world
        .ceilings
        .insert("tok-a".into(), Box::new(Ceiling::new(lease(r#"{"fs.write":["/w/a/**"],"tool.call":["x"]}"#))));
    let (mut raw, _) = person(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw);
    for (resource, granted) in [("/etc/*", false), ("/w/*", false), ("/w/a/*", true)] {
        ask(&mut world, job, 1, permission(resource, None), None);
        let id = prompt_id(&raw.take(&world), "permission.request");
        raw.send(&mut world, "permission.grant", json!({"prompt_id": id}));
        if granted {
            let granted = raw.expect(&mut world, "lease.granted");
            assert!(granted["payload"]["expires_at"].is_string(), "policy ends it: {granted}");
        } else {
            assert_eq!(code(&raw.expect(&mut world, "nack")), "PERMISSION_DENIED", "{resource}");
            raw.send(&mut world, "permission.deny", json!({"prompt_id": id}));
            raw.settle(&mut world);
        }
    }
    world.finish();
}
