//! A pseudo-terminal in place of the pipes that a program prints into: what it
//! prints comes line by line, where into a pipe it would come by the buffer.
//!
//! It is raw: nothing is echoed, and an LF stays one. It is nobody's controlling
//! terminal, so that its end sends no SIGHUP.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// What a program is told besides, so that it prints no colours: nobody sees them.
pub(super) const VARIABLES: [(&str, &str); 2] = [("TERM", "dumb"), ("NO_COLOR", "1")];

/// Both ends of a pseudo-terminal.
pub(super) struct Terminal {
    /// Where what the program prints is read.
    pub(super) ours: File,
    /// Its stdout and stderr.
    pub(super) theirs: File,
}

impl Terminal {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the system has none left, or no terminals.
    pub(super) fn open() -> io::Result<Terminal> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut modes = tcgetattr(&theirs)?;
        modes.make_raw();
        tcsetattr(&theirs, OptionalActions::Now, &modes)?;
        Ok(Terminal { ours: File::from(ours), theirs: File::from(theirs) })
    }
}
