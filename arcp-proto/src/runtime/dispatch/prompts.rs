//! Who is told that people are asked something.

use crate::id::{JobId, WireId};
use crate::model::event::EventClass;
use crate::model::reply::{Reply, SessionReply};
use crate::runtime::Runtime;
use crate::runtime::authority;

/// What whoever waits is told.
const ASKED: &str = "people are asked something";

/// A job has one more event: if it asks people something, those are told who wait for that.
pub(super) fn on_appended(runtime: &mut Runtime, id: JobId, class: EventClass) {
    if !matches!(class, EventClass::InputRequest | EventClass::ChoiceRequest | EventClass::PermissionRequest) {
        return;
    }
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
