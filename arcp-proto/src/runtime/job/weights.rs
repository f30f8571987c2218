//! The weight of a job is the sum of its parts.

use alloc::boxed::Box;
use alloc::string::String;

use super::deferred::{Call, Deferred, Delegating};
use super::kept_checkpoints::Checkpoints;
use super::open_calls::{OpenCall, OpenCalls};
use super::prompts::{Asked, Checking, Prompts};
use super::run::AgentRun;
use super::streams::Streams;
use super::tests::{context, running};
use super::{Job, JobSpec, Jobs, artifact};
use crate::error::{ErrorCode, Violation};
use crate::id::{CallId, JobId, LogPos, OpId, Principal, SessionId, WireId};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::event::{JobError, JobEvent};
use crate::model::prompt::Question;
use crate::model::request::Invocation;
use crate::runtime::asker::Preparing;
use crate::runtime::checkpoint_records::BegunAt;
use crate::runtime::delegation::Delegation;
use crate::runtime::io::{AgentCall, AgentExit, AgentReply, Firing, JobBounds, KeyRecord, ParentRecord};
use crate::time::{Timestamp, UtcMs};

fn job() -> JobId {
    JobId::from_ulid(ulid::Ulid::from_parts(1, 1))
}

fn open(text: usize) -> OpenCall {
    let reply = AgentReply::Allowed { pattern: "x".repeat(text), reservation: None };
    OpenCall { id: CallId(1), until: LogPos(0), reply }
}

#[test]
fn open_calls_weigh_as_much_as_their_answers_and_who_gives_them() {
    let mut calls = OpenCalls::default();
    assert_eq!(calls.weight(), 0);
    calls.open.extend([open(7), open(5)]);
    let answers = 2 * size_of::<OpenCall>() + 12;
    assert_eq!(calls.weight(), answers);
    calls.awaited.extend([(CallId(2), job()), (CallId(3), job())]);
    assert_eq!(calls.weight(), answers + 128);
    calls.storing.extend([CallId(4), CallId(5), CallId(6)]);
    assert_eq!(calls.weight(), answers + 320);
    calls.deferred = Some(Box::new(deferred()));
    assert_eq!(calls.weight(), answers + 320 + deferred().weight());
}

fn deferred() -> Deferred {
    let child = Delegating { delegation: Delegation::new("echo"), said: Some(Json::empty_object()) };
    Deferred::new(child, (None, 7), Preparing::Input(OpId(1), AgentRef::parse("it").expect("a name")))
}

#[test]
fn a_child_that_waits_weighs_as_much_as_what_is_heard_after_it() {
    let mut waits = deferred();
    let alone = size_of::<Deferred>() + "echo".len() + "{}".len();
    assert_eq!(waits.weight(), alone);
    waits.held.push_back((None, AgentCall::Heartbeat));
    waits.held_bytes = 9;
    let held = alone + size_of::<Call>() + 9;
    assert_eq!(waits.weight(), held);
    let (result, summary) = (Some(Json::empty_object()), Some("abc".into()));
    waits.exit = Some(AgentExit::Success { result, summary: summary.clone() });
    assert_eq!(waits.weight(), held + 5);
    waits.exit = Some(AgentExit::Stored { artifact: WireId::new("art").expect("an id"), summary });
    assert_eq!(waits.weight(), held + 6);
    waits.exit = Some(AgentExit::Failure(JobError::new(ErrorCode::Internal, "boom")));
    assert_eq!(waits.weight(), held + 4 + "INTERNAL_ERROR".len());
    waits.exit = Some(AgentExit::Lost);
    assert_eq!(waits.weight(), held);
}

