//! Workflows: graphs of steps that a runtime runs as one job (RFC §6.2).
//!
//! ```
//! use arcp_proto::{json::Json, limits::WorkflowLimits, model::workflow::Workflow};
//! let graph = Json::parse(r#"{"steps": [
//!     {"id": "fetch", "tool": "echo", "arguments": {"text": {"$from": "/input/name"}}},
//!     {"id": "show", "tool": "echo", "needs": ["fetch"], "arguments": {"$from": "/steps/fetch/result"}}
//! ]}"#).unwrap();
//! let input = Json::parse(r#"{"name": "world"}"#).unwrap();
//! let workflow = Workflow::check(&graph, Some(&input), &WorkflowLimits::default()).unwrap();
//! assert_eq!(workflow.steps[1].needs, [0]);
//! let unknown = Json::parse(r#"{"steps": [{"id": "a", "tool": "echo", "needs": ["b"]}]}"#).unwrap();
//! let why = Workflow::check(&unknown, None, &WorkflowLimits::default()).unwrap_err();
//! assert_eq!(why.message, "`workflow`: step `a`: `needs`: there is no step `b`");
//! ```

mod pointer;
mod template;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{BoundOf, ErrorCode, Violation};
use crate::json::{Json, Members, Object};
use crate::limits::WorkflowLimits;
use crate::model::agent::AgentRef;
use crate::model::event::JobError;
use crate::model::request::Submit;

pub(crate) use pointer::{Part, Source};
pub(crate) use template::{Reference, fill};

/// The agent name under which a workflow is submitted, in either family: the runtime runs it
/// itself, and no host has an agent of this name.
pub const AGENT: &str = "arcp.workflow";
/// The longest id of a step, in bytes. Child jobs are identified by it.
const LONGEST_ID: usize = 64;
/// The longest delay before a step is tried again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);
/// The members of a step.
const MEMBERS: [&str; 11] = [
    "id",
    "tool",
    "arguments",
    "needs",
    "when",
    "retry",
    "on_failure",
    "on_skipped",
    "lease_request",
    "lease_constraints",
    "max_runtime_sec",
];

/// A graph of steps, checked as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workflow {
    /// Its steps, in the given order.
    pub steps: Vec<Step>,
    /// Its input; `{}` if none was given.
    pub input: Json,
}

/// One step of a workflow: a job of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its id: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// The agent.
    pub tool: AgentRef,
    /// Its input, with unresolved references; `None`: `{}`.
    pub arguments: Option<Json>,
    /// The steps that must end before it begins, as indices.
    pub needs: Vec<usize>,
    /// The condition under which it runs.
    pub when: Option<Json>,
    /// How often it is tried again.
    pub retry: Retry,
    /// What its failure does.
    pub on_failure: OnFailure,
    /// What happens if a step that it needs is skipped.
    pub on_skipped: OnSkipped,
    /// The requested lease of its job, within that of the workflow; `None`: none.
    pub lease_request: Option<Json>,
    /// Bounds of that lease.
    pub lease_constraints: Option<Json>,
    /// The time limit of its job in seconds.
    pub max_runtime: Option<NonZeroU32>,
}

/// The further tries of a step that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// The most further tries (0).
    pub limit: u32,
    /// The delay after the first failure; it doubles after each further one, up to an hour (0 s).
    pub backoff: Duration,
}

/// What happens when the last try of a step has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The workflow fails, and its other running steps are cancelled.
    #[default]
    Fail,
    /// Steps that need it continue, as if it had succeeded.
    Continue,
}

/// What happens with a step when one that it needs is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSkipped {
    /// It is skipped too.
    #[default]
    Skip,
    /// It runs all the same.
    Run,
}

impl Retry {
    /// The delay after a failed try; `attempt` counts from 1.
    pub fn after(self, attempt: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.checked_mul(doubled).unwrap_or(LONGEST_BACKOFF).min(LONGEST_BACKOFF)
    }
}

