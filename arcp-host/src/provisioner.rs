//! Issuing and revoking of credentials for jobs (1.1 §9.8).

mod calls;
#[cfg(feature = "https")]
pub mod litellm;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arcp_proto::id::JobId;
use arcp_proto::model::credential::{CredentialOrder, ProvisionedCredential, Renewal, Revocation};
use arcp_proto::secret::Secret;

pub(crate) use self::calls::Calls;

/// Issues credentials for jobs.
///
/// Each call has a thread of its own and may wait. The runtime waits for issued credentials for
/// [`Timing::provision_timeout`](arcp_proto::runtime::Timing::provision_timeout); credentials that
/// come later are revoked. A revocation that takes more than 30 seconds is tried again.
///
/// There are at most 64 calls at once, of which a principal may have a quarter of those that others
/// leave. A submit beyond that is refused with `RESOURCE_EXHAUSTED`; steps of workflows, times of
/// schedules and revocations are tried again.
///
/// The runtime asks only after the intent is durable. It keeps values in memory only, and has all
/// credentials revoked that it does not use: those of a job that has ended or was refused, of one
/// that ran when the runtime ended, and of a failed order. So a provisioner must be able to find
/// what it has issued by the job, and must accept a revocation of what does not exist.
pub trait Provisioner: Send + Sync {
    /// Issues credentials for a job.
    ///
    /// # Errors
    ///
    /// Why none were issued: the job is refused with this reason. Credentials that were issued
    /// nevertheless are revoked.
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError>;

    /// Replaces the value of a job's credential: `order` has the remaining budget. The
    /// [current](Renewal::current) value is valid until it is revoked by a separate call.
    ///
    /// # Errors
    ///
    /// Why it was not renewed: the credential keeps its value, and the agent is told. A value that
    /// was issued nevertheless is revoked with the other credentials of the job.
    fn renew(&self, order: &CredentialOrder, renewal: &Renewal) -> Result<ProvisionedCredential, ProvisionError> {
        let CredentialOrder { job, .. } = order;
        Err(ProvisionError::new(format!("`{}` of {job} is issued once and for all", renewal.id)))
    }

    /// Revokes credentials of a job, also of an earlier run of the runtime. After it returns, none
    /// of them is valid.
    ///
    /// # Errors
    ///
    /// Why they were not revoked: it is tried again.
    fn revoke(&self, job: JobId, what: &Revocation) -> Result<(), ProvisionError>;
}

/// Why credentials were not issued or revoked, as a text for people, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ProvisionError {
    reason: String,
    is_exhausted: bool,
}

impl ProvisionError {
    /// The call failed.
    pub fn new(reason: impl Into<String>) -> ProvisionError {
        ProvisionError { reason: reason.into(), is_exhausted: false }
    }

    /// The budget of the upstream is spent: the submit, or the renewal by an agent, is refused with
    /// `BUDGET_EXHAUSTED`.
    pub fn exhausted(reason: impl Into<String>) -> ProvisionError {
        ProvisionError { reason: reason.into(), is_exhausted: true }
    }

    /// Whether the budget of the upstream is spent.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }
}

/// Issues values that are valid nowhere, for samples and tests. Each job gets one, which begins
/// with `sk-sample-`.
///
/// ```
/// use arcp_host::provisioner::{InMemoryProvisioner, Provisioner as _};
/// use arcp_proto::{id::{JobId, Principal}, json::Json, model::{agent::AgentRef, credential::{CredentialOrder, Revocation}}};
/// let order = CredentialOrder {
///     job: JobId::from_ulid(ulid::Ulid::from_parts(1, 1)),
///     principal: Principal::new("alice").unwrap(),
///     agent: AgentRef::parse("echo").unwrap(),
///     lease: Json::parse(r#"{"model.use": ["gpt-*"]}"#).unwrap(),
///     expires_at: None,
///     renews: None,
/// };
/// let provisioner = InMemoryProvisioner::default();
/// assert_eq!(provisioner.issue(&order)?.len(), 1);
/// assert_eq!(provisioner.counting(), [order.job]);
/// provisioner.revoke(order.job, &Revocation::All)?;
/// assert!(provisioner.counting().is_empty());
/// # Ok::<(), arcp_host::provisioner::ProvisionError>(())
/// ```
#[derive(Debug, Default)]
pub struct InMemoryProvisioner {
    counting: Mutex<BTreeMap<JobId, Counting>>,
}

