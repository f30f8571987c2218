//! Files that a program leaves as artifacts: regular ones beneath its working directory.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Members;
use arcp_proto::lease::Namespace;
use arcp_proto::model::artifact::{ArtifactRef, MediaType};
use arcp_proto::model::event::JobError;

use crate::agent::{CallError, Context, NewArtifact, Stopped, artifact_bytes, may_leave};

/// Where the program of a job works. The folders are opened before it is started: it could
/// put another one where they are.
pub(super) struct Files {
    directory: Folder,
    /// The temporary folder of its own, if it is confined: what else it leaves its lease
    /// has to let it read.
    own: Option<Folder>,
}

struct Folder {
    path: PathBuf,
    /// Where it really is.
    real: PathBuf,
    opened: OwnedFd,
}

impl Folder {
    fn open(path: &Path) -> io::Result<Folder> {
        let real = path.canonicalize()?;
        Ok(Folder { opened: opened(&real)?, path: path.to_path_buf(), real })
    }

    /// What a path beneath it is called there, by whichever of its names it begins.
    fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.path).or_else(|_| path.strip_prefix(&self.real)).ok()
    }
}

impl Files {
    /// Those of a program that is started in a folder. `own`: the temporary folder of one that is confined.
    ///
    /// # Errors
    ///
    /// If one of them is not there.
    pub(super) fn within(directory: &Path, own: Option<&Path>) -> io::Result<Files> {
        Ok(Files { directory: Folder::open(directory)?, own: own.map(Folder::open).transpose()? })
    }

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
        let may_read = |target: &str| job.authorize(&Namespace::FsRead, target).map(drop);
        let (file, size) = self.open(Path::new(&path), may_read)?;
        let most = artifact_bytes(job);
        if most == 0 {
            return Err(refused(ErrorCode::Unimplemented, "this runtime keeps no artifacts".to_string()));
        }
        if size > most {
            let why = format!("`{path}` has {size} bytes: an artifact may have at most {most}");
            return Err(refused(ErrorCode::ResourceExhausted, why));
        }
        let read = NewArtifact::beginning(media_type, (file, size), || may_leave(job));
        let artifact = read.map_err(|error| wrong(format!("`{path}`: {error}")))?.ok_or(Stopped)?;
        Ok(match retain {
            Some(seconds) => artifact.kept_for(Duration::from_secs(seconds)),
            None => artifact,
        })
    }

    /// Opens what a program names. `may_read` says whether one that is confined may: it can read
    /// no more by us than by itself.
    fn open(
        &self,
        path: &Path,
        may_read: impl FnOnce(&str) -> Result<(), CallError>,
    ) -> Result<(File, u64), CallError> {
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
        let Some(own) = &self.own else {
            let inside = self.directory.inside(path).unwrap_or(path);
            return beneath(&self.directory.opened, inside, Links::Inside).map_err(failed);
        };
        if let Some(inside) = own.inside(path) {
            return beneath(&own.opened, inside, Links::No).map_err(failed);
        }
        let inside = self.directory.inside(path).unwrap_or(path);
        // Asked first: why not is all that it learns of what it may not read. Without links
        // nothing else is opened than is named.
        may_read(&self.directory.real.join(inside).to_string_lossy())?;
        beneath(&self.directory.opened, inside, Links::No).map_err(failed)
    }
}

/// The links that are followed on the way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// Those that stay in the folder.
    Inside,
    No,
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

/// How often a file is opened that something else is done to meanwhile.
#[cfg(target_os = "linux")]
const TRIES: usize = 16;