/// The submit of a workflow: an object with its `steps`, or the list of them, and its input. Lease
/// and time limit apply to the whole.
///
/// ```
/// use arcp_proto::{json::Json, model::workflow};
/// let steps = Json::parse(r#"[{"id": "a", "tool": "echo"}]"#).unwrap();
/// let submit = workflow::submit(&steps, None);
/// assert_eq!(submit.agent.name(), workflow::AGENT);
/// ```
pub fn submit(workflow: &Json, input: Option<&Json>) -> Submit {
    let mut said = Object::new();
    said.raw("workflow", workflow.as_str()).opt_json("input", input);
    Submit { input: Some(said.json()), ..Submit::new(agent()) }
}

/// Whether an agent name means a workflow.
pub(crate) fn is_agent(agent: &AgentRef) -> bool {
    agent.name() == AGENT
}

/// The agent under which a workflow is submitted.
pub(crate) fn agent() -> AgentRef {
    AgentRef::parse(AGENT).expect("it is of the grammar")
}

impl Workflow {
    /// Checks a graph as a whole: steps, dependencies, pointers and bounds. Only the runtime knows
    /// whether its agents exist.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` that names the step and what is wrong, or `RESOURCE_EXHAUSTED` that
    /// names the bound.
    pub fn check(graph: &Json, input: Option<&Json>, limits: &WorkflowLimits) -> Result<Workflow, Violation> {
        bound("workflow_bytes", graph.as_str().len(), limits.workflow_bytes, "bytes")?;
        let workflow = Workflow::read(graph.as_str(), input, Some(limits.workflow_steps))?;
        bound("workflow_depth", workflow.depth(), limits.workflow_depth, "steps in a row")?;
        let above = workflow.above()?;
        let (mut pointers, mut work) = (0, limits.pointer_work_bytes);
        for (step, above) in workflow.steps.iter().zip(&above) {
            if step.retry.limit > limits.step_retries {
                let most = limits.step_retries;
                let why = alloc::format!("`retry`: `limit` is {most} at most");
                return Err(exhausted_of(&step.id, "step_retries", u64::from(most), &why));
            }
            workflow
                .check_references(step, above, (&mut pointers, &mut work))
                .map_err(|why| wrong_in(&step.id, &why))?;
        }
        bound("workflow_pointers", pointers, limits.workflow_pointers, "pointers")?;
        Ok(workflow)
    }

    /// Splits the input of a workflow's job into graph and input.
    ///
    /// # Errors
    ///
    /// If there is no graph.
    pub(crate) fn parts(input: Option<&Json>) -> Result<(Json, Option<Json>), Violation> {
        let missing = || wrong("the steps are missing");
        let said = input.ok_or_else(missing)?;
        let members = said.members().map_err(|why| wrong(&why.to_string()))?;
        if let Some((other, _)) = members.0.iter().find(|(name, _)| name != "workflow" && name != "input") {
            let other = pointer::shown(other);
            return Err(wrong(&alloc::format!("`{other}` is neither `workflow` nor `input`")));
        }
        let json = |raw: &str| Json::from_written(raw.to_string());
        Ok((members.get("workflow").map(json).ok_or_else(missing)?, members.get("input").map(json)))
    }

    /// Reads a graph that was checked, perhaps by a runtime with other bounds.
    pub(crate) fn of_job(input: &Json) -> Result<Workflow, Violation> {
        let (graph, input) = Workflow::parts(Some(input))?;
        let workflow = Workflow::read(graph.as_str(), input.as_ref(), None)?;
        workflow.above().map(|_| workflow)
    }

    /// Its steps, each after those that it needs, with its depth. Steps in a cycle are left out.
    fn order(&self) -> Vec<(usize, usize)> {
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(self.steps.len());
        let mut depths: Vec<Option<usize>> = self.steps.iter().map(|_| None).collect();
        loop {
            let before = order.len();
            for (at, step) in self.steps.iter().enumerate() {
                if depths[at].is_none()
                    && let Some(needed) = step.needs.iter().map(|need| depths[*need]).collect::<Option<Vec<usize>>>()
                {
                    let depth = needed.into_iter().max().map_or(0, |deepest| deepest + 1);
                    depths[at] = Some(depth);
                    order.push((at, depth));
                }
            }
            if order.len() == before {
                return order;
            }
        }
    }

    /// The length of the longest chain of steps.
    fn depth(&self) -> usize {
        self.order().into_iter().map(|(_, depth)| depth + 1).max().unwrap_or_default()
    }

