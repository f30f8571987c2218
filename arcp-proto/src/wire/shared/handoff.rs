//! Handoffs, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.agent_handoff`.

use alloc::string::String;

use serde::Deserialize;

use super::job_of;
use crate::error::Violation;
use crate::id::{Principal, WireId};
use crate::json::{Object, Text};
use crate::model::request::HandOver;
use crate::wire::envelope::{Header, payload};

pub(super) const KIND: &str = "agent.handoff";

#[derive(Deserialize)]
struct HandOff<'a> {
    #[serde(borrow)]
    target: Target<'a>,
    #[serde(borrow, default)]
    session_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    runtime: Option<Text<'a>>,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
}

/// The receiver of a job: a principal, or an object that can also name a runtime.
#[derive(Deserialize)]
#[serde(untagged)]
enum Target<'a> {
    Principal(#[serde(borrow)] Text<'a>),
    Somewhere {
        #[serde(borrow, default)]
        principal: Option<Text<'a>>,
        #[serde(borrow, default)]
        runtime: Option<Text<'a>>,
        #[serde(borrow, default)]
        fingerprint: Option<Text<'a>>,
    },
}

/// Reads a request for a handoff. The session in the payload is the one that is to get the job.
pub(super) fn read_hand_over(header: &Header<'_>) -> Result<HandOver, Violation> {
    const SHOWN: usize = 1024;
    let HandOff { target, session_id, runtime, reason } = payload(KIND, header.payload)?;
    let (to, there, fingerprint) = match target {
        Target::Principal(principal) => (Some(principal), None, None),
        Target::Somewhere { principal, runtime, fingerprint } => (principal, runtime, fingerprint),
    };
    let shown = |text: Option<Text<'_>>| text.map(|Text(text)| text.chars().take(SHOWN).collect());
    let nobody = |name: &str| Violation::invalid(alloc::format!("`{KIND}`: `{name}` is nobody's"));
    let session = |Text(id): Text<'_>| WireId::new(&id).ok_or_else(|| nobody("session_id"));
    let principal = |Text(name): Text<'_>| name.parse::<Principal>().map_err(|_| nobody("target"));
    let wish = HandOver {
        job: job_of(header, KIND)?,
        to: to.map(principal).transpose()?,
        session: session_id.map(session).transpose()?,
        runtime: shown(runtime.or(there)),
        fingerprint: shown(fingerprint),
        reason: shown(reason),
    };
    match (&wish.to, &wish.runtime, &wish.fingerprint) {
        (None, None, None) => {
            Err(Violation::invalid(alloc::format!("`{KIND}`: `target` says neither whose the job is to be nor where")))
        }
        _ => Ok(wish),
    }
}

/// The type and payload of a request for a handoff.
pub(in crate::wire) fn write_hand_over(wish: &HandOver) -> (&'static str, String) {
    let HandOver { job, to, session, runtime, fingerprint, reason } = wish;
    let mut payload = Object::new();
    payload.str("job_id", job.as_str());
    match (to, runtime, fingerprint) {
        (Some(to), None, None) => drop(payload.display("target", to)),
        _ => drop(payload.object("target", |target| {
            if let Some(to) = to {
                target.display("principal", to);
            }
            target.opt_str("runtime", runtime.as_deref()).opt_str("fingerprint", fingerprint.as_deref());
        })),
    }
    payload.opt_str("session_id", session.as_ref().map(WireId::as_str)).opt_str("reason", reason.as_deref());
    (KIND, payload.done())
}
