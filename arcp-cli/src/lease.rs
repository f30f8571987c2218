//! `arcp lease`: what a lease allows, and whether one is within another.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use arcp_host::stderr::visible;
use arcp_proto::json::{Json, Object};
use arcp_proto::lease::{Ceiling, Constraints, Lease, Namespace, Target};
use arcp_proto::runtime::JobRecord;
use arcp_proto::trust::TrustLevel;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::values;

/// Check what leases allow, without a runtime.
///
/// A lease is a grant such as 'fs.read=/srv/**', a file, `-` for stdin, or JSON such as
/// '{"fs.read":["/srv/**"]}'. Exits with 0 for yes and 5 for no.
#[derive(Debug, Subcommand)]
pub enum Leases {
    /// Check whether a lease allows an operation, and by which pattern.
    Check {
        /// A lease, or one of its grants; may be repeated.
        #[arg(long = "lease", required = true, value_name = "LEASE|NAMESPACE=PATTERN")]
        leases: Vec<String>,
        /// The operation: fs.read, fs.write, net.fetch, tool.call, agent.delegate,
        /// model.use or x-vendor.VENDOR.NAME.
        #[arg(value_name = "OPERATION")]
        namespace: Namespace,
        /// Its target: a path, a URL or a name.
        target: String,
    },
    /// Check whether one lease is within another, and if not, which part is outside.
    Subset {
        /// The narrower lease: a grant such as 'fs.read=/srv/**', a file, - for stdin, or
        /// JSON.
        child: String,
        /// The wider lease, in the same form.
        parent: String,
    },
}

/// What a job may do, until when and for how much.
#[derive(Debug, clap::Args)]
pub struct Authority {
    /// The lease to request: a grant such as fs.write=/srv/**, a file or JSON; may be
    /// repeated.
    #[arg(long = "lease", value_name = "NAMESPACE=PATTERN|LEASE")]
    leases: Vec<String>,
    /// The budget to request, such as USD:5; may be repeated for other currencies.
    #[arg(long = "budget", value_name = "CURRENCY:AMOUNT")]
    budgets: Vec<String>,
    /// End the job when a budget is used up, for agents that do not ask what they may do.
    #[arg(long, requires = "budgets")]
    budget_hard: bool,
    /// End the job and its lease after this time.
    #[arg(long, value_name = "SPAN", value_parser = values::seconds)]
    expires: Option<NonZeroU32>,
}

impl Authority {
    /// The authority as a submit requests it.
    pub fn asked(&self) -> Result<Asked, Failure> {
        let lease = of(&self.leases, &self.budgets)?;
        let lease_request = (lease != Lease::default()).then(|| lease.to_json());
        Ok(Asked { lease_request, lease_constraints: constraints(self.expires.map(NonZeroU32::get), self.budget_hard) })
    }
}

/// The lease with all grants and budgets.
pub fn of(leases: &[String], budgets: &[String]) -> Result<Lease, Failure> {
    let lease = granted(leases)?;
    if budgets.is_empty() {
        return Ok(lease);
    }
    let budgets = serde_json::Value::from(budgets);
    Ok(lease.with(parse("--budget", &format!("{{\"cost.budget\":{budgets}}}"))?))
}

/// The authority of a job as a submit requests it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Asked {
    /// The lease: operations and budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_request: Option<Json>,
    /// When the lease ends, and what happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_constraints: Option<Json>,
}

impl Asked {
    /// Whether nothing is requested.
    pub fn is_nothing(&self) -> bool {
        self.lease_request.is_none() && self.lease_constraints.is_none()
    }

    /// The authority of an earlier job, for the same length of time.
    pub fn again(job: &JobRecord) -> Asked {
        let Constraints { expires_at, budget_is_hard } = job.bounds.constraints;
        let span = expires_at.map(|at| at.0.saturating_sub(job.created_at.0).div_ceil(1000));
        let span = span.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
        Asked {
            lease_request: Some(job.lease.clone()).filter(|lease| *lease != Json::empty_object()),
            lease_constraints: constraints(span, budget_is_hard),
        }
    }
}

