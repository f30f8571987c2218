//! Requests to other runtimes to take jobs (RFC §14).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, OpId};
use arcp_proto::model::handoff::{HandoffAnswer, HandoffOrder};
use arcp_proto::runtime::Input;

use crate::agent::Inbox;

/// Asks other runtimes to take jobs. Each call has a thread of its own and may wait; a job has one
/// call at a time. The runtime waits for
/// [`Handoffs::timeout`](arcp_proto::runtime::Handoffs::timeout), and then asks again.
///
/// An answer decides who runs a job, so it must be exact:
///
/// * [`NotAsked`](HandoffAnswer::NotAsked) only if nothing of the job was sent: the receiver could
///   not be reached, did not prove its identity, or refused the session.
/// * [`Refused`](HandoffAnswer::Refused) only if the receiver refused the submit.
/// * [`Unknown`](HandoffAnswer::Unknown) whenever the receiver may have taken the job.
///
/// The submit must carry the [key](HandoffOrder::key) of the order, so that the receiver takes the
/// job once, however often it is asked. Only the receiver of the order may be asked, and it must
/// prove its identity before anything is sent to it.
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

/// Has a courier perform the requests of the core.
pub(crate) struct Errands {
    courier: Option<Arc<dyn Courier>>,
    inbox: Arc<dyn Inbox>,
    /// The jobs for which a call is in progress.
    on_the_way: Arc<Mutex<BTreeSet<JobId>>>,
    /// The most calls in progress, including those for jobs that have ended meanwhile.
    most: usize,
}

impl Errands {
    pub(crate) fn new(courier: Option<Arc<dyn Courier>>, inbox: Arc<dyn Inbox>, most: usize) -> Errands {
        Errands { courier, inbox, on_the_way: Arc::default(), most }
    }

    /// Asks a receiver, and reports the outcome, however late.
    pub(crate) fn hand_off(&self, op: OpId, order: HandoffOrder) {
        let answer = |answer| self.inbox.put(Input::HandedOff { op, answer });
        let Some(courier) = self.courier.clone() else {
            let message = "this runtime asks nobody".to_string();
            return answer(HandoffAnswer::NotAsked { code: ErrorCode::Unimplemented, message });
        };
        if locked(&self.on_the_way).len() >= self.most {
            let message = "too many other runtimes are still to answer".to_string();
            return answer(HandoffAnswer::NotAsked { code: ErrorCode::ResourceExhausted, message });
        }
        let Some(errand) = Errand::begin(&self.on_the_way, order.job, op, &self.inbox) else {
            return answer(HandoffAnswer::Unknown {
                message: "it was asked before and is still to answer".to_string(),
            });
        };
        let ask = move || {
            let mut errand = errand;
            // From here on, a call without an answer may have been taken.
            errand.begun = true;
            errand.answer = Some(courier.hand_over(&order));
        };
        // Without a thread, the closure is dropped, and dropping the errand posts the answer.
        let _ = std::thread::Builder::new().name("handoff".to_string()).spawn(ask);
    }
}

impl std::fmt::Debug for Errands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errands").field("is_there", &self.courier.is_some()).finish_non_exhaustive()
    }
}

/// One call, whose outcome is posted on drop.
struct Errand {
    on_the_way: Arc<Mutex<BTreeSet<JobId>>>,
    job: JobId,
    op: OpId,
    inbox: Arc<dyn Inbox>,
    begun: bool,
    answer: Option<HandoffAnswer>,
}

impl Errand {
    /// `None` if a call for this job is in progress.
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

/// The lock may be poisoned by a panic elsewhere, but each entry is whole.
fn locked(jobs: &Mutex<BTreeSet<JobId>>) -> MutexGuard<'_, BTreeSet<JobId>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use arcp_proto::json::Json;
    use arcp_proto::lease::Constraints;
    use arcp_proto::model::agent::AgentRef;
    use arcp_proto::model::handoff::Receiver as Other;
    use arcp_proto::model::request::Invocation;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Answers once the test lets it.
    struct Slow(Mutex<Receiver<()>>);

    impl Courier for Slow {
        fn hand_over(&self, _: &HandoffOrder) -> HandoffAnswer {
            let _ = self.0.lock().expect("nobody panics").recv_timeout(PATIENCE);
            HandoffAnswer::Taken { job: "there".to_string() }
        }
    }

    struct Told(Mutex<Sender<(OpId, HandoffAnswer)>>);

    impl Inbox for Told {
        fn put(&self, input: Input) {
            if let Input::HandedOff { op, answer } = input {
                let _ = self.0.lock().expect("nobody panics").send((op, answer));
            }
        }
    }

    fn order(n: u64) -> HandoffOrder {
        HandoffOrder {
            job: JobId::from_ulid(ulid::Ulid(n.into())),
            to: "east".to_string(),
            receiver: Other { url: "wss://east.test/arcp".to_string(), fingerprint: None },
            agent: AgentRef::parse("echo").expect("an agent"),
            input: Json::empty_object(),
            lease: Json::empty_object(),
            constraints: Constraints::default(),
            max_runtime: None,
            trace: String::new(),
            invocation: Invocation::default(),
        }
    }

    #[test]
    fn calls_of_jobs_that_have_ended_count_until_they_come_back() {
        let ((let_go, wait), (told, answers)) = (channel(), channel());
        let told: Arc<dyn Inbox> = Arc::new(Told(Mutex::new(told)));
        let errands = Errands::new(Some(Arc::new(Slow(Mutex::new(wait)))), told, 2);
        (0..3).for_each(|n| errands.hand_off(OpId(n), order(n)));
        let (op, answer) = answers.recv_timeout(PATIENCE).expect("an answer");
        let is_full = matches!(answer, HandoffAnswer::NotAsked { code: ErrorCode::ResourceExhausted, .. });
        assert!(op == OpId(2) && is_full, "{op:?} {answer:?}");
        (0..3).for_each(|_| let_go.send(()).expect("they wait"));
        for _ in 0..2 {
            let (_, answer) = answers.recv_timeout(PATIENCE).expect("an answer");
            assert!(matches!(answer, HandoffAnswer::Taken { .. }), "{answer:?}");
        }
        errands.hand_off(OpId(3), order(3));
        let (op, answer) = answers.recv_timeout(PATIENCE).expect("an answer");
        assert!(op == OpId(3) && matches!(answer, HandoffAnswer::Taken { .. }), "there is room again: {answer:?}");
    }
}
