//! Leases that the kernel enforces on programs (Linux, with Landlock and seccomp).
//!
//! A [`Sandbox`] starts the program of a job through a *step*: a process that calls
//! [`become_program`], which restricts itself and then becomes the program. A job may use what its
//! lease grants, and the [`Base`] that every program needs to start:
//!
//! | granted | becomes |
//! |---|---|
//! | `fs.read` `/srv/a/**` | opening, listing and running what is below `/srv/a` |
//! | `fs.write` `/srv/a/**` | writing, making, renaming and removing what is below `/srv/a` |
//! | `fs.read` `/srv/a.txt` | that file, if it exists |
//! | `net.fetch` `https://host/**` | TCP connections to port 443, of any host |
//! | no `fs.write` | no change of modes, owners, times and attributes of any file, not even of its own |
//! | nothing | the base, and a temporary folder of its own, to which `TMPDIR` and `HOME` point |
//!
//! A pattern that the kernel cannot enforce exactly grants nothing: one that is finer than a file
//! or a folder with all below it, one that leads through a symbolic link, or one for a path that
//! does not exist. The sandbox never grants more than the patterns, except for the hosts and paths
//! of URLs, which the kernel does not see.

mod base;
mod hierarchy;
mod kernel;
#[cfg(target_os = "linux")]
mod landlock;
mod readable;
mod ruleset;
#[cfg(target_os = "linux")]
mod seccomp;
mod step;

use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arcp_proto::error::ErrorCode;
use arcp_proto::lease::Lease;
use tempfile::TempDir;

pub use self::base::{Base, BaseError};
pub use self::hierarchy::Hierarchy;
pub use self::kernel::{Feature, Kernel};
pub(crate) use self::readable::{Found, Readable, reopen};
pub use self::ruleset::{Unenforced, Why};
pub use self::step::become_program;

use self::ruleset::{Right, Ruleset};
use crate::agent::{AgentError, Context, Level, artifact_bytes};

/// What happens if the kernel cannot enforce everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Enforces as much as possible, and reports the rest. A pattern that cannot be enforced grants
    /// nothing.
    Auto,
    /// Fails a job with such a pattern.
    Required,
}

/// How the programs of a runtime are confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    mode: Mode,
    kernel: Kernel,
    base: Arc<Base>,
    /// The command of the step, and its arguments.
    step: Arc<[OsString]>,
}

/// The kernel lacks required features.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox is required, but this kernel {}", lacks(.0))]
pub struct Insufficient(Vec<Feature>);

fn lacks(features: &[Feature]) -> String {
    match features {
        [Feature::Files, ..] => "has no Landlock".to_string(),
        features => format!("cannot restrict {}", kernel::words(features)),
    }
}

impl Sandbox {
    /// The features that a kernel must restrict, so that no program reads, writes or connects
    /// beyond its lease.
    pub const REQUIRED: [Feature; 4] = [Feature::Files, Feature::Truncation, Feature::Tcp, Feature::Sockets];

    /// A sandbox on this kernel. `step` is a program with its first arguments. It must call
    /// [`become_program`] with the arguments that follow.
    ///
    /// # Errors
    ///
    /// If the sandbox is [required](Mode::Required) and the kernel lacks a feature.
    pub fn new(mode: Mode, kernel: Kernel, base: Base, step: &[&str]) -> Result<Sandbox, Insufficient> {
        let lacks = Sandbox::REQUIRED.into_iter().filter(|feature| !kernel.restricts(*feature)).collect::<Vec<_>>();
        if mode == Mode::Required && !lacks.is_empty() {
            return Err(Insufficient(lacks));
        }
        Ok(Sandbox { mode, kernel, base: Arc::new(base), step: step.iter().map(OsString::from).collect() })
    }

