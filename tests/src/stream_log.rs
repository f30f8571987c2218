//! What must hold for streams in every run. In the log each stream begins, has its chunks without a gap, and ends
//! once, with its job at the latest. Redacted text is shown only to the principal that submitted the job.

use std::collections::BTreeMap;
use std::sync::Arc;

use arcp_proto::id::{JobId, LogPos};
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::stream::{StreamEvent, StreamReader, StreamSays};
use arcp_proto::runtime::{Batch, Record};
use serde_json::Value;

/// The text that agents redact.
pub const REDACTED: &str = "r3dacted";

/// Watches the streams of one run.
#[derive(Debug, Default)]
pub struct StreamLog {
    /// The records about streams, and the ends of jobs.
    said: Vec<(LogPos, JobId, Arc<JobEvent>)>,
    /// The principal that submitted each job.
    submitters: BTreeMap<String, String>,
}

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streamed {
    /// Chunks with a number.
    pub chunks: usize,
    /// Streams that were closed.
    pub closed: usize,
    /// Streams that failed.
    pub failed: usize,
    /// Streams that clients opened.
    pub inbound: usize,
    /// Chunks that were shed.
    pub shed: u64,
}

impl StreamLog {
    /// Watches a batch for the store.
    pub fn batch(&mut self, batch: &Batch) {
        for (at, record) in batch.entries() {
            if let Record::JobAccepted(job) = record {
                self.submitters.insert(job.job.to_string(), job.principal.to_string());
            }
            if let Record::JobEvent { job, event } = record
                && (StreamEvent::of(&event.event).is_some() || matches!(*event.event, JobEvent::Ended(_)))
            {
                self.said.push((at, *job, event.event.clone()));
            }
        }
    }

    /// The runtime crashed; the store has the log up to `durable`.
    pub fn crash(&mut self, durable: LogPos) {
        self.said.retain(|(at, _, _)| *at <= durable);
    }

    /// Watches a frame that is sent to a client with this token.
    pub fn frame(&self, token: Option<&str>, frame: &Value) {
        let principal = token.map(|token| token.trim_start_matches("tok-"));
        let copy = &frame["payload"]["event"];
        let shown = if copy.is_object() { copy } else { frame };
        let job = shown["job_id"].as_str().or(shown["payload"]["job_id"].as_str());
        let submitter = job.and_then(|job| self.submitters.get(job));
        if submitter.is_some_and(|submitter| Some(submitter.as_str()) != principal) {
            assert!(!shown.to_string().contains(REDACTED), "{principal:?} is shown what is redacted: {frame}");
        }
    }

    /// Checks the streams when every job has ended.
    ///
    /// # Panics
    ///
    /// If a stream is incomplete, or has not ended.
    pub fn check(&self) -> Streamed {
        let (mut readers, mut open) = (BTreeMap::<JobId, StreamReader>::new(), BTreeMap::new());
        let mut came = Streamed::default();
        for (_, job, event) in &self.said {
            let Some(read) = readers.entry(*job).or_default().read(event) else {
                let left: Vec<_> = open.keys().filter(|(of, _)| of == job).collect();
                assert!(left.is_empty(), "{job} ends before its streams: {left:?}");
                continue;
            };
            let StreamEvent { stream, says } = read.unwrap_or_else(|why| panic!("{job}: {why}"));
            let key = (*job, stream);
            match says {
                StreamSays::Opened { inbound, .. } => {
                    came.inbound += usize::from(inbound);
                    assert_eq!(open.insert(key.clone(), 0), None, "{key:?} begins twice");
                }
                StreamSays::Chunk { sequence, .. } => {
                    let next = open.get_mut(&key).unwrap_or_else(|| panic!("{key:?} is not open"));
                    assert_eq!(*next, sequence, "{key:?} has a gap");
                    *next += 1;
                    came.chunks += 1;
                }
                StreamSays::Closed { shed, .. } => {
                    assert!(open.remove(&key).is_some(), "{key:?} ends twice");
                    came.closed += 1;
                    came.shed += shed;
                }
                StreamSays::Failed { .. } => {
                    assert!(open.remove(&key).is_some(), "{key:?} ends twice");
                    came.failed += 1;
                }
            }
        }
        came
    }
}
