//! Commands that only the open family has words for, in whole or in part.

use std::time::Duration;

use arcp_proto::client::{Handle, OpenSession, Session};
use arcp_proto::error::ApiMisuse;
use arcp_proto::id::WireId;
use arcp_proto::model::request::{Invocation, Submit};

/// Commands of the open family are given only by what speaks it.
pub(super) fn open_session(session: Session<'_>) -> Result<OpenSession<'_>, ApiMisuse> {
    session.into_open().map_err(|_| ApiMisuse::Argument("this session does not speak the open family"))
}

/// Submits a job, with what only the open family can say of it.
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

/// Cancels a job; of the open family only with a deadline.
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
