//! Artifacts that clients put, fetch and release (RFC §16).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use super::requests::RequestHandler;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{CallId, JobId, OpId, Principal, WireId, prefixed};
use crate::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest, MediaType, PutArtifact};
use crate::model::feature::Feature;
use crate::model::reply::{CommandReply, FetchedArtifact, RefusedKind, Reply, SessionReply};
use crate::model::upload::{
    ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ByteRange, ListedArtifact,
};
use crate::runtime::Runtime;
use crate::runtime::artifact::{Asker, Most, Part};
use crate::runtime::authority::Act;
use crate::runtime::connection::{self, Blob};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{AgentExit, BlobRange};
use crate::runtime::job::artifact;
use crate::runtime::session::Outcome;

/// The reply to a release.
pub(super) const DONE: &str = "released";

/// The default and the largest number of entries in a page.
const PAGE: (u64, u64) = (100, 1000);

/// The host has stored bytes, or could not.
pub(in crate::runtime) fn on_stored(runtime: &mut Runtime, op: OpId, stored: bool) {
    let fault = || Violation::new(ErrorCode::Unavailable, "the artifact could not be stored: put it again");
    on_blob(runtime, op, stored.then_some(Blob::Stored).ok_or_else(fault));
}

/// The host has read bytes, or could not.
pub(in crate::runtime) fn on_read(runtime: &mut Runtime, op: OpId, bytes: Option<Vec<u8>>) {
    let lost = || Violation::new(ErrorCode::DataLoss, "the bytes of the artifact cannot be read any more");
    on_blob(runtime, op, bytes.map(Blob::Read).ok_or_else(lost));
}

fn on_blob(runtime: &mut Runtime, op: OpId, came: Result<Blob, Violation>) {
    let Some(asker) = runtime.artifacts.finish(&mut runtime.ctx, op, came.is_ok()) else {
        return; // The operation is unknown, or has been answered.
    };
    match asker {
        Asker::Conn(conn) => {
            let judged = connection::on_blob(&mut runtime.connections, &mut runtime.ctx, conn, op, came);
            runtime.hear_again(judged);
        }
        Asker::Agent(job, call, terms) => on_taken(runtime, (job, call), &terms, came.map(drop)),
    }
    runtime.artifacts.end(&mut runtime.ctx, op);
}

/// Has the host store the bytes that an agent offers with its call.
///
/// # Errors
///
/// Why they are refused.
pub(super) fn on_offer(
    runtime: &mut Runtime,
    job: JobId,
    call: CallId,
    terms: Box<ArtifactTerms>,
) -> Result<(), Violation> {
    let Runtime { ctx, jobs, artifacts, .. } = runtime;
    if ctx.config.timing.artifact_retention.is_none() {
        return Err(none_kept());
    }
    if terms.id.is_some() {
        return Err(Violation::invalid("what an agent leaves has no id of its own choice"));
    }
    let principal = jobs.get(job).ok_or_else(gone)?.spec().principal.clone();
    artifacts.check_put(ctx, &principal, &terms, Most::Whole)?;
    artifacts.begin_take(ctx, &principal, (job, call), terms)?;
    artifact::await_store(jobs, job, call);
    Ok(())
}

/// The host has stored what an agent offered, or could not: keeps the artifact and replies to the
/// agent.
fn on_taken(runtime: &mut Runtime, (id, call): (JobId, CallId), terms: &ArtifactTerms, came: Result<(), Violation>) {
    if !artifact::awaits(&runtime.jobs, id, call) {
        return; // The job was told to stop, or its agent has exited: the bytes have no owner.
    }
    super::note_cause(runtime, id);
    let Runtime { ctx, jobs, artifacts, .. } = &mut *runtime;
    let Some(job) = jobs.get(id).expected("whose agent waits is there") else { return };
    let (principal, session) = artifact::owner(job);
    // Others may have used the room meanwhile.
    let room = came.and_then(|()| artifacts.check_put(ctx, &principal, terms, Most::Whole));
    let kept = room.map(|_| {
        let minted = |ctx: &mut Context| ctx.entropy.ulid(ctx.now.utc);
        artifacts.keep(ctx, (&principal, session, Some(id)), terms, minted)
    });
    artifact::answer(jobs, ctx, (id, call), kept);
    runtime.carry();
}

