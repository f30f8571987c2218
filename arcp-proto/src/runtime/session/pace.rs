//! How fast each account submits jobs.
//!
//! Each account has a moment up to which its rate is used up. It outlives sessions, so that a new session gives no
//! new allowance, and is forgotten once it has passed.

use alloc::collections::BTreeMap;
use core::num::NonZeroU32;
use core::time::Duration;

use crate::error::Violation;
use crate::policy::Subject;
use crate::principal::Account;
use crate::runtime::context::Context;
use crate::time::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
/// The table is searched for accounts to forget when it has this many, at the least.
const FEWEST: usize = 64;

/// The submits of each account as one moment, which every submit moves on by the interval between two submits. It
/// is at most one second ahead, so the table holds no more accounts than submit within two seconds.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Pace {
    submitted: BTreeMap<Account, Timestamp>,
    /// The size of the table at which passed moments are forgotten.
    most: usize,
}

impl Pace {
    /// Whether the principal of a session may submit one more job.
    ///
    /// # Errors
    ///
    /// If it may not; says when to try again.
    pub(in crate::runtime) fn check_submits(&self, ctx: &Context, who: Subject<'_>) -> Result<(), Violation> {
        let Some((most, bound)) = submit_rate(ctx, who) else {
            return Ok(());
        };
        let account = who.principal.account();
        let submitted = self.submitted.get(&account).copied().unwrap_or_default();
        let wait = (submitted + SECOND / most.get()).since(ctx.now.mono + SECOND);
        if wait.is_zero() {
            return Ok(());
        }
        // One millisecond more, so that a client that waits for whole milliseconds waits long enough.
        let wait = wait + Duration::from_millis(1);
        let why = alloc::format!("{most} jobs a second may be submitted here: try again in {} ms", wait.as_millis());
        Err(Violation::exhausted_for(wait, bound, account.bound_of(), most.get().into(), why))
    }

    /// A job was submitted, or credentials were ordered for one.
    pub(in crate::runtime) fn note_submit(&mut self, ctx: &Context, who: Subject<'_>) {
        let Some((most, _)) = submit_rate(ctx, who) else {
            return; // There is no bound on the rate.
        };
        let (account, now) = (who.principal.account(), ctx.now.mono);
        if self.submitted.len() >= self.most && !self.submitted.contains_key(&account) {
            self.submitted.retain(|_, submitted| *submitted > now);
            self.most = FEWEST.max(2 * self.submitted.len());
        }
        let submitted = self.submitted.entry(account).or_default();
        *submitted = (*submitted).max(now) + SECOND / most.get();
    }
}

/// How many jobs a subject may submit in a second, and the bound that says so: the lower of those of the runtime
/// and of policy.
fn submit_rate(ctx: &Context, who: Subject<'_>) -> Option<(NonZeroU32, &'static str)> {
    let of_all = ctx.config.limits.session.submits_per_second.map(|most| (most, "submits_per_second"));
    let policy = ctx.config.authority.policy.as_ref();
    let own = policy.and_then(|policy| policy.submits_per_second(who));
    of_all.into_iter().chain(own.map(|quota| (quota.most, "policy_submits_per_second"))).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Seeds;
    use crate::id::Principal;
    use crate::policy::Roles;
    use crate::runtime::Config;
    use crate::time::Now;

    #[test]
    fn who_owes_nothing_any_more_is_let_go() {
        let mut config = Config::new("t", "1");
        config.limits.session.submits_per_second = NonZeroU32::new(10);
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut ctx = Context::new(config, &seeds, Now::default()).expect("it works");
        let (mut pace, roles) = (Pace::default(), Roles::default());
        for n in 0..20 * FEWEST {
            let principal = Principal::new(&alloc::format!("p{n}")).expect("a name");
            pace.note_submit(&ctx, Subject { principal: &principal, roles: &roles });
            ctx.now.mono = ctx.now.mono + Duration::from_millis(10);
        }
        assert!(pace.submitted.len() <= 2 * FEWEST, "{}", pace.submitted.len());
    }

    #[test]
    fn as_many_as_the_rate_says_may_come_at_once_and_one_more_whenever_its_time_is_over() {
        for rate in [1, 4, 10] {
            let mut config = Config::new("t", "1");
            config.limits.session.submits_per_second = NonZeroU32::new(rate);
            let seeds = Seeds { public: [1; 32], secret: [2; 32] };
            let begun = Now { mono: Timestamp(10_000_000), ..Now::default() };
            let mut ctx = Context::new(config, &seeds, begun).expect("it works");
            let (mut pace, roles) = (Pace::default(), Roles::default());
            let [principal, other] = ["p", "q"].map(|name| Principal::new(name).expect("a name"));
            let who = Subject { principal: &principal, roles: &roles };
            for n in 0..rate {
                assert!(pace.check_submits(&ctx, who).is_ok(), "{n} of {rate}");
                pace.note_submit(&ctx, who);
            }
            let step = SECOND / rate;
            for n in 1..=2 * rate {
                let refused = pace.check_submits(&ctx, who).expect_err("it has used its allowance");
                let wait = step + Duration::from_millis(1);
                let said = alloc::format!("try again in {} ms", wait.as_millis());
                assert!(refused.message.ends_with(&said), "{}", refused.message);
                assert!(pace.check_submits(&ctx, Subject { principal: &other, roles: &roles }).is_ok());
                ctx.now.mono = begun.mono + (step * n - Duration::from_micros(1));
                assert!(pace.check_submits(&ctx, who).is_err(), "before {n} of {rate}");
                ctx.now.mono = begun.mono + step * n;
                assert!(pace.check_submits(&ctx, who).is_ok(), "after {n} of {rate}");
                pace.note_submit(&ctx, who);
            }
        }
    }
}
