//! Opens files beneath a folder without following a link that leads out of it. A program that opens
//! what a lease grants needs this: a lease compares names, and a symbolic link gives a file another
//! name.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The purpose for which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read.
    Read,
    /// Write from the beginning. A missing file is created; an existing one keeps its content until
    /// it is overwritten or truncated ([`File::set_len`]).
    Write,
}

/// Opens a regular file beneath a root. `path` is relative to `root`, and no symbolic link is
/// followed in it, nor at its end. So the file is the one that the path names, even if another
/// process renames, replaces or links something meanwhile. Links in `root` itself are followed: the
/// caller has to trust that path.
///
/// A tool host that grants `fs.read` of `/srv/docs/**` uses it to open what an agent was allowed by
/// [`Context::authorize`](crate::agent::Context::authorize):
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use std::io::Read as _;
/// use std::path::Path;
/// use arcp_host::beneath::{Purpose, open_beneath};
///
/// # let root = std::env::temp_dir().join(format!("arcp-beneath-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # std::fs::write(root.join("notes.txt"), "hello")?;
/// # let docs = root.as_path();
/// // let docs = Path::new("/srv/docs");
/// let mut text = String::new();
/// open_beneath(docs, Path::new("notes.txt"), Purpose::Read)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
///
/// std::os::unix::fs::symlink("/etc/passwd", docs.join("link"))?;
/// assert!(open_beneath(docs, Path::new("link"), Purpose::Read).is_err());
/// assert!(open_beneath(docs, Path::new("../../etc/passwd"), Purpose::Read).is_err());
/// # std::fs::remove_dir_all(&root)?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the path leads out of the root or
/// contains a link; [`Unsupported`](io::ErrorKind::Unsupported) if the system cannot open files so,
/// which takes Linux 5.6; an error for anything but a regular file, such as a folder or a pipe; and
/// the errors of the system.
pub fn open_beneath(root: &Path, path: &Path, purpose: Purpose) -> io::Result<File> {
    beneath(&place(root)?, path, (Links::No, purpose)).map(|(file, _)| file)
}

/// The links that are followed on the way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Links that stay within the folder.
    Inside,
    No,
}

/// How many times an open is tried while a rename or another operation interferes.
#[cfg(target_os = "linux")]
const TRIES: usize = 16;

/// Opens a folder as a path only (`O_PATH`).
#[cfg(target_os = "linux")]
pub(crate) fn place(folder: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    Ok(openat(CWD, folder, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn place(folder: &Path) -> io::Result<OwnedFd> {
    File::open(folder).map(OwnedFd::from)
}

/// Opens a regular file beneath a folder without following a link that leads out of it, and returns
/// its size. Opening anything else does not wait.
#[cfg(target_os = "linux")]
pub(crate) fn beneath(folder: &OwnedFd, path: &Path, (links, purpose): (Links, Purpose)) -> io::Result<(File, u64)> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;

    let (access, mode) = match purpose {
        Purpose::Read => (OFlags::RDONLY, Mode::empty()),
        Purpose::Write => (OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o666)),
    };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = match links {
        Links::Inside => resolve,
        Links::No => resolve | ResolveFlags::NO_SYMLINKS,
    };
    let file = match tried(|| openat2(folder, path, flags, mode, resolve)) {
        Err(Errno::XDEV) => {
            let why = "it is not beneath the folder, or a link on its way leads out of that";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Err(Errno::LOOP) => {
            let why = match links {
                Links::Inside => "there are too many links on its way",
                Links::No => "there is a link on its way: name what it leads to",
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
        // A socket, or a device that does not exist.
        Err(Errno::NXIO) => return Err(io::Error::other("it is no regular file")),
        opened => File::from(opened?),
    };
    regular(file)
}

/// Only Linux can open a file so that no link leads out of a folder.
#[cfg(not(target_os = "linux"))]
pub(crate) fn beneath(_: &OwnedFd, _: &Path, _: (Links, Purpose)) -> io::Result<(File, u64)> {
    let why = "only on Linux files are opened beneath a folder safely";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// A file with its size, if it is a regular file.
pub(crate) fn regular(file: File) -> io::Result<(File, u64)> {
    let about = file.metadata()?;
    match about.is_file() {
        true => Ok((file, about.len())),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Tries again while folders above the file are being renamed. A file on which another program
/// holds a lease gives the same error for much longer.
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_path_beneath_a_root_is_the_file_that_it_names_and_no_link_leads_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub")).expect("made");
        fs::write(root.join("sub/a"), "inside").expect("written");
        fs::write(folder.path().join("secret"), "SECRET").expect("written");
        for (link, to) in [("out", "../secret"), ("inside", "sub/a"), ("folder", "sub"), ("root", "/"), ("none", "x")] {
            symlink(to, root.join(link)).expect("a link");
        }
        let open = |path: &str, purpose| open_beneath(&root, Path::new(path), purpose);
        let mut text = String::new();
        open("sub/a", Purpose::Read).expect("it is there").read_to_string(&mut text).expect("read");
        assert_eq!(text, "inside");
        for path in
            ["out", "inside", "folder/a", "root/etc/passwd", "none", "../secret", "/etc/passwd", "sub/../../secret"]
        {
            for purpose in [Purpose::Read, Purpose::Write] {
                let refused = open(path, purpose).expect_err(path);
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{path}: {refused}");
            }
        }
        assert_eq!(open("gone", Purpose::Read).expect_err("it is not there").kind(), io::ErrorKind::NotFound);
        assert!(open("sub", Purpose::Read).is_err(), "a folder is no file");
        open("sub/new", Purpose::Write).expect("it is made").write_all(b"made").expect("written");
        open("sub/a", Purpose::Write).expect("it is there").write_all(b"out").expect("written");
        let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is there");
        assert_eq!((read("sub/new"), read("sub/a")), ("made".into(), "outide".into()), "nothing is cut");
        assert!(!root.join("x").exists(), "nothing is made through a link");
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
