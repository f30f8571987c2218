//! What must hold of artifacts in every run: nobody is shown a byte of somebody else's, but
//! for what the agent of a job has left whom the job is shown to; what a runtime says that it
//! holds is what the log keeps; and no bound is passed.

#![allow(clippy::wildcard_enum_match_arm, reason = "an oracle looks at what it knows")]

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{ConnId, JobId, LogPos, Principal};
use arcp_proto::json::decode_base64;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::{ArtifactRecord, Batch, Record, Runtime, kept_artifacts};
use serde_json::Value;

/// The letter that every artifact of a principal consists of.
pub fn letter(principal: &str) -> u8 {
    principal.bytes().next().expect("a name").to_ascii_uppercase()
}

/// Watches the artifacts of one run.
#[derive(Debug, Default)]
pub struct ArtifactLog {
    /// What the log says of them.
    said: Vec<(LogPos, Said)>,
    /// Where the log ends.
    last: LogPos,
    /// Whose each job was, one after the other.
    owners: BTreeMap<JobId, BTreeSet<Principal>>,
    /// Who is shown every job.
    pub sees_all: BTreeSet<String>,
    /// How many there may be, and bytes of them, in a world whose artifacts tell by their
    /// [`letter`] whose they are; `None`: nothing is known of them.
    pub bounds: Option<(usize, usize)>,
    /// The artifact whose bytes follow on a connection.
    announced: BTreeMap<ConnId, String>,
    /// What a run came to.
    pub came: Fetched,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetched {
    /// Artifacts that were kept.
    pub kept: usize,
    /// Artifacts that were forgotten.
    pub forgotten: usize,
    /// Times that bytes were shown.
    pub shown: usize,
    /// Times that they were shown to somebody else than whose they are.
    pub to_watchers: usize,
    /// Times that somebody was told that a job has ended with one as its result.
    pub results: usize,
}

#[derive(Debug)]
enum Said {
    Kept(Box<ArtifactRecord>),
    Forgotten(Vec<LogPos>),
}

impl ArtifactLog {
    /// Watches what is given to the store.
    ///
    /// # Panics
    ///
    /// If more is kept than may be.
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

    /// The runtime died with this much in the store.
    pub fn crash(&mut self, durable: LogPos) {
        self.said.retain(|(at, _)| *at <= durable);
        self.last = durable;
        self.announced.clear();
    }

    /// What is kept, by where its record stands.
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

    /// What a runtime holds whose log ends there is what that says, to the byte. One whose
    /// store fails has perhaps not given everything to it yet.
    ///
    /// # Panics
    ///
    /// If it is something else.
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

    /// Watches a frame that is sent to whoever came with a token.
    ///
    /// # Panics
    ///
    /// If it shows a byte that is not theirs to see.
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

    /// Watches what follows a frame.
    ///
    /// # Panics
    ///
    /// If it shows a byte that is not theirs to see.
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

    /// Whether some agent has left what is known by an id, whose job a principal is shown.
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