/// The artifact that is an agent's result; `None` if the agent put no such artifact, or it is gone.
pub(super) fn ended_with(runtime: &Runtime, id: JobId, exit: &AgentExit) -> Option<ArtifactRef> {
    let AgentExit::Stored { artifact, .. } = exit else { return None };
    runtime.artifacts.of_agent(artifact).filter(|(job, _)| *job == id).map(|(_, artifact)| artifact)
}

/// Keeps an artifact. `None`: the host has to store it first, and the request is handled again
/// then.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_put(asked: &mut RequestHandler<'_>, put: &PutArtifact) -> Result<Option<Outcome>, Violation> {
    let principal = owner(asked)?;
    let digest = put.verify()?;
    let terms =
        ArtifactTerms { id: put.id.clone().or_else(|| minted(asked, &put.media_type, digest)), ..put.terms(digest) };
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    let stored = connections.get_mut(asked.conn).and_then(|conn| conn.take_blob(digest)).transpose()?;
    if let Some(there) = artifacts.check_put(ctx, &principal, &terms, Most::AtOnce)? {
        return Ok(Some(shown(asked, there)));
    }
    if stored.is_none() {
        let op = artifacts.begin_store(ctx, (asked.conn, &principal), digest, put.data.clone())?;
        connection::await_blob(connections, ctx, asked.conn, op, digest);
        return Ok(None);
    }
    let by_chance = |ctx: &mut Context| ctx.entropy.ulid(ctx.now.utc);
    let kept = artifacts.keep(ctx, (&principal, asked.session, None), &terms, by_chance);
    Ok(Some(shown(asked, kept)))
}

/// The id of an artifact for which the client gives none. It follows from the message, so that a
/// repeated message has the same id, even after a crash.
fn minted(asked: &RequestHandler<'_>, media_type: &MediaType, digest: BlobDigest) -> Option<WireId> {
    let session = asked.runtime.sessions.get(asked.session)?;
    let of = if session.view().ids_are_of_principal() { String::new() } else { format!("{}", asked.session) };
    let mut hash = Sha256::new();
    for part in [&format!("{}", session.principal()), &of, asked.id.as_str(), media_type.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(format!("{digest}").as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let number = hash[..16].iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    WireId::new(&prefixed("art_", Ulid::from(number)))
}

/// Answers with an artifact's reference.
fn shown(asked: &mut RequestHandler<'_>, kept: ArtifactRef) -> Outcome {
    let id = kept.id.clone();
    asked.answer(Reply::Command(CommandReply::Artifact { artifact: kept, request: Some(asked.id.clone()) }));
    Outcome::Kept(id)
}

/// Answers a repeated message with the artifact's reference.
///
/// # Errors
///
/// If it is gone.
pub(super) fn answer_again(asked: &mut RequestHandler<'_>, id: &WireId) -> Result<(), Violation> {
    let principal = owner(asked)?;
    let there = asked.runtime.artifacts.get(&principal, id).ok_or_else(gone)?;
    shown(asked, there);
    Ok(())
}

/// Keeps an artifact that came in parts. `None`: the host has to store it first, and the request is
/// handled again then.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_keep_parts(
    asked: &mut RequestHandler<'_>,
    terms: &ArtifactTerms,
) -> Result<Option<Outcome>, Violation> {
    let principal = owner(asked)?;
    let digest = terms.digest;
    let minted = || minted(asked, &terms.media_type, digest);
    let terms = ArtifactTerms { id: terms.id.clone().or_else(minted), ..terms.clone() };
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    let stored = connections.get_mut(asked.conn).and_then(|conn| conn.take_blob(digest)).transpose()?;
    if let Some(there) = terms.id.as_ref().and_then(|id| artifacts.get(&principal, id)) {
        if there.digest != digest || there.media_type != terms.media_type {
            return artifacts.check_put(ctx, &principal, &terms, Most::Whole).map(|_| None);
        }
        artifacts.abandon(ctx, &(principal, digest));
        return Ok(Some(shown(asked, there)));
    }
    if stored.is_none()
        && let Some(op) = artifacts.begin_finish(ctx, (asked.conn, &principal), &terms)?
    {
        connection::await_blob(connections, ctx, asked.conn, op, digest);
        return Ok(None);
    }
    let kept = artifacts.keep_whole(ctx, (&principal, asked.session), &terms)?;
    Ok(Some(shown(asked, kept)))
}

impl RequestHandler<'_> {
    /// Handles a request about artifacts that are kept, or are put in parts.
    pub(super) fn on_artifact_wish(&mut self, wish: &ArtifactWish) {
        let done = match wish {
            ArtifactWish::Fetch { id, range } => fetch(self, id, *range),
            ArtifactWish::Part(part) => on_part(self, part),
            ArtifactWish::Abandon(digest) => abandon(self, *digest),
            ArtifactWish::List(query) => list(self, query),
        };
        if let Err(violation) = done {
            self.refuse(RefusedKind::Frame, violation);
        }
    }
}

