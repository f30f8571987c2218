//! Interrupts: messages to running agents are stored and delivered, and agents continue after them.

use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::prompt::Question;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, Config, Input, OpenInterrupt, Wait};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// A runtime whose `waiter` observes interrupts, and does nothing by itself.
fn observing(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    World::configured(seed, |config| {
        let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
        waiter.observes_interrupts = true;
        change(config);
    })
}

/// An open session whose client interrupts.
fn person(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["human_input"] = json!(true);
    payload["capabilities"]["interrupt"] = json!(true);
    Raw::open_with(world, payload).0
}

fn run(world: &mut World, raw: &mut Raw, agent: &str) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": agent}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn interrupt(world: &mut World, raw: &mut Raw, job: JobId, prompt: &str) -> String {
    raw.send(world, "interrupt", json!({"target": "job", "target_id": job, "prompt": prompt}))
}

fn interrupted(world: &mut World, raw: &mut Raw, job: JobId, prompt: &str) {
    let id = interrupt(world, raw, job, prompt);
    assert_eq!(raw.expect(world, "ack")["correlation_id"], id);
    world.settle();
}

/// Why it is not interrupted.
fn refused(world: &mut World, raw: &mut Raw, job: JobId, prompt: &str) -> (String, String) {
    let told = world.interrupts.len();
    interrupt(world, raw, job, prompt);
    let nack = raw.expect(world, "nack");
    world.settle();
    assert_eq!(world.interrupts.len(), told, "its agent is told nothing");
    (code(&nack).to_string(), nack["payload"]["message"].as_str().expect("a text").to_string())
}

fn go_on(world: &mut World, job: JobId, interrupt: Option<u32>) {
    world.input(Input::Agent { job, call: AgentCall::GoOn { interrupt } });
    world.settle();
}

fn said(number: u32, prompt: &str, by: &str) -> OpenInterrupt {
    OpenInterrupt { number, prompt: prompt.into(), by: by.into() }
}

/// What is said of the phase of a job, with why.
fn phases(frames: &[Value]) -> Vec<(String, Option<String>)> {
    let of_status = |frame: &&Value| frame["type"] == "job.status" || frame["payload"]["kind"] == "status";
    let text = |value: &Value| value.as_str().map(String::from);
    let shown = frames.iter().filter(of_status).map(|frame| match frame["payload"].get("body") {
        Some(body) => body,
        None => &frame["payload"],
    });
    shown.map(|body| (text(&body["phase"]).expect("a phase"), text(&body["message"]))).collect()
}

#[test]
fn an_interrupted_job_is_blocked_until_its_agent_goes_on() {
    let mut world = observing(1, |_| {});
    let mut alice = person(&mut world, "tok-a");
    let job = run(&mut world, &mut alice, "waiter");
    let mut phone = person(&mut world, "tok-a");
    phone.send(&mut world, "job.subscribe", json!({"job_id": job}));
    phone.settle(&mut world);
    interrupted(&mut world, &mut phone, job, "why?");
    assert_eq!(world.interrupts, [(job, said(1, "why?", "a"))]);
    assert_eq!(world.waits().get(&job), Some(&Wait::Interrupt));
    alice.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(alice.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["status"], "blocked");
    let blocked = ("blocked".to_string(), Some("interrupted by a: why?".to_string()));
    assert_eq!(phases(&phone.take(&world)), [blocked]);

    // It goes on from one, and is blocked by the other; from one that is not there nothing follows.
    interrupted(&mut world, &mut alice, job, "");
    go_on(&mut world, job, Some(3));
    go_on(&mut world, job, Some(1));
    assert_eq!(world.waits().get(&job), Some(&Wait::Interrupt));
    world.input(Input::AgentAsked { job, id: CallId(1), call: AgentCall::GoOn { interrupt: Some(1) } });
    world.settle();
    assert!(matches!(world.replies.last(), Some((_, AgentReply::Refused(_)))), "{:?}", world.replies);
    phone.take(&world);
    go_on(&mut world, job, None);
    assert_eq!(phases(&phone.take(&world)), [("running".to_string(), None)]);
    assert_eq!(world.waits().get(&job), None);
    world.finish();
}

