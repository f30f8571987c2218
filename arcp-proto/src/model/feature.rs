//! What two peers can agree to use (1.1 §6.2, RFC §7).

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;

/// One thing that is used only when both sides offer it. Its number is its bit in
/// stores of earlier versions: it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Feature {
    /// Pings in both directions, and loss after silence.
    Heartbeat = 0,
    /// The client says what it has processed.
    Ack = 1,
    /// Listing of jobs.
    ListJobs = 2,
    /// Watching the jobs of other sessions of the principal.
    #[serde(alias = "Subscribe")]
    WatchJobs = 3,
    /// A lease ends at a time.
    LeaseExpiresAt = 4,
    /// A job may spend only so much.
    CostBudget = 5,
    /// A job may use only some models.
    ModelUse = 6,
    /// The runtime issues credentials for a job.
    ProvisionedCredentials = 7,
    /// Progress events.
    Progress = 8,
    /// Results in pieces.
    ResultChunk = 9,
    /// Agents are named `name@version`.
    AgentVersions = 10,
    /// A job whose agent falls silent waits instead of failing.
    BlockOnSilence = 11,
    /// Being shown by filter what happens in the principal's sessions.
    #[serde(alias = "Subscriptions")]
    FilterSubscriptions = 12,
    /// Jobs survive the end of the runtime.
    DurableJobs = 13,
    /// A session may cancel every job of its principal, wherever that was
    /// submitted: an extension of ours.
    CancelAnywhere = 14,
    /// Listings say whose each job is and when it ended: an extension of ours.
    ListDetails = 15,
    /// The welcome says what agents are and which inputs they take: an extension
    /// of ours.
    AgentDetails = 16,
    /// Questions to people: they are shown, and may be answered (RFC §12).
    HumanInput = 17,
    /// The same and more of the open family, for peers of the other one.
    OpenSurfaces = 18,
    /// Whoever oversees everybody lists sessions and takes them from their clients:
    /// an extension of ours.
    Sessions = 19,
    /// Saying something to agents while they run.
    Interrupts = 20,
    /// Handing jobs over to other sessions, and being given them (RFC §14).
    AgentHandoff = 21,
    /// Leaving bytes with the runtime for a while (RFC §16).
    Artifacts = 22,
    /// Jobs that are submitted at times (RFC §10.6).
    Schedules = 23,
    /// Graphs of steps that are run as one job (RFC §6.2): an extension of ours.
    Workflows = 24,
    /// Bytes beside their frames, as binary messages of a WebSocket (RFC §11.3).
    Sidecars = 25,
    /// Streams of jobs, also to agents that take input (RFC §11).
    Streaming = 27,
    /// Asking for checkpoints, and beginning jobs at them (RFC §19).
    Checkpoints = 26,
    /// Tokens for the rest of a job: an extension of ours.
    JobTokens = 28,
    /// Streams of bytes (RFC §11.1).
    BinaryStreams = 29,
}

impl Feature {
    /// Every feature, in the order they are announced.
    pub const ALL: [Feature; 30] = [
        Feature::Heartbeat,
        Feature::Ack,
        Feature::ListJobs,
        Feature::WatchJobs,
        Feature::LeaseExpiresAt,
        Feature::CostBudget,
        Feature::ModelUse,
        Feature::ProvisionedCredentials,
        Feature::Progress,
        Feature::ResultChunk,
        Feature::AgentVersions,
        Feature::BlockOnSilence,
        Feature::FilterSubscriptions,
        Feature::DurableJobs,
        Feature::CancelAnywhere,
        Feature::ListDetails,
        Feature::AgentDetails,
        Feature::HumanInput,
        Feature::OpenSurfaces,
        Feature::Sessions,
        Feature::Interrupts,
        Feature::AgentHandoff,
        Feature::Artifacts,
        Feature::Schedules,
        Feature::Workflows,
        Feature::Sidecars,
        Feature::Streaming,
        Feature::Checkpoints,
        Feature::JobTokens,
        Feature::BinaryStreams,
    ];

