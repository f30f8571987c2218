//! Issuing and exchanging tokens of jobs, in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::feature::Feature;
use crate::model::job_token::ExchangeToken;
use crate::model::request::Command;

/// Requests a token for a job of this session or its principal: `ClientEvent::Token` follows, or a
/// refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn issue(session: &mut Session<'_>, job: WireId) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::JobTokens)?;
    session.client.give(Command::IssueToken { job }, Origin::Application)
}

/// Exchanges a token for the rest of its job: `ClientEvent::Watching` follows, and the events of
/// the job, or a refusal. From then on the session may cancel the job.
///
/// # Errors
///
/// `TooManyPending`, `TooManyFollowed`, or `NotNegotiated`.
pub fn exchange(session: &mut Session<'_>, wish: ExchangeToken) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::JobTokens)?;
    let job = wish.token.job().clone();
    if !session.client.followed.has(&job) {
        session.check_followed()?;
    }
    let handle = session.client.give(Command::ExchangeToken(wish), Origin::Application)?;
    session.client.followed.follow(job);
    Ok(handle)
}
