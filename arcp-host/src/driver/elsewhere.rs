//! What others than this runtime are asked for: credentials, and that they take jobs.

use arcp_proto::runtime::Handoffs;

use crate::handoff::Errands;
use crate::provisioner::Calls;

/// See the module.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) provisioning: Calls,
    pub(super) errands: Errands,
}

/// To whom jobs may go, where somebody asks.
pub(super) fn receivers(handoff: Handoffs, asks: bool) -> Handoffs {
    if asks { handoff } else { Handoffs { receivers: Default::default(), ..handoff } }
}
