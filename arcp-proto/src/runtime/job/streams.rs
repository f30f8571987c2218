//! Streams of a job: what its agent or a client sends in them, and how they end (RFC §11).
//!
//! ```text
//! open ──▶ Open ──chunk──▶ Open ──close, cancel, or end of the job──▶ over
//! ```
//!
//! What happens in a stream is recorded as events of the job, except for the chunks of inbound streams
//! (`inbound`). The name of a stream contains the number of the event that opened it, so a name is never given
//! twice. After a restart the agent that had a stream open is gone: the stream is ended with its job, or before
//! the agent is started again.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::result::{beginning, cut_text, short};
use super::{ChunkTerms, Job, Jobs, Wait};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, SessionId, WireId};
use crate::json::Json;
use crate::model::artifact::BlobDigest;
use crate::model::event::{EventKind, JobError};
use crate::model::job::FinalStatus;
use crate::model::stream::{self, ChunkNotes, ChunkText, StreamTerms};
use crate::runtime::context::Context;
use crate::runtime::io::{ChunkData, INBOUND, OpenedStream, Output, StreamCall, StreamWord};
use crate::runtime::rare::Empty;
use crate::runtime::timers::Timer;
use crate::time::Timestamp;

/// Approximate bytes of a stream besides its name.
const OPEN: usize = 192;
/// Approximate bytes for a session that has opened any.
const SESSION: usize = 64;

/// The streams of a job that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Open streams, by the number that the agent uses.
    pub(super) open: BTreeMap<u32, OpenStream>,
    /// Closed inbound streams whose end the agent has not taken yet.
    leaving: BTreeMap<u32, Untaken>,
    /// How many streams clients have opened.
    pub(super) inbound: u32,
    /// The open sessions that have opened any.
    pub(super) sessions: BTreeSet<SessionId>,
    /// Streams of an earlier run, whose agent is gone: by name, the number of chunks and of chunks left out, as far
    /// as they were recorded.
    earlier: BTreeMap<String, (u64, u64)>,
}

/// A stream that is open.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) id: String,
    /// Chunks so far.
    pub(super) chunks: u64,
    /// Chunks that were left out.
    shed: u64,
    pace: Option<Pace>,
    /// Where the stream comes from, if it goes to the agent.
    pub(super) inbound: Option<Inbound>,
}

/// Where a stream to an agent comes from.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The session that opened it.
    pub(super) session: SessionId,
    /// The id that its client gave it.
    pub(super) name: WireId,
    pub(super) terms: StreamTerms,
    pub(super) untaken: Untaken,
}

impl Inbound {
    /// Bytes that it holds, with those of its chunks.
    fn weight(&self) -> usize {
        self.name.as_str().len() + self.untaken.bytes
    }

    pub(super) fn is(&self, session: SessionId, name: &WireId) -> bool {
        self.session == session && self.name == *name
    }
}

/// What the host was handed for an inbound stream and the agent has not taken.
#[derive(Debug, Default)]
pub(super) struct Untaken {
    /// Bytes of each item.
    words: VecDeque<usize>,
    pub(super) bytes: usize,
}

impl Untaken {
    pub(super) fn push(&mut self, bytes: usize) {
        self.words.push_back(bytes);
        self.bytes += bytes;
    }

    /// The agent has taken the first item.
    fn take(&mut self) {
        self.bytes -= self.words.pop_front().unwrap_or(0);
    }
}

/// The minimum interval between the chunks of a stream.
#[derive(Debug)]
struct Pace {
    every: Duration,
    /// When the next chunk is due.
    due: Timestamp,
    /// Whether the agent was told to wait until then.
    held: bool,
}

impl Empty for Streams {
    const EMPTY: &'static Streams = &Streams {
        open: BTreeMap::new(),
        leaving: BTreeMap::new(),
        inbound: 0,
        sessions: BTreeSet::new(),
        earlier: BTreeMap::new(),
    };
}

