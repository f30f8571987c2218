//! Who asks other runtimes to take jobs (RFC §14).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, OpId};
use arcp_proto::model::handoff::{HandoffAnswer, HandoffOrder};
use arcp_proto::runtime::Input;

use crate::agent::Inbox;

/// Asks other runtimes to take jobs. Each call has a thread of its own and may wait; a job
/// has one call at a time. The runtime waits for
/// [`Handoffs::timeout`](arcp_proto::runtime::Handoffs::timeout), and asks again after it.
///
/// An answer decides who runs a job, so it must be exact:
///
/// * [`NotAsked`](HandoffAnswer::NotAsked) only if nothing of the job was sent: the
///   receiver was not reached, was not who it should be, or let nobody in.
/// * [`Refused`](HandoffAnswer::Refused) only if the receiver answered the submit so.
/// * [`Unknown`](HandoffAnswer::Unknown) whenever it might have taken the job.
///
/// The submit has the [key](HandoffOrder::key) of the order, so that it takes the job once
/// however often it is asked. Nobody is asked but the receiver of the order, and it has to
/// prove that it is that one before it is sent anything.
///
/// ```
/// use arcp_host::handoff::Courier;
/// use arcp_proto::error::ErrorCode;
/// use arcp_proto::model::handoff::{HandoffAnswer, HandoffOrder};
/// /// Reaches nobody.
/// struct Offline;
/// impl Courier for Offline {
///     fn hand_over(&self, order: &HandoffOrder) -> HandoffAnswer {
///         HandoffAnswer::NotAsked { code: ErrorCode::Unavailable, message: format!("{} is far away", order.to) }
///     }
/// }
/// ```
pub trait Courier: Send + Sync {
    /// Asks the receiver of an order to take its job.
    fn hand_over(&self, order: &HandoffOrder) -> HandoffAnswer;
}

/// Has a courier do what the core asks for.
pub(crate) struct Errands {
    courier: Option<Arc<dyn Courier>>,
    inbox: Arc<dyn Inbox>,
    /// Jobs with a call that goes on.
    on_the_way: Arc<Mutex<BTreeSet<JobId>>>,
}

impl Errands {
    pub(crate) fn new(courier: Option<Arc<dyn Courier>>, inbox: Arc<dyn Inbox>) -> Errands {
        Errands { courier, inbox, on_the_way: Arc::default() }
    }

    /// Asks a receiver, and says what came of it, however late.
    pub(crate) fn hand_off(&self, op: OpId, order: HandoffOrder) {
        let answer = |answer| self.inbox.put(Input::HandedOff { op, answer });
        let Some(courier) = self.courier.clone() else {
            let message = "this runtime asks nobody".to_string();
            return answer(HandoffAnswer::NotAsked { code: ErrorCode::Unimplemented, message });
        };
        let Some(errand) = Errand::begin(&self.on_the_way, order.job, op, &self.inbox) else {
            return answer(HandoffAnswer::Unknown {
                message: "it was asked before and is still to answer".to_string(),
            });
        };
        let ask = move || {
            let mut errand = errand;
            // Unless it comes back nobody knows.
            errand.begun = true;
            errand.answer = Some(courier.hand_over(&order));
        };
        // Where there is no thread it is dropped, and so answered.
        let _ = std::thread::Builder::new().name("handoff".to_string()).spawn(ask);
    }
}

impl std::fmt::Debug for Errands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errands").field("is_there", &self.courier.is_some()).finish_non_exhaustive()
    }
}

/// One call, which is answered however it ends.
struct Errand {
    on_the_way: Arc<Mutex<BTreeSet<JobId>>>,
    job: JobId,
    op: OpId,
    inbox: Arc<dyn Inbox>,
    begun: bool,
    answer: Option<HandoffAnswer>,
}

impl Errand {
    /// `None`: one for this job goes on.
    fn begin(on_the_way: &Arc<Mutex<BTreeSet<JobId>>>, job: JobId, op: OpId, inbox: &Arc<dyn Inbox>) -> Option<Errand> {
        let is_only_one = locked(on_the_way).insert(job);
        let errand = || {
            let (on_the_way, inbox) = (on_the_way.clone(), inbox.clone());
            Errand { on_the_way, job, op, inbox, begun: false, answer: None }
        };
        is_only_one.then(errand)
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        locked(&self.on_the_way).remove(&self.job);
        let answer = self.answer.take().unwrap_or_else(|| match self.begun {
            true => HandoffAnswer::Unknown { message: "asking it broke off".to_string() },
            false => {
                let message = "the system gives no thread to ask it by".to_string();
                HandoffAnswer::NotAsked { code: ErrorCode::ResourceExhausted, message }
            }
        });
        self.inbox.put(Input::HandedOff { op: self.op, answer });
    }
}

/// A panic elsewhere leaves whole entries.
fn locked(jobs: &Mutex<BTreeSet<JobId>>) -> MutexGuard<'_, BTreeSet<JobId>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}
