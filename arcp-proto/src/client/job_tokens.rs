//! Tokens of jobs, asked for and exchanged in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::feature::Feature;
use crate::model::job_token::ExchangeToken;
use crate::model::request::Command;

/// Has a token issued for a job that this session submitted, or its principal:
/// `ClientEvent::Token` follows, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn issue(session: &mut Session<'_>, job: WireId) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::JobTokens)?;
    session.client.give(Command::IssueToken { job }, Origin::Application)
}

/// Gives a token for the rest of its job: `ClientEvent::Watching` follows, and what happens
/// in the job, or a refusal. The session may cancel the job from then on.
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
