//! Error codes, with their names and meanings, in one table.

use alloc::boxed::Box;
use core::convert::Infallible;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What went wrong, for both wire families (1.1 §12, RFC §18.2). Each family uses a subset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request could not be understood, or needs a feature that was not negotiated.
    InvalidRequest,
    /// The protocol has this message type, and this runtime does not.
    Unimplemented,
    /// No valid credential.
    Unauthenticated,
    /// The credential is valid, and does not permit this.
    PermissionDenied,
    /// No such job, or none that the principal may see.
    JobNotFound,
    /// The idempotency key was used for a different request.
    DuplicateKey,
    /// No agent of that name.
    AgentNotAvailable,
    /// The agent exists, the version does not.
    AgentVersionNotAvailable,
    /// The job was cancelled.
    Cancelled,
    /// The job reached its time limit.
    Timeout,
    /// The requested frames are deleted, or never existed.
    ResumeWindowExpired,
    /// The peer was silent for two heartbeat intervals.
    HeartbeatLost,
    /// The lease expired.
    LeaseExpired,
    /// The lease was revoked.
    LeaseRevoked,
    /// The child asked for more than its parent has.
    LeaseSubsetViolation,
    /// A budget is used up.
    BudgetExhausted,
    /// The peer read too slowly for too long.
    BackpressureOverflow,
    /// A bound of this runtime was reached.
    ResourceExhausted,
    /// The agent was ended by force after the cancel grace.
    Aborted,
    /// Not possible in the present state.
    FailedPrecondition,
    /// Outside the valid range.
    OutOfRange,
    /// Not reachable at present.
    Unavailable,
    /// A fault of the runtime or of an agent.
    Internal,
    /// A code that this implementation does not know, kept as sent.
    Other(Box<str>),
    /// Something that was to be kept is lost (RFC §18.2). A replay of deleted frames is refused
    /// with [`ResumeWindowExpired`](Self::ResumeWindowExpired) instead.
    DataLoss,
    /// The cause is unknown (RFC §18.2).
    Unknown,
}

/// A row of the table.
struct Row {
    /// The name for people.
    name: &'static str,
    /// The name in the hello family.
    hello: &'static str,
    /// The name that published peers of the open family read.
    open: &'static str,
    /// Whether a retry may succeed, if the peer did not say.
    retryable: bool,
}

/// All codes with a name of their own.
const ALL: [ErrorCode; 25] = {
    use ErrorCode as C;
    [
        C::InvalidRequest,
        C::Unimplemented,
        C::Unauthenticated,
        C::PermissionDenied,
        C::JobNotFound,
        C::DuplicateKey,
        C::AgentNotAvailable,
        C::AgentVersionNotAvailable,
        C::Cancelled,
        C::Timeout,
        C::ResumeWindowExpired,
        C::HeartbeatLost,
        C::LeaseExpired,
        C::LeaseRevoked,
        C::LeaseSubsetViolation,
        C::BudgetExhausted,
        C::BackpressureOverflow,
        C::ResourceExhausted,
        C::Aborted,
        C::FailedPrecondition,
        C::OutOfRange,
        C::Unavailable,
        C::Internal,
        C::DataLoss,
        C::Unknown,
    ]
};

