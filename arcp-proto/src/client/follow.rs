//! Jobs that a client follows, and results that are assembled from chunks.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::io::ResultData;
use crate::id::WireId;
use crate::model::event::{ChunkEncoding, JobEvent, JobResult, ResultChunk};
use crate::model::request::{Submit, Watch};
use crate::time::UtcMs;

/// A job whose events the client follows until its end.
#[derive(Debug)]
pub(super) struct Follow {
    /// The submit that made it, if this client sent it: repeating it in a new session claims the
    /// job by its key.
    pub(super) submit: Option<Submit>,
    /// The number of events received; equals the job's own count unless some were withheld.
    pub(super) events: u64,
    pub(super) assembly: Assembly,
    /// Whether to claim the job by its key once the runtime has shown that it still has the job.
    reclaim: bool,
    /// Whether the runtime has confirmed that it shows the job to this session.
    pub(super) confirmed: bool,
}

impl Follow {
    pub(super) fn new() -> Follow {
        Follow { submit: None, events: 0, assembly: Assembly::default(), reclaim: false, confirmed: false }
    }
}

/// All followed jobs, and the events that came before the acceptance of their job.
#[derive(Debug, Default)]
pub(super) struct FollowedJobs {
    by_id: BTreeMap<WireId, Follow>,
    early: Vec<Early>,
}

/// An event that came before the acceptance of its job.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) job: WireId,
    pub(super) seq: Option<u64>,
    pub(super) at: Option<UtcMs>,
    pub(super) event: JobEvent,
}

impl FollowedJobs {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = FollowedJobs::default();
    }

    pub(super) fn has(&self, job: &WireId) -> bool {
        self.by_id.contains_key(job)
    }

    pub(super) fn get_mut(&mut self, job: &WireId) -> Option<&mut Follow> {
        self.by_id.get_mut(job)
    }

    /// Follows a job, if it is not followed already.
    pub(super) fn follow(&mut self, job: WireId) -> &mut Follow {
        self.by_id.entry(job).or_insert_with(Follow::new)
    }

    pub(super) fn remove(&mut self, job: &WireId) -> Option<Follow> {
        self.by_id.remove(job)
    }

    /// Stops following a job whose watch was refused, unless the runtime has confirmed that it
    /// shows the job to this session.
    pub(super) fn remove_unconfirmed(&mut self, job: &WireId) {
        if self.by_id.get(job).is_some_and(|follow| !follow.confirmed) {
            self.by_id.remove(job);
        }
    }

    /// In a new session, each job is watched from its last received event on. Its key is sent again
    /// only once the runtime shows that it still has the job: a runtime that lost its memory must
    /// not run it twice.
    pub(super) fn bring_over(&mut self) -> Vec<Watch> {
        self.early.clear();
        let jobs = self.by_id.iter_mut().map(|(job, follow)| {
            follow.reclaim = follow.submit.is_some();
            Watch { job: job.clone(), after: Some(follow.events), history: Some(true) }
        });
        jobs.collect()
    }

    /// Skips events that the runtime has deleted: it keeps those after `kept`. Returns the watch to
    /// send and the number of missed events, if there are any.
    pub(super) fn skip_to(&mut self, job: &WireId, kept: u64) -> Option<(Watch, u64)> {
        let follow = self.by_id.get_mut(job)?;
        let missed = kept.checked_sub(follow.events).filter(|missed| *missed > 0)?;
        follow.events = kept;
        Some((Watch { job: job.clone(), after: Some(kept), history: Some(true) }, missed))
    }

    /// Notes that the runtime shows a job, from this event on. Returns the submit to repeat, if the
    /// job is to be claimed.
    pub(super) fn confirm(&mut self, job: &WireId, from: u64) -> Option<Submit> {
        let follow = self.by_id.get_mut(job)?;
        follow.events = follow.events.max(from);
        follow.confirmed = true;
        core::mem::take(&mut follow.reclaim).then(|| follow.submit.clone())?
    }

    /// Keeps an event until the acceptance of its job arrives.
    ///
    /// # Errors
    ///
    /// If `limit` events are kept: all are dropped. Returns their first sequence number.
    pub(super) fn keep_early(&mut self, early: Early, limit: usize) -> Result<(), Option<u64>> {
        if self.early.len() < limit {
            self.early.push(early);
            return Ok(());
        }
        let first = self.first_early();
        self.early.clear();
        Err(first)
    }

    /// The first sequence number of the events that wait for an acceptance.
    pub(super) fn first_early(&self) -> Option<u64> {
        self.early.iter().filter_map(|early| early.seq).min()
    }

    /// Follows a job that was handed over to this session; its kept events begin with the one of
    /// this number.
    pub(super) fn take(&mut self, job: WireId, first: u64) {
        let follow = self.follow(job);
        follow.events = first.saturating_sub(1);
        follow.confirmed = true;
    }

    /// The kept events of a job.
    pub(super) fn early_of(&self, job: &WireId) -> impl Iterator<Item = &JobEvent> {
        self.early.iter().filter(move |early| early.job == *job).map(|early| &early.event)
    }

    /// Takes the kept events of a job.
    pub(super) fn take_early(&mut self, job: &WireId) -> Vec<Early> {
        self.early.extract_if(.., |early| early.job == *job).collect()
    }

    /// Drops the kept events, because no acceptance is outstanding.
    pub(super) fn drop_early(&mut self) {
        self.early.clear();
    }
}

