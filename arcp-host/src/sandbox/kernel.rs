//! The features that the kernel of this machine can restrict.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A feature that the kernel restricts: with Landlock, since the given version of its interface
/// (ABI), or with seccomp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Feature {
    /// Opening, making and removing files (ABI 1, Linux 5.13).
    Files,
    /// Moving files between folders that may both be written (ABI 2, Linux 5.19). Before that
    /// version, no confined program can move files so.
    Moves,
    /// Truncating files (ABI 3, Linux 6.2).
    Truncation,
    /// TCP ports (ABI 4, Linux 6.7).
    Tcp,
    /// Device commands (ABI 5, Linux 6.10).
    Devices,
    /// Signals, and abstract UNIX sockets (ABI 6, Linux 6.12).
    Signals,
    /// UNIX sockets in the file system (ABI 9, Linux 7.1).
    UnixSockets,
    /// Sockets other than those of TCP, shared memory, and keyrings (seccomp, Linux 4.14).
    Sockets,
}

impl Feature {
    /// All features, the oldest first.
    pub const ALL: [Feature; 8] = [
        Feature::Files,
        Feature::Moves,
        Feature::Truncation,
        Feature::Tcp,
        Feature::Devices,
        Feature::Signals,
        Feature::UnixSockets,
        Feature::Sockets,
    ];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Files => "files (ABI 1)",
            Feature::Moves => "moves between folders (ABI 2)",
            Feature::Truncation => "emptying files (ABI 3)",
            Feature::Tcp => "TCP ports (ABI 4)",
            Feature::Devices => "commands to devices (ABI 5)",
            Feature::Signals => "signals and abstract UNIX sockets (ABI 6)",
            Feature::UnixSockets => "UNIX sockets in files (ABI 9)",
            Feature::Sockets => "sockets, shared memory and keyrings (seccomp)",
        })
    }
}

/// The features that a kernel can restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel(BTreeSet<Feature>);

impl Kernel {
    /// The features of this machine's kernel. The check restricts nothing.
    pub fn of_this_machine() -> Kernel {
        Kernel(Feature::ALL.into_iter().filter(|feature| can_restrict(*feature)).collect())
    }

    /// A kernel that can restrict these features.
    pub fn with(features: BTreeSet<Feature>) -> Kernel {
        Kernel(features)
    }

    /// Whether it can restrict this feature.
    pub fn restricts(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    pub(super) fn features(&self) -> &BTreeSet<Feature> {
        &self.0
    }
}

/// Formats a sentence without its full stop.
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.restricts(Feature::Files) {
            return f.write_str("this kernel has no Landlock, so that nothing is enforced");
        }
        let (can, cannot): (Vec<Feature>, Vec<Feature>) =
            Feature::ALL.into_iter().partition(|feature| self.restricts(*feature));
        write!(f, "this kernel restricts {}", words(&can))?;
        match cannot.as_slice() {
            [] => Ok(()),
            cannot => write!(f, ", but not {}", words(cannot)),
        }
    }
}

pub(super) fn words(features: &[Feature]) -> String {
    features.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(target_os = "linux")]
fn can_restrict(feature: Feature) -> bool {
    match feature {
        Feature::Files
        | Feature::Moves
        | Feature::Truncation
        | Feature::Tcp
        | Feature::Devices
        | Feature::Signals
        | Feature::UnixSockets => super::landlock::can_restrict(feature),
        Feature::Sockets => super::seccomp::is_there(),
    }
}

#[cfg(not(target_os = "linux"))]
fn can_restrict(_: Feature) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_what_it_restricts_and_what_it_lacks() {
        let none = Kernel::default().to_string();
        assert!(none.contains("no Landlock") && none.contains("nothing is enforced"), "{none}");
        let old = Kernel::with([Feature::Files, Feature::Moves].into()).to_string();
        assert!(old.contains("restricts files (ABI 1), moves") && old.contains("but not emptying files"), "{old}");
        assert!(!Kernel::with(Feature::ALL.into()).to_string().contains("but not"));
    }
}
