//! Leases enforced by the kernel on programs that ask nothing (Linux, Landlock and
//! seccomp).
//!
//! A [`Sandbox`] starts the program of a job through a *step*: a program that
//! calls [`become_program`], which restricts itself and then becomes the program. What
//! a job may do is its lease and a [`Base`] that every program needs to start:
//!
//! | granted | becomes |
//! |---|---|
//! | `fs.read` `/srv/a/**` | opening, listing and running what is below `/srv/a` |
//! | `fs.write` `/srv/a/**` | writing, making, renaming and removing what is below `/srv/a` |
//! | `fs.read` `/srv/a.txt` | that file, if it is there |
//! | `net.fetch` `https://host/**` | TCP connections to port 443, of any host |
//! | no `fs.write` | no change of modes, owners, times and attributes of files, its own neither |
//! | nothing | the base, and a temporary folder of its own, which `TMPDIR` and `HOME` name |
//!
//! A pattern that the kernel cannot enforce as it stands grants nothing: one that is
//! finer than a file or a folder with all below it, leads through a symbolic link, or
//! names what is not there. Nothing is ever granted that no pattern means, but for the
//! hosts and paths of URLs, which the kernel does not see.

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

/// What is done if the kernel cannot enforce everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As much as it can is enforced, and the rest is said. A pattern that it cannot
    /// enforce grants nothing.
    Auto,
    /// A job with such a pattern fails.
    Required,
}

/// How the programs of a runtime are confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    mode: Mode,
    kernel: Kernel,
    base: Arc<Base>,
    /// The step and its arguments.
    step: Arc<[OsString]>,
}

/// A kernel cannot do what is required of it.
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
    /// What a kernel must restrict, so that no program reads, writes or connects to what
    /// its lease does not grant.
    pub const REQUIRED: [Feature; 4] = [Feature::Files, Feature::Truncation, Feature::Tcp, Feature::Sockets];

    /// A sandbox on this kernel. `step` is a program and its first arguments, which calls
    /// [`become_program`] with those that follow.
    ///
    /// # Errors
    ///
    /// If it is [required](Mode::Required) and the kernel lacks something.
    pub fn new(mode: Mode, kernel: Kernel, base: Base, step: &[&str]) -> Result<Sandbox, Insufficient> {
        let lacks = Sandbox::REQUIRED.into_iter().filter(|feature| !kernel.restricts(*feature)).collect::<Vec<_>>();
        if mode == Mode::Required && !lacks.is_empty() {
            return Err(Insufficient(lacks));
        }
        Ok(Sandbox { mode, kernel, base: Arc::new(base), step: step.iter().map(OsString::from).collect() })
    }

    /// How the program of this job is started; `None` if nothing can be enforced.
    /// `executable` is the file that it is, if it is known.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` that names the pattern, if all must be enforced and one
    /// cannot be.
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
        // Descriptors are scarce: they are for what it may leave.
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

/// A program that is about to be started within what its lease grants. Its temporary
/// folder goes with this.
#[derive(Debug)]
pub(crate) struct Confined {
    step: Arc<[OsString]>,
    /// What the step reads before the program reads.
    pub(crate) preamble: Vec<u8>,
    folder: TempDir,
    /// What its lease lets it read, as it was then.
    pub(crate) readable: Arc<[Readable]>,
}

impl Confined {
    /// Starts `program` through the step; arguments may follow.
    ///
    /// # Errors
    ///
    /// If there is no step.
    pub(crate) fn command(&self, program: &str) -> io::Result<Command> {
        let (step, first) = self.step.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(step);
        command.args(first).arg(program);
        Ok(command)
    }

    /// The temporary folder of its own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What a lease lets a program read, as it is opened for one.
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
