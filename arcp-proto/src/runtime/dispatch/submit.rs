//! Routes a submit: to the job that it makes, or to the job that its key belongs to (1.1 §7.1,
//! §7.2).

use super::requests::RequestHandler;
use super::schedules;
use super::workflows::{self, check_below};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, OpId, Principal};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::credential::Issuance;
use crate::model::feature::{Feature, Features};
use crate::model::request::{Invocation, Submit};
use crate::runtime::Runtime;
use crate::runtime::asker::Asker;
use crate::runtime::authority::Act;
use crate::runtime::connection::{self, Checked, Conn, await_credentials};
use crate::runtime::delivery::{Audience, Joining, Requests};
use crate::runtime::job::checkpoint::Beginning;
use crate::runtime::job::deferral;
use crate::runtime::job::deferred::Delegating;
use crate::runtime::job::delegation;
use crate::runtime::job::{NewJob, Submission, SubmitContext, lease, provisioning, slots};
use crate::runtime::session::Outcome;

impl RequestHandler<'_> {
    /// Handles a submit. `None`: the host has to check its input first, and it is handled again
    /// then.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub(super) fn on_submit(
        &mut self,
        (submit, invocation): (&Submit, &Invocation),
        command: [u8; 32],
    ) -> Result<Option<Outcome>, Violation> {
        let session = self.runtime.sessions.get(self.session);
        let names_versions = session.is_some_and(|session| session.view().features.has(Feature::AgentVersions));
        if submit.agent.version().is_some() && !names_versions {
            return Err(Violation::invalid(
                "`name@version` needs the feature `agent_versions`, which was not negotiated",
            ));
        }
        submit_at(self, (submit, invocation), command, None)
    }

    /// Whether the input of a job was checked and fits its agent; false: the check has begun, and
    /// the submit is handled again then.
    pub(super) fn is_checked(
        &mut self,
        principal: &Principal,
        agent: &AgentRef,
        input: Option<&Json>,
    ) -> Result<bool, Violation> {
        let Runtime { ctx, connections, .. } = &mut *self.runtime;
        let of = Checked::Input(agent.clone());
        if let Some(verdict) = connections.get_mut(self.conn).and_then(|conn| conn.take_verdict(&of)) {
            return verdict.map(|()| true);
        }
        let none = Json::empty_object();
        connections.begin_check(ctx, (self.conn, principal), of, input.unwrap_or(&none))?;
        Ok(false)
    }

    /// Queues the acceptance of a job, as a numbered frame of the session if its family has it so.
    fn say_accepted(&mut self, id: JobId) {
        let Runtime { ctx, sessions, jobs, delivery, .. } = &mut *self.runtime;
        let view = sessions.get(self.session).map(|session| *session.view());
        let (Some(view), Some(job)) = (view, jobs.get(id)) else {
            debug_assert!(false, "{id} is there, and so is {}", self.session);
            return;
        };
        let reply = jobs.credentials.attach(id, self.session, job.accepted(Some(&self.id)));
        delivery.audiences.note_request(self.session, id, &self.id);
        if view.numbers(&reply) {
            let first = delivery.number_again(ctx, jobs, self.session, id, 0);
            self.runtime.carry();
            if let Some(conn) = self.runtime.connections.get_mut(self.conn) {
                conn.follow(first);
            }
        } else {
            // An acceptance is gated, so a client can rely on it, also if it came by a key.
            self.answer(reply);
        }
    }

    /// Whether one more request may name a job. A repeated message always may.
    fn check_requests(&self, id: JobId) -> Result<(), Violation> {
        let Runtime { ctx, sessions, delivery, .. } = &*self.runtime;
        let most = ctx.config.limits.job.requests_per_job;
        let is_noted = sessions.get(self.session).is_some_and(|session| session.view().correlates());
        let full =
            |requests: &Requests| requests.count() >= most && requests.number_of(self.session, &self.id).is_none();
        if is_noted && delivery.audiences.get(id).map(Audience::requests).is_some_and(full) {
            let full = alloc::format!("{most} requests have asked for this job: follow it where you have it");
            return Err(Violation::exhausted("requests_per_job", BoundOf::Job, most as u64, full));
        }
        Ok(())
    }

    /// Handles a retry with the same key: sends the original acceptance, then the events that
    /// follow, then the terminal.
    pub(super) fn rejoin(&mut self, id: JobId) -> Result<(), Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "the job of this key has been forgotten: use a new key");
        let session = self.runtime.sessions.get(self.session);
        if !session.is_some_and(|session| session.view().features.has(Feature::ResultChunk)) {
            self.put_result_together(id)?;
        }
        let Runtime { ctx, sessions, jobs, delivery, .. } = &mut *self.runtime;
        let session = sessions.get(self.session);
        let job = jobs.get(id).ok_or_else(gone)?;
        let audience = delivery.audiences.get(id).ok_or_else(gone)?;
        let requests = audience.requests();
        let is_within = match session {
            Some(session) => ctx.prove(session.principal(), |_, fuel| {
                Ok(lease::is_within(job, session.allowance().ceilings(), fuel))
            })?,
            None => false,
        };
        if !audience.owners().contains(&self.session) && !is_within {
            let why = "the job of this key may do more than this session may have done: it may watch it only";
            return Err(Violation::new(ErrorCode::PermissionDenied, why));
        }
        if is_within {
            jobs.credentials.show_to(id, self.session);
        }
        let job = jobs.get(id).ok_or_else(gone)?;
        if job.is_terminal() && !job.keeps(job.count()) {
            let lost = "the job of this key has ended, and how is no longer kept: use a new key to run it again";
            return Err(Violation::new(ErrorCode::ResumeWindowExpired, lost));
        }
        let (over, before) = (job.is_terminal(), requests.latest(self.session));
        let is_new = requests.number_of(self.session, &self.id).is_none();
        let owns = delivery.audiences.own(self.session, id);
        let joins = !over && delivery.audiences.join(self.session, id);
        let number = delivery.audiences.note_request(self.session, id, &self.id);
        // A retry that changes nothing adds no record.
        if owns || joins || number != before {
            let request = (is_new && number > 0).then(|| self.id.clone());
            delivery.audiences.note_joined(ctx, self.session, id, Joining { owner: owns, request, number });
        }
        self.say_accepted(id);
        let Runtime { ctx, jobs, delivery, .. } = &mut *self.runtime;
        delivery.number_end(ctx, jobs, self.session, id);
        self.runtime.carry();
        Ok(())
    }

    /// Puts the result of a job together for a client that comes late and does not read pieces.
    pub(super) fn put_result_together(&mut self, id: JobId) -> Result<(), Violation> {
        let Runtime { ctx, jobs, delivery, .. } = &mut *self.runtime;
        jobs.put_result_together(id, delivery.chunk_terms(&ctx.config.limits, id))
    }
}

