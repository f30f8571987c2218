//! What most do not have: it takes a word until there is something of it.

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};

/// What there is nothing of.
pub(super) trait Empty: Default + 'static {
    const EMPTY: &'static Self;
}

/// Something in a place of its own, once it is changed.
#[derive(Debug)]
pub(super) struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Rare<T> {
        Rare(None)
    }
}

impl<T> Rare<T> {
    /// What there is, if it was ever changed.
    pub(super) fn known(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The same, to be changed.
    pub(super) fn known_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Takes out what there is, if it was ever changed.
    pub(super) fn take_out(&mut self) -> Option<Box<T>> {
        self.0.take()
    }
}

impl<T: Empty> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.known().unwrap_or(T::EMPTY)
    }
}

impl<T: Empty> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
