//! Schedules, in a [`Session`].

use alloc::boxed::Box;

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::{WireId, prefixed};
use crate::model::feature::Feature;
use crate::model::request::{Command, SessionRequest};
use crate::model::schedule::{NewSchedule, ScheduleChange, ScheduleQuery};

/// Adds a schedule (RFC §10.6): `ClientEvent::Scheduled` follows, or a refusal. Without an id it
/// gets one, so that a retry makes no second schedule. It is ended by a cancel of its id.
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

/// Pauses or resumes a schedule: `ClientEvent::AnswerTaken` follows, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn change(session: &mut Session<'_>, change: ScheduleChange) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Schedules)?;
    session.client.give(Command::ChangeSchedule(change), Origin::Application)
}
