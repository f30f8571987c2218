//! The configuration of a runtime, set once at its start.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::id::Principal;
use crate::lease::{Ceiling, Excess, Fuel, Lease, Namespace, Target};
use crate::limits::Limits;
use crate::model::agent::{AgentEntry, AgentRef};
use crate::model::feature::{Feature, Features};
use crate::model::handoff::Receiver;
use crate::model::reply::ArtifactRetention;
use crate::model::request::ClientInfo;
use crate::policy::{Policy, Subject};
use crate::trust::TrustLevel;
use crate::wire::Compat;

/// The configuration of a [`super::Runtime`].
///
/// ```
/// use arcp_proto::runtime::Config;
/// let config = Config::new("my-runtime", "1.0.0").with_agent("echo", &["1.0.0", "2.0.0"]);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default = "Config::unnamed")]
pub struct Config {
    /// The name and version of the program, which every client is told.
    pub runtime: ClientInfo,
    /// The agents that the host runs.
    pub agents: Vec<AgentEntry>,
    /// Whether clients may open sessions without a credential. Each such session has a
    /// principal of its own.
    pub anonymous: bool,
    /// Names of the agents that must make a call at least every two heartbeats. A job
    /// whose agent does not is lost, or blocked if its client asked for
    /// that.
    #[serde(alias = "beating_agents")]
    pub heartbeat_agents: BTreeSet<String>,
    /// Names of the agents that can go on from their last checkpoint: a job of
    /// such an agent that ran when the runtime ended is started again.
    pub restartable_agents: BTreeSet<String>,
    /// Principals that may list, watch and subscribe to everybody's jobs,
    /// with their inputs and results. They may change only their own.
    pub auditors: BTreeSet<Principal>,
    /// Principals that may do what auditors may, and may cancel everybody's jobs.
    pub operators: BTreeSet<Principal>,
    /// The most that any lease grants; `None`: a lease grants what was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Ceiling>,
    /// Rules about who may do what, besides leases.
    #[serde(flatten)]
    pub authority: Authority,
    /// How jobs may use models.
    #[serde(skip_serializing_if = "Models::is_default")]
    pub models: Models,
    /// Namespaces of the extensions whose messages the host handles.
    pub extensions: Vec<String>,
    /// Intervals, timeouts and retention times.
    #[serde(flatten)]
    pub timing: Timing,
    /// Whether published clients with needs of their own get the frames that they expect.
    pub compat: Compat,
    /// Whether the store gives events back, so that the host answers
    /// [`super::Output::Load`]. Without it, events that do not fit in memory are lost.
    pub history: bool,
    /// All bounds.
    pub limits: Limits,
}

/// Rules about who may do what, besides leases, in a [`Config`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authority {
    /// Who may submit which agents, and see whose jobs. `None`: every principal may
    /// submit every agent, and see its own jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<Policy>>,
    /// Operations that need a trust level, under the lowest level that may do them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub needs_trust: BTreeMap<TrustLevel, Lease>,
    /// Whether graphs of steps may be submitted as one job (no). Each step is checked as a
    /// submit is. The host needs nothing for this.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub workflows: bool,
    /// Other runtimes that jobs may be handed over to.
    #[serde(skip_serializing_if = "Handoffs::is_default")]
    pub handoff: Handoffs,
}

/// The other runtimes that jobs may be handed over to, in an [`Authority`] (RFC §14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handoffs {
    /// The runtimes by their local names. The core asks no others. A host that sets any
    /// must answer [`super::Output::HandOff`].
    pub receivers: BTreeMap<String, Receiver>,
    /// How long a receiver has to answer before it is asked again (30 s).
    pub timeout: Duration,
    /// How long a receiver is asked that may have accepted a job and does not answer (1 h).
    /// Then the job ends here, and its owner is told that its whereabouts are unknown. Must be
    /// less than the time for which receivers hold keys: [`Timing::key_window`].
    pub patience: Duration,
}

impl Default for Handoffs {
    fn default() -> Handoffs {
        let (timeout, patience) = (Duration::from_secs(30), Duration::from_secs(3600));
        Handoffs { receivers: BTreeMap::new(), timeout, patience }
    }
}

impl Handoffs {
    fn is_default(&self) -> bool {
        *self == Handoffs::default()
    }
}

/// How jobs may use models, in a [`Config`] (1.1 §9.7, §9.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Models {
    /// Whether a job without any lease may use every model (no: such a job may use
    /// none). A job with a lease may use the models that its `model.use` grants, and none
    /// if it grants none.
    pub allowed_without_lease: bool,
    /// Whether the host has credentials issued for jobs whose lease grants
    /// `model.use`, unless their principal is anonymous. The feature is offered to
    /// clients if jobs outlive the process; a client that takes it is sent the credentials, so the
    /// host must make sure that nobody can listen.
    pub provisions: bool,
}

