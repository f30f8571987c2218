//! Bounds of children of jobs, and of jobs that are handed over.

use serde::{Deserialize, Serialize};

/// Children of jobs, and jobs that are handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FamilyLimits {
    /// Unfinished children of one job (64). More: the delegation is
    /// refused.
    pub children_per_job: usize,
    /// Levels of children below one another (8; 0: no job may delegate). More: the
    /// delegation is refused.
    pub delegation_depth: usize,
    /// Jobs below one that is itself not a child, counting those that are unfinished or have
    /// unfinished ones below them (256). More: the delegation is refused.
    pub jobs_per_family: usize,
    /// Jobs that are being handed over to other runtimes (256); each account may have its
    /// `principal_share`. More: refused.
    pub departing_jobs: usize,
    /// Bytes of a `delegate` event that repeats the request for the child, its input included
    /// (16 KiB). More: the event has only the child and its lease, and the input is kept once, with
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
