//! The file of a store: its lock, and whether the file and its log are still in place.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use super::OpenError;
use crate::store::StoreError;

/// How long to wait for a lock: a program that an agent is just starting holds its parent's files
/// until it runs, even if the parent was killed.
const PATIENCE: Duration = Duration::from_secs(1);
/// The bytes by which an SQLite file says that it has a log, and their value then.
const FORMAT: std::ops::Range<usize> = 18..20;
const WITH_LOG: [u8; 2] = [2, 2];

/// The lock of a store. No other process opens the file as a store while this exists. The lock is
/// on the file, whatever its name. SQLite's own locks are of another kind, so readers are not kept
/// out.
#[derive(Debug)]
pub(super) struct Held {
    /// The path without symbolic links.
    path: PathBuf,
    file: File,
    /// The identity of the file.
    own: Identity,
    /// The identity of the log beside it, once there is one.
    log: Option<Identity>,
}

/// The identity of a file, whatever its name: device and inode.
type Identity = (u64, u64);

impl Held {
    /// Locks a file; creates it with read permission for its owner only, if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or another process has locked it.
    pub(super) fn take(named: &Path) -> Result<Held, OpenError> {
        let unusable = |error: io::Error| OpenError::Unusable { path: named.to_path_buf(), why: error.to_string() };
        let asked = Instant::now();
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(named);
            let file = file.map_err(unusable)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if asked.elapsed() < PATIENCE => {
                    std::thread::sleep(PATIENCE / 50);
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(named.to_path_buf())),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
            let path = named.canonicalize().map_err(unusable)?;
            let own = file.metadata().map(|ours| identity(&ours)).map_err(unusable)?;
            // Otherwise the file was replaced before it was locked.
            if own == what_is_at(&path).map_err(unusable)? {
                return Ok(Held { path, file, own, log: None });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a log beside the file that is not empty.
    pub(super) fn has_log(&self) -> bool {
        !log_is_missing(&self.path)
    }

    /// Whether the file says that it has a log.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn wants_log(&self) -> io::Result<bool> {
        use std::os::unix::fs::FileExt as _;
        let mut head = [0; FORMAT.end];
        match self.file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(head[FORMAT] == WITH_LOG),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Remembers the identity of the log that is written to.
    pub(super) fn watch_log(&mut self) {
        self.log = what_is_at(&log_of(&self.path)).ok();
    }

    /// Checks that the file and its log are still in place: otherwise data that is written would be
    /// lost with this process.
    ///
    /// # Errors
    ///
    /// `Unavailable` if one of them is missing, `Fenced` if another file is in its place.
    pub(super) fn is_in_place(&self) -> Result<(), StoreError> {
        in_place(&self.path, self.own)?;
        self.log.map_or(Ok(()), |log| in_place(&log_of(&self.path), log))
    }
}

/// The path of the log of a file, as SQLite names it.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_os_string();
    log.push("-wal");
    PathBuf::from(log)
}

/// Whether the log beside a file is empty or missing.
pub(super) fn log_is_missing(path: &Path) -> bool {
    log_of(path).metadata().map_or(true, |log| log.len() == 0)
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
}

/// The identity of the file at this path. Its times are not read: Linux updates the times of a file with the next
/// write only after they were read, and on some file systems a sync then waits for them too.
fn what_is_at(path: &Path) -> io::Result<Identity> {
    #[cfg(target_os = "linux")]
    if let Ok(there) = statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        return Ok((makedev(there.stx_dev_major, there.stx_dev_minor), there.stx_ino));
    }
    path.metadata().map(|there| identity(&there))
}

fn in_place(path: &Path, expected: Identity) -> Result<(), StoreError> {
    let shown = path.display();
    match what_is_at(path) {
        Ok(there) if there == expected => Ok(()),
        Ok(_) => Err(StoreError::Fenced(format!("{shown} was replaced by another file: stop this runtime"))),
        Err(error) => Err(StoreError::Unavailable(format!("{shown} is gone: move it back where it was ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test alone.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("arcp-file-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_file_that_is_held_is_nobody_else_s_by_whatever_name_and_nobody_waits_for_ever() {
        let folder = folder("held");
        let (file, link) = (folder.join("a"), folder.join("b"));
        let held = Held::take(&file).expect("it is free");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert!(matches!(Held::take(&link), Err(OpenError::InUse(path)) if path == link));
        drop(held);
        let held = Held::take(&link).expect("it is free");
        assert_eq!(held.path(), file.canonicalize().expect("it is there"));
        assert_eq!(file.metadata().expect("it is there").mode() & 0o777, 0o600);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_says_that_it_has_a_log_wants_one_and_one_that_is_empty_is_none() {
        let folder = folder("log");
        let file = folder.join("a");
        let held = Held::take(&file).expect("it is free");
        for (head, wants) in [(vec![], false), (vec![2; 19], false), (vec![2; 20], true), (vec![1; 20], false)] {
            std::fs::write(&file, &head).expect("written");
            assert_eq!(held.wants_log().expect("it can be read"), wants, "{head:?}");
        }
        assert!(!held.has_log() && log_is_missing(&file));
        std::fs::write(log_of(&file), b"").expect("written");
        assert!(!held.has_log() && log_is_missing(&file));
        std::fs::write(log_of(&file), b"x").expect("written");
        assert!(held.has_log() && !log_is_missing(&file));
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_file_or_log_that_is_gone_or_another_s_is_noticed() {
        let folder = folder("place");
        let (file, away) = (folder.join("a"), folder.join("away"));
        let log = log_of(&file);
        let mut held = Held::take(&file).expect("it is free");
        std::fs::write(&log, b"x").expect("written");
        held.watch_log();
        assert_eq!(held.is_in_place(), Ok(()));
        for there in [&file, &log] {
            std::fs::rename(there, &away).expect("moved");
            assert!(matches!(held.is_in_place(), Err(StoreError::Unavailable(why)) if why.contains("is gone")));
            std::fs::write(there, b"y").expect("written");
            assert!(matches!(held.is_in_place(), Err(StoreError::Fenced(why)) if why.contains("was replaced")));
            std::fs::rename(&away, there).expect("moved back");
            assert_eq!(held.is_in_place(), Ok(()));
        }
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