    /// For each step, all steps that it needs, directly or through others.
    fn above(&self) -> Result<Vec<BTreeSet<usize>>, Violation> {
        let order = self.order();
        if order.len() < self.steps.len() {
            let in_order: BTreeSet<usize> = order.iter().map(|(at, _)| *at).collect();
            let name = self.in_a_cycle(&in_order);
            return Err(wrong_in(name, "`needs`: it waits for itself, by way of what it needs"));
        }
        let mut above: Vec<BTreeSet<usize>> = self.steps.iter().map(|_| BTreeSet::new()).collect();
        for (at, _) in order {
            for need in &self.steps[at].needs {
                let further = above[*need].clone();
                above[at].extend(further);
                above[at].insert(*need);
            }
        }
        Ok(above)
    }

    /// A step of a cycle, among those that are not in the order.
    fn in_a_cycle(&self, in_order: &BTreeSet<usize>) -> &str {
        let (mut seen, mut at) = (BTreeSet::new(), 0);
        let next = |at: usize| self.steps[at].needs.iter().copied().find(|need| !in_order.contains(need));
        while in_order.contains(&at) {
            at += 1;
        }
        while seen.insert(at) {
            at = next(at).unwrap_or(at);
        }
        &self.steps[at].id
    }

    fn check_references(
        &self,
        step: &Step,
        above: &BTreeSet<usize>,
        (pointers, work): (&mut usize, &mut usize),
    ) -> Result<(), String> {
        let mut check = |reference: &Reference<'_>| {
            *pointers += 1;
            let there = reference.default.is_some();
            match &reference.place.source {
                Source::Input if there || reference.place.within(self.input.as_str(), work)?.is_some() => {}
                Source::Input => {
                    let pointer = pointer::shown(&reference.pointer);
                    return Err(alloc::format!("`{pointer}` is not in the input, and has no `default`"));
                }
                Source::Step(id, _) => {
                    let needed = self.steps.iter().position(|other| other.id == *id);
                    let pointer = pointer::shown(&reference.pointer);
                    match needed {
                        None => return Err(alloc::format!("`{pointer}`: there is no step `{}`", pointer::shown(id))),
                        Some(at) if !above.contains(&at) => {
                            return Err(alloc::format!("`{pointer}`: it does not need `{id}`: add that to `needs`"));
                        }
                        Some(_) => {}
                    }
                }
            }
            Ok("null".to_string())
        };
        if let Some(arguments) = &step.arguments {
            fill(arguments.as_str(), &mut check).map_err(|why| alloc::format!("`arguments`: {why}"))?;
        }
        if let Some(when) = &step.when {
            holds(when, &mut |reference| check(reference).map(Some)).map_err(|why| alloc::format!("`when`: {why}"))?;
        }
        Ok(())
    }
}