/// Takes a part, once the host has stored it.
fn on_part(asked: &mut RequestHandler<'_>, part: &ArtifactPart) -> Result<(), Violation> {
    let principal = owner(asked)?;
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    connections.get_mut(asked.conn).and_then(|conn| conn.take_blob(part.digest)).transpose()?;
    let most = ctx.config.limits.artifact.artifact_bytes;
    if part.data.len() > most {
        let why = format!("a part of an artifact may have at most {most} bytes");
        return Err(Violation::exhausted("artifact_bytes", BoundOf::Request, most as u64, why));
    }
    match artifacts.on_part(ctx, (asked.conn, &principal), part)? {
        Part::Received(received) => {
            let ArtifactPart { digest, size, .. } = *part;
            let request = Some(asked.id.clone());
            let answer = ArtifactAnswer::Received { digest, size, received, request };
            asked.answer(Reply::Session(SessionReply::OfArtifacts(answer)));
        }
        Part::Storing(op) => connection::await_blob(connections, ctx, asked.conn, op, part.digest),
    }
    Ok(())
}

fn abandon(asked: &mut RequestHandler<'_>, digest: BlobDigest) -> Result<(), Violation> {
    let principal = owner(asked)?;
    let Runtime { ctx, artifacts, .. } = &mut *asked.runtime;
    artifacts.abandon(ctx, &(principal, digest));
    asked.answer(asked.done("abandoned"));
    Ok(())
}

