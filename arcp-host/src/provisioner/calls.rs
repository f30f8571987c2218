//! Calls of a provisioner on threads, and bounds on their number for each principal.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arcp_proto::id::{JobId, OpId, Principal};
use arcp_proto::model::credential::{CredentialOrder, Issuance, Revocation};
use arcp_proto::runtime::Input;

use super::{ProvisionError, Provisioner};
use crate::agent::Inbox;

/// The most calls at once.
const AT_ONCE: usize = 64;
/// A principal may have this fraction of the calls that the others leave.
const SHARE: usize = 4;
/// How long a revocation may take.
const REVOCATION: Duration = Duration::from_secs(30);

/// Has a provisioner perform the requests of the core.
pub(crate) struct Calls {
    provisioner: Option<Arc<dyn Provisioner>>,
    inbox: Arc<dyn Inbox>,
    slots: Slots,
}

impl Calls {
    pub(crate) fn new(provisioner: Option<Arc<dyn Provisioner>>, inbox: Arc<dyn Inbox>) -> Calls {
        Calls { provisioner, inbox, slots: Slots::default() }
    }

    /// Has credentials issued, and reports the outcome, however late: only the core knows whether
    /// they are still wanted.
    pub(crate) fn issue(&self, op: OpId, order: CredentialOrder) {
        self.slots.own(order.job, &order.principal);
        let (job, is_first) = (order.job, order.renews.is_none());
        let tell = move |done: Option<Issuance>| {
            let broke_off = || Issuance::Failed { reason: "it broke off".to_string(), is_exhausted: false };
            Input::CredentialsIssued { op, issuance: done.unwrap_or_else(broke_off) }
        };
        let issue = move |provisioner: &dyn Provisioner| match order.renews.as_deref() {
            Some(renewal) => provisioner.renew(&order, renewal).map(|renewed| vec![renewed]),
            None => provisioner.issue(&order),
        };
        let Some((provisioner, slot, answer)) = self.begin(job, tell, Some(Issuance::Busy)) else {
            if is_first {
                // Nothing was issued that would have to be revoked.
                self.slots.disown(job);
            }
            return; // The core was answered by `begin`.
        };
        spawn(move || {
            let issued = issue(provisioner.as_ref());
            drop(slot);
            let failed = |ProvisionError { reason, is_exhausted }| Issuance::Failed { reason, is_exhausted };
            answer.give(Some(issued.map_or_else(failed, Issuance::Issued)));
        });
    }

    pub(crate) fn revoke(&self, op: OpId, job: JobId, what: Revocation) {
        let slots = self.slots.clone();
        let is_last = what == Revocation::All;
        let tell = move |done: Option<Result<(), ProvisionError>>| {
            let done = done.is_some_and(|revoked| revoked.is_ok());
            if done && is_last {
                slots.disown(job);
            }
            Input::CredentialsRevoked { op, done }
        };
        let Some((provisioner, slot, answer)) = self.begin(job, tell, None) else {
            return; // The core was answered by `begin`.
        };
        // A channel without room: a result that comes late is dropped, and the revocation is asked
        // for again.
        let (give, taken) = sync_channel(0);
        spawn(move || {
            // The call has a thread of its own, and may go on after its answer is too late.
            spawn(move || {
                let revoked = provisioner.revoke(job, &what);
                drop(slot);
                let _ = give.send(revoked);
            });
            answer.give(taken.recv_timeout(REVOCATION).ok());
        });
    }

    /// Gets what a call for a job needs. If it cannot be made, the core is answered: with `busy` if
    /// there are too many calls.
    fn begin<T, F: FnOnce(Option<T>) -> Input>(&self, job: JobId, tell: F, busy: Option<T>) -> Option<Begun<T, F>> {
        let answer = Answer { inbox: self.inbox.clone(), tell: Some(tell), done: None };
        let provisioner = self.provisioner.clone()?;
        let Some(slot) = self.slots.take(job) else {
            answer.give(busy);
            return None;
        };
        Some((provisioner, slot, answer))
    }
}

/// What a call needs: the provisioner, its slot, and the answer to the core.
type Begun<T, F> = (Arc<dyn Provisioner>, Slot, Answer<T, F>);

/// Starts a thread. If that fails, the work is dropped, and dropping its answer posts it.
fn spawn(work: impl FnOnce() + Send + 'static) {
    let _ = std::thread::Builder::new().name("provisioning".to_string()).spawn(work);
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("is_there", &self.provisioner.is_some()).finish_non_exhaustive()
    }
}

