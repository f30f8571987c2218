//! Commands that exist only in the open family, in whole or in part.

use std::time::Duration;

use arcp_proto::client::{Handle, OpenSession, Session};
use arcp_proto::error::ApiMisuse;
use arcp_proto::id::WireId;
use arcp_proto::model::request::{Invocation, Submit};

/// The session, for commands of the open family; an error if it speaks hello.
pub(super) fn open_session(session: Session<'_>) -> Result<OpenSession<'_>, ApiMisuse> {
    session.into_open().map_err(|_| ApiMisuse::Argument("this session does not speak the open family"))
}

/// Submits a job; `invocation` has the members that only the open family has.
pub(super) fn submit_on(
    mut session: Session<'_>,
    submit: Submit,
    invocation: Option<Invocation>,
) -> Result<Handle, ApiMisuse> {
    match invocation {
        None => session.submit(submit),
        Some(invocation) => open_session(session)?.submit_as(submit, invocation),
    }
}

/// Cancels a job; a deadline is possible only in the open family.
pub(super) fn cancel_on(
    mut session: Session<'_>,
    job: WireId,
    reason: Option<String>,
    deadline: Option<Duration>,
) -> Result<Handle, ApiMisuse> {
    match deadline {
        None => session.cancel(job, reason),
        Some(deadline) => open_session(session)?.cancel_within(job, reason, deadline),
    }
}