impl Streams {
    /// Approximate bytes that they hold.
    pub(super) fn weight(&self) -> usize {
        let inbound = |open: &OpenStream| open.inbound.as_ref().map_or(0, Inbound::weight);
        let open = self.open.values().map(|open| OPEN + open.id.len() + inbound(open)).sum::<usize>();
        let leaving = self.leaving.values().map(|untaken| OPEN + untaken.bytes).sum::<usize>();
        let sessions = self.sessions.len() * SESSION;
        open + leaving + sessions + self.earlier.keys().map(|id| OPEN + id.len()).sum::<usize>()
    }

    /// How many count as open. An inbound stream counts until the agent has taken its end.
    fn count(&self) -> usize {
        self.open.len() + self.leaving.len()
    }

    /// The agent has taken the next item of an inbound stream.
    fn take(&mut self, number: u32) {
        if let Some(inbound) = self.open.get_mut(&number).and_then(|open| open.inbound.as_mut()) {
            inbound.untaken.take();
        } else if let Some(untaken) = self.leaving.get_mut(&number) {
            untaken.take();
            if untaken.words.is_empty() {
                self.leaving.remove(&number);
            }
        }
    }

    /// Whether the agent was told to wait in any of them.
    fn is_held(&self) -> bool {
        self.open.values().any(|open| open.pace.as_ref().is_some_and(|pace| pace.held))
    }

    /// The number of the open stream of this name.
    pub(super) fn number_of(&self, id: &str) -> Option<u32> {
        self.open.iter().find(|(_, open)| open.id == id).map(|(number, _)| *number)
    }

    /// Open streams, as recorded when the events that opened them are trimmed.
    pub(super) fn opened(&self) -> Vec<OpenedStream> {
        let earlier = self.earlier.iter().map(|(id, counts)| (id, *counts));
        let open = self.open.values().map(|open| (&open.id, (open.chunks, open.shed)));
        open.chain(earlier).map(|(id, (chunks, shed))| OpenedStream { id: id.clone(), chunks, shed }).collect()
    }

    /// Restores the streams that an earlier run had open.
    pub(super) fn restore_open(&mut self, streams: &[OpenedStream]) {
        self.earlier = streams.iter().map(|open| (open.id.clone(), (open.chunks, open.shed))).collect();
    }
}

impl OpenStream {
    /// Whether the next chunk would come sooner than the readers of the stream want.
    fn is_early(&self, now: Timestamp) -> bool {
        self.pace.as_ref().is_some_and(|pace| now < pace.due)
    }

    /// Counts a chunk. Returns when the next one is due, if the agent has to be told to wait for that.
    fn hold(&mut self, now: Timestamp) -> Option<Timestamp> {
        let pace = self.pace.as_mut()?;
        pace.due = pace.due.max(now) + pace.every;
        let told = core::mem::replace(&mut pace.held, true);
        (!told).then_some(pace.due)
    }
}

/// The open streams of a job, with their numbers of chunks. Inbound streams have none: their chunks are not
/// recorded.
pub(in crate::runtime) fn shown(job: &Job) -> BTreeMap<&str, Option<u64>> {
    let Streams { open, earlier, .. } = &*job.run.sends.streams;
    let now = open.values().map(|open| (open.id.as_str(), open.inbound.is_none().then_some(open.chunks)));
    now.chain(earlier.iter().map(|(id, (chunks, _))| (id.as_str(), Some(*chunks)))).collect()
}

/// Updates whether the job waits for the pace of a stream. While it waits, the agent is not expected to call.
fn settle_pace(job: &mut Job, ctx: &Context) {
    if job.run.sends.streams.is_held() {
        job.run.waits.insert(Wait::StreamPace);
    } else if job.run.waits.remove(&Wait::StreamPace) {
        job.run.last_call = ctx.now.mono;
    }
}

