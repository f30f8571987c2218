//! Artifacts: bytes that clients and agents leave with the runtime, until they are released or expire (RFC §16).
//!
//! ```text
//! put ─▶ stored (the host has the bytes) ─▶ kept (a record says so) ─▶ forgotten ─▶ dropped
//! ```
//!
//! The host keeps the bytes by their digest, equal ones once; the log keeps what is known about them. Bytes are
//! stored before their record, and dropped once it is durable that nothing refers to them. So a crash leaves
//! unowned bytes, which the host drops at the next start, but never a record without its bytes.

mod uploads;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;

use ulid::Ulid;

use super::account::{Charge, HeldFor, Holding, Recount};
use super::context::Context;
use super::io::{BlobRange, Output, Record};
use super::records::ArtifactRecord;
use super::timers::Timer;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{CallId, ConnId, JobId, LogPos, OpId, Principal, SessionId, WireId, prefixed};
use crate::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest};
use crate::model::upload::ListedArtifact;
use crate::principal::Account;
use crate::time::UtcMs;
pub(super) use uploads::Part;
use uploads::{Uploads, Whose};

/// The most artifacts that one record forgets.
const STEP: usize = 256;
/// Bytes of an artifact besides its texts, rounded up.
const ENTRY: usize = 768;

/// The owner of an artifact, and its id there.
type Key = (Principal, WireId);

/// All artifacts.
#[derive(Debug, Default)]
pub(super) struct Artifacts {
    kept: BTreeMap<Key, Artifact>,
    by_end: BTreeSet<(UtcMs, Key)>,
    by_record: BTreeMap<LogPos, Key>,
    totals: BTreeMap<Account, Total>,
    /// Bytes of all artifacts together.
    bytes: usize,
    /// The jobs whose agents have left artifacts, by artifact id.
    by_agents: BTreeMap<WireId, JobId>,
    /// The owners of those artifacts.
    by_job: BTreeMap<(JobId, WireId), Principal>,
    /// How many artifacts, writes and uploads refer to each blob.
    blobs: BTreeMap<BlobDigest, usize>,
    /// Operations that the host is at.
    running: BTreeMap<OpId, Operation>,
    /// Artifacts that come in parts.
    uploads: Uploads,
    /// The parts that the host is storing.
    parts: BTreeMap<OpId, Whose>,
    /// Blobs to drop once this position is durable, unless something refers to them again.
    going: VecDeque<(LogPos, BlobDigest)>,
}

#[derive(Debug)]
struct Artifact {
    record: ArtifactRecord,
    at: LogPos,
    charge: Charge,
}

/// What an account has left here.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    count: usize,
    bytes: usize,
}

/// What waits for the host.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// The request of a connection.
    Conn(ConnId),
    /// The call of an agent, which leaves an artifact with these terms.
    Agent(JobId, CallId, Box<ArtifactTerms>),
}

/// An operation of the host.
#[derive(Debug)]
struct Operation {
    asker: Asker,
    account: Account,
    digest: BlobDigest,
    /// Whether it writes: then the bytes stay until it is over.
    writes: bool,
}

/// The bound on the size of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Most {
    /// For one that comes in one frame.
    AtOnce,
    /// For one that comes from an agent, or in parts.
    Whole,
}

impl Most {
    /// # Errors
    ///
    /// If it is larger.
    fn check(self, ctx: &Context, size: u64) -> Result<(), Violation> {
        let limits = &ctx.config.limits.artifact;
        let (name, most, how) = match self {
            Most::AtOnce => ("artifact_bytes", limits.artifact_bytes, "that is put at once "),
            Most::Whole => ("whole_artifact_bytes", limits.whole_artifact_bytes, ""),
        };
        if size <= most as u64 {
            return Ok(());
        }
        let why = format!("an artifact {how}may have at most {most} bytes");
        Err(Violation::exhausted(name, BoundOf::Request, most as u64, why))
    }
}

fn listed(artifact: &Artifact) -> ListedArtifact {
    ListedArtifact { artifact: artifact.record.shown(), job: artifact.record.job }
}

