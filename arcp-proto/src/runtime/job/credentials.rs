//! Credentials of jobs, as they are held: what becomes of them is in `provisioning`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use crate::id::{CallId, JobId, LogPos, OpId, Principal, SessionId};
use crate::model::credential::{CredentialOrder, ProvisionedCredential, Revocation};
use crate::model::reply::{CommandReply, Reply};
use crate::principal::Account;
use crate::runtime::account::{Charge, HeldFor, Recount};
use crate::runtime::asker::Asker;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Output;
use crate::runtime::timers::Timer;
use crate::secret::Secret;
use crate::time::Timestamp;

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
    /// Who waits for credentials of a job that is asked for.
    pub(super) waiting: BTreeMap<Asker, JobId>,
}

/// The credentials of one job.
#[derive(Debug)]
pub(super) struct Provisioning {
    pub(super) account: Account,
    pub(super) stage: Stage,
    /// A credential that the host is to give another value.
    pub(super) renewing: Option<Renewing>,
    /// Values that are revoked by themselves while the others count.
    pub(super) superseded: Vec<Superseded>,
    /// Since when something may count that ought not to.
    pub(super) unrevoked_since: Option<Timestamp>,
    /// By what the host was asked last to revoke everything.
    asked: Option<OpId>,
    charge: Charge,
}

/// A credential that is to have another value.
#[derive(Debug)]
pub(super) struct Renewing {
    pub(super) op: OpId,
    pub(super) id: String,
    /// The call of its agent, if that still waits.
    pub(super) call: Option<CallId>,
    /// The value that its agent wants.
    pub(super) wanted: Option<Secret>,
}

/// A value that a credential had before, or that nobody has waited for.
#[derive(Debug)]
pub(super) struct Superseded {
    pub(super) id: String,
    pub(super) value: Secret,
    /// What must be durable before it is revoked: its owner knows the other one then.
    pub(super) until: LogPos,
    /// By what the host was asked to revoke it and has not answered.
    pub(super) asked: Option<OpId>,
    /// How often it could not.
    pub(super) failures: u32,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// That they are wanted is not durable yet, for whoever waits.
    Intended(OpId, Asker, Box<CredentialOrder>),
    /// The host issues them for whoever waits, if anybody still does.
    Asked(Option<Asker>),
    /// They are there; whoever waits is heard again.
    Issued(Asker, Vec<ProvisionedCredential>),
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
    /// The event that says the value of a credential, of those that have another one
    /// than at first.
    pub(super) renewed: BTreeMap<String, u64>,
    /// Values that its agent wanted and was not given: perhaps they were issued all the same,
    /// and the answer was lost.
    pub(super) doubtful: Vec<Secret>,
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
            Stage::Live(live) => {
                let doubtful = |value: &Secret| size_of::<Secret>() + value.expose().len();
                let renewed = live.renewed.keys().map(String::len).sum::<usize>();
                of(&live.credentials) + renewed + live.doubtful.iter().map(doubtful).sum::<usize>()
            }
            Stage::Asked(_) | Stage::Revoking { .. } => 0,
        }
    }
}

impl Provisioning {
    pub(super) fn new(ctx: &mut Context, principal: &Principal, stage: Stage) -> Provisioning {
        let account = principal.account();
        let charge = ctx.accounts.of(&account).charge(HeldFor::Credentials, ENTRY + stage.bytes());
        let (superseded, unrevoked_since) = (Vec::new(), None);
        Provisioning { account, stage, renewing: None, superseded, unrevoked_since, asked: None, charge }
    }

    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.weigh();
    }

    /// It holds as much as it weighs.
    pub(super) fn weigh(&mut self) {
        self.charge.set(self.bytes());
    }

    /// Bytes it holds, roughly.
    fn bytes(&self) -> usize {
        let superseded = |old: &Superseded| size_of::<Superseded>() + old.id.len() + old.value.expose().len();
        let renewing = self
            .renewing
            .as_ref()
            .map_or(0, |renewing| renewing.id.len() + renewing.wanted.as_ref().map_or(0, |value| value.expose().len()));
        ENTRY + self.stage.bytes() + renewing + self.superseded.iter().map(superseded).sum::<usize>()
    }

    pub(super) fn live(&mut self) -> Option<&mut Live> {
        if let Stage::Live(live) = &mut self.stage { Some(live) } else { None }
    }

    /// What it has issued was to be revoked by now, and may count.
    pub(super) fn note_unrevoked(&mut self, ctx: &Context) {
        self.unrevoked_since.get_or_insert(ctx.now.mono);
    }
}