#[test]
fn the_capability_is_there_only_where_an_agent_observes_interrupts() {
    let mut world = World::seeded(2);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["interrupt"] = json!(true);
    let (mut raw, accepted) = Raw::open_with(&mut world, payload.clone());
    assert_eq!(accepted["payload"]["capabilities"].get("interrupt"), None);
    let job = run(&mut world, &mut raw, "waiter");
    assert_eq!(refused(&mut world, &mut raw, job, "why?").0, "UNIMPLEMENTED");
    world.finish();

    let mut world = observing(3, |_| {});
    let (mut raw, accepted) = Raw::open_with(&mut world, payload);
    assert_eq!(accepted["payload"]["capabilities"]["interrupt"], true);
    let (job, deaf) = (run(&mut world, &mut raw, "waiter"), run(&mut world, &mut raw, "slow"));
    let (code, why) = refused(&mut world, &mut raw, deaf, "why?");
    assert!(code == "UNIMPLEMENTED" && why.contains("`slow` observes no interrupts"), "{why}");
    // Whoever did not agree to it has no word for it.
    let (mut plain, _) = Raw::open(&mut world, "tok-a");
    assert_eq!(refused(&mut world, &mut plain, job, "why?").0, "UNIMPLEMENTED");
    for target in ["stream", "session"] {
        raw.send(&mut world, "interrupt", json!({"target": target, "target_id": "x_1", "prompt": ""}));
        assert_eq!(code_of(&mut world, &mut raw), "UNIMPLEMENTED");
    }
    raw.send(&mut world, "interrupt", json!({"target": "nobody", "target_id": "x_1"}));
    assert_eq!(code_of(&mut world, &mut raw), "INVALID_ARGUMENT");
    interrupted(&mut world, &mut raw, job, "why?");
    world.finish();
}

fn code_of(world: &mut World, raw: &mut Raw) -> String {
    code(&raw.expect(world, "nack")).to_string()
}

#[test]
fn a_hello_peer_interrupts_with_the_open_surfaces_and_not_without() {
    let mut world = observing(4, |_| {});
    let mut open = person(&mut world, "tok-a");
    let job = run(&mut world, &mut open, "waiter");
    let mut payload = hello_payload("tok-a");
    let mut plain = Raw::connect(&mut world);
    plain.send(&mut world, "session.hello", payload.clone());
    plain.expect(&mut world, "session.welcome");
    interrupt(&mut world, &mut plain, job, "why?");
    let error = plain.expect(&mut world, "session.error");
    assert!(error["payload"]["message"].as_str().expect("a text").contains("not negotiated"), "{error}");
    assert_eq!(world.interrupts, []);

    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.open_surfaces"));
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", payload);
    raw.expect(&mut world, "session.welcome");
    raw.send(&mut world, "job.subscribe", json!({"job_id": job}));
    raw.settle(&mut world);
    interrupt(&mut world, &mut raw, job, "why?");
    raw.expect(&mut world, "ack");
    world.settle();
    assert_eq!(world.interrupts, [(job, said(1, "why?", "a"))]);
    assert_eq!(phases(&raw.take(&world))[0].0, "blocked");
    world.finish();
}

#[test]
fn only_who_may_change_a_job_interrupts_it() {
    let mut world = observing(5, |config| {
        let named = |name| [Principal::new(name).expect("a name")].into();
        (config.auditors, config.operators) = (named("b"), named("c"));
    });
    let mut alice = person(&mut world, "tok-a");
    let job = run(&mut world, &mut alice, "waiter");
    let mut auditor = person(&mut world, "tok-b");
    let (code, why) = refused(&mut world, &mut auditor, job, "why?");
    assert!(code == "PERMISSION_DENIED" && why.contains("not interrupt it"), "{why}");
    let mut operator = person(&mut world, "tok-c");
    let of_operator = run(&mut world, &mut operator, "waiter");
    assert_eq!(refused(&mut world, &mut alice, of_operator, "why?").0, "NOT_FOUND");
    interrupted(&mut world, &mut operator, job, "stop");
    assert_eq!(world.interrupts, [(job, said(1, "stop", "c"))]);
    world.finish();
}

