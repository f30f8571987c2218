//! `arcp lease`: what a lease allows, and whether one is within another.

use std::fs;
use std::io::Write as _;

use arcp_host::stderr::visible;
use arcp_proto::json::Json;
use arcp_proto::lease::{Lease, Namespace, Target};
use clap::Subcommand;

use crate::exit::{Exit, Failure};

/// Ask what leases allow, without a runtime.
///
/// A lease is a file, `-` for standard input, or JSON such as
/// '{"fs.read":["/srv/**"]}'; for `check` also NAMESPACE=PATTERN. Ends with 0 if the
/// answer is yes and with 5 if it is no.
#[derive(Debug, Subcommand)]
pub enum Leases {
    /// Say whether a lease allows an operation, and by which pattern.
    Check {
        /// A lease, or one of its grants; may be repeated.
        #[arg(long = "lease", required = true, value_name = "LEASE|NAMESPACE=PATTERN")]
        leases: Vec<String>,
        /// What is done: fs.read, fs.write, net.fetch, tool.call,
        /// agent.delegate, model.use or x-vendor.VENDOR.NAME.
        #[arg(value_name = "OPERATION")]
        namespace: Namespace,
        /// What it is done to: a path, a URL or a name.
        target: String,
    },
    /// Say whether all that one lease allows is allowed by another, and if not, what is not.
    Subset {
        /// The lease that should be within the other.
        child: String,
        /// The other.
        parent: String,
    },
}

/// Answers.
pub fn run(asked: &Leases) -> Result<Exit, Failure> {
    let (answer, exit) = match asked {
        Leases::Check { leases, namespace, target } => check(&granted(leases)?, namespace, target),
        Leases::Subset { child, parent } => match read(parent)?.covers(&read(child)?) {
            Ok(()) => ("allow: the parent's lease grants all of it".to_string(), Exit::Success),
            Err(excess) => (format!("deny: {excess}"), Exit::Permission),
        },
    };
    // What was asked about may come from anybody.
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

/// The lease of all that is granted on the command line.
fn granted(texts: &[String]) -> Result<Lease, Failure> {
    let mut lease = Lease::default();
    for text in texts {
        let more = match text.split_once('=') {
            Some((namespace, pattern)) if !text.starts_with('{') => {
                let pattern = serde_json::Value::from(pattern);
                parse(text, &format!("{{\"{namespace}\":[{pattern}]}}"))?
            }
            Some(_) | None => read(text)?,
        };
        lease = lease.with(more);
    }
    Ok(lease)
}

fn read(text: &str) -> Result<Lease, Failure> {
    if text.starts_with('{') {
        return parse(text, text);
    }
    let read = if text == "-" { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(text) };
    let json = read.map_err(|error| Failure::usage(format!("the lease `{text}` cannot be read: {error}")))?;
    parse(text, &json)
}

fn parse(name: &str, json: &str) -> Result<Lease, Failure> {
    let usage = |why: String| Failure::usage(format!("the lease `{name}` makes no sense: {why}"));
    let json = Json::parse(json.trim()).map_err(|error| usage(error.to_string()))?;
    Lease::parse(&json).map_err(|violation| usage(violation.to_string()))
}