impl Models {
    fn is_default(&self) -> bool {
        *self == Models::default()
    }
}

/// The longest `handshake_timeout`: hosts add it to their clocks, which must not overflow.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(86_400);

/// Intervals, timeouts and retention times, in a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Time between heartbeats, in whole seconds; `None`: no heartbeats.
    pub heartbeat: Option<Duration>,
    /// How long a session is valid before its client must prove again who it
    /// is, in the family that has this; `None`: for ever. At least ten
    /// seconds.
    pub session_lease: Option<Duration>,
    /// How long a session can be resumed after its client was last heard. For as
    /// long, events of unfinished jobs are kept after every session has
    /// acknowledged them. At least one second.
    pub resume_window: Duration,
    /// How long ended jobs are kept, to be listed and watched; `None`: as long as
    /// the resume window. At least one second.
    pub job_retention: Option<Duration>,
    /// How long an agent may take to stop before the job ends without it.
    pub cancel_grace: Duration,
    /// Time to open a session after connecting (10 s). At most a day.
    pub handshake_timeout: Duration,
    /// Time for a TLS handshake, from its first byte on (5 s). At most a day.
    pub tls_handshake_timeout: Duration,
    /// How long a peer may read nothing while frames wait for it.
    pub slow_reader_grace: Duration,
    /// How long an idempotency key is held after acceptance.
    pub key_window: Duration,
    /// How long an entry of the audit trail is kept (90 days); `None`: until newer
    /// entries need its room. At least one minute.
    pub audit_retention: Option<Duration>,
    /// How long a submit, a delegation, a step, a firing of a schedule or a renewal waits for its
    /// credentials (10 s).
    pub provision_timeout: Duration,
    /// How long an artifact is kept if its client does not say (24 hours); `None`:
    /// there are no artifacts, and the feature is not offered. A host that sets it must answer
    /// [`super::Output::StoreBlob`] and [`super::Output::ReadBlob`].
    pub artifact_retention: Option<Duration>,
    /// The longest time for which an artifact is kept (30 days).
    pub longest_artifact_retention: Duration,
    /// Whether clients may create schedules (no). A host that sets it must answer
    /// [`super::Output::PlanSchedule`].
    pub schedules: bool,
    /// How long people have to answer a question if its agent does not say (24 hours).
    pub prompt_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Some(Duration::from_secs(30)),
            session_lease: None,
            resume_window: Duration::from_secs(600),
            job_retention: None,
            cancel_grace: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(5),
            slow_reader_grace: Duration::from_secs(30),
            key_window: Duration::from_secs(24 * 3600),
            audit_retention: Some(Duration::from_secs(90 * 24 * 3600)),
            provision_timeout: Duration::from_secs(10),
            artifact_retention: None,
            longest_artifact_retention: Duration::from_secs(30 * 24 * 3600),
            schedules: false,
            prompt_timeout: Duration::from_secs(24 * 3600),
        }
    }
}

impl Config {
    /// The defaults: no agents, no anonymous sessions, heartbeats every 30 s,
    /// a resume window of 10 min, a cancel grace of 30 s, keys held for 24 h.
    pub fn new(name: &str, version: &str) -> Config {
        Config {
            runtime: ClientInfo { name: name.to_string(), version: version.to_string() },
            agents: Vec::new(),
            anonymous: false,
            heartbeat_agents: BTreeSet::new(),
            restartable_agents: BTreeSet::new(),
            auditors: BTreeSet::new(),
            operators: BTreeSet::new(),
            ceiling: None,
            authority: Authority::default(),
            models: Models::default(),
            extensions: Vec::new(),
            timing: Timing::default(),
            compat: Compat::Auto,
            history: false,
            limits: Limits::default(),
        }
    }

    /// The defaults for what an old recording does not have.
    fn unnamed() -> Config {
        Config::new("", "")
    }

    /// Adds an agent; a name without a version means its last one.
    #[must_use]
    pub fn with_agent(mut self, name: &str, versions: &[&str]) -> Config {
        self.agents.push(AgentEntry {
            name: name.to_string(),
            versions: versions.iter().map(ToString::to_string).collect(),
            default: versions.last().map(ToString::to_string),
            ..AgentEntry::default()
        });
        self
    }

