//! Tests of jobs alone, which need nothing but a context.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use super::{ChunkTerms, JobState, Jobs, Submission, SubmitContext, Wait};
use super::{interrupt, prompt, slots};
use crate::entropy::Seeds;
use crate::error::{ErrorCode, Violation};
use crate::id::{CallId, JobId, LogPos, Principal, PromptId, SessionId, WireId};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::event::{EventKind, JobEvent, Terminal};
use crate::model::job::{FinalStatus, JobStatus};
use crate::model::prompt::{PromptAnswer, Question};
use crate::model::request::{Invocation, Submit};
use crate::policy::Roles;
use crate::runtime::Config;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::few::Few;
use crate::runtime::io::{
    AgentCall, AgentExit, Batch, ChunkData, EventRecord, Input, InputFault, KeyRecord, Output, Record,
};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;
use crate::time::{Now, Timestamp, UtcMs};

const TERMS: ChunkTerms = ChunkTerms { frame_bytes: 1 << 20, owners_read_pieces: true, watchers_read_pieces: true };

pub(super) fn context(change: impl Fn(&mut Config)) -> Context {
    let mut config = Config::new("t", "1").with_agent("it", &[]);
    change(&mut config);
    Context::new(config, &Seeds { public: [1; 32], secret: [2; 32] }, Now::default()).expect("it works")
}

fn at(ctx: &mut Context, seconds: u64) {
    ctx.advance(Now { mono: Timestamp(seconds * 1_000_000), utc: UtcMs(seconds * 1000) }, &Input::Tick);
}

fn session() -> SessionId {
    SessionId::from_ulid(ulid::Ulid::from_parts(1, 1))
}

fn accept(jobs: &mut Jobs, ctx: &mut Context, max_runtime: Option<NonZeroU32>) -> JobId {
    accept_of(jobs, ctx, max_runtime, &Principal::new("p").expect("a name"))
}

fn accept_of(jobs: &mut Jobs, ctx: &mut Context, max_runtime: Option<NonZeroU32>, principal: &Principal) -> JobId {
    try_accept(jobs, ctx, max_runtime, principal).expect("it may be accepted")
}

fn try_accept(
    jobs: &mut Jobs,
    ctx: &mut Context,
    max_runtime: Option<NonZeroU32>,
    principal: &Principal,
) -> Result<JobId, Violation> {
    let request = WireId::new("1").expect("an id");
    let submit = Submit {
        agent: AgentRef::parse("it").expect("a name"),
        input: None,
        lease_request: None,
        lease_constraints: None,
        key: None,
        max_runtime,
        parent: None,
        delegate_id: None,
        trace: None,
    };
    let roles = Roles::default();
    let asked = SubmitContext {
        roles: &roles,
        id: None,
        submit: &submit,
        invocation: &Invocation::default(),
        command: Some([0; 32]),
        request: &request,
        id_is_of_principal: false,
        principal,
        session: session(),
        parent: None,
        features: Default::default(),
        ceilings: [None; 2],
        firing: None,
        begins: None,
    };
    Ok(match jobs.check(ctx, asked)? {
        Submission::New(new) => {
            let job = jobs.accept(ctx, asked, new);
            slots::start_accepted(jobs, ctx, job);
            job
        }
        Submission::Known(job) => job,
    })
}

/// Makes everything durable and carries out the effects. `reader` is a session that is far behind.
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
    let calls = ctx.log.persisted(batch.last());
    while let Some(waiter) = ctx.log.next_awake() {
        match waiter {
            Waiter::Job(job) => jobs.on_durable(ctx, job),
            Waiter::Agent(job) => jobs.table_mut().on_answer_durable(ctx, job),
            Waiter::Conn(_) | Waiter::Session(_) | Waiter::Credentials(_) | Waiter::Departure(_) => {}
        }
    }
    for job in jobs.table_mut().on_calls_durable(calls) {
        jobs.return_credit(ctx, job, reader);
    }
}

fn call(jobs: &mut Jobs, ctx: &mut Context, job: JobId, call: AgentCall) {
    jobs.on_agent_calls(ctx, (job, None), &mut [call].into_iter(), |_| TERMS);
}

