//! `arcp token`: the tokens of a runtime, in a file.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use arcp_host::auth::{AUDITOR, CredentialFileError, NewToken, OPERATOR, TokenEntry, TokenFile};
use arcp_host::stderr::say;
use arcp_proto::id::Principal;
use arcp_proto::json::Object;
use arcp_proto::policy::Role;
use arcp_proto::time::UtcMs;

use crate::delegation;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Printing, Row};
use crate::times::{local, now};
use crate::values;

const HEADER: [&str; 4] = ["ID", "PRINCIPAL", "EXPIRES", "ROLES"];

/// Make, list and revoke the tokens of a runtime.
#[derive(Debug, clap::Subcommand)]
pub enum Tokens {
    /// Make a token, add it to a file and print it, this once.
    Add(Add),
    /// List the tokens of a file. It contains only their digests.
    #[command(visible_alias = "ls")]
    List(List),
    /// Remove tokens from a file. Runtimes that use it refuse them and end their
    /// principals' sessions.
    Revoke(Revoke),
    /// Make a key for signing delegation tokens.
    Key(delegation::Key),
    /// Make and print a delegation token: its holder acts as a principal, within a lease,
    /// until it expires. Needs no runtime.
    Mint(delegation::Mint),
    /// Show the claims of a JWT, and whether it is a valid delegation token.
    Inspect(delegation::Inspect),
}

/// Which file.
#[derive(Debug, clap::Args)]
pub struct In {
    /// The file given to `arcp serve --tokens`.
    #[arg(long = "tokens", value_name = "FILE", env = "ARCP_TOKENS")]
    file: PathBuf,
}

/// Make a token.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Its principal.
    principal: Principal,
    /// How long it is valid [default: until it is revoked].
    #[arg(long, value_name = "SPAN", value_parser = values::some_span)]
    expires: Option<Duration>,
    /// A role of its principal: auditor (list and watch everybody's jobs), operator
    /// (cancel them too), or a role of the policy; may be repeated. All tokens of a
    /// principal have the same roles.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    #[command(flatten)]
    place: In,
}

/// List tokens.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    place: In,
    #[command(flatten)]
    printing: Printing,
}

/// Revoke tokens.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// Their ids, as `arcp token list` shows them.
    #[arg(required_unless_present = "principal", value_name = "ID")]
    ids: Vec<String>,
    /// All of this principal's.
    #[arg(long)]
    principal: Option<Principal>,
    #[command(flatten)]
    place: In,
}

/// Runs the subcommand.
pub fn run(asked: Tokens) -> Result<Exit, Failure> {
    match asked {
        Tokens::Add(args) => add(args),
        Tokens::List(args) => list(&args),
        Tokens::Revoke(args) => revoke(&args),
        Tokens::Key(args) => delegation::key(&args),
        Tokens::Mint(args) => delegation::mint(args),
        Tokens::Inspect(args) => delegation::inspect(args),
    }
}

fn add(Add { principal, expires, roles, place }: Add) -> Result<Exit, Failure> {
    let file = place.file;
    let expires_at = expires.map(|span| now().plus(span).min(UtcMs::MAX));
    let roles: BTreeSet<Role> = roles.into_iter().collect();
    let made = TokenFile::add(&file, principal.clone(), expires_at, roles).map_err(failure)?;
    let NewToken { token, entry } = made;
    writeln!(io::stdout(), "{}", token.expose())?;
    let (id, file) = (entry.id(), file.display());
    let own = |role: &&Role| ![OPERATOR, AUDITOR].contains(&role.as_str());
    if let Some(role) = entry.roles.iter().find(own) {
        say(format_args!(
            "arcp: the role `{role}` means what a policy says of it, and nothing without `arcp serve --policy FILE`"
        ));
    }
    say(format_args!("arcp: this token of {principal} is shown once; {file} has its hash, as {id}"));
    Ok(Exit::Success)
}

fn list(args: &List) -> Result<Exit, Failure> {
    let entries = TokenFile::open(&args.place.file).map_err(failure)?.entries();
    let rows: Vec<Row> = entries.iter().map(row).collect();
    output::rows(args.printing, &HEADER, &rows)?;
    Ok(Exit::Success)
}

fn revoke(args: &Revoke) -> Result<Exit, Failure> {
    let file = &args.place.file;
    // All or nothing: a mistyped id is reported before anything is revoked.
    let entries = TokenFile::open(file).map_err(failure)?.entries();
    let named = |id: &str| entries.iter().filter(|entry| !id.is_empty() && entry.id().starts_with(id)).count();
    for id in &args.ids {
        match named(id) {
            1 => {}
            0 => {
                let why = format!("no token of {} is `{id}`: `arcp token list` shows them", file.display());
                return Err(Failure::new(Exit::Failed, why));
            }
            several => return Err(Failure::usage(format!("{several} tokens begin with `{id}`: give more of it"))),
        }
    }
    let is_meant = |entry: &TokenEntry| {
        args.ids.iter().any(|id| entry.id().starts_with(id)) || args.principal.as_ref() == Some(&entry.principal)
    };
    let gone = TokenFile::revoke(file, is_meant).map_err(failure)?;
    if gone.is_empty() {
        let whose = args.principal.as_ref().map(|principal| format!(" of {principal}")).unwrap_or_default();
        return Err(Failure::new(Exit::Failed, format!("{} has no such token{whose}", file.display())));
    }
    gone.iter().try_for_each(|entry| writeln!(io::stdout(), "{}", entry.id()))?;
    say(format_args!("arcp: runtimes that serve with {} see it within seconds", file.display()));
    Ok(Exit::Success)
}

fn row(entry: &TokenEntry) -> Row {
    let roles: Vec<&str> = entry.roles.iter().map(|role| role.as_str()).collect();
    let expires = match entry.expires_at {
        None => "never".to_string(),
        Some(at) if at <= now() => format!("{} (over)", local(at)),
        Some(at) => local(at),
    };
    let mut json = Object::new();
    json.str("id", &entry.id()).display("principal", &entry.principal);
    if let Some(at) = entry.expires_at {
        json.display("expires_at", at);
    }
    json.raw("roles", &serde_json::Value::from(roles.clone()).to_string());
    Row {
        id: entry.id(),
        cells: vec![
            Cell::from(entry.id()),
            Cell::from(entry.principal.to_string()),
            Cell::from(expires),
            Cell::from(roles.join(",")),
        ],
        json: json.done(),
    }
}

fn failure(error: CredentialFileError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}
