//! What an operator sees of `arcp serve`: who may ask what is counted, and what its
//! log says of what happens.

use arcp_host::server_log::log;
use arcp_proto::runtime::Notice;
use arcp_proto::secret::Secret;

use crate::args::Serve;
use crate::exit::Failure;

/// By which `/metrics` may be asked for, if a file says so.
pub fn metrics_token(args: &Serve) -> Result<Option<Secret>, Failure> {
    let Some(file) = &args.metrics_token_file else {
        return Ok(None);
    };
    let unusable = |why: &str| Failure::usage(format!("--metrics-token-file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unusable(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(unusable("expected one token and nothing else, such as `openssl rand -hex 32` makes"));
    }
    Ok(Some(Secret::new(token.to_string())))
}

/// Tells the operator what a log should know; no secret is in a notice.
pub fn observe(notice: &Notice) {
    match notice {
        Notice::StoreFailed => {
            log(format_args!("arcp: cannot write to the store; events are paused, and no new jobs are accepted"))
        }
        Notice::StoreRecovered => log(format_args!("arcp: the store can be written again; events go on")),
        Notice::Refused { code, told: false, .. } => {
            log(format_args!("arcp: a request was refused with {code}; its client cannot be told"));
        }
        Notice::CredentialsNotRevoked { job, failures } => log(format_args!(
            "arcp: the credentials of {job} are not revoked ({failures} times): they may still count; it is tried again"
        )),
        Notice::CredentialsRevoked { job } => log(format_args!("arcp: the credentials of {job} are revoked now")),
        Notice::ConnIdInUse { conn } => {
            log(format_args!("arcp: connection {} was opened twice: a fault of this program", conn.0))
        }
        Notice::Refused { .. }
        | Notice::ResumeRefused { .. }
        | Notice::Audited(_)
        | Notice::ExtensionDropped { .. }
        | Notice::SessionOpened { .. }
        | Notice::SessionResumed { .. }
        | Notice::SessionDetached { .. }
        | Notice::SessionEnded { .. }
        | Notice::JobAccepted { .. }
        | Notice::JobWatched { .. }
        | Notice::PeopleAsked { .. }
        | Notice::JobEnded { .. } => {}
    }
}