    /// Checks all settings.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.limits.validate()?;
        let whole = |d: Duration| d.subsec_nanos() == 0 && (1..=86_400).contains(&d.as_secs());
        if self.timing.heartbeat.is_some_and(|interval| !whole(interval)) {
            return Err(ConfigError::Duration { name: "heartbeat", expected: "whole seconds, 1 to 86400" });
        }
        if self.timing.session_lease.is_some_and(|lease| lease < Duration::from_secs(10)) {
            return Err(ConfigError::Duration { name: "session_lease", expected: "10 seconds or more" });
        }
        if self.timing.resume_window < Duration::from_secs(1) {
            return Err(ConfigError::Duration { name: "resume_window", expected: "1 second or more" });
        }
        let handshakes = [
            ("handshake_timeout", self.timing.handshake_timeout),
            ("tls_handshake_timeout", self.timing.tls_handshake_timeout),
        ];
        if let Some((name, _)) = handshakes.into_iter().find(|(_, span)| *span > LONGEST_HANDSHAKE) {
            return Err(ConfigError::Duration { name, expected: "a day or less" });
        }
        if self.retention() < Duration::from_secs(1) {
            return Err(ConfigError::Duration { name: "job_retention", expected: "1 second or more" });
        }
        if self.timing.audit_retention.is_some_and(|kept_for| kept_for < Duration::from_secs(60)) {
            return Err(ConfigError::Duration { name: "audit_retention", expected: "1 minute or more" });
        }
        validate_agents(&self.agents)
    }

    /// How many jobs of an agent may run at once; `None`: no bound.
    pub(super) fn concurrency(&self, agent: &str) -> Option<usize> {
        let entry = self.agents.iter().find(|entry| entry.name == agent)?;
        entry.concurrency.map(|most| usize::try_from(most.get()).unwrap_or(usize::MAX))
    }

    /// The ceilings on what may be granted to a job of this agent that this subject submits,
    /// besides that of the session's credential.
    pub(super) fn ceilings<'a>(&'a self, who: Subject<'_>, agent: &str) -> impl Iterator<Item = &'a Ceiling> {
        let rule = self.authority.policy.as_ref().and_then(|policy| policy.submit(who, agent));
        self.ceiling.iter().chain(rule.and_then(|rule| rule.ceiling.as_ref()))
    }

    /// Whether a subject may submit an agent.
    pub(super) fn may_submit(&self, who: Subject<'_>, agent: &str) -> bool {
        self.authority.policy.as_ref().is_none_or(|policy| policy.submit(who, agent).is_some())
    }

    /// Whether a job without any lease may use every model.
    pub(super) fn allows_models_without_lease(&self) -> bool {
        let by_policy = |policy: &Policy| policy.models_without_lease;
        self.models.allowed_without_lease || self.authority.policy.as_deref().is_some_and(by_policy)
    }

    /// Whether an agent is started again after the runtime restarts.
    pub(super) fn restarts(&self, agent: &AgentRef) -> bool {
        self.restartable_agents.contains(agent.name())
    }

    /// The lowest trust level that may do an operation; `None`: any may.
    ///
    /// # Errors
    ///
    /// If it takes too much work to find out.
    pub(super) fn trust_needed(
        &self,
        operation: &Namespace,
        target: &Target,
        fuel: &mut Fuel,
    ) -> Result<Option<TrustLevel>, Excess> {
        for (level, lease) in self.authority.needs_trust.iter().rev() {
            if lease.permits_with(operation, target, fuel)?.is_some() {
                return Ok(Some(*level));
            }
        }
        Ok(None)
    }

    /// Whether an agent observes interrupts.
    pub(super) fn observes_interrupts(&self, agent: &str) -> bool {
        self.agents.iter().any(|entry| entry.observes_interrupts && entry.name == agent)
    }

    /// Whether an agent does nothing but emit events and give a result.
    pub(super) fn is_pure(&self, agent: &str) -> bool {
        self.agents.iter().any(|entry| entry.pure && entry.name == agent)
    }

    /// Whether clients may open streams to the jobs of an agent.
    pub(super) fn takes_input(&self, agent: &str) -> bool {
        self.agents.iter().any(|entry| entry.takes_input && entry.name == agent)
    }

    /// Whether an agent makes a checkpoint on request.
    pub(super) fn gives_checkpoints(&self, agent: &str) -> bool {
        self.agents.iter().any(|entry| entry.gives_checkpoints && entry.name == agent)
    }

    /// How long ended jobs are kept.
    pub(super) fn retention(&self) -> Duration {
        self.timing.job_retention.unwrap_or(self.timing.resume_window)
    }

    /// How long artifacts are kept; `None`: there are no artifacts.
    pub(super) fn artifact_retention(&self) -> Option<ArtifactRetention> {
        let longest = self.timing.longest_artifact_retention;
        let usual = self.timing.artifact_retention?.min(longest);
        Some(ArtifactRetention { default_s: usual.as_secs(), max_s: longest.as_secs() })
    }

    /// Bytes that one artifact may have; 0 if there are no artifacts.
    pub(super) fn largest_artifact(&self) -> u64 {
        self.timing.artifact_retention.map_or(0, |_| self.limits.artifact.whole_artifact_bytes as u64)
    }

    /// The features that this runtime has, before they are negotiated with a peer.
    pub(super) fn features(&self) -> Features {
        let all = Features::new(&[
            Feature::Ack,
            Feature::LeaseExpiresAt,
            Feature::CostBudget,
            Feature::ModelUse,
            Feature::ListJobs,
            Feature::WatchJobs,
            Feature::Progress,
            Feature::ResultChunk,
            Feature::AgentVersions,
            Feature::BlockOnSilence,
            Feature::FilterSubscriptions,
            Feature::CancelAnywhere,
            Feature::ListDetails,
            Feature::AgentDetails,
            Feature::HumanInput,
            Feature::OpenSurfaces,
            Feature::Sessions,
            Feature::AgentHandoff,
            Feature::Sidecars,
            Feature::JobTokens,
            Feature::Streaming,
            Feature::BinaryStreams,
        ]);
        let all = if self.timing.heartbeat.is_some() { all.with(Feature::Heartbeat) } else { all };
        let all = if self.history { all.with(Feature::DurableJobs) } else { all };
        let observed = self.agents.iter().any(|entry| entry.observes_interrupts);
        let all = if observed { all.with(Feature::Interrupts) } else { all };
        let all = if self.timing.artifact_retention.is_some() { all.with(Feature::Artifacts) } else { all };
        let all = if self.timing.schedules { all.with(Feature::Schedules) } else { all };
        let all = if self.authority.workflows { all.with(Feature::Workflows) } else { all };
        let restarts = self.agents.iter().any(|entry| self.restartable_agents.contains(&entry.name));
        let all = if restarts { all.with(Feature::Checkpoints) } else { all };
        let provisions = self.models.provisions && self.history;
        if provisions { all.with(Feature::ProvisionedCredentials) } else { all }
    }
}

