//! What is kept of the checkpoints of a job, and who waits for one more.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Input, waiting_bytes};
use crate::id::{LogPos, Principal, SessionId, WireId};
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::checkpoint_records::CheckpointMark;

/// What a checkpoint takes besides its state, generously.
pub(super) const ENTRY: usize = 256;

/// What there is to go on from, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// What its agent is started with, where that is none of those that are kept.
    pub(super) last: Option<(Arc<[u8]>, Charge)>,
    /// Those at which other jobs can begin, oldest first.
    pub(super) kept: Vec<Kept>,
    /// What such jobs are started with: as long as there may be any.
    pub(super) input: Option<Input>,
    /// Who waits for one.
    pub(super) asked: Option<Asked>,
}

/// A checkpoint that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where its record stands.
    pub(super) pos: LogPos,
    pub(super) mark: CheckpointMark,
    pub(super) state: Arc<[u8]>,
    pub(super) charge: Charge,
}

/// A wish for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Asked {
    pub(in crate::runtime) session: SessionId,
    /// Who asks there: ids of messages may be that one's.
    pub(in crate::runtime) by: Principal,
    pub(in crate::runtime) request: WireId,
    pub(in crate::runtime) label: Option<String>,
}

impl Checkpoints {
    /// Keeps one more.
    pub(super) fn keep(&mut self, account: &Balance, pos: LogPos, mark: CheckpointMark, state: Arc<[u8]>) {
        let charge = account.charge(HeldFor::Checkpoints, ENTRY + state.len() + mark.bytes());
        self.kept.push(Kept { pos, mark, state, charge });
        self.last = None;
    }

    /// Bytes of those that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.charge.bytes()).sum()
    }

    /// Bytes that are held, counted once more.
    pub(super) fn recount(&self) -> usize {
        let last = self.last.as_ref().map_or(0, |(state, _)| state.len());
        let kept: usize = self.kept.iter().map(|kept| ENTRY + kept.state.len() + kept.mark.bytes()).sum();
        let input = self.input.as_ref();
        last + kept + input.map_or(0, |input| waiting_bytes(input.input.as_str(), input.extensions.as_ref()))
    }

    /// Somebody else's now.
    pub(super) fn move_to(&mut self, account: &Balance) {
        let last = self.last.as_mut().map(|(_, charge)| charge);
        let input = self.input.as_mut().map(|input| &mut input.charge);
        let kept = self.kept.iter_mut().map(|kept| &mut kept.charge);
        last.into_iter().chain(input).chain(kept).for_each(|charge| charge.move_to(account));
    }
}
