//! How a step of a workflow stands, as it is kept.

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LogPos};
use crate::json::Json;
use crate::model::event::JobError;
use crate::time::UtcMs;

/// How a step of a workflow stands. The latest one of a step counts; without any it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The job of the workflow.
    pub job: JobId,
    /// Where the step stands in the graph, from 0.
    pub step: u32,
    /// How it stands.
    pub state: StepState,
    /// Where the record of it before this one stands, which is of no use any more; 0: there
    /// is none.
    #[serde(default)]
    pub undoes: LogPos,
}

/// How a step of a workflow stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepState {
    /// Its job goes on.
    Running {
        /// How often it was tried, with this time.
        attempt: u32,
        /// The job.
        child: JobId,
    },
    /// It has failed, and is tried again.
    Backoff {
        /// How often it was tried.
        attempt: u32,
        /// When it is tried again.
        until: UtcMs,
    },
    /// It is over, and did what it should.
    Succeeded {
        /// How often it was tried.
        attempt: u32,
        /// The job that did it.
        child: JobId,
        /// Its result.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        result: Option<Json>,
    },
    /// It is over, and did not.
    Failed {
        /// How often it was tried.
        attempt: u32,
        /// The last job of it, if there was one.
        child: Option<JobId>,
        /// Why.
        error: JobError,
    },
    /// It is not run: its condition does not hold, or what it needs was skipped.
    Skipped,
}

impl StepState {
    /// The word for it, as it is shown.
    pub fn as_str(&self) -> &'static str {
        match self {
            StepState::Running { .. } => "running",
            StepState::Backoff { .. } => "retrying",
            StepState::Succeeded { .. } => "succeeded",
            StepState::Failed { .. } => "failed",
            StepState::Skipped => "skipped",
        }
    }

    /// Bytes that it holds besides itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            StepState::Succeeded { result, .. } => result.as_ref().map_or(0, |json| json.as_str().len()),
            StepState::Failed { error, .. } => {
                error.message.len() + error.details.as_ref().map_or(0, |json| json.as_str().len())
            }
            StepState::Running { .. } | StepState::Backoff { .. } | StepState::Skipped => 0,
        }
    }

    /// Whether nothing more becomes of the step.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            StepState::Succeeded { .. } | StepState::Failed { .. } | StepState::Skipped => true,
            StepState::Running { .. } | StepState::Backoff { .. } => false,
        }
    }

    /// How often it was tried.
    pub(crate) fn attempt(&self) -> u32 {
        match self {
            StepState::Running { attempt, .. }
            | StepState::Backoff { attempt, .. }
            | StepState::Succeeded { attempt, .. }
            | StepState::Failed { attempt, .. } => *attempt,
            StepState::Skipped => 0,
        }
    }
}
