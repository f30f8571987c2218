//! What the lease of a confined program lets it read, opened before the program starts: a program
//! with write access above could replace it later.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::hierarchy::Hierarchy;

/// A hierarchy that existed when its program was started.
#[derive(Debug)]
pub(crate) struct Readable {
    what: Hierarchy,
    opened: OwnedFd,
}

/// How to open a path within a hierarchy.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// The path below this folder.
    Beneath(&'a OwnedFd, &'a Path),
    /// This file.
    Is(&'a OwnedFd),
}

impl Readable {
    pub(super) fn new(what: Hierarchy, opened: OwnedFd) -> Readable {
        Readable { what, opened }
    }

    /// How to open an absolute path, if it is within this hierarchy by its name.
    pub(crate) fn find<'a>(&'a self, path: &'a Path) -> Option<Found<'a>> {
        match &self.what {
            Hierarchy::Below(folder) => {
                let inside = path.strip_prefix(folder).ok().filter(|inside| !inside.as_os_str().is_empty())?;
                Some(Found::Beneath(&self.opened, inside))
            }
            Hierarchy::File(file) => (path == file).then_some(Found::Is(&self.opened)),
        }
    }
}

/// Opens a file for reading that was opened as a path only (`O_PATH`). It is the same file, even if
/// another file has its name.
///
/// # Errors
///
/// If it cannot be read.
#[cfg(target_os = "linux")]
pub(crate) fn reopen(place: &OwnedFd) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty())?))
}

/// On other systems nothing is confined.
#[cfg(not(target_os = "linux"))]
pub(crate) fn reopen(_: &OwnedFd) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
