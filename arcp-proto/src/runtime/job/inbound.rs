//! Streams that clients open to the agent of a job, if it takes input (RFC §11).
//!
//! The beginning and the end of such a stream are events of the job. Its chunks are not: they go to the agent in
//! memory, at most once, and chunks that the agent has not taken are lost when the runtime ends. A client that gets an
//! `ack` for a chunk knows that the agent has it, or will get it as long as this runtime runs.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::streams::{Inbound, OpenStream, Untaken, over, tell};
use super::{AgentState, Job, JobState, Jobs, check_growth, is_over};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, SessionId, WireId};
use crate::model::event::JobError;
use crate::model::stream::{self, StreamKind, StreamRequest, StreamSaid, StreamTerms};
use crate::runtime::context::Context;
use crate::runtime::io::{INBOUND, StreamWord};

/// Bytes of a chunk besides its data.
const CHUNK: usize = 64;

/// Carries out what a client says in a stream to the agent of a job.
///
/// # Errors
///
/// `UNIMPLEMENTED` if the agent takes no input, `FAILED_PRECONDITION` if it does not run or the stream is not open,
/// `OUT_OF_RANGE` for a chunk out of order, `DATA_LOSS` for data that does not match its digest or encoding,
/// `RESOURCE_EXHAUSTED` at a bound.
pub(in crate::runtime) fn say(
    jobs: &mut Jobs,
    ctx: &mut Context,
    id: JobId,
    session: SessionId,
    request: &StreamRequest,
) -> Result<(), Violation> {
    let job = jobs.table.get(id).ok_or_else(over)?;
    check(job, ctx)?;
    let name = &request.stream;
    let open = |job: &Job| {
        let is_it = |open: &OpenStream| open.inbound.as_ref().is_some_and(|inbound| inbound.is(session, name));
        job.run.sends.streams.open.iter().find(|(_, open)| is_it(open)).map(|(number, _)| *number)
    };
    let number = open(job);
    let done = jobs.table.change(id, |job| match &request.says {
        StreamSaid::Open(terms) => begin(job, ctx, number, (session, name), terms),
        StreamSaid::Chunk { sequence, body } => chunk(job, ctx, number.ok_or_else(over)?, *sequence, body),
        StreamSaid::Close { reason } => {
            let number = number.ok_or_else(over)?;
            super::streams::close(job, ctx, number, reason.as_deref());
            Ok(())
        }
        StreamSaid::Fail { code, message } => {
            let error = JobError::new(code.clone(), message.clone());
            super::streams::fail(job, ctx, number.ok_or_else(over)?, error);
            Ok(())
        }
    });
    done.unwrap_or_else(|| Err(over()))?;
    if let StreamSaid::Open(_) = request.says {
        jobs.inputs.insert((session, id));
    }
    Ok(())
}

