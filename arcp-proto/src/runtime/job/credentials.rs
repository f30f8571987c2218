//! The credentials of jobs, as they are held. `provisioning` decides what becomes of them.

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
/// Approximate bytes that tables hold for one job.
const ENTRY: usize = 256;

/// Credentials that are valid, or may be, by job.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Credentials {
    pub(super) by_job: BTreeMap<JobId, Provisioning>,
    /// Operations that the host has not answered.
    pub(super) asked: BTreeMap<OpId, JobId>,
    /// Askers that wait for credentials of a job that is not accepted yet.
    pub(super) waiting: BTreeMap<Asker, JobId>,
}

/// The credentials of one job.
#[derive(Debug)]
pub(super) struct Provisioning {
    pub(super) account: Account,
    pub(super) stage: Stage,
    /// The renewal that the host is asked for.
    pub(super) renewing: Option<Renewing>,
    /// Values that are revoked while the other credentials stay valid.
    pub(super) superseded: Vec<Superseded>,
    /// Since when something may be valid that should have been revoked.
    pub(super) unrevoked_since: Option<Timestamp>,
    /// The last operation that asked the host to revoke everything.
    asked: Option<OpId>,
    charge: Charge,
}

/// A credential that is to get another value.
#[derive(Debug)]
pub(super) struct Renewing {
    pub(super) op: OpId,
    pub(super) id: String,
    /// The call of the agent, if it still waits.
    pub(super) call: Option<CallId>,
    /// The value that the agent wants.
    pub(super) wanted: Option<Secret>,
}

/// An earlier value of a credential, or an issued one that nobody took.
#[derive(Debug)]
pub(super) struct Superseded {
    pub(super) id: String,
    pub(super) value: Secret,
    /// The log position that must be durable before the value is revoked: its owner can learn the later value then.
    pub(super) until: LogPos,
    /// The unanswered operation that revokes the value.
    pub(super) asked: Option<OpId>,
    /// How often the host has failed to revoke it.
    pub(super) failures: u32,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The intent is not durable yet. An asker waits.
    Intended(OpId, Asker, Box<CredentialOrder>),
    /// The host is issuing them. The asker waits, unless it gave up.
    Asked(Option<Asker>),
    /// They are issued, and the asker is heard again.
    Issued(Asker, Vec<ProvisionedCredential>),
    /// The job has them.
    Live(Live),
    /// The host is revoking them, or failed to and is asked again.
    Revoking {
        /// How often the host has failed to.
        failures: u32,
        /// The cause with which the job ends once they are revoked, if its end waits for that.
        ends: Option<Cause>,
    },
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) credentials: Vec<ProvisionedCredential>,
    /// By credential id, the event that holds the present value, for renewed credentials.
    pub(super) renewed: BTreeMap<String, u64>,
    /// Values that the agent asked for and did not get. The host may have issued them nevertheless, and its answer
    /// was lost.
    pub(super) doubtful: Vec<Secret>,
    /// The session that submitted the job, and the last session that came to it by its key and may have them.
    pub(super) shown_to: (SessionId, Option<SessionId>),
}

impl Stage {
    /// Approximate bytes that it holds.
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

    /// Brings the charge up to the weight.
    pub(super) fn weigh(&mut self) {
        self.charge.set(self.bytes());
    }

    /// Approximate bytes that it holds.
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

    /// Notes that something should have been revoked by this time, and may be valid.
    pub(super) fn note_unrevoked(&mut self, ctx: &Context) {
        self.unrevoked_since.get_or_insert(ctx.now.mono);
    }
}

impl Live {
    /// A renewal is over for which the agent asked for this value.
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
    /// Since when credentials should have been revoked that may be valid, one time per job.
    pub(in crate::runtime) fn unrevoked(&self) -> impl Iterator<Item = Timestamp> {
        self.by_job.values().filter_map(|entry| entry.unrevoked_since)
    }