/// Whether a condition holds; `value` resolves a reference, if there is such a value.
pub(crate) fn holds(
    when: &Json,
    value: &mut dyn FnMut(&Reference<'_>) -> Result<Option<String>, String>,
) -> Result<bool, String> {
    let text = when.as_str().trim();
    if let "true" | "false" = text {
        return Ok(text == "true");
    }
    let say = "it is true, false, or an object with `$from`, and `equals`, `not` or neither";
    let members = Members::parse(text).map_err(|_| say.to_string())?;
    let known = |name: &str| matches!(name, template::FROM | "equals" | "not");
    let both = members.get("equals").is_some() && members.get("not").is_some();
    if both || members.0.iter().any(|(name, _)| !known(name)) {
        return Err(say.to_string());
    }
    let mut from = Object::new();
    from.member(template::FROM, members.get(template::FROM).ok_or_else(|| say.to_string())?);
    from.raw("default", "null");
    // A missing value counts as null.
    let found = fill(&from.done(), &mut |reference| Ok(value(reference)?.unwrap_or_else(|| "null".to_string())))?;
    let same = |other: &str| canonical(&found) == canonical(other);
    Ok(match (members.get("equals"), members.get("not")) {
        (Some(equals), _) => same(equals),
        (None, Some(not)) => !same(not),
        (None, None) => !matches!(found.trim(), "null" | "false"),
    })
}

fn canonical(text: &str) -> String {
    Json::from_written(text.to_string()).canonical()
}

#[derive(Deserialize)]
struct RetryFields {
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    backoff: u64,
}

impl Workflow {
    /// Reads a graph of at most `most` steps, if that is given.
    fn read(graph: &str, input: Option<&Json>, most: Option<usize>) -> Result<Workflow, Violation> {
        let list = |text: &str| -> Result<Vec<String>, Violation> {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| wrong("`steps` is a list"))?;
            Ok(items.into_iter().map(|item| item.get().to_string()).collect())
        };
        let steps = if graph.trim_start().starts_with('[') {
            list(graph)?
        } else {
            let members =
                Members::parse(graph).map_err(|_| wrong("it is an object with `steps`, or the list of them"))?;
            if let Some((other, _)) = members.0.iter().find(|(name, _)| name != "steps" && name != "description") {
                return Err(wrong(&alloc::format!("nothing is known of `{}` beside `steps`", pointer::shown(other))));
            }
            list(members.get("steps").ok_or_else(|| wrong("`steps` are missing"))?)?
        };
        if steps.is_empty() {
            return Err(wrong("it has no steps"));
        }
        most.map_or(Ok(()), |most| bound("workflow_steps", steps.len(), most, "steps"))?;
        let ids: Vec<String> = steps.iter().enumerate().map(|(at, step)| id_of(at, step)).collect::<Result<_, _>>()?;
        let mut known = BTreeMap::new();
        for (at, id) in ids.iter().enumerate() {
            if known.insert(id.as_str(), at).is_some() {
                return Err(wrong_in(id, "another step has this `id`"));
            }
        }
        let steps = steps.iter().zip(&ids).map(|(step, id)| {
            read_step(step, id, &known).map_err(|why| Violation { message: of_step(id, &why.message).into(), ..why })
        });
        let input = input.cloned().unwrap_or_else(Json::empty_object);
        Ok(Workflow { steps: steps.collect::<Result<_, _>>()?, input })
    }
}

