//! What is recorded of checkpoints besides their states.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, Principal, SessionId, WireId};
use crate::time::UtcMs;

/// A checkpoint from which jobs can begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMark {
    /// The number of its event in the job; its id is the job's and this.
    pub event: u64,
    /// When it was made, in UTC milliseconds.
    pub at: UtcMs,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The session and the message that asked for it, if one did. The same message, when
    /// repeated, is answered with this checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Box<(SessionId, WireId)>>,
    /// The principal that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
}

/// The checkpoint at which a job began, if it began at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunAt {
    /// The job of the checkpoint.
    pub job: JobId,
    /// The number of its event in that job.
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