#[rustfmt::skip]
fn row(code: &ErrorCode) -> Option<Row> {
    use ErrorCode as C;
    let row = |name, hello, open, retryable| Some(Row { name, hello, open, retryable });
    match code {
        //                                name                           hello                          open                       retryable
        C::InvalidRequest           => row("INVALID_REQUEST",             "INVALID_REQUEST",             "INVALID_ARGUMENT",            false),
        C::Unimplemented            => row("UNIMPLEMENTED",               "INVALID_REQUEST",             "UNIMPLEMENTED",               false),
        C::Unauthenticated          => row("UNAUTHENTICATED",             "UNAUTHENTICATED",             "UNAUTHENTICATED",             false),
        C::PermissionDenied         => row("PERMISSION_DENIED",           "PERMISSION_DENIED",           "PERMISSION_DENIED",           false),
        C::JobNotFound              => row("JOB_NOT_FOUND",               "JOB_NOT_FOUND",               "NOT_FOUND",                   false),
        C::DuplicateKey             => row("DUPLICATE_KEY",               "DUPLICATE_KEY",               "ALREADY_EXISTS",              false),
        C::AgentNotAvailable        => row("AGENT_NOT_AVAILABLE",         "AGENT_NOT_AVAILABLE",         "NOT_FOUND",                   false),
        C::AgentVersionNotAvailable => row("AGENT_VERSION_NOT_AVAILABLE", "AGENT_VERSION_NOT_AVAILABLE", "AGENT_VERSION_NOT_AVAILABLE", false),
        C::Cancelled                => row("CANCELLED",                   "CANCELLED",                   "CANCELLED",                   false),
        C::Timeout                  => row("TIMEOUT",                     "TIMEOUT",                     "DEADLINE_EXCEEDED",           true),
        C::ResumeWindowExpired      => row("RESUME_WINDOW_EXPIRED",       "RESUME_WINDOW_EXPIRED",       "DATA_LOSS",                   false),
        C::HeartbeatLost            => row("HEARTBEAT_LOST",              "HEARTBEAT_LOST",              "HEARTBEAT_LOST",              false),
        C::LeaseExpired             => row("LEASE_EXPIRED",               "LEASE_EXPIRED",               "LEASE_EXPIRED",               false),
        C::LeaseRevoked             => row("LEASE_REVOKED",               "PERMISSION_DENIED",           "LEASE_REVOKED",               false),
        C::LeaseSubsetViolation     => row("LEASE_SUBSET_VIOLATION",      "LEASE_SUBSET_VIOLATION",      "LEASE_SUBSET_VIOLATION",      false),
        C::BudgetExhausted          => row("BUDGET_EXHAUSTED",            "BUDGET_EXHAUSTED",            "BUDGET_EXHAUSTED",            false),
        C::BackpressureOverflow     => row("BACKPRESSURE_OVERFLOW",       "INTERNAL_ERROR",              "BACKPRESSURE_OVERFLOW",       false),
        C::ResourceExhausted        => row("RESOURCE_EXHAUSTED",          "INTERNAL_ERROR",              "RESOURCE_EXHAUSTED",          true),
        C::Aborted                  => row("ABORTED",                     "CANCELLED",                   "ABORTED",                     true),
        C::FailedPrecondition       => row("FAILED_PRECONDITION",         "INVALID_REQUEST",             "FAILED_PRECONDITION",         false),
        C::OutOfRange               => row("OUT_OF_RANGE",                "INVALID_REQUEST",             "OUT_OF_RANGE",                false),
        C::Unavailable              => row("UNAVAILABLE",                 "INTERNAL_ERROR",              "UNAVAILABLE",                 true),
        C::Internal                 => row("INTERNAL_ERROR",              "INTERNAL_ERROR",              "INTERNAL",                    true),
        C::DataLoss                 => row("DATA_LOSS",                   "INTERNAL_ERROR",              "DATA_LOSS",                   false),
        C::Unknown                  => row("UNKNOWN",                     "INTERNAL_ERROR",              "UNKNOWN",                     false),
        C::Other(_)                 => None,
    }
}

impl ErrorCode {
    /// The name for people: that of the hello family, if it has one.
    pub fn as_str(&self) -> &str {
        if let ErrorCode::Other(name) = self {
            return name;
        }
        row(self).map_or("INTERNAL_ERROR", |row| row.name)
    }

    /// The name in the hello family.
    pub(crate) fn in_hello(&self) -> &'static str {
        row(self).map_or("INTERNAL_ERROR", |row| row.hello)
    }

    /// The name that published peers of the open family read.
    pub(crate) fn in_open(&self) -> &str {
        row(self).map_or_else(|| self.as_str(), |row| row.open)
    }

    /// The default of `retryable`, if the peer did not say.
    pub fn retryable(&self) -> bool {
        row(self).is_some_and(|row| row.retryable)
    }
}

/// The code of this name, in any published spelling. Unknown names are kept.
impl From<&str> for ErrorCode {
    fn from(name: &str) -> ErrorCode {
        let is = |of: fn(&Row) -> &'static str| ALL.iter().find(|code| row(code).is_some_and(|row| of(&row) == name));
        let known = is(|row| row.name).or_else(|| is(|row| row.open));
        match (known, name) {
            (Some(code), _) => code.clone(),
            (None, "RATE_LIMITED") => ErrorCode::ResourceExhausted,
            (None, other) => ErrorCode::Other(other.into()),
        }
    }
}

impl FromStr for ErrorCode {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<ErrorCode, Infallible> {
        Ok(ErrorCode::from(name))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_by_its_name() {
        for code in ALL {
            assert_eq!(ErrorCode::from(code.as_str()), code);
        }
        assert_eq!(ErrorCode::from("NEW"), ErrorCode::Other("NEW".into()));
        assert_eq!(ErrorCode::from("NOT_FOUND"), ErrorCode::JobNotFound);
    }

    #[test]
    fn the_protocol_reference_has_every_code_as_it_is_written() {
        for code in ALL {
            let retryable = if code.retryable() { "yes" } else { "no" };
            let line =
                alloc::format!("| `{}` | `{}` | `{}` | {retryable} |", code.as_str(), code.in_hello(), code.in_open());
            let page = include_str!("../../docs/protocol.md");
            assert!(page.lines().any(|written| written == line), "docs/protocol.md does not say\n{line}");
        }
    }
}
