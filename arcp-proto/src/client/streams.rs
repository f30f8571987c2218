//! Streams of jobs, in a [`Session`]: what is said to the agents of those that take
//! input, and an end or another pace for what agents say.

use alloc::string::String;
use core::time::Duration;

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::request::{Cancel, Command, Request, SessionRequest, Target};
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

/// Ends a stream, and not its job (RFC §11.2). `ClientEvent::CancelTaken` follows, or a
/// refusal: `JobNotFound` if there is no such stream, `FailedPrecondition` if it is over.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn cancel(session: &mut Session<'_>, stream: WireId, reason: Option<String>) -> Result<Handle, ApiMisuse> {
    steers(session)?;
    let cancel = Cancel { target: Target::Stream(stream), reason, deadline: None };
    session.client.give(Command::Cancel(cancel), Origin::Application)
}

/// Has an agent say something in a stream no more often than once in so long, from 1 µs to
/// 1,000 s; `None`: as often as it likes (RFC §11.2). The session that submitted the job may
/// say so. Nothing follows but a refusal. It is
/// sent once: what a lost connection swallowed has to be said again.
///
/// # Errors
///
/// `NotNegotiated`.
pub fn pace(session: &mut Session<'_>, stream: WireId, every: Option<Duration>) -> Result<(), ApiMisuse> {
    steers(session)?;
    session.client.send(&Request::Session(SessionRequest::Pace { stream, every }));
    Ok(())
}

fn steers(session: &Session<'_>) -> Result<(), ApiMisuse> {
    session.client.config.family.steers_streams_with().map_or(Ok(()), |feature| session.needs(feature))
}
