//! The steps of a workflow as an indented tree. Each step is shown below one of the steps that it waits for.

use arcp_host::stderr::visible;
use arcp_proto::json::{Json, Members};
use arcp_proto::model::workflow::Workflow;

/// The steps of a workflow, in the order in which they are shown.
pub struct Graph {
    steps: Vec<Shown>,
}

struct Shown {
    id: String,
    tool: String,
    /// How many steps in a row come before this one.
    depth: usize,
    /// The steps that it waits for, besides the one above it.
    others: Vec<String>,
    state: Option<String>,
}

/// A step as an event describes it: its id, its agent, and the steps that it needs.
struct Told {
    id: String,
    tool: String,
    needs: Vec<String>,
}

impl Graph {
    /// The steps of a workflow that does not run yet.
    pub fn of(workflow: &Workflow) -> Graph {
        let name = |need: &usize| workflow.steps[*need].id.clone();
        let told = workflow.steps.iter().map(|step| Told {
            id: step.id.clone(),
            tool: step.tool.to_string(),
            needs: step.needs.iter().map(name).collect(),
        });
        Graph::new(told.collect())
    }

    /// The steps that an event lists.
    pub fn of_event(body: &Json) -> Option<Graph> {
        let members = body.members().ok()?;
        if members.get_str("phase")? != "workflow" {
            return None;
        }
        let steps: Vec<Json> = Json::parse(members.get("steps")?).ok()?.decode().ok()?;
        let told = steps.iter().filter_map(|step| {
            let members = step.members().ok()?;
            let needs = members.get("needs").and_then(|raw| Json::parse(raw).ok()?.decode().ok());
            Some(Told { id: members.get_str("id")?, tool: members.get_str("tool")?, needs: needs.unwrap_or_default() })
        });
        Some(Graph::new(told.collect()))
    }

    fn new(told: Vec<Told>) -> Graph {
        let depths = depths(&told);
        let above: Vec<Option<usize>> = told.iter().map(|step| deepest(&told, &depths, step)).collect();
        let mut graph = Graph { steps: Vec::new() };
        graph.add_below(&told, &above, None, 0);
        graph
    }

    fn add_below(&mut self, told: &[Told], above: &[Option<usize>], of: Option<usize>, depth: usize) {
        for (at, step) in told.iter().enumerate().filter(|(at, _)| above[*at] == of) {
            let stands_below = |need: &&String| above[at].is_some_and(|above| told[above].id == **need);
            let others = step.needs.iter().filter(|need| !stands_below(need)).cloned().collect();
            let (id, tool) = (step.id.clone(), step.tool.clone());
            self.steps.push(Shown { id, tool, depth, others, state: None });
            self.add_below(told, above, Some(at), depth + 1);
        }
    }

    /// Takes in an event about a step, and returns the step's line.
    pub fn take(&mut self, body: &Json) -> Option<String> {
        let members = body.members().ok()?;
        if members.get_str("phase")? != "step" {
            return None;
        }
        let step = Json::parse(members.get("step")?).ok()?;
        let step = step.members().ok()?;
        let (id, state) = (step.get_str("id")?, step.get_str("state")?);
        let shown = self.steps.iter_mut().find(|shown| shown.id == id)?;
        let attempt = step.get("attempt").and_then(|raw| raw.parse::<u32>().ok()).filter(|attempt| *attempt > 1);
        let attempt = attempt.map(|attempt| format!(" (try {attempt})")).unwrap_or_default();
        let job = step.get_str("job_id").filter(|_| state == "running").map(|job| format!(" {job}"));
        let why = why(&members, &state).map(|why| format!(": {why}")).unwrap_or_default();
        let line = format!("{}{id} {state}{attempt}{}{why}", "  ".repeat(shown.depth + 1), job.unwrap_or_default());
        shown.state = Some(state);
        Some(visible(&line))
    }

    /// All steps, each with its state if that is known.
    pub fn lines(&self) -> Vec<String> {
        self.steps.iter().map(Shown::line).collect()
    }
}

impl Shown {
    fn line(&self) -> String {
        let others = match self.others.as_slice() {
            [] => String::new(),
            others => format!(" (and after {})", others.join(", ")),
        };
        let state = self.state.as_ref().map(|state| format!(" {state}")).unwrap_or_default();
        visible(&format!("{}{} {}{state}{others}", "  ".repeat(self.depth + 1), self.id, self.tool))
    }
}

/// Why a step has failed, is tried again or waits.
fn why(members: &Members<'_>, state: &str) -> Option<String> {
    let message = members.get_str("message").filter(|_| ["failed", "retrying", "waiting"].contains(&state))?;
    Some(message.split_once(": ").map_or(message.clone(), |(_, why)| why.to_string()))
}

/// For each step, how many steps it waits for in a row. Steps of a cycle are shown at the top.
fn depths(told: &[Told]) -> Vec<usize> {
    let mut depths = vec![0; told.len()];
    for _ in 0..told.len() {
        for (at, step) in told.iter().enumerate() {
            let needed = step.needs.iter().filter_map(|need| told.iter().position(|other| other.id == *need));
            let depth = needed.map(|need| depths[need] + 1).max().unwrap_or(0);
            depths[at] = depth.min(told.len());
        }
    }
    depths
}

/// The step below which a step is shown: of those that it needs, the deepest.
fn deepest(told: &[Told], depths: &[usize], step: &Told) -> Option<usize> {
    let needed = step.needs.iter().filter_map(|need| told.iter().position(|other| other.id == *need));
    // Of several equally deep ones, the first. A step of a cycle is shown below none.
    needed.rev().max_by_key(|need| depths[*need]).filter(|need| depths[*need] < told.len())
}
