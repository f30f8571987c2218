//! The status of a job, in the words of both families.

use crate::model::job::{FinalStatus, JobStatus};

/// Reads a status in the words of either family.
pub(super) fn status_named(name: &str) -> Option<JobStatus> {
    match name {
        "accepted" | "queued" => Some(JobStatus::Pending),
        "completed" => Some(JobStatus::Ended(FinalStatus::Success)),
        "failed" => Some(JobStatus::Ended(FinalStatus::Error)),
        own => own.parse().ok(),
    }
}
