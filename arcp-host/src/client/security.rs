//! How connections are protected, and what may be sent over an unprotected one.

use std::io;
use std::path::PathBuf;

use arcp_proto::model::request::Credential;

use super::{ClientError, Target};

/// How a client's connections are protected. By default a token is sent only over TLS or to this
/// machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// How the identity of a server with TLS is checked.
    pub trust: Trust,
    /// Whether tokens are sent in cleartext to other machines, although they can be read on the
    /// network.
    pub insecure: bool,
    /// The client's certificate, for servers that ask for it.
    pub identity: Option<Identity>,
    /// The file of the keys of runtimes with TLS, as they were seen first; `None`: they are not
    /// kept.
    pub known_runtimes: Option<PathBuf>,
}

/// A client certificate with those of its issuers, and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificates, the client's own first.
    pub certificates: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

/// How the identity of a server is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// By the authorities that this machine trusts.
    #[default]
    System,
    /// By the authorities in this PEM file, and no others. A certificate in the file is also
    /// accepted as that of a server.
    Authorities(PathBuf),
    /// Only the first certificate in this PEM file is accepted, whatever its name and validity: for
    /// a server of the same user on the same machine, which wrote the file.
    Certificate(PathBuf),
    /// Only a key with this fingerprint is accepted, `sha256:` and 64 lower-case hexadecimal
    /// digits, whatever its certificate says.
    Key(String),
}

impl Security {
    /// Checks whether a credential may be sent to a target.
    ///
    /// # Errors
    ///
    /// [`ClientError::Cleartext`].
    pub fn allows(&self, target: &Target, credential: &Credential) -> Result<(), ClientError> {
        let is_secret = match credential {
            Credential::Bearer(_) | Credential::Other { .. } => true,
            Credential::Anonymous => false,
        };
        if is_secret && target.is_exposed() && !self.insecure {
            return Err(ClientError::Cleartext(target.clone()));
        }
        Ok(())
    }
}

/// Why a connection could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// A later attempt may succeed.
    Failed(String),
    /// The server cannot be trusted, or does not speak TLS.
    Untrusted(String),
    /// The server does not accept the client's certificate.
    NotTaken(String),
    /// What answers serves no sessions there: another path, another protocol, or without TLS.
    NotServed(String),
}

impl DialError {
    /// The reason why this target could not be reached.
    pub fn new(target: &Target, error: &io::Error) -> DialError {
        #[cfg(feature = "tls")]
        if let Some(why) = crate::tls::refusal(error) {
            return DialError::Untrusted(format!("{target}: {why}"));
        }
        #[cfg(feature = "tls")]
        if let Some(why) = crate::tls::not_taken(error) {
            return DialError::NotTaken(format!("{target}: {why}"));
        }
        let why = format!("{target}: {error}");
        if error.kind() == io::ErrorKind::Unsupported { DialError::NotServed(why) } else { DialError::Failed(why) }
    }
}
