//! A job that is followed: its updates, until it ends.

use std::cell::OnceCell;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arcp_host::client::{ClientError, JobEnd, JobUpdate, Last};
use arcp_proto::client::SessionEnd;
use arcp_proto::error::ApiMisuse;
use arcp_proto::id::WireId;
use arcp_proto::model::credential::ProvisionedCredential;
use arcp_proto::model::event::JobEvent;

/// With more updates than this that the application has not taken, the socket is not read.
const UNREAD: usize = 8192;

/// A job that is followed.
///
/// Each of its methods takes updates from the same queue. If the application takes none, the whole session stops
/// reading: drop a job whose updates nobody needs.
#[derive(Debug)]
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
    updates: Receiver<Held>,
    /// The last update, if it was taken by a method that returns only events.
    last: OnceCell<Last>,
}

impl Job {
    pub(crate) fn new(id: WireId, agent: String, trace: Option<String>, updates: Receiver<Held>) -> Job {
        Job { id, agent, trace, credentials: Vec::new(), updates, last: OnceCell::new() }
    }

    /// The next update; waits for it. `None` after the last one.
    pub fn next_update(&self) -> Option<JobUpdate> {
        self.updates.recv().ok().map(Held::take)
    }

    /// The next update, if one comes within `span`.
    pub fn next_update_in(&self, span: Duration) -> Option<JobUpdate> {
        self.updates.recv_timeout(span).ok().map(Held::take)
    }

    /// All updates until the last one.
    pub fn updates(&self) -> impl Iterator<Item = JobUpdate> {
        std::iter::from_fn(|| self.next_update())
    }

    /// All events, until the job ends or the runtime stops showing it; then [`wait`](Self::wait) returns at once and
    /// says which. [`updates`](Self::updates) also reports lost connections and missed events.
    pub fn events(&self) -> impl Iterator<Item = JobEvent> {
        self.updates().filter_map(|update| self.event_of(update))
    }

    /// Waits until the job ends; skips events that were not taken before.
    ///
    /// # Errors
    ///
    /// If the runtime does not show the job any more, the session has ended before, or the end was already taken as an
    /// update. A failed job is no error here: see [`Terminal::status`](arcp_proto::model::event::Terminal::status).
    pub fn wait(&self) -> Result<&JobEnd, ClientError> {
        while self.last.get().is_none()
            && let Some(update) = self.next_update()
        {
            let _ = self.event_of(update);
        }
        let taken = ApiMisuse::Argument("the end of the job was taken as an update");
        self.last.get().ok_or(taken)?.end()
    }

    /// The event of an update. The last update is kept.
    fn event_of(&self, update: JobUpdate) -> Option<JobEvent> {
        update.into_event().unwrap_or_else(|last| {
            // No update follows the last one, so this is set once.
            let _ = self.last.set(last);
            None
        })
    }
}

/// Counts the updates that the application has not taken. With too many, the socket is not read.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Unread {
    fn given(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
    }

    fn taken(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(1);
        if state.0 == UNREAD / 2 {
            self.changed.notify_all();
        }
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 <= UNREAD {
            return;
        }
        while state.0 > UNREAD / 2 && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// An update that counts as unread until it is taken or dropped.
#[derive(Debug)]
pub(crate) struct Held {
    update: Option<JobUpdate>,
    unread: Arc<Unread>,
}

impl Held {
    pub(crate) fn new(update: JobUpdate, unread: &Arc<Unread>) -> Held {
        unread.given();
        Held { update: Some(update), unread: unread.clone() }
    }

    fn take(mut self) -> JobUpdate {
        // The update is there: only this method takes it, and it consumes `self`.
        self.update.take().unwrap_or(JobUpdate::Lost(SessionEnd::Closed))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.unread.taken();
    }
}