/// Checks the list of agents that a runtime is to offer.
pub(super) fn validate_agents(agents: &[AgentEntry]) -> Result<(), ConfigError> {
    for (at, agent) in agents.iter().enumerate() {
        let bad = |why| Err(ConfigError::Agent { name: agent.name.clone(), why });
        let names = core::iter::once(agent.name.clone())
            .chain(agent.versions.iter().map(|version| alloc::format!("{}@{version}", agent.name)));
        for name in names {
            if AgentRef::parse(&name).is_err() {
                return bad("names and versions are letters, digits, `.`, `_`, `-` (and `+` in versions)");
            }
        }
        if agent.default.as_ref().is_some_and(|default| !agent.versions.contains(default)) {
            return bad("the default is not one of the versions");
        }
        if agent.name == crate::model::workflow::AGENT {
            return bad("that is what workflows are submitted as");
        }
        if agents[..at].iter().any(|other| other.name == agent.name) {
            return bad("registered twice");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_cannot_work_are_named() {
        let named = |change: &dyn Fn(&mut Timing)| {
            let mut config = Config::new("t", "1");
            change(&mut config.timing);
            match config.validate() {
                Ok(()) => None,
                Err(ConfigError::Duration { name, .. }) => Some(name),
                Err(other) => panic!("{other:?}"),
            }
        };
        let millis = Duration::from_millis;
        for (beat, refused) in [(0, true), (1000, false), (1500, true), (86_400_000, false), (86_401_000, true)] {
            let named = named(&|timing| timing.heartbeat = Some(millis(beat)));
            assert_eq!(named, refused.then_some("heartbeat"), "{beat} ms");
        }
        for (least, name) in [(10_000, "session_lease"), (1000, "resume_window"), (1000, "job_retention")] {
            let set = |timing: &mut Timing, span| match name {
                "session_lease" => timing.session_lease = Some(span),
                "resume_window" => timing.resume_window = span,
                _ => timing.job_retention = Some(span),
            };
            assert_eq!(named(&|timing| set(timing, millis(least))), None, "{name}");
            assert_eq!(named(&|timing| set(timing, millis(least - 1))), Some(name));
        }
        for name in ["handshake_timeout", "tls_handshake_timeout"] {
            let set = |timing: &mut Timing, span| match name {
                "handshake_timeout" => timing.handshake_timeout = span,
                _ => timing.tls_handshake_timeout = span,
            };
            assert_eq!(named(&|timing| set(timing, millis(86_400_000))), None, "{name}");
            assert_eq!(named(&|timing| set(timing, Duration::MAX)), Some(name));
        }
    }
}