/// Whether the agent of a job takes input at present.
fn check(job: &Job, ctx: &Context) -> Result<(), Violation> {
    let name = job.spec.agent.name();
    if !ctx.config.takes_input(name) {
        let why = alloc::format!("`{name}` takes no input while it runs");
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let runs = job.state == JobState::Running && job.run.state == AgentState::Running && !is_over(job);
    match runs {
        true => Ok(()),
        false => Err(Violation::new(ErrorCode::FailedPrecondition, "the agent of the job does not run")),
    }
}

/// Opens a stream. To open it again on the same terms does nothing.
fn begin(
    job: &mut Job,
    ctx: &mut Context,
    number: Option<u32>,
    (session, name): (SessionId, &WireId),
    terms: &StreamTerms,
) -> Result<(), Violation> {
    terms.check()?;
    if let Some(open) = number.and_then(|number| job.run.sends.streams.open.get(&number)) {
        let same = open.inbound.as_ref().is_some_and(|inbound| inbound.terms == *terms);
        let another = || Violation::new(ErrorCode::DuplicateKey, "a stream of this name is open, with other terms");
        return if same { Ok(()) } else { Err(another()) };
    }
    super::streams::check_room(job, ctx)?;
    check_growth(job, ctx, name.as_str().len())?;
    let number = INBOUND | job.run.sends.streams.inbound;
    job.run.sends.streams.inbound += 1;
    job.run.sends.streams.sessions.insert(session);
    let inbound = Inbound { session, name: name.clone(), terms: terms.clone(), untaken: Untaken::default() };
    super::streams::begin_open(job, ctx, number, terms, (Some(inbound), false));
    tell(job, ctx, number, StreamWord::Opened(terms.clone()));
    Ok(())
}

fn chunk(
    job: &mut Job,
    ctx: &mut Context,
    number: u32,
    sequence: u64,
    body: &crate::json::Json,
) -> Result<(), Violation> {
    let open = job.run.sends.streams.open.get(&number).ok_or_else(over)?;
    let inbound = open.inbound.as_ref().ok_or_else(over)?;
    if sequence != open.chunks {
        let why = alloc::format!("chunk {sequence} came where {} is due", open.chunks);
        return Err(Violation::new(ErrorCode::OutOfRange, why));
    }
    let members = body.members().map_err(|why| Violation::invalid(alloc::format!("{why}")))?;
    let binary = inbound.terms.kind == StreamKind::Binary || members.get("encoding") == Some("\"base64\"");
    let (data, notes) = stream::read_chunk(&members, binary)?;
    let most = ctx.config.limits.prompt.stream_input_bytes;
    let bytes = CHUNK + data.len();
    let waiting = inbound.untaken.bytes;
    if waiting > 0 && waiting + bytes > most || data.len() > most {
        let why = alloc::format!(
            "{waiting} bytes of this stream wait for the agent, and {most} may: send the chunk again once it has taken some"
        );
        return Err(Violation::exhausted("stream_input_bytes", BoundOf::Job, most as u64, why));
    }
    check_growth(job, ctx, bytes)?;
    let Some(open) = job.run.sends.streams.open.get_mut(&number) else {
        return Err(over());
    };
    open.chunks += 1;
    if let Some(inbound) = &mut open.inbound {
        inbound.untaken.push(bytes);
    }
    tell(job, ctx, number, StreamWord::Chunk { data, notes });
    Ok(())
}

/// A session is over: breaks off the streams that it has opened.
pub(in crate::runtime) fn on_session_over(jobs: &mut Jobs, ctx: &mut Context, session: SessionId) {
    let least = JobId::from_ulid(ulid::Ulid::nil());
    while let Some(found) = jobs.inputs.range((session, least)..).next().copied().filter(|(of, _)| *of == session) {
        jobs.inputs.remove(&found);
        let why = "the session that had opened it is over";
        jobs.table.change(found.1, |job| {
            job.run.sends.streams.sessions.remove(&session);
            fail(job, ctx, |inbound| inbound.session == session, why);
        });
    }
}

/// A job is another principal's: breaks off the streams of its old owner's sessions.
pub(in crate::runtime) fn on_handed_over(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.table.change(id, |job| fail(job, ctx, |_| true, "the job was handed over"));
}

/// Breaks off inbound streams.
fn fail(job: &mut Job, ctx: &mut Context, which: impl Fn(&Inbound) -> bool, why: &str) {
    let is_one = |open: &OpenStream| open.inbound.as_ref().is_some_and(&which);
    let streams = &job.run.sends.streams.open;
    let left: Vec<u32> = streams.iter().filter(|(_, open)| is_one(open)).map(|(number, _)| *number).collect();
    for number in left {
        super::streams::fail(job, ctx, number, JobError::new(ErrorCode::Unavailable, why));
    }
}

/// A job is over: forgets which sessions had streams to it.
pub(super) fn forget(jobs: &mut Jobs, id: JobId, sessions: BTreeSet<SessionId>) {
    for session in sessions {
        jobs.inputs.remove(&(session, id));
    }
}
