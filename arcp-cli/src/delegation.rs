//! `arcp token key`, `mint` and `inspect`: tokens that delegate a part of a principal's authority.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_host::auth::{Delegation, DelegationKey, unverified_claims};
use arcp_host::stderr::{say, visible};
use arcp_proto::id::Principal;
use arcp_proto::lease::Lease;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use rcgen::KeyPair;

use crate::exit::{Exit, Failure};
use crate::lease;
use crate::times::now;
use crate::values;

/// Make a key.
#[derive(Debug, clap::Args)]
pub struct Key {
    /// The file to create, readable by this user only. An existing file is not replaced.
    file: PathBuf,
}

/// Make a delegation token.
#[derive(Debug, clap::Args)]
pub struct Mint {
    /// The principal that its holder acts as.
    #[arg(long)]
    principal: Principal,
    /// The most that its holder's jobs may do: a grant such as fs.write=/srv/**, a file
    /// or JSON; may be repeated.
    #[arg(long = "lease", value_name = "NAMESPACE=PATTERN|LEASE")]
    leases: Vec<String>,
    /// The budget of each of those jobs, such as USD:5; may be repeated for other
    /// currencies.
    #[arg(long = "budget", value_name = "CURRENCY:AMOUNT")]
    budgets: Vec<String>,
    /// How long it is valid. Sessions and leases end with it.
    #[arg(long, value_name = "SPAN", value_parser = values::some_span)]
    expires: Duration,
    /// The runtime that it is for, as given to `arcp serve --audience`.
    #[arg(long, value_name = "NAME")]
    audience: String,
    /// The key file given to `arcp serve --delegation-key`.
    #[arg(long, value_name = "FILE", env = "ARCP_DELEGATION_KEY")]
    key: PathBuf,
}

/// Show the claims of a token.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// A JWT, or `-` for stdin, where no other user can see it.
    token: String,
    /// Verify it with this key, given to `arcp serve --delegation-key`.
    #[arg(long, value_name = "FILE", env = "ARCP_DELEGATION_KEY", requires = "audience")]
    key: Option<PathBuf>,
    /// Verify that it is for this runtime.
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

/// Makes a key.
pub fn key(args: &Key) -> Result<Exit, Failure> {
    let file = args.file.display();
    let failed = |why: String| Failure::new(Exit::Failed, format!("{file}: {why}"));
    let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
    let made = File::options().write(true).create_new(true).mode(0o600).open(&args.file);
    let mut made = made.map_err(|error| match error.kind() == io::ErrorKind::AlreadyExists {
        true => failed("it is there already, and tokens that it has signed end without it".to_string()),
        false => failed(error.to_string()),
    })?;
    made.write_all(key.serialize_pem().as_bytes()).and_then(|()| made.sync_all()).map_err(|error| {
        // A partly written key is useless.
        let _ = fs::remove_file(&args.file);
        failed(error.to_string())
    })?;
    writeln!(io::stdout(), "{file}")?;
    say(format_args!("arcp: serve with: arcp serve --delegation-key {file} --audience NAME"));
    Ok(Exit::Success)
}

/// Makes a token and prints it.
pub fn mint(args: Mint) -> Result<Exit, Failure> {
    let key = read(&args.key)?;
    let lease = lease::of(&args.leases, &args.budgets)?;
    if lease == Lease::default() {
        let nothing = "give --lease, such as --lease 'tool.call=search.*': a token without one may have nothing done";
        return Err(Failure::usage(nothing));
    }
    let now = now();
    let until = now.plus(args.expires).min(UtcMs::MAX);
    let delegation = Delegation {
        principal: args.principal,
        audience: args.audience,
        lease,
        // A token has whole seconds.
        expires_at: UtcMs(until.0 / 1000 * 1000),
    };
    let token = key.mint(&delegation, now).map_err(Failure::usage)?;
    writeln!(io::stdout(), "{}", token.expose())?;
    let Delegation { principal, audience, lease, expires_at } = delegation;
    let lease = lease.to_json();
    say(format_args!("arcp: its holder is {principal} at {audience} until {expires_at}, within {}", lease.as_str()));
    Ok(Exit::Success)
}

/// Shows the claims of a token, and whether it is valid.
pub fn inspect(args: Inspect) -> Result<Exit, Failure> {
    let text = if args.token == "-" { io::read_to_string(io::stdin())? } else { args.token };
    let token = Secret::new(text.trim().to_string());
    // Text that is no JWT may be another valid token: it is not repeated.
    let claims = unverified_claims(&token);
    let claims = claims.ok_or_else(|| Failure::usage("this is no JWT: expected three parts with `.` between them"))?;
    writeln!(io::stdout(), "{}", visible(claims.as_str()))?;
    let Some((file, audience)) = args.key.as_deref().zip(args.audience.as_deref()) else {
        say(format_args!("arcp: this is what it says; whether it counts, --key FILE --audience NAME tell"));
        return Ok(Exit::Success);
    };
    Ok(match read(file)?.check(&token, audience) {
        Ok(Delegation { principal, expires_at, .. }) => {
            say(format_args!("arcp: it counts: {principal} until {expires_at}"));
            Exit::Success
        }
        Err(why) => {
            say(format_args!("arcp: it counts for nothing: {why}"));
            Exit::Unauthenticated
        }
    })
}

fn read(file: &Path) -> Result<DelegationKey, Failure> {
    DelegationKey::read(file).map_err(|error| Failure::usage(format!("--key: {error}")))
}
