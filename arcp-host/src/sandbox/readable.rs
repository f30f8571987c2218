//! What the lease of a confined program lets it read, opened before it is started: a program
//! that may write above it could put something else in its place.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::hierarchy::Hierarchy;

/// A hierarchy that was there when its program was started.
#[derive(Debug)]
pub(crate) struct Readable {
    what: Hierarchy,
    opened: OwnedFd,
}

/// How a path is found that is within a hierarchy.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Beneath this folder, by this name.
    Beneath(&'a OwnedFd, &'a Path),
    /// It is this file.
    Is(&'a OwnedFd),
}

impl Readable {
    pub(super) fn new(what: Hierarchy, opened: OwnedFd) -> Readable {
        Readable { what, opened }
    }

    /// How an absolute path is found, if it is within this by its name.
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

/// Opens a file to be read that was opened as a place only: it is the same, whatever has its
/// name by now.
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

/// Elsewhere nothing is confined.
#[cfg(not(target_os = "linux"))]
pub(crate) fn reopen(_: &OwnedFd) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
