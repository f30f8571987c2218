//! What agents leave with the runtime, as far as their jobs go: who waits for that, and
//! what is shown of it (RFC §16).

use alloc::boxed::Box;

use super::{Job, Jobs, Wait};
use crate::error::Violation;
use crate::id::{CallId, JobId, Principal, SessionId};
use crate::json::{Json, Object};
use crate::model::artifact::ArtifactRef;
use crate::model::event::{EventKind, JobEvent};
use crate::runtime::context::Context;
use crate::runtime::io::AgentReply;

/// Whose what its agent leaves is, and the session that has the job.
pub(in crate::runtime) fn owner(job: &Job) -> (Principal, SessionId) {
    (job.spec.principal.clone(), job.sessions.holder)
}

/// The host stores what the agent of a job has offered with a call.
pub(in crate::runtime) fn await_store(jobs: &mut Jobs, id: JobId, call: CallId) {
    jobs.table.change(id, |job| {
        job.run.questions.storing.insert(call);
        job.run.waits.insert(Wait::Artifact);
    });
}

/// Whether an agent still waits for that.
pub(in crate::runtime) fn awaits(jobs: &Jobs, id: JobId, call: CallId) -> bool {
    jobs.table.get(id).is_some_and(|job| job.run.questions.storing.contains(&call))
}

/// What an agent has offered is kept, or why not: that is shown, and its call answered.
pub(in crate::runtime) fn answer(
    jobs: &mut Jobs,
    ctx: &mut Context,
    (id, call): (JobId, CallId),
    kept: Result<ArtifactRef, Violation>,
) {
    jobs.table.change(id, |job| {
        let questions = &mut job.run.questions;
        questions.storing.remove(&call);
        if questions.storing.is_empty() {
            job.run.waits.remove(&Wait::Artifact);
        }
        // Its silence is counted from here.
        job.run.last_call = ctx.now.mono;
        match &kept {
            Ok(kept) => {
                // What the call costs comes back with this.
                job.append(ctx, JobEvent::Emitted { kind: EventKind::StoredArtifact, body: body(kept) }, true);
            }
            Err(_) => job.run.return_unrecorded(ctx, id, 1),
        }
        let answer = kept.map_or_else(AgentReply::from, |kept| AgentReply::Kept(Box::new(kept)));
        job.run.answer(ctx, (id, call), answer, true);
    });
}

/// What everybody who watches is shown.
fn body(kept: &ArtifactRef) -> Json {
    let mut body = Object::new();
    body.str("artifact_id", kept.id.as_str()).str("uri", &kept.uri());
    body.str("content_type", kept.media_type.as_str()).u64("byte_size", kept.size);
    body.display("sha256", kept.digest).display("expires_at", kept.expires_at);
    body.json()
}
