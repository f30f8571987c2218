//! Authority: who may do what to which job. All such questions are decided here.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use super::config::Config;
use super::io::Verdict;
use super::job::{Job, Jobs, level_of};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, Principal};
use crate::lease::Ceiling;
use crate::policy::{Policy, Roles, Subject};
use crate::scope::Scopes;
use crate::time::InWords;
use crate::trust::TrustLevel;

/// What a principal asks to do to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// List, watch and subscribe to it.
    See,
    Cancel,
    /// Set the rate of its streams.
    Pace,
    /// Answer its questions to people.
    Answer,
    /// Submit a child of it.
    Delegate,
    /// Interrupt its agent.
    Interrupt,
    /// Send its agent a stream.
    Input,
    /// Hand it over to another principal or runtime.
    HandOver,
    /// Request a checkpoint of its agent.
    Checkpoint,
    /// Submit a job that begins at one of its checkpoints.
    Restore,
    /// Get a token for the remainder of it.
    Token,
}

/// The principal that looks at jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer<'a> {
    pub(super) principal: &'a Principal,
    /// The roles by which the policy may show it the jobs of others. `None`: its credential is
    /// bounded, and the policy shows it none.
    pub(super) roles: Option<&'a Roles>,
}

/// The session that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) viewer: Viewer<'a>,
    /// The scopes of its credential. No act requires a scope yet.
    #[cfg_attr(not(test), expect(dead_code, reason = "leases and roles will ask for scopes"))]
    pub(super) scopes: &'a Scopes,
    /// Whether the session submitted the job, or retried its submit by key.
    pub(super) owns: bool,
    /// Whether the session may cancel jobs that other sessions of its principal submitted. This is
    /// an extension (1.1 §7.6 lets the submitting session alone).
    pub(super) cancels_anywhere: bool,
    /// Whether the session can answer questions of jobs.
    pub(super) answers: bool,
    /// Whether its credential bounds what the session may grant. Such a session may change only the
    /// jobs that it submitted.
    pub(super) bounded: bool,
}

/// Why an act is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The job does not exist for this session: unknown, foreign and forgotten jobs look alike.
    /// Ended jobs are kept for this long.
    Unknown(Duration),
    /// The session may see the job, but only its submitter may do this.
    NotSubmitter(Act),
}

/// Whether a session may do something to a job.
///
/// # Errors
///
/// The reason of the refusal.
pub(super) fn may(config: &Config, who: Who<'_>, act: Act, job: &Job) -> Result<(), Reason> {
    let Who { viewer, owns, cancels_anywhere, answers, bounded, .. } = who;
    let is_own = job.spec().principal == *viewer.principal;
    // No session submitted the job of a schedule, so any session of its principal owns it.
    let owns = owns || is_own && !bounded && job.spec().bounds.firing.is_some();
    if !sees(config, viewer, job) {
        return Err(Reason::unknown(config));
    }
    let oversees = || oversees(config, viewer, job);
    match act {
        Act::See => Ok(()),
        Act::Cancel if is_own && cancels_anywhere && !bounded => Ok(()),
        Act::Cancel if owns || oversees() => Ok(()),
        Act::Pace if owns => Ok(()),
        Act::Answer if answers && is_own && (owns || !bounded) => Ok(()),
        Act::Answer if answers && oversees() => Ok(()),
        // The lease and budget of a child are its parent's.
        Act::Delegate | Act::Restore if is_own && (owns || !bounded) => Ok(()),
        Act::Interrupt | Act::HandOver | Act::Input | Act::Checkpoint if is_own && (owns || !bounded) => Ok(()),
        // A token carries the submitter's authority: overseers of the job get none.
        Act::Token if is_own && (owns || !bounded) => Ok(()),
        Act::Interrupt | Act::HandOver | Act::Checkpoint if oversees() => Ok(()),
        Act::Cancel
        | Act::Pace
        | Act::Answer
        | Act::Delegate
        | Act::Interrupt
        | Act::HandOver
        | Act::Input
        | Act::Checkpoint
        | Act::Token
        | Act::Restore => Err(Reason::NotSubmitter(act)),
    }
}

