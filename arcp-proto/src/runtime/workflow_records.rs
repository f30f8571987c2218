//! Steps of workflows, as they are recorded.

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LogPos};
use crate::json::Json;
use crate::model::event::JobError;
use crate::time::UtcMs;

/// The state of a workflow's step. The latest one counts; a step without any waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The job of the workflow.
    pub job: JobId,
    /// The index of the step in the graph, from 0.
    pub step: u32,
    /// The state.
    pub state: StepState,
    /// The position of the step's record before this one, which may be deleted; 0: there is none.
    #[serde(default)]
    pub undoes: LogPos,
}

/// The state of a workflow's step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepState {
    /// Its job is unfinished.
    Running {
        /// The number of this try, from 1.
        attempt: u32,
        /// The job.
        child: JobId,
    },
    /// It failed, and will be retried.
    Backoff {
        /// How many tries it had.
        attempt: u32,
        /// When it is retried.
        until: UtcMs,
    },
    /// It has succeeded.
    Succeeded {
        /// How many tries it had.
        attempt: u32,
        /// The job that succeeded.
        child: JobId,
        /// Its result.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        result: Option<Json>,
    },
    /// It has failed.
    Failed {
        /// How many tries it had.
        attempt: u32,
        /// Its last job, if it had one.
        child: Option<JobId>,
        /// The error.
        error: JobError,
    },
    /// It is not run, as its condition does not hold or a step that it needs was skipped.
    Skipped,
}

impl StepState {
    /// The name, as clients are shown it.
    pub fn as_str(&self) -> &'static str {
        match self {
            StepState::Running { .. } => "running",
            StepState::Backoff { .. } => "retrying",
            StepState::Succeeded { .. } => "succeeded",
            StepState::Failed { .. } => "failed",
            StepState::Skipped => "skipped",
        }
    }

    /// Bytes it holds outside of the value itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            StepState::Succeeded { result, .. } => result.as_ref().map_or(0, |json| json.as_str().len()),
            StepState::Failed { error, .. } => {
                error.message.len() + error.details.as_ref().map_or(0, |json| json.as_str().len())
            }
            StepState::Running { .. } | StepState::Backoff { .. } | StepState::Skipped => 0,
        }
    }

    /// Whether the state is final.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            StepState::Succeeded { .. } | StepState::Failed { .. } | StepState::Skipped => true,
            StepState::Running { .. } | StepState::Backoff { .. } => false,
        }
    }

    /// How many tries it had, with the present one.
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
