//! A job that is being followed: what happens in it, until it ends.

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

/// Updates the application has not taken before the socket is not read.
const UNREAD: usize = 8192;

/// A job that is being followed.
///
/// Its updates are taken one after the other, by whichever of these methods.
/// An application that takes none holds up its own session, so drop a job that
/// nobody looks at.
#[derive(Debug)]
pub struct Job {
    /// The job.
    pub id: WireId,
    /// The agent, as resolved.
    pub agent: String,
    /// Its trace.
    pub trace: Option<String>,
    /// Credentials that were issued for it: told who submits it, in a session that
    /// offers [`Feature::ProvisionedCredentials`](arcp_proto::model::feature::Feature::ProvisionedCredentials).
    pub credentials: Vec<ProvisionedCredential>,
    updates: Receiver<Held>,
    /// What the last update was, where only its events were asked for.
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

    /// The next update, if one comes in time.
    pub fn next_update_in(&self, span: Duration) -> Option<JobUpdate> {
        self.updates.recv_timeout(span).ok().map(Held::take)
    }

    /// The updates that come, until the last one.
    pub fn updates(&self) -> impl Iterator<Item = JobUpdate> {
        std::iter::from_fn(|| self.next_update())
    }

    /// What happens in the job, until it ends or nothing more can be seen of
    /// it: [`wait`](Self::wait) says which, at once then. [`updates`](Self::updates)
    /// also tells of lost connections, and of events that were missed.
    pub fn events(&self) -> impl Iterator<Item = JobEvent> {
        self.updates().filter_map(|update| self.event_of(update))
    }

    /// Waits until the job ends; events that were not taken before are passed
    /// over.
    ///
    /// # Errors
    ///
    /// If the runtime does not show the job any more, or the session is over
    /// before, or the end was already taken as an update. A job that fails is
    /// no error here: see [`Terminal::status`](arcp_proto::model::event::Terminal::status).
    pub fn wait(&self) -> Result<&JobEnd, ClientError> {
        while self.last.get().is_none()
            && let Some(update) = self.next_update()
        {
            let _ = self.event_of(update);
        }
        let taken = ApiMisuse::Argument("the end of the job was taken as an update");
        self.last.get().ok_or(taken)?.end()
    }

    /// The event that an update is; remembers the last one.
    fn event_of(&self, update: JobUpdate) -> Option<JobEvent> {
        update.into_event().unwrap_or_else(|last| {
            // Nothing follows it.
            let _ = self.last.set(last);
            None
        })
    }
}

/// Updates handed out and not taken: too many, and the socket is not read.
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

/// An update that counts as unread until it is taken or thrown away.
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
        // It is there: only this takes it, and takes `self` with it.
        self.update.take().unwrap_or(JobUpdate::Lost(SessionEnd::Closed))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.unread.taken();
    }
}