/// Whether a credential may open a session or keep it: a principal that oversees everybody's jobs
/// must have a credential without bounds.
///
/// # Errors
///
/// `PERMISSION_DENIED` for operators and auditors whose credential bounds what they may grant.
pub(super) fn check_credential(config: &Config, verdict: Option<&Verdict>) -> Result<(), Violation> {
    match verdict.filter(|verdict| verdict.ceiling.is_some() && sees_everything(config, &verdict.principal)) {
        None => Ok(()),
        Some(verdict) => {
            let who = &verdict.principal;
            let why = alloc::format!(
                "{who} oversees the jobs of everybody, and its credential is bounded: use another principal"
            );
            Err(Violation::new(ErrorCode::PermissionDenied, why))
        }
    }
}

impl Reason {
    /// That the job does not exist.
    pub(super) fn unknown(config: &Config) -> Reason {
        Reason::Unknown(config.retention())
    }
}

impl From<Reason> for Violation {
    fn from(reason: Reason) -> Violation {
        match reason {
            Reason::Unknown(kept) => {
                let why = alloc::format!("no such job is here: ended jobs are kept for {}", InWords(kept));
                Violation::new(ErrorCode::JobNotFound, why)
            }
            Reason::NotSubmitter(Act::Pace) => {
                Violation::new(ErrorCode::PermissionDenied, "only the session that submitted the job paces its streams")
            }
            Reason::NotSubmitter(Act::Answer) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not answer its questions: that is for its principal and operators",
            ),
            Reason::NotSubmitter(Act::Input) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not say anything to it: that is for its principal",
            ),
            Reason::NotSubmitter(Act::Interrupt) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not interrupt it: that is for its principal and operators",
            ),
            Reason::NotSubmitter(Act::Delegate) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not submit below it: that is for its principal",
            ),
            Reason::NotSubmitter(Act::HandOver) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not hand it over: that is for its principal and operators",
            ),
            Reason::NotSubmitter(Act::Checkpoint) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not ask for its checkpoints: that is for its principal and operators",
            ),
            Reason::NotSubmitter(Act::Token) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not have a token for it: that is for its principal",
            ),
            Reason::NotSubmitter(Act::Restore) => Violation::new(
                ErrorCode::PermissionDenied,
                "this session may watch the job, not run another one from its checkpoints: that is for its principal",
            ),
            Reason::NotSubmitter(Act::Cancel | Act::See) => Violation::new(
                ErrorCode::PermissionDenied,
                "only the session that submitted the job may cancel it: resume it, or submit again with its key",
            ),
        }
    }
}

/// The trust level of a session's principal.
pub(super) fn trust(config: &Config, principal: &Principal, ceilings: &[Option<&Ceiling>]) -> TrustLevel {
    let level = level_of(principal, ceilings);
    let runs_it = level == TrustLevel::Trusted && config.operators.contains(principal);
    if runs_it { TrustLevel::Privileged } else { level }
}

/// Whether the policy lets a principal grant a job more than its lease.
///
/// # Errors
///
/// `PERMISSION_DENIED` if it may not submit jobs of this agent itself. Operators may grant all.
pub(super) fn may_grant(config: &Config, who: Subject<'_>, job: &Job) -> Result<(), Violation> {
    if config.may_submit(who, job.spec().agent.name()) || config.operators.contains(who.principal) {
        return Ok(());
    }
    let why = "policy lets you grant nothing to jobs of this agent";
    Err(Violation::new(ErrorCode::PermissionDenied, why))
}

