//! Children and credentials that agents ask for: what takes more than their own job.

use super::{artifacts, note_cause};
use crate::id::{CallId, JobId};
use crate::runtime::Runtime;
use crate::runtime::io::{AgentCall, AgentReply};
use crate::runtime::job::delegation::{self, Delegated, Delegating, NewChild, WiderCall};
use crate::runtime::job::{provisioning, slots};

/// Handles what agents call, what takes more than their own job itself.
pub(in crate::runtime) struct CallHandler<'r> {
    runtime: &'r mut Runtime,
}

impl CallHandler<'_> {
    /// An agent calls; with `asked` once, and wants to know what becomes of that. The
    /// events of several calls are numbered together.
    pub(in crate::runtime) fn on_calls(
        runtime: &mut Runtime,
        id: JobId,
        asked: Option<CallId>,
        mut calls: impl ExactSizeIterator<Item = AgentCall>,
    ) {
        note_cause(runtime, id);
        runtime.ctx.expect_calls(calls.len());
        while let Some((call, bytes)) = runtime.agents().on_calls(id, asked, &mut calls) {
            // What it has said before comes before what others see of this.
            runtime.carry();
            CallHandler { runtime }.on_wider_call((id, asked, bytes), call);
        }
        runtime.ctx.expect_calls(0);
    }

    fn on_wider_call(mut self, (id, asked, bytes): (JobId, Option<CallId>, u64), call: WiderCall) {
        let Runtime { ctx, jobs, .. } = &mut *self.runtime;
        let Some(open) = delegation::open_call(jobs, ctx, id, asked, bytes) else {
            return; // Nothing it says counts any more.
        };
        let answer = match call {
            WiderCall::Delegate(asked) => match delegation::check_delegation(jobs, ctx, &open, &asked) {
                Ok(Delegated::Known(job)) => Some(AgentReply::Delegated { job }),
                Ok(Delegated::New(child)) => Some(AgentReply::Delegated { job: self.accept(&asked, *child) }),
                Err(refused) => Some(refused),
            },
            WiderCall::Await(child) => {
                delegation::on_await(jobs, ctx, &open, child).unwrap_or_else(|why| Some(why.into()))
            }
            WiderCall::Keep(terms) => match asked {
                Some(call) => artifacts::on_offer(self.runtime, id, call, terms).err().map(AgentReply::from),
                None => None, // Nobody is told what it would be known by.
            },
            WiderCall::Renew(id, value) => provisioning::renew(jobs, ctx, &open, (id, value)).err(),
        };
        let Runtime { ctx, jobs, .. } = self.runtime;
        delegation::close_call(jobs, ctx, open, answer);
    }

    /// Accepts a child. Its acceptance is sent to nobody who did not subscribe to
    /// jobs like it: it answers no request, and a published client would take it for
    /// the answer to its next one. The session of its parent may cancel it.
    fn accept(&mut self, asked: &Delegating, child: NewChild) -> JobId {
        let Runtime { ctx, jobs, .. } = &mut *self.runtime;
        if let Some(ended) = jobs.to_forget(ctx, child.principal()) {
            self.runtime.retention().forget(ended);
        }
        let session = child.session();
        let Runtime { ctx, jobs, delivery, .. } = &mut *self.runtime;
        let job = delegation::accept_child(jobs, ctx, asked, child);
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
