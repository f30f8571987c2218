//! Files that a program leaves as artifacts: regular files beneath its working directory.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Members;
use arcp_proto::lease::Namespace;
use arcp_proto::model::artifact::{ArtifactRef, MediaType};
use arcp_proto::model::event::JobError;

use crate::agent::{CallError, Context, NewArtifact, Stopped, artifact_bytes, may_leave};
use crate::beneath::{Links, Purpose, beneath, place, regular};
use crate::sandbox::{Found, Readable, reopen};

/// The folders whose files a program may leave. They are opened before the program starts, because
/// it could replace them.
pub(super) struct Files {
    directory: Folder,
    /// The further places that a confined program may use.
    own: Option<Own>,
}

/// Further places of a confined program.
struct Own {
    /// Its temporary folder.
    folder: Folder,
    /// What its lease lets it read.
    readable: Arc<[Readable]>,
}

struct Folder {
    path: PathBuf,
    /// The path without symbolic links.
    real: PathBuf,
    opened: OwnedFd,
}

impl Folder {
    fn open(path: &Path) -> io::Result<Folder> {
        let real = path.canonicalize()?;
        Ok(Folder { opened: place(&real)?, path: path.to_path_buf(), real })
    }

    /// The part of a path below this folder, under either of the folder's names.
    fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.path).or_else(|_| path.strip_prefix(&self.real)).ok()
    }
}

impl Files {
    /// The folders of a program that is started in `directory`. `own` is for a confined program:
    /// its temporary folder, and what its lease lets it read.
    ///
    /// # Errors
    ///
    /// If a folder cannot be opened.
    pub(super) fn within(directory: &Path, own: Option<(&Path, Arc<[Readable]>)>) -> io::Result<Files> {
        let own = match own {
            Some((path, readable)) => Some(Own { folder: Folder::open(path)?, readable }),
            None => None,
        };
        Ok(Files { directory: Folder::open(directory)?, own })
    }

    /// Leaves the file that a line names as an artifact.
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
        let most = artifact_bytes(job);
        if most == 0 {
            return Err(refused(ErrorCode::Unimplemented, "this runtime keeps no artifacts".to_string()));
        }
        let may_read = |target: &str| job.authorize(&Namespace::FsRead, target).map(drop);
        let (file, size) = self.open(Path::new(&path), may_read)?;
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

    /// Opens a file that a program names. `may_read` says whether the lease of a confined program
    /// allows that: such a program can leave no file that it cannot read itself.
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
            return beneath(&self.directory.opened, inside, (Links::Inside, Purpose::Read)).map_err(failed);
        };
        if let Some(inside) = own.folder.inside(path) {
            return beneath(&own.folder.opened, inside, (Links::No, Purpose::Read)).map_err(failed);
        }
        let inside = self.directory.inside(path).unwrap_or(path);
        let named = plain(&self.directory.real.join(inside));
        if !named.starts_with(&self.directory.real) {
            return Err(failed(elsewhere()));
        }
        // Asked first, so that the program learns nothing else about a file that it may not read.
        may_read(&named.to_string_lossy())?;
        own.open(&named).map_err(failed)
    }
}

impl Own {
    /// Opens a file that the program was allowed to read when it was started. The folders are the
    /// descriptors by which it is confined, whatever has their names since.
    fn open(&self, named: &Path) -> io::Result<(File, u64)> {
        let why = "the sandbox does not let its program read it";
        let mut refused = io::Error::new(io::ErrorKind::PermissionDenied, why);
        for found in self.readable.iter().filter_map(|readable| readable.find(named)) {
            let opened = match found {
                Found::Beneath(folder, inside) => beneath(folder, inside, (Links::No, Purpose::Read)),
                Found::Is(file) => reopen(file).and_then(regular),
            };
            match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// A path without `.` and `..`, resolved by text: that is right where no symbolic link is followed.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => plain.push(component),
        }
    }
    plain
}

/// The error for a path that leads out of the folder.
fn elsewhere() -> io::Error {
    let why = "it is not beneath the working directory, or a link on its way leads out of that";
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn wrong(why: impl Into<String>) -> CallError {
    refused(ErrorCode::InvalidRequest, why.into())
}

fn refused(code: ErrorCode, why: String) -> CallError {
    CallError::Refused(JobError::new(code, why))
}

/// The answer to a program about a file that it wanted to leave.
pub(super) fn told(error: CallError) -> Result<arcp_proto::runtime::AgentReply, Stopped> {
    match error {
        CallError::Stopped(stopped) => Err(stopped),
        CallError::Refused(error) => Ok(arcp_proto::runtime::AgentReply::Refused(error)),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use arcp_proto::json::Json;
    use arcp_proto::lease::Lease;

    use super::*;
    use crate::sandbox::readable_of;

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
        let lease = Lease::parse(&Json::parse(&format!(r#"{{"fs.read":["{granted}/**"]}}"#)).expect("JSON"));
        let readable = readable_of(&lease.expect("a lease"));
        let files = Files::within(&root.join("named"), Some((&root.join("own"), readable))).expect("they are there");
        // The folder that replaces the working directory is not used.
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
        // A program that may not read a file cannot find out whether it exists.
        for path in ["secret/key", "secret/none"] {
            assert_eq!(code(files.open(Path::new(path), may_read)), ErrorCode::LeaseSubsetViolation, "{path}");
        }
        fs::remove_dir_all(&root).expect("deleted");
    }

    #[test]
    fn what_takes_the_name_of_something_granted_is_not_left() {
        let root = std::env::temp_dir().join(format!("arcp-swapped-{}", std::process::id()));
        for folder in ["job/public", "job/secret", "own"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for (file, text) in
            [("secret/a", "SECRET"), ("secret/key", "SECRET"), ("public/a", "inside"), ("one", "inside")]
        {
            fs::write(root.join("job").join(file), text).expect("written");
        }
        let job = root.canonicalize().expect("a path").join("job");
        let lease = format!(r#"{{"fs.read":["{0}/public/**","{0}/one"]}}"#, job.display());
        let lease = Lease::parse(&Json::parse(&lease).expect("JSON")).expect("a lease");
        let files = Files::within(&job, Some((&root.join("own"), readable_of(&lease)))).expect("they are there");
        let read = |path: &str| {
            let (mut file, _) = files.open(Path::new(path), |_| Ok(()))?;
            let mut text = String::new();
            file.read_to_string(&mut text).expect("readable");
            Ok(text)
        };
        let all = ["public/a", "./public/../public/a", "one"];
        assert_eq!(all.map(|path| read(path).expect("granted")), ["inside"; 3]);
        assert_eq!(code(read("public/../secret/a")), ErrorCode::PermissionDenied);
        assert_eq!(code(read("public/../../own/a")), ErrorCode::PermissionDenied, "it is not beneath");
        for (from, to) in [("public", "old"), ("secret", "public"), ("one", "two"), ("public/key", "one")] {
            fs::rename(job.join(from), job.join(to)).expect("moved");
        }
        assert_eq!(all.map(|path| read(path).expect("granted")), ["inside"; 3], "what was granted is what it was");
        assert_eq!(code(read("public/key")), ErrorCode::InvalidRequest, "it never was there");
        assert_eq!(code(read("old/a")), ErrorCode::PermissionDenied, "nobody has granted that name");
        fs::remove_dir_all(&root).expect("deleted");
    }
}
