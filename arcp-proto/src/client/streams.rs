//! Streams to agents of jobs that take input, in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::model::request::Command;
use crate::model::stream::StreamRequest;

/// Says something in a stream to the agent of a job that takes input (RFC §11).
/// `ClientEvent::AnswerTaken` follows, or a refusal: `Unimplemented` if the agent
/// takes none, `ResourceExhausted` while it has enough to take.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn say(session: &mut Session<'_>, request: StreamRequest) -> Result<Handle, ApiMisuse> {
    session.needs(session.client.config.family.streams_with())?;
    session.client.give(Command::Stream(request.into()), Origin::Application)
}
