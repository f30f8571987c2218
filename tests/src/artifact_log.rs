//! What must hold for artifacts in every run:
//!
//! * A principal is shown only bytes of its own artifacts, and of those that the agent of a job left that is shown to
//!   it.
//! * What a runtime counts as held is what the log keeps.
//! * No bound is exceeded.

#![allow(clippy::wildcard_enum_match_arm, reason = "an oracle looks at what it knows")]

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{ConnId, JobId, LogPos, Principal};
use arcp_proto::json::decode_base64;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::{ArtifactRecord, Batch, Record, Runtime, kept_artifacts};
use serde_json::Value;

/// The letter that fills all artifacts of a principal.
pub fn letter(principal: &str) -> u8 {
    principal.bytes().next().expect("a name").to_ascii_uppercase()
}

/// Watches the artifacts of one run.
#[derive(Debug, Default)]
pub struct ArtifactLog {
    /// The records about artifacts.
    said: Vec<(LogPos, Said)>,
    /// The last position of the log.
    last: LogPos,
    /// All owners that each job has had.
    owners: BTreeMap<JobId, BTreeSet<Principal>>,
    /// The principals that are shown every job.
    pub sees_all: BTreeSet<String>,
    /// The most artifacts, and their most bytes, in a world whose artifacts consist of the [`letter`] of their
    /// principal; `None`: no checks are made.
    pub bounds: Option<(usize, usize)>,
    /// The artifact whose bytes come next on a connection.
    announced: BTreeMap<ConnId, String>,
    /// The counts of the run.
    pub came: Fetched,
}

/// What happened to artifacts in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetched {
    /// Artifacts that were stored.
    pub kept: usize,
    /// Artifacts that were deleted.
    pub forgotten: usize,
    /// How often bytes were sent to a client.
    pub shown: usize,
    /// How often they were sent to another principal than their owner.
    pub to_watchers: usize,
    /// How often a client was told of a job whose result is an artifact.
    pub results: usize,
}

#[derive(Debug)]
enum Said {
    Kept(Box<ArtifactRecord>),
    Forgotten(Vec<LogPos>),
}

impl ArtifactLog {
    /// Watches a batch for the store.
    ///
    /// # Panics
    ///
    /// If more is kept than the bounds allow.
    pub fn batch(&mut self, batch: &Batch) {
        let mut changed = false;
        self.last = batch.last();
        for (at, record) in batch.entries() {
            match record {
                Record::JobAccepted(job) => {
                    self.owners.entry(job.job).or_default().insert(job.principal.clone());
                }
                Record::HandedOver { job, principal, .. } => {
                    self.owners.entry(*job).or_default().insert(principal.clone());
                }
                Record::ArtifactKept(kept) => {
                    self.came.kept += 1;
                    self.said.push((at, Said::Kept(kept.clone())));
                    changed = true;
                }
                Record::ArtifactsForgotten { entries } => {
                    self.came.forgotten += entries.len();
                    self.said.push((at, Said::Forgotten(entries.clone())));
                    changed = true;
                }
                _ => {}
            }
        }
        if let Some((count, bytes)) = self.bounds.filter(|_| changed) {
            let kept = self.kept();
            let size: u64 = kept.values().map(|artifact| artifact.size).sum();
            assert!(kept.len() <= count && size <= bytes as u64, "{} artifacts of {size} bytes are kept", kept.len());
        }
    }

    /// The runtime crashed; the store has the log up to `durable`.
    pub fn crash(&mut self, durable: LogPos) {
        self.said.retain(|(at, _)| *at <= durable);
        self.last = durable;
        self.announced.clear();
    }

    /// The artifacts that are kept, by the positions of their records.
    fn kept(&self) -> BTreeMap<LogPos, &ArtifactRecord> {
        let mut kept = BTreeMap::new();
        for (at, said) in &self.said {
            match said {
                Said::Kept(record) => drop(kept.insert(*at, &**record)),
                Said::Forgotten(entries) => entries.iter().for_each(|entry| {
                    assert!(kept.remove(entry).is_some(), "{entry:?} is forgotten, and no artifact is kept there");
                }),
            }
        }
        kept
    }

    /// Checks that a runtime whose log ends at `at` holds what the log says, to the byte. Skips a runtime whose store
    /// fails, because it may not have given everything to the store yet.
    ///
    /// # Panics
    ///
    /// If it holds something else.
    pub fn is_counted(&self, runtime: &Runtime, at: LogPos) {
        if at != self.last {
            return;
        }
        let mut by_principal = BTreeMap::<&Principal, (usize, u64)>::new();
        for record in self.kept().values() {
            let (count, bytes) = by_principal.entry(&record.principal).or_default();
            (*count, *bytes) = (*count + 1, *bytes + record.size);
        }
        let all = by_principal.values().fold((0, 0), |all, own| (all.0 + own.0, all.1 + own.1));
        assert_eq!(kept_artifacts(runtime, None), all, "the quota of all is exact");
        for (principal, own) in by_principal {
            assert_eq!(kept_artifacts(runtime, Some(principal)), own, "the quota of {principal} is exact");
        }
    }

    /// Watches a frame that is sent to a client with this token.
    ///
    /// # Panics
    ///
    /// If it shows a byte that the principal may not see.
    pub fn frame(&mut self, conn: ConnId, token: Option<&str>, frame: &Value) {
        let payload = &frame["payload"];
        self.announced.remove(&conn);
        self.came.results += usize::from(payload["result_ref"].is_object());
        if frame["type"] != "artifact.put" || self.bounds.is_none() {
            return;
        }
        let id = payload["artifact_id"].as_str().expect("it says what it is known by");
        match payload["data"].as_str() {
            Some(data) => self.shown(token, id, &decode_base64(data).expect("base64"), payload),
            None => drop(self.announced.insert(conn, id.to_string())),
        }
    }

    /// Watches a sidecar after its frame.
    ///
    /// # Panics
    ///
    /// If it shows a byte that the principal may not see.
    pub fn sidecar(&mut self, conn: ConnId, token: Option<&str>, bytes: &[u8]) {
        if let Some(id) = self.announced.remove(&conn) {
            self.shown(token, &id, bytes, &Value::Null);
        }
    }

    fn shown(&mut self, token: Option<&str>, id: &str, bytes: &[u8], payload: &Value) {
        let principal = token.expect("who has no credential has no artifacts").trim_start_matches("tok-");
        self.came.shown += 1;
        let is_whole = payload["size"].as_u64() == Some(bytes.len() as u64);
        let digest = BlobDigest::of(bytes).to_string();
        assert!(!is_whole || payload["sha256"] == digest, "{id} is not what it says: {payload}");
        let is_own = bytes.iter().all(|byte| *byte == letter(principal));
        if !is_own {
            self.came.to_watchers += 1;
            assert!(self.may_watch(principal, id), "{principal} is shown bytes of somebody else: {id}");
        }
    }

    /// Whether the artifact with this id was left by an agent whose job is shown to the principal.
    fn may_watch(&self, principal: &str, id: &str) -> bool {
        let left = self.said.iter().filter_map(|(_, said)| match said {
            Said::Kept(record) if record.id.as_str() == id => record.job,
            Said::Kept(_) | Said::Forgotten(_) => None,
        });
        let sees = |job: JobId| {
            let owners = self.owners.get(&job).into_iter().flatten();
            self.sees_all.contains(principal) || owners.map(ToString::to_string).any(|owner| owner == principal)
        };
        left.into_iter().any(sees)
    }
}
