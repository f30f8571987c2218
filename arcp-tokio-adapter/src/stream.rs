//! Streams: one to the agent of a job, and an end or another pace for what agents say.

use std::time::Duration;

use arcp_host::client::{ClientError, Command};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::stream::{StreamRequest, StreamSaid, StreamTerms};

use crate::client::Client;

/// How long an agent that has enough to take is given.
const PAUSE: Duration = Duration::from_millis(20);

/// A stream to the agent of a job that takes input. Each chunk waits until the runtime
/// has it for the agent: it comes once, also over a cut connection. What the agent has
/// not taken when the runtime ends is gone with it.
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
    /// Opens a stream; `stream` is what it is called in this session and for this job.
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

    /// Sends a chunk, as soon as the agent has taken enough of what came before.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but for that.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), ClientError> {
        while !self.try_send(data).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Sends a chunk; false if the agent is to take something first.
    ///
    /// # Errors
    ///
    /// As [`Client::say_in_stream`]: `FailedPrecondition` once the stream or the job is over.
    pub async fn try_send(&mut self, data: &[u8]) -> Result<bool, ClientError> {
        match self.say(StreamSaid::chunk(self.next, data, None)).await {
            Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::ResourceExhausted => Ok(false),
            sent => {
                self.next += 1;
                sent.map(|()| true)
            }
        }
    }

    /// Says that this was all.
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

/// What can be asked of streams that agents have opened.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'c> {
    client: &'c Client,
}

impl Streams<'_> {
    /// Of this session.
    pub fn of(client: &Client) -> Streams<'_> {
        Streams { client }
    }

    /// Ends a stream, and not its job; waits until that is acknowledged.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it: `JobNotFound` if there is no such stream,
    /// `FailedPrecondition` if it is over. Also if the runtime has no word for it, or the
    /// session is over.
    pub async fn cancel(&self, stream: WireId, reason: Option<String>) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::CancelStream(stream, reason, answer)).await
    }

    /// Has the agent say something in a stream no more often than once in so long, from 1 µs
    /// to 1,000 s; `None`: as often as it likes. For the session that submitted the job: what
    /// the runtime refuses is not heard of. It is sent once: say it again after a lost
    /// connection.
    ///
    /// # Errors
    ///
    /// If the runtime has no word for it, or the session is over.
    pub async fn pace(&self, stream: WireId, every: Option<Duration>) -> Result<(), ClientError> {
        self.client.ask(|answer| Command::PaceStream(stream, every, answer)).await
    }
}
