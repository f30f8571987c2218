//! Wrong credentials: a source that has sent too many must wait.
//!
//! For each source one time is kept. Each wrong credential moves it forward by the interval at
//! which one more is allowed, and a source whose time is too far ahead of now is not judged. So a
//! source needs the same memory however much it sends.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::net::IpAddr;
use core::time::Duration;

use crate::error::{BoundOf, Violation};
use crate::id::Principal;
use crate::principal::Network;
use crate::runtime::config::Config;
use crate::secret::SecretDigest;
use crate::time::Timestamp;

/// The time in which as many wrong credentials are allowed as the bound says.
const WINDOW: Duration = Duration::from_secs(60);

/// Where a wrong credential came from, or the principal of the session that it was for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runtime) enum Source {
    Network(Network),
    /// A user of this machine, by its principal from the transport.
    User(Principal),
    Principal(Principal),
}

impl Source {
    /// The network of an address.
    pub(in crate::runtime) fn of(address: IpAddr) -> Source {
        Source::Network(Network::new(address))
    }
}

#[derive(Debug, Default)]
pub(super) struct WrongCredentials {
    by_source: BTreeMap<Source, Timestamp>,
    /// The same, in the order in which they are forgotten.
    in_order: BTreeSet<(Timestamp, Source)>,
    /// Credentials that were right. They are always judged, so that no peer can lock out others of
    /// its network.
    right: BTreeSet<SecretDigest>,
    right_in_order: VecDeque<SecretDigest>,
}

impl WrongCredentials {
    /// Whether a credential of these sources may be judged now.
    ///
    /// # Errors
    ///
    /// If not: when to try again.
    pub(super) fn check(
        &self,
        (config, now): (&Config, Timestamp),
        sources: &[Source],
        credential: SecretDigest,
    ) -> Result<(), Violation> {
        if self.right.contains(&credential) {
            return Ok(());
        }
        let ahead = sources.iter().filter_map(|source| {
            let wait = (*self.by_source.get(source)? + each(config)).since(now + WINDOW);
            (wait > Duration::ZERO).then_some((wait, source))
        });
        let Some((wait, source)) = ahead.max() else {
            return Ok(());
        };
        let most = config.limits.connection.wrong_credentials;
        let (of, whose) = match source {
            Source::Network(_) => (BoundOf::Network, "from your network"),
            Source::User(_) => (BoundOf::Principal, "from your user"),
            Source::Principal(_) => (BoundOf::Principal, "for your principal"),
        };
        let seconds = wait.as_secs() + 1;
        let why = alloc::format!("too many wrong credentials came {whose}: try again in {seconds} s");
        Err(Violation::exhausted_for(wait, "wrong_credentials", of, most as u64, why))
    }

    /// Notes a wrong credential of these sources.
    pub(super) fn note_wrong(
        &mut self,
        (config, now): (&Config, Timestamp),
        sources: &[Source],
        credential: SecretDigest,
    ) {
        // It may have been right before.
        if self.right.remove(&credential) {
            self.right_in_order.retain(|other| *other != credential);
        }
        while self.in_order.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        for source in sources {
            let before = self.by_source.remove(source);
            if let Some(before) = before {
                self.in_order.remove(&(before, source.clone()));
            }
            // Many may be judged at once; still no source waits longer than one interval.
            let until = (before.map_or(now, |before| before.max(now)) + each(config)).min(now + WINDOW);
            self.by_source.insert(source.clone(), until);
            self.in_order.insert((until, source.clone()));
        }
        while self.by_source.len() > config.limits.connection.wrong_credential_sources {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, source)) = self.in_order.pop_first() {
            self.by_source.remove(&source);
        }
    }

    /// Notes a right credential.
    pub(super) fn note_right(&mut self, config: &Config, credential: SecretDigest) {
        if self.right.insert(credential) {
            self.right_in_order.push_back(credential);
        }
        while self.right.len() > config.limits.connection.wrong_credential_sources
            && let Some(oldest) = self.right_in_order.pop_front()
        {
            self.right.remove(&oldest);
        }
    }
}

/// The interval at which one more wrong credential is allowed.
fn each(config: &Config) -> Duration {
    WINDOW / u32::try_from(config.limits.connection.wrong_credentials).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_wrong_credentials_were_judged_at_once_one_more_is_soon_judged() {
        let (config, now) = (Config::new("t", "1"), Timestamp::default() + WINDOW);
        let source = [Source::of(IpAddr::from([203, 0, 113, 7]))];
        let digest = |n: usize| crate::secret::Secret::new(alloc::format!("guess {n}")).digest();
        let mut wrong = WrongCredentials::default();
        for n in 0..20 * config.limits.connection.wrong_credentials {
            wrong.note_wrong((&config, now), &source, digest(n));
        }
        assert!(wrong.check((&config, now), &source, digest(0)).is_err());
        assert!(wrong.check((&config, now + each(&config)), &source, digest(0)).is_ok());
        // A credential that was right is always judged.
        wrong.note_right(&config, digest(1));
        assert!(wrong.check((&config, now), &source, digest(1)).is_ok());
    }
}
