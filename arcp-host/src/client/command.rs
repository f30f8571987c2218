//! Commands of an application to its client, and the callers that wait for an answer.

use std::time::Duration;

use arcp_proto::id::WireId;
use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest, PutArtifact};
use arcp_proto::model::checkpoint::{CheckpointList, CheckpointRef, CreateCheckpoint, RestoreCheckpoint};
use arcp_proto::model::job_token::{ExchangeToken, IssuedToken};
use arcp_proto::model::reply::{Accepted, FetchedArtifact, JobPage, Watching};
use arcp_proto::model::request::{Answering, Credential, Extension, HandOver, Invocation, ListQuery, Submit, Watch};
use arcp_proto::model::schedule::{NewSchedule, ScheduleChange, SchedulePage, ScheduleQuery, Scheduled};
use arcp_proto::model::session::{Eviction, SessionPage, SessionQuery};
use arcp_proto::model::stream::StreamRequest;
use arcp_proto::model::upload::{ArtifactAnswer, ArtifactWish, ByteRange};

use super::{Answer, ClientError, Follower, PermissionHandler};

/// A command of an application.
pub enum Command {
    /// Submit a job; the invocation is for the open family only.
    Submit(Submit, Option<Invocation>, Follower, Answer<Accepted>),
    /// Follow a job.
    Watch(Watch, Follower, Answer<Watching>),
    /// Stop following a job.
    Unwatch(WireId),
    /// List a page of jobs.
    List(ListQuery, Answer<JobPage>),
    /// Cancel a job; the deadline is for the open family only.
    Cancel(WireId, Option<String>, Option<Duration>, Answer<()>),
    /// End a stream, but not its job.
    CancelStream(WireId, Option<String>, Answer<()>),
    /// Limit how often chunks come in a stream. The answer says only that the request was sent.
    PaceStream(WireId, Option<Duration>, Answer<()>),
    /// Answer a question of a job.
    Answer(Answering, Answer<()>),
    /// Be told when people are asked something.
    AwaitPrompt(Answer<()>),
    /// Use this handler to decide on permissions that followed jobs ask for.
    DecidePermissions(Box<dyn PermissionHandler>),
    /// List a page of sessions.
    Sessions(SessionQuery, Answer<SessionPage>),
    /// Leave bytes with the runtime.
    PutArtifact(PutArtifact, Answer<ArtifactRef>),
    /// Fetch the bytes of an artifact, or a range of them.
    FetchArtifact(WireId, Option<ByteRange>, Answer<FetchedArtifact>),
    /// Keep the artifact whose parts have been sent.
    KeepParts(ArtifactTerms, Answer<ArtifactRef>),
    /// Send a part, or list artifacts.
    AboutArtifacts(ArtifactWish, Answer<ArtifactAnswer>),
    /// Discard the parts of these bytes that have been sent.
    AbandonParts(BlobDigest, Answer<()>),
    /// Release an artifact.
    ReleaseArtifact(WireId, Answer<()>),
    /// Submit jobs at times.
    Schedule(Box<NewSchedule>, Answer<Scheduled>),
    /// List a page of schedules.
    Schedules(ScheduleQuery, Answer<SchedulePage>),
    /// Pause or resume a schedule.
    ChangeSchedule(ScheduleChange, Answer<()>),
    /// Make a checkpoint of a job.
    CreateCheckpoint(CreateCheckpoint, Answer<CheckpointRef>),
    /// Submit a job that begins at a checkpoint.
    RestoreCheckpoint(RestoreCheckpoint, Follower, Answer<Accepted>),
    /// List the checkpoints of a job.
    Checkpoints(WireId, Answer<CheckpointList>),
    /// Issue a token for the remaining events of a job.
    IssueToken(WireId, Answer<IssuedToken>),
    /// Follow the job of a token.
    ExchangeToken(ExchangeToken, Follower, Answer<Watching>),
    /// Take a session from its client.
    Evict(Eviction, Answer<()>),
    /// Authenticate with another credential.
    Renew(Credential),
    /// Interrupt the agent of a job with a message.
    Interrupt(WireId, String, Answer<()>),
    /// Open, write or close a stream to the agent of a job.
    Stream(StreamRequest, Answer<()>),
    /// Hand a job over to another owner.
    HandOver(HandOver, Answer<()>),
    /// Send a text that the runtime sends back; open family only.
    Echo(Option<String>, Answer<Option<String>>),
    /// Send a message of an extension; open family only.
    Send(Extension, Answer<()>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// A caller that waits for the answer to a command.
pub(super) enum Waiting {
    Submit(Follower, Answer<Accepted>),
    Watch(WireId, Answer<Watching>),
    List(Answer<JobPage>),
    Cancel(WireId, Answer<()>),
    Answer(Answer<()>),
    Sessions(Answer<SessionPage>),
    Put(Answer<ArtifactRef>),
    Schedule(Answer<Scheduled>),
    Schedules(Answer<SchedulePage>),
    Checkpoint(Answer<CheckpointRef>),
    Checkpoints(Answer<CheckpointList>),
    Token(Answer<IssuedToken>),
    Fetch(Answer<FetchedArtifact>),
    OfArtifacts(Answer<ArtifactAnswer>),
    Evict(Answer<()>),
    HandOver(Answer<()>),
    Echo(Answer<Option<String>>),
}

impl Waiting {
    pub(super) fn fail(self, error: ClientError) {
        match self {
            Waiting::Submit(_, answer) => answer(Err(error)),
            Waiting::Watch(_, answer) => answer(Err(error)),
            Waiting::List(answer) => answer(Err(error)),
            Waiting::Sessions(answer) => answer(Err(error)),
            Waiting::Cancel(_, answer)
            | Waiting::Answer(answer)
            | Waiting::Evict(answer)
            | Waiting::HandOver(answer) => answer(Err(error)),
            Waiting::Echo(answer) => answer(Err(error)),
            Waiting::Put(answer) => answer(Err(error)),
            Waiting::Schedule(answer) => answer(Err(error)),
            Waiting::Schedules(answer) => answer(Err(error)),
            Waiting::Checkpoint(answer) => answer(Err(error)),
            Waiting::Checkpoints(answer) => answer(Err(error)),
            Waiting::Token(answer) => answer(Err(error)),
            Waiting::Fetch(answer) => answer(Err(error)),
            Waiting::OfArtifacts(answer) => answer(Err(error)),
        }
    }
}
