//! The wire families, and what a host has to know of them: which one a client
//! speaks, which published clients get frames of their own, and where a line
//! ends.
//!
//! Requests are read and replies are written here, once per family. `hello` and
//! `open` are the only modules that know message type strings; everything
//! outside `wire` speaks [`crate::model`].

#[cfg(test)]
mod answers;
mod codec;
pub(crate) mod envelope;
pub(crate) mod frame;
mod hello;
mod names;
mod open;
mod payload;
pub(crate) mod profile;
mod shared;
pub(crate) mod sidecar;
#[cfg(test)]
mod tests;

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;
use crate::id::WireId;
use crate::limits::Limits;
use crate::model::credential::ProvisionedCredential;
use crate::model::event::{EventClass, EventClasses};
use crate::model::feature::{Feature, Features};
use crate::model::reply::{CommandReply, Reply};
pub(crate) use codec::{
    Beginning, EventFrame, EventSnapshot, Prepared, ReceivedRequest, RequestToSend, Stamp, observed_type,
    observed_types, prepare, read_request, read_runtime_frame, render_event_in, write_boundary, write_event_in,
    write_observed, write_reply, write_request,
};
use envelope::Header;
pub use frame::{Line, Lines};
pub(crate) use payload::RuntimeFrame;
pub(crate) use profile::ServerProfile;
pub use profile::{Compat, Profile};

/// Frames as the suite of this project reads and writes them. Not for hosts: it
/// changes without notice.
#[doc(hidden)]
pub mod raw {
    pub use super::codec::{
        EventFrame, EventSnapshot, ReceivedRequest, RequestToSend, Stamp, read_request, read_runtime_frame,
        render_event, write_event, write_reply, write_request,
    };
    pub use super::envelope::Header;
    pub use super::frame::ingest;
    pub use super::payload::RuntimeFrame;
}

/// The feature of this name: as either family has it among its capabilities and
/// extensions, or as a person sees it.
///
/// ```
/// use arcp_proto::model::feature::Feature;
/// use arcp_proto::wire::feature_named;
/// for name in ["cost.budget", "cost_budget"] {
///     assert_eq!(feature_named(name), Some(Feature::CostBudget));
/// }
/// for name in ["artifacts", "x-vendor.arcp.artifacts"] {
///     assert_eq!(feature_named(name), Some(Feature::Artifacts));
/// }
/// assert_eq!(feature_named("telepathy"), None);
/// ```
pub fn feature_named(name: &str) -> Option<Feature> {
    hello::feature_named(name).or_else(|| open::feature_named(name)).or_else(|| name.parse().ok())
}

/// The two wire families. The first frame of a connection decides; our clients
/// speak the default one unless they are told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// `session.hello`, `job.submit`, `job.event` (draft 1.1).
    #[default]
    Hello,
    /// `session.open`, `tool.invoke`, `job.completed` (RFC-0001-v2).
    Open,
}

impl FromStr for Family {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Family, ParseError> {
        let named = [Family::Hello, Family::Open].into_iter().find(|family| family.as_str() == name);
        named.ok_or(ParseError::new("hello or open"))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Family {
    /// Its name, as on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::Hello => "hello",
            Family::Open => "open",
        }
    }

    /// The family whose handshake this is; `None` if it is no handshake.
    pub(crate) fn from_first(header: &Header<'_>) -> Option<Family> {
        match header.kind.as_ref() {
            kind if hello::opens(kind) => Some(Family::Hello),
            kind if open::opens(kind) => Some(Family::Open),
            _ => None,
        }
    }

    /// In whose words to refuse a frame that should have been a handshake.
    pub(crate) fn from_stray(header: &Header<'_>) -> Family {
        if open::is_own(&header.kind) { Family::Open } else { Family::Hello }
    }

    /// What a session of this family uses without negotiating it.
    fn implied(self) -> Features {
        match self {
            Family::Hello => Features::default(),
            Family::Open => open::IMPLIED,
        }
    }

