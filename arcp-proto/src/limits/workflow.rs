//! Bounds of workflows.

use serde::{Deserialize, Serialize};

/// Workflows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkflowLimits {
    /// Steps of one workflow (128). More: it is refused.
    pub workflow_steps: usize,
    /// Length of the longest chain of dependent steps in one workflow (32). As above.
    pub workflow_depth: usize,
    /// Pointers in the arguments and conditions of one workflow (512). As above.
    pub workflow_pointers: usize,
    /// Bytes read to follow the pointers of one workflow into its input, and again for each
    /// step into the results that they refer to (32 MiB). More: it is refused, and the step fails.
    pub pointer_work_bytes: usize,
    /// Bytes of the graph of one workflow, without its input (64 KiB). More: it is refused.
    pub workflow_bytes: usize,
    /// How often one step may be retried (10). As above.
    pub step_retries: u32,
    /// Steps of one workflow that run at once (8). More: they wait for each other.
    pub concurrent_steps: usize,
    /// Bytes of the arguments of one step, with pointers filled in (256 KiB). More: the
    /// step fails.
    pub step_argument_bytes: usize,
    /// Bytes of all results of one workflow (1 MiB). More: the step fails whose result exceeds it.
    pub step_result_bytes: usize,
    /// Bytes of all unfinished workflows, with their inputs and results (128 MiB); each
    /// principal may hold its `principal_share`. More: a new one is
    /// refused, and a step fails whose result has no room.
    pub all_workflow_bytes: usize,
    /// Arguments of steps that the host checks at once (16). More: the step waits.
    pub step_checks: usize,
}

impl Default for WorkflowLimits {
    fn default() -> WorkflowLimits {
        WorkflowLimits {
            workflow_steps: 128,
            workflow_depth: 32,
            workflow_pointers: 512,
            pointer_work_bytes: 32 << 20,
            workflow_bytes: 64 << 10,
            step_retries: 10,
            concurrent_steps: 8,
            step_argument_bytes: 256 << 10,
            step_result_bytes: 1 << 20,
            all_workflow_bytes: 128 << 20,
            step_checks: 16,
        }
    }
}

impl WorkflowLimits {
    /// Bounds for a device.
    pub(super) fn small() -> WorkflowLimits {
        WorkflowLimits {
            workflow_steps: 16,
            workflow_depth: 8,
            workflow_pointers: 32,
            pointer_work_bytes: 1 << 20,
            workflow_bytes: 4 << 10,
            step_retries: 3,
            concurrent_steps: 2,
            step_argument_bytes: 8 << 10,
            step_result_bytes: 16 << 10,
            all_workflow_bytes: 128 << 10,
            step_checks: 2,
        }
    }
}