/// The values of a job's only credential, the latest last.
type Counting = Vec<Secret>;

impl InMemoryProvisioner {
    /// The jobs that have valid credentials.
    pub fn counting(&self) -> Vec<JobId> {
        self.lock().keys().copied().collect()
    }

    /// Whether this value of a job is valid.
    pub fn counts(&self, job: JobId, value: &str) -> bool {
        self.lock().get(&job).is_some_and(|values| values.iter().any(|counting| counting.expose() == value))
    }

    /// The lock may be poisoned by a panic elsewhere, but each entry is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Counting>> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, order: &CredentialOrder, value: Secret) -> ProvisionedCredential {
        self.lock().entry(order.job).or_default().push(value.clone());
        ProvisionedCredential {
            id: sample_id(order.job),
            scheme: "bearer".to_string(),
            value,
            endpoint: "http://127.0.0.1:9/v1".to_string(),
            profile: Some("generic".to_string()),
            constraints: Some(order.constraints()),
        }
    }
}

/// The id of a job's only credential.
fn sample_id(job: JobId) -> String {
    format!("cred-{job}")
}

impl Provisioner for InMemoryProvisioner {
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError> {
        let value = Secret::new(format!("sk-sample-{}", order.job));
        Ok(vec![self.count(order, value)])
    }

    fn renew(&self, order: &CredentialOrder, renewal: &Renewal) -> Result<ProvisionedCredential, ProvisionError> {
        let given = self.lock().get(&order.job).map_or(0, Vec::len);
        let own = || Secret::new(format!("sk-sample-{}-{}", order.job, given + 1));
        Ok(self.count(order, renewal.value.clone().unwrap_or_else(own)))
    }

    fn revoke(&self, job: JobId, what: &Revocation) -> Result<(), ProvisionError> {
        let mut counting = self.lock();
        let Some(values) = counting.get_mut(&job) else {
            return Ok(());
        };
        match what {
            Revocation::All => values.clear(),
            Revocation::Some(ids) if ids.contains(&sample_id(job)) => values.clear(),
            Revocation::Some(_) => {}
            Revocation::Value { value, .. } => values.retain(|counting| counting != value),
        }
        if values.is_empty() {
            counting.remove(&job);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::id::Principal;
    use arcp_proto::json::Json;
    use arcp_proto::model::agent::AgentRef;
    use arcp_proto::model::credential::Revocation;

    use super::*;

    #[test]
    fn a_value_counts_for_its_job_until_it_is_revoked() {
        let order = |n| CredentialOrder {
            job: JobId::from_ulid(ulid::Ulid::from_parts(1, n)),
            principal: Principal::new("p").expect("a name"),
            agent: AgentRef::parse("a").expect("a name"),
            lease: Json::empty_object(),
            expires_at: None,
            renews: None,
        };
        let (one, other) = (order(1), order(2));
        let provisioner = InMemoryProvisioner::default();
        let issue = |order: &CredentialOrder| provisioner.issue(order).expect("it is issued").remove(0).value;
        let (value, of_other) = (issue(&one), issue(&other));
        let counts = |value: &Secret| provisioner.counts(one.job, value.expose());
        assert_eq!((counts(&value), counts(&of_other)), (true, false));
        provisioner.revoke(one.job, &Revocation::All).expect("it is revoked");
        assert_eq!((counts(&value), provisioner.counts(other.job, of_other.expose())), (false, true));
    }
}
