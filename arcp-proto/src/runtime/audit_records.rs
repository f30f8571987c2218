//! Entries of the audit trail, as they are kept.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::id::{JobId, LogPos, Principal, SessionId};
use crate::json::Json;
use crate::time::UtcMs;

/// A decision about authority: who did what, or was refused it, and why. It says
/// all of it, whatever has become of the job and the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: UtcMs,
    /// What was done, or asked for.
    pub act: AuditAct,
    /// Who did it, or asked; for what an agent does, whose job it is. `None`: several,
    /// who were refused the same, or nobody knows who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The job that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The session that was to be taken from its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<SessionId>,
    /// Who was to have the job that was handed over; or whose the session was that was
    /// to be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Principal>,
    /// Which runtime was to have the job that was handed over: what it is called here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// From which address somebody wanted to come in; of several the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// Why it was refused; `None`: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<ErrorCode>,
    /// What was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Json>,
    /// Why, in the words of who did it or refused it: the first 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often, since the entry before of the same kind: more than 1 for what was
    /// refused again and again.
    pub count: u32,
    /// The entry that is let go for this one; 0: none.
    #[serde(default)]
    pub undoes: LogPos,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAct {
    /// A job was submitted: granted is its lease.
    Submit,
    /// A job had another one done: granted is the lease of that.
    Delegate,
    /// An agent asked for an operation, or reported one.
    Operate,
    /// A job of somebody else was watched.
    Watch,
    /// The jobs of everybody were subscribed to.
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
    /// A permission was taken back.
    Revoke,
    /// A session was taken from its client.
    Evict,
    /// A permission was granted that elevates the trust level of its job.
    Elevate,
    /// An agent was interrupted.
    Interrupt,
    /// A checkpoint of a job was asked for.
    Checkpoint,
    /// A job was handed over.
    HandOver,
    /// Somebody wanted to come in.
    Login,
    /// Somebody wanted an earlier session back.
    Resume,
    /// A schedule was made.
    Schedule,
    /// A schedule was paused.
    PauseSchedule,
    /// A schedule goes on.
    ResumeSchedule,
}

impl AuditAct {
    /// The name, as it is shown.
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
    /// What somebody does, of his own accord.
    pub(super) fn new(act: AuditAct, principal: &Principal) -> AuditEntry {
        AuditEntry::of_arrival(act, Some(principal), None)
    }

    /// That somebody wants to come in; the principal, if it is known.
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

    /// With why, as far as that is kept.
    #[must_use]
    pub(super) fn because(self, reason: Option<&str>) -> AuditEntry {
        const CHARACTERS: usize = 256;
        AuditEntry { reason: reason.map(|why| why.chars().take(CHARACTERS).collect()), ..self }
    }

    /// Bytes it holds, roughly.
    pub(super) fn bytes(&self) -> usize {
        let granted = self.granted.as_ref().map_or(0, |granted| granted.as_str().len());
        let texts = self.reason.iter().chain(&self.runtime).map(String::len).sum::<usize>();
        size_of::<AuditEntry>() + granted + texts
    }
}
