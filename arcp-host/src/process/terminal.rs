//! A pseudo-terminal instead of pipes for the output of a program, so that the program prints line
//! by line instead of in blocks.
//!
//! It is raw: nothing is echoed, and LF stays LF. It is not a controlling terminal, so that closing
//! it sends no SIGHUP.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Variables that ask a program to print no colours.
pub(super) const VARIABLES: [(&str, &str); 2] = [("TERM", "dumb"), ("NO_COLOR", "1")];

/// Both ends of a pseudo-terminal.
pub(super) struct Terminal {
    /// The end from which the output is read.
    pub(super) ours: File,
    /// The end that is the program's stdout and stderr.
    pub(super) theirs: File,
}

impl Terminal {
    /// Opens a pseudo-terminal.
    ///
    /// # Errors
    ///
    /// If the system has none left, or does not support them.
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
