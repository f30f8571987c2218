//! Credentials of jobs, as they are held: what becomes of them is in `provisioning`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use crate::id::{ConnId, JobId, OpId, Principal, SessionId};
use crate::model::credential::{CredentialOrder, ProvisionedCredential, Revocation};
use crate::model::reply::{CommandReply, Reply};
use crate::principal::Account;
use crate::runtime::account::{Charge, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::Output;
use crate::runtime::timers::Timer;

/// How long the end of a job waits for its credentials to be revoked.
const BEFORE_END: Duration = Duration::from_secs(5);
/// Bytes that tables hold for one job, roughly.
const ENTRY: usize = 256;

/// Credentials that count, or may, by their jobs.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Credentials {
    pub(super) by_job: BTreeMap<JobId, Provisioning>,
    /// What the host was asked to do and has not answered.
    pub(super) asked: BTreeMap<OpId, JobId>,
    /// Connections whose submit waits for credentials.
    pub(super) waiting: BTreeMap<ConnId, JobId>,
}

/// The credentials of one job.
#[derive(Debug)]
pub(super) struct Provisioning {
    pub(super) account: Account,
    pub(super) stage: Stage,
    charge: Charge,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// That they are wanted is not durable yet, for this connection.
    Intended(OpId, ConnId, Box<CredentialOrder>),
    /// The host issues them for this connection, if that still waits.
    Asked(Option<ConnId>),
    /// They are there; the submit of this connection is heard again.
    Issued(ConnId, Vec<ProvisionedCredential>),
    /// Their job has them.
    Live(Live),
    /// The host revokes them, or could not.
    Revoking {
        /// How often it could not.
        failures: u32,
        /// What their job ends with once they are, if it does.
        ends: Option<Cause>,
    },
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) credentials: Vec<ProvisionedCredential>,
    /// The session that submitted their job, and the last one that came to it by its
    /// key and may have them.
    pub(super) shown_to: (SessionId, Option<SessionId>),
}

impl Stage {
    /// Bytes it holds, roughly.
    fn bytes(&self) -> usize {
        let of = |credentials: &[ProvisionedCredential]| credentials.iter().map(ProvisionedCredential::bytes).sum();
        match self {
            Stage::Intended(_, _, order) => order.bytes(),
            Stage::Issued(_, credentials) => of(credentials),
            Stage::Live(live) => of(&live.credentials),
            Stage::Asked(_) | Stage::Revoking { .. } => 0,
        }
    }
}

impl Provisioning {
    pub(super) fn new(ctx: &mut Context, principal: &Principal, stage: Stage) -> Provisioning {
        let account = principal.account();
        let charge = ctx.accounts.of(&account).charge(HeldFor::Credentials, ENTRY + stage.bytes());
        Provisioning { account, stage, charge }
    }

    pub(super) fn enter(&mut self, stage: Stage) -> Stage {
        self.charge.set(ENTRY + stage.bytes());
        core::mem::replace(&mut self.stage, stage)
    }
}

impl Credentials {
    /// Jobs whose credentials the host could not revoke when it was asked.
    pub(in crate::runtime) fn unrevoked(&self) -> usize {
        let failed = |entry: &&Provisioning| matches!(entry.stage, Stage::Revoking { failures: 1.., .. });
        self.by_job.values().filter(failed).count()
    }

    /// Whether any may count of a job, which need not be there.
    pub(in crate::runtime) fn has(&self, job: JobId) -> bool {
        self.by_job.contains_key(&job)
    }

    /// Jobs of which any may count.
    pub(in crate::runtime) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.by_job.keys().copied()
    }

    /// What the agent of a job is started with.
    pub(super) fn of_agent(&self, job: JobId) -> Vec<ProvisionedCredential> {
        self.live(job).map(|live| live.credentials.clone()).unwrap_or_default()
    }

    fn live(&self, job: JobId) -> Option<&Live> {
        let stage = self.by_job.get(&job).map(|entry| &entry.stage);
        if let Some(Stage::Live(live)) = stage { Some(live) } else { None }
    }

    /// Adds its credentials to the acceptance of a job, if this session may have them.
    pub(in crate::runtime) fn attach(&self, job: JobId, session: SessionId, mut reply: Reply) -> Reply {
        let live = self.live(job).filter(|live| live.shown_to.0 == session || live.shown_to.1 == Some(session));
        if let (Some(live), Reply::Command(CommandReply::Accepted(accepted))) = (live, &mut reply) {
            accepted.credentials = live.credentials.clone();
        }
        reply
    }

    /// A session that may do whatever the principal may came to a job by its key.
    pub(in crate::runtime) fn show_to(&mut self, job: JobId, session: SessionId) {
        if let Some(Stage::Live(live)) = self.by_job.get_mut(&job).map(|entry| &mut entry.stage) {
            live.shown_to.1 = Some(session).filter(|session| *session != live.shown_to.0);
        }
    }

    /// They were wanted in an earlier run, and perhaps issued.
    pub(in crate::runtime) fn restore(&mut self, ctx: &mut Context, job: JobId, principal: &Principal) {
        let stage = Stage::Revoking { failures: 0, ends: None };
        self.by_job.insert(job, Provisioning::new(ctx, principal, stage));
    }

    /// They were revoked, or their job is forgotten.
    pub(in crate::runtime) fn remove(&mut self, job: JobId) {
        self.by_job.remove(&job);
    }

    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for entry in self.by_job.values() {
            recount.add_for(&entry.account, HeldFor::Credentials, ENTRY + entry.stage.bytes());
        }
    }

    /// A job is accepted, submitted in this session: it has what was issued for it, if
    /// anything was.
    pub(super) fn give(&mut self, job: JobId, session: SessionId) -> bool {
        let Some(entry) = self.by_job.get_mut(&job) else {
            return false;
        };
        let Stage::Issued(conn, credentials) = &mut entry.stage else {
            return false;
        };
        let (conn, credentials) = (*conn, core::mem::take(credentials));
        self.waiting.remove(&conn);
        entry.enter(Stage::Live(Live { credentials, shown_to: (session, None) }));
        true
    }

    /// Has whatever was issued for a job revoked; its values count no longer from here
    /// on.
    pub(super) fn revoke(&mut self, ctx: &mut Context, job: JobId, ends: Option<Cause>) {
        if let Some(entry) = self.by_job.get_mut(&job) {
            entry.enter(Stage::Revoking { failures: 0, ends });
            self.ask_to_revoke(ctx, job);
        }
    }

    /// A job is to end: its credentials are revoked first, if any count. Gives the cause
    /// back if it ends at once.
    pub(super) fn revoke_before_end(&mut self, ctx: &mut Context, job: JobId, cause: Cause) -> Option<Cause> {
        match self.by_job.get_mut(&job).map(|entry| &mut entry.stage) {
            Some(Stage::Live(_)) => self.revoke(ctx, job, Some(cause)),
            // It was restored: the host was asked already.
            Some(Stage::Revoking { ends: ends @ None, .. }) => *ends = Some(cause),
            Some(Stage::Intended(..) | Stage::Asked(_) | Stage::Issued(..) | Stage::Revoking { .. }) | None => {
                return Some(cause);
            }
        }
        ctx.timers.set(Timer::RevocationGrace(job), ctx.now.mono + BEFORE_END);
        None
    }

    /// Has the host revoke all that was issued for a job.
    pub(super) fn ask_to_revoke(&mut self, ctx: &mut Context, job: JobId) {
        let op = ctx.next_op();
        self.asked.insert(op, job);
        ctx.output(Output::RevokeCredentials { op, job, what: Revocation::All });
    }
}
