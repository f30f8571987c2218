//! Bounds of families of jobs.

use serde::{Deserialize, Serialize};

/// Jobs that have each other done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FamilyLimits {
    /// Children of one job that have not ended (64). More: the agent that asks is
    /// refused.
    pub children_per_job: usize,
    /// Jobs below one another that had each other done (8; 0: none has). More: the
    /// agent that asks is refused.
    pub delegation_depth: usize,
    /// Jobs below one that nobody delegated, which have not ended or have such below
    /// them (256). More: the agent that asks is refused.
    pub jobs_per_family: usize,
    /// Jobs that are being handed over to other runtimes (256); an account may have its
    /// `principal_share`. More: refused.
    pub departing_jobs: usize,
    /// Bytes of a `delegate` event that repeats what was asked of a child, its input among it
    /// (16 KiB). More: it says the child and its lease alone, and the input is kept once, with
    /// the child.
    pub delegate_event_bytes: usize,
}

impl FamilyLimits {
    /// Bounds for a device.
    pub(super) fn small() -> FamilyLimits {
        FamilyLimits {
            children_per_job: 4,
            delegation_depth: 2,
            jobs_per_family: 8,
            departing_jobs: 4,
            delegate_event_bytes: 2 << 10,
        }
    }
}

impl Default for FamilyLimits {
    fn default() -> FamilyLimits {
        FamilyLimits {
            children_per_job: 64,
            delegation_depth: 8,
            jobs_per_family: 256,
            departing_jobs: 256,
            delegate_event_bytes: 16 << 10,
        }
    }
}
