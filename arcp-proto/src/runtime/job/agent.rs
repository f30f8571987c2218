//! What agents say, and how they end.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{AgentState, JobState};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, prefixed};
use crate::json::{Json, Object};
use crate::model::event::{ChunkEncoding, EventKind, JobError, JobEvent, JobResult, ResultChunk, Terminal};
use crate::model::feature::Feature;
use crate::runtime::Runtime;
use crate::runtime::delivery::Audience;
use crate::runtime::io::{AgentCall, AgentExit, ChunkData};

/// Bytes of a frame around the data of a chunk, generously.
const FRAME_OVERHEAD: usize = 1024;

/// A result that is being sent in pieces.
#[derive(Debug)]
pub(crate) struct Stream {
    result_id: String,
    next_seq: u64,
    bytes: u64,
    /// Whether the last piece was sent.
    closed: bool,
    /// The whole again, while a peer that cannot read chunks wants it.
    whole: Option<Whole>,
    /// Whether who submitted it cannot: then the whole must fit in a frame.
    must_fit: bool,
}

#[derive(Debug, Default)]
struct Whole {
    bytes: Vec<u8>,
    binary: bool,
}

impl Whole {
    /// Out of pieces, if that is no more than so many bytes.
    fn of<'a>(pieces: impl Iterator<Item = &'a ResultChunk>, bound: usize) -> Option<Whole> {
        let mut whole = Whole::default();
        for piece in pieces {
            match piece.encoding {
                ChunkEncoding::Utf8 => whole.bytes.extend_from_slice(piece.data.as_bytes()),
                ChunkEncoding::Base64 => {
                    whole.binary = true;
                    whole.bytes.extend(BASE64.decode(&piece.data).ok()?);
                }
            }
            if whole.bytes.len() > bound {
                return None;
            }
        }
        Some(whole)
    }

    fn json(self) -> Json {
        match String::from_utf8(self.bytes) {
            Ok(text) if !self.binary => Json::string(&text),
            Ok(text) => encoded(text.as_bytes()),
            Err(error) => encoded(error.as_bytes()),
        }
    }
}

fn encoded(bytes: &[u8]) -> Json {
    let mut object = Object::new();
    object.str("encoding", "base64").str("data", &BASE64.encode(bytes));
    object.json()
}

