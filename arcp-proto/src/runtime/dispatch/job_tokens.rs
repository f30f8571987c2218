//! Tokens of jobs: issuing one, and exchanging it for a watch.

use super::requests::RequestHandler;
use super::watches::{Watched, show};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::model::feature::Feature;
use crate::model::job_token::{ExchangeToken, IssuedToken};
use crate::model::reply::{CommandReply, Reply};
use crate::model::request::Watch;
use crate::runtime::Runtime;
use crate::runtime::authority::{Act, Reason};
use crate::runtime::job::{Job, lease};
use crate::runtime::session::{Outcome, Session};
use crate::time::InWords;

/// Issues a token for a job. A repeated message is answered with another token, because the runtime
/// does not keep the first.
///
/// # Errors
///
/// If the session may not have one.
pub(super) fn on_issue(asked: &mut RequestHandler<'_>, job: &WireId) -> Result<Outcome, Violation> {
    check_negotiated(asked)?;
    let id = asked.permitted(Act::Token, job)?;
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    let known = jobs.get(id).map(|job| (job.spec().principal.clone(), job.count()));
    let (owner, after) = known.ok_or_else(|| Reason::unknown(&ctx.config))?;
    let token = jobs.tokens.issue(ctx, id, &owner, after);
    let request = Some(asked.id.clone());
    asked.answer(Reply::Command(CommandReply::Token(IssuedToken { token, after, request })));
    Ok(Outcome::Done)
}

/// Shows the session the remainder of the job that a token is for, and in any case its end, as if
/// the session had submitted the job.
///
/// # Errors
///
/// If the token is unknown, or of another principal's job: both look alike.
pub(super) fn on_exchange(asked: &mut RequestHandler<'_>, wish: &ExchangeToken) -> Result<Outcome, Violation> {
    check_negotiated(asked)?;
    let Runtime { ctx, sessions, jobs, .. } = &mut *asked.runtime;
    let session = sessions.get(asked.session);
    let is_of = |job: &Job| session.is_some_and(|session| job.spec().principal == *session.principal());
    let found = jobs.tokens.redeem(&wish.token);
    let found = found.filter(|(id, _)| jobs.get(*id).is_some_and(|job| !job.is_expired() && is_of(job)));
    let (id, issued) = found.ok_or_else(|| {
        let kept = InWords(ctx.config.retention());
        let why = alloc::format!(
            "no job that this token was issued for is here, for you: ended jobs are kept for {kept}, and a newer \
             token may have taken its place"
        );
        Violation::new(ErrorCode::JobNotFound, why)
    })?;
    let is_within = session.zip(jobs.get(id)).map_or(Ok(false), |(session, job)| {
        ctx.prove(session.principal(), |_, fuel| Ok(lease::is_within(job, session.allowance().ceilings(), fuel)))
    })?;
    // The end is always shown, because a client that follows the job waits for it.
    let last = jobs.get(id).map_or(0, |job| job.count() - u64::from(job.is_terminal()));
    let after = Some(wish.after.unwrap_or(issued).min(last));
    let watch = Watch { job: id.into(), after, history: Some(true) };
    show(asked, id, &watch, Watched { counts_in_job: true, owns: is_within })
}

fn check_negotiated(asked: &RequestHandler<'_>) -> Result<(), Violation> {
    let session = asked.runtime.sessions.get(asked.session);
    if session.is_some_and(|session: &Session| session.view().features.has(Feature::JobTokens)) {
        return Ok(());
    }
    let why = "tokens of jobs were not negotiated: offer the feature `job_tokens`";
    Err(Violation::new(ErrorCode::Unimplemented, why))
}
