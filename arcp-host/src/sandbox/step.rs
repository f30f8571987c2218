//! The step between a runtime and a confined program: a process that restricts itself and then
//! becomes the program.
//!
//! The rules are the first bytes of its stdin, where no other process can read them. They are not
//! in its arguments, which every process could see.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

#[cfg(target_os = "linux")]
use super::kernel::Feature;
use super::ruleset::Ruleset;

/// The largest ruleset, in bytes. A lease and a base have far fewer.
const LONGEST: u32 = 16 << 20;

/// The bytes before the program's input: the length of a ruleset, and its JSON.
pub(super) fn preamble(ruleset: &Ruleset) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(ruleset)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= LONGEST);
    let mut bytes = length.ok_or(io::ErrorKind::FileTooLarge)?.to_be_bytes().to_vec();
    bytes.extend(json);
    Ok(bytes)
}

/// Reads the ruleset, and nothing after it.
fn read_preamble(input: &mut impl Read) -> io::Result<Ruleset> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its length makes no sense"));
    }
    let mut json = vec![0; length as usize];
    input.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Restricts this process by the ruleset on stdin, and becomes the program. The process must have
/// no other threads, and must not have read from stdin.
///
/// It returns only if the program was not started, with the error.
pub fn become_program(program: &OsStr, arguments: &[OsString]) -> io::Error {
    let restricted = stdin().and_then(|mut stdin| read_preamble(&mut stdin)).and_then(|ruleset| restrict(&ruleset));
    match restricted {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => {
            let message = format!("the sandbox could not be entered, nothing was started: {error}");
            io::Error::new(error.kind(), message)
        }
    }
}

/// stdin without a buffer, because what follows is for the program.
fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(target_os = "linux")]
fn restrict(ruleset: &Ruleset) -> io::Result<()> {
    super::landlock::restrict(ruleset).map_err(io::Error::other)?;
    if ruleset.restrict.contains(&Feature::Sockets) {
        super::seccomp::restrict(ruleset).map_err(io::Error::other)?;
    }
    drop_capabilities()
}

/// Keeps only those capabilities of the superuser that are needed to use files of any owner:
/// Landlock restricts files. With the others a program could load code into the kernel, or
/// configure the network. A capability that a process lacks, its programs lack too.
#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let kept = CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER | CapabilitySet::FSETID;
    let mut sets = capabilities(None)?;
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        *set &= kept;
    }
    Ok(set_capabilities(None, sets)?)
}

#[cfg(not(target_os = "linux"))]
fn restrict(_: &Ruleset) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use arcp_proto::lease::Lease;

    use super::super::kernel::Kernel;
    use super::super::ruleset::Right;
    use super::*;

    #[test]
    fn a_ruleset_is_read_as_it_was_written_and_not_a_byte_more() {
        let (mut ruleset, _) = Ruleset::of(&Lease::default(), &Kernel::with([Feature::Files].into()));
        let granted = preamble(&ruleset).expect("short");
        ruleset.add_base([std::path::Path::new("/usr")], &[Right::Read, Right::Write]);
        let mut bytes = preamble(&ruleset).expect("short");
        assert_ne!(bytes, granted, "what the operator grants is in it");
        bytes.extend(b"the input");
        let mut input = bytes.as_slice();
        assert_eq!(read_preamble(&mut input).expect("a ruleset"), ruleset);
        assert_eq!(input, b"the input");
    }

    #[test]
    fn what_is_no_ruleset_starts_nothing() {
        let refused = |bytes: &[u8]| read_preamble(&mut &*bytes).expect_err("refused").kind();
        assert_eq!(refused(b"\"in"), io::ErrorKind::UnexpectedEof);
        assert_eq!(refused(b"\"input\"\n"), io::ErrorKind::InvalidData, "a line of JSON is too long by far");
        assert_eq!(refused(b"\0\0\0\x02{}"), io::ErrorKind::InvalidData, "no ruleset is empty");
    }
}
