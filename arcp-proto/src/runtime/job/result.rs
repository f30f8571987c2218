//! Results in pieces: those that an agent sends so, and those that are too large for one frame.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::cause::Fault;
use super::{Job, Jobs};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, prefixed};
use crate::json::{Json, Object};
use crate::model::event::{ChunkEncoding, JobEvent, JobResult, ResultChunk, Terminal};
use crate::runtime::context::Context;
use crate::runtime::io::ChunkData;

/// Why a result of too many bytes is none.
pub(super) const TOO_LARGE: &str = "the result is larger than this runtime allows";
/// Bytes of a frame around the data of a chunk, generously.
const FRAME_OVERHEAD: usize = 1024;

/// Bytes of an error code; a longer one is replaced by `UNKNOWN`.
const CODE_BYTES: usize = 64;

/// What the readers of a job can take of a result in pieces.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct ChunkTerms {
    /// The largest frame that every watcher can take.
    pub(in crate::runtime) frame_bytes: usize,
    /// Whether all sessions of the submitter read pieces.
    pub(in crate::runtime) owners_read_pieces: bool,
    /// Whether all watchers read pieces.
    pub(in crate::runtime) watchers_read_pieces: bool,
}

impl ChunkTerms {
    /// The most bytes of data in a piece.
    pub(super) fn budget(self) -> usize {
        self.frame_bytes.saturating_sub(FRAME_OVERHEAD).max(1)
    }
}

/// A result that is being sent in pieces.
#[derive(Debug)]
pub(super) struct Stream {
    result_id: String,
    next_seq: u64,
    bytes: u64,
    /// Whether the last piece was sent.
    closed: bool,
    /// The whole result, while a reader that cannot read pieces needs it.
    whole: Option<Whole>,
    /// Whether the submitter is such a reader: then the whole must fit in a frame.
    must_fit: bool,
}

impl Stream {
    /// Approximate bytes that it holds.
    pub(super) fn weight(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.bytes.len())
    }

    fn new(result_id: String, terms: ChunkTerms) -> Stream {
        let must_fit = !terms.owners_read_pieces;
        let wants_whole = must_fit || !terms.watchers_read_pieces;
        let whole = wants_whole.then(Whole::default);
        Stream { result_id, next_seq: 0, bytes: 0, closed: false, whole, must_fit }
    }

    /// Counts what the agent sends of its result. A refused piece changes nothing.
    fn take(&mut self, data: &ChunkData, more: bool, budget: usize, max: u64) -> Result<(), Fault> {
        if self.closed {
            return Err(Fault("the agent went on after the last piece of its result"));
        }
        let size = match data {
            ChunkData::Text(text) => text.len(),
            ChunkData::Binary(bytes) => bytes.len(),
        };
        if self.bytes + size as u64 > max {
            return Err(Fault(TOO_LARGE));
        }
        match &mut self.whole {
            Some(whole) if whole.written_with(data) <= budget => whole.push(data),
            Some(_) if self.must_fit => {
                return Err(Fault(
                    "the result was sent in pieces, is too large for one frame, and the client reads no pieces",
                ));
            }
            // A job does not fail because of a session that only watches it, or that came to it later.
            Some(_) | None => self.whole = None,
        }
        self.bytes += size as u64;
        self.closed = !more;
        Ok(())
    }

    /// The next piece for the readers.
    fn piece(&mut self, data: String, encoding: ChunkEncoding, more: bool) -> ResultChunk {
        let chunk_seq = self.next_seq;
        self.next_seq += 1;
        ResultChunk { result_id: self.result_id.clone(), chunk_seq, data, encoding, more }
    }
}

/// A result in one piece.
#[derive(Debug, Default)]
struct Whole {
    bytes: Vec<u8>,
    binary: bool,
    /// Bytes of the text between its quotes, while the result is text.
    escaped: usize,
}

impl Whole {
    /// The most bytes that it takes as JSON.
    fn written(&self) -> usize {
        if self.binary { encoded_bytes(self.bytes.len()) } else { QUOTES + self.escaped }
    }

    /// Like [`written`](Self::written), with `data` added.
    fn written_with(&self, data: &ChunkData) -> usize {
        match data {
            ChunkData::Text(text) if !self.binary => self.written() + escaped_bytes(text),
            ChunkData::Text(text) => encoded_bytes(self.bytes.len() + text.len()),
            ChunkData::Binary(bytes) => encoded_bytes(self.bytes.len() + bytes.len()),
        }
    }