fn say() -> AgentCall {
    let body = Json::parse(r#"{"level":"info","message":"m"}"#).expect("JSON");
    AgentCall::Emit { kind: EventKind::Log, body }
}

/// A job whose agent runs.
pub(super) fn running(ctx: &mut Context, jobs: &mut Jobs, max_runtime: Option<NonZeroU32>) -> JobId {
    let job = accept(jobs, ctx, max_runtime);
    settle(jobs, ctx, None);
    assert_eq!(jobs.get(job).map(|job| &job.state), Some(&JobState::Running));
    job
}

/// A job that waits for `wait`.
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
        Wait::Child(_) => unreachable!("a family takes more than this table"),
        Wait::Departure => unreachable!("another runtime takes a host: `departures.rs` of the suite"),
        Wait::Artifact => unreachable!("bytes take a host: `artifacts.rs` of the suite"),
        Wait::Delegation => unreachable!("a family takes more than this table: `deferred_children.rs` of the suite"),
        Wait::StreamPace => unreachable!("a reader asks for it: `streams.rs` of the suite"),
        Wait::Retry | Wait::Room => unreachable!("steps take a workflow: `workflow_ends.rs` of the suite"),
        Wait::Backlog => unreachable!("it takes more than this table: `shares.rs` of the suite"),
        Wait::Revocation | Wait::Renewal => unreachable!("credentials take a host: `credentials.rs` of the suite"),
        Wait::Answer => {
            let job = running(ctx, jobs, None);
            jobs.on_agent_calls(ctx, (job, Some(CallId(1))), &mut [say()].into_iter(), |_| TERMS);
            job
        }
        Wait::Interrupt => {
            let job = running(ctx, jobs, None);
            interrupt::interrupt(jobs, ctx, job, "why?", "alice");
            settle(jobs, ctx, None);
            job
        }
        Wait::Check | Wait::Prompt => {
            let job = running(ctx, jobs, None);
            let schema = if wait == Wait::Check { r#"{"type":"string"}"# } else { "{}" };
            let schema = Json::parse(schema).expect("JSON");
            let question = Question::Input { prompt: "who?".into(), schema, default: None };
            let ask = AgentCall::Ask { question: Box::new(question), timeout_ms: None };
            jobs.on_agent_calls(ctx, (job, Some(CallId(1))), &mut [ask].into_iter(), |_| TERMS);
            if wait == Wait::Prompt {
                settle(jobs, ctx, None);
            } else if let Some(Effect::Checking { op, job }) = ctx.next_effect() {
                prompt::begin_check(jobs, ctx, op, job);
            }
            job
        }
    }
}

/// Ends this wait.
fn wake(ctx: &mut Context, jobs: &mut Jobs, job: JobId, wait: Wait) {
    match wait {
        Wait::Store | Wait::Answer => settle(jobs, ctx, None),
        Wait::Slot => {
            let first = jobs.table().ids().next().expect("it holds the slot");
            let done = AgentExit::Success { result: None, summary: None };
            jobs.on_agent_exited(ctx, first, (done, None), |_| TERMS);
            settle(jobs, ctx, None);
        }
        Wait::Reader(_) => jobs.return_credit(ctx, job, None),
        Wait::Pace => {
            at(ctx, 2000);
            assert!(ctx.timers.pop_due(ctx.now.mono, Timestamp(0)).is_some(), "its pace");
            jobs.return_credit(ctx, job, None);
        }
        Wait::Silence => call(jobs, ctx, job, AgentCall::Heartbeat),
        Wait::Interrupt => {
            call(jobs, ctx, job, AgentCall::GoOn { interrupt: Some(1) });
            settle(jobs, ctx, None);
        }
        Wait::Child(_) => unreachable!("a family takes more than this table: `delegation.rs` of the suite"),
        Wait::Departure => unreachable!("another runtime takes a host: `departures.rs` of the suite"),
        Wait::Artifact => unreachable!("bytes take a host: `artifacts.rs` of the suite"),
        Wait::Delegation => unreachable!("a family takes more than this table: `deferred_children.rs` of the suite"),
        Wait::StreamPace => unreachable!("a reader asks for it: `streams.rs` of the suite"),
        Wait::Retry | Wait::Room => unreachable!("steps take a workflow: `workflow_ends.rs` of the suite"),
        Wait::Backlog => unreachable!("it takes more than this table: `shares.rs` of the suite"),
        Wait::Revocation | Wait::Renewal => unreachable!("credentials take a host: `credentials.rs` of the suite"),
        Wait::Check => {
            let fault = InputFault { pointer: String::new(), reason: "no schema".into() };
            let asked = core::iter::from_fn(|| ctx.poll_output());
            let op = asked.filter_map(|asked| if let Output::CheckValue { op, .. } = asked { Some(op) } else { None });
            let op = op.last().expect("it is checked");
            prompt::on_question_checked(jobs, ctx, op, Some(&fault));
        }
        Wait::Prompt => {
            let id = PromptId { job, number: 1 };
            let nobody = SessionId::from_ulid(ulid::Ulid::nil());
            let who = prompt::Answerer { by: "alice", session: nobody, until: None };
            prompt::answer(jobs, ctx, id, PromptAnswer::Value(Json::null()), who);
            settle(jobs, ctx, None);
        }
    }
}