/// Answers with a page of the principal's artifacts, or of those of a job's agent, if the session
/// may watch the job.
fn list(asked: &mut RequestHandler<'_>, query: &ArtifactQuery) -> Result<(), Violation> {
    let own = owner(asked)?;
    let limit = match query.limit.unwrap_or(PAGE.0) {
        limit if (1..=PAGE.1).contains(&limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => return Err(Violation::invalid("`limit` must be 1 to 1000")),
    };
    let job = query.job.as_ref().map(|job| asked.permitted(Act::See, job)).transpose()?;
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    if connections.get(asked.conn).is_some_and(|conn| conn.is_behind(ctx)) {
        connection::await_room(connections, ctx, asked.conn);
        return Ok(());
    }
    let page_bytes = ctx.config.limits.frame.result_frame_bytes / 2;
    let mut page = ArtifactPage { request: Some(asked.id.clone()), ..ArtifactPage::default() };
    let mut bytes = 0;
    let after = query.after.as_ref();
    let mut add = |listed: ListedArtifact| {
        let full = page.artifacts.len() == limit || bytes >= page_bytes;
        if full {
            page.next = page.artifacts.last().map(|last| last.artifact.id.clone());
        } else {
            bytes += listed.weight();
            page.artifacts.push(listed);
        }
        !full
    };
    match job {
        Some(job) => drop(artifacts.listed_of(job, after).all(&mut add)),
        None => drop(artifacts.listed(&own, after).all(&mut add)),
    }
    asked.answer(Reply::Session(SessionReply::OfArtifacts(ArtifactAnswer::Page(page))));
    Ok(())
}

fn fetch(asked: &mut RequestHandler<'_>, id: &WireId, range: Option<ByteRange>) -> Result<(), Violation> {
    let principal = owner(asked)?;
    let artifact = asked.runtime.artifacts.get(&principal, id).map_or_else(|| of_watched(asked, id), Ok)?;
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    let read = connections.get_mut(asked.conn).and_then(|conn| conn.take_blob(artifact.digest)).transpose()?;
    let most = ctx.config.limits.artifact.artifact_bytes as u64;
    let range = match range {
        Some(ByteRange { offset, .. }) if offset > artifact.size => {
            let why = format!("`offset` is {offset}, and the artifact has {} bytes", artifact.size);
            return Err(Violation::invalid(why));
        }
        Some(ByteRange { offset, length }) => {
            Some(BlobRange { offset, length: length.min(most).min(artifact.size - offset) })
        }
        None if artifact.size > most => {
            let why = format!("the artifact has {} bytes: fetch it in ranges of at most {most}", artifact.size);
            return Err(Violation::exhausted("artifact_bytes", BoundOf::Request, most, why));
        }
        None => None,
    };
    match read {
        Some(Blob::Read(data)) => {
            let is_whole = match range {
                Some(range) => data.len() as u64 == range.length,
                None => BlobDigest::of(&data) == artifact.digest,
            };
            if !is_whole {
                let why = "the bytes of the artifact are not those that were left";
                return Err(Violation::new(ErrorCode::DataLoss, why));
            }
            let (offset, request) = (range.map_or(0, |range| range.offset), Some(asked.id.clone()));
            asked.answer(Reply::Session(SessionReply::Artifact(FetchedArtifact { artifact, data, offset, request })));
        }
        Some(Blob::Stored) | None if connections.get(asked.conn).is_some_and(|conn| conn.is_behind(ctx)) => {
            connection::await_room(connections, ctx, asked.conn);
        }
        Some(Blob::Stored) | None => {
            let op = artifacts.begin_read(ctx, (asked.conn, &principal), artifact.digest, range)?;
            connection::await_blob(connections, ctx, asked.conn, op, artifact.digest);
        }
    }
    Ok(())
}

/// An artifact of a job's agent, if the session may watch the job.
///
/// # Errors
///
/// If there is none with this id.
fn of_watched(asked: &RequestHandler<'_>, id: &WireId) -> Result<ArtifactRef, Violation> {
    let (job, artifact) = asked.runtime.artifacts.of_agent(id).ok_or_else(gone)?;
    asked.permitted(Act::See, &job.into()).map_err(|_| gone())?;
    Ok(artifact)
}

/// Releases an artifact. Also succeeds for one that is gone.
///
/// # Errors
///
/// If the session has no artifacts.
pub(super) fn on_release(asked: &mut RequestHandler<'_>, id: &WireId) -> Result<Outcome, Violation> {
    let principal = owner(asked)?;
    let Runtime { ctx, artifacts, .. } = &mut *asked.runtime;
    artifacts.release(ctx, &principal, id);
    asked.answer(asked.done(DONE));
    Ok(Outcome::Done)
}

/// The principal whose artifacts the session may name.
fn owner(asked: &RequestHandler<'_>) -> Result<Principal, Violation> {
    if asked.runtime.ctx.config.timing.artifact_retention.is_none() {
        // The session is of an earlier run, which had artifacts.
        return Err(none_kept());
    }
    let session = asked.runtime.sessions.get(asked.session);
    let session = session.filter(|session| session.view().features.has(Feature::Artifacts));
    session
        .map(|session| session.principal().clone())
        .ok_or_else(|| Violation::invalid("artifacts need the feature `artifacts`, which was not negotiated"))
}

fn none_kept() -> Violation {
    Violation::new(ErrorCode::Unimplemented, "this runtime keeps no artifacts")
}

/// That the principal has no such artifact: unknown, foreign and forgotten ones look alike.
fn gone() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such artifact of yours is kept here")
}