/// Carries out a call of an agent about a stream.
///
/// # Errors
///
/// Why the call is refused. For a stream that is not open, `FAILED_PRECONDITION`.
pub(super) fn on_call(
    job: &mut Job,
    ctx: &mut Context,
    (number, says): (u32, StreamCall),
    terms: impl FnOnce(&Context) -> ChunkTerms,
) -> Result<(), Violation> {
    let done = take_call(job, ctx, (number, says), terms);
    settle_pace(job, ctx);
    done
}

fn take_call(
    job: &mut Job,
    ctx: &mut Context,
    (number, says): (u32, StreamCall),
    terms: impl FnOnce(&Context) -> ChunkTerms,
) -> Result<(), Violation> {
    match says {
        StreamCall::Open(wanted) => open(job, ctx, number, &wanted),
        StreamCall::Chunk { data, notes, shed } => {
            let budget = terms(ctx).budget();
            chunk(job, ctx, number, (&data, *notes, shed), budget)
        }
        StreamCall::Close { reason, shed } => {
            let open = job.run.sends.streams.open.get_mut(&number).ok_or_else(over)?;
            open.shed += u64::from(shed);
            close_for(job, ctx, number, reason.as_deref(), true);
            Ok(())
        }
        StreamCall::Fail { error, shed } => {
            let stream = take(job, number)?;
            let JobError { code, message, .. } = cut(error);
            let counts = (stream.chunks, stream.shed + u64::from(shed));
            let event = stream::failed(&stream.id, (&code, &message), counts);
            job.append(ctx, event, true);
            Ok(())
        }
        StreamCall::Took => {
            job.run.sends.streams.take(number);
            Ok(())
        }
        StreamCall::Leave => {
            job.run.sends.streams.leaving.remove(&number);
            let why = (number >= INBOUND).then_some("its agent takes no more of it");
            close_for(job, ctx, number, why, false);
            Ok(())
        }
    }
}

/// Bytes of an error message or a close reason that are kept.
const SHOWN_BYTES: usize = 512;
/// Bytes of a role or a media type.
const WORD_BYTES: usize = 127;

fn open(job: &mut Job, ctx: &mut Context, number: u32, wanted: &StreamTerms) -> Result<(), Violation> {
    if job.run.sends.streams.open.contains_key(&number) || number >= INBOUND {
        return Err(Violation::invalid("this stream is open already"));
    }
    if let Err(why) = wanted.check().and_then(|()| check_room(job, ctx)) {
        tell(job, ctx, number, StreamWord::Ended(JobError::new(why.code.clone(), why.message.to_string())));
        return Err(why);
    }
    begin_open(job, ctx, number, wanted, (None, true));
    Ok(())
}

/// Whether the job may have one more open stream.
pub(super) fn check_room(job: &Job, ctx: &Context) -> Result<(), Violation> {
    let most = ctx.config.limits.prompt.open_streams_per_job;
    if job.run.sends.streams.count() < most {
        return Ok(());
    }
    let why = alloc::format!("{most} streams of this job are open: close one first");
    Err(Violation::exhausted("open_streams_per_job", BoundOf::Job, most as u64, why))
}

/// Opens a stream, of the agent or of a client. If an agent's call opens it (`of_call`), the agent gets the
/// credit of that call back once the event is durable.
pub(super) fn begin_open(
    job: &mut Job,
    ctx: &mut Context,
    number: u32,
    terms: &StreamTerms,
    (inbound, of_call): (Option<Inbound>, bool),
) {
    let id = alloc::format!("str_{}_{}", job.id.ulid(), job.count() + 1);
    job.append(ctx, stream::opened(&id, terms, inbound.is_some()), of_call);
    let open = OpenStream { id, chunks: 0, shed: 0, pace: None, inbound };
    job.run.sends.streams.open.insert(number, open);
}

/// Cuts an error to the lengths that are kept: agents and clients may send messages and codes of any length.
fn cut(error: JobError) -> JobError {
    JobError { code: short(error.code), message: beginning(&error.message, SHOWN_BYTES), ..error }
}

