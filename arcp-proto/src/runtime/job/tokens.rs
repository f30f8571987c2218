//! Tokens of jobs: with a token, the principal of the job has the rights of the submitter's session in any of its
//! sessions.
//!
//! Only digests are kept. A token is forgotten with its job, useless after the retention, and void once the job is
//! another principal's.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{JobId, Principal};
use crate::model::job_token::JobToken;
use crate::principal::Account;
use crate::runtime::account::{Charge, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::Record;
use crate::runtime::token_records::TokenRecord;

/// Approximate bytes that tables hold for a job with tokens.
const ENTRY: usize = 128;

/// The tokens of all jobs.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Tokens(BTreeMap<JobId, OfJob>);

#[derive(Debug)]
struct OfJob {
    /// Oldest first.
    issued: Vec<TokenRecord>,
    account: Account,
    /// Held as long as this is.
    _charge: Charge,
}

impl Tokens {
    /// Issues a token for a job that has had `after` events. At the bound, it replaces the oldest one.
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

    /// Sets the tokens of a job, as they are issued or restored.
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

    /// The job that a token is for, and the number of its last event when the token was issued. The caller checks whose
    /// the job is.
    pub(in crate::runtime) fn redeem(&self, token: &JobToken) -> Option<(JobId, u64)> {
        let id = JobId::parse(token.job().as_str())?;
        let digest = token.secret().digest();
        // The comparison takes the same time for every pair, and every token is compared.
        let fits = |found, issued: &TokenRecord| if issued.digest == digest { Some(issued.after) } else { found };
        self.of(id).iter().fold(None, fits).map(|after| (id, after))
    }

    /// The tokens of a job.
    pub(in crate::runtime) fn of(&self, job: JobId) -> &[TokenRecord] {
        self.0.get(&job).map_or(&[], |of_job| &of_job.issued)
    }

    /// A job is forgotten, or another principal's: its tokens are void.
    pub(super) fn forget(&mut self, job: JobId) {
        self.0.remove(&job);
    }

    /// Counts anew what tokens hold.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for of_job in self.0.values() {
            recount.add_for(&of_job.account, HeldFor::Jobs, weight(&of_job.issued));
        }
    }
}

/// Approximate bytes of the tokens of a job.
fn weight(issued: &[TokenRecord]) -> usize {
    ENTRY + size_of_val(issued)
}
