//! Streams: one to the agent of a job, and requests to end or pace the streams of agents.

use std::time::Duration;

use arcp_host::client::{ClientError, Command};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::stream::{StreamRequest, StreamSaid, StreamTerms};

use crate::client::Client;

/// The pause before a chunk is sent again to an agent that has as much input as it may have.
const PAUSE: Duration = Duration::from_millis(20);

/// A stream to the agent of a job that takes input. Each chunk waits until the runtime has it for the agent. The agent
/// gets each chunk once, even if the connection is cut. Chunks that the agent has not taken are lost when the runtime
/// ends.
///
/// ```no_run
/// # async fn send(
/// #     client: &arcp_tokio_adapter::Client,
/// #     job: arcp_proto::id::WireId,
/// # ) -> Result<(), arcp_tokio_adapter::ClientError> {
/// use arcp_tokio_adapter::StreamSender;
/// use arcp_proto::model::stream::{StreamKind, StreamTerms};
/// let mut stream = StreamSender::open(client, job, "keys".parse().unwrap(), StreamTerms::new(StreamKind::Binary)).await?;
/// stream.send(b"hello\n").await?;
/// stream.close(None).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StreamSender<'c> {
    client: &'c Client,
    job: WireId,
    stream: WireId,
    next: u64,
}

impl<'c> StreamSender<'c> {
    /// Opens a stream. `stream` is its id in this session and for this job.
    ///
    /// # Errors
    ///
    /// As [`Client::say_in_stream`].
    pub async fn open(
        client: &'c Client,
        job: WireId,
        stream: WireId,
        terms: StreamTerms,
    ) -> Result<StreamSender<'c>, ClientError> {
        let sender = StreamSender { client, job, stream, next: 0 };
        sender.say(StreamSaid::Open(terms)).await?;
        Ok(sender)
    }

    /// Sends a chunk as soon as the agent has taken enough of the earlier ones.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub async fn send(&mut self, data: &[u8]) -> Result<(), ClientError> {
        while !self.try_send(data).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Sends a chunk; returns false if the agent must first take earlier ones.
    ///
    /// # Errors
    ///
    /// As [`Client::say_in_stream`]: `FailedPrecondition` when the stream or the job has ended.
    pub async fn try_send(&mut self, data: &[u8]) -> Result<bool, ClientError> {
        match self.say(StreamSaid::chunk(self.next, data, None)).await {
            Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::ResourceExhausted => Ok(false),
            sent => {
                self.next += 1;
                sent.map(|()| true)
            }
        }
    }

    /// Closes the stream.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub async fn close(self, reason: Option<&str>) -> Result<(), ClientError> {
        self.say(StreamSaid::Close { reason: reason.map(String::from) }).await
    }

    async fn say(&self, says: StreamSaid) -> Result<(), ClientError> {
        self.client.say_in_stream(StreamRequest { job: self.job.clone(), stream: self.stream.clone(), says }).await
    }
}

/// The requests for streams that agents have opened.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'c> {
    client: &'c Client,
}

impl Streams<'_> {
    /// The requests of this session.
    pub fn of(client: &Client) -> Streams<'_> {
        Streams { client }
    }

    /// Ends a stream, but not its job; waits until the runtime acknowledges that.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `JobNotFound` if there is no such stream, `FailedPrecondition` if it has ended. Also
    /// if the runtime does not support it, or the session has ended.
    pub async fn cancel(&self, stream: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::CancelStream(stream, reason, answer)).await
    }

    /// Limits how often the agent sends a chunk of a stream: once in this time, from 1 µs to 1,000 s; `None` removes
    /// the limit. Only for the session that submitted the job. A refusal is not reported. The request is sent once:
    /// repeat it after a lost connection.
    ///
    /// # Errors
    ///
    /// If the runtime does not support it, or the session has ended.
    pub async fn pace(&self, stream: WireId, every: Option<Duration>) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::PaceStream(stream, every, answer)).await
    }
}