impl Artifacts {
    /// A principal's artifact with this id.
    pub(super) fn get(&self, principal: &Principal, id: &WireId) -> Option<ArtifactRef> {
        self.kept.get(&(principal.clone(), id.clone())).map(|artifact| artifact.record.shown())
    }

    /// The artifact with this id that an agent has left, and its job. Whoever may watch the job may fetch it.
    pub(super) fn of_agent(&self, id: &WireId) -> Option<(JobId, ArtifactRef)> {
        let job = *self.by_agents.get(id)?;
        let whose = self.by_job.get(&(job, id.clone()))?;
        Some((job, self.get(whose, id)?))
    }

    /// A principal's artifacts after `after`, as a listing shows them.
    pub(super) fn listed<'a>(
        &'a self,
        principal: &'a Principal,
        after: Option<&WireId>,
    ) -> impl Iterator<Item = ListedArtifact> + 'a {
        let first = after.cloned().or_else(|| WireId::new("\0")).map(|from| (principal.clone(), from));
        let from = first.map_or(Bound::Unbounded, Bound::Excluded);
        let own = self.kept.range((from, Bound::Unbounded)).take_while(move |((whose, _), _)| whose == principal);
        own.map(|(_, artifact)| listed(artifact))
    }

    /// The artifacts after `after` that the agent of a job has left.
    pub(super) fn listed_of(&self, job: JobId, after: Option<&WireId>) -> impl Iterator<Item = ListedArtifact> {
        let from = after.cloned().or_else(|| WireId::new("\0")).map(|from| (job, from));
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let left = self.by_job.range((from, Bound::Unbounded)).take_while(move |((of, _), _)| *of == job);
        left.filter_map(|((_, id), whose)| self.kept.get(&(whose.clone(), id.clone()))).map(listed)
    }

    /// Whether an artifact may be kept: its id is free, and there is room. Returns the artifact if an equal one has
    /// the id already.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub(super) fn check_put(
        &self,
        ctx: &Context,
        principal: &Principal,
        terms: &ArtifactTerms,
        most: Most,
    ) -> Result<Option<ArtifactRef>, Violation> {
        most.check(ctx, terms.size)?;
        if terms.retain == Some(Duration::ZERO) {
            return Err(Violation::invalid(
                "`retain_seconds` must be at least 1: what is kept for no time is not kept",
            ));
        }
        if let Some(there) = terms.id.as_ref().and_then(|id| self.get(principal, id)) {
            return match there.digest == terms.digest && there.media_type == terms.media_type {
                true => Ok(Some(there)),
                false => {
                    let why = format!("another artifact of yours is known as `{}`: release it first", there.id);
                    Err(Violation::new(ErrorCode::FailedPrecondition, why))
                }
            };
        }
        self.check_room(ctx, principal, terms.size)?;
        Ok(None)
    }

    /// Whether there is room for one more, of `size` bytes.
    fn check_room(&self, ctx: &Context, principal: &Principal, size: u64) -> Result<(), Violation> {
        let limits = &ctx.config.limits;
        let (account, share) = (principal.account(), limits.job.principal_share);
        let own = self.totals.get(&account).copied().unwrap_or_default();
        // An upload reserves its room when its first part comes.
        let ((own_count, own_bytes), (count, bytes)) = self.uploads.held(&account);
        let room = |own, all, total| Holding { own, all, total: limits.total_for(&account, total) };
        let of = account.bound_of();
        let count = room(own.count + own_count, self.kept.len() + count, limits.artifact.artifacts);
        count.admit(1, share, of, "artifacts", "artifacts")?;
        let own = own.bytes.saturating_add(own_bytes);
        let bytes = room(own, self.bytes.saturating_add(bytes), limits.artifact.all_artifact_bytes);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        bytes.admit(size, share, of, "all_artifact_bytes", "the bytes of artifacts")
    }

    /// Has the host store the bytes that a connection has put.
    ///
    /// # Errors
    ///
    /// If the host is at too many operations.
    pub(super) fn begin_store(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        digest: BlobDigest,
        bytes: Vec<u8>,
    ) -> Result<OpId, Violation> {
        let op = self.begin(ctx, (Asker::Conn(conn), principal), digest, true)?;
        ctx.output(Output::StoreBlob { op, digest, bytes });
        Ok(op)
    }

    /// Has the host store the bytes that an agent offers with a call.
    ///
    /// # Errors
    ///
    /// If the host is at too many operations.
    pub(super) fn begin_take(
        &mut self,
        ctx: &mut Context,
        principal: &Principal,
        (job, call): (JobId, CallId),
        terms: Box<ArtifactTerms>,
    ) -> Result<(), Violation> {
        let (digest, size) = (terms.digest, terms.size);
        let op = self.begin(ctx, (Asker::Agent(job, call, terms), principal), digest, true)?;
        ctx.output(Output::TakeBlob { op, job, call, digest, size });
        Ok(())
    }

    /// Has the host read bytes for a connection.
    ///
    /// # Errors
    ///
    /// If the host is at too many operations.
    pub(super) fn begin_read(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        digest: BlobDigest,
        range: Option<BlobRange>,
    ) -> Result<OpId, Violation> {
        let op = self.begin(ctx, (Asker::Conn(conn), principal), digest, false)?;
        ctx.output(Output::ReadBlob { op, digest, range });
        Ok(op)
    }

    fn begin(
        &mut self,
        ctx: &mut Context,
        (asker, principal): (Asker, &Principal),
        digest: BlobDigest,
        writes: bool,
    ) -> Result<OpId, Violation> {
        let (limits, account) = (&ctx.config.limits, principal.account());
        let own = self.running.values().filter(|running| running.account == account).count();
        let running = Holding { own, all: self.running.len(), total: limits.artifact.artifact_operations };
        let what = "artifacts that are being stored and read";
        running.admit(1, limits.job.principal_share, account.bound_of(), "artifact_operations", what)?;
        let op = ctx.next_op();
        self.running.insert(op, Operation { asker, account, digest, writes });
        if writes {
            self.pin(digest);
        }
        Ok(op)
    }

    /// The host has done what it was asked to, or has failed to. Returns what waits for it.
    pub(super) fn finish(&mut self, ctx: &mut Context, op: OpId, done: bool) -> Option<Asker> {
        self.on_part_stored(ctx, op, done);
        self.running.get(&op).map(|running| running.asker.clone())
    }

    /// Ends an operation, whatever waited for it. Bytes that it stored and nothing keeps are dropped.
    pub(super) fn end(&mut self, ctx: &mut Context, op: OpId) {
        let Some(Operation { digest, writes: true, .. }) = self.running.remove(&op) else {
            return; // The operation is over, or was a read.
        };
        self.let_go_of(ctx, digest);
    }

    /// A reference that is in no record goes.
    fn let_go_of(&mut self, ctx: &mut Context, digest: BlobDigest) {
        self.unpin(digest);
        // If a record did name these bytes, the record that forgets it drops them.
        if self.is_nobodys(digest) && self.going.iter().all(|(_, going)| *going != digest) {
            ctx.output(Output::DropBlob { digest });
        }
    }

    /// Makes stored bytes an artifact. `id`: gives an id if the terms have none; `job`: the job whose agent left it.
    pub(super) fn keep(
        &mut self,
        ctx: &mut Context,
        (principal, session, job): (&Principal, SessionId, Option<JobId>),
        terms: &ArtifactTerms,
        id: impl FnOnce(&mut Context) -> Ulid,
    ) -> ArtifactRef {
        let minted = || WireId::new(&prefixed("art_", id(ctx)));
        let id = terms.id.clone().or_else(minted).unwrap_or_else(|| session.into());
        let longest = ctx.config.timing.longest_artifact_retention;
        let usual = ctx.config.timing.artifact_retention.unwrap_or(longest);
        let until = ctx.now.utc.plus(terms.retain.unwrap_or(usual).min(longest));
        let record = ArtifactRecord {
            id,
            principal: principal.clone(),
            session,
            media_type: terms.media_type.clone(),
            size: terms.size,
            digest: terms.digest,
            until,
            job,
        };
        let (shown, at) = (record.shown(), ctx.append(Record::ArtifactKept(Box::new(record.clone()))));
        self.add(ctx, at, record);
        self.plan(ctx);
        shown
    }

    fn add(&mut self, ctx: &mut Context, at: LogPos, record: ArtifactRecord) {
        let (key, account) = ((record.principal.clone(), record.id.clone()), record.principal.account());
        let total = self.totals.entry(account.clone()).or_default();
        total.count += 1;
        total.bytes = total.bytes.saturating_add(record.bytes());
        self.bytes = self.bytes.saturating_add(record.bytes());
        self.pin(record.digest);
        self.by_end.insert((record.until, key.clone()));
        self.by_record.insert(at, key.clone());
        if let Some(job) = record.job {
            self.by_agents.insert(record.id.clone(), job);
            self.by_job.insert((job, record.id.clone()), record.principal.clone());
        }
        let charge = ctx.accounts.of(&account).charge(HeldFor::Artifacts, ENTRY + record.weight());
        self.kept.insert(key, Artifact { record, at, charge });
    }

    /// Keeps an artifact of an agent until `until` at least, because its job has ended with it as the result. Its
    /// record is written anew.
    pub(super) fn prolong(&mut self, ctx: &mut Context, left: (JobId, WireId), until: UtcMs) {
        let Some(key) = self.by_job.get(&left).map(|whose| (whose.clone(), left.1)) else {
            return; // It was released meanwhile, or has expired.
        };
        let record = self.kept.get(&key).map(|artifact| artifact.record.clone());
        let Some(record) = record.filter(|record| record.until < until) else {
            return; // It is kept for longer already.
        };
        // The bytes stay: nothing is dropped between these two records.
        let forgotten = self.remove(&key).map(|(at, _)| at);
        ctx.append(Record::ArtifactsForgotten { entries: forgotten.into_iter().collect() });
        let record = ArtifactRecord { until, ..record };
        let at = ctx.append(Record::ArtifactKept(Box::new(record.clone())));
        self.add(ctx, at, record);
        self.plan(ctx);
    }

    /// The owner releases an artifact. If it is not there, nothing is to be done.
    pub(super) fn release(&mut self, ctx: &mut Context, principal: &Principal, id: &WireId) {
        if let Some(gone) = self.remove(&(principal.clone(), id.clone())) {
            self.forget(ctx, alloc::vec![gone]);
            self.plan(ctx);
        }
    }

    /// Releases all artifacts of a principal.
    pub(super) fn release_all(&mut self, ctx: &mut Context, principal: &Principal) {
        let Some(first) = WireId::new("\0").map(|least| (principal.clone(), least)) else {
            return; // Unreachable: this is a valid id.
        };
        let own = self.kept.range(first..).map(|(key, _)| key).take_while(|(whose, _)| whose == principal);
        let gone: Vec<_> = own.cloned().collect::<Vec<Key>>().iter().filter_map(|key| self.remove(key)).collect();
        for step in gone.chunks(STEP) {
            self.forget(ctx, step.to_vec());
        }
        for whose in self.uploads.of(principal) {
            self.abandon(ctx, &whose);
        }
        self.plan(ctx);
    }

    /// Forgets artifacts and uploads whose time is over.
    pub(super) fn on_due(&mut self, ctx: &mut Context) {
        self.drop_overdue(ctx);
        let mut gone = Vec::new();
        while gone.len() < STEP
            && let Some((_, key)) = self.by_end.first().filter(|(until, _)| *until <= ctx.now.utc).cloned()
        {
            gone.extend(self.remove(&key));
        }
        if !gone.is_empty() {
            self.forget(ctx, gone);
        }
        self.plan(ctx);
    }

    /// Records that artifacts are forgotten. Their bytes are dropped once that is durable.
    fn forget(&mut self, ctx: &mut Context, gone: Vec<(LogPos, BlobDigest)>) {
        let at = ctx.append(Record::ArtifactsForgotten { entries: gone.iter().map(|(at, _)| *at).collect() });
        self.going.extend(gone.into_iter().map(|(_, digest)| (at, digest)));
    }

    fn remove(&mut self, key: &Key) -> Option<(LogPos, BlobDigest)> {
        let Artifact { record, at, charge: _ } = self.kept.remove(key)?;
        self.by_end.remove(&(record.until, key.clone()));
        self.by_record.remove(&at);
        if let Some(job) = record.job {
            self.by_agents.remove(&record.id);
            self.by_job.remove(&(job, record.id.clone()));
        }
        let account = record.principal.account();
        self.bytes = self.bytes.saturating_sub(record.bytes());
        if let Some(total) = self.totals.get_mut(&account) {
            total.count -= 1;
            total.bytes = total.bytes.saturating_sub(record.bytes());
            if total.count == 0 {
                self.totals.remove(&account);
            }
        }
        self.unpin(record.digest);
        Some((at, record.digest))
    }

    /// Whether nothing refers to a blob.
    fn is_nobodys(&self, digest: BlobDigest) -> bool {
        !self.blobs.contains_key(&digest)
    }

    /// Adds a reference to a blob.
    fn pin(&mut self, digest: BlobDigest) {
        *self.blobs.entry(digest).or_default() += 1;
    }

    /// Removes a reference to a blob.
    fn unpin(&mut self, digest: BlobDigest) {
        if let Some(count) = self.blobs.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.blobs.remove(&digest);
            }
        }
    }

    /// More records are durable: drops the blobs that nothing refers to.
    pub(super) fn on_durable(&mut self, ctx: &mut Context) {
        while let Some((_, digest)) = self.going.front().copied().filter(|(at, _)| ctx.log.is_durable(*at)) {
            self.going.pop_front();
            if self.is_nobodys(digest) {
                ctx.output(Output::DropBlob { digest });
            }
        }
    }

    fn plan(&self, ctx: &mut Context) {
        let first = self.by_end.first().map(|(until, _)| ctx.moment(*until, Duration::MAX));
        match first.into_iter().chain(self.uploads.first_end()).min() {
            Some(at) => ctx.timers.set(Timer::Artifacts, at),
            None => ctx.timers.clear(Timer::Artifacts),
        }
    }

    /// Restores an artifact.
    pub(super) fn restore(&mut self, ctx: &mut Context, at: LogPos, record: ArtifactRecord) {
        self.add(ctx, at, record);
    }

    /// Restores that these were forgotten.
    pub(super) fn restore_forgotten(&mut self, entries: &[LogPos]) {
        for at in entries {
            if let Some(key) = self.by_record.get(at).cloned() {
                self.remove(&key);
            }
        }
    }

    /// All artifacts are restored: tells the host which bytes to keep.
    pub(super) fn on_restored(&mut self, ctx: &mut Context) {
        if ctx.config.timing.artifact_retention.is_some() {
            ctx.output(Output::KeepBlobs { digests: self.blobs.keys().copied().collect() });
        }
        self.plan(ctx);
    }

    /// How many artifacts an account has, or all accounts have, and their bytes.
    pub(super) fn kept_of(&self, account: Option<&Account>) -> (usize, u64) {
        let of_all = Total { count: self.kept.len(), bytes: self.bytes };
        let Total { count, bytes } = match account {
            Some(account) => self.totals.get(account).copied().unwrap_or_default(),
            None => of_all,
        };
        (count, bytes as u64)
    }

    /// All artifacts, for the digest of the runtime.
    pub(super) fn all(&self) -> impl Iterator<Item = &ArtifactRecord> {
        self.kept.values().map(|artifact| &artifact.record)
    }

    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for artifact in self.kept.values() {
            let bytes = ENTRY + artifact.record.weight();
            debug_assert_eq!(artifact.charge.bytes(), bytes, "what it is never changes");
            recount.add(artifact.charge.balance(), HeldFor::Artifacts, bytes);
        }
        self.uploads.recount(recount);
    }
}
