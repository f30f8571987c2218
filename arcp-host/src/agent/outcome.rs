//! The outcome of a job that succeeds.

use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::artifact::ArtifactRef;
use arcp_proto::runtime::AgentExit;
use serde::Serialize;

use super::AgentError;

/// The outcome of a job that succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No result.
    Empty,
    /// This result.
    Json(Json),
    /// The pieces that were sent by [`Context::chunk`](super::Context::chunk), and one line about
    /// them.
    Streamed {
        /// The line.
        summary: Option<String>,
    },
    /// An artifact that was left with [`Context::put_artifact`](super::Context::put_artifact), and
    /// one line about it: for a result that is large or not JSON. [`ArtifactRef`] converts into
    /// this.
    Stored {
        /// The id of the artifact.
        artifact: WireId,
        /// The line.
        summary: Option<String>,
    },
}

/// The outcome whose result is this artifact.
///
/// ```
/// use arcp_host::agent::{AgentError, Context, NewArtifact, Outcome};
/// fn report(job: &Context) -> Result<Outcome, AgentError> {
///     let media_type = "text/csv".parse().map_err(|_| AgentError::failed("a media type"))?;
///     Ok(job.put_artifact(NewArtifact::of(media_type, "day,sum\n1,2\n"))?.into())
/// }
/// ```
impl From<ArtifactRef> for Outcome {
    fn from(kept: ArtifactRef) -> Outcome {
        Outcome::Stored { artifact: kept.id, summary: None }
    }
}

impl Outcome {
    /// A result of any type with a JSON form.
    ///
    /// # Errors
    ///
    /// If the value has no JSON form.
    pub fn of<T: Serialize + ?Sized>(result: &T) -> Result<Outcome, AgentError> {
        Ok(Outcome::Json(Json::from_value(result)?))
    }
}

/// The exit to report to the core when an agent returns.
pub(crate) fn exit_of(result: Result<Outcome, AgentError>) -> AgentExit {
    match result {
        Ok(Outcome::Empty) => AgentExit::Success { result: None, summary: None },
        Ok(Outcome::Json(json)) => AgentExit::Success { result: Some(json), summary: None },
        Ok(Outcome::Streamed { summary }) => AgentExit::Success { result: None, summary },
        Ok(Outcome::Stored { artifact, summary }) => AgentExit::Stored { artifact, summary },
        Err(AgentError(error)) => AgentExit::Failure(error),
    }
}
