//! The lease and budget of a job: what the job may do and what it may still spend. The runtime checks both
//! before each operation of the agent (1.1 §9.3, §9.5, §9.6).
//!
//! A lease and its end are fixed when the job is accepted. What is left of a budget is a record of its own,
//! in the batch of the expense, so it stays exact over restarts even if the events of the job are gone. A
//! reservation counts as spent until the agent settles it, and for good if the agent never does.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use super::grants::{self, Permit, too_dear};
use super::table::Table;
use super::{Job, Jobs};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, Principal};
use crate::json::{Json, Members, Object};
use crate::lease::{Amount, Budget, Ceiling, Constraints, Fuel, Lease, Namespace, Target};
use crate::model::event::{EventKind, JobError, JobEvent};
use crate::model::feature::{Feature, Features};
use crate::model::request::Submit;
use crate::policy::Subject;
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::config::Config;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{AgentReply, Record};
use crate::runtime::timers::Timer;
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// Prefix of metric names that report costs.
const COST: &str = "cost.";
/// Units of work that each question may take free of charge: about as many as it takes to read and answer
/// the question.
const FREE: u32 = 1 << 12;
/// Metrics that show a budget and spend nothing of it.
const GAUGES: &str = "cost.budget";

/// What a job is granted when it is accepted.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Grant {
    /// The effective lease, as clients are shown it.
    pub(super) lease: Json,
    pub(super) constraints: Constraints,
    budget: Budget,
    /// What the client asked for and is not granted unchanged.
    taken: Vec<String>,
}

/// What a job with a budget may still spend.
#[derive(Debug)]
pub(super) struct Purse {
    /// Available amounts, without what is reserved.
    left: Budget,
    /// What people have added to the granted budget, for this job and for those below it.
    raised: Budget,
    /// Reservations that are not settled, by number.
    reserved: BTreeMap<u64, Budget>,
    last_reservation: u64,
}

/// An operation that an agent reports by an event.
pub(super) struct Reported {
    operation: Namespace,
    target: String,
    /// The id by which the result of the call refers to it.
    call_id: String,
}

impl Grant {
    /// The grant of a submit, before policy: what the submit asks for, as far as this runtime supports it.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` that names what cannot be granted, or what needs a feature that was not negotiated.
    pub(super) fn of(ctx: &Context, submit: &Submit, features: Features) -> Result<Grant, Violation> {
        let needs = |feature: Feature, what: &str| match features.has(feature) {
            true => Ok(()),
            false => {
                let why = alloc::format!("{what} needs the feature `{feature}`, which was not negotiated");
                Err(Violation::invalid(why))
            }
        };
        let mut constraints = Constraints::default();
        if let Some(asked) = &submit.lease_constraints {
            needs(Feature::LeaseExpiresAt, "`lease_constraints`")?;
            constraints = Constraints::parse(asked, ctx.now.utc)?;
        }
        let Some(asked) = &submit.lease_request else {
            return Ok(Grant {
                lease: Json::empty_object(),
                constraints,
                budget: Budget::default(),
                taken: Vec::new(),
            });
        };
        let most = ctx.config.limits.job.lease_bytes;
        if asked.as_str().len() > most {
            return Err(Violation::invalid(alloc::format!("`lease_request` has more than {most} bytes")));
        }
        let lease = Lease::parse(asked)?;
        if !lease.budget().is_empty() {
            needs(Feature::CostBudget, "`lease_request`: `cost.budget`")?;
        }
        if lease.grants().any(|(namespace, _)| *namespace == Namespace::ModelUse) {
            needs(Feature::ModelUse, "`lease_request`: `model.use`")?;
        }
        Ok(Grant { lease: asked.clone(), constraints, budget: lease.budget().clone(), taken: Vec::new() })
    }

