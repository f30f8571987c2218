//! Tokens of jobs: whoever has one, and is the principal of the job, is in any session what
//! the one is that submitted it.
//!
//! Only their digests are kept. They are as the job is: forgotten with it, of no use once
//! its retention is over, and void once it is somebody else's.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{JobId, Principal};
use crate::model::job_token::JobToken;
use crate::principal::Account;
use crate::runtime::account::{Charge, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::Record;
use crate::runtime::token_records::TokenRecord;

/// Bytes that tables hold for a job that has some, roughly.
const ENTRY: usize = 128;

/// The tokens of all jobs.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Tokens(BTreeMap<JobId, OfJob>);

#[derive(Debug)]
struct OfJob {
    /// The one that was issued first comes first.
    issued: Vec<TokenRecord>,
    account: Account,
    /// Held as long as this is.
    _charge: Charge,
}

impl Tokens {
    /// Issues one more for a job of somebody's, which has had so many events. Beyond the
    /// bound it takes the place of the first one.
    pub(in crate::runtime) fn issue(
        &mut self,
        ctx: &mut Context,
        job: JobId,
        owner: &Principal,
        after: u64,
    ) -> JobToken {
        let token = JobToken::new(job, ctx.entropy.secret_256());
        let (before, most) = (self.of(job), ctx.config.limits.credential.tokens_per_job);
        let gone = (before.len() + 1).saturating_sub(most).min(before.len());
        let mut issued = before[gone..].to_vec();
        issued.push(TokenRecord { digest: token.secret().digest(), after });
        ctx.append(Record::TokensIssued { job, tokens: issued.clone() });
        self.restore(ctx, job, owner, issued);
        token
    }

    /// What was issued, perhaps in an earlier run.
    pub(in crate::runtime) fn restore(
        &mut self,
        ctx: &mut Context,
        job: JobId,
        owner: &Principal,
        issued: Vec<TokenRecord>,
    ) {
        let account = owner.account();
        let charge = ctx.accounts.of(&account).charge(HeldFor::Jobs, weight(&issued));
        self.0.insert(job, OfJob { issued, account, _charge: charge });
    }

    /// The job that a token is for, and the last event that there was when it was issued.
    /// Whose the job is the caller asks.
    pub(in crate::runtime) fn redeem(&self, token: &JobToken) -> Option<(JobId, u64)> {
        let id = JobId::parse(token.job().as_str())?;
        let digest = token.secret().digest();
        // Equality takes the same time for every pair, and each is looked at.
        let fits = |found, issued: &TokenRecord| if issued.digest == digest { Some(issued.after) } else { found };
        self.of(id).iter().fold(None, fits).map(|after| (id, after))
    }

    /// Those of a job.
    pub(in crate::runtime) fn of(&self, job: JobId) -> &[TokenRecord] {
        self.0.get(&job).map_or(&[], |of_job| &of_job.issued)
    }

    /// A job is forgotten, or somebody else's: what was issued for it counts no more.
    pub(super) fn forget(&mut self, job: JobId) {
        self.0.remove(&job);
    }

    /// Counts once more what is held.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for of_job in self.0.values() {
            recount.add_for(&of_job.account, HeldFor::Jobs, weight(&of_job.issued));
        }
    }
}

/// Bytes that are held for the tokens of a job, roughly.
fn weight(issued: &[TokenRecord]) -> usize {
    ENTRY + size_of_val(issued)
}