/// Ends an inbound stream for the reason that its client gives.
pub(super) fn close(job: &mut Job, ctx: &mut Context, number: u32, reason: Option<&str>) {
    if let Some(inbound) = close_for(job, ctx, number, reason, false) {
        leave(job, ctx, number, inbound, None);
    }
}

/// Closes a stream. Returns where it came from, if it was inbound.
fn close_for(job: &mut Job, ctx: &mut Context, number: u32, reason: Option<&str>, of_call: bool) -> Option<Inbound> {
    let stream = job.run.sends.streams.open.remove(&number)?;
    let reason = reason.map(|reason| beginning(reason, SHOWN_BYTES));
    job.append(ctx, stream::closed(&stream.id, reason.as_deref(), (stream.chunks, stream.shed)), of_call);
    stream.inbound
}

/// Tells the agent that an inbound stream is over. The host holds the stream until the agent has taken that
/// and everything before it.
fn leave(job: &mut Job, ctx: &mut Context, number: u32, inbound: Inbound, error: Option<JobError>) {
    let mut untaken = inbound.untaken;
    untaken.push(OPEN + error.as_ref().map_or(0, |error| error.message.len()));
    job.run.sends.streams.leaving.insert(number, untaken);
    tell(job, ctx, number, StreamWord::Closed(error));
}

/// Breaks a stream off with an error, and tells the agent.
pub(super) fn fail(job: &mut Job, ctx: &mut Context, number: u32, error: JobError) {
    let Some(open) = job.run.sends.streams.open.remove(&number) else {
        return; // The stream is over.
    };
    let error = cut(error);
    let counts = (open.chunks, open.shed);
    job.append(ctx, stream::failed(&open.id, (&error.code, &error.message), counts), false);
    settle_pace(job, ctx);
    match open.inbound {
        Some(inbound) => leave(job, ctx, number, inbound, Some(error)),
        None => tell(job, ctx, number, StreamWord::Ended(error)),
    }
}

fn chunk(
    job: &mut Job,
    ctx: &mut Context,
    number: u32,
    (data, notes, shed): (&ChunkData, ChunkNotes, u32),
    budget: usize,
) -> Result<(), Violation> {
    let now = ctx.now.mono;
    let Some(open) = job.run.sends.streams.open.get_mut(&number).filter(|open| open.inbound.is_none()) else {
        return Err(over());
    };
    open.shed += u64::from(shed);
    // Attributes stand in the frame of the first piece only, which must have room for them.
    check(data, &notes, ctx.config.limits.frame.event_body_bytes.min(budget / 2))?;
    let budget = budget - notes.attributes.as_ref().map_or(0, |attributes| attributes.as_str().len());
    if notes.low_priority && open.is_early(now) {
        open.shed += 1;
        return Ok(());
    }
    let id = open.id.clone();
    let due = open.hold(now);
    let pieces: Vec<ChunkData> = match data {
        // A frame carries the text under two names.
        ChunkData::Text(text) => cut_text(text.clone(), (budget / 2).max(1)).into_iter().map(ChunkData::Text).collect(),
        ChunkData::Binary(bytes) if bytes.is_empty() => alloc::vec![ChunkData::Binary(Vec::new())],
        ChunkData::Binary(bytes) => {
            bytes.chunks((budget / 4 * 3).max(1)).map(|piece| ChunkData::Binary(piece.to_vec())).collect()
        }
    };
    let (last, mut notes) = (pieces.len().saturating_sub(1), notes);
    for (at, piece) in pieces.iter().enumerate() {
        let Some(open) = job.run.sends.streams.open.get_mut(&number) else {
            break;
        };
        let sequence = open.chunks;
        open.chunks += 1;
        let piece = match piece {
            ChunkData::Text(text) => ChunkText::Text(text),
            ChunkData::Binary(bytes) => ChunkText::Binary(bytes),
        };
        job.append(ctx, stream::chunk(&id, sequence, &piece, &notes), at == last);
        notes.attributes = None;
    }
    if let Some(due) = due {
        tell(job, ctx, number, StreamWord::Hold);
        match ctx.timers.is_set(Timer::StreamPace(job.id)) {
            true => ctx.timers.hasten(Timer::StreamPace(job.id), due),
            false => ctx.timers.set(Timer::StreamPace(job.id), due),
        }
    }
    Ok(())
}