impl Runtime {
    pub(crate) fn on_agent_call(&mut self, id: JobId, call: AgentCall) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        if job.is_over() || job.agent_state != AgentState::Running {
            return;
        }
        job.last_call = self.ctx.now.mono;
        if job.silent {
            self.on_voice(id);
        }
        let Some(job) = self.jobs.get_mut(id).filter(|_| call != AgentCall::Beat) else {
            return;
        };
        if job.credit.is_spent() {
            return self.fail_job(id, "the agent emitted more than it had credit for");
        }
        job.credit.spend(call.bytes());
        job.undurable.push_back(call.bytes());
        match call {
            AgentCall::Say { kind, body } => self.say(id, &kind, &body),
            AgentCall::Chunk { data, more } => self.chunk(id, data, more),
            AgentCall::Checkpoint { state, label } => self.checkpoint(id, state, label.as_deref()),
            AgentCall::Beat => {}
        }
    }

    fn say(&mut self, id: JobId, kind: &str, body: &Json) {
        let bound = self.ctx.config.limits.event_body_bytes;
        let kind = EventKind::of(kind);
        let event = if body.as_str().len() > bound {
            warning(&alloc::format!("an event of {} bytes was dropped: at most {bound}", body.as_str().len()))
        } else {
            match kind.normalise(body) {
                Ok(body) => JobEvent::Said { kind, body },
                // Nothing an agent says is lost without a trace.
                Err(violation) => warning(&alloc::format!("an event was dropped: {violation}")),
            }
        };
        self.append_event(id, event, true);
    }

    fn chunk(&mut self, id: JobId, data: ChunkData, more: bool) {
        let result_id = prefixed("res_", self.ctx.entropy.ulid(self.ctx.now.utc));
        let must_fit = !self.readers_take_chunks(id);
        let wants_whole = must_fit || !self.watchers_take_chunks(id);
        let budget = self.chunk_budget(id);
        let max = self.ctx.config.limits.result_bytes;
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let stream = job.stream.get_or_insert_with(|| Stream {
            result_id,
            next_seq: 0,
            bytes: 0,
            closed: false,
            whole: wants_whole.then(Whole::default),
            must_fit,
        });
        if stream.closed {
            return self.fail_job(id, "the agent went on after the last piece of its result");
        }
        stream.bytes += match &data {
            ChunkData::Text(text) => text.len() as u64,
            ChunkData::Binary(bytes) => bytes.len() as u64,
        };
        if stream.bytes > max {
            return self.fail_job(id, "the result is larger than this runtime allows");
        }
        if let Some(whole) = &mut stream.whole {
            match &data {
                ChunkData::Text(text) => whole.bytes.extend_from_slice(text.as_bytes()),
                ChunkData::Binary(bytes) => {
                    whole.binary = true;
                    whole.bytes.extend_from_slice(bytes);
                }
            }
            if whole.bytes.len() > budget && !stream.must_fit {
                // Nobody's job fails for who only watches it, or came to it later.
                stream.whole = None;
            } else if whole.bytes.len() > budget {
                let why = "the result was sent in pieces, is too large for one frame, and the client reads no pieces";
                return self.fail_job(id, why);
            }
        }
        stream.closed = !more;
        let pieces = match data {
            ChunkData::Text(text) => cut_text(&text, budget).into_iter().map(|p| (p, ChunkEncoding::Utf8)).collect(),
            ChunkData::Binary(bytes) => cut_binary(&bytes, budget),
        };
        self.append_chunks(id, pieces, more);
    }

    fn append_chunks(&mut self, id: JobId, pieces: Vec<(String, ChunkEncoding)>, more: bool) {
        let last = pieces.len().saturating_sub(1);
        for (at, (data, encoding)) in pieces.into_iter().enumerate() {
            let Some(stream) = self.jobs.get_mut(id).and_then(|job| job.stream.as_mut()) else {
                return;
            };
            let chunk_seq = stream.next_seq;
            stream.next_seq += 1;
            let result_id = stream.result_id.clone();
            let chunk = ResultChunk { result_id, chunk_seq, data, encoding, more: more || at < last };
            self.append_event(id, JobEvent::Chunk(chunk), at == last);
        }
    }

    /// Sees to it that the end of a job has its result in one piece, for a
    /// client that comes to it late and reads no pieces.
    pub(crate) fn put_result_together(&mut self, id: JobId) -> Result<(), Violation> {
        let budget = self.chunk_budget(id);
        let apart = || {
            let why = "the result of this job is sent in pieces: come again with the feature `result_chunk`";
            Violation::new(ErrorCode::FailedPrecondition, why)
        };
        let Some(job) = self.jobs.get_mut(id) else {
            return Ok(());
        };
        let end = job.event(job.count()).map(|stored| &*stored.event);
        if let Some(JobEvent::Ended(Terminal { result: Some(JobResult::Streamed { inline: None, .. }), .. })) = end {
            return Err(apart());
        }
        if job.stream.as_ref().is_none_or(|stream| stream.whole.is_some()) {
            return Ok(());
        }
        let whole = job.pieces().and_then(|pieces| Whole::of(pieces, budget)).ok_or_else(apart)?;
        if let Some(stream) = &mut job.stream {
            stream.whole = Some(whole);
        }
        Ok(())
    }

    /// Whether everyone who submitted the job can read chunks.
    fn readers_take_chunks(&self, id: JobId) -> bool {
        let owners = self.delivery.audience(id).into_iter().flat_map(Audience::owners);
        owners.filter_map(|s| self.sessions.get(*s)).all(|s| s.view().features.has(Feature::ResultChunk))
    }

    fn watchers_take_chunks(&self, id: JobId) -> bool {
        let watchers = self.delivery.audience(id).map(Audience::watchers).unwrap_or_default();
        watchers.iter().filter_map(|s| self.sessions.get(*s)).all(|s| s.view().features.has(Feature::ResultChunk))
    }

    /// The largest data of a chunk that every watcher of the job can take.
    fn chunk_budget(&self, id: JobId) -> usize {
        let limits = &self.ctx.config.limits;
        let watchers = self.delivery.audience(id).map(Audience::watchers).unwrap_or_default();
        let frame = watchers
            .iter()
            .filter_map(|watcher| self.sessions.get(*watcher))
            .map(|session| session.view().result_frame_bytes(limits))
            .min()
            .unwrap_or(limits.result_frame_bytes);
        frame.saturating_sub(FRAME_OVERHEAD).max(1)
    }

    pub(crate) fn on_agent_exited(&mut self, id: JobId, exit: AgentExit) {
        let Some(job) = self.jobs.get(id).filter(|job| job.agent_state == AgentState::Running) else {
            return;
        };
        let cancelling = job.state == JobState::Cancelling;
        if !job.is_over() {
            // The pieces of a result that nobody gets any more are not sent.
            let exit = if cancelling { AgentExit::Lost } else { exit };
            let terminal = self.terminal(id, exit);
            self.conclude(id, terminal);
        }
        self.on_agent_gone(id);
        self.fill_slots();
    }

    fn terminal(&mut self, id: JobId, exit: AgentExit) -> Terminal {
        let streamed = self.jobs.get(id).is_some_and(|job| job.stream.is_some());
        match exit {
            AgentExit::Success { result: Some(_), .. } if streamed => {
                internal("the agent gave a result after sending one in pieces")
            }
            AgentExit::Success { result: None, summary } if streamed => self.streamed(id, summary),
            AgentExit::Success { result: Some(result), summary } => self.inline(id, result, summary),
            AgentExit::Success { result: None, summary } => Terminal::success(None, summary),
            AgentExit::Failure(error) => Terminal::failure(error),
            AgentExit::Lost => internal("the agent failed unexpectedly"),
        }
    }

    fn streamed(&mut self, id: JobId, summary: Option<String>) -> Terminal {
        let open = self.jobs.get(id).and_then(|job| job.stream.as_ref()).is_some_and(|stream| !stream.closed);
        if open {
            self.append_chunks(id, alloc::vec![(String::new(), ChunkEncoding::Utf8)], false);
        }
        match self.jobs.get_mut(id).and_then(|job| job.stream.take()) {
            Some(stream) => {
                let inline = stream.whole.map(Whole::json);
                let result = JobResult::Streamed { result_id: stream.result_id, size: Some(stream.bytes), inline };
                Terminal::success(Some(result), summary)
            }
            None => Terminal::success(None, summary),
        }
    }

    /// A result too large for a frame becomes chunks now, not when somebody
    /// reads it.
    fn inline(&mut self, id: JobId, result: Json, summary: Option<String>) -> Terminal {
        let size = result.as_str().len() + summary.as_ref().map_or(0, String::len);
        if size <= self.chunk_budget(id) {
            return Terminal::success(Some(JobResult::Inline(result)), summary);
        }
        if !self.readers_take_chunks(id) {
            return internal("the result is too large for one frame, and the client reads no pieces");
        }
        self.chunk(id, ChunkData::Text(result.as_str().to_string()), false);
        match self.jobs.get(id).map(|job| job.is_over()) {
            Some(false) => self.streamed(id, summary),
            Some(true) | None => internal("the result is larger than this runtime allows"),
        }
    }
}

