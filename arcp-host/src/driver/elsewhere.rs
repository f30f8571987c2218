//! Requests to others outside this runtime: to issue credentials, and to take jobs.

use arcp_proto::runtime::Handoffs;

use crate::handoff::Errands;
use crate::provisioner::Calls;

/// Calls to the provisioner and to other runtimes.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) provisioning: Calls,
    pub(super) errands: Errands,
}

/// The runtimes to which jobs may go: none without a courier.
pub(super) fn receivers(handoff: Handoffs, asks: bool) -> Handoffs {
    if asks { handoff } else { Handoffs { receivers: Default::default(), ..handoff } }
}