    fn push(&mut self, data: &ChunkData) {
        match data {
            ChunkData::Text(text) => {
                self.escaped += escaped_bytes(text);
                self.bytes.extend_from_slice(text.as_bytes());
            }
            ChunkData::Binary(bytes) => {
                self.binary = true;
                self.bytes.extend_from_slice(bytes);
            }
        }
    }

    /// Puts pieces together, if the whole takes at most `bound` bytes as JSON.
    fn of<'a>(pieces: impl Iterator<Item = &'a ResultChunk>, bound: usize) -> Option<Whole> {
        let mut whole = Whole::default();
        for piece in pieces {
            let data = match piece.encoding {
                ChunkEncoding::Utf8 => ChunkData::Text(piece.data.clone()),
                ChunkEncoding::Base64 => ChunkData::Binary(BASE64.decode(&piece.data).ok()?),
            };
            if whole.written_with(&data) > bound {
                return None;
            }
            whole.push(&data);
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

/// The quotes around a text.
const QUOTES: usize = 2;

/// The most bytes of a text between its quotes.
fn escaped_bytes(text: &str) -> usize {
    // Branch-free, with sums that fit a `u8`, so that the compiler vectorises it.
    let escapes = |byte: u8| {
        let (is_control, is_short) = (byte < 0x20, matches!(byte, b'\n' | b'\r' | b'\t'));
        u8::from(byte == b'"') + u8::from(byte == b'\\') + 5 * u8::from(is_control) - 4 * u8::from(is_short)
    };
    let escaped = text.as_bytes().chunks(32).map(|bytes| bytes.iter().map(|byte| escapes(*byte)).sum::<u8>());
    text.len() + escaped.map(usize::from).sum::<usize>()
}

/// The most bytes of a character in a text.
fn written(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

/// The longest beginning of a text that takes at most `budget` bytes as JSON.
pub(super) fn beginning(text: &str, budget: usize) -> String {
    let mut size = 0;
    let fits = |c: &char| {
        size += written(*c);
        size <= budget
    };
    text.chars().take_while(fits).collect()
}

/// A code as it is kept: agents and clients may send one of any length.
pub(super) fn short(code: ErrorCode) -> ErrorCode {
    if code.as_str().len() > CODE_BYTES { ErrorCode::Unknown } else { code }
}

/// Bytes of a binary result as JSON: base64 in its wrapper.
fn encoded_bytes(bytes: usize) -> usize {
    const AROUND: usize = r#"{"encoding":"base64","data":""}"#.len();
    AROUND + bytes.div_ceil(3) * 4
}

fn encoded(bytes: &[u8]) -> Json {
    let mut object = Object::new();
    object.str("encoding", "base64").str("data", &BASE64.encode(bytes));
    object.json()
}

impl Job {
    /// Takes a part of the result from the agent, and shows it in pieces that every reader can take.
    pub(super) fn take_piece(
        &mut self,
        ctx: &mut Context,
        data: ChunkData,
        more: bool,
        terms: ChunkTerms,
    ) -> Result<(), Fault> {
        let result_id = prefixed("res_", ctx.entropy.ulid(ctx.now.utc));
        let first = self.run.sends.result.is_none();
        let stream = self.run.sends.result.get_or_insert_with(|| Box::new(Stream::new(result_id, terms)));
        if let Err(fault) = stream.take(&data, more, terms.budget(), ctx.config.limits.frame.result_bytes) {
            self.run.sends.result.take_if(|_| first);
            return Err(fault);
        }
        let pieces = match data {
            ChunkData::Text(text) => {
                cut_text(text, terms.budget()).into_iter().map(|piece| (piece, ChunkEncoding::Utf8)).collect()
            }
            ChunkData::Binary(bytes) => cut_binary(&bytes, terms.budget()),
        };
        self.show_pieces(ctx, pieces, more);
        Ok(())
    }

    fn show_pieces(&mut self, ctx: &mut Context, pieces: Vec<(String, ChunkEncoding)>, more: bool) {
        let last = pieces.len().saturating_sub(1);
        for (at, (data, encoding)) in pieces.into_iter().enumerate() {
            if let Some(stream) = &mut self.run.sends.result {
                let piece = stream.piece(data, encoding, more || at < last);
                self.append(ctx, JobEvent::Chunk(Box::new(piece)), at == last);
            }
        }
    }

    /// Ends a job whose result was sent in pieces. The summary is cut to the room that the whole result leaves.
    pub(super) fn end_stream(&mut self, ctx: &mut Context, summary: Option<String>, terms: ChunkTerms) -> Terminal {
        if self.run.sends.result.as_ref().is_some_and(|stream| !stream.closed) {
            self.show_pieces(ctx, alloc::vec![(String::new(), ChunkEncoding::Utf8)], false);
        }
        let stream = self.run.sends.result.take();
        let whole = stream.as_ref().and_then(|stream| stream.whole.as_ref()).map_or(0, Whole::written);
        let summary = summary.map(|summary| beginning(&summary, terms.budget().saturating_sub(whole)));
        let result = stream.map(|stream| {
            let inline = stream.whole.map(Whole::json);
            JobResult::Streamed { result_id: stream.result_id, size: Some(stream.bytes), inline }
        });
        Terminal::success(result, summary)
    }

    /// Ends a job that has a result. A result too large for one frame is cut into pieces here, not when it is read.
    pub(super) fn end_with(
        &mut self,
        ctx: &mut Context,
        result: Json,
        summary: Option<String>,
        terms: ChunkTerms,
    ) -> Result<Terminal, Fault> {
        let size = result.as_str().len() + summary.as_deref().map_or(0, escaped_bytes);
        if size <= terms.budget() {
            return Ok(Terminal::success(Some(JobResult::Inline(result)), summary));
        }
        if !terms.owners_read_pieces {
            return Err(Fault("the result is too large for one frame, and the client reads no pieces"));
        }
        self.take_piece(ctx, ChunkData::Text(result.as_str().to_string()), false, terms)?;
        Ok(self.end_stream(ctx, summary, terms))
    }

    /// Makes the whole result available for the end of the job.
    fn put_result_together(&mut self, budget: usize) -> Result<(), Violation> {
        let apart = || {
            let why = "the result of this job is sent in pieces: come again with the feature `result_chunk`";
            Violation::new(ErrorCode::FailedPrecondition, why)
        };
        if self.end().is_some_and(|end| end.in_pieces) {
            return Err(apart());
        }
        let Some(stream) = self.run.sends.result.as_mut().filter(|stream| stream.whole.is_none()) else {
            return Ok(());
        };
        let whole = self.events.pieces().and_then(|pieces| Whole::of(pieces, budget)).ok_or_else(apart)?;
        stream.whole = Some(whole);
        Ok(())
    }
}

impl Jobs {
    /// Makes the whole result available for the end of a job, for a client that joins late and reads no pieces.
    ///
    /// # Errors
    ///
    /// If the result is available only in pieces.
    pub(in crate::runtime) fn put_result_together(&mut self, id: JobId, terms: ChunkTerms) -> Result<(), Violation> {
        self.table.change(id, |job| job.put_result_together(terms.budget())).unwrap_or(Ok(()))
    }
}

/// Whether the result of an ended job is available only in pieces.
pub(super) fn is_in_pieces(terminal: &Terminal) -> bool {
    matches!(terminal.result, Some(JobResult::Streamed { inline: None, .. }))
}

/// Cuts text between characters so that each piece fits when escaped.
pub(super) fn cut_text(text: String, budget: usize) -> Vec<String> {
    if escaped_bytes(&text) <= budget {
        return alloc::vec![text];
    }
    let mut pieces = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (at, c) in text.char_indices() {
        let written = written(c);
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
    fn text_is_never_cut_inside_a_character() {
        let text = "aé\u{1F600}\n\"x\u{1}\u{1f}y";
        for budget in 1..12 {
            let pieces = cut_text(text.to_string(), budget);
            assert_eq!(pieces.concat(), text);
            for piece in &pieces {
                let written = Json::string(piece).as_str().len() - 2;
                assert!(written <= budget || piece.chars().count() == 1, "{budget}: {piece:?}");
            }
        }
        assert_eq!(cut_text(String::new(), 4), [""]);
    }

    #[test]
    fn what_escapes_add_is_counted_as_it_is_written() {
        let text: String = (0..=0x2000).filter_map(char::from_u32).collect();
        assert_eq!(escaped_bytes(&text), text.chars().map(written).sum::<usize>());
        assert_eq!(escaped_bytes(&"\0".repeat(1000)), 6000);
        assert_eq!(escaped_bytes(&"\n\"".repeat(1000)), 4000);
    }
}
