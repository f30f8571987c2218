//! The two wire families, and what a host needs of them: the family that a client speaks, the
//! published clients that need frames of their own, and the splitting of lines.
//!
//! Requests are read and replies are written here, once per family. `hello` and `open` are the only
//! modules that know message types; everything outside `wire` uses [`crate::model`].

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

/// Frames as the test suite of this project reads and writes them. Hosts must not use it: it
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

/// The feature of this name: its name among the capabilities and extensions of either family, or
/// its name for people.
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

/// The two wire families. The first frame of a connection decides. Our clients use the default
/// unless they are configured otherwise.
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
    /// The name, as on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::Hello => "hello",
            Family::Open => "open",
        }
    }

    /// The family of a handshake frame; `None` if the frame is no handshake.
    pub(crate) fn from_first(header: &Header<'_>) -> Option<Family> {
        match header.kind.as_ref() {
            kind if hello::opens(kind) => Some(Family::Hello),
            kind if open::opens(kind) => Some(Family::Open),
            _ => None,
        }
    }

    /// The family in which to refuse a frame that should have been a handshake.
    pub(crate) fn from_stray(header: &Header<'_>) -> Family {
        if open::is_own(&header.kind) { Family::Open } else { Family::Hello }
    }

    /// Features that a session of this family uses without negotiating them.
    fn implied(self) -> Features {
        match self {
            Family::Hello => Features::default(),
            Family::Open => open::IMPLIED,
        }
    }

    /// Whether an earlier session is resumed after a new one was opened, and not by the opening
    /// itself.
    pub(crate) fn resumes_after_opening(self) -> bool {
        self == Family::Open
    }

    /// Whether a client can send requests that only the open family has.
    pub fn has_open_requests(self) -> bool {
        self == Family::Open
    }

    /// The feature with which a session gets questions to people as such, and may answer them.
    pub(crate) fn answers_with(self) -> Feature {
        match self {
            Family::Hello => Feature::OpenSurfaces,
            Family::Open => Feature::HumanInput,
        }
    }

    /// The feature with which a session may interrupt jobs.
    pub(crate) fn interrupts_with(self) -> Feature {
        match self {
            Family::Hello => Feature::OpenSurfaces,
            Family::Open => Feature::Interrupts,
        }
    }

    /// The feature with which a session may open streams to agents.
    pub(crate) fn streams_with(self) -> Feature {
        match self {
            Family::Hello => Feature::OpenSurfaces,
            Family::Open => Feature::Streaming,
        }
    }

    /// The feature with which a session may end streams and set their pace; `None`: it always may.
    pub(crate) fn steers_streams_with(self) -> Option<Feature> {
        match self {
            Family::Hello => Some(Feature::OpenSurfaces),
            Family::Open => None,
        }
    }

    /// Whether the end of a job always has a sequence number.
    pub(crate) fn numbers_every_end(self) -> bool {
        self == Family::Hello
    }
}

/// How frames are written for the peer of one session: fixed when the session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its family.
    pub family: Family,
    /// The negotiated features.
    pub features: Features,
    /// The published client that the peer is, if it needs frames of its own.
    pub profile: Profile,
    /// Whether frames are lines of a byte stream.
    pub lines: bool,
    /// Whether the transport has binary messages.
    #[serde(default)]
    pub beside: bool,
}

/// The part of a frame in its event, if the event is several frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FrameRole {
    /// The event itself.
    Whole,
    /// The opening of the stream that the event begins.
    StreamOpen,
    /// The closing of the stream that the event ends.
    StreamClose,
}

impl View {
    /// The view of a peer that has sent nothing.
    pub fn before_handshake(lines: bool) -> View {
        View { family: Family::Hello, features: Features::default(), profile: Profile::Plain, lines, beside: !lines }
    }

    /// Whether a credential is shown to a session that may have it: published clients refuse a
    /// frame with an unknown scheme.
    pub(crate) fn shows_credential(&self, credential: &ProvisionedCredential) -> bool {
        self.features.has(Feature::ProvisionedCredentials) && credential.scheme == "bearer"
    }

    /// The view with the features that both a peer, which offers `offered`, and a runtime, which
    /// has `ours`, support.
    #[must_use]
    pub fn negotiated(self, offered: Features, ours: Features) -> View {
        let known = self.family.implied().or(self.profile.implied());
        let view = View { features: offered.or(known).and(ours), ..self };
        // Some transports have no binary messages, and a frame inside another one has no sidecar.
        if !self.beside || self.profile.wraps_watched() { view.without_sidecars() } else { view }
    }