/// The calls in progress, by owner.
#[derive(Clone, Default)]
struct Slots(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// `None`: jobs of an earlier run, which have no known owner.
    by_owner: BTreeMap<Option<Principal>, usize>,
    owners: BTreeMap<JobId, Principal>,
}

impl Slots {
    /// The lock may be poisoned by a panic elsewhere, but it holds only numbers.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self, job: JobId, owner: &Principal) {
        self.lock().owners.insert(job, owner.clone());
    }

    fn disown(&self, job: JobId) {
        self.lock().owners.remove(&job);
    }

    /// A slot for one more call, if the owner of a job may have one.
    fn take(&self, job: JobId) -> Option<Slot> {
        let mut taken = self.lock();
        let owner = taken.owners.get(&job).cloned();
        let own = taken.by_owner.get(&owner).copied().unwrap_or(0);
        let left_by_others = AT_ONCE.saturating_sub(taken.all - own);
        if own >= left_by_others.div_ceil(SHARE) {
            return None;
        }
        taken.all += 1;
        *taken.by_owner.entry(owner.clone()).or_default() += 1;
        Some(Slot { slots: self.clone(), owner })
    }
}

/// A call in progress.
struct Slot {
    slots: Slots,
    owner: Option<Principal>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_owner.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                taken.by_owner.remove(&self.owner);
            }
        }
    }
}

/// The outcome of a call, which is posted on drop.
struct Answer<T, F: FnOnce(Option<T>) -> Input> {
    inbox: Arc<dyn Inbox>,
    tell: Option<F>,
    done: Option<T>,
}

impl<T, F: FnOnce(Option<T>) -> Input> Answer<T, F> {
    fn give(mut self, done: Option<T>) {
        self.done = done;
    }
}

impl<T, F: FnOnce(Option<T>) -> Input> Drop for Answer<T, F> {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            self.inbox.put(tell(self.done.take()));
        }
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::json::Json;
    use arcp_proto::model::agent::AgentRef;
    use arcp_proto::model::credential::Renewal;
    use arcp_proto::secret::Secret;
    use ulid::Ulid;

    use super::*;
    use crate::provisioner::InMemoryProvisioner;

    #[test]
    fn the_calls_of_one_principal_leave_room_for_those_of_others() {
        let slots = Slots::default();
        let mut held = Vec::new();
        for (n, name) in ["alice", "bob", "carol"].into_iter().enumerate() {
            let job = JobId::from_ulid(Ulid::from_parts(1, n as u128));
            slots.own(job, &Principal::new(name).expect("a name"));
            let before = held.len();
            held.extend(std::iter::from_fn(|| slots.take(job)));
            assert!(held.len() > before, "nothing is left for {name}");
            assert!(held.len() - before <= AT_ONCE / SHARE, "{name} has {}", held.len() - before);
        }
        // Jobs of an earlier run have room too.
        held.extend(slots.take(JobId::from_ulid(Ulid::from_parts(2, 0))));
        assert_eq!(slots.lock().by_owner.len(), 4);
        drop(held);
        let taken = slots.lock();
        assert_eq!((taken.all, taken.by_owner.len()), (0, 0));
    }

    /// Keeps what it is given.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Input>>);

    impl Inbox for Kept {
        fn put(&self, input: Input) {
            self.0.lock().expect("nobody panics").push(input);
        }
    }

    #[test]
    fn an_order_for_which_there_is_no_room_is_told_apart_and_owns_nothing() {
        let inbox = Arc::new(Kept::default());
        let calls = Calls::new(Some(Arc::new(InMemoryProvisioner::default())), inbox.clone());
        let principal = Principal::new("alice").expect("a name");
        let order = |n| CredentialOrder {
            job: JobId::from_ulid(Ulid::from_parts(1, n)),
            principal: principal.clone(),
            agent: AgentRef::parse("echo").expect("a name"),
            lease: Json::empty_object(),
            expires_at: None,
            renews: None,
        };
        let live = order(1);
        calls.slots.own(live.job, &principal);
        let held: Vec<Slot> = std::iter::from_fn(|| calls.slots.take(live.job)).collect();
        calls.issue(OpId(1), order(2));
        let current = Secret::new("sk".to_string());
        let renewal = Renewal { id: "cred".into(), current, value: None };
        calls.issue(OpId(2), CredentialOrder { renews: Some(Box::new(renewal)), ..live });
        let busy = |op| Input::CredentialsIssued { op: OpId(op), issuance: Issuance::Busy };
        assert_eq!(format!("{:?}", inbox.0.lock().expect("nobody panics")), format!("{:?}", [busy(1), busy(2)]));
        assert_eq!(calls.slots.lock().owners.len(), 1, "what goes on is still its owner's");
        drop(held);
    }
}
