//! Artifacts that come in parts.
//!
//! ```text
//! first part ─▶ open ─▶ next part ─▶ open ─▶ the host stores the whole ─▶ an artifact
//!                 └─ abandoned, no part in time, or lost by the host ─▶ forgotten
//! ```
//!
//! An upload is identified by its principal and the digest of the whole, so that a client can go on after it has
//! lost its connection. Uploads are not recorded: a crash loses them, and the host drops their parts at the next
//! start.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use core::time::Duration;

use super::{Artifacts, Asker, ENTRY, Most};
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, OpId, Principal, SessionId};
use crate::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest, BlobHasher};
use crate::model::upload::ArtifactPart;
use crate::principal::Account;
use crate::runtime::account::{Charge, HeldFor, Holding, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::{Output, PartsStep};
use crate::time::Timestamp;

/// How long the next part may take. After that the upload is abandoned.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The principal of an upload, and the digest of the whole.
pub(super) type Whose = (Principal, BlobDigest);

/// Uploads that are not finished.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: BTreeMap<Whose, Upload>,
    by_end: BTreeSet<(Timestamp, Whose)>,
    totals: BTreeMap<Account, (usize, usize)>,
    /// Bytes that all of them are to have.
    bytes: usize,
    last: u64,
}

#[derive(Debug)]
struct Upload {
    number: u64,
    size: u64,
    received: u64,
    hasher: BlobHasher,
    /// The operation that stores a part, with the bytes and the hash once it is done.
    storing: Option<(OpId, u64, BlobHasher)>,
    end: End,
    /// When the upload is abandoned, unless it goes on before.
    until: Timestamp,
    charge: Charge,
}

/// The state of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Parts are missing, or the client has not finished the upload.
    Open,
    /// The host is storing the whole.
    Storing(OpId),
    /// The host has stored the whole. It stays as long as the upload, which its client has not heard of yet.
    Stored,
}

/// What becomes of a part.
#[derive(Debug)]
pub(in crate::runtime) enum Part {
    /// It came before. This many bytes have come in all.
    Received(u64),
    /// The host is storing it.
    Storing(OpId),
}

impl Uploads {
    /// How many uploads are open, and the bytes they are to have: of an account, and in all.
    pub(super) fn held(&self, account: &Account) -> ((usize, usize), (usize, usize)) {
        (self.totals.get(account).copied().unwrap_or_default(), (self.open.len(), self.bytes))
    }

    /// When the first of them is abandoned.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.by_end.first().map(|(until, _)| *until)
    }

    fn begin(&mut self, ctx: &mut Context, whose: &Whose, size: u64) {
        self.last += 1;
        let upload = Upload {
            number: self.last,
            size,
            received: 0,
            hasher: BlobHasher::default(),
            storing: None,
            end: End::Open,
            until: ctx.now.mono + LONGEST_PAUSE,
            charge: ctx.accounts.of(&whose.0.account()).charge(HeldFor::Artifacts, ENTRY),
        };
        self.insert(whose, upload);
    }

    fn insert(&mut self, whose: &Whose, upload: Upload) {
        self.by_end.insert((upload.until, whose.clone()));
        let bytes = usize::try_from(upload.size).unwrap_or(usize::MAX);
        let (count, total) = self.totals.entry(whose.0.account()).or_default();
        (*count, *total) = (*count + 1, total.saturating_add(bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        self.open.insert(whose.clone(), upload);
    }

    fn remove(&mut self, whose: &Whose) -> Option<Upload> {
        let upload = self.open.remove(whose)?;
        self.by_end.remove(&(upload.until, whose.clone()));
        let bytes = usize::try_from(upload.size).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_sub(bytes);
        let account = whose.0.account();
        if let Some((count, total)) = self.totals.get_mut(&account) {
            (*count, *total) = (*count - 1, total.saturating_sub(bytes));
            if *count == 0 {
                self.totals.remove(&account);
            }
        }
        Some(upload)
    }

    /// Moves the deadline of an upload.
    fn prolong(&mut self, ctx: &Context, whose: &Whose) {
        if let Some(upload) = self.open.get_mut(whose) {
            self.by_end.remove(&(upload.until, whose.clone()));
            upload.until = ctx.now.mono + LONGEST_PAUSE;
            self.by_end.insert((upload.until, whose.clone()));
        }
    }

    /// The uploads of a principal.
    pub(super) fn of(&self, principal: &Principal) -> alloc::vec::Vec<Whose> {
        self.open.keys().filter(|(whose, _)| whose == principal).cloned().collect()
    }

    /// An upload whose deadline has passed.
    pub(super) fn overdue(&self, ctx: &Context) -> Option<Whose> {
        self.by_end.first().filter(|(until, _)| *until <= ctx.now.mono).map(|(_, whose)| whose.clone())
    }

    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for upload in self.open.values() {
            debug_assert_eq!(upload.charge.bytes(), ENTRY, "what it is never changes");
            recount.add(upload.charge.balance(), HeldFor::Artifacts, ENTRY);
        }
    }
}

