//! Shares: how much one principal may hold of what everybody needs.
//!
//! Of what the others leave it may hold
//! [`principal_share`](crate::limits::Limits::principal_share) percent, but one
//! in any case; and the last one only if it holds none. So whoever comes next
//! finds something, however much those before it asked for.

use crate::error::{BoundOf, Violation};

/// How much there is of something, and who holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// What the principal holds.
    pub(crate) own: usize,
    /// What everybody holds, the principal included.
    pub(crate) all: usize,
    /// What there is.
    pub(crate) total: usize,
}

/// What somebody would go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Its share of it.
    Share,
    /// All there is.
    All,
}

impl Held {
    /// What the principal may hold altogether.
    pub(crate) fn share(self, percent: u32) -> usize {
        let left = self.total.saturating_sub(self.all - self.own) as u64;
        usize::try_from(left * u64::from(percent) / 100).unwrap_or(usize::MAX).max(1)
    }

    /// Whether the principal may have so much more.
    ///
    /// # Errors
    ///
    /// What is reached.
    pub(crate) fn check(self, more: usize, percent: u32) -> Result<(), Beyond> {
        let free = self.total.saturating_sub(self.all);
        if more > free {
            return Err(Beyond::All);
        }
        let beyond = self.own.saturating_add(more) > self.share(percent) || more == free;
        if percent < 100 && self.own > 0 && beyond { Err(Beyond::Share) } else { Ok(()) }
    }

    /// As [`check`](Self::check), as a refusal that names the bound; `own` is
    /// whose the share is.
    pub(crate) fn admit(
        self,
        more: usize,
        percent: u32,
        own: BoundOf,
        bound: &'static str,
        what: &str,
    ) -> Result<(), Violation> {
        self.check(more, percent).map_err(|beyond| {
            let (of, limit, message) = match beyond {
                Beyond::Share => {
                    let message = alloc::format!("{what} have reached your share, which leaves room for others");
                    (own, self.share(percent), message)
                }
                Beyond::All => {
                    let message = alloc::format!("{what} of everybody have reached the bound of this runtime");
                    (BoundOf::Runtime, self.total, message)
                }
            };
            let message = alloc::format!("{message}: submit again when some have ended");
            Violation::exhausted(bound, of, limit as u64, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most_of(total: usize, others: usize) -> usize {
        let fits = |own: &usize| Held { own: *own, all: others + own, total }.check(1, 25).is_ok();
        (0..).take_while(fits).count()
    }

    #[test]
    fn a_share_is_a_quarter_of_what_the_others_leave() {
        assert_eq!([0, 64, 112].map(|others| most_of(256, others)), [64, 48, 36]);
        let mut others = 0;
        for _ in 0..10 {
            others += most_of(256, others);
        }
        assert!(others < 256, "ten who take all they may leave something: {others}");
    }

    #[test]
    fn the_last_one_is_for_who_has_none() {
        assert_eq!([1, 2, 3].map(|total| most_of(total, 0)), [1, 1, 1]);
        assert_eq!((most_of(8, 7), most_of(8, 8)), (1, 0));
        let all_of_it = Held { own: 7, all: 7, total: 8 };
        assert_eq!((all_of_it.check(1, 100), all_of_it.check(1, 99)), (Ok(()), Err(Beyond::Share)));
    }
}
