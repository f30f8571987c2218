//! Clients that wait for questions are told when a job asks one.

use std::path::Path;

use arcp_host::policy_file;
use arcp_proto::client::{ClientEvent, Session, prompts};
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::prompt::Question;
use arcp_proto::runtime::{AgentCall, Config, Input, Operator};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const BOTH: [Family; 2] = [Family::Open, Family::Hello];

fn person(world: &mut World, family: Family, token: &str) -> Raw {
    match family {
        Family::Open => Raw::open(world, token).0,
        Family::Hello => Raw::hello(world, token).0,
    }
}

fn run(world: &mut World, raw: &mut Raw, family: Family) -> JobId {
    let accepted = match family {
        Family::Open => raw.invoke(world, json!({"tool": "waiter"})),
        Family::Hello => raw.submit(world, json!({"agent": "waiter"})),
    };
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn ask(world: &mut World, job: JobId, id: u64) {
    let schema = Json::parse("{}").expect("JSON");
    let question = Question::Input { prompt: format!("what {id}?"), schema, default: None };
    let call = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
    world.input(Input::AgentAsked { job, id: CallId(id), call });
    world.settle();
}

fn wait(world: &mut World, raw: &mut Raw) -> String {
    let id = raw.send(world, "x-vendor.arcp.prompts.await", json!({}));
    world.settle();
    id
}

/// The requests that were answered since, in order.
fn told(world: &World, raw: &mut Raw) -> Vec<String> {
    let frames = raw.take(world);
    let acks = frames.iter().filter(|frame| frame["type"] == "ack");
    let request = |frame: &Value| {
        let named = frame["correlation_id"].as_str().or(frame["payload"]["request_id"].as_str());
        named.map_or_else(String::new, String::from)
    };
    acks.map(request).collect()
}

#[test]
fn whoever_waits_for_questions_is_told_when_one_is_asked_and_piles_up_nothing() {
    for family in BOTH {
        let mut world = World::configured(1, |config: &mut Config| {
            config.auditors.insert(Principal::new("c").expect("a name"));
        });
        let mut alice = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut alice, family);
        let (mut phone, mut mallory, mut auditor) = (
            person(&mut world, family, "tok-a"),
            person(&mut world, family, "tok-b"),
            person(&mut world, family, "tok-c"),
        );
        for raw in [&mut phone, &mut mallory, &mut auditor] {
            raw.settle(&mut world);
            // What was there before it is told at once.
            wait(&mut world, raw);
            assert_eq!(told(&world, raw).len(), 1);
            wait(&mut world, raw);
            assert_eq!(told(&world, raw).len(), 0, "nothing is asked");
        }
        for n in 1..=3 {
            ask(&mut world, job, n);
        }
        assert_eq!([told(&world, &mut phone).len(), told(&world, &mut auditor).len()], [1, 1], "once, not three times");
        assert_eq!(told(&world, &mut mallory).len(), 0, "it is nothing to somebody else");
        // Two more were asked since: it looks once more.
        wait(&mut world, &mut phone);
        assert_eq!(told(&world, &mut phone).len(), 1);
        wait(&mut world, &mut phone);
        assert_eq!(told(&world, &mut phone).len(), 0);
        ask(&mut world, job, 4);
        assert_eq!(told(&world, &mut phone).len(), 1);
        world.finish();
    }
}

/// Waits, after what there was before.
fn wait_from_now(world: &mut World, raw: &mut Raw) {
    raw.settle(world);
    wait(world, raw);
    wait(world, raw);
    assert_eq!(told(world, raw).len(), 1);
}

#[test]
fn who_is_handed_a_job_that_has_asked_something_is_told() {
    let mut world = World::seeded(4);
    let mut hands_over = |token: &str| {
        let mut payload = open_payload(token);
        payload["capabilities"]["agent_handoff"] = json!(true);
        Raw::open_with(&mut world, payload).0
    };
    let [mut alice, mut bob, mut carol] = ["tok-a", "tok-b", "tok-c"].map(&mut hands_over);
    let [quiet, asking] = [(); 2].map(|()| run(&mut world, &mut alice, Family::Open));
    for raw in [&mut alice, &mut bob, &mut carol] {
        wait_from_now(&mut world, raw);
    }
    ask(&mut world, asking, 1);
    assert_eq!([told(&world, &mut alice).len(), told(&world, &mut bob).len()], [1, 0]);
    for (job, is_told) in [(quiet, 0), (asking, 1)] {
        alice.send_with(&mut world, "agent.handoff", json!({"target": "b"}), json!({"job_id": job}));
        world.settle();
        assert_eq!(told(&world, &mut bob).len(), is_told, "{job}");
        assert_eq!(told(&world, &mut carol).len(), 0, "it is nothing to somebody else");
    }
    world.finish();
}

#[test]
fn who_may_see_more_by_another_policy_is_told_to_look() {
    for family in BOTH {
        let mut world = World::seeded(5);
        let mut alice = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut alice, family);
        let (mut bob, mut carol) = (person(&mut world, family, "tok-b"), person(&mut world, family, "tok-c"));
        for raw in [&mut bob, &mut carol] {
            wait_from_now(&mut world, raw);
        }
        ask(&mut world, job, 1);
        let text = "[[rule]]\nname = \"all\"\nprincipals = [\"**\"]\nagents = [\"**\"]\n\
                    [[rule]]\nname = \"watches\"\nprincipals = [\"b\"]\nwatch = [\"a\"]\n";
        let policy = policy_file::parse(Path::new("policy.toml"), text).expect("it is one");
        world.input(Input::Operator(Operator::Policy(Some(Box::new(policy)))));
        world.settle();
        assert_eq!([told(&world, &mut bob).len(), told(&world, &mut carol).len()], [1, 0], "{family:?}");
        world.finish();
    }
}

#[test]
fn nobody_is_told_of_a_question_before_it_is_durable() {
    let mut world = World::seeded(2);
    let mut alice = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut alice, Family::Open);
    let mut phone = person(&mut world, Family::Open, "tok-a");
    wait(&mut world, &mut phone);
    wait(&mut world, &mut phone);
    assert_eq!(told(&world, &mut phone).len(), 1);
    world.store.broken = true;
    ask(&mut world, job, 1);
    assert_eq!(told(&world, &mut phone).len(), 0);
    world.store.mend();
    world.run_for(std::time::Duration::from_secs(60));
    assert_eq!(told(&world, &mut phone).len(), 1);
    world.finish();
}

#[test]
fn our_client_is_told_over_a_lost_connection_and_a_restart_of_the_runtime() {
    for family in BOTH {
        let mut world = World::of(family, 3);
        let client = world.add_client("a");
        world.settle();
        let wait = |session: &mut Session<'_>| prompts::await_next(session).expect("a handle");
        let mut taken = 0;
        let mut until_told = |world: &mut World, handle| {
            let is_it = |event: &ClientEvent| matches!(event, ClientEvent::AnswerTaken { handle: of } if *of == handle);
            world.until(client, is_it);
            taken += 1;
            taken
        };
        let first = world.command(client, |client| wait(&mut client.session().expect("a session")));
        until_told(&mut world, first);
        // It waits, and its connection is lost: perhaps something was asked meanwhile.
        let second = world.command(client, |client| wait(&mut client.session().expect("a session")));
        world.settle();
        let conn = world.conn_of(client).expect("a connection");
        world.cut(conn);
        until_told(&mut world, second);
        let third = world.command(client, |client| wait(&mut client.session().expect("a session")));
        world.settle();
        world.crash();
        assert_eq!(until_told(&mut world, third), 3);
        world.finish();
    }
}
