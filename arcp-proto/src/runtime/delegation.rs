//! The child job that an agent asks for by a delegation (1.1 §10, RFC §14).

use alloc::string::{String, ToString as _};

use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::id::{JobId, WireId};
use crate::json::{Json, Members, Object};
use crate::model::agent::AgentRef;
use crate::model::event::{EventKind, JobEvent};
use crate::model::request::Submit;

/// Members of a delegation event that only the runtime writes.
const OWN: [&str; 7] = ["delegate_id", "child_job_id", "agent", "lease", "input", "lease_request", "lease_constraints"];
/// How many characters of an unknown agent's name are shown.
const AGENT: usize = 260;

/// A child job that an agent asks for.
///
/// ```
/// use arcp_proto::{json::Json, runtime::Delegation};
/// let input = Some(Json::string("hi"));
/// let delegation = Delegation { input, ..Delegation::new("echo") };
/// assert_eq!(delegation.lease_request, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// The agent, `name` or `name@version`.
    pub agent: String,
    /// Its input; `None`: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
    pub input: Option<Json>,
    /// What the child may do, within the lease of its parent; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_request: Option<Json>,
    /// Constraints of that lease, besides those of the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_constraints: Option<Json>,
    /// The id by which the parent refers to the child, 1 to 256 bytes. A delegation that is
    /// repeated under the same id gets the existing child. `None`: the runtime chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate_id: Option<String>,
}

impl Delegation {
    /// A child without input or lease.
    pub fn new(agent: &str) -> Delegation {
        Delegation { agent: agent.to_string(), ..Delegation::default() }
    }

    /// Bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let texts = self.agent.len() + self.delegate_id.as_ref().map_or(0, String::len);
        texts + json(&self.input) + json(&self.lease_request) + json(&self.lease_constraints)
    }

    /// The delegation that an event asks for. An event that names its child reports a delegation
    /// that was done elsewhere, and asks for nothing.
    pub(super) fn of_event(body: &Json) -> Option<Delegation> {
        let members = body.members().ok().filter(|members| members.get("child_job_id").is_none())?;
        let json = |name| members.get(name).filter(|raw| *raw != "null").map(|raw| Json::from_written(raw.to_string()));
        // RFC §14 has a task in addition to an input, or in its place.
        let task = || {
            let mut input = Object::new();
            input.opt_json("task", Some(&json("task")?));
            input.opt_json("context", json("context").as_ref());
            Some(input.json())
        };
        Some(Delegation {
            agent: ["agent", "target"].iter().find_map(|name| members.get_str(name)).unwrap_or_default(),
            input: members.get("input").map(|raw| Json::from_written(raw.to_string())).or_else(task),
            lease_request: json("lease_request"),
            lease_constraints: json("lease_constraints"),
            delegate_id: members.get_str("delegate_id"),
        })
    }

    /// The submit for the child.
    ///
    /// # Errors
    ///
    /// If the name of the agent is missing or invalid.
    pub(super) fn submit(&self) -> Result<Submit, Violation> {
        Ok(Submit {
            input: self.input.clone(),
            lease_request: self.lease_request.clone(),
            lease_constraints: self.lease_constraints.clone(),
            ..Submit::new(AgentRef::parse(&self.agent)?)
        })
    }

    /// The event that shows it: the members that the agent wrote, if it delegated by an event,
    /// and its child. What the agent asked for is left out if the body would have more bytes than
    /// `most`: the child has it, and an event is stored, held and sent again.
    pub(super) fn event(&self, said: Option<&Json>, id: &WireId, child: Option<Child<'_>>, most: usize) -> JobEvent {
        let short = self.body(id, child).json();
        let mut body = self.body(id, child);
        self.add_asked(&mut body, said.and_then(|said| said.members().ok()).as_ref());
        let long = body.json();
        // Texts that each fit may together be nested too deep to be read again.
        let fits = long.as_str().len() <= most && crate::json::check(long.as_str(), Json::MAX_DEPTH).is_ok();
        JobEvent::Emitted { kind: EventKind::Delegate, body: if fits { long } else { short } }
    }

    /// The members that every reader needs.
    fn body(&self, id: &WireId, child: Option<Child<'_>>) -> Object {
        let mut body = Object::new();
        body.str("delegate_id", id.as_str());
        match child {
            Some(Child { job, agent, lease }) => {
                body.display("child_job_id", job).display("agent", agent).opt_json("lease", Some(lease))
            }
            None => body.str("agent", &self.agent.chars().take(AGENT).collect::<String>()),
        };
        body
    }

    /// What was asked for, in the order of the reference implementations.
    fn add_asked(&self, body: &mut Object, said: Option<&Members<'_>>) {
        body.opt_json("input", self.input.as_ref())
            .opt_json("lease_request", self.lease_request.as_ref())
            .opt_json("lease_constraints", self.lease_constraints.as_ref());
        let others = said.into_iter().flat_map(|said| &said.0).filter(|(name, _)| !OWN.contains(&name.as_ref()));
        for (name, value) in others {
            body.member(name, value);
        }
    }
}

/// The child that a delegation made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child<'a> {
    pub(super) job: JobId,
    pub(super) agent: &'a AgentRef,
    /// The lease of the child.
    pub(super) lease: &'a Json,
}
