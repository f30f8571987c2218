//! Checkpoints of jobs, in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::{IdempotencyKey, WireId};
use crate::model::checkpoint::{CreateCheckpoint, RestoreCheckpoint};
use crate::model::feature::Feature;
use crate::model::request::{Command, SessionRequest};

/// Requests a checkpoint of a job (RFC §19): `ClientEvent::Checkpoint` follows once it is durable,
/// or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn create(session: &mut Session<'_>, wish: CreateCheckpoint) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Checkpoints)?;
    session.client.give(Command::CreateCheckpoint(wish), Origin::Application)
}

/// Submits a job that begins at a checkpoint (RFC §19): `ClientEvent::Submitted` follows, and the
/// events of the job, or a refusal. Without a key it gets one, so that a retry never runs the job
/// twice.
///
/// # Errors
///
/// `TooManyPending`, `TooManyFollowed`, or `NotNegotiated`.
pub fn restore(session: &mut Session<'_>, mut wish: RestoreCheckpoint) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Checkpoints)?;
    session.check_followed()?;
    let client = &mut *session.client;
    wish.key.get_or_insert_with(|| IdempotencyKey::from_ulid(client.entropy.ulid(client.now.utc)));
    session.client.give(Command::RestoreCheckpoint(wish), Origin::Application)
}

/// Lists the checkpoints of a job: `ClientEvent::Checkpoints` follows, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn list(session: &mut Session<'_>, job: WireId) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Checkpoints)?;
    session.client.give(SessionRequest::ListCheckpoints { job }, Origin::Application)
}
