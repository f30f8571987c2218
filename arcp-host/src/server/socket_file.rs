//! The file of a Unix socket. Only the intended users can connect to it, only one server has it at
//! a time, and it is removed with its server.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::geteuid;

use super::listener::BACKLOG;
use crate::unix;

/// How long the check may take whether a server listens.
const LOOK: Duration = Duration::from_secs(1);
/// Mode bits of a folder: everybody may write; the group may write; only owners remove files.
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;
/// The superuser, from whom no permission protects.
const ROOT: u32 = 0;

/// The file of a Unix socket, which is removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The identity of the file: device and inode.
    identity: (u64, u64),
    /// Held as long as the file belongs to this server.
    _lock: Lock,
}

impl SocketFile {
    /// Listens at `path`. The file of a server that is gone is replaced.
    ///
    /// # Errors
    ///
    /// If a server listens there, another kind of file is there, or others could replace the
    /// socket.
    pub(super) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
        let address = unix::address(path)?;
        let path = std::path::absolute(path)?;
        check_folder(&path, mode)?;
        let lock = Lock::take(&path)?;
        remove_stale(&path)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // On Linux the file gets these permissions from the start, so that nobody connects before
        // its own are set.
        let _ = fchmod(&socket, Mode::from_raw_mode(0o600));
        bind(&socket, &address)?;
        let made = made(&path, mode, &socket);
        let identity = made.inspect_err(|_| _ = fs::remove_file(&path))?;
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok((listener, SocketFile { path, identity, _lock: lock }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have put its own file there.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Sets the permissions and begins to listen; returns the identity of the file.
fn made(path: &Path, mode: u32, socket: &OwnedFd) -> io::Result<(u64, u64)> {
    allow(path, mode)?;
    listen(socket, BACKLOG)?;
    identity(path)
}

/// Sets the permissions of the file. Symbolic links are not followed: users who may write to the
/// folder may have put one there.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn allow(path: &Path, mode: u32) -> io::Result<()> {
    use rustix::fs::{OFlags, fstat, open};

    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let is = fstat(&file)?.st_mode;
    if !rustix::fs::FileType::from_raw_mode(is).is_socket() {
        return Err(refused(io::ErrorKind::AlreadyExists, "something else was put there meanwhile".to_string()));
    }
    if is & 0o777 == mode {
        return Ok(());
    }
    // An `O_PATH` descriptor does not support `fchmod`; its name in `/proc` does.
    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(mode))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allow(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

fn refused(kind: io::ErrorKind, why: String) -> io::Error {
    io::Error::new(kind, why)
}

/// Refuses a folder in which others could replace the socket: one that everybody may write to, or a
/// group that may not connect anyway, or that another user owns. `mode` is that of the socket.
fn check_folder(path: &Path, mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let about =
        fs::metadata(folder).map_err(|error| refused(error.kind(), format!("{}: {error}", folder.display())))?;
    match who_replaces(about.mode(), about.uid(), geteuid().as_raw(), mode) {
        None => Ok(()),
        Some((who, advice)) => {
            let folder = folder.display();
            let why = format!("{who} may replace files in {folder}: {advice} {folder}, or give another folder");
            Err(refused(io::ErrorKind::PermissionDenied, why))
        }
    }
}

/// Who else could replace the socket, and how to prevent it.
fn who_replaces(folder: u32, owner: u32, own: u32, socket: u32) -> Option<(&'static str, &'static str)> {
    if owner != own && owner != ROOT {
        return Some(("its owner", "chown it to this user:"));
    }
    if folder & STICKY != 0 {
        return None;
    }
    if folder & OTHERS_WRITE != 0 {
        return Some(("everybody", "chmod o-w"));
    }
    // A group that may connect is trusted not to replace the socket.
    let is_for_group = socket & GROUP_WRITES != 0;
    (folder & GROUP_WRITES != 0 && !is_for_group).then_some(("its group", "chmod g-w"))
}

/// Removes the socket of a server that is gone. The lock keeps away only servers of this kind, so
/// it is checked whether another program listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return Err(refused(io::ErrorKind::AlreadyExists, "a file is there that is no socket".to_string()));
    }
    match unix::connect(path, LOOK) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(refused(error.kind(), "the socket that is there is another user's".to_string()))
        }
        Ok(_) | Err(_) => Err(in_use()),
    }
}

fn in_use() -> io::Error {
    refused(io::ErrorKind::AddrInUse, "a server listens there".to_string())
}

