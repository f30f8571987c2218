//! Randomness as the core sees it: two seeded streams.
//!
//! Ids and nonces come from the public stream, resume tokens from the secret one, so that ids
//! reveal nothing about tokens. The same seeds and the same inputs draw the same bytes.

use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use crate::time::UtcMs;

/// Seeds for both streams, of 256 bits each, from the operating system.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds {
    /// Seed of ids and nonces.
    pub public: [u8; 32],
    /// Seed of resume tokens and cursor keys.
    pub secret: [u8; 32],
}

impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeds(..)")
    }
}

/// The two streams and the monotonic id generator over the public one.
#[derive(Debug)]
pub(crate) struct Entropy {
    public: ChaCha20Rng,
    secret: ChaCha20Rng,
    last: Ulid,
}

impl Entropy {
    pub(crate) fn new(seeds: &Seeds) -> Entropy {
        Entropy {
            public: ChaCha20Rng::from_seed(seeds.public),
            secret: ChaCha20Rng::from_seed(seeds.secret),
            last: Ulid::nil(),
        }
    }

    /// Mixes fresh seeds in. An attacker has to know both the old state and the new seeds to
    /// predict what comes next.
    pub(crate) fn reseed(&mut self, fresh: &Seeds) {
        self.public = mixed(&mut self.public, &fresh.public);
        self.secret = mixed(&mut self.secret, &fresh.secret);
    }

    /// A new id: its time is `utc`, and each id of a generator is larger than those before.
    pub(crate) fn ulid(&mut self, utc: UtcMs) -> Ulid {
        let fresh = Ulid::from_parts(utc.0, self.random_80());
        let is_later = fresh.timestamp_ms() > self.last.timestamp_ms();
        self.last = if is_later { fresh } else { after(self.last, fresh.random()) };
        self.last
    }

    /// Makes ids from now on larger than this one.
    pub(crate) fn raise(&mut self, id: Ulid) {
        self.last = self.last.max(id);
    }

    /// 256 bits from the secret stream.
    pub(crate) fn secret_256(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.secret.fill_bytes(&mut bytes);
        bytes
    }

    /// A number for jitter and nonces.
    pub(crate) fn public_u64(&mut self) -> u64 {
        self.public.next_u64()
    }

    fn random_80(&mut self) -> u128 {
        u128::from(self.public.next_u64()) << 16 | u128::from(self.public.next_u32() >> 16)
    }
}

/// An id after this one, and far from it. People tell ids apart by their beginnings, but ids of one
/// millisecond would otherwise differ only in their last characters.
fn after(last: Ulid, random: u128) -> Ulid {
    // There is room for sixteen million steps in a millisecond.
    let grown = last.random() + 1 + (random >> 24);
    match grown >> Ulid::RAND_BITS {
        0 => Ulid::from_parts(last.timestamp_ms(), grown),
        _ => Ulid::from_parts(last.timestamp_ms() + 1, random),
    }
}

fn mixed(old: &mut ChaCha20Rng, fresh: &[u8; 32]) -> ChaCha20Rng {
    let mut drawn = [0; 32];
    old.fill_bytes(&mut drawn);
    let seed: [u8; 32] = Sha256::new().chain_update(drawn).chain_update(fresh).finalize().into();
    ChaCha20Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::string::{String, ToString as _};
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn ids_of_one_millisecond_grow_and_none_begins_as_another() {
        let mut entropy = Entropy::new(&Seeds { public: [1; 32], secret: [2; 32] });
        let ids: Vec<String> = (0..2000).map(|_| entropy.ulid(UtcMs(5)).to_string()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        let beginnings: BTreeSet<&str> = ids.iter().map(|id| &id[..id.len() - 3]).collect();
        assert_eq!(beginnings.len(), ids.len(), "how an id begins names it");
    }

    #[test]
    fn ids_grow_though_a_millisecond_is_full() {
        let last = Ulid::from_parts(5, (1 << Ulid::RAND_BITS) - 1);
        assert!(after(last, 7) > last && after(last, 7).timestamp_ms() == 6);
        assert!(after(Ulid::from_parts(5, 0), 0) > Ulid::from_parts(5, 0));
    }
}
