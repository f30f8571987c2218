//! Look-ups that cannot fail, with the reason.
//!
//! In the rooms a `let Some(..) = .. else { return }` has one of two forms: either the value is
//! [`Expected`], or a comment behind `return;` says how it can be missing.

/// A look-up that always finds something.
pub(super) trait Expected {
    /// Says why the look-up always finds something. If it does not, a test fails, and a host goes
    /// on without.
    #[must_use]
    fn expected(self, because: &str) -> Self;
}

impl<T> Expected for Option<T> {
    #[track_caller]
    fn expected(self, because: &str) -> Option<T> {
        debug_assert!(self.is_some(), "missing, though {because}");
        self
    }
}
