//! Submitting jobs: what is checked, and the key that is claimed (1.1 §7.1, §7.2).

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};

use super::checkpoint::{self, Beginning};
use super::family;
use super::idempotency;
use super::lease::{self, Grant};
use super::resolve::resolve;
use super::workflow_check::check_workflow;
use super::{Job, JobSpec, Jobs, NEW_JOB, is_workflow, waiting_bytes};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{IdempotencyKey, JobId, Principal, SessionId, WireId};
use crate::json::{Json, Members, Object};
use crate::lease::{Ceiling, Lease, Namespace};
use crate::model::agent::AgentRef;
use crate::model::feature::Features;
use crate::model::request::{Invocation, Submit};
use crate::model::workflow::is_agent;
use crate::policy::{Roles, Subject};
use crate::principal::Account;
use crate::runtime::account::HeldFor;
use crate::runtime::checkpoint_records::BegunAt;
use crate::runtime::context::Context;
use crate::runtime::io::{Firing, JobBounds, JobRecord, KeyRecord, Notice, ParentRecord, Record};
use crate::runtime::log::Waiter;
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// A submit, with the session and the principal that it comes from.
#[derive(Clone, Copy)]
pub(in crate::runtime) struct SubmitContext<'a> {
    /// The job id, if credentials were issued for it already.
    pub(in crate::runtime) id: Option<JobId>,
    pub(in crate::runtime) submit: &'a Submit,
    pub(in crate::runtime) invocation: &'a Invocation,
    /// The digest by which a repeated message with the same id is recognised. `None`: no client's message asked
    /// for the job.
    pub(in crate::runtime) command: Option<[u8; 32]>,
    /// The id of the message. `id_is_of_principal`: it is unique per principal, not per session.
    pub(in crate::runtime) request: &'a WireId,
    pub(in crate::runtime) id_is_of_principal: bool,
    pub(in crate::runtime) principal: &'a Principal,
    /// The roles that apply.
    pub(in crate::runtime) roles: &'a Roles,
    pub(in crate::runtime) session: SessionId,
    /// The parent, if the job is a child. The caller has checked that the submitter may submit below it.
    pub(in crate::runtime) parent: Option<JobId>,
    /// The negotiated features, which say what a lease may contain.
    pub(in crate::runtime) features: Features,
    /// Ceilings from the session's credentials, besides those of the runtime.
    pub(in crate::runtime) ceilings: [Option<&'a Ceiling>; 2],
    /// The firing of a schedule that the job belongs to.
    pub(in crate::runtime) firing: Option<&'a Firing>,
    /// The checkpoint of another job at which this one begins.
    pub(in crate::runtime) begins: Option<&'a Beginning>,
}

impl SubmitContext<'_> {
    /// The subject that policy is asked about.
    pub(in crate::runtime) fn subject(&self) -> Subject<'_> {
        Subject { principal: self.principal, roles: self.roles }
    }

    /// The digest that another submit under the same key must match.
    fn fingerprint(&self) -> [u8; 32] {
        self.begins.map_or_else(|| fingerprint(self.submit), |begins| fingerprint_at(&begins.at))
    }
}

/// The outcome of the checks of a submit.
#[derive(Debug)]
pub(in crate::runtime) enum Submission {
    /// The job that the key already names.
    Known(JobId),
    /// A new job.
    New(NewJob),
}

/// What the checks established about a job that may be accepted.
#[derive(Debug)]
pub(in crate::runtime) struct NewJob {
    pub(super) agent: AgentRef,
    pub(super) checks_input: bool,
    pub(super) grant: Grant,
    pub(super) key: Option<KeyRecord>,
    /// The parent, if the job is a child.
    pub(super) parent: Option<Box<ParentRecord>>,
}

impl NewJob {
    pub(in crate::runtime) fn agent(&self) -> &AgentRef {
        &self.agent
    }

    /// Whether the host has to check the input against the agent's schema.
    pub(in crate::runtime) fn checks_input(&self) -> bool {
        self.checks_input
    }

    /// The lease that it is granted.
    pub(in crate::runtime) fn lease(&self) -> &Json {
        &self.grant.lease
    }

    /// When the lease ends.
    pub(in crate::runtime) fn expires_at(&self) -> Option<UtcMs> {
        self.grant.constraints.expires_at
    }

    /// Whether the job is to have credentials: its lease grants models, and its principal is not anonymous.
    pub(in crate::runtime) fn wants_credentials(&self, ctx: &Context, principal: &Principal) -> bool {
        let grants_models = |lease: Lease| lease.grants().any(|(namespace, _)| *namespace == Namespace::ModelUse);
        // A workflow has no agent of its own; its steps get credentials.
        let runs = !is_agent(&self.agent);
        let provisions = runs && ctx.config.models.provisions && !principal.is_anonymous();
        provisions && Lease::parse(&self.grant.lease).is_ok_and(grants_models)
    }

