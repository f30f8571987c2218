//! What a client can ask of a runtime of the open family only.

use std::time::Duration;

use arcp_host::client::{ClientError, Command};
use arcp_proto::id::WireId;
use arcp_proto::model::request::{Extension, Invocation, Submit};

use crate::client::Client;
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

    /// [`submit_as`](Self::submit_as), for no longer than so: `None` if no answer came by
    /// then. Perhaps the job is accepted all the same: submit again with its key.
    ///
    /// # Errors
    ///
    /// As [`submit_as`](Self::submit_as).
    pub fn submit_as_within(
        &self,
        submit: Submit,
        invocation: Invocation,
        span: Duration,
    ) -> Result<Option<Job>, ClientError> {
        self.client.submitted_within(submit, Some(invocation), span)
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
