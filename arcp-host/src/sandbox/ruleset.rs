//! What the program of a job may do, in terms of the kernel.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use arcp_proto::lease::{Lease, Namespace, Pattern, Port};
use serde::{Deserialize, Serialize};

use super::hierarchy::Hierarchy;
use super::kernel::{Feature, Kernel};
#[cfg(target_os = "linux")]
use super::landlock as system;
use super::readable::Readable;

/// How many readable hierarchies of one lease are kept open. A client chooses how many patterns its
/// lease has, and all jobs share the descriptors.
const READABLE: usize = 64;

/// A right to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Right {
    /// Open, list and run: a file that can be read could be copied and run anyway.
    Read,
    /// Open, make, move and remove files, but no devices.
    Write,
    /// Device commands.
    Ioctl,
}

/// TCP ports to which a program may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ports {
    Any,
    Only(BTreeSet<u16>),
}

/// What the program of a job may do. Everything else that the kernel can restrict is forbidden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ruleset {
    /// The features that must be restricted.
    pub(super) restrict: BTreeSet<Feature>,
    /// Paths of the operator; missing ones are ignored.
    pub(super) base: Vec<(PathBuf, Right)>,
    /// Paths of the lease, which are opened without following symbolic links.
    pub(super) granted: Vec<(Hierarchy, Right)>,
    pub(super) connect: Ports,
    /// Set by the operator: all UNIX sockets may be used, and listened on.
    pub(super) unix_sockets: bool,
    /// Set by the operator: programs that may connect anywhere may use UDP.
    pub(super) udp: bool,
}

/// A pattern that the kernel cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforced {
    /// The namespace of the pattern.
    pub namespace: Namespace,
    /// The pattern, or the path that it names.
    pub pattern: String,
    /// Why it cannot be enforced.
    pub why: Why,
}

/// Why the kernel cannot enforce a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is finer than a folder with all below it, and is not a single file.
    Finer,
    /// It names no port.
    NoPort,
    /// The path does not exist: the kernel can grant only existing files.
    Missing,
    /// It leads through a symbolic link.
    Link,
    /// The path of a file names a folder.
    IsFolder,
    /// The path of a folder names another kind of file.
    NoFolder,
    /// The path cannot be examined.
    Unreachable,
}

impl Ruleset {
    /// The rules for a lease, and the patterns that the kernel cannot enforce.
    pub(super) fn of(lease: &Lease, kernel: &Kernel) -> (Ruleset, Vec<Unenforced>) {
        let mut ruleset = Ruleset {
            restrict: kernel.features().clone(),
            base: Vec::new(),
            granted: Vec::new(),
            connect: Ports::Only(BTreeSet::new()),
            unix_sockets: false,
            udp: false,
        };
        let mut unenforced = Vec::new();
        for (namespace, patterns) in lease.grants() {
            for pattern in patterns {
                if let Err(why) = ruleset.grant(namespace, pattern) {
                    unenforced.push(Unenforced {
                        namespace: namespace.clone(),
                        pattern: pattern.as_str().to_string(),
                        why,
                    });
                }
            }
        }
        (ruleset, unenforced)
    }

    fn grant(&mut self, namespace: &Namespace, pattern: &Pattern) -> Result<(), Why> {
        match namespace {
            Namespace::FsRead => self.granted.push((Hierarchy::of(pattern).ok_or(Why::Finer)?, Right::Read)),
            Namespace::FsWrite => self.granted.push((Hierarchy::of(pattern).ok_or(Why::Finer)?, Right::Write)),
            Namespace::NetFetch => match (pattern.port().ok_or(Why::NoPort)?, &mut self.connect) {
                (Port::Any, connect) => *connect = Ports::Any,
                (Port::Is(_), Ports::Any) => {}
                (Port::Is(port), Ports::Only(ports)) => {
                    ports.insert(port);
                }
            },
            // The kernel does not see any of these.
            Namespace::ToolCall | Namespace::AgentDelegate | Namespace::ModelUse | Namespace::Vendor(_) => {}
        }
        Ok(())
    }

    /// Removes the paths that cannot be granted at present: the step would fail on them.
    pub(super) fn drop_unusable(&mut self) -> Vec<Unenforced> {
        let mut unenforced = Vec::new();
        self.granted.retain(|(hierarchy, right)| match open(hierarchy) {
            Ok(_) => true,
            Err(why) => {
                let namespace = if *right == Right::Read { Namespace::FsRead } else { Namespace::FsWrite };
                let pattern = match hierarchy {
                    Hierarchy::Below(folder) => format!("{}/**", folder.display().to_string().trim_end_matches('/')),
                    Hierarchy::File(file) => file.display().to_string(),
                };
                unenforced.push(Unenforced { namespace, pattern, why });
                false
            }
        });
        unenforced
    }

    /// Opens the first [`READABLE`] hierarchies that the program may read. One that has disappeared
    /// meanwhile is not granted either.
    pub(super) fn open_readable(&self) -> Vec<Readable> {
        let read = self.granted.iter().filter(|(_, right)| *right == Right::Read).take(READABLE);
        read.filter_map(|(hierarchy, _)| Some(Readable::new(hierarchy.clone(), open(hierarchy).ok()?))).collect()
    }