/// A result that is being assembled.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    result_id: Option<String>,
    bytes: Vec<u8>,
    /// The offset of each chunk.
    starts: Vec<usize>,
    binary: bool,
    closed: bool,
    broken: Option<String>,
}

impl Assembly {
    /// Adds a chunk. Chunks arrive in order; an earlier one may be repeated if it is the same.
    pub(super) fn take(&mut self, chunk: &ResultChunk, limit: usize) {
        if self.broken.is_none() {
            self.broken = self.add(chunk, limit).err();
        }
    }

    fn add(&mut self, chunk: &ResultChunk, limit: usize) -> Result<(), String> {
        let id = self.result_id.get_or_insert_with(|| chunk.result_id.clone());
        if *id != chunk.result_id {
            return Err("pieces of two results came for one job".to_string());
        }
        let data = match chunk.encoding {
            ChunkEncoding::Utf8 => chunk.data.as_bytes().to_vec(),
            ChunkEncoding::Base64 => {
                self.binary = true;
                BASE64.decode(&chunk.data).map_err(|e| alloc::format!("piece {}: {e}", chunk.chunk_seq))?
            }
        };
        let at = usize::try_from(chunk.chunk_seq).unwrap_or(usize::MAX);
        if let Some(start) = self.starts.get(at) {
            let end = self.starts.get(at + 1).copied().unwrap_or(self.bytes.len());
            let same = self.bytes.get(*start..end) == Some(data.as_slice());
            return same.then_some(()).ok_or_else(|| alloc::format!("piece {at} came twice and differs"));
        }
        if at != self.starts.len() {
            return Err(alloc::format!("piece {} is missing", self.starts.len()));
        }
        if self.closed {
            return Err(alloc::format!("piece {at} came after the last one"));
        }
        if self.bytes.len() + data.len() > limit {
            return Err(alloc::format!("the result is larger than {limit} bytes"));
        }
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&data);
        self.closed = !chunk.more;
        Ok(())
    }

    /// The result, as the terminal describes it.
    pub(super) fn finish(self, result: Option<&JobResult>) -> ResultData {
        let broken = |why: String| ResultData::Broken { why };
        let pieces = !self.starts.is_empty();
        match result {
            None => ResultData::None,
            // A published runtime ends every streamed result like this: it names no result.
            Some(JobResult::Inline(json)) if pieces && json.as_str() == "null" => match self.broken {
                Some(why) => broken(why),
                None if !self.closed => broken("the last piece is missing".to_string()),
                None => ResultData::Streamed { bytes: self.bytes, text: !self.binary },
            },
            Some(JobResult::Inline(_)) if pieces => broken("a result came inline after pieces of one".to_string()),
            Some(JobResult::Inline(json)) => ResultData::Inline(json.clone()),
            Some(JobResult::Stored(_)) if pieces => broken("a result is an artifact after pieces of one".to_string()),
            Some(JobResult::Stored(stored)) => ResultData::Stored(stored.clone()),
            // Without any chunk, only the inline copy is available.
            Some(JobResult::Streamed { inline: Some(json), .. }) if !pieces => ResultData::Inline(json.clone()),
            Some(JobResult::Streamed { result_id, size, .. }) => {
                let named = self.result_id.as_ref().is_none_or(|id| id == result_id);
                if let Some(why) = self.broken {
                    broken(why)
                } else if !named {
                    broken("the last frame names another result than the pieces".to_string())
                } else if !self.closed && pieces {
                    broken("the last piece is missing".to_string())
                } else if let Some(size) = size.filter(|size| *size != self.bytes.len() as u64) {
                    broken(alloc::format!("{} bytes came, {size} were announced", self.bytes.len()))
                } else {
                    ResultData::Streamed { bytes: self.bytes, text: !self.binary }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(seq: u64, data: &str, more: bool) -> ResultChunk {
        let encoding = ChunkEncoding::Utf8;
        ResultChunk { result_id: "r".into(), chunk_seq: seq, data: data.into(), encoding, more }
    }

    fn put_together(chunks: &[ResultChunk], size: impl Into<Option<u64>>) -> ResultData {
        let mut assembly = Assembly::default();
        for chunk in chunks {
            assembly.take(chunk, 1000);
        }
        assembly.finish(Some(&JobResult::Streamed { result_id: "r".into(), size: size.into(), inline: None }))
    }

    #[test]
    fn base64_is_strict() {
        let encoding = ChunkEncoding::Base64;
        let piece = |data: &str| ResultChunk { encoding, ..chunk(0, data, false) };
        assert_eq!(put_together(&[piece("aGk=")], 2), ResultData::Streamed { bytes: b"hi".to_vec(), text: false });
        for wrong in ["aGk", "aG k=", "aGk==", "aGl=", "\u{e9}"] {
            assert!(matches!(put_together(&[piece(wrong)], 2), ResultData::Broken { .. }), "{wrong}");
        }
    }

    #[test]
    fn pieces_are_contiguous_and_duplicates_identical() {
        let whole = ResultData::Streamed { bytes: b"abcd".to_vec(), text: true };
        let (a, b) = (chunk(0, "ab", true), chunk(1, "cd", false));
        assert_eq!(put_together(&[a.clone(), b.clone()], 4), whole);
        assert_eq!(put_together(&[a.clone(), a.clone(), b.clone()], 4), whole);
        for wrong in [
            [a.clone(), chunk(0, "xx", true), b.clone()].as_slice(),
            &[chunk(1, "ab", true)],
            &[a.clone(), chunk(2, "cd", false)],
            core::slice::from_ref(&a),
            &[a.clone(), b.clone(), chunk(2, "", false)],
        ] {
            assert!(matches!(put_together(wrong, 4), ResultData::Broken { .. }), "{wrong:?}");
        }
        assert!(matches!(put_together(&[a.clone(), b.clone()], 5), ResultData::Broken { .. }));
        assert_eq!(put_together(&[a, b], None), whole, "a size that was not announced is not zero");
    }

    #[test]
    fn a_result_fits_its_bound_exactly() {
        let whole = |limit| {
            let mut assembly = Assembly::default();
            assembly.take(&chunk(0, "ab", true), limit);
            assembly.take(&chunk(1, "cd", false), limit);
            !matches!(
                assembly.finish(Some(&JobResult::Streamed { result_id: "r".into(), size: Some(4), inline: None })),
                ResultData::Broken { .. }
            )
        };
        assert_eq!([3, 4].map(whole), [false, true]);
    }

    #[test]
    fn pieces_stand_for_a_result_that_is_null_and_contradict_any_other() {
        let end = |chunks: &[ResultChunk], json: &str| {
            let mut assembly = Assembly::default();
            chunks.iter().for_each(|chunk| assembly.take(chunk, 1000));
            assembly.finish(Some(&JobResult::Inline(crate::json::Json::parse(json).expect("JSON"))))
        };
        let pieces = [chunk(0, "ab", true), chunk(1, "cd", false)];
        assert_eq!(end(&pieces, "null"), ResultData::Streamed { bytes: b"abcd".to_vec(), text: true });
        assert!(matches!(end(&pieces[..1], "null"), ResultData::Broken { .. }), "the last piece is missing");
        assert!(matches!(end(&pieces, "1"), ResultData::Broken { .. }));
        for json in ["null", "1"] {
            let inline = ResultData::Inline(crate::json::Json::parse(json).expect("JSON"));
            assert_eq!(end(&[], json), inline);
        }
    }
}
