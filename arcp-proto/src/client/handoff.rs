//! Jobs that are handed over to or from this session.
//!
//! The event of a handoff reaches all sessions that see the job then: the former owner, watchers
//! and the new owner. The client does not know which of them it is. So it asks to watch the job,
//! and the answer tells.

use super::Client;
use super::commands::Origin;
use super::io::ClientEvent;
use crate::error::ErrorCode;
use crate::id::WireId;
use crate::model::event::{EventKind, JobEvent};
use crate::model::feature::Feature;
use crate::model::reply::{Refusal, Watching};
use crate::model::request::{Command, Watch};

/// Whether an event says that its job was handed over.
pub(super) fn is_of(event: &JobEvent) -> bool {
    let JobEvent::Emitted { kind: EventKind::Status, body } = event else {
        return false;
    };
    body.members().is_ok_and(|members| members.get_str("phase").as_deref() == Some("handed_over"))
}

/// The job's own number of such an event.
fn number_of(event: &JobEvent) -> Option<u64> {
    let JobEvent::Emitted { body, .. } = event else {
        return None;
    };
    body.members().ok()?.get("last_event_seq")?.parse().ok()
}

/// Asks whether a job that was handed over is shown to this session.
pub(super) fn ask(client: &mut Client, job: &WireId) {
    let features = client.identity.as_ref().map(|me| me.features).unwrap_or_default();
    let may_take = features.has(Feature::AgentHandoff) && client.followed.len() < client.config.limits.followed;
    let concerned = features.has(Feature::WatchJobs) && (client.followed.has(job) || may_take);
    if concerned && !client.commands.is_taking(job) {
        let watch = Watch { job: job.clone(), after: None, history: Some(false) };
        // If there is no room for the request, the job keeps its owner, and is not followed here.
        let _ = client.give(Command::Watch(watch), Origin::Handoff);
    }
}

/// Whether a refusal changes nothing: the job belongs to another session and was not followed here,
/// or the runtime could not tell.
pub(super) fn is_passed_over(client: &Client, job: &WireId, refusal: &Refusal) -> bool {
    !client.followed.has(job) || refusal.code != ErrorCode::JobNotFound
}

/// Handles the answer that a job which was handed over is shown to this session.
pub(super) fn on_shown(client: &mut Client, watching: Watching) {
    let job = watching.job.clone();
    if client.followed.has(&job) {
        return;
    }
    // If the session was lost meanwhile, no events are kept, and later ones follow.
    let first = client.followed.early_of(&job).find_map(number_of).unwrap_or(watching.from + 1);
    client.followed.take(job.clone(), first);
    client.tell(ClientEvent::Taken { watching });
    client.deliver_early(&job);
}