#[test]
fn prompts_weigh_as_much_as_what_is_checked_and_prolonged() {
    let question = Question::Input { prompt: "x".repeat(9), schema: Json::empty_object(), default: None };
    let checking = |asked| Checking { op: OpId(1), until: Timestamp(0), asked };
    let mut prompts = Prompts::default();
    assert_eq!(prompts.weight(), size_of::<Prompts>());
    prompts.prolonged.extend([(1, UtcMs(1)), (2, UtcMs(1)), (3, UtcMs(1))]);
    let fixed = size_of::<Prompts>() + 3 * size_of::<(u32, UtcMs)>();
    assert_eq!(prompts.weight(), fixed);
    prompts.checking.push(checking(None));
    assert_eq!(prompts.weight(), fixed + size_of::<Checking>());
    prompts.checking.push(checking(Some((CallId(1), Asked { question, timeout: Default::default() }))));
    assert_eq!(prompts.weight(), fixed + 2 * size_of::<Checking>() + 11);
}

#[test]
fn a_run_weighs_as_much_as_its_calls_streams_and_checkpoints() {
    let mut run = AgentRun::default();
    assert_eq!(run.weight(), 0);
    run.checkpoints = Some(Box::new(Checkpoints::default()));
    run.questions.open.push_back(open(7));
    run.sends.streams.sessions.insert(SessionId::from_ulid(ulid::Ulid::from_parts(1, 1)));
    let places = size_of::<Checkpoints>() + size_of::<OpenCalls>() + size_of::<Streams>();
    assert_eq!(run.weight(), places + run.questions.weight() + run.sends.streams.weight());
}

#[test]
fn a_run_weighs_no_more_because_somebody_looked_for_what_it_does_not_have() {
    let (mut ctx, mut jobs) = (context(|_| {}), Jobs::default());
    let job = running(&mut ctx, &mut jobs, None);
    jobs.table_mut().restore_trimmed(job, 0, None, &[]);
    jobs.table_mut().on_answer_durable(&mut ctx, job);
    artifact::answer(&mut jobs, &mut ctx, (job, CallId(1)), Err(Violation::invalid("not now")));
    assert_eq!(jobs.table().get(job).expect("it is there").run.weight(), 0);
}

#[test]
fn what_was_asked_for_weighs_as_much_as_its_texts() {
    let name = |text: &str| WireId::new(text).expect("an id");
    let parent = ParentRecord { job: job(), delegate_id: name("abcdef"), fingerprint: [0; 32] };
    let firing = Firing { schedule: name("daily"), at: UtcMs(1) };
    let bounds = JobBounds {
        parent: Some(Box::new(parent)),
        firing: Some(Box::new(firing)),
        begun_at: Some(Box::new(BegunAt { job: job(), event: 1 })),
        ..JobBounds::default()
    };
    let spec = JobSpec {
        principal: Principal::new("p").expect("a name"),
        agent: AgentRef::parse("it").expect("a name"),
        lease: Json::empty_object(),
        trace: "abc".into(),
        invocation: Invocation { span: Some("x".repeat(16)), ..Invocation::default() },
        created_at: UtcMs(1),
        bounds,
        key: Some(Box::new(KeyRecord { digest: [1; 32], fingerprint: [2; 32] })),
        asked_by: None,
        given_by: None,
    };
    let texts = "it".len() + 4 * "{}".len() + "abc".len() + 16 + "abcdef".len() + "daily".len();
    let boxed = size_of::<ParentRecord>() + size_of::<Firing>() + size_of::<BegunAt>() + size_of::<KeyRecord>();
    assert_eq!(spec.weight(), texts + boxed);
    let bare = JobSpec {
        trace: String::new(),
        invocation: Invocation::default(),
        bounds: JobBounds::default(),
        key: None,
        ..spec
    };
    assert_eq!(bare.weight(), "it".len() + 4 * "{}".len());
}

#[test]
fn what_there_are_many_of_is_small() {
    // Thousands of events are held per job, and every call is passed through many functions.
    assert!(size_of::<JobEvent>() <= 5 * size_of::<u64>(), "{}", size_of::<JobEvent>());
    assert!(size_of::<AgentCall>() <= 13 * size_of::<u64>(), "{}", size_of::<AgentCall>());
    // A job is put into a place of this size.
    assert!(size_of::<Job>() <= 1024, "{}", size_of::<Job>());
}