    /// Prepares the start of a job's program; `None` if the kernel can enforce nothing.
    /// `executable` is the path of the program, if it is known.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` that names the pattern, if the sandbox is required and a pattern cannot
    /// be enforced.
    pub(crate) fn confine(&self, job: &Context, executable: Option<&Path>) -> Result<Option<Confined>, AgentError> {
        if !self.kernel.restricts(Feature::Files) {
            return Ok(None);
        }
        let unreadable = |why: &dyn std::fmt::Display| AgentError::failed(format!("its lease cannot be read: {why}"));
        let lease = Lease::parse(job.lease()).map_err(|why| unreadable(&why))?;
        let (mut ruleset, mut unenforced) = Ruleset::of(&lease, &self.kernel);
        unenforced.extend(ruleset.drop_unusable());
        for one in unenforced {
            match self.mode {
                Mode::Required => {
                    let message = format!("the sandbox cannot enforce the lease: {one}");
                    return Err(AgentError::with_code(ErrorCode::PermissionDenied, message));
                }
                Mode::Auto => job.log(Level::Warn, &format!("the sandbox grants nothing for {one}"))?,
            }
        }
        let folder = tempfile::Builder::new()
            .prefix("arcp-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| AgentError::failed(format!("the sandbox has no temporary folder: {error}")))?;
        // Descriptors are scarce, so the folders are opened only for a job that may leave
        // artifacts.
        let leaves = artifact_bytes(job) > 0;
        let readable = if leaves { ruleset.open_readable().into() } else { Arc::default() };
        ruleset.add_base(self.base.read(), &[Right::Read]);
        ruleset.add_base(self.base.write(), &[Right::Read, Right::Write, Right::Ioctl]);
        ruleset.add_base([folder.path()], &[Right::Read, Right::Write]);
        ruleset.add_base(executable, &[Right::Read]);
        if self.base.unix_sockets() {
            ruleset.allow_unix_sockets();
        }
        ruleset.udp = self.base.udp();
        let preamble = step::preamble(&ruleset)
            .map_err(|error| AgentError::failed(format!("the sandbox cannot be described: {error}")))?;
        Ok(Some(Confined { step: self.step.clone(), preamble, folder, readable }))
    }
}

/// A program that is about to be started in the sandbox. Its temporary folder is deleted on drop.
#[derive(Debug)]
pub(crate) struct Confined {
    step: Arc<[OsString]>,
    /// The bytes on stdin that the step reads before the program reads.
    pub(crate) preamble: Vec<u8>,
    folder: TempDir,
    /// What the lease lets it read, opened before its start.
    pub(crate) readable: Arc<[Readable]>,
}

impl Confined {
    /// The command that starts `program` through the step; further arguments may be added.
    ///
    /// # Errors
    ///
    /// If there is no command for the step.
    pub(crate) fn command(&self, program: &str) -> io::Result<Command> {
        let (step, first) = self.step.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(step);
        command.args(first).arg(program);
        Ok(command)
    }

    /// The temporary folder of the program.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What a lease lets a program read, opened as for a job.
#[cfg(test)]
pub(crate) fn readable_of(lease: &Lease) -> Arc<[Readable]> {
    Ruleset::of(lease, &Kernel::with([Feature::Files].into())).0.open_readable().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_is_there_or_nothing_begins() {
        let sandbox = |mode, features: &[Feature]| {
            let kernel = Kernel::with(features.iter().copied().collect());
            Sandbox::new(mode, kernel, Base::default(), &["step"]).map(drop).map_err(|error| error.to_string())
        };
        let none = sandbox(Mode::Required, &[]).expect_err("no Landlock");
        assert!(none.contains("this kernel has no Landlock"), "{none}");
        let old = sandbox(Mode::Required, &[Feature::Files, Feature::Moves, Feature::Truncation]).expect_err("old");
        assert!(old.contains("cannot restrict TCP ports (ABI 4), sockets") && !old.contains("ABI 1"), "{old}");
        assert_eq!(sandbox(Mode::Required, &Sandbox::REQUIRED), Ok(()), "without moves a program can do less");
        assert_eq!(sandbox(Mode::Auto, &[]), Ok(()));
    }
}
