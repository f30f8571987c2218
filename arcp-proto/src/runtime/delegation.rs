//! What an agent asks for that has another one do something (1.1 §10, RFC §14).

use alloc::string::{String, ToString as _};

use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::id::{JobId, WireId};
use crate::json::{Json, Members, Object};
use crate::model::agent::AgentRef;
use crate::model::event::{EventKind, JobEvent};
use crate::model::request::Submit;

/// Members of such an event that the runtime writes.
const OWN: [&str; 7] = ["delegate_id", "child_job_id", "agent", "lease", "input", "lease_request", "lease_constraints"];
/// Characters shown of the name of an agent that there is not.
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
    /// What the child may do, within what its parent may; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_request: Option<Json>,
    /// Bounds of that, besides those of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_constraints: Option<Json>,
    /// What the child is known by in its parent, 1 to 256 bytes: whoever delegates
    /// the same again gets the child that is there. `None`: one is made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate_id: Option<String>,
}

impl Delegation {
    /// A child without input and lease.
    pub fn new(agent: &str) -> Delegation {
        Delegation { agent: agent.to_string(), ..Delegation::default() }
    }

    /// Bytes of what it says.
    pub(super) fn bytes(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let texts = self.agent.len() + self.delegate_id.as_ref().map_or(0, String::len);
        texts + json(&self.input) + json(&self.lease_request) + json(&self.lease_constraints)
    }

    /// What such an event asks for. One that names its child tells of what was done
    /// elsewhere, and asks for nothing.
    pub(super) fn of_event(body: &Json) -> Option<Delegation> {
        let members = body.members().ok().filter(|members| members.get("child_job_id").is_none())?;
        let json = |name| members.get(name).filter(|raw| *raw != "null").map(|raw| Json::from_written(raw.to_string()));
        // RFC §14 has a task besides, or instead of, an input.
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

    /// The submit that it comes to.
    ///
    /// # Errors
    ///
    /// If it names no agent.
    pub(super) fn submit(&self) -> Result<Submit, Violation> {
        Ok(Submit {
            input: self.input.clone(),
            lease_request: self.lease_request.clone(),
            lease_constraints: self.lease_constraints.clone(),
            ..Submit::new(AgentRef::parse(&self.agent)?)
        })
    }

    /// What it is shown as: what the agent said, if it said it by an event, and the
    /// child that came of it. What was asked is left out where it would take more bytes than
    /// `most`: the child has it, and what is in an event is stored, held and sent again.
    pub(super) fn event(&self, said: Option<&Json>, id: &WireId, child: Option<Child<'_>>, most: usize) -> JobEvent {
        let short = self.body(id, child).json();
        let mut body = self.body(id, child);
        self.add_asked(&mut body, said.and_then(|said| said.members().ok()).as_ref());
        let long = body.json();
        // What is put together of texts that fit may be nested deeper than can be read again.
        let fits = long.as_str().len() <= most && crate::json::check(long.as_str(), Json::MAX_DEPTH).is_ok();
        JobEvent::Emitted { kind: EventKind::Delegate, body: if fits { long } else { short } }
    }

    /// What a reader must know of it.
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

    /// What was asked for, in the order in which the references have it.
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

/// The child that a delegation came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child<'a> {
    pub(super) job: JobId,
    pub(super) agent: &'a AgentRef,
    /// What it may do.
    pub(super) lease: &'a Json,
}
