//! What speaks for who a peer is, before it has a session and after.

use alloc::boxed::Box;
use alloc::string::String;
use core::net::IpAddr;

use super::wrong_credentials::Source;
use crate::error::{ErrorCode, Violation};
use crate::model::request::{Credential, Open, Proof};
use crate::principal::Network;
use crate::runtime::io::Verdict;
use crate::time::UtcMs;

/// How many wrong proofs end a connection.
const PROOFS: u8 = 3;

/// The scheme of who is known by a certificate.
const MTLS: &str = "mtls";

/// How the binding of a channel begins whose peer is known by its user on this machine.
const USER: &str = "uid:";

#[derive(Debug, Default)]
pub(in crate::runtime) struct Evidence {
    /// Whom the transport vouches for; mostly nobody.
    pub(super) peer: Option<Box<Verdict>>,
    /// The same, of a peer that has sent a token: it is whom that vouches for.
    pub(super) outvoted: Option<Box<Verdict>>,
    /// Where the peer is.
    pub(super) address: Option<IpAddr>,
    /// What the channel proves by itself.
    pub(super) binding: Option<String>,
    /// The scheme of the credential it opened with, if that is not a bearer
    /// token.
    pub(super) scheme: Option<String>,
    /// The nonce it was challenged with.
    pub(super) nonce: Option<String>,
    /// Proofs that were not accepted.
    pub(super) failures: u8,
}

impl Evidence {
    /// Whom the transport vouches for.
    pub(in crate::runtime) fn peer(&self) -> Option<&Verdict> {
        self.peer.as_deref()
    }

    /// Where the peer comes from.
    pub(in crate::runtime) fn network(&self) -> Option<Network> {
        self.address.map(Network::new)
    }

    /// Whose wrong credentials these are: the network's, else the user's that the
    /// transport knows.
    pub(super) fn source(&self) -> Option<Source> {
        let user = || self.outvoted.as_ref().map(|user| Source::User(user.principal.clone()));
        self.network().map(Source::Network).or_else(user)
    }

    /// What the certificate that was shown is known by.
    fn certificate(&self) -> Option<&str> {
        self.binding.as_deref().filter(|binding| !binding.starts_with(USER))
    }

    /// What a peer says of itself when it opens is held against its certificate. Who
    /// sends a token is whom that vouches for, whatever certificate came before, and
    /// whatever user it is. `asks`: an empty token is the wish to be asked for one.
    ///
    /// # Errors
    ///
    /// If it names another certificate, or wants to be known by one and is not.
    pub(super) fn check_certificate(&mut self, open: &Open, asks: bool) -> Result<(), Violation> {
        let denied = |why| Err(Violation::new(ErrorCode::Unauthenticated, why));
        let is_user = self.binding.is_some() && self.certificate().is_none();
        let (by_certificate, has_token) = match &open.credential {
            Credential::Anonymous => (false, false),
            // A variable that is not set is no reason to be let in as somebody else; who is
            // asked for a token may wait for that.
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

    /// A verdict, if it counts: its credential has not expired, and is bound to
    /// nothing or to this channel.
    pub(in crate::runtime) fn counting(&self, now: UtcMs, verdict: Option<Verdict>) -> Option<Verdict> {
        verdict
            .filter(|verdict| verdict.expires_at.is_none_or(|at| now < at))
            .filter(|verdict| verdict.binding.is_none() || verdict.binding == self.binding)
    }

    /// A proof that comes while a session is open, as a credential with the
    /// challenge that it answers.
    ///
    /// # Errors
    ///
    /// If it is not the answer to what the peer was asked.
    pub(in crate::runtime) fn prove_again(&self, proof: Proof) -> Result<(Credential, Option<String>), Violation> {
        // Only what was asked for is proof of anything.
        if self.nonce.is_some() && proof.nonce.is_some() && proof.nonce != self.nonce {
            return Err(wrong_proof());
        }
        let credential = match self.scheme.clone() {
            Some(scheme) => Credential::Other { scheme, token: proof.response },
            None => Credential::Bearer(proof.response),
        };
        Ok((credential, self.nonce.clone()))
    }

    /// A proof was wrong; gives whether that was the last one.
    pub(in crate::runtime) fn fail(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= PROOFS
    }
}

/// Whether a peer means this fingerprint: the hash may not be named, digits may be in
/// capitals, with colons between bytes.
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

/// That nobody could tell whose a credential is.
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
