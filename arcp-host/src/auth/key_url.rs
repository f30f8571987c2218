//! The keys of an issuer at an address (a JSON Web Key Set, RFC 7517 §5), with the result of the
//! last successful reading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::jwt::Keys;
use super::provider::{Endpoint, ProviderError};
use crate::server_log::log;

/// The keys at an address. They are read when a token has to be judged and no usable keys are
/// there: the first time, when the keys are no longer fresh, and when a token names an unknown key.
/// A caller waits on a thread of its own, for one reading at most.
#[derive(Debug)]
pub(super) struct KeyUrl {
    endpoint: Endpoint,
    state: Mutex<State>,
    /// Held during a reading.
    reading: Mutex<()>,
    times: KeyTimes,
}

/// How often keys at an address are read, and how long they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// How long keys are used before they are read again; 10 minutes by default.
    pub fresh: Duration,
    /// How long keys are used while they cannot be read again; 24 hours by default.
    pub usable: Duration,
    /// The least time between two readings, whatever keys tokens name; 10 seconds by default.
    pub again: Duration,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<Keys>, Instant)>,
    /// The time of the last attempt to read the keys.
    asked: Option<Instant>,
}

impl Default for KeyTimes {
    fn default() -> KeyTimes {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        KeyTimes { fresh: minutes(10), usable: minutes(24 * 60), again: Duration::from_secs(10) }
    }
}

impl KeyUrl {
    pub(super) fn new(endpoint: Endpoint, times: KeyTimes) -> KeyUrl {
        KeyUrl { endpoint, state: Mutex::default(), reading: Mutex::new(()), times }
    }

    pub(super) fn url(&self) -> &str {
        self.endpoint.url()
    }

    /// The present keys, which are read again if that is due; `None` if there are none.
    pub(super) fn current(&self) -> Option<Arc<Keys>> {
        if !self.has(self.times.fresh) {
            self.read(|known| known.has(known.times.fresh));
        }
        let usable = self.times.usable;
        self.state().keys.as_ref().filter(|(_, at)| at.elapsed() < usable).map(|(keys, _)| keys.clone())
    }

    /// The keys after `without`, which lacked a key; `None` if there are no others.
    pub(super) fn after(&self, without: &Arc<Keys>) -> Option<Arc<Keys>> {
        let is_newer =
            |known: &KeyUrl| known.state().keys.as_ref().is_some_and(|(keys, _)| !Arc::ptr_eq(keys, without));
        if !is_newer(self) {
            self.read(is_newer);
        }
        let state = self.state();
        state.keys.as_ref().map(|(keys, _)| keys).filter(|keys| !Arc::ptr_eq(keys, without)).cloned()
    }

    fn has(&self, younger: Duration) -> bool {
        self.state().keys.as_ref().is_some_and(|(_, at)| at.elapsed() < younger)
    }

    /// Reads the keys, unless another thread has read them meanwhile, or an attempt was made within
    /// [`KeyTimes::again`].
    fn read(&self, is_there: impl Fn(&KeyUrl) -> bool) {
        if self.is_too_soon() {
            return;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if is_there(self) || self.is_too_soon() {
            return;
        }
        let read = self.ask();
        let mut state = self.state();
        // Counted from the end of the reading, so that a slow provider is not asked without a
        // pause.
        state.asked = Some(Instant::now());
        match read {
            Ok(keys) => state.keys = Some((Arc::new(keys), Instant::now())),
            Err(error) => {
                drop(state);
                log(format_args!("arcp: the keys at {} stay as they were: {error}", self.url()));
            }
        }
    }

    fn is_too_soon(&self) -> bool {
        self.state().asked.is_some_and(|asked| asked.elapsed() < self.times.again)
    }

    fn ask(&self) -> Result<Keys, ProviderError> {
        Keys::of_set(self.endpoint.get()?.text()?).map_err(ProviderError::Nonsense)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The lock may be poisoned by a panic elsewhere, but the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
