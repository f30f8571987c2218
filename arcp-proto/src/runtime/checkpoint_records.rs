//! What is kept of checkpoints besides the states.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, Principal, SessionId, WireId};
use crate::time::UtcMs;

/// What a checkpoint is known by from which a job can begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMark {
    /// The number of its event in the job: with that, its id.
    pub event: u64,
    /// When it was made.
    pub at: UtcMs,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The session and the message that asked for it, if one did: the same message once
    /// more is answered with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Box<(SessionId, WireId)>>,
    /// Who asked there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
}

/// Where a job began that did not begin anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunAt {
    /// Whose checkpoint.
    pub job: JobId,
    /// The number of its event there.
    pub event: u64,
}

impl CheckpointMark {
    /// Bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |asked| size_of::<(SessionId, WireId)>() + asked.1.as_str().len());
        let by = self.by.as_ref().map_or(0, |by| alloc::format!("{by}").len());
        self.label.as_ref().map_or(0, String::len) + asked + by
    }
}