    /// What the client asked for and is not granted unchanged.
    pub(in crate::runtime) fn taken(&self) -> &[String] {
        self.grant.taken()
    }
}

impl Jobs {
    /// Checks whether a submit may be accepted.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(in crate::runtime) fn check(
        &mut self,
        ctx: &mut Context,
        asked: SubmitContext<'_>,
    ) -> Result<Submission, Violation> {
        let SubmitContext { submit, principal, .. } = asked;
        // Only a key needs the fingerprint.
        let key = submit
            .key
            .as_ref()
            .map(|key| KeyRecord { digest: idempotency::digest(principal, key), fingerprint: asked.fingerprint() });
        if let Some(key) = &key
            && let Some(claim) = self.keys.get(&key.digest)
        {
            if claim.fingerprint != key.fingerprint {
                return Err(taken());
            }
            return Ok(Submission::Known(claim.job));
        }
        if let Some((parent, name)) = asked.parent.zip(submit.delegate_id.as_ref())
            && let Some(child) = family::child_of(self, parent, name, fingerprint_below(submit))?
        {
            return Ok(Submission::Known(child));
        }
        let asks = (asked.subject(), submit.agent.name());
        let grant = ctx.prove(principal, |ctx, fuel| match asked.parent {
            None => {
                // A checkpoint of another job does not bring a lease that nobody asked for.
                let nothing_stays = asked.begins.is_some();
                Grant::of(ctx, submit, asked.features)?.under(ctx, asks, asked.ceilings, nothing_stays, fuel)
            }
            Some(parent) => {
                family::grant_below(self, ctx, parent, asks.0, submit, (asked.features, asked.ceilings), fuel)
            }
        })?;
        self.check_capacity(ctx, asked)?;
        let (agent, checks_input) = resolve_asked(ctx, asked, &grant)?;
        let parent = asked.parent.map(|parent| Box::new(family::below(ctx, parent, submit, fingerprint_below(submit))));
        Ok(Submission::New(NewJob { agent, checks_input, grant, key, parent }))
    }

    /// Whether there is room for one more job.
    ///
    /// # Errors
    ///
    /// The bound that is reached.
    pub(in crate::runtime) fn check_capacity(&self, ctx: &Context, asked: SubmitContext<'_>) -> Result<(), Violation> {
        let (limits, principal) = (&ctx.config.limits, asked.principal);
        if ctx.draining {
            return Err(Violation::new(ErrorCode::Unavailable, "the runtime is shutting down: submit again later"));
        }
        if ctx.log.failed {
            return Err(Violation::new(ErrorCode::Unavailable, "the store is failing: submit again later"));
        }
        let account = principal.account();
        let own = account.bound_of();
        let is_step = asked.parent.and_then(|parent| self.table.get(parent)).is_some_and(is_workflow);
        check_quota(self, ctx, asked.subject(), is_step, |most| {
            alloc::format!("you may have {most} jobs that have not ended: submit again when some have")
        })?;
        let full = |most| alloc::format!("{most} of your jobs have not ended: submit again when some have");
        check_unfinished(self, ctx, &account, is_step, full)?;
        let input = asked.submit.input.as_ref().map_or("{}", Json::as_str);
        let input = waiting_bytes(input, asked.invocation.extensions.as_ref());
        let waiting = ctx.accounts.held(&account, HeldFor::Inputs, limits, limits.job.waiting_input_bytes);
        let most = limits.job.waiting_input_bytes_per_principal;
        if waiting.own + input > most {
            let full =
                alloc::format!("the inputs of your jobs that have not started have more than {most} bytes: wait");
            let bound = "waiting_input_bytes_per_principal";
            return Err(Violation::exhausted(bound, own, most as u64, full));
        }
        let what = "the inputs of jobs that have not started";
        waiting.admit(input, limits.job.principal_share, own, "waiting_input_bytes", what)?;
        if self.table.len() >= limits.job.jobs && !self.table.has_settled() {
            let full = "the runtime holds too many jobs: submit again when some have ended";
            return Err(Violation::exhausted("jobs", BoundOf::Runtime, limits.job.jobs as u64, full));
        }
        if let Some(begins) = asked.begins {
            checkpoint::check_beginning(ctx, &account, begins)?;
        }
        if asked.submit.key.is_some() {
            self.keys.check_room(principal, limits, ctx.now.mono)?;
        }
        Ok(())
    }

    /// The job that has to go so that there is room for one more of a principal:
    /// the first of its own that ended, or else the first of all. Its agent is
    /// gone.
    pub(in crate::runtime) fn first_to_forget(&mut self, ctx: &Context, principal: &Principal) -> Option<JobId> {
        if self.table.len() < ctx.config.limits.job.jobs {
            return None;
        }
        self.table.first_settled_of(principal).or_else(|| self.table.first_settled())
    }

    /// Accepts a job, in a slot if its principal may have one. A principal that may has no job of that agent in line,
    /// so none is overtaken.
    pub(in crate::runtime) fn accept(&mut self, ctx: &mut Context, asked: SubmitContext<'_>, new: NewJob) -> JobId {
        let SubmitContext { submit, invocation, principal, session, .. } = asked;
        let NewJob { agent, grant, key, parent, checks_input: _ } = new;
        let id = asked.id.unwrap_or_else(|| JobId::from_ulid(ctx.entropy.ulid(ctx.now.utc)));
        let above = parent.as_ref().and_then(|parent| self.table.get(parent.job));
        let trace = submit.trace.clone().or_else(|| above.map(|above| above.spec.trace.clone()));
        let trace = trace.unwrap_or_else(|| new_trace(ctx));
        let asks_as = level_of(principal, &asked.ceilings);
        let trust = above.map_or(asks_as, |above| asks_as.min(lease::trust(above)));
        let needs_slot = !is_agent(&agent);
        let starts =
            !needs_slot || self.shares.may_start(&ctx.config, &principal.account(), agent.name(), parent.is_some());
        let input = submit.input.clone().unwrap_or_else(Json::empty_object);
        let spec = JobSpec {
            principal: principal.clone(),
            agent: agent.clone(),
            lease: grant.lease.clone(),
            trace,
            invocation: invocation.clone(),
            created_at: ctx.now.utc,
            bounds: JobBounds {
                max_runtime: submit.max_runtime,
                constraints: grant.constraints,
                parent,
                trust,
                roles: asked.roles.clone(),
                firing: asked.firing.cloned().map(Box::new),
                begun_at: asked.begins.map(|begins| Box::new(begins.at.clone())),
            },
            key: key.map(Box::new),
            asked_by: None,
            given_by: None,
        };
        let record = JobRecord {
            job: id,
            principal: principal.clone(),
            session,
            agent: agent.clone(),
            input: input.clone(),
            lease: spec.lease.clone(),
            trace: spec.trace.clone(),
            invocation: invocation.clone(),
            request: asked.request.clone(),
            command: asked.command,
            id_is_of_principal: asked.id_is_of_principal,
            starts,
            created_at: spec.created_at,
            bounds: spec.bounds.clone(),
            key,
        };
        let pos = ctx.append(Record::JobAccepted(record.into()));
        if let Some(key) = key {
            self.keys.claim(ctx, principal, key, id);
        }
        let mut job = Job::new(ctx, id, spec, input, session, pos);
        job.purse = grant.purse();
        if let Some(begins) = asked.begins {
            checkpoint::begin_at(&mut job, ctx, begins);
        }
        job.run.credentials = self.credentials.give(id, session);
        lease::plan_expiry(&job, ctx);
        if starts && needs_slot {
            self.shares.take_slot(&mut job);
        }
        self.insert(job);
        ctx.log.wait(pos, Waiter::Job(id));
        ctx.observe(Notice::JobAccepted { job: id, principal: principal.clone(), agent });
        id
    }
}

