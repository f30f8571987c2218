//! Artifacts: what each principal has left here, until it is released or its time is
//! over (RFC §16).
//!
//! ```text
//! put ─▶ stored (the host has the bytes) ─▶ kept (a record says so) ─▶ forgotten ─▶ dropped
//! ```
//!
//! The host keeps the bytes, by their digest, equal ones once; the log keeps what is
//! known of them. Bytes are there before their record, and go once it is durable that
//! nothing refers to them: a crash leaves bytes of nobody, which the host lets go of at
//! the next start, and never a record without its bytes.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::account::{Charge, HeldFor, Holding, Recount};
use super::context::Context;
use super::io::{Output, Record};
use super::records::ArtifactRecord;
use super::timers::Timer;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, LogPos, OpId, Principal, SessionId, WireId, prefixed};
use crate::model::artifact::{ArtifactRef, BlobDigest, PutArtifact};
use crate::principal::Account;
use crate::time::UtcMs;

/// Artifacts that one record forgets at most.
const STEP: usize = 256;
/// What holding one takes besides its texts, generously.
const ENTRY: usize = 768;

/// Whose it is, and what it is known by there.
type Key = (Principal, WireId);

/// All artifacts.
#[derive(Debug, Default)]
pub(super) struct Artifacts {
    kept: BTreeMap<Key, Artifact>,
    by_end: BTreeSet<(UtcMs, Key)>,
    by_record: BTreeMap<LogPos, Key>,
    totals: BTreeMap<Account, Total>,
    /// How many bytes all of them are of.
    bytes: usize,
    /// How many artifacts and writes refer to bytes.
    blobs: BTreeMap<BlobDigest, usize>,
    /// What the host is at.
    running: BTreeMap<OpId, Operation>,
    /// Bytes that perhaps nothing refers to, once that is durable.
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

/// What the host does for a connection.
#[derive(Debug)]
struct Operation {
    conn: ConnId,
    account: Account,
    digest: BlobDigest,
    /// Whether it writes: then the bytes stay until it is over.
    writes: bool,
}

impl Artifacts {
    /// What a principal has left under an id.
    pub(super) fn get(&self, principal: &Principal, id: &WireId) -> Option<ArtifactRef> {
        self.kept.get(&(principal.clone(), id.clone())).map(|artifact| artifact.record.shown())
    }

    /// Whether bytes may be put: nothing else is known by the id, and there is room.
    /// Gives what is there already, if it is the same.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn check_put(
        &self,
        ctx: &Context,
        principal: &Principal,
        put: &PutArtifact,
        digest: BlobDigest,
    ) -> Result<Option<ArtifactRef>, Violation> {
        let limits = &ctx.config.limits;
        let (size, most) = (put.data.len(), limits.artifact.artifact_bytes);
        if size > most {
            let why = format!("an artifact that is put at once may have at most {most} bytes");
            return Err(Violation::exhausted("artifact_bytes", BoundOf::Request, most as u64, why));
        }
        if let Some(there) = put.id.as_ref().and_then(|id| self.get(principal, id)) {
            return match there.digest == digest && there.media_type == put.media_type {
                true => Ok(Some(there)),
                false => {
                    let why = format!("another artifact of yours is known as `{}`: release it first", there.id);
                    Err(Violation::new(ErrorCode::FailedPrecondition, why))
                }
            };
        }
        let (account, share) = (principal.account(), limits.job.principal_share);
        let own = self.totals.get(&account).copied().unwrap_or_default();
        let room = |own, all, total| Holding { own, all, total: limits.total_for(&account, total) };
        let of = account.bound_of();
        let count = room(own.count, self.kept.len(), limits.artifact.artifacts);
        count.admit(1, share, of, "artifacts", "artifacts")?;
        let bytes = room(own.bytes, self.bytes, limits.artifact.all_artifact_bytes);
        bytes.admit(size, share, of, "all_artifact_bytes", "the bytes of artifacts")?;
        Ok(None)
    }

