//! A session: what a client opened for its principal. It outlives connections.
//!
//! ```text
//! attached ──connection lost or closed──▶ detached ──resume──▶ attached
//!                                            └──window over──▶ ended
//! ```
//!
//! Its [`Feed`](super::delivery::Feed) holds what it is shown.

mod admission;
mod allowance;
mod extension;
mod pace;
mod resume;
mod seen;
mod session_lease;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::ops::Bound;

pub(super) use allowance::Allowance;
pub(super) use resume::{Proof, give_back};
pub(super) use seen::{Executed, Outcome};

use super::account::{Balance, HeldFor, Recount};
use super::authority::{Viewer, Who};
use super::config::Config;
use super::context::Context;
use super::effect::Effect;
use super::io::{Notice, Record, Verdict};
use super::job::Jobs;
use super::recent::Recent;
use super::timers::Timer;
use crate::error::Violation;
use crate::id::{Principal, SessionId};
use crate::lease::Ceiling;
use crate::model::feature::Feature;
use crate::model::request::Open;
use crate::policy::{Roles, Subject};
use crate::principal::Network;
use crate::scope::Scopes;
use crate::secret::{Secret, SecretDigest};
use crate::time::{Timestamp, UtcMs};
use crate::wire::View;
use admission::{Admission, Idle};
use extension::Extensions;
use pace::Pace;
use seen::{Seen, SeenOfPrincipals};
use session_lease::SessionLease;

#[derive(Debug)]
pub(super) struct Session {
    principal: Principal,
    allowance: Allowance,
    /// What the latest credential of its client is bound to.
    binding: Option<String>,
    view: View,
    token: SecretDigest,
    /// Whether it has a connection.
    attached: bool,
    /// Its place among the sessions that end first when room is needed.
    idle: Option<Idle>,
    /// Whether its client has closed it.
    closed: bool,
    /// Whether its client has closed it while it still held something for that client, which is recorded.
    left: bool,
    /// The refusal of everything but resuming another session, if the session was let in only for that.
    only_resumes: Option<Box<Violation>>,
    extensions: Extensions,
    lease: SessionLease,
    /// Its commands, if message ids are the session's own.
    seen: Seen,
    /// Balance of what is held for it, part of its principal's account.
    account: Balance,
    /// Whether a command was given in it.
    commanded: bool,
}

/// What is recorded of a session when it is opened.
#[derive(Clone, Debug)]
pub(super) struct KeptSession {
    pub(super) principal: Principal,
    pub(super) scopes: Scopes,
    pub(super) roles: Roles,
    pub(super) ceiling: Option<Box<Ceiling>>,
    pub(super) view: View,
    pub(super) token: SecretDigest,
    pub(super) extensions: Vec<String>,
}

/// All sessions, and the tokens of those that ended.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: Recent<SessionId, Session>,
    by_token: BTreeMap<SecretDigest, SessionId>,
    per_principal: BTreeMap<Principal, usize>,
    seen: SeenOfPrincipals,
    admission: Admission,
    pace: Pace,
    ended: Ended,
}

/// The owners of the tokens of recently ended sessions.
#[derive(Debug, Default)]
struct Ended {
    owners: BTreeMap<SecretDigest, Principal>,
    order: VecDeque<SecretDigest>,
}

impl KeptSession {
    fn record(self, session: SessionId) -> Record {
        let KeptSession { principal, scopes, roles, ceiling, view, token, extensions } = self;
        let anonymous = principal.is_anonymous();
        Record::SessionOpened { session, principal, anonymous, scopes, roles, ceiling, view, token, extensions }
    }
}

