//! Waiting for questions to people, in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::model::request::SessionRequest;

/// Waits until people are asked something in a job that this session may see:
/// `ClientEvent::AnswerTaken` follows then, or a refusal from runtimes that cannot say it.
/// The first time on a connection it follows at once, and so it does where something was
/// asked since it last did: whoever waits again before it lists the jobs that are blocked
/// misses none. A connection waits once; a further request ends the wait of the one before.
///
/// # Errors
///
/// `TooManyPending`.
pub fn await_next(session: &mut Session<'_>) -> Result<Handle, ApiMisuse> {
    session.client.give(SessionRequest::AwaitPrompt, Origin::Application)
}
