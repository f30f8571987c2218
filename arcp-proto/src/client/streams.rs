//! Streams of jobs, in a [`Session`]: streams to agents that take input, and cancels and paces of
//! the streams of agents.

use alloc::string::String;
use core::time::Duration;

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::request::{Cancel, Command, Request, SessionRequest, Target};
use crate::model::stream::StreamRequest;

/// Sends part of a stream to the agent of a job (RFC §11). `ClientEvent::AnswerTaken` follows, or a
/// refusal: `Unimplemented` if the agent takes no input, `ResourceExhausted` while too much is
/// queued for it.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn say(session: &mut Session<'_>, request: StreamRequest) -> Result<Handle, ApiMisuse> {
    session.needs(session.client.config.family.streams_with())?;
    session.client.give(Command::Stream(request.into()), Origin::Application)
}

/// Ends a stream, but not its job (RFC §11.2). `ClientEvent::CancelTaken` follows, or a refusal:
/// `JobNotFound` if there is no such stream, `FailedPrecondition` if it has ended.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn cancel(session: &mut Session<'_>, stream: WireId, reason: Option<String>) -> Result<Handle, ApiMisuse> {
    steers(session)?;
    let cancel = Cancel { target: Target::Stream(stream), reason, deadline: None };
    session.client.give(Command::Cancel(cancel), Origin::Application)
}

/// Sets the pace of a stream: the least time between two of its events, from 1 µs to 1,000 s;
/// `None`: no limit (RFC §11.2). Only the session that submitted the job may set it. There is no
/// answer but a refusal. The request is sent once: if it is lost with a connection, the application
/// must repeat it.
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
