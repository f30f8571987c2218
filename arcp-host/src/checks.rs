//! Checks of inputs against the schemas of their agents, and of answers against those of questions.

use std::sync::{Arc, PoisonError, RwLock};

use arcp_proto::id::OpId;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::runtime::{Input, InputFault};

use crate::agent::Inbox;
use crate::input_schema::InputSchema;
use crate::registry::Registry;

/// The stack of a check. The deepest check needs less than half of it.
const STACK: usize = 8 << 20;

/// Checks inputs, each on a thread of its own, because a large input takes time. The core bounds
/// how many there are.
pub(crate) struct Checks {
    registry: Arc<RwLock<Registry>>,
    inbox: Arc<dyn Inbox>,
}

impl Checks {
    pub(crate) fn new(registry: Arc<RwLock<Registry>>, inbox: Arc<dyn Inbox>) -> Checks {
        Checks { registry, inbox }
    }

    /// Begins a check; returns the outcome if it is known at once.
    pub(crate) fn begin(&self, op: OpId, agent: &AgentRef, input: Json) -> Option<Input> {
        let terms = self.registry.read().unwrap_or_else(PoisonError::into_inner).terms(agent.name());
        let Some(schema) = terms.schema else {
            return Some(Input::InputChecked { op, fault: None });
        };
        self.spawn(op, move || schema.check(&input));
        None
    }

    /// Begins to check whether `schema` is a schema, and whether the value fits it.
    pub(crate) fn begin_value(&self, op: OpId, schema: Json, value: Option<Json>) {
        self.spawn(op, move || match InputSchema::new(&schema) {
            Ok(schema) => schema.check(&value?),
            Err(error) => Some(InputFault { pointer: String::new(), reason: error.to_string() }),
        });
    }

    fn spawn(&self, op: OpId, check: impl FnOnce() -> Option<InputFault> + Send + 'static) {
        let answer = Answer { op, inbox: self.inbox.clone(), fault: unchecked("its check failed") };
        let check = move || {
            let mut answer = answer;
            answer.fault = check();
        };
        // Without a thread, the closure is dropped, and dropping the answer posts it.
        let _ = std::thread::Builder::new().name("check".to_string()).stack_size(STACK).spawn(check);
    }
}

/// The outcome of a check, which is posted on drop.
struct Answer {
    op: OpId,
    inbox: Arc<dyn Inbox>,
    fault: Option<InputFault>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.inbox.put(Input::InputChecked { op: self.op, fault: self.fault.take() });
    }
}

fn unchecked(why: &str) -> Option<InputFault> {
    Some(InputFault { pointer: String::new(), reason: format!("it cannot be checked now: {why}") })
}