    /// Has the host store bytes, for the connection that put them.
    ///
    /// # Errors
    ///
    /// If the host is at too much for that.
    pub(super) fn begin_store(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        digest: BlobDigest,
        bytes: Vec<u8>,
    ) -> Result<OpId, Violation> {
        let op = self.begin(ctx, (conn, principal), digest, true)?;
        *self.blobs.entry(digest).or_default() += 1;
        ctx.output(Output::StoreBlob { op, digest, bytes });
        Ok(op)
    }

    /// Has the host read bytes, for the connection that wants them.
    ///
    /// # Errors
    ///
    /// If the host is at too much for that.
    pub(super) fn begin_read(
        &mut self,
        ctx: &mut Context,
        whose: (ConnId, &Principal),
        digest: BlobDigest,
    ) -> Result<OpId, Violation> {
        let op = self.begin(ctx, whose, digest, false)?;
        ctx.output(Output::ReadBlob { op, digest });
        Ok(op)
    }

    fn begin(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        digest: BlobDigest,
        writes: bool,
    ) -> Result<OpId, Violation> {
        let (limits, account) = (&ctx.config.limits, principal.account());
        let own = self.running.values().filter(|running| running.account == account).count();
        let running = Holding { own, all: self.running.len(), total: limits.artifact.artifact_operations };
        let what = "artifacts that are being stored and read";
        running.admit(1, limits.job.principal_share, account.bound_of(), "artifact_operations", what)?;
        let op = ctx.next_op();
        self.running.insert(op, Operation { conn, account, digest, writes });
        Ok(op)
    }

    /// The host has done what it was asked to: gives the connection that waits for it.
    pub(super) fn finish(&mut self, op: OpId) -> Option<ConnId> {
        self.running.get(&op).map(|running| running.conn)
    }

    /// An operation is over for everybody. Bytes that were stored and are not kept go.
    pub(super) fn end(&mut self, ctx: &mut Context, op: OpId) {
        let Some(Operation { digest, writes: true, .. }) = self.running.remove(&op) else {
            return; // It is over already, or has only read.
        };
        self.unpin(digest);
        // No record has ever named them, or one that is forgotten lets go of them.
        if self.is_nobodys(digest) && self.going.iter().all(|(_, going)| *going != digest) {
            ctx.output(Output::DropBlob { digest });
        }
    }

    /// Bytes that the host has stored are an artifact from now on.
    pub(super) fn keep(
        &mut self,
        ctx: &mut Context,
        (principal, session): (&Principal, SessionId),
        put: &PutArtifact,
        digest: BlobDigest,
    ) -> ArtifactRef {
        let minted = || WireId::new(&prefixed("art_", ctx.entropy.ulid(ctx.now.utc)));
        let id = put.id.clone().or_else(minted).unwrap_or_else(|| session.into());
        let longest = ctx.config.timing.longest_artifact_retention;
        let usual = ctx.config.timing.artifact_retention.unwrap_or(longest);
        let until = ctx.now.utc.plus(put.retain.unwrap_or(usual).min(longest));
        let record = ArtifactRecord {
            id,
            principal: principal.clone(),
            session,
            media_type: put.media_type.clone(),
            size: put.data.len() as u64,
            digest,
            until,
        };
        let (shown, at) = (record.shown(), ctx.append(Record::ArtifactKept(alloc::boxed::Box::new(record.clone()))));
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
        *self.blobs.entry(record.digest).or_default() += 1;
        self.by_end.insert((record.until, key.clone()));
        self.by_record.insert(at, key.clone());
        let charge = ctx.accounts.of(&account).charge(HeldFor::Artifacts, ENTRY + record.weight());
        self.kept.insert(key, Artifact { record, at, charge });
    }

    /// An artifact is let go of by whose it is. One that is not there is gone already.
    pub(super) fn release(&mut self, ctx: &mut Context, principal: &Principal, id: &WireId) {
        if let Some(gone) = self.remove(&(principal.clone(), id.clone())) {
            self.forget(ctx, alloc::vec![gone]);
            self.plan(ctx);
        }
    }