    /// Whether an earlier session is claimed after a new one was opened, not
    /// with the opening.
    pub(crate) fn resumes_after_opening(self) -> bool {
        self == Family::Open
    }

    /// Whether a client can ask for more than both families have.
    pub fn has_open_requests(self) -> bool {
        self == Family::Open
    }

    /// What a session needs to read questions to people as such, and to answer
    /// them.
    pub(crate) fn answers_with(self) -> Feature {
        match self {
            Family::Hello => Feature::OpenSurfaces,
            Family::Open => Feature::HumanInput,
        }
    }

    /// What a session needs to interrupt jobs.
    pub(crate) fn interrupts_with(self) -> Feature {
        match self {
            Family::Hello => Feature::OpenSurfaces,
            Family::Open => Feature::Interrupts,
        }
    }

    /// What a session needs to open streams to agents.
    pub(crate) fn streams_with(self) -> Feature {
        match self {
            Family::Hello => Feature::OpenSurfaces,
            Family::Open => Feature::Streaming,
        }
    }

    /// What a session needs to end streams and to pace them; `None`: nothing.
    pub(crate) fn steers_streams_with(self) -> Option<Feature> {
        match self {
            Family::Hello => Some(Feature::OpenSurfaces),
            Family::Open => None,
        }
    }

    /// Whether the end of a job always has a number.
    pub(crate) fn numbers_every_end(self) -> bool {
        self == Family::Hello
    }
}

/// How one session's peer sees things: fixed when the session is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its family.
    pub family: Family,
    /// What was negotiated.
    pub features: Features,
    /// The published client it is, if it needs special care.
    pub profile: Profile,
    /// Whether frames are lines of a pipe.
    pub lines: bool,
    /// Whether binary messages can follow frames.
    #[serde(default)]
    pub beside: bool,
}

/// What a numbered frame is to its event, of which it may be one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FrameRole {
    /// The event itself.
    Whole,
    /// What opens the stream that it is the first of.
    StreamOpen,
    /// What closes the stream that ends with it.
    StreamClose,
}

impl View {
    /// A peer that has not said anything yet.
    pub fn before_handshake(lines: bool) -> View {
        View { family: Family::Hello, features: Features::default(), profile: Profile::Plain, lines, beside: !lines }
    }

    /// Whether a credential is shown to who may have it: published clients refuse a frame
    /// with a scheme that they do not know.
    pub(crate) fn shows_credential(&self, credential: &ProvisionedCredential) -> bool {
        self.features.has(Feature::ProvisionedCredentials) && credential.scheme == "bearer"
    }

    /// The view of a peer that offers features to a runtime that has `ours`.
    #[must_use]
    pub fn negotiated(self, offered: Features, ours: Features) -> View {
        let known = self.family.implied().or(self.profile.implied());
        let view = View { features: offered.or(known).and(ours), ..self };
        // Not every transport has binary messages, and what is wrapped in another frame has none beside it.
        if !self.beside || self.profile.wraps_watched() { view.without_sidecars() } else { view }
    }

    /// The classes of events that this peer gets, as one frame each or several.
    pub(crate) fn classes(&self) -> EventClasses {
        let needs = [(Feature::Progress, EventClass::Progress), (Feature::ResultChunk, EventClass::Chunk)];
        let withheld = needs.into_iter().filter(|(feature, _)| !self.features.has(*feature));
        withheld.fold(EventClasses::ALL, |all, (_, class)| all.without(EventClasses::new(&[class])))
    }

    /// Those of them that are several frames. `streaming`: a stream of this job
    /// was opened to the session before. A job has at most one event that opens
    /// its stream and one that closes it.
    pub(crate) fn several(&self, streaming: bool) -> EventClasses {
        match (self.family, streaming) {
            (Family::Hello, _) => EventClasses::default(),
            (Family::Open, false) => EventClasses::new(&[EventClass::Thought]),
            (Family::Open, true) => EventClasses::ENDS,
        }
    }

