//! Tokens for the rest of jobs.

use arcp_host::client::Command;
use arcp_proto::id::WireId;
use arcp_proto::model::job_token::{ExchangeToken, IssuedToken};

use crate::client::{Client, ClientError};
use crate::job::Job;

/// What can be asked about tokens for the rest of jobs: with one, a session of either
/// family goes on with a job that another one of the same principal submitted. An extension
/// of ours.
#[derive(Clone, Copy, Debug)]
pub struct JobTokens<'c> {
    client: &'c Client,
}

impl JobTokens<'_> {
    /// Of this session.
    pub fn of(client: &Client) -> JobTokens<'_> {
        JobTokens { client }
    }

    /// Has a token issued for a job of this principal; waits until it counts, over restarts
    /// of the runtime as well. Beyond the runtime's bound the first one of the job counts no
    /// more.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it or has no word for it, or the session is over.
    pub fn issue(&self, job: WireId) -> Result<IssuedToken, ClientError> {
        self.client.ask(|answer| Command::IssueToken(job, answer))
    }

    /// Follows the rest of the job that a token was issued for, and may cancel it here.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue); `JobNotFound` if the token does not count: it is of
    /// somebody else's job, or the job is forgotten. `ResumeWindowExpired` if what is asked
    /// for is not kept any more.
    pub fn exchange(&self, wish: ExchangeToken) -> Result<Job, ClientError> {
        let (follower, updates) = self.client.follower();
        let watching = self.client.ask(|answer| Command::ExchangeToken(wish, follower, answer))?;
        Ok(Job::new(watching.job, watching.agent, watching.trace, updates))
    }
}