    /// All artifacts of a principal are let go of.
    pub(super) fn release_all(&mut self, ctx: &mut Context, principal: &Principal) {
        let Some(first) = WireId::new("\0").map(|least| (principal.clone(), least)) else {
            return; // It is an id.
        };
        let own = self.kept.range(first..).map(|(key, _)| key).take_while(|(whose, _)| whose == principal);
        let gone: Vec<_> = own.cloned().collect::<Vec<Key>>().iter().filter_map(|key| self.remove(key)).collect();
        for step in gone.chunks(STEP) {
            self.forget(ctx, step.to_vec());
        }
        self.plan(ctx);
    }

    /// The time of some is over.
    pub(super) fn on_due(&mut self, ctx: &mut Context) {
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

    /// What was forgotten goes with the record that says so.
    fn forget(&mut self, ctx: &mut Context, gone: Vec<(LogPos, BlobDigest)>) {
        let at = ctx.append(Record::ArtifactsForgotten { entries: gone.iter().map(|(at, _)| *at).collect() });
        self.going.extend(gone.into_iter().map(|(_, digest)| (at, digest)));
    }

    fn remove(&mut self, key: &Key) -> Option<(LogPos, BlobDigest)> {
        let Artifact { record, at, charge: _ } = self.kept.remove(key)?;
        self.by_end.remove(&(record.until, key.clone()));
        self.by_record.remove(&at);
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

    /// Whether nothing refers to bytes.
    fn is_nobodys(&self, digest: BlobDigest) -> bool {
        !self.blobs.contains_key(&digest)
    }

    /// One thing less refers to bytes.
    fn unpin(&mut self, digest: BlobDigest) {
        if let Some(count) = self.blobs.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.blobs.remove(&digest);
            }
        }
    }

    /// More is durable: bytes that nothing refers to go.
    pub(super) fn on_durable(&mut self, ctx: &mut Context) {
        while let Some((_, digest)) = self.going.front().copied().filter(|(at, _)| ctx.log.is_durable(*at)) {
            self.going.pop_front();
            if self.is_nobodys(digest) {
                ctx.output(Output::DropBlob { digest });
            }
        }
    }

    fn plan(&self, ctx: &mut Context) {
        match self.by_end.first() {
            Some((until, _)) => {
                let at = ctx.moment(*until, Duration::MAX);
                ctx.timers.set(Timer::Artifacts, at);
            }
            None => ctx.timers.clear(Timer::Artifacts),
        }
    }

    /// An artifact of an earlier run.
    pub(super) fn restore(&mut self, ctx: &mut Context, at: LogPos, record: ArtifactRecord) {
        self.add(ctx, at, record);
    }

    /// These were forgotten in an earlier run.
    pub(super) fn restore_forgotten(&mut self, entries: &[LogPos]) {
        for at in entries {
            if let Some(key) = self.by_record.get(at).cloned() {
                self.remove(&key);
            }
        }
    }

    /// There are no more of an earlier run: whatever else the host has is nobody's.
    pub(super) fn on_restored(&mut self, ctx: &mut Context) {
        if ctx.config.timing.artifact_retention.is_some() {
            ctx.output(Output::KeepBlobs { digests: self.blobs.keys().copied().collect() });
        }
        self.plan(ctx);
    }

    /// All of them, for a digest of the runtime.
    pub(super) fn all(&self) -> impl Iterator<Item = &ArtifactRecord> {
        self.kept.values().map(|artifact| &artifact.record)
    }

    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for artifact in self.kept.values() {
            let bytes = ENTRY + artifact.record.weight();
            debug_assert_eq!(artifact.charge.bytes(), bytes, "what it is never changes");
            recount.add(artifact.charge.balance(), HeldFor::Artifacts, bytes);
        }
    }
}