#[test]
fn an_agent_is_told_of_an_interrupt_once_no_crash_takes_it_back() {
    let mut world = observing(6, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    world.store.broken = true;
    let id = interrupt(&mut world, &mut raw, job, "why?");
    world.run_for(std::time::Duration::from_secs(1));
    assert_eq!(world.interrupts, []);
    world.store.mend();
    assert_eq!(raw.expect(&mut world, "ack")["correlation_id"], id);
    world.settle();
    assert_eq!(world.interrupts, [(job, said(1, "why?", "a"))]);
    // The same message again interrupts nobody.
    let again = json!({"target": "job", "target_id": job, "prompt": "why?"});
    let frame = json!({"arcp": "1.1", "id": id, "type": "interrupt", "payload": again});
    raw.send_text(&mut world, &frame.to_string());
    assert_eq!(raw.expect(&mut world, "ack")["correlation_id"], id);
    world.settle();
    assert_eq!(world.interrupts.len(), 1);
    world.finish();
}

#[test]
fn an_interrupt_that_is_open_is_told_once_more_after_a_restart() {
    let mut world = observing(7, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    interrupted(&mut world, &mut raw, job, "first");
    interrupted(&mut world, &mut raw, job, "second");
    go_on(&mut world, job, Some(1));
    world.crash();
    world.settle();
    let told: Vec<&OpenInterrupt> = world.interrupts.iter().map(|(_, told)| told).collect();
    assert_eq!(told, [&said(1, "first", "a"), &said(2, "second", "a"), &said(2, "second", "a")]);
    assert_eq!(world.waits().get(&job), Some(&Wait::Interrupt));
    let mut raw = person(&mut world, "tok-a");
    raw.send(&mut world, "job.subscribe", json!({"job_id": job}));
    raw.settle(&mut world);
    go_on(&mut world, job, Some(2));
    assert_eq!(phases(&raw.take(&world)), [("running".to_string(), None)]);
    interrupted(&mut world, &mut raw, job, "third");
    assert_eq!(world.interrupts.last(), Some(&(job, said(3, "third", "a"))), "numbers are not used twice");
    go_on(&mut world, job, None);
    world.crash();
    world.settle();
    assert_eq!((world.interrupts.len(), world.waits().get(&job)), (4, None));
    world.finish();
}

#[test]
fn interrupts_are_bounded() {
    let mut world = observing(8, |config| {
        config.limits.prompt.open_interrupts_per_job = 1;
        config.limits.prompt.interrupt_bytes = 4;
    });
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    assert_eq!(refused(&mut world, &mut raw, job, "why??").0, "RESOURCE_EXHAUSTED");
    interrupted(&mut world, &mut raw, job, "why?");
    let (code, why) = refused(&mut world, &mut raw, job, "more");
    assert!(code == "RESOURCE_EXHAUSTED" && why.contains("1 interrupts of this job are open"), "{why}");
    go_on(&mut world, job, None);
    interrupted(&mut world, &mut raw, job, "more");
    world.finish();
}

#[test]
fn a_job_that_does_not_run_is_not_interrupted_and_a_cancel_takes_interrupts_back() {
    let mut world = observing(9, |config| config.limits.job.running_jobs = 1);
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    let waits = run(&mut world, &mut raw, "waiter");
    let (code, why) = refused(&mut world, &mut raw, waits, "why?");
    assert!(code == "FAILED_PRECONDITION" && why.contains("does not run yet"), "{why}");
    interrupted(&mut world, &mut raw, job, "why?");
    world.stop_script(job);
    raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job, "deadline_ms": 60_000}));
    raw.expect(&mut world, "cancel.accepted");
    assert_eq!(world.waits().get(&job), None);
    let (code, why) = refused(&mut world, &mut raw, job, "why?");
    assert!(code == "FAILED_PRECONDITION" && why.contains("told to stop"), "{why}");
    world.run_for(std::time::Duration::from_secs(120));
    let (code, why) = refused(&mut world, &mut raw, job, "why?");
    assert!(code == "FAILED_PRECONDITION" && why.contains("ended already"), "{why}");
    world.finish();
}