    /// Cuts the grant down to policy: to the ceilings of this runtime for the subject and the agent, and to those
    /// of the session's credentials (`ceilings`). A submit that asks for no lease gets the whole of the first
    /// ceiling, cut by the others. With `nothing_stays`, it gets no lease instead.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` if nothing is left, or if what is left cannot be expressed exactly; `LEASE_EXPIRED` if
    /// a ceiling has expired.
    pub(super) fn under(
        mut self,
        ctx: &Context,
        (who, agent): (Subject<'_>, &str),
        ceilings: [Option<&Ceiling>; 2],
        nothing_stays: bool,
        fuel: &mut Fuel,
    ) -> Result<Grant, Violation> {
        let denied = |why: String| Violation::new(ErrorCode::PermissionDenied, why);
        let mut bounds = ctx.config.ceilings(who, agent).chain(ceilings.into_iter().flatten()).peekable();
        if bounds.peek().is_none() {
            return Ok(self);
        }
        let asked = Lease::parse(&self.lease)?;
        let (asks_nothing, asks_patterns) = (asked.is_empty(), asked.grants().next().is_some());
        let mut left = asked.clone();
        for (at, ceiling) in bounds.enumerate() {
            if ceiling.is_over(ctx.now.utc) {
                return Err(Violation::new(ErrorCode::LeaseExpired, "what may be granted in this session is over"));
            }
            let (cut, taken) = match asks_nothing && !nothing_stays && at == 0 {
                true => (ceiling.lease.clone(), Vec::new()),
                false => ceiling.cut(&left, fuel)?,
            };
            left = cut;
            // A submit that asked for nothing is not told what was taken.
            self.taken.extend(taken.into_iter().filter(|_| !asks_nothing));
            self.constraints = ceiling.bound(self.constraints, ctx.now.utc);
        }
        let lacks_all = left.is_empty() && !(asks_nothing && nothing_stays);
        if lacks_all || (asks_patterns && left.grants().next().is_none()) {
            return Err(denied("policy grants nothing of the lease that is asked for".into()));
        }
        self.constraints.budget_is_hard &= !left.budget().is_empty();
        if left != asked {
            self.lease = left.to_json();
            self.budget = left.budget().clone();
        }
        let most = ctx.config.limits.job.lease_bytes;
        if self.lease.as_str().len() > most {
            let why = alloc::format!("the lease that policy leaves has more than {most} bytes: ask for less");
            return Err(denied(why));
        }
        Ok(self)
    }

    /// The grant of a child: within the grant of its parent, and in each currency that bounds its parent, an
    /// amount that the parent has left. A child that asks for no amount of a currency gets none.
    ///
    /// # Errors
    ///
    /// `LEASE_SUBSET_VIOLATION` that names what exceeds the parent's lease, or `INVALID_REQUEST`.
    pub(super) fn of_child(ctx: &Context, submit: &Submit, parent: &Job, fuel: &mut Fuel) -> Result<Grant, Violation> {
        const ALL: Features = Features::new(&[Feature::LeaseExpiresAt, Feature::CostBudget, Feature::ModelUse]);
        let asked = Grant::of(ctx, submit, ALL)?;
        let beyond = |why: String| Violation::new(ErrorCode::LeaseSubsetViolation, why);
        let bounds = parent.spec.bounds.constraints;
        let mut constraints = asked.constraints;
        if let (Some(asked), Some(end)) = (constraints.expires_at, bounds.expires_at)
            && asked > end
        {
            return Err(beyond(alloc::format!("the lease would end at {asked}: its parent's ends at {end}")));
        }
        bounds.expires_at.into_iter().for_each(|end| constraints.end_by(end));
        constraints.budget_is_hard |= bounds.budget_is_hard && !asked.budget.is_empty();
        let left = budget_left(parent);
        let lease = Lease::parse(&asked.lease)?.below(&left);
        let outer = Lease::parse(&parent.spec.lease).unwrap_or_default();
        outer.covers_with(&lease, fuel).map_err(|excess| beyond(excess.to_string()).with_details(excess.to_json()))?;
        if let Some(short) = left.lacks(lease.budget()) {
            let left = left.left(short.as_str()).unwrap_or(Amount::ZERO);
            let why = alloc::format!("`cost.budget`: of its parent's budget {left} {short} are left");
            return Err(beyond(why));
        }
        Ok(Grant { budget: lease.budget().clone(), lease: lease.to_json(), constraints, taken: Vec::new() })
    }

    /// Restricts this grant to a child of a job that has `left`. In currencies that bound the parent, a child
    /// that asks for no amount gets none: policy cannot grant one out of the parent's budget.
    ///
    /// # Errors
    ///
    /// If the lease cannot be read.
    pub(super) fn below(mut self, left: &Budget) -> Result<Grant, Violation> {
        let asked = Lease::parse(&self.lease)?.below(left);
        self.lease = asked.to_json();
        self.budget = asked.budget().clone();
        Ok(self)
    }

    /// This grant, with the list of what policy took from the request.
    pub(super) fn after(self, policy: Grant) -> Grant {
        Grant { taken: policy.taken, ..self }
    }

    pub(super) fn taken(&self) -> &[String] {
        &self.taken
    }

    /// The purse of the job, if its budget is bounded.
    pub(super) fn purse(&self) -> Option<Box<Purse>> {
        Purse::with(self.budget.clone())
    }
}

impl Purse {
    fn with(budget: Budget) -> Option<Box<Purse>> {
        let (raised, reserved) = (Budget::default(), BTreeMap::new());
        let purse = Purse { left: budget, raised, reserved, last_reservation: 0 };
        (!purse.left.is_empty()).then(|| Box::new(purse))
    }