/// Checks a chunk before it is recorded.
fn check(data: &ChunkData, notes: &ChunkNotes, most: usize) -> Result<(), Violation> {
    let bytes = match data {
        ChunkData::Text(text) => text.as_bytes(),
        ChunkData::Binary(bytes) => bytes,
    };
    if notes.sha256.is_some_and(|said| said != BlobDigest::of(bytes)) {
        let why = "its data does not have the `sha256` that it says";
        return Err(Violation::new(ErrorCode::DataLoss, why));
    }
    let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > WORD_BYTES);
    if is_long(&notes.role) || is_long(&notes.content_type) {
        return Err(Violation::invalid("`role` and `content_type` of a chunk have at most 127 bytes"));
    }
    let Some(attributes) = &notes.attributes else {
        return Ok(());
    };
    let bytes = attributes.as_str().len();
    if bytes > most || !attributes.is_object() {
        let why = alloc::format!("`attributes` of a chunk are an object of at most {most} bytes, not of {bytes}");
        return Err(Violation::invalid(why));
    }
    // In the frame, attributes are nested one level deeper.
    let checked = crate::json::check(attributes.as_str(), Json::MAX_DEPTH - 1);
    checked.map_err(|why| Violation::invalid(why.to_string()))
}

/// Removes a stream from the open ones.
fn take(job: &mut Job, number: u32) -> Result<OpenStream, Violation> {
    job.run.sends.streams.open.remove(&number).ok_or_else(over)
}

pub(super) fn over() -> Violation {
    Violation::new(ErrorCode::FailedPrecondition, "no such stream is open")
}

pub(super) fn tell(job: &Job, ctx: &mut Context, stream: u32, says: StreamWord) {
    ctx.output(Output::AgentStream { job: job.id, stream, says });
}

/// The job ends: closes its open streams. Returns the sessions that had opened any.
pub(super) fn end(job: &mut Job, ctx: &mut Context, status: FinalStatus) -> BTreeSet<SessionId> {
    job.run.waits.remove(&Wait::StreamPace);
    let Some(streams) = job.run.sends.streams.take_out() else {
        return BTreeSet::new(); // It never had any.
    };
    let Streams { open, leaving: _, earlier, inbound: _, sessions } = *streams;
    let open = open.into_values().map(|open| (open.id, (open.chunks, open.shed)));
    for (id, counts) in open.chain(earlier) {
        let why = alloc::format!("its job has ended: {}", status.as_str());
        job.append(ctx, stream::closed(&id, Some(&why), counts), false);
    }
    sessions
}

/// The agent is started again: ends the streams that an earlier run left open.
pub(super) fn begin(job: &mut Job, ctx: &mut Context) {
    let earlier = job.run.sends.streams.known_mut().map(|streams| core::mem::take(&mut streams.earlier));
    for (id, counts) in earlier.into_iter().flatten() {
        let why = "the runtime was restarted: its agent starts again";
        job.append(ctx, stream::failed(&id, (&ErrorCode::Unavailable, why), counts), false);
    }
}

/// Takes over what an event of an earlier run says.
pub(super) fn restore(job: &mut Job, kind: &EventKind, body: &Json) {
    let Some(id) = body.members().ok().filter(|_| kind.is_of_streams()).and_then(|m| m.get_str("stream_id")) else {
        return; // It is of no stream.
    };
    let earlier = &mut job.run.sends.streams.earlier;
    if matches!(kind, EventKind::StreamClose | EventKind::StreamError) {
        earlier.remove(&id);
    } else {
        let sequence = body.members().ok().and_then(|members| members.get("sequence")?.parse::<u64>().ok());
        earlier.entry(id).or_default().0 = sequence.map_or(0, |sequence| sequence + 1);
    }
}