    /// Whether a job has any that may be valid. The job need not exist.
    pub(in crate::runtime) fn has(&self, job: JobId) -> bool {
        self.by_job.contains_key(&job)
    }

    /// Jobs that have any that may be valid.
    pub(in crate::runtime) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.by_job.keys().copied()
    }

    /// The credentials with which the agent of a job is started.
    pub(super) fn of_agent(&self, job: JobId) -> Vec<ProvisionedCredential> {
        self.live(job).map(|live| live.credentials.clone()).unwrap_or_default()
    }

    fn live(&self, job: JobId) -> Option<&Live> {
        let stage = self.by_job.get(&job).map(|entry| &entry.stage);
        if let Some(Stage::Live(live)) = stage { Some(live) } else { None }
    }

    /// Adds the credentials of a job to its acceptance, if this session may have them.
    pub(in crate::runtime) fn attach(&self, job: JobId, session: SessionId, mut reply: Reply) -> Reply {
        let live = self.live(job).filter(|live| live.is_shown_to(session));
        if let (Some(live), Reply::Command(CommandReply::Accepted(accepted))) = (live, &mut reply) {
            accepted.credentials = live.credentials.clone();
        }
        reply
    }

    /// The credential that event `n` of a job shows as renewed, with its value, if this session may have it and it is
    /// valid.
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

    /// A session with no less authority than the job came to it by its key.
    pub(in crate::runtime) fn show_to(&mut self, job: JobId, session: SessionId) {
        if let Some(Stage::Live(live)) = self.by_job.get_mut(&job).map(|entry| &mut entry.stage) {
            live.shown_to.1 = Some(session).filter(|session| *session != live.shown_to.0);
        }
    }

    /// Restores that credentials were wanted, and perhaps issued.
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

    /// The job was accepted, submitted in this session: it gets what was issued for it. Returns whether that is
    /// anything.
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

    /// Has the host revoke everything that was issued for a job. No reader gets a value from here on.
    pub(super) fn revoke(&mut self, ctx: &mut Context, job: JobId, ends: Option<Cause>) {
        if let Some(entry) = self.by_job.get_mut(&job) {
            for old in core::mem::take(&mut entry.superseded) {
                // It is revoked with the rest.
                if let Some(op) = old.asked {
                    self.asked.remove(&op);
                }
            }
            entry.enter(Stage::Revoking { failures: 0, ends });
            ctx.timers.clear(Timer::RevokeAgain(job));
            self.ask_to_revoke(ctx, job);
        }
    }

    /// A job is to end: revokes its live credentials first. Returns the cause if the job can end at once.
    pub(super) fn revoke_before_end(&mut self, ctx: &mut Context, job: JobId, cause: Cause) -> Option<Cause> {
        match self.by_job.get_mut(&job).map(|entry| &mut entry.stage) {
            Some(Stage::Live(_)) => self.revoke(ctx, job, Some(cause)),
            // Restored: the host was asked already.
            Some(Stage::Revoking { ends: ends @ None, .. }) => *ends = Some(cause),
            Some(Stage::Intended(..) | Stage::Asked(_) | Stage::Issued(..) | Stage::Revoking { .. }) | None => {
                return Some(cause);
            }
        }
        ctx.timers.set(Timer::RevocationGrace(job), ctx.now.mono + BEFORE_END);
        None
    }

    /// Has the host revoke everything that was issued for a job.
    pub(super) fn ask_to_revoke(&mut self, ctx: &mut Context, job: JobId) {
        let Some(entry) = self.by_job.get_mut(&job).expected("whose credentials are revoked has some") else {
            return;
        };
        let op = ctx.next_op();
        if let Some(earlier) = entry.asked.replace(op) {
            // That operation may finish before the latest credential was issued.
            self.asked.remove(&earlier);
        }
        self.asked.insert(op, job);
        ctx.output(Output::RevokeCredentials { op, job, what: Revocation::All });
    }

    /// Has the host revoke the superseded values of a job whose later values are durable.
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
