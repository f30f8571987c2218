//! A set of what is mostly one thing or none: a list in order, which takes no more room
//! than that. What may be many is a tree.

use alloc::vec::Vec;
use core::slice::Iter;

/// A set in the order of what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<T: Ord> Few<T> {
    /// The set of one thing.
    pub(super) fn of(one: T) -> Few<T> {
        let mut few = Few::default();
        few.insert(one);
        few
    }

    /// Puts something in; false if it is there.
    pub(super) fn insert(&mut self, new: T) -> bool {
        let Err(place) = self.0.binary_search(&new) else {
            return false;
        };
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.insert(place, new);
        true
    }

    /// Takes something out; false if it is not there.
    pub(super) fn remove(&mut self, gone: &T) -> bool {
        self.0.binary_search(gone).map(|place| drop(self.0.remove(place))).is_ok()
    }

    pub(super) fn contains(&self, wanted: &T) -> bool {
        self.0.binary_search(wanted).is_ok()
    }

    pub(super) fn retain(&mut self, keeps: impl FnMut(&T) -> bool) {
        self.0.retain(keeps);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_a_set() {
        let (mut few, mut plain) = (Few::default(), BTreeSet::new());
        let mut random = 1_u32;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = random >> 16 & 7;
            match random >> 8 & 7 {
                0..=2 => assert_eq!(few.insert(value), plain.insert(value)),
                3..=5 => assert_eq!(few.remove(&value), plain.remove(&value)),
                6 => assert_eq!(few.contains(&value), plain.contains(&value)),
                _ => {
                    few.retain(|one| *one != value);
                    plain.retain(|one| *one != value);
                }
            }
            assert!(few.iter().eq(&plain) && few.is_empty() == plain.is_empty());
        }
    }
}
