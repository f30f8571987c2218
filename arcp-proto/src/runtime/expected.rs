//! Look-ups that cannot fail say why.
//!
//! In the rooms a `let Some(..) = .. else { return }` says one of two things: that what is
//! looked for is [`Expected`], or, behind `return;`, how it can be missing.

/// What is always there.
pub(super) trait Expected {
    /// Says why there is always something. Where that is wrong, a test fails, and
    /// a host goes on without.
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