impl Artifacts {
    /// Takes a part from a connection, which waits until the host has stored it.
    ///
    /// # Errors
    ///
    /// Why it is not taken. Earlier parts stay.
    pub(in crate::runtime) fn on_part(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        part: &ArtifactPart,
    ) -> Result<Part, Violation> {
        let whose = (principal.clone(), part.digest);
        if !self.uploads.open.contains_key(&whose) {
            if part.offset > 0 {
                let why = format!("no part of {} has come, or the last one too long ago: begin at 0", part.digest);
                return Err(Violation::new(ErrorCode::FailedPrecondition, why));
            }
            self.check_upload(ctx, principal, part.size)?;
            self.uploads.begin(ctx, &whose, part.size);
            self.plan(ctx);
        }
        let Some(upload) = self.uploads.open.get(&whose) else { return Ok(Part::Received(0)) };
        if upload.size != part.size {
            let why = format!("`size` was {}, and is {} now", upload.size, part.size);
            return Err(Violation::invalid(why));
        }
        let end = part.offset.saturating_add(part.data.len() as u64);
        if end > upload.size {
            let why = format!("the part ends at {end}, and there are {} bytes in all", upload.size);
            return Err(Violation::invalid(why));
        }
        if end <= upload.received {
            return Ok(Part::Received(upload.received));
        }
        if upload.storing.is_some() {
            let why = "another part of it is being stored: send this one again";
            return Err(Violation::new(ErrorCode::Unavailable, why));
        }
        if part.offset != upload.received {
            let why = format!("`offset` is {}, and {} bytes have come", part.offset, upload.received);
            return Err(Violation::new(ErrorCode::FailedPrecondition, why));
        }
        let op = self.begin(ctx, (Asker::Conn(conn), principal), part.digest, false)?;
        self.parts.insert(op, whose.clone());
        if let Some(upload) = self.uploads.open.get_mut(&whose) {
            let mut hasher = upload.hasher.clone();
            hasher.update(&part.data);
            upload.storing = Some((op, end, hasher));
            let (number, offset, bytes) = (upload.number, part.offset, part.data.clone());
            ctx.output(Output::Parts(PartsStep::Append { op, upload: number, offset, bytes }));
        }
        Ok(Part::Storing(op))
    }

    /// Whether one more upload may begin.
    fn check_upload(&self, ctx: &Context, principal: &Principal, size: u64) -> Result<(), Violation> {
        let (limits, account) = (&ctx.config.limits, principal.account());
        let ((own, _), (all, _)) = self.uploads.held(&account);
        let total = limits.total_for(&account, limits.artifact.artifact_uploads);
        let held = Holding { own, all, total };
        let (of, what) = (account.bound_of(), "artifacts that come in parts");
        held.admit(1, limits.job.principal_share, of, "artifact_uploads", what)?;
        Most::Whole.check(ctx, size)?;
        self.check_room(ctx, principal, size)
    }

    /// The host has stored a part or the whole, or has failed to. After a failure the whole upload is lost.
    pub(super) fn on_part_stored(&mut self, ctx: &mut Context, op: OpId, stored: bool) {
        let Some(whose) = self.parts.remove(&op) else {
            return; // The operation is not of an upload.
        };
        let Some(upload) = self.uploads.open.get_mut(&whose) else {
            return; // The upload was abandoned meanwhile.
        };
        if upload.end == End::Storing(op) && stored {
            upload.end = End::Stored;
            self.pin(whose.1);
            self.uploads.prolong(ctx, &whose);
            return self.plan(ctx);
        }
        if upload.end == End::Storing(op) {
            return self.abandon(ctx, &whose);
        }
        let Some((_, received, hasher)) = upload.storing.take_if(|(storing, ..)| *storing == op) else {
            return; // The upload was begun anew meanwhile.
        };
        if !stored {
            return self.abandon(ctx, &whose);
        }
        (upload.received, upload.hasher) = (received, hasher);
        self.uploads.prolong(ctx, &whose);
        self.plan(ctx);
    }

