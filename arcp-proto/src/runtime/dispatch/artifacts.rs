//! Artifacts that clients leave, fetch and release (RFC §16).

use alloc::vec::Vec;

use super::requests::RequestHandler;
use crate::error::{ErrorCode, Violation};
use crate::id::{OpId, Principal, WireId};
use crate::model::artifact::{ArtifactRef, BlobDigest, PutArtifact};
use crate::model::feature::Feature;
use crate::model::reply::{CommandReply, FetchedArtifact, RefusedKind, Reply, SessionReply};
use crate::runtime::Runtime;
use crate::runtime::connection::{self, Blob};
use crate::runtime::session::Outcome;

/// That an artifact is gone.
pub(super) const DONE: &str = "released";

/// The host has stored bytes, or could not.
pub(in crate::runtime) fn on_stored(runtime: &mut Runtime, op: OpId, stored: bool) {
    let fault = || Violation::new(ErrorCode::Unavailable, "the artifact could not be stored: put it again");
    on_blob(runtime, op, stored.then_some(Blob::Stored).ok_or_else(fault));
}

/// The host has read bytes, or they are not there.
pub(in crate::runtime) fn on_read(runtime: &mut Runtime, op: OpId, bytes: Option<Vec<u8>>) {
    let lost = || Violation::new(ErrorCode::DataLoss, "the bytes of the artifact cannot be read any more");
    on_blob(runtime, op, bytes.map(Blob::Read).ok_or_else(lost));
}

fn on_blob(runtime: &mut Runtime, op: OpId, came: Result<Blob, Violation>) {
    let Some(conn) = runtime.artifacts.finish(op) else {
        return; // It is over, or never was.
    };
    let judged = connection::on_blob(&mut runtime.connections, &mut runtime.ctx, conn, op, came);
    runtime.hear_again(judged);
    runtime.artifacts.end(&mut runtime.ctx, op);
}

/// Keeps bytes, or has the host store them first: then `None`, and it is heard again.
///
/// # Errors
///
/// Why they are not kept.
pub(super) fn on_put(asked: &mut RequestHandler<'_>, put: &PutArtifact) -> Result<Option<Outcome>, Violation> {
    let principal = owner(asked)?;
    let digest = put.verify()?;
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    let stored = connections.get_mut(asked.conn).and_then(|conn| conn.take_blob(digest)).transpose()?;
    if let Some(there) = artifacts.check_put(ctx, &principal, put, digest)? {
        return Ok(Some(shown(asked, there)));
    }
    if stored.is_none() {
        let op = artifacts.begin_store(ctx, (asked.conn, &principal), digest, put.data.clone())?;
        connection::await_blob(connections, ctx, asked.conn, op, digest);
        return Ok(None);
    }
    let kept = artifacts.keep(ctx, (&principal, asked.session), put, digest);
    Ok(Some(shown(asked, kept)))
}

/// Answers with what an artifact is known by.
fn shown(asked: &mut RequestHandler<'_>, kept: ArtifactRef) -> Outcome {
    let id = kept.id.clone();
    asked.answer(Reply::Command(CommandReply::Artifact { artifact: kept, request: Some(asked.id.clone()) }));
    Outcome::Kept(id)
}

/// Answers again with what an artifact is known by.
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

impl RequestHandler<'_> {
    /// Gives the bytes of an artifact once the host has read them.
    pub(super) fn on_fetch(&mut self, id: &WireId) {
        if let Err(violation) = fetch(self, id) {
            self.refuse(RefusedKind::Frame, violation);
        }
    }
}

fn fetch(asked: &mut RequestHandler<'_>, id: &WireId) -> Result<(), Violation> {
    let principal = owner(asked)?;
    let Runtime { ctx, connections, artifacts, .. } = &mut *asked.runtime;
    let artifact = artifacts.get(&principal, id).ok_or_else(gone)?;
    let read = connections.get_mut(asked.conn).and_then(|conn| conn.take_blob(artifact.digest)).transpose()?;
    match read {
        Some(Blob::Read(data)) if BlobDigest::of(&data) != artifact.digest => {
            Err(Violation::new(ErrorCode::DataLoss, "the bytes of the artifact are not those that were left"))
        }
        Some(Blob::Read(data)) => {
            let request = Some(asked.id.clone());
            asked.answer(Reply::Session(SessionReply::Artifact(FetchedArtifact { artifact, data, request })));
            Ok(())
        }
        Some(Blob::Stored) | None if connections.get(asked.conn).is_some_and(|conn| conn.is_behind(ctx)) => {
            connection::await_room(connections, ctx, asked.conn);
            Ok(())
        }
        Some(Blob::Stored) | None => {
            let op = artifacts.begin_read(ctx, (asked.conn, &principal), artifact.digest)?;
            connection::await_blob(connections, ctx, asked.conn, op, artifact.digest);
            Ok(())
        }
    }
}

/// Lets go of an artifact; of one that is gone as well.
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

/// Whose artifacts the session asks about.
fn owner(asked: &RequestHandler<'_>) -> Result<Principal, Violation> {
    if asked.runtime.ctx.config.timing.artifact_retention.is_none() {
        // The session is of an earlier run, in which there were some.
        return Err(Violation::new(ErrorCode::Unimplemented, "this runtime keeps no artifacts"));
    }
    let session = asked.runtime.sessions.get(asked.session);
    let session = session.filter(|session| session.view().features.has(Feature::Artifacts));
    session
        .map(|session| session.principal().clone())
        .ok_or_else(|| Violation::invalid("artifacts need the feature `artifacts`, which was not negotiated"))
}

/// That there is no such artifact of whoever asks: unknown, foreign and forgotten ones
/// look alike.
fn gone() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such artifact of yours is kept here")
}