    /// The classes of events that this peer gets, as one or more frames.
    pub(crate) fn classes(&self) -> EventClasses {
        let needs = [(Feature::Progress, EventClass::Progress), (Feature::ResultChunk, EventClass::Chunk)];
        let withheld = needs.into_iter().filter(|(feature, _)| !self.features.has(*feature));
        withheld.fold(EventClasses::ALL, |all, (_, class)| all.without(EventClasses::new(&[class])))
    }

    /// The classes of which an event is several frames. `streaming`: a stream of this job is open
    /// in the session. A job has at most one event that opens its stream and one that closes it.
    pub(crate) fn several(&self, streaming: bool) -> EventClasses {
        match (self.family, streaming) {
            (Family::Hello, _) => EventClasses::default(),
            (Family::Open, false) => EventClasses::new(&[EventClass::Thought]),
            (Family::Open, true) => EventClasses::ENDS,
        }
    }

    /// The numbered frames of an event for this peer, in order; none if the event is withheld.
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

    /// The features of leases that the peer may use. The open family does not negotiate them.
    pub(crate) fn lease_features(&self) -> Features {
        const ALL: Features = Features::new(&[Feature::LeaseExpiresAt, Feature::CostBudget, Feature::ModelUse]);
        match self.family {
            Family::Hello => self.features.and(ALL),
            Family::Open => ALL,
        }
    }

    /// Whether it gets questions to people as such, and may answer them.
    pub(crate) fn answers_prompts(&self) -> bool {
        self.features.has(self.family.answers_with())
    }

    /// Whether a reply is a numbered frame of the session.
    pub(crate) fn numbers(&self, reply: &Reply) -> bool {
        self.family == Family::Open && matches!(reply, Reply::Command(CommandReply::Accepted(_)))
    }

    /// Whether frames name the request that they follow from.
    pub(crate) fn correlates(&self) -> bool {
        self.family == Family::Open || self.profile.correlates_ends()
    }

    /// Whether silence alone ends the connection, even if the peer never pinged. In the open family
    /// the feature means the heartbeats of jobs (RFC §10.3); only our own client also means its
    /// connection by it.
    pub(crate) fn is_expected_to_be_heard(&self) -> bool {
        self.features.has(Feature::Heartbeat) && (self.family == Family::Hello || self.profile == Profile::Native)
    }

    /// The request id for `reply_to` in the payload, if this peer reads it.
    fn reply_to<'a>(&self, request: Option<&'a WireId>) -> Option<&'a str> {
        request.filter(|_| self.profile.wants_reply_to()).map(WireId::as_str)
    }

    /// Whether message ids are unique per principal, and not per session.
    pub(crate) fn ids_are_of_principal(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether frames before the opening of a session are ignored, and do not end the connection.
    pub(crate) fn passes_early_frames(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it can be challenged for a proof.
    pub(crate) fn challenges(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether its sessions have a lease that must be refreshed.
    pub(crate) fn has_session_lease(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it gets the heartbeats of its jobs.
    pub(crate) fn has_job_heartbeats(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it negotiated how often they come.
    pub(crate) fn announces_job_heartbeats(&self) -> bool {
        self.has_job_heartbeats() && self.features.has(Feature::Heartbeat)
    }

    /// Whether a peer that has pinged must go on pinging.
    pub(crate) fn is_alive_by_pings(&self) -> bool {
        self.family == Family::Open
    }

    /// The largest frame with a result for this peer, in bytes.
    pub(crate) fn result_frame_bytes(&self, limits: &Limits) -> usize {
        let own = self.profile.result_frame_bytes(self.lines).unwrap_or(usize::MAX);
        own.min(limits.frame.result_frame_bytes)
    }

    /// A small number that is equal for views with the same rendered events.
    pub(crate) fn render_key(&self) -> u16 {
        let versions = u16::from(self.features.has(Feature::AgentVersions));
        let chunks = u16::from(self.features.has(Feature::ResultChunk));
        let family = u16::from(self.family == Family::Open);
        let prompts = u16::from(self.answers_prompts());
        let beside = u16::from(self.takes_sidecars());
        beside << 8 | u16::from(self.profile.index()) << 4 | prompts << 3 | family << 2 | versions << 1 | chunks
    }
}
