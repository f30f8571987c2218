//! Requests that only runtimes of the open family accept.

use std::time::Duration;

use arcp_host::client::{ClientError, Command};
use arcp_proto::id::WireId;
use arcp_proto::model::request::{Extension, Invocation, Submit};

use crate::client::Client;
use crate::job::Job;

/// A client of the open family, with the requests that only this family has.
#[derive(Clone, Copy, Debug)]
pub struct OpenClient<'a> {
    client: &'a Client,
}

impl<'a> OpenClient<'a> {
    pub(crate) fn of(client: &'a Client) -> OpenClient<'a> {
        OpenClient { client }
    }

    /// Submits a job with a priority, a span or extensions; waits until it is accepted.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]; also if the extensions are not an object.
    pub fn submit_as(&self, submit: Submit, invocation: Invocation) -> Result<Job, ClientError> {
        self.client.submitted(submit, Some(invocation))
    }

    /// As [`submit_as`](Self::submit_as), for a limited time: `None` if no answer came in time. The job may be
    /// accepted all the same: submit again with its key.
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

    /// Cancels a job. Its agent is stopped at the deadline. Waits until the runtime acknowledges the cancel.
    ///
    /// # Errors
    ///
    /// As [`Client::cancel`]; also if the deadline is over ten minutes.
    pub fn cancel_within(&self, job: WireId, reason: Option<String>, deadline: Duration) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::Cancel(job, reason, Some(deadline), answer))
    }

    /// Sends a message of an extension, at most once: it is lost with the connection. There is no answer.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn send(&self, message: Extension) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::Send(message, answer))
    }

    /// The next message of an extension of [`ClientConfig::extensions`](arcp_proto::client::ClientConfig::extensions)
    /// from the runtime's application, if one comes within `span`. Up to 1,024 messages wait to be taken; further ones
    /// are dropped.
    pub fn next_extension_in(&self, span: Duration) -> Option<Extension> {
        self.client.next_extension(span)
    }

    /// Has the runtime echo a text.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn echo(&self, nonce: Option<String>) -> Result<Option<String>, ClientError> {
        self.client.ask(|answer| Command::Echo(nonce, answer))
    }
}
