//! Errors, separated by who is at fault: the peer ([`Violation`]), the caller ([`ApiMisuse`]) or
//! the configuration ([`ConfigError`]).

mod code;

use alloc::borrow::Cow;
use alloc::string::String;
use core::time::Duration;

pub use code::ErrorCode;

use crate::json::{Json, Object};
use crate::model::feature::Feature;

/// A text that could not be read as a value of some type. The error does not repeat the text, as it
/// may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
#[non_exhaustive]
pub struct ParseError {
    /// The expected form of the text.
    pub expected: &'static str,
}

impl ParseError {
    pub(crate) const fn new(expected: &'static str) -> ParseError {
        ParseError { expected }
    }
}

/// Something that a peer did and the protocol does not allow. The peer is told; the session
/// survives unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    /// The error code that the peer is told.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub message: Cow<'static, str>,
    /// Details for programs, as a JSON object.
    pub details: Option<Json>,
}

impl Violation {
    /// A violation with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Violation {
        Violation { code, message: message.into(), details: None }
    }

    /// The most common violation: the request is invalid.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Violation {
        Violation::new(ErrorCode::InvalidRequest, message)
    }

    /// A bound of [`Limits`](crate::limits::Limits) was reached. The details have its name, whose
    /// it is, its value, and when to try again, except for bounds that never change
    /// ([`BoundOf::Request`]).
    pub fn exhausted(bound: &'static str, of: BoundOf, limit: u64, message: impl Into<Cow<'static, str>>) -> Violation {
        Violation::exhausted_for(RETRY_AFTER, bound, of, limit, message)
    }

    /// Like [`exhausted`](Self::exhausted), with the earliest time at which a retry can succeed.
    pub(crate) fn exhausted_for(
        retry_after: Duration,
        bound: &'static str,
        of: BoundOf,
        limit: u64,
        message: impl Into<Cow<'static, str>>,
    ) -> Violation {
        let mut details = Object::new();
        details.str("bound", bound).str("of", of.name()).u64("limit", limit);
        if of != BoundOf::Request {
            details.u64("retry_after_ms", u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX));
        }
        Violation::new(ErrorCode::ResourceExhausted, message).with_details(details.json())
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: Json) -> Violation {
        self.details = Some(details);
        self
    }
}

/// When a retry may succeed after a bound was reached.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a bound is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundOf {
    /// On one request: the same request will always be refused.
    Request,
    /// On one job.
    Job,
    /// On the session.
    Session,
    /// On the principal, whose other jobs and sessions must make room.
    Principal,
    /// On all peers of the same network that have no credential, or a wrong one.
    Network,
    /// On all peers without a credential.
    Anonymous,
    /// On the whole runtime.
    Runtime,
}

impl BoundOf {
    fn name(self) -> &'static str {
        match self {
            BoundOf::Request => "request",
            BoundOf::Job => "job",
            BoundOf::Session => "session",
            BoundOf::Principal => "principal",
            BoundOf::Network => "network",
            BoundOf::Anonymous => "anonymous",
            BoundOf::Runtime => "runtime",
        }
    }
}

/// A local call that was not allowed, and what the caller should have done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// A command was given before the session was accepted.
    #[error("the session is not accepted yet: wait for `ClientEvent::Accepted`")]
    NotAccepted,
    /// A command was given after the session had ended.
    #[error("the session has ended: make a new client")]
    Ended,
    /// More commands wait for an answer than `ClientLimits::pending` allows.
    #[error("{limit} commands are waiting for an answer: drain events before giving more")]
    TooManyPending {
        /// The bound.
        limit: usize,
    },
    /// More jobs are followed than `ClientLimits::followed` allows.
    #[error("{limit} jobs are followed already: wait for some to end, or unwatch them")]
    TooManyFollowed {
        /// The bound.
        limit: usize,
    },
    /// The peer did not negotiate what the command needs.
    #[error("the peer did not negotiate the feature `{0}`")]
    NotNegotiated(Feature),
    /// An argument is outside its documented range.
    #[error("{0}")]
    Argument(&'static str),
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A bound is outside its documented range.
    #[error("limit `{name}` is {value}, expected {expected}")]
    Limit {
        /// The field of `Limits`.
        name: &'static str,
        /// The value given.
        value: u64,
        /// The documented range.
        expected: &'static str,
    },
    /// An agent cannot be registered.
    #[error("agent `{name}`: {why}")]
    Agent {
        /// The agent as given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A duration is outside its documented range.
    #[error("`{name}` must be {expected}")]
    Duration {
        /// The field of `Config`.
        name: &'static str,
        /// The documented range.
        expected: &'static str,
    },
}
