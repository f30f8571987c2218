//! Answers of a client to permissions that jobs ask for (RFC §15.4).

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
    /// The id of the question.
    pub prompt: WireId,
    /// The permission.
    pub request: PermissionRequest,
    /// Until when it can be answered, if the runtime says so.
    pub expires_at: Option<UtcMs>,
}

/// The decision of a client about a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No decision: people decide.
    Leave,
    /// Granted, at most to the extent that was requested.
    Grant {
        /// The most seconds for which it is granted; `None`: as requested.
        lease_seconds: Option<u32>,
        /// A pattern within the requested one; `None`: the requested one.
        resource: Option<String>,
        /// Whether it is granted for one use only.
        once: bool,
    },
    /// Denied. This is a veto: a later answer of the application does not count.
    Deny {
        /// The reason.
        reason: Option<String>,
    },
}

/// Decides on permissions for a client, before the follower of the job sees the question. Functions
/// from [`PermissionAsked`] to [`Decision`] implement it.
///
/// It is called each time a question is shown: also again after a reconnect, and about a question
/// that was answered meanwhile. It must not wait: until it returns, nothing else happens in the
/// session.
pub trait PermissionHandler: Send + Sync {
    /// Decides on one permission.
    fn decide(&self, asked: &PermissionAsked) -> Decision;

    /// The decision was not accepted: another answer came first, the session may not answer, or the
    /// session has ended.
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
    /// The permission request in an event of a job; `None` if the event is no such request or names
    /// no id for the answer.
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
    /// The answer to send; `None` to send none.
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
