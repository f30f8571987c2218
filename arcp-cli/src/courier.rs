//! The other runtimes to which `arcp serve` hands jobs over, and the requests to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcp_blocking::{Client, ClientError, Host, Security, Target, Trust};
use arcp_host::handoff::Courier;
use arcp_host::provisioner::litellm::read_master_key;
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::error::ErrorCode;
use arcp_proto::model::handoff::{HandoffAnswer, HandoffOrder, Receiver};
use arcp_proto::model::reply::Refusal;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Config;
use arcp_proto::wire::Family;
use clap::Args;

use crate::exit::Failure;
use crate::values::{self, OfRuntime};

/// How long a receiving runtime may take to open a session.
const OPEN: Duration = Duration::from_secs(8);
/// How long to look for a receiving runtime that may be starting.
const LOOKED_FOR: Duration = Duration::from_secs(2);
/// How long a receiving runtime may take to answer the request.
const ANSWER: Duration = Duration::from_secs(15);

/// Other runtimes that take jobs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Handing jobs over")]
pub struct HandingOver {
    /// Allow queued jobs to be handed to this runtime by `arcp handoff JOB --to-runtime
    /// NAME`: a wss:// URL, or ws:// on this machine; may be repeated. Jobs are handed to
    /// no other runtime.
    #[arg(long = "handoff-to", value_name = "NAME=URL", value_parser = values::receiver, requires = "tokens_of_receivers")]
    receivers: Vec<OfRuntime<Target>>,
    /// A private file with the bearer token for that runtime. Its principal owns the jobs
    /// there. May be repeated.
    #[arg(long = "handoff-token", value_name = "NAME=FILE", value_parser = values::receiver_file, requires = "receivers", id = "tokens_of_receivers")]
    tokens: Vec<OfRuntime<PathBuf>>,
    /// Accept only this key fingerprint of that runtime, sha256: and 64 hex digits; may
    /// be repeated [default: verify its certificate].
    #[arg(long = "handoff-fingerprint", value_name = "NAME=sha256:HEX", value_parser = values::receiver_key, requires = "receivers")]
    fingerprints: Vec<OfRuntime<String>>,
    /// Trust these authorities or certificates of those runtimes, a PEM file [default:
    /// the system's authorities].
    #[arg(long, value_name = "FILE", requires = "receivers")]
    handoff_ca: Option<PathBuf>,
}

/// One other runtime.
#[derive(Clone, Debug)]
struct Known {
    target: Target,
    token: PathBuf,
    security: Security,
}

/// Sends handoff requests to them.
#[derive(Debug)]
struct Messenger(BTreeMap<String, Known>);

/// The named runtimes, checked as far as that is possible without a connection.
pub struct Receivers(BTreeMap<String, (Receiver, Known)>);

impl Receivers {
    /// The runtimes that are named on the command line.
    pub fn of(args: &HandingOver) -> Result<Receivers, Failure> {
        let HandingOver { receivers, tokens, fingerprints, handoff_ca } = args;
        let names = |of: &[&str], option: &str| match of
            .iter()
            .find(|name| receivers.iter().all(|to| to.runtime != **name))
        {
            Some(unknown) => Err(Failure::usage(format!("{option} {unknown}=...: give --handoff-to {unknown}=URL"))),
            None => Ok(()),
        };
        names(&tokens.iter().map(|of| of.runtime.as_str()).collect::<Vec<_>>(), "--handoff-token")?;
        names(&fingerprints.iter().map(|of| of.runtime.as_str()).collect::<Vec<_>>(), "--handoff-fingerprint")?;
        let mut all = BTreeMap::new();
        for OfRuntime { runtime: name, value: target } in receivers {
            let wrong = |why: String| Failure::usage(format!("--handoff-to {name}={target}: {why}"));
            let token = tokens.iter().find(|of| of.runtime == *name).map(|of| of.value.clone());
            let token = token.ok_or_else(|| wrong(format!("give --handoff-token {name}=FILE")))?;
            let fingerprint = fingerprints.iter().find(|of| of.runtime == *name).map(|of| of.value.clone());
            let trust = match (&fingerprint, handoff_ca) {
                (Some(fingerprint), _) => Trust::Key(fingerprint.clone()),
                (None, Some(file)) => Trust::Authorities(file.clone()),
                (None, None) => Trust::System,
            };
            if fingerprint.is_some() && !matches!(target, Target::WebSocket { tls: true, .. }) {
                return Err(wrong("a fingerprint is that of a key, and only wss:// has one".to_string()));
            }
            let security = Security { trust, ..Security::default() };
            let credential =
                credential(&token).map_err(|why| Failure::usage(format!("--handoff-token {name}: {why}")))?;
            security.allows(target, &credential).map_err(|error| wrong(error.to_string()))?;
            let receiver = Receiver { url: target.to_string(), fingerprint };
            let known = Known { target: target.clone(), token, security };
            if all.insert(name.clone(), (receiver, known)).is_some() {
                return Err(wrong(format!("`{name}` is given twice")));
            }
        }
        Ok(Receivers(all))
    }