    /// All parts have come: has the host store the whole, for the connection that finishes the upload. `None`: it is
    /// stored already. The parts stay until the artifact is kept, even if this is refused.
    ///
    /// # Errors
    ///
    /// If parts are missing, the bytes do not have the digest, or there is no room.
    pub(in crate::runtime) fn begin_finish(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        terms: &ArtifactTerms,
    ) -> Result<Option<OpId>, Violation> {
        let whose = (principal.clone(), terms.digest);
        let missing = |why| Err(Violation::new(ErrorCode::FailedPrecondition, why));
        let Some(upload) = self.uploads.open.get(&whose) else {
            return missing(format!("no part of {} has come, or the last one too long ago: begin at 0", terms.digest));
        };
        let (size, received, number) = (upload.size, upload.received, upload.number);
        if received != size || size != terms.size {
            return missing(format!("{received} of {} bytes have come", terms.size));
        }
        match upload.end {
            End::Open => {}
            End::Storing(_) => return Err(Violation::new(ErrorCode::Unavailable, "it is being stored: ask again")),
            End::Stored => return Ok(None),
        }
        let came = upload.hasher.digest();
        if came != terms.digest {
            self.abandon(ctx, &whose);
            return Err(Violation::invalid(format!("`sha256` says {}, and what came has {came}", terms.digest)));
        }
        self.check_whole(ctx, &whose, terms)?;
        let op = self.begin(ctx, (Asker::Conn(conn), principal), terms.digest, true)?;
        self.parts.insert(op, whose.clone());
        if let Some(upload) = self.uploads.open.get_mut(&whose) {
            upload.end = End::Storing(op);
        }
        ctx.output(Output::Parts(PartsStep::Finish { op, upload: number, digest: terms.digest }));
        Ok(Some(op))
    }

    /// Whether the whole may be kept as an artifact. Its upload, which reserved the room, does not count.
    fn check_whole(&mut self, ctx: &Context, whose: &Whose, terms: &ArtifactTerms) -> Result<(), Violation> {
        let upload = self.uploads.remove(whose);
        let checked = self.check_put(ctx, &whose.0, terms, Most::Whole);
        if let Some(upload) = upload {
            self.uploads.insert(whose, upload);
        }
        checked.map(drop)
    }

    /// Makes the stored whole an artifact.
    ///
    /// # Errors
    ///
    /// Why it cannot be kept. The parts stay.
    pub(in crate::runtime) fn keep_whole(
        &mut self,
        ctx: &mut Context,
        (principal, session): (&Principal, SessionId),
        terms: &ArtifactTerms,
    ) -> Result<ArtifactRef, Violation> {
        let whose = (principal.clone(), terms.digest);
        self.check_whole(ctx, &whose, terms)?;
        let by_chance = |ctx: &mut Context| ctx.entropy.ulid(ctx.now.utc);
        let kept = self.keep(ctx, (principal, session, None), terms, by_chance);
        self.abandon(ctx, &whose);
        Ok(kept)
    }

    /// Drops an upload and its parts.
    pub(in crate::runtime) fn abandon(&mut self, ctx: &mut Context, whose: &Whose) {
        if let Some(upload) = self.uploads.remove(whose) {
            match upload.end {
                End::Open | End::Storing(_) => {
                    ctx.output(Output::Parts(PartsStep::Abandon { upload: upload.number }));
                }
                End::Stored => self.let_go_of(ctx, whose.1),
            }
            self.plan(ctx);
        }
    }

    /// Drops the uploads whose deadline has passed.
    pub(super) fn drop_overdue(&mut self, ctx: &mut Context) {
        while let Some(whose) = self.uploads.overdue(ctx) {
            self.abandon(ctx, &whose);
        }
    }
}
