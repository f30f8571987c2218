//! The registry of agents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use arcp_proto::json::Json;
use arcp_proto::model::agent::{AgentEntry, AgentRef};

use crate::agent::{Agent, AgentFuture, AsyncAgent, AsyncContext, InlineAgent};
use crate::input_schema::InputSchema;

/// Agents by name and version.
///
/// ```
/// use arcp_host::agent::{Context, Outcome};
/// use arcp_host::registry::Registry;
/// use arcp_proto::runtime::AgentSpec;
/// let mut registry = Registry::default();
/// registry.add("count", None, |job: &Context| {
///     for n in 1..=3 {
///         job.progress(n, Some(3), None)?;
///     }
///     Ok(Outcome::Empty)
/// });
/// registry.add_inline("echo", Some("1.0.0"), |spec: &AgentSpec| Ok(Outcome::Json(spec.input.clone())));
/// assert_eq!(registry.entries()[1].default.as_deref(), Some("1.0.0"));
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    agents: BTreeMap<String, Vec<(Option<String>, Hosted)>>,
    restartable: BTreeSet<String>,
    terms: BTreeMap<String, Terms>,
}

/// Properties that an agent has in every version.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// How many of its jobs run at once; `None`: as many as there are slots.
    pub concurrency: Option<NonZeroU32>,
    /// A description for people.
    pub description: Option<String>,
    /// The schema that an input must fit before a job is accepted.
    pub schema: Option<Arc<InputSchema>>,
    /// Whether it takes [interrupts](crate::agent::Interrupt), and goes on after each.
    pub observes_interrupts: bool,
    /// Whether clients may [open streams](crate::agent::StreamInput) to its jobs.
    pub takes_input: bool,
    /// Whether the agent is pure: it has no effect but its events and its result, so that it may
    /// run in vain, or twice.
    ///
    /// A job of a pure agent starts at once, while the record of its acceptance is not yet durable,
    /// so that the whole job may be one commit. If the runtime ends meanwhile, the job runs again.
    /// None of its events is shown before it is durable.
    ///
    /// Do not set this for an agent that writes, calls or pays for anything.
    ///
    /// ```
    /// # use arcp_host::agent::Outcome;
    /// # use arcp_host::registry::{Registry, Terms};
    /// # use arcp_proto::runtime::AgentSpec;
    /// # let mut registry = Registry::default();
    /// registry.add_inline("echo", None, |spec: &AgentSpec| Ok(Outcome::Json(spec.input.clone())));
    /// registry.set_terms("echo", Terms { pure: true, ..Terms::default() });
    /// ```
    pub pure: bool,
    /// Whether it makes a [checkpoint](crate::agent::WantedCheckpoint) on request. This is for
    /// agents that can go on from their checkpoints.
    pub gives_checkpoints: bool,
}

/// Agents that may change while a runtime runs.
pub trait AgentSource: Send + 'static {
    /// All agents, if they have changed since the last call. It is called each second on a thread
    /// of its own, and may wait.
    fn changed(&mut self) -> Option<Registry>;
}

/// An agent, and where its jobs run.
#[derive(Clone)]
pub enum Hosted {
    /// On a thread of its own.
    Threaded(Arc<dyn Agent>),
    /// On the loop.
    Inline(Arc<dyn InlineAgent>),
    /// As a task.
    Async(AsyncHosted),
}

/// An [`AsyncAgent`] of any type.
#[derive(Clone)]
pub struct AsyncHosted(Arc<dyn Fn(AsyncContext, Json) -> AgentFuture + Send + Sync>);

impl AsyncHosted {
    pub(crate) fn begin(&self, job: AsyncContext, input: Json) -> AgentFuture {
        (self.0)(job, input)
    }
}

impl Registry {
    /// Adds an agent. The version that is added last is the one of a bare name. The same name and
    /// version again replace the agent.
    pub fn add(&mut self, name: &str, version: Option<&str>, agent: impl Agent) {
        self.put(name, version, Hosted::Threaded(Arc::new(agent)));
    }

    /// Adds an agent that goes on from its last [`checkpoint`](crate::agent::Context::checkpoint)
    /// after a restart of the runtime. This applies to every version of the name.
    ///
    /// ```
    /// use arcp_host::agent::{Context, Outcome};
    /// use arcp_host::registry::Registry;
    /// let mut registry = Registry::default();
    /// registry.add_restartable("steps", None, |job: &Context| {
    ///     let done = job.restored().map_or(0, |state| state[0]);
    ///     for step in done + 1..=10 {
    ///         // ... the work of one step ...
    ///         job.checkpoint([step], None)?;
    ///     }
    ///     Ok(Outcome::Empty)
    /// });
    /// assert!(registry.restartable().contains("steps"));
    /// ```
    pub fn add_restartable(&mut self, name: &str, version: Option<&str>, agent: impl Agent) {
        self.restartable.insert(name.to_string());
        self.add(name, version, agent);
    }

