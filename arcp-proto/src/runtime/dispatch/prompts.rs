//! Tells connections that jobs ask people something.

use crate::id::{ConnId, JobId, WireId};
use crate::model::event::EventClass;
use crate::model::reply::{Reply, SessionReply};
use crate::runtime::Runtime;
use crate::runtime::authority;
use crate::runtime::job::prompts::kept;

/// The answer to a connection that waits for questions.
const ASKED: &str = "people are asked something";

/// A job has another event. If it is a question, connections that wait for questions are told.
pub(super) fn on_appended(runtime: &mut Runtime, id: JobId, class: EventClass) {
    if !matches!(class, EventClass::InputRequest | EventClass::ChoiceRequest | EventClass::PermissionRequest) {
        return;
    }
    tell(runtime, id);
}

/// A job belongs to another principal. If it has open questions, connections that may see it from
/// now on are told.
pub(super) fn on_given(runtime: &mut Runtime, id: JobId) {
    if runtime.jobs.get(id).and_then(kept).is_some_and(|kept| !kept.open.is_empty()) {
        tell(runtime, id);
    }
}

/// The policy has changed for a connection that waits for questions: jobs with open questions
/// may be visible there from now on.
pub(super) fn look_again(runtime: &mut Runtime, conn: ConnId) {
    let Runtime { ctx, connections, sessions, .. } = &mut *runtime;
    let session = connections.session(conn).and_then(|session| sessions.get(session));
    let is_shown_others = session.is_some_and(|session| authority::sees_others(&ctx.config, session.viewer()));
    if is_shown_others && let Some(request) = connections.prompts.on_asked(conn) {
        runtime.answer(conn, told(request));
    }
}

/// Tells connections that wait for questions and may see this job.
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

/// The answer that there is a question, to a request to be told.
pub(super) fn told(request: WireId) -> Reply {
    Reply::Session(SessionReply::Done { detail: ASKED.into(), request: Some(request) })
}