/// The job that an earlier submit under this key began at this checkpoint.
///
/// # Errors
///
/// `DUPLICATE_KEY` if the key was used for something else.
pub(in crate::runtime) fn begun_by(
    jobs: &Jobs,
    principal: &Principal,
    key: &IdempotencyKey,
    at: &BegunAt,
) -> Result<Option<JobId>, Violation> {
    match jobs.keys.get(&idempotency::digest(principal, key)) {
        None => Ok(None),
        Some(claim) if claim.fingerprint == fingerprint_at(at) => Ok(Some(claim.job)),
        Some(_) => Err(taken()),
    }
}

/// Checks whether a later submit would be accepted, under the present configuration and apart from bounds on
/// room.
///
/// # Errors
///
/// Why not.
pub(in crate::runtime) fn check_for_later(ctx: &mut Context, asked: SubmitContext<'_>) -> Result<NewJob, Violation> {
    let (submit, asks) = (asked.submit, (asked.subject(), asked.submit.agent.name()));
    let grant = ctx.prove(asked.principal, |ctx, fuel| {
        Grant::of(ctx, submit, asked.features)?.under(ctx, asks, asked.ceilings, false, fuel)
    })?;
    let (agent, checks_input) = resolve_asked(ctx, asked, &grant)?;
    Ok(NewJob { agent, checks_input, grant, key: None, parent: None })
}

