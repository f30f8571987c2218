//! What a client can ask of a runtime of the open family only.

use std::time::Duration;

use arcp_proto::client::{Handle, OpenSession, Session};
use arcp_proto::error::ApiMisuse;
use arcp_proto::id::WireId;
use arcp_proto::model::request::{Extension, Invocation, Submit};

use crate::client::{Client, ClientError, Command};
use crate::job::Job;

/// A client of the open family, with what only that has.
#[derive(Clone, Copy, Debug)]
pub struct OpenClient<'a> {
    client: &'a Client,
}

impl<'a> OpenClient<'a> {
    pub(crate) fn of(client: &'a Client) -> OpenClient<'a> {
        OpenClient { client }
    }

    /// Submits a job with a priority, a span or extensions; waits until it is
    /// accepted.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]; also if the extensions are no object.
    pub fn submit_as(&self, submit: Submit, invocation: Invocation) -> Result<Job, ClientError> {
        self.client.submitted(submit, Some(invocation))
    }

    /// Cancels a job, whose agent is made to stop when the deadline is over;
    /// waits until that is acknowledged.
    ///
    /// # Errors
    ///
    /// As [`Client::cancel`]; also for a deadline of more than ten minutes.
    pub fn cancel_within(&self, job: WireId, reason: Option<String>, deadline: Duration) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::Cancel(job, reason, Some(deadline), answer))
    }

    /// Sends a message of an extension: once, and never if the connection is
    /// lost. No answer comes.
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn send(&self, message: Extension) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::Send(message, answer))
    }

    /// The next message of an extension of
    /// [`ClientConfig::extensions`](arcp_proto::client::ClientConfig::extensions)
    /// that the runtime's application sent, if one comes in time. Up to 1,024
    /// wait to be taken, one that comes then is dropped.
    pub fn next_extension_in(&self, span: Duration) -> Option<Extension> {
        self.client.next_extension(span)
    }

    /// Has something said back.
    ///
    /// # Errors
    ///
    /// If the session is over.
    pub fn echo(&self, nonce: Option<String>) -> Result<Option<String>, ClientError> {
        self.client.ask(|answer| Command::Echo(nonce, answer))
    }
}

/// Commands of the open family are given only through [`OpenClient`].
pub(crate) fn open_session(session: Session<'_>) -> Result<OpenSession<'_>, ApiMisuse> {
    session.into_open().map_err(|_| ApiMisuse::Argument("this session does not speak the open family"))
}

pub(crate) fn give(
    mut session: Session<'_>,
    submit: Submit,
    invocation: Option<Invocation>,
) -> Result<Handle, ApiMisuse> {
    match invocation {
        None => session.submit(submit),
        Some(invocation) => open_session(session)?.submit_as(submit, invocation),
    }
}

pub(crate) fn stop(
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
