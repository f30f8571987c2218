//! Bounds of schedules.

use serde::{Deserialize, Serialize};

/// Schedules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleLimits {
    /// Schedules of one principal (256). More: a new one is refused.
    pub schedules_per_principal: usize,
    /// All schedules (16,384); each principal may have its
    /// `principal_share`. As above.
    pub schedules: usize,
    /// Bytes of what one schedule submits: input, lease and extensions (64 KiB). As above.
    pub schedule_bytes: usize,
    /// Bytes of all schedules in memory (64 MiB); each principal may
    /// have its `principal_share`. As above.
    pub all_schedule_bytes: usize,
    /// Missed times of one schedule that get a job, if the schedule wants one for each
    /// (16): the latest.
    pub missed_firings: usize,
    /// Times of one schedule that wait for an earlier job to end (16). More: they pass
    /// without a job.
    pub queued_firings: usize,
    /// Rules whose times the host is asked for at once (8), and as many again for new
    /// schedules and for inputs that are checked; each principal may
    /// have its `principal_share` of each. More: existing schedules wait, with principals
    /// taking turns; a new one is refused.
    pub schedule_plans: usize,
}

impl Default for ScheduleLimits {
    fn default() -> ScheduleLimits {
        ScheduleLimits {
            schedules_per_principal: 256,
            schedules: 16_384,
            schedule_bytes: 64 << 10,
            all_schedule_bytes: 64 << 20,
            missed_firings: 16,
            queued_firings: 16,
            schedule_plans: 8,
        }
    }
}