/// Whether a principal may see a job.
pub(super) fn sees(config: &Config, viewer: Viewer<'_>, job: &Job) -> bool {
    let (principal, owner) = (viewer.principal, &job.spec().principal);
    let is_shown = |(policy, who): (&Policy, Subject<'_>)| policy.watch(who, owner).is_some();
    owner == principal || sees_everything(config, principal) || policy_for(config, viewer).is_some_and(is_shown)
}

/// Whether a principal may do to a job of others what the owner's principal may.
fn oversees(config: &Config, viewer: Viewer<'_>, job: &Job) -> bool {
    let owner = &job.spec().principal;
    let lets = |(policy, who): (&Policy, Subject<'_>)| policy.oversee(who, owner).is_some();
    config.operators.contains(viewer.principal) || policy_for(config, viewer).is_some_and(lets)
}

/// Whether a principal may see jobs of any other.
pub(super) fn sees_others(config: &Config, viewer: Viewer<'_>) -> bool {
    let shows = |(policy, who): (&Policy, Subject<'_>)| policy.watches_anybody(who);
    sees_everything(config, viewer.principal) || policy_for(config, viewer).is_some_and(shows)
}

/// The policy, and the subject to ask it about, if it may show this viewer jobs of others.
fn policy_for<'a>(config: &'a Config, viewer: Viewer<'a>) -> Option<(&'a Policy, Subject<'a>)> {
    let policy = config.authority.policy.as_deref()?;
    Some((policy, Subject { principal: viewer.principal, roles: viewer.roles? }))
}

/// Whether a principal may see everybody's jobs.
pub(super) fn sees_everything(config: &Config, principal: &Principal) -> bool {
    config.auditors.contains(principal) || config.operators.contains(principal)
}

/// Whether a principal may list everybody's sessions.
///
/// # Errors
///
/// `PERMISSION_DENIED`, except for operators and auditors.
pub(super) fn may_list_sessions(config: &Config, principal: &Principal) -> Result<(), Violation> {
    let why = "sessions are listed for operators and auditors only";
    let permitted = sees_everything(config, principal);
    if permitted { Ok(()) } else { Err(Violation::new(ErrorCode::PermissionDenied, why)) }
}

/// Whether a principal may take sessions from their clients.
///
/// # Errors
///
/// `PERMISSION_DENIED`, except for operators.
pub(super) fn may_evict(config: &Config, principal: &Principal) -> Result<(), Violation> {
    let why = "only an operator takes sessions from their clients";
    let permitted = config.operators.contains(principal);
    if permitted { Ok(()) } else { Err(Violation::new(ErrorCode::PermissionDenied, why)) }
}

/// Replaces the operators and auditors. Returns the principals that may do less than before.
pub(super) fn oversee(
    config: &mut Config,
    operators: BTreeSet<Principal>,
    auditors: BTreeSet<Principal>,
) -> Vec<Principal> {
    let before =
        (core::mem::replace(&mut config.operators, operators), core::mem::replace(&mut config.auditors, auditors));
    let demoted = before.0.into_iter().filter(|operator| !config.operators.contains(operator));
    let mut lose: Vec<Principal> = demoted.collect();
    lose.extend(before.1.into_iter().filter(|auditor| !sees_everything(config, auditor)));
    lose
}

/// The jobs that a principal may see, oldest first.
pub(super) fn visible_jobs<'a>(
    config: &'a Config,
    jobs: &'a Jobs,
    viewer: Viewer<'a>,
) -> impl Iterator<Item = (JobId, &'a Job)> {
    perhaps_visible_jobs(config, jobs, viewer, None).filter(move |(_, job)| sees(config, viewer, job))
}

/// The jobs after `after`, oldest first, among which are all that the principal [may see](sees).
pub(super) fn perhaps_visible_jobs<'a>(
    config: &Config,
    jobs: &'a Jobs,
    viewer: Viewer<'a>,
    after: Option<JobId>,
) -> Box<dyn Iterator<Item = (JobId, &'a Job)> + 'a> {
    if sees_others(config, viewer) {
        return Box::new(jobs.table().of_all(after));
    }
    Box::new(jobs.table().of_principal(viewer.principal, after))
}

/// The principals that may see a job whatever the policy says: its own, operators and auditors.
pub(super) fn see_always<'a>(config: &'a Config, job: &'a Job) -> impl Iterator<Item = &'a Principal> {
    let overseers = config.auditors.union(&config.operators).filter(|overseer| **overseer != job.spec().principal);
    core::iter::once(&job.spec().principal).chain(overseers)
}
