//! A set that usually has one member or none, and then needs no allocation. Larger sets should be
//! trees.

use alloc::vec::Vec;
use core::iter::Chain;
use core::{option, slice};

/// An ordered set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Few<T> {
    /// The least member.
    first: Option<T>,
    others: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few { first: None, others: Vec::new() }
    }
}

impl<T: Ord> Few<T> {
    /// A set with one member.
    pub(super) fn of(one: T) -> Few<T> {
        Few { first: Some(one), others: Vec::new() }
    }

    /// Adds a member; false if it is in the set already.
    pub(super) fn insert(&mut self, new: T) -> bool {
        match &mut self.first {
            None => self.first = Some(new),
            Some(first) if *first == new => return false,
            Some(first) if new < *first => self.others.insert(0, core::mem::replace(first, new)),
            Some(_) => match self.others.binary_search(&new) {
                Ok(_) => return false,
                Err(place) => self.others.insert(place, new),
            },
        }
        true
    }

    /// Removes a member; false if it is not in the set.
    pub(super) fn remove(&mut self, gone: &T) -> bool {
        if self.first.as_ref() == Some(gone) {
            self.first = if self.others.is_empty() { None } else { Some(self.others.remove(0)) };
            return true;
        }
        self.others.binary_search(gone).map(|place| drop(self.others.remove(place))).is_ok()
    }

    pub(super) fn contains(&self, wanted: &T) -> bool {
        self.first.as_ref() == Some(wanted) || self.others.binary_search(wanted).is_ok()
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        let goes = self.first.take_if(|first| !keeps(first)).is_some();
        self.others.retain(keeps);
        if goes && !self.others.is_empty() {
            self.first = Some(self.others.remove(0));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        self.first.iter().chain(&self.others)
    }
}

type Iter<'a, T> = Chain<option::Iter<'a, T>, slice::Iter<'a, T>>;

impl<'a, T: Ord> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
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
