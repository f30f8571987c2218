//! What whoever follows a job is told of it.

use std::time::Duration;

use arcp_proto::client::{ResultData, SessionEnd};
use arcp_proto::model::event::{JobEvent, Terminal};
use arcp_proto::model::reply::Refusal;
use arcp_proto::time::UtcMs;

use super::ClientError;

/// Something about a followed job.
#[derive(Clone, Debug)]
pub enum JobUpdate {
    /// Something happened in it.
    Event {
        /// Its number in the session; 0 if the runtime gave none.
        seq: u64,
        /// When.
        at: Option<UtcMs>,
        /// What.
        event: JobEvent,
    },
    /// It ended. Nothing follows.
    Ended {
        /// Its number in the session; 0 if the runtime gave none.
        seq: u64,
        /// How.
        terminal: Terminal,
        /// Its result, put together.
        result: ResultData,
    },
    /// The connection was lost; another attempt follows.
    Reconnecting {
        /// Which attempt.
        attempt: u32,
        /// After which pause.
        after: Duration,
        /// What happened.
        why: String,
    },
    /// The connection is back.
    Reconnected {
        /// Whether the same session came back.
        resumed: bool,
    },
    /// So many events came while we were away for long, and are no longer kept.
    Missed {
        /// How many.
        events: u64,
    },
    /// The runtime does not show the job any more.
    Gone(Box<Refusal>),
    /// The session is over; the job goes on. Nothing follows.
    Lost(SessionEnd),
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// How, and with which error if it did not succeed.
    pub terminal: Terminal,
    /// Its result, put together.
    pub result: ResultData,
}

/// What the last update of a job was.
#[derive(Debug)]
pub enum Last {
    /// Its end.
    Ended(Box<JobEnd>),
    /// It is not shown any more.
    Gone(Box<Refusal>),
    /// The session ended before.
    Lost(SessionEnd),
}

impl Last {
    /// How the job ended.
    ///
    /// # Errors
    ///
    /// If the runtime does not show it any more, or the session is over.
    pub fn end(&self) -> Result<&JobEnd, ClientError> {
        match self {
            Last::Ended(end) => Ok(end),
            Last::Gone(refusal) => Err(ClientError::Refused(refusal.clone())),
            Last::Lost(end) => Err(ClientError::Ended(end.clone())),
        }
    }
}

impl JobUpdate {
    /// The event that it is, or the last one; neither if it is about the
    /// connection.
    ///
    /// # Errors
    ///
    /// The last one: nothing follows.
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
