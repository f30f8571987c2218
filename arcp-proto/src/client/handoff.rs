//! Jobs that are handed over: to this session, or from under it.
//!
//! That a job was handed over is said on it, to whoever sees it then: those who see it
//! no longer, those who still do, and the one who has it now. Who this client is, it
//! does not know: it asks for the job, and the runtime says.

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

/// The number that such an event has among those of its job.
fn number_of(event: &JobEvent) -> Option<u64> {
    let JobEvent::Emitted { body, .. } = event else {
        return None;
    };
    body.members().ok()?.get("last_event_seq")?.parse().ok()
}

/// A job was handed over: asks whether it is shown to this session.
pub(super) fn ask(client: &mut Client, job: &WireId) {
    let features = client.identity.as_ref().map(|me| me.features).unwrap_or_default();
    let may_take = features.has(Feature::AgentHandoff) && client.followed.len() < client.config.limits.followed;
    let concerned = features.has(Feature::WatchJobs) && (client.followed.has(job) || may_take);
    if concerned && !client.commands.is_taking(job) {
        let watch = Watch { job: job.clone(), after: None, history: Some(false) };
        // Without room for it the job is left as it is: it stays its owner's.
        let _ = client.give(Command::Watch(watch), Origin::Handoff);
    }
}

/// Whether it makes no difference that a job is refused: it is another session's now and
/// was not followed here, or the runtime could not say.
pub(super) fn is_passed_over(client: &Client, job: &WireId, refusal: &Refusal) -> bool {
    !client.followed.has(job) || refusal.code != ErrorCode::JobNotFound
}

/// The runtime shows a job that was handed over.
pub(super) fn on_shown(client: &mut Client, watching: Watching) {
    let job = watching.job.clone();
    if client.followed.has(&job) {
        return;
    }
    // If its session was lost meanwhile, what comes is what comes from now on.
    let first = client.followed.early_of(&job).find_map(number_of).unwrap_or(watching.from + 1);
    client.followed.take(job.clone(), first);
    client.tell(ClientEvent::Taken { watching });
    client.deliver_early(&job);
}