fn internal(message: &str) -> Terminal {
    Terminal::failure(JobError::new(ErrorCode::Internal, message))
}

fn warning(message: &str) -> JobEvent {
    let mut body = Object::new();
    body.str("level", "warn").str("message", message);
    JobEvent::Said { kind: EventKind::Log, body: body.json() }
}

/// Cuts text between characters so that each piece, escaped, fits.
fn cut_text(text: &str, budget: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (at, c) in text.char_indices() {
        let written = match c {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            c if (c as u32) < 0x20 => 6,
            c => c.len_utf8(),
        };
        if size + written > budget && at > from {
            pieces.push(text[from..at].to_string());
            (from, size) = (at, 0);
        }
        size += written;
    }
    pieces.push(text[from..].to_string());
    pieces
}

fn cut_binary(bytes: &[u8], budget: usize) -> Vec<(String, ChunkEncoding)> {
    let raw = (budget / 4 * 3).max(3);
    if bytes.is_empty() {
        return alloc::vec![(String::new(), ChunkEncoding::Base64)];
    }
    bytes.chunks(raw).map(|piece| (BASE64.encode(piece), ChunkEncoding::Base64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gl17_text_is_never_cut_inside_a_character() {
        let text = "aé\u{1F600}\n\"x\u{1}\u{1f}y";
        for budget in 1..12 {
            let pieces = cut_text(text, budget);
            assert_eq!(pieces.concat(), text);
            for piece in &pieces {
                let written = Json::string(piece).as_str().len() - 2;
                assert!(written <= budget || piece.chars().count() == 1, "{budget}: {piece:?}");
            }
        }
        assert_eq!(cut_text("", 4), [""]);
    }
}
