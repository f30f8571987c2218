//! What a client itself says to the permissions that jobs ask for (RFC §15.4).

use arcp_proto::id::WireId;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::prompt::{PermissionRequest, PromptAnswer};
use arcp_proto::time::UtcMs;

use super::ClientError;

/// A permission that a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermissionAsked {
    /// The job.
    pub job: WireId,
    /// The question.
    pub prompt: WireId,
    /// What it asks for.
    pub request: PermissionRequest,
    /// Until when it can be answered, if the runtime says so.
    pub expires_at: Option<UtcMs>,
}

/// What a client says to a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: people decide.
    Leave,
    /// It is granted, at most as it was asked for.
    Grant {
        /// For so many seconds at most; `None`: as was asked for.
        lease_seconds: Option<u32>,
        /// A pattern within the one that was asked for; `None`: that one.
        resource: Option<String>,
        /// Whether for one use.
        once: bool,
    },
    /// It is denied: a veto, whatever the application answers later.
    Deny {
        /// Why.
        reason: Option<String>,
    },
}

/// Decides on permissions for a client, before whoever follows the job is told that it
/// asks. A function of the question is one.
///
/// It is asked whenever a question is shown: again after a reconnect, and of a question
/// that somebody has answered meanwhile. It must not wait: nothing else happens in the
/// session until it has decided.
pub trait PermissionHandler: Send + Sync {
    /// Decides.
    fn decide(&self, asked: &PermissionAsked) -> Decision;

    /// What it decided does not count: somebody was first, the session may not answer,
    /// or it is over.
    fn not_taken(&self, asked: &PermissionAsked, why: &ClientError) {
        let _ = (asked, why);
    }
}

impl<F: Fn(&PermissionAsked) -> Decision + Send + Sync> PermissionHandler for F {
    fn decide(&self, asked: &PermissionAsked) -> Decision {
        self(asked)
    }
}

impl PermissionAsked {
    /// What an event of a job asks for, if it asks for a permission and says by what
    /// name it is answered.
    pub(super) fn of(job: &WireId, event: &JobEvent) -> Option<PermissionAsked> {
        let JobEvent::Emitted { kind: EventKind::PermissionRequest, body } = event else {
            return None;
        };
        let members = body.members().ok()?;
        let text = |name: &str| members.get_str(name);
        let request = PermissionRequest {
            permission: text("permission").unwrap_or_default(),
            resource: text("resource")?,
            operation: text("operation")?,
            reason: text("reason"),
            lease_seconds: members.get("requested_lease_seconds").and_then(|seconds| seconds.parse().ok()),
        };
        let expires_at = text("expires_at").and_then(|at| UtcMs::parse(&at));
        Some(PermissionAsked { job: job.clone(), prompt: WireId::new(&text("prompt_id")?)?, request, expires_at })
    }
}

impl Decision {
    /// The answer, if there is one.
    pub(super) fn answer(self) -> Option<PromptAnswer> {
        match self {
            Decision::Leave => None,
            Decision::Grant { lease_seconds, resource, once } => {
                Some(PromptAnswer::Grant { lease_seconds, resource, once })
            }
            Decision::Deny { reason } => Some(PromptAnswer::Deny { reason }),
        }
    }
}
