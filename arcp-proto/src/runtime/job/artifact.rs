//! Artifacts that agents leave, as far as their jobs are concerned: the calls that wait, and the events that show them
//! (RFC §16).

use alloc::boxed::Box;

use super::open_calls::OpenCalls;
use super::{Job, Jobs, Wait};
use crate::error::Violation;
use crate::id::{CallId, JobId, Principal, SessionId};
use crate::json::{Json, Object};
use crate::model::artifact::ArtifactRef;
use crate::model::event::{EventKind, JobEvent};
use crate::runtime::context::Context;
use crate::runtime::io::AgentReply;

/// The owner of what the agent of a job leaves, and the session that holds the job.
pub(in crate::runtime) fn owner(job: &Job) -> (Principal, SessionId) {
    (job.spec.principal.clone(), job.sessions.holder)
}

/// The host is storing the artifact that an agent offers with a call.
pub(in crate::runtime) fn await_store(jobs: &mut Jobs, id: JobId, call: CallId) {
    jobs.table.change(id, |job| {
        job.run.questions.storing.insert(call);
        job.run.waits.insert(Wait::Artifact);
    });
}

/// Whether that call still waits.
pub(in crate::runtime) fn awaits(jobs: &Jobs, id: JobId, call: CallId) -> bool {
    jobs.table.get(id).is_some_and(|job| job.run.questions.storing.contains(&call))
}

/// Answers the call that offered an artifact, and shows the artifact if it is kept.
pub(in crate::runtime) fn answer(
    jobs: &mut Jobs,
    ctx: &mut Context,
    (id, call): (JobId, CallId),
    kept: Result<ArtifactRef, Violation>,
) {
    jobs.table.change(id, |job| {
        if let Some(OpenCalls { storing, .. }) = job.run.questions.known_mut() {
            storing.remove(&call);
            if storing.is_empty() {
                job.run.waits.remove(&Wait::Artifact);
            }
        }
        // The agent's heartbeat interval starts anew.
        job.run.last_call = ctx.now.mono;
        match &kept {
            Ok(kept) => {
                // The credit of the call comes back with this event.
                job.append(ctx, JobEvent::Emitted { kind: EventKind::StoredArtifact, body: body(kept) }, true);
            }
            Err(_) => job.run.return_unrecorded(ctx, id, 1),
        }
        let answer = kept.map_or_else(AgentReply::from, |kept| AgentReply::Kept(Box::new(kept)));
        job.run.answer(ctx, (id, call), answer, true);
    });
}

/// The artifact as every watcher is shown it.
fn body(kept: &ArtifactRef) -> Json {
    let mut body = Object::new();
    body.str("artifact_id", kept.id.as_str()).str("uri", &kept.uri());
    body.str("content_type", kept.media_type.as_str()).u64("byte_size", kept.size);
    body.display("sha256", kept.digest).display("expires_at", kept.expires_at);
    body.json()
}
