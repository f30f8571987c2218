//! Unix sockets: connections within this machine, between users whom the system identifies.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with};

/// The longest path of a socket, in bytes: the system has 108 for the path and a zero.
pub const LONGEST_PATH: usize = 107;

/// The number that the system gives for peers of other user namespaces that are not mapped here.
/// All of them have the same number.
const OVERFLOW_USER: u32 = 65_534;

/// The address of a socket file.
///
/// # Errors
///
/// If the path is empty or longer than [`LONGEST_PATH`].
pub fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    let bytes = path.as_os_str().len();
    let unusable = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if bytes == 0 {
        return Err(unusable("the path of a Unix socket is empty".to_string()));
    }
    if bytes > LONGEST_PATH {
        let why = format!("the path has {bytes} bytes, and that of a Unix socket has at most {LONGEST_PATH}");
        return Err(unusable(why));
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// The path of `unix:PATH` or `unix:///PATH`, from the text after `unix:`.
pub(crate) fn path_of_url(rest: &str) -> Result<PathBuf, String> {
    match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(path) => Err(format!("a Unix socket is on this machine: give unix:///{path}, or unix:{path} from here")),
        None if rest.is_empty() => Err("the path of a Unix socket is empty: give unix:///PATH".to_string()),
        None => Ok(PathBuf::from(rest)),
    }
}

/// The URL of a socket: an absolute path follows an empty authority.
pub(crate) fn url(path: &Path) -> String {
    let slashes = if path.is_absolute() { "//" } else { "" };
    format!("unix:{slashes}{}", path.display())
}

/// Connects to a socket within this time. A server that does not accept would otherwise block its
/// clients.
///
/// # Errors
///
/// If no server listens or accepts in time, or this user may not connect.
pub fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let address = address(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(within.max(Duration::from_millis(1))))?;
    match connect_to(&socket, &address) {
        // The error of a connect that timed out.
        Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
        connected => connected?,
    }
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket.into())
}

/// The user at the other end of a Unix socket, at the time when that end connected or began to
/// listen. `None` if the system does not tell, or if the user is not mapped here.
pub fn peer(socket: &impl AsFd) -> Option<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return rustix::net::sockopt::socket_peercred(socket)
        .ok()
        .map(|peer| peer.uid.as_raw())
        .filter(|user| *user != OVERFLOW_USER);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return {
        let _ = (socket, OVERFLOW_USER);
        None
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_with_its_length() {
        let long = "x".repeat(LONGEST_PATH + 1);
        let why = address(Path::new(&long)).expect_err("too long").to_string();
        assert!(why.contains("108 bytes") && why.contains("at most 107"), "{why}");
        assert!(address(Path::new(&long[1..])).is_ok());
        assert!(address(Path::new("")).is_err());
    }

    #[test]
    fn both_ends_know_whose_the_other_is() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!((peer(&one), peer(&other)), (Some(own), Some(own)));
    }

    #[test]
    fn a_server_that_accepts_nobody_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("it listens");
        rustix::net::listen(&listener, 0).expect("it listens");
        let mut waiting = Vec::new();
        let error = loop {
            match connect(&path, Duration::from_millis(50)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "after {}", waiting.len());
    }
}
