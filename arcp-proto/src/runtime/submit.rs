//! Submitting jobs: what is checked, what is claimed, what a retry gets
//! (1.1 §7.1, §7.2).

use alloc::string::String;

use super::Runtime;
use super::delivery::{Audience, Requests};
use super::io::{JobRecord, KeyRecord, Notice, Record};
use super::job::key_digest;
use super::job::{Job, NewJob, waiting_bytes};
use super::log::Waiter;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, JobId, Principal, SessionId, WireId};
use crate::json::{Json, Members, Object};
use crate::model::agent::AgentRef;
use crate::model::feature::Feature;
use crate::model::reply::{Concern, Refusal, Reply};
use crate::model::request::{Invocation, Submit};

/// A job that is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) submit: &'a Submit,
    pub(super) invocation: &'a Invocation,
    /// What makes another message of the same id the same.
    pub(super) command: [u8; 32],
}

impl Runtime {
    pub(super) fn on_submit(&mut self, conn: ConnId, session: SessionId, id: &WireId, asked: Asked<'_>) -> Reply {
        match self.submit(conn, session, id, asked) {
            Ok(accepted) => accepted,
            Err(violation) => {
                let trace = asked.submit.trace.clone();
                let refusal = Refusal { trace, ..Refusal::of(Concern::Submit, violation, Some(id.clone())) };
                self.refuse(conn, refusal.clone());
                Reply::Refused(refusal)
            }
        }
    }

    fn submit(
        &mut self,
        conn: ConnId,
        session_id: SessionId,
        id: &WireId,
        asked: Asked<'_>,
    ) -> Result<Reply, Violation> {
        let submit = asked.submit;
        let session = self.sessions.get(session_id).ok_or_else(|| Violation::invalid("the session is gone"))?;
        let principal = session.principal().clone();
        if submit.agent.version().is_some() && !session.view().features.has(Feature::AgentVersions) {
            return Err(Violation::invalid(
                "`name@version` needs the feature `agent_versions`, which was not negotiated",
            ));
        }
        check_authority(submit, self.ctx.config.limits.lease_bytes)?;
        // Only a key makes anybody compare what was asked for.
        let key = submit
            .key
            .as_ref()
            .map(|key| KeyRecord { digest: key_digest(&principal, key), fingerprint: fingerprint(submit) });
        if let Some(key) = &key
            && let Some(claim) = self.keys.get(&key.digest)
        {
            if claim.fingerprint != key.fingerprint {
                let taken = "the idempotency key was used for a different submit: use a new key";
                return Err(Violation::new(ErrorCode::DuplicateKey, taken));
            }
            let job = claim.job;
            self.check_requests(session_id, job, id)?;
            return self.rejoin(conn, session_id, id, job);
        }
        self.check_capacity(&principal, asked)?;
        let agent = self.resolve(&submit.agent)?;
        Ok(self.accept(conn, session_id, id, asked, principal, agent, key))
    }

    fn resolve(&self, asked: &AgentRef) -> Result<AgentRef, Violation> {
        let entry = self.ctx.config.agents.iter().find(|entry| entry.name == asked.name());
        entry
            .ok_or_else(|| {
                let message = alloc::format!("no agent is called `{}`", asked.name());
                Violation::new(ErrorCode::AgentNotAvailable, message)
            })?
            .resolve(asked)
    }