/// Whether an account may have one more unended job. `is_step`: the job is a step of a workflow. `full`: the
/// message if the account has as many as it may.
pub(super) fn check_unfinished(
    jobs: &Jobs,
    ctx: &Context,
    account: &Account,
    is_step: bool,
    full: impl FnOnce(usize) -> String,
) -> Result<(), Violation> {
    let limits = &ctx.config.limits;
    let (own, most, share) = (account.bound_of(), limits.job.jobs_per_principal, limits.job.principal_share);
    let live = jobs.shares.live(account, limits, is_step);
    if live.own >= most {
        return Err(Violation::exhausted("jobs_per_principal", own, most as u64, full(most)));
    }
    live.admit(1, share, own, "jobs", "jobs that have not ended")?;
    let held = ctx.accounts.held(account, HeldFor::Jobs, limits, limits.history.unfinished_bytes);
    held.admit(NEW_JOB, share, own, "unfinished_bytes", "the bytes of jobs that have not ended")
}

/// Whether policy allows one more unended job. `full`: the message if the subject has as many as policy allows.
pub(super) fn check_quota(
    jobs: &Jobs,
    ctx: &Context,
    who: Subject<'_>,
    is_step: bool,
    full: impl FnOnce(u32) -> String,
) -> Result<(), Violation> {
    let Some(policy) = &ctx.config.authority.policy else {
        return Ok(());
    };
    let account = who.principal.account();
    let live = jobs.shares.live(&account, &ctx.config.limits, is_step).own;
    match policy.jobs(who).map(|quota| quota.most.get()).filter(|most| live >= *most as usize) {
        None => Ok(()),
        Some(most) => Err(Violation::exhausted("policy_jobs", account.bound_of(), most.into(), full(most))),
    }
}

/// The trust level of a session, without elevations.
pub(in crate::runtime) fn level_of(principal: &Principal, ceilings: &[Option<&Ceiling>]) -> TrustLevel {
    match (principal.is_anonymous(), ceilings.iter().any(Option::is_some)) {
        (true, _) => TrustLevel::Untrusted,
        (false, true) => TrustLevel::Constrained,
        (false, false) => TrustLevel::Trusted,
    }
}

/// Resolves the agent of a submit; a workflow is checked as a whole.
fn resolve_asked(ctx: &mut Context, asked: SubmitContext<'_>, grant: &Grant) -> Result<(AgentRef, bool), Violation> {
    let submit = asked.submit;
    if !is_agent(&submit.agent) {
        return resolve(ctx, asked.subject(), &submit.agent);
    }
    if asked.parent.is_some() {
        return Err(Violation::new(ErrorCode::FailedPrecondition, "a workflow is started below no other job"));
    }
    let bounds = (asked.features, asked.ceilings);
    check_workflow(ctx, submit, asked.subject(), bounds, grant).map(|agent| (agent, false))
}

/// A new trace id: 32 hex digits.
fn new_trace(ctx: &mut Context) -> String {
    let halves = [ctx.entropy.public_u64() | 1, ctx.entropy.public_u64()];
    let mut digits = [0; 32];
    for (two, byte) in digits.chunks_exact_mut(2).zip(halves.into_iter().flat_map(u64::to_be_bytes)) {
        two.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    // Hex digits are always UTF-8.
    core::str::from_utf8(&digits).unwrap_or_default().to_string()
}

fn taken() -> Violation {
    Violation::new(ErrorCode::DuplicateKey, "the idempotency key was used for a different submit: use a new key")
}

/// The digest that two equal submits share.
fn fingerprint(submit: &Submit) -> [u8; 32] {
    let mut asked = Object::new();
    asked.display("agent", &submit.agent);
    let input = submit.input.as_ref().filter(|input| !is_empty_object(input));
    asked
        .opt_json("input", input)
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref())
        .opt_str("parent_job_id", submit.parent.as_ref().map(WireId::as_str))
        .opt_str("delegate_id", submit.delegate_id.as_ref().map(WireId::as_str));
    if let Some(limit) = submit.max_runtime {
        asked.u64("max_runtime_sec", u64::from(limit.get()));
    }
    asked.json().fingerprint()
}

/// The digest that two submits of the same child share, from an agent or from a client.
pub(super) fn fingerprint_below(submit: &Submit) -> [u8; 32] {
    fingerprint(&Submit { parent: None, delegate_id: None, ..submit.clone() })
}

/// The digest that two jobs begun at the same checkpoint share.
fn fingerprint_at(at: &BegunAt) -> [u8; 32] {
    let mut asked = Object::new();
    asked.str("checkpoint_id", checkpoint::id_of(at.job, at.event).as_str());
    asked.json().fingerprint()
}

fn is_empty_object(json: &Json) -> bool {
    Members::parse(json.as_str()).is_ok_and(|members| members.0.is_empty())
}