    /// Adds an agent whose jobs are tasks.
    pub fn add_async(&mut self, name: &str, version: Option<&str>, agent: impl AsyncAgent) {
        let agent = Arc::new(agent);
        let begin = move |job: AsyncContext, input: Json| -> AgentFuture { Box::pin(agent.clone().run(job, input)) };
        self.put(name, version, Hosted::Async(AsyncHosted(Arc::new(begin))));
    }

    /// Adds an agent whose jobs are tasks and that goes on from its last checkpoint: see
    /// [`add_restartable`](Self::add_restartable).
    pub fn add_restartable_async(&mut self, name: &str, version: Option<&str>, agent: impl AsyncAgent) {
        self.restartable.insert(name.to_string());
        self.add_async(name, version, agent);
    }

    /// Sets the terms of an agent.
    pub fn set_terms(&mut self, name: &str, terms: Terms) {
        self.terms.insert(name.to_string(), terms);
    }

    /// The terms of an agent.
    pub fn terms(&self, name: &str) -> Terms {
        self.terms.get(name).cloned().unwrap_or_default()
    }

    /// Whether there is an agent of this name, in any version.
    pub fn has(&self, name: &str) -> bool {
        self.agents.contains_key(name)
    }

    /// The names of the agents that can be started again.
    pub fn restartable(&self) -> &BTreeSet<String> {
        &self.restartable
    }

    /// Adds an agent that answers at once, on the loop.
    pub fn add_inline(&mut self, name: &str, version: Option<&str>, agent: impl InlineAgent) {
        self.put(name, version, Hosted::Inline(Arc::new(agent)));
    }

    fn put(&mut self, name: &str, version: Option<&str>, agent: Hosted) {
        let version = version.map(ToString::to_string);
        let versions = self.agents.entry(name.to_string()).or_default();
        versions.retain(|(known, _)| *known != version);
        versions.push((version, agent));
    }

    /// The entries for the configuration of a runtime.
    pub fn entries(&self) -> Vec<AgentEntry> {
        self.agents
            .iter()
            .map(|(name, versions)| {
                let versions: Vec<String> = versions.iter().filter_map(|(version, _)| version.clone()).collect();
                let Terms {
                    concurrency,
                    description,
                    schema,
                    observes_interrupts,
                    takes_input,
                    pure,
                    gives_checkpoints,
                } = self.terms(name);
                AgentEntry {
                    name: name.clone(),
                    default: versions.last().cloned(),
                    versions,
                    concurrency,
                    checks_input: schema.is_some(),
                    observes_interrupts,
                    takes_input,
                    pure,
                    gives_checkpoints: gives_checkpoints && self.restartable.contains(name),
                    description,
                    input_schema: schema.map(|schema| schema.text().clone()),
                }
            })
            .collect()
    }

    /// The agent of a resolved reference.
    pub fn get(&self, agent: &AgentRef) -> Option<Hosted> {
        let versions = self.agents.get(agent.name())?;
        versions.iter().find(|(version, _)| version.as_deref() == agent.version()).map(|(_, agent)| agent.clone())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Context, Outcome};

    #[test]
    fn an_agent_that_is_added_again_replaces_its_version_and_is_meant_by_its_name() {
        let agent = |_: &Context| Ok(Outcome::Empty);
        let mut registry = Registry::default();
        for version in ["1", "2", "1"] {
            registry.add("a", Some(version), agent);
        }
        registry.add_restartable("b", None, agent);
        let entries = registry.entries();
        let [a, b] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!(
            (a.versions.as_slice(), a.default.as_deref()),
            (["2".to_string(), "1".to_string()].as_slice(), Some("1"))
        );
        assert_eq!((b.versions.len(), b.default.as_deref()), (0, None));
        assert_eq!(registry.restartable(), &BTreeSet::from(["b".to_string()]));
        let has = |name| registry.get(&AgentRef::parse(name).expect("a name")).is_some();
        assert_eq!(["a@1", "a@3", "a", "b", "c"].map(has), [true, false, false, true, false]);
        assert!(format!("{registry:?}").contains("\"a\""));
    }
}
