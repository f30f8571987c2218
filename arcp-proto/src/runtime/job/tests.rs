//! Jobs by themselves: nothing but a context is needed.

use alloc::collections::BTreeSet;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use super::{ChunkTerms, JobState, Jobs, Submission, SubmitContext, Wait};
use crate::entropy::Seeds;
use crate::error::ErrorCode;
use crate::id::{CallId, JobId, LogPos, Principal, SessionId, WireId};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::event::{JobEvent, Terminal};
use crate::model::job::FinalStatus;
use crate::model::request::{Invocation, Submit};
use crate::runtime::Config;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{AgentCall, AgentExit, Batch, ChunkData, EventRecord, Output};
use crate::runtime::log::Waiter;
use crate::time::{Now, Timestamp, UtcMs};

const TERMS: ChunkTerms = ChunkTerms { frame_bytes: 1 << 20, owners_read_pieces: true, watchers_read_pieces: true };

fn context(change: impl Fn(&mut Config)) -> Context {
    let mut config = Config::new("t", "1").with_agent("it", &[]);
    change(&mut config);
    Context::new(config, &Seeds { public: [1; 32], secret: [2; 32] }, Now::default()).expect("it works")
}

fn at(ctx: &mut Context, seconds: u64) {
    ctx.advance(Now { mono: Timestamp(seconds * 1_000_000), utc: UtcMs(seconds * 1000) });
}

fn session() -> SessionId {
    SessionId::from_ulid(ulid::Ulid::from_parts(1, 1))
}

fn accept(jobs: &mut Jobs, ctx: &mut Context, max_runtime: Option<NonZeroU32>) -> JobId {
    let (request, principal) = (WireId::new("1").expect("an id"), Principal::new("p").expect("a name"));
    let submit = Submit {
        agent: AgentRef::parse("it").expect("a name"),
        input: None,
        lease_request: None,
        lease_constraints: None,
        key: None,
        max_runtime,
        parent: None,
        trace: None,
    };
    let asked = SubmitContext {
        submit: &submit,
        invocation: &Invocation::default(),
        command: [0; 32],
        request: &request,
        id_is_of_principal: false,
        principal: &principal,
        session: session(),
    };
    match jobs.check(ctx, asked).expect("it may be accepted") {
        Submission::New(new) => jobs.accept(ctx, asked, new),
        Submission::Known(job) => job,
    }
}

/// What was appended is durable: does what follows, with `reader` far behind.
fn settle(jobs: &mut Jobs, ctx: &mut Context, reader: Option<SessionId>) {
    loop {
        while let Some(effect) = ctx.next_effect() {
            if let Effect::StartAgent(job) = effect {
                jobs.start_agent(ctx, job, reader);
            } else if let Effect::JobEnded(job) = effect {
                jobs.table_mut().settle(job);
                jobs.fill_slots(ctx);
            }
        }
        ctx.seal();
        match ctx.poll_output() {
            Some(Output::Persist(batch)) => on_persisted(jobs, ctx, &batch, reader),
            Some(_) => {}
            None => return,
        }
    }
}

fn on_persisted(jobs: &mut Jobs, ctx: &mut Context, batch: &Batch, reader: Option<SessionId>) {
    let (awake, calls) = ctx.log.persisted(batch.last());
    for waiter in awake {
        match waiter {
            Waiter::Job(job) => jobs.on_durable(ctx, job),
            Waiter::Agent(job) => jobs.table_mut().on_answer_durable(ctx, job),
            Waiter::Conn(_) | Waiter::Session(_) => {}
        }
    }
    for job in jobs.table_mut().on_calls_durable(&calls) {
        jobs.return_credit(ctx, job, reader);
    }
}

fn call(jobs: &mut Jobs, ctx: &mut Context, job: JobId, call: AgentCall) {
    jobs.on_agent_call(ctx, job, None, call, |_| TERMS);
}

