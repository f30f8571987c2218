//! Files that a program leaves as artifacts: regular ones beneath its working directory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Members;
use arcp_proto::lease::Namespace;
use arcp_proto::model::artifact::{ArtifactRef, MediaType};
use arcp_proto::model::event::JobError;

use crate::agent::{CallError, Context, NewArtifact, Stopped, artifact_bytes};

/// Where the program of a job works.
pub(super) struct Files {
    /// The folder that it was started in.
    pub(super) directory: PathBuf,
    /// The temporary folder of its own, if it is confined: what else it leaves its lease
    /// has to let it read.
    pub(super) own: Option<PathBuf>,
}

impl Files {
    /// Leaves the file that a line names.
    pub(super) fn leave(&self, job: &Context, line: &Members<'_>) -> Result<ArtifactRef, CallError> {
        let artifact = self.read(job, line)?;
        job.put_artifact(artifact)
    }

    fn read(&self, job: &Context, line: &Members<'_>) -> Result<NewArtifact, CallError> {
        let path = line.get_str("path").ok_or_else(|| wrong("`path` must be a text"))?;
        let media_type = match line.get("media_type") {
            None | Some("null") => "application/octet-stream".to_string(),
            Some(_) => line.get_str("media_type").ok_or_else(|| wrong("`media_type` must be a text"))?,
        };
        let media_type: MediaType = media_type.parse().map_err(|why| wrong(format!("`media_type`: {why}")))?;
        let retain = match line.get("retain_seconds") {
            None | Some("null") => None,
            Some(raw) => Some(raw.parse().map_err(|_| wrong("`retain_seconds` must be a whole number of seconds"))?),
        };
        let (file, size) = self.open(job, Path::new(&path))?;
        let most = artifact_bytes(job);
        if most == 0 {
            return Err(refused(ErrorCode::Unimplemented, "this runtime keeps no artifacts".to_string()));
        }
        if size > most {
            let why = format!("`{path}` has {size} bytes: an artifact may have at most {most}");
            return Err(refused(ErrorCode::ResourceExhausted, why));
        }
        let artifact = NewArtifact::file(media_type, file).map_err(|error| wrong(format!("`{path}`: {error}")))?;
        Ok(match retain {
            Some(seconds) => artifact.kept_for(Duration::from_secs(seconds)),
            None => artifact,
        })
    }

    fn open(&self, job: &Context, path: &Path) -> Result<(File, u64), CallError> {
        let failed = |error: io::Error| {
            let code = if error.kind() == io::ErrorKind::PermissionDenied {
                ErrorCode::PermissionDenied
            } else if error.kind() == io::ErrorKind::Unsupported {
                ErrorCode::Unimplemented
            } else {
                ErrorCode::InvalidRequest
            };
            refused(code, format!("`{}`: {error}", path.display()))
        };
        let own = self.own.as_deref();
        if let Some((folder, inside)) = own.and_then(|own| Some((own, path.strip_prefix(own).ok()?))) {
            return beneath(folder, inside).map_err(failed);
        }
        let inside = path.strip_prefix(&self.directory).unwrap_or(path);
        let opened = beneath(&self.directory, inside).map_err(failed)?;
        if own.is_some() {
            // It can read no more by us than by itself.
            let target = self.directory.join(inside);
            job.authorize(&Namespace::FsRead, &target.to_string_lossy())?;
        }
        Ok(opened)
    }
}

fn wrong(why: impl Into<String>) -> CallError {
    refused(ErrorCode::InvalidRequest, why.into())
}

fn refused(code: ErrorCode, why: String) -> CallError {
    CallError::Refused(JobError::new(code, why))
}

/// What a program is told of a file that it wanted to leave.
pub(super) fn told(error: CallError) -> Result<arcp_proto::runtime::AgentReply, Stopped> {
    match error {
        CallError::Stopped(stopped) => Err(stopped),
        CallError::Refused(error) => Ok(arcp_proto::runtime::AgentReply::Refused(error)),
    }
}

/// Opens a regular file beneath a folder, through no link that leads out of it, and says
/// how large it is. What else there is is not waited for.
#[cfg(target_os = "linux")]
fn beneath(folder: &Path, path: &Path) -> io::Result<(File, u64)> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    use rustix::io::Errno;

    let folder = openat(CWD, folder, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = loop {
        match openat2(&folder, path, flags, Mode::empty(), resolve) {
            // Something above it was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::XDEV) => {
                let why = "it is not beneath the working directory, or a link on its way leads out of that";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            Err(Errno::NOSYS) => {
                let why = "this kernel cannot open files beneath a folder safely (openat2)";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            // A socket, or a device that is not there.
            Err(Errno::NXIO) => return Err(io::Error::other("it is no regular file")),
            opened => break File::from(opened?),
        }
    };
    let about = file.metadata()?;
    match about.is_file() {
        true => Ok((file, about.len())),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Only Linux opens a file so that no link leads out of a folder.
#[cfg(not(target_os = "linux"))]
fn beneath(_: &Path, _: &Path) -> io::Result<(File, u64)> {
    let why = "only on Linux files are opened beneath a folder safely";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}