    /// The name a person sees: that of 1.1 §6.2, or of RFC §7 for what only that
    /// has, or ours.
    pub const fn as_str(self) -> &'static str {
        match self {
            Feature::Heartbeat => "heartbeat",
            Feature::Ack => "ack",
            Feature::ListJobs => "list_jobs",
            Feature::WatchJobs => "subscribe",
            Feature::LeaseExpiresAt => "lease_expires_at",
            Feature::CostBudget => "cost.budget",
            Feature::ModelUse => "model.use",
            Feature::ProvisionedCredentials => "provisioned_credentials",
            Feature::Progress => "progress",
            Feature::ResultChunk => "result_chunk",
            Feature::AgentVersions => "agent_versions",
            Feature::BlockOnSilence => "heartbeat_recovery",
            Feature::FilterSubscriptions => "subscriptions",
            Feature::DurableJobs => "durable_jobs",
            Feature::CancelAnywhere => "cancel_anywhere",
            Feature::ListDetails => "list_details",
            Feature::AgentDetails => "agent_details",
            Feature::HumanInput => "human_input",
            Feature::OpenSurfaces => "open_surfaces",
            Feature::Sessions => "sessions",
            Feature::Interrupts => "interrupt",
            Feature::AgentHandoff => "agent_handoff",
            Feature::Artifacts => "artifacts",
            Feature::Schedules => "scheduled_jobs",
            Feature::Workflows => "workflows",
            Feature::Sidecars => "sidecar",
            Feature::Streaming => "streaming",
            Feature::Checkpoints => "checkpoints",
            Feature::JobTokens => "job_tokens",
            Feature::BinaryStreams => "binary_streams",
        }
    }
}

/// Reads the name that a person sees. What peers write is read by `wire`.
impl FromStr for Feature {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Feature, ParseError> {
        let known = Feature::ALL.into_iter().find(|feature| feature.as_str() == name);
        known.ok_or(ParseError::new("the name of a feature, such as `list_jobs`"))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of features.
///
/// ```
/// use arcp_proto::model::feature::{Feature, Features};
/// let ours = Features::new(&[Feature::Ack, Feature::Progress]);
/// let theirs = Features::new(&[Feature::Progress, Feature::WatchJobs]);
/// assert_eq!(ours.and(theirs), Features::new(&[Feature::Progress]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Features(u32);

/// As it is stored: by name. Stores of earlier versions have bits, by the numbers
/// of the features.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Names(Vec<Feature>),
    Bits(u32),
}

impl From<Features> for Stored {
    fn from(features: Features) -> Stored {
        Stored::Names(features.iter().collect())
    }
}

impl From<Stored> for Features {
    fn from(stored: Stored) -> Features {
        match stored {
            Stored::Names(names) => Features::new(&names),
            Stored::Bits(bits) => Features(bits).and(Features::new(&Feature::ALL)),
        }
    }
}

impl Features {
    /// The set of these.
    pub const fn new(features: &[Feature]) -> Features {
        let mut bits = 0;
        let mut n = 0;
        while n < features.len() {
            bits |= 1 << features[n] as u8;
            n += 1;
        }
        Features(bits)
    }

    /// Whether the feature is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u8) != 0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// The first of these that is missing here.
    pub fn lacks(self, of: Features) -> Option<Feature> {
        of.iter().find(|feature| !self.has(*feature))
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Features {
        Features(self.0 | 1 << feature as u8)
    }

    /// The set without one.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Features {
        Features(self.0 & !(1 << feature as u8))
    }

    /// The features in announcement order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_stored_by_name_and_read_from_the_bits_of_older_stores() {
        let features = Features::new(&[Feature::Ack, Feature::Progress]);
        let stored = serde_json::to_string(&features).expect("JSON");
        assert_eq!(stored, r#"["Ack","Progress"]"#);
        for text in [stored.as_str(), "258"] {
            assert_eq!(serde_json::from_str::<Features>(text).expect("features"), features);
        }
    }
}
