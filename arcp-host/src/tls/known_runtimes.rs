//! Runtimes by the keys of their certificates, as they were seen first, like `known_hosts` of
//! `ssh`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError};
use sha2::{Digest as _, Sha256};

use crate::client::Target;
use crate::replace_file::replace_file;

/// A file of known runtimes, one per line: `HOST:PORT sha256:HEX`. Text after `#` is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRuntimes(PathBuf);

/// The known key of the runtime at one address.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    known: KnownRuntimes,
    name: String,
}

/// A runtime has another key than when it was seen first.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} shows another key than it did when it was seen first: {shown} now, {known} then ({}:{line}): somebody may be \
     in between; if it was changed on purpose, remove that line, or `arcp runtimes forget {name}`", file.display()
)]
struct Changed {
    name: String,
    shown: String,
    known: String,
    file: PathBuf,
    line: usize,
}

/// A server has another key than the required one.
#[derive(Debug, thiserror::Error)]
#[error("it shows another key than it is known by: {shown} instead of {known}")]
struct OtherKey {
    shown: String,
    known: String,
}

/// Refuses a certificate whose key has another fingerprint.
pub(super) fn must_have(certificate: &CertificateDer<'_>, known: &str) -> Result<(), Error> {
    let shown = fingerprint(certificate)?;
    match shown == known {
        true => Ok(()),
        false => Err(refused(OtherKey { shown, known: known.to_string() })),
    }
}

/// The fingerprint of the key of a certificate: `sha256:` and the digits of its SHA-256, as in RFC
/// 7469. It stays the same when a certificate is renewed with the same key.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let digits: String = Sha256::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

impl KnownRuntimes {
    /// The file at this path, which need not exist.
    pub fn at(path: &Path) -> KnownRuntimes {
        KnownRuntimes(path.to_path_buf())
    }

    /// The name of a runtime in the file; `None` if the target has no key.
    pub fn name_of(target: &Target) -> Option<String> {
        let (host, port) = target.address().filter(|_| target.has_tls())?;
        Some(if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{}:{port}", host.to_ascii_lowercase())
        })
    }

    /// The fingerprint of a known runtime.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be read.
    pub fn fingerprint(&self, name: &str) -> io::Result<Option<String>> {
        Ok(self.find(name)?.map(|(_, fingerprint)| fingerprint))
    }

    /// Forgets a runtime; returns false if it was not known.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn forget(&self, name: &str) -> io::Result<bool> {
        let _changing = self.lock()?;
        if self.find(name)?.is_none() {
            return Ok(false);
        }
        let text = fs::read_to_string(&self.0)?;
        let is_other = |line: &&str| entry(line).is_none_or(|(named, _)| named != name);
        let left: String = text.lines().filter(is_other).map(|line| format!("{line}\n")).collect();
        replace_file(&self.0, 0o600, left.as_bytes())?;
        Ok(true)
    }

    /// The line of a runtime, from 1, and its fingerprint.
    fn find(&self, name: &str) -> io::Result<Option<(usize, String)>> {
        let text = match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let found = text.lines().enumerate().find_map(|(at, line)| {
            let (_, fingerprint) = entry(line).filter(|(named, _)| *named == name)?;
            Some((at + 1, fingerprint.to_string()))
        });
        Ok(found)
    }

    fn add(&self, name: &str, fingerprint: &str) -> io::Result<()> {
        let _changing = self.lock()?;
        if self.find(name)?.is_some() {
            return Ok(());
        }
        let mut file = File::options().append(true).create(true).mode(0o600).open(&self.0)?;
        file.write_all(format!("{name} {fingerprint}\n").as_bytes())
    }

    fn lock(&self) -> io::Result<File> {
        if let Some(folder) = self.0.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let beside = self.0.with_extension("lock");
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(beside)?;
        lock.lock()?;
        Ok(lock)
    }
}

impl Pin {
    /// The known key of a target; `None` if the target has no key.
    pub(super) fn of(known: &KnownRuntimes, target: &Target) -> Option<Pin> {
        Some(Pin { known: known.clone(), name: KnownRuntimes::name_of(target)? })
    }

    /// Refuses a certificate with another key than was seen first.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let shown = fingerprint(certificate)?;
        match self.known.find(&self.name).map_err(refused)? {
            Some((line, known)) if known != shown => {
                let (name, file) = (self.name.clone(), self.known.0.clone());
                Err(refused(Changed { name, shown, known, file, line }))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers the key of a runtime that has proved that it has the private key.
    pub(super) fn keep(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        self.known.add(&self.name, &fingerprint(certificate)?).map_err(refused)
    }
}

fn refused(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(why))).into()
}

/// The name and the fingerprint in a line.
fn entry(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split('#').next()?.split_whitespace();
    Some((words.next()?, words.next()?))
}
