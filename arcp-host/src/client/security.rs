//! What protects a connection, and what is sent over one that nothing protects.

use std::io;
use std::path::PathBuf;

use arcp_proto::model::request::Credential;

use super::{ClientError, Target};

/// What protects a client's connections. By default tokens are sent over TLS, or
/// to this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Who vouches for a server with TLS.
    pub trust: Trust,
    /// Whether tokens are sent in cleartext to other machines: whoever is on the
    /// way there can take them.
    pub insecure: bool,
    /// What the client shows of itself, to servers that ask for it.
    pub identity: Option<Identity>,
    /// Where the keys are kept by which runtimes with TLS are known, as they were seen
    /// first; `None`: nowhere.
    pub known_runtimes: Option<PathBuf>,
}

/// A certificate of a client with those of its issuers, and its key: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificates, its own first.
    pub certificates: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// Who vouches for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine knows.
    #[default]
    System,
    /// The authorities in this PEM file, and no others. A certificate in it also
    /// vouches for itself.
    Authorities(PathBuf),
    /// Nobody but the first certificate of this PEM file itself, whatever its name
    /// and for however long it is valid: for a server of the same user on the same
    /// machine, whose file it is.
    Certificate(PathBuf),
    /// Nobody but a server whose key has this fingerprint, `sha256:` and 64 lower-case
    /// digits, whatever its certificate says besides.
    Key(String),
}

impl Security {
    /// Whether a credential may be sent there.
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

/// Why a connection did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// It may come about another time.
    Failed(String),
    /// The server is not to be trusted, or does not speak TLS.
    Untrusted(String),
    /// The server does not take the certificate that was shown to it.
    NotTaken(String),
}

impl DialError {
    /// What kept a client from this target.
    pub fn new(target: &Target, error: &io::Error) -> DialError {
        #[cfg(feature = "tls")]
        if let Some(why) = crate::tls::refusal(error) {
            return DialError::Untrusted(format!("{target}: {why}"));
        }
        #[cfg(feature = "tls")]
        if let Some(why) = crate::tls::not_taken(error) {
            return DialError::NotTaken(format!("{target}: {why}"));
        }
        DialError::Failed(format!("{target}: {error}"))
    }
}
