//! The agents that `arcp serve` hosts, and how they are run.

use std::ffi::OsString;
use std::sync::Arc;

use arcp_blocking::Host;
use arcp_host::directory::AgentDirectory;
use arcp_host::process::ProcessAgent;
use arcp_host::provisioner::Provisioner;
use arcp_host::registry::{Registry, Terms};
use arcp_host::samples;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::runtime::Config;
use rustix::process::{Resource, getrlimit};

use crate::args::Serve;
use crate::exit::{Exit, Failure};
use crate::values::{AgentCommand, OfAgent};
use crate::{provisioner, sandbox};

/// The environment variable in which commands find their token.
const TOKEN: &str = "ARCP_TOKEN";

/// The agents of a runtime.
pub struct Agents {
    /// The provisioner, which issues credentials for jobs.
    provisioner: Option<Arc<dyn Provisioner>>,
    registry: Registry,
    /// The folder of agents, which is looked at while the runtime runs.
    directory: Option<AgentDirectory>,
}

impl Agents {
    /// The agents that the command line names. `mark` is what programs of this store are recognised by.
    pub fn of(args: &Serve, mark: Option<String>) -> Result<Agents, Failure> {
        let mut registry = Registry::default();
        if args.agents.samples {
            samples::add_to(&mut registry);
        }
        if args.agents.samples_may_crash {
            samples::let_crash(&mut registry);
        }
        let provisioner = provisioner::of(args)?;
        let program = program(args, mark)?;
        for agent in &args.agents.commands {
            add(&mut registry, args, agent, &program)?;
        }
        check_names(args, &registry)?;
        let Some(folder) = &args.agents.folder else {
            if registry.entries().is_empty() {
                let nothing = "nothing to host: give --agent NAME=COMMAND, --agents FOLDER, or --samples";
                return Err(Failure::usage(nothing));
            }
            return Ok(Agents { provisioner, registry, directory: None });
        };
        let (directory, registry) = AgentDirectory::open(folder, registry, program).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::new(Exit::Usage, format!("--agents: {}", lines.join("\n")))
        })?;
        Ok(Agents { provisioner, registry, directory: Some(directory) })
    }

    /// A host that runs these agents.
    pub fn host(self, config: Config) -> Host {
        let mut host = Host::new(config, self.registry);
        if let Some(provisioner) = self.provisioner {
            host = host.with_provisioner(provisioner);
        }
        match self.directory {
            Some(directory) => host.with_agents_from(directory),
            None => host,
        }
    }
}

/// How each program is run.
fn program(args: &Serve, mark: Option<String>) -> Result<ProcessAgent, Failure> {
    let mut program = ProcessAgent::shell("");
    for (name, value) in variables(args)? {
        program = program.with_variable(name, value);
    }
    // Programs get the limit of open files that this program had before it raised its own.
    if let Some(descriptors) = getrlimit(Resource::Nofile).current {
        program = program.with_descriptors(descriptors);
    }
    if let Some(sandbox) = sandbox::of(args)? {
        program = program.confined(sandbox);
    }
    Ok(match mark {
        Some(mark) => program.marked(&mark),
        None => program,
    })
}

fn add(registry: &mut Registry, args: &Serve, agent: &AgentCommand, program: &ProcessAgent) -> Result<(), Failure> {
    let AgentCommand { agent: name, command } = agent;
    if is_hosted(registry, name) {
        let named = args.agents.commands.iter().filter(|other| other.agent == *name).count();
        let whose = if named > 1 { "is given twice" } else { "is a sample" };
        let message = format!("--agent {name}={command}: `{name}` {whose}: give it another name or version");
        return Err(Failure::usage(message));
    }
    if registry.has(name.name()) && name.version().is_none() != has_no_version(registry, name.name()) {
        let message = format!(
            "--agent {name}={command}: of two agents `{0}`, of which one has a version, the other could never be run: \
             give both a version, or another name",
            name.name()
        );
        return Err(Failure::usage(message));
    }
    let mut program = program.clone().with_command(command);
    if let Some(format) = OfAgent::find(&args.agents.formats, name.name()) {
        program = program.printing(format);
    }
    let observes_interrupts = args.agents.interrupts.iter().any(|interrupts| interrupts == name.name());
    let takes_input = args.agents.takes_input.iter().any(|takes| takes == name.name());
    let gives_checkpoints = args.agents.checkpoints.iter().any(|gives| gives == name.name());
    let reads_on = observes_interrupts || takes_input || gives_checkpoints;
    if reads_on || args.agents.answered.iter().any(|answered| answered == name.name()) {
        program = program.answered();
    }
    if args.agents.pty.iter().any(|pty| pty == name.name()) {
        program = program.on_terminal();
    }
    if gives_checkpoints || args.agents.restartable.iter().any(|restartable| restartable == name.name()) {
        registry.add_restartable(name.name(), name.version(), program.restartable());
    } else {
        registry.add(name.name(), name.version(), program);
    }
    let concurrency = OfAgent::find(&args.agents.concurrency, name.name());
    let pure = args.agents.pure.iter().any(|pure| pure == name.name());
    let terms = Terms { concurrency, observes_interrupts, takes_input, pure, gives_checkpoints, ..Terms::default() };
    registry.set_terms(name.name(), terms);
    Ok(())
}