    /// The numbered frames that an event is for this peer, in order: none
    /// when it is withheld.
    pub(crate) fn roles(&self, class: EventClass, streaming: bool) -> &'static [FrameRole] {
        if !self.classes().has(class) {
            &[]
        } else if !self.several(streaming).has(class) {
            &[FrameRole::Whole]
        } else if streaming {
            &[FrameRole::StreamClose, FrameRole::Whole]
        } else {
            &[FrameRole::StreamOpen, FrameRole::Whole]
        }
    }

    /// Bounds of a lease that it may ask for. The open family negotiates none of
    /// them.
    pub(crate) fn lease_features(&self) -> Features {
        const ALL: Features = Features::new(&[Feature::LeaseExpiresAt, Feature::CostBudget, Feature::ModelUse]);
        match self.family {
            Family::Hello => self.features.and(ALL),
            Family::Open => ALL,
        }
    }

    /// Whether it reads questions to people as such, and can answer them.
    pub(crate) fn answers_prompts(&self) -> bool {
        self.features.has(self.family.answers_with())
    }

    /// Whether a reply is one of the session's numbered frames.
    pub(crate) fn numbers(&self, reply: &Reply) -> bool {
        self.family == Family::Open && matches!(reply, Reply::Command(CommandReply::Accepted(_)))
    }

    /// Whether frames name the request they follow from.
    pub(crate) fn correlates(&self) -> bool {
        self.family == Family::Open || self.profile.correlates_ends()
    }

    /// Whether the silence of a peer ends its connection, without it having
    /// pinged. In the open family what is negotiated is how often a job gives
    /// a sign of life (RFC §10.3), and only we take it for more.
    pub(crate) fn is_expected_to_be_heard(&self) -> bool {
        self.features.has(Feature::Heartbeat) && (self.family == Family::Hello || self.profile == Profile::Native)
    }

    /// The request as this peer wants answers to name it in their payload.
    fn reply_to<'a>(&self, request: Option<&'a WireId>) -> Option<&'a str> {
        request.filter(|_| self.profile.wants_reply_to()).map(WireId::as_str)
    }

    /// Whether a message id stands for one message of the principal, not of
    /// the session.
    pub(crate) fn ids_are_of_principal(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether what comes before a session is open is passed over, not the
    /// end of the connection.
    pub(crate) fn passes_early_frames(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it can be asked for a proof.
    pub(crate) fn challenges(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether its sessions are lent for a time and refreshed.
    pub(crate) fn has_session_lease(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it is told that its jobs are alive.
    pub(crate) fn has_job_heartbeats(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it asked how often that is.
    pub(crate) fn announces_job_heartbeats(&self) -> bool {
        self.has_job_heartbeats() && self.features.has(Feature::Heartbeat)
    }

    /// Whether a peer that pings is expected to go on.
    pub(crate) fn is_alive_by_pings(&self) -> bool {
        self.family == Family::Open
    }

    /// The largest frame of a result for this peer, in bytes.
    pub(crate) fn result_frame_bytes(&self, limits: &Limits) -> usize {
        let own = self.profile.result_frame_bytes(self.lines).unwrap_or(usize::MAX);
        own.min(limits.frame.result_frame_bytes)
    }

    /// A small number that is equal for views that render events equally.
    pub(crate) fn render_key(&self) -> u16 {
        let versions = u16::from(self.features.has(Feature::AgentVersions));
        let chunks = u16::from(self.features.has(Feature::ResultChunk));
        let family = u16::from(self.family == Family::Open);
        let prompts = u16::from(self.answers_prompts());
        let beside = u16::from(self.takes_sidecars());
        beside << 8 | u16::from(self.profile.index()) << 4 | prompts << 3 | family << 2 | versions << 1 | chunks
    }
}