fn id_of(at: usize, step: &str) -> Result<String, Violation> {
    let nth = at + 1;
    let members = Members::parse(step).map_err(|why| wrong(&alloc::format!("step {nth}: {why}")))?;
    let fits = |id: &String| {
        (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    members.get_str("id").filter(fits).ok_or_else(|| {
        wrong(&alloc::format!("step {nth}: `id` is 1 to {LONGEST_ID} letters, digits, `.`, `_` and `-`"))
    })
}

fn read_step(step: &str, id: &str, known: &BTreeMap<&str, usize>) -> Result<Step, Violation> {
    let members = Members::parse(step).map_err(|why| Violation::invalid(why.to_string()))?;
    let invalid = |why: String| Violation::invalid(why);
    if let Some((other, _)) = members.0.iter().find(|(name, _)| !MEMBERS.contains(&name.as_ref())) {
        return Err(invalid(alloc::format!("nothing is known of `{}`", pointer::shown(other))));
    }
    let tool = members.get_str("tool").ok_or_else(|| invalid("`tool` names an agent".into()))?;
    let tool = AgentRef::parse(&tool).map_err(|why| invalid(alloc::format!("`tool`: {}", why.message)))?;
    if is_agent(&tool) {
        return Err(invalid("`tool`: a workflow is no step of another one".into()));
    }
    let said = |name: &str| members.get(name).filter(|raw| *raw != "null");
    let names: Vec<String> = match said("needs") {
        Some(raw) => serde_json::from_str(raw).map_err(|_| invalid("`needs` is a list of ids of steps".into()))?,
        None => Vec::new(),
    };
    let mut needs = Vec::with_capacity(names.len());
    for name in names {
        let unknown = || invalid(alloc::format!("`needs`: there is no step `{}`", pointer::shown(&name)));
        let need = *known.get(name.as_str()).ok_or_else(unknown)?;
        if needs.contains(&need) {
            return Err(invalid(alloc::format!("`needs`: `{name}` stands there twice")));
        }
        needs.push(need);
    }
    let object = |name: &str| match said(name) {
        Some(raw) if !raw.starts_with('{') => Err(invalid(alloc::format!("`{name}` is an object"))),
        raw => Ok(raw.map(|raw| Json::from_written(raw.to_string()))),
    };
    let word = |name: &str, [usual, other]: [&str; 2]| match said(name) {
        None => Ok(false),
        Some(raw) => match serde_json::from_str::<String>(raw) {
            Ok(word) if word == usual || word == other => Ok(word == other),
            _ => Err(invalid(alloc::format!("`{name}` is `{usual}` or `{other}`"))),
        },
    };
    Ok(Step {
        id: id.to_string(),
        tool,
        arguments: members.get("arguments").map(|raw| Json::from_written(raw.to_string())),
        needs,
        when: said("when").map(|raw| Json::from_written(raw.to_string())),
        retry: said("retry").map(read_retry).transpose()?.unwrap_or_default(),
        on_failure: if word("on_failure", ["fail", "continue"])? { OnFailure::Continue } else { OnFailure::Fail },
        on_skipped: if word("on_skipped", ["skip", "run"])? { OnSkipped::Run } else { OnSkipped::Skip },
        lease_request: object("lease_request")?,
        lease_constraints: object("lease_constraints")?,
        max_runtime: said("max_runtime_sec").map(read_limit).transpose()?,
    })
}

fn read_retry(raw: &str) -> Result<Retry, Violation> {
    let fields: Option<RetryFields> = serde_json::from_str(raw).ok();
    let known = |members: Members<'_>| members.0.iter().all(|(name, _)| name == "limit" || name == "backoff");
    let fields = fields.filter(|_| Members::parse(raw).is_ok_and(known));
    let most = LONGEST_BACKOFF.as_secs();
    let fields = fields.filter(|fields| fields.backoff <= most).ok_or_else(|| {
        let say = "an object with `limit`, how often it is tried again, and `backoff`, seconds";
        Violation::invalid(alloc::format!("`retry` is {say}, {most} at most"))
    })?;
    Ok(Retry { limit: fields.limit, backoff: Duration::from_secs(fields.backoff) })
}

fn read_limit(raw: &str) -> Result<NonZeroU32, Violation> {
    raw.parse().map_err(|_| Violation::invalid("`max_runtime_sec` is a whole number of seconds, 1 or more"))
}

fn of_step(id: &str, why: &str) -> String {
    alloc::format!("`workflow`: step `{id}`: {why}")
}

/// The error for a step.
fn wrong_in(id: &str, why: &str) -> Violation {
    Violation::invalid(of_step(id, why))
}

/// The refusal of a step's member.
pub(crate) fn refused_in(id: &str, why: Violation) -> Violation {
    Violation { message: of_step(id, &why.message).into(), ..why }
}

fn wrong(why: &str) -> Violation {
    Violation::invalid(alloc::format!("`workflow`: {why}"))
}

fn exhausted_of(id: &str, bound: &'static str, most: u64, why: &str) -> Violation {
    Violation::exhausted(bound, BoundOf::Request, most, of_step(id, why))
}

fn bound(name: &'static str, is: usize, most: usize, of: &str) -> Result<(), Violation> {
    if is <= most {
        return Ok(());
    }
    let why = alloc::format!("`workflow`: it has {is} {of}, and may have {most}");
    Err(Violation::exhausted(name, BoundOf::Request, most as u64, why))
}

/// Whether a step that failed with this error is tried again, if it has tries left. It is not if
/// the end was wanted, or another try would be refused too. A lost heartbeat counts as retryable:
/// the agent has not said otherwise.
pub(crate) fn is_tried_again(error: &JobError) -> bool {
    if !error.retryable && error.code != ErrorCode::HeartbeatLost {
        return false;
    }
    !matches!(
        error.code,
        ErrorCode::Cancelled
            | ErrorCode::Aborted
            | ErrorCode::PermissionDenied
            | ErrorCode::LeaseExpired
            | ErrorCode::LeaseSubsetViolation
            | ErrorCode::BudgetExhausted
            | ErrorCode::AgentNotAvailable
            | ErrorCode::AgentVersionNotAvailable
            | ErrorCode::InvalidRequest
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(graph: &str, input: &str) -> Result<Workflow, String> {
        let (graph, input) = (Json::parse(graph).expect("JSON"), Json::parse(input).expect("JSON"));
        Workflow::check(&graph, Some(&input), &WorkflowLimits::default()).map_err(|why| why.message.into_owned())
    }

    #[test]
    fn what_is_wrong_with_a_graph_is_said_of_the_step() {
        let step = |rest: &str| alloc::format!(r#"[{{"id":"a","tool":"echo"}},{{"id":"b","tool":"echo",{rest}}}]"#);
        for (graph, why) in [
            (r#"[{"id":"a","tool":"echo","needs":["b"]},{"id":"b","tool":"echo","needs":["a"]}]"#, "step `a`"),
            (r#"[{"id":"x","tool":"echo","needs":["a"]},{"id":"a","tool":"echo","needs":["a"]}]"#, "step `a`: `needs`"),
            (r#"[{"id":"a","tool":"echo"},{"id":"a","tool":"echo"}]"#, "step `a`: another"),
            (r#"[{"id":"a b","tool":"echo"}]"#, "step 1: `id`"),
            (r#"[{"id":"a","tool":"arcp.workflow"}]"#, "step `a`: `tool`"),
            (r#"[]"#, "no steps"),
            (r#"{"steps":[{"id":"a","tool":"echo"}],"nodes":1}"#, "`nodes`"),
            (&step(r#""needs":["c"]"#), "step `b`: `needs`: there is no step `c`"),
            (&step(r#""need":["a"]"#), "step `b`: nothing is known of `need`"),
            (&step(r#""arguments":{"x":{"$from":"/steps/a/result"}}"#), "step `b`: `arguments`: `/steps/a/result`"),
            (&step(r#""needs":["a"],"when":{"$from":"/steps/c/result"}"#), "step `b`: `when`: `/steps/c/result`"),
            (&step(r#""arguments":{"$from":"/input/y"}"#), "`/input/y` is not in the input"),
            (&step(r#""arguments":{"$from":"y"}"#), "step `b`: `arguments`: `y` is no JSON Pointer"),
            (&step(r#""when":{"from":"/input"}"#), "step `b`: `when`"),
            (&step(r#""retry":{"limit":99}"#), "step `b`: `retry`: `limit` is 10"),
            (&step(r#""retry":{"times":1}"#), "step `b`: `retry`"),
            (&step(r#""on_failure":"stop""#), "step `b`: `on_failure` is `fail` or `continue`"),
        ] {
            let said = check(graph, r#"{"x":1}"#).expect_err(graph);
            assert!(said.contains(why), "{graph}: {said}");
        }
        assert!(
            check(&step(r#""needs":["a"],"arguments":{"$from":"/steps/a/result/0","default":null}"#), "{}").is_ok()
        );
    }

    #[test]
    fn a_condition_compares_values_and_not_their_spelling() {
        let value = r#"{ "b":1, "a":[null] }"#;
        let holds = |when: &str| {
            let found =
                |reference: &Reference<'_>| Ok(reference.place.within(value, &mut 1000)?.map(ToString::to_string));
            super::holds(&Json::parse(when).expect("JSON"), &mut { found })
        };
        for (when, expected) in [
            ("true", true),
            ("false", false),
            (r#"{"$from":"/input"}"#, true),
            (r#"{"$from":"/input/a/0"}"#, false),
            (r#"{"$from":"/input/nothing"}"#, false),
            (r#"{"$from":"/input","equals":{"a":[null],"b":1}}"#, true),
            (r#"{"$from":"/input/b","not":1}"#, false),
            (r#"{"$from":"/input/b","not":2}"#, true),
        ] {
            assert_eq!(holds(when), Ok(expected), "{when}");
        }
        assert!(holds(r#"{"$from":"/input","equals":1,"not":2}"#).is_err());
    }

    #[test]
    fn each_try_waits_twice_as_long_and_an_hour_at_most() {
        let retry = Retry { limit: 10, backoff: Duration::from_secs(600) };
        let waits: Vec<u64> = [1, 2, 3, 4, 100].map(|attempt| retry.after(attempt).as_secs()).into();
        assert_eq!(waits, [600, 1200, 2400, 3600, 3600]);
    }
}
