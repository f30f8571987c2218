//! Changes of the policy, and of the roles by which it is asked: what they mean for open sessions.
//! And what operators are told of refusals by policy.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::prompts;
use crate::error::{ErrorCode, Violation};
use crate::id::SessionId;
use crate::model::request::Submit;
use crate::policy::{Policy, Quota};
use crate::runtime::Runtime;
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::delivery::{Delivery, be_viewed_by, is_shown_too_much};
use crate::runtime::io::Notice;
use crate::runtime::session::{Sessions, count_roles};

/// The reason for which a session is taken from its client.
const SHOWN_TOO_MUCH: &str =
    "policy no longer shows you what is watched here: open another session to go on without it";

/// Replaces the policy. Accepted jobs go on as they are; sessions that are shown jobs which they
/// may not see under the new policy are taken from their clients.
pub(in crate::runtime) fn on_policy(runtime: &mut Runtime, policy: Option<Box<Policy>>) {
    runtime.ctx.config.authority.policy = policy;
    count_roles(&mut runtime.sessions, &runtime.ctx.config);
    for session in runtime.sessions.ids().collect::<Vec<SessionId>>() {
        judge_anew(runtime, session);
    }
    for conn in runtime.connections.prompts.conns() {
        prompts::look_again(runtime, conn);
    }
}

/// Checks a session after the policy has changed, or its client has proved its principal again,
/// possibly with fewer roles.
pub(super) fn judge_anew(runtime: &mut Runtime, session: SessionId) {
    view_anew(&runtime.sessions, &mut runtime.delivery, session);
    if is_shown_too_much(&runtime.delivery, &runtime.ctx, &runtime.jobs, session) {
        runtime.sessions.evict(&mut runtime.ctx, session, ErrorCode::PermissionDenied, SHOWN_TOO_MUCH);
        runtime.carry();
    }
}

/// Applies the present roles of a session to what it is shown.
pub(super) fn view_anew(sessions: &Sessions, delivery: &mut Delivery, id: SessionId) {
    if let Some(session) = sessions.get(id) {
        be_viewed_by(&mut delivery.feeds, id, session.viewer());
    }
}

/// Tells operators if policy is why a submit was refused, and by which rule. The client is told
/// only that the agent does not exist, or how much it may have.
pub(super) fn note_refused(runtime: &mut Runtime, id: SessionId, submit: &Submit, refused: &Violation) {
    let Runtime { ctx, sessions, .. } = runtime;
    let (Some(policy), Some(session)) = (&ctx.config.authority.policy, sessions.get(id)) else {
        return; // Without a policy, another reason applies.
    };
    let who = session.subject();
    let (agent, principal) = (submit.agent.name(), who.principal.clone());
    let rule = policy.submit(who, agent).map(|rule| &rule.name);
    let of_quota = |quota: Option<Quota<'_>>| quota.map_or(String::new(), |quota| String::from(quota.rule));
    let why = match (&refused.code, rule) {
        (ErrorCode::AgentNotAvailable, None) => alloc::format!("no rule lets it submit `{agent}`"),
        (ErrorCode::PermissionDenied, Some(rule)) => alloc::format!("rule `{rule}`: {}", refused.message),
        (ErrorCode::ResourceExhausted, _) => match bound_of(refused).as_deref() {
            Some("policy_jobs") => alloc::format!("rule `{}`: {}", of_quota(policy.jobs(who)), refused.message),
            Some("policy_submits_per_second") => {
                alloc::format!("rule `{}`: {}", of_quota(policy.submits_per_second(who)), refused.message)
            }
            Some(_) | None => return,
        },
        _ => return,
    };
    if rule.is_none() {
        let entry = AuditEntry { session: Some(id), ..AuditEntry::new(AuditAct::Submit, &principal) };
        let why = alloc::format!("policy: {why}");
        ctx.audit_refused(entry, &Violation::new(ErrorCode::PermissionDenied, why));
    }
    ctx.observe(Notice::PolicyRefused { principal, session: Some(id), why });
}

/// The name of the bound that was reached, from the details of a refusal.
fn bound_of(refused: &Violation) -> Option<String> {
    refused.details.as_ref()?.members().ok()?.get_str("bound")
}
