//! Job tokens: tokens for the remaining events of jobs.

use arcp_host::client::Command;
use arcp_proto::id::WireId;
use arcp_proto::model::job_token::{ExchangeToken, IssuedToken};

use crate::client::{Client, ClientError};
use crate::job::Job;

/// Requests about job tokens. With such a token, a session of either family continues to follow a
/// job that another session of the same principal submitted. This is an extension of ours.
#[derive(Clone, Copy, Debug)]
pub struct JobTokens<'c> {
    client: &'c Client,
}

impl JobTokens<'_> {
    /// The requests of this session.
    pub fn of(client: &Client) -> JobTokens<'_> {
        JobTokens { client }
    }

    /// Issues a token for a job of this principal; waits until the token is durable. If the job has
    /// too many tokens, its first one becomes invalid.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or does not support it, or the session has ended.
    pub fn issue(&self, job: WireId) -> Result<IssuedToken, ClientError> {
        self.client.ask(|answer| Command::IssueToken(job, answer))
    }

    /// Follows the remaining events of a token's job, and allows cancelling it here.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue); `JobNotFound` if the token is not valid: it is for another
    /// principal's job, or the job is gone. `ResumeWindowExpired` if the requested events are not
    /// kept any more.
    pub fn exchange(&self, wish: ExchangeToken) -> Result<Job, ClientError> {
        let (follower, updates) = self.client.follower();
        let watching = self.client.ask(|answer| Command::ExchangeToken(wish, follower, answer))?;
        Ok(Job::new(watching.job, watching.agent, watching.trace, updates))
    }
}
