//! What speaks for who a peer is, before it has a session and after.

use alloc::string::String;
use core::net::IpAddr;

use crate::error::{ErrorCode, Violation};
use crate::id::Principal;
use crate::model::request::{Credential, Proof};
use crate::principal::Network;
use crate::runtime::io::Verdict;
use crate::time::UtcMs;

/// How many wrong proofs end a connection.
const PROOFS: u8 = 3;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Evidence {
    /// Whom the transport vouches for.
    pub(super) peer: Option<Principal>,
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
    pub(in crate::runtime) fn peer(&self) -> Option<&Principal> {
        self.peer.as_ref()
    }

    /// Where the peer comes from.
    pub(in crate::runtime) fn network(&self) -> Option<Network> {
        self.address.map(Network::new)
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

pub(in crate::runtime) fn wrong_proof() -> Violation {
    Violation::new(ErrorCode::Unauthenticated, "the proof was not accepted")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

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