#[test]
fn every_wait_is_over_when_its_waker_comes() {
    for wait in [
        Wait::Store,
        Wait::Slot,
        Wait::Reader(session()),
        Wait::Pace,
        Wait::Silence,
        Wait::Answer,
        Wait::Check,
        Wait::Prompt,
        Wait::Interrupt,
    ] {
        let mut ctx = context(|config| {
            config.limits.job.running_jobs = 1;
            let calls = matches!(wait, Wait::Answer | Wait::Check | Wait::Prompt);
            config.limits.delivery.agent_credit = if calls { 3 } else { 1 };
            config.timing.heartbeat = (wait == Wait::Silence).then_some(Duration::from_secs(30));
        });
        let mut jobs = Jobs::default();
        let job = waits_for(&mut ctx, &mut jobs, wait);
        let waits = |jobs: &Jobs| jobs.get(job).map(|job| job.run.waits.clone());
        assert_eq!((waits(&jobs), jobs.waits()), (Some(Few::of(wait)), alloc::vec![(job, wait)]));
        wake(&mut ctx, &mut jobs, job, wait);
        assert_eq!((waits(&jobs), jobs.waits()), (Some(Few::default()), Vec::new()), "{wait:?}");
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
    let exit = |jobs: &mut Jobs, ctx: &mut Context, job| jobs.on_agent_exited(ctx, job, (success(), None), |_| TERMS);

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
    let piece = AgentCall::Chunk { data, more: false };
    jobs.on_agent_calls(&mut ctx, (job, None), &mut [piece].into_iter(), |_| terms);
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
    ctx.config.limits.job.running_jobs = 0;
    let mut jobs = Jobs::default();
    let job = accept(&mut jobs, &mut ctx, None);
    let ended = JobEvent::Ended(Box::new(Terminal::success(None, None)));
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
    call(&mut jobs, &mut ctx, job, AgentCall::Emit { kind: EventKind::Log, body: body.json() });
    let count = jobs.get(job).map_or(0, super::Job::count);
    let event = jobs.get(job).and_then(|job| job.event(count)).map(|stored| stored.event.clone());
    let Some(JobEvent::Emitted { body, .. }) = event.as_deref() else { panic!("{event:?}") };
    assert!(body.as_str().contains("dropped") && body.as_str().contains("nested"), "{body}");
}

/// A job with this many events, all of them durable.
fn with_events(ctx: &mut Context, jobs: &mut Jobs, events: u64) -> JobId {
    let job = running(ctx, jobs, None);
    while jobs.get(job).is_some_and(|job| job.count() < events) {
        call(jobs, ctx, job, say());
        settle(jobs, ctx, None);
    }
    job
}

/// Such a job that has ended.
fn ended(ctx: &mut Context, jobs: &mut Jobs, events: u64) -> JobId {
    let job = with_events(ctx, jobs, events - 1);
    jobs.on_agent_exited(ctx, job, (AgentExit::Success { result: None, summary: None }, None), |_| TERMS);
    settle(jobs, ctx, None);
    job
}

/// The first event of a job in memory, and the first that is kept.
fn first_of(jobs: &Jobs, job: JobId) -> (u64, u64) {
    jobs.get(job).map(|job| (job.first_held(), job.history().first())).expect("it is kept")
}

fn weights(jobs: &Jobs, job: JobId) -> usize {
    let job = jobs.get(job).expect("it is kept");
    (1..=job.count()).filter_map(|n| job.event(n)).map(super::Stored::weight).sum()
}

#[test]
fn the_bytes_of_all_events_are_those_of_each() {
    let mut ctx = context(|config| config.history = true);
    let mut jobs = Jobs::default();
    let (first, second) = (with_events(&mut ctx, &mut jobs, 10), with_events(&mut ctx, &mut jobs, 7));
    let kept = |jobs: &Jobs| usize::try_from(jobs.table().kept_bytes()).expect("small");
    let (all, of_second) = (weights(&jobs, first) + weights(&jobs, second), weights(&jobs, second));
    assert_eq!((jobs.table().bytes(), kept(&jobs)), (all, all));
    ctx.config.limits.history.job_events = 4;
    jobs.table_mut().bound(&mut ctx, first, (u64::MAX, u64::MAX), |_| false);
    assert_eq!(first_of(&jobs, first), (7, 1));
    assert_eq!((jobs.table().bytes(), kept(&jobs)), (weights(&jobs, first) + of_second, all));
    jobs.remove(first);
    assert_eq!((jobs.table().bytes(), kept(&jobs)), (of_second, of_second));
    jobs.remove(second);
    assert_eq!((jobs.table().bytes(), kept(&jobs)), (0, 0));
}

#[test]
fn what_fits_exactly_stays() {
    type Bound = fn(&mut Context, usize);
    let in_store: [Bound; 3] = [
        |ctx, less| ctx.config.limits.history.kept_bytes -= less as u64,
        |ctx, less| ctx.config.limits.history.kept_job_events -= less,
        |ctx, less| ctx.config.limits.history.kept_job_bytes -= less,
    ];
    let in_memory: [Bound; 3] = [
        |ctx, less| ctx.config.limits.history.log_bytes -= less,
        |ctx, less| ctx.config.limits.history.job_events -= less,
        |ctx, less| ctx.config.limits.history.job_event_bytes -= less,
    ];
    for (history, bound) in in_store.map(|bound| (true, bound)).into_iter().chain(in_memory.map(|bound| (false, bound)))
    {
        let mut ctx = context(|config| {
            config.history = history;
            config.limits.history.kept_job_events = 16;
        });
        let mut jobs = Jobs::default();
        let job = with_events(&mut ctx, &mut jobs, 20);
        let bytes = jobs.table().bytes();
        let limits = &mut ctx.config.limits.history;
        (limits.kept_bytes, limits.kept_job_events, limits.kept_job_bytes) = (bytes as u64, 20, bytes);
        (limits.log_bytes, limits.job_events, limits.job_event_bytes) = (bytes, 20, bytes);
        jobs.table_mut().bound(&mut ctx, job, (u64::MAX, u64::MAX), |_| false);
        assert!(!jobs.table().is_beyond(&ctx, job));
        assert_eq!(first_of(&jobs, job), (1, 1));
        bound(&mut ctx, 1);
        assert!(jobs.table().is_beyond(&ctx, job));
        jobs.table_mut().bound(&mut ctx, job, (u64::MAX, u64::MAX), |_| false);
        assert_eq!(first_of(&jobs, job), if history { (1, 17) } else { (2, 2) }, "a group, or one event");
    }
}

#[test]
fn what_everybody_has_goes_a_group_at_a_time_when_its_resume_window_is_over() {
    let mut ctx = context(|config| {
        config.history = true;
        config.timing.resume_window = Duration::from_secs(80);
        config.limits.history.kept_job_events = 16;
    });
    let mut jobs = Jobs::default();
    let job = with_events(&mut ctx, &mut jobs, 16);
    let purge = Timer::Purge(job);
    let due = |ctx: &Context| ctx.timers.at(purge).map(|at| at.since(ctx.now.mono));
    jobs.table_mut().plan_purge(&mut ctx, job);
    assert_eq!(due(&ctx), None, "the only group stays");
    while jobs.get(job).is_some_and(|job| job.count() < 41) {
        call(&mut jobs, &mut ctx, job, say());
        settle(&mut jobs, &mut ctx, None);
    }
    jobs.table_mut().on_grown(&mut ctx, job, 21);
    assert_eq!((first_of(&jobs, job), due(&ctx)), ((21, 1), Some(Duration::from_secs(10))));
    at(&mut ctx, 4);
    jobs.table_mut().on_grown(&mut ctx, job, 21);
    assert_eq!(due(&ctx), Some(Duration::from_secs(6)), "that is not put off");
    jobs.table_mut().on_purge(&mut ctx, job, 21);
    assert_eq!((first_of(&jobs, job), due(&ctx)), ((21, 1), Some(Duration::from_secs(10))));
    at(&mut ctx, 80);
    ctx.log.failed = true;
    jobs.table_mut().on_purge(&mut ctx, job, 21);
    assert_eq!(first_of(&jobs, job), (21, 1), "what the store cannot delete stays");
    ctx.log.failed = false;
    jobs.table_mut().on_purge(&mut ctx, job, 21);
    assert_eq!((first_of(&jobs, job), due(&ctx)), ((21, 17), Some(Duration::from_millis(10))));
    assert!(matches!(ctx.log.open(), [Record::HistoryTrimmed { upto: 16, started: Some(_), .. }]), "the store is told");
    jobs.table_mut().on_purge(&mut ctx, job, u64::MAX);
    assert_eq!(first_of(&jobs, job), (41, 33));
    ctx.timers.clear(purge);
    jobs.table_mut().on_purge(&mut ctx, job, u64::MAX);
    assert_eq!((first_of(&jobs, job), due(&ctx)), ((41, 33), None), "the last group stays");
}

#[test]
fn events_of_a_job_that_is_over_go_from_memory_only() {
    for history in [true, false] {
        let mut ctx = context(|config| {
            config.history = history;
            config.timing.resume_window = Duration::from_secs(80);
            config.limits.history.kept_job_events = 16;
        });
        let mut jobs = Jobs::default();
        let job = ended(&mut ctx, &mut jobs, 40);
        let purge = Timer::Purge(job);
        at(&mut ctx, 80);
        jobs.table_mut().plan_purge(&mut ctx, job);
        assert_eq!(ctx.timers.is_set(purge), history, "without a store all of them stay");
        ctx.timers.clear(purge);
        jobs.table_mut().on_purge(&mut ctx, job, 30);
        assert_eq!((first_of(&jobs, job), ctx.timers.is_set(purge)), ((if history { 30 } else { 1 }, 1), history));
        ctx.timers.clear(purge);
        jobs.table_mut().on_purge(&mut ctx, job, u64::MAX);
        let last = if history { 40 } else { 1 };
        assert_eq!((first_of(&jobs, job), ctx.timers.is_set(purge)), ((last, 1), false), "the end is held");
    }
}

#[test]
fn what_the_store_keeps_too_much_of_goes_from_the_job_that_ended_first() {
    let mut ctx = context(|config| {
        config.history = true;
        config.limits.history.kept_job_events = 16;
    });
    let mut jobs = Jobs::default();
    let first = ended(&mut ctx, &mut jobs, 20);
    let second = ended(&mut ctx, &mut jobs, 20);
    let growing = with_events(&mut ctx, &mut jobs, 40);
    ctx.config.limits.history.kept_job_events = 40;
    // One byte too many; gives the first kept event of each.
    let mut trimmed = |ctx: &mut Context, unsent| {
        ctx.config.limits.history.kept_bytes = jobs.table().kept_bytes() - 1;
        jobs.table_mut().bound(ctx, growing, (unsent, u64::MAX), |_| false);
        [first, second, growing].map(|job| first_of(&jobs, job).1)
    };
    assert_eq!(trimmed(&mut ctx, u64::MAX), [17, 1, 1]);
    assert_eq!(trimmed(&mut ctx, u64::MAX), [17, 17, 1], "the last group of a job stays");
    assert_eq!(trimmed(&mut ctx, 16), [17, 17, 1], "what was not sent stays");
    assert_eq!(trimmed(&mut ctx, 17), [17, 17, 17]);
    ctx.config.limits.history.kept_job_events = 23;
    assert_eq!(trimmed(&mut ctx, u64::MAX), [17, 17, 33], "and within its own bound");
    assert_eq!(trimmed(&mut ctx, u64::MAX), [17, 17, 33]);
}

#[test]
fn the_job_that_ended_first_is_forgotten_for_a_byte_too_much_unless_it_has_just_come_to_its_end() {
    let mut ctx = context(|config| config.history = true);
    let mut jobs = Jobs::default();
    let [first, _] = [(); 2].map(|()| ended(&mut ctx, &mut jobs, 5));
    let kept = jobs.table().kept_bytes() + jobs.table.input_bytes;
    assert!(jobs.table.input_bytes > 0);
    let goes = [(0, None), (1, None), (1, Some(first))].map(|(less, but)| {
        ctx.config.limits.history.kept_bytes = kept - less;
        jobs.one_too_heavy(&ctx, but)
    });
    assert_eq!(goes, [None, Some(first), None]);
}

#[test]
fn a_job_that_ends_tells_the_store_what_it_has_so_that_a_restart_need_not_read_it() {
    for history in [true, false] {
        let mut ctx = context(|config| config.history = history);
        let mut jobs = Jobs::default();
        let job = with_events(&mut ctx, &mut jobs, 4);
        jobs.on_agent_exited(&mut ctx, job, (AgentExit::Success { result: None, summary: None }, None), |_| TERMS);
        let told = ctx.log.open().iter().find_map(|record| {
            if let Record::JobHistory { job: of, gone, bytes, .. } = record { Some((*of, *gone, *bytes)) } else { None }
        });
        let bytes = jobs.get(job).map(|job| job.history().bytes()).expect("it is kept");
        assert_eq!(told, history.then_some((job, 0, bytes)));
    }
}

#[test]
fn a_result_after_pieces_of_one_fails_its_job() {
    let (mut ctx, mut jobs) = (context(|_| {}), Jobs::default());
    for pieces in [false, true] {
        let job = running(&mut ctx, &mut jobs, None);
        if pieces {
            call(&mut jobs, &mut ctx, job, AgentCall::Chunk { data: ChunkData::Text("a".into()), more: true });
        }
        let exit = AgentExit::Success { result: Some(Json::empty_object()), summary: None };
        jobs.on_agent_exited(&mut ctx, job, (exit, None), |_| TERMS);
        settle(&mut jobs, &mut ctx, None);
        let status = jobs.get(job).and_then(super::Job::end).map(|end| end.status);
        assert_eq!(status, Some(if pieces { FinalStatus::Error } else { FinalStatus::Success }));
        assert_eq!(jobs.put_result_together(job, TERMS), Ok(()), "neither is in pieces");
    }
}

#[test]
fn a_job_that_grows_has_its_own_bound_before_others_lose_anything() {
    let mut ctx = context(|config| {
        config.history = true;
        config.limits.history.kept_job_events = 16;
    });
    let mut jobs = Jobs::default();
    let (first, growing) = (ended(&mut ctx, &mut jobs, 20), with_events(&mut ctx, &mut jobs, 20));
    ctx.config.limits.history.kept_job_events = 19;
    jobs.table_mut().bound(&mut ctx, growing, (17, u64::MAX), |_| false);
    assert_eq!([first, growing].map(|job| first_of(&jobs, job).1), [1, 17]);
}

#[test]
fn without_a_store_what_nobody_is_owed_goes_first() {
    let mut ctx = context(|config| config.history = false);
    let mut jobs = Jobs::default();
    // One more than one search looks at.
    let owed: Vec<JobId> = (0..64).map(|_| ended(&mut ctx, &mut jobs, 2)).collect();
    let (free, growing) = (ended(&mut ctx, &mut jobs, 3), with_events(&mut ctx, &mut jobs, 8));
    let is_owed = |job: JobId| owed.contains(&job);
    let mut bound = |ctx: &mut Context, less, firsts| {
        ctx.config.limits.history.log_bytes = jobs.table().bytes() - less;
        jobs.table_mut().bound(ctx, growing, firsts, is_owed);
        [owed[0], owed[63], free, growing].map(|job| first_of(&jobs, job).0)
    };
    assert_eq!(bound(&mut ctx, 0, (1, u64::MAX)), [1, 1, 1, 1]);
    assert_eq!(bound(&mut ctx, 1, (1, u64::MAX)), [1, 1, 1, 1], "so many were looked at");
    assert_eq!(bound(&mut ctx, 1, (1, u64::MAX)), [1, 1, 4, 1], "those after them the next time");
    assert_eq!(bound(&mut ctx, 1, (3, u64::MAX)), [1, 1, 4, 2], "what everybody has");
    assert_eq!(bound(&mut ctx, 1, (2, u64::MAX)), [1, 1, 4, 2], "so many were looked at");
    assert_eq!(bound(&mut ctx, 1, (2, u64::MAX)), [3, 1, 4, 2], "then what is owed");
}

#[test]
fn an_event_that_a_store_gives_back_twice_is_held_once() {
    for history in [true, false] {
        let (mut ctx, mut jobs) = (context(|config| config.history = history), Jobs::default());
        ctx.config.limits.history.job_events = 4;
        ctx.config.limits.job.running_jobs = 0;
        let job = accept(&mut jobs, &mut ctx, None);
        let body = Json::parse(r#"{"level":"info","message":"m"}"#).expect("JSON");
        let said = Arc::new(JobEvent::Emitted { kind: "log".into(), body });
        let mut give = |n: u64| {
            let record = EventRecord { n, at: UtcMs(n), thoughts: 0, event: said.clone() };
            jobs.restore_event(&ctx, job, LogPos(10 + n), record);
            (jobs.get(job).map_or(0, super::Job::count), first_of(&jobs, job), jobs.table().bytes() / said.weight())
        };
        assert_eq!([give(1), give(1), give(2)], [(1, (1, 1), 1), (1, (1, 1), 1), (2, (1, 1), 2)]);
        for n in 3..=6 {
            give(n);
        }
        let gone = if history { 1 } else { 3 };
        assert_eq!(give(1), (6, (3, gone), 4), "what does not fit is not held");
    }
}

#[test]
fn a_full_table_loses_the_first_of_the_principals_own_jobs_that_ended_or_else_of_all() {
    let (mut ctx, mut jobs) = (context(|_| {}), Jobs::default());
    let principal = |name| Principal::new(name).expect("a name");
    let of = |ctx: &mut Context, jobs: &mut Jobs, name| {
        let job = accept_of(jobs, ctx, None, &principal(name));
        settle(jobs, ctx, None);
        job
    };
    let over = |ctx: &mut Context, jobs: &mut Jobs, job| {
        jobs.on_agent_exited(ctx, job, (AgentExit::Success { result: None, summary: None }, None), |_| TERMS);
        settle(jobs, ctx, None);
    };
    let first = of(&mut ctx, &mut jobs, "q");
    over(&mut ctx, &mut jobs, first);
    let own = of(&mut ctx, &mut jobs, "p");
    jobs.cancel(&mut ctx, own, None, Duration::ZERO);
    jobs.on_cancel_grace_over(&mut ctx, own);
    settle(&mut jobs, &mut ctx, None);
    let goes = |ctx: &Context, jobs: &mut Jobs| ["p", "q", "r"].map(|name| jobs.first_to_forget(ctx, &principal(name)));
    assert_eq!(goes(&ctx, &mut jobs), [None; 3], "there is room");
    ctx.config.limits.job.jobs = 2;
    assert_eq!(goes(&ctx, &mut jobs), [Some(first); 3], "the agent of the other is not gone");
    over(&mut ctx, &mut jobs, own);
    assert_eq!(goes(&ctx, &mut jobs), [Some(own), Some(first), Some(first)]);
}

#[test]
fn inputs_that_wait_fill_their_bound_exactly() {
    let mut ctx = context(|config| config.limits.job.waiting_input_bytes_per_principal = 2 * "{}".len());
    let mut jobs = Jobs::default();
    accept(&mut jobs, &mut ctx, None);
    accept(&mut jobs, &mut ctx, None);
    let refused = try_accept(&mut jobs, &mut ctx, None, &Principal::new("p").expect("a name"));
    assert_eq!(refused.map_err(|why| why.code), Err(ErrorCode::ResourceExhausted));
}

#[test]
fn a_job_waits_in_line_or_runs_since_a_moment_and_its_agent_is_heard_only_then() {
    let mut ctx = context(|config| config.limits.job.running_jobs = 1);
    let mut jobs = Jobs::default();
    at(&mut ctx, 5);
    let first = accept(&mut jobs, &mut ctx, None);
    let count = |jobs: &Jobs, job| jobs.get(job).map(super::Job::count);
    call(&mut jobs, &mut ctx, first, say());
    assert_eq!(count(&jobs, first), Some(1), "its start is not durable, and it says nothing yet");
    settle(&mut jobs, &mut ctx, None);
    let second = accept(&mut jobs, &mut ctx, None);
    settle(&mut jobs, &mut ctx, None);
    let stands = |jobs: &Jobs, job| jobs.get(job).map(|job| (job.state.clone(), job.starts())).expect("it is kept");
    assert_eq!(stands(&jobs, first), (JobState::Running, (Some(UtcMs(5000)), 0)));
    assert_eq!(stands(&jobs, second), (JobState::Queued, (None, 0)));
    let accepted = [first, second].map(|job| jobs.get(job).map(super::Job::accepted_at).expect("it is kept"));
    assert!(LogPos(0) < accepted[0] && accepted[0] < accepted[1]);
    jobs.cancel(&mut ctx, first, Some(""), Duration::from_secs(30));
    let told = |ctx: &mut Context, job| {
        core::iter::from_fn(|| ctx.poll_output())
            .filter(|output| *output == Output::StopAgent { job, force: false })
            .count()
    };
    assert_eq!(told(&mut ctx, first), 1);
    jobs.on_max_runtime(&mut ctx, first);
    assert_eq!(told(&mut ctx, first), 0, "it was told to stop");
    let ended = count(&jobs, first);
    call(&mut jobs, &mut ctx, first, say());
    assert_eq!(count(&jobs, first), ended, "nothing comes after the end");
    let last = jobs.get(first).and_then(|job| job.event(ended?)).map(|stored| stored.event.clone());
    let Some(JobEvent::Ended(terminal)) = last.as_deref() else { panic!("{last:?}") };
    let why = terminal.error.as_ref().map(|error| error.message.as_str());
    assert_eq!(why, Some("cancelled"), "no reason was given");
}

#[test]
fn silence_is_judged_after_two_heartbeats_and_told_once_it_is_durable() {
    let mut ctx = context(|config| {
        config.timing.heartbeat = Some(Duration::from_secs(30));
        config.heartbeat_agents.insert("it".to_string());
    });
    let mut jobs = Jobs::default();
    let job = running(&mut ctx, &mut jobs, None);
    assert_eq!(ctx.timers.at(Timer::AgentSilence(job)), Some(Timestamp(60_000_000)));
    let status = |ctx: &mut Context, jobs: &mut Jobs| jobs.on_heartbeat(ctx, job).map(|beat| beat.status);
    at(&mut ctx, 60);
    jobs.on_agent_silence(&mut ctx, job, true);
    assert_eq!(status(&mut ctx, &mut jobs), Some(JobStatus::Running), "not durable yet");
    settle(&mut jobs, &mut ctx, None);
    assert_eq!(status(&mut ctx, &mut jobs), Some(JobStatus::Blocked));
    call(&mut jobs, &mut ctx, job, AgentCall::Heartbeat);
    assert_eq!(status(&mut ctx, &mut jobs), Some(JobStatus::Blocked), "not durable yet");
    settle(&mut jobs, &mut ctx, None);
    assert_eq!(status(&mut ctx, &mut jobs), Some(JobStatus::Running));
}

#[test]
fn an_agent_that_is_paced_is_granted_nothing_before_its_time_and_one_that_is_gone_never() {
    let mut ctx = context(|config| config.limits.delivery.agent_credit = 1);
    let mut jobs = Jobs::default();
    let job = waits_for(&mut ctx, &mut jobs, Wait::Pace);
    jobs.return_credit(&mut ctx, job, None);
    assert_eq!(ctx.poll_output(), None);
    assert!(jobs.table().is_owed_credit(job));
    wake(&mut ctx, &mut jobs, job, Wait::Pace);
    assert!(matches!(ctx.poll_output(), Some(Output::AgentCredit { calls: 1, .. })));
    assert!(!jobs.table().is_owed_credit(job));
    jobs.table_mut().set_pace(&mut ctx, job, None);
    call(&mut jobs, &mut ctx, job, say());
    jobs.on_agent_exited(&mut ctx, job, (AgentExit::Lost, None), |_| TERMS);
    assert_eq!(jobs.table_mut().on_calls_durable(alloc::vec![job]), [job]);
    assert!(!jobs.table().is_owed_credit(job));
    jobs.return_credit(&mut ctx, job, None);
    let granted = core::iter::from_fn(|| ctx.poll_output()).any(|said| matches!(said, Output::AgentCredit { .. }));
    assert!(!granted, "it is gone");
}

#[test]
fn keys_that_were_over_in_an_earlier_run_make_room() {
    let (mut ctx, mut jobs) = (context(|config| config.limits.job.keys_per_principal = 2), Jobs::default());
    let (principal, job) = (Principal::new("p").expect("a name"), accept(&mut jobs, &mut ctx, None));
    for n in 1..=3 {
        let key = KeyRecord { digest: [n; 32], fingerprint: [0; 32] };
        jobs.keys_mut().restore(&mut ctx, &principal, key, (job, UtcMs(u64::from(n))), true);
    }
    let mut room = |until: u64| {
        jobs.keys_mut().restore_expired(UtcMs(until));
        let left = jobs.keys().claims().map(|(digest, _)| digest[0]).collect::<Vec<u8>>();
        (left, jobs.keys().check_room(&principal, &ctx.config.limits, ctx.now.mono).is_ok())
    };
    assert_eq!(room(1), (alloc::vec![2, 3], false));
    assert_eq!(room(2), (alloc::vec![3], true));
}

#[test]
fn the_start_of_a_job_that_has_a_slot_is_in_the_batch_of_its_acceptance() {
    let (mut ctx, mut jobs) = (context(|_| {}), Jobs::default());
    accept(&mut jobs, &mut ctx, None);
    ctx.seal();
    let outputs = core::iter::from_fn(|| ctx.poll_output());
    let kept = outputs.filter_map(|output| if let Output::Persist(batch) = output { Some(batch) } else { None });
    let [batch] = &kept.collect::<Vec<_>>()[..] else { panic!("all is kept at once") };
    let starts =
        |record: &Record| matches!(record, Record::JobEvent { event, .. } if *event.event == JobEvent::Started);
    let kept: Vec<_> =
        batch.records.iter().map(|record| matches!(record, Record::JobAccepted(_)) || starts(record)).collect();
    assert_eq!(kept, [true; 2], "{batch:?}");
}