impl Live {
    /// A renewal is over for which its agent wanted this value.
    pub(super) fn note_wanted(&mut self, wanted: Secret) {
        let counts = self.credentials.iter().any(|credential| credential.value == wanted);
        if !counts && !self.doubtful.contains(&wanted) {
            self.doubtful.push(wanted);
        }
    }

    /// Whether this session may see values.
    fn is_shown_to(&self, session: SessionId) -> bool {
        self.shown_to.0 == session || self.shown_to.1 == Some(session)
    }
}

impl Credentials {
    /// Since when credentials ought to be revoked and may count, job by job.
    pub(in crate::runtime) fn unrevoked(&self) -> impl Iterator<Item = Timestamp> {
        self.by_job.values().filter_map(|entry| entry.unrevoked_since)
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
        let live = self.live(job).filter(|live| live.is_shown_to(session));
        if let (Some(live), Reply::Command(CommandReply::Accepted(accepted))) = (live, &mut reply) {
            accepted.credentials = live.credentials.clone();
        }
        reply
    }

    /// The credential that event `n` of a job says was renewed, with the value that
    /// stands there, if this session may have it and it counts.
    pub(in crate::runtime) fn renewed_by(
        &self,
        job: JobId,
        n: u64,
        session: SessionId,
    ) -> Option<&ProvisionedCredential> {
        let live = self.live(job).filter(|live| live.is_shown_to(session))?;
        let (id, _) = live.renewed.iter().find(|(_, event)| **event == n)?;
        live.credentials.iter().find(|credential| credential.id == *id)
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
            recount.add_for(&entry.account, HeldFor::Credentials, entry.bytes());
        }
    }

    /// A job is accepted, submitted in this session: it has what was issued for it, if
    /// anything was.
    pub(super) fn give(&mut self, job: JobId, session: SessionId) -> bool {
        let Some(entry) = self.by_job.get_mut(&job) else {
            return false;
        };
        let Stage::Issued(asker, credentials) = &mut entry.stage else {
            return false;
        };
        let (asker, credentials) = (*asker, core::mem::take(credentials));
        self.waiting.remove(&asker);
        let (renewed, doubtful, shown_to) = (BTreeMap::new(), Vec::new(), (session, None));
        entry.enter(Stage::Live(Live { credentials, renewed, doubtful, shown_to }));
        true
    }

    /// Has whatever was issued for a job revoked; its values count no longer from here
    /// on.
    pub(super) fn revoke(&mut self, ctx: &mut Context, job: JobId, ends: Option<Cause>) {
        if let Some(entry) = self.by_job.get_mut(&job) {
            for old in core::mem::take(&mut entry.superseded) {
                // It goes with the rest.
                if let Some(op) = old.asked {
                    self.asked.remove(&op);
                }
            }
            entry.enter(Stage::Revoking { failures: 0, ends });
            ctx.timers.clear(Timer::RevokeAgain(job));
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
        let Some(entry) = self.by_job.get_mut(&job).expected("whose credentials are revoked has some") else {
            return;
        };
        let op = ctx.next_op();
        if let Some(earlier) = entry.asked.replace(op) {
            // It may be done before the latest was issued.
            self.asked.remove(&earlier);
        }
        self.asked.insert(op, job);
        ctx.output(Output::RevokeCredentials { op, job, what: Revocation::All });
    }

    /// Has the host revoke the values of a job that are superseded, as far as their
    /// owner can know the later ones.
    pub(super) fn revoke_superseded(&mut self, ctx: &mut Context, job: JobId) {
        let Some(entry) = self.by_job.get_mut(&job).expected("whose values are superseded has some") else {
            return;
        };
        let is_due = |old: &&mut Superseded| old.asked.is_none() && ctx.log.is_durable(old.until);
        let due: Vec<&mut Superseded> = entry.superseded.iter_mut().filter(is_due).collect();
        for old in due {
            let op = ctx.next_op();
            old.asked = Some(op);
            self.asked.insert(op, job);
            let what = Revocation::Value { id: old.id.clone(), value: old.value.clone() };
            ctx.output(Output::RevokeCredentials { op, job, what });
        }
    }
}
