//! Names and versions of agents (1.1 §7.5).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, Violation};
use crate::json::Json;

/// `name` or `name@version`, as a client requests it.
///
/// Names start with a letter or digit and continue with letters, digits, `.`, `_`, `-`; versions
/// may also contain `+`.
///
/// ```
/// use arcp_proto::model::agent::AgentRef;
/// let pinned = AgentRef::parse("echo@2.0.0").unwrap();
/// assert_eq!((pinned.name(), pinned.version()), ("echo", Some("2.0.0")));
/// assert!(AgentRef::parse("no spaces").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AgentRef {
    // Shared: a job copies it a few times.
    name: Arc<str>,
    version: Option<Arc<str>>,
}

impl AgentRef {
    /// Parses a reference.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` if it does not fit the grammar.
    pub fn parse(text: &str) -> Result<AgentRef, Violation> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let fits = |part: &str, extra: &str| {
            part.len() <= 128
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || extra.contains(c))
        };
        if !fits(name, "") || !version.is_none_or(|v| fits(v, "+")) {
            return Err(Violation::invalid(
                "agent must be `name` or `name@version`, of letters, digits, `.`, `_` and `-`",
            ));
        }
        Ok(AgentRef { name: name.into(), version: version.map(Arc::from) })
    }

    /// The bare name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The requested version, if there is one.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl FromStr for AgentRef {
    type Err = Violation;

    fn from_str(text: &str) -> Result<AgentRef, Violation> {
        AgentRef::parse(text)
    }
}

impl fmt::Display for AgentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

/// An agent that a runtime hosts, with all its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEntry {
    /// The bare name.
    pub name: String,
    /// The versions; empty for an unversioned agent.
    pub versions: Vec<String>,
    /// The version that a bare name means; one of `versions`.
    pub default: Option<String>,
    /// How many of its jobs may run at once, across all versions; `None`: as many as there are
    /// slots. Further jobs are queued, in turn by principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// Whether the host checks the input before a job of it is accepted: see
    /// [`Output::CheckInput`](crate::runtime::Output::CheckInput).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub checks_input: bool,
    /// Whether it receives interrupts from people while it runs, and reports when it continues: see
    /// [`Output::InterruptAgent`](crate::runtime::Output::InterruptAgent).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub observes_interrupts: bool,
    /// Whether clients may open streams to its jobs: see
    /// [`Output::AgentStream`](crate::runtime::Output::AgentStream).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub takes_input: bool,
    /// Whether it makes a checkpoint on request: see
    /// [`Output::AskCheckpoint`](crate::runtime::Output::AskCheckpoint).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub gives_checkpoints: bool,
    /// Whether it is pure: it has no effects but its events and its result, so it may run in vain,
    /// or twice. A job of it may start before its acceptance and its start are durable; no frame
    /// shows either before they are. After a restart, a job that was running runs again.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub pure: bool,
    /// A description for people. Sent to clients that request the details of agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its inputs. Sent to the same clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Json>,
}

impl AgentEntry {
    /// Resolves a reference to this agent.
    ///
    /// # Errors
    ///
    /// `AGENT_VERSION_NOT_AVAILABLE` if the version is not hosted.
    pub fn resolve(&self, asked: &AgentRef) -> Result<AgentRef, Violation> {
        let version = match asked.version() {
            Some(version) if self.versions.iter().any(|v| v == version) => asked.version.clone(),
            Some(version) => {
                let message = alloc::format!("agent `{}` has no version `{version}`", self.name);
                return Err(Violation::new(ErrorCode::AgentVersionNotAvailable, message));
            }
            None => self.default.as_deref().or(self.versions.last().map(String::as_str)).map(Arc::from),
        };
        Ok(AgentRef { name: asked.name.clone(), version })
    }
}