    /// The purse for a lease that an earlier run granted. A lease that cannot be read grants nothing and bounds
    /// nothing.
    pub(super) fn of_granted(lease: &Json) -> Option<Box<Purse>> {
        if lease.is_empty_object() {
            return None;
        }
        Purse::with(Lease::parse(lease).ok()?.budget().clone())
    }

    /// The first currency that is used up: the job has nothing left of it, and neither have the jobs below it,
    /// reservations included.
    fn spent(&self, table: &Table, job: &Job) -> Option<String> {
        self.left.used_up()?;
        let mut unspent = self.unspent();
        let mut below: Vec<JobId> = job.children.iter().copied().collect();
        while let Some(child) = below.pop().and_then(|child| table.get(child)) {
            below.extend(&child.children);
            if let Some(purse) = child.purse.as_ref().filter(|_| !child.is_terminal()) {
                unspent.give_back(&purse.unspent());
            }
        }
        unspent.used_up().map(ToString::to_string)
    }

    /// What is left, reservations included.
    fn unspent(&self) -> Budget {
        let mut unspent = self.left.clone();
        self.reserved.values().for_each(|reserved| unspent.give_back(reserved));
        unspent
    }

    /// Approximate bytes that it holds.
    pub(super) fn weight(&self) -> usize {
        const ENTRY: usize = 128;
        ENTRY * (1 + self.left.iter().count() * (2 + self.reserved.len()))
    }

    /// The record of what is left.
    fn record(&self, job: JobId) -> Record {
        Record::BudgetLeft { job, left: self.left.clone(), raised: self.raised.clone() }
    }

