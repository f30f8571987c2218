//! What an operator can observe of `arcp serve`: the token for its counts, and the lines of its log.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;

use arcp_host::log_line::{Level, Line};
use arcp_host::server_log;
use arcp_host::spans::SpanCounts;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, SessionId};
use arcp_proto::runtime::{AuditEntry, Notice};
use arcp_proto::secret::Secret;

use crate::args::Serve;
use crate::exit::Failure;
#[cfg(feature = "otlp")]
use crate::otlp;

/// The token for `/metrics`, if a file gives one.
pub fn metrics_token(args: &Serve) -> Result<Option<Secret>, Failure> {
    let Some(file) = &args.observing.metrics_token_file else {
        return Ok(None);
    };
    let unusable = |why: &str| Failure::usage(format!("--metrics-token-file {}: {why}", file.display()));
    let about = std::fs::metadata(file).map_err(|error| unusable(&error.to_string()))?;
    if about.is_file() && about.mode() & 0o077 != 0 {
        return Err(unusable("others may read it: chmod 600 it"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| unusable(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(unusable("expected one token and nothing else, such as `openssl rand -hex 32` makes"));
    }
    Ok(Some(Secret::new(token.to_string())))
}

/// The export of this process's spans.
#[derive(Default)]
pub struct Exported {
    /// How many spans were sent and dropped.
    pub counts: SpanCounts,
    #[cfg(feature = "otlp")]
    exporter: Option<otlp::Exporter>,
}

impl Exported {
    /// Starts to send spans, if the options say so.
    #[cfg(feature = "otlp")]
    pub fn start(args: &Serve) -> Result<Exported, Failure> {
        let counts = SpanCounts::default();
        let exporter = otlp::start(args, &counts)?;
        Ok(Exported { counts, exporter })
    }

    /// This program was built without `--otlp`.
    #[cfg(not(feature = "otlp"))]
    pub fn start(_: &Serve) -> Result<Exported, Failure> {
        Ok(Exported::default())
    }

    /// Logs where spans are sent.
    pub fn tell(&self) {
        #[cfg(feature = "otlp")]
        self.exporter.iter().for_each(otlp::Exporter::tell);
    }

    /// Sends the remaining spans at the end of the program.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        self.exporter.into_iter().for_each(otlp::Exporter::finish);
    }
}

/// Checks the options for spans and counts.
#[cfg_attr(not(feature = "otlp"), allow(clippy::unnecessary_wraps, reason = "with the feature it may fail"))]
pub fn check(args: &Serve) -> Result<(), Failure> {
    #[cfg(feature = "otlp")]
    otlp::check(args)?;
    metrics_token(args).map(drop)
}

/// Sets the format of the log and which lines it shows.
pub fn configure_log(args: &Serve) {
    server_log::configure(args.observing.log_format.into(), args.observing.log.clone());
}

/// Logs a notice. A notice contains no secret.
pub fn observe(notice: &Notice) {
    if let Some(line) = line_of(notice) {
        server_log::add(&line);
    }
}

fn line_of(notice: &Notice) -> Option<Line> {
    let of_store = |level, message| Some(Line::new(level, "store", message));
    // Usually lines about jobs and sessions are not shown: then none is formatted.
    let of_job = |level, job: &JobId, message: &str| {
        server_log::shows(level, "job").then(|| Line::new(level, "job", message).with("job", Some(job)))
    };
    let of_session = |session: &SessionId, message: &str| {
        let (level, event) = (Level::Debug, "session");
        server_log::shows(level, event).then(|| Line::new(level, event, message).with("session", Some(session)))
    };
    match notice {
        Notice::StoreFailed => {
            of_store(Level::Error, "cannot write to the store; events are paused, and no new jobs are accepted")
        }
        Notice::StoreRecovered => of_store(Level::Warn, "the store can be written again; events go on"),
        Notice::Refused { conn: _, principal, session, job, code, reason, told } => {
            let untold = if *told { "" } else { "; its client cannot be told" };
            let line = Line::new(Level::Info, "refused", format_args!("a request was refused with {code}{untold}"));
            let line = line.with("code", Some(code)).with("principal", principal.as_ref().map(shown));
            let line = line.with("session", session.as_ref().map(shown)).with("job", job.as_ref().map(shown));
            Some(line.with("reason", Some(reason)))
        }
        Notice::Audited(entry) => Some(decision(entry)),
        Notice::PolicyRefused { principal, session, why } => {
            let line = Line::new(Level::Info, "policy", format_args!("policy refused {principal}: {why}"));
            let line = line.with("principal", Some(principal)).with("session", session.as_ref().map(shown));
            Some(line.with("reason", Some(why)))
        }
        Notice::FiringRefused { principal, schedule, at, reason } => {
            let message = format_args!("schedule {schedule} of {principal}: no job for {at}: {reason}");
            let line = Line::new(Level::Warn, "schedule", message).with("principal", Some(principal));
            Some(line.with("schedule", Some(schedule)).with("reason", Some(reason)))
        }
        Notice::CredentialsNotRevoked { job, failures } => {
            let message = format!(
                "the credentials of {job} are not revoked ({failures} times): they may still count; it is tried again"
            );
            of_job(Level::Warn, job, &message)
        }
        Notice::CredentialsRevoked { job } => {
            of_job(Level::Warn, job, &format!("the credentials of {job} are revoked now"))
        }
        Notice::ConnIdInUse { conn } => {
            let message = format!("connection {} was opened twice: a fault of this program", conn.0);
            Some(Line::new(Level::Error, "runtime", format!("arcp: {message}")))
        }
        Notice::SessionOpened { session, principal, client } => {
            let line = of_session(session, "a session was opened")?;
            Some(line.with("principal", Some(principal)).with("client", Some(client)))
        }
        Notice::SessionResumed { session } => of_session(session, "a session was resumed"),
        Notice::SessionDetached { session } => of_session(session, "a session lost its connection"),
        Notice::SessionEnded { session } => of_session(session, "a session has ended"),
        Notice::JobAccepted { job, principal, agent } => {
            let line = of_job(Level::Debug, job, "a job was accepted")?;
            Some(line.with("principal", Some(principal)).with("agent", Some(agent)))
        }
        Notice::JobWatched { job, session } => {
            Some(of_job(Level::Debug, job, "a job is watched")?.with("session", Some(session)))
        }
        Notice::PeopleAsked { job, question } => {
            Some(of_job(Level::Debug, job, "a job asks people something")?.with("question", Some(question)))
        }
        Notice::JobEnded { job, status } => {
            Some(of_job(Level::Debug, job, "a job has ended")?.with("status", Some(&status.as_str())))
        }
        // The refusal itself is reported by another notice.
        Notice::ResumeRefused { .. } | Notice::ExtensionDropped { .. } => None,
    }
}

fn decision(entry: &AuditEntry) -> Line {
    let act = entry.act.as_str();
    let outcome = if entry.refused.is_some() { "refused" } else { "done" };
    let line = Line::new(Level::Info, "decision", format_args!("{act} {outcome}"));
    let line = line.with("act", Some(&act)).with("outcome", Some(&outcome));
    let code = entry.refused.as_ref().map(ErrorCode::as_str);
    let line = line.with("code", code.as_ref().map(shown)).with("principal", entry.principal.as_ref().map(shown));
    let line = line.with("session", entry.session.as_ref().map(shown)).with("job", entry.job.as_ref().map(shown));
    let line = line.with("to", entry.to.as_ref().map(shown)).with("taken", entry.taken.as_ref().map(shown));
    let line = line.with("from", entry.from.as_ref().map(shown)).with("reason", entry.reason.as_ref().map(shown));
    let more = (entry.count > 1).then_some(entry.count);
    line.with("count", more.as_ref().map(shown))
}

fn shown(value: &impl Display) -> &dyn Display {
    value
}
