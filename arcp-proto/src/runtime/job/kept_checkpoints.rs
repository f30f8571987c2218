//! The checkpoints of a job that are kept, and the request that waits for one more.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Input, waiting_bytes};
use crate::id::{LogPos, Principal, SessionId, WireId};
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::checkpoint_records::CheckpointMark;

/// Bytes of a checkpoint besides its state, rounded up.
pub(super) const ENTRY: usize = 256;

/// The states of a job, and the request for one more.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// The state that its agent goes on from, if that is none of the kept ones.
    pub(super) last: Option<(Arc<[u8]>, Charge)>,
    /// Checkpoints at which other jobs can begin, oldest first.
    pub(super) kept: Vec<Kept>,
    /// The input with which such jobs begin, as long as there may be any.
    pub(super) input: Option<Input>,
    /// The request that waits for a checkpoint.
    pub(super) asked: Option<Asked>,
}

/// A checkpoint that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// Log position of its record.
    pub(super) pos: LogPos,
    pub(super) mark: CheckpointMark,
    pub(super) state: Arc<[u8]>,
    pub(super) charge: Charge,
}

/// A request for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Asked {
    pub(in crate::runtime) session: SessionId,
    /// The principal of the request: message ids may be unique per principal.
    pub(in crate::runtime) by: Principal,
    pub(in crate::runtime) request: WireId,
    pub(in crate::runtime) label: Option<String>,
}

impl Checkpoints {
    /// Keeps one more checkpoint.
    pub(super) fn keep(&mut self, account: &Balance, pos: LogPos, mark: CheckpointMark, state: Arc<[u8]>) {
        let charge = account.charge(HeldFor::Checkpoints, ENTRY + state.len() + mark.bytes());
        self.kept.push(Kept { pos, mark, state, charge });
        self.last = None;
    }

    /// Bytes of the kept checkpoints.
    pub(super) fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.charge.bytes()).sum()
    }

    /// Bytes held, counted anew.
    pub(super) fn recount(&self) -> usize {
        let last = self.last.as_ref().map_or(0, |(state, _)| state.len());
        let kept: usize = self.kept.iter().map(|kept| ENTRY + kept.state.len() + kept.mark.bytes()).sum();
        let input = self.input.as_ref();
        last + kept + input.map_or(0, |input| waiting_bytes(input.input.as_str(), input.extensions.as_ref()))
    }

    /// The job is another principal's: moves the charges to its account.
    pub(super) fn move_to(&mut self, account: &Balance) {
        let last = self.last.as_mut().map(|(_, charge)| charge);
        let input = self.input.as_mut().map(|input| &mut input.charge);
        let kept = self.kept.iter_mut().map(|kept| &mut kept.charge);
        last.into_iter().chain(input).chain(kept).for_each(|charge| charge.move_to(account));
    }
}
