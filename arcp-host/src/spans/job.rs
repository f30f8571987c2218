//! The spans of one job.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::Json;
use arcp_proto::lease::{Budget, Lease};
use arcp_proto::model::event::EventKind;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentReply, AgentSpec, JobRecord};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::Span;
use tracing::field::display;

use super::begin::{self, Place};
use crate::trace_context::{Caller, SpanContext};

/// The most open tool calls of a job; beyond that, the span of the first one ends.
pub const TOOLS_PER_JOB: usize = 64;

/// The longest shown name of a tool or a call, in bytes.
const NAME_BYTES: usize = 128;

/// The open spans of a job. Fields are dropped in order, so inner spans are closed first.
pub(super) struct JobSpans {
    tools: VecDeque<(String, Span)>,
    asked: BTreeMap<CallId, Span>,
    run: Option<Span>,
    pub(super) job: Span,
    delegation: Option<Span>,
    id: JobId,
    at: SpanContext,
    caller: Caller,
    /// The remaining budget.
    pub(super) left: Budget,
}

/// The body of a tool call, or of its result.
#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    call_id: Cow<'a, str>,
    #[serde(borrow, default)]
    tool: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl JobSpans {
    /// Begins the spans of an accepted job; `parent` is the job that delegated it.
    pub(super) fn begin(record: &JobRecord, parent: Option<&JobSpans>) -> JobSpans {
        let said = &record.invocation;
        let caller = Caller::of(&record.trace, said.span.as_deref(), said.unsampled);
        let at = SpanContext::of_job(record.job, &record.trace, caller);
        let named = caller.span.map(|span| SpanContext { span, ..at });
        let delegation = parent.map(|parent| {
            // The agent of the parent may have made spans of its own.
            let inherited = caller.span == parent.caller.span;
            let above = named.filter(|_| !inherited && at.trace == parent.at.trace).unwrap_or(parent.at);
            let delegation = parent.at.of_delegation(record.job);
            (delegation, begin::delegation(record, delegation, above, &parent.job))
        });
        let within = delegation.as_ref().filter(|(delegation, _)| delegation.trace == at.trace);
        let place = Place {
            at,
            parent: within.map_or(named, |(delegation, _)| Some(*delegation)),
            linked: delegation.as_ref().map(|(delegation, _)| *delegation).filter(|_| within.is_none()),
            caller,
        };
        let job = begin::job(record, &place, delegation.as_ref().map_or(&Span::none(), |(_, span)| span));
        let lease = Lease::parse(&record.lease).unwrap_or_default();
        if let Some(names) = names(&record.lease) {
            job.record("arcp.lease.capabilities", names);
        }
        JobSpans {
            tools: VecDeque::new(),
            asked: BTreeMap::new(),
            run: None,
            job,
            delegation: delegation.map(|(_, span)| span),
            id: record.job,
            at,
            caller,
            left: lease.budget().clone(),
        }
    }

    /// Ends the spans of a job.
    pub(super) fn end(self, status: FinalStatus, code: Option<&str>) {
        let failed = match status {
            FinalStatus::Error | FinalStatus::TimedOut => true,
            FinalStatus::Success | FinalStatus::Cancelled => false,
        };
        begin::fail(&self.job, failed);
        self.job.record("arcp.status", status.as_str()).record("arcp.error.code", code);
        if !self.left.is_empty() {
            let left: Vec<String> = self.left.iter().map(|(of, amount)| format!("\"{of}\":{amount}")).collect();
            self.job.record("arcp.budget.remaining", format!("{{{}}}", left.join(",")));
        }
        if let Some(delegation) = &self.delegation {
            delegation.record("arcp.status", status.as_str());
        }
    }

    /// Closes the spans; another run of the runtime reports the end of the job.
    pub(super) fn leave(self) {
        begin::leave(&self.job);
        self.delegation.iter().for_each(begin::leave);
    }

    /// Adds an event to the span of the job.
    pub(super) fn note(&self, what: &'static str) {
        begin::note(&self.job, what);
    }

    /// Begins the span of the agent's run.
    pub(super) fn start(&mut self, spec: &AgentSpec) {
        let span = begin::operation_of(self.id, &self.job, "arcp.agent");
        span.record("arcp.agent", display(&spec.agent)).record("arcp.restarts", spec.restarts);
        self.run = Some(span);
    }

    /// Ends the span of the agent's run.
    pub(super) fn exit(&mut self, exit: &AgentExit) {
        if let Some(span) = self.run.take() {
            let (outcome, code) = match exit {
                AgentExit::Success { .. } | AgentExit::Stored { .. } => ("done", None),
                AgentExit::Failure(error) => ("failed", Some(error.code.as_str())),
                AgentExit::Lost => ("lost", None),
            };
            begin::fail(&span, outcome != "done");
            span.record("arcp.outcome", outcome).record("arcp.error.code", code);
        }
        self.tools.clear();
        self.asked.clear();
    }

    /// Notes an event of the agent.
    pub(super) fn hear(&mut self, kind: &EventKind, body: &Json) {
        let (is_call, is_result) = (*kind == EventKind::ToolCall, *kind == EventKind::ToolResult);
        if !is_call && !is_result {
            return;
        }
        let Ok(tool) = serde_json::from_str::<Tool<'_>>(body.as_str()) else {
            return;
        };
        let call = cut(&tool.call_id);
        let known = self.tools.iter().position(|(open, _)| open == call);
        let earlier = known.and_then(|at| self.tools.remove(at));
        if let (true, Some((_, span))) = (is_result, earlier) {
            begin::fail(&span, tool.error.is_some());
            span.record("arcp.outcome", if tool.error.is_some() { "failed" } else { "done" });
        } else if is_call {
            if self.tools.len() >= TOOLS_PER_JOB {
                self.tools.pop_front();
            }
            let span = begin::operation_of(self.id, self.run.as_ref().unwrap_or(&self.job), "arcp.tool");
            span.record("arcp.call_id", call).record("arcp.tool", tool.tool.as_deref().map(cut));
            self.tools.push_back((call.to_string(), span));
        }
    }

    /// Begins the span of a call.
    pub(super) fn ask(&mut self, id: CallId, call: &AgentCall) {
        let name = match call {
            AgentCall::Authorize { .. } => "arcp.authorize",
            AgentCall::AwaitChild { .. } => "arcp.await_child",
            AgentCall::Ask { .. } => "arcp.ask",
            AgentCall::RenewCredential { .. } => "arcp.renew_credential",
            AgentCall::PutArtifact(_) => "arcp.put_artifact",
            // A delegation has a span already, and an event is not an operation.
            AgentCall::Delegate(_)
            | AgentCall::Emit { .. }
            | AgentCall::Chunk { .. }
            | AgentCall::Checkpoint { .. }
            | AgentCall::Remaining
            | AgentCall::Heartbeat
            | AgentCall::GoOn { .. }
            | AgentCall::Stream { .. } => return,
        };
        let span = begin::operation_of(self.id, self.run.as_ref().unwrap_or(&self.job), name);
        if let AgentCall::Authorize { operation, .. } = call {
            span.record("arcp.namespace", cut(operation));
        }
        if let AgentCall::AwaitChild { job } = call {
            span.record("arcp.child_job_id", display(job));
        }
        self.asked.insert(id, span);
    }

    /// Ends the span of a call.
    pub(super) fn answer(&mut self, id: CallId, reply: &AgentReply) {
        let Some(span) = self.asked.remove(&id) else {
            return;
        };
        let outcome = match reply {
            AgentReply::Refused(error) => {
                span.record("arcp.error.code", error.code.as_str());
                "refused"
            }
            AgentReply::Stopped => "stopped",
            AgentReply::ChildEnded(end) => end.status.as_str(),
            AgentReply::Taken { .. }
            | AgentReply::Remaining(_)
            | AgentReply::Allowed { .. }
            | AgentReply::Renewed(_)
            | AgentReply::Kept(_)
            | AgentReply::Delegated { .. }
            | AgentReply::Answered { .. } => "done",
        };
        span.record("arcp.outcome", outcome);
    }
}

/// The namespaces that a lease grants.
fn names(lease: &Json) -> Option<String> {
    let names: Vec<String> =
        serde_json::from_str::<BTreeMap<String, &RawValue>>(lease.as_str()).ok()?.into_keys().collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_BYTES)]
}
