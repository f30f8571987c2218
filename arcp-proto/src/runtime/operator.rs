//! What an operator can ask of a runtime.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{ConnId, JobId, Principal, SessionId};
use crate::policy::Policy;

/// A command of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Accept no new jobs. Accepted jobs go on, running or waiting, and
    /// sessions are opened and resumed as before.
    Drain,
    /// Accept no new jobs, and close every connection in order.
    Shutdown,
    /// Cancel a job of any principal, with the configured
    /// grace. A job that has ended stays as it is.
    CancelJob {
        /// The job.
        job: JobId,
        /// The reason that its watchers are told.
        reason: Option<String>,
    },
    /// Take a session from its client, connected or not. The client is told, with the
    /// code `CANCELLED`, and cannot resume it, but may open
    /// another one with its credential. Jobs go on. A session that has ended stays as it is.
    EndSession {
        /// The session.
        session: SessionId,
        /// The reason that its client is told.
        reason: Option<String>,
    },
    /// A credential of a principal is no longer valid. Every session of the principal
    /// is taken from its client, which is told with the code `UNAUTHENTICATED` and
    /// may open another one with a valid credential. Its schedules are paused; jobs go on.
    Revoke {
        /// The principal.
        principal: Principal,
    },
    /// What the transport of a connection proved of its peer, such as a certificate,
    /// is no longer valid, or belongs to another principal. If it opened a session, that
    /// is taken from its client, as by [`Revoke`](Self::Revoke); any other connection is
    /// closed. Jobs go on.
    Distrust {
        /// The connection.
        conn: ConnId,
    },
    /// Replace the operators and auditors of
    /// [`Config`](super::Config). The sessions of principals that lose a role are
    /// taken from them, as by [`Revoke`](Self::Revoke).
    Overseers {
        /// Takes the place of [`Config::operators`](super::Config::operators).
        operators: BTreeSet<Principal>,
        /// Takes the place of [`Config::auditors`](super::Config::auditors).
        auditors: BTreeSet<Principal>,
    },
    /// Set the fingerprint by which clients recognise this runtime.
    Fingerprint {
        /// The fingerprint of its certificate's key; each client is told it when its session is accepted.
        fingerprint: Option<String>,
    },
    /// Replace [`Authority::policy`](super::Authority::policy).
    /// Accepted jobs go on. A session that is shown a job which it may not see under the new
    /// policy is taken from its client, which is told with the code
    /// `PERMISSION_DENIED` and may open another one.
    Policy(Option<Box<Policy>>),
}