    fn check_capacity(&self, principal: &Principal, asked: Asked<'_>) -> Result<(), Violation> {
        let limits = &self.ctx.config.limits;
        if self.ctx.draining {
            return Err(Violation::new(ErrorCode::Unavailable, "the runtime is shutting down: submit again later"));
        }
        if self.ctx.log.failed {
            return Err(Violation::new(ErrorCode::Unavailable, "the store is failing: submit again later"));
        }
        let own = principal.account().bound_of();
        let live = self.jobs.live(principal, limits);
        if live.own >= limits.jobs_per_principal {
            let most = limits.jobs_per_principal as u64;
            let full = alloc::format!("{most} of your jobs have not ended: submit again when some have");
            return Err(Violation::exhausted("jobs_per_principal", own, most, full));
        }
        live.admit(1, limits.principal_share, own, "jobs", "jobs that have not ended")?;
        let none = Json::empty_object();
        let input = waiting_bytes(asked.submit.input.as_ref().unwrap_or(&none), asked.invocation);
        let waiting = self.jobs.waiting_bytes(principal, limits);
        let most = limits.waiting_input_bytes_per_principal;
        if waiting.own + input > most {
            let full =
                alloc::format!("the inputs of your jobs that have not started have more than {most} bytes: wait");
            let bound = "waiting_input_bytes_per_principal";
            return Err(Violation::exhausted(bound, own, most as u64, full));
        }
        waiting.admit(
            input,
            limits.principal_share,
            own,
            "waiting_input_bytes",
            "the inputs of jobs that have not started",
        )?;
        if self.jobs.len() >= limits.jobs && self.jobs.to_forget(principal, limits).is_none() {
            let full = "the runtime holds too many jobs: submit again when some have ended";
            return Err(Violation::exhausted("jobs", BoundOf::Runtime, limits.jobs as u64, full));
        }
        if asked.submit.key.is_some() {
            self.keys.check_room(principal, limits, self.ctx.now.mono)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn accept(
        &mut self,
        conn: ConnId,
        session: SessionId,
        id: &WireId,
        asked: Asked<'_>,
        principal: Principal,
        agent: AgentRef,
        key: Option<KeyRecord>,
    ) -> Reply {
        let Asked { submit, invocation, command } = asked;
        let limits = &self.ctx.config.limits;
        if let Some(ended) = self.jobs.to_forget(&principal, limits).filter(|_| self.jobs.len() >= limits.jobs) {
            self.forget_job(ended);
        }
        let job = JobId::from_ulid(self.ctx.entropy.ulid(self.ctx.now.utc));
        let trace = submit.trace.clone().unwrap_or_else(|| {
            alloc::format!("{:016x}{:016x}", self.ctx.entropy.public_u64() | 1, self.ctx.entropy.public_u64())
        });
        // Whoever may have a slot now has no job in line for one.
        let starts = self.jobs.take_slot(&principal, &self.ctx.config.limits);
        let new = NewJob {
            principal: principal.clone(),
            agent: agent.clone(),
            input: submit.input.clone().unwrap_or_else(Json::empty_object),
            lease: submit.lease_request.clone().unwrap_or_else(Json::empty_object),
            trace: trace.clone(),
            invocation: invocation.clone(),
            created_at: self.ctx.now.utc,
            max_runtime: submit.max_runtime,
            key,
        };
        let record = JobRecord {
            job,
            principal: principal.clone(),
            session,
            agent: agent.clone(),
            input: new.input.clone(),
            lease: new.lease.clone(),
            trace,
            invocation: invocation.clone(),
            request: id.clone(),
            command: Some(command),
            id_is_of_principal: self.sessions.get(session).is_some_and(|made| made.view().ids_are_of_principal()),
            starts,
            created_at: new.created_at,
            max_runtime: new.max_runtime,
            key: new.key,
        };
        let pos = self.ctx.append(Record::JobAccepted(record.into()));
        if let Some(key) = new.key {
            self.claim(principal.clone(), key, job);
        }
        let mut made = Job::new(new, session, pos, &self.ctx.config.limits);
        made.has_slot = starts;
        self.jobs.insert(job, made);
        self.delivery.add_job(job);
        self.delivery.own(session, job);
        self.delivery.join(session, job);
        self.delivery.show_to_subscribers(&self.ctx, &self.jobs, job);
        self.delivery.number_for_all(&mut self.ctx, &self.jobs, job, 0);
        self.carry();
        self.ctx.log.wait(pos, Waiter::Job(job));
        self.ctx.observe(Notice::JobAccepted { job, principal, agent });
        self.acceptance(conn, session, job, id)
    }

    /// Queues the acceptance of a job for one session, as one of its numbered
    /// frames where the family says so.
    fn acceptance(&mut self, conn: ConnId, session: SessionId, id: JobId, request: &WireId) -> Reply {
        let view = self.sessions.get(session).map(|session| *session.view());
        let (Some(view), Some(job)) = (view, self.jobs.get(id)) else {
            return Reply::Closed { reason: None, request: None };
        };
        let reply = job.accepted(id, Some(request));
        self.delivery.note_request(session, id, request);
        if view.numbers(&reply) {
            let first = self.delivery.number_past(&mut self.ctx, &self.jobs, session, id, 0);
            self.carry();
            self.connections.follow(conn, first);
        } else {
            // Whoever is told can rely on it, who came by a key as well.
            self.answer(conn, reply.clone());
        }
        reply
    }

    /// Whether one more request may ask for a job. A message that comes again
    /// always may.
    fn check_requests(&self, session: SessionId, id: JobId, request: &WireId) -> Result<(), Violation> {
        let most = self.ctx.config.limits.requests_per_job;
        let is_noted = self.sessions.get(session).is_some_and(|session| session.view().correlates());
        let full = |requests: &Requests| requests.count() >= most && requests.number_of(session, request).is_none();
        if is_noted && self.delivery.audience(id).map(Audience::requests).is_some_and(full) {
            let full = alloc::format!("{most} requests have asked for this job: follow it where you have it");
            return Err(Violation::exhausted("requests_per_job", BoundOf::Job, most as u64, full));
        }
        Ok(())
    }

    /// A retry with the same key: the original acceptance, then the events
    /// that follow, then the terminal (hello decision 4).
    pub(super) fn rejoin(
        &mut self,
        conn: ConnId,
        session_id: SessionId,
        id: &WireId,
        job_id: JobId,
    ) -> Result<Reply, Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "the job of this key has been forgotten: use a new key");
        let takes_chunks =
            self.sessions.get(session_id).is_some_and(|session| session.view().features.has(Feature::ResultChunk));
        if !takes_chunks {
            self.put_result_together(job_id)?;
        }
        let job = self.jobs.get(job_id).ok_or_else(gone)?;
        let requests = self.delivery.audience(job_id).ok_or_else(gone)?.requests();
        if job.is_over() && !job.keeps(job.count()) {
            let lost = "the job of this key has ended, and how is no longer kept: use a new key to run it again";
            return Err(Violation::new(ErrorCode::ResumeWindowExpired, lost));
        }
        let (over, before) = (job.is_over(), requests.latest(session_id));
        let is_new = requests.number_of(session_id, id).is_none();
        let owns = self.delivery.own(session_id, job_id);
        let joins = !over && self.delivery.join(session_id, job_id);
        let number = self.delivery.note_request(session_id, job_id, id);
        // A retry that changes nothing leaves nothing in the store.
        if owns || joins || number != before {
            let request = (is_new && number > 0).then(|| id.clone());
            self.delivery.note_joined(&mut self.ctx, job_id, session_id, owns, request, number);
        }
        let reply = self.acceptance(conn, session_id, job_id, id);
        self.delivery.number_end(&mut self.ctx, &self.jobs, session_id, job_id);
        self.carry();
        Ok(reply)
    }
}

