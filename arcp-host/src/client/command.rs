//! What an application wants of a client, and whoever waits for the answer.

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

/// What an application wants.
pub enum Command {
    /// A job; of the open family only with an invocation.
    Submit(Submit, Option<Invocation>, Follower, Answer<Accepted>),
    /// To follow a job.
    Watch(Watch, Follower, Answer<Watching>),
    /// To follow it no more.
    Unwatch(WireId),
    /// A page of jobs.
    List(ListQuery, Answer<JobPage>),
    /// That a job ends; of the open family only with a deadline.
    Cancel(WireId, Option<String>, Option<Duration>, Answer<()>),
    /// That a stream ends, and not its job.
    CancelStream(WireId, Option<String>, Answer<()>),
    /// How often something may be said in a stream. The answer is that it was sent.
    PaceStream(WireId, Option<Duration>, Answer<()>),
    /// An answer to a question of a job.
    Answer(Answering, Answer<()>),
    /// To be told when people are asked something.
    AwaitPrompt(Answer<()>),
    /// That this decides on permissions that followed jobs ask for from now on.
    DecidePermissions(Box<dyn PermissionHandler>),
    /// A page of sessions.
    Sessions(SessionQuery, Answer<SessionPage>),
    /// Leave bytes with the runtime.
    PutArtifact(PutArtifact, Answer<ArtifactRef>),
    /// Fetch the bytes of an artifact, or a range of them.
    FetchArtifact(WireId, Option<ByteRange>, Answer<FetchedArtifact>),
    /// Keep what has come in parts.
    KeepParts(ArtifactTerms, Answer<ArtifactRef>),
    /// Send a part, or list artifacts.
    AboutArtifacts(ArtifactWish, Answer<ArtifactAnswer>),
    /// Let go of the parts that have come of these bytes.
    AbandonParts(BlobDigest, Answer<()>),
    /// Let go of an artifact.
    ReleaseArtifact(WireId, Answer<()>),
    /// Have jobs submitted at times.
    Schedule(Box<NewSchedule>, Answer<Scheduled>),
    /// A page of schedules.
    Schedules(ScheduleQuery, Answer<SchedulePage>),
    /// Pause a schedule, or have it go on.
    ChangeSchedule(ScheduleChange, Answer<()>),
    /// A checkpoint of a job.
    CreateCheckpoint(CreateCheckpoint, Answer<CheckpointRef>),
    /// A job that begins at a checkpoint.
    RestoreCheckpoint(RestoreCheckpoint, Follower, Answer<Accepted>),
    /// The checkpoints of a job.
    Checkpoints(WireId, Answer<CheckpointList>),
    /// A token for the rest of a job.
    IssueToken(WireId, Answer<IssuedToken>),
    /// To follow the rest of the job of a token.
    ExchangeToken(ExchangeToken, Follower, Answer<Watching>),
    /// That a session is taken from its client.
    Evict(Eviction, Answer<()>),
    /// To be known by another credential from now on.
    Renew(Credential),
    /// Say something to the agent of a job while it runs.
    Interrupt(WireId, String, Answer<()>),
    /// Say something in a stream to the agent of a job.
    Stream(StreamRequest, Answer<()>),
    /// That a job becomes somebody else's.
    HandOver(HandOver, Answer<()>),
    /// Something said back; of the open family only.
    Echo(Option<String>, Answer<Option<String>>),
    /// A message of an extension sent; of the open family only.
    Send(Extension, Answer<()>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// Whoever waits for the answer to a command.
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
