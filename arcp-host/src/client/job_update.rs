//! The updates that a follower of a job gets.

use std::time::Duration;

use arcp_proto::client::{ResultData, SessionEnd};
use arcp_proto::model::event::{JobEvent, Terminal};
use arcp_proto::model::reply::Refusal;
use arcp_proto::time::UtcMs;

use super::ClientError;

/// An update about a followed job.
#[derive(Clone, Debug)]
pub enum JobUpdate {
    /// An event of the job.
    Event {
        /// Its number in the session; 0 if the runtime gave none.
        seq: u64,
        /// Its time.
        at: Option<UtcMs>,
        /// The event.
        event: JobEvent,
    },
    /// The job ended. This is the last update.
    Ended {
        /// Its number in the session; 0 if the runtime gave none.
        seq: u64,
        /// How it ended.
        terminal: Terminal,
        /// The whole result.
        result: ResultData,
    },
    /// The connection was lost; another attempt follows.
    Reconnecting {
        /// The number of the attempt.
        attempt: u32,
        /// The pause before it.
        after: Duration,
        /// Why the connection was lost.
        why: String,
    },
    /// The connection is back.
    Reconnected {
        /// Whether the same session came back.
        resumed: bool,
    },
    /// Events were missed: they came during a long disconnection and are not kept any more.
    Missed {
        /// The number of missed events.
        events: u64,
    },
    /// The runtime does not show the job any more. This is the last update.
    Gone(Box<Refusal>),
    /// The session ended; the job goes on. This is the last update.
    Lost(SessionEnd),
}

/// The end of a job.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// How it ended, with the error if it did not succeed.
    pub terminal: Terminal,
    /// The whole result.
    pub result: ResultData,
}

/// The last update of a job.
#[derive(Debug)]
pub enum Last {
    /// The job ended.
    Ended(Box<JobEnd>),
    /// The runtime does not show it any more.
    Gone(Box<Refusal>),
    /// The session ended before the job.
    Lost(SessionEnd),
}

impl Last {
    /// The end of the job.
    ///
    /// # Errors
    ///
    /// If the runtime does not show the job any more, or the session has ended.
    pub fn end(&self) -> Result<&JobEnd, ClientError> {
        match self {
            Last::Ended(end) => Ok(end),
            Last::Gone(refusal) => Err(ClientError::Refused(refusal.clone())),
            Last::Lost(end) => Err(ClientError::Ended(end.clone())),
        }
    }
}

impl JobUpdate {
    /// The event of this update; `None` if the update is about the connection.
    ///
    /// # Errors
    ///
    /// [`Last`], if this is the last update.
    pub fn into_event(self) -> Result<Option<JobEvent>, Last> {
        match self {
            JobUpdate::Event { event, .. } => Ok(Some(event)),
            JobUpdate::Reconnecting { .. } | JobUpdate::Reconnected { .. } | JobUpdate::Missed { .. } => Ok(None),
            JobUpdate::Ended { terminal, result, .. } => Err(Last::Ended(Box::new(JobEnd { terminal, result }))),
            JobUpdate::Gone(refusal) => Err(Last::Gone(refusal)),
            JobUpdate::Lost(end) => Err(Last::Lost(end)),
        }
    }
}
