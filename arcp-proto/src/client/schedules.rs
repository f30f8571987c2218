//! Jobs that are submitted at times, asked for in a [`Session`].

use alloc::boxed::Box;

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::{WireId, prefixed};
use crate::model::feature::Feature;
use crate::model::request::{Command, SessionRequest};
use crate::model::schedule::{NewSchedule, ScheduleChange, ScheduleQuery};

/// Has jobs submitted at times (RFC §10.6): `ClientEvent::Scheduled` follows, or a
/// refusal. Without a name of its own it is given one here, so that it is kept once
/// however often it is sent. A cancel of its id ends it.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn add(session: &mut Session<'_>, mut wish: NewSchedule) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Schedules)?;
    if wish.id.is_none() {
        let ulid = session.client.entropy.ulid(session.client.now.utc);
        wish.id = WireId::new(&prefixed("sched_", ulid));
    }
    session.client.give(Command::Schedule(Box::new(wish)), Origin::Application)
}

/// Lists schedules: `ClientEvent::Schedules` follows, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn list(session: &mut Session<'_>, query: ScheduleQuery) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Schedules)?;
    session.client.give(SessionRequest::ListSchedules(query), Origin::Application)
}

/// Pauses a schedule, or has it go on: `ClientEvent::AnswerTaken` follows, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn change(session: &mut Session<'_>, change: ScheduleChange) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Schedules)?;
    session.client.give(Command::ChangeSchedule(change), Origin::Application)
}