    /// Counts what people have added for this job or for one below it.
    fn raise(&mut self, amounts: &Budget) {
        self.raised = core::mem::take(&mut self.raised).with(&self.left.bounding(amounts));
    }
}

/// The budget that the lease grants.
pub(in crate::runtime) fn budget_granted(job: &Job) -> Budget {
    if job.purse.is_none() {
        return Budget::default();
    }
    Lease::parse(&job.spec.lease).map(|lease| lease.budget().clone()).unwrap_or_default()
}

/// What people have added to that budget, for this job or for those below it.
pub(in crate::runtime) fn budget_raised(job: &Job) -> Budget {
    job.purse.as_ref().map(|purse| purse.raised.clone()).unwrap_or_default()
}

/// What is left of the budget, without what is reserved.
pub(in crate::runtime) fn budget_left(job: &Job) -> Budget {
    job.purse.as_ref().map(|purse| purse.left.clone()).unwrap_or_default()
}

/// Why the runtime has to end a job unasked: its lease has expired, or a hard budget is used up.
pub(super) fn obstacle(table: &Table, job: &Job, now: UtcMs) -> Option<Cause> {
    if !may_be_obstructed(job, now) {
        return None;
    }
    if job.spec.bounds.constraints.is_over(now) {
        return Some(Cause::LeaseExpired);
    }
    job.purse.as_ref().and_then(|purse| purse.spent(table, job)).map(|currency| {
        let why = alloc::format!("the budget is used up: no {currency} is left");
        Cause::Failed(JobError::new(ErrorCode::BudgetExhausted, why))
    })
}

/// Whether anything could end the job unasked: an expired lease, or a hard budget.
pub(super) fn may_be_obstructed(job: &Job, now: UtcMs) -> bool {
    let constraints = &job.spec.bounds.constraints;
    constraints.is_over(now) || (constraints.budget_is_hard && job.purse.is_some())
}

/// Adds a log event that lists what policy took from the requested lease, if it took anything.
pub(in crate::runtime) fn show_taken(jobs: &mut Jobs, ctx: &mut Context, id: JobId, taken: &[String]) {
    if taken.is_empty() {
        return;
    }
    let mut body = Object::new();
    let message = "policy grants less than was asked for: what is granted stands in the acceptance of the job";
    body.str("level", "warn").str("message", message);
    body.array("not_granted", taken.iter().map(|taken| serde_json::Value::from(taken.as_str()).to_string()));
    let event = JobEvent::Emitted { kind: EventKind::Log, body: body.json() };
    jobs.table.change(id, |job| job.append(ctx, event, false));
}

/// Sets the timer that ends the job when its lease expires.
pub(super) fn plan_expiry(job: &Job, ctx: &mut Context) {
    if let Some(at) = job.spec.bounds.constraints.expires_at {
        let longest = Duration::from_millis(at.0.saturating_sub(job.spec.created_at.0));
        let at = ctx.moment(at, longest);
        ctx.timers.set(Timer::LeaseExpiry(job.id), at);
    }
}

/// The trust level of a job, without elevations.
pub(in crate::runtime) fn trust(job: &Job) -> TrustLevel {
    if job.spec.principal.is_anonymous() { TrustLevel::Untrusted } else { job.spec.bounds.trust }
}

/// The trust level that an operation needs, if the job does not have it.
fn lacking_trust(
    job: &Job,
    config: &Config,
    (operation, target): (&Namespace, &Target),
    fuel: &mut Fuel,
) -> Result<Option<TrustLevel>, Violation> {
    let needed = config.trust_needed(operation, target, fuel).map_err(too_dear)?;
    Ok(needed.filter(|needed| trust(job) < *needed))
}

/// Whether the job lacks the trust level for an operation that its agent reports. If the comparison takes too
/// much work, the job counts as lacking it.
fn lacks_trust(job: &Job, ctx: &mut Context, operation: &Namespace, target: &str) -> bool {
    let Ok(target) = Target::new(operation, target) else {
        return false; // Not an operation that could be done.
    };
    let lacking = |ctx: &Context, fuel: &mut Fuel| lacking_trust(job, &ctx.config, (operation, &target), fuel);
    compared(ctx, &job.spec.principal, lacking).map_or(true, |lacking| lacking.is_some())
}

/// Runs a question that compares a target with patterns. The first `FREE` units of work cost nothing; beyond
/// that, the principal is charged as for proofs.
fn compared<T>(
    ctx: &mut Context,
    principal: &Principal,
    mut ask: impl FnMut(&Context, &mut Fuel) -> Result<T, Violation>,
) -> Result<T, Violation> {
    let mut fuel = Fuel::new(FREE);
    let answer = ask(ctx, &mut fuel);
    if fuel.is_spent() { ctx.prove(principal, ask) } else { answer }
}

/// Whether an operation is allowed at this moment, and by which pattern. Checked in this order: the lease has
/// not expired, every budget has something left, the job has the trust level that the operation needs, and a
/// pattern of the lease or of a permission matches.
///
/// # Errors
///
/// Why the operation is refused.
pub(super) fn authorize(
    job: &mut Job,
    ctx: &Context,
    (operation, target): (&Namespace, &str),
    fuel: &mut Fuel,
) -> Result<Permit, Violation> {
    let now = ctx.now.utc;
    let denied = |why: String| Violation::new(ErrorCode::PermissionDenied, why);
    if let Some(at) = job.spec.bounds.constraints.expires_at.filter(|at| *at <= now) {
        return Err(Violation::new(ErrorCode::LeaseExpired, alloc::format!("the lease ended at {at}")));
    }
    if let Some(currency) = job.purse.as_ref().and_then(|purse| purse.left.used_up()) {
        let why = alloc::format!("the budget is used up: no {currency} is left");
        return Err(Violation::new(ErrorCode::BudgetExhausted, why));
    }
    let target = Target::new(operation, target)
        .map_err(|why| denied(alloc::format!("{operation} on `{}` is never allowed: {why}", shown(target))))?;
    if let Some(needed) = lacking_trust(job, &ctx.config, (operation, &target), fuel)? {
        return grants::permit(job, now, (operation, &target), Some(needed), fuel)?.ok_or_else(|| {
            let (level, permission) = (trust(job), needed.permission());
            let why = alloc::format!(
                "{operation} on `{}` needs the trust level `{needed}`, and the job is `{level}`: ask for `{permission}`",
                shown(&target.to_string())
            );
            let mut details = Object::new();
            details.str("needs_trust", needed.as_str()).str("permission", &permission);
            denied(why).with_details(details.json())
        });
    }
    // Parsed on demand: only agents that ask need it in memory.
    let granted = &job.spec.lease;
    let lease = job.run.lease.get_or_insert_with(|| Box::new(Lease::parse(granted).unwrap_or_default()));
    if let Some(pattern) = lease.permits_with(operation, &target, fuel).map_err(too_dear)? {
        return Ok(Permit::of_lease(pattern.to_string()));
    }
    // A job with a lease, or below a job, may use only the models that its lease names.
    if *operation == Namespace::ModelUse && ctx.config.allows_models_without_lease() && !is_bound(job) {
        return Ok(Permit::of_lease("*".to_string()));
    }
    grants::permit(job, now, (operation, &target), None, fuel)?.ok_or_else(|| {
        denied(alloc::format!("the lease does not grant {operation} on `{}`", shown(&target.to_string())))
    })
}

/// Answers an agent that asks whether it may do an operation. A price is reserved in the budgets at once.
///
/// # Errors
///
/// Why the operation is refused.
pub(super) fn on_authorize(
    job: &mut Job,
    ctx: &mut Context,
    (operation, target): (&str, &str),
    price: &[String],
) -> Result<AgentReply, Violation> {
    let named = |error| Violation::invalid(alloc::format!("`{}` is no operation: {error}", shown(operation)));
    let operation: Namespace = operation.parse().map_err(named)?;
    let price = Budget::parse(price.iter().map(String::as_str))?;
    let refused = |ctx: &mut Context, job: &Job, why: Violation| {
        ctx.audit_refused(
            AuditEntry { job: Some(job.id), ..AuditEntry::new(AuditAct::Operate, &job.spec.principal) },
            &why,
        );
        why
    };
    let principal = job.spec.principal.clone();
    let permit = compared(ctx, &principal, |ctx, fuel| authorize(job, ctx, (&operation, target), fuel));
    let permit = permit.map_err(|why| refused(ctx, job, why))?;
    let reservation = reserve(job, ctx, price).map_err(|why| refused(ctx, job, why))?;
    let pattern = permit.take(job, ctx, Some(target));
    Ok(AgentReply::Allowed { pattern, reservation })
}

/// Reserves a price in the budgets, all of it or nothing. Currencies without a bound are not reserved: no
/// cost would ever settle them.
fn reserve(job: &mut Job, ctx: &mut Context, price: Budget) -> Result<Option<u64>, Violation> {
    let Some(purse) = &mut job.purse else {
        return Ok(None);
    };
    let price = purse.left.bounding(&price);
    if price.is_empty() {
        return Ok(None);
    }
    let most = ctx.config.limits.delivery.reservations_per_job;
    if purse.reserved.len() >= most {
        let full = alloc::format!("{most} reservations of this job are not settled: settle one first");
        return Err(Violation::exhausted("reservations_per_job", BoundOf::Job, most as u64, full));
    }
    purse.left.reserve(&price).map_err(|short| {
        let left = purse.left.left(short.as_str()).unwrap_or(Amount::ZERO);
        let why = alloc::format!("the price is more than is left of the budget: {left} {short}");
        Violation::new(ErrorCode::BudgetExhausted, why)
    })?;
    purse.last_reservation += 1;
    purse.reserved.insert(purse.last_reservation, price);
    let number = purse.last_reservation;
    // Counted as a recorded call: the agent gets its credit back once the record is durable.
    ctx.log.append(purse.record(job.id), Some(job.id));
    Ok(Some(number))
}

/// Adds amounts that people granted to the budget of a job, and shows the new balance in the job. The raised
/// total of every job above grows by the same amount, which those jobs cannot spend themselves.
pub(super) fn raise(jobs: &mut Jobs, ctx: &mut Context, id: JobId, amounts: &Budget) {
    let mut next = Some(id);
    while let Some(raised) = next {
        let done = jobs.table.change(raised, |job| {
            let above = job.spec.parent();
            let purse = job.purse.as_mut().filter(|purse| !purse.left.bounding(amounts).is_empty())?;
            purse.raise(amounts);
            if raised == id {
                purse.left.give_back(amounts);
            }
            ctx.append(purse.record(raised));
            if raised == id {
                let left = purse.left.bounding(amounts);
                let left: Vec<Json> = left.iter().map(|(currency, _)| remaining(purse, currency.as_str())).collect();
                for body in left {
                    job.append(ctx, JobEvent::Emitted { kind: EventKind::Metric, body }, false);
                }
            }
            above
        });
        next = done.flatten();
    }
}

/// The metric that shows what is left of a currency.
fn remaining(purse: &Purse, currency: &str) -> Json {
    let left = purse.left.left(currency).unwrap_or(Amount::ZERO);
    let mut body = Object::new();
    body.str("name", "cost.budget.remaining").raw("value", &left.to_string()).str("unit", currency);
    body.json()
}

/// Takes the budget of a child out of the budgets of its parent. The caller has checked that enough is left.
pub(super) fn take_for_child(job: &mut Job, ctx: &mut Context, budget: &Budget) {
    if let Some(purse) = job.purse.as_mut().filter(|_| !budget.is_empty()) {
        let taken = purse.left.reserve(budget);
        debug_assert_eq!(taken, Ok(()), "it was found to be enough in this input");
        ctx.append(purse.record(job.id));
    }
}

/// Returns what a child has left to its parent. If that is below zero, the parent pays it.
pub(super) fn take_back(job: &mut Job, ctx: &mut Context, left: &Budget) {
    if let Some(purse) = job.purse.as_mut().filter(|_| !left.is_empty()) {
        purse.left.give_back(left);
        ctx.append(purse.record(job.id));
    }
}

/// Whether everything that a job may do could have been granted in a session with these ceilings. If the
/// proof takes too much work, the answer is no.
pub(in crate::runtime) fn is_within(job: &Job, ceilings: [Option<&Ceiling>; 2], fuel: &mut Fuel) -> bool {
    let bounds = job.spec.bounds.constraints;
    ceilings.into_iter().flatten().all(|ceiling| {
        let lease = Lease::parse(&job.spec.lease).unwrap_or_default();
        let granted = lease.budget().clone().with(&budget_raised(job));
        let lease = lease.spending(granted);
        let ends = ceiling.bound(Constraints::default(), job.spec.created_at).expires_at;
        let in_time = ends.is_none_or(|end| bounds.expires_at.is_some_and(|at| at <= end));
        let in_money = bounds.budget_is_hard || !ceiling.budget_is_hard || lease.budget().is_empty();
        is_bound(job) && in_time && in_money && ceiling.cut(&lease, fuel).is_ok_and(|(cut, _)| cut == lease)
    })
}

/// Whether a lease bounds the job: the client asked for one, policy gave one, or the job has a parent. Without
/// any, nobody has said what is allowed.
fn is_bound(job: &Job) -> bool {
    !job.spec.lease.is_empty_object() || job.spec.bounds.parent.is_some()
}

/// Checks an operation that an agent reports against the lease: always if the agent asked, otherwise only if
/// a lease bounds the job. Required trust levels are checked in any case. An operation that is not allowed
/// becomes a failed tool result, which every reader of the job sees.
///
/// # Errors
///
/// Why the operation is not allowed.
pub(super) fn check_reported(
    job: &mut Job,
    ctx: &mut Context,
    reported: Option<Reported>,
    asked: bool,
) -> Result<(), Violation> {
    let bound = asked || is_bound(job);
    let looks = bound || !ctx.config.authority.needs_trust.is_empty();
    let Some(Reported { operation, target, call_id }) = reported.filter(|_| looks) else {
        return Ok(());
    };
    if !bound && !lacks_trust(job, ctx, &operation, &target) {
        return Ok(());
    }
    if !asked && grants::take_report(job, ctx, &operation, &target) {
        return Ok(());
    }
    let principal = job.spec.principal.clone();
    let permit = compared(ctx, &principal, |ctx, fuel| authorize(job, ctx, (&operation, &target), fuel));
    let why = match permit {
        Ok(permit) => {
            permit.take(job, ctx, None);
            return Ok(());
        }
        Err(why) => why,
    };
    let mut body = Object::new();
    body.str("call_id", &call_id).object("error", |error| {
        error.display("code", &why.code).str("message", &why.message).bool("retryable", why.code.retryable());
    });
    job.append(ctx, JobEvent::Emitted { kind: EventKind::ToolResult, body: body.json() }, false);
    let act = if operation == Namespace::AgentDelegate { AuditAct::Delegate } else { AuditAct::Operate };
    ctx.audit_refused(AuditEntry { job: Some(job.id), ..AuditEntry::new(act, &job.spec.principal) }, &why);
    Err(why)
}

/// The cost that a metric reports in a bounded currency, with the reservation that it settles. `None` for any
/// other event.
///
/// # Errors
///
/// If the cost is below zero, or not a number that can be counted.
pub(super) fn cost_of(job: &Job, event: &JobEvent) -> Result<Option<Cost>, Violation> {
    let (Some(purse), JobEvent::Emitted { kind: EventKind::Metric, body }) = (&job.purse, event) else {
        return Ok(None);
    };
    let members = body.members().unwrap_or_default();
    let Some(currency) = currency_of(&members, &purse.left) else {
        return Ok(None);
    };
    let value = members.get("value").unwrap_or_default();
    let amount = Amount::reported(value).ok_or_else(|| {
        let value = shown(value);
        Violation::invalid(alloc::format!("the cost `{value}` is refused: it must be zero or more, in 64 digits"))
    })?;
    let settles = members.get("reservation").and_then(|number| number.parse().ok());
    Ok(Some(Cost { currency, amount, settles }))
}

/// Spends a cost, and shows what is left.
pub(super) fn charge(job: &mut Job, ctx: &mut Context, cost: Cost) {
    let Some(purse) = job.purse.as_mut().expected("its currency was found in its purse") else {
        return;
    };
    let Cost { currency, amount, settles } = cost;
    if let Some(reserved) = settles.and_then(|number| purse.reserved.remove(&number)) {
        purse.left.give_back(&reserved);
    }
    purse.left.spend(&currency, amount);
    ctx.append(purse.record(job.id));
    let body = remaining(purse, &currency);
    job.append(ctx, JobEvent::Emitted { kind: EventKind::Metric, body }, false);
}

/// Drops what only a live job needs: the parsed lease and the reservations.
pub(super) fn close(job: &mut Job) {
    job.run.lease = None;
    if let Some(purse) = &mut job.purse {
        purse.reserved.clear();
    }
}

/// A cost in a currency that is bounded.
pub(super) struct Cost {
    currency: String,
    amount: Amount,
    settles: Option<u64>,
}

/// The bounded currency in which a metric reports a cost: its unit, or, without one, the end of its name.
fn currency_of(metric: &Members<'_>, bounded: &Budget) -> Option<String> {
    let name = metric.get_str("name")?;
    let kind = name.strip_prefix(COST)?;
    if name == GAUGES || name.strip_prefix(GAUGES).is_some_and(|rest| rest.starts_with('.')) {
        return None;
    }
    let unit = metric.get_str("unit");
    bounded.currency(unit.as_deref().unwrap_or(kind)).map(ToString::to_string)
}

impl Reported {
    /// The operation that an event reports, if it reports one.
    pub(super) fn by(event: &JobEvent) -> Option<Reported> {
        let JobEvent::Emitted { kind, body } = event else {
            return None;
        };
        let (operation, targets, id): (_, &[&str], _) = match kind {
            EventKind::ToolCall => (Namespace::ToolCall, &["tool"], "call_id"),
            EventKind::Delegate => (Namespace::AgentDelegate, &["agent", "target"], "delegate_id"),
            EventKind::Log
            | EventKind::Thought
            | EventKind::ToolResult
            | EventKind::Status
            | EventKind::Metric
            | EventKind::Artifact
            | EventKind::Progress
            | EventKind::Checkpoint
            | EventKind::InputRequest
            | EventKind::ChoiceRequest
            | EventKind::PermissionRequest
            | EventKind::PromptClosed
            | EventKind::LeaseGranted
            | EventKind::LeaseExtended
            | EventKind::LeaseRevoked
            | EventKind::StreamOpen
            | EventKind::StreamChunk
            | EventKind::StreamClose
            | EventKind::StreamError
            | EventKind::StoredArtifact
            | EventKind::WorkflowComplete
            | EventKind::Vendor(_) => return None,
        };
        let members = body.members().ok()?;
        let target = targets.iter().find_map(|name| members.get_str(name)).unwrap_or_default();
        Some(Reported { operation, target, call_id: members.get_str(id).unwrap_or_default() })
    }
}

/// The lease of a job has expired: ends the job.
pub(in crate::runtime) fn expire(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.end(ctx, id, Cause::LeaseExpired);
}

/// Restores what was left of the budgets of a job.
pub(in crate::runtime) fn restore_budget_left(table: &mut Table, id: JobId, left: Budget, raised: Budget) {
    table.change(id, |job| {
        if let Some(purse) = &mut job.purse {
            (purse.left, purse.raised) = (left, raised);
        }
    });
}

/// At most the first 128 characters of what an agent wrote.
fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(128) {
        Some((end, _)) => Cow::Owned(alloc::format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
