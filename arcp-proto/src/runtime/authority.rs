//! Authority: who may do what to whose job. Every question of that kind is
//! asked here.

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

/// What somebody wants to do to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// List, watch and subscribe to it.
    See,
    Cancel,
    /// Say how often something may be said in its streams.
    Pace,
    /// Answer what it asks people.
    Answer,
    /// Submit a job below it.
    Delegate,
    /// Say something to its agent.
    Interrupt,
    /// Say something in a stream to its agent.
    Input,
    /// Make it somebody else's.
    HandOver,
    /// Have its agent make a checkpoint.
    Checkpoint,
    /// Run another one that begins at a checkpoint of it.
    Restore,
    /// Have a token for the rest of it.
    Token,
}

/// Who looks at jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer<'a> {
    pub(super) principal: &'a Principal,
    /// The roles by which policy may show it the jobs of others; `None`: a credential
    /// bounds it, and policy shows it none.
    pub(super) roles: Option<&'a Roles>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) viewer: Viewer<'a>,
    /// What its credential may be used for. No act asks for a scope yet.
    #[cfg_attr(not(test), expect(dead_code, reason = "leases and roles will ask for scopes"))]
    pub(super) scopes: &'a Scopes,
    /// Whether it asks in a session that submitted the job, or came by its key.
    pub(super) owns: bool,
    /// Whether its session may cancel what any session of its principal
    /// submitted: an extension of ours (1.1 §7.6 names the submitting session).
    pub(super) cancels_anywhere: bool,
    /// Whether its session can answer what jobs ask people.
    pub(super) answers: bool,
    /// Whether a credential bounds what may be granted in its session: then it
    /// changes no more than the jobs that it submitted.
    pub(super) bounded: bool,
}

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is no such job for whoever asks: unknown, foreign and forgotten ones
    /// look alike. Ended ones are kept for this long.
    Unknown(Duration),
    /// It may be seen, and only its submitter may do that.
    NotSubmitter(Act),
}

/// Whether somebody may do something to a job.
///
/// # Errors
///
/// Why not.
pub(super) fn may(config: &Config, who: Who<'_>, act: Act, job: &Job) -> Result<(), Reason> {
    let Who { viewer, owns, cancels_anywhere, answers, bounded, .. } = who;
    let is_own = job.spec().principal == *viewer.principal;
    // No session has asked for the jobs of a schedule: any of its principal's may do as if.
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
        // What a child may and spends is its parent's.
        Act::Delegate | Act::Restore if is_own && (owns || !bounded) => Ok(()),
        Act::Interrupt | Act::HandOver | Act::Input | Act::Checkpoint if is_own && (owns || !bounded) => Ok(()),
        // Nobody who oversees it has what its submitter gives to whom it likes.
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

/// Whether a credential may open a session or keep one: nobody oversees everybody
/// within bounds.
///
/// # Errors
///
/// `PERMISSION_DENIED` for operators and auditors whose credential bounds what they
/// may grant.
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
    /// That there is no such job.
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

/// How far whoever acts in a session is trusted.
pub(super) fn trust(config: &Config, principal: &Principal, ceilings: &[Option<&Ceiling>]) -> TrustLevel {
    let level = level_of(principal, ceilings);
    let runs_it = level == TrustLevel::Trusted && config.operators.contains(principal);
    if runs_it { TrustLevel::Privileged } else { level }
}

/// Whether policy lets somebody grant a job more than it has.
///
/// # Errors
///
/// `PERMISSION_DENIED` if it lets whoever grants submit no such job, but for operators.
pub(super) fn may_grant(config: &Config, who: Subject<'_>, job: &Job) -> Result<(), Violation> {
    if config.may_submit(who, job.spec().agent.name()) || config.operators.contains(who.principal) {
        return Ok(());
    }
    let why = "policy lets you grant nothing to jobs of this agent";
    Err(Violation::new(ErrorCode::PermissionDenied, why))
}

/// Whether somebody may see a job.
pub(super) fn sees(config: &Config, viewer: Viewer<'_>, job: &Job) -> bool {
    let (principal, owner) = (viewer.principal, &job.spec().principal);
    let is_shown = |(policy, who): (&Policy, Subject<'_>)| policy.watch(who, owner).is_some();
    owner == principal || sees_everything(config, principal) || policy_for(config, viewer).is_some_and(is_shown)
}

/// Whether somebody may do to a job of others what its principal may.
fn oversees(config: &Config, viewer: Viewer<'_>, job: &Job) -> bool {
    let owner = &job.spec().principal;
    let lets = |(policy, who): (&Policy, Subject<'_>)| policy.oversee(who, owner).is_some();
    config.operators.contains(viewer.principal) || policy_for(config, viewer).is_some_and(lets)
}

/// Whether there is anybody whose jobs somebody may see besides one's own.
pub(super) fn sees_others(config: &Config, viewer: Viewer<'_>) -> bool {
    let shows = |(policy, who): (&Policy, Subject<'_>)| policy.watches_anybody(who);
    sees_everything(config, viewer.principal) || policy_for(config, viewer).is_some_and(shows)
}

/// The policy, and of whom it is asked, if it may show somebody the jobs of others.
fn policy_for<'a>(config: &'a Config, viewer: Viewer<'a>) -> Option<(&'a Policy, Subject<'a>)> {
    let policy = config.authority.policy.as_deref()?;
    Some((policy, Subject { principal: viewer.principal, roles: viewer.roles? }))
}

/// Whether a principal may see the jobs of everybody.
pub(super) fn sees_everything(config: &Config, principal: &Principal) -> bool {
    config.auditors.contains(principal) || config.operators.contains(principal)
}

/// Whether somebody may list the sessions of everybody.
///
/// # Errors
///
/// `PERMISSION_DENIED`, but for operators and auditors.
pub(super) fn may_list_sessions(config: &Config, principal: &Principal) -> Result<(), Violation> {
    let why = "sessions are listed for operators and auditors only";
    let permitted = sees_everything(config, principal);
    if permitted { Ok(()) } else { Err(Violation::new(ErrorCode::PermissionDenied, why)) }
}

/// Whether somebody may take sessions from their clients.
///
/// # Errors
///
/// `PERMISSION_DENIED`, but for operators.
pub(super) fn may_evict(config: &Config, principal: &Principal) -> Result<(), Violation> {
    let why = "only an operator takes sessions from their clients";
    let permitted = config.operators.contains(principal);
    if permitted { Ok(()) } else { Err(Violation::new(ErrorCode::PermissionDenied, why)) }
}

/// Has these oversee the jobs of everybody, and nobody else; gives who may do less
/// than before.
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

/// The jobs that somebody may see, oldest first.
pub(super) fn visible_jobs<'a>(
    config: &'a Config,
    jobs: &'a Jobs,
    viewer: Viewer<'a>,
) -> impl Iterator<Item = (JobId, &'a Job)> {
    perhaps_visible_jobs(config, jobs, viewer, None).filter(move |(_, job)| sees(config, viewer, job))
}

/// The jobs after `after`, oldest first, that have to be looked through to find those
/// that somebody [may see](sees).
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

/// The principals that may see a job whatever policy says: its own, and those that see
/// everything.
pub(super) fn see_always<'a>(config: &'a Config, job: &'a Job) -> impl Iterator<Item = &'a Principal> {
    let overseers = config.auditors.union(&config.operators).filter(|overseer| **overseer != job.spec().principal);
    core::iter::once(&job.spec().principal).chain(overseers)
}