/// Accepts a job, which may begin at a checkpoint of another one. `None`: the host has to check the
/// input first, and the request is handled again then.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn submit_at(
    asked: &mut RequestHandler<'_>,
    (submit, invocation): (&Submit, &Invocation),
    command: [u8; 32],
    begins: Option<&Beginning>,
) -> Result<Option<Outcome>, Violation> {
    let parent = submit.parent.as_ref().map(|parent| asked.permitted(Act::Delegate, parent)).transpose()?;
    parent.map_or(Ok(()), |parent| check_below(asked.runtime, parent))?;
    let Runtime { ctx, sessions, jobs, .. } = &mut *asked.runtime;
    let session = sessions.get(asked.session).ok_or_else(|| Violation::invalid("the session is gone"))?;
    let (principal, request) = (&session.principal().clone(), &asked.id.clone());
    let roles = &session.allowance().roles().clone();
    let id_is_of_principal = session.view().ids_are_of_principal();
    let ceilings = session.allowance().ceilings().map(Option::<&_>::cloned);
    let wanted = SubmitContext {
        id: None,
        submit,
        invocation,
        command: Some(command),
        request,
        id_is_of_principal,
        principal,
        roles,
        session: asked.session,
        parent,
        features: begins.map_or(session.view().lease_features(), |_| Features::new(&Feature::ALL)),
        ceilings: ceilings.each_ref().map(Option::as_ref),
        firing: None,
        begins,
    };
    let new = match jobs.check(ctx, wanted)? {
        Submission::Known(job) => {
            if jobs.get(job).is_some_and(|job| job.spec().principal != *principal) {
                let given = "the job of this key or name was handed over: use a new one to run it again";
                return Err(Violation::new(ErrorCode::FailedPrecondition, given));
            }
            asked.check_requests(job)?;
            return asked.rejoin(job).map(|()| Some(Outcome::Accepted(job)));
        }
        Submission::New(new) => new,
    };
    // Credentials are issued once the input fits.
    let issued = take_issued(asked, principal, &new)?;
    if issued.is_none() {
        let Runtime { ctx, sessions, .. } = &mut *asked.runtime;
        sessions.pace().check_submits(ctx, wanted.subject())?;
        if new.checks_input() && !asked.is_checked(principal, new.agent(), submit.input.as_ref())? {
            return Ok(None);
        }
        let orders = order_credentials(asked, principal, &new)?;
        let Runtime { ctx, sessions, .. } = &mut *asked.runtime;
        // This asks the host for work, whatever becomes of the submit.
        sessions.pace().note_submit(ctx, wanted.subject());
        if orders {
            return Ok(None);
        }
    }
    let wanted = SubmitContext { id: issued, ..wanted };
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    if let Some(ended) = jobs.first_to_forget(ctx, principal) {
        asked.runtime.retention().forget(ended);
    }
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    let taken = new.taken().to_vec();
    let job = jobs.accept(ctx, wanted, new);
    workflows::reserve(asked.runtime, job, submit.input.as_ref());
    let Runtime { ctx, jobs, delivery, .. } = &mut *asked.runtime;
    if parent.is_some() {
        delegation::tell_parent(jobs, ctx, job, &Delegating::of(submit));
    }
    delivery.add_job(job);
    delivery.audiences.own(asked.session, job);
    delivery.audiences.join(asked.session, job);
    delivery.subscriptions.show(ctx, (jobs, &delivery.feeds), job);
    delivery.number_for_all(ctx, jobs, job, 0..=0, None);
    asked.runtime.carry();
    asked.say_accepted(job);
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    lease::show_taken(jobs, ctx, job, &taken);
    slots::start_accepted(jobs, ctx, job);
    asked.runtime.carry();
    Ok(Some(Outcome::Accepted(job)))
}

