//! A map that remembers its last look-up. One input looks the same job or session up a dozen times;
//! with ten thousand others in the map each look-up would be a walk through a tree.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Index, RangeBounds};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A map in the order of its keys.
pub(super) struct Recent<K, V> {
    /// The slot of each key.
    places: BTreeMap<K, usize>,
    slots: Vec<Option<Box<(K, V)>>>,
    free: Vec<usize>,
    /// The slot of the last look-up.
    last: AtomicUsize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Recent<K, V> {
        Recent { places: BTreeMap::new(), slots: Vec::new(), free: Vec::new(), last: AtomicUsize::new(0) }
    }
}

impl<K: Copy + Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Copy + Ord, V> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match self.at(self.last.load(Relaxed)) {
            Some((known, value)) if known == key => Some(value),
            Some(_) | None => self.at(self.find(key)?).map(|(_, value)| value),
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        self.slots.get_mut(place)?.as_deref_mut().map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_some()
    }

    /// Puts a value in; returns the one that it replaces.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let entry = Some(Box::new((key, value)));
        let place = match self.places.entry(key) {
            Entry::Occupied(known) => {
                return core::mem::replace(&mut self.slots[*known.get()], entry).map(|before| before.1);
            }
            Entry::Vacant(new) => *new.insert(self.free.pop().unwrap_or(self.slots.len())),
        };
        match self.slots.get_mut(place) {
            Some(free) => *free = entry,
            None => self.slots.push(entry),
        }
        // The next look-up is likely to be for this key.
        self.last.store(place, Relaxed);
        None
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.places.remove(key)?;
        let gone = self.slots[place].take().map(|gone| gone.1);
        self.free.push(place);
        if self.places.is_empty() {
            // Frees the slots: there may have been many.
            *self = Recent::default();
        }
        gone
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.places.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, in no particular order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().flatten().map(|entry| &mut entry.1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.range(..)
    }

    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.places.range(keys).filter_map(|(key, place)| Some((key, &self.at(*place)?.1)))
    }

    /// The slot of a key, without a walk if it is that of the last look-up.
    fn place(&self, key: &K) -> Option<usize> {
        let last = self.last.load(Relaxed);
        if self.at(last).is_some_and(|(known, _)| known == key) { Some(last) } else { self.find(key) }
    }

    /// The slot of a key, which becomes that of the last look-up.
    fn find(&self, key: &K) -> Option<usize> {
        let place = *self.places.get(key)?;
        // Only a hint: several threads may read at once.
        self.last.store(place, Relaxed);
        Some(place)
    }

    fn at(&self, place: usize) -> Option<&(K, V)> {
        self.slots.get(place)?.as_deref()
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
    use super::*;

    #[test]
    fn it_is_the_same_map_whatever_was_looked_up_before() {
        let (mut recent, mut plain) = (Recent::default(), BTreeMap::new());
        let mut random = 1_u32;
        for step in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (key, what) = (random >> 16 & 15, random >> 8 & 3);
            match what {
                0 => assert_eq!(recent.insert(key, step), plain.insert(key, step)),
                1 => assert_eq!(recent.remove(&key), plain.remove(&key)),
                2 => assert_eq!(recent.get_mut(&key), plain.get_mut(&key)),
                _ => assert_eq!(recent.get(&key), plain.get(&key)),
            }
            assert_eq!(recent.contains_key(&(key ^ 1)), plain.contains_key(&(key ^ 1)));
            assert!(recent.iter().eq(plain.iter()) && recent.len() == plain.len());
            assert!(recent.range(3..9).eq(plain.range(3..9)));
        }
        assert!(recent.slots.len() <= 16, "slots are used again");
    }
}
