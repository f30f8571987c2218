//! A map whose keys mostly come in their order, as ids do: what comes is put at its end, without a walk
//! through what is there.

use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

/// So many places may be empty, however few are not.
const SPARE: usize = 4;

/// A map in the order of its keys.
#[derive(Debug)]
pub(super) struct Rising<K, V> {
    /// From `first` on in their order; `None` where one was taken out, but never in the first or the last place.
    places: Vec<(K, Option<V>)>,
    first: usize,
    /// How many were taken out, those before the first among them.
    gone: usize,
}

impl<K, V> Default for Rising<K, V> {
    fn default() -> Rising<K, V> {
        Rising { places: Vec::new(), first: 0, gone: 0 }
    }
}

impl<K: Copy + Ord, V> Rising<K, V> {
    /// Puts a value in; gives the one that it takes the place of.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let at = match self.places.last() {
            Some((last, _)) if *last >= key => self.place_from(|known| *known >= key),
            Some(_) | None => self.places.len(),
        };
        match self.places.get_mut(at) {
            Some((known, before)) if *known == key => {
                let before = before.replace(value);
                self.gone -= usize::from(before.is_none());
                before
            }
            Some(_) | None => {
                self.places.insert(at, (key, Some(value)));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key)?;
        let value = self.places[place].1.take();
        self.gone += 1;
        while self.places.get(self.first).is_some_and(|(_, value)| value.is_none()) {
            self.first += 1;
        }
        if self.gone > self.len() + SPARE || self.is_empty() {
            self.places.retain(|(_, value)| value.is_some());
            (self.first, self.gone) = (0, 0);
        }
        while self.places.last().is_some_and(|(_, value)| value.is_none()) {
            self.places.pop();
            self.gone -= 1;
        }
        if self.places.capacity() > 4 * self.places.len() + SPARE {
            // Once there were many, perhaps.
            self.places.shrink_to(2 * self.places.len());
        }
        value
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.at(self.place(key)?).map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.gone
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn first(&self) -> Option<(&K, &V)> {
        self.at(self.first)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.range(..).map(|(key, _)| key)
    }

    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        let from = match keys.start_bound() {
            Bound::Included(first) => self.place_from(|key| key >= first),
            Bound::Excluded(before) => self.place_from(|key| key > before),
            Bound::Unbounded => self.first,
        };
        let to = match keys.end_bound() {
            Bound::Included(last) => self.place_from(|key| key > last),
            Bound::Excluded(behind) => self.place_from(|key| key >= behind),
            Bound::Unbounded => self.places.len(),
        };
        self.places[from..to.max(from)].iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.places.iter_mut().filter_map(|(_, value)| value.as_mut())
    }

    /// Where a key stands, until something is put in or taken out.
    pub(super) fn place(&self, key: &K) -> Option<usize> {
        let at = self.place_from(|known| known >= key);
        self.at(at).filter(|(known, _)| *known == key).map(|_| at)
    }

    /// Where what came last stands, if that was the greatest.
    pub(super) fn last_place(&self) -> usize {
        self.places.len().saturating_sub(1)
    }

    pub(super) fn at(&self, place: usize) -> Option<(&K, &V)> {
        let (key, value) = self.places.get(place)?;
        Some((key, value.as_ref()?))
    }

    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut V> {
        self.places.get_mut(place)?.1.as_mut()
    }

    /// The first place whose key is one of those that are this far on.
    fn place_from(&self, is_on: impl Fn(&K) -> bool) -> usize {
        self.first + self.places[self.first..].partition_point(|(key, _)| !is_on(key))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_map_whatever_comes_and_goes_in_whatever_order() {
        let (mut rising, mut plain) = (Rising::default(), BTreeMap::new());
        let mut random = 1_u32;
        for step in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Keys that rise, and those around them.
            let (key, what) = (step / 16 + (random >> 16 & 127), random >> 8 & 7);
            match what {
                0..4 => assert_eq!(rising.insert(key, step), plain.insert(key, step)),
                4..7 => assert_eq!(rising.remove(&key), plain.remove(&key)),
                _ => assert_eq!(rising.remove(&(step / 16)), plain.remove(&(step / 16))),
            }
            assert_eq!((rising.len(), rising.is_empty()), (plain.len(), plain.is_empty()));
            assert_eq!((rising.get(&key), rising.first()), (plain.get(&key), plain.first_key_value()));
            assert!(rising.places.len() <= 2 * plain.len() + SPARE, "what is gone takes no more than what is there");
        }
        let bounds = [Bound::Unbounded, Bound::Included(1270), Bound::Excluded(1270)];
        for (from, to) in bounds.into_iter().flat_map(|from| bounds.map(|to| (from, to))) {
            let is_range = (from, to) != (Bound::Excluded(1270), Bound::Excluded(1270));
            assert!(!is_range || rising.range((from, to)).eq(plain.range((from, to))), "{from:?}, {to:?}");
        }
        plain.keys().for_each(|key| assert!(rising.remove(key).is_some()));
        assert!(rising.is_empty() && rising.places.capacity() <= SPARE, "it holds nothing for those that were there");
    }

    #[test]
    fn what_it_held_for_some_it_holds_no_more_without_them() {
        for many in 1..200 {
            let mut rising = Rising::default();
            (0..many).for_each(|key| assert_eq!(rising.insert(key, key), None));
            (1..many).for_each(|key| assert_eq!(rising.remove(&key), Some(key)));
            assert!(rising.places.capacity() <= 8, "{many}: {} places for one", rising.places.capacity());
            rising.remove(&0);
            assert!(rising.places.capacity() <= 4, "{many}: {} places for none", rising.places.capacity());
        }
    }
}
