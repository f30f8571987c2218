//! Waiting for questions to people, in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::model::request::SessionRequest;

/// Waits until people are asked something in a job that this session may see: then
/// `ClientEvent::AnswerTaken` follows, or a refusal by runtimes that do not support this.
///
/// The answer comes at once for the first request on a connection, and if there was a question
/// since the last answer. So a client that repeats this request before it lists the blocked jobs
/// misses no question. A connection has one such request; a further one ends the earlier one.
///
/// # Errors
///
/// `TooManyPending`.
pub fn await_next(session: &mut Session<'_>) -> Result<Handle, ApiMisuse> {
    session.client.give(SessionRequest::AwaitPrompt, Origin::Application)
}
