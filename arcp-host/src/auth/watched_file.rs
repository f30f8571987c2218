//! Files of credentials that are read again when they have changed.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::process::geteuid;

/// The largest file, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// Why a file of tokens or keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {why}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct CredentialFileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, if a single line is invalid.
    pub line: Option<usize>,
    /// What is wrong, and how to correct it.
    pub why: String,
}

/// A file as it was last read. Clones share it.
#[derive(Debug)]
pub(super) struct WatchedFile<T> {
    path: PathBuf,
    parse: fn(&Path, &str) -> Result<T, CredentialFileError>,
    current: Arc<RwLock<Current<T>>>,
}

#[derive(Debug)]
struct Current<T> {
    said: Arc<T>,
    /// The identity of the file that was read; `None` if it is gone.
    stamp: Option<Stamp>,
    /// The last file that could not be used. It is reported once, but tried again, because the
    /// cause may be gone.
    refused: Option<Stamp>,
}

/// The properties by which a change of a file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    mode: u32,
    owner: u32,
    changed: (i64, i64),
}

impl<T> WatchedFile<T> {
    /// Reads a file.
    pub(super) fn open(
        path: &Path,
        parse: fn(&Path, &str) -> Result<T, CredentialFileError>,
    ) -> Result<WatchedFile<T>, CredentialFileError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let (stamp, text) = read_stamped(&path)?;
        let said = Arc::new(parse(&path, &text)?);
        let current = Current { said, stamp: Some(stamp), refused: None };
        Ok(WatchedFile { path, parse, current: Arc::new(RwLock::new(current)) })
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The contents, as they were last read.
    pub(super) fn said(&self) -> Arc<T> {
        // The lock may be poisoned by a panic elsewhere, but the contents are whole.
        self.current.read().unwrap_or_else(PoisonError::into_inner).said.clone()
    }

    /// Reads the file again if it has changed; returns the previous contents. A file that cannot be
    /// used, or is gone, changes nothing, and is an error once.
    pub(super) fn read_again(&self) -> Result<Option<Arc<T>>, CredentialFileError> {
        let seen = std::fs::metadata(&self.path).map(|about| Stamp::of(&about));
        let (known, refused) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.stamp, current.refused)
        };
        let seen = match seen {
            Ok(seen) if known == Some(seen) => return Ok(None),
            Ok(seen) => seen,
            Err(error) => {
                self.change(|current| current.stamp = None);
                return if known.is_some() { Err(CredentialFileError::of(&self.path, &error)) } else { Ok(None) };
            }
        };
        // No lock is held during the read, so that judging a credential does not wait for the disk.
        match read_stamped(&self.path).and_then(|(stamp, text)| Ok((stamp, (self.parse)(&self.path, &text)?))) {
            Ok((stamp, said)) => Ok(Some(self.change(|current| {
                (current.stamp, current.refused) = (Some(stamp), None);
                std::mem::replace(&mut current.said, Arc::new(said))
            }))),
            Err(_) if refused == Some(seen) => Ok(None),
            Err(error) => {
                self.change(|current| current.refused = Some(seen));
                Err(error)
            }
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Current<T>) -> R) -> R {
        change(&mut self.current.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Clone for WatchedFile<T> {
    fn clone(&self) -> WatchedFile<T> {
        WatchedFile { path: self.path.clone(), parse: self.parse, current: self.current.clone() }
    }
}

impl CredentialFileError {
    /// An error about the file as a whole.
    pub(super) fn whole(path: &Path, why: impl Into<String>) -> CredentialFileError {
        CredentialFileError { path: path.to_path_buf(), line: None, why: why.into() }
    }

    pub(super) fn of(path: &Path, error: &io::Error) -> CredentialFileError {
        CredentialFileError::whole(path, error.to_string())
    }
}

impl Stamp {
    fn of(about: &Metadata) -> Stamp {
        Stamp {
            inode: about.ino(),
            bytes: about.len(),
            mode: about.mode(),
            owner: about.uid(),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// The text of a file that only its owner can write to, where the owner is this user or root.
pub(crate) fn read(path: &Path) -> Result<String, CredentialFileError> {
    read_stamped(path).map(|(_, text)| text)
}

/// The text of a file that, in addition, nobody else can read.
#[cfg(any(feature = "https", feature = "jwt"))]
pub(crate) fn read_private(path: &Path) -> Result<String, CredentialFileError> {
    let about = std::fs::metadata(path).map_err(|error| CredentialFileError::of(path, &error))?;
    if about.is_file() && about.mode() & 0o077 != 0 {
        return Err(CredentialFileError::whole(path, "others may read it: chmod 600 it"));
    }
    read(path)
}

fn read_stamped(path: &Path) -> Result<(Stamp, String), CredentialFileError> {
    let failed = |error: io::Error| CredentialFileError::of(path, &error);
    let refused = |why: &str| CredentialFileError::whole(path, why);
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(refused("it is no file"));
    }
    if about.mode() & 0o022 != 0 {
        return Err(refused("others may write to it: chmod 600 it"));
    }
    if about.uid() != geteuid().as_raw() && about.uid() != 0 {
        return Err(refused("it is neither this user's nor root's: chown it"));
    }
    let mut text = String::new();
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > FILE_BYTES {
        return Err(refused(&format!("it has more than {FILE_BYTES} bytes")));
    }
    Ok((Stamp::of(&about), text))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_could_not_be_read_is_said_once_and_read_as_soon_as_it_can_be() {
        static FAILS: AtomicBool = AtomicBool::new(false);
        let parse = |path: &Path, text: &str| match FAILS.load(Ordering::Relaxed) {
            true => Err(CredentialFileError::whole(path, "not now")),
            false => Ok(text.to_string()),
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "one").expect("written");
        let file = WatchedFile::open(&path, parse).expect("it is read");
        std::fs::write(&path, "other").expect("written");
        FAILS.store(true, Ordering::Relaxed);
        assert!(file.read_again().is_err());
        assert!(file.read_again().is_ok_and(|before| before.is_none()) && *file.said() == "one");
        FAILS.store(false, Ordering::Relaxed);
        assert_eq!(file.read_again().expect("it is read").as_deref().map(String::as_str), Some("one"));
        assert_eq!(*file.said(), "other");
        assert!(file.read_again().is_ok_and(|before| before.is_none()), "it has not changed");
    }
}