#[cfg(target_os = "linux")]
fn opened(folder: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    Ok(openat(CWD, folder, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(not(target_os = "linux"))]
fn opened(folder: &Path) -> io::Result<OwnedFd> {
    File::open(folder).map(OwnedFd::from)
}

/// Opens a regular file beneath a folder, through no link that leads out of it, and says
/// how large it is. What else there is is not waited for.
#[cfg(target_os = "linux")]
fn beneath(folder: &OwnedFd, path: &Path, links: Links) -> io::Result<(File, u64)> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;

    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = match links {
        Links::Inside => resolve,
        Links::No => resolve | ResolveFlags::NO_SYMLINKS,
    };
    let file = match tried(|| openat2(folder, path, flags, Mode::empty(), resolve)) {
        Err(Errno::XDEV) => {
            let why = "it is not beneath the working directory, or a link on its way leads out of that";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Err(Errno::LOOP) => {
            let why = match links {
                Links::Inside => "there are too many links on its way",
                Links::No => "there is a link on its way: a program that is confined names what it means",
            };
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Err(Errno::NOSYS) => {
            let why = "this kernel cannot open files beneath a folder safely (openat2)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Err(Errno::AGAIN | Errno::INTR) => {
            return Err(io::Error::other("somebody else has it, or folders above it are being renamed: try again"));
        }
        // A socket, or a device that is not there.
        Err(Errno::NXIO) => return Err(io::Error::other("it is no regular file")),
        opened => File::from(opened?),
    };
    let about = file.metadata()?;
    match about.is_file() {
        true => Ok((file, about.len())),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Tries again while folders above it are being renamed; a file that its program has leased
/// says the same for much longer.
#[cfg(target_os = "linux")]
fn tried<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    use rustix::io::Errno;
    for _ in 1..TRIES {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    open()
}

/// Only Linux opens a file so that no link leads out of a folder.
#[cfg(not(target_os = "linux"))]
fn beneath(_: &OwnedFd, _: &Path, _: Links) -> io::Result<(File, u64)> {
    let why = "only on Linux files are opened beneath a folder safely";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use rustix::io::Errno;

    use super::*;

    fn code<T>(refused: Result<T, CallError>) -> ErrorCode {
        match refused {
            Err(CallError::Refused(why)) => why.code,
            Err(CallError::Stopped(_)) | Ok(_) => panic!("it is refused"),
        }
    }

    #[test]
    fn a_confined_program_leaves_what_its_lease_lets_it_read_and_nothing_that_a_link_leads_to() {
        let root = std::env::temp_dir().join(format!("arcp-confined-{}", std::process::id()));
        for folder in ["job/public", "job/secret", "own"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::write(root.join("job/secret/key"), "SECRET").expect("written");
        fs::write(root.join("job/public/a"), "inside").expect("written");
        symlink("../secret/key", root.join("job/public/k")).expect("a link");
        symlink("../secret", root.join("job/public/folder")).expect("a link");
        symlink("job", root.join("named")).expect("a link");
        fs::write(root.join("own/a"), "inside").expect("written");
        symlink("a", root.join("own/k")).expect("a link");
        let granted = root.canonicalize().expect("a path").join("job/public");
        let granted = granted.to_str().expect("text");
        let may_read = |target: &str| match target.starts_with(granted) {
            true => Ok(()),
            false => Err(refused(ErrorCode::LeaseSubsetViolation, "not granted".to_string())),
        };
        let files = Files::within(&root.join("named"), Some(&root.join("own"))).expect("they are there");
        // Another folder where it was started is not its working directory.
        fs::remove_file(root.join("named")).expect("deleted");
        symlink("job/secret", root.join("named")).expect("a link");
        for path in ["public/a", &format!("{granted}/a"), root.join("own/a").to_str().expect("text")] {
            let (mut file, size) = files.open(Path::new(path), may_read).expect(path);
            let mut text = String::new();
            file.read_to_string(&mut text).expect("readable");
            assert_eq!((text.as_str(), size), ("inside", 6), "{path}");
        }
        for path in ["public/k", "public/folder/key", root.join("own/k").to_str().expect("text")] {
            assert_eq!(code(files.open(Path::new(path), may_read)), ErrorCode::PermissionDenied, "{path}");
        }
        // What is there, and what is not, look alike to who may not read it.
        for path in ["secret/key", "secret/none"] {
            assert_eq!(code(files.open(Path::new(path), may_read)), ErrorCode::LeaseSubsetViolation, "{path}");
        }
        fs::remove_dir_all(&root).expect("deleted");
    }

    #[test]
    fn a_file_that_cannot_be_opened_for_now_is_not_tried_for_ever() {
        let mut tries = 0;
        let opened = tried(|| {
            tries += 1;
            assert!(tries <= TRIES, "it ends");
            Err::<(), _>(Errno::AGAIN)
        });
        assert_eq!((opened, tries), (Err(Errno::AGAIN), TRIES));
        let mut busy = 3;
        let opened = tried(|| {
            busy -= 1;
            if busy == 0 { Ok(busy) } else { Err(Errno::AGAIN) }
        });
        assert_eq!(opened, Ok(0));
    }
}
