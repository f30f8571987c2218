//! The base: what every program may use whatever its lease, because it could not start otherwise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The default base, which the documentation shows.
const DEFAULT: &str = include_str!("base.toml");

/// Files, and folders with all below them, that every confined program may use. Missing paths are
/// ignored. Symbolic links are followed, because the operator named them.
///
/// As a file, it is TOML:
///
/// ```toml
/// default = true             # these besides the default ones; `false`: these alone
/// read = ["/opt/agents"]     # may be read and run
/// write = ["/dev/ptmx"]      # may be written as well
/// unix_sockets = true        # may use UNIX sockets, and listen
/// udp = true                 # may use UDP, with any host and port, if its lease grants `net.fetch`
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    unix_sockets: bool,
    udp: bool,
}

/// Why a file is not a valid base.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not TOML, or has unknown keys.
    #[error("{0}")]
    Toml(String),
    /// A path does not begin with `/`.
    #[error("`{}` does not begin with `/`: give the whole path", .0.display())]
    NotAbsolute(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "besides")]
    default: bool,
    #[serde(default)]
    read: Vec<PathBuf>,
    #[serde(default)]
    write: Vec<PathBuf>,
    #[serde(default)]
    unix_sockets: bool,
    #[serde(default)]
    udp: bool,
}

fn besides() -> bool {
    true
}

impl Base {
    /// Reads a base from a file.
    ///
    /// # Errors
    ///
    /// Why the file is invalid.
    pub fn open(file: &Path) -> Result<Base, BaseError> {
        Base::parse(&fs::read_to_string(file)?)
    }

    /// Reads a base from a text.
    ///
    /// # Errors
    ///
    /// Why the text is invalid.
    pub fn parse(text: &str) -> Result<Base, BaseError> {
        let Written { default, read, write, unix_sockets, udp } =
            toml::from_str(text).map_err(|error| BaseError::Toml(error.to_string().trim().to_string()))?;
        if let Some(relative) = read.iter().chain(&write).find(|path| !path.is_absolute()) {
            return Err(BaseError::NotAbsolute(relative.clone()));
        }
        let given = Base { read, write, unix_sockets, udp };
        Ok(if default { Base::default().with(given) } else { given })
    }

    fn with(mut self, more: Base) -> Base {
        self.read.extend(more.read);
        self.write.extend(more.write);
        self.unix_sockets |= more.unix_sockets;
        self.udp |= more.udp;
        self
    }

    /// The paths that may be read and run.
    pub fn read(&self) -> impl Iterator<Item = &Path> {
        self.read.iter().map(PathBuf::as_path)
    }

    /// The paths that may also be written.
    pub fn write(&self) -> impl Iterator<Item = &Path> {
        self.write.iter().map(PathBuf::as_path)
    }

    /// Whether UNIX sockets of any process may be used, and listened on.
    pub fn unix_sockets(&self) -> bool {
        self.unix_sockets
    }

    /// Whether programs whose lease grants `net.fetch` may use UDP, with any host and port.
    /// Resolving host names needs it, but anything can be sent with it.
    pub fn udp(&self) -> bool {
        self.udp
    }
}

impl Default for Base {
    fn default() -> Base {
        let Written { read, write, unix_sockets, udp, .. } =
            toml::from_str(DEFAULT).expect("a file of ours: a test reads it");
        Base { read, write, unix_sockets, udp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_adds_to_the_default_or_stands_for_itself() {
        let default = Base::default();
        assert!(default.read().any(|path| path == Path::new("/usr")));
        assert!(default.write().any(|path| path == Path::new("/dev/null")));
        assert!(default.read().chain(default.write()).all(Path::is_absolute));
        let more = Base::parse("read = ['/opt/agents']\nwrite = ['/dev/ptmx']").expect("a base");
        assert_eq!(more.read().count(), default.read().count() + 1);
        assert_eq!(more.write().last(), Some(Path::new("/dev/ptmx")));
        assert!(!more.unix_sockets() && Base::parse("unix_sockets = true").expect("a base").unix_sockets());
        assert!(!more.udp() && !more.unix_sockets() && Base::parse("udp = true").expect("a base").udp());
        let alone = Base::parse("default = false\nread = ['/opt']").expect("a base");
        assert_eq!((alone.read().collect::<Vec<_>>(), alone.write().count()), (vec![Path::new("/opt")], 0));
    }

    #[test]
    fn what_makes_no_sense_in_a_file_is_named() {
        let why = |text: &str| Base::parse(text).expect_err("refused").to_string();
        assert!(why("read = ['opt']").contains("`opt` does not begin with `/`"));
        assert!(why("reed = ['/opt']").contains("reed"));
        assert!(why("read = '/opt'").contains("line 1"));
        let missing = Base::open(Path::new("/there/is/no/such.toml")).expect_err("refused");
        assert!(matches!(missing, BaseError::Io(_)), "{missing}");
    }
}
