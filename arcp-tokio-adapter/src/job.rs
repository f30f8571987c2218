//! A job that is followed: its updates, until it ends.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use arcp_host::client::{ClientError, JobEnd, JobUpdate, Last};
use arcp_proto::error::ApiMisuse;
use arcp_proto::id::WireId;
use arcp_proto::model::credential::ProvisionedCredential;
use arcp_proto::model::event::JobEvent;
use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

/// With more updates than this that the application has not taken, the transport is not read.
const UNREAD: usize = 8192;

/// A job that is followed: a [`Stream`] of its events.
///
/// Each of its methods takes updates from the same queue. If the application takes none, the whole session stops
/// reading: drop a job whose updates nobody needs.
pub struct Job {
    /// The job.
    pub id: WireId,
    /// The agent, as resolved.
    pub agent: String,
    /// The id of its trace.
    pub trace: Option<String>,
    /// The credentials that were issued for the job. They are sent to the session that submitted it, if that offers
    /// [`Feature::ProvisionedCredentials`](arcp_proto::model::feature::Feature::ProvisionedCredentials).
    pub credentials: Vec<ProvisionedCredential>,
    /// [`Unread`] bounds the queue.
    updates: UnboundedReceiver<Held>,
    /// The last update, if it was taken by a method that returns only events.
    last: Option<Last>,
}

impl Job {
    pub(crate) fn new(id: WireId, agent: String, trace: Option<String>, updates: UnboundedReceiver<Held>) -> Job {
        Job { id, agent, trace, credentials: Vec::new(), updates, last: None }
    }

    /// The next update; waits for it. `None` after the last one. Updates also report lost connections and missed
    /// events.
    pub async fn next_update(&mut self) -> Option<JobUpdate> {
        self.updates.recv().await.map(Held::take)
    }

    /// The next event; waits for it. `None` if the job has ended or the runtime stopped showing it; then
    /// [`wait`](Self::wait) returns at once and says which.
    pub async fn next_event(&mut self) -> Option<JobEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Waits until the job ends; skips events that were not taken before.
    ///
    /// # Errors
    ///
    /// If the runtime does not show the job any more, the session has ended before, or the end was already taken as an
    /// update. A failed job is no error here: see [`JobEnd::terminal`].
    pub async fn wait(&mut self) -> Result<&JobEnd, ClientError> {
        while self.last.is_none() && self.next_event().await.is_some() {}
        let taken = ApiMisuse::Argument("the end of the job was taken as an update");
        self.last.as_ref().ok_or(taken)?.end()
    }
}

impl Stream for Job {
    type Item = JobEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        loop {
            let Poll::Ready(update) = self.updates.poll_recv(cx) else {
                return Poll::Pending;
            };
            let Some(update) = update else {
                return Poll::Ready(None);
            };
            match update.take().into_event() {
                Ok(Some(event)) => return Poll::Ready(Some(event)),
                Ok(None) => {}
                Err(last) => {
                    self.last = Some(last);
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// Counts the updates that the application has not taken. With too many, the transport is not read.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    count: AtomicUsize,
    waiter: Mutex<Option<Waker>>,
}

impl Unread {
    /// Whether the transport is to be read. If not, the task is woken when it is.
    pub(crate) fn has_room(&self, cx: &Context<'_>) -> bool {
        if self.count.load(Ordering::SeqCst) <= UNREAD {
            return true;
        }
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        // Updates that were taken before the waker was stored woke nobody: look again.
        self.count.load(Ordering::SeqCst) <= UNREAD
    }

    fn taken(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == UNREAD + 1 {
            let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
            waiter.into_iter().for_each(Waker::wake);
        }
    }
}

/// An update that counts as unread until it is taken or dropped.
#[derive(Debug)]
pub(crate) struct Held {
    update: JobUpdate,
    _unread: Counted,
}

impl Held {
    pub(crate) fn new(update: JobUpdate, unread: &Arc<Unread>) -> Held {
        unread.count.fetch_add(1, Ordering::SeqCst);
        Held { update, _unread: Counted(unread.clone()) }
    }

    fn take(self) -> JobUpdate {
        self.update
    }
}

#[derive(Debug)]
struct Counted(Arc<Unread>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.taken();
    }
}
