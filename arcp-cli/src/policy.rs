//! `arcp policy`: what a policy permits, and why.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use arcp_blocking::ServerHandle;
use arcp_host::policy_file;
use arcp_host::server_log::log;
use arcp_host::stderr::visible;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::policy::{Policy, Quota, Role, Roles, Rule, Subject};
use clap::Subcommand;

use crate::exit::{Exit, Failure};
use crate::values;

/// Check and explain a policy, without a runtime.
#[derive(Debug, Subcommand)]
pub enum Policies {
    /// Check that `arcp serve --policy` accepts a file. Exits with 2, and says what is
    /// wrong and where, if not.
    Check {
        /// The policy.
        file: PathBuf,
    },
    /// Explain what a principal may do, and by which rule. Exits with 5 if it may not do
    /// what --agent or --jobs-of asks.
    Explain(Explain),
}

/// Explain what a principal may do.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The policy.
    file: PathBuf,
    /// The principal: a name, or ISSUER#SUBJECT.
    #[arg(long)]
    principal: Principal,
    /// A role in its credential; may be repeated.
    #[arg(long = "role")]
    roles: Vec<Role>,
    /// Ask whether it may submit this agent, and on which terms.
    #[arg(long, value_parser = values::agent)]
    agent: Option<AgentRef>,
    /// Ask whether it may see and end this principal's jobs.
    #[arg(long, value_name = "PRINCIPAL")]
    owner: Option<Principal>,
}

/// Runs the subcommand.
pub fn run(asked: &Policies) -> Result<Exit, Failure> {
    let (answer, exit) = match asked {
        Policies::Check { file } => {
            let policy = read(file)?;
            (format!("{}: {}", file.display(), counted(&policy)), Exit::Success)
        }
        Policies::Explain(asked) => explain(&read(&asked.file)?, asked),
    };
    for line in answer.lines() {
        writeln!(std::io::stdout(), "{}", visible(line))?;
    }
    Ok(exit)
}

/// Reads the policy file of a runtime.
pub fn read(file: &Path) -> Result<Policy, Failure> {
    policy_file::read(file).map_err(|error| Failure::usage(format!("policy: {error}")))
}

/// Reads the policy again, after a SIGHUP.
pub fn read_again(file: &Path, server: &ServerHandle) {
    match policy_file::read(file) {
        Ok(policy) => {
            log(format_args!("arcp: SIGHUP: the policy was read again: {}; jobs go on", counted(&policy)));
            server.set_policy(Some(policy));
        }
        Err(error) => log(format_args!("arcp: SIGHUP: the policy stays as it was: {error}")),
    }
}

fn counted(policy: &Policy) -> String {
    let of = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!("{}, {} of issuers", of(policy.rules.len(), "rule"), of(policy.claims.len(), "role"))
}

fn explain(policy: &Policy, asked: &Explain) -> (String, Exit) {
    let named: Roles = asked.roles.iter().cloned().collect();
    let roles = policy.counting(&asked.principal, &named);
    let who = Subject { principal: &asked.principal, roles: &roles };
    let mut answer = String::new();
    let mut exit = Exit::Success;
    for role in named.iter().filter(|role| !roles.has(role)) {
        let _ =
            writeln!(answer, "role {role}: counts for nothing: [roles] does not let this principal's issuer say it");
    }
    if let Some(agent) = &asked.agent {
        let name = agent.name();
        exit = say(&mut answer, exit, &format!("submit {name}"), policy.submit(who, name));
        let ceiling = policy.submit(who, name).and_then(|rule| rule.ceiling.as_ref());
        if let Some(ceiling) = ceiling {
            let longest = ceiling.longest.map(|span| format!(", for {}", humantime::format_duration(span)));
            let _ = writeln!(answer, "  granted at most {}{}", ceiling.lease.to_json(), longest.unwrap_or_default());
        }
    }
    if let Some(owner) = asked.owner.as_ref().filter(|owner| **owner == asked.principal) {
        let _ = writeln!(answer, "watch and oversee jobs of {owner}: allow, they are its own");
    } else if let Some(owner) = &asked.owner {
        exit = say(&mut answer, exit, &format!("watch jobs of {owner}"), policy.watch(who, owner));
        exit = say(&mut answer, exit, &format!("oversee jobs of {owner}"), policy.oversee(who, owner));
    }
    if asked.agent.is_none() && asked.owner.is_none() {
        everything(policy, who, &mut answer);
    }
    let bounds = [
        ("sessions", policy.sessions(who)),
        ("jobs", policy.jobs(who)),
        ("submits_per_second", policy.submits_per_second(who)),
    ];
    for (what, quota) in bounds {
        if let Some(Quota { most, rule }) = quota {
            let _ = writeln!(answer, "{what}: at most {most}, by rule `{rule}`");
        }
    }
    (answer, exit)
}

/// Adds one answer with its rule. Returns the exit code.
fn say(answer: &mut String, exit: Exit, what: &str, rule: Option<&Rule>) -> Exit {
    match rule {
        Some(rule) => {
            let _ = writeln!(answer, "{what}: allow, by rule `{}`", rule.name);
            exit
        }
        None => {
            let _ = writeln!(answer, "{what}: deny, no rule allows it");
            Exit::Permission
        }
    }
}

/// Every rule that applies to a principal, in the order in which rules are tried.
fn everything(policy: &Policy, who: Subject<'_>, answer: &mut String) {
    let list = |patterns: Vec<String>| patterns.join(" ");
    for rule in policy.rules_of(who) {
        let _ = writeln!(answer, "rule `{}`", rule.name);
        let said = [
            ("submit", list(rule.agents.iter().map(ToString::to_string).collect())),
            ("watch jobs of", list(rule.watch.iter().map(ToString::to_string).collect())),
            ("oversee jobs of", list(rule.oversee.iter().map(ToString::to_string).collect())),
        ];
        for (what, whose) in said.iter().filter(|(_, whose)| !whose.is_empty()) {
            let _ = writeln!(answer, "  {what} {whose}");
        }
    }
    if policy.rules_of(who).next().is_none() {
        let _ = writeln!(answer, "no rule is for it: it may come in, see and cancel its own jobs, and submit none");
    }
}
