//! Exit codes, and which failure has which code.

use std::process::ExitCode;

use arcp_blocking::ClientError;
use arcp_proto::client::SessionEnd;
use arcp_proto::error::ErrorCode;
use arcp_proto::model::event::Terminal;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::reply::Refusal;

/// Every code, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  the job failed, the request was refused, or the runtime could not start
    2  the command line is wrong
    3  the job was cancelled
    4  the job or the wait reached its time limit
    5  permission was denied
    6  the budget is used up
    7  the runtime could not be reached, or the connection was lost
    8  the credential was not accepted
    9  a runtime stopped before its jobs finished
  130  interrupted; the job keeps running";

/// How the program exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded.
    Success = 0,
    /// The job failed, or the request was refused.
    Failed = 1,
    /// The command line is invalid.
    Usage = 2,
    /// The job was cancelled.
    Cancelled = 3,
    /// The job reached its time limit.
    TimedOut = 4,
    /// The principal lacks a permission.
    Permission = 5,
    /// The budget is exhausted.
    Budget = 6,
    /// The connection was lost for good: how the job ends is not known.
    Lost = 7,
    /// The credential was not accepted.
    Unauthenticated = 8,
    /// The runtime stopped before all jobs had ended.
    Cut = 9,
    /// Interrupted by a signal; the job continues.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A failure: the message and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// The message for the user; empty if it was printed already.
    pub message: String,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), exit }
    }

    /// A failure for an invalid command line.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        // The reader of our output closed it: there is nothing to report.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::new(Exit::Failed, "");
        }
        Failure::new(Exit::Failed, error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = match &error {
            ClientError::Refused(refusal) => of_refusal(refusal),
            ClientError::Ended(end) => of_end(end),
            ClientError::Config(_) | ClientError::Misuse(_) | ClientError::Cleartext(_) => Exit::Usage,
            ClientError::Untrusted(_) | ClientError::NotServed(_) => Exit::Lost,
            ClientError::NotTaken(_) => Exit::Unauthenticated,
            ClientError::Io(_) => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

/// The exit code for the end of a session.
pub fn of_end(end: &SessionEnd) -> Exit {
    match end {
        SessionEnd::Denied(refusal) => of_refusal(refusal),
        SessionEnd::Lost(_) | SessionEnd::Goodbye(_) | SessionEnd::Closed => Exit::Lost,
    }
}

/// The exit code for a refusal.
pub fn of_refusal(refusal: &Refusal) -> Exit {
    of_code(&refusal.code)
}

/// The exit code for the end of a job.
pub fn of_terminal(terminal: &Terminal) -> Exit {
    match (terminal.status, &terminal.error) {
        (FinalStatus::Success, _) => Exit::Success,
        (FinalStatus::Cancelled, _) => Exit::Cancelled,
        (FinalStatus::TimedOut, _) => Exit::TimedOut,
        (FinalStatus::Error, Some(error)) => of_code(&error.code),
        (FinalStatus::Error, None) => Exit::Failed,
    }
}

/// The exit code for an error code.
pub fn of_code(code: &ErrorCode) -> Exit {
    match code {
        ErrorCode::Unauthenticated => Exit::Unauthenticated,
        ErrorCode::PermissionDenied
        | ErrorCode::LeaseExpired
        | ErrorCode::LeaseRevoked
        | ErrorCode::LeaseSubsetViolation => Exit::Permission,
        ErrorCode::BudgetExhausted => Exit::Budget,
        ErrorCode::Cancelled | ErrorCode::Aborted => Exit::Cancelled,
        ErrorCode::Timeout => Exit::TimedOut,
        ErrorCode::InvalidRequest
        | ErrorCode::Unimplemented
        | ErrorCode::JobNotFound
        | ErrorCode::DuplicateKey
        | ErrorCode::AgentNotAvailable
        | ErrorCode::AgentVersionNotAvailable
        | ErrorCode::ResumeWindowExpired
        | ErrorCode::HeartbeatLost
        | ErrorCode::BackpressureOverflow
        | ErrorCode::ResourceExhausted
        | ErrorCode::FailedPrecondition
        | ErrorCode::OutOfRange
        | ErrorCode::Unavailable
        | ErrorCode::Internal
        | ErrorCode::DataLoss
        | ErrorCode::Unknown
        | ErrorCode::Other(_) => Exit::Failed,
    }
}
