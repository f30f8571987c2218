//! Artifacts that agents leave with the runtime (RFC §16).

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::time::Duration;

use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest, BlobHasher, MediaType};
use arcp_proto::runtime::{AgentCall, AgentReply};

use super::replies::not_done;
use super::{AsyncContext, CallError, Context, ask_with};

/// The bytes of an artifact that an agent leaves with the runtime, for all who may watch its job.
#[derive(Debug)]
pub struct NewArtifact {
    terms: ArtifactTerms,
    offer: Offer,
}

impl NewArtifact {
    /// An artifact of these bytes.
    pub fn of(media_type: MediaType, bytes: impl Into<Vec<u8>>) -> NewArtifact {
        let bytes = bytes.into();
        let terms = ArtifactTerms::new(media_type, bytes.len() as u64, BlobDigest::of(&bytes));
        NewArtifact { terms, offer: Offer::Bytes(bytes) }
    }

    /// An artifact of a whole file, which is read twice: in this call, and when the runtime has
    /// room for it. If the file changes in between, the artifact is refused.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a regular file.
    pub fn file(media_type: MediaType, file: File) -> io::Result<NewArtifact> {
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let read = NewArtifact::beginning(media_type, (file, about.len()), || true)?;
        read.ok_or_else(|| io::ErrorKind::Interrupted.into())
    }

    /// The first `most` bytes of a regular file, even if it grows meanwhile. `None`: `goes_on`
    /// returned false.
    pub(crate) fn beginning(
        media_type: MediaType,
        (mut file, most): (File, u64),
        goes_on: impl Fn() -> bool,
    ) -> io::Result<Option<NewArtifact>> {
        file.rewind()?;
        let (mut hasher, mut buffer) = (BlobHasher::default(), vec![0; 64 << 10]);
        let (mut from, mut size) = ((&mut file).take(most), 0_u64);
        loop {
            if !goes_on() {
                return Ok(None);
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    size += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let terms = ArtifactTerms::new(media_type, size, hasher.digest());
        Ok(Some(NewArtifact { terms, offer: Offer::File(file) }))
    }

    /// Sets how long it is kept, up to the retention of the runtime.
    #[must_use]
    pub fn kept_for(mut self, span: Duration) -> NewArtifact {
        self.terms.retain = Some(span);
        self
    }

    fn call(self) -> (AgentCall, Offer) {
        (AgentCall::PutArtifact(Box::new(self.terms)), self.offer)
    }
}

/// The bytes of an artifact, until the host has stored them.
pub(crate) enum Offer {
    Bytes(Vec<u8>),
    File(File),
}

impl Offer {
    /// A reader of all bytes, from the first.
    pub(crate) fn reader(self) -> io::Result<Box<dyn Read>> {
        match self {
            Offer::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes))),
            Offer::File(mut file) => {
                file.rewind()?;
                Ok(Box::new(file))
            }
        }
    }
}

/// Shows no bytes, which may be secret.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offer::Bytes(bytes) => f.debug_tuple("Bytes").field(&bytes.len()).finish(),
            Offer::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

impl Context {
    /// Leaves an artifact with the runtime, and waits until that is durable. All who may watch the
    /// job are told its id and may fetch it. It counts towards the bounds of the job's principal.
    ///
    /// ```
    /// use arcp_host::agent::{AgentError, Context, NewArtifact, Outcome};
    /// fn report(job: &Context) -> Result<Outcome, AgentError> {
    ///     let media_type = "text/csv".parse().map_err(|_| AgentError::failed("a media type"))?;
    ///     let kept = job.put_artifact(NewArtifact::of(media_type, "day,sum\n1,2\n"))?;
    ///     job.status("reported", Some(kept.id.as_str()))?;
    ///     Ok(Outcome::Empty)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`], and the job goes on: with `RESOURCE_EXHAUSTED` if the artifact is
    /// too large or there is no room, `UNIMPLEMENTED` if the runtime keeps no artifacts,
    /// `UNAVAILABLE` if it could not be stored or was changed meanwhile. [`CallError::Stopped`] as
    /// soon as the job is told to stop.
    pub fn put_artifact(&self, artifact: NewArtifact) -> Result<ArtifactRef, CallError> {
        let (call, offer) = artifact.call();
        kept(ask_with(self, call, Some(offer))?)
    }
}

/// Whether a job may still leave artifacts: it was not told to stop.
pub(crate) fn may_leave(job: &Context) -> bool {
    let state = job.link.state();
    !state.stopping && !state.over
}

/// The most bytes of one artifact of a job; 0 if the runtime keeps none.
pub(crate) fn artifact_bytes(job: &Context) -> u64 {
    job.spec.artifact_bytes
}

impl AsyncContext {
    /// Leaves an artifact with the runtime: see [`Context::put_artifact`].
    ///
    /// # Errors
    ///
    /// As [`Context::put_artifact`].
    pub async fn put_artifact(&self, artifact: NewArtifact) -> Result<ArtifactRef, CallError> {
        let (call, offer) = artifact.call();
        kept(self.ask_with(call, Some(offer)).await?)
    }
}

fn kept(reply: AgentReply) -> Result<ArtifactRef, CallError> {
    if let AgentReply::Kept(kept) = reply { Ok(*kept) } else { Err(not_done(reply)) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_that_grows_is_read_as_far_as_it_was_and_not_after_its_job_is_over() {
        let path = std::env::temp_dir().join(format!("arcp-grows-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("made");
        file.write_all(b"abc").expect("written");
        file.set_len(1 << 40).expect("grown");
        std::fs::remove_file(&path).expect("deleted");
        let again = || file.try_clone().expect("open");
        let media_type: MediaType = "text/plain".parse().expect("a media type");
        let read = NewArtifact::beginning(media_type.clone(), (again(), 3), || true).expect("readable");
        let terms = read.expect("all of it").terms;
        assert_eq!((terms.size, terms.digest), (3, BlobDigest::of(b"abc")));
        let left = Cell::new(3);
        let read = NewArtifact::beginning(media_type, (again(), 1 << 40), || left.replace(left.get() - 1) > 0);
        assert!(read.expect("readable").is_none());
    }
}
