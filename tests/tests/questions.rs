//! Agents that want to know what becomes of their calls, and ask.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentReply, ChunkData, Input, Operator, Remaining, Wait};
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

fn emit(kind: &str, body: &str) -> AgentCall {
    AgentCall::Emit { kind: kind.into(), body: Json::parse(body).expect("JSON") }
}

fn log() -> AgentCall {
    emit("log", r#"{"level":"info","message":"m"}"#)
}

fn checkpoint(bytes: usize) -> AgentCall {
    AgentCall::Checkpoint { state: vec![b'x'; bytes], label: None }
}

fn chunk(more: bool) -> AgentCall {
    AgentCall::Chunk { data: ChunkData::Text("abc".into()), more }
}

/// A job whose agent does nothing by itself.
fn waiter(world: &mut World, raw: &mut Raw, more: &Value) -> JobId {
    let mut submit = json!({"agent": "waiter"});
    submit.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let accepted = raw.submit(world, submit);
    world.settle();
    raw.take(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// Its agent asks; gives what it was answered at once.
fn ask(world: &mut World, job: JobId, id: u64, call: AgentCall) -> Option<AgentReply> {
    let before = world.replies.len();
    world.input(Input::AgentAsked { job, id: CallId(id), call });
    world.replies.get(before).map(|(_, reply)| reply.clone())
}

fn refused(reply: Option<AgentReply>) -> (ErrorCode, String) {
    match reply {
        Some(AgentReply::Refused(error)) => (error.code, error.message),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_agent_is_told_the_number_of_an_event_once_that_is_durable() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    assert_eq!(ask(&mut world, job, 7, log()), None);
    assert_eq!(world.waits().get(&job), Some(&Wait::Answer));
    world.settle();
    // The first event is its start.
    assert_eq!(world.replies, [(job, AgentReply::Taken { event: Some(2) })]);
    assert_eq!(world.waits().get(&job), None);
    assert_eq!(raw.take(&world).len(), 1, "it is shown");
    world.finish();
}

#[test]
fn what_is_refused_is_said_and_the_job_goes_on_as_if_nothing_had_been_called() {
    let mut world = World::configured(2, |config| {
        config.limits.job.checkpoint_bytes = 100;
        config.limits.frame.event_body_bytes = 1000;
        config.limits.frame.result_bytes = 5;
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    let long = format!(r#"{{"level":"info","message":"{}"}}"#, "x".repeat(1000));
    let calls = [
        (emit("progress", r#"{"current":"no number"}"#), "current"),
        (emit("log", &long), "at most 1000"),
        (checkpoint(101), "larger"),
        (AgentCall::Checkpoint { state: Vec::new(), label: Some("l".repeat(1000)) }, "label"),
        (AgentCall::Chunk { data: ChunkData::Text("abcdef".into()), more: true }, "larger"),
    ];
    for (n, (call, why)) in (0..).zip(calls) {
        let (code, message) = refused(ask(&mut world, job, n, call));
        assert_eq!(code, ErrorCode::InvalidRequest);
        assert!(message.contains(why), "{message}");
    }
    // Nothing of the refused piece is left: the whole fits.
    assert_eq!(ask(&mut world, job, 10, chunk(false)), None);
    assert!(refused(ask(&mut world, job, 11, chunk(false))).1.contains("last piece"));
    world.settle();
    assert_eq!(raw.take(&world).len(), 1, "only the piece is shown");
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    assert_eq!(raw.until_end(&mut world).last().expect("an end")["payload"]["code"], "CANCELLED");
    world.finish();
}

#[test]
fn a_state_that_nobody_would_go_on_from_is_refused() {
    let mut world = World::seeded(3);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    assert!(refused(ask(&mut world, job, 1, checkpoint(1))).1.contains("not kept"));
    world.finish();
}

#[test]
fn what_is_left_of_a_job_is_said_at_once() {
    let mut world = World::configured(4, |config| config.limits.delivery.agent_credit = 9);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let endless = waiter(&mut world, &mut raw, &json!({}));
    let job = waiter(&mut world, &mut raw, &json!({"max_runtime_sec": 60}));
    world.run_for(Duration::from_secs(10));
    world.store.broken = true;
    let left = |reply| match reply {
        Some(AgentReply::Remaining(Remaining { time_ms, calls, bytes })) => (time_ms, calls, bytes),
        other => panic!("{other:?}"),
    };
    assert_eq!(left(ask(&mut world, endless, 1, AgentCall::Remaining)), (None, 9, 1 << 20));
    let (time_ms, calls, _) = left(ask(&mut world, job, 1, AgentCall::Remaining));
    assert!(time_ms.is_some_and(|left| (49_000..=50_000).contains(&left)), "{time_ms:?}");
    assert_eq!(calls, 9, "the call before cost nothing in the end");
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    let (time_ms, ..) = left(ask(&mut world, job, 2, AgentCall::Remaining));
    assert_eq!(time_ms, Some(5000), "then it is made to stop");
    world.store.broken = false;
    world.settle();
    world.finish();
}

#[test]
fn a_cancel_answers_an_open_call_at_once() {
    let mut world = World::configured(5, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (cancelled, late) =
        (waiter(&mut world, &mut raw, &json!({})), waiter(&mut world, &mut raw, &json!({"max_runtime_sec": 1})));
    world.store.broken = true;
    for job in [cancelled, late] {
        assert_eq!(ask(&mut world, job, 1, checkpoint(10)), None);
    }
    world.input(Input::Operator(Operator::CancelJob { job: cancelled, reason: None }));
    assert_eq!(world.replies, [(cancelled, AgentReply::Stopped)]);
    world.run_for(Duration::from_millis(1100));
    assert_eq!(world.replies.last(), Some(&(late, AgentReply::Stopped)), "the end of the job as well");
    world.store.broken = false;
    // The store is asked again within a second.
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.replies.len(), 2, "each once");
    world.finish();
}

#[test]
fn an_agent_whose_job_is_over_waits_for_no_answer() {
    let mut world = World::seeded(6);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "undead", "max_runtime_sec": 1}));
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    raw.until_end(&mut world);
    assert_eq!(ask(&mut world, job, 1, log()), Some(AgentReply::Stopped));
    assert_eq!(ask(&mut world, job, 2, AgentCall::Remaining), Some(AgentReply::Stopped));
    world.run_for(Duration::from_secs(10));
    world.reap();
    world.finish();
}

#[test]
fn open_calls_have_a_bound() {
    let mut world = World::configured(7, |config| config.limits.delivery.open_calls_per_job = 2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    world.store.broken = true;
    assert_eq!((ask(&mut world, job, 1, log()), ask(&mut world, job, 2, log())), (None, None));
    let (code, message) = refused(ask(&mut world, job, 3, log()));
    assert_eq!(code, ErrorCode::ResourceExhausted);
    assert!(message.starts_with("2 calls"), "{message}");
    world.store.broken = false;
    world.settle();
    assert_eq!(ask(&mut world, job, 3, log()), None);
    assert!(refused(ask(&mut world, job, 3, log())).1.contains("choose another"), "an id stands for one open call");
    world.settle();
    assert_eq!(world.replies.len(), 5);
    assert_eq!(raw.take(&world).len(), 3, "the refused ones are not shown");
    world.finish();
}

#[test]
fn a_call_that_leaves_no_record_has_its_credit_back_at_once() {
    for credit in 1..4 {
        let mut world = World::configured(8, |config| {
            *config = std::mem::replace(config, arcp_proto::runtime::Config::new("w", "1")).with_agent("asker", &[]);
            config.limits.delivery.agent_credit = credit;
        });
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "asker", "input": {"count": 3}}));
        let frames = raw.until_end(&mut world);
        assert_eq!(frames.last().expect("an end")["type"], "job.result");
        assert_eq!(world.replies.len(), 5 * 3);
        world.finish();
    }
}

#[test]
fn what_an_agent_was_told_is_kept_is_kept_whatever_happens() {
    for seed in 0..20 {
        let mut world = World::configured(seed, |config| {
            *config = std::mem::replace(config, arcp_proto::runtime::Config::new("w", "1")).with_agent("asker", &[]);
            config.restartable_agents.insert("asker".into());
        });
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "asker", "input": {"count": 30}}));
        let span = Duration::from_micros(200_000 + world.below(700_000));
        world.run_for(span);
        let kept = world.replies.iter().filter(|(_, reply)| matches!(reply, AgentReply::Taken { .. })).count();
        world.crash();
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
        back.expect(&mut world, "session.welcome");
        let frames = back.until_end(&mut world);
        assert!(kept > 0 && frames.len() >= kept, "seed {seed}");
        assert!(world.started.last().is_some_and(|spec| spec.checkpoint.is_some()), "seed {seed}");
        world.finish();
    }
}
