//! Who is told that people are asked something.

use crate::id::{ConnId, JobId, WireId};
use crate::model::event::EventClass;
use crate::model::reply::{Reply, SessionReply};
use crate::runtime::Runtime;
use crate::runtime::authority;
use crate::runtime::job::prompts::kept;

/// What whoever waits is told.
const ASKED: &str = "people are asked something";

/// A job has one more event: if it asks people something, those are told who wait for that.
pub(super) fn on_appended(runtime: &mut Runtime, id: JobId, class: EventClass) {
    if !matches!(class, EventClass::InputRequest | EventClass::ChoiceRequest | EventClass::PermissionRequest) {
        return;
    }
    tell(runtime, id);
}

/// A job is somebody else's: if it has asked people something that nobody has answered, it
/// asks them as well who may see it from now on.
pub(super) fn on_given(runtime: &mut Runtime, id: JobId) {
    if runtime.jobs.get(id).and_then(kept).is_some_and(|kept| !kept.open.is_empty()) {
        tell(runtime, id);
    }
}

/// Policy has changed for whoever waits on a connection: jobs may be shown there that have
/// asked something before.
pub(super) fn look_again(runtime: &mut Runtime, conn: ConnId) {
    let Runtime { ctx, connections, sessions, .. } = &mut *runtime;
    let session = connections.session(conn).and_then(|session| sessions.get(session));
    let is_shown_others = session.is_some_and(|session| authority::sees_others(&ctx.config, session.viewer()));
    if is_shown_others && let Some(request) = connections.prompts.on_asked(conn) {
        runtime.answer(conn, told(request));
    }
}

/// Those are told who wait for questions, and may see this job.
fn tell(runtime: &mut Runtime, id: JobId) {
    for conn in runtime.connections.prompts.conns() {
        let Runtime { ctx, connections, sessions, jobs, .. } = &mut *runtime;
        let session = connections.session(conn).and_then(|session| sessions.get(session));
        let seen =
            session.zip(jobs.get(id)).is_some_and(|(session, job)| authority::sees(&ctx.config, session.viewer(), job));
        if seen && let Some(request) = connections.prompts.on_asked(conn) {
            runtime.answer(conn, told(request));
        }
    }
}

/// That people are asked something, in answer to the request to be told.
pub(super) fn told(request: WireId) -> Reply {
    Reply::Session(SessionReply::Done { detail: ASKED.into(), request: Some(request) })
}
