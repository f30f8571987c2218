//! Checks of inputs, and times of schedules, by the host of a world.

use std::time::Duration;

use arcp_host::recurrence::{Wanted, plan};
use arcp_proto::id::OpId;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::schedule::PlanFault;
use arcp_proto::runtime::{Input, InputFault, Output};

use super::{Event, World};
use crate::schedule_log::Came;

/// The requests for checks.
#[derive(Debug, Default)]
pub struct Checks {
    /// The inputs with their agents, in order.
    pub asked: Vec<(AgentRef, Json)>,
    /// Whether the host does not answer.
    pub silent: bool,
    /// How long it is at each input, besides the latency.
    pub takes: Duration,
    /// The requests for times of schedules, in order.
    pub plans: Vec<Wanted>,
    /// Whether these requests fail.
    pub plans_fail: bool,
}

impl World {
    /// Checks an input: one with a member `bad` does not fit.
    pub(super) fn check_input(&mut self, op: OpId, agent: AgentRef, input: Json) {
        let fault = fault_of(&input);
        self.checks.asked.push((agent, input));
        if !self.checks.silent {
            let at = self.now.mono + self.checks.takes + self.latency();
            self.schedule(at, Event::ToRuntime(Input::InputChecked { op, fault }));
        }
    }

    /// Finds the times of a rule, as a host does.
    pub(super) fn plan_schedule(&mut self, output: Output) {
        let Output::PlanSchedule { op, rule, after, now, missed, coming, ends } = output else { return };
        let wanted = Wanted { rule, after, now, missed, coming, ends };
        let busy = || PlanFault { reason: "not now".into(), again: true };
        let plan = if self.checks.plans_fail { Err(busy()) } else { plan(&wanted) };
        self.checks.plans.push(wanted);
        if !self.checks.silent {
            self.later(Event::ToRuntime(Input::SchedulePlanned { op, plan }));
        }
    }

    /// What has happened to schedules so far.
    pub fn came_of_schedules(&mut self) -> Came {
        self.oracle.schedules.check(&self.options.config.limits.schedule, false);
        self.oracle.schedules.came
    }

    /// Checks that every time of a schedule that has come is settled.
    pub fn owes_no_firing(&mut self) {
        self.oracle.schedules.check(&self.options.config.limits.schedule, true);
    }

    /// Checks a value against a schema. Every text is a schema, and values fit it as inputs fit agents.
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
