//! What whoever runs a runtime can ask of it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{ConnId, JobId, Principal, SessionId};
use crate::policy::Policy;

/// What an operator can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Take no new jobs. Those there are go on, whether they run or wait, and
    /// sessions are opened and resumed as before.
    Drain,
    /// Close every connection in order.
    Shutdown,
    /// End a job, whoever submitted it: as by a cancel, with the configured
    /// grace. One that is over stays as it is.
    CancelJob {
        /// The job.
        job: JobId,
        /// Why, for whoever watches it.
        reason: Option<String>,
    },
    /// Take a session from its client, connected or not: it is told, with the
    /// code `CANCELLED`, and cannot resume it; with its credential it may open
    /// another one. Jobs go on. One that is over stays as it is.
    EndSession {
        /// The session.
        session: SessionId,
        /// Why, for its client.
        reason: Option<String>,
    },
    /// A credential of a principal does not count any more: every session of its
    /// is taken from its client, who is told with the code `UNAUTHENTICATED`, and
    /// may open another one with a credential that counts. Jobs go on.
    Revoke {
        /// Whose.
        principal: Principal,
    },
    /// What the transport of a connection proved of its peer, such as a certificate,
    /// does not count any more, or is somebody else's: a session that was opened by it is
    /// taken from its client, as by [`Revoke`](Self::Revoke), and any other connection is
    /// closed. Jobs go on.
    Distrust {
        /// The connection.
        conn: ConnId,
    },
    /// Who oversees the jobs of everybody from now on, instead of those of
    /// [`Config`](super::Config). Sessions of who did and does not any more are
    /// taken from them, as by [`Revoke`](Self::Revoke).
    Overseers {
        /// As [`Config::operators`](super::Config::operators).
        operators: BTreeSet<Principal>,
        /// As [`Config::auditors`](super::Config::auditors).
        auditors: BTreeSet<Principal>,
    },
    /// By which clients know this runtime again, from now on.
    Fingerprint {
        /// That of the key of its certificate, told to each in its acceptance.
        fingerprint: Option<String>,
    },
    /// Who may do what from now on, instead of [`Authority::policy`](super::Authority::policy).
    /// Jobs go on as they were accepted. A session that is shown a job which it may see
    /// no longer is taken from its client, who is told with the code
    /// `PERMISSION_DENIED`, and may open another one.
    Policy(Option<Box<Policy>>),
}
