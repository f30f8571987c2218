//! How jobs succeed.

use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::artifact::ArtifactRef;
use arcp_proto::runtime::AgentExit;
use serde::Serialize;

use super::AgentError;

/// How a job succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Without a result.
    Empty,
    /// With this result.
    Json(Json),
    /// With what was sent by [`Context::chunk`](super::Context::chunk), and one line about it.
    Streamed {
        /// The line.
        summary: Option<String>,
    },
    /// With what it has left with [`Context::put_artifact`](super::Context::put_artifact), and one line about it: for a
    /// result that is large, or of another kind than JSON. See also the conversion from
    /// [`ArtifactRef`].
    Stored {
        /// What that is known by.
        artifact: WireId,
        /// The line.
        summary: Option<String>,
    },
}

/// With that as its result.
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
    /// If it has none.
    pub fn of<T: Serialize + ?Sized>(result: &T) -> Result<Outcome, AgentError> {
        Ok(Outcome::Json(Json::from_value(result)?))
    }
}

/// What the core is told when an agent returns.
pub(crate) fn exit_of(result: Result<Outcome, AgentError>) -> AgentExit {
    match result {
        Ok(Outcome::Empty) => AgentExit::Success { result: None, summary: None },
        Ok(Outcome::Json(json)) => AgentExit::Success { result: Some(json), summary: None },
        Ok(Outcome::Streamed { summary }) => AgentExit::Success { result: None, summary },
        Ok(Outcome::Stored { artifact, summary }) => AgentExit::Stored { artifact, summary },
        Err(AgentError(error)) => AgentExit::Failure(error),
    }
}