/// Refuses options for agents that do not exist.
fn check_names(args: &Serve, registry: &Registry) -> Result<(), Failure> {
    let no_agent = |option: &str, name: &str| {
        Err(Failure::usage(format!("{option} {name}: no --agent has that name: give --agent {name}=COMMAND")))
    };
    if let Some(unknown) = args.agents.restartable.iter().find(|name| !registry.restartable().contains(*name)) {
        return no_agent("--restartable", unknown);
    }
    if let Some(unknown) = args.agents.require_heartbeat.iter().find(|name| !registry.has(name)) {
        return no_agent("--require-heartbeat", unknown);
    }
    let is_command = |name: &str| args.agents.commands.iter().any(|agent| agent.agent.name() == name);
    let of_commands = [
        ("--answered", &args.agents.answered),
        ("--interrupts", &args.agents.interrupts),
        ("--takes-input", &args.agents.takes_input),
        ("--checkpoints", &args.agents.checkpoints),
        ("--pure", &args.agents.pure),
        ("--pty", &args.agents.pty),
    ];
    for (option, names) in of_commands {
        if let Some(unknown) = names.iter().find(|name| !is_command(name)) {
            return no_agent(option, unknown);
        }
    }
    if let Some(unknown) = args.agents.formats.iter().find(|of| !is_command(&of.agent)) {
        return no_agent("--format", &unknown.agent);
    }
    if let Some(unknown) = args.agents.concurrency.iter().find(|of| !is_command(&of.agent)) {
        return no_agent("--concurrency", &unknown.agent);
    }
    Ok(())
}

fn is_hosted(registry: &Registry, agent: &AgentRef) -> bool {
    match agent.version() {
        Some(version) => {
            let entries = registry.entries();
            let entry = entries.iter().find(|entry| entry.name == agent.name());
            entry.is_some_and(|entry| entry.versions.iter().any(|hosted| hosted == version))
        }
        None => has_no_version(registry, agent.name()),
    }
}

/// Whether this agent is hosted, without a version.
fn has_no_version(registry: &Registry, name: &str) -> bool {
    registry.entries().iter().any(|entry| entry.name == name && entry.versions.is_empty())
}

/// The environment variables that agents get in addition to the usual ones.
fn variables(args: &Serve) -> Result<Vec<(String, OsString)>, Failure> {
    let variables = args.agents.env.iter().map(|variable| {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, Some(value.into())),
            None => (variable.as_str(), std::env::var_os(variable)),
        };
        // The message leaves out the value, which may be a secret.
        let bad = |why: &str| Failure::usage(format!("--agent-env {name}: {why}"));
        if name.is_empty() {
            return Err(bad("expected NAME or NAME=VALUE"));
        }
        let value = value.ok_or_else(|| bad("it is not set here: give it as NAME=VALUE"))?;
        if name == TOKEN || is_token(args, &value) {
            return Err(bad("a token of this runtime is given to no agent: leave it out"));
        }
        Ok((name.to_string(), value))
    });
    variables.collect()
}

fn is_token(args: &Serve, value: &OsString) -> bool {
    let given = args.access.tokens.iter().filter_map(|pair| Some(pair.rsplit_once('=')?.0));
    given.chain(args.access.bearer.as_deref()).any(|token| !token.is_empty() && value == token)
}
