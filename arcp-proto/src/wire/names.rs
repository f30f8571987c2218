//! Codes and states by name: every published spelling read, one shown to
//! people.

use crate::model::feature::Feature;
use crate::model::job::{FinalStatus, JobStatus};

/// The name a person sees for a feature, where it has one.
pub fn feature_name(feature: Feature) -> Option<&'static str> {
    super::hello::feature_name(feature)
}

/// The word a person sees for where a job stands.
pub fn status_name(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Pending => "pending",
        JobStatus::Running => "running",
        JobStatus::Blocked => "blocked",
        JobStatus::Paused => "paused",
        JobStatus::Ended(end) => final_name(end),
    }
}

/// Reads a status in either family's words.
pub fn status_named(name: &str) -> Option<JobStatus> {
    Some(match name {
        "pending" | "accepted" | "queued" => JobStatus::Pending,
        "running" => JobStatus::Running,
        "blocked" => JobStatus::Blocked,
        "paused" => JobStatus::Paused,
        "success" | "completed" => JobStatus::Ended(FinalStatus::Success),
        "error" | "failed" => JobStatus::Ended(FinalStatus::Error),
        "cancelled" => JobStatus::Ended(FinalStatus::Cancelled),
        "timed_out" => JobStatus::Ended(FinalStatus::TimedOut),
        _ => return None,
    })
}

pub(super) fn final_name(status: FinalStatus) -> &'static str {
    match status {
        FinalStatus::Success => "success",
        FinalStatus::Error => "error",
        FinalStatus::Cancelled => "cancelled",
        FinalStatus::TimedOut => "timed_out",
    }
}