    /// Whether the program may write beyond the base.
    pub(super) fn writes(&self) -> bool {
        self.granted.iter().any(|(_, right)| *right == Right::Write)
    }

    /// Allows all UNIX sockets, as the operator has set.
    pub(super) fn allow_unix_sockets(&mut self) {
        self.unix_sockets = true;
        self.restrict.remove(&Feature::UnixSockets);
    }

    /// Adds paths of the base, or of the job itself.
    pub(super) fn add_base<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>, rights: &[Right]) {
        for path in paths {
            self.base.extend(rights.iter().map(|right| (path.to_path_buf(), *right)));
        }
    }
}

#[cfg(target_os = "linux")]
fn open(hierarchy: &Hierarchy) -> Result<OwnedFd, Why> {
    system::open(hierarchy)
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Hierarchy) -> Result<OwnedFd, Why> {
    Err(Why::Unreachable)
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unenforced { namespace, pattern, why } = self;
        write!(f, "`{namespace}` `{pattern}`: ")?;
        match why {
            Why::Finer => f.write_str("the kernel knows files, and folders with all below them: ask for one of those"),
            Why::NoPort => f.write_str("it names no port: write it behind the host"),
            Why::Missing => f.write_str("it is not there: make it first, or ask for the folder that it will be in"),
            Why::Link => f.write_str("it leads through a symbolic link: name what that leads to"),
            Why::IsFolder => write!(f, "it is a folder: ask for `{}/**`", pattern.trim_end_matches('/')),
            Why::NoFolder => f.write_str("it is no folder: ask for the file itself"),
            Why::Unreachable => f.write_str("the runtime itself cannot reach it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::json::Json;

    use super::*;

    fn of(lease: &str) -> (Ruleset, Vec<Unenforced>) {
        let lease = Lease::parse(&Json::parse(lease).expect("JSON")).expect("a lease");
        Ruleset::of(&lease, &Kernel::with(Feature::ALL.into()))
    }

    #[test]
    fn a_lease_becomes_hierarchies_and_ports_and_what_is_finer_is_named() {
        let (ruleset, unenforced) = of(r#"{
            "fs.read": ["/srv/**", "/srv/*.txt"], "fs.write": ["/out/log"],
            "net.fetch": ["https://a.test/**", "http://b.test:8080/x", "ftp://c.test/**"],
            "tool.call": ["**"], "cost.budget": ["USD:1"]
        }"#);
        let granted =
            [(Hierarchy::Below("/srv".into()), Right::Read), (Hierarchy::File("/out/log".into()), Right::Write)];
        assert_eq!(ruleset.granted, granted);
        assert_eq!(ruleset.connect, Ports::Only([443, 8080].into()));
        let named: Vec<(&str, Why)> = unenforced.iter().map(|one| (one.pattern.as_str(), one.why)).collect();
        assert_eq!(named, [("/srv/*.txt", Why::Finer), ("ftp://c.test/**", Why::NoPort)]);
        let said = unenforced[0].to_string();
        assert!(said.starts_with("`fs.read` `/srv/*.txt`: ") && said.contains("ask for one of those"), "{said}");
    }

    #[test]
    fn a_lease_of_nothing_grants_nothing() {
        let (ruleset, unenforced) = of("{}");
        assert_eq!((ruleset.granted.len(), ruleset.connect, unenforced.len()), (0, Ports::Only([].into()), 0));
        assert_eq!(ruleset.restrict.len(), Feature::ALL.len());
    }

    #[test]
    fn any_port_is_any_port_wherever_it_is_named() {
        for patterns in [r#""http://a.test/**","http://a.test:*/**""#, r#""http://a.test:*/**","http://a.test/**""#] {
            assert_eq!(of(&format!(r#"{{"net.fetch":[{patterns}]}}"#)).0.connect, Ports::Any);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_not_there_or_leads_elsewhere_is_not_granted() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path").display().to_string();
        std::fs::write(format!("{root}/file"), "x").expect("written");
        std::fs::create_dir(format!("{root}/folder")).expect("made");
        std::os::unix::fs::symlink("/etc", format!("{root}/link")).expect("made");
        let found = |pattern: &str| {
            let (mut ruleset, mapped) = of(&format!(r#"{{"fs.write":["{root}{pattern}"]}}"#));
            assert_eq!(mapped, []);
            let unusable = ruleset.drop_unusable();
            assert_eq!(ruleset.granted.len() + unusable.len(), 1);
            unusable.first().map(|one| {
                assert_eq!((one.pattern.as_str(), &one.namespace), (&*format!("{root}{pattern}"), &Namespace::FsWrite));
                one.why
            })
        };
        assert_eq!((found("/file"), found("/folder/**")), (None, None));
        assert_eq!((found("/other"), found("/other/**")), (Some(Why::Missing), Some(Why::Missing)));
        assert_eq!((found("/folder"), found("/file/**")), (Some(Why::IsFolder), Some(Why::NoFolder)));
        assert_eq!((found("/link/**"), found("/link/passwd")), (Some(Why::Link), Some(Why::Link)));
        assert_eq!(found("/link"), Some(Why::Link), "not what it leads to, and not the link");
    }
}
