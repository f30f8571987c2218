//! Inputs that have to fit their agents.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arcp_proto::id::OpId;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::runtime::{Input, InputFault};

use crate::agent::Inbox;
use crate::registry::Registry;

/// Threads that check inputs at once. The core gives up on a check after two
/// seconds; its thread may go on.
const CHECKS: usize = 64;

/// Checks inputs, each on a thread of its own: a large one takes its time.
pub(crate) struct Checks {
    registry: Arc<RwLock<Registry>>,
    inbox: Arc<dyn Inbox>,
    running: Arc<AtomicUsize>,
}

impl Checks {
    pub(crate) fn new(registry: Arc<RwLock<Registry>>, inbox: Arc<dyn Inbox>) -> Checks {
        Checks { registry, inbox, running: Arc::default() }
    }

    /// Begins a check; gives what is found at once.
    pub(crate) fn begin(&self, op: OpId, agent: &AgentRef, input: Json) -> Option<Input> {
        let terms = self.registry.read().unwrap_or_else(PoisonError::into_inner).terms(agent.name());
        let Some(schema) = terms.schema else {
            return Some(Input::InputChecked { op, fault: None });
        };
        let unchecked = |why: &str| {
            let fault = InputFault { pointer: String::new(), reason: format!("it cannot be checked now: {why}") };
            Some(Input::InputChecked { op, fault: Some(fault) })
        };
        if self.running.fetch_add(1, Ordering::SeqCst) >= CHECKS {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return unchecked("too many inputs are being checked");
        }
        let (inbox, running) = (self.inbox.clone(), Counted(self.running.clone()));
        let check = move || {
            let fault = schema.check(&input);
            drop(running);
            inbox.put(Input::InputChecked { op, fault });
        };
        match std::thread::Builder::new().name("check".to_string()).spawn(check) {
            Ok(_) => None,
            Err(error) => unchecked(&error.to_string()),
        }
    }
}

/// A check that goes on.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
