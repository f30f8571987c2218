//! Landlock: the rules of a [`Ruleset`], in the form that the kernel takes.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope, make_bitflags,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::hierarchy::Hierarchy;
use super::kernel::Feature;
use super::ruleset::{Ports, Right, Ruleset, Why};

/// The rights that a rule for a file may name; the others are for folders.
const OF_FILES: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{Execute | ReadFile | WriteFile | Truncate | IoctlDev | ResolveUnix});

/// Whether Landlock can restrict a feature. A ruleset is created and discarded.
pub(super) fn can_restrict(feature: Feature) -> bool {
    let ports = AccessNet::BindTcp | AccessNet::ConnectTcp;
    handling(&BTreeSet::from([feature]), ports).and_then(landlock::Ruleset::create).is_ok()
}

/// A ruleset that restricts all of these features, and these rights of TCP.
fn handling(features: &BTreeSet<Feature>, tcp: BitFlags<AccessNet>) -> Result<landlock::Ruleset, RulesetError> {
    let mut ruleset = landlock::Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let files = files(features);
    if !files.is_empty() {
        ruleset = ruleset.handle_access(files)?;
    }
    if features.contains(&Feature::Tcp) {
        ruleset = ruleset.handle_access(tcp)?;
    }
    if features.contains(&Feature::Signals) {
        ruleset = ruleset.scope(Scope::from_all(ABI::V6))?;
    }
    Ok(ruleset)
}

/// The rights to files that these features restrict.
fn files(features: &BTreeSet<Feature>) -> BitFlags<AccessFs> {
    let of = |feature: &Feature| match feature {
        Feature::Files => AccessFs::from_all(ABI::V1),
        Feature::Moves => AccessFs::Refer.into(),
        Feature::Truncation => AccessFs::Truncate.into(),
        Feature::Devices => AccessFs::IoctlDev.into(),
        Feature::UnixSockets => AccessFs::ResolveUnix.into(),
        Feature::Tcp | Feature::Signals | Feature::Sockets => BitFlags::EMPTY,
    };
    features.iter().map(of).fold(BitFlags::EMPTY, |all, one| all | one)
}

/// The access that a right allows. No right allows making devices: a device gives access to any
/// file.
fn allowed(right: Right) -> BitFlags<AccessFs> {
    match right {
        Right::Read => make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir}),
        Right::Write => make_bitflags!(AccessFs::{
            WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym
                | Refer | ResolveUnix
        }),
        Right::Ioctl => AccessFs::IoctlDev.into(),
    }
}

/// Opens the path of a hierarchy without following symbolic links. A program with write access
/// above it could have made a link to any place.
pub(super) fn open(hierarchy: &Hierarchy) -> Result<OwnedFd, Why> {
    let (path, flags) = match hierarchy {
        Hierarchy::Below(folder) => (folder, OFlags::DIRECTORY),
        Hierarchy::File(file) => (file, OFlags::empty()),
    };
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(CWD, path, flags, Mode::empty(), resolve).map_err(|error| match error {
        Errno::NOENT => Why::Missing,
        Errno::LOOP => Why::Link,
        Errno::NOTDIR => Why::NoFolder,
        _ => Why::Unreachable,
    })?;
    let is_folder = fstat(&opened).map(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory);
    match (hierarchy, is_folder) {
        (_, Err(_)) => Err(Why::Unreachable),
        (Hierarchy::File(_), Ok(true)) => Err(Why::IsFolder),
        (Hierarchy::Below(_), Ok(_)) | (Hierarchy::File(_), Ok(false)) => Ok(opened),
    }
}

/// Restricts this thread, and the programs that it becomes and starts, permanently.
///
/// # Errors
///
/// If a part of the ruleset cannot be enforced.
pub(super) fn restrict(ruleset: &Ruleset) -> Result<(), String> {
    let told = |error: RulesetError| error.to_string();
    let handled = files(&ruleset.restrict);
    let (tcp, ports) = match &ruleset.connect {
        Ports::Any => (AccessNet::BindTcp.into(), None),
        Ports::Only(ports) => (AccessNet::BindTcp | AccessNet::ConnectTcp, Some(ports)),
    };
    let mut created = handling(&ruleset.restrict, tcp).and_then(landlock::Ruleset::create).map_err(told)?;
    for (path, right) in &ruleset.base {
        // A path that is missing, or cannot be reached, needs no rule.
        let Ok(opened) = PathFd::new(path) else { continue };
        if let Some(rule) = rule(opened, *right, handled) {
            created = created.add_rule(rule).map_err(told)?;
        }
    }
    for (hierarchy, right) in &ruleset.granted {
        let opened = open(hierarchy).map_err(|why| format!("{hierarchy} has changed meanwhile: {why:?}"))?;
        if let Some(rule) = rule(opened, *right, handled) {
            created = created.add_rule(rule).map_err(told)?;
        }
    }
    if ruleset.restrict.contains(&Feature::Tcp) {
        for port in ports.into_iter().flatten() {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(told)?;
        }
    }
    created.restrict_self().map(drop).map_err(told)
}

/// `None` if none of these rights is restricted.
fn rule<F: AsFd>(opened: F, right: Right, handled: BitFlags<AccessFs>) -> Option<PathBeneath<F>> {
    let found = fstat(&opened).ok()?;
    let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    let access = allowed(right) & if is_folder { handled } else { handled & OF_FILES };
    (!access.is_empty()).then(|| PathBeneath::new(opened, access))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn ruleset(granted: Hierarchy) -> Ruleset {
        Ruleset {
            restrict: [Feature::Files].into(),
            base: Vec::new(),
            granted: vec![(granted, Right::Read)],
            connect: Ports::Any,
            unix_sockets: false,
            udp: false,
        }
    }

    /// Enters a sandbox on another thread; returns whether that worked, and whether the file can
    /// then be read.
    fn enter(granted: Hierarchy, file: &PathBuf) -> (bool, bool) {
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| (restrict(&ruleset(granted)).is_ok(), fs::read(file).is_ok()));
            confined.join().expect("no panic")
        })
    }

    #[test]
    fn what_a_rule_is_made_of_is_handed_on_to_no_program_and_cannot_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        fs::write(root.join("file"), "text").expect("written");
        for hierarchy in [Hierarchy::File(root.join("file")), Hierarchy::Below(root)] {
            let opened = open(&hierarchy).expect("it is there");
            assert!(rustix::io::fcntl_getfd(&opened).expect("its flags").contains(rustix::io::FdFlags::CLOEXEC));
            assert!(rustix::fs::fcntl_getfl(&opened).expect("its mode").contains(OFlags::PATH), "{hierarchy:?}");
        }
    }

    #[test]
    fn what_has_become_another_thing_meanwhile_is_an_error_and_no_grant() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        let (secret, link) = (root.join("secret/file"), root.join("link"));
        fs::create_dir(root.join("secret")).expect("made");
        fs::write(&secret, "x").expect("written");
        std::os::unix::fs::symlink("secret", &link).expect("a link");
        let can = can_restrict(Feature::Files);
        assert_eq!(enter(Hierarchy::Below(root.join("secret")), &secret), (can, true));
        assert_eq!(enter(Hierarchy::Below(root.join("none")), &secret), (false, true), "it is not entered");
        assert_eq!(enter(Hierarchy::Below(link.clone()), &secret), (false, true));
        assert_eq!(enter(Hierarchy::File(link), &secret), (false, true));
        fs::create_dir(root.join("other")).expect("made");
        assert_eq!(enter(Hierarchy::Below(root.join("other")), &secret), (can, !can), "it is");
    }
}
