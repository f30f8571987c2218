//! The features that two peers can negotiate (1.1 §6.2, RFC §7).

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;

/// A feature, used only if both sides offer it. Its number is its bit in stores of earlier
/// versions, so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Feature {
    /// Pings in both directions; a silent connection is lost.
    Heartbeat = 0,
    /// The client acknowledges what it has processed.
    Ack = 1,
    /// Listing of jobs.
    ListJobs = 2,
    /// Watching the jobs of other sessions of the principal.
    #[serde(alias = "Subscribe")]
    WatchJobs = 3,
    /// Leases end at a time.
    LeaseExpiresAt = 4,
    /// Jobs have a budget.
    CostBudget = 5,
    /// A lease restricts a job to some models.
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
    /// Subscribing by filter to the events of the principal's sessions.
    #[serde(alias = "Subscriptions")]
    FilterSubscriptions = 12,
    /// Jobs survive a restart of the runtime.
    DurableJobs = 13,
    /// A session may cancel every job of its principal, whichever session submitted it: an
    /// extension of ours.
    CancelAnywhere = 14,
    /// Listings show the owner and the end of each job: an extension of ours.
    ListDetails = 15,
    /// The welcome describes agents and the inputs that they take: an extension of ours.
    AgentDetails = 16,
    /// Questions to people: sessions are shown them and may answer (RFC §12).
    HumanInput = 17,
    /// Parts of the open family, such as questions to people, for peers of the hello family.
    OpenSurfaces = 18,
    /// Operators and auditors list sessions, and operators take them from their clients: an
    /// extension of ours.
    Sessions = 19,
    /// Sending messages to agents while they run.
    Interrupts = 20,
    /// Handing jobs over to other sessions, and receiving them (RFC §14).
    AgentHandoff = 21,
    /// Keeping bytes at the runtime for a limited time (RFC §16).
    Artifacts = 22,
    /// Jobs that are submitted at times (RFC §10.6).
    Schedules = 23,
    /// Graphs of steps that run as one job (RFC §6.2): an extension of ours.
    Workflows = 24,
    /// Bytes beside their frames, as binary messages of a WebSocket (RFC §11.3).
    Sidecars = 25,
    /// Streams of jobs, including those from clients to agents (RFC §11).
    Streaming = 27,
    /// Requesting checkpoints, and beginning jobs at them (RFC §19).
    Checkpoints = 26,
    /// Tokens for the rest of a job: an extension of ours.
    JobTokens = 28,
    /// Streams of bytes (RFC §11.1).
    BinaryStreams = 29,
}

impl Feature {
    /// Every feature, in the order in which they are announced.
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

    /// The name for people: that of 1.1 §6.2, else that of RFC §7, else ours.
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

/// Reads the name for people. The names that peers write are read by `wire`.
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

/// Stored as names. Stores of earlier versions contain bits, by the numbers of the features.
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
    /// The set of these features.
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

    /// The features that are in both sets.
    #[must_use]
    pub const fn and(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// The features that are in either set.
    #[must_use]
    pub const fn or(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// The first feature of the other set that this one lacks.
    pub fn lacks(self, of: Features) -> Option<Feature> {
        of.iter().find(|feature| !self.has(*feature))
    }

    /// This set with one more feature.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Features {
        Features(self.0 | 1 << feature as u8)
    }

    /// This set without one feature.
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
