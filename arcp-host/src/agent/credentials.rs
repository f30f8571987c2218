//! The issued credentials of a job, for its agent.

use arcp_proto::model::credential::ProvisionedCredential;
use arcp_proto::runtime::{AgentCall, AgentReply};
use arcp_proto::secret::Secret;

use super::replies::not_done;
use super::{AsyncContext, CallError, Context};

/// The credentials that were issued for a job when it was accepted. They are valid until it ends,
/// or until they are [renewed](renew_credential).
pub fn credentials(job: &Context) -> &[ProvisionedCredential] {
    &job.spec.credentials
}

/// Replaces the value of a credential by `value`, or by a newly issued one. Waits until that is
/// durable; then the earlier value is revoked, and the session that submitted the job is told the
/// new one.
///
/// # Errors
///
/// [`CallError::Refused`], and the credential keeps its value: with `UNAVAILABLE` if none was
/// issued or an earlier value is not revoked yet, with `BUDGET_EXHAUSTED` if the budget is spent,
/// with `INVALID_REQUEST` if the job has no such credential or the value is invalid.
/// [`CallError::Stopped`] as soon as the job is told to stop.
pub fn renew_credential(job: &Context, id: &str, value: Option<Secret>) -> Result<ProvisionedCredential, CallError> {
    renewed(job.ask(renewal(id, value))?)
}

/// As [`renew_credential`], for an async agent.
///
/// # Errors
///
/// As [`renew_credential`].
pub async fn renew_credential_of(
    job: &AsyncContext,
    id: &str,
    value: Option<Secret>,
) -> Result<ProvisionedCredential, CallError> {
    renewed(job.ask(renewal(id, value)).await?)
}

fn renewal(id: &str, value: Option<Secret>) -> AgentCall {
    AgentCall::RenewCredential { id: id.to_string(), value }
}

fn renewed(reply: AgentReply) -> Result<ProvisionedCredential, CallError> {
    if let AgentReply::Renewed(credential) = reply { Ok(*credential) } else { Err(not_done(reply)) }
}
