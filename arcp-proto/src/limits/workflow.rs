//! Bounds of workflows.

use serde::{Deserialize, Serialize};

/// Graphs of steps that are run as one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkflowLimits {
    /// Steps of one workflow (128). More: it is refused.
    pub workflow_steps: usize,
    /// Steps of one that wait for each other in a row (32). As above.
    pub workflow_depth: usize,
    /// Pointers in the arguments and conditions of one (512). As above.
    pub workflow_pointers: usize,
    /// Bytes that are read to follow the pointers of one into its input, and again for each
    /// step into whatever they lead to (32 MiB). More: it is refused, and the step fails.
    pub pointer_work_bytes: usize,
    /// Bytes of the graph of one, without its input (64 KiB). As above.
    pub workflow_bytes: usize,
    /// How often one step may be tried again (10). As above.
    pub step_retries: u32,
    /// Steps of one that run at once (8). More: they wait for each other.
    pub concurrent_steps: usize,
    /// Bytes of the arguments of one step, once they are filled in (256 KiB). More: the
    /// step fails.
    pub step_argument_bytes: usize,
    /// Bytes of all results of one workflow (1 MiB). More: the step fails that has it.
    pub step_result_bytes: usize,
    /// Bytes of all workflows that go on, with their inputs and results (128 MiB); of what
    /// the others leave a principal may hold its `principal_share`. More: a new one is
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
    /// Those of a device.
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
