//! Codes and states by name: every published spelling read, one shown to
//! people.

use crate::error::ErrorCode;
use crate::model::feature::Feature;
use crate::model::job::{FinalStatus, JobStatus};

/// The code of this name, in any published spelling. Names nobody knows are
/// kept.
pub fn error_code(name: &str) -> ErrorCode {
    match name {
        "INVALID_REQUEST" | "INVALID_ARGUMENT" => ErrorCode::InvalidRequest,
        "UNIMPLEMENTED" => ErrorCode::Unimplemented,
        "UNAUTHENTICATED" => ErrorCode::Unauthenticated,
        "PERMISSION_DENIED" => ErrorCode::PermissionDenied,
        "JOB_NOT_FOUND" | "NOT_FOUND" => ErrorCode::JobNotFound,
        "DUPLICATE_KEY" | "ALREADY_EXISTS" => ErrorCode::DuplicateKey,
        "AGENT_NOT_AVAILABLE" => ErrorCode::AgentNotAvailable,
        "AGENT_VERSION_NOT_AVAILABLE" => ErrorCode::AgentVersionNotAvailable,
        "CANCELLED" => ErrorCode::Cancelled,
        "TIMEOUT" | "DEADLINE_EXCEEDED" => ErrorCode::Timeout,
        "RESUME_WINDOW_EXPIRED" => ErrorCode::ResumeWindowExpired,
        "DATA_LOSS" => ErrorCode::DataLoss,
        "UNKNOWN" => ErrorCode::Unknown,
        "HEARTBEAT_LOST" => ErrorCode::HeartbeatLost,
        "LEASE_EXPIRED" => ErrorCode::LeaseExpired,
        "LEASE_REVOKED" => ErrorCode::LeaseRevoked,
        "LEASE_SUBSET_VIOLATION" => ErrorCode::LeaseSubsetViolation,
        "BUDGET_EXHAUSTED" => ErrorCode::BudgetExhausted,
        "BACKPRESSURE_OVERFLOW" => ErrorCode::BackpressureOverflow,
        "RESOURCE_EXHAUSTED" | "RATE_LIMITED" => ErrorCode::ResourceExhausted,
        "ABORTED" => ErrorCode::Aborted,
        "FAILED_PRECONDITION" => ErrorCode::FailedPrecondition,
        "OUT_OF_RANGE" => ErrorCode::OutOfRange,
        "UNAVAILABLE" => ErrorCode::Unavailable,
        "INTERNAL_ERROR" | "INTERNAL" => ErrorCode::Internal,
        other => ErrorCode::Other(other.into()),
    }
}

/// The name a person sees for a feature, where it has one.
pub fn feature_name(feature: Feature) -> Option<&'static str> {
    super::hello::feature_name(feature)
}

/// The name a person sees for a code.
pub fn error_name(code: &ErrorCode) -> &str {
    match code {
        ErrorCode::InvalidRequest => "INVALID_REQUEST",
        ErrorCode::Unimplemented => "UNIMPLEMENTED",
        ErrorCode::Unauthenticated => "UNAUTHENTICATED",
        ErrorCode::PermissionDenied => "PERMISSION_DENIED",
        ErrorCode::JobNotFound => "JOB_NOT_FOUND",
        ErrorCode::DuplicateKey => "DUPLICATE_KEY",
        ErrorCode::AgentNotAvailable => "AGENT_NOT_AVAILABLE",
        ErrorCode::AgentVersionNotAvailable => "AGENT_VERSION_NOT_AVAILABLE",
        ErrorCode::Cancelled => "CANCELLED",
        ErrorCode::Timeout => "TIMEOUT",
        ErrorCode::ResumeWindowExpired => "RESUME_WINDOW_EXPIRED",
        ErrorCode::HeartbeatLost => "HEARTBEAT_LOST",
        ErrorCode::LeaseExpired => "LEASE_EXPIRED",
        ErrorCode::LeaseRevoked => "LEASE_REVOKED",
        ErrorCode::LeaseSubsetViolation => "LEASE_SUBSET_VIOLATION",
        ErrorCode::BudgetExhausted => "BUDGET_EXHAUSTED",
        ErrorCode::BackpressureOverflow => "BACKPRESSURE_OVERFLOW",
        ErrorCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
        ErrorCode::Aborted => "ABORTED",
        ErrorCode::FailedPrecondition => "FAILED_PRECONDITION",
        ErrorCode::OutOfRange => "OUT_OF_RANGE",
        ErrorCode::Unavailable => "UNAVAILABLE",
        ErrorCode::Internal => "INTERNAL_ERROR",
        ErrorCode::DataLoss => "DATA_LOSS",
        ErrorCode::Unknown => "UNKNOWN",
        ErrorCode::Other(code) => code,
    }
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
