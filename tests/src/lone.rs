//! Agents that run without a runtime: their calls are collected, and none is answered.

#![allow(clippy::wildcard_enum_match_arm, reason = "it looks at what agents say")]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use arcp_host::agent::Inbox;
use arcp_host::registry::Registry;
use arcp_host::runner::Runner;
use arcp_proto::id::{JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentSpec, Input};

use crate::server::PATIENCE;

struct Sent(Sender<Input>);

impl Inbox for Sent {
    fn put(&self, input: Input) {
        let _ = self.0.send(input);
    }
}

/// The agents of a registry, of which one runs at a time.
pub struct Lone {
    runner: Runner,
    inputs: Receiver<Input>,
}

/// The specification of a run.
pub fn spec(agent: &str, input: &str) -> AgentSpec {
    AgentSpec {
        agent: AgentRef::parse(agent).expect("a name"),
        input: Json::parse(input).expect("JSON"),
        principal: Principal::new("me").expect("a name"),
        trace: "0".repeat(32),
        unsampled: false,
        extensions: Json::empty_object(),
        credit: u32::MAX,
        credit_bytes: u64::MAX,
        checkpoint: None,
        restarts: 0,
        lease: Json::empty_object(),
        credentials: Vec::new(),
        artifact_bytes: 0,
    }
}

/// The id of the job.
pub fn job() -> JobId {
    JobId::parse("job_00000000000000000000000001").expect("an id")
}

/// A runner for the agents of a registry, and the inputs that a runtime would get from them.
pub fn runner(registry: Registry) -> (Runner, Receiver<Input>) {
    let (sender, inputs) = channel();
    (Runner::new(registry, Arc::new(Sent(sender))), inputs)
}

impl Lone {
    /// A registry with these agents; none runs yet.
    pub fn new(add: impl FnOnce(&mut Registry)) -> Lone {
        let mut registry = Registry::default();
        add(&mut registry);
        let (runner, inputs) = runner(registry);
        Lone { runner, inputs }
    }

    /// Starts an agent.
    pub fn start(&mut self, spec: AgentSpec) {
        self.runner.start(job(), spec);
    }

    /// Tells the agent to stop.
    pub fn stop(&mut self) {
        self.runner.stop(job(), false);
    }

    /// The agent's next call.
    ///
    /// # Errors
    ///
    /// The exit of the agent.
    pub fn hear(&mut self) -> Result<AgentCall, Box<AgentExit>> {
        loop {
            let input = self.inputs.recv_timeout(PATIENCE).expect("it goes on");
            self.runner.takes(&input);
            match input {
                Input::Agent { call, .. } | Input::AgentAsked { call, .. } => return Ok(call),
                Input::AgentExited { exit, .. } => return Err(Box::new(exit)),
                _ => {}
            }
        }
    }

    /// Runs an agent until it exits. Returns its calls and its exit.
    pub fn run(&mut self, spec: AgentSpec) -> (Vec<AgentCall>, AgentExit) {
        self.start(spec);
        let mut calls = Vec::new();
        loop {
            match self.hear() {
                Ok(call) => calls.push(call),
                Err(exit) => return (calls, *exit),
            }
        }
    }
}