#[test]
fn an_interrupted_agent_asks_people_and_its_job_goes_on_after_both() {
    let mut world = observing(10, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    interrupted(&mut world, &mut raw, job, "wait");
    let question = Question::Input { prompt: "what now?".into(), schema: Json::empty_object(), default: None };
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
    world.input(Input::AgentAsked { job, id: CallId(1), call });
    world.settle();
    let asked = raw.expect(&mut world, "human.input.request");
    let id = asked["payload"]["prompt_id"].clone();
    raw.send(&mut world, "human.input.response", json!({"prompt_id": id, "value": "go"}));
    raw.expect(&mut world, "ack");
    world.settle();
    assert_eq!(world.waits().get(&job), Some(&Wait::Interrupt), "it was interrupted before it asked");
    assert_eq!(phases(&raw.take(&world)), []);
    go_on(&mut world, job, None);
    assert_eq!((phases(&raw.take(&world)), world.waits().get(&job)), (vec![("running".to_string(), None)], None));
    world.finish();
}

#[test]
fn a_call_that_leaves_no_event_gives_its_credit_back_once_it_is_durable() {
    let mut world = observing(11, |config| config.limits.delivery.agent_credit = 2);
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    for n in 0..4 {
        for said in ["why?", "why not?"] {
            interrupted(&mut world, &mut raw, job, said);
        }
        // The second interrupt blocks it still.
        go_on(&mut world, job, None);
        go_on(&mut world, job, None);
        let operation = AgentCall::Authorize { operation: "fs.read".into(), target: "/a".into(), price: Vec::new() };
        world.input(Input::AgentAsked { job, id: CallId(n), call: operation });
        world.settle();
    }
    assert!(world.live().contains(&job), "it has had credit for all of that");
    raw.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(raw.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["status"], "running");
    world.finish();
}

#[test]
fn a_job_that_ends_once_its_credentials_are_revoked_is_interrupted_no_more() {
    let mut world = observing(40, |config| config.models.provisions = true);
    world.provisioner.mute = true;
    let mut alice = person(&mut world, "tok-a");
    let accepted = alice.invoke(&mut world, json!({"tool": "waiter", "lease_request": {"model.use": ["*"]}}));
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    alice.settle(&mut world);
    world.stop_script(job);
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
    assert_eq!(world.waits().get(&job), Some(&Wait::Revocation));
    let (code, why) = refused(&mut world, &mut alice, job, "wait!");
    assert_eq!(code, "FAILED_PRECONDITION", "{why}");
    assert!(why.contains("about to end"), "{why}");
    world.restores();
    world.finish();
}

#[test]
fn an_agent_goes_on_from_what_it_was_told_and_from_nothing_else() {
    let mut world = observing(31, |_| {});
    let mut raw = person(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, "waiter");
    interrupted(&mut world, &mut raw, job, "first");
    world.store.broken = true;
    interrupt(&mut world, &mut raw, job, "second");
    world.settle();
    // The second it does not know of yet.
    world.input(Input::Agent { job, call: AgentCall::GoOn { interrupt: Some(2) } });
    world.input(Input::Agent { job, call: AgentCall::GoOn { interrupt: None } });
    world.store.mend();
    world.run_for(std::time::Duration::from_secs(5));
    assert_eq!(world.interrupts, [(job, said(1, "first", "a")), (job, said(2, "second", "a"))]);
    assert_eq!(world.waits().get(&job), Some(&Wait::Interrupt), "it goes on from the second");
    go_on(&mut world, job, None);
    assert_eq!(world.waits().get(&job), None, "it has gone on from both");
    world.finish();
}