/// Authority this runtime cannot enforce yet is refused, not ignored.
fn check_authority(submit: &Submit, lease_bytes: usize) -> Result<(), Violation> {
    if submit.parent.is_some() {
        return Err(Violation::invalid("`parent_job_id`: this runtime does not delegate jobs"));
    }
    if submit.lease_constraints.is_some() {
        return Err(Violation::invalid("`lease_constraints` needs `lease_expires_at`, which was not negotiated"));
    }
    let Some(lease) = &submit.lease_request else {
        return Ok(());
    };
    if lease.as_str().len() > lease_bytes {
        return Err(Violation::invalid(alloc::format!("`lease_request` has more than {lease_bytes} bytes")));
    }
    let members = lease.members().map_err(|e| Violation::invalid(alloc::format!("`lease_request`: {e}")))?;
    for (namespace, patterns) in &members.0 {
        let shown: String = namespace.chars().take(64).collect();
        if matches!(namespace.as_ref(), "cost.budget" | "cost_budget" | "model.use" | "model_use") {
            return Err(Violation::invalid(alloc::format!("`lease_request`: `{shown}` was not negotiated")));
        }
        let known = ["fs.read", "fs.write", "net.fetch", "tool.call", "agent.delegate"].contains(&namespace.as_ref())
            || namespace.starts_with("x-vendor.");
        let list: Option<alloc::vec::Vec<String>> = serde_json::from_str(patterns).ok();
        if !known || !list.is_some_and(|list| !list.is_empty() && list.iter().all(|pattern| !pattern.is_empty())) {
            let message =
                alloc::format!("`lease_request`: `{shown}` must be a known namespace with a list of patterns");
            return Err(Violation::invalid(message));
        }
    }
    Ok(())
}

/// What makes two submits the same (hello decision 3).
fn fingerprint(submit: &Submit) -> [u8; 32] {
    let mut asked = Object::new();
    asked.display("agent", &submit.agent);
    let input = submit.input.as_ref().filter(|input| !is_empty_object(input));
    asked
        .opt_json("input", input)
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref());
    if let Some(limit) = submit.max_runtime {
        asked.u64("max_runtime_sec", u64::from(limit.get()));
    }
    asked.json().fingerprint()
}

fn is_empty_object(json: &Json) -> bool {
    Members::of(json.as_str()).is_ok_and(|members| members.0.is_empty())
}