impl Session {
    fn new(ctx: &mut Context, kept: KeptSession) -> Session {
        let KeptSession { principal, scopes, roles, ceiling, view, token, extensions } = kept;
        let account = ctx.accounts.of(&principal.account()).below();
        let mut allowance = Allowance::new(scopes, roles, ceiling);
        allowance.count_roles(ctx.config.authority.policy.as_deref(), &principal);
        Session {
            principal,
            allowance,
            binding: None,
            view,
            token,
            attached: false,
            idle: None,
            closed: false,
            left: false,
            only_resumes: None,
            extensions: Extensions::new(extensions),
            lease: SessionLease::default(),
            seen: Seen::default(),
            account,
            commanded: false,
        }
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What it may be used for.
    pub(super) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// The subject that asks for something in it. `owns`: whether it is about something of its own.
    pub(super) fn who(&self, owns: bool) -> Who<'_> {
        let cancels_anywhere = self.view.features.has(Feature::CancelAnywhere);
        let answers = self.view.answers_prompts();
        let (scopes, bounded) = (self.allowance.scopes(), self.allowance.ceiling().is_some());
        Who { viewer: self.viewer(), scopes, owns, cancels_anywhere, answers, bounded }
    }

    /// The subject that policy is asked about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { principal: &self.principal, roles: self.allowance.roles() }
    }

    /// The principal that looks at jobs in it, with its roles.
    pub(super) fn viewer(&self) -> Viewer<'_> {
        let bounded = self.allowance.ceiling().is_some();
        Viewer { principal: &self.principal, roles: (!bounded).then(|| self.allowance.roles()) }
    }

    /// How its peer sees things.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn token(&self) -> &SecretDigest {
        &self.token
    }

    /// Whether its client has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether it outlives the process: it is not being evicted, and may do more than resume another session.
    pub(super) fn is_recorded(&self) -> bool {
        !self.is_evicted() && self.only_resumes.is_none()
    }

    /// The end of an anonymous session is recorded: its principal cannot come back.
    pub(super) fn note_nobody_left(&self, ctx: &mut Context) {
        if self.principal.is_anonymous() {
            ctx.effect(Effect::NobodyIs(self.principal.clone()));
        }
    }

    /// The refusal of everything but resuming another session, if there is one.
    pub(super) fn only_resumes(&self) -> Option<&Violation> {
        self.only_resumes.as_deref()
    }

    /// Whether its client is connected.
    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether a command was given in it.
    pub(super) fn is_commanded(&self) -> bool {
        self.commanded
    }

    pub(super) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The proof of its principal.
    pub(super) fn proof(&self) -> Proof {
        if self.principal.is_anonymous() {
            return Proof::Nobody;
        }
        Proof::Known(Verdict {
            principal: self.principal.clone(),
            scopes: self.allowance.scopes().clone(),
            roles: self.allowance.named_roles().clone(),
            expires_at: self.lease.credential_until(),
            binding: self.binding.clone(),
            ceiling: self.allowance.ceiling().cloned().map(Box::new),
            features: self.allowance.features(),
        })
    }

    /// When its lease ends.
    pub(super) fn expires_at(&self) -> Option<UtcMs> {
        self.lease.expires_at()
    }

    /// Whether it is being taken from its client.
    pub(super) fn is_evicted(&self) -> bool {
        self.lease.eviction().is_some()
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Balance of what is held for it, part of its principal's account.
    pub(super) fn account(&self) -> &Balance {
        &self.account
    }
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    /// How fast jobs are submitted.
    pub(super) fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All sessions.
    pub(super) fn all(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    /// The recorded sessions opened after `after`, oldest first.
    pub(super) fn after(&self, after: Option<SessionId>) -> impl Iterator<Item = (SessionId, &Session)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self.by_id.range((from, Bound::Unbounded)).map(|(id, session)| (*id, session));
        all.filter(|(_, session)| session.is_recorded())
    }

    /// Counts anew the remembered commands, and the extension messages that the host has not taken.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for (id, session) in self.by_id.iter() {
            recount.know(&id.to_string(), &session.account);
            recount.add(&session.account, HeldFor::Commands, session.seen.recount());
            recount.add(&session.account, HeldFor::Extensions, session.extensions.untaken_bytes());
        }
        for (account, seen) in &self.seen {
            recount.add_for(account, HeldFor::Commands, seen.recount());
        }
    }

    /// The ids of all sessions.
    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_id.keys().copied()
    }

    /// Opens a session for the principal of a proof. Returns its token.
    ///
    /// # Errors
    ///
    /// If there is no room for one more.
    pub(super) fn open(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        open: Open,
        proof: Proof,
        (view, network): (View, Option<Network>),
    ) -> Result<(SessionId, Secret), Violation> {
        let id = SessionId::from_ulid(ctx.entropy.ulid(ctx.now.utc));
        let verdict = proof.verdict().cloned();
        let principal = proof.principal(id, network);
        let roles = verdict.as_ref().map(|verdict| verdict.roles.clone()).unwrap_or_default();
        let only_resumes = match self.admit(ctx, jobs, (&principal, &roles)) {
            Ok(()) => None,
            // A client that has to open a session before it can resume one may do so.
            Err(full) if view.family.resumes_after_opening() && self.admission.has_detached(&principal) => Some(full),
            Err(full) => return Err(full),
        };
        let ours = ctx.config.features();
        let most = verdict.as_ref().and_then(|verdict| verdict.features).unwrap_or(ours);
        let view = view.negotiated(open.features, ours.and(most));
        let mut extensions = open.extensions;
        extensions.retain(|name| ctx.config.extensions.contains(name));
        let token = resume::fresh_token(ctx);
        let kept = KeptSession {
            principal: principal.clone(),
            scopes: verdict.as_ref().map(|verdict| verdict.scopes.clone()).unwrap_or_default(),
            roles,
            ceiling: verdict.as_ref().and_then(|verdict| verdict.ceiling.clone()),
            view,
            token: token.digest(),
            extensions,
        };
        let made = Session { only_resumes: only_resumes.map(Box::new), ..Session::new(ctx, kept.clone()) };
        // A session that only resumes ends with its connection.
        if made.is_recorded() {
            ctx.append(kept.record(id));
        }
        self.insert(id, made);
        let client = alloc::format!("{} {}", open.client.name, open.client.version);
        ctx.observe(Notice::SessionOpened { session: id, principal, client });
        self.prove(ctx, id, verdict.as_ref());
        Ok((id, token))
    }

    /// Restores a session. Returns its account.
    pub(super) fn restore(&mut self, ctx: &mut Context, id: SessionId, kept: KeptSession) -> Balance {
        let session = Session::new(ctx, kept);
        let account = session.account.clone();
        self.insert(id, session);
        account
    }

    /// The client has proved its identity: the session has what it was opened with, as far as the new credential
    /// allows it, and its lease is renewed.
    fn prove(&mut self, ctx: &mut Context, id: SessionId, verdict: Option<&Verdict>) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.allowance.prove(verdict);
            session.allowance.count_roles(ctx.config.authority.policy.as_deref(), &session.principal);
            session.binding = verdict.and_then(|verdict| verdict.binding.clone());
        }
        self.renew(ctx, id, verdict.and_then(|verdict| verdict.expires_at));
    }

    fn insert(&mut self, id: SessionId, session: Session) {
        self.admission.enter(&session.principal);
        *self.per_principal.entry(session.principal.clone()).or_default() += 1;
        self.by_token.insert(session.token, id);
        self.by_id.insert(id, session);
    }

    /// A session has a connection.
    pub(super) fn attach(&mut self, ctx: &mut Context, id: SessionId) {
        self.set_attached(id, true);
        if let Some(session) = self.by_id.get_mut(&id) {
            (session.closed, session.left) = (false, false);
            ctx.timers.clear(Timer::ResumeWindow(id));
        }
    }

    /// A session has lost its connection: it can be resumed until the resume window has passed since its last
    /// heartbeat. `has_nothing`: whether a client that came back would find nothing new.
    pub(super) fn detach(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        id: SessionId,
        alive: Timestamp,
        has_nothing: bool,
    ) {
        self.set_attached(id, false);
        let Some(session) = self.by_id.get_mut(&id) else {
            return; // The session has ended.
        };
        if session.only_resumes.is_some() {
            return self.end(ctx, jobs, id);
        }
        // A session that holds nothing goes early in any case, after a restart too.
        session.left = session.closed && !has_nothing;
        if session.left && session.is_recorded() {
            ctx.append(Record::SessionClosed { session: id });
        }
        self.await_resume(ctx, id, alive);
        ctx.observe(Notice::SessionDetached { session: id });
        self.note_idle(ctx, id, has_nothing);
    }

    /// Starts the resume window of a session without a connection.
    pub(super) fn await_resume(&mut self, ctx: &mut Context, id: SessionId, alive: Timestamp) {
        let at = (alive + ctx.config.timing.resume_window).max(ctx.soonest());
        ctx.timers.set(Timer::ResumeWindow(id), at);
    }

    fn set_attached(&mut self, id: SessionId, attached: bool) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return; // The session has ended.
        };
        if core::mem::replace(&mut session.attached, attached) != attached {
            self.admission.attached(&session.principal, attached);
        }
        if let Some(idle) = session.idle.take() {
            self.admission.not_idle(&session.principal, (idle, id));
        }
    }

    /// The client closes its session.
    pub(super) fn close(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.closed = true;
        }
    }

    /// A command was given in a session.
    pub(super) fn note_command(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.commanded = true;
        }
    }

    /// Ends a session.
    pub(super) fn end(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId) {
        let Some(session) = self.by_id.get(&id) else {
            return; // The session has ended.
        };
        if session.is_recorded() {
            ctx.append(Record::SessionEnded { session: id });
            session.note_nobody_left(ctx);
        }
        self.forget(ctx, jobs, id);
    }

    /// Forgets a session whose end is recorded.
    pub(super) fn forget(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId) {
        if self.remove(ctx, jobs, id) {
            ctx.observe(Notice::SessionEnded { session: id });
        }
    }

    /// Removes a session from memory; false if there is none.
    pub(super) fn remove(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId) -> bool {
        self.set_attached(id, false);
        let Some(session) = self.by_id.remove(&id) else {
            return false;
        };
        ctx.timers.clear(Timer::ResumeWindow(id));
        ctx.timers.clear(Timer::SessionLease(id));
        self.by_token.remove(&session.token);
        self.admission.leave(&session.principal);
        if let Some(count) = self.per_principal.get_mut(&session.principal) {
            *count -= 1;
            if *count == 0 {
                self.per_principal.remove(&session.principal);
            }
        }
        self.forget_seen_of(&session.principal, jobs.table().has_any(&session.principal));
        self.ended.add(session.token, session.principal, ctx.config.limits.session.ended_sessions);
        ctx.effect(Effect::SessionOver(id));
        true
    }
}

/// Whether the client has closed its session while it held something for that client.
pub(super) fn is_left(session: &Session) -> bool {
    session.left
}

/// Restores that the client had closed a session.
pub(super) fn restore_closed(sessions: &mut Sessions, id: SessionId) {
    if let Some(session) = sessions.by_id.get_mut(&id) {
        session.left = true;
    }
}

/// Policy has changed: finds out anew which roles count.
pub(super) fn count_roles(sessions: &mut Sessions, config: &Config) {
    for session in sessions.by_id.values_mut() {
        session.allowance.count_roles(config.authority.policy.as_deref(), &session.principal);
    }
}

impl Ended {
    fn add(&mut self, token: SecretDigest, owner: Principal, most: usize) {
        self.owners.insert(token, owner);
        self.order.push_back(token);
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.owners.remove(&oldest);
            }
        }
    }
}
