//! `arcp agents`.

use arcp_proto::json::Object;
use arcp_proto::model::agent::{AgentEntry, AgentRef};

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::list::there_is_none;
use crate::output::{self, Cell, Facts, Printing, Row};
use crate::values;

const HEADER: [&str; 3] = ["AGENT", "VERSIONS", "DEFAULT"];

/// List the agents of a runtime, or show one.
#[derive(Debug, clap::Args)]
pub struct Agents {
    /// The agent to show [default: all of them].
    #[arg(value_parser = values::agent, value_name = "NAME")]
    pub agent: Option<AgentRef>,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Lists agents, or shows one.
pub fn run(args: &Agents) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect_for_agents()?;
    let agents = &client.welcome().agents;
    let Some(named) = &args.agent else {
        output::rows(args.printing, &HEADER, &agents.iter().map(row).collect::<Vec<Row>>())?;
        return Ok(Exit::Success);
    };
    let agent = agents
        .iter()
        .find(|agent| agent.name == named.name())
        .ok_or_else(|| Failure::new(Exit::Failed, there_is_none(&client, named)))?;
    // A version that is not hosted is refused as well.
    agent.resolve(named).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    output::facts(args.printing, &facts(agent))?;
    Ok(Exit::Success)
}

fn versions(agent: &AgentEntry) -> String {
    if agent.versions.is_empty() { "-".to_string() } else { agent.versions.join(" ") }
}

fn row(agent: &AgentEntry) -> Row {
    let default = agent.default.as_deref().unwrap_or("-");
    let cells = vec![Cell::from(&agent.name), Cell::from(versions(agent)), Cell::from(default)];
    Row { id: agent.name.clone(), cells, json: json(agent) }
}

fn facts(agent: &AgentEntry) -> Facts {
    let default = agent.default.as_deref().unwrap_or("-");
    let mut facts = vec![
        ("agent", Cell::from(&agent.name)),
        ("versions", Cell::from(versions(agent))),
        ("default", Cell::from(default)),
    ];
    facts.extend(agent.description.as_deref().map(|text| ("description", Cell::from(text))));
    facts.extend(agent.concurrency.map(|most| ("concurrency", Cell::from(most.to_string()))));
    facts.extend(agent.input_schema.as_ref().map(|schema| ("input schema", Cell::from(schema.as_str()))));
    Facts { id: agent.name.clone(), facts, json: json(agent) }
}

fn json(agent: &AgentEntry) -> String {
    let mut line = Object::new();
    line.str("name", &agent.name).raw("versions", &serde_json::to_string(&agent.versions).unwrap_or_default());
    line.opt_str("default", agent.default.as_deref()).opt_str("description", agent.description.as_deref());
    if let Some(most) = agent.concurrency {
        line.u64("concurrency", u64::from(most.get()));
    }
    line.opt_json("input_schema", agent.input_schema.as_ref());
    line.done()
}