/// Whether a stream of a job is open.
pub(in crate::runtime) fn is_open(job: &Job, id: &str) -> bool {
    job.run.sends.streams.number_of(id).is_some()
}

/// Ends a stream without ending its job, and tells the agent.
pub(in crate::runtime) fn cancel(jobs: &mut Jobs, ctx: &mut Context, id: JobId, stream: &str, reason: Option<&str>) {
    jobs.table.change(id, |job| {
        let Some(number) = job.run.sends.streams.number_of(stream) else {
            return; // The stream is over.
        };
        fail(job, ctx, number, JobError::new(ErrorCode::Cancelled, reason.unwrap_or("the stream was cancelled")));
    });
}

/// Sets the time that the readers of a stream want between two chunks; `None`: no minimum.
pub(in crate::runtime) fn pace(jobs: &mut Jobs, ctx: &mut Context, id: JobId, stream: &str, every: Option<Duration>) {
    jobs.table.change(id, |job| {
        let now = ctx.now.mono;
        let streams = &mut job.run.sends.streams;
        let Some((number, open)) = streams.open.iter_mut().find(|(_, open)| open.id == stream) else {
            return; // The stream is over.
        };
        let number = *number;
        let before = core::mem::replace(&mut open.pace, every.map(|every| Pace { every, due: now, held: false }));
        if before.is_some_and(|before| before.held) {
            tell(job, ctx, number, StreamWord::GoOn);
        }
        settle_pace(job, ctx);
    });
}

/// A timer is due: lets the streams whose next chunk is due go on.
pub(in crate::runtime) fn on_due(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.table.change(id, |job| {
        let now = ctx.now.mono;
        let (mut go_on, mut next) = (Vec::new(), None::<Timestamp>);
        for (number, open) in &mut job.run.sends.streams.open {
            match open.pace.as_mut().filter(|pace| pace.held) {
                Some(pace) if pace.due <= now => {
                    pace.held = false;
                    go_on.push(*number);
                }
                Some(pace) => next = Some(next.map_or(pace.due, |next| next.min(pace.due))),
                None => {}
            }
        }
        for number in go_on {
            tell(job, ctx, number, StreamWord::GoOn);
        }
        settle_pace(job, ctx);
        if let Some(next) = next {
            ctx.timers.set(Timer::StreamPace(id), next);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_weigh_as_much_as_their_names_and_what_is_not_taken() {
        let session = SessionId::from_ulid(ulid::Ulid::from_parts(1, 1));
        let (name, terms) = (WireId::new("abcd").expect("an id"), StreamTerms::new(Default::default()));
        let mut untaken = Untaken::default();
        untaken.push(70);
        let inbound = Inbound { session, name, terms, untaken };
        let open = |inbound| OpenStream { id: "str_1".into(), chunks: 0, shed: 0, pace: None, inbound };
        let mut streams = Streams::default();
        streams.open.insert(1, open(None));
        assert_eq!(streams.weight(), OPEN + 5);
        streams.open.insert(2, open(Some(inbound)));
        assert_eq!(streams.weight(), 2 * OPEN + 10 + 4 + 70);
        streams.leaving.insert(3, Untaken { bytes: 9, ..Untaken::default() });
        assert_eq!(streams.weight(), 3 * OPEN + 14 + 79);
        streams.sessions.extend([session, SessionId::from_ulid(ulid::Ulid::from_parts(2, 1))]);
        assert_eq!(streams.weight(), 3 * OPEN + 14 + 79 + 2 * SESSION);
        streams.earlier.insert("str_11".into(), (0, 0));
        assert_eq!(streams.weight(), 4 * OPEN + 20 + 79 + 2 * SESSION);
    }
}
