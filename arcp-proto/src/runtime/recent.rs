//! A map that remembers its last look-up. One input looks the same job or session up a dozen times;
//! with ten thousand others in the map each look-up would be a walk through a tree.

use alloc::boxed::Box;
use core::fmt;
use core::ops::{Index, RangeBounds};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::rising::Rising;

/// A map in the order of its keys, which mostly come in that order.
pub(super) struct Recent<K, V> {
    values: Rising<K, Box<V>>,
    /// The place that was looked into last.
    last: AtomicUsize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Recent<K, V> {
        Recent { values: Rising::default(), last: AtomicUsize::new(0) }
    }
}

impl<K: Copy + Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Copy + Ord, V> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match self.values.at(self.last.load(Relaxed)) {
            Some((known, value)) if known == key => Some(value),
            Some(_) | None => self.values.at(self.find(key)?).map(|(_, value)| &**value),
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        self.values.at_mut(place).map(|value| &mut **value)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_some()
    }

    /// Puts a value in; gives the one that it takes the place of.
    pub(super) fn insert(&mut self, key: K, value: impl Into<Box<V>>) -> Option<Box<V>> {
        let before = self.values.insert(key, value.into());
        // Who puts something in goes on with it.
        self.last.store(self.values.last_place(), Relaxed);
        before
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<Box<V>> {
        self.values.remove(key)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.values.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.values_mut().map(|value| &mut **value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.range(..)
    }

    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.values.range(keys).map(|(key, value)| (key, &**value))
    }

    /// The place of a key. That of the last one is known.
    fn place(&self, key: &K) -> Option<usize> {
        let last = self.last.load(Relaxed);
        if self.values.at(last).is_some_and(|(known, _)| known == key) { Some(last) } else { self.find(key) }
    }

    /// The slot of a key, which becomes that of the last look-up.
    fn find(&self, key: &K) -> Option<usize> {
        let place = self.values.place(key)?;
        // No more than a hint: several threads may look at once.
        self.last.store(place, Relaxed);
        Some(place)
    }
}

impl<K: Copy + Ord, V> Index<&K> for Recent<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("whoever indexes knows that it is there")
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_the_same_map_whatever_was_looked_up_before() {
        let (mut recent, mut plain) = (Recent::default(), BTreeMap::new());
        let mut random = 1_u32;
        for step in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (key, what) = (random >> 16 & 15, random >> 8 & 3);
            match what {
                0 => assert_eq!(recent.insert(key, step).map(|before| *before), plain.insert(key, step)),
                1 => assert_eq!(recent.remove(&key).map(|gone| *gone), plain.remove(&key)),
                2 => assert_eq!(recent.get_mut(&key), plain.get_mut(&key)),
                _ => assert_eq!(recent.get(&key), plain.get(&key)),
            }
            assert_eq!(recent.contains_key(&(key ^ 1)), plain.contains_key(&(key ^ 1)));
            assert!(recent.iter().eq(plain.iter()) && recent.len() == plain.len());
            assert!(recent.range(3..9).eq(plain.range(3..9)));
        }
    }
}
