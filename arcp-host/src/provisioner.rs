//! Who issues credentials for jobs, and revokes them (1.1 §9.8).

use std::collections::BTreeMap;
use std::sync::mpsc::{SendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arcp_proto::id::{JobId, OpId};
use arcp_proto::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Revocation};
use arcp_proto::runtime::Input;
use arcp_proto::secret::Secret;

use crate::agent::Inbox;

/// Orders and revocations that go on at once. More: they fail, and revocations are
/// tried again.
const AT_ONCE: usize = 64;
/// How long a revocation may take.
const REVOCATION: Duration = Duration::from_secs(30);

/// Issues credentials for jobs. Each call has a thread of its own and may wait; one
/// that takes too long is taken to have failed.
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
#[error("{0}")]
pub struct ProvisionError(pub String);

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
    counting: Mutex<BTreeMap<JobId, Secret>>,
}

impl InMemoryProvisioner {
    /// The jobs whose credentials count.
    pub fn counting(&self) -> Vec<JobId> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

/// What the only credential of a job is known by.
fn sample_id(job: JobId) -> String {
    format!("cred-{job}")
}

impl Provisioner for InMemoryProvisioner {
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError> {
        let value = Secret::new(format!("sk-sample-{}", order.job));
        self.counting.lock().unwrap_or_else(PoisonError::into_inner).insert(order.job, value.clone());
        Ok(vec![ProvisionedCredential {
            id: sample_id(order.job),
            scheme: "bearer".to_string(),
            value,
            endpoint: "http://127.0.0.1:9/v1".to_string(),
            profile: Some("generic".to_string()),
            constraints: Some(order.constraints()),
        }])
    }

    fn revoke(&self, job: JobId, what: &Revocation) -> Result<(), ProvisionError> {
        let mut counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = match what {
            Revocation::All => true,
            Revocation::Some(ids) => ids.contains(&sample_id(job)),
            Revocation::Value { value, .. } => counting.get(&job) == Some(value),
        };
        if is_meant {
            counting.remove(&job);
        }
        Ok(())
    }
}

/// Has a provisioner do what the core asks for, on threads.
pub(crate) struct Provisioning {
    provisioner: Option<Arc<dyn Provisioner>>,
    inbox: Arc<dyn Inbox>,
    /// How long an order may take.
    patience: Duration,
    /// One more reference for each call that goes on.
    going_on: Arc<()>,
}

impl Provisioning {
    pub(crate) fn new(
        provisioner: Option<Arc<dyn Provisioner>>,
        inbox: Arc<dyn Inbox>,
        patience: Duration,
    ) -> Provisioning {
        Provisioning { provisioner, inbox, patience, going_on: Arc::new(()) }
    }

    pub(crate) fn issue(&self, op: OpId, order: CredentialOrder) {
        let job = order.job;
        let tell = move |done: Option<Result<Vec<ProvisionedCredential>, ProvisionError>>| {
            let issuance = match done {
                Some(Ok(issued)) => Issuance::Issued(issued),
                Some(Err(ProvisionError(reason))) => Issuance::Failed { reason },
                None => Issuance::Failed { reason: "they were not issued in time".to_string() },
            };
            Input::CredentialsIssued { op, issuance }
        };
        // Nobody would know of what comes late: not even the core, which revokes before.
        let late = move |provisioner: &dyn Provisioner| drop(provisioner.revoke(job, &Revocation::All));
        self.call(self.patience, move |provisioner| provisioner.issue(&order), tell, late);
    }

    pub(crate) fn revoke(&self, op: OpId, job: JobId, what: Revocation) {
        let tell = move |done: Option<Result<(), ProvisionError>>| {
            let done = done.is_some_and(|revoked| revoked.is_ok());
            Input::CredentialsRevoked { op, done }
        };
        self.call(REVOCATION, move |provisioner| provisioner.revoke(job, &what), tell, |_| {});
    }

    /// Calls the provisioner on one thread while another one waits, and tells the core
    /// what came of it, or that nothing did in time.
    fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        call: impl FnOnce(&dyn Provisioner) -> T + Send + 'static,
        tell: impl FnOnce(Option<T>) -> Input + Send + 'static,
        late: impl FnOnce(&dyn Provisioner) + Send + 'static,
    ) {
        let answer = Answer { inbox: self.inbox.clone(), tell: Some(tell), done: None };
        let Some(provisioner) = self.provisioner.clone().filter(|_| Arc::strong_count(&self.going_on) <= AT_ONCE)
        else {
            return; // The answer is given as it is dropped.
        };
        let going_on = self.going_on.clone();
        // Nothing is taken that nobody waits for.
        let (give, taken) = sync_channel(0);
        let work = move || {
            if let Err(SendError(_)) = give.send(call(provisioner.as_ref())) {
                late(provisioner.as_ref());
            }
            drop(going_on);
        };
        let wait = move || {
            let mut answer = answer;
            if std::thread::Builder::new().name("provision".to_string()).spawn(work).is_ok() {
                answer.done = taken.recv_timeout(patience).ok();
            }
        };
        // Where there is no thread, the answer is dropped with what would wait, and so given.
        let _ = std::thread::Builder::new().name("provisioning".to_string()).spawn(wait);
    }
}

impl std::fmt::Debug for Provisioning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provisioning").field("is_there", &self.provisioner.is_some()).finish_non_exhaustive()
    }
}

/// What comes of a call, which is told however it ends.
struct Answer<T, F: FnOnce(Option<T>) -> Input> {
    inbox: Arc<dyn Inbox>,
    tell: Option<F>,
    done: Option<T>,
}

impl<T, F: FnOnce(Option<T>) -> Input> Drop for Answer<T, F> {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            self.inbox.put(tell(self.done.take()));
        }
    }
}