fn constraints(seconds: Option<u32>, budget_is_hard: bool) -> Option<Json> {
    let mut json = Constraints { expires_at: None, budget_is_hard }.to_json();
    if let Some(seconds) = seconds {
        let members = json.members().unwrap_or_default();
        let mut out = Object::new();
        out.u64("expires_in_s", u64::from(seconds));
        for (name, value) in &members.0 {
            out.member(name, value);
        }
        json = out.json();
    }
    (json != Json::empty_object()).then_some(json)
}

/// Prints the answer to the question.
pub fn run(asked: &Leases) -> Result<Exit, Failure> {
    let (answer, exit) = match asked {
        Leases::Check { leases, namespace, target } => check(&granted(leases)?, namespace, target),
        Leases::Subset { child, parent } => match lease(parent)?.covers(&lease(child)?) {
            Ok(()) => ("allow: the parent's lease grants all of it".to_string(), Exit::Success),
            Err(excess) => (format!("deny: {excess}"), Exit::Permission),
        },
    };
    // The lease that was given may contain control characters.
    writeln!(std::io::stdout(), "{}", visible(&answer))?;
    Ok(exit)
}

fn check(lease: &Lease, namespace: &Namespace, target: &str) -> (String, Exit) {
    let wanted = match Target::new(namespace, target) {
        Ok(wanted) => wanted,
        Err(why) => return (format!("deny: `{target}` is never allowed: {why}"), Exit::Permission),
    };
    match lease.permits(namespace, &wanted) {
        Some(pattern) => (format!("allow: {namespace} {pattern}"), Exit::Success),
        None => (format!("deny: no pattern of {namespace} matches `{wanted}`"), Exit::Permission),
    }
}

/// The most that a runtime grants, if there is a bound.
pub fn ceiling(leases: &[String], longest: Option<NonZeroU32>) -> Result<Option<Ceiling>, Failure> {
    if leases.is_empty() {
        return Ok(None);
    }
    let longest = longest.map(|seconds| Duration::from_secs(u64::from(seconds.get())));
    Ok(Some(Ceiling { longest, ..Ceiling::new(granted(leases)?) }))
}

/// The operations that need each trust level.
pub fn needs_trust(needs: &[String]) -> Result<BTreeMap<TrustLevel, Lease>, Failure> {
    let mut all = BTreeMap::<TrustLevel, Lease>::new();
    for text in needs {
        let usage = |why: &dyn std::fmt::Display| Failure::usage(format!("--needs-trust {text}: {why}"));
        let (level, needing) = text
            .split_once(':')
            .ok_or_else(|| usage(&"expected LEVEL:NAMESPACE=PATTERN, such as privileged:tool.call=deploy.*"))?;
        let level: TrustLevel = level.parse().map_err(|error| usage(&error))?;
        let needing = lease(needing).map_err(|failure| usage(&failure.message))?;
        if !needing.budget().is_empty() {
            return Err(usage(&"a budget needs no trust level"));
        }
        let known = all.remove(&level).unwrap_or_default();
        all.insert(level, known.with(needing));
    }
    Ok(all)
}

/// The lease with all grants of the command line.
fn granted(texts: &[String]) -> Result<Lease, Failure> {
    texts.iter().try_fold(Lease::default(), |all, text| Ok(all.with(lease(text)?)))
}

/// Parses one grant, or a whole lease.
fn lease(text: &str) -> Result<Lease, Failure> {
    match text.split_once('=') {
        Some((namespace, pattern)) if !text.starts_with('{') => {
            let pattern = serde_json::Value::from(pattern);
            parse(text, &format!("{{\"{namespace}\":[{pattern}]}}"))
        }
        Some(_) | None => read(text),
    }
}

fn read(text: &str) -> Result<Lease, Failure> {
    if text.starts_with('{') {
        return parse(text, text);
    }
    let read = if text == "-" { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(text) };
    let json = read.map_err(|error| {
        let expected = "expected NAMESPACE=PATTERN, such as 'fs.read=/srv/**', or JSON, or the file of a lease";
        Failure::usage(format!("the lease `{text}` cannot be read: {error}; {expected}"))
    })?;
    parse(text, &json)
}

fn parse(name: &str, json: &str) -> Result<Lease, Failure> {
    let usage = |why: String| Failure::usage(format!("the lease `{name}` makes no sense: {why}"));
    let json = Json::parse(json.trim()).map_err(|error| usage(error.to_string()))?;
    Lease::parse(&json).map_err(|violation| usage(violation.to_string()))
}
