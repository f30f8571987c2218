//! Calls of agents that concern more than their own job: children and credentials.

use super::artifacts;
use crate::id::{CallId, JobId};
use crate::runtime::Runtime;
use crate::runtime::asker::Prepared;
use crate::runtime::io::{AgentCall, AgentReply};
use crate::runtime::job::deferral;
use crate::runtime::job::deferred::Delegating;
use crate::runtime::job::delegation::{self, Delegated, NewChild, OpenCall, WiderCall};
use crate::runtime::job::preparation::Next;
use crate::runtime::job::{provisioning, slots};

/// Handles calls of agents that concern more than their own job.
pub(super) struct CallHandler<'r> {
    runtime: &'r mut Runtime,
}

impl CallHandler<'_> {
    /// Handles calls of an agent. With `asked` there is one call, whose reply has that id. The
    /// events of several calls are numbered together.
    pub(super) fn on_calls(
        runtime: &mut Runtime,
        id: JobId,
        asked: Option<CallId>,
        mut calls: impl ExactSizeIterator<Item = AgentCall>,
    ) {
        runtime.ctx.expect_calls(calls.len());
        while !hold(runtime, (id, asked), &mut calls)
            && let Some((call, bytes)) = runtime.agents().on_calls(id, asked, &mut calls)
        {
            // The effects of its earlier calls come first.
            runtime.carry();
            CallHandler { runtime }.on_wider_call((id, asked, bytes), call, None);
        }
        runtime.ctx.expect_calls(0);
    }

    /// Continues a delegation that waited for the host; `prepared`: what the host did.
    pub(super) fn on_child(
        runtime: &mut Runtime,
        call: (JobId, Option<CallId>, u64),
        child: Delegating,
        prepared: Option<Prepared>,
    ) {
        CallHandler { runtime }.on_wider_call(call, WiderCall::Delegate(child), prepared);
    }

    /// `prepared`: what the host did for a child that waited for it.
    fn on_wider_call(
        mut self,
        (id, asked, bytes): (JobId, Option<CallId>, u64),
        call: WiderCall,
        prepared: Option<Prepared>,
    ) {
        let Runtime { ctx, jobs, .. } = &mut *self.runtime;
        let Some(open) = delegation::open_call(jobs, ctx, id, asked, bytes) else {
            return; // Calls of this agent do not count any more.
        };
        let answer = match call {
            WiderCall::Delegate(child) => match self.delegate(&open, child, prepared) {
                Some(answer) => Some(answer),
                None => return, // The call is handled again once the host has answered.
            },
            WiderCall::Await(child) => {
                delegation::on_await(jobs, ctx, &open, child).unwrap_or_else(|why| Some(why.into()))
            }
            WiderCall::Keep(terms) => match asked {
                Some(call) => artifacts::on_offer(self.runtime, id, call, terms).err().map(AgentReply::from),
                None => None, // Without a call id, the agent could not be told the artifact's id.
            },
            WiderCall::Renew(id, value) => provisioning::renew(jobs, ctx, &open, (id, value)).err(),
        };
        let Runtime { ctx, jobs, .. } = self.runtime;
        delegation::close_call(jobs, ctx, open, answer);
    }

    /// Makes a child, or refuses; `None`: the child waits for the host, and the call is handled
    /// again then.
    fn delegate(&mut self, open: &OpenCall, asked: Delegating, prepared: Option<Prepared>) -> Option<AgentReply> {
        let Runtime { ctx, jobs, .. } = &mut *self.runtime;
        let child = match delegation::check_delegation(jobs, ctx, open, &asked) {
            Ok(Delegated::Known(job)) => return Some(AgentReply::Delegated { job }),
            Ok(Delegated::New(child)) => child,
            Err(refused) => return Some(refused),
        };
        match deferral::prepare(jobs, ctx, open, &child, prepared) {
            Ok(Next::Accept(issued)) => Some(AgentReply::Delegated { job: self.accept(&asked, *child, issued) }),
            Ok(Next::Wait(preparing)) => {
                deferral::defer(jobs, ctx, open, asked, preparing);
                None
            }
            Err(why) => Some(delegation::refuse_child(jobs, ctx, open, &asked, child.name(), why)),
        }
    }

    /// Accepts a child. Its acceptance is sent only to subscriptions that cover it: it answers no
    /// request, and a published client would take it for the answer to its next one. The session of
    /// its parent may cancel it.
    fn accept(&mut self, asked: &Delegating, child: NewChild, issued: Option<JobId>) -> JobId {
        let Runtime { ctx, jobs, .. } = &mut *self.runtime;
        if let Some(ended) = jobs.first_to_forget(ctx, child.principal()) {
            self.runtime.retention().forget(ended);
        }
        let session = child.session();
        let Runtime { ctx, jobs, delivery, .. } = &mut *self.runtime;
        let job = delegation::accept_child(jobs, ctx, asked, (child, issued));
        delivery.add_job(job);
        delivery.audiences.own(session, job);
        delivery.subscriptions.show(ctx, (jobs, &delivery.feeds), job);
        delivery.number_for_all(ctx, jobs, job, 0..=0, None);
        self.runtime.carry();
        let Runtime { ctx, jobs, .. } = &mut *self.runtime;
        slots::start_accepted(jobs, ctx, job);
        self.runtime.carry();
        job
    }
}

/// While a delegation of an agent waits for the host: keeps the agent's other calls until after it,
/// except heartbeats. Returns whether one waits.
fn hold(
    runtime: &mut Runtime,
    (id, asked): (JobId, Option<CallId>),
    calls: &mut impl Iterator<Item = AgentCall>,
) -> bool {
    if !deferral::is_deferring(&runtime.jobs, id) {
        return false;
    }
    for call in calls {
        if call.is_free() {
            runtime.agents().on_calls(id, asked, &mut [call].into_iter());
        } else {
            deferral::hold(&mut runtime.jobs, &mut runtime.ctx, (id, asked), call);
        }
    }
    true
}
