//! What the host of a world finds of inputs.

use arcp_proto::id::OpId;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::runtime::{Input, InputFault};

use super::{Event, World};

/// The inputs that were to be checked.
#[derive(Debug, Default)]
pub struct Checks {
    /// Each with its agent, in order.
    pub asked: Vec<(AgentRef, Json)>,
    /// Whether the host never says what it found.
    pub silent: bool,
}

impl World {
    /// Whatever has a member `bad` does not fit.
    pub(super) fn check_input(&mut self, op: OpId, agent: AgentRef, input: Json) {
        let fault = fault_of(&input);
        self.checks.asked.push((agent, input));
        if !self.checks.silent {
            self.later(Event::ToRuntime(Input::InputChecked { op, fault }));
        }
    }

    /// Every text is a schema, which fits as inputs fit agents.
    pub(super) fn check_value(&mut self, op: OpId, value: Option<&Json>) {
        let fault = value.and_then(fault_of);
        if !self.checks.silent {
            self.later(Event::ToRuntime(Input::InputChecked { op, fault }));
        }
    }
}

fn fault_of(value: &Json) -> Option<InputFault> {
    let is_bad = value.members().is_ok_and(|members| members.get("bad").is_some());
    is_bad.then(|| InputFault { pointer: "/bad".into(), reason: "must not be there".into() })
}
