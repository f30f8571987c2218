//! The evidence for a peer's principal, before it has a session and after.

use alloc::boxed::Box;
use alloc::string::String;
use core::net::IpAddr;

use super::wrong_credentials::Source;
use crate::error::{ErrorCode, Violation};
use crate::model::request::{Credential, Open, Proof};
use crate::principal::Network;
use crate::runtime::io::Verdict;
use crate::time::UtcMs;

/// The number of wrong proofs that closes a connection.
const PROOFS: u8 = 3;

/// The scheme of a peer that is authenticated by its certificate.
const MTLS: &str = "mtls";

/// The prefix of the binding of a channel whose peer is a known user of this machine.
const USER: &str = "uid:";

#[derive(Debug, Default)]
pub(in crate::runtime) struct Evidence {
    /// The principal that the transport vouches for; usually none.
    pub(super) peer: Option<Box<Verdict>>,
    /// The same, for a peer that has sent a token: the token decides.
    pub(super) outvoted: Option<Box<Verdict>>,
    /// The address of the peer.
    pub(super) address: Option<IpAddr>,
    /// What the channel itself proves.
    pub(super) binding: Option<String>,
    /// The scheme of the credential that opened it, unless it is a bearer token.
    pub(super) scheme: Option<String>,
    /// The nonce of its challenge.
    pub(super) nonce: Option<String>,
    /// Number of proofs that were wrong.
    pub(super) failures: u8,
}

impl Evidence {
    /// The verdict of the transport.
    pub(in crate::runtime) fn peer(&self) -> Option<&Verdict> {
        self.peer.as_deref()
    }

    /// The network of the peer.
    pub(in crate::runtime) fn network(&self) -> Option<Network> {
        self.address.map(Network::new)
    }

    /// Whom wrong credentials count against: the network, or else the user that the transport
    /// knows.
    pub(super) fn source(&self) -> Option<Source> {
        let user = || self.outvoted.as_ref().map(|user| Source::User(user.principal.clone()));
        self.network().map(Source::Network).or_else(user)
    }

    /// The fingerprint of the certificate that was shown.
    fn certificate(&self) -> Option<&str> {
        self.binding.as_deref().filter(|binding| !binding.starts_with(USER))
    }

    /// Compares what a peer says of itself when it opens with its certificate. A token decides the
    /// principal of a peer that sends one, whatever its certificate or user. `asks`: an empty token
    /// is a request for a challenge.
    ///
    /// # Errors
    ///
    /// If it names another certificate, or wants to be authenticated by one and cannot.
    pub(super) fn check_certificate(&mut self, open: &Open, asks: bool) -> Result<(), Violation> {
        let denied = |why| Err(Violation::new(ErrorCode::Unauthenticated, why));
        let is_user = self.binding.is_some() && self.certificate().is_none();
        let (by_certificate, has_token) = match &open.credential {
            Credential::Anonymous => (false, false),
            // An empty token, such as from an unset variable, must not let the peer in as the user
            // that the transport knows. A peer that asks for a challenge may send its token later.
            Credential::Bearer(token) => (false, is_user && !asks || !token.expose().is_empty()),
            Credential::Other { scheme, token } => (scheme == MTLS, !token.expose().is_empty() && scheme != MTLS),
        };
        if by_certificate && (self.peer.is_none() || is_user) {
            return denied(match self.certificate() {
                None => {
                    "`mtls`: no client certificate was shown when this connection was made: connect over TLS with one \
                     that this runtime knows, or bring another credential"
                }
                Some(_) => {
                    "`mtls`: the client certificate that was shown when this connection was made names nobody who is \
                     known here: have the operator name its holder, show another one, or bring another credential"
                }
            });
        }
        let names_other = |said: &String| self.certificate().is_none_or(|shown| !is_fingerprint(said, shown));
        if (by_certificate || self.certificate().is_some()) && open.fingerprint.as_ref().is_some_and(names_other) {
            return denied("`fingerprint` is not that of the certificate that was shown when this connection was made");
        }
        if has_token && self.binding.is_some() {
            self.outvoted = self.peer.take();
        }
        Ok(())
    }

    /// The verdict, if it counts: the credential has not expired, and is bound to nothing or to
    /// this channel.
    pub(in crate::runtime) fn counting(&self, now: UtcMs, verdict: Option<Verdict>) -> Option<Verdict> {
        verdict
            .filter(|verdict| verdict.expires_at.is_none_or(|at| now < at))
            .filter(|verdict| verdict.binding.is_none() || verdict.binding == self.binding)
    }

    /// The credential and the nonce of a proof that is sent in an open session.
    ///
    /// # Errors
    ///
    /// If it does not answer the peer's challenge.
    pub(in crate::runtime) fn prove_again(&self, proof: Proof) -> Result<(Credential, Option<String>), Violation> {
        // Only the answer to our own nonce proves anything.
        if self.nonce.is_some() && proof.nonce.is_some() && proof.nonce != self.nonce {
            return Err(wrong_proof());
        }
        let credential = match self.scheme.clone() {
            Some(scheme) => Credential::Other { scheme, token: proof.response },
            None => Credential::Bearer(proof.response),
        };
        Ok((credential, self.nonce.clone()))
    }

    /// Counts a wrong proof; returns whether it was the last one allowed.
    pub(in crate::runtime) fn fail(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= PROOFS
    }
}

/// Whether what a peer says is this fingerprint: it may leave the hash's name out, use capitals,
/// and put colons between bytes.
fn is_fingerprint(said: &str, bound: &str) -> bool {
    let plain = |text: &str| -> String {
        let text = text.to_ascii_lowercase();
        text.strip_prefix("sha256:").unwrap_or(&text).replace(':', "")
    };
    plain(said) == plain(bound)
}

pub(in crate::runtime) fn wrong_proof() -> Violation {
    Violation::new(ErrorCode::Unauthenticated, "the proof was not accepted")
}

/// The violation when a credential cannot be judged at present.
pub(in crate::runtime) fn not_judged() -> Violation {
    Violation::new(ErrorCode::Unavailable, "nobody can tell now whose the credential is: try again later")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use crate::id::Principal;

    use super::*;

    #[test]
    fn a_bound_credential_counts_on_the_channel_that_it_is_bound_to_only() {
        let alice = Principal::new("alice").expect("a name");
        let bound = |binding: Option<&str>| Verdict {
            binding: binding.map(ToString::to_string),
            ..Verdict::from(alice.clone())
        };
        for (of_channel, of_credential, counts) in [
            (None, None, true),
            (Some("sha256:1"), None, true),
            (Some("sha256:1"), Some("sha256:1"), true),
            (Some("sha256:2"), Some("sha256:1"), false),
            (None, Some("sha256:1"), false),
        ] {
            let evidence = Evidence { binding: of_channel.map(ToString::to_string), ..Evidence::default() };
            let verdict = evidence.counting(UtcMs(0), Some(bound(of_credential)));
            assert_eq!(verdict.is_some(), counts, "{of_channel:?} {of_credential:?}");
        }
    }
}