/// A file beside the socket, locked by its server and removed at the end.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(socket: &Path) -> io::Result<Lock> {
        let path = socket.with_added_extension("lock");
        loop {
            let opened = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(NO_FOLLOW | NO_WAIT)
                .open(&path);
            let file = opened.map_err(|error| refused(error.kind(), format!("{}: {error}", path.display())))?;
            if !file.metadata()?.is_file() {
                let why = format!("{}: something is there that is no file", path.display());
                return Err(refused(io::ErrorKind::AlreadyExists, why));
            }
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(in_use()),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => {}
            }
            // The previous holder may have removed the file after it was opened.
            let own = file.metadata()?;
            if identity(&path).is_ok_and(|there| there == (own.dev(), own.ino())) {
                return Ok(Lock { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before the lock is released, so that no other server holds this file.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opening a pipe that another user put there would wait for its reader.
const NO_WAIT: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// A link that another user put there could lead to any file.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn a_socket_is_its_owner_s_unless_somebody_says_so_and_gone_with_its_server() {
        let folder = folder();
        let path = folder.path().join("s");
        for wished in [0o600, 0o666] {
            let (listener, file) = SocketFile::listen(&path, wished).expect("it listens");
            assert_eq!(mode(&path), wished);
            assert_eq!(mode(&folder.path().join("s.lock")), 0o600);
            UnixStream::connect(&path).expect("somebody listens");
            drop((listener, file));
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        }
    }

    #[test]
    fn a_socket_that_a_dead_server_left_is_replaced_and_a_live_one_is_not() {
        let folder = folder();
        let path = folder.path().join("s");
        // Such a listener holds no lock.
        let other = UnixListener::bind(&path).expect("it listens");
        let in_use = SocketFile::listen(&path, 0o600).expect_err("it is used");
        assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse, "{in_use}");
        drop(other);
        let (listener, file) = SocketFile::listen(&path, 0o600).expect("it listens");
        let in_use = SocketFile::listen(&path, 0o600).expect_err("it is used");
        assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse, "{in_use}");
        // The file is removed, but the server still listens.
        fs::remove_file(&path).expect("removed");
        assert!(SocketFile::listen(&path, 0o600).is_err(), "the lock is its own");
        let another = UnixListener::bind(&path).expect("it listens");
        drop((listener, file));
        assert!(path.exists(), "what somebody else has put there stays");
        drop(another);
    }

    #[test]
    fn what_is_no_socket_stays_as_it_is() {
        let folder = folder();
        let path = folder.path().join("s");
        fs::write(&path, "a letter").expect("written");
        assert!(SocketFile::listen(&path, 0o600).is_err());
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "a letter");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).expect("a link");
        assert!(SocketFile::listen(&link, 0o600).is_err(), "nor is one made where a link leads");
        assert!(!folder.path().join("nowhere").exists());
        std::os::unix::fs::symlink(&path, folder.path().join("t.lock")).expect("a link");
        assert!(SocketFile::listen(&folder.path().join("t"), 0o600).is_err());
    }

    #[test]
    fn a_pipe_in_the_place_of_its_lock_is_refused_and_not_waited_for() {
        let folder = folder();
        let path = folder.path().join("s");
        let pipe = folder.path().join("s.lock");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a pipe");
        let why = SocketFile::listen(&path, 0o600).expect_err("nobody reads it");
        assert!(why.to_string().contains("s.lock"), "{why}");
        // Even with a reader, it is not a file.
        let _reader = rustix::fs::open(&pipe, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK, Mode::empty());
        assert!(SocketFile::listen(&path, 0o600).is_err() && !path.exists());
    }

    #[test]
    fn a_folder_in_which_others_may_replace_it_is_refused_by_who_they_are() {
        for (folder, owner, socket, who) in [
            (0o700, 7, 0o600, None),
            (0o755, 0, 0o666, None),
            (0o777, 7, 0o600, Some("everybody")),
            (0o1777, 0, 0o600, None),
            (0o775, 7, 0o600, Some("its group")),
            (0o775, 7, 0o660, None),
            (0o1775, 7, 0o600, None),
            (0o755, 8, 0o600, Some("its owner")),
            (0o1777, 8, 0o600, Some("its owner")),
        ] {
            assert_eq!(
                who_replaces(folder, owner, 7, socket).map(|(who, _)| who),
                who,
                "{folder:o} {owner} {socket:o}"
            );
        }
        let folder = self::folder();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).expect("set");
        let why = SocketFile::listen(&folder.path().join("s"), 0o600).expect_err("its group may replace it");
        assert!(why.to_string().contains("chmod g-w"), "{why}");
    }

    #[test]
    fn a_link_that_was_put_in_its_place_lets_nobody_into_another_file() {
        let folder = folder();
        let (path, secret) = (folder.path().join("s"), folder.path().join("secret"));
        fs::write(&secret, "a letter").expect("written");
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("set");
        std::os::unix::fs::symlink(&secret, &path).expect("a link");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        assert!(made(&path, 0o666, &socket).is_err());
        assert_eq!(mode(&secret), 0o600);
    }

    #[test]
    fn a_folder_in_which_everybody_replaces_files_is_refused() {
        let folder = folder();
        let path = folder.path().join("s");
        let wide = |mode| fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("set");
        wide(0o777);
        let why = SocketFile::listen(&path, 0o600).expect_err("others could replace it").to_string();
        assert!(why.contains("chmod o-w"), "{why}");
        wide(0o1777);
        assert!(SocketFile::listen(&path, 0o600).is_ok(), "as in /tmp");
        let nowhere = SocketFile::listen(&folder.path().join("no/s"), 0o600).expect_err("no folder").to_string();
        assert!(nowhere.contains("/no: "), "it says which: {nowhere}");
    }
}