/// The host has issued credentials, or has not: the request that waits for them is handled again.
pub(in crate::runtime) fn on_issued(runtime: &mut Runtime, op: OpId, issuance: Issuance) {
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    if let Some((asker, verdict)) = provisioning::on_issued(jobs, ctx, op, issuance) {
        hear(runtime, asker, op, verdict);
    }
}

/// The host has not issued credentials in time, for a request without a timer of its own.
pub(in crate::runtime) fn on_overdue(runtime: &mut Runtime, job: JobId) {
    if let Some((asker, op)) = provisioning::overdue(&runtime.jobs, job) {
        let late = Violation::new(ErrorCode::Unavailable, "the credentials of the job were not issued in time");
        hear(runtime, asker, op, Err(late));
    }
}

/// Handles a request again that waited for credentials.
fn hear(runtime: &mut Runtime, asker: Asker, op: OpId, verdict: Result<(), Violation>) {
    let Runtime { ctx, connections, jobs, .. } = &mut *runtime;
    match asker {
        Asker::Conn(conn) => {
            let judged = connection::on_credentials(connections, ctx, conn, op, verdict);
            runtime.hear_again(judged);
        }
        Asker::Agent(job) => deferral::judge(jobs, job, op, verdict),
        Asker::Step(job, at) => workflows::on_prepared(runtime, (job, at), op, verdict),
        Asker::Schedule(_) => schedules::on_prepared(runtime, op, verdict),
    }
}

/// The id of the job that credentials were issued for, if they are for this one.
///
/// # Errors
///
/// Why none were issued.
fn take_issued(
    asked: &mut RequestHandler<'_>,
    principal: &Principal,
    new: &NewJob,
) -> Result<Option<JobId>, Violation> {
    let conn = asked.runtime.connections.get_mut(asked.conn);
    let Some((ordered, verdict)) = conn.and_then(Conn::take_issued) else {
        return Ok(None);
    };
    verdict?;
    // The lease may be smaller by now: then other credentials are issued.
    let fits = ordered.fits(principal, new.agent(), new.lease());
    Ok(fits.then_some(ordered.job))
}

/// Orders credentials, if the job is to have some; the submit is handled again once they are
/// issued. Returns whether it ordered any.
///
/// # Errors
///
/// If there are too many.
fn order_credentials(asked: &mut RequestHandler<'_>, principal: &Principal, new: &NewJob) -> Result<bool, Violation> {
    let Runtime { ctx, connections, jobs, .. } = &mut *asked.runtime;
    let wanted = provisioning::order_for(jobs, ctx, Asker::Conn(asked.conn), (principal, new))?;
    let is_wanted = wanted.is_some();
    if let Some((op, ordered)) = wanted {
        await_credentials(connections, ctx, asked.conn, op, ordered);
    }
    Ok(is_wanted)
}
