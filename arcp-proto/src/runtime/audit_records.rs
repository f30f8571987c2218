//! Entries of the audit trail, as they are recorded.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::id::{JobId, LogPos, Principal, SessionId};
use crate::json::Json;
use crate::time::UtcMs;

/// A decision about authority: which principal did what, or was refused it, and why. It can be read
/// alone, whether or not the job and the session still exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The time of the decision, in UTC milliseconds.
    pub at: UtcMs,
    /// What was done, or asked for.
    pub act: AuditAct,
    /// The principal that acted; for an agent, the principal of its job. `None`: several that were
    /// refused the same, or an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// The session in which it acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The job that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The session that an operator was to take from its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<SessionId>,
    /// The principal that was to get the job by a handoff, or whose session was to be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Principal>,
    /// The runtime that was to get the job by a handoff, by its local name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The address of a peer that asked for a session; of several, the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The code of the refusal; `None`: it was permitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<ErrorCode>,
    /// What was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Json>,
    /// The reason that the actor or the runtime gave: the first 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often it happened since the entry before of the same kind; more than 1 for repeated
    /// refusals.
    pub count: u32,
    /// The position of the entry that makes room for this one; 0: none.
    #[serde(default)]
    pub undoes: LogPos,
}

/// The kind of act that an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAct {
    /// A job was submitted; `granted` is its lease.
    Submit,
    /// A job delegated to a child; `granted` is the lease of the child.
    Delegate,
    /// An agent asked whether it may do an operation, or reported one.
    Operate,
    /// A session began to watch a job of another principal.
    Watch,
    /// A session subscribed to the jobs of everybody.
    Subscribe,
    /// A job was cancelled.
    Cancel,
    /// A question of a job was answered.
    Answer,
    /// A permission was granted.
    Approve,
    /// A permission was denied.
    Deny,
    /// A permission was prolonged.
    Extend,
    /// A permission was revoked.
    Revoke,
    /// A session was taken from its client.
    Evict,
    /// A permission was granted that elevates the trust level of its job.
    Elevate,
    /// An agent was interrupted.
    Interrupt,
    /// A checkpoint of a job was requested.
    Checkpoint,
    /// A job was handed over to another principal or runtime.
    HandOver,
    /// A peer asked for a session.
    Login,
    /// A peer asked to resume a session.
    Resume,
    /// A schedule was created.
    Schedule,
    /// A schedule was paused.
    PauseSchedule,
    /// A schedule was resumed.
    ResumeSchedule,
}

impl AuditAct {
    /// The name in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditAct::Submit => "submit",
            AuditAct::Delegate => "delegate",
            AuditAct::Operate => "operate",
            AuditAct::Watch => "watch",
            AuditAct::Subscribe => "subscribe",
            AuditAct::Cancel => "cancel",
            AuditAct::Answer => "answer",
            AuditAct::Approve => "approve",
            AuditAct::Deny => "deny",
            AuditAct::Extend => "extend",
            AuditAct::Revoke => "revoke",
            AuditAct::Evict => "evict",
            AuditAct::Elevate => "elevate",
            AuditAct::Interrupt => "interrupt",
            AuditAct::Checkpoint => "checkpoint",
            AuditAct::HandOver => "hand_over",
            AuditAct::Login => "login",
            AuditAct::Resume => "resume",
            AuditAct::Schedule => "schedule",
            AuditAct::PauseSchedule => "pause_schedule",
            AuditAct::ResumeSchedule => "resume_schedule",
        }
    }
}

impl AuditEntry {
    /// An act of a principal.
    pub(super) fn new(act: AuditAct, principal: &Principal) -> AuditEntry {
        AuditEntry::of_arrival(act, Some(principal), None)
    }

    /// The arrival of a peer, with its principal if known.
    pub(super) fn of_arrival(act: AuditAct, principal: Option<&Principal>, from: Option<IpAddr>) -> AuditEntry {
        AuditEntry {
            at: UtcMs(0),
            act,
            principal: principal.cloned(),
            session: None,
            job: None,
            taken: None,
            to: None,
            runtime: None,
            from,
            refused: None,
            granted: None,
            reason: None,
            count: 1,
            undoes: LogPos(0),
        }
    }

    /// Adds the reason, cut to the length that is kept.
    #[must_use]
    pub(super) fn because(self, reason: Option<&str>) -> AuditEntry {
        const CHARACTERS: usize = 256;
        AuditEntry { reason: reason.map(|why| why.chars().take(CHARACTERS).collect()), ..self }
    }

    /// Bytes it holds, approximately.
    pub(super) fn bytes(&self) -> usize {
        let granted = self.granted.as_ref().map_or(0, |granted| granted.as_str().len());
        let texts = self.reason.iter().chain(&self.runtime).map(String::len).sum::<usize>();
        size_of::<AuditEntry>() + granted + texts
    }
}