fn say() -> AgentCall {
    let body = Json::parse(r#"{"level":"info","message":"m"}"#).expect("JSON");
    AgentCall::Emit { kind: "log".to_string(), body }
}

/// A job whose agent runs.
fn running(ctx: &mut Context, jobs: &mut Jobs, max_runtime: Option<NonZeroU32>) -> JobId {
    let job = accept(jobs, ctx, max_runtime);
    settle(jobs, ctx, None);
    assert_eq!(jobs.get(job).map(|job| &job.state), Some(&JobState::Running));
    job
}

/// Brings a job to wait for this; gives it.
fn waits_for(ctx: &mut Context, jobs: &mut Jobs, wait: Wait) -> JobId {
    match wait {
        Wait::Store => accept(jobs, ctx, None),
        Wait::Slot => {
            running(ctx, jobs, None);
            let job = accept(jobs, ctx, None);
            settle(jobs, ctx, None);
            job
        }
        Wait::Reader(session) => {
            let job = accept(jobs, ctx, None);
            settle(jobs, ctx, Some(session));
            job
        }
        Wait::Pace => {
            let job = running(ctx, jobs, None);
            jobs.table_mut().set_pace(ctx, job, Some(Duration::from_secs(1)));
            for _ in 0..2 {
                call(jobs, ctx, job, say());
                settle(jobs, ctx, None);
            }
            job
        }
        Wait::Silence => {
            let job = running(ctx, jobs, None);
            at(ctx, 1000);
            jobs.on_agent_silence(ctx, job, true);
            job
        }
        Wait::Answer => {
            let job = running(ctx, jobs, None);
            jobs.on_agent_call(ctx, job, Some(CallId(1)), say(), |_| TERMS);
            job
        }
    }
}

/// What it waited for comes.
fn wake(ctx: &mut Context, jobs: &mut Jobs, job: JobId, wait: Wait) {
    match wait {
        Wait::Store | Wait::Answer => settle(jobs, ctx, None),
        Wait::Slot => {
            let first = jobs.table().ids().next().expect("it holds the slot");
            let done = AgentExit::Success { result: None, summary: None };
            jobs.on_agent_exited(ctx, first, done, |_| TERMS);
            settle(jobs, ctx, None);
        }
        Wait::Reader(_) => jobs.return_credit(ctx, job, None),
        Wait::Pace => {
            at(ctx, 2000);
            assert!(ctx.timers.pop_due(ctx.now.mono, false).is_some(), "its pace");
            jobs.return_credit(ctx, job, None);
        }
        Wait::Silence => call(jobs, ctx, job, AgentCall::Heartbeat),
    }
}

#[test]
fn every_wait_is_over_when_its_waker_comes() {
    for wait in [Wait::Store, Wait::Slot, Wait::Reader(session()), Wait::Pace, Wait::Silence, Wait::Answer] {
        let mut ctx = context(|config| {
            config.limits.job.running_jobs = 1;
            config.limits.delivery.agent_credit = if wait == Wait::Answer { 2 } else { 1 };
            config.timing.heartbeat = (wait == Wait::Silence).then_some(Duration::from_secs(30));
        });
        let mut jobs = Jobs::default();
        let job = waits_for(&mut ctx, &mut jobs, wait);
        let waits = |jobs: &Jobs| jobs.get(job).map(|job| job.run.waits.clone());
        assert_eq!((waits(&jobs), jobs.waits()), (Some(BTreeSet::from([wait])), alloc::vec![(job, wait)]));
        wake(&mut ctx, &mut jobs, job, wait);
        assert_eq!((waits(&jobs), jobs.waits()), (Some(BTreeSet::new()), Vec::new()), "{wait:?}");
    }
}

#[test]
fn a_job_ends_by_the_first_cause_that_holds() {
    let limit = NonZeroU32::new(10);
    let code_after = |act: &dyn Fn(&mut Jobs, &mut Context, JobId)| {
        let mut ctx = context(|config| config.timing.heartbeat = None);
        let mut jobs = Jobs::default();
        let job = running(&mut ctx, &mut jobs, limit);
        act(&mut jobs, &mut ctx, job);
        settle(&mut jobs, &mut ctx, None);
        let ended = jobs.get(job).expect("it is kept");
        let last = ended.event(ended.count()).expect("it is held");
        let JobEvent::Ended(terminal) = &*last.event else {
            panic!("not the end: {:?}", last.event);
        };
        (terminal.status, terminal.error.as_ref().map(|error| error.code.clone()))
    };
    let success = || AgentExit::Success { result: None, summary: None };
    let cancel = |jobs: &mut Jobs, ctx: &mut Context, job| jobs.cancel(ctx, job, None, Duration::from_secs(30));
    let exit = |jobs: &mut Jobs, ctx: &mut Context, job| jobs.on_agent_exited(ctx, job, success(), |_| TERMS);

    assert_eq!(code_after(&exit), (FinalStatus::Success, None));
    let limited = code_after(&|jobs, ctx, job| {
        jobs.on_max_runtime(ctx, job);
        exit(jobs, ctx, job);
    });
    assert_eq!(limited.1, Some(ErrorCode::Timeout), "before what its agent does");
    let cancelled = code_after(&|jobs, ctx, job| {
        cancel(jobs, ctx, job);
        jobs.on_max_runtime(ctx, job);
    });
    assert_eq!(cancelled.1, Some(ErrorCode::Cancelled), "before its time limit");
    let forced = code_after(&|jobs, ctx, job| {
        cancel(jobs, ctx, job);
        jobs.on_cancel_grace_over(ctx, job);
        exit(jobs, ctx, job);
    });
    assert_eq!(forced.1, Some(ErrorCode::Aborted), "and it ends once");
}

#[test]
fn what_is_not_numbered_yet_stays_in_memory() {
    let mut ctx = context(|config| {
        config.limits.history.job_events = 16;
        config.limits.history.log_bytes = 8000;
    });
    let mut jobs = Jobs::default();
    let job = running(&mut ctx, &mut jobs, None);
    let terms = ChunkTerms { frame_bytes: 1024 + 100, ..TERMS };
    let data = ChunkData::Text("x".repeat(2000));
    jobs.on_agent_call(&mut ctx, job, None, AgentCall::Chunk { data, more: false }, |_| terms);
    let held = |jobs: &Jobs| jobs.get(job).map(|job| (job.first_held(), job.count()));
    assert_eq!(held(&jobs), Some((1, 21)));
    jobs.table_mut().bound(&mut ctx, job, (u64::MAX, 3), |_| false);
    assert_eq!(held(&jobs), Some((3, 21)), "from 3 on nobody was told");
    jobs.table_mut().bound(&mut ctx, job, (u64::MAX, 12), |_| false);
    assert_eq!(held(&jobs), Some((6, 21)));
}

#[test]
fn what_a_store_gives_back_after_the_end_of_a_job_changes_nothing() {
    let mut ctx = context(|_| {});
    let mut jobs = Jobs::default();
    let job = accept(&mut jobs, &mut ctx, None);
    let ended = JobEvent::Ended(Terminal::success(None, None));
    for n in 1..=3 {
        let record = EventRecord { n, at: UtcMs(n), thoughts: 0, event: Arc::new(ended.clone()) };
        jobs.restore_event(&ctx, job, LogPos(10 + n), record);
        let restored = jobs.get(job).expect("it is kept");
        assert_eq!((restored.count(), restored.end().map(|end| end.at)), (1, Some(UtcMs(1))));
        assert_eq!(jobs.counts().unfinished, 0);
    }
}

#[test]
fn an_event_that_is_nested_too_deep_to_be_read_again_is_dropped_and_said_so() {
    let (mut ctx, mut jobs) = (context(|_| {}), Jobs::default());
    let job = running(&mut ctx, &mut jobs, None);
    let deep = alloc::format!("{}{}", "[".repeat(Json::MAX_DEPTH), "]".repeat(Json::MAX_DEPTH));
    let mut body = crate::json::Object::new();
    body.str("level", "info").str("message", "m").raw("attributes", &alloc::format!("{{\"data\":{deep}}}"));
    call(&mut jobs, &mut ctx, job, AgentCall::Emit { kind: "log".to_string(), body: body.json() });
    let count = jobs.get(job).map_or(0, super::Job::count);
    let event = jobs.get(job).and_then(|job| job.event(count)).map(|stored| stored.event.clone());
    let Some(JobEvent::Emitted { body, .. }) = event.as_deref() else { panic!("{event:?}") };
    assert!(body.as_str().contains("dropped") && body.as_str().contains("nested"), "{body}");
}