    /// Tells the core their names and what it has to know of each.
    pub fn configure(&self, config: &mut Config) {
        let receivers = self.0.iter().map(|(name, (receiver, _))| (name.clone(), receiver.clone()));
        config.authority.handoff.receivers = receivers.collect();
    }

    /// A host that can send requests to them.
    pub fn with(self, host: Host) -> Host {
        if self.0.is_empty() {
            return host;
        }
        let known = self.0.into_iter().map(|(name, (_, known))| (name, known));
        host.with_courier(Arc::new(Messenger(known.collect())))
    }
}

/// The token in a file. It is read each time, because it may have been replaced.
fn credential(file: &Path) -> Result<Credential, String> {
    let token = read_master_key(file).map_err(|error| error.to_string())?;
    match token.expose().is_empty() {
        true => Err(format!("{}: the first line is empty: expected a token", file.display())),
        false => Ok(Credential::Bearer(token)),
    }
}

impl Courier for Messenger {
    fn hand_over(&self, order: &HandoffOrder) -> HandoffAnswer {
        let not_asked = |code, message| HandoffAnswer::NotAsked { code, message };
        let Some(Known { target, token, security }) = self.0.get(&order.to) else {
            return not_asked(ErrorCode::FailedPrecondition, "it is not named any more".to_string());
        };
        let credential = match credential(token) {
            Ok(credential) => credential,
            Err(why) => return not_asked(ErrorCode::FailedPrecondition, format!("its token cannot be read: {why}")),
        };
        let mut config = ClientConfig::new("arcp-handoff", env!("CARGO_PKG_VERSION"), credential);
        config.family = Family::Open;
        config.open_timeout = OPEN;
        config.give_up_after = Some(LOOKED_FOR);
        let client = match Client::connect_with(target.clone(), security, config) {
            Ok(client) => client,
            Err(error) => return unopened(error),
        };
        let Some(open) = client.open() else {
            return not_asked(ErrorCode::Unimplemented, "it does not speak the open family".to_string());
        };
        match open.submit_as_within(order.submit(), order.invocation.clone(), ANSWER) {
            Ok(None) => {
                HandoffAnswer::Unknown { message: format!("it has not answered within {} s", ANSWER.as_secs()) }
            }
            Ok(Some(job)) => HandoffAnswer::Taken { job: job.id.as_str().to_string() },
            Err(ClientError::Refused(refusal)) => {
                let Refusal { code, message, .. } = *refusal;
                HandoffAnswer::Refused { code, message: message.into_owned() }
            }
            // Nothing was sent.
            Err(ClientError::Misuse(why)) => not_asked(ErrorCode::Unimplemented, why.to_string()),
            Err(error) => HandoffAnswer::Unknown { message: error.to_string() },
        }
    }
}

/// The answer for a session that could not be opened: nothing of the job was sent.
fn unopened(error: ClientError) -> HandoffAnswer {
    let message = error.to_string();
    let code = match error {
        ClientError::Refused(refusal) => refusal.code,
        ClientError::Ended(SessionEnd::Denied(refusal)) => refusal.code,
        ClientError::Untrusted(_) | ClientError::NotTaken(_) => ErrorCode::Unauthenticated,
        ClientError::Config(_)
        | ClientError::Io(_)
        | ClientError::Misuse(_)
        | ClientError::Cleartext(_)
        | ClientError::NotServed(_) => ErrorCode::FailedPrecondition,
        ClientError::Ended(SessionEnd::Lost(_) | SessionEnd::Goodbye(_) | SessionEnd::Closed) => ErrorCode::Unavailable,
    };
    HandoffAnswer::NotAsked { code, message }
}
