//! Job tokens: they give another session the rest of a job.

use arcp_host::client::Command;
use arcp_proto::id::WireId;
use arcp_proto::model::job_token::{ExchangeToken, IssuedToken};

use crate::client::{Client, ClientError};
use crate::job::Job;

/// The requests for job tokens. With such a token, a session of either family continues a job that another session of
/// the same principal submitted. This is an extension of ours.
#[derive(Clone, Copy, Debug)]
pub struct JobTokens<'c> {
    client: &'c Client,
}

impl JobTokens<'_> {
    /// The requests of this session.
    pub fn of(client: &Client) -> JobTokens<'_> {
        JobTokens { client }
    }

    /// Has the runtime issue a token for a job of this principal; waits until the token is durable. A job has a
    /// bounded number of tokens: a further one makes the oldest invalid.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub fn issue(&self, job: WireId) -> Result<IssuedToken, ClientError> {
        self.client.ask(|answer| Command::IssueToken(job, answer))
    }

    /// Follows the rest of the job for which the token was issued. This session may cancel the job.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue); `JobNotFound` if the token is invalid, because the job is another principal's or was
    /// deleted. `ResumeWindowExpired` if the requested events are not kept any more.
    pub fn exchange(&self, wish: ExchangeToken) -> Result<Job, ClientError> {
        let (follower, updates) = self.client.follower();
        let watching = self.client.ask(|answer| Command::ExchangeToken(wish, follower, answer))?;
        Ok(Job::new(watching.job, watching.agent, watching.trace, updates))
    }
}
