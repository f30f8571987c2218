//! Who issues credentials for jobs, and revokes them (1.1 §9.8).

mod calls;
#[cfg(feature = "https")]
pub mod litellm;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arcp_proto::id::JobId;
use arcp_proto::model::credential::{CredentialOrder, ProvisionedCredential, Renewal, Revocation};
use arcp_proto::secret::Secret;

pub(crate) use self::calls::Calls;

/// Issues credentials for jobs. Each call has a thread of its own and may wait. Who waits
/// for what is issued does so for
/// [`Timing::provision_timeout`](arcp_proto::runtime::Timing::provision_timeout): what comes
/// later is revoked. A revocation that takes more than 30 seconds is tried again.
///
/// Of 64 calls at once a principal may have a quarter of what the others leave: who submits
/// more is refused with `RESOURCE_EXHAUSTED`; steps of workflows, times of schedules and
/// revocations are tried again.
///
/// The runtime asks only once it is durable that credentials are wanted, keeps no value
/// beyond its memory, and has everything revoked that it does not use: of a job that is
/// over or was refused, that ran when the runtime ended, or whose order failed. So what
/// is issued must be found again by its job, and what is not there is revoked.
pub trait Provisioner: Send + Sync {
    /// Issues credentials for a job.
    ///
    /// # Errors
    ///
    /// Why not: the job is refused, and its submitter told. Whatever was issued all the
    /// same is revoked.
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError>;

    /// Gives a credential of a job another value: `order` has what is left of the budget.
    /// The [current](Renewal::current) value counts until it is revoked by itself.
    ///
    /// # Errors
    ///
    /// Why not: the credential keeps its value, and its agent is told. Whatever was issued
    /// all the same is revoked with the rest of the job.
    fn renew(&self, order: &CredentialOrder, renewal: &Renewal) -> Result<ProvisionedCredential, ProvisionError> {
        let CredentialOrder { job, .. } = order;
        Err(ProvisionError::new(format!("`{}` of {job} is issued once and for all", renewal.id)))
    }

    /// Revokes credentials of a job, of this run of the runtime or an earlier one. From
    /// its return on none of them counts.
    ///
    /// # Errors
    ///
    /// Why not: it is tried again.
    fn revoke(&self, job: JobId, what: &Revocation) -> Result<(), ProvisionError>;
}

/// Why credentials were not issued or revoked, in words for a person, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ProvisionError {
    reason: String,
    is_exhausted: bool,
}

impl ProvisionError {
    /// It did not work.
    pub fn new(reason: impl Into<String>) -> ProvisionError {
        ProvisionError { reason: reason.into(), is_exhausted: false }
    }

    /// The upstream has nothing left to spend: who submits is refused with
    /// `BUDGET_EXHAUSTED`, and so is an agent that wants another value.
    pub fn exhausted(reason: impl Into<String>) -> ProvisionError {
        ProvisionError { reason: reason.into(), is_exhausted: true }
    }

    /// Whether nothing is left to spend upstream.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }
}

/// Issues values that count nowhere: for samples and tests. Each job gets one, which
/// begins with `sk-sample-`.
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

/// The values of the only credential of a job, the latest last.
type Counting = Vec<Secret>;

impl InMemoryProvisioner {
    /// The jobs whose credentials count.
    pub fn counting(&self) -> Vec<JobId> {
        self.lock().keys().copied().collect()
    }

    /// Whether this value of a job counts.
    pub fn counts(&self, job: JobId, value: &str) -> bool {
        self.lock().get(&job).is_some_and(|values| values.iter().any(|counting| counting.expose() == value))
    }

    /// A panic elsewhere leaves whole entries.
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

/// What the only credential of a job is known by.
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
