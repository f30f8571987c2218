//! The set of ready connections, and the task that waits for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use arcp_proto::id::ConnId;

/// The state between the wakers and the task. One task waits for all connections. Each connection has its own waker,
/// so that the task looks only at ready ones.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<State>);

#[derive(Default)]
struct State {
    ready: BTreeSet<ConnId>,
    /// The task was woken for something other than a connection.
    woken: bool,
    waiter: Option<Waker>,
}

impl Readiness {
    /// The waker of one connection.
    pub(crate) fn waker(self: &Arc<Readiness>, conn: ConnId) -> Waker {
        Waker::from(Arc::new(OfConnection { conn, readiness: self.clone() }))
    }

    /// Wakes the task for something other than a connection.
    pub(crate) fn wake(&self) {
        self.change(|state| state.woken = true);
    }

    /// The ready connections, once there is something to do.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<BTreeSet<ConnId>> {
        let mut state = self.state();
        if std::mem::take(&mut state.woken) || !state.ready.is_empty() {
            return Poll::Ready(std::mem::take(&mut state.ready));
        }
        state.waiter = Some(cx.waker().clone());
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let waiter = state.waiter.take();
        drop(state);
        waiter.into_iter().for_each(Waker::wake);
    }

    /// A panic elsewhere leaves a valid state: it consists of numbers and flags.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct OfConnection {
    conn: ConnId,
    readiness: Arc<Readiness>,
}

impl Wake for OfConnection {
    fn wake(self: Arc<OfConnection>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<OfConnection>) {
        self.readiness.change(|state| state.ready.extend([self.conn]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_connections_that_woke_it_and_the_next_one_waits_again() {
        let readiness = Arc::new(Readiness::default());
        let cx = Context::from_waker(Waker::noop());
        assert!(readiness.poll(&cx).is_pending());
        let wakers = [1, 2, 3].map(|n| readiness.waker(ConnId(n)));
        [&wakers[2], &wakers[0], &wakers[2]].into_iter().for_each(Waker::wake_by_ref);
        assert_eq!(readiness.poll(&cx), Poll::Ready(BTreeSet::from([ConnId(1), ConnId(3)])));
        assert!(readiness.poll(&cx).is_pending());
        readiness.wake();
        assert_eq!(readiness.poll(&cx), Poll::Ready(BTreeSet::new()));
        assert!(readiness.poll(&cx).is_pending());
    }
}
